"""Log-probabilities straight from hidden states, without ever holding the logits of all rows at once.

The vocabulary is the widest matrix of a small language model: for SmolLM2-135M a row of logits is 85 times as wide as
a hidden state. So the head runs only on the rows somebody asks about, in chunks, and its backward pass recomputes each
chunk instead of storing it. A frozen head gets no weight gradient, which halves the cost of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bessemer.algos.masked import Loss, widen

__all__ = ["linear_logprobs", "linear_loss"]


class LinearLogProbs(torch.autograd.Function):
    """`log_softmax(hidden @ weight.T / temperature)[target]` and the entropy of the same distribution, by chunks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        rows = hidden.shape[0]
        master, weight = weight, weight.to(hidden.dtype)
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logprobs = torch.empty(rows, dtype=wide, device=hidden.device)
        entropy = torch.empty_like(logprobs)
        normaliser = torch.empty_like(logprobs)
        for start in range(0, rows, chunk):
            part = slice(start, start + chunk)
            logits = widen(hidden[part] @ weight.T).div_(temperature)
            normaliser[part] = torch.logsumexp(logits, -1)
            chosen = logits.gather(-1, targets[part, None])[:, 0]
            logprobs[part] = chosen - normaliser[part]
            probabilities = torch.softmax(logits, -1)
            # H = log Z - E[logit]; the product reuses the logits' memory.
            entropy[part] = normaliser[part] - probabilities.mul_(logits).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, normaliser)
        ctx.temperature, ctx.chunk, ctx.weight_dtype = temperature, chunk, master.dtype
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, normaliser = ctx.saved_tensors
        gradient = gradients[0] / ctx.temperature
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=normaliser.dtype, device=weight.device) if needs_weight else None
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = widen(hidden[part] @ weight.T).div_(ctx.temperature)
            # d logp(target) / d logits = onehot - softmax
            d_logits = logits.sub_(normaliser[part, None]).exp_().mul_(-gradient[part, None])
            d_logits.scatter_add_(-1, targets[part, None], gradient[part, None])
            d_logits = d_logits.to(weight.dtype)
            if d_hidden is not None:
                d_hidden[part] = (d_logits @ weight).to(hidden.dtype)
            if d_weight is not None:
                d_weight += widen(d_logits.T @ hidden[part])
        return d_hidden, None if d_weight is None else d_weight.to(ctx.weight_dtype), None, None, None


def linear_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target token and the entropy of its distribution.

    hidden (M, D): state that predicts the target; weight (V, D): language-model head, cast to hidden's type;
    targets (M,) int64. Returns two tensors (M,), at least float32: log-probabilities (differentiable in hidden and
    weight) and entropies in nats (not differentiable: they are logged, and an entropy bonus would need the plain path).
    Equal to `log_softmax(hidden @ weight.T / temperature)` gathered at the targets.
    """
    if hidden.shape[0] != targets.shape[0]:
        raise ValueError(f"{hidden.shape[0]} hidden rows for {targets.shape[0]} targets")
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    result: tuple[Tensor, Tensor] = LinearLogProbs.apply(hidden, weight, targets, temperature, chunk)
    return result


class LinearLoss(torch.autograd.Function):
    """The sum of a loss of logits over chunks of rows; gradients are taken in the forward pass, one chunk at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, loss_of: Callable[[Tensor, slice], Loss], chunk: int, kept: list[Loss]
    ) -> Tensor:
        cast = weight.to(hidden.dtype)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_head = torch.zeros_like(weight, dtype=widen(weight[:0]).dtype) if needs_weight else None
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, min(start + chunk, hidden.shape[0]))
            logits = widen(hidden[part] @ cast.T).requires_grad_(needs_hidden or needs_weight)
            with torch.enable_grad():
                loss = loss_of(logits, part)
            kept.append(Loss(loss.sum.detach(), loss.count, loss.metrics))
            if not logits.requires_grad:
                continue
            d_logits = torch.autograd.grad(loss.sum, logits)[0].to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[part] = d_logits @ cast
            if d_head is not None:
                d_head += widen(d_logits.T @ hidden[part])
        ctx.gradients = d_hidden, None if d_head is None else d_head.to(weight.dtype)
        return torch.stack([loss.sum for loss in kept]).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        d_hidden, d_head = ctx.gradients
        del ctx.gradients
        ready = [None if taken is None else taken.mul_(gradients[0]) for taken in (d_hidden, d_head)]
        return ready[0], ready[1], None, None, None


def linear_loss(hidden: Tensor, weight: Tensor, loss_of: Callable[[Tensor, slice], Loss], chunk: int = 512) -> Loss:
    """Return the loss of the logits `hidden @ weight.T` added up over chunks of rows, none of which outlives its turn.

    hidden (M, D), M > 0; weight (V, D): language-model head, cast to hidden's type. loss_of takes the logits of some
    rows, (m, V) and at least float32, and the slice of [0, M) that they are. Equal to `loss_of(all logits, slice(0,
    M))` for any loss that adds up over rows; differentiable in hidden and weight, once.
    """
    if not hidden.shape[0]:
        raise ValueError("expected at least one hidden row")
    kept: list[Loss] = []
    total: Tensor = LinearLoss.apply(hidden, weight, loss_of, chunk, kept)
    metrics = {
        name: (
            torch.stack([loss.metrics[name][0] for loss in kept]).sum(),
            torch.stack([loss.metrics[name][1] for loss in kept]).sum(),
        )
        for name in kept[0].metrics
    }
    return Loss(total, torch.stack([loss.count for loss in kept]).sum(), metrics)
