"""Parts of a decoder block, each as one node of the graph with its gradient by hand.

Written out in small operations, as transformers has them, a block of a small model spends as long on casts, copies and
bookkeeping of the graph as on its products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bessemer.algos.masked import widen
from bessemer.kernels import kernels_for

__all__ = ["gated", "rms_norm", "rotate", "rotation"]


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon), rounded to x's type, times weight (Zhang & Sennrich 2019), over the last axis."""
    normed: Tensor = _RmsNorm.apply(x, weight, epsilon)
    return normed


class _RmsNorm(torch.autograd.Function):
    """Statistics in float32; of what it computed it keeps one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        kernels = kernels_for(x.dtype, x.device)
        if kernels is not None:
            x = x.contiguous()
            inverse = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
            normed = kernels.add_norm(x, None, weight.to(x.dtype).contiguous(), epsilon, inverse)
            ctx.save_for_backward(x, weight, inverse)
            return normed
        wide = widen(x)
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon)
        inverse = inverse.rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse).to(x.dtype).mul_(weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        kernels = kernels_for(x.dtype, x.device)
        if kernels is not None and not needs_weight:
            gain = weight.to(x.dtype).contiguous()
            return kernels.norm_backward(x, gain, inverse, gradients[0].to(x.dtype).contiguous()), None, None
        normed, gradient = widen(x) * inverse, widen(gradients[0])
        d_weight = (gradient * normed).flatten(0, -2).sum(0).to(weight.dtype) if needs_weight else None
        if not needs_x:
            return None, d_weight, None
        # d normed_j / d x_i = (delta_ij - normed_i normed_j / D) / rms
        scaled = gradient * weight
        mean = (scaled * normed).mean(-1, keepdim=True)
        return scaled.sub_(normed.mul_(mean)).mul_(inverse).to(x.dtype), d_weight, None


def rotation(positions: Tensor, frequencies: Tensor, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position for `rotate`, (T, d): the sine with the sign that its half of a head takes."""
    angles = positions[:, None].float() * frequencies
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of x (U, H, d) by cos and signed sin (U, 1, d)."""
    if not x.requires_grad:
        return _rotated(x, cos, sin, 1)
    rotated: Tensor = _Rotate.apply(x, cos, sin)
    return rotated


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    kernels = kernels_for(x.dtype, x.device)
    if kernels is not None and x.dtype == cos.dtype == sin.dtype:
        beside = x.stride(2) == 1 and x.stride(1) == x.shape[2]
        return kernels.rotate(x if beside else x.contiguous(), cos.contiguous(), sin.contiguous(), way)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin, value=way)


class _Rotate(torch.autograd.Function):
    """Its gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        return _rotated(gradients[0], ctx.saved_tensors[0], ctx.saved_tensors[1], -1), None, None


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of both side by side (SwiGLU, Shazeer 2020, equation 5): (U, 2 F) -> (U, F)."""
    if not gate_up.requires_grad:
        return _product(gate_up)
    product: Tensor = _Gated.apply(gate_up)
    return product


def _product(gate_up: Tensor) -> Tensor:
    kernels = kernels_for(gate_up.dtype, gate_up.device)
    if kernels is not None:
        return kernels.gated(gate_up.contiguous())
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate).mul_(up)


class _Gated(torch.autograd.Function):
    """silu(gate) is computed again in the backward pass: a read of what is kept anyway."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _product(gate_up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        gate_up, gradient = ctx.saved_tensors[0], gradients[0]
        kernels = kernels_for(gate_up.dtype, gate_up.device)
        if kernels is not None and gradient.dtype == gate_up.dtype:
            return kernels.gated_backward(gate_up.contiguous(), gradient.contiguous())
        gate, up = gate_up.chunk(2, -1)
        both = torch.empty_like(gate_up)
        d_gate, d_up = both.chunk(2, -1)
        torch.mul(gradient, functional.silu(gate), out=d_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=d_gate)
        return both
