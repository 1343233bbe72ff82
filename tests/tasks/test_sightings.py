from __future__ import annotations

from typing import Any

import pytest

from bessemer.annotation.shapes import Box, Polygon
from bessemer.tasks.sightings import Sighting, denies, match, plain, read_sightings, true_shapes

FACTS: dict[str, Any] = {
    "picture": [200, 100, 1000],
    "names": {"person": ["person", "people", "worker"], "hard hat": ["hard hat", "helmet"], "fire": ["火", "fire"]},
}


def test_names_and_boxes_are_read_as_people_write_them() -> None:
    text = "A worker [0, 0, 500, 1000] and [500, 0, 1000, 1000], two Helmets? no: "
    text += "hard-hat at [0,0,100,100]; 火［0，0，10，10］"
    assert read_sightings(FACTS, text) == [
        Sighting("person", Box(0, 0, 100, 100)),
        Sighting("person", Box(100, 0, 100, 100)),
        Sighting("hard hat", Box(0, 0, 20, 10)),
        Sighting("fire", Box(0, 0, 2, 1)),
    ]


def test_outlines_side_by_side_are_parts_of_one_thing() -> None:
    (one, two) = read_sightings(
        FACTS, "fire [0, 0, 100, 0, 100, 100] [500, 0, 600, 0, 600, 100]; fire [0, 0, 50, 0, 50, 50]"
    )
    assert isinstance(one.shape, Polygon) and len(one.shape.parts) == 2
    assert isinstance(two.shape, Polygon) and len(two.shape.parts) == 1


@pytest.mark.parametrize("text", ["person [1, 2, 3]", "person [5, 5, 1, 1]", "person [0, 0, 1001, 5]", "person [1, 2]"])
def test_what_is_no_shape_has_none(text: str) -> None:
    assert read_sightings(FACTS, text) == [Sighting("person", None)]


def test_unknown_names_have_no_label() -> None:
    assert read_sightings(FACTS, "personnel file [0, 0, 10, 10]") == [Sighting(None, Box(0, 0, 2, 1))]
    assert len(read_sightings(FACTS, "[0, 0, 10, 10] " * 1000)) <= 300


def test_denial_looks_at_the_words() -> None:
    assert denies("There is no fire.") and denies("图中没有火。") and not denies("Fire [1, 2, 3, 4].")
    assert plain("Fire [1, 2, 3, 4], fire ［5，6］.") == "Fire, fire."


def test_each_thing_is_found_once() -> None:
    truth = true_shapes({"objects": [
        {"label": "fire", "box": [0, 0, 10, 10]}, {"label": "fire", "box": [8, 0, 18, 10]},
        {"label": "person", "rings": [[[0, 0], [10, 0], [10, 10], [0, 10]]]},
    ]})  # fmt: skip
    found = [
        Sighting("fire", Box(0, 0, 10, 10)),
        Sighting("fire", Box(1, 0, 10, 10)),
        Sighting("person", Box(0, 0, 10, 10)),
        Sighting("person", Polygon(((((0, 0), (10, 0), (10, 5), (0, 5)),),))),
        Sighting("fire", None),
    ]
    matched = match(found, truth)
    # the second fire overlaps the first true one by 90 of 110, but that is taken; the other by 30 of 170
    assert matched.overlaps == pytest.approx((1.0, 0.5, 3 / 17))
    assert (matched.given, matched.wanted) == (5, 3)
