"""What an annotator says of an image, in versions: saved, submitted, reviewed, restored; and the label set.

A document belongs to one annotator and one image; nobody else's is needed to edit it, so annotators stay blind to
one another as long as a server shows each only their own. Every edit names the version that it is based on. If
another tab was faster, the answer is a `Conflict` with both sides, and the late side is kept in the project.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..data.paths import shown
from ..data.schema import choice, need
from .codec import decode_annotations, decode_labels, encode_annotation, encode_label, to_json
from .log import Edit
from .predictions import Decision, decision_edits
from .shapes import Annotation, AnnotationSet, Label, State, check_text
from .store import Plan, Project

__all__ = [
    "Conflict", "Document", "LabelSet", "Review", "Saved", "Verdict", "Version", "check_annotator", "check_image",
    "conflicts", "document", "document_at", "documents", "history", "label_set", "reopen", "restore", "review",
    "reviews", "save", "save_all", "save_labels", "submit",
]  # fmt: skip

Verdict: TypeAlias = Literal["accepted", "rejected"]
VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")
MAX_ANNOTATIONS = 50_000  # of one document
STAMPS = ("author", "created", "updated")  # set by the store, not by the page


@dataclass(frozen=True)
class Document:
    """One annotator's annotations of one image at one version; version 0, empty and "todo", is what nobody saved yet.

    body: the annotations as JSON text, for a page; `annotations` decodes it. comment, reviewer: of the last review.
    """

    image: int
    annotator: str
    version: int
    state: State
    body: str
    updated: str = ""
    comment: str = ""
    reviewer: str = ""

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Decoded anew at every use."""
        return decode_annotations(json.loads(self.body))


@dataclass(frozen=True)
class Saved:
    """The edit is on the disk; the document has this version and state now."""

    version: int
    state: State


@dataclass(frozen=True)
class Conflict:
    """Nothing was changed: the document is at another version than the edit was based on. `yours` is what was to be
    saved (None for a submit or a review), `current` what stands there."""

    base_version: int
    current: Document
    yours: tuple[Annotation, ...] | None = None


@dataclass(frozen=True)
class Version:
    """An entry of a document's history; `restored` is the version whose contents it took over, if any."""

    version: int
    time: str
    shapes: int
    restored: int | None


@dataclass(frozen=True)
class Review:
    """What a reviewer said of one version."""

    version: int
    reviewer: str
    verdict: Verdict
    comment: str
    time: str


@dataclass(frozen=True)
class LabelSet:
    """The labels in their order, and the version to base the next edit on."""

    version: int
    labels: tuple[Label, ...]


def check_annotator(annotator: str) -> None:
    """Refuse a name that is empty, longer than 200 characters, or not printable."""
    check_text(annotator, "the name of an annotator", 200, empty=False)
    need(annotator.isprintable(), f"the name {shown(annotator)!r} of an annotator", "printable characters")


def check_image(db: sqlite3.Connection, image: int) -> None:
    """Refuse an id that no image has."""
    ok = type(image) is int and 0 < image < 2**62
    ok = ok and db.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone()
    need(ok, f"no image {shown(image, 40)}", "the id of an image of the project")


_DOCUMENT = (
    "SELECT d.image, d.annotator, d.version, d.state, v.body, d.updated, d.comment, d.reviewer FROM documents d "
    "JOIN versions v ON v.image = d.image AND v.annotator = d.annotator AND v.version = d.version WHERE d.image = ?"
)


def _document(db: sqlite3.Connection, image: int, annotator: str) -> Document:
    check_annotator(annotator)
    check_image(db, image)
    row = db.execute(f"{_DOCUMENT} AND d.annotator = ?", (image, annotator)).fetchone()
    return Document(*row) if row else Document(image, annotator, 0, "todo", "[]")


def document(project: Project, image: int, annotator: str) -> Document:
    """The annotator's own document of an image."""
    with project.read() as db:
        return _document(db, image, annotator)


def documents(project: Project, image: int) -> list[Document]:
    """Everybody's documents of an image, for reviewers alone."""
    with project.read() as db:
        check_image(db, image)
        return [Document(*row) for row in db.execute(f"{_DOCUMENT} ORDER BY d.annotator", (image,))]


