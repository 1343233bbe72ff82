"""Memory that a process keeps, and gives back."""

from __future__ import annotations

import ctypes

__all__ = ["give_memory_back", "keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library
NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Let the C library keep what tensors free, for the next tensors; returns whether it does (GNU's only).

    By default it gives every block above 32 MB back to the kernel, which clears each page again at the next
    allocation: for tensors as wide as a vocabulary that takes longer than the arithmetic.
    """
    library = _gnu_library()
    return (
        library is not None and bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, NEVER))
    )


def give_memory_back() -> bool:
    """Hand what was freed and kept to the kernel; returns whether there was any (GNU's C library only)."""
    library = _gnu_library()
    return library is not None and bool(library.malloc_trim(0))


def _gnu_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if getattr(library, "gnu_get_libc_version", None) is not None else None
