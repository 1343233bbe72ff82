from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.advantage import group_relative, leave_one_out
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss, policy_gradient
from reference_lm import answer_logprobs, make_problem, sample

NAN, INF = float("nan"), float("inf")
ALL4 = torch.ones(4, dtype=torch.bool)


def _hand_surrogate(ratio: float, advantage: float, low: float, high: float, dual: float | None) -> float:
    """PPO's objective to be maximised by cases, as Schulman et al. 2017, figure 1, draws it; negated."""
    if advantage >= 0:
        return -advantage * min(ratio, 1 + high)
    value = advantage * max(ratio, 1 - low)
    return -(value if dual is None else max(value, dual * advantage))


def _surrogate_cases() -> tuple[list[float], list[float], Tensor, Tensor]:
    ratios = [r for r in (0.1, 0.79, 0.85, 1.0, 1.15, 1.25, 1.4, 5.0) for _ in range(2)]
    advantages = [2.0, -3.0] * 8
    return (
        ratios,
        advantages,
        torch.tensor(ratios, dtype=torch.float64).log(),
        torch.tensor(advantages).double(),
    )


@pytest.mark.parametrize(("high", "dual"), [(None, None), (0.28, None), (None, 3.0), (0.28, 1.5)])
def test_clipped_surrogate_by_cases(high: float | None, dual: float | None) -> None:
    ratios, advantages, log_ratio, advantage = _surrogate_cases()
    old = torch.full_like(log_ratio, -2.0)
    mask = torch.ones(16, dtype=torch.bool)
    loss = clipped_surrogate(old + log_ratio, old, advantage, mask, 0.2, high, dual)
    upper = 0.2 if high is None else high
    hand = [_hand_surrogate(r, a, 0.2, upper, dual) for r, a in zip(ratios, advantages, strict=True)]
    assert loss.sum.item() == pytest.approx(sum(hand), rel=1e-9)
    assert loss.count.item() == 16


def test_clipped_surrogate_stops_the_gradient_where_it_clips() -> None:
    ratios, advantages, log_ratio, advantage = _surrogate_cases()
    logprobs = log_ratio.clone().requires_grad_()
    mask = torch.ones(16, dtype=torch.bool)
    clipped_surrogate(logprobs, torch.zeros(16).double(), advantage, mask, 0.2).sum.backward()
    expected = [
        0.0 if (a > 0 and r > 1.2) or (a < 0 and r < 0.8) else -a * r for r, a in zip(ratios, advantages, strict=True)
    ]
    assert_close(logprobs.grad, torch.tensor(expected, dtype=torch.float64))


def test_surrogate_metrics_worked_by_hand() -> None:
    # Ratios 1, 2, 0.5, 2 with advantages 1, 1, 1, -1: only the second is clipped.
    old = torch.tensor([0.0, -1.0, -1.0, -1.0, NAN])
    log_ratio = torch.tensor([0.0, math.log(2), math.log(0.5), math.log(2), NAN])
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, NAN])
    metrics = clipped_surrogate(old + log_ratio, old, advantages, ~old.isnan(), 0.2).metrics
    sums = {name: total.item() for name, (total, _) in metrics.items()}
    assert {count.item() for _, count in metrics.values()} == {4}
    assert sums["clip_fraction"] == 1.0
    assert sums["ratio"] == pytest.approx(5.5)
    assert sums["approx_kl"] == pytest.approx(1.5 - math.log(2))  # 2 * (2 - 1 - log 2) + (.5 - 1 + log 2)


def test_at_step_zero_ratio_is_one_and_kl_zero_exactly() -> None:
    logprobs = -5 * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1000, dtype=torch.bool)
    metrics = clipped_surrogate(logprobs, logprobs.clone(), torch.ones(1000), mask, 0.2).metrics
    assert [metrics[name][0].item() for name in ("clip_fraction", "ratio", "approx_kl")] == [0.0, 1000.0, 0.0]


def test_wild_ratio_is_bounded() -> None:
    # exp(100) overflows; a positive advantage is clipped, a negative one is bounded by exp(20).
    logprobs = torch.tensor([100.0, 100.0], requires_grad=True)
    both = torch.tensor([True, True])
    loss = clipped_surrogate(logprobs, torch.zeros(2), torch.tensor([1.0, -1.0]), both, 0.2)
    loss.sum.backward()
    assert loss.sum.item() == pytest.approx(math.exp(20) - 1.2, rel=1e-6)
    assert_close(logprobs.grad, torch.zeros(2))


