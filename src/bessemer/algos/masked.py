"""Sums, means and variances over the positions that count, and the shape every loss is returned in."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Loss", "masked_mean", "masked_sum", "masked_var", "same_shape", "whiten", "widen"]


@dataclass(frozen=True)
class Loss:
    """A loss before division, so that its mean does not depend on how a batch was cut.

    sum: 0-d, differentiable. count: 0-d, what `sum` is divided by after both were added over micro-batches
    and ranks. metrics: name -> (sum, count), 0-d, detached, to be added up in the same way.
    """

    sum: Tensor
    count: Tensor
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is if float64; integers and half precisions become float32."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def same_shape(*tensors: Tensor) -> None:
    """Raise ValueError unless all shapes are equal, as broadcasting (B,) over (B, T) is silent and wrong."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"expected equal shapes, got {', '.join(map(str, shapes))}")


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the 0-d sum of `x` where `mask` is True; a nan or inf elsewhere has no effect.

    x, mask: any equal shape; mask True = counts.
    """
    same_shape(x, mask)
    return torch.where(mask, widen(x), 0.0).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the 0-d mean of `x` where `mask` is True, or 0 if nothing counts.

    x, mask: any equal shape; mask True = counts.
    """
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Return the 0-d population variance (division by n) of `x` where `mask` is True, or 0 if nothing counts.

    x, mask: any equal shape; mask True = counts.
    """
    same_shape(x, mask)
    x = torch.where(mask, widen(x), 0.0)
    return masked_mean((x - masked_mean(x, mask)).square(), mask)


def whiten(x: Tensor, mask: Tensor, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Scale `x` to population variance 1, and to mean 0 unless `shift_mean` is False, which keeps the mean.

    x, mask: any equal shape; mask True = counts. The result is 0 where the mask is False.
    Source: OpenAI lm-human-preferences, `whiten` (Ziegler et al. 2019).
    """
    same_shape(x, mask)
    # Before anything is multiplied: 0 times a nan behind the mask would be a nan in the gradient.
    x = torch.where(mask, widen(x), 0.0)
    mean = masked_mean(x, mask)
    whitened = (x - mean) * torch.rsqrt(masked_var(x, mask) + eps)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, 0.0)
