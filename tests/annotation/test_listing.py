from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.documents import review, save, submit
from bessemer.annotation.listing import (
    ImageQuery,
    add_images,
    agreement_items,
    held_images,
    image,
    image_file,
    image_ids,
    images_by_sha256,
    list_images,
    progress,
)
from bessemer.annotation.predictions import import_predictions
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box
from bessemer.annotation.store import Project
from bessemer.errors import UserError


@pytest.fixture
def worked(project: Project) -> Project:
    """ann: 1 accepted, 2 doing; bob: 1 submitted; 3 untouched."""
    crack = Annotation("1", "crack", Box(0, 0, 1, 1), scene="equipment")
    save(project, 1, "ann", 0, [crack, Annotation("2", text="Riss im GLAS 裂纹")])
    submit(project, 1, "ann", 1)
    review(project, 1, "ann", 1, "rev", "accepted")
    save(project, 1, "bob", 0, [Annotation("1", "rust")])
    submit(project, 1, "bob", 1)
    save(project, 2, "ann", 0, [Annotation("1", "rust", scene="personnel")])
    return project


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, [1, 2, 3]),
        ({"annotator": "ann"}, [1, 2, 3]),
        ({"annotator": "ann", "state": "todo"}, [3]),
        ({"annotator": "bob", "state": "todo"}, [2, 3]),
        ({"state": "todo"}, [3]),
        ({"annotator": "ann", "state": "doing"}, [2]),
        ({"annotator": "ann", "state": "submitted"}, []),
        ({"state": "submitted"}, [1]),
        ({"state": "accepted"}, [1]),
        ({"label": "rust"}, [1, 2]),
        ({"label": "rust", "annotator": "ann"}, [2]),
        ({"label": "crack", "annotator": "bob"}, []),  # blind
        ({"scene": "personnel"}, [2]),
        ({"text": "glas"}, [1]),
        ({"text": "裂"}, [1]),
        ({"text": "裂", "annotator": "bob"}, []),  # blind
        ({"text": "部/b"}, [2]),
        ({"text": "%"}, []),
        ({"label": "rust", "state": "doing"}, [2]),
        ({"order": "name"}, [1, 2, 3]),
        ({"order": "updated", "annotator": "ann"}, [2, 1, 3]),
        ({"offset": 1, "limit": 1}, [2]),
        ({"ids": (3, 1), "state": "todo"}, [3, 1]),
        ({"ids": (9, 2), "annotator": "bob"}, [2]),
        ({"ids": ()}, []),
    ],
)
def test_images_are_found(worked: Project, query: dict[str, Any], ids: list[int]) -> None:
    page = list_images(worked, ImageQuery(**query))
    assert [item.id for item in page.images] == ids
    assert page.total == (3 if "limit" in query else len(ids))
    assert image_ids(worked, ImageQuery(**query)) == (
        [1, 2, 3] if "limit" in query else sorted(ids) if "ids" in query else ids
    )


def test_a_summary_is_of_the_annotators_own_document(worked: Project) -> None:
    first = list_images(worked, ImageQuery("ann")).images[0]
    assert (first.name, first.width, first.height) == ("部/A.jpg", 40, 30)
    assert (first.state, first.version, first.shapes, first.score) == ("accepted", 1, 1, None)
    assert list_images(worked, ImageQuery("bob")).images[0].state == "submitted"
    assert list_images(worked, ImageQuery("bob")).images[1].state == "todo"


def test_counts(worked: Project) -> None:
    found = progress(worked)
    assert (found.images, found.untouched, found.shapes) == (3, 1, 1)
    assert found.documents == {"ann": {"accepted": 1, "doing": 1}, "bob": {"submitted": 1}}


def test_agreement_takes_what_two_have_finished(worked: Project) -> None:
    (item,) = agreement_items(worked)
    assert (item.image, item.width, item.height) == (1, 40, 30)
    assert {who: [a.label for a in said] for who, said in item.documents.items()} == {
        "ann": ["crack", None], "bob": ["rust"],
    }  # fmt: skip
    assert list(agreement_items(worked, ("accepted",))) == []


def test_images_are_added_once(project: Project, root: Path) -> None:
    again = AnnotatedImage("部/B.jpg", 40, 30, sha256="2" * 64)
    new = AnnotatedImage("D.jpg", 5, 6, sha256="2" * 64, exif_orientation=6, raw={"k": [1]})
    assert add_images(project, root, [again, new]) == [2, 4]
    assert image(project, 4) == new
    assert images_by_sha256(project)["2" * 64] == [2, 4]
    with pytest.raises(UserError, match=r"D\.jpg is in the project with other bytes, from .*expected .*images="):
        add_images(project, root, [AnnotatedImage("D.jpg", 5, 6, sha256="4" * 64)])
    with pytest.raises(UserError, match="from another folder, .* does not have it any more, .*put the folder back"):
        add_images(project, root.parent, [AnnotatedImage("D.jpg", 5, 6, sha256="2" * 64)])
    (root / "D.jpg").touch()  # there: the one of another folder is a copy
    assert add_images(project, root.parent, [AnnotatedImage("D.jpg", 5, 6, sha256="2" * 64)]) == [4]
    assert image_file(project, 4) == root / "D.jpg" and held_images(project) == {("D.jpg", "2" * 64)}
    root.rename(root.with_name("moved"))
    root.symlink_to(root.with_name("moved"))  # the advice
    assert add_images(project, root.parent, [AnnotatedImage("D.jpg", 5, 6, sha256="2" * 64)]) == [4]
    assert image_file(project, 4).is_file()
    with pytest.raises(UserError, match="without sha256"):
        add_images(project, root, [AnnotatedImage("E.jpg", 5, 6)])
    assert list_images(project, ImageQuery()).total == 4


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "file:///x", "a\\b.jpg", "a\0b"])
def test_names_that_leave_the_folder_are_refused(project: Project, root: Path, name: str) -> None:
    with pytest.raises(UserError, match="path"):
        add_images(project, root, [AnnotatedImage(name, 5, 6, sha256="4" * 64)])


def test_a_file_is_found_by_its_id_and_stays_in_its_folder(project: Project, root: Path) -> None:
    assert image_file(project, 1) == root.resolve() / "部" / "A.jpg"
    (root / "部").symlink_to("/etc")
    with pytest.raises(UserError, match="leads out"):
        image_file(project, 1)
    for unknown in (9, "1", "../../etc/passwd"):
        with pytest.raises(UserError, match="no image"):
            image_file(project, unknown)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [{"state": "x"}, {"order": "size; DROP"}, {"limit": 0}, {"offset": -1}, {"limit": 10**6}, {"ids": (1,) * 1001}],
)
def test_bad_queries_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ImageQuery(**bad)


def test_the_least_sure_comes_first(project: Project) -> None:
    """Margins |2 score - 1| by hand: image 1 0.8 and 0.9, image 2 0.1, image 3 none."""
    import_predictions(project, "m", [(1, [Annotation("a", score=0.1), Annotation("b", score=0.95)])])
    import_predictions(project, "m", [(2, [Annotation("a", score=0.55)])])
    assert [row.id for row in list_images(project, ImageQuery(order="margin")).images] == [2, 1, 3]
    assert [row.id for row in list_images(project, ImageQuery(order="score")).images] == [1, 2, 3]
