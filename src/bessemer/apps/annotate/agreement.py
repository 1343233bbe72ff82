"""How far people agree, for the dashboard: on shapes by class, on scenes, on rankings by principle, and whether what
somebody ranks first follows from where an answer stood or how long it is."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...algos.statistics import bootstrap_interval
from ...annotation.listing import AgreementItem
from ...annotation.matching import match_shapes
from ...data.records import Ranking
from ...tasks.agreement import measure_agreement

__all__ = ["class_agreement", "lean", "ranking_agreement"]

POINT_REACH = 0.02  # of the image's diagonal
SAMPLES = 300  # of a bootstrap


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
