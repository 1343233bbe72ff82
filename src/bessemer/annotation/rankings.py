"""Answers to be ranked, and each annotator's ranks by principle, in versions like documents."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..data.records import Prompt, Ranking, decode_record, encode_record
from ..data.schema import need
from .documents import check_annotator
from .log import Edit
from .shapes import check_text
from .store import Project

__all__ = [
    "Ranks", "RankingTask", "RankingTurn", "add_ranking_tasks", "ranking_tasks",
    "ranking_turn", "rankings", "save_ranking",
]  # fmt: skip

Ranks = dict[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class RankingTask:
    """K >= 2 answers to one prompt, to be ranked by each of the principles. ended: see `data.schema.Ranking`."""

    id: str
    prompt: Prompt
    responses: tuple[str, ...]
    ended: tuple[bool, ...]
    principles: tuple[str, ...]

    def __post_init__(self) -> None:
        need(self.principles, "no principles", "at least one to rank by")
        for principle in self.principles:
            check_text(principle, "a principle", 200, empty=False)
        need(len(set(self.principles)) == len(self.principles), "a principle that stands twice", "every one once")
        blank: Ranks = {principle: (None,) * len(self.responses) for principle in self.principles}
        order = tuple(range(len(self.responses)))
        Ranking(self.id, self.prompt, self.responses, self.ended, blank, "nobody", order)  # its checks


@dataclass(frozen=True)
class RankingTurn:
    """A task as one annotator sees it: version 0 and no ranks before the first save. shown_order: the answers' indices
    in the order to show them, shuffled for each annotator and the same at every reload."""

    task: RankingTask
    annotator: str
    version: int
    ranks: Ranks
    shown_order: tuple[int, ...]


def _encode(task: RankingTask) -> dict[str, object]:
    return {
        "id": task.id, "prompt": encode_record(task.prompt), "responses": list(task.responses),
        "ended": list(task.ended), "principles": list(task.principles),
    }  # fmt: skip


def _decode(body: str) -> RankingTask:
    row = json.loads(body)
    prompt = decode_record(row["prompt"], Prompt)
    return RankingTask(row["id"], prompt, *(tuple(row[key]) for key in ("responses", "ended", "principles")))


def add_ranking_tasks(project: Project, tasks: Sequence[RankingTask]) -> None:
    """Add tasks. Raises UserError: an id that is there already or stands twice; then none is added."""
    need(len({task.id for task in tasks}) == len(tasks), "the id of a task that stands twice", "every id once")

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], None]:
        for task in tasks:
            known = db.execute("SELECT 1 FROM ranking_tasks WHERE id = ?", (task.id,)).fetchone()
            need(not known, f"ranking task {task.id!r} is in the project already", "new ids")
        return [Edit("ranking_tasks", {"tasks": [_encode(task)]}) for task in tasks], None

    project.commit(plan)


def _turn(db: sqlite3.Connection, task_id: str, annotator: str) -> RankingTurn:
    check_annotator(annotator)
    row = db.execute("SELECT body FROM ranking_tasks WHERE id = ?", (task_id,)).fetchone()
    need(row, f"no ranking task {task_id!r}", "the id of one of the project")
    task = _decode(row[0])
    query = "SELECT version, body FROM rankings WHERE task = ? AND annotator = ? ORDER BY version DESC LIMIT 1"
    saved = db.execute(query, (task_id, annotator)).fetchone()
    if saved:
        body = json.loads(saved[1])
        ranks = {principle: tuple(places) for principle, places in body["ranks"].items()}
        return RankingTurn(task, annotator, saved[0], ranks, tuple(body["shown_order"]))
    order = list(range(len(task.responses)))
    digest = hashlib.sha256(json.dumps([task_id, annotator]).encode()).digest()
    random.Random(int.from_bytes(digest)).shuffle(order)
    return RankingTurn(task, annotator, 0, {}, tuple(order))


def ranking_turn(project: Project, task_id: str, annotator: str) -> RankingTurn:
    """A task with the annotator's own ranks. Raises UserError: no such task."""
    with project.read() as db:
        return _turn(db, task_id, annotator)


def ranking_tasks(project: Project, annotator: str) -> list[tuple[str, int]]:
    """(id, the annotator's version, 0 for not begun) of every task in the order in which they were added."""
    with project.read() as db:
        query = (
            "SELECT t.id, coalesce(max(r.version), 0) FROM ranking_tasks t "
            "LEFT JOIN rankings r ON r.task = t.id AND r.annotator = ? GROUP BY t.number ORDER BY t.number"
        )
        return db.execute(query, (annotator,)).fetchall()


def save_ranking(
    project: Project, task_id: str, annotator: str, base_version: int, ranks: Mapping[str, Sequence[int | None]],
    shown_order: Sequence[int],
) -> tuple[RankingTurn, bool]:  # fmt: skip
    """Save an annotator's ranks, 1 the best; equal ranks are ties, None is "cannot judge", a principle may be absent.

    Returns:
        The turn that stands now, and whether it is the new one (False: another tab was faster, nothing changed).
    """

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], tuple[RankingTurn, bool]]:
        turn = _turn(db, task_id, annotator)
        task = turn.task
        for principle in ranks:
            need(principle in task.principles, f"principle {principle!r}", f"one of {', '.join(task.principles)}")
        new = {principle: tuple(places) for principle, places in ranks.items()}
        order = tuple(shown_order)
        Ranking(task_id, task.prompt, task.responses, task.ended, new, annotator, order)  # its checks
        if turn.version and (turn.ranks, turn.shown_order) == (new, order):
            return [], (turn, True)
        if turn.version != base_version:
            return [], (turn, False)
        data = {
            "task": task_id, "annotator": annotator, "version": turn.version + 1,
            "ranks": {principle: list(places) for principle, places in new.items()}, "shown_order": list(order),
        }  # fmt: skip
        return [Edit("rank", data)], (RankingTurn(task, annotator, turn.version + 1, new, order), True)

    return project.commit(plan)


def rankings(project: Project) -> list[Ranking]:
    """The newest ranking of every task by every annotator, for training and agreement."""
    with project.read() as db:
        rows = db.execute(
            "SELECT r.task, r.annotator FROM rankings r JOIN ranking_tasks t ON t.id = r.task "
            "GROUP BY t.number, r.annotator ORDER BY t.number, r.annotator"
        ).fetchall()
        turns = [_turn(db, task, annotator) for task, annotator in rows]
    return [
        Ranking(
            turn.task.id, turn.task.prompt, turn.task.responses, turn.task.ended, turn.ranks, turn.annotator,
            turn.shown_order, {"version": turn.version},
        )
        for turn in turns
    ]  # fmt: skip
