"""What an answer says is where: names with boxes or outlines, read from free text, and matched with what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..annotation.geometry import iou
from ..annotation.shapes import Box, Polygon, Shape
from ..data.coordinates import Coordinates, read_lists
from ..errors import UserError
from .prose import CJK, normalised

__all__ = ["LISTS", "Matched", "Sighting", "denies", "match", "plain", "read_sightings", "true_shapes"]

LISTS = re.compile(r"[\s,，、]*[\[［][^\[\]［］]*[\]］]")
MOST_SIGHTINGS = 300
MOST_SHAPES = 60  # outlines that are compared exactly; an answer with more is no answer
LEAST = 0.1  # overlap from which two of one name are taken for the same thing
_NONE = re.compile(r"\b(?:no|none|not|nothing|nobody|cannot|without)\b|没有|未见|无法|看不到|不存在")
_GAP = re.compile(r"[\s,，、]*")


@dataclass(frozen=True)
class Sighting:
    """A list of numbers in an answer. label: None where the answer names nothing known; shape: None where the numbers
    are no box (four) or outline (six or more), or lie outside the picture."""

    label: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Matched:
    """Sightings beside the truth. overlaps: of each pair of the same label, the largest first, none twice; given,
    wanted: how many sightings and true objects there are."""

    overlaps: tuple[float, ...]
    given: int
    wanted: int


def plain(text: str) -> str:
    """The text without its lists of numbers."""
    return LISTS.sub("", text)


def denies(text: str) -> bool:
    """Whether the text (lists left out) says in some way that there is nothing."""
    return bool(_NONE.search(normalised(plain(text))))


def read_sightings(facts: Mapping[str, Any], text: str) -> list[Sighting]:
    """The objects that an answer places, in their order.

    facts: of a Prompt; `picture` [width, height, steps] and `names` {label: [names]} are used. A list belongs to the
    last name before it; a further outline right behind one is a part of the same thing, a further box another thing
    of the same name.
    """
    width, height, steps = facts["picture"]
    convention = Coordinates(width, height, steps)
    pattern, owners = _names(tuple((label, tuple(names)) for label, names in facts["names"].items()))
    made: list[Sighting] = []
    label: str | None = None
    end = 0
    for listed in read_lists(text)[:MOST_SIGHTINGS]:
        between = text[end : listed.start]
        end = listed.end
        named = [owners[_key(found.group())] for found in pattern.finditer(normalised(between))]
        label = named[-1] if named else label
        shape = _shape(convention, listed.numbers)
        last = made[-1] if made else None
        if (
            not named
            and last
            and isinstance(shape, Polygon)
            and isinstance(last.shape, Polygon)
            and not between.strip()
        ):
            made[-1] = Sighting(label, Polygon(last.shape.parts + shape.parts))
        else:
            made.append(Sighting(label, shape))
    return made


def _shape(convention: Coordinates, numbers: Sequence[int]) -> Shape | None:
    try:
        points = convention.points(numbers)
        if len(points) == 2:
            (left, top), (right, bottom) = points
            return Box(left, top, right - left, bottom - top)
        return Polygon(((tuple(points),),)) if len(points) >= 3 else None
    except UserError:
        return None


def _key(name: str) -> str:
    return " ".join(name.replace("-", " ").split())


@lru_cache(maxsize=128)
def _names(names: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """One pattern for all names, longest first, and the label of each."""
    owners: dict[str, str] = {}
    for label, spoken in names:
        for name in spoken:
            owners.setdefault(_key(normalised(name)), label)
    parts = []
    for name in sorted(owners, key=len, reverse=True):
        body = re.escape(name).replace(r"\ ", "[ -]")
        latin = bool(re.match(rf"[^\W{CJK}]", name))
        parts.append(rf"(?<![^\W{CJK}]){body}(?![^\W{CJK}])" if latin else body)
    return re.compile("|".join(parts) or r"(?!)"), owners


def true_shapes(facts: Mapping[str, Any]) -> list[tuple[str, Shape]]:
    """The labels and shapes of the facts' `objects`: of each its `rings` (outlines, in pixels) or its `box`."""
    found: list[tuple[str, Shape]] = []
    for item in facts["objects"]:
        if "rings" in item:
            shape: Shape = Polygon(tuple((tuple((x, y) for x, y in ring),) for ring in item["rings"]))
        else:
            left, top, right, bottom = item["box"]
            shape = Box(left, top, right - left, bottom - top)
        found.append((item["label"], shape))
    return found


def match(sightings: Sequence[Sighting], truth: Sequence[tuple[str, Shape]]) -> Matched:
    """Pair sightings and true objects of the same label, the best overlap first; an overlap below 0.1 is none."""
    usable = [(place, s.label, s.shape) for place, s in enumerate(sightings) if s.shape is not None][:MOST_SHAPES]
    pairs = sorted(
        (
            (-iou(shape, there), place, number)
            for place, label, shape in usable
            for number, (name, there) in enumerate(truth)
            if name == label and isinstance(shape, Box) == isinstance(there, Box)
        ),
    )
    used: set[int] = set()
    taken: set[int] = set()
    overlaps = []
    for value, place, number in pairs:
        if -value >= LEAST and place not in used and number not in taken:
            used.add(place)
            taken.add(number)
            overlaps.append(-value)
    return Matched(tuple(overlaps), len(sightings), len(truth))
