from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from bessemer.algos.distillation import distillation_loss, generalized_jsd, reverse_kl
from bessemer.algos.masked import Loss

pytestmark = pytest.mark.usefixtures("operations")

INF = float("inf")
M, V = 5, 8
STUDENT, TEACHER = 2 * torch.randn(2, M, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 7, 3, 3])
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0], dtype=torch.float64)


def _kl(p: Tensor, q: Tensor, temperature: float) -> Tensor:
    """Rows of KL between softmaxes by scipy's elementwise p log(p / q)."""
    tempered = [torch.softmax(logits / temperature, -1).numpy() for logits in (p, q)]
    return torch.from_numpy(rel_entr(*tempered).sum(-1))


def test_distillation_loss_against_scipy() -> None:
    loss = distillation_loss(STUDENT, TEACHER, TARGETS, WEIGHTS, temperature=2.0, alpha=0.3)
    kl = (WEIGHTS * _kl(TEACHER, STUDENT, 2.0)).sum()
    ce = (WEIGHTS * cross_entropy(STUDENT, TARGETS, reduction="none")).sum()
    assert_close(loss.sum, 0.3 * 4 * kl + 0.7 * ce)
    assert_close(loss.metrics["kl"][0], kl)
    assert_close(loss.metrics["ce"][0], ce)
    assert loss.count.item() == 4.5 and {n.item() for _, n in loss.metrics.values()} == {4.5}


def _gradient(temperature: float, alpha: float = 1.0) -> Tensor:
    student = STUDENT.clone().requires_grad_()
    weights = torch.ones(M, dtype=torch.float64)
    distillation_loss(student, TEACHER, TARGETS, weights, temperature, alpha).sum.backward()
    assert student.grad is not None
    return student.grad


def test_gradient_tends_to_the_difference_of_centred_logits() -> None:
    difference = STUDENT - TEACHER
    limit = (difference - difference.mean(-1, keepdim=True)) / V
    assert_close(_gradient(1e5), limit, atol=1e-4, rtol=0)
    # At T = 1 it is far from that limit, so the limit says something.
    assert float((_gradient(1.0) - limit).norm() / limit.norm()) > 0.5


def test_gradient_is_t_times_the_difference_of_softmaxes() -> None:
    for temperature in (1.0, 2.0, 5.0):
        softmaxes = [torch.softmax(logits / temperature, -1) for logits in (STUDENT, TEACHER)]
        assert_close(_gradient(temperature), temperature * (softmaxes[0] - softmaxes[1]))


def test_without_alpha_it_is_cross_entropy_and_temperature_plays_no_part() -> None:
    expected = STUDENT.softmax(-1) - torch.nn.functional.one_hot(TARGETS, V)
    assert_close(_gradient(3.0, alpha=0.0), expected)


def test_reverse_kl_against_scipy() -> None:
    loss = reverse_kl(STUDENT, TEACHER, WEIGHTS, temperature=1.5)
    assert_close(loss.sum, (WEIGHTS * _kl(STUDENT, TEACHER, 1.5)).sum())
    assert loss.count.item() == 4.5
    assert float((_kl(STUDENT, TEACHER, 1.5) - _kl(TEACHER, STUDENT, 1.5)).abs().min()) > 0.01


def test_generalized_jsd_against_scipy() -> None:
    ones = torch.ones(M, dtype=torch.float64)
    # scipy's distance is the root of the even divergence.
    softmaxes = [torch.softmax(logits, -1).numpy() for logits in (STUDENT, TEACHER)]
    even = torch.from_numpy(jensenshannon(*softmaxes, axis=-1) ** 2).sum()
    assert_close(generalized_jsd(STUDENT, TEACHER, ones, beta=0.5).sum, even)
    s, t = (torch.softmax(logits / 2.0, -1).numpy() for logits in (STUDENT, TEACHER))
    mixture = 0.1 * t + 0.9 * s
    uneven = WEIGHTS.numpy() @ (0.1 * rel_entr(t, mixture) + 0.9 * rel_entr(s, mixture)).sum(-1)
    assert generalized_jsd(STUDENT, TEACHER, WEIGHTS, 0.1, 2.0).sum.item() == pytest.approx(uneven)


