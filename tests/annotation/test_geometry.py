from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from bessemer.annotation.geometry import (
    area,
    bounding_box,
    iou,
    mask_from_shape,
    minimum_rotated_box,
    polygon_from_box,
    polygon_from_ellipse,
    polygon_from_mask,
    polygon_from_rotated_box,
    polygon_from_shape,
    to_stored,
    to_upright,
)
from bessemer.annotation.regions import common_area, edges_of
from bessemer.annotation.rle import array_from_mask, mask_from_array
from bessemer.annotation.shapes import Box, Mask, Point, Polygon, RotatedBox, Shape
from bessemer.errors import UserError
from drawn_annotations import bitmaps

unhurried = settings(deadline=None, max_examples=80)
coordinates = st.integers(-12, 60).map(lambda value: value / 4)  # quarters: edges through centres, too
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=6).map(tuple)
polygons = st.lists(st.lists(rings, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(
    lambda parts: Polygon(tuple(parts))
)
boxes = st.builds(Box, coordinates, coordinates, st.floats(0.1, 9), st.floats(0.1, 9))
rotated = st.builds(RotatedBox, coordinates, coordinates, st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-400, 400))
SQUARE = Polygon(((((0, 0), (4, 0), (4, 4), (0, 4)), ((1, 1), (3, 1), (3, 3), (1, 3))),))


def inside(polygon: Polygon, x: float, y: float) -> bool:
    """Ray casting, one point at a time."""
    for part in polygon.parts:
        odd = False
        for ring in part:
            for (x0, y0), (x1, y1) in zip(ring, (*ring[1:], ring[0]), strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (x1 - x0) * (y - y0) / (y1 - y0) <= x:
                    odd = not odd
        if odd:
            return True
    return False


@unhurried
@given(polygons)
@example(Polygon(((((0.0, 0.0), (6.0, 6.0), (-0.25, -0.25)),),)))
def test_rasterising_is_asking_every_centre(polygon: Polygon) -> None:
    found = array_from_mask(mask_from_shape(polygon, 9, 13))
    expected = [[inside(polygon, j + 0.5, i + 0.5) for j in range(13)] for i in range(9)]
    assert found.tolist() == expected


def test_shared_edges_share_no_pixel() -> None:
    """Two triangles of a square whose diagonal runs through centres, and boxes that meet at a centre."""
    upper = Polygon(((((0, 0), (8, 0), (8, 8)),),))
    lower = Polygon(((((0, 0), (8, 8), (0, 8)),),))
    a, b = (array_from_mask(mask_from_shape(shape, 8, 8)) for shape in (upper, lower))
    assert not (a & b).any() and (a | b).all()
    a, b = (array_from_mask(mask_from_shape(Box(x, 0, 2.5, 3), 3, 5)) for x in (0, 2.5))
    assert a.sum() == 6 and b.sum() == 9 and not (a & b).any()


@unhurried
@given(bitmaps)
def test_outlines_cover_the_mask_and_nothing_else(bitmap: NDArray[np.bool_]) -> None:
    assume(bitmap.any())
    height, width = bitmap.shape
    polygon = polygon_from_mask(mask_from_array(bitmap))
    assert mask_from_shape(polygon, height, width) == mask_from_array(bitmap)
    assert area(polygon) == bitmap.sum()
    assert len(polygon.parts) == ndimage.label(bitmap)[1]
    outside = np.pad(~bitmap, 1, constant_values=True)
    assert sum(len(part) - 1 for part in polygon.parts) == ndimage.label(outside, np.ones((3, 3)))[1] - 1
    # Every part by itself is one component with its own holes.
    components = ndimage.label(bitmap)[0]
    for part in polygon.parts:
        alone = array_from_mask(mask_from_shape(Polygon((part,)), height, width))
        (number,) = set(components[alone].tolist())
        assert np.array_equal(alone, components == number)


def test_outline_by_hand() -> None:
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    outer, hole = polygon_from_mask(mask_from_array(ring)).parts[0]
    assert outer == ((0, 0), (3, 0), (3, 3), (0, 3))
    assert hole == ((1, 1), (1, 2), (2, 2), (2, 1))


def test_area_by_hand() -> None:
    assert area(SQUARE) == 12
    assert area(Polygon((*SQUARE.parts, (((2, 0), (6, 0), (6, 4), (2, 4)),)))) == 12 + 16 - 6  # overlap once
    assert area(Polygon(((((0, 0), (2, 2), (2, 0), (0, 2)),),))) == 2  # a bow tie: two triangles of area 1
    assert area(Box(3, 4, 2.5, 2)) == 5 and area(RotatedBox(0, 0, 2.5, 2, 33)) == 5
    assert area(Point(1, 1)) == 0 and area(Mask((1, 2, 1), 2, 2)) == 2
    turns = [2 * math.pi * k / 100 for k in range(100)]
    circle = Polygon(((tuple((50 + 9 * math.cos(t), 50 + 9 * math.sin(t)) for t in turns),),))
    assert area(circle) == pytest.approx(50 * 81 * math.sin(2 * math.pi / 100), rel=1e-12)


@unhurried
@given(polygons, polygons)
def test_common_area_is_what_a_fine_grid_counts(one: Polygon, other: Polygon) -> None:
    """Corners on quarters, counted on a grid of 1/40: the error is at most the length of the edges times a cell."""
    step, size = 0.025, 18
    grids = [edges_of(p).scaled(np.array([-3.0, -3.0]), step).raster(*[int(size / step)] * 2) for p in (one, other)]
    exact = common_area(edges_of(one), edges_of(other))
    length = sum(
        math.dist(a, b)
        for polygon in (one, other)
        for part in polygon.parts
        for ring in part
        for a, b in zip(ring, (*ring[1:], ring[0]), strict=True)
    )
    assert exact == pytest.approx(float(np.sum(grids[0] & grids[1])) * step**2, abs=1.5 * step * length + 1e-9)
    assert exact == pytest.approx(common_area(edges_of(other), edges_of(one)), abs=1e-9)


@pytest.mark.parametrize("turn", [0.0, 30.0, 45.0, 117.0])
def test_iou_of_boxes_has_closed_forms(turn: float) -> None:
    assert iou(Box(0, 0, 2, 2), Box(1, 1, 2, 2)) == pytest.approx(1 / 7)
    # Two unit squares, one turned by t, about one centre: common area 1 / (1/2 + ... ) known at 45 degrees.
    square = RotatedBox(5, 5, 1, 1, turn)
    assert iou(square, RotatedBox(5, 5, 1, 1, turn + 90)) == pytest.approx(1)
    common = 2 * (math.sqrt(2) - 1)  # the regular octagon
    assert iou(square, RotatedBox(5, 5, 1, 1, turn + 45)) == pytest.approx(common / (2 - common))
    assert iou(square, RotatedBox(5, 5, 2, 2, turn)) == pytest.approx(0.25)


def test_iou_of_every_pair_of_kinds() -> None:
    """The same square of 4 x 4 pixels in every kind, and the same in the next place."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    shifted = np.roll(mask, 2, axis=1)

    def kinds(x: float, array: NDArray[np.bool_]) -> list[Shape]:
        box = Box(x, 2, 4, 4)
        return [box, RotatedBox(x + 2, 4, 4, 4, 90), polygon_from_box(box), mask_from_array(array)]

    for one in kinds(2, mask):
        for other in kinds(2, mask):
            assert iou(one, other) == pytest.approx(1, abs=1e-12)
        for other in kinds(4, shifted):
            assert iou(one, other) == pytest.approx(8 / 24, abs=1e-12)
        assert iou(one, Point(3, 3)) == 0 == iou(Point(3, 3), one)
    assert iou(Point(1, 2), Point(1, 2)) == 1 and iou(Box(0, 0, 0, 1), Box(0, 0, 0, 1)) == 1
    assert iou(Box(0, 0, 0, 1), Box(0, 0, 0, 2)) == 0
    with pytest.raises(UserError, match="a mask of 8 x 8, expected 4 x 4"):
        iou(Mask((16,), 4, 4), mask_from_array(mask))


def test_large_polygons_are_compared_on_a_grid() -> None:
    turns = np.linspace(0, 2 * math.pi, 9_000, endpoint=False)
    circles = [
        Polygon(((tuple(zip((x + 400 * np.cos(turns)).tolist(), (400 * np.sin(turns)).tolist(), strict=True)),),))
        for x in (0, 200)
    ]
    lens = 2 * 400**2 * math.acos(200 / 800) - 100 * math.sqrt(4 * 400**2 - 200**2)
    assert iou(*circles) == pytest.approx(lens / (2 * math.pi * 400**2 - lens), rel=2e-3)


@unhurried
@given(st.one_of(polygons, rotated, boxes))
def test_the_minimum_rotated_box(shape: Shape) -> None:
    box = minimum_rotated_box(shape)
    points = np.array([pair for part in polygon_from_shape(shape).parts for pair in part[0]])
    turn = math.radians(box.angle)
    across = (points - [box.cx, box.cy]) @ [math.cos(turn), math.sin(turn)]
    along = (points - [box.cx, box.cy]) @ [-math.sin(turn), math.cos(turn)]
    assert np.abs(across).max() <= box.width / 2 + 1e-9 and np.abs(along).max() <= box.height / 2 + 1e-9
    for degrees in np.arange(0, 90, 0.5).tolist():  # no box of another angle is smaller
        t = math.radians(degrees)
        size = np.ptp(points @ [math.cos(t), math.sin(t)]) * np.ptp(points @ [-math.sin(t), math.cos(t)])
        assert box.width * box.height <= size + 1e-9
    assert 0 <= box.angle < 90 or box == shape


def test_rotated_boxes_turn_clockwise_as_seen() -> None:
    """By hand: a quarter turn brings the top left corner to the top right."""
    corners = polygon_from_rotated_box(RotatedBox(10, 10, 4, 2, 90)).parts[0][0]
    assert np.allclose(corners, [(11, 8), (11, 12), (9, 12), (9, 8)])
    tilted = polygon_from_rotated_box(RotatedBox(0, 0, 2, 0, 30)).parts[0][0]
    assert np.allclose(tilted[1], (math.cos(math.pi / 6), 0.5))  # the right end goes down: y is down


def test_lines_have_a_minimum_box() -> None:
    box = minimum_rotated_box(Polygon(((((0, 0), (3, 4), (0, 0)),),)))
    assert (box.width, box.height) == (5, 0) and box.angle == pytest.approx(math.degrees(math.atan2(4, 3)))
    box = minimum_rotated_box(Polygon(((((0, 4), (3, 0), (0, 4)),),)))
    assert (box.width, box.height) == (0, 5) and box.angle == pytest.approx(math.degrees(math.atan2(3, 4)))
    assert minimum_rotated_box(Point(2, 3)) == RotatedBox(2, 3, 0, 0, 0)


def test_bounding_boxes() -> None:
    assert bounding_box(SQUARE) == Box(0, 0, 4, 4) and bounding_box(Point(1, 2)) == Box(1, 2, 0, 0)
    bitmap = np.zeros((5, 6), dtype=bool)
    bitmap[1, 2] = bitmap[3, 4] = True
    assert bounding_box(mask_from_array(bitmap)) == Box(2, 1, 3, 3)
    for function in (bounding_box, polygon_from_mask, minimum_rotated_box):
        with pytest.raises(UserError, match="empty mask"):
            function(Mask((4,), 2, 2))  # type: ignore[operator]
    with pytest.raises(UserError, match="a point, expected a shape with an area"):
        polygon_from_shape(Point(1, 1))


def upright_by_pillow(array: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    image = Image.fromarray(array)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_moves_shapes_as_pillow_moves_pixels(orientation: int) -> None:
    height, width = 5, 7
    for i, j in ((0, 0), (1, 5), (4, 6)):
        pixels = np.zeros((height, width), dtype=np.uint8)
        pixels[i, j] = 1
        (moved,) = np.argwhere(upright_by_pillow(pixels, orientation)).tolist()
        point = to_upright(Point(j + 0.5, i + 0.5), orientation, width, height)
        assert point == Point(moved[1] + 0.5, moved[0] + 0.5)
    shapes: list[Shape] = [
        Box(1, 2, 3, 1), RotatedBox(3, 2, 4, 1.5, 25), Polygon(((((0.25, 1), (5.5, 0.75), (3, 4.5)),),)),
        mask_from_shape(RotatedBox(3, 2, 4, 2, 20), height, width), Point(0.25, 4),
    ]  # fmt: skip
    size = (height, width) if orientation > 4 else (width, height)
    for shape in shapes:
        moved_shape = to_upright(shape, orientation, width, height)
        assert type(moved_shape) is type(shape)
        assert to_stored(moved_shape, orientation, *size) == shape
        pixels = array_from_mask(mask_from_shape(shape, height, width)).astype(np.uint8)
        expected = upright_by_pillow(pixels, orientation).astype(bool)
        assert np.array_equal(array_from_mask(mask_from_shape(moved_shape, *size[::-1])), expected)


@given(st.one_of(boxes, rotated, polygons), st.integers(1, 8))
def test_exif_keeps_area_and_overlap(shape: Any, orientation: int) -> None:
    moved = to_upright(shape, orientation, 13, 9)
    assert area(moved) == pytest.approx(area(shape), abs=1e-9)


def test_an_unknown_orientation_is_refused() -> None:
    for function in (to_upright, to_stored):
        with pytest.raises(UserError, match="EXIF orientation 9"):
            function(Point(0, 0), 9, 1, 1)


def test_an_ellipse_turned_a_quarter_has_its_axes_changed() -> None:
    """64 points on it, the first at the end of the first half axis; clockwise as seen."""
    ring = polygon_from_ellipse(10, 20, 4, 2, 90).parts[0][0]
    assert len(ring) == 64 and ring[0] == pytest.approx((10, 24)) and ring[16] == pytest.approx((8, 20))
    assert all(((x - 10) / 2) ** 2 + ((y - 20) / 4) ** 2 == pytest.approx(1) for x, y in ring)