def save(
    project: Project, image: int, annotator: str, base_version: int, annotations: Sequence[Annotation],
    decisions: Sequence[Decision] = (),
) -> Saved | Conflict:  # fmt: skip
    """Save all annotations of a document, and what was decided about predictions, as one edit.

    author, created and updated of annotations that are new or changed are set here. What equals the current version
    makes no new one and no conflict. A document that was submitted or reviewed is being done again.
    """
    return project.commit(_plan_save(image, annotator, base_version, annotations, decisions))


def save_all(
    project: Project, items: Sequence[tuple[int, str, int, Sequence[Annotation]]], stamp: bool = False,
    state: State = "doing",
) -> list[Saved | Conflict]:  # fmt: skip
    """Many documents (image, annotator, base version, annotations) with few fsyncs, as an import needs it; without
    `stamp` authors and times stay as the source has them."""
    choice(state, ("doing", "submitted", "accepted"), "state")
    answers: list[Saved | Conflict] = []
    for start in range(0, len(items), 500):
        some = items[start : start + 500]
        answers += project.commit_all([_plan_save(*item, (), stamp=stamp, state=state) for item in some])
    return answers


def _plan_save(
    image: int, annotator: str, base: int, annotations: Sequence[Annotation], decisions: Sequence[Decision],
    stamp: bool = True, state: State = "doing", restored: int | None = None,
) -> Plan[Saved | Conflict]:  # fmt: skip
    need(len(annotations) <= MAX_ANNOTATIONS, f"{len(annotations)} annotations", f"at most {MAX_ANNOTATIONS}")
    rows = [encode_annotation(annotation) for annotation in annotations]
    need(len({row["id"] for row in rows}) == len(rows), "an annotation id that stands twice", "every id once")

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], Saved | Conflict]:
        current = _document(db, image, annotator)
        old = json.loads(current.body)
        key = {"image": image, "annotator": annotator}
        edits = decision_edits(db, image, annotator, decisions)
        if current.version and _bare(old) == _bare(rows):
            return edits, Saved(current.version, current.state)
        if base != current.version:
            body = to_json(rows)
            known = "SELECT 1 FROM conflicts WHERE image = ? AND annotator = ? AND base = ? AND body = ?"
            kept = db.execute(known, (image, annotator, base, body)).fetchone()
            edit = Edit("conflict", {**key, "base": base, "annotations": rows})
            return ([] if kept else [edit]), Conflict(base, current, tuple(annotations))
        stamped = _stamped(rows, old, annotator, time) if stamp else rows
        data = {**key, "version": current.version + 1, "annotations": stamped, "state": state}
        if restored is not None:
            data["restored"] = restored
        return [Edit("save", data), *edits], Saved(current.version + 1, state)

    need(type(base) is int and base >= 0, f"version {shown(base, 40)!r}", "the version that the edit is based on")
    return plan


def _bare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in STAMPS} for row in rows]


def _stamped(rows: list[dict[str, Any]], old: list[dict[str, Any]], annotator: str, time: str) -> list[dict[str, Any]]:
    """The rows with author and times: of the old row where nothing else differs, else of now."""
    before = {row["id"]: row for row in old}
    result = []
    for row, bare in zip(rows, _bare(rows), strict=True):
        known = before.get(row["id"])
        if known is not None and _bare([known]) == [bare]:
            result.append(known)
        else:
            created = known.get("created", time) if known else time
            result.append({**bare, "author": annotator, "created": created, "updated": time})
    return result


def submit(project: Project, image: int, annotator: str, version: int) -> Saved | Conflict:
    """The annotator is done with this version. Raises UserError: nothing saved yet."""

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], Saved | Conflict]:
        current = _document(db, image, annotator)
        need(current.version, f"image {image} has nothing saved", "a saved version, an empty one too")
        if version != current.version:
            return [], Conflict(version, current)
        edit = Edit("submit", {"image": image, "annotator": annotator, "version": version})
        again = current.state in ("submitted", "accepted")
        return ([], Saved(version, current.state)) if again else ([edit], Saved(version, "submitted"))

    return project.commit(plan)


def reopen(project: Project, image: int, annotator: str, version: int) -> Saved | Conflict:
    """Take a submission back: a new version with the same contents that is being done again. One that is being done, or
    that was judged meanwhile, stays as it is. Raises UserError: nothing saved yet."""

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], Saved | Conflict]:
        current = _document(db, image, annotator)
        need(current.version, f"image {image} has nothing saved", "a saved version, an empty one too")
        if version != current.version:
            return [], Conflict(version, current)
        if current.state != "submitted":
            return [], Saved(version, current.state)
        data = {"image": image, "annotator": annotator, "version": version + 1, "state": "doing", "restored": version}
        return [Edit("save", {**data, "annotations": json.loads(current.body)})], Saved(version + 1, "doing")

    return project.commit(plan)


