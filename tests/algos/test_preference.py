from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.preference import (
    aggregate_targets,
    dpo_loss,
    pair_correctness,
    pair_targets,
    plackett_luce,
    soft_bradley_terry,
)
from reference_lm import answer_logprobs, make_problem, sample

NAN = float("nan")


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_pair_targets_with_a_tie_and_a_gap() -> None:
    expected = [
        [NAN, 1.0, 0.5, NAN],
        [0.0, NAN, 0.0, NAN],
        [0.5, 1.0, NAN, NAN],
        [NAN, NAN, NAN, NAN],
    ]
    targets = pair_targets(torch.tensor([1.0, 2.0, 1.0, NAN]))
    assert_close(targets, torch.tensor(expected), equal_nan=True)
    batched = pair_targets(torch.tensor([[1.0, 2.0, 1.0, NAN], [2.0, 1.0, 3.0, 4.0]]))
    assert_close(batched[0], targets, equal_nan=True)
    assert batched.shape == (2, 4, 4)
    assert pair_targets(torch.tensor([1, 1]))[0, 1].item() == 0.5  # whole numbers too


def test_aggregated_targets_worked_by_hand() -> None:
    # Three annotators of weight 1, 1 and 2; the second can't judge answer 1, the third ties answers 0 and 1.
    ranks = [torch.tensor(r) for r in ([1.0, 2.0, 3.0], [2.0, NAN, 1.0], [1.0, 1.0, 2.0])]
    targets, weights = aggregate_targets(ranks, [1.0, 1.0, 2.0])
    expected = [[NAN, (1 + 2 * 0.5) / 3, 3 / 4], [1 / 3, NAN, 1.0], [1 / 4, 0.0, NAN]]
    assert_close(targets, torch.tensor(expected), equal_nan=True)
    assert weights.tolist() == [[0.0, 3.0, 4.0], [3.0, 0.0, 3.0], [4.0, 3.0, 0.0]]


def test_aggregated_targets_of_a_pair_nobody_judged() -> None:
    targets, weights = aggregate_targets([torch.tensor([1.0, NAN]), torch.tensor([NAN, 1.0])])
    assert bool(targets.isnan().all()) and weights.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="weight for each of 1"):
        aggregate_targets([torch.tensor([1.0, 2.0])], [1.0, 1.0])


def _batch() -> tuple[Tensor, Tensor]:
    """Three prompts, four answers, two principles, with ties, gaps, a cell of one judged answer."""
    scores = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = [[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, NAN], [NAN, 1.0, NAN, NAN]]
    second = [[4.0, 1.0, 1.0, 1.0], [NAN, NAN, 2.0, 1.0], [2.0, 1.0, 3.0, 4.0]]
    return scores, torch.tensor([first, second], dtype=torch.float64).permute(1, 2, 0)


def _naive_bradley_terry(scores: Tensor, ranks: Tensor, center: float) -> tuple[float, int]:
    """The mean over pairs of each cell, summed over cells, in plain loops."""
    total, cells = 0.0, 0
    for b, p in itertools.product(range(scores.shape[0]), range(scores.shape[2])):
        losses = []
        for i, j in itertools.combinations(range(scores.shape[1]), 2):
            a, c = float(ranks[b, i, p]), float(ranks[b, j, p])
            if math.isnan(a) or math.isnan(c):
                continue
            win = 1.0 if a < c else 0.0 if a > c else 0.5
            x, y = float(scores[b, i, p]), float(scores[b, j, p])
            losses.append(-win * _log_sigmoid(x - y) - (1 - win) * _log_sigmoid(y - x) + center * (x + y) ** 2)
        if losses:
            total, cells = total + sum(losses) / len(losses), cells + 1
    return total, cells


def _targets(ranks: Tensor) -> Tensor:
    return pair_targets(ranks.transpose(1, 2)).movedim(1, 3)


@pytest.mark.parametrize("center", [0.0, 0.01])
def test_soft_bradley_terry_against_loops(center: float) -> None:
    scores, ranks = _batch()
    loss = soft_bradley_terry(scores, _targets(ranks), center)
    total, cells = _naive_bradley_terry(scores, ranks, center)
    assert loss.sum.item() == pytest.approx(total, rel=1e-12)
    assert loss.count.item() == cells == 5


