"""Every loss has the same gradient, 8 rows at once or one by one: sums and counts are added first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.distillation import distillation_loss, generalized_jsd, reverse_kl
from bessemer.algos.language import next_token_loss, token_logprobs
from bessemer.algos.masked import Loss
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss, policy_gradient
from bessemer.algos.preference import dpo_loss, pair_targets, plackett_luce, soft_bradley_terry

B, T, V = 8, 5, 7


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


# Rows of 1 to 5 tokens, so that a mean of the rows' means is another number.
MASK = torch.arange(T) < torch.tensor([1, 5, 2, 3, 5, 1, 4, 2]).unsqueeze(1)
OLD, ADVANTAGES, RETURNS = _random(B, T), _random(B, T + 1)[:, 1:], _random(B, T + 2)[:, 2:]
TEACHER = _random(B, T, V + 1)[..., 1:]
TARGETS = torch.arange(B * T).view(B, T) % V
WEIGHTS = MASK * torch.linspace(0.2, 1.0, T, dtype=torch.float64)
RANKS = (_random(B, T) * 1.5).round()
RANKS[2, 1:] = RANKS[5, ::2] = float("nan")
PARAMETER = torch.linspace(-1, 1, V, dtype=torch.float64)


def _logits(parameter: Tensor, rows: slice) -> Tensor:
    """Logits (b, T, V) of a model of one parameter vector."""
    return torch.tanh(parameter * _random(B, T, V)[rows] + parameter.flip(0))


def _rows(parameter: Tensor, rows: slice) -> Tensor:
    return token_logprobs(_logits(parameter, rows), TARGETS[rows])


def _flat(function: Callable[[Tensor, Tensor, Tensor], Loss], p: Tensor, s: slice) -> Loss:
    return function(_logits(p, s).reshape(-1, V), TEACHER[s].reshape(-1, V), WEIGHTS[s].reshape(-1))


def _rank_loss(p: Tensor, s: slice) -> Loss:
    scores, ranks = _logits(p, s)[..., :2], torch.stack([RANKS[s], RANKS[s].flip(1)], 1)
    return soft_bradley_terry(scores, pair_targets(ranks).movedim(1, 3), 0.01)


def _dpo(p: Tensor, s: slice) -> Loss:
    new = _rows(p, s)
    return dpo_loss(new[:, 0], new[:, 1], OLD[s, 0], OLD[s, 1], 0.3)


LOSSES: dict[str, Callable[[Tensor, slice], Loss]] = {
    "sft": lambda p, s: next_token_loss(_rows(p, s).reshape(-1), WEIGHTS[s].reshape(-1)),
    "surrogate": lambda p, s: clipped_surrogate(_rows(p, s), OLD[s], ADVANTAGES[s], MASK[s], 0.2, 0.28, 3.0),
    "value": lambda p, s: clipped_value_loss(_rows(p, s), OLD[s], RETURNS[s], MASK[s], 0.2),
    "policy_gradient": lambda p, s: policy_gradient(_rows(p, s), ADVANTAGES[s], MASK[s]),
    "bradley_terry": _rank_loss,
    "plackett_luce": lambda p, s: plackett_luce(_logits(p, s)[..., 0], RANKS[s]),
    "dpo": _dpo,
    "distillation": lambda p, s: _flat(
        lambda a, b, w: distillation_loss(a, b, TARGETS[s].reshape(-1), w, 2.0, 0.4), p, s
    ),
    "reverse_kl": lambda p, s: _flat(lambda a, b, w: reverse_kl(a, b, w), p, s),
    "jsd": lambda p, s: _flat(lambda a, b, w: generalized_jsd(a, b, w, 0.3), p, s),
}


def _accumulate(name: str, pieces: list[slice]) -> tuple[Tensor, dict[str, float]]:
    """Gradient of the mean loss and the metrics, over any cut of the batch."""
    parameter = PARAMETER.clone().requires_grad_()
    count = torch.zeros((), dtype=torch.float64)
    metrics: dict[str, list[float]] = {}
    for piece in pieces:
        loss = LOSSES[name](parameter, piece)
        loss.sum.backward()
        count = count + loss.count
        for key, (total, number) in loss.metrics.items():
            sums = metrics.setdefault(key, [0.0, 0.0])
            sums[0], sums[1] = sums[0] + total.item(), sums[1] + number.item()
    assert parameter.grad is not None
    return parameter.grad / count, {key: total / number for key, (total, number) in metrics.items()}


@pytest.mark.parametrize("name", list(LOSSES))
def test_eight_at_once_are_eight_times_one(name: str) -> None:
    whole, whole_metrics = _accumulate(name, [slice(0, B)])
    ones, ones_metrics = _accumulate(name, [slice(n, n + 1) for n in range(B)])
    uneven, uneven_metrics = _accumulate(name, [slice(0, 3), slice(3, 4), slice(4, 8)])
    assert float(whole.abs().max()) > 1e-3
    assert_close(ones, whole, atol=1e-12, rtol=0)
    assert_close(uneven, whole, atol=1e-12, rtol=0)
    assert ones_metrics == pytest.approx(whole_metrics) == uneven_metrics
    assert whole_metrics
