"""The page in a real browser: a morning's work, a server that is killed, two tabs, hostile text."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bessemer.annotation.documents import conflicts, document, reviews, save, save_labels, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.predictions import import_predictions, predictions
from bessemer.annotation.rankings import RankingTask, add_ranking_tasks, rankings, save_ranking
from bessemer.annotation.shapes import Annotation, AttributeDefinition, Box, Label, Polygon, RotatedBox
from bessemer.annotation.store import Project, create_project, open_project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.messages import Person
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from bessemer.data.records import Message, Prompt
from browser import CHROMIUM, DRIVER, MISSING, Browser, browser
from drawn_project import PRINCIPLES, make_project
from page_client import enter
from source_tree import SOURCE

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)
ME = (Person("ann", True, True),)
SAVED = "return document.querySelector('.save-state').dataset.state === arguments[0]"
COMMAND = [sys.executable, "-c", "import sys; from bessemer.cli import main; sys.exit(main())", "annotate"]


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def start(window: Browser, link: str) -> None:
    """Enter as somebody who was never here."""
    window.open(link)
    window.wait("return document.body && document.body.dataset.ready")
    window.js("localStorage.clear(); sessionStorage.clear(); indexedDB.deleteDatabase('bessemer')")
    window.open(link)
    window.wait("return document.body && document.body.dataset.ready")
    window.hover((700, 5))  # away from the canvas
    window.complaints()


def on_screen(
    window: Browser, *points: tuple[float, float], size: tuple[int, int] = (640, 640)
) -> list[tuple[float, float]]:
    """Where points of an image that fills the canvas are in the window."""
    left, top, width, height = window.js(
        "const b = document.querySelector('.canvas').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    scale = min((width - 32) / size[0], (height - 32) / size[1])
    x0, y0 = left + (width - size[0] * scale) / 2, top + (height - size[1] * scale) / 2
    return [(x0 + x * scale, y0 + y * scale) for x, y in points]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with make_project(tmp_path / "project", tmp_path / "photographs", 4) as project:
        sessions = Sessions(ME, tmp_path / "state.json", project.directory)
        server = Server(Desk(project, "roof-east", sessions, Pictures(project)), log=lambda line: None)
        server.start()
        yield server
        server.close()


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
    make_project(directory, tmp_path / "photographs", 4).close()
    process, link = serve(directory, tmp_path / "state")
    try:
        start(window, link)
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
        window.wait("return document.querySelector('.image-name').textContent === 'cell-002.png'")
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
            "truthfulness": [2, 1, 1, None], "helpfulness": [1, 2, 3, 4], "harmlessness": [1, 1, 1, 1], "clarity": [4, 3, 2, 1],
        }  # fmt: skip


def assert_box(shape: object, x: float, y: float, width: float, height: float) -> None:
    assert isinstance(shape, Box)
    assert (shape.x, shape.y, shape.width, shape.height) == pytest.approx((x, y, width, height), abs=2)


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
    chip, home = f".chip-letter[data-column='{column}'][data-place='{place}']", f".tier[data-column='{column}'][data-tier='{tier}']"
    start_, end = window.js(
        "const both = [...arguments].map((selector) => document.querySelector(selector));"
        "for (const node of both) node.scrollIntoView({block: 'nearest'});"
        "return both.map((node) => { const b = node.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })",
        chip,
        home,
    )
    window.drag([start_, ((start_[0] + end[0]) / 2, (start_[1] + end[1]) / 2), end])
    window.wait("return document.querySelector(arguments[0]) !== null", f"{home} {chip}")


def test_the_keyboard_is_enough(window: Browser, served: Server) -> None:
    """Box, polygon, rotated box and point drawn with the crosshair; nudged, sized, vertices inserted and deleted."""
    start(window, served.link("ann"))
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
    window.wait("return document.querySelector('.image-name').textContent === 'cell-002.png'")
    window.press("Control+Shift+v")
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.region').length === 4")
    assert window.complaints() == []


def test_polygons_have_parts_and_holes(window: Browser, served: Server) -> None:
    start(window, served.link("ann"))
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
    start(window, served.link("ann"))
    where = on_screen(window, (200, 200))[0]
    wheel = {"type": "wheel", "id": "wheel", "actions": [{"type": "scroll", "x": round(where[0]), "y": round(where[1]), "deltaX": 0, "deltaY": -400, "duration": 0}]}  # fmt: skip
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
    start(window, served.link("ann"))
    project = served.desk.project
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    assert window.js("return document.querySelectorAll('.region').length") == 0
    window.press("a", "x", "a")
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == ["accept", "reject", "accept"]
    taken = document(project, 1, "ann").annotations
    assert [(a.label, a.source, a.model_version) for a in taken] == [("crack", "prediction", "detector-3"), ("finger interruption", "prediction", "detector-3")]  # fmt: skip
    window.press("ArrowRight")  # nudges what was taken last
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == ["accept", "reject", "edit"]
    window.press(*["Control+z"] * 4)
    window.wait("return document.querySelectorAll('.prediction').length === 3")
    window.wait(SAVED, "saved")
    assert [p.decision for p in predictions(project, 1, "ann")] == [None] * 3
    assert document(project, 1, "ann").annotations == ()


def test_submitting_is_undone(window: Browser, served: Server) -> None:
    start(window, served.link("ann"))
    window.press("Control+Enter")
    window.wait("return document.querySelector('.image-name').textContent === 'cell-002.png'")
    assert document(served.desk.project, 1, "ann").state == "submitted"  # nothing to see is an answer
    window.press("Control+z")
    window.wait("return document.querySelector('.image-name').textContent === 'cell-001.png'")
    window.wait("return document.querySelector('.canvas-head .state').textContent === 'begun'")
    assert document(served.desk.project, 1, "ann").state == "doing"


@pytest.mark.parametrize("way", ["Keep both", "Take yours", "Take the saved one"])
def test_two_tabs_never_overwrite_each_other(window: Browser, served: Server, way: str) -> None:
    start(window, served.link("ann"))
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
    start(window, served.link("ann"))
    window.js("window.fetch = () => Promise.reject(new TypeError('away'))")
    window.press("b")
    window.drag(on_screen(window, (100, 100), (200, 200)))
    window.wait(SAVED, "offline")
    window.open("about:blank")
    assert document(served.desk.project, 1, "ann").version == 0
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait("return document.body && document.body.dataset.ready")
    window.wait(SAVED, "saved")
    window.wait("return document.querySelectorAll('.region').length === 1")
    assert document(served.desk.project, 1, "ann").annotations[0].label == "crack"


def test_five_thousand_shapes_are_few_elements(window: Browser, served: Server) -> None:
    boxes = [
        Annotation(str(n), "crack" if n % 2 else "busbar", Box(n % 100 * 6.4, n // 100 * 12.8, 5, 10))
        for n in range(5_000)
    ]
    save(served.desk.project, 1, "ann", 0, boxes)
    start(window, served.link("ann"))
    window.wait("return document.querySelector('.block.grow .count').textContent === '5000'")
    assert window.js("return document.querySelectorAll('*').length") < 1_500
    window.press("v")
    window.drag(on_screen(window, (322.5, 325)))
    window.press("ArrowRight")
    window.wait(SAVED, "saved")
    after = document(served.desk.project, 1, "ann").annotations
    changed = [(a, b) for a, b in zip(boxes, after, strict=True) if a.shape != b.shape]
    assert len(changed) == 1 and changed[0][0].id == "2550"


PAYLOADS = [
    "<script>window.__xss=1</script>", "<img src=x onerror=window.__xss=1>", "<svg onload=window.__xss=1>",
    "\"><img src=x onerror=window.__xss=1>", "'><svg/onload=window.__xss=1>", "javascript:window.__xss=1",
    "<a href=javascript:window.__xss=1>x</a>", "<iframe srcdoc='<script>parent.__xss=1</script>'>", "<body onload=window.__xss=1>",
    "<details open ontoggle=window.__xss=1>", "<input autofocus onfocus=window.__xss=1>", "<video><source onerror=window.__xss=1>",
    "<math><mtext><script>window.__xss=1</script>", "{{constructor.constructor('window.__xss=1')()}}", "${window.__xss=1}",
    "`${window.__xss=1}`", "</textarea><script>window.__xss=1</script>", "</title><script>window.__xss=1</script>",
    "<style>@import 'javascript:window.__xss=1'</style>", "<link rel=stylesheet href=data:,x onload=window.__xss=1>",
    "<object data=data:text/html,<script>window.__xss=1</script>>", "<embed src=javascript:window.__xss=1>", "\\u003cscript>window.__xss=1</script>",
    "&lt;script&gt;window.__xss=1&lt;/script&gt;", "<scr<script>ipt>window.__xss=1</scr</script>ipt>", "<img src=`x`onerror=window.__xss=1>",
    "<form action=javascript:window.__xss=1><button>x</button></form>", "<meta http-equiv=refresh content='0;url=javascript:window.__xss=1'>",
    "<template><script>window.__xss=1</script></template><img src=x onerror=window.__xss=1>", "__proto__", "<marquee onstart=window.__xss=1>",
]  # fmt: skip


def hostile_project(tmp_path: Path) -> Project:
    """Every text field holds payloads: file names, labels, attributes, captions, predictions, answers, comments."""
    folder = tmp_path / "f"
    folder.mkdir()
    for n, payload in enumerate(PAYLOADS):
        name = re.sub(r"[/\\\0]", "", payload)[:120]
        Image.new("RGB", (64, 48), (n, 90, 90)).save(folder / f"{n:02d} {name}.png")
    project = create_project(tmp_path / "p", PAYLOADS[0])
    add_folder(project, folder)
    labels = [
        Label(p, attributes=(AttributeDefinition(p, "select", (p, "x")), AttributeDefinition(p + " t")))
        for p in PAYLOADS
    ]
    save_labels(project, 0, labels, PAYLOADS[1])
    for n, payload in enumerate(PAYLOADS, 1):
        shape = Box(5, 5, 20, 20)
        drawn = [
            Annotation(payload, payload, shape, payload, {payload: payload, payload + " t": payload}),
            Annotation("caption", text=payload), Annotation("other", PAYLOADS[-n], Box(30, 5, 20, 20), attributes={payload: 1}),
        ]  # fmt: skip
        for person in (PAYLOADS[1], "bo"):
            save(project, n, person, 0, drawn)
        save(project, n, "bo", 0, [Annotation("late", payload, text=payload)])
        submit(project, n, "bo", 1)
        import_predictions(project, payload, [(n, [Annotation("p", payload, shape, payload, score=0.5)])])
        answers = (payload, payload + " and more", "plain")
        principles = (payload, "clarity")
        task = RankingTask(
            payload,
            Prompt(payload, (Message("system", payload), Message("user", payload))),
            answers,
            (True,) * 3,
            principles,
        )
        add_ranking_tasks(project, [task])
        for person in ("bo", "chen"):
            save_ranking(project, payload, person, 0, {payload: (1, 2, 2), "clarity": (1, 2, 3)}, (0, 1, 2))
    return project


def quiet(window: Browser) -> None:
    assert window.js("return window.__xss === undefined && Object.prototype.polluted === undefined")
    assert (
        window.js(
            "return document.querySelectorAll('main script, aside script, dialog script, iframe, object, embed').length"
        )
        == 0
    )
    assert [line for line in window.complaints() if "409 (Conflict)" not in line] == []


def test_no_text_runs(window: Browser, tmp_path: Path) -> None:
    """S7: 31 payloads in every text field, in every page and dialog; no script runs and the policy has no complaint."""
    assert len(PAYLOADS) >= 30
    with hostile_project(tmp_path) as project:
        people = (Person(PAYLOADS[1], True, True),)
        server = Server(
            Desk(project, PAYLOADS[0], Sessions(people, tmp_path / "s.json", project.directory), Pictures(project)),
            log=lambda line: None,
        )
        server.start()
        try:
            start(window, server.link(PAYLOADS[1]))
            window.js(
                "localStorage.setItem('bessemer.keys', JSON.stringify({'edit.undo': arguments[0], 'edit.redo': 5, '__proto__': {polluted: 1}}))",
                PAYLOADS,
            )
            window.open(f"http://127.0.0.1:{server.port}/")
            window.wait("return document.body && document.body.dataset.ready")
            for n, _ in enumerate(PAYLOADS, 1):
                window.wait(
                    "return document.querySelector('.image-name').textContent.startsWith(arguments[0])", f"{n - 1:02d} "
                )
                window.press("v", "Alt+.")
                window.wait("return document.querySelector('.facts') !== null")
                window.press("Alt+.", "PageDown")
            quiet(window)
            for keys, found in (("?", ".help"), ("h", ".history")):
                window.press(keys)
                window.wait("return document.querySelector(arguments[0]) !== null", found)
                quiet(window)
                window.press("Escape")
            window.click(".inspector .button[title='Label set']")
            window.wait("return document.querySelectorAll('.label-row').length > 30")
            quiet(window)
            window.press("Escape")
            window.press("/")
            window.type(PAYLOADS[1])
            window.wait("return document.querySelector('.summary .right').textContent !== '31 listed'")
            quiet(window)
            window.press("Escape", "Alt+r")
            window.wait("return document.querySelectorAll('.review .tab').length === 2")
            for _ in range(4):
                window.click(".review textarea")
                window.type(PAYLOADS[5])
                window.press("Escape", "x")
                time.sleep(0.2)
            quiet(window)
            window.press("Alt+2")
            window.wait("return document.querySelectorAll('.answer').length === 3")
            for _ in PAYLOADS:
                window.press("PageDown")
            quiet(window)
            window.press("Alt+3")
            window.wait("return document.querySelectorAll('.panel table').length >= 3", seconds=180)
            quiet(window)
            conflict_of(window, server)
            quiet(window)
        finally:
            server.close()


def conflict_of(window: Browser, server: Server) -> None:
    """The conflict dialog, with hostile text on both sides."""
    window.click("[data-page=draw]")
    window.wait("return !document.body.classList.contains('reviewing')")
    number = window.js("return document.querySelector('.list .row.current').dataset.image")
    other = enter(server, PAYLOADS[1])
    now = other.get(f"/api/images/{number}").json["document"]["version"]
    theirs = [{"id": payload, "label": payload, "text": payload} for payload in PAYLOADS]
    assert other.post(f"/api/images/{number}/save", {"version": now, "annotations": theirs}).status == 200
    window.press("s")
    window.wait("return document.querySelector('dialog .differences') !== null")


def test_the_page_speaks_chinese(window: Browser, served: Server) -> None:
    start(window, served.link("ann"))
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
    start(window, served.link("ann"))
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
    start(window, served.link("ann"))
    for page in ("rank", "agreement", "review", "draw"):
        window.click(f"[data-page={page}]")
        time.sleep(0.2)
    names: list[Any] = window.js("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(names) > 20
    assert all(name.startswith((f"http://127.0.0.1:{served.port}/", "blob:")) for name in names)
