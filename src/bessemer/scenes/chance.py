"""Random choices that depend on a key alone: the same key, the same choices, in every process and Python version."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chance", "Colour"]

T = TypeVar("T")
Colour = tuple[int, int, int]


class Chance:
    """A stream of choices. Final.

    Everything is made of `random.Random.random()` and `randbytes`, the streams that do not change between versions.
    """

    def __init__(self, *key: str | int | float) -> None:
        digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
        self._stream = random.Random(int.from_bytes(digest, "big"))

    def share(self) -> float:
        """A number in [0, 1)."""
        return self._stream.random()

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._stream.random()

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * self._stream.random())

    def flag(self, probability: float) -> bool:
        """True that often."""
        return self._stream.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(len(options) * self._stream.random())]

    def normal(self, width: float) -> float:
        """A Gaussian number of mean 0 and standard deviation `width` (Box and Muller 1958)."""
        radius = math.sqrt(-2 * math.log(1 - self._stream.random()))
        return width * radius * math.cos(2 * math.pi * self._stream.random())

    def tint(self, colour: Colour, amount: int) -> Colour:
        """A colour near the given one: all channels lighter or darker, and each a little on its own."""
        step = self.between(-amount, amount)
        red, green, blue = (max(0, min(255, round(c + step + self.between(-amount, amount) / 3))) for c in colour)
        return red, green, blue

    def noise(self, height: int, width: int) -> NDArray[np.float32]:
        """(height, width) float32, independent and uniform in [0, 1]."""
        raw = np.frombuffer(self._stream.randbytes(height * width), dtype=np.uint8)
        return raw.reshape(height, width).astype(np.float32) / np.float32(255)
