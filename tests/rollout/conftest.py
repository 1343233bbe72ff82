"""The fast decoder by PyTorch's operations and by compiled ones: what holds of one holds of the other."""

from __future__ import annotations

import pytest
import torch

from bessemer.rollout import decoder
from compiling import compiled_library


@pytest.fixture(params=["plain", "compiled"])
def operations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two the decoders of a test take."""
    kind: str = request.param
    if kind == "plain":
        monkeypatch.setattr(decoder, "compiled", lambda *_: None)
    else:
        compiled_library(torch.float32)
    return kind
