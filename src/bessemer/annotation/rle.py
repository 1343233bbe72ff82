"""Masks as run lengths, in the dialects of the tools; sizes are checked before anything large is made.

`Mask` itself holds COCO's uncompressed runs (down the columns). CVAT counts along the rows of a crop, Label Studio
packs the RGBA bytes along the rows (thi.ng rle-pack). Two packings of one mask may differ in bytes: compare masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.schema import need
from ..errors import UserError
from .shapes import MAX_PIXELS, Mask, finite

__all__ = [
    "array_from_mask", "coco_from_mask", "crop_from_mask", "cvat_from_mask", "label_studio_from_mask",
    "mask_from_array", "mask_from_coco", "mask_from_crop", "mask_from_cvat", "mask_from_label_studio",
]  # fmt: skip

MAX_PACKED = 16 * 2**20  # bytes of a compressed mask: 16 MB of runs are a noise image of 100 MP
OPAQUE = 128  # from this alpha on a pixel belongs to the brush: half covered, as with a pixel's centre
_SIZES = (3, 4, 8, 16)  # bits of a run's length in rle-pack, as Label Studio writes them


def array_from_mask(mask: Mask) -> NDArray[np.bool_]:
    """The mask as (height, width) booleans, True on the object."""
    flat = np.repeat(np.arange(len(mask.runs)) % 2 == 1, mask.runs)
    return flat.reshape(mask.width, mask.height).T


def mask_from_array(array: NDArray[np.bool_]) -> Mask:
    """The mask of (height, width) booleans, True on the object."""
    height, width = array.shape
    return Mask(_runs(array.T.reshape(-1)), height, width)


def crop_from_mask(mask: Mask) -> tuple[NDArray[np.bool_], int, int]:
    """(crop, left, top): the smallest crop with the whole object, made of its own columns alone; of an empty mask
    one pixel."""
    edges = np.cumsum(mask.runs)
    starts, ends = edges[:-1:2], edges[1::2]  # of the runs on the object
    if not len(ends):
        return np.zeros((1, 1), dtype=np.bool_), 0, 0
    left, right = int(starts[0]) // mask.height, (int(ends[-1]) - 1) // mask.height + 1
    changes = np.clip(edges, left * mask.height, right * mask.height) - left * mask.height
    runs = np.diff(changes, prepend=0)
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(right - left, mask.height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return columns[:, top:bottom].T, left, top


def mask_from_crop(crop: NDArray[np.bool_], left: int, top: int, width: int, height: int) -> Mask:
    """The mask of width x height whose object is in a crop; what of it lies outside is cut off."""
    right, bottom = left + crop.shape[1], top + crop.shape[0]
    crop = crop[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if left >= right or top >= bottom:
        return Mask((height * width,), height, width)
    columns = np.zeros((right - left, height), dtype=np.bool_)
    columns[:, top:bottom] = crop.T
    runs = list(_runs(columns.reshape(-1)))
    runs[0] += left * height
    return Mask((*runs, *([0] if len(runs) % 2 else []), (width - right) * height), height, width)


def _runs(flat: NDArray[np.bool_]) -> tuple[int, ...]:
    """Run lengths of a row of booleans; the first counts False and may be 0."""
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(flat)]])
    lengths: list[int] = np.diff(edges).tolist()
    return tuple([0, *lengths] if flat[0] else lengths)


def _check_size(height: int, width: int) -> None:
    ok = type(height) is int and type(width) is int and height > 0 and width > 0 and height * width <= MAX_PIXELS
    need(ok, f"a mask of {finite(height, 'height'):.0f} x {finite(width, 'width'):.0f}", f"1 to {MAX_PIXELS} pixels")


def mask_from_coco(counts: str | bytes | Sequence[int], height: int, width: int) -> Mask:
    """The mask of COCO's `counts`: a list of run lengths, or the compressed string of pycocotools.

    Raises:
        UserError: runs that do not add up to height x width, characters that COCO does not use, a cut string.
    """
    _check_size(height, width)
    if not isinstance(counts, str | bytes):
        return Mask(tuple(counts), height, width)
    need(len(counts) <= MAX_PACKED, f"a compressed mask of {len(counts)} characters", f"at most {MAX_PACKED}")
    if isinstance(counts, str):
        need(counts.isascii(), "a compressed mask that is not ASCII", "the characters 0 to o")
        counts = counts.encode()
    return Mask(_unpack_counts(counts), height, width)


def _unpack_counts(text: bytes) -> tuple[int, ...]:
    """Groups of 5 bits, the lowest first, bit 6 says that more follow; from the fourth on, each is the difference
    to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for byte in text:
        code = byte - 48
        need(0 <= code < 64, f"character {chr(byte)!r} in a compressed mask", "the characters 0 to o")
        value |= (code & 31) << shift
        shift += 5
        need(shift <= 35, "a run length of more than 35 bits", "a smaller mask")
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    need(shift == 0, "a compressed mask that ends within a number", "the whole string")
    return tuple(runs)


