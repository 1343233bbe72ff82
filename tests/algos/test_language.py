from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch.testing import assert_close

from bessemer.algos.language import entropy, log_normaliser, next_token_loss, scaled_logits, token_logprobs

INF = float("inf")


def _logits(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _naive_logprob(row: list[float], target: int, temperature: float) -> float:
    return row[target] / temperature - math.log(sum(math.exp(z / temperature) for z in row))


def test_token_logprobs_against_the_definition() -> None:
    logits = _logits(2, 3, 7)
    targets = torch.tensor([[0, 6, 3], [2, 2, 5]])
    for temperature in (1.0, 0.7):
        expected = [
            [_naive_logprob(row, int(t), temperature) for row, t in zip(rows, ids, strict=True)]
            for rows, ids in zip(logits.tolist(), targets, strict=True)
        ]
        assert_close(token_logprobs(logits, targets, temperature), torch.tensor(expected), atol=1e-5, rtol=0)


def test_token_logprobs_of_bfloat16_are_computed_in_float32() -> None:
    logits = _logits(5, 64).bfloat16()
    targets = torch.tensor([1, 2, 3, 4, 63])
    expected = torch.log_softmax(logits.double(), -1)[range(5), targets].float()
    assert_close(token_logprobs(logits, targets), expected, atol=1e-5, rtol=0)


def test_token_logprobs_survive_large_logits() -> None:
    assert token_logprobs(torch.tensor([[1000.0, 999.0]]), torch.tensor([1])).item() == pytest.approx(
        -1 - math.log1p(math.exp(-1)), abs=1e-4
    )


def test_gradient_of_a_logprob_is_onehot_minus_softmax_over_temperature() -> None:
    logits = _logits(1, 5).double().requires_grad_()
    token_logprobs(logits, torch.tensor([2]), 0.5).sum().backward()
    p = np.exp(logits.detach().numpy() / 0.5)
    expected = (np.eye(5)[2] - p / p.sum()) / 0.5
    assert_close(logits.grad, torch.from_numpy(expected))


def test_log_normaliser_is_logsumexp() -> None:
    logits = 30 * torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[1, 3:] = float("-inf")
    assert_close(log_normaliser(logits, torch.softmax(logits, -1)), torch.logsumexp(logits, -1))


def test_entropy_against_scipy() -> None:
    logits = _logits(2, 4, 9)
    for temperature in (1.0, 2.0):
        p = np.exp(logits.double().numpy() / temperature)
        expected = torch.from_numpy(scipy_entropy(p, axis=-1)).float()
        assert_close(entropy(logits, temperature), expected, atol=1e-5, rtol=0)


def test_entropy_with_tokens_ruled_out() -> None:
    logits = torch.tensor([[0.0, -INF, 0.0]], requires_grad=True)
    value = entropy(logits)
    assert value.item() == pytest.approx(math.log(2), abs=1e-6)
    value.sum().backward()
    assert_close(logits.grad, torch.zeros(1, 3))


def test_next_token_loss_is_weighted_cross_entropy() -> None:
    logits, targets = _logits(6, 11).double(), torch.tensor([0, 1, 2, 3, 4, 10])
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.25], dtype=torch.float64)
    loss = next_token_loss(token_logprobs(logits, targets), weights)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert_close(loss.sum / loss.count, torch.from_numpy(np.average(each, weights=weights, keepdims=True))[0])
    assert loss.count.item() == 4.75
    nll_sum, nll_count = loss.metrics["nll"]
    assert_close(nll_sum / nll_count, each[[0, 1, 3, 4, 5]].mean())
    assert nll_count.item() == 5


def test_next_token_loss_ignores_what_weighs_nothing() -> None:
    logprobs = torch.tensor([-1.0, -INF, float("nan")], requires_grad=True)
    loss = next_token_loss(logprobs, torch.tensor([2.0, 0.0, 0.0]))
    loss.sum.backward()
    assert loss.sum.item() == 2.0
    assert_close(logprobs.grad, torch.tensor([-2.0, 0.0, 0.0]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        scaled_logits(torch.zeros(1, 2), temperature)
