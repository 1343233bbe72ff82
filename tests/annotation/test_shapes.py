from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.annotation.shapes import (
    AnnotatedImage,
    Annotation,
    AnnotationSet,
    AttributeDefinition,
    Box,
    Label,
    Mask,
    Point,
    Polygon,
    RotatedBox,
    canonical_runs,
)
from bessemer.errors import UserError

TRIANGLE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
BAD: list[tuple[Any, str]] = [
    (lambda: Box(math.nan, 0, 1, 1), "x .*nan"),
    (lambda: Box(0, math.inf, 1, 1), "y .*inf"),
    (lambda: Box(0, 0, -0.1, 1), "width -0.1, expected 0 or more"),
    (lambda: Box(0, 0, 10**400, 1), "width .*expected a finite"),
    (lambda: Box(True, 0, 1, 1), "x .*True"),
    (lambda: Box("1", 0, 1, 1), "x .*1"),  # type: ignore[arg-type]
    (lambda: RotatedBox(0, 0, 1, -1, 5), "height"),
    (lambda: RotatedBox(0, 0, 1, 1, math.nan), "angle"),
    (lambda: Point(2e9, 0), "x"),
    (lambda: Polygon(()), "without a ring"),
    (lambda: Polygon(((),)), "without a ring"),
    (lambda: Polygon(((TRIANGLE[:2],),)), "a ring of 2 points"),
    (lambda: Polygon(((((0, 0), (1, 1), (1, math.nan)),),)), "y .*nan"),
    (lambda: Polygon((((TRIANGLE * 40_000),),)), "120000 points"),
    (lambda: Mask((3, 2), 2, 3), "add up to 5, expected 6"),
    (lambda: Mask((7, -1), 2, 3), "no pixel count"),
    (lambda: Mask((10**9,), 10**5, 10**4), "expected at most 100000000"),
    (lambda: Mask((0,), 0, 3), "height '0'"),
    (lambda: Annotation(" "), "id of an annotation is empty"),
    (lambda: Annotation("1", label=""), "a label is empty"),
    (lambda: Annotation("1", text="\ud800"), "half a character"),
    (lambda: Annotation("1", score=math.nan), "score"),
    (lambda: Annotation("1", scene="roof"), "scene 'roof'"),  # type: ignore[arg-type]
    (lambda: Annotation("1", state="done"), "state 'done'"),  # type: ignore[arg-type]
    (lambda: Annotation("1", attributes={"a": math.inf}), "attributes holds inf"),
    (lambda: Annotation("1", raw={"a": (1,)}), "JSON values alone"),
    (lambda: Annotation("1", shape=3), "shape '3'"),  # type: ignore[arg-type]
    (lambda: AnnotatedImage("a", 0, 1), "width '0'"),
    (lambda: AnnotatedImage("a", 1, 1, sha256="x"), "sha256 'x'"),
    (lambda: AnnotatedImage("a", 1, 1, exif_orientation=9), "EXIF orientation '9'"),
    (lambda: AnnotatedImage("a", 1, 1, annotations=(Annotation("1"), Annotation("1"))), "'1' stands twice"),
    (lambda: AnnotationSet((AnnotatedImage("a", 1, 1),) * 2), "image name 'a' stands twice"),
    (lambda: AnnotationSet(labels=(Label("a"),) * 2), "label 'a' stands twice"),
    (lambda: Label("a", "red"), "colour 'red'"),
    (lambda: AttributeDefinition("a", "select"), "0 options"),
    (lambda: AttributeDefinition("a", "text", ("b",)), "1 options"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_what_breaks_the_rules_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_deep_json_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(UserError, match="nested"):
        Annotation("1", raw=deep)


def test_numbers_become_floats_and_keep_every_digit() -> None:
    assert Box(1, 2, 3, 4) == Box(1.0, 2.0, 3.0, 4.0) and type(Box(1, 2, 3, 4).x) is float
    assert Box(0.1 + 0.2, 0, 0, 0).x == 0.30000000000000004


@pytest.mark.parametrize(
    ("runs", "canonical"),
    [((0, 0, 3, 0, 2, 1), (5, 1)), ((0, 2, 0, 1), (0, 3)), ((2, 1, 0), (2, 1)), ((4,), (4,)), ((0, 4), (0, 4))],
)
def test_runs_have_one_form(runs: tuple[int, ...], canonical: tuple[int, ...]) -> None:
    assert Mask(runs, 1, sum(runs)).runs == canonical


@given(st.lists(st.integers(0, 3), max_size=12).map(tuple))
def test_canonical_runs_mean_the_same_pixels(runs: tuple[int, ...]) -> None:
    def pixels(some: tuple[int, ...]) -> list[int]:
        return [number % 2 for number, run in enumerate(some) for _ in range(run)]

    canonical = canonical_runs(runs)
    assert pixels(canonical) == pixels(runs)
    assert all(canonical[1:])