def test_generalized_jsd_ends_are_the_two_directions() -> None:
    for beta, expected in ((0.0, _kl(TEACHER, STUDENT, 1.0)), (1.0, _kl(STUDENT, TEACHER, 1.0))):
        assert_close(generalized_jsd(STUDENT, TEACHER, WEIGHTS, beta).sum, (WEIGHTS * expected).sum())
    near = generalized_jsd(STUDENT, TEACHER, WEIGHTS, 1e-6).sum / 1e-6
    assert_close(near, (WEIGHTS * _kl(TEACHER, STUDENT, 1.0)).sum(), rtol=1e-3, atol=0)


Call = Callable[[Tensor, Tensor, Tensor], Loss]
CALLS: dict[str, Call] = {
    "distillation": lambda s, t, w: distillation_loss(s, t, TARGETS[: len(s)], w, 2.0, 0.5),
    "reverse_kl": lambda s, t, w: reverse_kl(s, t, w),
    "jsd": lambda s, t, w: generalized_jsd(s, t, w, 0.5),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_gradient_reaches_the_student_alone_and_not_rows_without_weight(name: str) -> None:
    student, teacher = STUDENT.clone(), TEACHER.clone()
    student[3, ::2], teacher[3, 1::2] = 1e4, 1e4
    student.requires_grad_()
    teacher.requires_grad_()
    loss = CALLS[name](student, teacher, WEIGHTS)
    assert loss.count.item() == 4.5
    assert_close(loss.sum.detach(), CALLS[name](STUDENT, TEACHER, WEIGHTS).sum)
    loss.sum.backward()
    assert teacher.grad is None and student.grad is not None
    assert (student.grad != 0).any(1).tolist() == (WEIGHTS > 0).tolist()


def test_a_row_without_weight_may_have_an_impossible_target() -> None:
    student = STUDENT.clone()
    student[3, TARGETS[3]] = -INF
    student.requires_grad_()
    loss = CALLS["distillation"](student, TEACHER, WEIGHTS)
    loss.sum.backward()
    assert_close(loss.sum.detach(), CALLS["distillation"](STUDENT, TEACHER, WEIGHTS).sum)
    assert student.grad is not None and bool(student.grad.isfinite().all())


@pytest.mark.parametrize("name", list(CALLS))
def test_tokens_ruled_out_in_both_have_no_effect(name: str) -> None:
    student, teacher = STUDENT.clone(), TEACHER.clone()
    student[:, 5] = teacher[:, 5] = -INF
    student.requires_grad_()
    loss = CALLS[name](student, teacher, WEIGHTS)
    loss.sum.backward()
    assert loss.sum.isfinite() and student.grad is not None and bool(student.grad.isfinite().all())
    assert bool((student.grad[:, 5] == 0).all())


@pytest.mark.parametrize("name", list(CALLS))
def test_bfloat16_logits_are_compared_in_float32(name: str) -> None:
    student, teacher = STUDENT.bfloat16(), TEACHER.bfloat16()
    s, t = student.double(), teacher.double()
    if name == "distillation":
        rows = 0.5 * 4 * _kl(t, s, 2.0) + 0.5 * cross_entropy(s, TARGETS, reduction="none")
    elif name == "reverse_kl":
        rows = _kl(s, t, 1.0)
    else:
        rows = torch.from_numpy(jensenshannon(s.softmax(-1).numpy(), t.softmax(-1).numpy(), axis=-1) ** 2)
    loss = CALLS[name](student, teacher, WEIGHTS.float())
    assert loss.sum.item() == pytest.approx(float((WEIGHTS * rows).sum()), rel=1e-5)


def test_mixing_weights_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        distillation_loss(STUDENT, TEACHER, TARGETS, WEIGHTS, 2.0, 1.5)
    with pytest.raises(ValueError, match="beta"):
        generalized_jsd(STUDENT, TEACHER, WEIGHTS, -0.1)
