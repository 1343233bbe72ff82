"""Regions bounded by straight edges, as arrays: rasterised by scan lines, and their common area by slabs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Polygon

__all__ = ["Edges", "common_area", "edges_of"]

Floats = NDArray[np.float64]
CHUNK = 2_000_000  # crossings or pairs at once: some 50 MB
EXACT_WORK = 50_000_000  # pairs of edges, or crossings of edges with slabs, up to which areas are exact: seconds
FINE = 2048  # pixels of the longer side of the grid on which larger ones are counted


@dataclass(frozen=True)
class Edges:
    """The edges of a polygon, level ones left out: (n,) arrays from (x0, y0) down to (x1, y1), y0 < y1, and the
    number of the part that each belongs to."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats
    part: NDArray[np.int64]

    def at(self, y: NDArray[np.floating[Any]], index: NDArray[np.int64]) -> Floats:
        """x of the edges `index` at the heights `y`."""
        x0, y0 = self.x0[index], self.y0[index]
        # divided last: of short coordinates the product is exact, and so is a crossing in the middle of a pixel
        result: Floats = x0 + (self.x1[index] - x0) * (y - y0) / (self.y1[index] - y0)
        return result

    def corners(self) -> tuple[Floats, Floats]:
        """The lowest and the highest x and y, two (2,) arrays."""
        if not len(self.x0):
            return np.zeros(2), np.zeros(2)
        xs, ys = np.concatenate([self.x0, self.x1]), np.concatenate([self.y0, self.y1])
        return np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()])

    def scaled(self, origin: Floats, step: float) -> Edges:
        """The same edges in a frame that begins at `origin` and whose unit is `step`."""
        (x, y), s = origin, step
        return Edges((self.x0 - x) / s, (self.y0 - y) / s, (self.x1 - x) / s, (self.y1 - y) / s, self.part)

    def raster(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width) booleans, True where a pixel's centre is inside; on an edge, where the region is to its
        right or below it."""
        out = np.zeros((height, width), dtype=np.bool_)
        for part in np.unique(self.part).tolist():
            index = np.flatnonzero(self.part == part)
            first = np.clip(np.ceil(self.y0[index] - 0.5), 0, height).astype(np.int64)
            behind = np.clip(np.ceil(self.y1[index] - 0.5), 0, height).astype(np.int64)
            index, first, behind = (array[behind > first] for array in (index, first, behind))
            if not len(index):
                continue
            top, bottom = int(first.min()), int(behind.max())
            # One flag more than pixels: a crossing right of the image changes none of them.
            flips = np.zeros((bottom - top, width + 1), dtype=np.uint8)
            for some in _chunks(behind - first):
                edge, row = _expand(first[some], behind[some])
                x = self.at(row + 0.5, index[some][edge])
                column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
                np.bitwise_xor.at(flips, (row - top, column), 1)
            np.bitwise_xor.accumulate(flips, axis=1, out=flips)
            out[top:bottom] |= flips[:, :width].astype(np.bool_)
        return out


def edges_of(polygon: Polygon) -> Edges:
    """The edges of all rings."""
    starts, ends, parts = [], [], []
    for number, part in enumerate(polygon.parts):
        for ring in part:
            points = np.array(ring)
            starts.append(points)
            ends.append(np.roll(points, -1, axis=0))
            parts.append(np.full(len(points), number))
    a, b, which = np.concatenate(starts), np.concatenate(ends), np.concatenate(parts)
    slanted = a[:, 1] != b[:, 1]
    a, b, which = a[slanted], b[slanted], which[slanted]
    down = (a[:, 1] < b[:, 1])[:, None]
    low, high = np.where(down, a, b), np.where(down, b, a)
    return Edges(low[:, 0], low[:, 1], high[:, 0], high[:, 1], which.astype(np.int64))


def common_area(one: Edges, other: Edges) -> float:
    """The area that is in both regions.

    The plane is cut at the height of every corner and every crossing of edges. Between two cuts no edges cross, so
    the length that is in both is linear in the height: its value halfway times the distance is the area. Beyond
    `EXACT_WORK` (some 7,000 edges) the pixels of a grid of 2,048 over both are counted.
    """
    count = int(one.part.max(initial=-1)) + 1
    both = Edges(
        np.concatenate([one.x0, other.x0]),
        np.concatenate([one.y0, other.y0]),
        np.concatenate([one.x1, other.x1]),
        np.concatenate([one.y1, other.y1]),
        np.concatenate([one.part, other.part + count]),
    )
    if len(both.x0) ** 2 > EXACT_WORK:
        return _counted_area(one, other, both)
    cuts = np.unique(np.concatenate([both.y0, both.y1, *_crossings(both)]))
    if len(cuts) < 2:
        return 0.0
    middle, thickness = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    # An edge is alive in the slabs between its ends; a slab so thin that its middle is one of its ends counts too.
    first, behind = np.searchsorted(cuts, both.y0), np.searchsorted(cuts, both.y1)
    alive = np.cumsum(np.bincount(first, minlength=len(cuts)) - np.bincount(behind, minlength=len(cuts)))[:-1]
    if int(alive.sum()) > EXACT_WORK:
        return _counted_area(one, other, both)
    total = 0.0
    for slabs in _chunks(alive):
        low, high = slabs.start, slabs.stop
        index = np.flatnonzero((first < high) & (behind > low))
        edge, slab = _expand(np.maximum(first[index], low), np.minimum(behind[index], high))
        edge = index[edge]
        x = both.at(middle[slab], edge)
        order = np.lexsort((x, slab))
        x, slab, part = x[order], slab[order], both.part[edge][order]
        inside = _inside(part, range(count)) & _inside(part, range(count, int(both.part.max()) + 1))
        same = slab[1:] == slab[:-1]
        total += float(np.sum(np.where(same & inside[:-1], np.diff(x) * thickness[slab[:-1]], 0.0)))
    return total


def _counted_area(one: Edges, other: Edges, both: Edges) -> float:
    low, high = both.corners()
    step = float((high - low).max()) / FINE
    width, height = (max(1, math.ceil(side / step)) for side in (high - low).tolist())
    common = one.scaled(low, step).raster(height, width) & other.scaled(low, step).raster(height, width)
    return float(np.sum(common)) * step * step


def _inside(part: NDArray[np.int64], parts: range) -> NDArray[np.bool_]:
    """Whether the stretch behind each crossing is in any of the parts: behind an odd number of its edges. Every part
    has an even number of edges in a slab, so the count may run on through all slabs."""
    inside = np.zeros(len(part), dtype=np.bool_)
    for number in parts:
        inside |= np.cumsum(part == number) % 2 == 1
    return inside


def _crossings(edges: Edges) -> list[Floats]:
    """Heights at which two edges cross between their ends."""
    order = np.argsort(edges.y0, kind="stable")
    x0, y0, x1, y1 = (array[order] for array in (edges.x0, edges.y0, edges.x1, edges.y1))
    left, right = np.minimum(x0, x1), np.maximum(x0, x1)
    found: list[Floats] = []
    # Partners of an edge begin behind it in the order and not below its end.
    reach = np.searchsorted(y0, y1)
    first = np.arange(len(y0)) + 1
    for some in _chunks(np.maximum(reach - first, 0)):
        a, b = _expand(first[some], np.maximum(reach[some], first[some]))
        a = a + some.start
        near = (left[a] <= right[b]) & (left[b] <= right[a])
        a, b = a[near], b[near]
        ax, ay, bx, by = x1[a] - x0[a], y1[a] - y0[a], x1[b] - x0[b], y1[b] - y0[b]
        cross = ax * by - ay * bx
        parallel = cross == 0
        gap_x, gap_y = x0[b] - x0[a], y0[b] - y0[a]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (gap_x * by - gap_y * bx) / cross
            u = (gap_x * ay - gap_y * ax) / cross
        hit = ~parallel & (t > 0) & (t < 1) & (u > 0) & (u < 1)
        found.append(y0[a][hit] + t[hit] * ay[hit])
    return found


def _chunks(sizes: NDArray[np.int64]) -> list[slice]:
    """Slices of consecutive entries whose sizes add up to about CHUNK each."""
    if not len(sizes):
        return []
    number = (np.cumsum(sizes) - 1).clip(0) // CHUNK
    starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return [slice(a, b) for a, b in zip(starts, starts[1:], strict=False)]


def _expand(first: NDArray[np.int64], behind: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every entry the whole numbers first..behind - 1: (which entry, which number)."""
    sizes = behind - first
    which = np.repeat(np.arange(len(sizes)), sizes)
    number = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[which]
    return which, number
