"""A day at the page: a server that is killed in the middle of the work, rankings with ties, a review; then a model that
learns from it, and what that model proposes the next morning."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from bessemer.annotation.documents import document, reviews, save, submit
from bessemer.annotation.listing import ImageQuery, list_images
from bessemer.annotation.predictions import predictions
from bessemer.annotation.rankings import rankings
from bessemer.annotation.shapes import Annotation, Box
from bessemer.annotation.store import open_project
from bessemer.cli import main
from browser import NAMED, SAVED, Browser, enter_anew, on_screen
from drawn_project import assert_box, make_project
from source_tree import SOURCE

RECIPES = Path(__file__).parents[3] / "recipes" / "tiny"
COMMAND = [sys.executable, "-c", "import sys; from bessemer.cli import main; sys.exit(main())", "annotate"]


def serve(directory: Path, state: Path) -> tuple[subprocess.Popen[str], str]:
    """`bessemer annotate` as a person starts it; the process and the link."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "XDG_STATE_HOME": str(state)}
    command = [*COMMAND, str(directory), "annotators=ann", "reviewers=ann", "open_browser=false"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise AssertionError("no link")


def test_a_morning(window: Browser, tmp_path: Path) -> None:
    """Open, draw, undo, describe, kill -9 the server, draw on, restart, continue, rank with ties, submit, review."""
    directory = tmp_path / "project"
    make_project(directory, tmp_path / "photographs", 12).close()
    process, link = serve(directory, tmp_path / "state")
    try:
        enter_anew(window, link)
        assert "token" not in window.js("return location.href")
        window.press("b")
        window.drag(on_screen(window, (60, 80), (200, 300), (240, 320)))
        window.press("2")
        window.wait(SAVED, "saved")
        window.drag(on_screen(window, (300, 300), (400, 400)))
        window.press("Control+z")
        window.wait("return document.querySelectorAll('.region').length === 1")
        window.press("Control+Shift+z")
        window.wait("return document.querySelectorAll('.region').length === 2")
        window.press("Control+z", "c")
        window.type("a dark area beside the crack 暗区")
        window.press("Escape", "s")
        window.wait(SAVED, "saved")

        process.send_signal(signal.SIGKILL)
        process.communicate()
        window.press("b")
        window.drag(on_screen(window, (400, 420), (500, 520)))
        window.wait(SAVED, "offline")
        process, _ = serve(directory, tmp_path / "state")
        window.wait(SAVED, "saved")  # by itself: same port, same cookie

        rank_with_keys(window)
        window.click("[data-page=draw]")
        window.press("Control+Enter")
        window.wait(NAMED, "cell-002.png")
        window.press("Alt+r")
        window.wait("return document.querySelector('.review .tab.on')?.textContent === 'ann'")
        window.click(".review textarea")
        window.type("well seen")
        window.press("Escape", "a")
        window.wait(
            "return [...document.querySelectorAll('.toast')].some((each) => each.textContent.includes('accepted'))"
        )
        assert [line for line in window.complaints() if "ERR_CONNECTION_REFUSED" not in line] == []
    finally:
        process.terminate()
        process.communicate(timeout=30)
    read_again(directory)
    the_next_morning(window, directory, tmp_path)


def the_next_morning(window: Browser, directory: Path, place: Path) -> None:
    """What a model that learnt from the day before proposes; one proposal is taken over."""
    waiting = train(directory, place)
    with open_project(directory) as project:
        order = [item.id for item in list_images(project, ImageQuery(order="queue")).images]
        count = len(predictions(project, waiting[0], "ann"))
    assert [id for id in order if id in waiting] == waiting and count
    process, link = serve(directory, place / "state")
    try:
        take_over(window, link, order[0], waiting[0], count)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    with open_project(directory) as project:
        decided = [p.decision for p in predictions(project, waiting[0], "ann")]
        assert decided.count("accept") == 1 and document(project, waiting[0], "ann").version == 1


def train(directory: Path, place: Path) -> list[int]:
    """More photographs are drawn on, everything is exported, a model learns from it; the photographs that wait now."""
    with open_project(directory) as project:
        for number in range(2, 9):
            box = Annotation("1", "crack", Box(100, 10.0 * number, 200, 300))
            save(project, number, "ann", document(project, number, "ann").version, [box])
            submit(project, number, "ann", document(project, number, "ann").version)
    run("data", "export", str(directory), str(place / "coco"), "to=coco")
    exported = [json.loads(file.read_text()) for file in (place / "coco").rglob("*.json")]
    assert sum(len(one["annotations"]) for one in exported if isinstance(one, dict) and "annotations" in one) >= 9
    tiny.surroundings(place)
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BESSEMER_CACHE", str(place / "cache"))
        run("loop", str(RECIPES / "turns.yaml"), str(directory), "budget=2")
        turns = json.loads(Path("runs/loop/loop.json").read_text())["turns"]
    waiting: list[int] = turns[0]["queued"]
    return waiting


def run(*words: str) -> None:
    assert main(list(words)) == 0


def take_over(window: Browser, link: str, first: int, image: int, count: int) -> None:
    """What teaches most comes first; the model's proposals for one photograph, of which one is taken over."""
    enter_anew(window, link)
    ordered = "const s = [...document.querySelectorAll('.filters select')].at(-1); s.value = 'queue'; "
    window.js(ordered + "s.dispatchEvent(new Event('change'))")
    window.wait(f"return document.querySelector('button.row')?.dataset.image === '{first}'")
    window.js(f"document.querySelector('button.row[data-image=\"{image}\"]').click()")
    window.wait(f"return document.querySelectorAll('.prediction').length === {min(60, count)}")
    assert "turn-1/sft" in window.js("return document.body.textContent")
    window.click(".prediction .good")
    window.wait(SAVED, "saved")
    assert window.complaints() == []


def read_again(directory: Path) -> None:
    """What the morning left on the disk."""
    with open_project(directory) as project:
        found = document(project, 1, "ann")
        assert found.state == "accepted"
        by_kind = {type(a.shape).__name__ if a.shape else (a.scene or a.text): a for a in found.annotations}
        boxes = [a for a in found.annotations if isinstance(a.shape, Box)]
        assert [a.label for a in boxes] == ["inactive area"] * 2
        assert_box(boxes[0].shape, 60, 80, 180, 240)
        assert_box(boxes[1].shape, 400, 420, 100, 100)
        assert {"equipment", "a dark area beside the crack 暗区"} <= set(by_kind)
        assert [(r.verdict, r.comment) for r in reviews(project, 1, "ann")] == [("accepted", "well seen")]
        (ranking,) = rankings(project)
        place = {answer: n for n, answer in enumerate(ranking.shown_order)}
        told = {
            name: [ranks[answer] for answer in sorted(place, key=lambda a: place[a])]
            for name, ranks in ranking.ranks.items()
        }
        assert told == {
            "truthfulness": [2, 1, 1, None], "helpfulness": [1, 2, 3, 4], "harmlessness": [1, 1, 1, 1],
            "clarity": [4, 3, 2, 1],
        }  # fmt: skip


def rank_with_keys(window: Browser) -> None:
    """Ties, "cannot judge", "not applicable"; the first column by dragging."""
    window.click("[data-page=rank]")
    window.wait("return document.querySelectorAll('.principle').length === 5")
    for place, tier in ((0, "2"), (1, "1"), (2, "1"), (3, "cannot")):
        drag_letter(window, 0, place, tier)
    window.press("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "1", "2", "3", "4")
    window.press("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "1", "t", "ArrowDown", "t", "ArrowDown", "t")
    window.press("ArrowRight", "n")
    window.wait(SAVED, "draft")
    window.press("ArrowRight", "4", "ArrowUp", "ArrowUp", "ArrowUp")
    window.press("4", "3", "2", "1")
    window.wait(SAVED, "saved")


def drag_letter(window: Browser, column: int, place: int, tier: str) -> None:
    chip = f".chip-letter[data-column='{column}'][data-place='{place}']"
    home = f".tier[data-column='{column}'][data-tier='{tier}']"
    start_, end = window.js(
        "const both = [...arguments].map((selector) => document.querySelector(selector));"
        "for (const node of both) node.scrollIntoView({block: 'nearest'});"
        "const boxes = both.map((node) => node.getBoundingClientRect());"
        "return boxes.map((b) => [b.left + b.width / 2, b.top + b.height / 2])",
        chip,
        home,
    )
    window.drag([start_, ((start_[0] + end[0]) / 2, (start_[1] + end[1]) / 2), end])
    window.wait("return document.querySelector(arguments[0]) !== null", f"{home} {chip}")