def test_bradley_terry_weights_worked_by_hand() -> None:
    # Three answers of scores 0, 1, 3 and ranks 1, 2, 3; pair weights 1, 3, 0 for (0,1), (0,2), (1,2).
    scores = torch.tensor([[[0.0], [1.0], [3.0]]], dtype=torch.float64)
    targets = _targets(torch.tensor([[[1.0], [2.0], [3.0]]], dtype=torch.float64))
    pairs = torch.zeros(1, 3, 3, 1, dtype=torch.float64)
    pairs[0, 0, 1], pairs[0, 0, 2] = 1.0, 3.0
    loss = soft_bradley_terry(scores, targets, pair_weights=pairs, cell_weights=torch.full((1, 1), 0.5))
    expected = 0.5 * (0.25 * -_log_sigmoid(-1) + 0.75 * -_log_sigmoid(-3))
    assert loss.sum.item() == pytest.approx(expected, rel=1e-6)
    assert loss.count.item() == 0.5


def test_padding_answers_have_no_effect() -> None:
    scores, ranks = _batch()
    wide = torch.cat([scores, torch.full((3, 2, 2), NAN, dtype=torch.float64)], 1).requires_grad_()
    wide_ranks = torch.cat([ranks, torch.full((3, 2, 2), NAN, dtype=torch.float64)], 1)
    loss = soft_bradley_terry(wide, _targets(wide_ranks), 0.01)
    loss.sum.backward()
    narrow = scores.clone().requires_grad_()
    soft_bradley_terry(narrow, _targets(ranks), 0.01).sum.backward()
    assert wide.grad is not None and narrow.grad is not None
    assert_close(wide.grad[:, :4], narrow.grad)
    assert bool((wide.grad[:, 4:] == 0).all())


def test_accuracy_counts_decided_pairs_of_each_principle() -> None:
    # Principle 0 is ranked 1 to 4 and scored 3, 1, 2, 3; principle 1 is all tied; principle 2 not judged.
    scores = torch.tensor([[[3.0, 1, 0], [1.0, 2, 0], [2.0, 3, 0], [3.0, 4, 0]]])
    ranks = torch.tensor([[[1.0, 1, NAN], [2.0, 1, NAN], [3.0, 1, NAN], [4.0, 1, NAN]]])
    metrics = soft_bradley_terry(scores, _targets(ranks), principles=["truth", "clarity", "清晰"]).metrics
    # (0,1) right, (0,2) right, (0,3) half, (1,2) wrong, (1,3) wrong, (2,3) wrong
    assert {name: (s.item(), n.item()) for name, (s, n) in metrics.items()} == {
        "accuracy": (2.5, 6),
        "accuracy/truth": (2.5, 6),
        "accuracy/clarity": (0.0, 0),
        "accuracy/清晰": (0.0, 0),
    }
    with pytest.raises(ValueError, match="names"):
        soft_bradley_terry(scores, _targets(ranks), principles=["truth"])


