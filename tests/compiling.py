"""Whether something can be compiled here, for tests of what is compiled."""

from __future__ import annotations

import os
import platform
import shutil

import pytest
import torch

from bessemer.kernels import Kernels, kernels_for


def need_compiler() -> None:
    """Skip the test where nothing is compiled for users either."""
    if shutil.which(os.environ.get("CC") or "cc") is None or platform.system() != "Linux":
        pytest.skip("no Linux with a C compiler is here, so nothing is compiled for users either")


def compiled_library(dtype: torch.dtype = torch.float32) -> Kernels:
    """The compiled functions for this type; skips the test where there is no compiler, fails it if that refuses."""
    need_compiler()
    kernels = kernels_for(dtype, torch.device("cpu"))
    assert kernels is not None, "there is a C compiler, and it did not compile; the log says why"
    return kernels
