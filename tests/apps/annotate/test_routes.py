from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest

from bessemer.annotation.documents import save, submit
from bessemer.annotation.queue import Queued, set_queue
from bessemer.annotation.rankings import rankings
from bessemer.annotation.store import Project
from bessemer.apps.annotate.review_routes import csv_cell
from bessemer.apps.annotate.server import Server
from drawn_project import PRINCIPLES, shapes_of
from page_client import Client

BOX = {"kind": "box", "x": 1.5, "y": 2.0, "width": 30.0, "height": 40.25}


def box(id: str = "1", **more: Any) -> dict[str, Any]:
    return {"id": id, "label": "crack", "shape": BOX, **more}


def test_a_document_is_saved_submitted_taken_back_and_restored(ann: Client) -> None:
    assert ann.post("/api/images/1/save", {"version": 0, "annotations": [box()]}).json == {
        "version": 1,
        "state": "doing",
    }
    shown = ann.get("/api/images/1").json
    assert shown["image"] == {"id": 1, "name": "cell-001.png", "width": 640, "height": 640}
    own = shown["document"]["annotations"][0]
    assert own["shape"] == BOX and own["author"] == "ann" and own["updated"]
    assert ann.post("/api/images/1/submit", {"version": 1}).json["state"] == "submitted"
    assert ann.post("/api/images/1/reopen", {"version": 1}).json == {"version": 2, "state": "doing"}
    assert ann.post("/api/images/1/reopen", {"version": 2}).json == {"version": 2, "state": "doing"}
    assert ann.post("/api/images/1/reopen", {"version": 1}).status == 409
    assert ann.post("/api/images/1/save", {"version": 2, "annotations": []}).json["version"] == 3
    assert ann.post("/api/images/1/restore", {"earlier": 1, "version": 3}).json["version"] == 4
    history = ann.get("/api/images/1/history").json
    assert [(v["version"], v["shapes"], v["restored"]) for v in history["versions"]] == [
        (1, 1, None), (2, 1, 1), (3, 0, None), (4, 1, 1),
    ]  # fmt: skip
    assert ann.get("/api/images/1/versions/3").json["annotations"] == []
    assert ann.get("/api/images/1/versions/9").status == 422
    assert ann.post("/api/images/99/save", {"version": 0, "annotations": []}).status == 422
    assert ann.get("/api/images/99").status == 422


def test_a_late_save_is_a_conflict_and_both_are_kept(ann: Client) -> None:
    ann.post("/api/images/1/save", {"version": 0, "annotations": [box()]})
    late = ann.post("/api/images/1/save", {"version": 0, "annotations": [box("2", text="late")]})
    assert late.status == 409
    conflict = late.json["conflict"]
    assert conflict["base"] == 0 and conflict["current"]["version"] == 1
    assert [each["id"] for each in conflict["current"]["annotations"]] == ["1"]
    assert ann.get("/api/images/1").json["conflicts"] == 1
    kept = ann.get("/api/images/1/history").json["conflicts"]
    assert [each["annotations"][0]["text"] for each in kept] == ["late"]


def test_annotators_are_blind_to_each_other(project: Project, ann: Client, bo: Client, dora: Client) -> None:
    save(project, 1, "bo", 0, shapes_of(0))
    submit(project, 1, "bo", 1)
    bo.post("/api/labels", {"version": 1, "labels": [{"name": "new"}]})
    shown = json.dumps(
        [ann.get(p).json for p in ("/api/images/1", "/api/images", "/api/progress", "/api/images/1/history")]
    )
    assert "bo" not in re.findall(r'"(\w+)"', shown) and "busbar" not in shown and '"version": 1' not in shown
    assert ann.get("/api/images?label=busbar").json["total"] == 0
    assert ann.get("/api/images?text=carries").json["total"] == 0
    assert bo.get("/api/images?label=busbar").json["total"] == 1
    seen = dora.get("/api/images?everybody=1&state=submitted").json
    assert [row["id"] for row in seen["images"]] == [1]
    assert dora.get("/api/images/1/documents").json["documents"][0]["annotator"] == "bo"


def test_why_an_image_waits_is_shown_but_not_that_others_disagree(ann: Client, dora: Client, project: Project) -> None:
    set_queue(project, [Queued(2, 0.9, {"annotators": 0.8, "margin": 0.4})])
    first = ann.get("/api/images?order=queue").json["images"][0]
    assert first["id"] == 2 and first["reasons"] == {"margin": 0.4}
    reviewed = dora.get("/api/images?order=queue&everybody=1").json["images"]
    assert reviewed[0]["reasons"] == {"annotators": 0.8, "margin": 0.4} and reviewed[1]["reasons"] == {}


