"""What a model says of a picture as annotations that a person can accept, change or reject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..annotation.shapes import Annotation
from ..data.records import Prompt
from .sightings import read_sightings

__all__ = ["proposed_answer", "proposed_caption", "proposed_places"]

MOST = 50  # things of one label that an answer can place


def proposed_places(prompt: Prompt, text: str, score: float) -> list[Annotation]:
    """The boxes of an answer to a question of `visual.place_prompts`; what does not fit the picture or names nothing
    that was asked for is left out. score: of the whole answer, 0 to 1."""
    asked = prompt.facts["classes"]
    found = [s for s in read_sightings(prompt.facts, text) if s.shape is not None and s.label in (None, *asked)]
    return [
        Annotation(f"{prompt.id}:{n}", s.label or asked[0], s.shape, score=score) for n, s in enumerate(found[:MOST])
    ]


def proposed_caption(prompt: Prompt, text: str, score: float) -> list[Annotation]:
    """An answer that describes the picture; an empty one is none."""
    return [Annotation(prompt.id, text=text.strip(), score=score)] if text.strip() else []


def proposed_answer(prompt: Prompt, probabilities: Mapping[str, float]) -> list[Annotation]:
    """The likeliest value of the attribute that is asked for, as an annotation without a shape."""
    value, score = max(probabilities.items(), key=lambda item: item[1])
    return [Annotation(prompt.id, label=_first(prompt.facts["asked"]), attributes={"verdict": value}, score=score)]


def _first(names: Iterable[str]) -> str:
    return next(iter(names))
