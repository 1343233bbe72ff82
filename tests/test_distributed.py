"""One process, and two that speak through Gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bessemer.distributed import Mesh
from bessemer.errors import UserError

RANK_PROGRAM = """
import torch
from bessemer.distributed import Mesh

mesh = Mesh.start()
a, b, c = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3))
half = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
a.grad = torch.full((2, 2), float(mesh.rank + 1))
if mesh.rank == 1:
    b.grad = torch.arange(4.0).reshape(2, 2)
half.grad = torch.full((3,), 2.0, dtype=torch.bfloat16)
mesh.sum_gradients(iter([a, half, b, c]))
given = torch.tensor([1.0, 10.0]) * (mesh.rank + 1)
total = mesh.sum(given)
sent = mesh.broadcast(torch.full((2,), float(mesh.rank + 5)))
mesh.barrier()
assert mesh.is_main == (mesh.rank == 0) and mesh.world_size == 2
print([p.grad.flatten().tolist() for p in (a, half, b, c)], total.tolist(), given.tolist()[0], sent.tolist())
"""


def test_two_ranks_sum_and_share(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [rank.communicate(timeout=120)[0].strip() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    gradients = [[3.0] * 4, [4.0] * 3, [0.0, 1.0, 2.0, 3.0], [0.0] * 4]
    for rank, output in enumerate(outputs):
        assert output == f"{gradients} [3.0, 30.0] {float(rank + 1)} [5.0, 5.0]"


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BESSEMER_DEVICE", "cpu")
    mesh = Mesh.start()
    assert (mesh.rank, mesh.world_size, mesh.is_main, mesh.device) == (0, 1, True, torch.device("cpu"))
    parameter = torch.nn.Parameter(torch.ones(2))
    mesh.sum_gradients([parameter])
    assert parameter.grad is None
    value = torch.tensor([1.0], requires_grad=True)
    total = mesh.sum(value)
    assert total.tolist() == [1.0] and total is not value and not total.requires_grad
    assert mesh.broadcast(value) is value
    mesh.barrier()


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "cpu,cuda"])
def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("BESSEMER_DEVICE", device)
    with pytest.raises(UserError, match="expected a device that is here"):
        Mesh.start()
