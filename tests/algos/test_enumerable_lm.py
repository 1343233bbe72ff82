"""Each method of reinforcement learning must reach the optimum that is known in closed form, within TV 0.02.

The policy is a table, the training is the product's functions; what is expected comes from `reference_lm`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from bessemer.algos.advantage import gae, group_relative, kl_shaped_rewards, leave_one_out, missing_eos
from bessemer.algos.kl import adaptive_kl_coef, exact_kl, k1
from bessemer.algos.language import token_logprobs
from bessemer.algos.masked import whiten
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss, policy_gradient
from bessemer.algos.preference import dpo_loss
from reference_lm import (
    PREFIXES,
    Answers,
    Problem,
    answer_logprobs,
    distribution,
    enumerate_answers,
    make_problem,
    optimum,
    sample,
    sequence_kl,
    total_variation,
)

TOLERANCE = 0.01  # half of what the design asks for; float32 reaches 0.007 and less
PENALTY = 0.7


def _problem() -> tuple[Problem, Problem]:
    """The problem as PPO is given it, and with the missing-EOS penalty written into the rewards by hand."""
    given = make_problem(0)
    cut_off = ~enumerate_answers().ended
    return given, Problem(given.reference, given.rewards - PENALTY * cut_off.float(), given.beta)


def _start(problem: Problem, learning_rate: float) -> tuple[Tensor, Tensor, Adam]:
    table = problem.reference.clone().requires_grad_()
    values = torch.zeros(PREFIXES, requires_grad=True)
    return table, values, Adam([table, values], lr=learning_rate, eps=1e-5)


def _logprobs(table: Tensor, answers: Answers) -> Tensor:
    return token_logprobs(table[answers.prefixes], answers.tokens)


def _ppo_iteration(
    table: Tensor, values: Tensor, adam: Adam, answers: Answers, scores: Tensor, ref: Tensor, coef: float
) -> Tensor:
    """Four epochs on one batch; returns the k1 of its tokens."""
    with torch.no_grad():
        old, old_values = _logprobs(table, answers), values[answers.prefixes]
        kl = k1(old, _logprobs(ref, answers))
        rewards = kl_shaped_rewards(scores, kl, answers.mask, coef)
        advantages, returns = gae(rewards, old_values, answers.mask, gamma=1.0, lam=0.95)
        advantages = whiten(advantages, answers.mask)
    for _ in range(4):
        policy = clipped_surrogate(_logprobs(table, answers), old, advantages, answers.mask, 0.2)
        value = clipped_value_loss(values[answers.prefixes], old_values, returns, answers.mask, 0.2)
        adam.zero_grad()
        (policy.sum / policy.count + 0.5 * value.sum / value.count).backward()
        adam.step()
    return torch.where(answers.mask, kl, 0.0)


def _train_ppo(problem: Problem, penalty: float, iterations: int, shuffle: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    table, values, adam = _start(problem, 0.05)
    for iteration in range(iterations):
        adam.param_groups[0]["lr"] = 0.05 * (1 - iteration / iterations)
        answers = sample(table, 512, generator)
        scores = missing_eos(problem.rewards[answers.index], answers.ended, penalty)
        if shuffle:
            scores = scores[torch.randperm(512, generator=generator)]
        _ppo_iteration(table, values, adam, answers, scores, problem.reference, problem.beta)
    return table.detach()


def test_reference_model_is_a_distribution_far_from_its_optimum() -> None:
    given, problem = _problem()
    start, best = distribution(given.reference), optimum(problem)
    assert start.sum().item() == pytest.approx(1, abs=1e-5) and best.sum().item() == pytest.approx(1, abs=1e-5)
    assert total_variation(start, best) > 0.5
    # J* = beta log Z, attained by pi*.
    objective = (best * (problem.rewards - problem.beta * (best / start).log())).sum()
    log_z = torch.logsumexp(start.log() + problem.rewards / problem.beta, 0)
    assert objective.item() == pytest.approx(problem.beta * log_z.item(), rel=1e-4)
    # And the sampler draws from the distribution it is said to draw from.
    drawn = sample(given.reference, 100_000, torch.Generator().manual_seed(0))
    assert total_variation(torch.bincount(drawn.index, minlength=156) / 100_000, start) < 0.02


def test_ppo_reaches_the_optimum() -> None:
    given, problem = _problem()
    table = _train_ppo(given, PENALTY, iterations=100)
    assert total_variation(distribution(table), optimum(problem)) < TOLERANCE


def _train_critic_free(problem: Problem, grpo: bool, iterations: int) -> Tensor:
    """RLOO: one step a batch by policy gradient. GRPO: two epochs of the clipped surrogate, no deviation."""
    generator = torch.Generator().manual_seed(0)
    table, _, adam = _start(problem, 0.1)
    for iteration in range(iterations):
        adam.param_groups[0]["lr"] = 0.1 * (1 - iteration / iterations)
        answers = sample(table, 512, generator)
        with torch.no_grad():
            old = _logprobs(table, answers)
            kl = k1(old, _logprobs(problem.reference, answers))
            scores = kl_shaped_rewards(problem.rewards[answers.index], kl, answers.mask, problem.beta).sum(1)
            groups = scores.view(128, 4)
            relative = group_relative(groups, scale=False) if grpo else leave_one_out(groups)
            advantages = relative.view(-1, 1).expand_as(old)
        for _ in range(2 if grpo else 1):
            new = _logprobs(table, answers)
            if grpo:
                loss = clipped_surrogate(new, old, advantages, answers.mask, 0.2)
            else:
                loss = policy_gradient(new, advantages, answers.mask)
            adam.zero_grad()
            (loss.sum / loss.count).backward()
            adam.step()
    return table.detach()


def test_rloo_reaches_the_optimum() -> None:
    _, problem = _problem()
    table = _train_critic_free(problem, grpo=False, iterations=300)
    assert total_variation(distribution(table), optimum(problem)) < TOLERANCE


def test_grpo_without_deviation_reaches_the_optimum() -> None:
    _, problem = _problem()
    table = _train_critic_free(problem, grpo=True, iterations=200)
    assert total_variation(distribution(table), optimum(problem)) < TOLERANCE


def test_exact_kl_reaches_the_optimum() -> None:
    """Nothing is sampled: expected reward minus the KL of each prefix, weighted by P(it is reached)."""
    _, problem = _problem()
    answers = enumerate_answers()
    table, _, adam = _start(problem, 0.1)
    for _ in range(300):
        p = answer_logprobs(table, answers).exp()
        reached = torch.zeros(PREFIXES).index_add(
            0, answers.prefixes[answers.mask], p.unsqueeze(1).expand(-1, 3)[answers.mask]
        )
        # An answer passes through each of its prefixes once, so summing answers gives P(prefix is reached).
        kl = (reached * exact_kl(table, problem.reference)).sum()
        adam.zero_grad()
        (problem.beta * kl - (p * problem.rewards).sum()).backward()
        adam.step()
    after = sequence_kl(table.detach(), problem.reference).item()
    assert kl.item() == pytest.approx(after, rel=0.01)
    assert total_variation(distribution(table.detach()), optimum(problem)) < TOLERANCE


def test_dpo_reaches_the_optimum() -> None:
    """All 12,090 pairs, labelled with the probability that the first is preferred under Bradley-Terry."""
    _, problem = _problem()
    answers = enumerate_answers()
    first, second = torch.triu_indices(156, 156, offset=1)
    swapped = torch.sigmoid(problem.rewards[second] - problem.rewards[first])
    ref = answer_logprobs(problem.reference, answers)
    table, _, adam = _start(problem, 0.3)
    for iteration in range(400):
        adam.param_groups[0]["lr"] = 0.3 * (1 - iteration / 400)
        new = answer_logprobs(table, answers)
        loss = dpo_loss(new[first], new[second], ref[first], ref[second], problem.beta, label_smoothing=swapped)
        adam.zero_grad()
        (loss.sum / loss.count).backward()
        adam.step()
    assert total_variation(distribution(table.detach()), optimum(problem)) < TOLERANCE


def test_shuffled_rewards_bring_no_gain() -> None:
    given, _ = _problem()
    start = float((distribution(given.reference) * given.rewards).sum())
    honest = _train_ppo(given, 0.0, iterations=60)
    shuffled = _train_ppo(given, 0.0, iterations=60, shuffle=True)
    assert float((distribution(honest) * given.rewards).sum()) - start > 1.0
    assert abs(float((distribution(shuffled) * given.rewards).sum()) - start) < 0.1
    assert float(sequence_kl(shuffled, given.reference)) < 0.05


@pytest.mark.parametrize("coef", [0.2, 5.0])
def test_adaptive_kl_holds_its_target(coef: float) -> None:
    """From too cheap and from too dear; the KL that is held is the exact one of whole answers."""
    given, _ = _problem()
    generator = torch.Generator().manual_seed(0)
    table, values, adam = _start(given, 0.02)
    target, first, held = 0.8, coef, []
    for iteration in range(150):
        answers = sample(table, 256, generator)
        kl = _ppo_iteration(table, values, adam, answers, given.rewards[answers.index], given.reference, coef)
        coef = adaptive_kl_coef(coef, float(kl.sum(1).mean()), target, horizon=1024, episodes=256)
        if iteration >= 100:
            held.append(float(sequence_kl(table.detach(), given.reference)))
    assert sum(held) / len(held) == pytest.approx(target, rel=0.25)
    assert not 0.5 < coef / first < 2
