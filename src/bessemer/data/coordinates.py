"""Places in pictures as text: the one home of the convention.

A point is two whole numbers, a box four (left, top, right, bottom), an outline six or more (x and y in turn), in
square brackets: `[120, 45, 310, 980]`. By default numbers run from 0 to 1000 over the picture's width and height,
whatever its size, so that they mean the same after it is resized; with `steps` 0 they are pixels of the upright
picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .schema import need

__all__ = ["STEPS", "Coordinates", "Listed", "read_lists"]

STEPS = 1000
MAX_NUMBERS = 4_000  # in one answer; more is no answer to read
_LIST = re.compile(r"[\[［]\s*(-?\d{1,9}(?:\s*[,，、\s]\s*-?\d{1,9})*)\s*[\]］]")


@dataclass(frozen=True)
class Coordinates:
    """The convention for one picture of width x height pixels. steps: the number that stands for the whole width or
    height; 0: pixels."""

    width: int
    height: int
    steps: int = STEPS

    def __post_init__(self) -> None:
        need(self.width > 0 and self.height > 0, f"a picture of {self.width} x {self.height}", "1 pixel or more")
        need(self.steps >= 0, f"steps {self.steps}", "1000, or 0 for pixels")

    def numbers(self, points: Sequence[tuple[float, float]]) -> list[int]:
        """x and y in turn, of points in pixels; what is outside is moved to the edge. Off by half a step at most."""
        made = []
        for point in points:
            for value, size in zip(point, (self.width, self.height), strict=True):
                whole = self.steps or size
                made.append(min(whole, max(0, round(value * whole / size))))
        return made

    def points(self, numbers: Sequence[int]) -> list[tuple[float, float]]:
        """The points in pixels that numbers stand for. Raises UserError: an odd count, a number out of range."""
        need(len(numbers) % 2 == 0, f"{len(numbers)} numbers", "x and y in turn")
        most = (self.steps or self.width, self.steps or self.height)
        for index, number in enumerate(numbers):
            need(0 <= number <= most[index % 2], f"coordinate {number}", f"0 to {most[index % 2]}")
        across, down = self.width / most[0], self.height / most[1]
        return [(x * across, y * down) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]

    def text(self, points: Sequence[tuple[float, float]]) -> str:
        """The points as text, in brackets."""
        return f"[{', '.join(map(str, self.numbers(points)))}]"


@dataclass(frozen=True)
class Listed:
    """A bracketed list of numbers and where in the text it stands."""

    numbers: tuple[int, ...]
    start: int
    end: int


def read_lists(text: str) -> list[Listed]:
    """All bracketed lists of whole numbers in a text, in order; full-width brackets and commas are read too. None
    when there are more than 4,000 numbers in all."""
    found = [
        Listed(tuple(map(int, re.findall(r"-?\d+", match[1]))), match.start(), match.end())
        for match in _LIST.finditer(text[:200_000])
    ]
    return found if sum(len(listed.numbers) for listed in found) <= MAX_NUMBERS else []
