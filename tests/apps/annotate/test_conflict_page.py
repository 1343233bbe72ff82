"""Conflicts of several images, after a reload, and with edits that came in between, in a real browser."""

from __future__ import annotations

import time

from bessemer.annotation.documents import conflicts, document
from bessemer.annotation.predictions import predictions
from bessemer.apps.annotate.server import Server
from browser import NAMED, READY, SAVED, Browser, draw_box, enter_anew, go_on, stop
from page_client import enter

DIALOG = "return document.querySelector('dialog .differences') !== null"


def theirs(served: Server, *images: int) -> None:
    """Another tab saves a box on every one of the images."""
    shape = {"kind": "box", "x": 9, "y": 9, "width": 9, "height": 9}
    body = {"version": 0, "annotations": [{"id": "theirs", "label": "busbar", "shape": shape}]}
    for image in images:
        assert enter(served, "ann").post(f"/api/images/{image}/save", body).status == 200


def choose(window: Browser, way: str) -> None:
    window.wait(DIALOG)
    window.js(
        "[...document.querySelectorAll('dialog footer button')].find((b) => b.textContent === arguments[0]).click()",
        way,
    )


def labels(served: Server, image: int) -> list[str]:
    return sorted(str(each.label) for each in document(served.desk.project, image, "ann").annotations)


def test_conflicts_of_two_images_are_both_shown(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST ")
    draw_box(window, 100)
    window.wait(SAVED, "offline")
    window.press("PageDown")
    window.wait(NAMED, "cell-002.png")
    draw_box(window, 200)
    window.press("PageDown")
    window.wait(NAMED, "cell-003.png")
    theirs(served, 1, 2)
    go_on(window)
    for _ in (1, 2):
        choose(window, "Keep both")
    window.wait(SAVED, "saved")
    assert labels(served, 1) == labels(served, 2) == ["busbar", "crack"] and labels(served, 3) == []
    assert window.js(NAMED, "cell-003.png") and window.js("return document.querySelectorAll('.region').length === 0")


def test_a_conflict_that_waits_is_shown_after_a_reload(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST ")
    draw_box(window, 100)
    window.wait(SAVED, "offline")
    window.open("about:blank")
    theirs(served, 1)
    window.open(f"http://127.0.0.1:{served.port}/")
    choose(window, "Keep both")
    window.wait(READY)
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.region').length === 2")
    assert labels(served, 1) == ["busbar", "crack"]


def test_what_was_drawn_during_the_refused_request_is_kept(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST ", hold=True)
    draw_box(window, 100)
    window.wait("return window.__held.length === 1")
    draw_box(window, 300)
    theirs(served, 1)
    go_on(window)
    choose(window, "Take the saved one")
    window.wait(SAVED, "saved")
    end = time.monotonic() + 20
    while len(conflicts(served.desk.project, 1, "ann")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert [len(each.annotations) for each in conflicts(served.desk.project, 1, "ann")] == [1, 2]
    assert labels(served, 1) == ["busbar"]


def test_undo_after_a_conflict_goes_back_to_what_was_saved(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST ", hold=True)
    draw_box(window, 100)
    window.wait("return window.__held.length === 1")
    theirs(served, 1)
    go_on(window)
    choose(window, "Keep both")
    window.wait(SAVED, "saved")
    assert labels(served, 1) == ["busbar", "crack"]
    window.press("Control+z")
    window.wait("return document.querySelectorAll('.region').length === 1")
    window.wait(SAVED, "saved")
    assert labels(served, 1) == ["busbar"]
    window.press("Control+z", "Control+Shift+z")
    window.wait("return document.querySelectorAll('.region').length === 2")
    window.wait(SAVED, "saved")
    assert labels(served, 1) == ["busbar", "crack"]


def test_predictions_taken_over_in_vain_are_open_again(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST ", hold=True)
    window.press("a")
    window.wait("return window.__held.length === 1")
    theirs(served, 1)
    go_on(window)
    choose(window, "Take the saved one")
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    draw_box(window, 300)
    window.wait(SAVED, "saved")
    assert labels(served, 1) == ["busbar", "crack"]
    assert {each.decision for each in predictions(served.desk.project, 1, "ann")} <= {None, "", "open"}
