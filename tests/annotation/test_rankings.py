from __future__ import annotations

import pytest

from bessemer.annotation.rankings import (
    RankingTask,
    add_ranking_tasks,
    ranking_tasks,
    ranking_turn,
    rankings,
    save_ranking,
)
from bessemer.annotation.store import Project, open_project
from bessemer.data.schema import Message, Prompt, Ranking
from bessemer.errors import UserError

PROMPT = Prompt("p", (Message("user", "Was ist das? 这是什么?"),), scene="equipment")
ANSWERS = tuple("abcdef")
TASK = RankingTask("t1", PROMPT, ANSWERS, (True,) * 6, ("harmless", "honest"))
RANKS: dict[str, list[int | None]] = {"harmless": [1, 1, 3, None, 2, 6]}


@pytest.fixture
def ranked(project: Project) -> Project:
    add_ranking_tasks(project, [TASK, RankingTask("t2", PROMPT, ("x", "y"), (True, False), ("honest",))])
    return project


def test_a_ranking_is_kept_with_the_order_that_was_shown(ranked: Project) -> None:
    turn = ranking_turn(ranked, "t1", "ann")
    assert turn.task == TASK and (turn.version, turn.ranks) == (0, {})
    new, done = save_ranking(ranked, "t1", "ann", 0, RANKS, turn.shown_order)
    assert done and new.version == 1
    ranked.close()
    with open_project(ranked.directory) as again:
        assert ranking_turn(again, "t1", "ann") == new
        expected = {"harmless": (1, 1, 3, None, 2, 6)}
        assert rankings(again) == [
            Ranking("t1", PROMPT, ANSWERS, (True,) * 6, expected, "ann", turn.shown_order, {"version": 1})
        ]
        assert ranking_tasks(again, "ann") == [("t1", 1), ("t2", 0)]


def test_the_order_is_each_annotators_own_and_stays(ranked: Project) -> None:
    orders = {name: ranking_turn(ranked, "t1", name).shown_order for name in "abcdefgh"}
    assert len(set(orders.values())) > 4
    assert all(sorted(order) == list(range(6)) for order in orders.values())
    assert all(ranking_turn(ranked, "t1", name).shown_order == order for name, order in orders.items())


def test_two_tabs_do_not_overwrite_a_ranking(ranked: Project) -> None:
    order = ranking_turn(ranked, "t1", "ann").shown_order
    save_ranking(ranked, "t1", "ann", 0, RANKS, order)
    standing, done = save_ranking(ranked, "t1", "ann", 0, {"honest": [1] * 6}, order)
    assert not done and standing.ranks == {"harmless": (1, 1, 3, None, 2, 6)}
    assert save_ranking(ranked, "t1", "ann", 0, RANKS, order)[1]  # the same again
    assert save_ranking(ranked, "t1", "ann", 1, {"honest": [1] * 6}, order)[0].version == 2
    assert ranking_turn(ranked, "t1", "bob").version == 0


def test_what_is_no_ranking_is_refused(ranked: Project) -> None:
    order = tuple(range(6))
    for ranks, message in (
        ({"kind": [1] * 6}, "principle 'kind', expected one of harmless, honest"),
        ({"honest": [1] * 5}, "5 ranks"),
        ({"honest": [7] * 6}, "rank 7"),
        ({"honest": [True] * 6}, "rank True"),
    ):
        with pytest.raises(UserError, match=message):
            save_ranking(ranked, "t1", "ann", 0, ranks, order)
    with pytest.raises(UserError, match="shown_order"):
        save_ranking(ranked, "t1", "ann", 0, RANKS, (0, 0, 1, 2, 3, 4))
    with pytest.raises(UserError, match="no ranking task 't9'"):
        ranking_turn(ranked, "t9", "ann")
    with pytest.raises(UserError, match="in the project already"):
        add_ranking_tasks(ranked, [RankingTask("t3", PROMPT, ("x", "y"), (True, True), ("a",)), TASK])
    assert len(ranking_tasks(ranked, "ann")) == 2
    with pytest.raises(UserError, match="at least 2"):
        RankingTask("t", PROMPT, ("x",), (True,), ("a",))
