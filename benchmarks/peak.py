"""What this process reaches where nothing is in the way: a matrix product, and reading a large tensor.

python benchmarks/peak.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from arithmetic import Peak

__all__ = ["measured_peak", "repeated"]

SIDE = 2048
"""Of the square matrices: 17 GFLOP a product, 25 MB in all."""
STREAM = 2**26
"""Numbers of four bytes: 268 MB, more than any cache holds."""


def repeated(act: Callable[[], object], times: int) -> list[float]:
    """Seconds of each of so many repetitions, after one that is not counted."""
    act()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    return seconds


def measured_peak(
    dtype: torch.dtype = torch.bfloat16, repeats: int = 7, side: int = SIDE, stream: int = STREAM
) -> Peak:
    """The best of a few repetitions each, products in `dtype`; a stream is the faster of adding numbers up and of
    copying them (read and written)."""
    left, right = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    product = min(repeated(lambda: torch.mm(left, right), repeats))
    numbers = torch.ones(stream)
    target = torch.empty_like(numbers)
    read = 4 * stream / min(repeated(numbers.sum, repeats))
    copied = 8 * stream / min(repeated(lambda: target.copy_(numbers), repeats))
    return Peak(2 * side**3 / product / 1e9, max(read, copied) / 1e9)


if __name__ == "__main__":
    print(measured_peak())
