"""One optimiser step over any number of microbatches.

A loss returns a sum and a count; gradients of the sums add up over microbatches and ranks, and are divided once by the
global count. So batch 8 x 1 = 1 x 8 = packed = two ranks, to rounding. A loss or gradient that is not finite never
reaches a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from bessemer.algos.masked import Loss
from bessemer.distributed import Mesh

__all__ = ["StepResult", "optimiser_step"]

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepResult:
    """loss: mean over the global count; gradient_norm: before clipping; applied: False if it was not finite;
    metrics: mean of each of the loss's metrics."""

    loss: float
    gradient_norm: float
    applied: bool
    metrics: Mapping[str, float]


def optimiser_step(
    optimiser: torch.optim.Optimizer,
    parameters: Iterable[nn.Parameter],
    microbatches: Iterable[Batch],
    loss_of: Callable[[Batch], Loss],
    max_grad_norm: float,
    mesh: Mesh | None = None,
) -> StepResult:
    """Accumulate the gradients of every microbatch, normalise by the global count, clip and step."""
    trained = list(parameters)
    optimiser.zero_grad(set_to_none=True)
    totals: dict[str, Tensor] = {}
    for microbatch in microbatches:
        loss = loss_of(microbatch)
        loss.sum.backward()  # type: ignore[no-untyped-call]
        pairs = {"loss": (loss.sum, loss.count), **loss.metrics}
        for name, (value, count) in pairs.items():
            pair = torch.stack([value.detach().double(), count.detach().double()])
            totals[name] = totals[name] + pair if name in totals else pair
    if mesh is not None and mesh.world_size > 1:
        mesh.sum_gradients(trained)
        totals = {name: mesh.sum(totals[name]) for name in sorted(totals)}
    means = {name: float(total[0] / total[1]) for name, total in totals.items() if total[1] > 0}
    divisor = float(totals["loss"][1]) if totals else 0.0
    if divisor == 0:
        return StepResult(0.0, 0.0, False, {})
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    for gradient in gradients:
        gradient.div_(divisor)
    norm = torch.nn.utils.clip_grad_norm_(trained, max_grad_norm or float("inf"))
    mean = means.pop("loss")
    finite = bool(torch.isfinite(norm)) and mean == mean and abs(mean) != float("inf")
    if finite:
        optimiser.step()
    return StepResult(mean, float(norm), finite, means)
