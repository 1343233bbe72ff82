"""Which of one set of shapes is which of another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .geometry import bounding_box, iou
from .shapes import Annotation, Mask, Point

__all__ = ["Pairing", "match_shapes"]

MATCH = 0.5  # IoU from which two shapes are the same thing
MAX_CANDIDATES = 20_000  # pairs of overlapping boxes in an image up to which outlines are compared, not boxes


@dataclass(frozen=True)
class Pairing:
    """Two people's shapes of one image: (index, index, IoU) of the matched ones, each index once; the rest alone."""

    matched: tuple[tuple[int, int, float], ...]
    first_alone: tuple[int, ...]
    second_alone: tuple[int, ...]


def match_shapes(
    first: Sequence[Annotation], second: Sequence[Annotation], reach: float = 0.0, threshold: float = MATCH
) -> Pairing:
    """Match shapes by overlap, whatever their labels: the best pair first, down to `threshold`; of equal overlaps
    those of the same label first.

    reach: the distance in pixels at which two points have nothing in common; at half of it they count 0.5.
    """
    pairs = []
    for i, j, box_overlap, exact in _candidates(first, second, reach):
        one, other = first[i].shape, second[j].shape
        assert one is not None and other is not None
        if isinstance(one, Point) and isinstance(other, Point) and reach > 0:
            found = max(0.0, 1 - math.hypot(one.x - other.x, one.y - other.y) / reach)
        else:
            found = iou(one, other) if exact else box_overlap
        if found >= threshold:
            pairs.append((-found, first[i].label != second[j].label, i, j))
    matched: list[tuple[int, int, float]] = []
    left, right = set(range(len(first))), set(range(len(second)))
    for minus, _, i, j in sorted(pairs):
        if i in left and j in right:
            left.remove(i)
            right.remove(j)
            matched.append((i, j, -minus))
    return Pairing(tuple(matched), tuple(sorted(left)), tuple(sorted(right)))


def _candidates(
    first: Sequence[Annotation], second: Sequence[Annotation], reach: float
) -> Iterator[tuple[int, int, float, bool]]:
    """(index, index, IoU of the bounding boxes, whether there is time for the outlines) of what touches at all."""
    if not first or not second:
        return
    a, b = _boxes(first), _boxes(second)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    # Only two points may be apart: their boxes have no size.
    points = (a[:, None, :2] == a[:, None, 2:]).all(axis=2) & (b[None, :, :2] == b[None, :, 2:]).all(axis=2)
    touching = np.argwhere(np.where(points, (low - high <= reach).all(axis=2), (high >= low).all(axis=2)))
    for i, j in touching.tolist():
        common = float(np.prod(high[i, j] - low[i, j]))
        total = float(np.prod(a[i, 2:] - a[i, :2]) + np.prod(b[j, 2:] - b[j, :2])) - common
        overlap = common / total if total > 0 else float(np.array_equal(a[i], b[j]))
        yield i, j, overlap, len(touching) <= MAX_CANDIDATES


def _boxes(annotations: Sequence[Annotation]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 4) left, top, right, bottom; of an empty mask nothing that touches anything."""
    rows = []
    for annotation in annotations:
        shape = annotation.shape
        assert shape is not None
        if isinstance(shape, Mask) and len(shape.runs) == 1:
            rows.append((np.inf, np.inf, -np.inf, -np.inf))
            continue
        box = bounding_box(shape)
        rows.append((box.x, box.y, box.x + box.width, box.y + box.height))
    return np.array(rows, dtype=np.float64)
