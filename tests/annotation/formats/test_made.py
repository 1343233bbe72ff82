"""Contract A on files that the other tools made themselves: what is read and written again says the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bessemer.annotation.formats.choices import Choices
from bessemer.annotation.formats.leftovers import same
from bessemer.annotation.formats.table import read, write
from bessemer.annotation.formats.xml import Element, parse_xml, to_tree
from bessemer.annotation.geometry import to_upright
from bessemer.annotation.rle import array_from_mask
from bessemer.annotation.shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
)

MADE = Path(__file__).parent / "made"
# folder or file -> format, folder of photographs
CASES = {
    "labelme": ("labelme", None),
    "x_anylabeling": ("x-anylabeling", None),
    "pycocotools": ("coco", None),
    "supervision/masks/coco": ("coco", "supervision/pictures"),
    "supervision/boxes/coco": ("coco", "supervision/pictures"),
    "supervision/masks/yolo": ("yolo", "supervision/pictures"),
    "supervision/boxes/yolo": ("yolo", "supervision/pictures"),
    "supervision/boxes/voc": ("voc", "supervision/pictures"),
    "datumaro/coco": ("coco", None),
    "datumaro/coco_captions": ("coco", None),
    "datumaro/cvat": ("cvat", None),
    "datumaro/voc": ("voc", None),
    "datumaro/yolo": ("yolo", None),
    "labelimg": ("voc", None),
    "pascal_voc_writer": ("voc", None),
    "label_studio_sdk/brush.json": ("label-studio", None),
    "label_studio_sdk/from_yolo.json": ("label-studio", "label_studio_sdk/input/images"),
}


def told(path: Path, format: str) -> dict[str, Any]:
    """file -> what it says, without the order of rows of COCO and the blanks of XML and text."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    found: dict[str, Any] = {}
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        if format in ("coco", "labelme", "x-anylabeling", "label-studio") and file.suffix == ".json":
            found[name] = json.loads(file.read_text(encoding="utf-8"))
            if format == "coco":
                found[name]["annotations"].sort(key=lambda row: row["id"])
        elif format in ("voc", "cvat") and file.suffix == ".xml":
            found[name] = ordered(parse_xml(file.read_bytes(), name))
        elif format == "yolo" and file.suffix == ".yaml":
            found[name] = yaml.safe_load(file.read_text(encoding="utf-8"))
        elif format == "yolo" and "labels" in file.parts:
            found[name] = [line.split() for line in file.read_text().splitlines() if line.strip()]
    return found


def ordered(element: Element) -> Any:
    """The tree of an element, and the order of the shapes in it."""
    shapes = [child.tag for child in element.children if child.tag in ("box", "polygon", "mask", "object")]
    return [to_tree(element), shapes, [ordered(child) for child in element.children if child.tag == "image"]]


def loaded(case: str) -> AnnotationSet:
    format, images = CASES[case]
    return read(MADE / case, "auto", MADE / images if images else None)[0]


@pytest.mark.parametrize("case", CASES)
def test_the_same_format_says_the_same(tmp_path: Path, case: str) -> None:
    format, images = CASES[case]
    found, notes = read(MADE / case, "auto", MADE / images if images else None)
    assert notes.format == ("labelme" if format == "x-anylabeling" else format)  # the same but for what is drawn
    assert any(image.annotations for image in found.images)
    report = write(found, tmp_path / "out", format)
    assert report.losses == ()
    expected, written = told(MADE / case, format), told(tmp_path / "out", format)
    if format == "label-studio":
        expected = {"tasks.json": next(iter(expected.values()))}
        # Fresh groups of results are written as lists, absent ones too.
        for task in expected["tasks.json"]:
            task.setdefault("annotations", [])
    for name, top in expected.items():
        assert same(written[name], top), f"{name}:\n{written[name]}\n{top}"
    assert written.keys() == expected.keys()
    again, _ = read(
        tmp_path / "out", format, MADE / images if images else MADE / case if (MADE / case).is_dir() else None
    )
    assert [image.annotations for image in again.images] == [image.annotations for image in found.images]


def test_what_labelme_drew() -> None:
    """Its photograph is stored 40 x 30 with orientation 6, and it draws on 30 x 40."""
    (image,) = loaded("labelme").images
    assert (image.width, image.height, image.exif_orientation) == (30, 40, 6)
    by = {item.label: item for item in image.annotations}
    assert by["裂纹"].shape == Polygon(((((1.5, 2.25), (10, 2), (8, 30.125)),),)) and by["裂纹"].text == "at the edge"
    assert by["dirt"].shape == Box(3, 4, 17.5, 6) and by["dirt"].attributes == {"old": True}
    assert by["dot"].shape == Point(7, 8.5)
    tilted = by["tilted"].shape
    assert isinstance(tilted, RotatedBox) and (tilted.cx, tilted.cy, tilted.width, tilted.height) == (10.5, 13.5, 5, 5)
    assert tilted.angle == pytest.approx(36.8698976)
    hole = by["hole"].shape
    expected = np.zeros((40, 30), dtype=bool)
    expected[30:35, 2:6] = True
    expected[31:33, 3:5] = False
    assert isinstance(hole, Mask) and np.array_equal(array_from_mask(hole), expected)
    assert by[None].attributes == {"blurred": False, "night": True}


@pytest.mark.parametrize("case", ["pycocotools", "label_studio_sdk/brush.json", "datumaro/coco", "datumaro/cvat"])
def test_masks_of_every_tool_are_the_same(case: str) -> None:
    """`bitmap` of generate.py, in four packings."""
    expected = np.zeros((30, 40), dtype=bool)
    expected[3:12, 5:20] = True
    expected[6:8, 9:12] = False
    expected[14:, 30:33] = True
    masks = [item.shape for image in loaded(case).images for item in image.annotations if isinstance(item.shape, Mask)]
    assert masks and all(np.array_equal(array_from_mask(mask), expected) for mask in masks)


