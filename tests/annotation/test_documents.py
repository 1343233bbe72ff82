from __future__ import annotations

import json
from typing import Literal

import pytest

from bessemer.annotation.documents import (
    Conflict,
    Saved,
    conflicts,
    document,
    document_at,
    documents,
    history,
    label_set,
    reopen,
    restore,
    review,
    reviews,
    save,
    save_all,
    save_labels,
    submit,
)
from bessemer.annotation.shapes import Annotation, Box, Label
from bessemer.annotation.store import Project
from bessemer.errors import UserError

BOX = Box(0.1, 0.2, 3.3, 4.4)


def test_what_is_saved_is_read_with_who_and_when(project: Project) -> None:
    assert document(project, 1, "ann").state == "todo"
    assert save(project, 1, "ann", 0, [Annotation("1", "裂纹", BOX), Annotation("2", text="x")]) == Saved(1, "doing")
    first = document(project, 1, "ann")
    one, two = first.annotations
    assert (one.label, one.shape, one.author, first.state) == ("裂纹", BOX, "ann", "doing")
    assert one.created == one.updated == first.updated != ""
    # Changed: new time, old creation; unchanged: nothing new, whatever the page says of author and time.
    forged = Annotation("1", "裂纹", BOX, author="eve", created="1970", updated="1970")
    save(project, 1, "ann", 1, [forged, Annotation("2", text="y")])
    again, changed = document(project, 1, "ann").annotations
    assert again == one
    assert (changed.created, changed.text, changed.author) == (two.created, "y", "ann")


def test_annotators_are_blind_to_one_another(project: Project) -> None:
    save(project, 1, "ann", 0, [Annotation("1", text="mine")])
    other = document(project, 1, "bob")
    assert (other.version, other.state, other.annotations) == (0, "todo", ())
    assert save(project, 1, "bob", 0, [Annotation("1", text="his")]) == Saved(1, "doing")
    assert document(project, 1, "ann").annotations[0].text == "mine"
    assert [item.annotator for item in documents(project, 1)] == ["ann", "bob"]


def test_two_tabs_conflict_and_nothing_is_dropped(project: Project) -> None:
    save(project, 1, "ann", 0, [Annotation("1", text="first")])
    save(project, 1, "ann", 1, [Annotation("1", text="tab one")])
    late = (Annotation("1", text="tab two"), Annotation("2"))
    answer = save(project, 1, "ann", 1, late)
    assert isinstance(answer, Conflict)
    assert answer.yours == late and answer.base_version == 1
    assert (answer.current.version, answer.current.annotations[0].text) == (2, "tab one")
    assert document(project, 1, "ann").version == 2
    for _ in range(3):  # a page that tries again and again
        save(project, 1, "ann", 1, late)
    (kept,) = conflicts(project, 1, "ann")
    assert kept.annotations == late and kept.version == 1
    # Saying the same is no conflict: an answer that was lost on the way is asked for again.
    assert save(project, 1, "ann", 1, [Annotation("1", text="tab one")]) == Saved(2, "doing")


def test_versions_can_be_read_and_restored(project: Project) -> None:
    for version, text in enumerate(("a", "b", "c")):
        save(project, 1, "ann", version, [Annotation("1", text=text)])
    assert document_at(project, 1, "ann", 1).annotations[0].text == "a"
    assert isinstance(restore(project, 1, "ann", 1, 2), Conflict)
    assert restore(project, 1, "ann", 1, 3) == Saved(4, "doing")
    assert document(project, 1, "ann").annotations == document_at(project, 1, "ann", 1).annotations
    assert [(entry.version, entry.restored) for entry in history(project, 1, "ann")] == [
        (1, None), (2, None), (3, None), (4, 1),
    ]  # fmt: skip
    with pytest.raises(UserError, match="version 9 of image 1, expected 1 to 4"):
        document_at(project, 1, "ann", 9)


