"""labelme, and X-AnyLabeling's dialect of it: a JSON file beside every photograph, pixels of the upright frame.

Unknown keys of shapes and files stay. `imageData` is never decoded: it is kept only while it is small, and the
photograph beside the file counts. A shape that is no region (line, ...) stays in its file; a circle is taken as a
polygon of 64 corners, and stays one as long as nobody moves it. Each tool refuses files with shapes that only the
other one draws.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ...data.images import decode_image
from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..geometry import polygon_from_ellipse, polygon_from_mask, polygon_from_rotated_box
from ..rle import crop_from_mask, mask_from_crop
from ..shapes import (
    MAX_PIXELS,
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
    Shape,
)
from .choices import Choices, Reading
from .fields import box_of_corners, image_raw, joined, listing, number, own_fields, placed, row_of, take_own, whole
from .leftovers import kept_whole, leftover, own_whole, restored
from .photographs import FrameOf, frame_to_write, free_name, key_of, safe_name, unique_names
from .report import Losses

__all__ = ["is_labelme", "read_labelme", "write_labelme"]

NAME = "labelme"
NATIVE = frozenset(("label", "text", "attributes", "score"))
HOLDS = NATIVE | {"scene", "author", "created", "updated", "source", "state", "model_version"}
MAX_IMAGE_DATA = 64_000  # characters of imageData that are kept; larger ones are the photograph itself
SHAPE = ("shape_type", "points", "mask", "direction")  # keys that mean something together alone
REFUSED = {  # dialect -> shapes that its tool does not know
    NAME: ("rotation", "quadrilateral", "cuboid"),
    "x-anylabeling": ("oriented_rectangle", "points", "mask"),
}


def is_labelme(top: Any) -> bool:
    """Whether a JSON value looks like labelme."""
    return isinstance(top, dict) and isinstance(top.get("shapes"), list) and "imagePath" in top


def read_labelme(reading: Reading) -> AnnotationSet:
    """Every labelme file of the source."""
    source = reading.source
    tops = {name: source.json(name) for name in source.names if name.lower().endswith(".json")}
    tops = {name: top for name, top in tops.items() if is_labelme(top)}
    need(tops, f"{source.shown('')}: no labelme file", "a JSON file with shapes and imagePath")
    keys = {}
    for file, top in tops.items():
        need(isinstance(top["imagePath"], str), f"{source.shown(file)}: imagePath", "text")
        folder = str(PurePosixPath(file).parent)
        keys[file] = key_of(top["imagePath"], "" if folder == "." else folder)
    keys = dict(zip(keys, unique_names(keys.values()), strict=True))
    found = reading.photographs.match(keys.values())
    images, labels = [], dict[str, Label]()
    for file, top in tops.items():
        where = source.shown(file)
        sides = [key for key in ("imageWidth", "imageHeight") if top.get(key) is not None]
        stated = [whole(top[key], f"{where}: {key}", 1) for key in sides]
        size = (stated[0], stated[1]) if len(stated) == 2 else None
        photograph = found.get(keys[file])
        frame = reading.photographs.frame_of(photograph, size, where)
        annotations, raw = _image(top, where, frame, reading)
        for annotation in annotations:
            if annotation.label is not None:
                labels.setdefault(annotation.label, Label(annotation.label))
        key = photograph.name if photograph else keys[file]
        raw |= {"file": file, "stored": frame.stored}
        with placed(where):
            images.append(reading.photographs.image(key, photograph, frame, annotations, {NAME: raw}))
    circles = sum("drawn" in image_raw(item, NAME) for image in images for item in image.annotations)
    if circles:
        reading.remarks.append(f"circles taken as polygons of 64 corners: {circles}")
    return AnnotationSet(tuple(images), tuple(labels.values()))


def _image(
    top: dict[str, Any], where: str, frame: FrameOf, reading: Reading
) -> tuple[list[Annotation], dict[str, Any]]:
    row = {key: value for key, value in top.items() if key != "shapes"}
    if isinstance(row.get("imageData"), str) and len(row["imageData"]) > MAX_IMAGE_DATA:
        row["imageData"] = None
        reading.remarks.append(f"{where}: imageData was left out; the photograph itself counts")
    annotations, others = [], {}
    for index, item in enumerate(listing(top["shapes"], where)):
        place = f"{where}: shape {index + 1}"
        with placed(place):
            annotation = _annotation(row_of(item, place), str(index + 1), frame)
        if annotation is None:
            others[str(index)] = item
            reading.remarks.append(f"{place}: a {shown(item.get('shape_type'), 40)}, no region; it stays in its file")
        else:
            annotations.append(replace(annotation, raw={NAME: _kept(item, annotation, frame)}))
    flags = row.get("flags")
    if isinstance(flags, dict) and flags:
        annotations.append(Annotation("flags", attributes=flags, source=NAME))
    if isinstance(row.get("description"), str) and row["description"]:
        annotations.append(Annotation("description", text=row["description"], source=NAME))
    raw: dict[str, Any] = {"left": leftover(row, _top(annotations, frame, ""))}
    return annotations, raw | ({"others": others} if others else {})


def _kept(row: dict[str, Any], annotation: Annotation, frame: FrameOf) -> dict[str, Any]:
    """What is kept of a shape's row: its other keys one by one, those of the shape as a whole."""
    shape = {key: row[key] for key in SHAPE if key in row}
    rest = {key: value for key, value in row.items() if key not in SHAPE}
    kept: dict[str, Any] = {"left": leftover(rest, _made(annotation))}
    if whole_shape := kept_whole(shape, _drawn(frame.of_file(annotation.shape), NAME)):
        kept["shape"] = whole_shape
    return kept | ({"drawn": "a circle"} if row.get("shape_type") == "circle" else {})


