from __future__ import annotations

from typing import Any

import pytest

from bessemer.data.objects import fill_objects
from bessemer.errors import UserError


def test_names_and_boxes_take_the_places_of_their_marks() -> None:
    texts = ["Find the <ref-object>.", "A <ref-object><bbox> and a <ref-object> <bbox>."]
    objects = {"ref": ["dog", "dog", "man"], "bbox": [[10, 10, 50, 100], [0, 0, 100, 100]]}
    assert fill_objects(texts, objects, [(100, 100)]) == [
        "Find the dog.",
        "A dog [100, 100, 500, 1000] and a man [0, 0, 1000, 1000].",
    ]


@pytest.mark.parametrize(
    ("kind", "box"),
    [
        ("real", [20, 5, 40, 10]),
        ("norm1", [0.1, 0.1, 0.2, 0.2]),
        ("norm1000", [100, 100, 200, 200]),
        (None, [20, 5, 40, 10]),
    ],
)
def test_three_ways_to_measure(kind: str | None, box: list[float]) -> None:
    assert fill_objects(["<bbox>"], {"bbox": [box], "bbox_type": kind}, [(200, 50)]) == ["[100, 100, 200, 200]"]


def test_points_images_and_other_sizes() -> None:
    sizes = [(100, 100), (200, 200)]
    objects: dict[str, Any] = {"bbox": [[50, 50], [50, 50]], "image_id": [0, 1]}
    assert fill_objects(["<bbox>, <bbox>"], objects, sizes) == ["[500, 500], [250, 250]"]
    objects = {"bbox": [[50, 50]], "width": [500, 200], "height": [1000, 200]}
    assert fill_objects(["<bbox>"], objects, sizes) == ["[100, 50]"]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"bbox": []}, "1 marks <bbox> for 0 in objects, expected as many"),
        ({"bbox": [[1, 2, 3]]}, "expected 4 numbers"),
        ({"bbox": [[1, 2, 3, "4"]]}, "expected 4 numbers"),
        ({"bbox": [[1, 2, 3, float("nan")]]}, "expected 4 numbers"),
        ({"bbox": [[5, 2, 3, 4]]}, "expected left, top, right, bottom"),
        ({"bbox": [[1, 2, 300, 4]]}, "inside its image of 100 x 100"),
        ({"bbox": [[1, 2, 3, 4]], "image_id": [1]}, "image_id '1', expected 0 to 0"),
        ({"bbox": [[1, 2, 3, 4]], "image_id": [0, 0]}, "image_id of another length"),
        ({"bbox": [[1, 2, 3, 4]], "bbox_type": "norm7"}, "bbox_type 'norm7'"),
        ({"bbox": [[1, 2, 3, 4]], "ref": ["a"]}, "0 marks <ref-object> for 1"),
        ({"bbox": [[1, 2, 3, 4]], "polygon": []}, "unknown key"),
        ({"bbox": [[1, 2, 3, 4]], "width": [1], "height": [0]}, "width and height of objects"),
    ],
)
def test_refusals(objects: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fill_objects(["<bbox>"], objects, [(100, 100)])