def review(
    project: Project, image: int, annotator: str, version: int, reviewer: str, verdict: Verdict, comment: str = ""
) -> Saved | Conflict:
    """Accept or reject a submitted version, with a comment for the annotator; a verdict may be changed.

    Raises:
        UserError: a document that was not submitted.
    """
    choice(verdict, VERDICTS, "verdict")
    check_annotator(reviewer)
    check_text(comment, "the comment", 10_000)

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], Saved | Conflict]:
        current = _document(db, image, annotator)
        if version != current.version:
            return [], Conflict(version, current)
        need(current.state in ("submitted", *VERDICTS), f"a document that is {current.state!r}", "a submitted one")
        data = {"image": image, "annotator": annotator, "version": version}
        edit = Edit("review", {**data, "reviewer": reviewer, "verdict": verdict, "comment": comment})
        return [edit], Saved(version, verdict)

    return project.commit(plan)


def reviews(project: Project, image: int, annotator: str) -> list[Review]:
    """All reviews of a document, the oldest first."""
    with project.read() as db:
        query = "SELECT version, reviewer, verdict, comment, time FROM reviews WHERE image = ? AND annotator = ?"
        return [Review(*row) for row in db.execute(f"{query} ORDER BY id", (image, annotator))]


def history(project: Project, image: int, annotator: str) -> list[Version]:
    """Every version of a document, the oldest first."""
    with project.read() as db:
        query = "SELECT version, time, shapes, restored FROM versions WHERE image = ? AND annotator = ?"
        return [Version(*row) for row in db.execute(f"{query} ORDER BY version", (image, annotator))]


def document_at(project: Project, image: int, annotator: str, version: int) -> Document:
    """A document as it was at an earlier version. Raises UserError: no such version."""
    with project.read() as db:
        current = _document(db, image, annotator)
        query = "SELECT body, time FROM versions WHERE image = ? AND annotator = ? AND version = ?"
        row = db.execute(query, (image, annotator, version)).fetchone()
        need(row, f"version {shown(version, 40)} of image {image}", f"1 to {current.version}")
        return Document(image, annotator, version, "doing", row[0], row[1])


def restore(project: Project, image: int, annotator: str, version: int, base_version: int) -> Saved | Conflict:
    """Make an earlier version the newest again; the ones between stay in the history."""
    earlier = document_at(project, image, annotator, version).annotations
    return project.commit(_plan_save(image, annotator, base_version, earlier, (), stamp=False, restored=version))


def conflicts(project: Project, image: int, annotator: str) -> list[Document]:
    """What came too late to be saved, the oldest first; `version` is the one that it was based on."""
    with project.read() as db:
        query = "SELECT base, body, time FROM conflicts WHERE image = ? AND annotator = ? ORDER BY id"
        rows = db.execute(query, (image, annotator)).fetchall()
    return [Document(image, annotator, base, "doing", body, time) for base, body, time in rows]


def label_set(project: Project) -> LabelSet:
    """The labels to choose from now."""
    with project.read() as db:
        return _label_set(db)


def _label_set(db: sqlite3.Connection) -> LabelSet:
    version, body = db.execute("SELECT version, body FROM label_sets ORDER BY version DESC LIMIT 1").fetchone()
    return LabelSet(version, decode_labels(json.loads(body)))


def save_labels(project: Project, base_version: int, labels: Sequence[Label], author: str) -> tuple[LabelSet, bool]:
    """Replace the label set; annotations keep the labels they have, also ones that are deleted, and go on being saved
    with them.

    Returns:
        The label set that stands now, and whether it is the new one (False: somebody else was faster).
    """
    check_annotator(author)
    new = AnnotationSet(labels=tuple(labels)).labels

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], tuple[LabelSet, bool]]:
        current = _label_set(db)
        if current.labels == new:
            return [], (current, True)
        if current.version != base_version:
            return [], (current, False)
        version = current.version + 1
        data = {"version": version, "labels": [encode_label(label) for label in new], "author": author}
        return [Edit("labels", data)], (LabelSet(version, new), True)

    return project.commit(plan)