def _annotation(row: dict[str, Any], id: str, frame: FrameOf) -> Annotation | None:
    shape = _shape(row, frame)
    if shape is None:
        return None
    flags, attributes = ({} if row.get(key) is None else row_of(row[key], key) for key in ("flags", "attributes"))
    fields: dict[str, Any] = {"source": NAME, **take_own(row, "shape")}
    if isinstance(row.get("description"), str):
        fields["text"] = row["description"]
    if isinstance(row.get("score"), int | float) and not isinstance(row["score"], bool):
        fields["score"] = row["score"]
    label = row.get("label")
    need(isinstance(label, str), f"label {shown(label, 40)!r}", "text")
    fields["attributes"] = {**flags, **attributes}
    return Annotation(id, label if isinstance(label, str) and label.strip() else None, frame.upright(shape), **fields)


def _shape(row: dict[str, Any], frame: FrameOf) -> Shape | None:
    kind = row.get("shape_type") or "polygon"  # old files have no type
    points = []
    for pair in listing(row.get("points"), "points"):
        need(isinstance(pair, list) and len(pair) == 2, f"point {shown(pair, 40)}", "x and y")
        points.append((number(pair[0], "x"), number(pair[1], "y")))
    if kind == "polygon" and len(points) >= 3:
        return Polygon(((tuple(points),),))
    if kind == "point" and len(points) == 1:
        return Point(*points[0])
    if kind == "rectangle" and len(points) in (2, 4):
        xs, ys = sorted(x for x, _ in points), sorted(y for _, y in points)
        corners = all(min(x - xs[0], xs[-1] - x) < 1e-3 and min(y - ys[0], ys[-1] - y) < 1e-3 for x, y in points)
        if not corners:
            return box_of_corners(tuple(points))
        return Box(xs[0], ys[0], xs[-1] - xs[0], ys[-1] - ys[0])
    if kind in ("rotation", "oriented_rectangle") and len(points) == 4:
        return box_of_corners(tuple(points))
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return polygon_from_ellipse(*points[0], radius, radius)
    if kind == "mask" and len(points) == 2 and isinstance(row.get("mask"), str):
        return _mask(row["mask"], points, frame)
    return None


def _mask(text: str, points: list[tuple[float, float]], frame: FrameOf) -> Mask:
    """The PNG of a crop whose top left pixel is the first point."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("mask is no base64, expected a PNG in base64") from error
    # A PNG is decoded in the time that its size says; other formats need not be.
    need(data.startswith(b"\x89PNG"), "mask is another file", "a PNG in base64")
    width, height = frame.size
    need(width * height <= MAX_PIXELS, f"a mask in an image of {width} x {height}", f"at most {MAX_PIXELS} pixels")
    limit = min(2 * width * height + 10_000, MAX_PIXELS)
    crop = np.asarray(decode_image(data, "mask", limit).convert("L")) > 0
    left, top = math.floor(min(x for x, _ in points)), math.floor(min(y for _, y in points))
    return mask_from_crop(crop, left, top, width, height)


def _top(annotations: list[Annotation], frame: FrameOf, path: str) -> dict[str, Any]:
    """The keys of a file beside its shapes."""
    flags: dict[str, Any] = {}
    description: dict[str, Any] = {}
    for annotation in annotations:
        if annotation.shape is None:
            flags |= {key: value for key, value in annotation.attributes.items() if isinstance(value, bool)}
            flags |= {annotation.label: True} if annotation.label is not None else {}
            if annotation.text and not description:
                description = {"description": annotation.text}
    size = {"imageHeight": frame.size[1], "imageWidth": frame.size[0]}
    return {"version": "5.0.1", "flags": flags, "imagePath": path, "imageData": None, **size, **description}


def _made(annotation: Annotation) -> dict[str, Any]:
    """The row of a shape but for the shape."""
    flags = {key: value for key, value in annotation.attributes.items() if isinstance(value, bool)}
    attributes = {key: value for key, value in annotation.attributes.items() if key not in flags}
    row: dict[str, Any] = {"label": annotation.label or "", "group_id": None, "description": annotation.text}
    row |= {"flags": flags, **({"attributes": attributes} if attributes else {})}
    if annotation.score is not None:
        row["score"] = annotation.score
    return row | own_fields(annotation, NAME, NATIVE)


def _drawn(shape: Shape | None, dialect: str) -> dict[str, Any]:
    """The keys of a shape; none of what the dialect's tool refuses."""
    if isinstance(shape, Mask) and dialect != NAME:
        shape = polygon_from_mask(shape)
    if isinstance(shape, Mask):
        crop, x, y = crop_from_mask(shape)
        file = io.BytesIO()
        Image.fromarray(crop.astype(np.uint8)).save(file, format="PNG")
        corners = [[x, y], [x + crop.shape[1] - 1, y + crop.shape[0] - 1]]
        return {"shape_type": "mask", "points": corners, "mask": base64.b64encode(file.getvalue()).decode()}
    if isinstance(shape, Box):
        corners = [[shape.x, shape.y], [shape.x + shape.width, shape.y + shape.height]]
        return {"shape_type": "rectangle", "points": corners}
    if isinstance(shape, Point):
        return {"shape_type": "point", "points": [[shape.x, shape.y]]}
    if isinstance(shape, RotatedBox):
        points = [list(pair) for pair in polygon_from_rotated_box(shape).parts[0][0]]
        if dialect == NAME:
            return {"shape_type": "oriented_rectangle", "points": points}
        return {"shape_type": "rotation", "points": points, "direction": math.radians(shape.angle) % (2 * math.pi)}
    if isinstance(shape, Polygon):
        return {"shape_type": "polygon", "points": [list(pair) for pair in joined(shape)]}
    return {}