def coco_from_mask(mask: Mask) -> str:
    """The compressed `counts` that pycocotools reads; the uncompressed ones are `list(mask.runs)`."""
    out = bytearray()
    for number, run in enumerate(mask.runs):
        value = run - mask.runs[number - 2] if number > 2 else run
        while True:
            code = value & 31
            value >>= 5
            last = value == (-1 if code & 16 else 0)
            out.append(code + (48 if last else 80))
            if last:
                break
    return out.decode()


def mask_from_cvat(
    runs: Sequence[int], left: int, top: int, width: int, height: int, image_width: int, image_height: int
) -> Mask:
    """The mask of CVAT's `rle left top width height` in an image of that size: run lengths along the rows of the
    crop, beginning with background.

    Raises:
        UserError: runs that do not add up to the crop, a crop that leaves the image.
    """
    _check_size(image_height, image_width)
    crop = Mask(tuple(runs), width, height)  # along the rows is down the columns of the transpose
    inside = all(type(start) is int and start >= 0 for start in (left, top))
    inside = inside and left + width <= image_width and top + height <= image_height
    need(inside, f"a crop at {left}, {top} of {width} x {height}", f"one inside {image_width} x {image_height}")
    return mask_from_crop(array_from_mask(crop).T, left, top, image_width, image_height)


def cvat_from_mask(mask: Mask) -> tuple[tuple[int, ...], int, int, int, int]:
    """(runs, left, top, width, height) as CVAT writes a mask: the smallest crop; of an empty mask one pixel."""
    crop, left, top = crop_from_mask(mask)
    return _runs(crop.reshape(-1)), left, top, crop.shape[1], crop.shape[0]


def mask_from_label_studio(packed: Sequence[int] | bytes, height: int, width: int) -> Mask:
    """The mask of Label Studio's brush `rle`: bytes of a bit stream that holds the RGBA values of the image, row
    after row; a pixel belongs to the object where its alpha is 128 or more.

    The stream: 32 bits count of values, 5 bits value size - 1, four times 4 bits length size - 1; then records:
    1 bit repeated?, 2 bits which length size, length - 1, and one value if repeated, else `length` values.

    Raises:
        UserError: another count than 4 x height x width, values that are not bytes, a stream that ends early.
    """
    _check_size(height, width)
    need(len(packed) <= MAX_PACKED, f"a packed mask of {len(packed)} bytes", f"at most {MAX_PACKED}")
    ok = all(type(byte) is int and 0 <= byte <= 255 for byte in packed)
    need(ok, "a packed mask of other values than bytes", "whole numbers from 0 to 255")
    stream = _Bits(bytes(packed))
    count, size = stream.read(32), stream.read(5) + 1
    need(count == 4 * height * width, f"a packed mask of {count} values", f"{4 * height * width}, RGBA of every pixel")
    need(size == 8, f"values of {size} bits in a packed mask", "8")
    sizes = [stream.read(4) + 1 for _ in range(4)]
    alpha = np.zeros(height * width, dtype=np.uint8)
    place = 0
    while place < count:
        repeated = stream.read(1)
        end = place + 1 + stream.read(sizes[stream.read(2)])
        need(end <= count, "a run that leaves the image in a packed mask", f"{count} values in all")
        first, behind = place // 4, end // 4  # the pixels whose fourth value lies in [place, end)
        if repeated:
            alpha[first:behind] = stream.read(size)
        else:
            alpha[first:behind] = stream.read_bytes(end - place)[4 * first + 3 - place :: 4]
        place = end
    return mask_from_array((alpha >= OPAQUE).reshape(height, width))


class _Bits:
    """Reads a stream of bits, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        start, end = self._place, self._place + count
        need(end <= 8 * len(self._data), "a packed mask that ends early", "the whole stream")
        self._place = end
        last = (end + 7) // 8
        return int.from_bytes(self._data[start // 8 : last]) >> (8 * last - end) & ((1 << count) - 1)

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes, which may begin at any bit."""
        start, end = self._place, self._place + 8 * count
        need(end <= 8 * len(self._data), "a packed mask that ends early", "the whole stream")
        self._place = end
        raw = np.frombuffer(self._data, np.uint8)[start // 8 : (end + 7) // 8].astype(np.uint16)
        shift = start % 8
        if not shift:
            return raw.astype(np.uint8)
        return ((raw[:-1] << shift | raw[1:] >> (8 - shift)) & 255).astype(np.uint8)


def label_studio_from_mask(mask: Mask) -> list[int]:
    """The bytes that Label Studio reads: every value 255 on the object and 0 beside it, in runs of at most 65,536."""
    bits = [f"{4 * mask.height * mask.width:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for number, run in enumerate(_runs(array_from_mask(mask).reshape(-1))):
        left = 4 * run
        while left:
            length = min(left, 2**16)
            which = next(i for i, size in enumerate(_SIZES) if length <= 2**size)
            bits.append(f"1{which:02b}{length - 1:0{_SIZES[which]}b}" + ("11111111" if number % 2 else "00000000"))
            left -= length
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    packed = list(int(stream, 2).to_bytes(len(stream) // 8))
    if len(packed) > MAX_PACKED:
        raise UserError(f"a mask of {len(packed)} packed bytes, expected at most {MAX_PACKED}; simplify it")
    return packed
