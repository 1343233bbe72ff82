from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bessemer.annotation.rle import array_from_mask, mask_from_array
from bessemer.annotation.shapes import Box, Polygon
from bessemer.errors import UserError
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

NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def scenes(seed: int, masks: bool) -> tuple[list[Real], list[Find]]:
    """40 pictures (10 of masks) of 200 x 200, four labels, crowds, all sizes, false finds, scores that differ."""
    chance = random.Random(seed)
    truth: list[Real] = []
    finds: list[Find] = []

    def shape(x: float, y: float, w: float, h: float) -> Any:
        if not masks:
            return Box(x, y, w, h)
        array = np.zeros((200, 200), np.bool_)
        array[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = True
        array[int(y) : int(y + h / 3), int(x) : int(x + w / 3)] = False
        return mask_from_array(array)

    for number in range(10 if masks else 40):
        image = f"i{number:03d}"
        for _ in range(chance.randrange(0, 8)):
            label = chance.choice("abcd")
            w, h = chance.choice([(12, 14), (50, 60), (110, 120)])
            x, y = chance.uniform(0, 190 - w), chance.uniform(0, 190 - h)
            truth.append(Real(image, label, shape(x, y, w, h), crowd=chance.random() < 0.1))
            for _ in range(chance.choice([0, 1, 1, 1, 2])):
                near = [chance.gauss(0, 0.12) for _ in range(4)]
                found = (max(0.0, x + near[0] * w), max(0.0, y + near[1] * h), w * (1 + near[2]), h * (1 + near[3]))
                other = label if chance.random() < 0.9 else chance.choice("abcd")
                finds.append(Find(image, other, shape(*found), chance.random()))
        for _ in range(chance.randrange(0, 3)):
            finds.append(
                Find(image, chance.choice("abcde"), shape(chance.uniform(0, 150), 20, 30, 30), chance.random())
            )
    return truth, finds


def reference(truth: list[Real], finds: list[Find], masks: bool) -> dict[str, float | None]:
    """What pycocotools says of the same."""
    images = {name: i + 1 for i, name in enumerate(dict.fromkeys(item.image for item in (*truth, *finds)))}
    labels = {name: i + 1 for i, name in enumerate(dict.fromkeys(item.label for item in (*truth, *finds)))}

    def place(item: Real | Find) -> dict[str, Any]:
        if isinstance(item.shape, Box):
            box = item.shape
            return {"bbox": [box.x, box.y, box.width, box.height], "area": box.width * box.height}
        coded = coco_mask.encode(np.asfortranarray(array_from_mask(item.shape).astype(np.uint8)))
        return {"segmentation": coded, "area": float(coco_mask.area(coded)), "bbox": list(coco_mask.toBbox(coded))}

    def row(number: int, item: Real | Find) -> dict[str, Any]:
        return {"id": number + 1, "image_id": images[item.image], "category_id": labels[item.label], **place(item)}

    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {
            "images": [{"id": number, "height": 200, "width": 200} for number in images.values()],
            "categories": [{"id": number, "name": name} for name, number in labels.items()],
            "annotations": [{**row(i, item), "iscrowd": int(item.crowd)} for i, item in enumerate(truth)],
        }
        gold.createIndex()
        said = gold.loadRes([{**row(i, item), "score": item.score} for i, item in enumerate(finds)])
        judge = COCOeval(gold, said, "segm" if masks else "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: None if value == -1 else float(value) for name, value in zip(NAMES, judge.stats, strict=True)}


@pytest.mark.parametrize(("seed", "masks"), [(0, False), (1, False), (2, False), (3, True)])
def test_the_numbers_are_those_of_pycocotools(seed: int, masks: bool) -> None:
    truth, finds = scenes(seed, masks)
    ours, theirs = average_precision(truth, finds), reference(truth, finds, masks)
    assert set(ours) == set(NAMES)
    for name in NAMES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
    assert ours["AP"] is not None and 0.1 < ours["AP"] < 0.9


def test_finds_of_one_score_are_one_point_of_the_curve() -> None:
    """Half of all finds are false: precision is a half, wherever the pictures without any object stand."""
    truth = [Real(f"i{n}", "fire", Box(0, 0, 10, 10)) for n in range(0, 40, 2)]
    finds = [Find(f"i{n}", "fire", Box(0, 0, 10, 10)) for n in range(40)]
    for some in (finds, finds[::-1], finds[::2] + finds[1::2]):
        assert average_precision(truth, some)["AP"] == pytest.approx(0.5)
    low, high = precision_intervals(truth, finds, [f"i{n}" for n in range(40)])["AP"] or (1.0, 0.0)
    assert 0.2 < low < 0.5 < high < 0.8


def test_by_hand() -> None:
    """Two objects; the first find is right at overlaps up to 0.8, the second wrong, the third right everywhere."""
    truth = [Real("a", "x", Box(0, 0, 10, 10)), Real("b", "x", Box(0, 0, 50, 50))]
    finds = [
        Find("a", "x", Box(0, 0, 10, 8), 0.9),
        Find("a", "x", Box(60, 60, 10, 10), 0.8),
        Find("b", "x", Box(0, 0, 50, 50), 0.7),
    ]
    scores = average_precision(truth, finds)
    # up to 0.80 (7 steps): precision 1 up to recall 0.5 (51 points), then 2/3 (50 points); above: 1/3 up to 0.5
    good, bad = (51 + 50 * 2 / 3) / 101, (51 / 3) / 101
    assert scores["AP50"] == pytest.approx(good)
    assert scores["AP"] == pytest.approx((7 * good + 3 * bad) / 10)
    assert scores["AR100"] == pytest.approx((7 * 1.0 + 3 * 0.5) / 10)
    assert scores["AP_large"] is None


def test_nothing_to_find_is_not_measured() -> None:
    assert average_precision([], []) == dict.fromkeys(average_precision([], []))
    assert average_precision([], [Find("a", "x", Box(0, 0, 1, 1))])["AP"] is None
    assert average_precision([Real("a", "x", Box(0, 0, 1, 1))], [])["AP"] == 0.0
    with pytest.raises(UserError, match="boxes and masks, expected one of the two"):
        mask = mask_from_array(np.ones((2, 2), np.bool_))
        average_precision([Real("a", "x", Box(0, 0, 1, 1))], [Find("a", "x", mask)])


def test_labels_and_scenes_apart() -> None:
    truth = [Real("a", "fire", Box(0, 0, 10, 10)), Real("a", "person", Box(20, 20, 10, 10))]
    finds = [Find("a", "fire", Box(0, 0, 10, 10)), Find("a", "other", Box(20, 20, 10, 10))]
    labels = by_label(truth, finds)
    assert [labels[name]["AP"] for name in ("fire", "person", "other")] == [pytest.approx(1.0), 0.0, None]
    found = by_scene(truth, finds, {"fire": "environment", "person": "personnel"})
    assert {name: scores["AP"] for name, scores in found.items()} == {
        "environment": pytest.approx(1.0),
        "personnel": 0.0,
    }


def test_intervals_are_over_pictures() -> None:
    """Half of 40 pictures show a fire that is found, half one that is not: the same share again and again."""
    box = Box(0, 0, 10, 10)
    names = [f"{n}" for n in range(40)]
    truth = [Real(name, "fire", box) for name in names]
    finds = [Find(name, "fire", box) for name in names[:20]]
    found = precision_intervals(truth, finds, names)
    half = average_precision(truth, finds)["AP"]
    assert half is not None
    for interval in found.values():
        assert interval is not None
        low, high = interval
        # a share of 40 has a deviation of 0.079, and AP is that share to the grain of 101 recalls
        assert low < half < high and 0.2 < high - low < 0.4 and low == pytest.approx(half - 0.155, abs=0.05)
    assert precision_intervals(truth, finds, names) == found
    sure = precision_intervals(truth[:20], finds, names)  # pictures in which there is nothing neither help nor harm
    assert sure["AP50"] == (pytest.approx(1.0), pytest.approx(1.0))
    assert precision_intervals([], finds, names) == {"AP": None, "AP50": None}


def test_overlap_of_masks() -> None:
    half, whole = Box(0, 0, 10, 5), Polygon(((((0, 0), (10, 0), (10, 10), (0, 10)),),))
    low = Box(0, 5, 10, 5)
    assert mask_ious([([half], [whole], 20, 20)]) == [0.5]
    assert mask_ious([([half, low], [whole], 20, 20), ([half], [], 20, 20), ([], [], 20, 20)]) == [1.0, 0.0, None]


def test_counting_errors() -> None:
    found = counting([(3, 3), (5, 3), (0, 1), (None, 2)])
    assert found == {
        "n": 4,
        "unread": 1,
        "exact": 0.25,
        "constant": 0.5,
        "mean_error": 1.0,
        "bias": pytest.approx(1 / 3),
    }
    assert counting([]) == {"n": 0, "unread": 0, "exact": None, "constant": None, "mean_error": None, "bias": None}
