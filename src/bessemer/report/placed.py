"""Scores of boxes, masks and counts against the truth. A number that cannot be measured is None, never nan.

Average precision and recall are COCO's (Lin et al. 2014): precision interpolated at 101 recalls, overlaps from 0.50 to
0.95 in steps of 0.05, at most 100 finds a picture, the mean over labels; `pycocotools` gives the same numbers where all
scores differ. Finds of one score are one point of the curve here; there their order decides, which is that of pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from bessemer.algos.statistics import bootstrap_interval
from bessemer.annotation.geometry import area as area_of
from bessemer.annotation.geometry import mask_from_shape
from bessemer.annotation.rle import array_from_mask
from bessemer.annotation.shapes import Box, Mask, Shape
from bessemer.data.schema import need

__all__ = [
    "Find",
    "Real",
    "average_precision",
    "by_label",
    "by_scene",
    "counting",
    "mask_ious",
    "precision_intervals",
]

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = (1, 10, 100)
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Real:
    """A true object. image: its picture's name; shape: Box or Mask; area: square pixels that decide small, medium or
    large (None: of the shape); crowd: a group, in which any number of finds is right."""

    image: str
    label: str
    shape: Box | Mask
    area: float | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Find:
    """What a model says is there; of equal scores in one picture the earlier one takes its object first."""

    image: str
    label: str
    shape: Box | Mask
    score: float = 1.0


def average_precision(truth: Sequence[Real], finds: Sequence[Find]) -> dict[str, float | None]:
    """{AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, AR_small, AR_medium, AR_large}.

    A label that has no true object (of the size) counts in none of the means.

    Raises:
        UserError: boxes and masks mixed, masks of two sizes in one picture.
    """
    both: list[Real | Find] = [*truth, *finds]
    need(len({isinstance(item.shape, Box) for item in both}) <= 1, "boxes and masks", "one of the two")
    images = list(dict.fromkeys(item.image for item in both))
    labels = list(dict.fromkeys(item.label for item in both))
    real, found = _sorted_in(truth), _sorted_in(finds)
    precisions: dict[str, list[Floats]] = {name: [] for name in AREAS}
    recalls: dict[tuple[str, int], list[Floats]] = {(name, most): [] for name in AREAS for most in MOST}
    for label in labels:
        pictures = [
            _Picture.of(real.get((image, label), []), found.get((image, label), []))
            for image in images
            if (image, label) in real or (image, label) in found
        ]
        for name, bounds in AREAS.items():
            matches = [picture.matched(bounds) for picture in pictures]
            for most in MOST if name == "" else MOST[-1:]:
                curve = _curve(matches, most)
                if curve is not None:
                    recalls[name, most].append(curve[1])
                    if most == MOST[-1]:
                        precisions[name].append(curve[0])
    result = {f"AP{'_' + name if name else ''}": _mean(values) for name, values in precisions.items()}
    for key, row in (("AP50", 0), ("AP75", 5)):
        result[key] = _mean([values[row] for values in precisions[""]])
    result |= {f"AR{most}": _mean(recalls["", most]) for most in MOST}
    return result | {f"AR_{name}": _mean(recalls[name, MOST[-1]]) for name in AREAS if name}


def precision_intervals(
    truth: Sequence[Real], finds: Sequence[Find], images: Sequence[str], samples: int = 200
) -> dict[str, tuple[float, float] | None]:
    """{AP, AP50}: 95 % bootstrap intervals over the pictures, those without any object or find among them; None
    where there is nothing to find."""
    real, found = _sorted_in(truth), _sorted_in(finds)
    labels = list(dict.fromkeys(item.label for item in truth))
    matches: list[dict[str, _Match]] = [
        {
            label: _Picture.of(real.get((image, label), []), found.get((image, label), [])).matched(AREAS[""])
            for label in labels
            if (image, label) in real or (image, label) in found
        }
        for image in images
    ]

    def measured(rows: torch.Tensor, overlaps: slice) -> float:
        drawn = [matches[i] for i in rows.tolist()]
        curves = [_curve([some[label] for some in drawn if label in some], MOST[-1]) for label in labels]
        return _mean([curve[0][overlaps] for curve in curves if curve is not None]) or 0.0

    if not labels:
        return {"AP": None, "AP50": None}
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, part in (("AP", slice(None)), ("AP50", slice(0, 1))):
        statistic = partial(measured, overlaps=part)
        _, low, high = bootstrap_interval(torch.arange(len(images)), statistic, samples=samples)
        intervals[name] = low, high
    return intervals


def _mean(values: Sequence[Floats]) -> float | None:
    return float(np.mean(np.stack(values))) if values else None


def _sorted_in(items: Sequence[Real] | Sequence[Find]) -> dict[tuple[str, str], list[Real | Find]]:
    kept: dict[tuple[str, str], list[Real | Find]] = {}
    for item in items:
        kept.setdefault((item.image, item.label), []).append(item)
    return kept


_Match = tuple[Floats, Flags, Flags, int]  # scores (n,), matched (10, n), ignored (10, n), how many true ones count


@dataclass(frozen=True)
class _Picture:
    """One label in one picture: finds by falling score, and how far each overlaps each true object."""

    scores: Floats
    find_areas: Floats
    areas: Floats
    crowd: Flags
    overlaps: Floats

    @classmethod
    def of(cls, real: Sequence[Real | Find], found: Sequence[Real | Find]) -> _Picture:
        true = [item for item in real if isinstance(item, Real)]
        finds = [item for item in found if isinstance(item, Find)]
        order = np.argsort([-find.score for find in finds], kind="mergesort")[: MOST[-1]]
        finds = [finds[i] for i in order.tolist()]
        crowd = np.array([item.crowd for item in true], dtype=np.bool_)
        areas = np.array([area_of(item.shape) if item.area is None else item.area for item in true], dtype=np.float64)
        overlaps = _overlaps([find.shape for find in finds], [item.shape for item in true], crowd)
        sizes = np.array([area_of(find.shape) for find in finds], dtype=np.float64)
        return cls(np.array([find.score for find in finds], dtype=np.float64), sizes, areas, crowd, overlaps)

    def matched(self, bounds: tuple[float, float]) -> _Match:
        """Each find in its turn takes the free true object that it overlaps most; crowds and objects of another size
        come last, may be taken (crowds often), and count neither way."""
        low, high = bounds
        ignored = self.crowd | (self.areas < low) | (self.areas > high)
        order = np.argsort(ignored, kind="mergesort")
        n, m = len(self.scores), len(order)
        hit, passed = np.zeros((len(OVERLAPS), n), np.bool_), np.zeros((len(OVERLAPS), n), np.bool_)
        outside = (self.find_areas < low) | (self.find_areas > high)
        for row, least in enumerate(OVERLAPS):
            taken = np.zeros(m, np.bool_)
            for find in range(n):
                best, chosen = min(float(least), 1 - 1e-10), -1
                for index in order.tolist():
                    if taken[index] and not self.crowd[index]:
                        continue
                    if chosen >= 0 and not ignored[chosen] and ignored[index]:
                        break
                    if self.overlaps[find, index] >= best:
                        best, chosen = float(self.overlaps[find, index]), index
                if chosen >= 0:
                    taken[chosen] = hit[row, find] = True
                    passed[row, find] = ignored[chosen]
                else:
                    passed[row, find] = outside[find]
        return self.scores, hit, passed, int(np.count_nonzero(~ignored))


def _overlaps(finds: Sequence[Shape], true: Sequence[Shape], crowd: Flags) -> Floats:
    """(finds, true) intersection over union; over the find's own area where the true object is a crowd."""
    if not finds or not true:
        return np.zeros((len(finds), len(true)))
    if isinstance(finds[0], Mask):
        one, other = (
            np.stack([array_from_mask(shape).reshape(-1) for shape in shapes if isinstance(shape, Mask)])
            for shapes in (finds, true)
        )
        need(one.shape[1] == other.shape[1], "masks of two sizes", "one size in a picture")
        common = one.astype(np.float64) @ other.T.astype(np.float64)
        first, second = one.sum(axis=1).astype(np.float64), other.sum(axis=1).astype(np.float64)
    else:
        a, b = (
            np.array([[s.x, s.y, s.x + s.width, s.y + s.height] for s in shapes if isinstance(s, Box)])
            for shapes in (finds, true)
        )
        across = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
        down = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
        common = np.clip(across, 0, None) * np.clip(down, 0, None)
        first, second = ((c[:, 2] - c[:, 0]) * (c[:, 3] - c[:, 1]) for c in (a, b))
    total = np.where(crowd[None, :], first[:, None], first[:, None] + second[None, :] - common)
    result: Floats = np.divide(common, total, out=np.zeros_like(common), where=total > 0)
    return result


