"""How far people agree, for the dashboard: on shapes by class, on scenes, on rankings by principle, and whether what
somebody ranks first follows from where an answer stood or how long it is."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...algos.statistics import bootstrap_interval
from ...annotation.geometry import bounding_box, iou
from ...annotation.listing import AgreementItem
from ...annotation.shapes import Annotation, Mask, Point
from ...data.records import Ranking
from ...tasks.agreement import measure_agreement

__all__ = ["Pairing", "class_agreement", "lean", "match_shapes", "ranking_agreement"]

POINT_REACH = 0.02  # of the image's diagonal
MATCH = 0.5  # IoU from which two shapes are the same thing
SAMPLES = 300  # of a bootstrap
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


@dataclass
class _Counts:
    """Of one class: for each image (agreed, said) and the overlaps of the matched shapes."""

    rows: list[tuple[float, float]] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)


def class_agreement(items: Iterable[AgreementItem]) -> dict[str, Any]:
    """Agreement on shapes by class over all pairs of people who finished the same image.

    share = 2 x shapes matched with the same label / shapes said by either, the F1 of one against the other, with a
    95 % bootstrap over images. iou: mean of the matched. mistaken: matched shapes of two labels, and how often.
    scene: share of pairs of people who gave an image the same scenes.
    """
    classes: dict[str, _Counts] = {}
    mistaken: Counter[tuple[str, str]] = Counter()
    scenes: list[bool] = []
    images = 0
    for item in items:
        images += 1
        reach = POINT_REACH * math.hypot(item.width, item.height)
        agreed: Counter[str] = Counter()
        said: Counter[str] = Counter()
        for one, other in itertools.combinations(item.documents.values(), 2):
            first, second = ([a for a in each if a.shape is not None] for each in (one, other))
            said.update(annotation.label or "" for annotation in (*first, *second))
            for i, j, overlap in match_shapes(first, second, reach).matched:
                names = (first[i].label or "", second[j].label or "")
                if names[0] == names[1]:
                    agreed[names[0]] += 2
                    classes.setdefault(names[0], _Counts()).overlaps.append(overlap)
                else:
                    mistaken[min(names), max(names)] += 1
            given = [{a.scene for a in each if a.scene} for each in (one, other)]
            if any(given):
                scenes.append(given[0] == given[1])
        for name, count in said.items():
            classes.setdefault(name, _Counts()).rows.append((agreed[name], count))
    return {
        "images": images,
        "classes": [{"label": name, **_share(classes[name])} for name in sorted(classes)],
        "mistaken": [{"labels": list(pair), "count": count} for pair, count in mistaken.most_common(20)],
        "scene": {"pairs": len(scenes), "share": sum(scenes) / len(scenes) if scenes else None},
    }


def _share(counts: _Counts) -> dict[str, Any]:
    values = torch.tensor(counts.rows, dtype=torch.float64)

    def ratio(rows: torch.Tensor) -> float:
        return float(rows[:, 0].sum() / rows[:, 1].sum())

    found = bootstrap_interval(values, ratio, samples=SAMPLES)
    overlap = sum(counts.overlaps) / len(counts.overlaps) if counts.overlaps else None
    return {
        "images": len(counts.rows), "shapes": int(values[:, 1].sum()), "share": found.estimate,
        "interval": [found.low, found.high], "iou": overlap,
    }  # fmt: skip


def ranking_agreement(rankings: Sequence[Ranking]) -> dict[str, Any]:
    """Agreement on each principle, and each annotator's leaning towards answers shown earlier and longer answers."""
    principles = list(dict.fromkeys(name for ranking in rankings for name in ranking.ranks))
    measured = measure_agreement(rankings, principles, samples=SAMPLES)
    people = sorted({ranking.annotator for ranking in rankings})
    return {
        "principles": [{"name": name, **vars(measured[name])} for name in principles],
        "annotators": [
            {
                "name": person,
                "tasks": len(own := [ranking for ranking in rankings if ranking.annotator == person]),
                "position": lean(own, "position"),
                "length": lean(own, "length"),
            }
            for person in people
        ],
    }


def lean(rankings: Sequence[Ranking], by: str) -> dict[str, Any]:
    """Over all pairs of answers that one annotator ordered without a tie: the share in which the one shown earlier
    (`by` "position") or the longer one ("length", in characters; equal ones are left out) won; 0.5 is no leaning.

    With a 95 % bootstrap over whole rankings. None where there is no such pair.
    """
    wins: list[float] = []
    groups: list[int] = []
    for number, ranking in enumerate(rankings):
        shown = {answer: place for place, answer in enumerate(ranking.shown_order)}
        for ranks in ranking.ranks.values():
            for i, j in itertools.combinations(range(len(ranking.responses)), 2):
                one, other = ranks[i], ranks[j]
                if one is None or other is None or one == other:
                    continue
                longer = len(ranking.responses[i]) - len(ranking.responses[j])
                gap = shown[j] - shown[i] if by == "position" else longer
                if gap:
                    wins.append(float((one < other) == (gap > 0)))
                    groups.append(number)
    if not wins:
        return {"pairs": 0, "share": None, "interval": None}
    found = bootstrap_interval(torch.tensor(wins), groups=torch.tensor(groups), samples=SAMPLES)
    return {"pairs": len(wins), "share": found.estimate, "interval": [found.low, found.high]}
