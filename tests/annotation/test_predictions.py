from __future__ import annotations

import pytest

from bessemer.annotation.documents import Saved, document, save
from bessemer.annotation.listing import ImageQuery, list_images, progress
from bessemer.annotation.predictions import (
    Decision,
    decision_edits,
    import_predictions,
    predictions,
)
from bessemer.annotation.shapes import Annotation, Box
from bessemer.annotation.store import Project
from bessemer.errors import UserError

FOUND = [Annotation("p", "crack", Box(1, 2, 3, 4), score=0.75), Annotation("q", "rust", score=0.5)]


def decide(project: Project, image: int, annotator: str, decision: Decision) -> None:
    project.commit(lambda db, time: (decision_edits(db, image, annotator, [decision]), None))


def test_predictions_stay_apart_and_decisions_are_logged(project: Project) -> None:
    first, second = import_predictions(project, "m1", [(1, FOUND)])
    assert document(project, 1, "ann").annotations == ()
    one, two = predictions(project, 1, "ann")
    assert (one.id, one.model_version, one.score, one.annotation.shape) == (first, "m1", 0.75, Box(1, 2, 3, 4))
    assert one.annotation.source == "prediction" and one.annotation.model_version == "m1"
    edit = Decision(first, "edit", "7")
    changed = Annotation("7", "crack", Box(1, 2, 3, 5), source="prediction", model_version="m1")
    assert save(project, 1, "ann", 0, [changed], [edit]) == Saved(1, "doing")
    decide(project, 1, "ann", Decision(second, "reject"))
    assert [(p.decision, p.became) for p in predictions(project, 1, "ann")] == [("edit", "7"), ("reject", "")]
    assert [p.decision for p in predictions(project, 1, "bob")] == [None, None]  # each decides blindly
    decide(project, 1, "bob", Decision(second, "accept", "8"))
    assert [(p.decision, p.became) for p in predictions(project, 1, "bob")] == [(None, ""), ("accept", "8")]
    log = (project.directory / "edits.log").read_text()
    assert log.count('"op":"decide"') == 3
    decide(project, 1, "bob", Decision(second, "accept", "8"))
    assert (project.directory / "edits.log").read_text() == log  # the same again is no edit


def test_new_predictions_take_the_place_of_the_same_model_alone(project: Project) -> None:
    import_predictions(project, "m1", [(1, FOUND), (2, FOUND[:1])])
    import_predictions(project, "m2", [(1, FOUND[:1])])
    (third,) = import_predictions(project, "m1", [(1, [Annotation("r", score=0.9)])])
    assert [(p.model_version, p.score) for p in predictions(project, 1, "ann")] == [("m2", 0.75), ("m1", 0.9)]
    assert [p.id for p in predictions(project, 1, "ann", "m1")] == [third]
    assert progress(project).undecided == 3


def test_the_least_sure_come_first(project: Project) -> None:
    import_predictions(project, "m1", [(3, FOUND), (2, [Annotation("r", score=0.25)])])
    page = list_images(project, ImageQuery("ann", order="score"))
    assert [(image.id, image.score) for image in page.images] == [(2, 0.25), (3, 0.5), (1, None)]
    save(project, 2, "ann", 0, [])
    waits = list_images(project, ImageQuery("ann", state="todo", order="score")).images
    assert [image.id for image in waits] == [3, 1]


def test_what_does_not_fit_is_refused(project: Project) -> None:
    (first,) = import_predictions(project, "m1", [(1, FOUND[:1])])
    with pytest.raises(UserError, match=f"no prediction {first} of image 2"):
        decide(project, 2, "ann", Decision(first, "reject"))
    with pytest.raises(UserError, match="no prediction 99"):
        save(project, 1, "ann", 0, [Annotation("1")], [Decision(99, "accept")])
    assert document(project, 1, "ann").version == 0  # the edit is whole or not at all
    with pytest.raises(UserError, match="no image 9"):
        import_predictions(project, "m1", [(1, FOUND), (9, FOUND)])
    assert len(predictions(project, 1, "ann")) == 1
    with pytest.raises(UserError, match="decision 'maybe'"):
        Decision(first, "maybe")  # type: ignore[arg-type]


def test_a_decision_is_taken_back(project: Project) -> None:
    first, second = import_predictions(project, "m1", [(1, FOUND)])
    decide(project, 1, "ann", Decision(first, "reject"))
    assert progress(project).undecided == 1
    decide(project, 1, "ann", Decision(first, "open"))
    decide(project, 1, "ann", Decision(second, "open"))  # nothing to take back: no edit
    assert [p.decision for p in predictions(project, 1, "ann")] == [None, None]
    assert progress(project).undecided == 2
    with project.read() as db:
        assert db.execute("SELECT count(*) FROM decisions").fetchone()[0] == 1
    decide(project, 1, "ann", Decision(first, "accept", "7"))
    assert predictions(project, 1, "ann")[0].decision == "accept"
