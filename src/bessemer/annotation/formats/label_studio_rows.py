"""One region of Label Studio: its shape from a result, and the results of an annotation; the labelling config."""

from __future__ import annotations

import math
from typing import Any

from ...data.schema import need
from ..geometry import polygon_from_ellipse
from ..rle import label_studio_from_mask, mask_from_label_studio
from ..shapes import Annotation, AnnotationSet, Box, Mask, Point, Polygon, RotatedBox, Shape
from .fields import OWN, joined, listing, number, own_fields, whole
from .photographs import FrameOf
from .xml import Element, to_xml

__all__ = ["CONTROLS", "LABELS", "geometry_rows", "label_config", "shape_of"]

# type of a result -> key of its labels
LABELS = {
    f"{kind}labels": f"{kind}labels" for kind in ("rectangle", "polygon", "brush", "keypoint", "ellipse")
}  # fmt: skip
CONTROLS = frozenset((
    *LABELS, "labels", "rectangle", "polygon", "brush", "keypoint", "ellipse", "choices", "textarea",
))  # fmt: skip
SHAPES = {"rectangle": "Rectangle", "polygon": "Polygon", "brush": "Brush", "keypoint": "KeyPoint"}
# Names of the controls that new results have, so attributes do not get controls of these names.
RESERVED = frozenset(("image", "text", "region-text", "labels", *SHAPES, *(f"{name}-bare" for name in SHAPES)))
NAME = "label_studio"


def shape_of(row: dict[str, Any], frame: FrameOf) -> Shape | None:
    """The shape of a result in pixels of the frame; None where it has none that we know."""
    kind, value = row["type"].removesuffix("labels"), row["value"]
    width, height = frame.size

    def of(key: str, size: float) -> float:
        return number(value.get(key), key) * size / 100

    if kind == "rectangle":
        x, y, w, h = of("x", width), of("y", height), of("width", width), of("height", height)
        need(w >= 0 and h >= 0, f"a rectangle of {w} x {h}", "sizes of 0 or more")
        angle = number(value.get("rotation") or 0, "rotation")
        if not angle:
            return Box(x, y, w, h)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        return RotatedBox(x + (w * cos - h * sin) / 2, y + (w * sin + h * cos) / 2, w, h, angle)
    if kind == "polygon":
        pairs = [listing(pair, "a point") for pair in listing(value.get("points"), "points")]
        need(all(len(pair) == 2 for pair in pairs), "a point", "x and y")
        ring = tuple((number(x, "x") * width / 100, number(y, "y") * height / 100) for x, y in pairs)
        return Polygon(((ring,),)) if len(ring) >= 3 else None
    if kind == "keypoint":
        return Point(of("x", width), of("y", height))
    if kind == "brush" and value.get("format", "rle") == "rle" and "rle" in value:
        size = [whole(row.get(key), key, 1) for key in ("original_height", "original_width")]
        return mask_from_label_studio(listing(value["rle"], "rle"), *size)
    if kind == "ellipse":
        cx, cy, rx, ry = of("x", width), of("y", height), of("radiusX", width), of("radiusY", height)
        return polygon_from_ellipse(cx, cy, rx, ry, number(value.get("rotation") or 0, "rotation"))
    return None


