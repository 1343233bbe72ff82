"""What a format cannot hold of a set, and what was noticed while reading one: for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...data.paths import shown
from ..shapes import AnnotatedImage, Annotation, AnnotationSet, Polygon

__all__ = ["FIELDS", "Loss", "LossReport", "Losses", "Notes"]

# Fields of an annotation that a format may have no place for, in the order of the report.
FIELDS = (
    "label", "text", "attributes", "scene", "author", "created", "updated", "source", "state", "score",
    "model_version", "raw",
)  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """One thing that the target does not hold as it was.

    kind: a field of the annotation, or "kind" (another kind of shape covers the same or nearly the same area),
    "shape" (not written at all), "text" ... image, annotation: their name and id, "" where it is about more.
    """

    kind: str
    image: str
    annotation: str
    what: str


@dataclass(frozen=True)
class LossReport:
    """What was written, how, and what did not fit. files: relative to the directory. choices: what the writer
    decided where a format leaves a choice."""

    format: str
    images: int
    annotations: int
    files: int
    losses: tuple[Loss, ...]
    choices: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """kind -> how often."""
        return dict(sorted(Counter(loss.kind for loss in self.losses).items()))

    def to_json(self) -> dict[str, Any]:
        """The whole report as a JSON object."""
        losses = [vars(loss) for loss in self.losses]
        about = {"format": self.format, "images": self.images, "annotations": self.annotations, "files": self.files}
        return {**about, "choices": self.choices, "counts": self.counts(), "losses": losses}

    def text(self) -> str:
        """A few lines for a terminal; each kind of loss with its first case."""
        lines = [f"{self.format}: {self.images} images, {self.annotations} annotations in {self.files} files"]
        lines += [f"  {name}: {value}" for name, value in self.choices.items()]
        first: dict[str, Loss] = {}
        for loss in self.losses:
            first.setdefault(loss.kind, loss)
        for kind, count in self.counts().items():
            where = " ".join(filter(None, (first[kind].image, first[kind].annotation)))
            place = f"{shown(where)}: " if where else ""  # none where it is about the whole set
            lines.append(f"  not held: {kind}, {count} times; first {place}{shown(first[kind].what, 200)}")
        return "\n".join(lines if self.losses else [*lines, "  nothing was lost"])


@dataclass(frozen=True)
class Notes:
    """How a set was read: its format, what was chosen where the format leaves a choice (`voc_base`, `task`,
    `frame` ...), and what a person should know."""

    format: str
    choices: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def text(self) -> str:
        """Lines for a terminal."""
        lines = [f"{self.format}"] + [f"  {name}: {value}" for name, value in self.choices.items()]
        return "\n".join([*lines, *(f"  note: {remark}" for remark in self.remarks)])


class Losses:
    """Collects losses while a format is written."""

    def __init__(self, format: str) -> None:
        self.format = format
        self.losses: list[Loss] = []
        self.choices: dict[str, Any] = {}

    def add(self, kind: str, image: AnnotatedImage | None, annotation: Annotation | None, what: str) -> None:
        """Note one loss."""
        name = image.name if image is not None else ""
        self.losses.append(Loss(kind, name, annotation.id if annotation is not None else "", what))

    def parts(self, image: AnnotatedImage, annotation: Annotation) -> None:
        """Note parts or holes, for a format whose polygons are one ring."""
        shape = annotation.shape
        if isinstance(shape, Polygon) and (len(shape.parts) > 1 or len(shape.parts[0]) > 1):
            self.add("parts", image, annotation, "parts or holes, joined to one ring by cuts of no width")

    def fields(self, image: AnnotatedImage, annotation: Annotation, holds: Mapping[str, str] | frozenset[str]) -> None:
        """Note every field of an annotation that says something and is not in `holds`, and a shape that was "drawn"
        as a circle or ellipse in another format."""
        for name in FIELDS:
            value = getattr(annotation, name)
            if name == "raw":
                value = sorted(set(value) - {self.format})
            elif name == "source" and value in ("human", self.format):
                continue
            if name not in holds and value not in (None, "", {}, []):
                self.add(name, image, annotation, f"{shown(value, 60)} has no place in {self.format}")
        for name, raw in annotation.raw.items():
            drawn = raw.get("drawn") if isinstance(raw, dict) and name != self.format else None
            if drawn and isinstance(annotation.shape, Polygon):
                self.add("kind", image, annotation, f"{shown(drawn)} of {name}, taken as a polygon of 64 corners")

    def of_set(self, annotations: AnnotationSet, holds: frozenset[str]) -> None:
        """Note what a set says beside its annotations: colours and attributes of labels, other formats' keys."""
        for label in annotations.labels:
            if label.color and "color" not in holds:
                self.add("color", None, None, f"the colour of {shown(label.name)}")
            if label.attributes and "definitions" not in holds:
                self.add("definitions", None, None, f"the attributes defined for {shown(label.name)}")
            for name in sorted(set(label.raw) - {self.format}):
                self.add("raw", None, None, f"keys of {name} of label {shown(label.name)}")
        for name in sorted(set(annotations.raw) - {self.format}):
            self.add("raw", None, None, f"keys of {name} of the whole set")
        for image in annotations.images:
            for name in sorted(set(image.raw) - {self.format}):
                self.add("raw", image, None, f"keys of {name} of the image")

    def report(self, annotations: AnnotationSet, files: int) -> LossReport:
        """The finished report; what was not written at all is not counted."""
        left_out = {(loss.image, loss.annotation) for loss in self.losses if loss.kind == "shape" and loss.annotation}
        count = sum(len(image.annotations) for image in annotations.images) - len(left_out)
        return LossReport(
            self.format, len(annotations.images), count, files, tuple(self.losses), dict(sorted(self.choices.items()))
        )