def test_pair_correctness_worked_by_hand() -> None:
    correct = pair_correctness(torch.tensor([2.0, 1.0, 1.0]), pair_targets(torch.tensor([2.0, 1.0, 3.0])))
    assert_close(correct, torch.tensor([[NAN, 0, 1], [0, NAN, 0.5], [1, 0.5, NAN]]), equal_nan=True)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_plackett_luce_is_a_distribution_over_orders(k: int) -> None:
    scores = 2 * torch.randn(k, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    orders = [torch.tensor(order, dtype=torch.float64) for order in itertools.permutations(range(1, k + 1))]
    total = sum(math.exp(-plackett_luce(scores, ranks).sum.item()) for ranks in orders)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_plackett_luce_of_an_order_worked_by_hand() -> None:
    # Second, then first, then third: e^1 / (e^0 + e^1 + e^2) * e^0 / (e^0 + e^2).
    loss = plackett_luce(torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([2.0, 1.0, 3.0]).double())
    e = math.e
    assert math.exp(-loss.sum.item()) == pytest.approx(e / (1 + e + e**2) / (1 + e**2))


def test_plackett_luce_of_two_is_bradley_terry() -> None:
    loss = plackett_luce(torch.tensor([[0.3, -1.1]]), torch.tensor([[2.0, 1.0]]))
    assert loss.sum.item() == pytest.approx(-_log_sigmoid(-1.4))
    assert loss.metrics["accuracy"][0].item() == 0 and loss.metrics["accuracy"][1].item() == 1


def test_plackett_luce_ties_gaps_and_count() -> None:
    # Ranks 1, 1, 2 as Breslow: both first answers chosen from all three; the fourth answer is not ranked.
    scores = torch.tensor([[0.5, 1.5, -1.0, 9.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    ranks = torch.tensor([[1.0, 1.0, 2.0, NAN], [NAN, 1.0, NAN, NAN]], dtype=torch.float64)
    loss = plackett_luce(scores, ranks)
    everything = math.log(math.exp(0.5) + math.exp(1.5) + math.exp(-1.0))
    assert loss.sum.item() == pytest.approx(2 * everything - 0.5 - 1.5)
    assert loss.count.item() == 1
    assert (loss.metrics["accuracy"][0].item(), loss.metrics["accuracy"][1].item()) == (2, 2)
    loss.sum.backward()
    assert scores.grad is not None and bool(scores.grad.isfinite().all())
    assert bool((scores.grad[1] == 0).all()) and scores.grad[0, 3] == 0


def test_a_tie_pulls_scores_together() -> None:
    scores = torch.tensor([0.0, 3.0], requires_grad=True)
    plackett_luce(scores, torch.tensor([1.0, 1.0])).sum.backward()
    assert scores.grad is not None and scores.grad[0] < 0 < scores.grad[1]
    level = torch.zeros(2, requires_grad=True)
    plackett_luce(level, torch.tensor([1.0, 1.0])).sum.backward()
    assert_close(level.grad, torch.zeros(2))


def test_dpo_at_the_start_pulls_by_half_beta() -> None:
    problem = make_problem(2)
    reference = problem.reference.double()
    chosen, rejected = (sample(reference, 32, torch.Generator().manual_seed(s)) for s in (0, 1))
    fixed = answer_logprobs(reference, chosen), answer_logprobs(reference, rejected)
    table = reference.clone().requires_grad_()
    loss = dpo_loss(answer_logprobs(table, chosen), answer_logprobs(table, rejected), *fixed, beta=0.1)
    loss.sum.backward()
    other = reference.clone().requires_grad_()
    (-0.05 * (answer_logprobs(other, chosen) - answer_logprobs(other, rejected)).sum()).backward()
    assert_close(table.grad, other.grad, atol=1e-12, rtol=0)
    assert loss.sum.item() == pytest.approx(32 * math.log(2)) and loss.count.item() == 32


def test_dpo_worked_by_hand() -> None:
    # Rewards of beta .5: 1 and -.5, then 0 and 2; margins 1.5 and -2.
    args = [torch.tensor(x, dtype=torch.float64) for x in ([-1.0, -4.0], [-5.0, -3.0], [-3.0, -4.0], [-4.0, -7.0])]
    loss = dpo_loss(*args, beta=0.5)
    assert loss.sum.item() == pytest.approx(-_log_sigmoid(1.5) - _log_sigmoid(-2))
    values = {name: total.item() for name, (total, count) in loss.metrics.items() if count.item() == 2}
    assert values == pytest.approx({"accuracy": 1, "margin": -0.5, "chosen_reward": 1, "rejected_reward": 1.5})
    smooth = dpo_loss(*args, beta=0.5, label_smoothing=torch.tensor([0.5, 0.1]))
    half = -0.5 * (_log_sigmoid(1.5) + _log_sigmoid(-1.5))
    assert smooth.sum.item() == pytest.approx(half - 0.9 * _log_sigmoid(-2) - 0.1 * _log_sigmoid(2), rel=1e-6)
