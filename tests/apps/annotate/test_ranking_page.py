"""Ranking in a real browser while the server is slow or away: every question keeps its own ranks."""

from __future__ import annotations

from bessemer.annotation.rankings import ranking_turn, save_ranking
from bessemer.apps.annotate.server import Server
from browser import READY, SAVED, Browser, enter_anew, go_on, stop
from drawn_project import PRINCIPLES

SHOWN = "return document.querySelector('.row.task.current').textContent.startsWith(arguments[0])"


def question(window: Browser, served: Server) -> None:
    enter_anew(window, served.link("ann"))
    window.click("[data-page=rank]")
    window.wait("return document.querySelectorAll('.principle').length === 5")


def rank_all(window: Browser) -> None:
    """1, 2, 3, 4 for every principle."""
    for _ in PRINCIPLES:
        window.press("1", "2", "3", "4", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight")


def ranks(served: Server, number: int) -> list[list[int | None]]:
    """What is saved of a question, in the order shown."""
    turn = ranking_turn(served.desk.project, f"roof-east/{number}", "ann")
    return [[places[answer] for answer in turn.shown_order] for places in turn.ranks.values()]


def test_ranks_stay_with_the_question_that_was_shown(window: Browser, served: Server) -> None:
    question(window, served)
    stop(window, "GET /api/rankings/2")
    window.press("PageDown")
    window.wait("return document.querySelector('.toast') !== null")
    assert window.js(SHOWN, "1.")
    rank_all(window)
    window.wait(SAVED, "saved")
    assert ranks(served, 1) == [[1, 2, 3, 4]] * 5 and ranks(served, 2) == []


def test_a_save_that_comes_late_changes_no_other_question(window: Browser, served: Server) -> None:
    question(window, served)
    stop(window, "POST /api/rankings/1/save", hold=True)
    rank_all(window)
    window.press("4")  # once more, while the first request is on its way
    window.wait(SAVED, "saving")
    window.press("PageDown")
    window.wait(SHOWN, "2.")
    go_on(window)
    window.wait(SAVED, "saved")
    assert ranks(served, 1) == [[4, 2, 3, 4]] + [[1, 2, 3, 4]] * 4 and ranks(served, 2) == []


def test_complete_ranks_are_sent_when_the_server_is_back(window: Browser, served: Server) -> None:
    """From another question, from another page, and after a reload; the header does not say that all is saved."""
    question(window, served)
    stop(window, "POST /api/rankings/1/save")
    rank_all(window)
    window.wait(SAVED, "offline")
    window.press("PageDown")
    window.wait(SHOWN, "2.")
    window.click("[data-page=draw]")
    window.press("b", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter")
    window.wait("return document.querySelectorAll('.region').length === 1")
    window.wait("return [...document.querySelectorAll('.row.current .dot.doing')].length === 1")
    assert window.js(SAVED, "offline")
    go_on(window)
    window.wait(SAVED, "saved")
    assert ranks(served, 1) == [[1, 2, 3, 4]] * 5


def test_complete_ranks_are_sent_after_a_reload(window: Browser, served: Server) -> None:
    question(window, served)
    stop(window, "POST /api/rankings/1/save")
    rank_all(window)
    window.wait(SAVED, "offline")
    window.js("localStorage.setItem('bessemer.page', JSON.stringify('draw'))")
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait(READY)
    window.wait(SAVED, "saved")
    assert ranks(served, 1) == [[1, 2, 3, 4]] * 5


def test_a_draft_of_another_version_is_shown_beside_it(window: Browser, served: Server) -> None:
    question(window, served)
    window.press("1", "2")
    window.wait(SAVED, "draft")
    window.open("about:blank")
    project, task = served.desk.project, "roof-east/1"
    order = ranking_turn(project, task, "ann").shown_order
    save_ranking(project, task, "ann", 0, dict.fromkeys(PRINCIPLES, (1, 1, 1, 1)), order)
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait("return document.querySelector('dialog') !== null")
    assert "1 2 – –" in window.js(
        "return [...document.querySelectorAll('dialog td')].map((cell) => cell.textContent.split(' ').sort().join(' '))"
        ".join('|').replace('– – 1 2', '1 2 – –')"
    )
    window.click("dialog .primary")
    window.wait("return document.querySelectorAll('.principle.done').length === 0")
    rank_all(window)
    window.wait(SAVED, "saved")
    assert ranks(served, 1) == [[1, 2, 3, 4]] * 5


def test_a_drag_that_is_cancelled_ranks_nothing(window: Browser, served: Server) -> None:
    question(window, served)
    window.js(
        "const [chip, tier] = ['.chip-letter', '.tier[data-tier=\"2\"]'].map((each) => document.querySelector(each));"
        "const at = (node, name) => { const b = node.getBoundingClientRect();"
        "  const where = {clientX: b.left + b.width / 2, clientY: b.top + b.height / 2};"
        "  node.dispatchEvent(new PointerEvent(name, {...where, button: 0, bubbles: true, cancelable: true})); };"
        "at(chip, 'pointerdown'); at(tier, 'pointermove'); at(tier, 'pointercancel');"
        "at(document.querySelector('.tier[data-tier=\"2\"]'), 'pointermove');"
        "at(document.querySelector('.tier[data-tier=\"2\"]'), 'pointerup');"
    )
    assert window.js("return document.querySelectorAll('.tier.open[data-column=\"0\"] .chip-letter').length") == 4
    assert window.js("return document.querySelector('.ghost') === null")
