"""The images of a project: added, found, counted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..data.paths import check_path, resolve_path, shown
from ..data.schema import choice, need
from .codec import decode_annotations
from .documents import check_annotator, check_image
from .log import Edit
from .shapes import STATES, AnnotatedImage, Annotation, State
from .store import Project

__all__ = [
    "AgreementItem", "ImagePage", "ImageQuery", "ImageSummary", "Order", "Progress", "add_images",
    "agreement_items", "held_images", "ids_in_state", "image", "image_file", "image_ids", "images_by_sha256",
    "list_images", "progress",
]  # fmt: skip

Order: TypeAlias = Literal["id", "name", "queue", "score", "margin", "updated"]
ORDERS: tuple[Order, ...] = ("id", "name", "queue", "score", "margin", "updated")
MAX_PAGE = 1_000


@dataclass(frozen=True)
class ImageQuery:
    """Which images to list.

    annotator: see their own documents alone; None sees everybody's (reviewers). state: of the annotator's document,
    or of anybody's; "todo" is no document. label, scene: used in such a document. text: part of the image's name, or
    of a caption or label in such a document. order: "queue" is what teaches most first (`annotation.queue`), "score"
    the lowest score of a prediction, "margin" the prediction nearest to an even chance, "updated" the newest. offset,
    limit: the page. ids: these images, in this order, whatever the other conditions.
    """

    annotator: str | None = None
    state: State | None = None
    label: str = ""
    scene: str = ""
    text: str = ""
    order: Order = "id"
    offset: int = 0
    limit: int = 100
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.annotator is not None:
            check_annotator(self.annotator)
        if self.state is not None:
            choice(self.state, STATES, "state")
        choice(self.order, ORDERS, "order")
        ok = type(self.offset) is int and 0 <= self.offset < 2**62
        need(ok and type(self.limit) is int and 1 <= self.limit <= MAX_PAGE, "such a page", f"limit 1 to {MAX_PAGE}")
        need(len(self.ids or ()) <= MAX_PAGE, "that many images at once", f"at most {MAX_PAGE}")


@dataclass(frozen=True)
class ImageSummary:
    """One line of a list. state, version and shapes are of the annotator's document; without an annotator, the number
    of all shapes and the state of the document changed last. reasons: why it waits in the queue; {} if it does not."""

    id: int
    name: str
    width: int
    height: int
    state: State
    version: int
    shapes: int
    score: float | None
    reasons: dict[str, float]


@dataclass(frozen=True)
class ImagePage:
    """A page of a list and how many there are in all."""

    total: int
    images: tuple[ImageSummary, ...]


@dataclass(frozen=True)
class Progress:
    """How far the work is: images; those that nobody began; annotator -> state -> documents; shapes in all documents;
    predictions that nobody has decided about."""

    images: int
    untouched: int
    documents: dict[str, dict[State, int]]
    shapes: int
    undecided: int


@dataclass(frozen=True)
class AgreementItem:
    """An image that two or more annotators finished, and what each says of it."""

    image: int
    width: int
    height: int
    documents: dict[str, tuple[Annotation, ...]]


def add_images(project: Project, root: Path, images: Sequence[AnnotatedImage]) -> list[int]:
    """Register images by their names relative to the folder `root`, which the operator named; their ids. One that is
    there already with the same bytes keeps its id and its folder.

    Raises:
        UserError: no sha256; a name that is there with other bytes, or from a folder that has lost it; a name that
            leaves `root`.
    """
    folder = str(root.resolve())
    for item in images:
        check_path(item.name)
        resolve_path(item.name, root, allow_absolute=False)
        need(item.sha256, f"{item.name} without sha256", "the hash of its bytes")

    def plan(db: sqlite3.Connection, time: str) -> tuple[list[Edit], list[int]]:
        row = db.execute("SELECT id FROM roots WHERE path = ?", (folder,)).fetchone()
        number = row[0] if row else db.execute("SELECT coalesce(max(id), 0) + 1 FROM roots").fetchone()[0]
        free = db.execute("SELECT coalesce(max(id), 0) + 1 FROM images").fetchone()[0]
        ids: list[int] = []
        rows: list[dict[str, Any]] = []
        for item in images:
            query = "SELECT i.id, i.sha256, r.path FROM images i JOIN roots r ON r.id = i.root WHERE i.name = ?"
            known = db.execute(query, (item.name,)).fetchone()
            if known:
                id, sha256, place = known
                _check_known(item, sha256, Path(place), folder == place)
                ids.append(id)
                continue
            size = {"width": item.width, "height": item.height, "orientation": item.exif_orientation}
            rows.append({"id": free, "name": item.name, "sha256": item.sha256, **size, "raw": item.raw})
            ids.append(free)
            free += 1
        edits = [
            Edit("images", {"root": {"id": number, "path": folder}, "images": rows[start : start + 2_000]})
            for start in range(0, len(rows), 2_000)
        ]
        return edits, ids

    need(len({item.name for item in images}) == len(images), "an image name that stands twice", "every name once")
    return project.commit(plan)


def _check_known(item: AnnotatedImage, sha256: str, place: Path, same: bool) -> None:
    need(
        item.sha256 == sha256,
        f"{item.name} is in the project with other bytes, from {shown(place)}",
        "the same file; give the new one another name, or, if annotations of the old one are to be imported, say "
        f"images={shown(place)}",
    )
    need(
        same or (place / item.name).is_file(),
        f"{item.name} is in the project from another folder, {shown(place)}, which does not have it any more",
        "it there; put the folder back, or a link to where it is now",
    )


def held_images(project: Project) -> set[tuple[str, str]]:
    """(name, sha256) of the images whose file is where it was added from."""
    with project.read() as db:
        rows = db.execute("SELECT i.name, i.sha256, r.path FROM images i JOIN roots r ON r.id = i.root").fetchall()
    return {(name, sha256) for name, sha256, folder in rows if (Path(folder) / name).is_file()}


def image(project: Project, id: int) -> AnnotatedImage:
    """What is known of an image, without annotations. Raises UserError: no such id."""
    with project.read() as db:
        check_image(db, id)
        query = "SELECT name, width, height, sha256, orientation, raw FROM images WHERE id = ?"
        *facts, raw = db.execute(query, (id,)).fetchone()
    return replace(AnnotatedImage(*facts), raw=json.loads(raw))


def image_file(project: Project, id: int) -> Path:
    """The file of an image, under the folder that it was added from. Raises UserError: no such id; a link that leads
    out of the folder. Whether the bytes still have their hash is for the reader to check."""
    with project.read() as db:
        check_image(db, id)
        query = "SELECT r.path, i.name FROM images i JOIN roots r ON r.id = i.root WHERE i.id = ?"
        root, name = db.execute(query, (id,)).fetchone()
    return resolve_path(name, Path(root), allow_absolute=False)


def images_by_sha256(project: Project) -> dict[str, list[int]]:
    """Hash -> ids of the images with these bytes; more than one where a photograph was added under two names."""
    found: dict[str, list[int]] = {}
    with project.read() as db:
        for sha256, id in db.execute("SELECT sha256, id FROM images ORDER BY id"):
            found.setdefault(sha256, []).append(id)
    return found


_REASONS = "coalesce((SELECT q.reasons FROM queue q WHERE q.image = i.id), '{}')"
_PRIORITY = "(SELECT q.priority FROM queue q WHERE q.image = i.id)"
_MARGIN = "(SELECT min(abs(2 * p.score - 1)) FROM predictions p WHERE p.image = i.id AND p.current)"
_ORDER_SQL = {
    "id": "i.id", "name": "i.name, i.id", "queue": f"{_PRIORITY} IS NULL, {_PRIORITY} DESC, i.id",
    "score": "i.score IS NULL, i.score, i.id", "margin": f"{_MARGIN} IS NULL, {_MARGIN}, i.id",
    "updated": "updated DESC, i.id",
}  # fmt: skip


def _where(query: ImageQuery) -> tuple[str, list[Any]]:
    """The condition on images i, and its values."""
    if query.ids is not None:
        return f"i.id IN ({', '.join('?' * len(query.ids))})", list(query.ids)
    mine, who = ("", []) if query.annotator is None else (" AND x.annotator = ?", [query.annotator])
    exists = f"EXISTS (SELECT 1 FROM documents x WHERE x.image = i.id{mine}"
    parts: list[str] = []
    values: list[Any] = []
    if query.state == "todo":
        parts.append(f"NOT {exists})")
        values += who
    elif query.state is not None:
        parts.append(f"{exists} AND x.state = ?)")
        values += [*who, query.state]
    for kind, value in (("label", query.label), ("scene", query.scene)):
        if value:
            parts.append(f"i.id IN (SELECT x.image FROM terms x WHERE x.kind = ? AND x.value = ?{mine})")
            values += [kind, value, *who]
    if query.text:
        words = query.text.casefold()
        parts.append(f"(instr(i.search, ?) OR {exists} AND instr(x.words, ?)))")
        values += [words, *who, words]
    return " AND ".join(parts) or "1", values


def _selected(query: ImageQuery, facts: bool) -> tuple[str, list[Any]]:
    """The statement of the images that a query means, without a page, in its order: ids, or what a summary holds."""
    where, values = _where(query)
    if query.annotator is None:
        last = "(SELECT {} FROM documents y WHERE y.image = i.id ORDER BY y.updated DESC LIMIT 1)"
        state, version, updated = (last.format(f"y.{name}") for name in ("state", "version", "updated"))
        shapes, join, who = "(SELECT sum(y.shapes) FROM documents y WHERE y.image = i.id)", "", []
    else:
        state, version, updated, shapes = "d.state", "d.version", "d.updated", "d.shapes"
        join, who = "LEFT JOIN documents d ON d.image = i.id AND d.annotator = ?", [query.annotator]
    more = (
        f"i.name, i.width, i.height, coalesce({state}, 'todo'), coalesce({version}, 0), coalesce({shapes}, 0), "
        f"i.score, {_REASONS}, "
    )
    return (
        f"SELECT i.id, {more if facts else ''}{updated} AS updated FROM images i {join} WHERE {where} "
        f"ORDER BY {_ORDER_SQL[query.order]}",
        [*who, *values],
    )


def list_images(project: Project, query: ImageQuery) -> ImagePage:
    """The images that a query means."""
    where, values = _where(query)
    statement, all_values = _selected(query, facts=True)
    with project.read() as db:
        total = db.execute(f"SELECT count(*) FROM images i WHERE {where}", values).fetchone()[0]
        rows = db.execute(f"{statement} LIMIT ? OFFSET ?", [*all_values, query.limit, query.offset]).fetchall()
    found = [ImageSummary(*row[:-2], *map(json.loads, row[-2:-1])) for row in rows]
    if query.ids is not None:
        place = {id: number for number, id in enumerate(query.ids)}
        found.sort(key=lambda each: place[each.id])
    return ImagePage(total, tuple(found))


def image_ids(project: Project, query: ImageQuery) -> list[int]:
    """All the images that a query means, whatever its page, in its `order`."""
    statement, values = _selected(query, facts=False)
    with project.read() as db:
        return [id for id, _ in db.execute(statement, values)]


def ids_in_state(project: Project, state: State) -> list[int]:
    """Every image that has a document in this state; of "todo", every one that nobody has touched."""
    where, values = _where(ImageQuery(state=state))
    with project.read() as db:
        return [id for (id,) in db.execute(f"SELECT i.id FROM images i WHERE {where} ORDER BY i.id", values)]


def progress(project: Project) -> Progress:
    """How far the work is."""
    by_annotator: dict[str, dict[State, int]] = {}
    with project.read() as db:
        images = db.execute("SELECT count(*) FROM images").fetchone()[0]
        touched, shapes = db.execute("SELECT count(DISTINCT image), coalesce(sum(shapes), 0) FROM documents").fetchone()
        query = "SELECT annotator, state, count(*) FROM documents GROUP BY annotator, state ORDER BY annotator, state"
        for annotator, state, count in db.execute(query):
            by_annotator.setdefault(annotator, {})[state] = count
        open_ = "SELECT count(*) FROM predictions p WHERE current AND NOT EXISTS (SELECT 1 FROM decisions d"
        undecided = db.execute(f"{open_} WHERE d.prediction = p.id AND d.decision <> 'open')").fetchone()[0]
    return Progress(images, images - touched, by_annotator, shapes, undecided)


def agreement_items(project: Project, states: Sequence[State] = ("submitted", "accepted")) -> Iterator[AgreementItem]:
    """Images with documents of two or more annotators in these states, in the order of their ids."""
    marks = ", ".join("?" * len(states))
    with project.read() as db:
        rows = db.execute(
            "SELECT d.image, i.width, i.height, d.annotator, v.body FROM documents d JOIN images i ON i.id = d.image "
            "JOIN versions v ON v.image = d.image AND v.annotator = d.annotator AND v.version = d.version "
            f"WHERE d.state IN ({marks}) AND d.image IN (SELECT image FROM documents WHERE state IN ({marks}) "
            "GROUP BY image HAVING count(*) > 1) ORDER BY d.image, d.annotator",
            (*states, *states),
        )
        item: AgreementItem | None = None
        for id, width, height, annotator, body in rows:
            if item is None or item.image != id:
                if item is not None:
                    yield item
                item = AgreementItem(id, width, height, {})
            item.documents[annotator] = decode_annotations(json.loads(body))
        if item is not None:
            yield item
