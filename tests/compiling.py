"""Whether something can be compiled here, for tests of what is compiled."""

from __future__ import annotations

import ctypes
import os
import shutil

import pytest
import torch

from bessemer.rollout import kernels


def compiled_library(dtype: torch.dtype) -> ctypes.CDLL:
    """The compiled operations for this type; skips the test where there is no compiler, fails it if that refuses."""
    if shutil.which(os.environ.get("CC") or "cc") is None:
        pytest.skip("there is no C compiler here, so nothing is compiled for users either")
    library = kernels._library(dtype)
    assert library is not None, "there is a C compiler, and it did not compile; the log says why"
    return library
