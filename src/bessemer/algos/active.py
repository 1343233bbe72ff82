"""Active learning: which examples teach most when a person labels them next."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["head_disagreement", "margin_uncertainty", "percentiles", "priorities"]


def margin_uncertainty(probabilities: Tensor) -> Tensor:
    """One minus the margin between the two likeliest answers: 1 where they are as likely, 0 where the model is sure.

    probabilities (..., n): of n >= 2 answers -> (...). Margin sampling, Scheffer et al. 2001; Settles 2009, 2.1.
    """
    best = probabilities.topk(2, -1).values
    return 1 - (best[..., 0] - best[..., 1])


def head_disagreement(scores: Tensor) -> Tensor:
    """How far several heads' opinions of one answer are apart: their population standard deviation, each head
    standardised over the answers.

    scores (n, heads) -> (n,). A head that says the same of every answer counts as its mean. Query by committee, Seung
    et al. 1992, with the heads as the committee.
    """
    centred = scores - scores.mean(0)
    spread = centred.square().mean(0).sqrt()
    return (centred / spread.clamp(min=1e-6)).std(1, correction=0)


def percentiles(values: Tensor) -> Tensor:
    """The rank of every value as a share of those that were measured: 1 for the highest, ties share their mean.

    values (n,): NaN = not measured, and stays NaN -> (n,).
    """
    known = ~values.isnan()
    some = values[known]
    below = (some[:, None] > some).sum(1)
    ties = (some[:, None] == some).sum(1)
    ranks = torch.full_like(values, torch.nan)
    ranks[known] = (below + (ties + 1) / 2).to(values.dtype) / max(1, len(some))
    return ranks


def priorities(signals: Tensor) -> Tensor:
    """How much each example is worth: the mean of its percentiles over what was measured of it, 0 if nothing was.

    signals (n, s): NaN = not measured -> (n,), from 0 to 1. Ranks, not values, so that no signal wins by its scale.
    """
    return torch.stack([percentiles(column) for column in signals.T], 1).nanmean(1).nan_to_num()