def test_submit_and_review(project: Project) -> None:
    with pytest.raises(UserError, match="nothing saved"):
        submit(project, 1, "ann", 0)
    save(project, 1, "ann", 0, [])  # nothing to see is an answer
    with pytest.raises(UserError, match="'doing', expected a submitted one"):
        review(project, 1, "ann", 1, "rev", "accepted")
    assert isinstance(submit(project, 1, "ann", 0), Conflict)
    assert submit(project, 1, "ann", 1) == Saved(1, "submitted")
    assert submit(project, 1, "ann", 1) == Saved(1, "submitted")
    assert isinstance(review(project, 1, "ann", 2, "rev", "accepted"), Conflict)
    assert review(project, 1, "ann", 1, "rev", "rejected", "漏了一处") == Saved(1, "rejected")
    found = document(project, 1, "ann")
    assert (found.state, found.comment, found.reviewer) == ("rejected", "漏了一处", "rev")
    assert save(project, 1, "ann", 1, [Annotation("1")]) == Saved(2, "doing")
    submit(project, 1, "ann", 2)
    assert review(project, 1, "ann", 2, "rev", "accepted") == Saved(2, "accepted")
    assert submit(project, 1, "ann", 2) == Saved(2, "accepted")
    assert [(item.version, item.verdict, item.comment) for item in reviews(project, 1, "ann")] == [
        (1, "rejected", "漏了一处"), (2, "accepted", ""),
    ]  # fmt: skip
    with pytest.raises(UserError, match="verdict"):
        review(project, 1, "ann", 2, "rev", "doing")  # type: ignore[arg-type]


def test_a_deleted_label_destroys_no_work(project: Project) -> None:
    both = (Label("crack", "#ff0000"), Label("rust"))
    assert save_labels(project, 0, both, "ann")[1]
    save(project, 1, "ann", 0, [Annotation("1", "rust", BOX)])
    standing, done = save_labels(project, 1, both[:1], "bob")
    assert done and standing.version == 2
    # The other tab goes on with the label that is gone.
    assert save(project, 1, "ann", 1, [Annotation("1", "rust", BOX), Annotation("2", "rust")]) == Saved(2, "doing")
    assert [annotation.label for annotation in document(project, 1, "ann").annotations] == ["rust", "rust"]
    assert label_set(project).labels == both[:1]
    # Nor do two who edit the labels overwrite one another.
    standing, done = save_labels(project, 1, (*both, Label("dust")), "ann")
    assert not done and standing.labels == both[:1]
    assert save_labels(project, 0, both[:1], "ann") == (standing, True)
    with pytest.raises(UserError, match="label 'a' stands twice"):
        save_labels(project, 2, (Label("a"), Label("a")), "ann")


def test_an_import_keeps_authors_and_is_one_edit_each(project: Project) -> None:
    old = Annotation("1", author="then", created="2001", source="coco")
    items = [(1, "import", 0, [old]), (2, "import", 0, []), (1, "import", 0, [Annotation("2")])]
    answers = save_all(project, items, state="submitted")
    assert answers[:2] == [Saved(1, "submitted")] * 2 and isinstance(answers[2], Conflict)
    assert document(project, 1, "import").annotations == (old,)
    assert json.loads(document(project, 1, "import").body)[0]["created"] == "2001"


@pytest.mark.parametrize("image", [0, 4, -1, 10**30, "1", 1.0, True, None])
def test_only_ids_of_the_project_are_taken(project: Project, image: int) -> None:
    if image is True:
        image = 4
    for call in (lambda: document(project, image, "ann"), lambda: save(project, image, "ann", 0, [])):
        with pytest.raises(UserError, match="no image"):
            call()


def test_bad_names_and_versions_are_refused(project: Project) -> None:
    for name in ("", " ", "a\nb", "a" * 201):
        with pytest.raises(UserError, match="annotator"):
            save(project, 1, name, 0, [])
    for version in (-1, "0", None):
        with pytest.raises(UserError, match="version"):
            save(project, 1, "ann", version, [])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="stands twice"):
        save(project, 1, "ann", 0, [Annotation("1"), Annotation("1")])


def test_a_submission_is_taken_back(project: Project) -> None:
    with pytest.raises(UserError, match="nothing saved"):
        reopen(project, 1, "ann", 0)
    save(project, 1, "ann", 0, [Annotation("1", text="x")])
    assert reopen(project, 1, "ann", 1) == Saved(1, "doing")  # it was not submitted: nothing to do
    submit(project, 1, "ann", 1)
    assert reopen(project, 1, "ann", 1) == Saved(2, "doing")
    again = document(project, 1, "ann")
    assert (again.state, again.annotations) == ("doing", document_at(project, 1, "ann", 1).annotations)
    assert [(v.version, v.restored) for v in history(project, 1, "ann")] == [(1, None), (2, 1)]
    late = reopen(project, 1, "ann", 1)
    assert isinstance(late, Conflict) and late.current.version == 2


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_what_was_judged_is_not_taken_back(project: Project, verdict: Literal["accepted", "rejected"]) -> None:
    save(project, 1, "ann", 0, [Annotation("1", text="x")])
    submit(project, 1, "ann", 1)
    review(project, 1, "ann", 1, "dora", verdict, "so")
    assert reopen(project, 1, "ann", 1) == Saved(1, verdict)
    assert document(project, 1, "ann").state == verdict and len(history(project, 1, "ann")) == 1
