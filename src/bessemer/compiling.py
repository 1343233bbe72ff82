"""Our C source, compiled once for this processor and kept; without a compiler PyTorch's operations do the same."""

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

from bessemer.assets import cache_directory
from bessemer.disk import write_atomic
from bessemer.errors import UserError

__all__ = ["library"]

log = logging.getLogger(__name__)

SOURCE: Final = Path(__file__).with_name("kernels.c")
# Of -ffast-math only what sums need to become vector instructions: the rest of it hides values that are not finite, and
# makes the whole process flush small numbers to zero.
FLAGS: Final = (
    *("-O3", "-march=native", "-fPIC", "-fopenmp"),
    *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno"),
)
WIDE: Final = ("-mprefer-vector-width=512",)  # x86 has 512 bits where it has bfloat16, and prefers 256
SECONDS: Final = 120.0


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled source for this type, or None where it cannot be had (one log line a type says why)."""
    try:
        made = _build(dtype)
        try:
            return ctypes.CDLL(str(made))
        except OSError:  # damaged since
            made.unlink()
            return ctypes.CDLL(str(_build(dtype)))
    except (OSError, RuntimeError, UserError, subprocess.SubprocessError) as error:
        log.warning("without compiled operations, slower: %s", _reason(error))
        return None


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:300]


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
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = directory.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise OSError(f"{directory} can be written to by others, expected a folder of your own (mode 0700)")
    target = directory / f"{name}.so"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            part, whole = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
            _run(compiler, *flags, "-c", str(SOURCE), "-o", str(part))
            _run(compiler, "-shared", "-Wl,-z,defs", str(part), str(threads), "-lm", "-lc", "-o", str(whole))
            write_atomic(target, whole.read_bytes())
    return target


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=SECONDS)


def _openmp() -> Path:
    """The OpenMP library that PyTorch uses: threads of a second one would wait where the first one's spin."""
    torch.arange(2**16).sum()  # it is loaded by now
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        mapped = {Path(line.split(maxsplit=5)[5].strip()) for line in file if "omp" in line and "/" in line}
    homes = {Path(torch.__file__).parent / "lib", Path(torch.__file__).parents[1] / "torch.libs"}
    found = sorted(p for p in mapped if p.name.startswith(("libgomp", "libiomp5")) and p.parent in homes)
    if len(found) != 1:
        raise OSError(f"expected one OpenMP library of PyTorch's, found {len(found)}")
    return found[0]


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = file.read().split("\n\n")[0].splitlines()
    return " ".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
