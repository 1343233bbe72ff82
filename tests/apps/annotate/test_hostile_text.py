"""S7: hostile text in every field of the page, in a real browser."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from PIL import Image

from bessemer.annotation.documents import save, save_labels, submit
from bessemer.annotation.intake import add_folder
from bessemer.annotation.predictions import import_predictions
from bessemer.annotation.rankings import RankingTask, add_ranking_tasks, save_ranking
from bessemer.annotation.shapes import Annotation, AttributeDefinition, Box, Label
from bessemer.annotation.store import Project, create_project
from bessemer.apps.annotate.desk import Desk
from bessemer.apps.annotate.messages import Person
from bessemer.apps.annotate.pixels import Pictures
from bessemer.apps.annotate.server import Server
from bessemer.apps.annotate.sessions import Sessions
from bessemer.data.records import Message, Prompt
from browser import READY, Browser, enter_anew
from page_client import enter

PAYLOADS = [
    "<script>window.__xss=1</script>",
    "<img src=x onerror=window.__xss=1>",
    "<svg onload=window.__xss=1>",
    '"><img src=x onerror=window.__xss=1>',
    "'><svg/onload=window.__xss=1>",
    "javascript:window.__xss=1",
    "<a href=javascript:window.__xss=1>x</a>",
    "<iframe srcdoc='<script>parent.__xss=1</script>'>",
    "<body onload=window.__xss=1>",
    "<details open ontoggle=window.__xss=1>",
    "<input autofocus onfocus=window.__xss=1>",
    "<video><source onerror=window.__xss=1>",
    "<math><mtext><script>window.__xss=1</script>",
    "{{constructor.constructor('window.__xss=1')()}}",
    "${window.__xss=1}",
    "`${window.__xss=1}`",
    "</textarea><script>window.__xss=1</script>",
    "</title><script>window.__xss=1</script>",
    "<style>@import 'javascript:window.__xss=1'</style>",
    "<link rel=stylesheet href=data:,x onload=window.__xss=1>",
    "<object data=data:text/html,<script>window.__xss=1</script>>",
    "<embed src=javascript:window.__xss=1>",
    "\\u003cscript>window.__xss=1</script>",
    "&lt;script&gt;window.__xss=1&lt;/script&gt;",
    "<scr<script>ipt>window.__xss=1</scr</script>ipt>",
    "<img src=`x`onerror=window.__xss=1>",
    "<form action=javascript:window.__xss=1><button>x</button></form>",
    "<meta http-equiv=refresh content='0;url=javascript:window.__xss=1'>",
    "<template><script>window.__xss=1</script></template><img src=x onerror=window.__xss=1>",
    "__proto__",
    "<marquee onstart=window.__xss=1>",
]


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
            Annotation("caption", text=payload),
            Annotation("other", PAYLOADS[-n], Box(30, 5, 20, 20), attributes={payload: 1}),
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
            enter_anew(window, server.link(PAYLOADS[1]))
            window.js(
                "localStorage.setItem('bessemer.keys',"
                "JSON.stringify({'edit.undo': arguments[0], 'edit.redo': 5, ['__proto__']: {polluted: 1}}))",
                PAYLOADS,
            )
            window.open(f"http://127.0.0.1:{server.port}/")
            window.wait(READY)
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
    theirs = [{"id": payload, "label": payload, "text": payload} for payload in PAYLOADS]
    for attempt in range(5):  # on a machine that is busy the page may not be ready for a key, or know of the other's
        now = other.get(f"/api/images/{number}").json["document"]["version"]
        theirs = [*theirs, {"id": f"another {attempt}", "label": PAYLOADS[0], "text": ""}]
        assert other.post(f"/api/images/{number}/save", {"version": now, "annotations": theirs}).status == 200
        window.press("s")
        with contextlib.suppress(AssertionError):
            window.wait("return document.querySelector('dialog .differences') !== null", seconds=8)
            return
    raise AssertionError("no conflict in five attempts")
