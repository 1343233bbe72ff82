from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bessemer.annotation.documents import conflicts, document, label_set, save, save_labels
from bessemer.annotation.formats.exchange import bring_in
from bessemer.annotation.intake import add_folder, import_annotations, keep, kept
from bessemer.annotation.listing import image, image_file
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, AttributeDefinition, Box, Label
from bessemer.annotation.store import Project, open_project
from bessemer.errors import UserError


def photograph(path: Path, size: tuple[int, int], orientation: int = 1, color: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", size, color).save(path, exif=exif)


@pytest.fixture
def folder(root: Path) -> Path:
    photograph(root / "甲" / "one.jpg", (8, 6), orientation=6)
    photograph(root / "two.PNG", (5, 4), color=9)
    photograph(root / "zwei" / "two.png", (5, 4), color=9)
    photograph(root / "tall.tif", (8, 6), orientation=8)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    (root / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    photograph(root / ".hidden" / "a.png", (1, 1))
    (root / "link.png").symlink_to(root / "two.PNG")
    return root


def test_a_folder_is_registered_upright(project: Project, folder: Path) -> None:
    added = add_folder(project, folder)
    facts = {image(project, id).name: image(project, id) for id in added.ids}
    assert sorted(facts) == ["tall.tif", "two.PNG", "zwei/two.png", "甲/one.jpg"]
    one = facts["甲/one.jpg"]
    assert (one.width, one.height, one.exif_orientation) == (6, 8, 6)
    assert one.sha256 == hashlib.sha256((folder / "甲" / "one.jpg").read_bytes()).hexdigest()
    assert (facts["tall.tif"].width, facts["tall.tif"].height, facts["tall.tif"].exif_orientation) == (6, 8, 8)
    assert list(added.refused) == ["broken.jpg"] and added.twice == ("two.PNG", "zwei/two.png")
    assert image_file(project, added.ids[0]).is_file()
    assert add_folder(project, folder).ids == added.ids


def test_what_is_no_folder_of_photographs(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(UserError, match="folder"):
            add_folder(project, path)


def test_annotations_find_their_images(project: Project, folder: Path) -> None:
    ids = {image(project, id).name: id for id in add_folder(project, folder).ids}
    sha256 = image(project, ids["甲/one.jpg"]).sha256
    said = (Annotation("1", "crack", Box(1, 1, 2, 2), author="then", source="coco"),)
    images = (
        AnnotatedImage("renamed.jpg", 6, 8, sha256=sha256, annotations=said),  # by hash
        AnnotatedImage("C:\\old\\tall.tif", 6, 8, annotations=said),  # by a file name that one image has
        AnnotatedImage("two.PNG", 5, 4),  # by name; nothing to see
        AnnotatedImage("elsewhere.jpg", 5, 4),
    )
    found = import_annotations(project, AnnotationSet(images, (Label("crack"),)), "coco", state="submitted")
    assert found.saved == ("renamed.jpg", "C:\\old\\tall.tif", "two.PNG")
    assert found.absent == ("elsewhere.jpg",) and found.conflicts == ()
    assert document(project, ids["甲/one.jpg"], "coco").annotations == said
    assert document(project, ids["two.PNG"], "coco").state == "submitted"
    assert label_set(project).labels == (Label("crack"),)
    # What somebody changed since is not overwritten; the second import is kept beside it.
    save(project, ids["tall.tif"], "coco", 1, [Annotation("2")])
    again = import_annotations(project, AnnotationSet(images[:3]), "coco")
    assert again.conflicts == ("C:\\old\\tall.tif",) and len(again.saved) == 2
    assert conflicts(project, ids["tall.tif"], "coco")[0].annotations == said


def test_what_is_said_of_labels_that_are_there_is_added(project: Project, folder: Path) -> None:
    """Colour, attributes and the keys of a format; what the project says otherwise stays, and that is said."""
    add_folder(project, folder)
    wet, wide = AttributeDefinition("wet", "checkbox"), AttributeDefinition("width", "number")
    keys = {"cvat": {"id": 1}, "coco": {"files": {"a": []}}}
    save_labels(project, 0, (Label("crack"), Label("rust", "#112233", (wet,), keys)), "ann")
    image = AnnotatedImage("two.PNG", 5, 4)
    more = Label("crack", "#ff0000", (wet, wide), {"cvat": {"type": "any"}})
    otherwise = {"cvat": {"id": 2}, "coco": {"files": {"b": [{}]}}}
    other = Label("rust", "#445566", (replace(wet, default=True), wide), otherwise)
    done = import_annotations(project, AnnotationSet((image,), (more, other, Label("new", "#000001"))), "cvat")
    assert label_set(project).labels == (
        more,
        Label("rust", "#112233", (wet, wide), {"cvat": {"id": 1}, "coco": {"files": {"a": [], "b": [{}]}}}),
        Label("new", "#000001"),
    )
    expected = ("the colour of label rust", "attribute wet of label rust", "keys of label rust: cvat id")
    assert done.differing == expected
    version = label_set(project).version
    again = AnnotationSet((image,), (other, Label("crack")))
    brought = bring_in(project, again, "cvat", annotator="bo")
    assert brought.unkept == [f"{what}, which the project has otherwise" for what in expected]
    assert label_set(project).version == version


def test_another_size_is_another_frame(project: Project, folder: Path) -> None:
    """The size of the stored pixels instead of the upright ones: coordinates would be of the wrong frame."""
    add_folder(project, folder)
    with pytest.raises(UserError, match="甲/one.jpg of 8 x 6, expected 6 x 8"):
        import_annotations(project, AnnotationSet((AnnotatedImage("甲/one.jpg", 8, 6),)), "x")
    both = (AnnotatedImage("tall.tif", 6, 8), AnnotatedImage("x/tall.tif", 6, 8))
    with pytest.raises(UserError, match="the same image"):
        import_annotations(project, AnnotationSet(both), "x")


def test_what_files_say_as_a_whole_is_kept_once(project: Project) -> None:
    """By file; where two say different things, the first stays; and the log alone brings it back."""
    first = {"coco": {"files": {"a.json": {"info": 1}}}, "yolo": {"yaml": {"row": {"nc": 1}}, "task": "obb"}}
    assert keep(project, first) == []
    size = (project.directory / "edits.log").stat().st_size
    assert keep(project, first) == [] and (project.directory / "edits.log").stat().st_size == size
    second = {"coco": {"files": {"a.json": {"info": 2}, "b.json": {"x": []}}}, "yolo": {"task": "detect", "file": "d"}}
    assert keep(project, second) == ["coco a.json", "yolo task"]
    expected = {
        "coco": {"files": {"a.json": {"info": 1}, "b.json": {"x": []}}},
        "yolo": {"yaml": {"row": {"nc": 1}}, "task": "obb", "file": "d"},
    }
    with project.read() as db:
        assert kept(db) == expected
    project.close()
    for path in project.directory.glob("project.sqlite*"):
        path.unlink()
    with open_project(project.directory) as again, again.read() as db:
        assert kept(db) == expected


def test_what_json_cannot_carry_is_not_kept(project: Project) -> None:
    with pytest.raises(UserError, match="as a whole holds nan"):
        keep(project, {"coco": {"info": float("nan")}})
