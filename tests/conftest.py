"""For every test: one thread, the same random numbers whenever it runs, and no way to the network."""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path

import pytest

# Set before PyTorch and Hugging Face are imported; subprocesses inherit it.
os.environ |= {
    "BESSEMER_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
}

for chosen in ("BESSEMER_KERNELS", "BESSEMER_DEVICE"):  # by whoever runs the tests, for other work
    os.environ.pop(chosen, None)

_connect = socket.socket.connect


def _local_only(self: socket.socket, address: object) -> None:
    host = address[0] if isinstance(address, tuple) else ""
    if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test tried to reach {address}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _local_only)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(params=["plain", "compiled"])
def operations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What lies between products: by PyTorch's operations, and compiled. What holds of one holds of the other."""
    from bessemer import kernels
    from compiling import compiled_library

    kind: str = request.param
    if kind == "plain":
        monkeypatch.setattr(kernels, "_kernels", lambda dtype: None)
    else:
        compiled_library()
    return kind
