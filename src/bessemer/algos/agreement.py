"""How far annotators agree: raw pair agreement, Kendall's tau-b and Krippendorff's alpha.

Ratings are floating, nan = not rated. Everything is computed in float64 and is nan where nothing can be said.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bessemer.algos.masked import same_shape
from bessemer.algos.statistics import Interval, bootstrap_interval

__all__ = [
    "agreement_interval",
    "kendall_tau_b",
    "krippendorff_alpha_ordinal",
    "ranking_units",
    "raw_pair_agreement",
]


def _orders(ratings: Tensor) -> Tensor:
    """Return sign(x_j - x_i) of the pairs i < j of the last dimension, nan where either is missing."""
    i, j = torch.triu_indices(ratings.shape[-1], ratings.shape[-1], offset=1, device=ratings.device)
    gap = ratings.double()[..., j] - ratings.double()[..., i]
    return torch.where(gap.isnan(), gap, gap.sign())


def raw_pair_agreement(ranks: Tensor, ties: bool = True) -> float:
    """Return the share of answer pairs, over all pairs of annotators who judged both, that are ordered alike.

    ranks: (N, R, K), prompts x annotators x answers. A tie agrees with a tie alone; with `ties` False, pairs
    that either annotator tied are left out. Not corrected for chance: with ties left out, coin tossing gives
    0.5.
    """
    orders = _orders(ranks)
    first, second = torch.triu_indices(ranks.shape[1], ranks.shape[1], offset=1, device=ranks.device)
    a, b = orders[:, first], orders[:, second]
    comparable = ~(a.isnan() | b.isnan())
    if not ties:
        comparable = comparable & (a != 0) & (b != 0)
    return float(((a == b) & comparable).sum().double() / comparable.sum())


def kendall_tau_b(x: Tensor, y: Tensor) -> Tensor:
    """Return the rank correlation of two raters, corrected for ties.

    x, y: (..., N), equal shapes; items that either did not rate are left out. Returns (...) in [-1, 1]; nan
    if a rater tied everything. Memory grows with N squared. Source: Kendall 1945.
    """
    same_shape(x, y)
    a, b = _orders(x), _orders(y)
    both = ~(a.isnan() | b.isnan())
    a, b = torch.where(both, a, 0.0), torch.where(both, b, 0.0)
    return (a * b).sum(dim=-1) / (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()


def ranking_units(ranks: Tensor) -> Tensor:
    """Return rankings as units x raters, the form alpha is defined on: each answer of each prompt is a unit.

    ranks: (N, R, K), prompts x annotators x answers. Returns (N * K, R).
    """
    return ranks.transpose(1, 2).reshape(-1, ranks.shape[1])


def krippendorff_alpha_ordinal(ratings: Tensor) -> float:
    """Return 1 - observed / expected disagreement under the ordinal metric: 1 = perfect, 0 = as by chance.

    ratings: (units, raters), nan = not rated. Units with fewer than two ratings are left out; nan if there is
    none or all ratings are one value. Source: Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability".
    """
    rated = ~ratings.isnan()
    usable = ratings.double().cpu()[rated.sum(dim=1).cpu() >= 2]
    values = torch.tensor(sorted(set(usable[~usable.isnan()].tolist())), dtype=torch.float64)
    if len(values) < 2:
        return float("nan")
    counts = (usable.unsqueeze(-1) == values).sum(dim=1).double()
    per_unit = counts.sum(dim=1)
    # Coincidences of a value with itself would be fewer, but their distance is 0.
    pairs = counts.unsqueeze(2) * counts.unsqueeze(1)
    coincidences = (pairs / (per_unit - 1).reshape(-1, 1, 1)).sum(dim=0)
    totals = counts.sum(dim=0)
    # Ordinal metric: the ratings between two values, half of those at each end, squared.
    middle = totals.cumsum(dim=0) - totals / 2
    distance = (middle.unsqueeze(0) - middle.unsqueeze(1)).square()
    observed = (coincidences * distance).sum() / totals.sum()
    expected = (torch.outer(totals, totals) * distance).sum() / (totals.sum() * (totals.sum() - 1))
    return float(1 - observed / expected)


def agreement_interval(
    ratings: Tensor,
    statistic: Callable[[Tensor], float],
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a percentile bootstrap interval of a measure of agreement over whole units.

    ratings: (N, ...); rows are drawn together with all that hangs on them, so for rankings pass (N, R, K) and
    let `statistic` call `ranking_units`: the K ranks of one prompt are not independent. Source: Efron 1979.
    """
    return bootstrap_interval(ratings, statistic, samples=samples, level=level, seed=seed)
