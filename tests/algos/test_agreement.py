from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.agreement import (
    agreement_interval,
    kendall_tau_b,
    krippendorff_alpha_ordinal,
    ranking_units,
    raw_pair_agreement,
)

NAN = float("nan")
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C: 4 observers, 12 units.
PUBLISHED = torch.tensor(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def _naive_alpha(ratings: Tensor) -> float:
    """Alpha as a ratio of mean distances over pairs of ratings, within units and over all, in loops."""
    units = [[x for x in row if not math.isnan(x)] for row in ratings.tolist()]
    units = [unit for unit in units if len(unit) >= 2]
    everything = sorted(x for unit in units for x in unit)

    def distance(a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(low <= x <= high for x in everything)
        return (between - (everything.count(low) + everything.count(high)) / 2) ** 2 if a != b else 0.0

    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2))
    expected = sum(distance(a, b) for a, b in itertools.permutations(everything, 2)) / (len(everything) - 1)
    return 1 - observed / expected


def test_alpha_of_the_published_example() -> None:
    # Published: ordinal .815 (nominal .743, interval .849, ratio .797).
    assert round(krippendorff_alpha_ordinal(PUBLISHED), 3) == 0.815
    assert _naive_alpha(PUBLISHED) == pytest.approx(krippendorff_alpha_ordinal(PUBLISHED), abs=1e-12)


def test_alpha_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(1, 5, (30, 1), generator=generator)
    ratings = (truth + torch.randint(-1, 2, (30, 3), generator=generator)).clamp(1, 5).float()
    ratings[torch.rand(30, 3, generator=generator) < 0.3] = NAN
    assert krippendorff_alpha_ordinal(ratings) == pytest.approx(_naive_alpha(ratings), abs=1e-12)
    # Only the order of the values matters.
    assert krippendorff_alpha_ordinal(ratings.exp()) == pytest.approx(_naive_alpha(ratings), abs=1e-12)


def test_alpha_at_its_landmarks() -> None:
    ratings = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    assert krippendorff_alpha_ordinal(ratings) == 1.0
    noise = torch.randint(1, 5, (4000, 2), generator=torch.Generator().manual_seed(0)).float()
    assert abs(krippendorff_alpha_ordinal(noise)) < 0.05
    assert krippendorff_alpha_ordinal(torch.stack([ratings[:, 0], 4 - ratings[:, 0]], 1)) < 0
    assert math.isnan(krippendorff_alpha_ordinal(torch.tensor([[1.0, NAN], [NAN, 2.0]])))
    assert math.isnan(krippendorff_alpha_ordinal(torch.ones(5, 2)))


def test_kendall_tau_b_against_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 4, (2, 6, 15), generator=generator).float()
    y = torch.where(torch.rand(6, 15, generator=generator) < 0.2, NAN, y + x)
    expected = []
    for a, b in zip(x, y, strict=True):
        both = ~b.isnan()
        expected.append(kendalltau(a[both].numpy(), b[both].numpy(), variant="b").statistic)
    assert_close(kendall_tau_b(x, y), torch.tensor(expected, dtype=torch.float64))
    assert kendall_tau_b(torch.ones(3), torch.arange(3.0)).isnan()


# One prompt, three annotators, three answers; the third annotator can't judge the last.
RANKS = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 3.0, 3.0], [2.0, 1.0, NAN]]])


def test_raw_pair_agreement_worked_by_hand() -> None:
    # First and second: (0,1) yes, (0,2) yes, (1,2) no, tied by one. With the third only (0,1): no, no.
    assert raw_pair_agreement(RANKS) == pytest.approx(2 / 5)
    assert raw_pair_agreement(RANKS, ties=False) == pytest.approx(2 / 4)
    assert raw_pair_agreement(torch.ones(1, 2, 3)) == 1.0
    assert math.isnan(raw_pair_agreement(torch.full((1, 2, 3), NAN)))


def test_ranking_units_are_answers_by_annotators() -> None:
    assert_close(
        ranking_units(torch.cat([RANKS, 10 * RANKS]))[:4],
        torch.tensor([[1.0, 1.0, 2.0], [2.0, 3.0, 1.0], [3.0, 3.0, NAN], [10.0, 10.0, 20.0]]),
        equal_nan=True,
    )


def _noisy_rankings(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    quality = torch.randn(n, 1, 4, generator=generator)
    seen = quality + 0.7 * torch.randn(n, 3, 4, generator=generator)
    return (-seen).argsort(-1).argsort(-1).float() + 1


def test_agreement_interval_holds_the_estimate_and_narrows_with_the_root_of_n() -> None:
    def alpha(ranks: Tensor) -> float:
        return krippendorff_alpha_ordinal(ranking_units(ranks))

    few, many = (agreement_interval(_noisy_rankings(n), alpha, samples=200) for n in (25, 400))
    assert few.low < few.estimate < few.high
    assert many.estimate == alpha(_noisy_rankings(400))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.35)
    assert agreement_interval(_noisy_rankings(25), alpha, samples=200) == few
    assert agreement_interval(_noisy_rankings(25), alpha, samples=200, seed=1) != few
