"""What held-out questions about pictures come to: where things are, how many, and what is to be seen.

An answer states no confidence, so all its finds weigh the same; its average precision is that of one point of the
curve, and no more comparable with a detector's than that. Only labels that a
question asks for count: of the others the question says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bessemer.algos.statistics import bootstrap_interval, wilson_interval
from bessemer.annotation.geometry import bounding_box, mask_from_shape
from bessemer.annotation.shapes import Box, Mask, Pair, Point, Polygon, RotatedBox, Shape
from bessemer.report.captions import caption_values
from bessemer.report.outputs import PromptAnswer
from bessemer.report.placed import (
    Find,
    Real,
    average_precision,
    by_label,
    by_scene,
    counting,
    mask_ious,
    precision_intervals,
)
from bessemer.tasks.counting import read_count
from bessemer.tasks.sightings import read_sightings, true_shapes

__all__ = ["SCORES", "outlines", "pictured_scores", "true_outlines"]

SCORES = ("AP", "AP50", "AP75", "AR100")
GRID = 1024  # pixels of the longer side on which outlines are compared
MOST_DRAWN = 40


def pictured_scores(rows: Sequence[PromptAnswer]) -> dict[str, Any]:
    """Of one model's answers: {detect, segment, count, describe}, None where nothing of the kind was asked.

    detect, segment: n (questions), the `SCORES`, by_label and by_scene of the same; segment has mask_iou too. count:
    as of `placed.counting`, and by_scene. describe: n and the means of `captions.caption_values`, against the one
    reference, and by_scene of the pictures that show something of it. NAME_interval: 95 % intervals over pictures.
    """
    kinds: dict[str, list[PromptAnswer]] = {}
    scenes: dict[str, str] = {}
    for row in rows:
        kinds.setdefault(str(row.visual.get("kind")), []).append(row)
        scenes |= row.visual.get("scenes", {})
    counted, described = kinds.get("count", []), kinds.get("describe", [])
    return {
        "detect": _placed(kinds.get("detect", []), scenes, masks=False),
        "segment": _placed(kinds.get("segment", []), scenes, masks=True),
        "count": _counted(counted, scenes) if counted else None,
        "describe": _described(described) if described else None,
    }


def _placed(rows: Sequence[PromptAnswer], scenes: Mapping[str, str], masks: bool) -> dict[str, Any] | None:
    truth: list[Real] = []
    finds: list[Find] = []
    pictures, owners = [], []
    for number, row in enumerate(rows):
        width, height, _ = row.visual["picture"]
        factor = min(1.0, GRID / max(width, height))
        size = (max(1, round(height * factor)), max(1, round(width * factor)))

        def ready(shape: Shape, factor: float = factor, size: tuple[int, int] = size) -> Box | Mask:
            return mask_from_shape(_scaled(shape, factor), *size) if masks else bounding_box(shape)

        asked = set(row.visual["classes"])
        true = [(label, ready(shape)) for label, shape in true_shapes(row.visual)]
        said = [(s.label, ready(s.shape)) for s in read_sightings(row.visual, row.text) if s.shape is not None]
        found = [(label, shape) for label, shape in said if label in asked]
        truth += [Real(row.id, label, shape) for label, shape in true]
        finds += [Find(row.id, str(label), shape) for label, shape in found]
        for name in sorted(asked) if masks else ():
            owners.append(number)
            pictures.append(
                ([s for label, s in true if label == name], [s for label, s in found if label == name], *size)
            )
    if not rows:
        return None

    def short(scores: Mapping[str, float | None]) -> dict[str, float | None]:
        return {name: scores[name] for name in SCORES}

    overlaps = [(value, owner) for value, owner in zip(mask_ious(pictures), owners, strict=True) if value is not None]
    intervals = precision_intervals(truth, finds, list(dict.fromkeys(row.id for row in rows)))
    return {
        "n": len(rows),
        **short(average_precision(truth, finds)),
        **{f"{name}_interval": interval and list(interval) for name, interval in intervals.items()},
        **_mean("mask_iou", [value for value, _ in overlaps], [owner for _, owner in overlaps]),
        "by_label": {name: short(scores) for name, scores in by_label(truth, finds).items()},
        "by_scene": {name: short(scores) for name, scores in by_scene(truth, finds, scenes).items()},
    }


def _mean(name: str, values: Sequence[float], groups: Sequence[int] | None = None) -> dict[str, Any]:
    """A mean and its interval over whole groups."""
    if not values:
        return {name: None, f"{name}_interval": None}
    found = bootstrap_interval(torch.tensor(values), groups=None if groups is None else torch.tensor(groups))
    return {name: found.estimate, f"{name}_interval": [found.low, found.high]}


def _scaled(shape: Shape, factor: float) -> Shape:
    if isinstance(shape, Box):
        return Box(shape.x * factor, shape.y * factor, shape.width * factor, shape.height * factor)
    assert isinstance(shape, Polygon)  # answers and facts hold no others
    return Polygon(
        tuple(tuple(tuple((x * factor, y * factor) for x, y in ring) for ring in part) for part in shape.parts)
    )


def _counted(rows: Sequence[PromptAnswer], scenes: Mapping[str, str]) -> dict[str, Any]:
    pairs: dict[str, list[tuple[int | None, int]]] = {}
    for row in rows:
        label = next(iter(row.visual["classes"]), "")
        pairs.setdefault(scenes.get(label, ""), []).append((read_count(row.text), int(row.visual["count"])))
    every = [pair for some in pairs.values() for pair in some]
    right = wilson_interval(sum(stated == true for stated, true in every), len(every))
    return {
        **counting(every),
        "exact_interval": [right.low, right.high],
        "by_scene": {name: counting(some) for name, some in sorted(pairs.items()) if name},
    }


def _described(rows: Sequence[PromptAnswer]) -> dict[str, Any]:
    known = [row for row in rows if row.reference]
    scores = caption_values([row.text for row in known], [[str(row.reference)] for row in known])
    shown = [set(row.visual.get("scenes", {}).values()) for row in known]  # of what is in the picture

    def means(of: Sequence[int]) -> dict[str, Any]:
        parts = [_mean(name, [values[i] for i in of]) for name, values in scores.items()]
        return {"n": len(of), **{key: value for part in parts for key, value in part.items()}}

    groups = {name: [i for i, some in enumerate(shown) if name in some] for name in sorted(set().union(*shown))}
    return {**means(range(len(known))), "by_scene": {name: means(of) for name, of in groups.items()}}


def outlines(row: PromptAnswer) -> list[dict[str, Any]]:
    """[{label, points}] in pixels of what an answer places, to be drawn; [] where no picture is known."""
    if "names" not in row.visual:
        return []
    return _drawn([(str(s.label or ""), s.shape) for s in read_sightings(row.visual, row.text) if s.shape is not None])


def true_outlines(row: PromptAnswer) -> list[dict[str, Any]]:
    """The same of what is true: the objects of a question where things are, what breaks a rule."""
    objects = row.visual.get("objects") or row.visual.get("where") or []
    return _drawn(true_shapes({"objects": objects}))


def _drawn(shapes: Sequence[tuple[str, Shape]]) -> list[dict[str, Any]]:
    found = [(label, ring) for label, shape in shapes for ring in _rings(shape)]
    return [
        {"label": label, "points": [[round(x, 1), round(y, 1)] for x, y in ring]} for label, ring in found[:MOST_DRAWN]
    ]


def _rings(shape: Shape) -> list[tuple[Pair, ...]]:
    if isinstance(shape, Polygon):
        return [part[0] for part in shape.parts]
    assert not isinstance(shape, Mask | Point | RotatedBox)
    right, low = shape.x + shape.width, shape.y + shape.height
    return [((shape.x, shape.y), (right, shape.y), (right, low), (shape.x, low))]
