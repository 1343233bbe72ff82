from __future__ import annotations

import sqlite3

import pytest

from bessemer.annotation.documents import save, submit
from bessemer.annotation.listing import ImageQuery, list_images
from bessemer.annotation.queue import Queued, annotator_disagreement, queue, set_queue
from bessemer.annotation.shapes import Annotation, Box
from bessemer.annotation.store import Project, open_project
from bessemer.errors import UserError


def ids(project: Project) -> list[int]:
    return [item.id for item in list_images(project, ImageQuery(order="queue")).images]


def test_what_is_worth_most_comes_first_and_a_new_queue_takes_the_place_of_the_old(project: Project) -> None:
    set_queue(project, [Queued(2, 0.4, {"margin": 0.3}), Queued(3, 0.9, {"failed": 1.0, "margin": 0.5})])
    assert ids(project) == [3, 2, 1]  # what nobody queued comes last
    assert [row.reasons for row in list_images(project, ImageQuery()).images] == [
        {}, {"margin": 0.3}, {"failed": 1.0, "margin": 0.5}
    ]  # fmt: skip
    assert queue(project) == [Queued(3, 0.9, {"failed": 1.0, "margin": 0.5}), Queued(2, 0.4, {"margin": 0.3})]
    save(project, 3, "ann", 0, [])
    waits = list_images(project, ImageQuery("ann", state="todo", order="queue")).images
    assert [item.id for item in waits] == [2, 1]
    set_queue(project, [Queued(1, 1.0, {})])
    assert ids(project) == [1, 2, 3] and len(queue(project)) == 1


def test_the_queue_is_in_the_log_and_an_older_database_is_made_again(project: Project) -> None:
    set_queue(project, [Queued(2, 0.4, {"margin": 0.3})])
    project.close()
    path = project.directory / "project.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE queue")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with open_project(project.directory) as again:
        assert queue(again) == [Queued(2, 0.4, {"margin": 0.3})]


def test_refusals(project: Project) -> None:
    with pytest.raises(UserError, match="no image \\[9\\], expected the id of an image"):
        set_queue(project, [Queued(9, 0.4, {})])
    with pytest.raises(UserError, match="waits twice"):
        set_queue(project, [Queued(1, 0.4, {}), Queued(1, 0.5, {})])
    with pytest.raises(UserError, match="priority 1.5, expected 0 to 1"):
        Queued(1, 1.5, {})
    with pytest.raises(UserError, match="reason 'mood', expected one of margin"):
        Queued(1, 0.5, {"mood": 0.1})
    assert queue(project) == []


def test_disagreement_by_hand(project: Project) -> None:
    one, two = Annotation("1", "crack", Box(0, 0, 10, 10)), Annotation("2", "rust", Box(20, 10, 10, 10))
    said = {
        1: ([], []),  # both saw nothing
        2: ([one, two], [Annotation("1", "crack", Box(0, 0, 10, 8))]),  # 0.8 overlap, and one that only ann drew
        3: ([one, two], [one, Annotation("2", "crack", two.shape)]),  # the same places, one under another name
    }
    for image, (ann, bob) in said.items():
        for annotator, drawn in (("ann", ann), ("bob", bob)):
            save(project, image, annotator, 0, drawn)
            submit(project, image, annotator, 1)
    assert annotator_disagreement(project) == pytest.approx({1: 0.0, 2: 1 / 3, 3: 0.5})
