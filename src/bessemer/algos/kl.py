"""Estimates of KL(policy, reference), its exact value, and the controller of its coefficient."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.language import scaled_logits
from bessemer.algos.masked import same_shape, widen

__all__ = ["adaptive_kl_coef", "categorical_kl", "exact_kl", "k1", "k2", "k3"]


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return log pi - log ref of sampled tokens: unbiased for KL(pi, ref), of high variance, may be negative.

    logprobs, ref_logprobs: any equal shape, both at the sampling temperature; masked by the caller. Belongs
    in the reward; as a loss its expected gradient is zero. Source: Schulman 2020, "Approximating KL
    divergence".
    """
    same_shape(logprobs, ref_logprobs)
    return widen(logprobs) - widen(ref_logprobs)


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return (log pi - log ref)^2 / 2: biased in value, but as a loss its gradient is that of KL(pi, ref).

    logprobs, ref_logprobs: any equal shape. That holds for what was sampled as a whole: on the
    log-probabilities of whole sequences (B,) it equals k1 in the reward; a sum of k2 over single tokens
    leaves out that a token changes the KL of the tokens after it. Source: Schulman 2020; Liu et al. 2025
    (arXiv 2510.01555).
    """
    return 0.5 * k1(logprobs, ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return r - 1 - log r with r = ref / pi: unbiased for KL(pi, ref), never negative, for logging.

    logprobs, ref_logprobs: any equal shape. log r is kept below 20. As a loss its expected gradient is that
    of KL(ref, pi), the other direction. Source: Schulman 2020.
    """
    log_r = (-k1(logprobs, ref_logprobs)).clamp(max=20.0)
    return torch.expm1(log_r) - log_r


def categorical_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the sum over the last dimension of p (log p - log q), in nats.

    log_p, log_q: (..., V) normalised log-probabilities. Returns (...). Where p is 0 the term is 0 with a zero
    gradient, whatever q is; where only q is 0 the result is inf.
    """
    same_shape(log_p, log_q)
    possible = log_p > -torch.inf
    gap = torch.where(possible, log_p, 0.0) - torch.where(possible, log_q, 0.0)
    return (log_p.exp() * gap).sum(dim=-1)


def exact_kl(logits: Tensor, ref_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(softmax(logits / T), softmax(ref_logits / T)) of each position over the vocabulary, in nats.

    logits, ref_logits: (..., V), equal shapes. Returns (...), at least float32, differentiable in both.
    Summed over the tokens of samples of pi it is an estimate of the sequence's KL with less variance than k1.
    """
    same_shape(logits, ref_logits)
    log_p = torch.log_softmax(scaled_logits(logits, temperature), dim=-1)
    log_q = torch.log_softmax(scaled_logits(ref_logits, temperature), dim=-1)
    return categorical_kl(log_p, log_q)


def adaptive_kl_coef(coef: float, kl: float, target: float, horizon: float, episodes: int) -> float:
    """Return the KL coefficient moved, by at most 20 % in `horizon` episodes, to hold `kl` at `target`.

    kl, target: nats a sequence, target > 0. horizon, episodes: answers; `episodes` is how many were sampled
    since the last call. Raises ValueError if target or horizon is not positive.
    Source: Ziegler et al. 2019, section 2.2 (proportional controller, error clipped to +-0.2).
    """
    if not (target > 0 and horizon > 0):
        raise ValueError(f"expected target and horizon above 0, got {target} and {horizon}")
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coef * (1.0 + error * episodes / horizon)
