"""What people draw and write on photographs, checked when it is made; every tool's file is read into this and
written from it.

Coordinates are float64 pixels in the upright frame (EXIF orientation applied), origin at the top left corner of
the top left pixel, y down: a pixel in row i and column j covers [j, j + 1) x [i, i + 1). Coordinates outside the
image are kept. Every class raises UserError "what, expected what" on values that break its rules.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..data.paths import shown
from ..data.schema import SCENES, Scene, choice, need
from ..errors import UserError

__all__ = [
    "MAX_COORDINATE", "MAX_PIXELS", "MAX_POINTS", "STATES", "AnnotatedImage", "Annotation", "AnnotationSet",
    "AttributeDefinition", "AttributeKind", "Box", "Label", "Mask", "Pair", "Point", "Polygon", "Ring",
    "RotatedBox", "Shape", "State", "canonical_runs", "check_json", "check_text", "finite",
]  # fmt: skip

State: TypeAlias = Literal["todo", "doing", "submitted", "accepted", "rejected"]
AttributeKind: TypeAlias = Literal["text", "number", "checkbox", "select"]
Pair: TypeAlias = tuple[float, float]
Ring: TypeAlias = tuple[Pair, ...]
STATES: tuple[State, ...] = ("todo", "doing", "submitted", "accepted", "rejected")
ATTRIBUTE_KINDS: tuple[AttributeKind, ...] = ("text", "number", "checkbox", "select")

MAX_COORDINATE = 1e9  # a product of two still is exact enough, and no photograph is as large
MAX_PIXELS = 100_000_000  # of a mask: what `data.images` decodes at most
MAX_POINTS = 100_000  # of one polygon
MAX_TEXT = 1_000_000  # characters
MAX_NAME = 1_000
MAX_DEPTH = 32  # of JSON values inside one another

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Box:
    """An upright box: its top left corner and its size, 0 allowed."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        _set_numbers(self, ("x", "y"), ("width", "height"))


@dataclass(frozen=True)
class RotatedBox:
    """A box of size width x height turned about its centre by `angle` degrees, clockwise as seen (y is down)."""

    cx: float
    cy: float
    width: float
    height: float
    angle: float

    def __post_init__(self) -> None:
        _set_numbers(self, ("cx", "cy", "angle"), ("width", "height"))


