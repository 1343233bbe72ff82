"""Keys that are held down or pressed too soon, in a real browser: they reach only the image that was looked at."""

from __future__ import annotations

import time

import pytest

from bessemer.annotation.documents import document, review, save, submit
from bessemer.annotation.shapes import Annotation, Box
from bessemer.apps.annotate.server import Server
from browser import NAMED, SAVED, Browser, enter_anew, go_on, on_screen, stop

KEYS = """
for (const repeat of arguments[1]) {
  document.body.dispatchEvent(new KeyboardEvent("keydown", {...arguments[0], repeat, bubbles: true, cancelable: true}));
}
"""


def states(served: Server) -> list[str]:
    return [document(served.desk.project, image, "ann").state for image in (1, 2, 3, 4)]


@pytest.mark.parametrize("repeats", [[False, True, True], [False, False]])
def test_a_held_or_doubled_key_submits_one_image(window: Browser, served: Server, repeats: list[bool]) -> None:
    enter_anew(window, served.link("ann"))
    window.js(KEYS, {"key": "Enter", "ctrlKey": True}, repeats)
    window.wait(NAMED, "cell-002.png")
    window.js(KEYS, {"key": "Enter", "ctrlKey": True}, [True, True])
    window.press("v")
    window.wait(SAVED, "saved")
    assert states(served) == ["submitted", "todo", "todo", "todo"]


def test_undo_takes_back_the_submission_that_it_names(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    for name in ("cell-002.png", "cell-003.png"):
        window.press("Control+Enter")
        window.wait(NAMED, name)
    window.js("[...document.querySelectorAll('.toast')].find((n) => /cell-001/.test(n.textContent)).lastChild.click()")
    window.wait(NAMED, "cell-001.png")
    window.wait("return /Not submitted/.test(document.querySelector('.toasts').textContent)")
    assert states(served)[:2] == ["doing", "submitted"]
    window.js(KEYS, {"key": "z", "ctrlKey": True}, [True, True])  # a held undo stays on this image
    assert window.js(NAMED, "cell-001.png") and states(served)[:2] == ["doing", "submitted"]


def test_undo_in_review_takes_no_submission_back(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("Control+Enter")
    window.wait(NAMED, "cell-002.png")
    window.press("Alt+r")
    window.wait("return document.querySelector('.review .tab.on')?.textContent === 'ann'")
    window.press("Control+z")
    time.sleep(1)
    assert states(served)[0] == "submitted"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_undo_leaves_what_was_judged_meanwhile(window: Browser, served: Server, elsewhere: bool) -> None:
    """Also where the image is open, and was when it was judged."""
    enter_anew(window, served.link("ann"))
    if not elsewhere:
        window.click(".row[data-image='4']")
        window.wait(NAMED, "cell-004.png")
    image = 1 if elsewhere else 4
    window.press("Control+Enter")
    window.wait("return /Submitted/.test(document.body.innerText)")
    review(served.desk.project, image, "ann", 1, "dora", "accepted")
    window.wait(NAMED, "cell-002.png" if elsewhere else "cell-004.png")
    window.press("Control+z")
    window.wait("return /reviewed meanwhile: accepted/.test(document.body.innerText)")
    window.wait("return document.querySelector('.canvas-head .state').textContent === 'accepted'")
    found = document(served.desk.project, image, "ann")
    assert (found.state, found.version) == ("accepted", 1)


def test_a_verdict_is_given_once(window: Browser, served: Server) -> None:
    project = served.desk.project
    for image in (1, 2):
        save(project, image, "bo", 0, [Annotation("1", "crack", Box(5, 5, 50, 50))])
        submit(project, image, "bo", 1)
    enter_anew(window, served.link("ann"))
    window.press("Alt+r")
    window.wait("return document.querySelector('.review .tab.on')?.textContent === 'bo'")
    window.js(KEYS, {"key": "a"}, [False, False, True, True])
    window.wait(NAMED, "cell-002.png")
    window.js(KEYS, {"key": "a"}, [True, True])
    window.wait("return document.querySelector('.review .tab.on')?.textContent === 'bo'")
    assert [document(project, image, "bo").state for image in (1, 2)] == ["accepted", "submitted"]


def test_what_was_begun_stays_with_its_image(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "GET /api/images/2$", hold=True)
    window.press("PageDown", "b")
    window.drag(on_screen(window, (100, 100)))
    go_on(window)
    window.wait(NAMED, "cell-002.png")
    window.drag(on_screen(window, (300, 300)))
    window.press("Escape", "Escape")
    window.wait(SAVED, "saved")
    assert states(served) == ["todo"] * 4 and window.js("return document.querySelectorAll('.region').length === 0")


def test_a_comment_waits_while_another_document_is_looked_at(window: Browser, served: Server) -> None:
    for person in ("bo", "chen"):
        save(served.desk.project, 1, person, 0, [Annotation("1", "crack", Box(5, 5, 50, 50))])
        submit(served.desk.project, 1, person, 1)
    enter_anew(window, served.link("ann"))
    window.press("Alt+r")
    window.wait("return document.querySelectorAll('.review .tab').length === 2")
    window.click(".review textarea")
    window.type("too wide")
    window.click(".review .tab", 1)
    window.wait("return document.querySelector('.review .tab.on').textContent === 'chen'")
    assert window.js("return document.querySelector('.review textarea').value") == ""
    window.click(".review .tab", 0)
    assert window.js("return document.querySelector('.review textarea').value") == "too wide"
