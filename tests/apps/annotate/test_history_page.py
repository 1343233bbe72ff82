"""The dialog of a document's history in a real browser, when the server does not do what it is asked."""

from __future__ import annotations

import pytest

from bessemer.annotation.documents import document, save
from bessemer.annotation.shapes import Annotation, Box
from bessemer.apps.annotate.server import Server
from browser import Browser, enter_anew, go_on, stop

ROW = "return document.querySelectorAll('dialog .history tbody tr').length === 2"
SEEN = """
const line = [...document.querySelectorAll('.toast')].find((each) => each.textContent.includes(arguments[0]));
if (!line) return false;
const { left, top, width, height } = line.getBoundingClientRect();
return line.contains(document.elementFromPoint(left + width / 2, top + height / 2));
"""
RESTORE = "[...document.querySelectorAll('dialog .history button')].find((b) => b.textContent === 'Restore').click()"


def versions(served: Server) -> None:
    for version in (0, 1):
        save(served.desk.project, 1, "ann", version, [Annotation(str(version), "crack", Box(5, 5, 50, 50))])


@pytest.mark.parametrize(("why", "said"), [("away", "The server does not answer"), ("newer", "HTTP 409")])
def test_a_version_that_is_not_restored_is_said(window: Browser, served: Server, why: str, said: str) -> None:
    """Where it can be read: in front of the dialog, which covers the page."""
    versions(served)
    enter_anew(window, served.link("ann"))
    window.click(".canvas-head button[title^=History]")
    window.wait(ROW)
    if why == "away":
        stop(window, "POST ")
    else:
        save(served.desk.project, 1, "ann", 2, [])
    window.js(RESTORE)
    window.wait(SEEN, said)
    assert document(served.desk.project, 1, "ann").version == (2 if why == "away" else 3)
    window.press("Escape")
    assert window.js(SEEN, said)  # and goes on being seen
    if why == "away":
        assert window.complaints() == []
        go_on(window)
        window.click(".canvas-head button[title^=History]")
        window.wait(ROW)
        window.js(RESTORE)
        window.wait("return document.querySelector('dialog') === null")
        assert document(served.desk.project, 1, "ann").version == 3


def test_a_version_that_is_not_shown_is_said(window: Browser, served: Server) -> None:
    versions(served)
    enter_anew(window, served.link("ann"))
    window.click(".canvas-head button[title^=History]")
    window.wait(ROW)
    stop(window, "GET ")
    window.click("dialog .history tbody tr:last-child td")
    window.wait(SEEN, "The server does not answer")
    assert window.complaints() == []
