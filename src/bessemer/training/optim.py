"""Optimiser and learning-rate schedule; the rate is a pure function of the step, so there is no scheduler to resume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Group", "adamw", "learning_rate_at", "set_learning_rate"]


@dataclass(frozen=True)
class Group:
    """Parameters (by unique name) that share a peak learning rate and a weight decay."""

    parameters: Mapping[str, nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0


def adamw(groups: Sequence[Group], eps: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over the groups; vectors (biases, norms) are never decayed."""
    settings = []
    for group in groups:
        for decayed in (True, False):
            members = [p for p in group.parameters.values() if (p.ndim > 1) == decayed]
            if members:
                decay = group.weight_decay if decayed else 0.0
                settings.append(
                    {"params": members, "lr": group.learning_rate, "weight_decay": decay, "peak": group.learning_rate}
                )
    if not settings:
        raise ValueError("nothing to train: every part is frozen")
    return torch.optim.AdamW(settings, eps=eps, betas=betas, fused=True)


def learning_rate_at(step: int, total: int, warmup: int, kind: str = "cosine") -> float:
    """Share of the peak rate at a step in [0, total): linear warm-up, then "cosine", "linear" or "constant".

    The first step already learns and the last one still does: the rate is never zero within the run.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    if kind == "linear":
        return 1.0 - done
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"schedule {kind!r}, expected cosine, linear or constant")


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
