"""What a network does to its logits beside the product with its head, folded into states and head.

Everything above takes `states @ head.T` for the logits. Granite divides them, Cohere multiplies them, Phi adds a bias:
the states are scaled, and a bias becomes one more column of the head, beside a 1 behind each state.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

__all__ = ["logit_scale", "states_for", "whole_head"]

log = logging.getLogger(__name__)


def logit_scale(settings: Any) -> float:
    """The factor of a configuration's logits; one log line for what no factor can follow."""
    if cap := getattr(settings, "final_logit_softcapping", None):
        log.warning(
            "architecture %s caps its logits at %g behind the head, which probabilities here leave out: they are a "
            "little too sharp, and a model tuned on them a little too flat",
            settings.model_type,
            cap,
        )
    divisor, factor = getattr(settings, "logits_scaling", None), getattr(settings, "logit_scale", None)
    return float(factor or 1.0) / float(divisor or 1.0)


def whole_head(output: Any) -> Tensor:
    """The head (V, D) of an output layer, or (V, D + 1) with its bias."""
    weight: Tensor = output.weight
    bias: Tensor | None = getattr(output, "bias", None)
    return weight if bias is None else torch.cat([weight, bias[:, None]], 1)


def states_for(output: Any, states: Tensor, scale: float) -> Tensor:
    """States (N, D) or (N, D + 1) whose product with `whole_head` is the logits."""
    if getattr(output, "bias", None) is not None:
        states = torch.cat([states, states.new_ones(len(states), 1)], 1)
    return states if scale == 1.0 else states * scale
