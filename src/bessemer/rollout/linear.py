"""Linear layers laid out for decoding: in oneDNN's order for many rows, with weights of 8 bits for few."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bessemer.models.frozen import packable
from bessemer.models.precision import multiplies_bfloat16

__all__ = ["NARROW_ROWS", "Linear", "eight_bits"]

NARROW_ROWS = 2  # up to here 8 bits pay: 1.2 times as fast at 1 row, 1.1 at 2, 0.8 at 4 (SmolLM2-135M, one thread)


def eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (out, in) as whole numbers from -127 to 127, int8, and a scale (out,) for each output, of its type."""
    scales = (weight.abs().amax(1).float() / 127).clamp_(min=1e-12).to(weight.dtype)
    return (weight.float() / scales[:, None].float()).round_().clamp_(-127, 127).to(torch.int8), scales


def _computes_in_float32(weight: Tensor) -> bool:
    """Whether this is a float32 weight on a CPU to which that is the natural type."""
    here = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return here and not multiplies_bfloat16(weight.device)


class Linear:
    """A frozen linear layer: on a CPU in oneDNN's own blocked order. Final.

    int8: keep a second copy of the weights, in 8 bits, for calls with `narrow` (on a CPU, in bfloat16; else it is the
    same). The product of one row takes as long as reading the weights does; with four, 8 bits cost more than they save.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, int8: bool = False) -> None:
        self.bias = bias
        self.reordered = packable(weight) or _computes_in_float32(weight)
        narrow = int8 and weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        self.small = eight_bits(weight) if narrow else None
        self.weight = weight.contiguous()
        if self.reordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor, narrow: bool = False) -> Tensor:
        output: Tensor
        if narrow and self.small is not None:
            output = torch.ops.aten._weight_int8pack_mm(x, *self.small)
            return output if self.bias is None else output + self.bias
        if self.reordered:
            output = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return output
        return functional.linear(x, self.weight, self.bias)