@pytest.mark.parametrize("case", ["supervision/boxes/coco", "supervision/boxes/yolo", "supervision/boxes/voc"])
def test_boxes_of_supervision(case: str) -> None:
    """(5, 3, 20, 12) and (1, 2, 9, 8) as corners, in three formats; its VOC counts pixels from 1."""
    found = {image.name: image.annotations for image in loaded(case).images}
    assert found["empty.jpg"] == ()
    boxes = [item.shape for item in found["a.jpg"]]
    expected = [Box(5, 3, 15, 9), Box(1, 2, 8, 6)]
    for box, wanted in zip(boxes, expected, strict=True):
        assert isinstance(box, Box)
        sizes = (wanted.x, wanted.y, wanted.width, wanted.height)
        assert (box.x, box.y, box.width, box.height) == pytest.approx(sizes, abs=1e-3)


def test_pixels_counted_from_0_and_1() -> None:
    one, zero = (loaded(case).images[0].annotations[0].shape for case in ("labelimg", "pascal_voc_writer"))
    assert one == Box(0, 0, 20, 12) and zero == Box(0, 2, 20, 10)
    asked, notes = read(MADE / "labelimg", choices=Choices(voc_base="0"))
    assert asked.images[0].annotations[0].shape == Box(1, 1, 19, 11) and notes.choices["voc_base"] == 0


def test_rotation_of_x_anylabeling() -> None:
    found = {image.name: image.annotations[0].shape for image in loaded("x_anylabeling").images}
    assert found["obb.jpg"] == RotatedBox(15, 11.25, 10, 7.5, 0)
    assert found["hbb.jpg"] == Box(7.5, 11.25, 5, 7.5)


def test_images_of_one_name_are_kept_apart() -> None:
    for case in ("datumaro/coco", "datumaro/cvat", "datumaro/voc"):
        names = [image.name for image in loaded(case).images]
        assert len(set(names)) == len(names) and sum(name.endswith("a.jpg") for name in names) == 2, names


def test_what_was_changed_is_written_and_the_rest_kept(tmp_path: Path) -> None:
    """A moved polygon gets a new area and box; iscrowd, track_id and the other annotations stay."""
    found = loaded("pycocotools")
    image = found.images[0]
    moved = replace(image.annotations[2], shape=Polygon(((((0, 0), (4, 0), (4, 4), (0, 4)),),)))
    changed = replace(image, annotations=(*image.annotations[:2], moved))
    write(replace(found, images=(changed, *found.images[1:])), tmp_path / "out", "coco")
    rows = json.loads((tmp_path / "out" / "instances.json").read_text(encoding="utf-8"))["annotations"]
    before = json.loads((MADE / "pycocotools" / "instances.json").read_text(encoding="utf-8"))["annotations"]
    assert same(rows[:2], before[:2])
    assert (
        rows[2]["area"] == 16
        and rows[2]["bbox"] == [0, 0, 4, 4]
        and rows[2]["segmentation"] == [[0, 0, 4, 0, 4, 4, 0, 4]]
    )
    assert rows[2]["track_id"] == 4 and rows[2]["category_id"] == 7 and before[2]["area"] == 60.1


def test_coco_by_hand(tmp_path: Path) -> None:
    """The row of a mask and of a box, and the file of a caption, without a tool between."""
    mask = Mask((1, 2, 3), 2, 3)  # of 2 rows and 3 columns: pixels (1, 0) and (0, 1)
    said = (Annotation("7", "b", mask), Annotation("x", "a", Box(1, 0.5, 2, 1)), Annotation("c", text="说"))
    image = AnnotatedImage("p/甲.jpg", 3, 2, annotations=said)
    write(AnnotationSet((image,), (Label("a"), Label("b"))), tmp_path / "out", "coco")
    top = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    own = {"bessemer": {"source": "human"}}
    common = {"image_id": 1, "iscrowd": 0, **own}
    rle = {"size": [2, 3], "counts": "123"}
    assert top == {
        "images": [{"id": 1, "file_name": "p/甲.jpg", "width": 3, "height": 2}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": 7, "category_id": 2, "segmentation": rle, "bbox": [0, 0, 2, 2], "area": 2, **common},
            {"id": 1, "category_id": 1, "segmentation": [], "bbox": [1, 0.5, 2, 1], "area": 2, **common},
        ],
    }
    captions = json.loads((tmp_path / "out" / "captions.json").read_text(encoding="utf-8"))
    assert (
        captions["annotations"] == [{"id": 1, "image_id": 1, "caption": "说", **own}] and "categories" not in captions
    )


def test_upright_means_what_pillow_means() -> None:
    """The corner that orientation 6 moves: stored top left is upright top right."""
    assert to_upright(Point(0, 0), 6, 40, 30) == Point(30, 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_coco_for_pycocotools(tmp_path: Path) -> None:
    """What we write of everything, pycocotools reads: ids, areas and masks."""
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools is a development dependency")
    found = loaded("labelme")
    write(found, tmp_path / "out", "coco")
    top = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    reader = coco_module.COCO()
    reader.dataset = top
    reader.createIndex()
    (image,) = found.images
    labelled = [item for item in image.annotations if item.label is not None]
    rows = reader.loadAnns(reader.getAnnIds())
    assert [reader.loadCats(row["category_id"])[0]["name"] for row in rows] == [item.label for item in labelled]
    for row, item in zip(rows, labelled, strict=True):
        if isinstance(item.shape, Mask):
            assert np.array_equal(reader.annToMask(row).astype(bool), array_from_mask(item.shape))
