"""Rankings of Label Studio: whose texts they are about, and what cannot be understood."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.formats.exchange import bring_in_rankings
from bessemer.annotation.formats.ranked import read_rankings
from bessemer.annotation.rankings import rankings
from bessemer.annotation.store import create_project
from bessemer.errors import UserError


def ranked(one: str, other: str, ids: tuple[Any, Any] = ("1", "2"), order: Any = ("2", "1")) -> dict[str, Any]:
    items = [{"id": id, "body": body} for id, body in zip(ids, (one, other), strict=True)]
    row = {"type": "ranker", "from_name": "q", "to_name": "items", "value": {"ranker": {"q": order}}}
    said = {"completed_by": one, "result": [row]}
    return {"id": 1, "data": {"prompt": "Which?", "items": items}, "annotations": [said]}


def pair(name: str, texts: str, selected: str) -> dict[str, Any]:
    return {"type": "pairwise", "from_name": name, "to_name": texts, "value": {"selected": selected}}


def put(path: Path, *tasks: dict[str, Any]) -> Path:
    path.write_text(json.dumps(tasks))
    return path


def test_ranks_stay_with_their_texts(tmp_path: Path) -> None:
    """Two exports have a task 1 each; two pairs of a task are judged by one control."""
    put(tmp_path / "1.json", ranked("good", "bad"))
    put(tmp_path / "2.json", ranked("red", "blue"))
    data = {"prompt": "p", "a1": "A1", "a2": "A2", "b1": "B1", "b2": "B2"}
    first = [pair("better", "a1,a2", "left"), pair("better", "b1,b2", "left")]
    said = [
        {"completed_by": "u1", "result": first},
        {"completed_by": "u2", "result": [pair("better", "b1,b2", "right")]},
    ]
    put(tmp_path / "3.json", {"id": 1, "data": data, "annotations": said})
    found, remarks = read_rankings(tmp_path)
    assert remarks == []
    with create_project(tmp_path / "project", "p") as project:
        assert bring_in_rankings(project, found) == 5
        kept = {(item.annotator, item.responses): item.ranks for item in rankings(project)}
        assert bring_in_rankings(project, found) == 5 and len(rankings(project)) == 5  # the same once more
    assert kept == {
        ("good", ("good", "bad")): {"q": (2, 1)},
        ("red", ("red", "blue")): {"q": (2, 1)},
        ("u1", ("A1", "A2")): {"better": (1, 2)},
        ("u1", ("B1", "B2")): {"better": (1, 2)},
        ("u2", ("B1", "B2")): {"better": (2, 1)},
    }


def test_an_id_that_stands_for_other_texts_is_refused(tmp_path: Path) -> None:
    (one,), _ = read_rankings(put(tmp_path / "1.json", ranked("good", "bad")))
    with create_project(tmp_path / "project", "p") as project:
        bring_in_rankings(project, [one])
        for wrong, why in (
            (replace(one, responses=("red", "blue")), "other texts"),
            (replace(one, ranks={"taste": (1, 2)}), "principles"),
            (replace(one, annotator="a\u202eb"), "expected"),
        ):
            new = replace(one, id="new", prompt=replace(one.prompt, id="new"))
            with pytest.raises(UserError, match=why):
                bring_in_rankings(project, [new, wrong])
        assert [item.id for item in rankings(project)] == [one.id]


def test_numbers_are_ids_too(tmp_path: Path) -> None:
    (one,), remarks = read_rankings(put(tmp_path / "1.json", ranked("a", "b", (1, 2), [2, 1])))
    assert one.ranks == {"q": (2, 1)} and remarks == []


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (ranked("a", "b", order=["3", "1"]), "['3'] in the order of q, expected ids of the items"),
        (ranked("a", "b", order=["1", "1"]), "an id twice in the order of q"),
        (ranked("a", "b", order=5), "the order of q is '5', expected a list"),
        (ranked("a", "b", ids=(1, "1"), order=[1]), "an id that two items have"),
    ],
)
def test_what_cannot_be_understood_is_passed_over_and_said(tmp_path: Path, task: dict[str, Any], why: str) -> None:
    found, (remark,) = read_rankings(put(tmp_path / "1.json", task))
    assert found == [] and why in remark and "passed over" in remark


def test_annotations_that_are_none_are_refused(tmp_path: Path) -> None:
    for wrong in (7, [{"result": 7}]):
        with pytest.raises(UserError, match="expected a list"):
            read_rankings(put(tmp_path / "1.json", {**ranked("a", "b"), "annotations": wrong}))


def test_a_cancelled_ranking_is_none(tmp_path: Path) -> None:
    task = ranked("a", "b")
    task["annotations"][0]["was_cancelled"] = True
    assert read_rankings(put(tmp_path / "1.json", task)) == ([], [])
