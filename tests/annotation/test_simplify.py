from __future__ import annotations

import math

import pytest

from bessemer.annotation.geometry import iou
from bessemer.annotation.shapes import Box, Polygon
from bessemer.annotation.simplify import ring_area, simplify_ring

SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))


def test_area_and_direction() -> None:
    assert ring_area(SQUARE) == 100 and ring_area(SQUARE[::-1]) == -100
    assert ring_area(((0, 0), (4, 0), (0, 3))) == 6


def test_corners_that_say_nothing_go_first() -> None:
    dense = tuple((x, 0.0) for x in (0.0, 3.0, 5.0, 10.0)) + ((10.0, 4.0), (10.0, 10.0), (0.0, 10.0))
    assert simplify_ring(dense, 4) == SQUARE
    assert simplify_ring(dense, 100, least_area=1e-9) == SQUARE
    assert simplify_ring(dense, 100) == dense
    assert len(simplify_ring(SQUARE, 3)) == 3 and len(simplify_ring(SQUARE[:3], 1)) == 3


@pytest.mark.parametrize("corners", [8, 12, 24])
def test_a_circle_keeps_its_shape(corners: int) -> None:
    """The best polygon of n corners inside a circle has n/2 sin(2 pi/n) of r^2; we keep 97 % of that."""
    turns = [2 * math.pi * step / 400 for step in range(400)]
    circle = tuple((50 + 40 * math.cos(turn), 50 + 40 * math.sin(turn)) for turn in turns)
    simple = simplify_ring(circle, corners)
    assert len(simple) == corners and set(simple) <= set(circle)
    best = corners / 2 * math.sin(2 * math.pi / corners) * 40**2
    assert 0.97 * best < abs(ring_area(simple)) <= best * (1 + 1e-9)


def test_stairs_become_a_slope() -> None:
    stairs = tuple((float(x), float(y)) for k in range(20) for x, y in ((k, k), (k, k + 1))) + (
        (20.0, 20.0),
        (20.0, 0.0),
    )
    slope = simplify_ring(stairs, 5)
    assert iou(Polygon(((slope,),)), Polygon(((stairs,),))) > 0.9
    assert iou(Polygon(((simplify_ring(SQUARE, 4),),)), Box(0, 0, 10, 10)) == 1
