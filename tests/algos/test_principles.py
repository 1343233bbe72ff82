from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch.testing import assert_close

from bessemer.algos.principles import aggregate, disagreement, normalise

NAN = float("nan")
SCORES = torch.tensor([[1.0, 3.0, -1.0], [2.0, 0.0, 1.0], [4.0, 4.0, -3.0]])
WEIGHTS = torch.tensor([1.0, 3.0, 4.0])


def test_normalise_worked_by_hand() -> None:
    scores = torch.tensor([[3.0, 10.0], [100.0, NAN], [-100.0, 9.0]])
    normal = normalise(scores, torch.tensor([1.0, 10.0]), torch.tensor([2.0, 0.5]), clip=5.0)
    assert_close(normal, torch.tensor([[1.0, 0.0], [5.0, NAN], [-5.0, -2.0]]), equal_nan=True)


def test_normalise_needs_a_deviation() -> None:
    with pytest.raises(ValueError, match="positive deviation"):
        normalise(SCORES, torch.zeros(3), torch.tensor([1.0, 0.0, 1.0]), clip=5.0)


def test_aggregate_is_a_weighted_mean_of_what_was_scored() -> None:
    expected = [(1 + 9 - 4) / 8, (2 + 0 + 4) / 8, (4 + 12 - 12) / 8]
    assert_close(aggregate(SCORES, WEIGHTS), torch.tensor(expected))
    assert_close(aggregate(SCORES, 10 * WEIGHTS), torch.tensor(expected))
    assert_close(aggregate(SCORES, torch.tensor([0.25, 0.0, 0.25])), torch.tensor([0.0, 1.5, 0.5]))
    gaps = torch.tensor([[1.0, NAN, 2.0], [NAN, NAN, NAN]])
    assert_close(aggregate(gaps, WEIGHTS), torch.tensor([9 / 5, NAN]), equal_nan=True)


def test_a_threshold_is_a_limit_and_not_a_summand() -> None:
    # Third principle limited at 0: short by 1, 0 and 3; the mean is over the first two, of weights 1 and 3.
    thresholds = torch.tensor([NAN, NAN, 0.0])
    means = [(1 + 9) / 4, 2 / 4, 16 / 4]
    expected = [means[0] - 2 * 1, means[1], means[2] - 2 * 3]
    assert_close(aggregate(SCORES, WEIGHTS, thresholds, penalty=2.0), torch.tensor(expected))
    # More of what is above its limit earns nothing.
    better = SCORES.clone()
    better[1, 2] = 50.0
    assert_close(aggregate(better, WEIGHTS, thresholds, penalty=2.0), torch.tensor(expected))


def test_a_gate_caps_what_falls_below_a_threshold() -> None:
    gated = aggregate(SCORES, WEIGHTS, torch.tensor([NAN, NAN, -2.0]), penalty=0.0, gate=-1.0)
    assert_close(gated, torch.tensor([2.5, 0.5, -1.0]))


def test_an_unscored_limit_is_not_a_violation() -> None:
    scores = torch.tensor([[1.0, 2.0, NAN]])
    assert_close(aggregate(scores, WEIGHTS, torch.tensor([NAN, NAN, 0.0]), gate=-9.0), torch.tensor([1.75]))


@pytest.mark.parametrize(
    ("weights", "thresholds"), [([0.0, 0.0, 1.0], [NAN, NAN, 0.0]), ([1.0, -1.0, 1.0], [NAN, NAN, NAN])]
)
def test_aggregate_refuses_weights_that_mean_nothing(weights: list[float], thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="weights >= 0"):
        aggregate(SCORES, torch.tensor(weights), torch.tensor(thresholds))


def test_disagreement_is_the_population_deviation() -> None:
    rows = [[1.0, 2.0, 6.0], [3.0, 3.0, 3.0], [1.0, NAN, 5.0], [NAN, NAN, 2.0]]
    scored = [[x for x in row if not math.isnan(x)] for row in rows]
    expected = [statistics.pstdev(row) if len(row) > 1 else NAN for row in scored]
    answer = disagreement(torch.tensor(rows).view(2, 2, 3))
    assert_close(answer, torch.tensor(expected).view(2, 2), equal_nan=True)
