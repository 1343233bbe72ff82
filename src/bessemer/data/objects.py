"""The `objects` of ms-swift's rows: names and boxes beside the messages, in whose texts marks stand for them.

    {"messages": [{"role": "user", "content": "<image>Find the <ref-object>."},
                  {"role": "assistant", "content": "<bbox><bbox>"}], "images": ["a.jpg"],
     "objects": {"ref": ["sheep"], "bbox": [[90, 160, 135, 212], [360, 480, 500, 590]]}}

ref: names, in the order of the marks `<ref-object>`. bbox: boxes of 4 numbers (left, top, right, bottom) or points of
2, in the order of the marks `<bbox>`. bbox_type: "real" pixels (default), "norm1" or "norm1000". image_id: the number
of the image that each box is of (default 0). width, height: of each image, where "real" means pixels of another size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .coordinates import Coordinates
from .paths import shown
from .records import get_field
from .schema import choice, is_number, need

__all__ = ["BOX", "REF", "fill_objects"]

REF, BOX = "<ref-object>", "<bbox>"
_KEYS = frozenset({"ref", "bbox", "bbox_type", "image_id", "width", "height"})
_TYPES = ("real", "norm1", "norm1000")


def fill_objects(texts: Sequence[str], objects: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The texts of a row's turns with names and boxes, by our convention (`coordinates`), in place of the marks.

    sizes: (width, height) of the row's images.

    Raises:
        UserError: as many names or boxes as marks are not there; boxes that are none or outside their image.
    """
    unknown = sorted(map(str, objects.keys() - _KEYS))
    need(not unknown, f"unknown key {shown(unknown[:1], 40)} in objects", ", ".join(sorted(_KEYS)))
    names = get_field(objects, "ref", list, [])
    for name in names:
        need(isinstance(name, str) and name.strip(), f"ref {shown(name, 40)!r}", "a name")
    boxes = _spoken(objects, sizes)
    for mark, given in ((REF, names), (BOX, boxes)):
        count = sum(text.count(mark) for text in texts)
        need(count == len(given), f"{count} marks {mark} for {len(given)} in objects", "as many")
    supply = {REF: iter(names), BOX: iter(boxes)}
    return [_filled(text, supply) for text in texts]


def _filled(text: str, supply: dict[str, Any]) -> str:
    for mark in (REF, BOX):
        first, *rest = text.split(mark)
        text = first
        for piece in rest:
            space = " " if mark == BOX and text and (text[-1].isalnum() or text[-1] == "]") else ""
            text += space + next(supply[mark]) + piece
    return text


def _spoken(objects: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> list[str]:
    boxes = get_field(objects, "bbox", list, [])
    kind = choice(objects.get("bbox_type") or "real", _TYPES, "bbox_type")
    ids = objects.get("image_id") or [0] * len(boxes)
    need(isinstance(ids, list) and len(ids) == len(boxes), "image_id of another length", f"{len(boxes)}, one a box")
    measured = _measured(objects, sizes)
    spoken = []
    for box, number in zip(boxes, ids, strict=True):
        known = type(number) is int and 0 <= number < len(sizes)
        need(known, f"image_id {shown(number, 40)!r}", f"0 to {len(sizes) - 1}, one of the row's images")
        spoken.append(_box(box, kind, measured[number]))
    return spoken


def _measured(objects: dict[str, Any], sizes: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The sizes in whose pixels the boxes are given."""
    if objects.get("width") is None and objects.get("height") is None:
        return sizes
    widths, heights = get_field(objects, "width", list), get_field(objects, "height", list)
    ok = len(widths) == len(heights) == len(sizes) and all(type(v) is int and v > 0 for v in (*widths, *heights))
    need(ok, "width and height of objects", f"{len(sizes)} whole numbers each, one an image")
    return list(zip(widths, heights, strict=True))


def _box(box: object, kind: str, size: tuple[int, int]) -> str:
    ok = isinstance(box, list) and len(box) in (2, 4) and all(is_number(value) for value in box)
    need(ok, f"bbox {shown(box, 60)}", "4 numbers (left, top, right, bottom), or 2 of a point")
    assert isinstance(box, list)
    width, height = size
    across, down = {"real": (1.0, 1.0), "norm1": (width, height), "norm1000": (width / 1000, height / 1000)}[kind]
    pixels = [(x * across, y * down) for x, y in zip(box[::2], box[1::2], strict=True)]
    for x, y in pixels:
        inside = -1 <= x <= width + 1 and -1 <= y <= height + 1
        need(inside, f"bbox {shown(box, 60)} ({kind})", f"inside its image of {width} x {height}")
    if len(pixels) == 2:
        (left, top), (right, bottom) = pixels
        need(left <= right and top <= bottom, f"bbox {shown(box, 60)}", "left, top, right, bottom")
    return Coordinates(width, height).text(pixels)