def test_the_list_is_filtered_ordered_and_paged(ann: Client) -> None:
    ann.post(
        "/api/images/3/save",
        {"version": 0, "annotations": [box(text="裂纹 here"), {"id": "s", "scene": "environment"}]},
    )

    def ids(query: str) -> list[int]:
        return [row["id"] for row in ann.get(f"/api/images?{query}").json["images"]]

    assert ids("") == [1, 2, 3, 4] and ids("offset=1&limit=2") == [2, 3]
    assert ids("state=doing") == ids("label=crack") == ids("scene=environment") == [3]
    assert ids("text=%E8%A3%82") == [3] and ids("text=CELL-004") == [4]
    assert ids("order=score") == [1, 2, 4, 3] and ids("order=updated")[0] == 3
    whole = ann.get("/api/images?all=1&order=score&limit=2&offset=1").json
    assert (whole["ids"], whole["total"]) == ([1, 2, 4, 3], 4) and [row["id"] for row in whole["images"]] == [2, 4]
    todo = ann.get("/api/images?all=1&state=todo").json
    assert todo["ids"] == [row["id"] for row in todo["images"]] == [1, 2, 4]
    assert ids("ids=4+3+1&state=todo") == [4, 3, 1]  # what is listed stays, whatever became of it
    for query in ("state=x", "order=x", "limit=0", "offset=-1", "limit=x", "ids=", "ids=1,2", "ids=-1"):
        assert ann.get(f"/api/images?{query}").status in (400, 422)
    assert ids("order=margin&state=todo") == [1, 2, 4]


def test_predictions_are_apart_and_decisions_are_kept(ann: Client, bo: Client) -> None:
    first = ann.get("/api/images/1").json["predictions"]
    assert [(p["model_version"], p["score"], p["decision"]) for p in first] == [
        ("detector-3", 0.91, None), ("detector-3", 0.58, None), ("detector-3", 0.34, None),
    ]  # fmt: skip
    assert ann.get("/api/images/1").json["document"]["annotations"] == []
    a, b, c = (p["id"] for p in first)
    rows = [
        {"prediction": a, "kind": "accept", "became": "1"}, {"prediction": b, "kind": "reject", "became": ""},
        {"prediction": c, "kind": "reject"},
    ]  # fmt: skip
    assert ann.post("/api/images/1/save", {"version": 0, "annotations": [box()], "decisions": rows}).status == 200
    opened = [{"prediction": c, "kind": "open"}]
    assert ann.post("/api/images/1/save", {"version": 1, "annotations": [box()], "decisions": opened}).status == 200
    assert [p["decision"] for p in ann.get("/api/images/1").json["predictions"]] == ["accept", "reject", None]
    assert [p["decision"] for p in bo.get("/api/images/1").json["predictions"]] == [None] * 3
    assert ann.get("/api/progress").json["undecided"] == 7
    for bad in (
        {"prediction": 999, "kind": "accept"},
        {"prediction": a, "kind": "like"},
        {"prediction": a},
        1,
        {"x": 1},
    ):
        body = {"version": 1, "annotations": [], "decisions": [bad]}
        assert ann.post("/api/images/1/save", body).status in (400, 422)


def test_labels_are_versioned(ann: Client, bo: Client) -> None:
    labels = ann.get("/api/session").json["labels"]
    assert labels["version"] == 1 and labels["labels"][0]["attributes"][0]["options"] == ["shallow", "deep"]
    new = {"version": 1, "labels": [{"name": "one", "color": "#ff0000"}]}
    assert ann.post("/api/labels", new).json["version"] == 2
    late = bo.post("/api/labels", {"version": 1, "labels": [{"name": "two"}]})
    assert late.status == 409 and late.json["conflict"]["labels"] == new["labels"]
    assert ann.post("/api/labels", {"version": 2, "labels": [{"name": "a"}, {"name": "a"}]}).status == 422