def _curve(matches: Sequence[_Match], most: int) -> tuple[Floats, Floats] | None:
    """Precision at the 101 recalls, (10, 101), and the last recall, (10,); None where there is nothing to find."""
    wanted = sum(count for *_, count in matches)
    if not wanted:
        return None
    scores = np.concatenate([scores[:most] for scores, *_ in matches])
    order = np.argsort(-scores, kind="mergesort")
    last = np.append(np.diff(scores[order]) != 0, np.ones(len(scores[:1]), np.bool_))  # of each run of equal scores
    hit = np.concatenate([hit[:, :most] for _, hit, *_ in matches], axis=1)[:, order]
    passed = np.concatenate([passed[:, :most] for _, _, passed, _ in matches], axis=1)[:, order]
    right, wrong = np.cumsum(hit & ~passed, axis=1)[:, last], np.cumsum(~hit & ~passed, axis=1)[:, last]
    recall = right / wanted
    precision = right / (right + wrong + np.spacing(1))
    sampled = np.zeros((len(OVERLAPS), len(RECALLS)))
    for row in range(len(OVERLAPS)):
        best = np.maximum.accumulate(precision[row, ::-1])[::-1]
        places = np.searchsorted(recall[row], RECALLS, side="left")
        inside = places < len(best)
        sampled[row, inside] = best[places[inside]]
    return sampled, recall[:, -1] if recall.shape[1] else np.zeros(len(OVERLAPS))


