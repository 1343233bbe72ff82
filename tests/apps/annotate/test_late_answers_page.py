"""Answers that come late, out of turn or never, in a real browser: what was drawn is neither lost nor doubled."""

from __future__ import annotations

import time

import pytest

from bessemer.annotation.documents import conflicts, document, history
from bessemer.apps.annotate.server import Server
from browser import NAMED, READY, SAVED, Browser, draw_box, enter_anew, go_on, hold_answers, stop

HELD = "return window.__held.length === arguments[0]"
REGIONS = "return document.querySelectorAll('.region').length === arguments[0]"
SEND_FIRST = "window.__held.shift()()"
IN_DROP = """
const { delete: drop } = IDBObjectStore.prototype;
IDBObjectStore.prototype.delete = function (key) {
  IDBObjectStore.prototype.delete = drop;
  const dropped = drop.call(this, key);
  window.__held.shift()();
  return dropped;
};
"""


@pytest.mark.parametrize("while_dropping", [False, True])
def test_an_image_read_before_a_save_is_read_again(window: Browser, served: Server, while_dropping: bool) -> None:
    """There and straight back: the answer left the server before the save was committed, and comes after its answer,
    or while the local store forgets what was saved."""
    enter_anew(window, served.link("ann"))
    stop(window, "POST /api/images/1/save", hold=True)
    draw_box(window, 100)
    window.wait(HELD, 1)
    window.press("PageDown")
    window.wait(NAMED, "cell-002.png")
    hold_answers(window, "GET /api/images/1$")
    window.press("PageUp")
    window.wait("return window.__read === 1")
    window.js(f"{IN_DROP if while_dropping else ''} window.fetch = window.__fetch; {SEND_FIRST}")
    window.wait(SAVED, "saved")
    go_on(window)
    window.wait(NAMED, "cell-001.png")
    window.wait(REGIONS, 1)
    draw_box(window, 300)
    window.wait(SAVED, "saved")
    window.wait(REGIONS, 2)
    assert [len(document(served.desk.project, image, "ann").annotations) for image in (1, 2)] == [2, 0]
    assert conflicts(served.desk.project, 1, "ann") == []


def test_an_image_that_was_left_while_it_was_saved_is_submitted(window: Browser, served: Server) -> None:
    """It is submitted at the version that the save has made, and the image that was gone to stays open."""
    enter_anew(window, served.link("ann"))
    stop(window, "POST /api/images/1/save", hold=True)
    draw_box(window, 100)
    window.wait(HELD, 1)
    window.press("Control+Enter", "PageDown")
    window.wait(NAMED, "cell-002.png")
    go_on(window)
    window.wait("return /Submitted cell-001/.test(document.body.innerText)")
    window.wait(SAVED, "saved")
    found = document(served.desk.project, 1, "ann")
    assert (found.state, found.version, len(found.annotations)) == ("submitted", 1, 1)
    assert window.js(NAMED, "cell-002.png") and window.js("return document.querySelector('dialog') === null")


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize("left", [0, 2])
def test_a_save_whose_answer_is_lost_is_no_conflict(window: Browser, served: Server, left: int, reload: bool) -> None:
    """The server saved it and was gone before it said so; another shape is drawn, or the one deleted, without it."""
    enter_anew(window, served.link("ann"))
    hold_answers(window, "POST ", lose=True)
    draw_box(window, 100)
    window.wait(SAVED, "offline")
    stop(window, "POST ")
    if left:
        draw_box(window, 300)
    else:
        window.press("v", "Control+a", "Delete")
    window.wait(REGIONS, left)
    time.sleep(1)  # it was tried, in vain
    if reload:
        window.open(f"http://127.0.0.1:{served.port}/")
        window.wait(READY)
    else:
        go_on(window)
    window.wait(SAVED, "saved")
    window.wait(REGIONS, left)
    project = served.desk.project
    assert [each.shapes for each in history(project, 1, "ann")] == [1, left]
    assert len(document(project, 1, "ann").annotations) == left and conflicts(project, 1, "ann") == []


def test_what_the_server_refuses_does_not_hold_up_what_comes_after(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.js(
        "window.__fetch ??= window.fetch; const refusal = JSON.stringify({error: 'refused'});"
        "window.fetch = (path, options) => (/one/.test(options?.body ?? '')"
        "  ? Promise.resolve(new Response(refusal, {status: 422})) : window.__fetch(path, options));"
    )
    window.press("c")
    window.type("one")
    window.wait("return /refused/.test(document.body.innerText)")
    window.press("Backspace", "Backspace", "Backspace")
    window.type("two")
    window.wait(SAVED, "saved")
    assert [each.text for each in document(served.desk.project, 1, "ann").annotations] == ["two"]
