"""Rows of COCO and annotations, one from the other."""

from __future__ import annotations

from typing import Any

from ...data.schema import need
from ..geometry import area, bounding_box, polygon_from_rotated_box
from ..rle import coco_from_mask, mask_from_coco
from ..shapes import Annotation, Box, Mask, Point, Polygon, RotatedBox, Shape
from .fields import joined, listing, number, own_fields, pairs_of, take_own, unique_id, whole
from .photographs import FrameOf

__all__ = ["NAME", "NATIVE", "annotation_of", "image_row", "made_row", "number_rows"]

NAME = "coco"
NATIVE = frozenset(("label", "text", "attributes", "score"))
EXACT = 2_000  # points of a polygon up to which its area is exact where parts overlap


def annotation_of(row: dict[str, Any], label: str | None, frame: FrameOf, taken: set[str]) -> Annotation:
    """The annotation of a row, its id free among `taken`."""
    fields: dict[str, Any] = {"source": NAME, **take_own(row, "annotation")}
    caption = row.get("caption")
    if isinstance(caption, str):
        fields["text"] = caption
    if isinstance(row.get("attributes"), dict):
        fields["attributes"] = row["attributes"]
    if "score" in row and not isinstance(row["score"], bool) and isinstance(row["score"], int | float):
        fields["score"] = row["score"]
    return Annotation(unique_id(row.get("id"), taken), label, frame.upright(_shape(row, frame)), **fields)


def _shape(row: dict[str, Any], frame: FrameOf) -> Shape | None:
    segmentation, box = row.get("segmentation"), row.get("bbox")
    if isinstance(segmentation, dict):
        size = [whole(value, "size", 1) for value in listing(segmentation.get("size"), "size")]
        need(tuple(size) == frame.size[::-1], f"a mask of {size}", f"{list(frame.size[::-1])}, the image's")
        counts = segmentation.get("counts")
        need(isinstance(counts, list | str), "counts of a mask", "a list or the compressed string")
        return mask_from_coco(counts if isinstance(counts, list | str) else [], *size)
    if segmentation:
        flat = listing(segmentation, "segmentation")
        flat = flat if isinstance(flat[0], list) else [flat]
        rings = [pairs_of(listing(ring, "a ring"), "a ring") for ring in flat]
        if rings := [ring for ring in rings if len(ring) >= 3]:  # two points have no area and real files have them
            return Polygon(tuple((ring,) for ring in rings))
    points = row.get("keypoints")
    if isinstance(points, list) and len(points) == 3 and points[2] and not segmentation:
        return Point(number(points[0], "keypoints"), number(points[1], "keypoints"))
    if box:
        need(len(listing(box, "bbox")) == 4, f"bbox {box}", "x, y, width, height")
        return Box(*(number(value, "bbox") for value in box))
    return None


def image_row(name: str, frame: FrameOf) -> dict[str, Any]:
    """The row of an image but for its id."""
    return {"file_name": name, "width": frame.size[0], "height": frame.size[1]}


def made_row(annotation: Annotation, frame: FrameOf, category: Any) -> dict[str, Any]:
    """The row of an annotation but for image_id, without what its own file said."""
    row: dict[str, Any] = {"id": int(annotation.id) if annotation.id.isdecimal() else annotation.id}
    if category is not None:
        row["category_id"] = category
    shape = frame.of_file(annotation.shape)
    if shape is not None:
        row |= _geometry(shape)
    for name, key in (("text", "caption"), ("attributes", "attributes"), ("score", "score")):
        if (value := getattr(annotation, name)) not in ("", {}, None):
            row[key] = value
    return row | own_fields(annotation, NAME, NATIVE)


def _geometry(shape: Shape) -> dict[str, Any]:
    extent: dict[str, Any] = {"area": 0.0, "iscrowd": 0}
    if isinstance(shape, Mask):
        counts = {"size": [shape.height, shape.width], "counts": coco_from_mask(shape)}
        box = bounding_box(shape) if len(shape.runs) > 1 else Box(0, 0, 0, 0)
        return {"segmentation": counts, "bbox": [*vars(box).values()], **extent, "area": area(shape)}
    if isinstance(shape, Point):
        keypoints = {"keypoints": [shape.x, shape.y, 2], "num_keypoints": 1}
        return {"segmentation": [], **keypoints, "bbox": [shape.x, shape.y, 0.0, 0.0], **extent}
    if isinstance(shape, Box):
        return {"segmentation": [], "bbox": [*vars(shape).values()], **extent, "area": area(shape)}
    polygon = polygon_from_rotated_box(shape) if isinstance(shape, RotatedBox) else shape
    rings = [joined(Polygon((part,))) for part in polygon.parts]
    segmentation = [[value for pair in ring for value in pair] for ring in rings]
    count = sum(map(len, rings))
    covered = area(shape) if count <= EXACT else sum(area(Polygon((part,))) for part in polygon.parts)
    return {"segmentation": segmentation, "bbox": [*vars(bounding_box(shape)).values()], **extent, "area": covered}


def number_rows(rows: list[dict[str, Any]]) -> None:
    """Give every row an id: its own if it has one and is the first with it, else the next free number."""
    taken: set[Any] = set()
    late = []
    for row in rows:
        known = row.get("id")
        if isinstance(known, int | float | str) and not isinstance(known, bool) and known not in taken:
            taken.add(known)
        else:
            late.append(row)
    number_ = 0
    for row in late:
        number_ += 1
        while number_ in taken:
            number_ += 1
        row["id"] = number_
