from __future__ import annotations

import statistics

import pytest

from bessemer.annotation.geometry import bounding_box, iou
from bessemer.annotation.shapes import AnnotatedImage, Annotation, Box
from bessemer.errors import UserError
from bessemer.scenes.annotators import SimulatedAnnotator

TRUTH = AnnotatedImage(
    "a.jpg", 400, 400,
    annotations=tuple(Annotation(f"o{i}", "person", Box(100.0, 150.0, 100.0, 50.0)) for i in range(1000)),
)  # fmt: skip


def test_noise_is_as_stated() -> None:
    drawn = SimulatedAnnotator("ann", 3, jitter=0.04, missed=0.1, confused=0.2, invented=0.0).annotate(TRUTH)
    # binomial and normal: four standard deviations
    assert abs(len(drawn.annotations) - 900) < 4 * (1000 * 0.1 * 0.9) ** 0.5
    share = sum(a.label != "person" for a in drawn.annotations) / len(drawn.annotations)
    assert abs(share - 0.2) < 4 * (0.16 / 900) ** 0.5
    boxes = [bounding_box(a.shape) for a in drawn.annotations if a.shape is not None]
    for values, width in (([b.x for b in boxes], 4.0), ([b.y for b in boxes], 2.0)):
        assert abs(statistics.stdev(values) - width) < 4 * width / (2 * len(values)) ** 0.5
    assert {a.author for a in drawn.annotations} == {"simulated-ann"}
    assert {a.source for a in drawn.annotations} == {"simulated"}


def test_without_noise_it_draws_the_truth() -> None:
    exact = SimulatedAnnotator("ann", jitter=0, missed=0, confused=0, invented=0).annotate(TRUTH)
    assert [a.shape for a in exact.annotations] == [a.shape for a in TRUTH.annotations]


def test_annotators_differ_and_repeat_themselves() -> None:
    first, second = (SimulatedAnnotator(name).annotate(TRUTH) for name in ("a", "b"))
    assert first == SimulatedAnnotator("a").annotate(TRUTH) and first != second
    shape = first.annotations[0].shape
    assert shape is not None and 0.6 < iou(shape, Box(100, 150, 100, 50)) < 1
    assert len(SimulatedAnnotator("a", missed=1.0, invented=1.0).annotate(TRUTH).annotations) == 1


def test_refusals() -> None:
    with pytest.raises(UserError, match="missed 2, expected 0 to 1"):
        SimulatedAnnotator("a", missed=2)
