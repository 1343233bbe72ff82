"""Annotations as JSON, lossless in float64; `decode_X(encode_X(value)) == value` for every value that `shapes` lets
be made.

A shape is `{"kind": "box", "x": ...}`; kinds: box, rotated_box, polygon, mask, point. Keys that hold their default
are left out. Decoders take what comes from outside: a key that is not known is refused, never dropped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..data.jsonl import read_rows
from ..data.paths import shown
from ..data.schema import need
from ..errors import UserError
from .shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    AttributeDefinition,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
    Shape,
)

__all__ = [
    "KINDS", "decode_annotation", "decode_annotations", "decode_image", "decode_label", "decode_labels",
    "decode_shape", "encode_annotation", "encode_image", "encode_label",
    "encode_shape", "read_images", "to_json",
]  # fmt: skip

KINDS: dict[str, type[Shape]] = {
    "box": Box, "rotated_box": RotatedBox, "polygon": Polygon, "mask": Mask, "point": Point,
}  # fmt: skip
_NAMES = {kind: name for name, kind in KINDS.items()}
_ORDER = {kind: [field.name for field in dataclasses.fields(kind)] for kind in _NAMES}
# class -> field -> default, MISSING where there is none; looked up a hundred thousand times in a project
_DEFAULTS: dict[type, dict[str, Any]] = {
    kind: {f.name: {} if f.default_factory is dict else f.default for f in dataclasses.fields(kind)}
    for kind in (Annotation, AnnotatedImage, AttributeDefinition, Label)
}
T = TypeVar("T", Annotation, AnnotatedImage, AttributeDefinition, Label)


def to_json(value: Any) -> str:
    """Compact JSON text, Chinese as it is; floats by their shortest digits that give the same float64 back."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_shape(shape: Shape) -> dict[str, Any]:
    """The JSON object of a shape."""
    row: dict[str, Any] = {"kind": _NAMES[type(shape)]}
    if isinstance(shape, Polygon):
        return {**row, "parts": [[[list(pair) for pair in ring] for ring in part] for part in shape.parts]}
    if isinstance(shape, Mask):
        return {**row, "runs": list(shape.runs), "height": shape.height, "width": shape.width}
    return {**row, **vars(shape)}


def decode_shape(row: object) -> Shape:
    """The shape of a JSON object; raises UserError "what, expected what"."""
    fields = dict(_object(row, "a shape"))
    name = fields.pop("kind", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UserError(f"kind of shape {shown(name, 40)!r}, expected one of {', '.join(KINDS)}")
    if fields.keys() != set(_ORDER[kind]):
        raise UserError(f"a {name} with {shown(sorted(fields))}, expected exactly {', '.join(_ORDER[kind])}")
    if kind is Polygon:
        parts = _list(fields["parts"], "parts")
        return Polygon(tuple(tuple(_ring(ring) for ring in _list(part, "a part")) for part in parts))
    if kind is Mask:
        return Mask(tuple(_list(fields["runs"], "runs")), fields["height"], fields["width"])
    return kind(*(fields[key] for key in _ORDER[kind]))


def _ring(ring: object) -> tuple[Any, ...]:
    return tuple(tuple(_list(pair, "a point")) for pair in _list(ring, "a ring"))


def encode_annotation(annotation: Annotation) -> dict[str, Any]:
    """The JSON object of an annotation, without the keys that hold their default."""
    row = _set_fields(annotation)
    if annotation.shape is not None:
        row["shape"] = encode_shape(annotation.shape)
    return row


def decode_annotation(row: object) -> Annotation:
    """The annotation of a JSON object; raises UserError "what, expected what"."""
    fields = _fields(row, Annotation, "an annotation")
    if fields.get("shape") is not None:
        fields["shape"] = decode_shape(fields["shape"])
    return _make(Annotation, fields, "an annotation")


def decode_annotations(rows: object) -> tuple[Annotation, ...]:
    """The annotations of a JSON list; the UserError of a bad one says which it is, from 1."""
    return _each(rows, decode_annotation, "annotation")


def encode_image(image: AnnotatedImage) -> dict[str, Any]:
    """The JSON object of an image and its annotations."""
    row = _set_fields(image)
    if image.annotations:
        row["annotations"] = [encode_annotation(annotation) for annotation in image.annotations]
    return row


def decode_image(row: object) -> AnnotatedImage:
    """The image of a JSON object; raises UserError "what, expected what"."""
    fields = _fields(row, AnnotatedImage, "an image")
    fields["annotations"] = decode_annotations(fields.get("annotations", []))
    return _make(AnnotatedImage, fields, "an image")


def read_images(path: Path) -> list[AnnotatedImage]:
    """The images of a file that holds one a line; raises UserError "file:line: what, expected what"."""
    return read_rows(path, lambda row, _: decode_image(row))


def encode_label(label: Label) -> dict[str, Any]:
    """The JSON object of a label with its attributes."""
    row = _set_fields(label)
    if label.attributes:
        row["attributes"] = [
            {**_set_fields(attribute), **({"options": list(attribute.options)} if attribute.options else {})}
            for attribute in label.attributes
        ]
    return row


def decode_label(row: object) -> Label:
    """The label of a JSON object; raises UserError "what, expected what"."""
    fields = _fields(row, Label, "a label")
    fields["attributes"] = _each(fields.get("attributes", []), _decode_attribute, "attribute")
    return _make(Label, fields, "a label")


def decode_labels(rows: object) -> tuple[Label, ...]:
    """The label set of a JSON list, names once; raises UserError "what, expected what"."""
    return AnnotationSet(labels=_each(rows, decode_label, "label")).labels


def _decode_attribute(row: object) -> AttributeDefinition:
    fields = _fields(row, AttributeDefinition, "an attribute")
    fields["options"] = tuple(_list(fields.get("options", []), "options"))
    return _make(AttributeDefinition, fields, "an attribute")


def _set_fields(value: Annotation | AnnotatedImage | AttributeDefinition | Label) -> dict[str, Any]:
    """The fields that do not hold their default, as they are."""
    row: dict[str, Any] = {}
    for name, default in _DEFAULTS[type(value)].items():
        item = getattr(value, name)
        if type(item) is not type(default) or item != default:
            row[name] = item
    return row


def _fields(row: object, kind: type, what: str) -> dict[str, Any]:
    fields = dict(_object(row, what))
    known = _DEFAULTS[kind].keys()
    for key in fields.keys() - known:
        raise UserError(f"unknown key {shown(key)!r} in {what}, expected only {', '.join(sorted(known))}")
    return fields


def _make(kind: type[T], fields: dict[str, Any], what: str) -> T:
    for name, default in _DEFAULTS[kind].items():
        need(name in fields or default is not dataclasses.MISSING, f"no {name!r} in {what}", "it to be there")
    return kind(**fields)


def _each(rows: object, decode: Callable[[object], Any], what: str) -> tuple[Any, ...]:
    decoded = []
    for number, row in enumerate(_list(rows, f"the list of {what}s"), 1):
        try:
            decoded.append(decode(row))
        except UserError as error:
            raise UserError(f"{what} {number}: {error}") from error
    return tuple(decoded)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{what} is {shown(value, 40)!r}, expected a list")
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what} is {shown(value, 40)!r}, expected an object")
    return value