def by_label(truth: Sequence[Real], finds: Sequence[Find]) -> dict[str, dict[str, float | None]]:
    """`average_precision` of each label apart, in alphabetical order."""
    return _apart(truth, finds, lambda item: item.label)


def by_scene(
    truth: Sequence[Real], finds: Sequence[Find], scene_of: Mapping[str, str]
) -> dict[str, dict[str, float | None]]:
    """`average_precision` of each scene (equipment, environment, personnel) apart; scene_of: label -> scene, labels
    without one are left out."""
    known = {label: str(scene) for label, scene in scene_of.items()}
    return _apart(
        [t for t in truth if t.label in known], [f for f in finds if f.label in known], lambda item: known[item.label]
    )


def _apart(
    truth: Sequence[Real], finds: Sequence[Find], key: Callable[[Real | Find], str]
) -> dict[str, dict[str, float | None]]:
    both: list[Real | Find] = [*truth, *finds]
    names = sorted({key(item) for item in both})
    return {
        name: average_precision([t for t in truth if key(t) == name], [f for f in finds if key(f) == name])
        for name in names
    }


def mask_ious(pictures: Iterable[tuple[Sequence[Shape], Sequence[Shape], int, int]]) -> list[float | None]:
    """Of each picture the overlap of all that is true with all that was found, as masks; None where there is nothing
    to find and nothing was found.

    pictures: (true shapes, found shapes, height, width) of one label each.
    """
    values: list[float | None] = []
    for true, found, height, width in pictures:
        one, other = (
            np.any([array_from_mask(mask_from_shape(shape, height, width)) for shape in shapes], axis=0)
            if shapes
            else np.zeros((height, width), np.bool_)
            for shapes in (true, found)
        )
        total = np.count_nonzero(one | other)
        values.append(np.count_nonzero(one & other) / total if total else None)
    return values


def counting(pairs: Sequence[tuple[int | None, int]]) -> dict[str, float | int | None]:
    """Errors of (stated, true) numbers; None stated (unreadable) counts as wrong, and in `unread` alone.

    exact: share of all that are right; constant: that of who always states the number that is true most often;
    mean_error: of those that were read, the mean absolute difference; bias: the mean of stated minus true.
    """
    read = [(stated, true) for stated, true in pairs if stated is not None]
    apart = [stated - true for stated, true in read]
    return {
        "n": len(pairs),
        "unread": len(pairs) - len(read),
        "exact": sum(d == 0 for d in apart) / len(pairs) if pairs else None,
        "constant": max(Counter(true for _, true in pairs).values()) / len(pairs) if pairs else None,
        "mean_error": sum(map(abs, apart)) / len(apart) if apart else None,
        "bias": sum(apart) / len(apart) if apart else None,
    }
