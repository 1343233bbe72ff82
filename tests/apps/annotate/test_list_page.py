"""The list of images in a real browser: longer than a page of it, filtered by what the work changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bessemer.annotation.documents import document, review, save, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.shapes import Annotation, Box
from bessemer.annotation.store import create_project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from browser import NAMED, Browser, enter_anew
from page_client import ME

COUNT = 205  # more than the page asks about at once
ROWS = "return [...document.querySelectorAll('.list .row[data-image]')].map((row) => Number(row.dataset.image))"
SHOWN = "return document.querySelector(`.row[data-image='${arguments[0]}']`) !== null"
STATE = (
    "return document.querySelector(`.row[data-image='${arguments[0]}'] .row-facts`).innerText.includes(arguments[1])"
)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(1, COUNT + 1):
        Image.new("RGB", (16, 16), (number, 90, 60)).save(folder / f"cell-{number:03d}.png")
    with create_project(tmp_path / "project", "roof-east") as project:
        add_folder(project, folder)
        sessions = Sessions(ME, tmp_path / "state.json", project.directory)
        server = Server(Desk(project, "roof-east", sessions, Pictures(project)), log=lambda line: None)
        server.start()
        yield server
        server.close()


def scroll(window: Browser, top: int) -> None:
    window.js("document.querySelector('.list .virtual').scrollTop = arguments[0]", top)


@pytest.mark.parametrize("reviewing", [False, True])
def test_no_image_is_passed_over_when_those_before_leave_the_filter(
    window: Browser, many: Server, reviewing: bool
) -> None:
    project = many.desk.project
    if reviewing:
        for image in range(1, COUNT + 1):
            save(project, image, "bo", 0, [])
            submit(project, image, "bo", 1)
    else:  # one that is done, so that the filtered list can be told from the whole one
        save(project, 150, "ann", 0, [])
        submit(project, 150, "ann", 1)
    enter_anew(window, many.link("ann"))
    if reviewing:
        window.press("Alt+r")
        window.wait("return document.querySelector('.review .tab.on')?.textContent === 'bo'")
        window.press("a")
        window.wait(NAMED, "cell-002.png")
        window.wait(STATE, 1, "accepted")
        for image in (2, 3):
            review(project, image, "bo", 1, "dora", "rejected")
    else:
        window.js(
            "const s = document.querySelector('.filters select'); s.value = 'todo';s.dispatchEvent(new Event('change'))"
        )
        window.wait("return document.querySelector('.filters select').value === 'todo'")
        window.wait(f"return document.querySelector('.summary').innerText.includes('{COUNT - 1} listed')")
        for image in (1, 2, 3):
            save(project, image, "ann", 0, [Annotation("1", "crack", Box(1, 1, 5, 5))])
    scroll(window, 10**6)
    window.wait(SHOWN, COUNT)
    shown = window.js(ROWS)
    assert shown == list(range(shown[0], COUNT + 1)) and shown[0] < 200
    window.click(".row[data-image='200']")
    window.wait(NAMED, "cell-200.png")
    window.press("PageDown")
    window.wait(NAMED, "cell-201.png")
    scroll(window, 0)
    window.wait(SHOWN, 1)  # what is done stays in sight until the filter is asked about again
    assert document(project, 4, "bo").state == ("submitted" if reviewing else "todo")
