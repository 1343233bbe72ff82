from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from bessemer.annotation.geometry import bounding_box
from bessemer.annotation.rle import (
    array_from_mask,
    coco_from_mask,
    crop_from_mask,
    cvat_from_mask,
    label_studio_from_mask,
    mask_from_array,
    mask_from_coco,
    mask_from_crop,
    mask_from_cvat,
    mask_from_label_studio,
)
from bessemer.annotation.shapes import Box, Mask
from bessemer.errors import UserError
from drawn_annotations import bitmaps

Bitmap = NDArray[np.bool_]


def plain_unpack(packed: list[int]) -> list[int]:
    """rle-pack as its documentation describes it, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, size = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        out += [read(size)] * length if repeated else [read(size) for _ in range(length)]
    return out


def plain_pack(values: list[int], literal: bool) -> list[int]:
    """Every value alone, or in literal records of up to 8."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    step = 8 if literal else 1
    for start in range(0, len(values), step):
        some = values[start : start + step]
        bits += "000" + f"{len(some) - 1:03b}" + "".join(f"{value:08b}" for value in some)
    bits += "0" * (8 - len(bits) % 8)  # eight where none is needed, as Label Studio does
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@given(bitmaps)
def test_coco_agrees_with_pycocotools(bitmap: Bitmap) -> None:
    mask = mask_from_array(bitmap)
    height, width = bitmap.shape
    reference = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    assert coco_from_mask(mask) == reference["counts"].decode()
    assert mask_from_coco(reference["counts"], height, width) == mask
    assert np.array_equal(array_from_mask(mask), bitmap)
    assert mask_from_coco(list(mask.runs), height, width) == mask
    again = coco.frPyObjects({"counts": list(mask.runs), "size": [height, width]}, height, width)
    assert again["counts"] == reference["counts"]


def test_long_runs_agree_with_pycocotools() -> None:
    bitmap = np.zeros((3000, 2000), dtype=bool)
    bitmap[5:2990, 100:1900] = True
    bitmap[1000, 1000:1500] = False
    reference = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))["counts"].decode()
    assert coco_from_mask(mask_from_array(bitmap)) == reference
    assert mask_from_coco(reference, 3000, 2000) == mask_from_array(bitmap)


def test_by_hand() -> None:
    bitmap = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert mask_from_array(bitmap).runs == (2, 1, 1, 2)  # down the columns 00 10 11
    # In an image of 4 x 3 at left 1, top 1, along the rows of the crop: 1 1 / 0 1.
    wide = np.zeros((3, 4), dtype=bool)
    wide[1:, 1:] = bitmap
    assert cvat_from_mask(mask_from_array(wide)) == ((0, 2, 1, 1), 2, 1, 2, 2)
    assert mask_from_cvat([1, 2, 2, 1], 1, 1, 3, 2, 4, 3) == mask_from_array(wide)


@given(bitmaps, st.integers(-4, 4), st.integers(-4, 4))
def test_a_crop_is_the_object_and_no_more(bitmap: Bitmap, left: int, top: int) -> None:
    """Also where it is put back at another place, partly outside."""
    height, width = bitmap.shape
    crop, x, y = crop_from_mask(mask_from_array(bitmap))
    if bitmap.any():
        assert all(side.any() for side in (crop[0], crop[-1], crop[:, 0], crop[:, -1]))
    moved = np.zeros_like(bitmap)
    for i, j in zip(*np.nonzero(bitmap), strict=True):
        row, column = i - y + top, j - x + left
        if 0 <= row < height and 0 <= column < width:
            moved[row, column] = True
    assert mask_from_crop(crop, left, top, width, height) == mask_from_array(moved)
    assert mask_from_crop(crop, x, y, width, height) == mask_from_array(bitmap)


