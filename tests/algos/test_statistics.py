from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, bootstrap, norm
from torch import Tensor

from bessemer.algos.statistics import (
    bootstrap_interval,
    calibration_bins,
    expected_calibration_error,
    paired_difference_interval,
    wilson_interval,
)


def _values(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).exp()


def test_bootstrap_of_a_mean_against_scipy() -> None:
    values = _values(80)
    ours = bootstrap_interval(values, samples=4000)
    theirs = bootstrap((values.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.estimate == pytest.approx(float(values.mean()))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_level_is_the_share_in_the_middle() -> None:
    # Means of 400 normal values: the interval's half width is z * sigma / sqrt(n).
    values = torch.from_numpy(norm.ppf((np.arange(400) + 0.5) / 400))
    for level, z in ((0.95, 1.960), (0.5, 0.674)):
        low, high = bootstrap_interval(values, samples=4000, level=level)[1:]
        assert (high - low) / 2 == pytest.approx(z / 20, rel=0.06)


def test_same_seed_same_interval() -> None:
    values = _values(30)
    torch.manual_seed(1)
    first = bootstrap_interval(values, seed=5)
    state = torch.get_rng_state()
    assert bootstrap_interval(values, seed=5) == first
    assert bootstrap_interval(values, seed=6) != first
    assert bool((torch.get_rng_state() == state).all()), "the global generator must not be drawn from"


def test_bootstrap_of_any_statistic_and_of_nan_resamples() -> None:
    # Columns are (score, label); the share of right answers among label 1 is nan if none was drawn.
    rows = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])

    def recall(sample: Tensor) -> float:
        return float(sample[sample[:, 1] == 1, 0].mean())

    interval = bootstrap_interval(rows, recall, samples=300)
    assert interval.estimate == 0.5 and (interval.low, interval.high) == (0.0, 1.0)


def test_cluster_bootstrap_draws_whole_groups() -> None:
    # 40 prompts of 25 equal answers hold no more than 40 values: the interval is 5 times wider.
    per_group = torch.from_numpy(norm.ppf((np.arange(40) + 0.5) / 40))
    values, groups = per_group.repeat(25), torch.arange(40).repeat(25)
    by_group = bootstrap_interval(values, groups=groups, samples=3000)
    by_row = bootstrap_interval(values, samples=3000)
    deviation = float(per_group.std(correction=0))
    assert (by_group.high - by_group.low) / 2 == pytest.approx(1.96 * deviation / math.sqrt(40), rel=0.08)
    assert (by_row.high - by_row.low) / 2 == pytest.approx(1.96 * deviation / math.sqrt(1000), rel=0.08)


def test_groups_of_unequal_size_weigh_by_their_rows() -> None:
    # Two groups, 1 row of 0 and 3 rows of 1: resamples have mean 0, 1 or, mixed, 3/4.
    seen = set()

    def remember(sample: Tensor) -> float:
        seen.add((len(sample), float(sample.sum())))
        return float(sample.mean())

    values, groups = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([-7, 900, -7, -7])
    interval = bootstrap_interval(values, remember, groups, samples=100)
    assert seen == {(4, 3.0), (2, 0.0), (6, 6.0)}
    assert interval == (0.75, 0.0, 1.0)


def test_paired_difference_is_the_bootstrap_of_differences() -> None:
    hard = 10 * _values(200, 1)
    a, b = hard + 0.1 * _values(200, 2), hard + 0.1 * _values(200, 3) - 1.0
    paired = paired_difference_interval(a, b, samples=1500)
    theirs = bootstrap(((a - b).numpy(),), np.mean, n_resamples=1500, method="percentile", rng=np.random.default_rng(0))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert paired.estimate == pytest.approx(float(a.mean() - b.mean()))
    assert paired.low == pytest.approx(theirs.confidence_interval.low, abs=0.1 * width)
    assert paired.high == pytest.approx(theirs.confidence_interval.high, abs=0.1 * width)
    same = paired_difference_interval(a, a.clone(), lambda x: float(x.median()))
    assert same == (0.0, 0.0, 0.0)


def test_paired_difference_by_groups_is_wider() -> None:
    effect = torch.from_numpy(norm.ppf((np.arange(40) + 0.5) / 40)).repeat(25)
    zero, groups = torch.zeros(1000, dtype=torch.float64), torch.arange(40).repeat(25)
    wide = paired_difference_interval(effect, zero, groups=groups, samples=2000)
    narrow = paired_difference_interval(effect, zero, samples=2000)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(5, rel=0.1)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval(torch.zeros(0))
    with pytest.raises(ValueError, match="paired rows"):
        paired_difference_interval(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="2 groups"):
        bootstrap_interval(torch.zeros(2), groups=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(torch.zeros(2), level=95.0)
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(5, 4)


def test_wilson_interval_against_scipy() -> None:
    for successes, n in ((0, 10), (3, 7), (581, 656), (20, 20)):
        for level in (0.95, 0.9):
            expected = binomtest(successes, n).proportion_ci(level, method="wilson")
            ours = wilson_interval(successes, n, level)
            assert ours == pytest.approx((successes / n, expected.low, expected.high), abs=1e-9)
    nothing = wilson_interval(0, 0)
    assert math.isnan(nothing.estimate) and nothing[1:] == (0.0, 1.0)


def test_expected_calibration_error_worked_by_hand() -> None:
    # Bins of width .5: (.1, .3) with outcomes 0, 1: gap .3; (.5, .9, 1) with 1, 1, 0: gap .8 - 2/3.
    probabilities = torch.tensor([0.1, 0.3, 0.5, 0.9, 1.0])
    outcomes = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    expected = (2 * 0.3 + 3 * (0.8 - 2 / 3)) / 5
    assert expected_calibration_error(probabilities, outcomes, bins=2) == pytest.approx(expected, abs=1e-6)
    curve = calibration_bins(probabilities, outcomes, bins=4)
    assert curve.examples.tolist() == [1, 1, 1, 2]
    assert curve.outcome.tolist() == [0.0, 1.0, 1.0, 0.5]
    assert curve.probability.tolist() == pytest.approx([0.1, 0.3, 0.5, 0.95])


def test_calibrated_forecasts_have_no_error_and_empty_bins_no_weight() -> None:
    probabilities = torch.tensor([0.25] * 4 + [0.75] * 4)
    outcomes = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    assert expected_calibration_error(probabilities, outcomes) == 0.0
    assert expected_calibration_error(probabilities, 1 - outcomes) == 0.5
    assert math.isnan(expected_calibration_error(torch.zeros(0), torch.zeros(0)))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        expected_calibration_error(torch.tensor([1.5]), torch.tensor([1.0]))
