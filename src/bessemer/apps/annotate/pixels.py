"""What the page shows of a photograph: pixels of the upright image, encoded again by us.

No byte of the file itself is sent: a picture that is also a page (Label Studio CVE-2023-47115) is only a picture
afterwards, metadata stay here, and the browser sees the frame that the trainer sees.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image

from ...annotation.listing import image, image_file
from ...annotation.store import Project
from ...data.decoding import load_apart
from ...data.images import MAX_PIXELS
from ...data.schema import ImageRef
from .messages import Refusal

__all__ = ["PREVIEW", "THUMBNAIL", "TILE", "Pictures"]

THUMBNAIL = 96  # pixels of the longer side
PREVIEW = 1_600
TILE = 1_024  # pixels of a tile's side
MAX_LEVEL = 8  # a tile of level n is 2^n times smaller than the photograph
DECODED = 320 * 2**20  # bytes of decoded photographs that are kept; the last one always
ENCODED = 128 * 2**20
AT_ONCE = 2  # photographs that are decoded, each in a process of its own
WAITING = 48


class Pictures:
    """Thumbnails, previews and tiles of a project's images, cached in memory; used from many threads."""

    def __init__(self, project: Project, max_pixels: int = MAX_PIXELS) -> None:
        self._project = project
        self._max_pixels = max_pixels
        self._guard = threading.Lock()
        self._decoders = threading.BoundedSemaphore(AT_ONCE)
        self._inside = 0
        self._decoded: OrderedDict[str, Image.Image] = OrderedDict()
        self._encoded: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    def preview(self, id: int, side: int = PREVIEW) -> bytes:
        """The whole image as JPEG, its longer side at most `side`."""
        sha256 = image(self._project, id).sha256

        def make() -> Image.Image:
            full = self._load(id, sha256)
            factor = max(full.size) // (side * 2)
            small = full.reduce(factor) if factor > 1 else full.copy()
            small.thumbnail((side, side), Image.Resampling.BICUBIC)
            return small

        return self._get((sha256, str(side)), make)

    def tile(self, id: int, level: int, column: int, row: int) -> bytes:
        """`TILE` pixels square (less at the right and lower edge) of the image made 2^level times smaller, as JPEG.

        Raises:
            Refusal: 404 no such tile.
        """
        facts = image(self._project, id)
        step = TILE << min(level, MAX_LEVEL)
        left, top = column * step, row * step
        if level > MAX_LEVEL or left >= facts.width or top >= facts.height:
            raise Refusal(404, "no such tile")

        def make() -> Image.Image:
            full = self._load(id, facts.sha256)
            part = full.crop((left, top, min(left + step, full.width), min(top + step, full.height)))
            return part.reduce(1 << level) if level else part

        return self._get((facts.sha256, f"{level} {column} {row}"), make)

    def _get(self, key: tuple[str, ...], make: Callable[[], Image.Image]) -> bytes:
        with self._guard:
            if key in self._encoded:
                self._encoded.move_to_end(key)
                return self._encoded[key]
        with self._decoder():
            file = io.BytesIO()
            make().save(file, "JPEG", quality=92, subsampling=0)
        data = file.getvalue()
        with self._guard:
            self._encoded[key] = data
            while sum(map(len, self._encoded.values())) > ENCODED:
                self._encoded.popitem(last=False)
        return data

    @contextmanager
    def _decoder(self) -> Iterator[None]:
        with self._guard:
            if self._inside >= WAITING:
                raise Refusal(429, "too many pictures at once", {"Retry-After": "1"})
            self._inside += 1
        try:
            with self._decoders:
                yield
        finally:
            with self._guard:
                self._inside -= 1

    def _load(self, id: int, sha256: str) -> Image.Image:
        """The decoded image; its bytes must still have their hash."""
        with self._guard:
            if sha256 in self._decoded:
                self._decoded.move_to_end(sha256)
                return self._decoded[sha256]
        full = load_apart(ImageRef(str(image_file(self._project, id)), sha256), max_pixels=self._max_pixels)
        with self._guard:
            self._decoded[sha256] = full
            while len(self._decoded) > 1 and sum(i.width * i.height * 3 for i in self._decoded.values()) > DECODED:
                self._decoded.popitem(last=False)
        return full
