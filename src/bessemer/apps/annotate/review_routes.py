"""Routes of rankings, reviews, agreement and snapshots."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from ...annotation import documents, listing, rankings
from ...annotation.snapshot import create_snapshot, list_snapshots
from .agreement import class_agreement, ranking_agreement
from .desk import Desk
from .image_routes import document_row, outcome
from .messages import Refusal, Request, Response, Route, answer

__all__ = ["REVIEW_ROUTES", "csv_cell"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def list_rankings(desk: Desk, request: Request) -> Response:
    """The tasks, numbered from 1, with my versions."""
    tasks = rankings.ranking_tasks(desk.project, request.person.name)
    return answer({"tasks": [{"number": n, "id": id, "version": v} for n, (id, v) in enumerate(tasks, 1)]})


def _task(desk: Desk, request: Request) -> str:
    tasks = rankings.ranking_tasks(desk.project, request.person.name)
    number = request.ids[0]
    if not 1 <= number <= len(tasks):
        raise Refusal(404, "no such question")
    return tasks[number - 1][0]


def _turn_row(desk: Desk, turn: rankings.RankingTurn) -> dict[str, Any]:
    """A turn; of the prompt's images only those that are in the project, by their bytes: a path in a record opens
    nothing."""
    task = turn.task
    images = [image.sha256 for message in task.prompt.messages for image in message.images]
    known = listing.images_by_sha256(desk.project) if images else {}
    return {
        "id": task.id, "messages": [{"role": m.role, "text": m.text} for m in task.prompt.messages],
        "images": [known[sha256][0] if sha256 in known else None for sha256 in images],
        "responses": task.responses, "principles": task.principles, "version": turn.version, "ranks": turn.ranks,
        "shown_order": turn.shown_order,
    }  # fmt: skip


def show_ranking(desk: Desk, request: Request) -> Response:
    """A question, its answers in my order, my ranks."""
    turn = rankings.ranking_turn(desk.project, _task(desk, request), request.person.name)
    return answer(_turn_row(desk, turn))


def save_ranking(desk: Desk, request: Request) -> Response:
    """Save my ranks."""
    ranks, order = request.get("ranks", dict), request.get("shown_order", list)
    if not all(isinstance(places, list) for places in ranks.values()):
        raise Refusal(400, "ranks that are no lists")
    turn, new = rankings.save_ranking(
        desk.project, _task(desk, request), request.person.name, request.get("version", int), ranks, order
    )
    return answer({"version": turn.version}) if new else answer({"conflict": _turn_row(desk, turn)}, 409)


def all_documents(desk: Desk, request: Request) -> Response:
    """Everybody's documents of an image, with their reviews."""
    found = documents.documents(desk.project, request.ids[0])
    rows = []
    for document in found:
        said = documents.reviews(desk.project, document.image, document.annotator)
        rows.append({**document_row(document), "reviews": [asdict(review) for review in said]})
    return answer({"documents": rows})


def review(desk: Desk, request: Request) -> Response:
    """Accept or reject a submitted version."""
    annotator, version = request.get("annotator", str), request.get("version", int)
    verdict, comment = request.get("verdict", str), request.get("comment", str, "")
    id, reviewer = request.ids[0], request.person.name
    return outcome(documents.review(desk.project, id, annotator, version, reviewer, verdict, comment))


def agreement(desk: Desk, request: Request) -> Response:
    """The dashboard's numbers."""
    if not desk.slow.acquire(timeout=30):
        raise Refusal(429, "the agreement is being computed already", {"Retry-After": "5"})
    try:
        shapes = class_agreement(listing.agreement_items(desk.project))
        return answer({"shapes": shapes, "rankings": ranking_agreement(rankings.rankings(desk.project))})
    finally:
        desk.slow.release()


def snapshots(desk: Desk, request: Request) -> Response:
    """The snapshots that there are."""
    rows = [{"hash": hash, "created": time, "counts": counts} for hash, time, counts in list_snapshots(desk.project)]
    return answer({"snapshots": rows})


def snapshot(desk: Desk, request: Request) -> Response:
    """Freeze what is accepted (or in the given states)."""
    states = request.get("states", list, ["accepted"])
    with desk.slow:
        made = create_snapshot(desk.project, tuple(states))
    return answer({"hash": made.hash, "created": made.created, "counts": made.manifest["counts"]})


def csv_cell(value: object) -> str:
    """Text for a CSV cell that no spreadsheet takes for a formula (Gradio CVE-2022-24770)."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def table(desk: Desk, request: Request) -> Response:
    """All images with the state of the work, as CSV."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["id", "name", "width", "height", "state", "version", "shapes", "score"])
    offset = 0
    while True:
        page = listing.list_images(desk.project, listing.ImageQuery(offset=offset, limit=1_000))
        for row in page.images:
            score = "" if row.score is None else row.score
            cells = (row.id, row.name, row.width, row.height, row.state, row.version, row.shapes, score)
            writer.writerow([csv_cell(cell) for cell in cells])
        offset += len(page.images)
        if offset >= page.total or not page.images:
            break
    headers = {"Content-Disposition": 'attachment; filename="images.csv"'}
    return Response("\ufeff".encode() + file.getvalue().encode(), "text/csv; charset=utf-8", headers=headers)


REVIEW_ROUTES = (
    Route("GET", "/api/rankings", list_rankings),
    Route("GET", "/api/rankings/{id}", show_ranking),
    Route("POST", "/api/rankings/{id}/save", save_ranking, "annotator"),
    Route("GET", "/api/images/{id}/documents", all_documents, "reviewer"),
    Route("POST", "/api/images/{id}/review", review, "reviewer"),
    Route("GET", "/api/agreement", agreement, "reviewer"),
    Route("GET", "/api/snapshots", snapshots, "reviewer"),
    Route("POST", "/api/snapshots", snapshot, "reviewer"),
    Route("GET", "/api/images.csv", table, "reviewer"),
)
