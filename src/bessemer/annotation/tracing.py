"""The outlines of a mask: closed rings along the sides of its pixels, every hole with the part that it is in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.schema import need
from .shapes import MAX_POINTS, Ring

__all__ = ["trace"]

# Directions: 0 right, 1 down, 2 left, 3 up. The object is on the right hand of every side.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def trace(array: NDArray[np.bool_]) -> tuple[tuple[Ring, ...], ...]:
    """The parts of (height, width) booleans, each an outer ring (clockwise as seen) and its holes (anticlockwise).

    Parts are connected through sides, not corners. Raises UserError: more than `MAX_POINTS` corners in all.
    """
    sides = _sides(array)
    rings: list[Ring] = []
    ring_of: dict[tuple[int, int], int] = {}  # upright side (x, y of its upper end) -> its ring
    tops: list[tuple[int, int]] = []  # the upper left corner of every ring, which is its first point
    total = 0
    # In reading order of the corners, the first side of a ring is the upper left one of it.
    for start in sorted(sides):
        while sides[start]:
            corners = _walk(sides, start, len(rings), ring_of)
            total += len(corners)
            need(total <= MAX_POINTS, f"a mask whose outline has more than {MAX_POINTS} corners", "a simpler mask")
            rings.append(tuple((float(x), float(y)) for x, y in corners))
            tops.append((start[1], start[0]))
    return _nest(rings, tops, ring_of)


def _sides(array: NDArray[np.bool_]) -> dict[tuple[int, int], list[int]]:
    """(y, x) of a corner -> directions of the sides that leave it."""
    padded = np.pad(array, 1)
    sides: dict[tuple[int, int], list[int]] = {}
    upper = padded[1:, 1:-1] & ~padded[:-1, 1:-1]  # the object below a level side: walk right
    lower = padded[:-1, 1:-1] & ~padded[1:, 1:-1]
    left = padded[1:-1, 1:] & ~padded[1:-1, :-1]  # the object right of an upright side: walk up
    right = padded[1:-1, :-1] & ~padded[1:-1, 1:]
    for found, direction in ((upper, 0), (right, 1), (lower, 2), (left, 3)):
        for y, x in np.argwhere(found).tolist():
            corner = (y, x + 1) if direction == 2 else (y + 1, x) if direction == 3 else (y, x)
            sides.setdefault(corner, []).append(direction)
    return sides


def _walk(
    sides: dict[tuple[int, int], list[int]], start: tuple[int, int], ring: int, ring_of: dict[tuple[int, int], int]
) -> list[tuple[int, int]]:
    """Follow the sides from a corner until they come back to it, taking them away; the corners where they turn."""
    y, x = start
    direction = min(sides[start])
    corners = []
    came = -1
    while True:
        leaving = sides[y, x]
        if came >= 0:
            # Where two pixels touch at the corner, turn to the right: round the same pixel, not over to the other.
            direction = (came + 1) % 4 if (came + 1) % 4 in leaving else leaving[0]
        leaving.remove(direction)
        if direction != came:
            corners.append((x, y))
        if direction in (1, 3):
            ring_of[x, y if direction == 1 else y - 1] = ring
        x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
        came = direction
        if (y, x) == start:  # the first corner in reading order is passed once, also where pixels touch
            return corners


def _nest(
    rings: list[Ring], tops: list[tuple[int, int]], ring_of: dict[tuple[int, int], int]
) -> tuple[tuple[Ring, ...], ...]:
    """Every hole to its part: the object's pixel above the hole's first corner is in it, and walking left from that
    pixel the first upright side is of the part's outer ring, or of a hole that begins higher up and has its part."""
    rows: dict[int, list[int]] = {}
    for x, y in sorted(ring_of):
        rows.setdefault(y, []).append(x)
    parts: dict[int, list[Ring]] = {}
    home: dict[int, int] = {}
    for number, ring in enumerate(rings):
        if _is_outer(ring):
            parts[number] = [ring]
            home[number] = number
            continue
        x, y = tops[number]
        row = rows[y - 1]
        side = row[int(np.searchsorted(row, x, side="right")) - 1]
        home[number] = home[ring_of[side, y - 1]]
        parts[home[number]].append(ring)
    return tuple(tuple(part) for part in parts.values())


def _is_outer(ring: Ring) -> bool:
    """Clockwise as seen: a positive area where y is down."""
    points = np.array(ring)
    after = np.roll(points, -1, axis=0)
    return bool(np.sum(points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]) > 0)
