"""Pascal VOC: an XML file for every photograph, boxes of pixel numbers, both ends included.

The standard counts pixels from 1, many tools from 0. `voc_base` 1: pixel number n begins at n - 1 and the last one
ends at its number, so x = xmin - 1, width = xmax - xmin + 1. 0: the numbers are taken as edges, x = xmin,
width = xmax - xmin. "auto" is 0 where any xmin or ymin is 0, else 1; what was chosen is in the notes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ...data.paths import shown
from ...data.schema import need
from ..geometry import bounding_box
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Box, Label, Mask, Point
from .choices import Choices, Reading
from .fields import image_raw, number, placed, whole
from .leftovers import leftover, restored
from .photographs import FrameOf, frame_to_write, key_of, safe_name, unique_names
from .report import Losses
from .xml import Element, element_of, parse_xml, to_tree, to_xml

__all__ = ["is_voc", "read_voc", "write_voc"]

NAME = "voc"
HOLDS = frozenset(("label", "attributes"))
EDGES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(root: Element) -> bool:
    """Whether a document looks like Pascal VOC."""
    return root.tag == "annotation" and any(root.first(tag) is not None for tag in ("object", "size", "filename"))


def read_voc(reading: Reading) -> AnnotationSet:
    """Every VOC file of the source."""
    source = reading.source
    files = [name for name in source.names if name.lower().endswith(".xml")]
    roots = {name: parse_xml(source.read(name), source.shown(name)) for name in files}
    roots = {name: root for name, root in roots.items() if is_voc(root)}
    need(roots, f"{source.shown('')}: no Pascal VOC file", "an XML file with <annotation>")
    base = _base(roots, reading)
    keys = _keys(roots, reading)
    found = reading.photographs.match(keys.values())
    images, labels = [], dict[str, Label]()
    for file, root in roots.items():
        where = source.shown(file)
        size = _size(root, where)
        photograph = found.get(keys[file])
        frame = reading.photographs.frame_of(photograph, size, where)
        annotations: list[Annotation] = []
        for element in root.children:
            if element.tag == "object":
                annotation = _annotation(element, where, str(len(annotations) + 1), base, frame)
                annotations.append(annotation)
                if annotation.label is not None:
                    labels.setdefault(annotation.label, Label(annotation.label))
        rest = Element("annotation", root.attributes, root.text, [c for c in root.children if c.tag != "object"])
        raw = {
            "file": file, "stored": frame.stored, "base": base,
            "left": leftover(to_tree(rest), _top("", frame)),
        }  # fmt: skip
        key = photograph.name if photograph else keys[file]
        with placed(where):
            images.append(reading.photographs.image(key, photograph, frame, annotations, {NAME: raw}))
    used = {image.name for image in images}
    stems = {stem for file in roots for stem in (PurePosixPath(file).name, PurePosixPath(file).stem)}
    for name in reading.photographs.names:  # those with nothing on them have no file
        path = PurePosixPath(name)
        if name not in used and "JPEGImages" in path.parts:
            if {path.stem, path.name} & stems:  # its own file is there, whatever photograph that names
                reading.remarks.append(f"{shown(name)} has a file of its name that is of another; it is left out")
                continue
            photograph = reading.photographs.facts(name)
            frame = reading.photographs.frame_of(photograph, None, name)
            images.append(reading.photographs.image(name, photograph, frame, [], {NAME: {"file": None}}))
    return AnnotationSet(tuple(images), tuple(labels.values()))


def _base(roots: dict[str, Element], reading: Reading) -> int:
    edges = ("xmin", "ymin")
    boxes = (box for root in roots.values() for item in root.children for box in item.children if box.tag == "bndbox")
    zero = any(box.value(edge).strip("0.") == "" and box.value(edge) for box in boxes for edge in edges)
    asked = reading.choices.voc_base
    base = int(asked) if asked != "auto" else (0 if zero else 1)
    reading.made["voc_base"] = base
    if asked == "auto":
        why = "some xmin or ymin is 0" if zero else "no xmin or ymin is 0"
        reading.remarks.append(f"pixels are counted from {base}, since {why}; --voc-base says otherwise")
    return base


def _keys(roots: dict[str, Element], reading: Reading) -> dict[str, str]:
    """file -> key: the name that it states, unless other files state the same or no photograph has it; then the
    photograph of the XML file's own name, as tools that copy a file leave the old name in it."""
    stated = {file: _key(file, root.value("filename") or PurePosixPath(file).stem) for file, root in roots.items()}
    often = Counter(stated.values())
    found = reading.photographs.match(key for key, count in often.items() if count == 1)
    by_stem: dict[str, set[str]] = {}
    for name in map(PurePosixPath, reading.photographs.names):
        for stem in {name.stem, name.name}:
            by_stem.setdefault(stem, set()).add(name.name)
    keys = {}
    for file, key in stated.items():
        own = by_stem.get(PurePosixPath(file).stem, set())
        if key not in found and often[key] > 1 and not own:
            own = {PurePosixPath(file).stem + PurePosixPath(key).suffix}
        keys[file] = _key(file, next(iter(own))) if key not in found and len(own) == 1 else key
        if PurePosixPath(keys[file]).stem != PurePosixPath(key).stem:
            where = reading.source.shown(file)
            reading.remarks.append(f"{where} states {shown(key)}; taken as {shown(keys[file])} by its own name")
    return dict(zip(keys, unique_names(keys.values()), strict=True))


def _key(file: str, name: str) -> str:
    """The folders of the XML file (without Annotations) and a file name, which may have folders itself."""
    folder = [part for part in PurePosixPath(file).parent.parts if part.lower() != "annotations"]
    stated = key_of(name)
    return stated if "/" in stated else "/".join([*folder, stated])


