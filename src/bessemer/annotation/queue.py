"""The queue: which images to annotate next, most worth while first, and why; kept in the project, apart from all work.

The reasons are figures between 0 and 1: `margin` (how unsure the model is), `heads` (how far the heads of its reward
model are apart), `annotators` (how far two annotators are apart), `failed` (the share of its questions that the model
got wrong in the last evaluation).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ..data.schema import need
from .listing import agreement_items
from .log import Edit
from .matching import match_shapes
from .shapes import Annotation, Point, finite
from .store import Project

__all__ = ["REASONS", "Queued", "annotator_disagreement", "queue", "set_queue"]

REASONS = ("margin", "heads", "annotators", "failed")


@dataclass(frozen=True)
class Queued:
    """An image that waits, how much it is worth, and why: reason -> 0 to 1."""

    image: int
    priority: float
    reasons: Mapping[str, float]

    def __post_init__(self) -> None:
        need(0 <= finite(self.priority, "priority") <= 1, f"priority {self.priority!r}", "0 to 1")
        for name, value in self.reasons.items():
            need(name in REASONS, f"reason {name!r}", f"one of {', '.join(REASONS)}")
            need(0 <= finite(value, name) <= 1, f"{name} {value!r}", "0 to 1")


def set_queue(project: Project, items: Sequence[Queued]) -> None:
    """Let these images wait, in place of those that did; what nobody gave a reason for stays behind them, in the order
    of its ids."""
    rows = [{"image": q.image, "priority": q.priority, "reasons": dict(q.reasons)} for q in items]
    need(len({q.image for q in items}) == len(items), "an image that waits twice", "every image once")

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], None]:
        known = {id for (id,) in db.execute("SELECT id FROM images")}
        strangers = [q.image for q in items if q.image not in known]
        need(not strangers, f"no image {strangers[:1]}", "the id of an image of the project")
        return [Edit("queue", {"rows": rows})], None

    project.commit(plan)


def queue(project: Project) -> list[Queued]:
    """What waits, the most worth while first."""
    with project.read() as db:
        rows = db.execute("SELECT image, priority, reasons FROM queue ORDER BY priority DESC, image").fetchall()
    return [Queued(image, priority, json.loads(reasons)) for image, priority, reasons in rows]


def annotator_disagreement(project: Project) -> dict[int, float]:
    """Image -> 1 - mean agreement of its annotators, for images that two or more of them have finished.

    Two annotators agree on the share of their shapes that the other drew too, with the same label (see `match_shapes`;
    points do not count), 1 where neither drew anything.
    """
    found: dict[int, float] = {}
    for item in agreement_items(project):
        pairs = list(combinations(item.documents.values(), 2))
        found[item.image] = 1 - sum(_agreement(*pair) for pair in pairs) / len(pairs)
    return found


def _agreement(one: Sequence[Annotation], other: Sequence[Annotation]) -> float:
    mine, theirs = ([a for a in some if a.shape and not isinstance(a.shape, Point)] for some in (one, other))
    if not mine and not theirs:
        return 1.0
    alike = sum(mine[i].label == theirs[j].label for i, j, _ in match_shapes(mine, theirs).matched)
    return 2 * alike / (len(mine) + len(theirs))
