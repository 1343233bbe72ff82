"""labelme and X-AnyLabeling: shapes that are changed, and shapes that only one of the two draws."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.formats.table import read, write
from bessemer.annotation.shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Box,
    Mask,
    Polygon,
    RotatedBox,
    Shape,
)
from bessemer.errors import UserError

SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]]
TILTED = [[20, 10], [30, 20], [20, 30], [10, 20]]


def labelme(path: Path, *shapes: dict[str, Any], **more: Any) -> None:
    """Write a file with some shapes."""
    rows = [{"label": "x", "flags": {}, "group_id": 3, "description": "", **shape} for shape in shapes]
    size = {"imageWidth": 64, "imageHeight": 48}
    top = {"version": "5", "flags": {}, "shapes": rows, "imagePath": "a.jpg", "imageData": None, **size, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(top))


def changed(found: AnnotationSet, change: Callable[[Any], Shape]) -> AnnotationSet:
    """The set with the shape of its first annotation changed."""
    (image,) = found.images
    first, *rest = image.annotations
    said = (replace(first, shape=change(first.shape)), *rest)
    return replace(found, images=(replace(image, annotations=said),))


def moved(shape: Polygon) -> Polygon:
    return Polygon((tuple(tuple((x + 5, y) for x, y in ring) for ring in shape.parts[0]),))


def rows(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "a.json").read_text())["shapes"]
    assert isinstance(found, list)
    return found


def test_a_circle_is_one_until_it_is_moved(tmp_path: Path) -> None:
    circle = {"shape_type": "circle", "points": [[20, 20], [30, 20]]}
    labelme(tmp_path / "in" / "a.json", circle)
    found, notes = read(tmp_path / "in", "labelme")
    assert "circles taken as polygons of 64 corners: 1" in notes.remarks
    assert write(found, tmp_path / "same", "labelme").losses == ()
    assert rows(tmp_path / "same")[0].items() >= circle.items()
    report = write(changed(found, moved), tmp_path / "moved", "labelme")
    (row,) = rows(tmp_path / "moved")
    assert row["shape_type"] == "polygon" and len(row["points"]) == 64 and row["group_id"] == 3
    assert report.counts() == {"kind": 1}
    assert write(found, tmp_path / "coco", "coco").counts()["kind"] == 1


def test_a_turned_box_has_no_stale_direction(tmp_path: Path) -> None:
    turned = {"shape_type": "rotation", "points": SQUARE, "direction": 0.5, "difficult": True}
    labelme(tmp_path / "in" / "a.json", turned)
    found, _ = read(tmp_path / "in", "x-anylabeling")
    write(found, tmp_path / "same", "x-anylabeling")
    assert rows(tmp_path / "same")[0].items() >= turned.items()
    write(changed(found, lambda shape: replace(shape, angle=90)), tmp_path / "turned", "x-anylabeling")
    (row,) = rows(tmp_path / "turned")
    assert row["direction"] == pytest.approx(math.pi / 2) and row["difficult"] is True


def test_a_mask_and_its_place_change_together(tmp_path: Path) -> None:
    """A crop larger than its object is kept, and is not mixed with the crop of another object of the same extent."""
    mask = Mask((5, 3, 8), 4, 4)
    write(
        AnnotationSet((AnnotatedImage("a.jpg", 4, 4, annotations=(Annotation("1", "x", mask),)),)),
        tmp_path / "1",
        "labelme",
    )
    top = json.loads((tmp_path / "1" / "a.json").read_text())
    top["shapes"][0]["points"] = [[1.0, 1.0], [1.4, 3.4]]
    (tmp_path / "1" / "a.json").write_text(json.dumps(top))
    found, _ = read(tmp_path / "1", "labelme")
    write(found, tmp_path / "same", "labelme")
    assert rows(tmp_path / "same") == top["shapes"]
    other = Mask((5, 1, 1, 1, 8), 4, 4)
    write(changed(found, lambda _: other), tmp_path / "other", "labelme")
    assert rows(tmp_path / "other")[0]["points"] == [[1, 1], [1, 3]]
    assert read(tmp_path / "other", "labelme")[0].images[0].annotations[0].shape == other


@pytest.mark.parametrize(
    ("dialect", "row", "kind"),
    [
        ("labelme", {"shape_type": "rotation", "points": SQUARE, "direction": 0.0}, "oriented_rectangle"),
        ("x-anylabeling", {"shape_type": "oriented_rectangle", "points": SQUARE}, "rotation"),
        ("x-anylabeling", {"shape_type": "oriented_rectangle", "points": [*SQUARE[:3], [9, 9]]}, "polygon"),
        ("x-anylabeling", {"shape_type": "rotation", "points": TILTED, "direction": 0.1}, "rotation"),
    ],
)
def test_each_tool_gets_what_it_knows(tmp_path: Path, dialect: str, row: dict[str, Any], kind: str) -> None:
    labelme(tmp_path / "in" / "a.json", row)
    found, _ = read(tmp_path / "in", dialect)
    write(found, tmp_path / "out", dialect)
    (out,) = rows(tmp_path / "out")
    assert out["shape_type"] == kind and ("direction" in out) == (kind == "rotation") and out["group_id"] == 3
    assert read(tmp_path / "out", dialect)[0].images[0].annotations[0].shape == found.images[0].annotations[0].shape


def test_x_anylabeling_gets_no_masks_and_no_foreign_shapes(tmp_path: Path) -> None:
    said = (Annotation("1", "x", Mask((5, 3, 8), 4, 4)), Annotation("2", "x", Mask((16,), 4, 4)))
    image = AnnotatedImage("a.jpg", 4, 4, annotations=said)
    report = write(AnnotationSet((image,)), tmp_path / "out", "x-anylabeling")
    (row,) = rows(tmp_path / "out")
    assert row["shape_type"] == "polygon" and sorted(map(tuple, row["points"])) == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert report.counts() == {"kind": 1, "shape": 1}
    labelme(
        tmp_path / "in" / "a.json",
        {"shape_type": "points", "points": SQUARE},
        {"shape_type": "line", "points": SQUARE[:2]},
    )
    found, _ = read(tmp_path / "in", "labelme")
    report = write(found, tmp_path / "foreign", "x-anylabeling")
    assert [row["shape_type"] for row in rows(tmp_path / "foreign")] == ["line"] and report.counts() == {"shape": 1}


def test_a_rectangle_of_four_corners(tmp_path: Path) -> None:
    """Upright it is a box, tilted a rotated one, and its file keeps it."""
    for name, corners, kind in (("square", SQUARE, Box), ("tilted", TILTED, RotatedBox)):
        labelme(tmp_path / name / "a.json", {"shape_type": "rectangle", "points": corners})
        found, _ = read(tmp_path / name, "labelme")
        assert isinstance(found.images[0].annotations[0].shape, kind)
        write(found, tmp_path / f"{name}-out", "labelme")
        assert rows(tmp_path / f"{name}-out")[0].items() >= {"shape_type": "rectangle", "points": corners}.items()


def test_a_mask_of_a_huge_image_is_refused(tmp_path: Path) -> None:
    mask = {"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "iVBORw0KGgo="}
    labelme(tmp_path / "a.json", mask, imageWidth=10**9, imageHeight=10**9)
    with pytest.raises(
        UserError, match=r"a\.json: shape 1: a mask in an image of .*, expected at most 100000000 pixels"
    ):
        read(tmp_path, "labelme")


def test_messages_name_the_file(tmp_path: Path) -> None:
    labelme(tmp_path / "a.json", mine=json.loads("[" * 40 + "]" * 40))
    with pytest.raises(UserError, match=r"a\.json.* nested more than \d+ levels"):
        read(tmp_path, "labelme")
    labelme(tmp_path / "a.json", imageHeight=0)
    with pytest.raises(UserError, match=r"a\.json: imageHeight is 0\.0, expected a whole number >= 1"):
        read(tmp_path, "labelme")


def test_files_keep_their_names(tmp_path: Path) -> None:
    """A part that looks like the suffix of a photograph is one of them."""
    for suffix in ("jpg", "png"):
        labelme(tmp_path / "in" / f"a.{suffix}.json", imagePath=f"a.{suffix}")
    write(read(tmp_path / "in", "labelme")[0], tmp_path / "out", "labelme")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["a.jpg.json", "a.png.json"]
