"""COCO: one JSON file of images, annotations and categories, or several that share images.

Polygons of one or more rings, masks as run lengths (compressed or not; how a mask is stored says nothing of
`iscrowd`), boxes, captions. `area`, `bbox`, ids and unknown keys stay as the file has them until somebody changes
what they speak of. Captions go into a file of their own, because readers want a category in every annotation else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...data.schema import need
from ...errors import UserError
from ..geometry import area, bounding_box, polygon_from_rotated_box
from ..rle import coco_from_mask, mask_from_coco
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label, Mask, Point, Polygon, RotatedBox, Shape
from .choices import Choices, Reading
from .fields import image_raw, joined, listing, number, own_fields, pairs_of, row_of, take_own, unique_id, whole
from .leftovers import leftover, restored
from .photographs import FrameOf, key_of, unique_names
from .report import Losses

__all__ = ["is_coco", "read_coco", "write_coco"]

NAME = "coco"
NATIVE = frozenset(("label", "text", "attributes", "score"))
HOLDS = NATIVE | {"scene", "author", "created", "updated", "source", "state", "model_version"}
DEFAULT, CAPTIONS = "annotations.json", "captions.json"
EXACT = 2_000  # points of a polygon up to which its area is exact where parts overlap


def is_coco(top: Any) -> bool:
    """Whether a JSON value looks like COCO."""
    return isinstance(top, dict) and {"images", "annotations"} <= top.keys() and isinstance(top["images"], list)


def read_coco(reading: Reading) -> AnnotationSet:
    """Every COCO file of the source as one set; images of the same file name are one."""
    source = reading.source
    tops = {name: source.json(name) for name in source.names if name.lower().endswith(".json")}
    tops = {name: top for name, top in tops.items() if is_coco(top)}
    need(tops, f"{source.shown('')}: no COCO file", "a JSON file with images and annotations")
    rows: dict[str, dict[str, dict[str, Any]]] = {}  # image name -> file -> row
    ids: dict[str, dict[Any, str]] = {}  # file -> image id -> image name
    for file, top in tops.items():
        where = source.shown(file)
        own = [row_of(row, f"{where}: image {n}") for n, row in enumerate(listing(top["images"], where), 1)]
        names = unique_names(str(row.get("file_name") or f"image {row.get('id')}") for row in own)
        ids[file] = {}
        for row, name in zip(own, names, strict=True):
            need("id" in row and not isinstance(row["id"], dict | list), f"{where}: {name!r} without id", "an id")
            need(row["id"] not in ids[file], f"{where}: image id {row['id']!r} twice", "every id once")
            ids[file][row["id"]] = name
            rows.setdefault(name, {})[file] = row
    return _Set(reading, tops, rows, ids).read()


class _Set:
    """The pieces of a set while it is read."""

    def __init__(
        self, reading: Reading, tops: dict[str, Any], rows: dict[str, dict[str, dict[str, Any]]],
        ids: dict[str, dict[Any, str]],
    ) -> None:  # fmt: skip
        self.reading, self.tops, self.rows, self.ids = reading, tops, rows, ids
        self.labels: dict[str, Label] = {}
        self.annotations: dict[str, list[Annotation]] = {name: [] for name in rows}
        self.frames: dict[str, FrameOf] = {}
        self.taken: dict[str, set[str]] = {}

    def read(self) -> AnnotationSet:
        """Images, categories, annotations."""
        keys = dict(zip(self.rows, unique_names(key_of(name) for name in self.rows), strict=True))
        photographs = self.reading.photographs
        found = photographs.match(keys.values())
        for name, files in self.rows.items():
            row = next(iter(files.values()))
            sizes = [whole(row[key], f"{name}: {key}", 1) for key in ("width", "height") if row.get(key) is not None]
            size = (sizes[0], sizes[1]) if len(sizes) == 2 else None
            self.frames[name] = photographs.frame_of(found.get(keys[name]), size, f"image {name!r}")
        for file, top in self.tops.items():
            categories = self._categories(file, top)
            self._annotations(file, top, categories)
        images = []
        for name, files in self.rows.items():
            frame = self.frames[name]
            raw = {
                "files": {file: leftover(row, _image_row(name, frame)) for file, row in files.items()},
                "name": name, "stored": frame.stored,
            }  # fmt: skip
            photograph = found.get(keys[name])
            key = photograph.name if photograph else keys[name]
            images.append(photographs.image(key, photograph, frame, self.annotations[name], {NAME: raw}))
        files = {
            file: {key: value for key, value in top.items() if key not in ("images", "annotations", "categories")}
            | ({} if "categories" in top else {"categories": None})
            for file, top in self.tops.items()
        }
        return AnnotationSet(tuple(images), tuple(self.labels.values()), {NAME: {"files": files}})

    def _categories(self, file: str, top: dict[str, Any]) -> dict[Any, str]:
        where = self.reading.source.shown(file)
        names: dict[Any, str] = {}
        for number_, row in enumerate(listing(top.get("categories") or [], f"{where}: categories"), 1):
            row = row_of(row, f"{where}: category {number_}")
            name = row.get("name")
            if not isinstance(name, str) or "id" not in row:
                raise UserError(f"{where}: category {number_} without id or name, expected both")
            need(isinstance(row["id"], int | float | str), f"{where}: category {number_}", "a number as id")
            need(row["id"] not in names, f"{where}: category id {row['id']!r} twice", "every id once")
            names[row["id"]] = name
            raw = {NAME: {"id": row["id"], "left": leftover(row, {"id": row["id"], "name": name})}}
            self.labels.setdefault(name, Label(name, raw=raw))
        return names

    def _annotations(self, file: str, top: dict[str, Any], categories: dict[Any, str]) -> None:
        for number_, row in enumerate(listing(top["annotations"], file), 1):
            where = f"{self.reading.source.shown(file)}: annotation {number_}"
            row = row_of(row, where)
            image_id = row.get("image_id")
            ok = isinstance(image_id, int | float | str) and image_id in self.ids[file]
            need(ok, f"{where}: image_id {image_id!r}", "the id of an image of the file")
            name = self.ids[file][image_id]
            label = None
            if row.get("category_id") is not None:
                ok = isinstance(row["category_id"], int | float | str) and row["category_id"] in categories
                # Datumaro gives captions the id of a category that is not there.
                ok = ok or "caption" in row
                need(ok, f"{where}: category_id {row['category_id']!r}", "the id of a category of the file")
                label = categories.get(row["category_id"])
            try:
                annotation = _annotation(row, label, self.frames[name], self.taken.setdefault(name, set()))
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
            category = row.get("category_id") if label is not None else None
            raw = {"file": file, "left": leftover(row, _made(annotation, self.frames[name], category))}
            self.annotations[name].append(replace(annotation, raw={NAME: raw}))


def _annotation(row: dict[str, Any], label: str | None, frame: FrameOf, taken: set[str]) -> Annotation:
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


def _image_row(name: str, frame: FrameOf) -> dict[str, Any]:
    return {"file_name": name, "width": frame.size[0], "height": frame.size[1]}


def _made(annotation: Annotation, frame: FrameOf, category: Any) -> dict[str, Any]:
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


def write_coco(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """The files (name, JSON value): those that the set was read from, else annotations.json and, where there are
    captions, captions.json."""
    known = annotations.raw.get(NAME)
    found = known.get("files") if isinstance(known, dict) else None
    tops = {name: top for name, top in found.items() if isinstance(top, dict)} if isinstance(found, dict) else {}
    default = next((file for file, top in tops.items() if "categories" not in top), DEFAULT)
    categories, numbers = _category_rows(annotations)
    images: dict[str, list[dict[str, Any]]] = {file: [] for file in (tops or (default,))}
    rows: dict[str, list[dict[str, Any]]] = {}
    for image in annotations.images:
        raw = image_raw(image, NAME)
        stored = choices.frame == "stored" or (choices.frame == "auto" and raw.get("stored") is True)
        frame = FrameOf(image.width, image.height, image.exif_orientation, stored and image.exif_orientation != 1)
        own: dict[str, list[dict[str, Any]]] = {}
        for annotation in image.annotations:
            losses.fields(image, annotation, HOLDS)
            _note(image, annotation, losses)
            file, row = _row(annotation, frame, numbers, tops, default)
            own.setdefault(file, []).append(row)
        files = raw.get("files")
        left = files if isinstance(files, dict) else {}
        name = raw["name"] if isinstance(raw.get("name"), str) else image.name
        for file in dict.fromkeys([*(name for name in left if name in tops), *own] or [default]):
            row = restored(_image_row(name, frame), left.get(file))
            images.setdefault(file, []).append(row)
            rows.setdefault(file, []).extend([{**item, "image_id": row} for item in own.get(file, [])])
    for file, some in images.items():
        _number(some)
        _number(rows.get(file, []))
        for row in rows.get(file, []):
            row["image_id"] = row["image_id"]["id"]
        top = tops.get(file, {"categories": None} if file == CAPTIONS else {})
        body = {**top, "images": some, "annotations": rows.get(file, []), "categories": categories}
        yield file, {key: value for key, value in body.items() if key != "categories" or "categories" not in top}


def _row(
    annotation: Annotation, frame: FrameOf, numbers: dict[str, Any], tops: dict[str, Any], default: str
) -> tuple[str, dict[str, Any]]:
    """The file that an annotation goes into, and its row."""
    raw = annotation.raw.get(NAME)
    raw = raw if isinstance(raw, dict) else {}
    caption = annotation.shape is None and annotation.label is None
    file = raw["file"] if raw.get("file") in tops else (CAPTIONS if caption else default)
    category = numbers[annotation.label] if annotation.label is not None else None
    row = restored(_made(annotation, frame, category), raw.get("left"))
    if isinstance(row.get("id"), str) and not raw:
        row["id"] = None  # readers count on numbers
    return file, row


def _number(rows: list[dict[str, Any]]) -> None:
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


def _note(image: AnnotatedImage, annotation: Annotation, losses: Losses) -> None:
    shape = annotation.shape
    if isinstance(shape, RotatedBox):
        losses.add("kind", image, annotation, "a rotated box, written as its four corners")
    elif isinstance(shape, Polygon) and any(len(part) > 1 for part in shape.parts):
        losses.add("holes", image, annotation, "holes, joined to the outline by a cut of no width")
    if shape is not None and annotation.label is None:
        losses.add("category", image, annotation, "a shape without a label: readers want a category")


def _category_rows(annotations: AnnotationSet) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The categories with their ids as they were, else the next free number; label -> id."""
    names = list(dict.fromkeys([label.name for label in annotations.labels]))
    used = (annotation.label for image in annotations.images for annotation in image.annotations)
    names += [name for name in dict.fromkeys(used) if name is not None and name not in set(names)]
    raws = {label.name: label.raw.get(NAME) for label in annotations.labels}
    taken: set[Any] = set()
    numbers: dict[str, Any] = {}
    for name in names:
        raw = raws.get(name)
        if isinstance(raw, dict) and isinstance(raw.get("id"), int | float | str) and raw["id"] not in taken:
            numbers[name] = raw["id"]
            taken.add(raw["id"])
    rows = []
    for name in names:
        if name not in numbers:
            numbers[name] = next(number_ for number_ in range(1, len(names) + len(taken) + 2) if number_ not in taken)
            taken.add(numbers[name])
        raw = raws.get(name)
        left = raw.get("left") if isinstance(raw, dict) else None
        rows.append(restored({"id": numbers[name], "name": name}, left))
    return rows, numbers