def _size(root: Element, where: str) -> tuple[int, int] | None:
    element = root.first("size")
    if element is None:
        return None
    values = [whole(element.value(key) or "0", f"{where}:{element.line}: {key}") for key in ("width", "height")]
    return (values[0], values[1]) if all(values) else None  # labelImg writes 0 where it could not see


def _annotation(element: Element, file: str, id: str, base: int, frame: FrameOf) -> Annotation:
    where = f"{file}:{element.line}"
    box = element.first("bndbox")
    shape = None
    if box is not None:
        values = [number(box.value(edge), f"{where}: {edge}") for edge in EDGES]
        left, top, right, bottom = values[0] - base, values[1] - base, values[2], values[3]
        need(right >= left and bottom >= top, f"{where}: a box from {values[:2]} to {values[2:]}", "xmin <= xmax")
        shape = frame.upright(Box(left, top, right - left, bottom - top))
    attributes: dict[str, Any] = {}
    listed = element.first("attributes")
    for item in listed.children if listed is not None else ():
        attributes[item.value("name")] = item.value("value")
    with placed(where):
        annotation = Annotation(id, element.value("name") or None, shape, attributes=attributes, source=NAME)
    raw = {"base": base, "left": leftover(to_tree(element), _made(annotation, frame, base))}
    return replace(annotation, raw={NAME: raw})


def _made(annotation: Annotation, frame: FrameOf, base: int) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "name": [_text(annotation.label or "")], "pose": [_text("Unspecified")], "truncated": [_text("0")],
        "difficult": [_text("0")],
    }  # fmt: skip
    shape = frame.of_file(annotation.shape)
    if shape is not None:
        box = bounding_box(shape)
        values = (box.x + base, box.y + base, box.x + box.width, box.y + box.height)
        tree["bndbox"] = [{edge: [_text(_digits(value))] for edge, value in zip(EDGES, values, strict=True)}]
    if annotation.attributes:
        rows = [{"name": [_text(key)], "value": [_text(_words(v))]} for key, v in annotation.attributes.items()]
        tree["attributes"] = [{"attribute": rows}]
    return tree


def _tree(annotation: Annotation, frame: FrameOf, base: int) -> dict[str, Any]:
    """The tree to write: with what its own file said, but the numbers of the pixels where they are counted anew."""
    kept = image_raw(annotation, NAME)
    made = _made(annotation, frame, base)
    before = base if kept.get("base") == base else 1 - base
    tree = restored(_made(annotation, frame, before), kept.get("left"))
    return tree if before == base or "bndbox" not in made else {**tree, "bndbox": made["bndbox"]}


def _text(text: str) -> dict[str, str]:
    return {"#": text} if text.strip() else {}


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _digits(value: float) -> str:
    """The shortest decimal that is the number to a billionth."""
    return repr(round(value, 9) + 0.0).removesuffix(".0")


def _top(name: str, frame: FrameOf) -> dict[str, Any]:
    size = {"width": [_text(str(frame.size[0]))], "height": [_text(str(frame.size[1]))], "depth": [_text("3")]}
    folder = str(PurePosixPath(name).parent)
    return {
        "folder": [_text("" if folder == "." else folder)], "filename": [_text(PurePosixPath(name).name)],
        "size": [size], "segmented": [_text("0")],
    }  # fmt: skip


def write_voc(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """A file (name, XML bytes) for every image, in Annotations/ where it was read from nowhere else."""
    losses.choices["voc_base"] = choices.voc_base if choices.voc_base != "auto" else "as read, else 1"
    taken: set[str] = set()
    for image in annotations.images:
        raw = image_raw(image, NAME)
        frame = frame_to_write(image, raw, choices.frame)
        base = int(choices.voc_base) if choices.voc_base != "auto" else (0 if raw.get("base") == 0 else 1)
        if "file" in raw and raw["file"] is None and not image.annotations:
            continue  # nothing on it, and it had no file
        own = isinstance(raw.get("file"), str)
        name = safe_name(raw["file"].removesuffix(".xml") if own else f"Annotations/{image.name}", ".xml", taken)
        if not own and PurePosixPath(name).stem != PurePosixPath(key_of(image.name)).stem:
            losses.add("name", image, None, f"its file is {name}, since another image has that name")
        root = element_of("annotation", restored(_top("", frame), raw.get("left")))
        if not root.value("filename"):
            top = restored(_top(image.name, frame), raw.get("left"))
            root = element_of("annotation", top)
        for annotation in image.annotations:
            if _note(image, annotation, losses):
                root.children.append(element_of("object", _tree(annotation, frame, base)))
        data, replaced = to_xml(root)
        if replaced:
            losses.add("characters", image, None, f"{replaced} control characters that XML cannot hold")
        yield name, data


def _note(image: AnnotatedImage, annotation: Annotation, losses: Losses) -> bool:
    shape = annotation.shape
    from_here = NAME in annotation.raw
    empty = isinstance(shape, Mask) and len(shape.runs) < 2
    if empty or isinstance(shape, Point) or (not from_here and (shape is None or annotation.label is None)):
        losses.add("shape", image, annotation, "not a labelled shape with an extent: it is not written")
        return False
    losses.fields(image, annotation, HOLDS)
    if shape is not None and not isinstance(shape, Box):
        losses.add("kind", image, annotation, f"{type(shape).__name__}, written as the box around it")
    if any(not isinstance(value, str) for value in annotation.attributes.values()):
        losses.add("attributes", image, annotation, "values that are no text are written as text")
    return True