@dataclass(frozen=True)
class Polygon:
    """A region of one or more parts; a part is its outer ring followed by its holes: `parts[i][0]`, `parts[i][1:]`.

    Rings close themselves (the first point need not be repeated), have 3 points or more and either direction. A
    point is in a part when a ray from it crosses the part's rings an odd number of times, and in the polygon
    when it is in any part.
    """

    parts: tuple[tuple[Ring, ...], ...]

    def __post_init__(self) -> None:
        need(self.parts and all(self.parts), "a polygon without a ring", "an outer ring in every part")
        count = sum(len(ring) for part in self.parts for ring in part)
        need(count <= MAX_POINTS, f"a polygon of {count} points", f"at most {MAX_POINTS}")
        parts = tuple(tuple(_ring(ring) for ring in part) for part in self.parts)
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True)
class Mask:
    """The pixels of an image of height x width that belong to an object.

    runs: lengths of background, object, background ... down the columns, column after column from the left
    (the order of COCO); they add up to height x width. Empty runs are merged away, so equal masks are equal.
    """

    runs: tuple[int, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        _size(self.height, self.width)
        pixels = self.height * self.width
        need(pixels <= MAX_PIXELS, f"a mask of {self.height} x {self.width} pixels", f"at most {MAX_PIXELS}")
        ok = all(type(run) is int and 0 <= run <= pixels for run in self.runs)
        need(ok, "a run length that is no pixel count", f"whole numbers from 0 to {pixels}")
        need(sum(self.runs) == pixels, f"run lengths that add up to {sum(self.runs)}", str(pixels))
        if not all(self.runs[1:]):
            object.__setattr__(self, "runs", canonical_runs(self.runs))


@dataclass(frozen=True)
class Point:
    """One place."""

    x: float
    y: float

    def __post_init__(self) -> None:
        _set_numbers(self, ("x", "y"), ())


Shape: TypeAlias = Box | RotatedBox | Polygon | Mask | Point


@dataclass(frozen=True)
class Annotation:
    """One thing said about a photograph: a labelled shape, or, without a shape, about the whole of it (a caption
    in `text`, a classification in `label` or `attributes`, the scene).

    id: unique in its image. label: None where there is none; a label that the label set does not hold is kept.
    author: who made or last changed it. created, updated: ISO 8601 in UTC from our store, else as the source
    wrote them. source: "human", "prediction", or the format it came from. state: None where the source knows
    none. score: a model's confidence. model_version: the model that first proposed it. raw: source format ->
    keys of its file that have no home here, handed back when that format is written.
    """

    id: str
    label: str | None = None
    shape: Shape | None = None
    text: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    scene: Scene | None = None
    author: str = ""
    created: str = ""
    updated: str = ""
    source: str = "human"
    state: State | None = None
    score: float | None = None
    model_version: str = ""
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.id, "the id of an annotation", MAX_NAME, empty=False)
        if self.label is not None:
            check_text(self.label, "a label", MAX_NAME, empty=False)
        check_text(self.text, "the text", MAX_TEXT)
        for name in ("author", "created", "updated", "source", "model_version"):
            check_text(getattr(self, name), name, MAX_NAME)
        if self.shape is not None and not isinstance(self.shape, Shape):
            raise UserError(
                f"shape {shown(self.shape, 40)!r}, expected a box, rotated box, polygon, mask, point or none"
            )
        if self.scene is not None:
            choice(self.scene, SCENES, "scene")
        if self.state is not None:
            choice(self.state, STATES, "state")
        if self.score is not None:
            object.__setattr__(self, "score", finite(self.score, "score"))
        _check_object(self.attributes, "attributes")
        _check_object(self.raw, "raw")


@dataclass(frozen=True)
class AnnotatedImage:
    """A photograph and what is said about it.

    name: its key in the set, for people and for matching (`/` between folders); never opened as it stands.
    sha256: of the file's bytes, "" where the file is not at hand. width, height: pixels as seen upright.
    exif_orientation: what the file records (1 to 8, 1 where it says nothing); coordinates have it applied already.
    """

    name: str
    width: int
    height: int
    sha256: str = ""
    exif_orientation: int = 1
    annotations: tuple[Annotation, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.name, "the name of an image", 4 * MAX_NAME, empty=False)
        _size(self.height, self.width)
        ok = self.sha256 == "" or (isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256))
        need(ok, f"sha256 {shown(self.sha256, 70)!r}", "64 digits 0-9a-f, or nothing")
        known = type(self.exif_orientation) is int and 1 <= self.exif_orientation <= 8
        need(known, f"EXIF orientation {shown(self.exif_orientation, 40)!r}", "1 to 8")
        _once([annotation.id for annotation in self.annotations], f"annotation id in {shown(self.name)!r}")
        _check_object(self.raw, "raw")


@dataclass(frozen=True)
class AttributeDefinition:
    """An attribute that annotators may fill in: text, a number, a checkbox, or a choice among `options`."""

    name: str
    kind: AttributeKind = "text"
    options: tuple[str, ...] = ()
    default: Any = None

    def __post_init__(self) -> None:
        check_text(self.name, "the name of an attribute", MAX_NAME, empty=False)
        choice(self.kind, ATTRIBUTE_KINDS, "kind of attribute")
        for option in self.options:
            check_text(option, f"an option of {shown(self.name)!r}", MAX_NAME)
        _once(list(self.options), f"option of {shown(self.name)!r}")
        ok = bool(self.options) == (self.kind == "select")
        need(ok, f"{len(self.options)} options of {shown(self.name)!r} ({self.kind})", "options for 'select' alone")
        check_json(self.default, "default")


