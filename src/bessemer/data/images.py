"""Photographs from outside, into RGB images and tensors: five formats, one frame, upright, size-capped before
anything is decoded.

A photograph is decoded once for each use; caching what a frozen vision tower makes of it, by the hash of its
bytes, is the tower's business, not this file's.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import UserError
from .paths import resolve_path, shown
from .schema import ImageRef

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMATS", "MAX_BYTES", "MAX_PIXELS", "ImageFacts", "decode_image", "image_facts", "image_ref",
    "inspect_image", "load_image", "to_pixels",
]  # fmt: skip

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 2**20

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHERS = {
    "GIF": (b"GIF8",),
    "HEIC or AVIF": (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1", b"ftypavi"),
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "Photoshop": (b"8BPS",),
    "FITS": (b"SIMPLE  =",),
    "SVG or XML": (b"<svg", b"<?xml"),
}
_header_lock = threading.Lock()


@dataclass(frozen=True)
class ImageFacts:
    """What is known of a readable image file: size in pixels as seen upright, format, Pillow's mode, hash of
    its bytes, EXIF orientation (1 to 8) as the file records it."""

    width: int
    height: int
    format: str
    mode: str
    sha256: str
    orientation: int = 1


def load_image(image: ImageRef | Path, root: Path | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The photograph in RGB, upright.

    An `ImageRef` is found under `root`, the folder of its record file, and its bytes must have the recorded
    hash; a `Path` is the user's own and is opened as it is.

    Raises:
        UserError: naming the file; see `decode_image`, `resolve_path`; bytes that changed since they were
        recorded.
    """
    path = resolve_path(image.path, root) if isinstance(image, ImageRef) else image
    data = _read(path)
    if isinstance(image, ImageRef) and _sha256(data) != image.sha256:
        raise UserError(
            f"{shown(path)}: changed since it was recorded (sha256), expected the same bytes; put it back, or import "
            "it again: bessemer run RECIPE --force import"
        )
    return decode_image(data, shown(path), max_pixels)


def image_ref(path: Path, root: Path | None = None) -> ImageRef:
    """The reference of a file: its path relative to `root`, or absolute without one, and the hash of its
    bytes."""
    full = path.absolute()
    return ImageRef(full.relative_to(root.absolute()).as_posix() if root else str(full), _sha256(_read(path)))


def inspect_image(path: Path, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Read and decode a file only to learn whether that works; JPEGs at an eighth of their size, which is
    quick and finds cut files all the same. Raises UserError as `load_image`."""
    return image_facts(_read(path), shown(path), max_pixels)


def image_facts(data: bytes, name: str, max_pixels: int = MAX_PIXELS, decode: bool = True) -> ImageFacts:
    """The same of the bytes of a file; without `decode` by the header alone, and a file cut short passes."""
    image = _open(data, name, max_pixels)
    format, mode, (width, height) = _format(image), image.mode, image.size
    recorded = _orientation(image)
    if decode:
        image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
        _decode(image, name)
    if recorded in (5, 6, 7, 8) and format != "TIFF":  # Pillow gives a TIFF's size upright from the start
        width, height = height, width
    return ImageFacts(width, height, format, mode, _sha256(data), recorded if 1 <= recorded <= 8 else 1)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in RGB, upright, from the bytes of a file; `name` stands in the messages.

    EXIF orientation is applied. Grey is repeated, palettes are looked up, transparency is laid over white, 16
    bits are scaled by their full range (65,535 is white), never clipped. Colour profiles are ignored. Of a
    JPEG that carries more pictures (phones add previews and gain maps) the first is taken.

    Raises:
        UserError: another format, more than `max_pixels` by the header (nothing is decoded then), cut short
            or broken, more than one frame or page, 32-bit pixels.
    """
    image = _open(data, name, max_pixels)
    _decode(image, name)
    try:
        upright = _UPRIGHT.get(_orientation(image))
        return _to_rgb(image if upright is None else image.transpose(upright), name)
    except UserError:
        raise
    except Exception as error:
        reason = shown(error)
        raise UserError(f"{name}: cannot be made RGB ({reason}), expected 8 or 16 bits a channel") from error


def _open(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Read the header alone, and refuse by it."""
    expected = f"expected an image ({', '.join(FORMATS)})"
    if not data:
        raise UserError(f"{name}: the file is empty (0 bytes), {expected}")
    try:
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+ pixels", str(error))
        what = found[0] if found else shown(error)
        raise UserError(f"{name}: {what}, expected at most {max_pixels} in all; make it smaller") from error
    except Exception as error:  # Pillow's plug-ins raise whatever a broken header makes them trip over
        raise UserError(f"{name}: {_kind_of(data)}, {expected}; convert it or leave it out") from error
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(f"{name}: {width} x {height} pixels, expected at most {max_pixels} in all; make it smaller")
    if image.format not in ("JPEG", "MPO") and _has_second_frame(image):
        raise UserError(
            f"{name}: a {image.format} of more than one frame or page, expected one; save the frame you mean"
        )
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: remarks on damaged metadata that name no file, and the bomb warning, in
    whose place `_open` refuses. Filters belong to the whole process, hence the lock; decoding happens outside
    of it."""
    with _header_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _kind_of(data: bytes) -> str:
    head = data[:16]
    for kind, magic in _OTHERS.items():
        if any(head.startswith(start) or head[4:].startswith(start) for start in magic):
            return f"a {kind} file"
    return "not an image, or one whose header is broken"


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where metadata are absent or damaged, as browsers do. Pillow turns TIFFs itself on loading
    and then says 1."""
    try:
        with _quiet():
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata do not make the picture useless
        return 1
    return value if isinstance(value, int) else 1


def _has_second_frame(image: Image.Image) -> bool:
    """Asks for the second frame instead of counting them all: a file of a million pages is refused as quickly
    as one of two."""
    try:
        with _quiet():
            image.seek(1)
    except EOFError:
        return False
    except Exception:  # a broken second frame is a second frame
        return True
    return True


def _decode(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except Exception as error:
        reason = shown(error, 120) or type(error).__name__  # MemoryError says nothing
        raise UserError(f"{name}: the image is cut short or broken ({reason}), expected a whole file") from error


def _format(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        # 65,535 / 257 = 255: the whole 16-bit range, with rounding; `convert` would clip at 255
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(f"{name}: 32-bit pixels without a known white, expected 8 or 16 bits a channel; convert it")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def to_pixels(image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The image as a vision tower takes it: (3, size, size) float32, (value / 255 - mean) / std a channel.

    Resized to the square by antialiased bicubic interpolation without cropping: what is to be seen may lie at
    the edge.
    """
    import torch  # slow to import, and not needed where photographs are only decoded

    resized = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
    return ((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).contiguous()


def _read(path: Path) -> bytes:
    """The bytes of a regular file; pipes and devices would never end."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise UserError(f"{shown(path)}: not a regular file, expected an image file")
        if facts.st_size > MAX_BYTES:
            raise UserError(f"{shown(path)}: {facts.st_size} bytes, expected at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read ({error.strerror}), expected an image file") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
