"""Policy and value losses of policy-gradient methods."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.masked import Loss, masked_sum, same_shape, widen

__all__ = ["LOG_RATIO_BOUND", "clipped_surrogate", "clipped_value_loss", "policy_gradient"]

LOG_RATIO_BOUND = 20.0
"""exp(20) is 5e8: no honest ratio is beyond it, and its square is still finite in float32."""


def clipped_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> Loss:
    """Return PPO's clipped policy loss: the sum of max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high)).

    logprobs, old_logprobs, advantages, mask: any equal shape, so tokens (B, T) or sequences (B,); mask True =
    counts. The log-ratio is clamped to +-20; gradient flows through `logprobs` alone. clip_high defaults to
    `clip`. dual_clip c > 1, else ValueError: where A < 0 the loss is at most -c A, so that one wild ratio
    can't dominate. Metrics: `clip_fraction` (where the clipped branch is the larger), `ratio`, `approx_kl`
    (k3 of KL(old, new)). Sources: Schulman et al. 2017, equation 7; Yu et al. 2025 (DAPO) for clip_high; Ye
    et al. 2020 for dual_clip.
    """
    same_shape(logprobs, old_logprobs, advantages, mask)
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"expected dual_clip above 1, got {dual_clip}")
    # Masked before exp: what is behind the mask would come back as nan in the backward pass.
    log_ratio = torch.where(mask, widen(logprobs) - widen(old_logprobs.detach()), 0.0)
    log_ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    advantages = torch.where(mask, widen(advantages.detach()), 0.0)
    ratio = log_ratio.exp()
    high = clip if clip_high is None else clip_high
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + high)
    losses = torch.maximum(free, clipped)
    if dual_clip is not None:
        losses = torch.where(advantages < 0, torch.minimum(losses, -advantages * dual_clip), losses)
    count = mask.sum()
    metrics = {
        "clip_fraction": (masked_sum((clipped > free).float(), mask), count),
        "ratio": (masked_sum(ratio.detach(), mask), count),
        "approx_kl": (masked_sum((log_ratio.expm1() - log_ratio).detach(), mask), count),
    }
    return Loss(masked_sum(losses, mask), count, metrics)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Loss:
    """Return half the larger of the squared errors of V and of V kept within +-clip of the old V.

    values, old_values, returns, mask: any equal shape; mask True = counts; gradient flows through `values`
    alone. clip: in units of the return; math.inf turns clipping off.
    Metrics: `value_clip_fraction` (where the clipped error is the larger), `value_error` (squared,
    unclipped). Source: OpenAI baselines' ppo2 and lm-human-preferences (not in the PPO paper).
    """
    same_shape(values, old_values, returns, mask)
    values = torch.where(mask, widen(values), 0.0)
    old_values = torch.where(mask, widen(old_values.detach()), 0.0)
    returns = torch.where(mask, widen(returns.detach()), 0.0)
    near_old = torch.maximum(torch.minimum(values, old_values + clip), old_values - clip)
    free, clipped = (values - returns).square(), (near_old - returns).square()
    count = mask.sum()
    metrics = {
        "value_clip_fraction": (masked_sum((clipped > free).float(), mask), count),
        "value_error": (masked_sum(free.detach(), mask), count),
    }
    return Loss(0.5 * masked_sum(torch.maximum(free, clipped), mask), count, metrics)


def policy_gradient(logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Loss:
    """Return -A log pi, whose gradient on samples of pi itself is REINFORCE's (RLOO's, A2C's).

    logprobs, advantages, mask: any equal shape, tokens or sequences; mask True = counts; gradient flows
    through `logprobs` alone. The value of the loss means nothing. Metric `logprob`. Source: Williams 1992.
    """
    same_shape(logprobs, advantages, mask)
    logprobs = torch.where(mask, widen(logprobs), 0.0)
    advantages = torch.where(mask, widen(advantages.detach()), 0.0)
    count = mask.sum()
    return Loss(-(advantages * logprobs).sum(), count, {"logprob": (logprobs.detach().sum(), count)})