def test_a_small_object_in_a_large_image_takes_little() -> None:
    """No array of the whole image is made: 100 MP would be 100 MB."""
    mask = Mask((50_000_000, 3, 49_999_997), 10_000, 10_000)
    tracemalloc.start()
    assert mask_from_cvat(*cvat_from_mask(mask), 10_000, 10_000) == mask
    assert bounding_box(mask) == Box(5_000, 0, 1, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@given(bitmaps)
def test_cvat_comes_back(bitmap: Bitmap) -> None:
    height, width = bitmap.shape
    runs, left, top, w, h = cvat_from_mask(mask_from_array(bitmap))
    crop = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    whole = np.zeros_like(bitmap)
    whole[top : top + h, left : left + w] = crop
    assert np.array_equal(whole, bitmap)
    assert mask_from_cvat(runs, left, top, w, h, width, height) == mask_from_array(bitmap)


@settings(deadline=None)
@given(bitmaps)
def test_label_studio_comes_back(bitmap: Bitmap) -> None:
    mask = mask_from_array(bitmap)
    height, width = bitmap.shape
    packed = label_studio_from_mask(mask)
    values = plain_unpack(packed)
    assert values == np.repeat(bitmap.reshape(-1).astype(int) * 255, 4).tolist()
    assert mask_from_label_studio(packed, height, width) == mask
    # Colours beside the alpha, as a browser's canvas has them.
    rgba = np.stack([np.full(bitmap.shape, 200), bitmap * 3, bitmap * 0, bitmap * 180], axis=-1).reshape(-1).tolist()
    for literal in (False, True):
        assert mask_from_label_studio(plain_pack(rgba, literal), height, width) == mask


def test_label_studio_splits_runs_that_are_too_long() -> None:
    bitmap = np.ones((200, 200), dtype=bool)
    bitmap[199, 199] = False
    packed = label_studio_from_mask(mask_from_array(bitmap))
    assert plain_unpack(packed) == [255] * (4 * 39_999) + [0] * 4
    assert mask_from_label_studio(packed, 200, 200) == mask_from_array(bitmap)


def test_alpha_counts_from_half() -> None:
    packed = plain_pack([255, 255, 255, 127, 0, 0, 0, 128], True)
    assert mask_from_label_studio(packed, 1, 2) == Mask((1, 1), 1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mask_from_coco("zzz", 2, 2), "character 'z'"),
        (lambda: mask_from_coco("o", 2, 2), "ends within a number"),
        (lambda: mask_from_coco("oooooooooo1", 2, 2), "more than 35 bits"),
        (lambda: mask_from_coco("é", 2, 2), "not ASCII"),
        (lambda: mask_from_coco([1, 2], 2, 2), "add up to 3"),
        (lambda: mask_from_coco([1.5, 2.5], 2, 2), "no pixel count"),
        (lambda: mask_from_coco("4", 10**6, 10**6), "expected 1 to 100000000 pixels"),
        (lambda: mask_from_coco("0" * 17_000_000, 2, 2), "at most 16777216"),
        (lambda: mask_from_cvat([4], 3, 0, 2, 2, 4, 4), "expected one inside 4 x 4"),
        (lambda: mask_from_cvat([4], -1, 0, 2, 2, 4, 4), "expected one inside 4 x 4"),
        (lambda: mask_from_cvat([2, 1], 0, 0, 2, 2, 4, 4), "add up to 3"),
        (lambda: mask_from_cvat([4], 0, 0, 2, 2, 10**5, 10**5), "expected 1 to"),
        (lambda: mask_from_label_studio([], 2, 2), "ends early"),
        (lambda: mask_from_label_studio([255] * 20, 2, 2), "4294967295 values, expected 16"),
        (lambda: mask_from_label_studio([256], 2, 2), "other values than bytes"),
        (lambda: mask_from_label_studio(plain_pack([1] * 16, True)[:-4], 2, 2), "ends early"),
        (lambda: mask_from_label_studio(plain_pack([1] * 16, True), 2, 1), "16 values, expected 8"),
    ],
)  # fmt: skip
def test_bombs_and_broken_masks_are_refused(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_run_that_leaves_the_image_is_refused() -> None:
    bits = f"{16:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16)) + "111" + "1" * 16 + "1" * 8
    bits += "0" * (-len(bits) % 8)
    with pytest.raises(UserError, match="leaves the image"):
        mask_from_label_studio([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)], 2, 2)