@dataclass(frozen=True)
class Label:
    """A class that annotators may choose: its name, colour (#rrggbb, lower case, or "") and attributes."""

    name: str
    color: str = ""
    attributes: tuple[AttributeDefinition, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.name, "the name of a label", MAX_NAME, empty=False)
        ok = isinstance(self.color, str) and (self.color == "" or _COLOR.fullmatch(self.color))
        need(ok, f"colour {shown(self.color, 40)!r}", "#rrggbb in lower case, or nothing")
        _once([attribute.name for attribute in self.attributes], f"attribute of {shown(self.name)!r}")
        _check_object(self.raw, "raw")


@dataclass(frozen=True)
class AnnotationSet:
    """Images with their annotations, and the label set in its order (class numbers of YOLO and COCO follow it).

    Image names and label names stand once. Annotations may carry labels that the set does not list.
    """

    images: tuple[AnnotatedImage, ...] = ()
    labels: tuple[Label, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _once([image.name for image in self.images], "image name")
        _once([label.name for label in self.labels], "label")
        _check_object(self.raw, "raw")


def finite(value: object, what: str) -> float:
    """The value as float64; UserError unless it is a finite int or float within ±MAX_COORDINATE."""
    # The comparison is exact for integers of any size, and false for NaN.
    if type(value) in (int, float) and -MAX_COORDINATE <= value <= MAX_COORDINATE:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise UserError(f"{what} {shown(value, 40)!r}, expected a finite number within ±{MAX_COORDINATE:.0f}")


def canonical_runs(runs: tuple[int, ...]) -> tuple[int, ...]:
    """The same alternating runs without empty ones, except that the first may be 0: nothing before the object."""
    out: list[int] = []
    owed = 0  # parity of the next entry of `out`: 0 background, 1 object
    for number, run in enumerate(runs):
        if run == 0:
            continue
        if number % 2 == owed:
            out.append(run)
            owed ^= 1
        elif out:
            out[-1] += run
        else:
            out += [0, run]
    return tuple(out)


def check_text(value: object, what: str, limit: int, empty: bool = True) -> None:
    """Refuse what is not Unicode text of at most `limit` characters; blank text too where `empty` is False."""
    if not isinstance(value, str):
        raise UserError(f"{what} is {shown(value, 40)!r}, expected text")
    need(len(value) <= limit, f"{what} has {len(value)} characters", f"at most {limit}")
    need(empty or value.strip(), f"{what} is empty", "some text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{what} {shown(value, 40)!r} holds half a character, expected whole Unicode text"
            ) from error


def check_json(value: object, what: str, depth: int = 0) -> None:
    """Refuse what JSON cannot carry unchanged: NaN, infinity, other types, keys that are not text, lone surrogates."""
    need(depth <= MAX_DEPTH, f"{what} is nested more than {MAX_DEPTH} levels", "flatter values")
    if value is None or type(value) in (bool, int):
        return
    if isinstance(value, str):
        check_text(value, what, MAX_TEXT * 64)
    elif isinstance(value, float):
        need(math.isfinite(value), f"{what} holds {value}", "finite numbers")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, f"a key of {what}", MAX_TEXT)
            check_json(item, what, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, what, depth + 1)
    else:
        raise UserError(f"{what} holds {shown(value, 40)!r}, expected JSON values alone")


def _check_object(value: object, what: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{what} is {shown(value, 40)!r}, expected an object")
    check_json(value, what)


def _set_numbers(shape: object, free: tuple[str, ...], sizes: tuple[str, ...]) -> None:
    for name in (*free, *sizes):
        value = finite(getattr(shape, name), name)
        need(value >= 0 or name in free, f"{name} {value!r}", "0 or more")
        object.__setattr__(shape, name, value)


def _ring(ring: Ring) -> Ring:
    need(len(ring) >= 3, f"a ring of {len(ring)} points", "at least 3")
    need(all(len(pair) == 2 for pair in ring), "a point that is not two numbers", "x and y")
    return tuple((finite(x, "x"), finite(y, "y")) for x, y in ring)


def _size(height: object, width: object) -> None:
    for name, value in (("height", height), ("width", width)):
        ok = type(value) is int and 1 <= value <= MAX_COORDINATE
        need(ok, f"{name} {shown(value, 40)!r}", "a whole number of pixels, 1 or more")


def _once(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{what} {shown(twice)!r} stands twice, expected every one once")
