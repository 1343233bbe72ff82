"""Intervals and calibration. Every random draw comes from a generator of its own, seeded by the caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Calibration",
    "Interval",
    "bootstrap_interval",
    "calibration_bins",
    "expected_calibration_error",
    "paired_difference_interval",
    "wilson_interval",
]


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


class Calibration(NamedTuple):
    """A reliability curve: mean probability and outcome of each bin (nan if empty), and how many."""

    probability: Tensor
    outcome: Tensor
    examples: Tensor


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _resamples(size: int, groups: Tensor | None, samples: int, seed: int) -> list[Tensor]:
    """Return `samples` index vectors into `size` rows, drawn with replacement by row, or by whole group."""
    if size == 0 or samples < 1:
        raise ValueError(f"expected at least one value and one resample, got {size} and {samples}")
    generator = torch.Generator().manual_seed(seed)
    if groups is None:
        return list(torch.randint(size, (samples, size), generator=generator))
    if groups.shape != (size,):
        raise ValueError(f"expected {size} groups, one a value, got shape {tuple(groups.shape)}")
    rows: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        rows.setdefault(group, []).append(row)
    members = [torch.tensor(rows[group]) for group in sorted(rows)]
    draws = torch.randint(len(members), (samples, len(members)), generator=generator)
    return [torch.cat([members[g] for g in draw]) for draw in draws.tolist()]


def _percentiles(estimate: float, replicates: list[float], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(replicates, dtype=torch.float64).nanquantile(ends).tolist()
    return Interval(estimate, low, high)


def bootstrap_interval(
    values: Tensor,
    statistic: Callable[[Tensor], float] | None = None,
    groups: Tensor | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic of the rows of `values` with its percentile bootstrap interval.

    values: (N, ...), N >= 1. statistic: rows -> number, the mean by default; a resample for which it is nan
    is left out. groups: (N,) integers; whole groups are drawn (cluster bootstrap), for rows that share a
    prompt or a photo. Same seed, same interval. Raises ValueError on no values. Source: Efron 1979; Field and
    Welsh 2007 for clusters.
    """
    measure = _mean if statistic is None else statistic
    rows = values.detach().cpu()
    replicates = [float(measure(rows[index])) for index in _resamples(len(rows), groups, samples, seed)]
    return _percentiles(float(measure(rows)), replicates, level)


def paired_difference_interval(
    a: Tensor,
    b: Tensor,
    statistic: Callable[[Tensor], float] | None = None,
    groups: Tensor | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return statistic(a) - statistic(b) with a bootstrap interval in which both see the same rows.

    a, b: (N, ...), row n of both from the same test case. Other arguments as in `bootstrap_interval`. Pairing
    takes out what makes a case hard for both, so the interval is narrower than two separate ones suggest.
    """
    if len(a) != len(b):
        raise ValueError(f"expected paired rows, got {len(a)} and {len(b)}")
    measure = _mean if statistic is None else statistic
    a, b = a.detach().cpu(), b.detach().cpu()
    indices = _resamples(len(a), groups, samples, seed)
    replicates = [float(measure(a[index])) - float(measure(b[index])) for index in indices]
    return _percentiles(float(measure(a)) - float(measure(b)), replicates, level)


def wilson_interval(successes: float, n: int, level: float = 0.95) -> Interval:
    """Return a proportion with Wilson's score interval, which stays inside [0, 1] and works at 0 and at n.

    successes: 0 to n. With n = 0 the estimate is nan and the interval [0, 1]. Source: Wilson 1927.
    """
    if not (0 <= successes <= n and 0 < level < 1):
        raise ValueError(f"expected 0 <= successes <= n and 0 < level < 1, got {successes}, {n}, {level}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def calibration_bins(probabilities: Tensor, outcomes: Tensor, bins: int = 10) -> Calibration:
    """Return the reliability curve over `bins` equally wide bins, [0, 1/bins), ..., the last one closed.

    probabilities, outcomes: (N,) in [0, 1]; outcomes may be soft (0.5 = a tie). ValueError outside of it.
    """
    p, y = probabilities.detach().double().flatten(), outcomes.detach().double().flatten()
    if p.shape != y.shape or not bool(((p >= 0) & (p <= 1) & (y >= 0) & (y <= 1)).all()):
        raise ValueError("expected as many probabilities as outcomes, all in [0, 1]")
    where = (p * bins).long().clamp(max=bins - 1)
    count = torch.zeros(bins, dtype=torch.float64).index_add(0, where, torch.ones_like(p))
    p_sum = torch.zeros(bins, dtype=torch.float64).index_add(0, where, p)
    y_sum = torch.zeros(bins, dtype=torch.float64).index_add(0, where, y)
    return Calibration(p_sum / count, y_sum / count, count.long())


def expected_calibration_error(probabilities: Tensor, outcomes: Tensor, bins: int = 10) -> float:
    """Return the mean gap between probability and outcome over the bins, weighted by how many fall into each.

    probabilities, outcomes: (N,) in [0, 1], else ValueError. nan if there are none. Source: Naeini et al.
    2015.
    """
    curve = calibration_bins(probabilities, outcomes, bins)
    gaps = (curve.probability - curve.outcome).abs().nan_to_num(0.0)
    return float((gaps * curve.examples).sum() / curve.examples.sum())
