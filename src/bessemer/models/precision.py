"""The type of number that a network computes in: bfloat16 where the device multiplies it, float32 where it does not.

A processor without bfloat16 products imitates them, at a tenth of the speed of float32 ones.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch

from bessemer.errors import UserError

__all__ = [
    "Precision",
    "Weights",
    "beside_eight_bits",
    "dtype_of",
    "has_tiles",
    "mixed",
    "multiplies_bfloat16",
    "short_name",
]

log = logging.getLogger(__name__)

Precision = Literal["auto", "bf16", "fp32"]
Weights = Literal["", "int8"]


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether the device has instructions for products of bfloat16 that PyTorch uses."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    here = device.type == "cpu" and torch.backends.mkldnn.is_available()
    return here and _processor_has("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's


def has_tiles() -> bool:
    """Whether the processor multiplies bfloat16 by tiles (AMX)."""
    return _processor_has("amx_bf16")


@functools.cache
def _processor_has(*names: str) -> bool:
    """Whether it has any of these, as PyTorch calls them."""
    has: Mapping[str, object] = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in names)


def dtype_of(precision: str, device: torch.device | str) -> torch.dtype:
    """The type that "bf16", "fp32" or "auto" (what suits the device) means on a device.

    Raises:
        UserError: another word.
    """
    if precision not in get_args(Precision):
        raise UserError(f"dtype={precision}, expected auto, bf16 or fp32")
    if precision == "auto":
        precision = "bf16" if multiplies_bfloat16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def beside_eight_bits(precision: Precision, device: torch.device) -> Precision:
    """The type of the activations that weights of eight bits are multiplied with: bfloat16, on a CPU.

    Raises:
        UserError: another device, or float32 was asked for.
    """
    if device.type != "cpu":
        raise UserError(
            f"weights=int8 on {device.type}, expected a CPU: leave weights empty, or set BESSEMER_DEVICE=cpu"
        )
    if precision == "fp32":
        raise UserError("weights=int8 with dtype=fp32, expected dtype=bf16")
    if not multiplies_bfloat16(device):
        log.warning("weights=int8 are slow here: this device imitates the products of bfloat16 that go with them")
    return "bf16"


def short_name(dtype: torch.dtype) -> str:
    """The short name of a type: "bf16" or "fp32"."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def mixed(device: torch.device | str) -> AbstractContextManager[Any]:
    """A context in which float32 networks compute in bfloat16 where the device multiplies it, else as they are."""
    device = torch.device(device)
    return torch.autocast(device.type, dtype=torch.bfloat16) if multiplies_bfloat16(device) else nullcontext()
