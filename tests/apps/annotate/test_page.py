"""The page in a real browser: drawing, two tabs, predictions, keys, languages."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from bessemer.annotation.documents import conflicts, document, save
from bessemer.annotation.predictions import predictions
from bessemer.annotation.shapes import Annotation, Box, Polygon, RotatedBox
from bessemer.apps.annotate.server import Server
from browser import NAMED, READY, SAVED, Browser, enter_anew, on_screen
from drawn_project import assert_box
from page_client import enter


def test_the_keyboard_is_enough(window: Browser, served: Server) -> None:
    """Box, polygon, rotated box and point drawn with the crosshair; nudged, sized, vertices inserted and deleted."""
    enter_anew(window, served.link("ann"))
    window.press("b", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter")
    window.press("v", "Alt+.", "ArrowRight", "Shift+ArrowDown", "Alt+ArrowRight", "3")
    window.wait(SAVED, "saved")
    box, *more = document(served.desk.project, 1, "ann").annotations
    assert not more and isinstance(box.shape, Box) and box.label == "finger interruption"
    scale = window.js("return parseInt(document.querySelector('.zoom').textContent) / 100")
    assert_box(box.shape, 320 + 1, 320 + 10, 64 / scale + 1, 64 / scale)
    window.press(
        "u",
        "p",
        "Enter",
        "Shift+ArrowRight",
        "Enter",
        "Shift+ArrowDown",
        "Enter",
        "Shift+ArrowLeft",
        "Enter",
        "Shift+Enter",
    )
    window.press("v", "n", "Insert", "ArrowUp", "n", "Delete")
    window.wait(SAVED, "saved")
    polygon = document(served.desk.project, 1, "ann").annotations[1].shape
    assert isinstance(polygon, Polygon) and len(polygon.parts[0][0]) == 4  # one in, one out
    window.press("u", "r", "Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowDown", "Enter", "o", "Enter")
    window.wait("return document.querySelectorAll('.region').length === 4")
    window.wait(SAVED, "saved")
    kinds = [type(a.shape).__name__ for a in document(served.desk.project, 1, "ann").annotations]
    assert kinds == ["Box", "Polygon", "RotatedBox", "Point"]
    turned = document(served.desk.project, 1, "ann").annotations[2].shape
    assert isinstance(turned, RotatedBox) and turned.angle == pytest.approx(0, abs=1e-6)
    window.press("v", "Control+a", "Backspace")
    window.wait("return document.querySelectorAll('.region').length === 0")
    window.press("Control+z")
    window.wait("return document.querySelectorAll('.region').length === 4")
    window.press("PageDown")
    window.wait(NAMED, "cell-002.png")
    window.press("Control+Shift+v")
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.region').length === 4")
    assert window.complaints() == []


def test_polygons_have_parts_and_holes(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("p")
    for point in on_screen(window, (100, 100), (300, 100), (300, 300), (100, 300)):
        window.drag([point])
    window.press("Shift+Enter")
    window.press("v", "Alt+p")
    for point in on_screen(window, (150, 150), (250, 150), (250, 250)):
        window.drag([point])
    window.press("Shift+Enter", "Shift+p")
    for point in on_screen(window, (400, 400), (500, 400), (500, 500), (400, 400)):
        window.drag([point])
    window.wait(SAVED, "saved")
    shape = document(served.desk.project, 1, "ann").annotations[0].shape
    assert isinstance(shape, Polygon)
    assert [[len(ring) for ring in part] for part in shape.parts] == [[4, 3], [3]]
    assert shape.parts[0][1][0] == pytest.approx((150, 150), abs=2)
    # A vertex is dragged; the middle of a side makes a new one.
    window.drag(on_screen(window, (100, 100), (90, 95), (80, 90)))
    window.drag(on_screen(window, (300, 200), (320, 205), (340, 210)))
    window.wait(SAVED, "saved")
    shape = document(served.desk.project, 1, "ann").annotations[0].shape
    assert isinstance(shape, Polygon) and len(shape.parts[0][0]) == 5
    assert shape.parts[0][0][0] == pytest.approx((80, 90), abs=3) and shape.parts[0][0][2] == pytest.approx(
        (340, 210), abs=3
    )


def test_pan_while_drawing_and_zoom_to_the_cursor(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    where = on_screen(window, (200, 200))[0]
    turn = {"type": "scroll", "x": round(where[0]), "y": round(where[1]), "deltaX": 0, "deltaY": -400, "duration": 0}
    wheel = {"type": "wheel", "id": "wheel", "actions": [turn]}
    window.press("p")
    window.drag([where])
    window.call("POST", "/actions", {"actions": [wheel]})
    window.drag([where, (where[0] + 60, where[1] + 30)], button=1)
    window.drag([(where[0] + 160, where[1] + 30)])
    window.drag([(where[0] + 160, where[1] + 130)])
    window.press("Shift+Enter")
    window.wait(SAVED, "saved")
    shape = document(served.desk.project, 1, "ann").annotations[0].shape
    scale = window.js("return parseInt(document.querySelector('.zoom').textContent) / 100")
    assert isinstance(shape, Polygon) and scale > 1.5
    (x0, y0), (x1, y1), (x2, y2) = shape.parts[0][0]
    # The first point stayed under the cursor while zooming, then moved with the picture.
    assert (x0, y0) == pytest.approx((200, 200), abs=2)
    assert (x1 - x0, y1 - y0, x2 - x1, y2 - y1) == pytest.approx((100 / scale, 0, 0, 100 / scale), abs=1.5)


def test_predictions_are_accepted_edited_and_rejected(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    project = served.desk.project
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    assert window.js("return document.querySelectorAll('.region').length") == 0
    window.press("a", "x", "a")
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == ["accept", "reject", "accept"]
    taken = document(project, 1, "ann").annotations
    assert [a.label for a in taken] == ["crack", "finger interruption"]
    assert {(a.source, a.model_version) for a in taken} == {("prediction", "detector-3")}
    window.press("ArrowRight")  # nudges what was taken last
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == ["accept", "reject", "edit"]
    window.press(*["Control+z"] * 4)
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == [None] * 3
    assert document(project, 1, "ann").annotations == ()


def test_submitting_is_undone(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("Control+Enter")
    window.wait(NAMED, "cell-002.png")
    assert document(served.desk.project, 1, "ann").state == "submitted"  # nothing to see is an answer
    window.press("Control+z")
    window.wait(NAMED, "cell-001.png")
    window.wait("return document.querySelector('.canvas-head .state').textContent === 'begun'")
    assert document(served.desk.project, 1, "ann").state == "doing"


@pytest.mark.parametrize("way", ["Keep both", "Take yours", "Take the saved one"])
def test_two_tabs_never_overwrite_each_other(window: Browser, served: Server, way: str) -> None:
    enter_anew(window, served.link("ann"))
    other = enter(served, "ann")
    theirs = [{"id": "theirs", "label": "busbar", "shape": {"kind": "box", "x": 9, "y": 9, "width": 9, "height": 9}}]
    assert other.post("/api/images/1/save", {"version": 0, "annotations": theirs}).status == 200
    window.press("b")
    window.drag(on_screen(window, (100, 100), (200, 200)))
    window.wait("return document.querySelector('dialog .differences') !== null")
    window.wait(SAVED, "conflict")
    text = window.js("return document.querySelector('dialog').innerText")
    assert "busbar box 9, 9, 18, 18" in text and re.search(r"crack box (99|100|101), ", text)
    window.js(
        "[...document.querySelectorAll('dialog footer button')].find((b) => b.textContent === arguments[0]).click()",
        way,
    )
    window.wait(SAVED, "saved")
    project = served.desk.project
    labels = sorted(str(a.label) for a in document(project, 1, "ann").annotations)
    wanted = {"Keep both": ["busbar", "crack"], "Take yours": ["crack"], "Take the saved one": ["busbar"]}
    assert labels == wanted[way]
    assert [a.label for late in conflicts(project, 1, "ann") for a in late.annotations] == [
        "crack"
    ]  # kept, whatever was chosen
    window.press("v")
    window.drag(on_screen(window, (400, 400)))
    window.press("b")
    window.drag(on_screen(window, (300, 300), (350, 350)))  # and work goes on
    window.wait(SAVED, "saved")
    assert len(document(project, 1, "ann").annotations) == len(wanted[way]) + 1


def test_edits_wait_in_the_browser_when_the_page_is_closed(window: Browser, served: Server) -> None:
    """The server is away, the page is closed, both come back."""
    enter_anew(window, served.link("ann"))
    window.js("window.fetch = () => Promise.reject(new TypeError('away'))")
    window.press("b")
    window.drag(on_screen(window, (100, 100), (200, 200)))
    window.wait(SAVED, "offline")
    window.open("about:blank")
    assert document(served.desk.project, 1, "ann").version == 0
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait(READY)
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.region').length === 1")
    assert document(served.desk.project, 1, "ann").annotations[0].label == "crack"


def test_five_thousand_shapes_are_few_elements(window: Browser, served: Server) -> None:
    boxes = [
        Annotation(str(n), "crack" if n % 2 else "busbar", Box(n % 100 * 6.4, n // 100 * 12.8, 5, 10))
        for n in range(5_000)
    ]
    save(served.desk.project, 1, "ann", 0, boxes)
    enter_anew(window, served.link("ann"))
    window.wait("return document.querySelector('.block.grow .count').textContent === '5000'")
    assert window.js("return document.querySelectorAll('*').length") < 1_500
    window.press("v")
    window.drag(on_screen(window, (322.5, 325)))
    window.press("ArrowRight")
    window.wait(SAVED, "saved")
    after = document(served.desk.project, 1, "ann").annotations
    changed = [(a, b) for a, b in zip(boxes, after, strict=True) if a.shape != b.shape]
    assert len(changed) == 1 and changed[0][0].id == "2550"


def test_the_page_speaks_chinese(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.click(".top [lang=zh]")
    window.wait("return document.documentElement.lang === 'zh-CN' && document.body.dataset.ready")
    for page, word in (("rank", "排序"), ("agreement", "一致性"), ("review", "审核"), ("draw", "标注")):
        window.click(f"[data-page={page}]")
        window.wait("return document.querySelector('.pages .on').textContent === arguments[0]", word)
        time.sleep(0.3)
    window.press("?")
    text = window.wait("return document.querySelector('dialog')?.innerText")
    letters = re.sub(
        r"\b(Ctrl|Shift|Alt|Esc|Enter|Insert|Backspace|Delete|Page(Up|Down)|Space|F1)\b|\b[A-Z]\b", "", text
    )
    assert re.findall(r"[A-Za-z]{4,}", letters) == []
    assert window.complaints() == []


def test_keys_can_be_changed(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.press("?")
    window.click("[data-action='tool.box']")
    window.press("g")
    window.wait("return document.querySelector(\"[data-action='tool.box'] kbd\").textContent === 'G'")
    window.press("Escape", "b")
    tool = "return document.querySelector('.canvas').dataset.tool"
    assert window.js(tool) == "select"
    window.press("g")
    assert window.js(tool) == "box"


def test_nothing_is_fetched_from_elsewhere(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    for page in ("rank", "agreement", "review", "draw"):
        window.click(f"[data-page={page}]")
        time.sleep(0.2)
    names: list[Any] = window.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(names) > 20
    assert all(name.startswith((f"http://127.0.0.1:{served.port}/", "blob:")) for name in names)
