"""From one score a principle to one number: normalise, aggregate, and say where the scorers disagree."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.masked import same_shape, widen

__all__ = ["aggregate", "disagreement", "normalise"]


def normalise(scores: Tensor, mean: Tensor, std: Tensor, clip: float) -> Tensor:
    """Return (scores - mean) / std, kept within +-clip.

    scores: (..., P). mean, std: (P,), measured once on answers of the reference policy; std > 0, else
    ValueError, since a principle that never varies can't be learnt from. clip: in standard deviations. nan
    stays nan.
    """
    same_shape(mean, std)
    if not bool((std > 0).all()):
        raise ValueError(f"expected a positive deviation of every principle, got {std.tolist()}")
    return ((widen(scores) - widen(mean)) / widen(std)).clamp(-clip, clip)


def aggregate(
    scores: Tensor,
    weights: Tensor,
    thresholds: Tensor | None = None,
    penalty: float = 1.0,
    gate: float | None = None,
) -> Tensor:
    """Return the weighted mean of the principles, with some of them as thresholds instead of summands.

    scores: (B, P), nan = not scored, which drops out of the row's mean. weights: (P,) >= 0, any scale.
    thresholds: (P,), nan = an ordinary summand. A principle with a threshold is no longer traded against the
    others: it leaves the mean, and what it falls short by, times `penalty`, is subtracted; above it earns
    nothing more. gate: if given, an answer below any threshold gets at most this value, however good it is
    otherwise. Returns (B,); nan for a row in which no summand was scored. Raises ValueError if no summand has
    weight.
    """
    wide = widen(scores)
    if thresholds is None:
        thresholds = torch.full_like(wide[0], torch.nan)
    same_shape(weights, thresholds, wide[0])
    summand_weights = torch.where(thresholds.isnan(), widen(weights), 0.0)
    if bool((weights < 0).any()) or not bool(summand_weights.sum() > 0):
        raise ValueError(f"expected weights >= 0, one of them on a principle without threshold, got {weights.tolist()}")
    scored = torch.where(wide.isnan(), 0.0, summand_weights)
    total = (scored * wide.nan_to_num(0.0)).sum(dim=1) / scored.sum(dim=1)
    shortfall = (widen(thresholds) - wide).clamp(min=0.0).nan_to_num(0.0)
    total = total - penalty * shortfall.sum(dim=1)
    if gate is not None:
        total = torch.where((shortfall > 0).any(dim=1), total.clamp(max=gate), total)
    return total


def disagreement(scores: Tensor) -> Tensor:
    """Return the population deviation of each answer's scores, to find the cases worth a person's time.

    scores: (..., S), normalised, one a principle, annotator or member of an ensemble; nan = not scored.
    Returns (...); nan with fewer than two scores. Source: Coste et al. 2024 (ensemble variance).
    """
    wide = widen(scores)
    scored = ~wide.isnan()
    count = scored.sum(dim=-1)
    mean = wide.nan_to_num(0.0).sum(dim=-1) / count
    gaps = torch.where(scored, wide - mean.unsqueeze(-1), 0.0)
    return (gaps.square().sum(dim=-1) / count).sqrt().masked_fill(count < 2, torch.nan)
