"""COCO where real files are less tidy: several files, names that stand twice, labels without a shape."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.coco import write_coco
from bessemer.annotation.formats.leftovers import same
from bessemer.annotation.formats.report import Losses
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label
from bessemer.errors import UserError
from photographing import photograph

FISH = [{"id": 0, "name": "fish", "supercategory": "none"}, {"id": 1, "name": "fish", "supercategory": "fish"}]


def coco(
    path: Path, name: str = "1.jpg", size: tuple[int, int] = (64, 48), categories: Any = FISH, category: int = 1
) -> dict[str, Any]:
    """Write a file of one image and one box; what it says."""
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "segmentation": []}
    top = {
        "images": [{"id": 1, "file_name": name, "width": size[0], "height": size[1]}],
        "categories": categories,
        "annotations": [{"id": 1, "image_id": 1, "category_id": category, **box}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(top), encoding="utf-8")
    return top


def written(folder: Path, file: str) -> Any:
    return json.loads((folder / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("pictures", [True, False])
def test_splits_with_equal_names_are_apart(tmp_path: Path, pictures: bool) -> None:
    """As Roboflow exports them: every split a folder with its JSON file and photographs named alike."""
    before = {}
    for split, size in (("train", (64, 48)), ("valid", (640, 480))):
        file = f"{split}/_annotations.coco.json"
        before[file] = coco(tmp_path / "in" / file, size=size, categories=[{"id": 1, "name": split}])
        if pictures:
            photograph(tmp_path / "in" / split / "1.jpg", *size)
    found, _ = read(tmp_path / "in", "coco")
    told = [(i.name, i.width, bool(i.sha256), [a.label for a in i.annotations]) for i in found.images]
    assert told == [("train/1.jpg", 64, pictures, ["train"]), ("valid/1.jpg", 640, pictures, ["valid"])]
    assert write(found, tmp_path / "out", "coco").losses == ()
    assert all(same(written(tmp_path / "out", file), top) for file, top in before.items())


def test_files_about_one_image_are_put_together(tmp_path: Path) -> None:
    for file in ("boxes.json", "more.json"):
        coco(tmp_path / "in" / "annotations" / file)
    found, _ = read(tmp_path / "in", "coco")
    assert [(image.name, len(image.annotations)) for image in found.images] == [("1.jpg", 2)]
    photograph(tmp_path / "in" / "1.jpg", 64, 48)
    coco(tmp_path / "in" / "other" / "far.json")  # a name that leads to the photograph from the top
    found, _ = read(tmp_path / "in", "coco")
    assert [(image.name, len(image.annotations)) for image in found.images] == [("1.jpg", 3)]
    coco(tmp_path / "in" / "annotations" / "more.json", size=(48, 64))
    with pytest.raises(UserError, match=r"more\.json: image '1\.jpg' is \(48, 64\), expected \(64, 48\), as in"):
        read(tmp_path / "in", "coco")


def test_one_name_and_two_sizes_are_two_images(tmp_path: Path) -> None:
    coco(tmp_path / "in" / "a.json")
    coco(tmp_path / "in" / "b.json", size=(640, 480))
    found, _ = read(tmp_path / "in", "coco")
    assert [(image.name, image.width) for image in found.images] == [("1.jpg", 64), ("2/1.jpg", 640)]


def test_a_name_twice_keeps_both_categories(tmp_path: Path) -> None:
    before = coco(tmp_path / "in" / "a.json")
    found, notes = read(tmp_path / "in", "coco")
    assert [label.name for label in found.labels] == ["fish"]
    assert any("fish stands twice" in remark for remark in notes.remarks)
    assert write(found, tmp_path / "out", "coco").losses == ()
    assert same(written(tmp_path / "out", "a.json"), before)
    # Without what the whole set said, as it comes out of a project.
    write(replace(found, raw={}), tmp_path / "project", "coco")
    top = written(tmp_path / "project", "annotations.json")
    assert top["categories"] == FISH and top["annotations"][0]["category_id"] == 1


def test_every_file_keeps_its_own_categories(tmp_path: Path) -> None:
    """The second file has other ids and keys for the same name, and the first is not told about its other label."""
    nose = [{"id": 7, "name": "fish", "keypoints": ["nose"], "skeleton": [[1, 2]]}, {"id": 1, "name": "dog"}]
    coco(tmp_path / "in" / "a.json", categories=FISH[:1], category=0)
    coco(tmp_path / "in" / "b.json", categories=nose, category=7)
    found, _ = read(tmp_path / "in", "coco")
    (image,) = found.images
    moved = replace(image.annotations[0], label="cat"), image.annotations[1]
    write(replace(found, images=(replace(image, annotations=moved),)), tmp_path / "out", "coco")
    a, b = (written(tmp_path / "out", file) for file in ("a.json", "b.json"))
    assert a["categories"] == [*FISH[:1], {"id": 1, "name": "cat"}] and a["annotations"][0]["category_id"] == 1
    assert b["categories"] == nose and b["annotations"][0]["category_id"] == 7


def test_a_label_without_a_shape_is_no_row_of_a_detector(tmp_path: Path) -> None:
    said = (Annotation("1", "x"), Annotation("2", "x", text="words"), Annotation("3", "x", Box(1, 1, 2, 2)))
    report = write(
        AnnotationSet((AnnotatedImage("a.jpg", 64, 48, annotations=said),), (Label("x"),)), tmp_path / "out", "coco"
    )
    rows = written(tmp_path / "out", "annotations.json")["annotations"]
    assert len(rows) == 1 and rows[0]["bbox"] == [1, 1, 2, 2]
    assert written(tmp_path / "out", "captions.json")["annotations"][0]["caption"] == "words"
    assert report.counts() == {"label": 1, "shape": 1} and report.annotations == 2


def test_attributes_alone_are_no_caption(tmp_path: Path) -> None:
    said = Annotation("1", attributes={"weather": "rain"})
    drawn = AnnotationSet((AnnotatedImage("a.jpg", 40, 30, annotations=(said,)),))
    report = write(drawn, tmp_path / "out", "coco")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations.json"]
    assert json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"] == []
    (loss,) = report.losses
    assert (loss.kind, loss.annotation) == ("shape", "1") and "attributes without a shape" in loss.what


def test_many_labels_take_no_longer_each() -> None:
    """20,000 that the set lists, and 20,000 others that are used: the square of that would be minutes."""
    listed = tuple(Label(f"listed {n}") for n in range(20_000))
    said = tuple(Annotation(str(n), f"label {n}", Box(1, 1, 2, 2)) for n in range(20_000))
    whole = AnnotationSet((AnnotatedImage("a.jpg", 64, 48, annotations=said),), listed)
    start = time.process_time()
    ((_, top),) = write_coco(whole, Choices(), Losses("coco"))
    assert time.process_time() - start < 4
    assert [row["id"] for row in top["categories"]] == list(range(1, 40_001))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"id": 1, "name": " "}]}, r"a\.json: category 1: the name of a label is empty"),
        ({"annotations": {}}, r"a\.json: annotations is '\{\}', expected a list"),
        ({"info": {"deep": json.loads("[" * 40 + "]" * 40)}}, r"a\.json.* nested more than \d+ levels"),
    ],
)
def test_messages_name_the_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    top = {**coco(tmp_path / "in" / "a.json"), **change}
    (tmp_path / "in" / "a.json").write_text(json.dumps(top))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "in", "coco")
