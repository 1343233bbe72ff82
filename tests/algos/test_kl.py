from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.kl import adaptive_kl_coef, categorical_kl, exact_kl, k1, k2, k3
from bessemer.algos.language import token_logprobs
from reference_lm import (
    answer_logprobs,
    distribution,
    enumerate_answers,
    make_problem,
    sequence_kl,
)

INF = float("inf")
P, Q = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL between softmaxes by scipy's elementwise p log(p / q)."""
    return torch.tensor(rel_entr(torch.softmax(p, 0).numpy(), torch.softmax(q, 0).numpy()).sum())


def test_k1_and_k3_have_the_value_of_kl_and_k2_has_not() -> None:
    # Expectations under softmax(P), enumerated.
    probabilities, log_p, log_q = P.softmax(0), P.log_softmax(0), Q.log_softmax(0)
    values = [(probabilities * estimator(log_p, log_q)).sum() for estimator in (k1, k2, k3)]
    assert_close(values[0], _kl(P, Q))
    assert_close(values[2], _kl(P, Q))
    assert_close(
        values[1],
        torch.from_numpy(np.average((log_p - log_q).square() / 2, weights=probabilities, keepdims=True))[0],
    )
    assert bool((k3(log_p, log_q) >= 0).all()) and bool((k1(log_p, log_q) < 0).any())


def _expected_gradient(estimator_as_loss: str) -> Tensor:
    """E over x ~ softmax(P) of the gradient of k(x), the sampling not differentiated."""
    logits = P.clone().requires_grad_()
    log_p = logits.log_softmax(0)
    estimate = {"k1": k1, "k2": k2, "k3": k3}[estimator_as_loss](log_p, Q.log_softmax(0))
    (P.softmax(0) * estimate).sum().backward()
    assert logits.grad is not None
    return logits.grad


def _kl_gradient(forward: bool) -> Tensor:
    """Closed form: of KL(ref, pi) it is pi - ref; of KL(pi, ref) it is pi * (log(pi / ref) - KL)."""
    p, q = P.softmax(0), Q.softmax(0)
    return p - q if forward else p * ((p / q).log() - _kl(P, Q))


def test_k1_as_a_loss_has_no_gradient() -> None:
    assert_close(_expected_gradient("k1"), torch.zeros(9).double(), atol=1e-12, rtol=0)
    assert float(_kl_gradient(forward=False).abs().max()) > 0.05


def test_k2_as_a_loss_has_the_gradient_of_reverse_kl() -> None:
    assert_close(_expected_gradient("k2"), _kl_gradient(forward=False), atol=1e-12, rtol=0)


def test_k3_as_a_loss_has_the_gradient_of_forward_kl() -> None:
    assert_close(_expected_gradient("k3"), _kl_gradient(forward=True), atol=1e-12, rtol=0)


def _sequence_gradients() -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in the table of: KL of whole answers; E[k2 of answers]; E[sum of k2 of tokens]."""
    problem, answers = make_problem(4), enumerate_answers()
    start = make_problem(9).reference.double()
    reference = problem.reference.double()
    weights = distribution(start)
    gradients = []
    for kind in ("truth", "answers", "tokens"):
        table = start.clone().requires_grad_()
        if kind == "truth":
            sequence_kl(table, reference).backward()
        elif kind == "answers":
            whole = k2(answer_logprobs(table, answers), answer_logprobs(reference, answers))
            (weights * whole).sum().backward()
        else:
            new = token_logprobs(table[answers.prefixes], answers.tokens)
            old = token_logprobs(reference[answers.prefixes], answers.tokens)
            (weights * torch.where(answers.mask, k2(new, old), 0.0).sum(1)).sum().backward()
        assert table.grad is not None
        gradients.append(table.grad)
    return gradients[0], gradients[1], gradients[2]


def test_k2_of_answers_is_exact_but_a_sum_over_tokens_forgets_the_future() -> None:
    truth, answers, tokens = _sequence_gradients()
    assert_close(answers, truth, atol=1e-12, rtol=0)
    # The last token of a full answer has no future: there both are right.
    assert_close(tokens[6:], truth[6:], atol=1e-12, rtol=0)
    assert float((tokens - truth).norm() / truth.norm()) > 0.1


def test_exact_kl_against_scipy() -> None:
    logits, ref_logits = torch.stack([P, Q]), torch.stack([Q, 2 * P])
    for temperature in (1.0, 0.7):
        expected = torch.stack([_kl(P / temperature, Q / temperature), _kl(Q / temperature, 2 * P / temperature)])
        assert_close(exact_kl(logits, ref_logits, temperature), expected)


def test_exact_kl_has_the_closed_form_gradients_on_both_sides() -> None:
    logits, ref_logits = P.clone().requires_grad_(), Q.clone().requires_grad_()
    exact_kl(logits, ref_logits).backward()
    assert_close(logits.grad, _kl_gradient(forward=False))
    assert_close(ref_logits.grad, Q.softmax(0) - P.softmax(0))


def test_exact_kl_with_tokens_ruled_out_in_both() -> None:
    logits = torch.tensor([0.0, 1.0, -INF], requires_grad=True)
    ref_logits = torch.tensor([1.0, 0.0, -INF], requires_grad=True)
    value = exact_kl(logits, ref_logits)
    value.backward()
    assert_close(value.detach().double(), _kl(torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 0.0]).double()))
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    assert ref_logits.grad is not None and bool(ref_logits.grad.isfinite().all())
    assert categorical_kl(torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])).item() == INF


def test_k3_is_accurate_when_small_and_finite_when_large() -> None:
    # 1e-4 apart: r - 1 - log r = 5.00017e-9, of which float32 cancels every digit when done naively.
    tiny = k3(torch.tensor([-1e-4], dtype=torch.float32), torch.zeros(1))
    assert tiny.item() == pytest.approx(5.0002e-9, rel=0.005)
    assert bool(k3(torch.tensor([-500.0]), torch.zeros(1)).isfinite().all())


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.15),
        (6.6, 0.15 * 1.00256),
        (60.0, 0.15 * 1.00512),
        (5.4, 0.15 * 0.99744),
        (-3.0, 0.15 * 0.99488),
    ],
)
def test_adaptive_kl_coef_worked_by_hand(kl: float, expected: float) -> None:
    # Target 6, horizon 10000, 256 episodes: the error is clipped to +-0.2, so one step is at most 0.512 %.
    assert adaptive_kl_coef(0.15, kl, 6.0, 10_000, 256) == pytest.approx(expected, rel=1e-9)


def test_adaptive_kl_needs_a_target() -> None:
    for target, horizon in ((-1.0, 100.0), (0.0, 100.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="target"):
            adaptive_kl_coef(0.1, 1.0, target, horizon, 1)
