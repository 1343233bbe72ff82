from __future__ import annotations

import math

import torch
from scipy.stats import rankdata

from bessemer.algos.active import head_disagreement, margin_uncertainty, percentiles, priorities


def test_margin_uncertainty_by_hand() -> None:
    found = margin_uncertainty(torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [0.0, 0.0, 1.0]]))
    assert torch.allclose(found, torch.tensor([1.0, 0.5, 0.0]))


def test_heads_that_say_the_same_on_their_own_scales_do_not_disagree() -> None:
    scores = torch.tensor([[0.0, 100.0], [1.0, 110.0], [2.0, 120.0]])
    assert torch.allclose(head_disagreement(scores), torch.zeros(3), atol=1e-6)
    against = torch.tensor([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0]])
    by_hand = math.sqrt(1.5)  # standardised -1.2247, 0, 1.2247 against the reverse
    assert torch.allclose(head_disagreement(against), torch.tensor([by_hand, 0.0, by_hand]))
    assert torch.isfinite(head_disagreement(torch.ones(3, 2))).all()


def test_percentiles_are_those_of_scipy_and_leave_out_what_was_not_measured() -> None:
    values = torch.tensor([3.0, math.nan, 1.0, 3.0, 2.0])
    found = percentiles(values)
    assert found[1].isnan()
    known = [0, 2, 3, 4]
    assert torch.allclose(found[known], torch.tensor(rankdata([3.0, 1.0, 3.0, 2.0]) / 4, dtype=torch.float32))
    assert percentiles(torch.tensor([math.nan])).isnan().all()


def test_priorities_by_hand() -> None:
    signals = torch.tensor([[0.1, math.nan], [0.9, 50.0], [math.nan, 10.0], [math.nan, math.nan]])
    assert torch.allclose(priorities(signals), torch.tensor([0.5, 1.0, 0.5, 0.0]))
    mixed = torch.tensor([[0.1, 3.0], [0.9, 1.0], [0.5, 2.0]])  # ranks 1/3 and 1, 1 and 1/3, 2/3 and 2/3
    assert torch.allclose(priorities(mixed), torch.full((3,), 2 / 3))
    assert torch.allclose(priorities(mixed * torch.tensor([1.0, 1000.0])), torch.full((3,), 2 / 3))
