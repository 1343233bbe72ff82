"""What each cell of a square grid over a picture shows: targets for a network that has features for every cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .geometry import bounding_box
from .shapes import AnnotatedImage, Box, Point

__all__ = ["COVERED", "Cells", "cell_targets", "flipped_cells", "stacked_cells"]

Cells = tuple[NDArray[np.float32], NDArray[np.float32]]  # there (..., side, side, L), edges (..., side, side, L, 4)

COVERED = 0.25  # share of a cell that the box of a thing has to cover, unless its middle lies there


def cell_targets(image: AnnotatedImage, labels: Sequence[str], side: int) -> Cells:
    """Which labels lie in which cell, and how far the edges of a thing are from the cell that holds its middle.

    The picture is stretched to a square of side x side cells, as a tower sees it. Returns there (side, side, L): 1 in
    every cell of which the thing's box covers a quarter, and in the one that holds its middle, else 0; and edges (side,
    side, L, 4): left, top, right and bottom of the box in the cell that holds its middle, measured from that cell's
    middle in sides of the picture, nan in all others. Of several middles in one cell the largest box counts.
    """
    there = np.zeros((side, side, len(labels)), np.float32)
    edges = np.full((side, side, len(labels), 4), np.nan, np.float32)
    numbers = {name: number for number, name in enumerate(labels)}
    corners = [
        (numbers[a.label], _cells(bounding_box(a.shape), image, side))
        for a in image.annotations
        if a.label in numbers and a.shape is not None and not isinstance(a.shape, Point)  # a point has no extent
    ]
    for number, (left, top, right, bottom) in sorted(corners, key=lambda thing: _area(thing[1])):
        column, row = (min(side - 1, max(0, math.floor(middle / 2))) for middle in (left + right, top + bottom))
        across, down = _overlaps(left, right, side), _overlaps(top, bottom, side)
        there[:, :, number] = np.maximum(there[:, :, number], down[:, None] * across >= COVERED)
        there[row, column, number] = 1
        middle = np.array([column + 0.5, row + 0.5] * 2)
        edges[row, column, number] = (np.array([left, top, right, bottom]) - middle) / side
    return there, edges


def stacked_cells(images: Sequence[AnnotatedImage | None], labels: Sequence[str], side: int) -> Cells:
    """`cell_targets` of n pictures, (n, side, side, L) and (n, side, side, L, 4); of None nothing is there."""
    there = np.zeros((len(images), side, side, len(labels)), np.float32)
    edges = np.full((len(images), side, side, len(labels), 4), np.nan, np.float32)
    for number, image in enumerate(images):
        if image is not None:
            there[number], edges[number] = cell_targets(image, labels, side)
    return there, edges


def flipped_cells(cells: Cells, mirrored: bool, upside_down: bool) -> Cells:
    """The cells of a flipped picture: what was left of a middle is right of it in its mirror image."""
    there, edges = cells
    for flips, axis, near, far in ((mirrored, 1, 0, 2), (upside_down, 0, 1, 3)):
        if flips:
            there, edges = np.flip(there, axis), np.flip(edges, axis).copy()
            edges[..., [near, far]] = -edges[..., [far, near]]
    return there, edges


def _cells(box: Box, image: AnnotatedImage, side: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in cells, within the picture."""
    x, y = side / image.width, side / image.height
    edges = (box.x * x, box.y * y, (box.x + box.width) * x, (box.y + box.height) * y)
    left, top, right, bottom = (min(float(side), max(0.0, edge)) for edge in edges)
    return left, top, right, bottom


def _area(corners: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = corners
    return (right - left) * (bottom - top)


def _overlaps(start: float, end: float, side: int) -> NDArray[np.float64]:
    """How much of each of `side` steps of length 1 an interval covers."""
    steps = np.arange(side, dtype=np.float64)
    covered: NDArray[np.float64] = np.clip(np.minimum(end, steps + 1) - np.maximum(start, steps), 0.0, None)
    return covered
