"""Edits in a real browser that the server cannot take yet: nothing of them is lost when tabs close."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bessemer.annotation.documents import conflicts, document
from bessemer.apps.annotate.server import Server
from browser import READY, SAVED, Browser, draw_box, enter_anew, go_on, stop

LEFT = """
return new Promise((done) => {
  const request = indexedDB.open('bessemer', 1);
  request.onsuccess = () => {
    const transaction = request.result.transaction('outbox', 'readwrite');
    for (const row of arguments[0]) transaction.objectStore('outbox').put(row);
    transaction.oncomplete = () => { request.result.close(); done(true); };
  };
});
"""


def left_by(tab: str, label: str, stamp: int) -> dict[str, Any]:
    """What a tab that is gone left in the local store."""
    shape = {"kind": "box", "x": 9, "y": 9, "width": 9, "height": 9}
    return {
        "key": f"roof-east/ann/1/{tab}", "tab": tab, "project": "roof-east", "annotator": "ann", "image": 1, "base": 0,
        "annotations": [{"id": label, "label": label, "shape": shape}], "decisions": [], "stamp": stamp,
    }  # fmt: skip


@pytest.mark.parametrize("locks", [True, False])
def test_what_two_closed_tabs_left_of_one_image_is_all_kept(window: Browser, served: Server, locks: bool) -> None:
    enter_anew(window, served.link("ann"))
    window.js(LEFT, [left_by("one", "crack", 1), left_by("other", "busbar", 2), left_by("third", "dark", 0)])
    hide = "Object.defineProperty(Navigator.prototype, 'locks', {get: () => undefined})"  # as over plain http
    command = {"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": "" if locks else hide}}
    made = window.call("POST", "/goog/cdp/execute", command)
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait(READY)
    window.call("POST", "/goog/cdp/execute", {"cmd": "Page.removeScriptToEvaluateOnNewDocument", "params": made})
    window.wait(SAVED, "saved")
    project = served.desk.project
    end = time.monotonic() + 20
    while len(conflicts(project, 1, "ann")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert [a.label for a in document(project, 1, "ann").annotations] == ["busbar"]
    assert sorted(str(a.label) for late in conflicts(project, 1, "ann") for a in late.annotations) == ["crack", "dark"]


def test_edits_made_while_a_request_hangs_outlive_the_page(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    stop(window, "POST /api/images/1/save", hold=True)
    draw_box(window, 100)
    window.wait("return window.__held.length === 1")
    draw_box(window, 300)
    time.sleep(1)
    window.open("about:blank")
    assert document(served.desk.project, 1, "ann").version == 0
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait(READY)
    window.wait(SAVED, "saved")
    assert len(document(served.desk.project, 1, "ann").annotations) == 2


def test_a_full_disk_is_said_and_stops_nothing(window: Browser, served: Server) -> None:
    """Without a place in the browser an edit goes to the server all the same; offline, the header says so."""
    enter_anew(window, served.link("ann"))
    window.js(
        "const put = IDBObjectStore.prototype.put;"
        "IDBObjectStore.prototype.put = function (row) {"
        "  const made = put.call(this, row); this.transaction.abort(); return made; };"
    )
    stop(window, "POST ")
    draw_box(window, 100)
    window.wait(SAVED, "unkept")
    go_on(window)
    window.wait(SAVED, "saved")
    assert len(document(served.desk.project, 1, "ann").annotations) == 1
