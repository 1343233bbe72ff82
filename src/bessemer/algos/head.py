"""Log-probabilities straight from hidden states, without ever holding the logits of all rows at once.

The vocabulary is the widest matrix of a small language model: for SmolLM2-135M a row of logits is 85 times as wide as
a hidden state. So the head runs only on the rows somebody asks about, in chunks, none of which outlives its turn: the
gradient of the states is taken along with their log-probabilities. A frozen head gets no weight gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bessemer.algos.language import log_normaliser
from bessemer.algos.masked import Loss, widen
from bessemer.kernels import kernels_for

__all__ = ["linear_logprobs", "linear_loss"]


class LinearLogProbs(torch.autograd.Function):
    """`log_softmax(hidden @ weight.T / temperature)[target]` and the entropy of the same distribution, by chunks.

    What a row's log-probability does to its hidden state depends on no other row, so it is taken in the forward pass,
    while the chunk is at hand; only a head that learns has its chunks computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        rows = hidden.shape[0]
        master, weight = weight, weight.to(hidden.dtype)
        wide = widen(hidden[:0]).dtype
        logprobs = torch.empty(rows, dtype=wide, device=hidden.device)
        entropy, normaliser = torch.empty_like(logprobs), torch.empty_like(logprobs)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, rows, chunk):
            part = slice(start, start + chunk)
            raw = hidden[part] @ weight.T
            kernels = kernels_for(raw.dtype, raw.device)
            if kernels is not None:
                found = kernels.log_probability(raw, targets[part].contiguous(), 1 / temperature, slope is not None)
                logprobs[part], normaliser[part], entropy[part] = found
                if slope is not None:
                    slope[part] = raw @ weight
                continue
            logits = _scaled(raw, temperature)
            probabilities = torch.softmax(logits, -1)
            normaliser[part] = log_normaliser(logits, probabilities)
            logprobs[part] = logits.gather(-1, targets[part, None])[:, 0] - normaliser[part]
            # H = log Z - E[logit]; the product reuses the logits' memory
            entropy[part] = normaliser[part] - logits.mul_(probabilities).sum(-1)
            if slope is not None:  # d log p(target) / d logits = onehot - p, subtracted before anything is rounded
                probabilities[torch.arange(len(probabilities)), targets[part]] -= 1
                slope[part] = probabilities.neg_().to(weight.dtype) @ weight
        ctx.save_for_backward(slope, hidden, weight, targets, normaliser)
        ctx.temperature, ctx.chunk, ctx.weight_dtype = temperature, chunk, master.dtype
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        slope, hidden, weight, targets, normaliser = ctx.saved_tensors
        gradient = gradients[0][:, None] / ctx.temperature
        d_hidden = None if slope is None else (slope * gradient).to(hidden.dtype)
        if not ctx.needs_input_grad[1]:
            return d_hidden, None, None, None, None
        d_weight = torch.zeros(weight.shape, dtype=normaliser.dtype, device=weight.device)
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = _scaled(hidden[part] @ weight.T, ctx.temperature)
            d_logits = logits.sub_(normaliser[part, None]).exp_().mul_(-gradient[part])
            d_logits.scatter_add_(-1, targets[part, None], gradient[part])
            d_weight += widen(d_logits.to(weight.dtype).T @ hidden[part])
        return d_hidden, d_weight.to(ctx.weight_dtype), None, None, None


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    logits = widen(logits)
    return logits if temperature == 1 else logits.div_(temperature)


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
    targets = targets.to(hidden.device)  # batches are made on the CPU
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