def test_a_ranking_with_ties_is_stored_as_it_was_shown(project: Project, ann: Client) -> None:
    assert [task["version"] for task in ann.get("/api/rankings").json["tasks"]] == [0, 0, 0]
    turn = ann.get("/api/rankings/1").json
    assert (
        turn["principles"] == list(PRINCIPLES) and turn["images"] == [1] and sorted(turn["shown_order"]) == [0, 1, 2, 3]
    )
    ranks = {"truthfulness": [1, 1, 3, None], "clarity": [4, 3, 2, 1]}
    body = {"version": 0, "ranks": ranks, "shown_order": turn["shown_order"]}
    assert ann.post("/api/rankings/1/save", body).json == {"version": 1}
    stored = rankings(project)[0]
    assert stored.ranks == {"truthfulness": (1, 1, 3, None), "clarity": (4, 3, 2, 1)}
    assert stored.shown_order == tuple(turn["shown_order"]) and stored.annotator == "ann"
    late = ann.post("/api/rankings/1/save", {**body, "ranks": {"clarity": [1, 2, 3, 4]}})
    assert late.status == 409 and late.json["conflict"]["ranks"] == ranks
    bad = [
        {"clarity": [1]},
        {"x": [1, 2, 3, 4]},
        {"clarity": [0, 1, 2, 3]},
        {"clarity": 5},
        {"clarity": [True, 2, 3, 4]},
    ]
    for change in [{"shown_order": [0, 0, 1, 2]}, *({"ranks": each} for each in bad)]:
        assert ann.post("/api/rankings/1/save", {**body, "version": 1, **change}).status in (400, 422)
    assert ann.get("/api/rankings/0").status == ann.get("/api/rankings/4").status == 404


def test_everybody_sees_the_answers_in_an_order_of_their_own(ann: Client, bo: Client) -> None:
    orders = [[client.get(f"/api/rankings/{n}").json["shown_order"] for n in (1, 2, 3)] for client in (ann, bo)]
    assert orders[0] != orders[1]


def test_a_review_reaches_the_annotator(project: Project, ann: Client, dora: Client) -> None:
    ann.post("/api/images/1/save", {"version": 0, "annotations": [box()]})
    verdict = {"annotator": "ann", "version": 1, "verdict": "rejected", "comment": "too large"}
    assert dora.post("/api/images/1/review", verdict).status == 422  # not submitted yet
    ann.post("/api/images/1/submit", {"version": 1})
    assert dora.post("/api/images/1/review", {**verdict, "version": 2}).status == 409
    assert dora.post("/api/images/1/review", verdict).json == {"version": 1, "state": "rejected"}
    mine = ann.get("/api/images/1").json["document"]
    assert (mine["state"], mine["comment"], mine["reviewer"]) == ("rejected", "too large", "dora")
    assert dora.post("/api/images/1/review", {**verdict, "verdict": "accepted"}).status == 200
    made = dora.post("/api/snapshots", {}).json
    assert made["counts"]["shapes"] == 1
    assert [each["hash"] for each in dora.get("/api/snapshots").json["snapshots"]] == [made["hash"]]


@pytest.mark.parametrize("text", [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")', "plain", "名", 'a"b,c\nd',
])  # fmt: skip
def test_a_cell_is_no_formula(text: str) -> None:
    """S16: and what was written comes back."""
    file = io.StringIO(newline="")
    csv.writer(file).writerow([csv_cell(text)])
    file.seek(0)
    cell = next(csv.reader(file))[0]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (cell[1:] if text[0] in "=+-@\t\r" else cell) == text


def test_the_list_as_csv(server: Server, dora: Client) -> None:
    found = dora.get("/api/images.csv")
    assert found.headers["Content-Disposition"].startswith("attachment") and "text/csv" in found.headers["Content-Type"]
    rows = list(csv.DictReader(io.StringIO(found.data.decode("utf-8-sig"))))
    assert [row["name"] for row in rows] == [f"cell-{n:03d}.png" for n in (1, 2, 3, 4)]
    assert rows[0]["score"] == "0.34" and rows[2]["score"] == ""


def test_the_dashboard_is_json_without_nan(dora: Client) -> None:
    empty = dora.get("/api/agreement").json
    assert empty["shapes"]["classes"] == [] and empty["rankings"]["principles"] == []


def test_the_page_is_whole(server: Server, ann: Client) -> None:
    """Every module that is imported and every file that is linked is served, and nothing from elsewhere."""
    index = ann.get("/").data.decode()
    todo, seen = set(re.findall(r'(?:src|href)="([^"]+)"', index)), set()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?:", index)
    while todo:
        path = todo.pop()
        seen.add(path)
        found = ann.get(path)
        assert found.status == 200, path
        todo |= {f"/static/{name}" for name in re.findall(r'from "\./([\w.]+)"', found.data.decode())} - seen
    served = {path for path in map("/".join, server.routes) if path.startswith("/static/")}
    assert seen == served
