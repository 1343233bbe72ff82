"""Screenshots of the annotation page's main states: python tests/screenshots.py FOLDER."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bessemer.annotation.documents import save, submit
from bessemer.annotation.store import Project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.messages import Person
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from browser import READY, Browser, browser
from drawn_project import make_project, shapes_of, work_of_many
from page_client import enter


def drawing(window: Browser, server: Server, folder: Path) -> None:
    """Predictions, a drawn image, a polygon at work, the conflict, keys, labels."""
    window.screenshot(folder / "predictions.png")
    window.press("PageDown", "PageDown")
    window.wait("return document.querySelectorAll('.region').length === 4")
    window.press("Alt+.", "Alt+.")
    window.wait("return document.querySelector('.facts') !== null")
    time.sleep(0.6)
    window.screenshot(folder / "annotate.png")
    window.press("i", "}", "}", "u")
    time.sleep(0.3)
    window.screenshot(folder / "inverted.png")
    window.press("\\", "?")
    time.sleep(0.3)
    window.screenshot(folder / "keys.png")
    window.press("Escape")
    window.click("[title='Label set']")
    time.sleep(0.3)
    window.screenshot(folder / "labels.png")
    window.press("Escape", "h")
    time.sleep(0.6)
    window.screenshot(folder / "history.png")
    window.press("Escape")
    conflict(window, server, folder)


def conflict(window: Browser, server: Server, folder: Path) -> None:
    other = enter(server, "ann")
    found = other.get("/api/images/3").json["document"]
    theirs = [dict(each) for each in found["annotations"]]
    theirs[1] = {**theirs[1], "label": "finger interruption"}
    box = {"kind": "box", "x": 300, "y": 420, "width": 90, "height": 60}
    other.post("/api/images/3/save", {"version": found["version"], "annotations": [*theirs, {"id": "n", "shape": box}]})
    window.press("Alt+.", "1")
    window.wait("return document.querySelector('dialog .differences') !== null")
    time.sleep(0.6)
    window.screenshot(folder / "conflict.png")
    window.click("dialog .primary")


def other_pages(window: Browser, folder: Path) -> None:
    """Ranking with ties, review, the dashboard, Chinese, light."""
    window.click("[data-page=rank]")
    window.wait("return document.querySelectorAll('.principle').length === 5")
    window.press("1", "2", "2", "4", "ArrowRight", *["ArrowUp"] * 3, "3", "1", "2", "0", "ArrowRight", "n", "ArrowUp")
    time.sleep(0.6)
    window.screenshot(folder / "rank.png")
    window.click("[data-page=review]")
    window.wait("return document.querySelectorAll('.review .tab').length === 1")
    window.press("PageDown")
    window.wait("return document.querySelectorAll('.review .tab').length === 2")
    time.sleep(0.6)
    window.screenshot(folder / "review.png")
    window.click("[data-page=agreement]")
    window.wait("return document.querySelectorAll('.panel table').length >= 4", seconds=120)
    window.screenshot(folder / "agreement.png")
    window.click("[data-page=draw]")
    window.click(".top [lang=zh]")
    window.wait("return document.documentElement.lang === 'zh-CN' && document.body.dataset.ready")
    time.sleep(1)
    window.screenshot(folder / "chinese.png")
    window.js("document.documentElement.dataset.theme = 'light'")
    time.sleep(0.3)
    window.screenshot(folder / "light.png")


def finished(project: Project) -> None:
    """Something of one's own on some images."""
    save(project, 3, "ann", 0, shapes_of(0, 3))
    save(project, 2, "ann", 0, shapes_of(2, 2))
    submit(project, 2, "ann", 1)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        with make_project(place / "project", place / "photographs") as project:
            work_of_many(project)
            finished(project)
            sessions = Sessions((Person("ann", True, True),), place / "state.json", project.directory)
            server = Server(Desk(project, "roof-east", sessions, Pictures(project)))
            server.start()
            with browser(place / "profile", (1440, 1043)) as window:
                window.open(server.link("ann"))
                window.wait(READY)
                time.sleep(1)
                drawing(window, server, folder)
                other_pages(window, folder)
            server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
