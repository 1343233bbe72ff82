"""What all functions promise alike: no silent broadcasting, no half precision, gradients one way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.advantage import gae, group_relative, kl_shaped_rewards, leave_one_out, missing_eos
from bessemer.algos.agreement import kendall_tau_b
from bessemer.algos.distillation import distillation_loss, generalized_jsd, reverse_kl
from bessemer.algos.kl import categorical_kl, exact_kl, k1, k3
from bessemer.algos.language import entropy, next_token_loss, token_logprobs
from bessemer.algos.masked import Loss, masked_var, whiten
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss, policy_gradient
from bessemer.algos.preference import dpo_loss, pair_targets, plackett_luce, soft_bradley_terry
from bessemer.algos.principles import aggregate, disagreement, normalise

B, T = 6, 4
MASK = torch.arange(T) < torch.tensor([4, 2, 1, 3, 4, 2]).unsqueeze(1)
ENDED = MASK[:, 1]
TARGETS = torch.tensor([0, 1, 2, 3, 2, 1])
RANKS = torch.tensor([[1.0, 2, 3, 4], [2, 1, 1, 3], [4, 3, 2, 1], [1, 3, 2, 4], [2, 1, 4, 3], [3, 3, 1, 2]])
PAIRS = pair_targets(RANKS).unsqueeze(-1)
ONE = torch.ones(T)


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (B, T), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Name -> function of up to four (B, T) tensors; what it takes besides is fixed.
FUNCTIONS: dict[str, Callable[..., Tensor | Loss | tuple[Tensor, Tensor]]] = {
    "whiten": lambda a: whiten(a, MASK),
    "masked_var": lambda a: masked_var(a, MASK),
    "token_logprobs": lambda a: token_logprobs(a, TARGETS, 0.7),
    "entropy": lambda a: entropy(a, 0.7),
    "next_token_loss": lambda a, b: next_token_loss(a[:, 0], b[:, 0].abs()),
    "missing_eos": lambda a: missing_eos(a[:, 0], ENDED, 0.3),
    "kl_shaped_rewards": lambda a, b: kl_shaped_rewards(a[:, 0], b, MASK, 0.1),
    "gae": lambda a, b: gae(a, b, MASK, 0.99, 0.95),
    "group_relative": lambda a: group_relative(a, scale=True),
    "leave_one_out": lambda a: leave_one_out(a),
    "clipped_surrogate": lambda a, b, c: clipped_surrogate(a, b, c, MASK, 0.2, dual_clip=3.0),
    "clipped_value_loss": lambda a, b, c: clipped_value_loss(a, b, c, MASK, 0.2),
    "policy_gradient": lambda a, b: policy_gradient(a, b, MASK),
    "k1": lambda a, b: k1(a, b),
    "k3": lambda a, b: k3(a, b),
    "exact_kl": lambda a, b: exact_kl(a, b, 0.7),
    "soft_bradley_terry": lambda a: soft_bradley_terry(a.unsqueeze(-1), PAIRS, 0.01),
    "plackett_luce": lambda a: plackett_luce(a, RANKS),
    "dpo_loss": lambda a, b, c, d: dpo_loss(a[:, 0], b[:, 0], c[:, 0], d[:, 0], 0.1),
    "normalise": lambda a, b: normalise(a, b[0], b[1].abs(), 2.0),
    "aggregate": lambda a, b: aggregate(a, b[0].abs()),
    "disagreement": lambda a: disagreement(a),
    "distillation_loss": lambda a, b: distillation_loss(a, b, TARGETS, MASK[:, 1].to(a.dtype), 2.0, 0.5),
    "reverse_kl": lambda a, b: reverse_kl(a, b, MASK[:, 1].to(a.dtype)),
    "generalized_jsd": lambda a, b: generalized_jsd(a, b, MASK[:, 1].to(a.dtype), 0.3),
}


def _tensors(result: Tensor | Loss | tuple[Tensor, Tensor]) -> list[Tensor]:
    if isinstance(result, Loss):
        return [result.sum, *(total for total, _ in result.metrics.values())]
    return [result] if isinstance(result, Tensor) else list(result)


def _inputs(name: str) -> list[Tensor]:
    return [_random(n) for n in range(FUNCTIONS[name].__code__.co_argcount)]


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_half_precision_in_is_single_precision_out(name: str) -> None:
    """On the same numbers float64, which other tests hold against references, gives the same result."""
    half = [x.bfloat16() for x in _inputs(name)]
    results = _tensors(FUNCTIONS[name](*half))
    exact = _tensors(FUNCTIONS[name](*[x.double() for x in half]))
    assert all(x.dtype in (torch.float32, torch.int64) for x in results)
    for x, y in zip(results, exact, strict=True):
        assert_close(x.double(), y.double(), atol=1e-5, rtol=1e-5)


# The inputs that a loss may change; all others are what was measured before.
TRAINED = {
    "next_token_loss": 1,
    "clipped_surrogate": 1,
    "clipped_value_loss": 1,
    "policy_gradient": 1,
    "dpo_loss": 2,
    "distillation_loss": 1,
    "reverse_kl": 1,
    "generalized_jsd": 1,
}


@pytest.mark.parametrize("name", list(TRAINED))
def test_gradient_flows_into_what_is_trained_alone(name: str) -> None:
    inputs = [x.requires_grad_() for x in _inputs(name)]
    if name == "next_token_loss":
        inputs[1].requires_grad_(False)
    loss = FUNCTIONS[name](*inputs)
    assert isinstance(loss, Loss) and not any(x.requires_grad for pair in loss.metrics.values() for x in pair)
    loss.sum.backward()
    assert [x.grad is not None for x in inputs] == [n < TRAINED[name] for n in range(len(inputs))]


LONG, ROW, COLUMN = torch.zeros(B, T), torch.zeros(T), torch.zeros(B, 1)
EVERY = torch.ones(B, T, dtype=torch.bool)
BROADCASTS: dict[str, Callable[[], object]] = {
    "whiten": lambda: whiten(LONG, EVERY[0]),
    "masked_var": lambda: masked_var(LONG, EVERY[:, :1]),
    "token_logprobs": lambda: token_logprobs(LONG, TARGETS[:1]),
    "next_token_loss": lambda: next_token_loss(ROW, ROW[:1]),
    "missing_eos": lambda: missing_eos(LONG, ENDED.unsqueeze(1), 1.0),
    "kl_shaped_rewards by kl": lambda: kl_shaped_rewards(LONG[:, 0], COLUMN, EVERY, 0.1),
    "kl_shaped_rewards by scores": lambda: kl_shaped_rewards(ROW[:1], LONG, EVERY, 0.1),
    "gae by rewards": lambda: gae(COLUMN, LONG, EVERY, 1.0, 1.0),
    "gae by values": lambda: gae(LONG, COLUMN, EVERY, 1.0, 1.0),
    "surrogate by advantages": lambda: clipped_surrogate(LONG, LONG, COLUMN, EVERY, 0.2),
    "surrogate by mask": lambda: clipped_surrogate(LONG, LONG, LONG, EVERY[:, :1], 0.2),
    "value by returns": lambda: clipped_value_loss(LONG, LONG, COLUMN, EVERY, 0.2),
    "policy_gradient": lambda: policy_gradient(LONG, COLUMN, EVERY),
    "k1": lambda: k1(LONG, COLUMN),
    "exact_kl": lambda: exact_kl(LONG, LONG[:1]),
    "categorical_kl": lambda: categorical_kl(LONG, LONG[:1]),
    "bradley_terry by targets": lambda: soft_bradley_terry(LONG.unsqueeze(-1), PAIRS[:1]),
    "bradley_terry by cells": lambda: soft_bradley_terry(LONG.unsqueeze(-1), PAIRS, cell_weights=ONE[:1]),
    "bradley_terry by pairs": lambda: soft_bradley_terry(LONG.unsqueeze(-1), PAIRS, pair_weights=PAIRS[:1]),
    "plackett_luce": lambda: plackett_luce(LONG, ROW),
    "kendall_tau_b": lambda: kendall_tau_b(LONG, ROW),
    "dpo_loss": lambda: dpo_loss(ROW, ROW, ROW[:1], ROW, 0.1),
    "normalise": lambda: normalise(LONG, ONE, ONE[:1], 5.0),
    "aggregate": lambda: aggregate(LONG, ONE[:1]),
    "distillation by weights": lambda: distillation_loss(LONG, LONG, TARGETS, ONE[:1], 1.0, 0.5),
    "jsd by teacher": lambda: generalized_jsd(LONG, LONG[:1], torch.ones(B), 0.5),
}


@pytest.mark.parametrize("name", list(BROADCASTS))
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected equal shapes"):
        BROADCASTS[name]()
