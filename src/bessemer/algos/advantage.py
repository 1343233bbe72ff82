"""From scores and values to advantages: KL-shaped rewards, GAE and the critic-free baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.masked import same_shape, widen

__all__ = ["gae", "group_relative", "kl_shaped_rewards", "leave_one_out", "missing_eos"]


def missing_eos(scores: Tensor, ended: Tensor, penalty: float) -> Tensor:
    """Subtract `penalty` from the score of every answer that was cut off before its EOS token.

    scores: (...). ended: (...) bool, carried from the sampler; never found by looking for token ids, since
    pad may be eos. Source: "N+ implementation details" (Huang et al. 2024, arXiv 2403.17031).
    """
    same_shape(scores, ended)
    return torch.where(ended, widen(scores), widen(scores) - penalty)


def kl_shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Return -kl_coef * kl at every action token, plus the score on the last one.

    scores: (B,). kl: (B, T), the k1 estimate at each token. mask: (B, T) bool, True = action token, EOS
    included; the last True of a row takes the score, and holes (tool output) are allowed. Returns (B, T), 0
    where masked. Raises ValueError if a row has no action token, whose score would be lost.
    Source: Ziegler et al. 2019; the score sits on the last token, not after it.
    """
    same_shape(kl, mask)
    same_shape(scores, mask[:, 0])
    last = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1).amax(dim=1)
    if bool((last < 0).any()):
        raise ValueError(f"expected an action token in every row, found none in row {int(last.argmin())}")
    rewards = torch.where(mask, -kl_coef * widen(kl), 0.0)
    return rewards.scatter_add(1, last.unsqueeze(1), widen(scores).to(rewards.dtype).unsqueeze(1))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Return generalised advantages and the returns that the value function is fitted to.

    rewards, values: (B, T); values[:, t] is V of the state before action t. mask: (B, T) bool, True = action
    token; what stands elsewhere is ignored, and a hole is stepped over as if it were not there, so padding on
    either side and tool output change nothing. V after the last action is 0. gamma discounts per action.
    Returns (advantages, returns), both (B, T), detached, 0 where masked; advantages are not whitened, so that
    returns = advantages + values holds. Source: Schulman et al. 2016, equation 16.
    """
    same_shape(rewards, values, mask)
    rewards = torch.where(mask, widen(rewards.detach()), 0.0)
    values = torch.where(mask, widen(values.detach()), 0.0)
    advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(values[:, 0])
    columns = []
    for t in reversed(range(mask.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = torch.where(mask[:, t], delta + gamma * lam * advantage, advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        columns.append(advantage)
    advantages = torch.where(mask, torch.stack(columns[::-1], dim=1), 0.0)
    return advantages, advantages + values


def group_relative(scores: Tensor, scale: bool, eps: float = 1e-4) -> Tensor:
    """Return each score minus the mean of its prompt's group, divided by the group's deviation if `scale`.

    scores: (B, G), G >= 2 answers a prompt, else ValueError. The deviation is the sample's (division by G -
    1) plus `eps`, as peers have it. Without `scale` this is (G - 1) / G times `leave_one_out` and free of the
    bias towards prompts of small spread. Sources: Shao et al. 2024 (GRPO); Liu et al. 2025 (Dr. GRPO: no
    division).
    """
    _require_group(scores)
    wide = widen(scores)
    centred = wide - wide.mean(dim=1, keepdim=True)
    return centred / (wide.std(dim=1, keepdim=True, correction=1) + eps) if scale else centred


def leave_one_out(scores: Tensor) -> Tensor:
    """Return each score minus the mean of the other answers' scores to the same prompt.

    scores: (B, G), G >= 2, else ValueError. The baseline does not depend on its own answer, so the gradient
    is unbiased. Source: Ahmadian et al. 2024 (RLOO, arXiv 2402.14740).
    """
    _require_group(scores)
    wide = widen(scores)
    others = (wide.sum(dim=1, keepdim=True) - wide) / (scores.shape[1] - 1)
    return wide - others


def _require_group(scores: Tensor) -> None:
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise ValueError(f"expected scores of shape (prompts, at least 2 answers), got {tuple(scores.shape)}")
