"""Routes of images: the list, a document with its predictions, pixels, saving, history, labels."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from ...annotation import documents, listing, predictions
from ...annotation.codec import decode_annotations, decode_labels, encode_annotation, encode_label
from ...annotation.documents import Conflict, Document, Saved
from ...data.schema import SCENES
from .desk import Desk
from .messages import Refusal, Request, Response, Route, answer
from .pixels import THUMBNAIL

__all__ = ["IMAGE_ROUTES", "document_row", "outcome"]

SAVE_LIMIT = 48 * 2**20  # bytes; a document of 50,000 polygons
LISTED = ("state", "label", "scene", "text", "order")


def document_row(document: Document) -> dict[str, Any]:
    """A document as the page takes it."""
    row = asdict(document)
    row["annotations"] = json.loads(row.pop("body"))
    return row


def outcome(result: Saved | Conflict) -> Response:
    """200 with version and state, or 409 with what stands there."""
    if isinstance(result, Saved):
        return answer({"version": result.version, "state": result.state})
    return answer({"conflict": {"base": result.base_version, "current": document_row(result.current)}}, 409)


def session(desk: Desk, request: Request) -> Response:
    """Who I am, and what there is to choose from."""
    labels = documents.label_set(desk.project)
    person = request.person
    return answer(
        {
            "annotator": person.name, "annotates": person.annotates, "reviews": person.reviews,
            "project": desk.name, "language": desk.language, "scenes": SCENES,
            "labels": {"version": labels.version, "labels": [encode_label(label) for label in labels.labels]},
        }
    )  # fmt: skip


def list_images(desk: Desk, request: Request) -> Response:
    """A page of my list; with `everybody=1` a reviewer's, over all documents. `all=1` tells the ids of the whole list
    too, `ids=` asks for the facts of some of them: the list of a page that is open stays as it was when it was asked
    for."""
    given: dict[str, Any] = {name: request.query[name] for name in LISTED if request.query.get(name)}
    everybody = bool(request.query.get("everybody"))
    if everybody and not request.person.reviews:
        raise Refusal(403, "only reviewers see everybody's work")
    who = None if everybody else request.person.name
    page_of: dict[str, Any] = {"offset": request.number("offset", 0), "limit": request.number("limit", 100)}
    query = listing.ImageQuery(annotator=who, ids=request.numbers("ids"), **page_of, **given)
    everything: dict[str, Any] = {}
    if request.query.get("all"):
        ids = listing.image_ids(desk.project, query)
        everything = {"total": len(ids), "ids": ids}
        query = replace(query, ids=tuple(ids[query.offset :][: query.limit]), offset=0)
    page = listing.list_images(desk.project, query)
    rows = [asdict(summary) for summary in page.images]
    for row in rows if not request.person.reviews else []:
        row["reasons"].pop("annotators", None)  # who works blind is not told that others were of two minds
    return answer({"total": page.total, "images": rows, **everything})


def progress(desk: Desk, request: Request) -> Response:
    """How far I am; everybody's to reviewers alone, who is how fast says something of what they saw."""
    found = listing.progress(desk.project)
    people = {request.person.name} if not request.person.reviews else set(found.documents)
    shown = {name: states for name, states in found.documents.items() if name in people}
    return answer({"images": found.images, "documents": shown, "shapes": found.shapes, "undecided": found.undecided})


def show_image(desk: Desk, request: Request) -> Response:
    """An image, my document of it, what models propose, my reviews."""
    id = request.ids[0]
    facts = listing.image(desk.project, id)
    mine = documents.document(desk.project, id, request.person.name)
    proposed = predictions.predictions(desk.project, id, request.person.name)
    late = documents.conflicts(desk.project, id, request.person.name)
    return answer(
        {
            "image": {"id": id, "name": facts.name, "width": facts.width, "height": facts.height},
            "document": document_row(mine),
            "predictions": [{**asdict(p), "annotation": encode_annotation(p.annotation)} for p in proposed],
            "conflicts": len(late),
        }
    )


