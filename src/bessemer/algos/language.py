"""Log-probabilities, entropy and the next-token loss of a language model."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.masked import Loss, same_shape, widen

__all__ = ["entropy", "log_normaliser", "next_token_loss", "scaled_logits", "token_logprobs"]


def scaled_logits(logits: Tensor, temperature: float) -> Tensor:
    """Return the logits in at least float32, divided by the sampling temperature.

    logits: any shape. temperature: > 0, else ValueError. Every pass (sampling, old, new, reference) divides
    by the same temperature, else the ratio and the KL are those of densities nobody sampled from.
    """
    if not temperature > 0:
        raise ValueError(f"expected a temperature above 0, got {temperature}")
    wide = widen(logits)
    return wide if temperature == 1.0 else wide / temperature


def log_normaliser(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return log sum exp(logits) over the last dimension, where their softmax is at hand: two reductions.

    logits: (..., V), not all of a row -inf; probabilities: their softmax. Returns (...). The largest probability is
    exp(largest logit - log Z), at least 1 / V, and so never rounds to zero.
    """
    same_shape(logits, probabilities)
    return logits.amax(-1) - probabilities.amax(-1).log()


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Return log p(target) of every position, in nats, as the target's logit minus logsumexp.

    logits: (..., V). targets: (...) int64 in [0, V); there is no ignored id, positions are masked by the
    caller. Returns (...), at least float32. The full log-softmax is never kept.
    """
    same_shape(logits[..., 0], targets)
    scaled = scaled_logits(logits, temperature)
    return scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(scaled, dim=-1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the entropy of softmax(logits / temperature), in nats.

    logits: (..., V), where -inf rules a token out. Returns (...), at least float32.
    """
    scaled = scaled_logits(logits, temperature)
    expected_logit = torch.softmax(scaled, dim=-1) * scaled.masked_fill(scaled == -torch.inf, 0.0)
    return torch.logsumexp(scaled, dim=-1) - expected_logit.sum(dim=-1)


def next_token_loss(logprobs: Tensor, weights: Tensor) -> Loss:
    """Return the weighted negative log-likelihood of the targets.

    logprobs: (M,) of `token_logprobs`. weights: (M,) >= 0; 0 = does not count, whatever its log-probability.
    count is the sum of the weights. Metric `nll`: unweighted, over positions of positive weight.
    """
    same_shape(logprobs, weights)
    counts = weights > 0
    nll = torch.where(counts, -widen(logprobs), 0.0)
    wide_weights = widen(weights)
    return Loss((wide_weights * nll).sum(), wide_weights.sum(), {"nll": (nll.detach().sum(), counts.sum())})
