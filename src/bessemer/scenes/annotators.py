"""Annotators made up for demonstrations: the truth of a scene with stated noise, called simulated wherever they
appear."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..annotation.geometry import bounding_box
from ..annotation.shapes import AnnotatedImage, Annotation, Box
from ..data.schema import need
from .chance import Chance
from .truth import LABELS

__all__ = ["SimulatedAnnotator"]


@dataclass(frozen=True)
class SimulatedAnnotator:
    """Draws boxes round what is there, as well as its noise lets it.

    jitter: standard deviation of every side, as a share of the box's width or height. missed: share of objects that
    it does not draw, twice that for those half hidden. confused: share that gets another label. invented: boxes a
    picture, on average below 1, where nothing is. What it does depends on (seed, name, picture, object) alone.
    """

    name: str
    seed: int = 0
    jitter: float = 0.05
    missed: float = 0.05
    confused: float = 0.03
    invented: float = 0.05
    labels: tuple[str, ...] = LABELS

    def __post_init__(self) -> None:
        for field in ("jitter", "missed", "confused", "invented"):
            value = getattr(self, field)
            need(0 <= value <= 1, f"{field} {value!r}", "0 to 1")

    @property
    def author(self) -> str:
        """The name under which its annotations stand."""
        return f"simulated-{self.name}"

    def annotate(self, image: AnnotatedImage) -> AnnotatedImage:
        """The picture with this annotator's boxes in place of all annotations; source and author say simulated."""
        made = [self._seen(image, a) for a in image.annotations if a.label is not None and a.shape is not None]
        chance = Chance("invented", self.seed, self.author, image.name)
        if chance.flag(self.invented):
            wide, high = (side * chance.between(0.05, 0.3) for side in (image.width, image.height))
            x, y = chance.between(0, image.width - wide), chance.between(0, image.height - high)
            label = chance.pick(self.labels)
            made.append(Annotation("invented", label, Box(x, y, wide, high), author=self.author, source="simulated"))
        return replace(image, annotations=tuple(annotation for annotation in made if annotation is not None))

    def _seen(self, image: AnnotatedImage, truth: Annotation) -> Annotation | None:
        chance = Chance("annotated", self.seed, self.author, image.name, truth.id)
        hidden = truth.attributes.get("hidden", 0.0)
        if chance.flag(min(1.0, self.missed * (2 if hidden > 0.5 else 1))):
            return None
        assert truth.shape is not None and truth.label is not None
        box = bounding_box(truth.shape)
        left, right = (x + chance.normal(self.jitter) * box.width for x in (box.x, box.x + box.width))
        top, bottom = (y + chance.normal(self.jitter) * box.height for y in (box.y, box.y + box.height))
        left, right = sorted((min(max(left, 0.0), image.width), min(max(right, 0.0), image.width)))
        top, bottom = sorted((min(max(top, 0.0), image.height), min(max(bottom, 0.0), image.height)))
        others = [label for label in self.labels if label != truth.label]
        label = chance.pick(others) if others and chance.flag(self.confused) else truth.label
        return Annotation(
            truth.id, label, Box(left, top, right - left, bottom - top), scene=truth.scene, author=self.author,
            source="simulated",
        )  # fmt: skip
