"""Outlines with fewer corners, for texts and for pages."""

from __future__ import annotations

from collections.abc import Sequence

from .shapes import Pair, Ring

__all__ = ["ring_area", "simplify_ring"]


def ring_area(ring: Sequence[Pair]) -> float:
    """The area of the region within a ring that does not cross itself (the shoelace formula); positive when the ring
    runs clockwise as seen (y is down)."""
    return sum(_cross(a, b) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)) / 2


def _cross(a: Pair, b: Pair) -> float:
    return a[0] * b[1] - b[0] * a[1]


def simplify_ring(ring: Ring, most: int, least_area: float = 0.0) -> Ring:
    """The ring with at most `most` corners (3 or more): again and again the corner goes that makes the smallest
    triangle with its neighbours, also while that triangle is smaller than `least_area`.

    Source: Visvalingam and Whyatt 1993.
    """
    points = list(ring)
    areas = [_triangle(points, index) for index in range(len(points))]
    while len(points) > 3:
        index = min(range(len(points)), key=areas.__getitem__)
        if len(points) <= most and areas[index] >= least_area:
            break
        gone = areas[index]
        del points[index], areas[index]
        for near in ((index - 1) % len(points), index % len(points)):
            # a corner never counts for less than one that went before it (the paper's effective area)
            areas[near] = max(gone, _triangle(points, near))
    return tuple(points)


def _triangle(points: Sequence[Pair], index: int) -> float:
    (ax, ay), (bx, by), (cx, cy) = points[index - 1], points[index], points[(index + 1) % len(points)]
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
