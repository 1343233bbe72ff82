"""Values of foreign rows, checked; and an object of our own inside open formats for what they have no key for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError
from ..geometry import polygon_from_rotated_box
from ..shapes import (
    MAX_COORDINATE,
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    Label,
    Pair,
    Polygon,
    Ring,
    RotatedBox,
    finite,
)

__all__ = [
    "OWN",
    "image_raw",
    "joined",
    "box_of_corners",
    "listing",
    "number",
    "own_fields",
    "pairs_of",
    "placed",
    "row_of",
    "take_own",
    "unique_id",
    "whole",
]

OWN = "bessemer"
_OWN_FIELDS = (
    "text",
    "attributes",
    "scene",
    "author",
    "created",
    "updated",
    "source",
    "state",
    "score",
    "model_version",
)


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Say where: a UserError from within gets the place in front, unless it begins with it."""
    try:
        yield
    except UserError as error:
        if str(error).startswith(where):
            raise
        raise UserError(f"{where}: {error}") from error


def number(value: object, where: str) -> float:
    """A finite number, of JSON or of text; UserError "where: what, expected what"."""
    if isinstance(value, str) and len(value) < 100:
        try:
            value = float(value)
        except ValueError as error:
            raise UserError(f"{where} is {shown(value, 40)!r}, expected a number") from error
    return finite(value, where)


def whole(value: object, where: str, least: int = 0) -> int:
    """A whole number, of JSON (1024.0 too) or of text."""
    found = number(value, where)
    need(found == int(found) and least <= found <= MAX_COORDINATE, f"{where} is {found}", f"a whole number >= {least}")
    return int(found)


def row_of(value: object, where: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise UserError(f"{where} is {shown(value, 40)!r}, expected an object")
    return value


def listing(value: object, where: str) -> list[Any]:
    """A JSON list."""
    if not isinstance(value, list):
        raise UserError(f"{where} is {shown(value, 40)!r}, expected a list")
    return value


def pairs_of(flat: list[Any], where: str) -> Ring:
    """The points of x, y, x, y ..."""
    need(len(flat) % 2 == 0, f"{where} has {len(flat)} numbers", "an even count")
    values = [number(value, where) for value in flat]
    return tuple(zip(values[::2], values[1::2], strict=True))


def unique_id(wanted: object, taken: set[str]) -> str:
    """The id as text if it is one and free, else the next number; it is added to `taken`."""
    text = str(wanted) if isinstance(wanted, str | int | float) and not isinstance(wanted, bool) else ""
    if not text.strip() or len(text) > 1_000 or text in taken:
        count = len(taken) + 1
        while str(count) in taken:
            count += 1
        text = str(count)
    taken.add(text)
    return text


def own_fields(annotation: Annotation, format: str, native: frozenset[str]) -> dict[str, Any]:
    """{"bessemer": {...}} with the fields that say something and that the format has no key for; {} without any.
    Other tools pass over it."""
    own = {}
    for name in _OWN_FIELDS:
        value = getattr(annotation, name)
        if name not in native and value not in (None, "", {}) and not (name == "source" and value == format):
            own[name] = value
    return {OWN: own} if own else {}


def take_own(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields in a row's own object, for the constructor of an annotation, which checks their values."""
    own = row.get(OWN)
    if own is None:
        return {}
    for name in row_of(own, f"{where}: {OWN!r}"):
        need(name in _OWN_FIELDS, f"{where}: key {shown(name)!r} in {OWN!r}", f"one of {', '.join(_OWN_FIELDS)}")
    return dict(own)


def joined(polygon: Polygon) -> Ring:
    """One ring that covers the same points: the outlines are joined to one another, there and back along a line.

    The two ways along a line cancel out wherever insides are counted by crossings; only parts that overlap cannot be
    said so (there a point would be counted twice, and so be outside).
    """
    rings = [ring for part in polygon.parts for ring in part]
    path: list[Pair] = list(rings[0])
    for ring in rings[1:]:
        path += [rings[0][0], *ring, ring[0]]
    return (*path, rings[0][0]) if len(rings) > 1 else rings[0]


def image_raw(holder: AnnotatedImage | Annotation | AnnotationSet | Label, format: str) -> dict[str, Any]:
    """The format's own object in the raw of an image, annotation ...; {} where there is none or it is no object."""
    raw = holder.raw.get(format)
    return raw if isinstance(raw, dict) else {}


def box_of_corners(points: Ring) -> RotatedBox | Polygon:
    """The rotated box of four corners in order; a polygon where they are none to a thousandth of a pixel."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    width, height = math.dist(points[0], points[1]), math.dist(points[1], points[2])
    turn = math.atan2(by - ay, bx - ax) if width else math.atan2(dy - ay, dx - ax) - math.pi / 2
    box = RotatedBox((ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4, width, height, math.degrees(turn))
    corners = polygon_from_rotated_box(box).parts[0][0]
    exact = all(math.dist(one, other) < 1e-3 for one, other in zip(points, corners, strict=True))
    return box if exact else Polygon(((tuple(points),),))
