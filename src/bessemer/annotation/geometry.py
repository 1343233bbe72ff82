"""Shapes into one another, their areas and overlaps, and EXIF orientation; exact where float64 is.

A pixel belongs to a region when its centre does: pixel (row i, column j) when (j + 0.5, i + 0.5) is inside. A centre
on an edge belongs to the side right of it or below it, so regions that share an edge share no pixel. What lies
outside the image is cut off in a mask, and only there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..data.schema import need
from .regions import common_area, edges_of
from .rle import array_from_mask, crop_from_mask, mask_from_array
from .shapes import Box, Mask, Point, Polygon, RotatedBox, Shape
from .tracing import trace

__all__ = [
    "area", "bounding_box", "iou", "mask_from_shape", "minimum_rotated_box", "polygon_from_box",
    "polygon_from_ellipse", "polygon_from_mask", "polygon_from_rotated_box", "polygon_from_shape", "to_stored",
    "to_upright",
]  # fmt: skip

# orientation -> (swap x and y, then mirror x, then mirror y), from the stored frame to the upright one
_TURNS = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True), 4: (False, False, True),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip
ELLIPSE_SIDES = 64
_BACK = {**{orientation: orientation for orientation in range(1, 9)}, 6: 8, 8: 6}


def polygon_from_box(box: Box) -> Polygon:
    """The four corners, clockwise from the top left."""
    right, bottom = box.x + box.width, box.y + box.height
    return Polygon(((((box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)),),))


def polygon_from_rotated_box(box: RotatedBox) -> Polygon:
    """The four corners, clockwise from the one that is the top left at angle 0."""
    turn = math.radians(box.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    corners = []
    for right, down in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        dx, dy = right * box.width, down * box.height
        corners.append((box.cx + dx * cos - dy * sin, box.cy + dx * sin + dy * cos))
    return Polygon(((tuple(corners),),))


def polygon_from_ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> Polygon:
    """64 points of an ellipse of half axes rx and ry, turned clockwise as seen; the first is at the end of rx."""
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    steps = [2 * math.pi * k / ELLIPSE_SIDES for k in range(ELLIPSE_SIDES)]
    ring = [(rx * math.cos(step), ry * math.sin(step)) for step in steps]
    return Polygon(((tuple((cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in ring),),))


def minimum_rotated_box(shape: Shape) -> RotatedBox:
    """The rotated box of least area around a shape, its angle in [0, 90); of equal ones that of the smallest angle.

    One of its sides lies on a side of the convex hull (Freeman and Shapira 1975). Raises UserError: an empty mask.
    """
    if isinstance(shape, RotatedBox):
        return shape
    hull = _hull(_points(shape))
    sides = np.roll(hull, -1, axis=0) - hull
    if len(hull) < 3:
        (dx, dy), (cx, cy) = sides[0].tolist(), hull.mean(axis=0).tolist()
        angle, length = math.degrees(math.atan2(dy, dx)) % 180, math.hypot(dx, dy)
        return RotatedBox(cx, cy, length, 0.0, angle) if angle < 90 else RotatedBox(cx, cy, 0.0, length, angle - 90)
    directions = np.arctan2(sides[:, 1], sides[:, 0])
    order = np.argsort(directions)
    angles = directions % (math.pi / 2)
    angles = np.unique(np.where(angles > math.pi / 2 - 1e-12, 0.0, angles))

    def reach(turn: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the hull reaches in each direction: to the corner between the sides whose directions lie around
        the one a quarter turn on."""
        quarter = (turn + 1.5 * math.pi) % (2 * math.pi) - math.pi
        corner = hull[order[np.searchsorted(directions[order], quarter) % len(hull)]]
        distance: NDArray[np.float64] = corner[:, 0] * np.cos(turn) + corner[:, 1] * np.sin(turn)
        return distance

    right, down, left, up = (reach(angles + quarters * math.pi / 2) for quarters in range(4))
    areas = (right + left) * (down + up)
    k = int(np.flatnonzero(areas <= areas.min() * (1 + 1e-12))[0])
    u, v, turn = float(right[k] - left[k]) / 2, float(down[k] - up[k]) / 2, float(angles[k])
    cos, sin = math.cos(turn), math.sin(turn)
    width, height = max(0.0, float(right[k] + left[k])), max(0.0, float(down[k] + up[k]))
    return RotatedBox(u * cos - v * sin, u * sin + v * cos, width, height, math.degrees(turn))


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of the convex hull in order (Andrew's monotone chain), without points on its sides."""
    ordered = np.unique(points, axis=0).tolist()
    chains: list[list[list[float]]] = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2], chain[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append([x, y])
        chains.append(chain[:-1] if len(ordered) > 1 else chain)
    return np.array(chains[0] + chains[1] if len(ordered) > 1 else chains[0])


def _points(shape: Shape) -> NDArray[np.float64]:
    """Points (n, 2) whose convex hull is the shape's."""
    if isinstance(shape, Point):
        return np.array([[shape.x, shape.y]])
    if isinstance(shape, Mask):
        array = array_from_mask(shape)
        rows = np.flatnonzero(array.any(axis=1))
        need(len(rows), "an empty mask", "at least one pixel of the object")
        first = array[rows].argmax(axis=1)
        last = shape.width - array[rows][:, ::-1].argmax(axis=1)
        corners = [(x, y + step) for x, y in ((first, rows), (last, rows)) for step in (0, 1)]
        return np.concatenate([np.stack([x, y], axis=1) for x, y in corners]).astype(np.float64)
    polygon = polygon_from_shape(shape)
    return np.array([pair for part in polygon.parts for pair in part[0]])


def polygon_from_shape(shape: Shape) -> Polygon:
    """Any shape with an area as a polygon; of a mask see `polygon_from_mask`. Raises UserError: a point, an empty
    mask."""
    if isinstance(shape, Box):
        return polygon_from_box(shape)
    if isinstance(shape, RotatedBox):
        return polygon_from_rotated_box(shape)
    if isinstance(shape, Mask):
        return polygon_from_mask(shape)
    need(isinstance(shape, Polygon), "a point", "a shape with an area")
    assert isinstance(shape, Polygon)
    return shape


def polygon_from_mask(mask: Mask) -> Polygon:
    """The outline of a mask along the sides of its pixels, holes as holes: it covers exactly the same area, and as a
    mask gives the same mask. Pixels that touch at a corner alone are in different parts.

    Raises:
        UserError: an empty mask, an outline of more than `MAX_POINTS` corners.
    """
    need(len(mask.runs) > 1, "an empty mask", "at least one pixel of the object")
    return Polygon(trace(array_from_mask(mask)))


def mask_from_shape(shape: Shape, height: int, width: int) -> Mask:
    """The pixels of an image of height x width whose centres are in the shape; a point has none of them.

    Raises:
        UserError: a mask of another size.
    """
    if isinstance(shape, Mask):
        ok = (shape.height, shape.width) == (height, width)
        need(ok, f"a mask of {shape.height} x {shape.width}", f"{height} x {width}, the size of the image")
        return shape
    empty = Mask((height * width,), height, width)
    if isinstance(shape, Point):
        return empty
    return mask_from_array(edges_of(polygon_from_shape(shape)).raster(height, width))


def area(shape: Shape) -> float:
    """Square pixels; of a polygon the area of its region (parts that overlap count once), of a mask its pixels."""
    if isinstance(shape, Mask):
        return float(sum(shape.runs[1::2]))
    if isinstance(shape, Box | RotatedBox):
        return shape.width * shape.height
    if isinstance(shape, Point):
        return 0.0
    edges = edges_of(shape)
    return common_area(edges, edges)


def bounding_box(shape: Shape) -> Box:
    """The smallest upright box around a shape. Raises UserError: an empty mask."""
    if isinstance(shape, Box):
        return shape
    if isinstance(shape, Mask):
        need(len(shape.runs) > 1, "an empty mask", "at least one pixel of the object")
        crop, x, y = crop_from_mask(shape)
        return Box(x, y, crop.shape[1], crop.shape[0])
    points = _points(shape)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Box(left, top, right - left, bottom - top)


def iou(one: Shape, other: Shape) -> float:
    """Intersection over union of two shapes of any kinds, in [0, 1].

    Exact for boxes, rotated boxes and polygons (`regions.common_area` has the limit). With a mask the other is made
    a mask of the same size first. Where both areas are 0: 1 if the shapes are equal, else 0.

    Raises:
        UserError: masks of two sizes.
    """
    if isinstance(one, Point) or isinstance(other, Point):
        return float(one == other)
    if isinstance(one, Mask) or isinstance(other, Mask):
        height, width = (one.height, one.width) if isinstance(one, Mask) else _size(other)
        a, b = (array_from_mask(mask_from_shape(shape, height, width)) for shape in (one, other))
        common, total = float(np.sum(a & b)), float(np.sum(a | b))
    elif isinstance(one, Box) and isinstance(other, Box):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        along = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        common = max(across, 0.0) * max(along, 0.0)
        total = area(one) + area(other) - common
    else:
        first, second = edges_of(polygon_from_shape(one)), edges_of(polygon_from_shape(other))
        common = common_area(first, second)
        total = area(one) + area(other) - common
    return min(1.0, common / total) if total > 0 else float(one == other)


def _size(shape: Shape) -> tuple[int, int]:
    assert isinstance(shape, Mask)
    return shape.height, shape.width


def to_upright(shape: Shape, orientation: int, width: float, height: float) -> Shape:
    """A shape from the frame of the stored pixels, of size width x height, into the upright frame that EXIF
    `orientation` (1 to 8) means. A rotated box keeps the area it covers; its sides may change names."""
    need(orientation in _TURNS, f"EXIF orientation {orientation!r}", "1 to 8")
    return _turned(shape, orientation, width, height)


def to_stored(shape: Shape, orientation: int, width: float, height: float) -> Shape:
    """The inverse of `to_upright`: from the upright frame, whose size is width x height, into that of the stored
    pixels."""
    need(orientation in _TURNS, f"EXIF orientation {orientation!r}", "1 to 8")
    return _turned(shape, _BACK[orientation], width, height)


def _turned(shape: Shape, orientation: int, width: float, height: float) -> Shape:
    swap, mirror_x, mirror_y = _TURNS[orientation]
    width, height = (height, width) if swap else (width, height)  # of the frame it goes to

    def move(x: float, y: float) -> tuple[float, float]:
        x, y = (y, x) if swap else (x, y)
        return width - x if mirror_x else x, height - y if mirror_y else y

    if isinstance(shape, Point):
        return Point(*move(shape.x, shape.y))
    if isinstance(shape, Polygon):
        return Polygon(tuple(tuple(tuple(move(x, y) for x, y in ring) for ring in part) for part in shape.parts))
    if isinstance(shape, Mask):
        array = array_from_mask(shape)
        array = array.T if swap else array
        return mask_from_array(array[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])
    size = (shape.height, shape.width) if swap else (shape.width, shape.height)
    if isinstance(shape, RotatedBox):
        # Every one of the three steps mirrors the plane, which turns the angle's sense; a quarter turn is the
        # change of names of the two sides, so that no digit of the angle is lost.
        odd = (swap + mirror_x + mirror_y) % 2
        return RotatedBox(*move(shape.cx, shape.cy), *size, -shape.angle if odd else shape.angle)
    x, y = move(shape.x, shape.y)
    return Box(x - size[0] if mirror_x else x, y - size[1] if mirror_y else y, *size)