def write_labelme(
    annotations: AnnotationSet, choices: Choices, losses: Losses, dialect: str = NAME
) -> Iterator[tuple[str, Any]]:
    """A file (name, JSON value) for every image, under the name it was read from, else the image's."""
    taken: set[str] = set()
    for image in annotations.images:
        raw = image_raw(image, NAME)
        frame = frame_to_write(image, raw, choices.frame)
        if isinstance(raw.get("file"), str):
            name = free_name(raw["file"].removesuffix(".json"), ".json", taken)
        else:
            name = safe_name(image.name, ".json", taken)
        shapes = []
        for annotation in image.annotations:
            with placed(f"{shown(image.name)}: {shown(annotation.id, 40)}"):
                if _note(image, annotation, losses, dialect):
                    own = image_raw(annotation, NAME)
                    shape = _shape_row(image, annotation, frame, losses, dialect)
                    shapes.append({**restored(_made(annotation), own.get("left")), **shape})
        others = raw.get("others")
        for index, row in sorted((int(key), row) for key, row in others.items()) if isinstance(others, dict) else ():
            kind = row.get("shape_type") if isinstance(row, dict) else None
            if kind in REFUSED[dialect]:
                losses.add("shape", image, None, f"a {kind}, which {dialect} does not know")
            else:
                shapes.insert(index, row)
        path = "../" * name.count("/") + key_of(image.name)
        top = restored(_top(list(image.annotations), frame, ""), raw.get("left"))
        top["imagePath"] = top["imagePath"] or path
        if dialect != NAME and "left" not in raw:
            top["version"] = "2.3.0"
        yield name, {**top, "shapes": shapes}


def _shape_row(
    image: AnnotatedImage, annotation: Annotation, frame: FrameOf, losses: Losses, dialect: str
) -> dict[str, Any]:
    """The keys of a shape to write: as its file has them, unless it was changed or the dialect has others for it."""
    shape, own = frame.of_file(annotation.shape), image_raw(annotation, NAME)
    row = own_whole(_drawn(shape, NAME), own["shape"]) if "shape" in own else None
    if "drawn" in own and row is None:
        losses.add("kind", image, annotation, "a circle that was moved, written by its corners")
    return row if row is not None and row.get("shape_type") not in REFUSED[dialect] else _drawn(shape, dialect)


def _note(image: AnnotatedImage, annotation: Annotation, losses: Losses, dialect: str) -> bool:
    """Whether it is written as a shape."""
    shape = annotation.shape
    if isinstance(shape, Mask) and dialect != NAME:
        if len(shape.runs) < 2:
            losses.add("shape", image, annotation, "an empty mask: it is not written")
            return False
        losses.add("kind", image, annotation, "a mask, written by its outline")
        losses.parts(image, replace(annotation, shape=polygon_from_mask(shape)))
    if shape is not None:
        losses.parts(image, annotation)
        losses.fields(image, annotation, HOLDS)
        return True
    first = next(item for item in image.annotations if item.shape is None and item.text) if annotation.text else None
    held = {"raw"} if NAME in annotation.raw else set()
    held |= {"text"} if first is annotation else set()
    if all(isinstance(value, bool) for value in annotation.attributes.values()):
        held.add("attributes")
    losses.fields(image, annotation, frozenset(held))
    return False
