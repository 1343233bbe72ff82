"""What models propose, kept apart from human work, and what each annotator decided about it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..data.paths import shown
from ..data.schema import choice, need
from .codec import decode_annotation, encode_annotation
from .log import Edit
from .shapes import Annotation, check_text
from .store import Project

__all__ = [
    "DECISIONS", "Decision", "DecisionKind", "Prediction", "decision_edits",
    "import_predictions", "predictions", "predictions_by_name",
]  # fmt: skip

DecisionKind: TypeAlias = Literal["accept", "edit", "reject", "open"]
DECISIONS: tuple[DecisionKind, ...] = ("accept", "edit", "reject", "open")


@dataclass(frozen=True)
class Prediction:
    """One annotation that a model proposes; `decision` is what the annotator who asked decided about it, if anything,
    and `became` the id of the annotation that it became."""

    id: int
    image: int
    model_version: str
    score: float | None
    annotation: Annotation
    decision: DecisionKind | None = None
    became: str = ""


@dataclass(frozen=True)
class Decision:
    """Accepted as it is, accepted with changes, rejected, or open again (an undo); `became` is the id of the annotation
    made of it."""

    prediction: int
    kind: DecisionKind
    became: str = ""

    def __post_init__(self) -> None:
        choice(self.kind, DECISIONS, "decision")
        need(type(self.prediction) is int, f"prediction {shown(self.prediction, 40)!r}", "its id")
        check_text(self.became, "the id of an annotation", 1_000)


def import_predictions(
    project: Project, model_version: str, items: Sequence[tuple[int, Sequence[Annotation]]]
) -> list[int]:
    """Add what a model says of images (id, annotations with their scores); it takes the place of what the same model
    version said of them before. Returns the new predictions' ids, image by image."""
    check_text(model_version, "the version of the model", 200, empty=False)

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], list[int]]:
        edits, ids = [], []
        number = db.execute("SELECT coalesce(max(id), 0) FROM predictions").fetchone()[0]
        for image, proposed in items:
            known = db.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone()
            need(known, f"no image {shown(image, 40)}", "the id of an image of the project")
            rows = []
            for annotation in proposed:
                number += 1
                mine = replace(annotation, source="prediction", model_version=model_version)
                rows.append({"id": number, "annotation": encode_annotation(mine)})
                ids.append(number)
            edits.append(Edit("predict", {"image": image, "model_version": model_version, "rows": rows}))
        return edits, ids

    return project.commit(plan)


def predictions(project: Project, image: int, annotator: str, model_version: str = "") -> list[Prediction]:
    """The newest predictions of an image, of one model version or of all, with the annotator's own decisions."""
    with project.read() as db:
        rows = db.execute(
            "SELECT p.id, p.image, p.model_version, p.score, p.body, nullif(d.decision, 'open'), "
            "coalesce(d.annotation, '') FROM predictions p LEFT JOIN decisions d "
            "ON d.prediction = p.id AND d.annotator = ? WHERE p.image = ? AND p.current AND ? IN ('', p.model_version) "
            "ORDER BY p.id",
            (annotator, image, model_version),
        ).fetchall()
    return [
        Prediction(id, of, model, score, decode_annotation(json.loads(body)), decision, became)
        for id, of, model, score, body, decision, became in rows
    ]


def predictions_by_name(project: Project) -> dict[str, list[Annotation]]:
    """Image name -> the newest predictions of every model version, in the order in which they came."""
    found: dict[str, list[Annotation]] = {}
    with project.read() as db:
        query = "SELECT i.name, p.body FROM predictions p JOIN images i ON i.id = p.image WHERE p.current ORDER BY p.id"
        for name, body in db.execute(query):
            found.setdefault(name, []).append(decode_annotation(json.loads(body)))
    return found


def decision_edits(db: sqlite3.Connection, image: int, annotator: str, decisions: Sequence[Decision]) -> list[Edit]:
    """The edits of decisions about an image's predictions, without those that stand already."""
    edits = []
    for decision in decisions:
        query = (
            "SELECT d.decision, d.annotation FROM predictions p LEFT JOIN decisions d ON d.prediction = p.id "
            "AND d.annotator = ? WHERE p.id = ? AND p.image = ?"
        )
        row = db.execute(query, (annotator, decision.prediction, image)).fetchone()
        need(
            row, f"no prediction {decision.prediction} of image {shown(image, 40)}", "the id of one of its predictions"
        )
        if row != (decision.kind, decision.became) and (row[0], decision.kind) != (None, "open"):
            data = {"prediction": decision.prediction, "annotator": annotator, "decision": decision.kind}
            edits.append(Edit("decide", {**data, "annotation": decision.became}))
    return edits
