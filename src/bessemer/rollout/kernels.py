"""The small operations of a decoding step in C: compiled once for this processor, kept, and called through ctypes.

A step of a small model asks PyTorch for a thousand operations that each take a few microseconds, and its products of
three queries with a cache read at a third of the memory's speed. Where there is no C compiler, `Plain` does the same.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from bessemer.assets import cache_directory
from bessemer.rollout.cache import Cache
from bessemer.rollout.operations import Shape

__all__ = ["Compiled", "compiled"]

log = logging.getLogger(__name__)

SOURCE: Final = Path(__file__).with_suffix(".c")
# Of -ffast-math only what sums need to become vector instructions: the rest of it hides values that are not finite, and
# makes the whole process flush small numbers to zero.
FLAGS: Final = (
    *("-O3", "-march=native", "-fPIC", "-fopenmp"),
    *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno"),
)
WIDE: Final = ("-mprefer-vector-width=512",)  # x86 has 512 bits where it has bfloat16, and prefers 256
SECONDS: Final = 120.0


class Compiled:
    """`Plain`'s operations of a step, each one call: rows of one type on a CPU, contiguous. Final."""

    def __init__(self, library: ctypes.CDLL, shape: Shape) -> None:
        pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._attend, self._add_norm, self._gated = library.attend, library.add_norm, library.gated
        self._attend.argtypes = [*[pointer] * 11, real, real]
        self._add_norm.argtypes = [*[pointer] * 4, size, size, real, ctypes.c_int]
        self._gated.argtypes = [pointer, pointer, size, size, ctypes.c_int]
        for function in (self._attend, self._add_norm, self._gated):
            function.restype = None
        self.shape = shape
        self._shares = torch.empty(0)

    def begin(self, cache: Cache, cos: Tensor, sin: Tensor) -> None:
        """Prepare a step: every row gets one more token, rotated by its row of cos and sin (room, d)."""
        self._cos, self._sin = cos, sin
        shape, rows, room = self.shape, len(cache.lengths), cache.extent
        self._threads = torch.get_num_threads()
        sizes = rows, shape.heads, shape.kv_heads, shape.head_dim, room, self._threads
        self._sizes = (ctypes.c_int64 * len(sizes))(*sizes)
        if self._shares.numel() < rows * shape.kv_heads * room:
            self._shares = torch.empty(rows * shape.kv_heads * room)

    def add_norm(self, x: Tensor, delta: Tensor | None, gain: Tensor) -> tuple[Tensor, Tensor]:
        """x + delta in x's place, and its root-mean-square norm times gain: (N, D) each."""
        normed = torch.empty_like(x)
        added = None if delta is None else delta.data_ptr()
        pointers = x.data_ptr(), added, gain.data_ptr(), normed.data_ptr()
        self._add_norm(*pointers, *x.shape, self.shape.epsilon, self._threads)
        return x, normed

    def attend(
        self, cache: Cache, layer: int, qkv: Tensor, query_gain: Tensor | None, key_gain: Tensor | None
    ) -> Tensor:
        """Append each row's token to the cache and look from it: (rows, (Hq + 2 Hk) d) -> (rows, Hq d)."""
        mixed = qkv.new_empty(len(qkv), self.shape.heads * self.shape.head_dim)
        gains = (None if gain is None else gain.data_ptr() for gain in (query_gain, key_gain))
        self._attend(
            qkv.data_ptr(), cache.keys[layer].data_ptr(), cache.values[layer].data_ptr(), self._cos.data_ptr(),
            self._sin.data_ptr(), *gains, cache.lengths.data_ptr(), self._shares.data_ptr(), mixed.data_ptr(),
            self._sizes, self.shape.scaling, self.shape.epsilon,
        )  # fmt: skip
        return mixed

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up: (N, 2 F) -> (N, F)."""
        rows, both = gate_up.shape
        product = gate_up.new_empty(rows, both // 2)
        self._gated(gate_up.data_ptr(), product.data_ptr(), rows, both // 2, self._threads)
        return product


def compiled(shape: Shape, dtype: torch.dtype, device: torch.device) -> Compiled | None:
    """The compiled operations, or None where they cannot be had (one log line a process says why)."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return None
    library = _library(dtype)
    return None if library is None else Compiled(library, shape)


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(_build(dtype)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("sampling without compiled operations, slower: %s", _reason(error))
        return None


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    return " ".join((said or str(error)).split())[:300]


def _build(dtype: torch.dtype) -> Path:
    """The library for this type, source, compiler and processor; compiled if it is not there yet.

    Raises:
        OSError, subprocess.SubprocessError: no compiler, or one that cannot.
    """
    if os.environ.get("BESSEMER_KERNELS", "1") == "0":
        raise OSError("BESSEMER_KERNELS is 0")
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None or platform.system() != "Linux":
        raise OSError("expected Linux with a C compiler, such as Debian's gcc")
    flags = [*FLAGS, *(WIDE if platform.machine() == "x86_64" else ())]
    flags += ["-DBFLOAT16"] if dtype == torch.bfloat16 else []
    threads = _openmp()
    version = _run(compiler, "--version").stdout
    made_of = (SOURCE.read_text(encoding="utf-8"), version, str(flags), str(threads), _processor())
    name = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:20]
    directory = cache_directory() / "kernels"
    target = directory / f"{name}.so"
    if not target.is_file():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            part, whole = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
            _run(compiler, *flags, "-c", str(SOURCE), "-o", str(part))
            _run(compiler, "-shared", "-Wl,-z,defs", str(part), str(threads), "-lm", "-lc", "-o", str(whole))
            whole.replace(target)
    return target


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)


def _openmp() -> Path:
    """The OpenMP library that PyTorch uses: threads of a second one would wait where the first one's spin."""
    torch.arange(2**16).sum()  # it is loaded by now
    with open("/proc/self/maps", encoding="utf-8") as file:
        mapped = {line.split(maxsplit=5)[5].strip() for line in file if "omp" in line and line.count("/") > 0}
    found = sorted(p for p in mapped if Path(p).name.startswith(("libgomp", "libiomp5")) and "torch" in p)
    if len(found) != 1:
        raise OSError(f"expected one OpenMP library of PyTorch's, found {len(found)}")
    return Path(found[0])


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().split("\n\n")[0].splitlines()
    return " ".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
