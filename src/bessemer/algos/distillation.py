"""Losses that move a student's distribution towards a teacher's.

All take logits of the rows that count, (M, V); a caller short of memory calls them on chunks of rows and adds
up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bessemer.algos.kl import categorical_kl, exact_kl
from bessemer.algos.language import log_normaliser, scaled_logits
from bessemer.algos.masked import Loss, same_shape, widen
from bessemer.kernels import kernels_for

__all__ = ["distillation_loss", "generalized_jsd", "reverse_kl"]


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    temperature: float,
    alpha: float,
) -> Loss:
    """Return alpha * T^2 * KL(teacher, student), both at temperature T, + (1 - alpha) * cross-entropy at 1.

    student_logits, teacher_logits: (M, V) over the same vocabulary. targets: (M,) ids of the annotation.
    weights: (M,) >= 0; 0 = does not count. alpha in [0, 1], else ValueError. In float32; the teacher is
    detached. T^2 keeps the size of the gradient, which tends to (z_s - z_t) / V a row as T grows (logits
    centred). count is the sum of the weights. Metrics: `kl` (at T, without T^2) and `ce`, weighted alike.
    Source: Hinton et al. 2015, section 2.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha in [0, 1], got {alpha}")
    same_shape(student_logits, teacher_logits)
    same_shape(student_logits[..., 0], targets)
    same_shape(targets, weights)
    total, kl, ce = _Distillation.apply(student_logits, teacher_logits, targets, weights, temperature, alpha)
    count = widen(weights).sum()
    return Loss(total, count, {"kl": (kl, count), "ce": (ce, count)})


class _Distillation(torch.autograd.Function):
    """The loss with its gradient, which is known in closed form: a few passes over the logits instead of thirty."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, temperature: float, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernels = kernels_for(teacher.dtype, teacher.device)
        if kernels is not None and student.dtype == torch.float32 and student.device == teacher.device:
            kl, ce, ctx.gradient = kernels.distillation(
                student.contiguous(), teacher.contiguous(), targets.contiguous(), weights.float().contiguous(),
                temperature, alpha, ctx.needs_input_grad[0],
            )  # fmt: skip
            ctx.dtype = student.dtype
            return _sums(ctx, kl, ce, weights, temperature, alpha)
        z_s, z_t, plain = scaled_logits(student, temperature), scaled_logits(teacher, temperature), widen(student)
        q, p = torch.softmax(z_s, -1), torch.softmax(z_t, -1)
        q_1 = q if temperature == 1 else torch.softmax(plain, -1)
        log_z_s, log_z_t, log_z = (log_normaliser(*pair) for pair in ((z_s, q), (z_t, p), (plain, q_1)))
        # sum p (log p - log q), 0 where p is 0, whatever q is
        kl = torch.where(p > 0, z_t - z_s, 0.0).mul_(p).sum(-1) - (log_z_t - log_z_s)
        ce = log_z - plain.gather(-1, targets[:, None])[:, 0]
        if ctx.needs_input_grad[0]:
            ctx.dtype = student.dtype
            ctx.gradient = _gradient(q, p, q_1, targets, weights[:, None].to(q.dtype), temperature, alpha)
        return _sums(ctx, kl, ce, weights, temperature, alpha)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None, None, None]:
        # a loss that is nothing but this one needs no pass over the table; asking a GPU would cost more than the pass
        alone = gradients[0].device.type == "cpu" and float(gradients[0]) == 1
        return (ctx.gradient if alone else ctx.gradient * gradients[0]).to(ctx.dtype), None, None, None, None, None


def _sums(
    ctx: Any, kl: Tensor, ce: Tensor, weights: Tensor, temperature: float, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the sum of the divergences and that of the cross-entropies, of which the first alone has a gradient."""
    kl_sum, ce_sum = _weighted_sum(kl, weights)[0], _weighted_sum(ce, weights)[0]
    ctx.mark_non_differentiable(kl_sum, ce_sum)
    return alpha * temperature**2 * kl_sum + (1 - alpha) * ce_sum, kl_sum, ce_sum


def _gradient(
    q: Tensor, p: Tensor, q_1: Tensor, targets: Tensor, weights: Tensor, temperature: float, alpha: float
) -> Tensor:
    """weight * (alpha * T * (q - p) + (1 - alpha) * (q at temperature 1 - onehot)), (M, V); uses up q and q_1."""
    learnt = (1 - alpha) * weights
    of_targets = q_1 * learnt if q_1 is q else q_1.mul_(learnt)
    gradient = q.sub_(p).mul_(alpha * temperature * weights).add_(of_targets)
    gradient.scatter_add_(-1, targets[:, None], -learnt)
    return gradient.masked_fill_(weights <= 0, 0.0) if bool((weights <= 0).any()) else gradient


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, temperature: float = 1.0) -> Loss:
    """Return KL(student, teacher), which seeks the teacher's modes; meant for text that the student wrote.

    student_logits, teacher_logits: (M, V). weights: (M,) >= 0; 0 = does not count; count is their sum. The
    teacher is detached; there is no T^2. Metric `kl`. Sources: Gu et al. 2024 (MiniLLM); Agarwal et al. 2024
    (GKD).
    """
    kl = exact_kl(student_logits, teacher_logits.detach(), temperature)
    kl_sum, count = _weighted_sum(kl, weights)
    return Loss(kl_sum, count, {"kl": (kl_sum.detach(), count)})


def generalized_jsd(
    student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, beta: float, temperature: float = 1.0
) -> Loss:
    """Return beta * KL(teacher, m) + (1 - beta) * KL(student, m), m = beta * teacher + (1 - beta) * student.

    student_logits, teacher_logits: (M, V). weights: (M,) >= 0; 0 = does not count; count is their sum. beta
    in (0, 1); the ends are taken as KL(teacher, student) at 0 and KL(student, teacher) at 1, the limits of
    JSD / beta and JSD / (1 - beta); outside ValueError. The teacher is detached; no T^2. Metric `jsd`.
    Source: Agarwal et al. 2024 (GKD, arXiv 2306.13649), equation 1.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"expected beta in [0, 1], got {beta}")
    same_shape(student_logits, teacher_logits)
    student = torch.log_softmax(scaled_logits(student_logits, temperature), dim=-1)
    teacher = torch.log_softmax(scaled_logits(teacher_logits.detach(), temperature), dim=-1)
    if beta == 0:
        divergence = categorical_kl(teacher, student)
    elif beta == 1:
        divergence = categorical_kl(student, teacher)
    else:
        # Mixed as probabilities: logaddexp has a nan gradient where both are ruled out (-inf).
        mixture = beta * teacher.exp() + (1 - beta) * student.exp()
        log_mixture = mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()
        divergence = beta * categorical_kl(teacher, log_mixture)
        divergence = divergence + (1 - beta) * categorical_kl(student, log_mixture)
    total, count = _weighted_sum(divergence, weights)
    return Loss(total, count, {"jsd": (total.detach(), count)})


def _weighted_sum(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    same_shape(rows, weights)
    wide = widen(weights)
    return (wide * torch.where(weights > 0, rows, 0.0)).sum(), wide.sum()
