"""The one place that knows how many processes there are and which device each uses; alone on a CPU it costs
nothing.

torchrun starts ranks; without it there is one. `training.step` adds gradients up over ranks; the stages, whose
directories have one writer, run in one process and refuse more. Models stay single-device.
"""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import UserError

__all__ = ["Mesh"]


@final
@dataclass(frozen=True)
class Mesh:
    """The processes of this run and this process's device."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def start(cls) -> Mesh:
        """Join the others that torchrun started (its RANK, WORLD_SIZE, LOCAL_RANK), or be alone.

        The device is BESSEMER_DEVICE, else the local rank's GPU, else the CPU; ranks speak through NCCL or
        Gloo.

        Raises:
            UserError: BESSEMER_DEVICE names a device that PyTorch does not have here.
        """
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        device = _device(int(os.environ.get("LOCAL_RANK", "0")))
        if world_size > 1 and not dist.is_initialized():
            # Its functions take the group that exists when they are imported as default, and AdamW imports it: the
            # group would outlive _leave, and its thread ask an interpreter that is ending for the lock, and abort.
            importlib.import_module("torch.distributed.nn.functional")
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=timedelta(minutes=30))
            atexit.register(_leave)
        return cls(rank, world_size, device)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each parameter's gradient by its sum over ranks; one that is None here counts as zero.

        All ranks pass the same parameters in the same order. Gradients that are None everywhere become zero.
        """
        if self.world_size == 1:
            return
        groups: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            groups.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in groups.values():  # one message a dtype: small messages cost more than their bytes
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)
            offset = 0
            for gradient in gradients:
                gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
                offset += gradient.numel()

    @torch.no_grad()
    def sum(self, tensor: Tensor) -> Tensor:
        """A new tensor: the sum of `tensor` over ranks, same shape."""
        total = tensor.detach().clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    @torch.no_grad()
    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's values, written into `tensor` on the others; returns it."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.barrier()


def _leave() -> None:
    """End the group's threads before the interpreter goes: one that is still running then aborts the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    wanted = os.environ.get("BESSEMER_DEVICE")
    if wanted:
        try:
            device = torch.device(wanted)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"BESSEMER_DEVICE is {wanted!r}, expected a device that is here, such as cpu") from error
        return device
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
