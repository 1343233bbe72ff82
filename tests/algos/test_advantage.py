from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.advantage import gae, group_relative, kl_shaped_rewards, leave_one_out, missing_eos
from reference_lm import EOS, make_problem, sample

NAN = float("nan")


def _oracle(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """GAE by its definition, a double sum over the future of every action."""
    following = [*values[1:], 0.0]
    deltas = [r + gamma * after - v for r, after, v in zip(rewards, following, values, strict=True)]
    n = len(deltas)
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


def _random_batch(holes: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(2, 8, 7, generator=generator, dtype=torch.float64)
    if holes:
        mask = torch.rand(8, 7, generator=generator) < 0.6
        mask[:, 3] = True
    else:
        mask = torch.arange(7) < torch.randint(1, 8, (8, 1), generator=generator)
    return torch.where(mask, rewards, NAN), torch.where(mask, values, 1e6), mask


@pytest.mark.parametrize("holes", [False, True])
def test_gae_against_the_double_sum(holes: bool) -> None:
    rewards, values, mask = _random_batch(holes)
    advantages, returns = gae(rewards, values, mask, 0.9, 0.8)
    for row in range(len(mask)):
        here = mask[row]
        expected = _oracle(rewards[row, here].tolist(), values[row, here].tolist(), 0.9, 0.8)
        assert_close(advantages[row, here], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
        assert_close(returns[row, here], advantages[row, here] + values[row, here])
    assert bool((advantages[~mask] == 0).all()) and bool((returns[~mask] == 0).all())


def test_gae_of_a_table_worked_by_hand() -> None:
    # gamma = lam = 0.5. Deltas of row 0: 1 + .5 * 1 - .5 = 1; 0 + .5 * 1.5 - 1 = -.25; 2 - 1.5 = .5.
    # Row 1 ends after two tokens, row 2 has a hole: both are 1 + .5 * 1 - .5 = 1 and then 2 - 1 = 1.
    rewards = torch.tensor([[1.0, 0.0, 2.0], [1.0, 2.0, 50.0], [1.0, 50.0, 2.0]])
    values = torch.tensor([[0.5, 1.0, 1.5], [0.5, 1.0, 50.0], [0.5, 50.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, True]])
    advantages, returns = gae(rewards, values, mask, 0.5, 0.5)
    assert advantages.tolist() == [[0.96875, -0.125, 0.5], [1.25, 1.0, 0.0], [1.25, 0.0, 1.0]]
    assert returns.tolist() == [[1.46875, 0.875, 2.0], [1.75, 2.0, 0.0], [1.75, 0.0, 2.0]]


def test_gae_with_lambda_one_is_reward_to_go_minus_value() -> None:
    rewards, values, mask = _random_batch(holes=False)
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    for row in range(len(mask)):
        n = int(mask[row].sum())
        to_go = torch.stack([rewards[row, t:n].sum() for t in range(n)])
        assert_close(returns[row, :n], to_go, atol=1e-9, rtol=0)
        assert_close(advantages[row, :n], to_go - values[row, :n], atol=1e-9, rtol=0)


def test_gae_carries_no_gradient() -> None:
    values = torch.ones(1, 2, requires_grad=True)
    advantages, returns = gae(torch.ones(1, 2), values, torch.ones(1, 2, dtype=torch.bool), 1.0, 0.95)
    assert not advantages.requires_grad and not returns.requires_grad


def test_kl_shaped_rewards_worked_by_hand() -> None:
    kl = torch.tensor([[0.5, -1.0, NAN], [2.0, NAN, 4.0], [3.0, NAN, NAN]])
    mask = torch.tensor([[True, True, False], [True, False, True], [True, False, False]])
    shaped = kl_shaped_rewards(torch.tensor([10.0, 20.0, 30.0]), kl, mask, 0.1)
    expected = torch.tensor([[-0.05, 10.1, 0.0], [-0.2, 0.0, 19.6], [29.7, 0.0, 0.0]])
    assert_close(shaped, expected)


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1"):
        kl_shaped_rewards(torch.ones(2), torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]), 0.1)


def test_score_sits_on_the_one_eos_and_truncation_is_penalised() -> None:
    # Padding is the EOS id, so ids can't tell the EOS that was chosen from what comes after it.
    answers = sample(make_problem(3).reference, 400, torch.Generator().manual_seed(0))
    scores = missing_eos(torch.full((400,), 5.0), answers.ended, penalty=2.0)
    shaped = kl_shaped_rewards(scores, torch.zeros(400, 3), answers.mask, 0.3)
    lengths = answers.mask.sum(1).tolist()
    assert 0 < answers.ended.sum() < 400 and {1, 2, 3} == set(lengths)
    for row, length in enumerate(lengths):
        chosen = answers.tokens[row, :length].tolist()
        ended = chosen[-1] == EOS
        assert chosen.count(EOS) == ended == bool(answers.ended[row])
        expected = [0.0] * (length - 1) + [5.0 if ended else 3.0] + [0.0] * (3 - length)
        assert shaped[row].tolist() == expected


SCORES = [[1.0, 2.0, 6.0], [0.1, 0.1, 0.1]]


def test_group_relative_against_the_standard_library() -> None:
    for scale in (False, True):
        divisors = [statistics.stdev(group) + 1e-4 if scale else 1.0 for group in SCORES]
        expected = [
            [(score - statistics.fmean(group)) / divisor for score in group]
            for group, divisor in zip(SCORES, divisors, strict=True)
        ]
        assert_close(group_relative(torch.tensor(SCORES), scale=scale), torch.tensor(expected))


def test_leave_one_out_worked_by_hand() -> None:
    assert_close(leave_one_out(torch.tensor(SCORES)), torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))
    assert leave_one_out(torch.tensor([[1.0, 3.0]])).tolist() == [[-2.0, 2.0]]


@pytest.mark.parametrize("method", ["group_relative", "leave_one_out"])
def test_a_group_of_one_has_no_baseline(method: str) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        if method == "leave_one_out":
            leave_one_out(torch.ones(4, 1))
        else:
            group_relative(torch.ones(4, 1), scale=False)
