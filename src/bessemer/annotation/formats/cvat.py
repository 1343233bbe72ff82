"""CVAT for images 1.1: one XML file, pixels with two decimals where that is exact, attributes as text.

Video tracks are refused: their frames have no names. Shapes that are no region (polyline, cuboid, skeleton, several
points) stay in the file; an ellipse is taken as a polygon of 64 corners, and stays one as long as nobody moves it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...data.paths import shown
from ...data.schema import need
from ..geometry import polygon_from_ellipse
from ..rle import cvat_from_mask, mask_from_cvat
from ..shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    AttributeDefinition,
    AttributeKind,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
    Shape,
)
from .choices import Choices, Reading
from .cvat_labels import attribute_kinds, read_labels, write_labels
from .fields import image_raw, joined, number, placed, whole
from .leftovers import kept_whole, leftover, own_whole, restored
from .photographs import FrameOf, frame_to_write, key_of, unique_names
from .report import Losses
from .xml import Element, element_of, parse_xml, to_tree, to_xml

__all__ = ["is_cvat", "read_cvat", "write_cvat"]

NAME = "cvat"
HOLDS = frozenset(("label", "attributes", "source"))
SHAPE = frozenset(
    ("@xtl", "@ytl", "@xbr", "@ybr", "@rotation", "@points", "@rle", "@left", "@top", "@width", "@height")
    + ("@cx", "@cy", "@rx", "@ry")
)  # what means something together with the name of the element alone


def is_cvat(root: Element) -> bool:
    """Whether a document looks like CVAT."""
    return root.tag == "annotations" and (root.first("image") or root.first("meta") or root.first("track")) is not None


def read_cvat(reading: Reading) -> AnnotationSet:
    """The CVAT files of the source; of several the images follow one another."""
    source = reading.source
    files = [name for name in source.names if name.lower().endswith(".xml")]
    roots = {name: parse_xml(source.read(name), source.shown(name)) for name in files}
    roots = {name: root for name, root in roots.items() if is_cvat(root)}
    need(len(roots) == 1, f"{source.shown('')}: {len(roots)} CVAT files", "one XML file with <annotations>")
    file, root = next(iter(roots.items()))
    where = source.shown(file)
    for element in root.children:
        what = f"{where}:{element.line}: a video track"
        need(element.tag != "track", what, "images; export the task as 'CVAT for images 1.1'")
    labels, meta = read_labels(root.first("meta"), where)
    definitions = {label.name: {item.name: item for item in label.attributes} for label in labels}
    elements = [element for element in root.children if element.tag == "image"]
    stated = [element.attributes.get("name", "") for element in elements]
    for element, name in zip(elements, stated, strict=True):
        need(name.strip(), f"{where}:{element.line}: an image without name", "one")
    keys = unique_names(key_of(name) for name in stated)
    found = reading.photographs.match(keys)
    images: list[AnnotatedImage] = []
    for element, key in zip(elements, keys, strict=True):
        place = f"{where}:{element.line}"
        sides = [side for side in ("width", "height") if side in element.attributes]
        lengths = [whole(element.attributes[side], f"{place}: {side}", 1) for side in sides]
        size = (lengths[0], lengths[1]) if len(lengths) == 2 else None
        photograph = found.get(key)
        frame = reading.photographs.frame_of(photograph, size, place)
        annotations, others = _annotations(element, where, frame, definitions, reading)
        own = to_tree(Element("image", element.attributes))
        raw: dict[str, Any] = {"left": leftover(own, _image(stated[len(images)], frame)), "stored": frame.stored}
        raw |= {"name": stated[len(images)]} | ({"others": others} if others else {})
        key = photograph.name if photograph else key
        with placed(place):
            images.append(reading.photographs.image(key, photograph, frame, annotations, {NAME: raw}))
    ellipses = sum("drawn" in image_raw(item, NAME) for image in images for item in image.annotations)
    if ellipses:
        reading.remarks.append(f"ellipses taken as polygons of 64 corners: {ellipses}")
    used = {annotation.label for image in images for annotation in image.annotations if annotation.label is not None}
    labels += [Label(name) for name in sorted(used - {label.name for label in labels})]
    rest = Element("annotations", root.attributes, "", [c for c in root.children if c.tag not in ("image", "meta")])
    raw_set = {NAME: {"file": file, "meta": meta, "rest": to_tree(rest)}}
    return AnnotationSet(tuple(images), tuple(labels), raw_set)


def _annotations(
    element: Element, file: str, frame: FrameOf, definitions: dict[str, dict[str, AttributeDefinition]],
    reading: Reading,
) -> tuple[list[Annotation], list[dict[str, Any]]]:  # fmt: skip
    annotations: list[Annotation] = []
    others = []
    for number_, child in enumerate(element.children, 1):
        where = f"{file}:{child.line}: {child.tag}"
        with placed(where):
            shape = frame.upright(_shape(child, where, frame))
            if shape is None and child.tag != "tag":
                others.append({"tag": child.tag, "tree": to_tree(child)})
                reading.remarks.append(f"{where}: no region; it stays in its file")
                continue
            label = child.attributes.get("label")
            known = definitions.get(label or "", {})
            attributes = {
                item.attributes.get("name", ""): _value(item.text, known.get(item.attributes.get("name", "")))
                for item in child.children if item.tag == "attribute"
            }  # fmt: skip
            by = "prediction" if child.attributes.get("source") == "auto" else NAME
            annotation = Annotation(str(number_), label or None, shape, attributes=attributes, source=by)
        annotations.append(replace(annotation, raw={NAME: _kept(child, annotation, frame)}))
    return annotations, others


def _kept(element: Element, annotation: Annotation, frame: FrameOf) -> dict[str, Any]:
    """What is kept of an element: what it says of the shape as a whole, the rest one by one."""
    tree = to_tree(element)
    shape = {key: tree.pop(key) for key in SHAPE & tree.keys()}
    kept: dict[str, Any] = {"left": leftover(tree, _made(annotation))}
    if whole_shape := kept_whole({"tag": element.tag, **shape}, _drawn(frame.of_file(annotation.shape))):
        kept["shape"] = whole_shape
    return kept | ({"drawn": "an ellipse"} if element.tag == "ellipse" else {})


def _value(text: str, definition: AttributeDefinition | None) -> Any:
    if definition is not None and definition.kind == "checkbox" and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    if definition is not None and definition.kind == "number":
        try:
            found = float(text)
        except ValueError:
            return text
        return found if math.isfinite(found) else text
    return text


def _shape(element: Element, where: str, frame: FrameOf) -> Shape | None:
    at = element.attributes

    def of(name: str) -> float:
        need(name in at, f"{where} without {name}", "it to be there")
        return number(at[name], f"{where}: {name}")

    if element.tag == "box":
        left, top, right, bottom = (of(name) for name in ("xtl", "ytl", "xbr", "ybr"))
        need(right >= left and bottom >= top, f"{where} of a size below 0", "xtl <= xbr, ytl <= ybr")
        width, height = right - left, bottom - top
        turn = of("rotation") if "rotation" in at else 0.0
        if turn:
            return RotatedBox((left + right) / 2, (top + bottom) / 2, width, height, turn)
        return Box(left, top, width, height)
    if element.tag in ("polygon", "points"):
        pairs = []
        for pair in at.get("points", "").split(";"):
            values = pair.split(",")
            need(len(values) == 2, f"{where}: point {shown(pair, 40)!r}", "x,y")
            pairs.append((number(values[0], f"{where}: x"), number(values[1], f"{where}: y")))
        if element.tag == "points":
            return Point(*pairs[0]) if len(pairs) == 1 else None
        return Polygon(((tuple(pairs),),)) if len(pairs) >= 3 else None
    if element.tag == "mask":
        runs = [whole(text.strip(), f"{where}: rle") for text in at.get("rle", "").split(",")]
        x, y, w, h = (whole(at.get(name, ""), f"{where}: {name}") for name in ("left", "top", "width", "height"))
        return mask_from_cvat(runs, x, y, w, h, *frame.size)
    if element.tag == "ellipse":
        cx, cy, rx, ry = (of(name) for name in ("cx", "cy", "rx", "ry"))
        return polygon_from_ellipse(cx, cy, rx, ry, of("rotation") if "rotation" in at else 0.0)
    return None


def _image(name: str, frame: FrameOf) -> dict[str, str]:
    return {"@name": name, "@width": str(frame.size[0]), "@height": str(frame.size[1])}


def digits(value: float) -> str:
    """Two decimals as CVAT writes them, more where they are needed to a billionth."""
    value = round(value, 9) + 0.0
    short = f"{value:.2f}"
    return short if float(short) == value else repr(value)


def _made(annotation: Annotation) -> dict[str, Any]:
    """The tree of an element but for its shape."""
    tree: dict[str, Any] = {"@label": annotation.label or ""}
    tree["@source"] = "auto" if annotation.source == "prediction" else "manual"
    if annotation.shape is not None:
        tree |= {"@occluded": "0", "@z_order": "0"}
    if annotation.attributes:
        tree["attribute"] = [
            {"@name": name, "#": text} if (text := _words(value)).strip() else {"@name": name}
            for name, value in annotation.attributes.items()
        ]
    return tree


def _drawn(shape: Shape | None) -> dict[str, Any]:
    """The name of the element under "tag", and what it says of the shape."""
    if isinstance(shape, Box | RotatedBox):
        left, top = (shape.x, shape.y) if isinstance(shape, Box) else (shape.cx, shape.cy)
        if isinstance(shape, RotatedBox):
            left, top = left - shape.width / 2, top - shape.height / 2
        edges = (left, top, left + shape.width, top + shape.height)
        box = {f"@{name}": digits(v) for name, v in zip(("xtl", "ytl", "xbr", "ybr"), edges, strict=True)}
        turned = isinstance(shape, RotatedBox) and shape.angle
        return {"tag": "box", **box, **({"@rotation": digits(turned % 360)} if turned else {})}
    if isinstance(shape, Point):
        return {"tag": "points", "@points": f"{digits(shape.x)},{digits(shape.y)}"}
    if isinstance(shape, Polygon):
        return {"tag": "polygon", "@points": ";".join(f"{digits(x)},{digits(y)}" for x, y in joined(shape))}
    if isinstance(shape, Mask):
        runs, *crop = cvat_from_mask(shape)
        sizes = {f"@{name}": str(v) for name, v in zip(("left", "top", "width", "height"), crop, strict=True)}
        return {"tag": "mask", "@rle": ", ".join(map(str, runs)), **sizes}
    return {"tag": "tag"}


def _words(value: Any) -> str:
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_cvat(annotations: AnnotationSet, choices: Choices, losses: Losses) -> Iterator[tuple[str, Any]]:
    """annotations.xml, or the file that the set was read from (name, XML bytes)."""
    raw_set = image_raw(annotations, NAME)
    root = element_of("annotations", raw_set.get("rest") or {"version": [{"#": "1.1"}]})
    root.children.insert(1, write_labels(annotations, raw_set.get("meta")))
    kinds = attribute_kinds(annotations)
    ids: set[str] = set()
    for image in annotations.images:
        raw = image_raw(image, NAME)
        frame = frame_to_write(image, raw, choices.frame)
        name = raw["name"] if isinstance(raw.get("name"), str) else image.name
        tree = restored(_image(name, frame), raw.get("left"))
        number_ = len(ids)
        if not isinstance(tree.get("@id"), str) or tree["@id"] in ids:
            while str(number_) in ids:
                number_ += 1
            tree["@id"] = str(number_)
        ids.add(tree["@id"])
        element = element_of("image", {"@id": tree.pop("@id"), **tree})
        for annotation in image.annotations:
            if not _note(image, annotation, kinds, losses):
                continue
            own = image_raw(annotation, NAME)
            made = _drawn(frame.of_file(annotation.shape))
            shape = (own_whole(made, own["shape"]) if "shape" in own else None) or made
            if "drawn" in own and shape is made:
                losses.add("kind", image, annotation, "an ellipse that was moved, written by its corners")
            tag, tree = str(shape.get("tag")), restored(_made(annotation), own.get("left"))
            element.children.append(element_of(tag, {**tree, **shape}))
        others = raw.get("others")
        for other in others if isinstance(others, list) else ():
            element.children.append(element_of(str(other.get("tag")), other.get("tree")))
        root.children.append(element)
    data, replaced = to_xml(root)
    if replaced:
        losses.add("characters", None, None, f"{replaced} control characters that XML cannot hold")
    file = raw_set["file"] if isinstance(raw_set.get("file"), str) else "annotations.xml"
    yield file, data


def _note(
    image: AnnotatedImage, annotation: Annotation, kinds: dict[str, dict[str, AttributeKind]], losses: Losses
) -> bool:
    shape = annotation.shape
    if annotation.label is None and NAME not in annotation.raw:
        losses.add("shape", image, annotation, "without a label: it is not written")
        return False
    losses.fields(image, annotation, HOLDS if annotation.source == "prediction" else HOLDS - {"source"})
    losses.parts(image, annotation)
    if isinstance(shape, RotatedBox) and not shape.angle % 360:
        losses.add("kind", image, annotation, "a rotated box of angle 0, written as a box")
    own = kinds.get(annotation.label or "", {})
    fits = {"checkbox": bool, "number": int | float}
    bad = [n for n, value in annotation.attributes.items() if not isinstance(value, fits.get(own.get(n, "text"), str))]
    if bad:
        losses.add("attributes", image, annotation, f"{shown(', '.join(bad))}: written as text")
    return True