@pytest.mark.parametrize("name", ["surrogate", "gradient", "value"])
def test_what_is_behind_the_mask_has_no_effect(name: str) -> None:
    mask = torch.tensor([True, False, True, False])
    junk = [torch.where(mask, 0.5, bad) for bad in (NAN, -INF, INF)]
    x = torch.where(mask, 0.25, -INF).requires_grad_()
    if name == "surrogate":
        loss = clipped_surrogate(x, junk[1], junk[0], mask, 0.2)
    elif name == "gradient":
        loss = policy_gradient(x, junk[0], mask)
    else:
        loss = clipped_value_loss(x, junk[1], junk[2], mask, 0.2)
    loss.sum.backward()
    assert loss.count.item() == 2 and math.isfinite(loss.sum.item()) and x.grad is not None
    assert (x.grad != 0).tolist() == mask.tolist() and bool(x.grad.isfinite().all())
    assert all(total.isfinite() and not total.requires_grad for total, _ in loss.metrics.values())


def test_clipped_value_loss_worked_by_hand() -> None:
    # V = 3 from 1 with return 4: clipped to 1.2, error 7.84. V = 1.1: not clipped, error 0.81 from return 2.
    # V = 0 from 1 with return 0.9: clipped to 0.8, the larger error is the free one, 0.81.
    # V = 3 from 1 with return 0: clipped to 1.2, the larger error is the free one, 9.
    values = torch.tensor([3.0, 1.1, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    returns = torch.tensor([4.0, 2.0, 0.9, 0.0], dtype=torch.float64)
    loss = clipped_value_loss(values, torch.ones(4, dtype=torch.float64), returns, ALL4, 0.2)
    loss.sum.backward()
    assert loss.sum.item() == pytest.approx(0.5 * (7.84 + 0.81 + 0.81 + 9.0))
    assert_close(values.grad, torch.tensor([0.0, -0.9, -0.9, 3.0], dtype=torch.float64))
    assert loss.metrics["value_clip_fraction"][0].item() == 1
    assert loss.metrics["value_error"][0].item() == pytest.approx(1 + 0.81 + 0.81 + 9)


def test_value_clipping_can_be_turned_off() -> None:
    # The clipped errors would be far larger than the free ones, which are 1, 1, 0 and 0.
    values, returns = torch.tensor([3.0, -7.0, 0.0, 1.0]), torch.tensor([4.0, -8.0, 0.0, 1.0])
    assert clipped_value_loss(values, torch.zeros(4), returns, ALL4, INF).sum.item() == 0.5 * 2


def test_dual_clip_must_exceed_one() -> None:
    with pytest.raises(ValueError, match="dual_clip"):
        clipped_surrogate(torch.zeros(4), torch.zeros(4), torch.zeros(4), ALL4, 0.2, dual_clip=1.0)


def _table_gradient(method: str) -> Tensor:
    """Gradient in the enumerable policy of one method on the same 64 answers, in 16 groups of 4."""
    problem = make_problem(5)
    table = problem.reference.double().requires_grad_()
    answers = sample(problem.reference, 64, torch.Generator().manual_seed(2))
    logprobs = answer_logprobs(table, answers)
    scores = problem.rewards.double()[answers.index].view(16, 4)
    every = torch.ones(64, dtype=torch.bool)
    if method == "naive":  # each answer on its own, with the mean of the other three as its baseline
        total = torch.zeros(())
        for n in range(64):
            group, rank = divmod(n, 4)
            others = [float(scores[group, j]) for j in range(4) if j != rank]
            total = total - (float(scores[group, rank]) - sum(others) / 3) * logprobs[n]
        total.backward()
    elif method == "rloo":
        policy_gradient(logprobs, leave_one_out(scores).view(-1), every).sum.backward()
    elif method == "ppo":
        clipped_surrogate(logprobs, logprobs, leave_one_out(scores).view(-1), every, 0.2).sum.backward()
    else:
        relative = group_relative(scores, scale=False).view(-1)
        clipped_surrogate(logprobs, logprobs, relative, every, 0.2).sum.backward()
    assert table.grad is not None
    return table.grad


def test_rloo_is_reinforce_with_the_others_mean() -> None:
    assert_close(_table_gradient("rloo"), _table_gradient("naive"), atol=1e-9, rtol=0)


def test_ppo_at_ratio_one_is_reinforce() -> None:
    assert_close(_table_gradient("ppo"), _table_gradient("naive"), atol=1e-9, rtol=0)


def test_grpo_without_deviation_is_three_quarters_of_rloo() -> None:
    assert_close(_table_gradient("grpo"), 0.75 * _table_gradient("naive"), atol=1e-9, rtol=0)
