"""COCO: one JSON file of images, annotations and categories, or several that share images.

Polygons of one or more rings, masks as run lengths (compressed or not; how a mask is stored says nothing of
`iscrowd`), boxes, captions. `area`, `bbox`, ids and unknown keys stay as the file has them until somebody changes
what they speak of. Captions go into a file of their own, because readers want a category in every annotation else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Label, Polygon, RotatedBox, check_json
from .choices import Choices, Reading
from .coco_categories import CAPTIONS, Categories, file_of
from .coco_rows import NAME, NATIVE, annotation_of, image_row, made_row, number_rows
from .fields import image_raw, listing, placed, row_of, whole
from .leftovers import leftover, restored
from .photographs import FrameOf, Photograph, frame_to_write, key_of, unique_names
from .report import Losses

__all__ = ["is_coco", "read_coco", "write_coco"]

HOLDS = NATIVE | {"scene", "author", "created", "updated", "source", "state", "model_version"}
DEFAULT = "annotations.json"


def is_coco(top: Any) -> bool:
    """Whether a JSON value looks like COCO."""
    return isinstance(top, dict) and {"images", "annotations"} <= top.keys() and isinstance(top["images"], list)


@dataclass(eq=False)
class _Image:
    """An image while it is read: its name as the first file has it, what each file says of it, what belongs to it."""

    key: str
    name: str
    photograph: Photograph | None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    annotations: list[Annotation] = field(default_factory=list)

    def frame(self, reading: Reading) -> FrameOf:
        """The frame of its coordinates, which is the same in all files."""
        first = next(iter(self.sizes), next(iter(self.rows)))
        stated = self.sizes.get(first)
        for file, size in self.sizes.items():
            what = f"{reading.source.shown(file)}: image {shown(self.name)!r} is {size}"
            need(size == stated, what, f"{stated}, as in {reading.source.shown(first)}")
        place = f"{reading.source.shown(first)}: image {shown(self.name)!r}"
        return reading.photographs.frame_of(self.photograph, stated, place)


def read_coco(reading: Reading) -> AnnotationSet:
    """Every COCO file of the source as one set; what several files say of one image is put together."""
    source = reading.source
    tops = {name: source.json(name) for name in source.names if name.lower().endswith(".json")}
    tops = {name: top for name, top in tops.items() if is_coco(top)}
    need(tops, f"{source.shown('')}: no COCO file", "a JSON file with images and annotations")
    ids = _images(reading, tops)
    images = list(dict.fromkeys(image for some in ids.values() for image in some.values()))
    frames = {image: image.frame(reading) for image in images}
    labels: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file, top in tops.items():
        categories = _categories(file, top, reading, labels)
        _annotations(file, top, reading, categories, ids[file], frames)
    names = unique_names(image.photograph.name if image.photograph else image.key for image in images)
    made = []
    for image, name in zip(images, names, strict=True):
        frame = frames[image]
        left = {file: leftover(row, image_row(image.name, frame)) for file, row in image.rows.items()}
        raw = {NAME: {"files": left, "name": image.name, "stored": frame.stored}}
        with placed(source.shown(next(iter(left)))):
            made.append(reading.photographs.image(name, image.photograph, frame, image.annotations, raw))
    files = {
        file: {key: value for key, value in top.items() if key not in ("images", "annotations", "categories")}
        | ({} if "categories" in top else {"categories": None})
        for file, top in tops.items()
    }
    for file, rest in files.items():
        check_json(rest, source.shown(file))
    found = tuple(Label(name, raw={NAME: {"files": rows}}) for name, rows in labels.items())
    return AnnotationSet(tuple(made), found, {NAME: {"files": files}})


def _images(reading: Reading, tops: dict[str, Any]) -> dict[str, dict[Any, _Image]]:
    """file -> image id -> image. Two files speak of one image when its name leads to one photograph, or, where none
    is at hand, to one place with one size."""
    listed = set(reading.photographs.names)
    rows: list[tuple[str, str, dict[str, Any], tuple[int, int] | None]] = []
    stated: dict[str, tuple[int, int]] = {}
    for file, top in tops.items():
        where = reading.source.shown(file)
        told = listing(top["images"], f"{where}: images")
        own = [row_of(row, f"{where}: image {n}") for n, row in enumerate(told, 1)]
        keys = unique_names(_key(file, str(row.get("file_name") or f"image {row.get('id')}"), listed) for row in own)
        for row, key in zip(own, keys, strict=True):
            both = [row[side] for side in ("width", "height") if row.get(side) is not None]
            sizes = [whole(value, f"{where}: image {shown(key)!r}: its size", 1) for value in both]
            size = (sizes[0], sizes[1]) if len(sizes) == 2 else None
            rows.append((file, key, row, size))
            if size is not None:
                stated.setdefault(key, size)
    found = reading.photographs.match(key for _, key, _, _ in rows)
    images: dict[tuple[str, tuple[int, int] | None], _Image] = {}
    ids: dict[str, dict[Any, _Image]] = {file: {} for file in tops}
    for file, key, row, size in rows:
        where = f"{reading.source.shown(file)}: image {shown(key)!r}"
        photograph = found.get(key)
        same = (key, None if photograph else size or stated.get(key))
        image = images.setdefault(same, _Image(key, str(row.get("file_name") or key), photograph))
        ok = isinstance(row.get("id"), str | int | float)
        need(ok, f"{where} without id", "a number as id")
        need(row["id"] not in ids[file], f"{where}: id {row['id']!r} twice", "every id once")
        ids[file][row["id"]] = image
        image.rows[file] = row
        if size is not None:
            image.sizes[file] = size
    return ids


def _key(file: str, name: str, listed: set[str]) -> str:
    """The key of a name that a file states: beside the file, or else from the top, as photographs are there; without
    a folder `annotations`, where COCO keeps its files apart from the photographs."""
    folder = str(PurePosixPath(file).parent)
    beside = key_of(name, "" if folder == "." else folder)
    plain = key_of(name)
    if beside in listed or plain in listed:
        return beside if beside in listed else plain
    return "/".join(part for part in beside.split("/") if part.lower() != "annotations") or beside


def _categories(
    file: str, top: dict[str, Any], reading: Reading, labels: dict[str, dict[str, list[dict[str, Any]]]]
) -> dict[Any, str]:
    """id -> name; the rows are added to `labels` (name -> file -> rows), for a name may stand twice in a file."""
    where = reading.source.shown(file)
    names: dict[Any, str] = {}
    for number_, row in enumerate(listing(top.get("categories") or [], f"{where}: categories"), 1):
        place = f"{where}: category {number_}"
        name = row_of(row, place).get("name")
        if not isinstance(name, str) or not isinstance(row.get("id"), int | float | str):
            raise UserError(f"{place} without id or name, expected a number and text")
        need(row["id"] not in names, f"{place}: id {row['id']!r} twice", "every id once")
        with placed(place):
            Label(name)
        if name in names.values():
            reading.remarks.append(f"{place}: {shown(name)} stands twice; both are one label and keep their ids")
        names[row["id"]] = name
        kept = {"id": row["id"], "left": leftover(row, {"id": row["id"], "name": name})}
        labels.setdefault(name, {}).setdefault(file, []).append(kept)
    return names


def _annotations(
    file: str, top: dict[str, Any], reading: Reading, categories: dict[Any, str], ids: dict[Any, _Image],
    frames: dict[_Image, FrameOf],
) -> None:  # fmt: skip
    shown_file = reading.source.shown(file)
    for number_, row in enumerate(listing(top["annotations"], f"{shown_file}: annotations"), 1):
        where = f"{shown_file}: annotation {number_}"
        row = row_of(row, where)
        image_id, category = row.get("image_id"), row.get("category_id")
        ok = isinstance(image_id, int | float | str) and image_id in ids
        need(ok, f"{where}: image_id {image_id!r}", "the id of an image of the file")
        image = ids[image_id]
        frame = frames[image]
        label = None
        if category is not None:
            ok = isinstance(category, int | float | str) and category in categories
            # Datumaro gives captions the id of a category that is not there.
            need(ok or "caption" in row, f"{where}: category_id {category!r}", "the id of a category of the file")
            label = categories.get(category)
        with placed(where):
            annotation = annotation_of(row, label, frame, image.taken)
            category = category if label is not None else None
            raw = {"file": file, "category": category, "left": leftover(row, made_row(annotation, frame, category))}
            image.annotations.append(replace(annotation, raw={NAME: raw}))


def write_coco(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """The files (name, JSON value): those that the set was read from, else annotations.json and, where there are
    captions, captions.json."""
    found = image_raw(annotations, NAME).get("files")
    tops = {name: top for name, top in found.items() if isinstance(top, dict)} if isinstance(found, dict) else {}
    default = next((file for file, top in tops.items() if "categories" not in top), DEFAULT)
    images: dict[str, list[dict[str, Any]]] = {file: [] for file in (tops or (default,))}
    rows: dict[str, list[dict[str, Any]]] = {}
    categories = Categories(annotations, tops, default)
    for image in annotations.images:
        raw = image_raw(image, NAME)
        frame = frame_to_write(image, raw, choices.frame)
        own: dict[str, list[dict[str, Any]]] = {}
        for annotation in image.annotations:
            if _note(image, annotation, losses):
                file = file_of(annotation, tops, default)
                own.setdefault(file, []).append(_row(annotation, frame, categories.id_of(file, annotation)))
        files = raw.get("files")
        left = files if isinstance(files, dict) else {}
        name = raw["name"] if isinstance(raw.get("name"), str) else image.name
        for file in dict.fromkeys([*(name for name in left if name in tops), *own] or [default]):
            row = restored(image_row(name, frame), left.get(file))
            images.setdefault(file, []).append(row)
            rows.setdefault(file, []).extend([{**item, "image_id": row} for item in own.get(file, [])])
    for file, some in images.items():
        number_rows(some)
        number_rows(rows.get(file, []))
        for row in rows.get(file, []):
            row["image_id"] = row["image_id"]["id"]
        top = tops.get(file, {"categories": None} if file == CAPTIONS else {})
        body = {**top, "images": some, "annotations": rows.get(file, []), "categories": categories.rows(file)}
        yield file, {key: value for key, value in body.items() if key != "categories" or "categories" not in top}


def _row(annotation: Annotation, frame: FrameOf, category: Any) -> dict[str, Any]:
    raw = image_raw(annotation, NAME)
    row = restored(made_row(annotation, frame, category), raw.get("left"))
    if isinstance(row.get("id"), str) and not raw:
        row["id"] = None  # readers count on numbers
    return row


def _note(image: AnnotatedImage, annotation: Annotation, losses: Losses) -> bool:
    """Whether it is written."""
    shape = annotation.shape
    if shape is None and not image_raw(annotation, NAME):
        if not annotation.text:
            what = "attributes" if annotation.label is None else "a label"
            losses.add("shape", image, annotation, f"{what} without a shape: readers want one, so it is not written")
            return False
        if annotation.label is not None:
            losses.add("label", image, annotation, f"{shown(annotation.label)} has no place in a caption")
    losses.fields(image, annotation, HOLDS)
    if isinstance(shape, RotatedBox):
        losses.add("kind", image, annotation, "a rotated box, written as its four corners")
    elif isinstance(shape, Polygon) and any(len(part) > 1 for part in shape.parts):
        losses.add("holes", image, annotation, "holes, joined to the outline by a cut of no width")
    if shape is not None and annotation.label is None:
        losses.add("category", image, annotation, "a shape without a label: readers want a category")
    return True