def geometry_rows(annotation: Annotation, frame: FrameOf, said: dict[str, Any], apart: bool) -> dict[str, Any]:
    """Key within the region -> result row: "shape", "labels", "text", "choices:NAME". Fields that the group says
    (`said`) are not repeated; those without a place of their own are in the first row's own object.

    apart: the label is a row beside the shape, as a config with `<Rectangle>` and `<Labels>` has it.
    """
    shape = frame.of_file(annotation.shape)
    base: dict[str, Any] = {"id": annotation.id, "to_name": "image"}
    size = {"original_width": frame.size[0], "original_height": frame.size[1], "image_rotation": 0}
    rows: dict[str, Any] = {}
    if shape is not None:
        control, value = _value(shape, frame)
        bare = apart or annotation.label is None
        labels = {} if bare else {f"{control}labels": [annotation.label]}
        kind = {"type": control, "from_name": f"{control}-bare"} if bare else {"type": control + "labels"}
        rows["shape"] = {**base, "from_name": control, **kind, **size, "value": value | labels}
        if apart and annotation.label is not None:
            value = {**value, "labels": [annotation.label]}
            rows["labels"] = {**base, "from_name": "labels", "type": "labels", **size, "value": value}
        if annotation.score is not None and annotation.score != said.get("score"):
            rows["shape"]["score"] = annotation.score
    if annotation.text:
        value = {"text": annotation.text.split("\n")}
        name = "region-text" if shape is not None else "text"
        rows["text"] = {**base, "type": "textarea", "from_name": name, "value": value}
    chosen = {name: value for name, value in annotation.attributes.items() if _is_choice(name, value)}
    if shape is None and annotation.label is not None:
        chosen.pop("label", None)
    rest = {name: value for name, value in annotation.attributes.items() if name not in chosen}
    if shape is None and annotation.label is not None:
        chosen["label"] = annotation.label
    for name, picked in chosen.items():
        value = {"choices": picked if isinstance(picked, list) else [picked]}
        rows[f"choices:{name}"] = {**base, "type": "choices", "from_name": name, "value": value}
    own = own_fields(annotation, NAME, frozenset(("text", "attributes"))).get(OWN, {})
    own = {name: value for name, value in own.items() if value != said.get(name)}
    if shape is not None:
        own.pop("score", None)
    own |= {"attributes": rest} if rest else {}
    if own or not rows:
        key = next(iter(rows), "text")
        rows.setdefault(key, {**base, "type": "textarea", "from_name": "text", "value": {"text": []}})
        rows[key] |= {OWN: own} if own else {}
    return rows


def _is_choice(name: str, value: Any) -> bool:
    """A text, or a list of several texts (a list of one would come back as a text), of a name that is free."""
    if not name or name in RESERVED:
        return False
    texts = [value] if isinstance(value, str) else value
    ok = isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
    return ok and (isinstance(value, str) or len(value) > 1)


def _value(shape: Shape, frame: FrameOf) -> tuple[str, dict[str, Any]]:
    width, height = frame.size
    if isinstance(shape, Box | RotatedBox):
        w, h = shape.width, shape.height
        angle = shape.angle if isinstance(shape, RotatedBox) else 0
        if isinstance(shape, RotatedBox):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = shape.cx - (w * cos - h * sin) / 2, shape.cy - (w * sin + h * cos) / 2
        else:
            x, y = shape.x, shape.y
        place = {"x": x / width * 100, "y": y / height * 100}
        return "rectangle", {**place, "width": w / width * 100, "height": h / height * 100, "rotation": angle}
    if isinstance(shape, Point):
        return "keypoint", {"x": shape.x / width * 100, "y": shape.y / height * 100, "width": 0.5}
    if isinstance(shape, Mask):
        return "brush", {"format": "rle", "rle": label_studio_from_mask(shape)}
    ring = joined(shape)
    return "polygon", {"points": [[x / width * 100, y / height * 100] for x, y in ring], "closed": True}


def label_config(annotations: AnnotationSet) -> bytes:
    """A labelling config with a control for every `from_name` that new results have."""
    root = Element("View", children=[Element("Image", {"name": "image", "value": "$image"})])
    names = {label.name: label.color for label in annotations.labels}
    chosen: dict[str, dict[str, None]] = {}
    for image in annotations.images:
        for annotation in image.annotations:
            if annotation.label is not None:
                names.setdefault(annotation.label, "")
            for name, value in annotation.attributes.items():
                if _is_choice(name, value):
                    texts = value if isinstance(value, list) else [value]
                    chosen.setdefault(name, {}).update(dict.fromkeys(texts))
    if any(a.shape is None and a.label is not None for image in annotations.images for a in image.annotations):
        chosen.setdefault("label", {}).update(dict.fromkeys(names))
    for name, tag in SHAPES.items():
        labels = [Element("Label", {"value": n} | ({"background": c} if c else {})) for n, c in names.items()]
        if labels:
            root.children.append(Element(f"{tag}Labels", {"name": name, "toName": "image"}, children=labels))
        root.children.append(Element(tag, {"name": f"{name}-bare", "toName": "image"}))
    for name, options in chosen.items():
        choices = [Element("Choice", {"value": option}) for option in options]
        root.children.append(Element("Choices", {"name": name, "toName": "image"}, children=choices))
    root.children.append(Element("TextArea", {"name": "text", "toName": "image"}))
    root.children.append(Element("TextArea", {"name": "region-text", "toName": "image", "perRegion": "true"}))
    return to_xml(root)[0].split(b"\n", 1)[1]  # Label Studio refuses the XML declaration