def save(desk: Desk, request: Request) -> Response:
    """Save my document on top of the version that it is based on."""
    annotations = decode_annotations(request.get("annotations", list))
    decisions = []
    for row in request.get("decisions", list, []):
        if not isinstance(row, dict) or row.keys() - {"prediction", "kind", "became"}:
            raise Refusal(400, "a decision that is none")
        decisions.append(predictions.Decision(row.get("prediction"), row.get("kind"), row.get("became", "")))  # type: ignore[arg-type]
    id, version = request.ids[0], request.get("version", int)
    return outcome(documents.save(desk.project, id, request.person.name, version, annotations, decisions))


def submit(desk: Desk, request: Request) -> Response:
    """I am done with this version."""
    return outcome(documents.submit(desk.project, request.ids[0], request.person.name, request.get("version", int)))


def reopen(desk: Desk, request: Request) -> Response:
    """I am not done with it after all; the state is the old one where somebody judged it before."""
    return outcome(documents.reopen(desk.project, request.ids[0], request.person.name, request.get("version", int)))


def restore(desk: Desk, request: Request) -> Response:
    """Make an earlier version of mine the newest."""
    earlier, base = request.get("earlier", int), request.get("version", int)
    return outcome(documents.restore(desk.project, request.ids[0], request.person.name, earlier, base))


def history(desk: Desk, request: Request) -> Response:
    """The versions of my document, and what came too late to be one."""
    id, name = request.ids[0], request.person.name
    versions = [asdict(version) for version in documents.history(desk.project, id, name)]
    late = [document_row(document) for document in documents.conflicts(desk.project, id, name)]
    said = [asdict(review) for review in documents.reviews(desk.project, id, name)]
    return answer({"versions": versions, "conflicts": late, "reviews": said})


def version(desk: Desk, request: Request) -> Response:
    """One earlier version of mine."""
    return answer(
        document_row(documents.document_at(desk.project, request.ids[0], request.person.name, request.ids[1]))
    )


def save_labels(desk: Desk, request: Request) -> Response:
    """Replace the label set."""
    labels = decode_labels(request.get("labels", list))
    stands, new = documents.save_labels(desk.project, request.get("version", int), labels, request.person.name)
    row = {"version": stands.version, "labels": [encode_label(label) for label in stands.labels]}
    return answer(row if new else {"conflict": row}, 200 if new else 409)


def thumbnail(desk: Desk, request: Request) -> Response:
    """The image, small."""
    return _picture(desk.pictures.preview(request.ids[0], THUMBNAIL))


def preview(desk: Desk, request: Request) -> Response:
    """The image as large as a screen."""
    return _picture(desk.pictures.preview(request.ids[0]))


def tile(desk: Desk, request: Request) -> Response:
    """A part of the image: level, column, row."""
    return _picture(desk.pictures.tile(*request.ids))


def _picture(data: bytes) -> Response:
    return Response(data, "image/jpeg")


IMAGE_ROUTES = (
    Route("GET", "/api/session", session),
    Route("GET", "/api/images", list_images),
    Route("GET", "/api/progress", progress),
    Route("GET", "/api/images/{id}", show_image),
    Route("GET", "/api/images/{id}/thumbnail", thumbnail),
    Route("GET", "/api/images/{id}/preview", preview),
    Route("GET", "/api/images/{id}/tiles/{id}/{id}/{id}", tile),
    Route("GET", "/api/images/{id}/history", history),
    Route("GET", "/api/images/{id}/versions/{id}", version),
    Route("POST", "/api/images/{id}/save", save, "annotator", SAVE_LIMIT),
    Route("POST", "/api/images/{id}/submit", submit, "annotator"),
    Route("POST", "/api/images/{id}/reopen", reopen, "annotator"),
    Route("POST", "/api/images/{id}/restore", restore, "annotator"),
    Route("POST", "/api/labels", save_labels, "annotator"),
)
