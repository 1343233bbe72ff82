"""Losses that learn from orders: soft Bradley-Terry, Plackett-Luce and DPO.

A rank is 1 for the best answer; equal ranks are a tie; nan is an answer that was not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from bessemer.algos.masked import Loss, masked_sum, same_shape, widen

__all__ = [
    "aggregate_targets",
    "dpo_loss",
    "pair_correctness",
    "pair_targets",
    "plackett_luce",
    "soft_bradley_terry",
]


def pair_targets(ranks: Tensor) -> Tensor:
    """Return P(answer i beats answer j) for every pair: 1, 0, 0.5 for a tie, nan if either rank is missing.

    ranks: (..., K) floating, nan = missing. Returns (..., K, K), [i, j]; the diagonal is nan.
    """
    lead = widen(ranks).unsqueeze(-2) - widen(ranks).unsqueeze(-1)
    targets = torch.where(lead > 0, 1.0, torch.where(lead < 0, 0.0, 0.5)).to(lead.dtype)
    itself = torch.eye(ranks.shape[-1], dtype=torch.bool, device=ranks.device)
    return targets.masked_fill(lead.isnan() | itself, torch.nan)


def aggregate_targets(ranks: Sequence[Tensor], weights: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    """Return the weighted share of annotators who put i before j, and the weight of all who judged the pair.

    ranks: one (..., K) an annotator, nan = missing. weights: one >= 0 an annotator, 1 by default.
    Returns (targets, pair_weights), both (..., K, K); a pair nobody judged is nan with weight 0.
    """
    if not ranks or (weights is not None and len(weights) != len(ranks)):
        raise ValueError(f"expected a weight for each of {len(ranks)} annotators, at least one")
    votes = pair_targets(torch.stack(list(ranks)))
    each = torch.ones(len(ranks)) if weights is None else torch.tensor(weights)
    each = each.to(votes).reshape(-1, *[1] * (votes.dim() - 1))
    cast = torch.where(votes.isnan(), 0.0, each)
    total = cast.sum(dim=0)
    return (cast * votes.nan_to_num(0.0)).sum(dim=0) / total, total


def pair_correctness(scores: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where scores order a pair as its target does, 0 where not, 0.5 if equal, nan if undecided.

    scores: (..., K). targets: (..., K, K) of `pair_targets`; nan, 0.5 and the diagonal are undecided.
    Returns (..., K, K), symmetric; count each pair once.
    """
    margin = widen(scores.detach()).unsqueeze(-1) - widen(scores.detach()).unsqueeze(-2)
    same_shape(margin, targets)
    agreement = torch.sign(margin) * torch.sign(targets - 0.5)
    return (0.5 * (agreement + 1)).masked_fill(targets.isnan() | (targets == 0.5), torch.nan)


def soft_bradley_terry(
    scores: Tensor,
    targets: Tensor,
    center: float = 0.0,
    pair_weights: Tensor | None = None,
    cell_weights: Tensor | None = None,
    principles: Sequence[str] | None = None,
) -> Loss:
    """Return the cross-entropy of sigmoid(s_i - s_j) with soft targets, each prompt x principle weighing 1.

    scores: (B, K, P). targets: (B, K, K, P), P(i beats j), nan = missing; only i < j is read, so pad K with
    nan. A cell (prompt, principle) spreads weight 1 over its n judged pairs, evenly (1 / C(K, 2)) or in
    proportion to pair_weights (B, K, K, P) >= 0. cell_weights (B, P) >= 0 weighs cells, 1 by default.
    center: adds center * (s_i + s_j)^2, which pins the prompt's free constant (Eisenstein et al. 2023).
    count: the (weighted) number of cells with a judged pair. Metrics: `accuracy` and `accuracy/<principle>`
    over decided pairs, equal scores counting half. Sources: InstructGPT (Ouyang et al. 2022), equation 1;
    ties as 0.5.
    """
    batch, k, width = scores.shape
    i, j = torch.triu_indices(k, k, offset=1, device=scores.device)
    target = widen(targets)[:, i, j]
    same_shape(
        targets,
        scores.unsqueeze(2).expand(batch, k, k, width),
        targets if pair_weights is None else pair_weights,
    )
    valid = ~target.isnan()
    left, right = widen(scores)[:, i], widen(scores)[:, j]
    margin, level = torch.where(valid, left - right, 0.0), torch.where(valid, left + right, 0.0)
    target = torch.where(valid, target, 0.5)
    losses = target * softplus(-margin) + (1 - target) * softplus(margin) + center * level.square()
    each = torch.ones_like(losses) if pair_weights is None else widen(pair_weights)[:, i, j]
    weight = torch.where(valid, each, 0.0)
    total = weight.sum(dim=1)
    cells = (total > 0).to(losses.dtype)
    if cell_weights is not None:
        same_shape(cells, cell_weights)
        cells = cells * widen(cell_weights)
    share = weight / torch.where(total > 0, total, 1.0).unsqueeze(1)
    loss = ((losses * share).sum(dim=1) * cells).sum()
    return Loss(loss, cells.sum(), _accuracies(scores, targets, principles))


def _accuracies(scores: Tensor, targets: Tensor, principles: Sequence[str] | None) -> dict[str, tuple[Tensor, Tensor]]:
    names = [str(p) for p in range(scores.shape[2])] if principles is None else list(principles)
    if len(names) != scores.shape[2]:
        raise ValueError(f"expected {scores.shape[2]} names of principles, got {len(names)}")
    correct = pair_correctness(scores.movedim(2, 1), targets.movedim(3, 1)).triu(diagonal=1)
    upper = torch.ones_like(correct, dtype=torch.bool).triu(diagonal=1)
    decided = upper & ~correct.isnan()
    metrics = {"accuracy": (masked_sum(correct, decided), decided.sum())}
    for p, name in enumerate(names):
        metrics[f"accuracy/{name}"] = (masked_sum(correct[:, p], decided[:, p]), decided[:, p].sum())
    return metrics


def plackett_luce(scores: Tensor, ranks: Tensor) -> Loss:
    """Return minus the log-probability of choosing the answers best first, each by softmax over those left.

    scores, ranks: (..., K); nan rank = the answer is left out. Ties as Breslow: each of the tied answers is
    chosen from all that are not ranked before it, the tied ones included, so a tie pulls its scores together;
    two tied answers alone give twice the soft Bradley-Terry loss at 0.5. Not divided by the number of
    choices: without ties exp(-loss) of one cell is a probability, and K = 2 is Bradley-Terry.
    count: cells (leading dimensions) with at least two ranked answers. Metric: `accuracy` over decided pairs.
    Sources: Plackett 1975; Breslow 1974 for ties.
    """
    same_shape(scores, ranks)
    known = ~ranks.isnan()
    scores = torch.where(known, widen(scores), 0.0)
    left = (ranks.unsqueeze(-2) >= ranks.unsqueeze(-1)) & known.unsqueeze(-2)
    # A row of nothing but -inf has a nan gradient, so an unranked answer is chosen from itself alone.
    left = left | torch.eye(ranks.shape[-1], dtype=torch.bool, device=ranks.device)
    choices = torch.logsumexp(torch.where(left, scores.unsqueeze(-2), -torch.inf), dim=-1) - scores
    cells = known.sum(dim=-1) >= 2
    correct = pair_correctness(scores, pair_targets(ranks))
    decided = ~correct.isnan()
    metrics = {"accuracy": (masked_sum(correct, decided) / 2, decided.sum() / 2)}
    return Loss(masked_sum(choices.sum(dim=-1), cells), cells.sum(), metrics)


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float | Tensor = 0.0,
) -> Loss:
    """Return the Bradley-Terry loss of beta * (log pi - log ref), the reward that a policy stands for.

    chosen, rejected, ref_chosen, ref_rejected: (B,) log-probabilities of whole answers, summed over their
    tokens; gradient flows through the first two. label_smoothing: the probability, one or (B,), that the
    labels are the wrong way round; 0.5 = a tie. Metrics: `accuracy` (equal counts half), `margin`,
    `chosen_reward`, `rejected_reward`. Sources: Rafailov et al. 2023, equation 7; Mitchell 2023 (conservative
    DPO).
    """
    same_shape(chosen, rejected, ref_chosen, ref_rejected)
    chosen_reward = beta * (widen(chosen) - widen(ref_chosen.detach()))
    rejected_reward = beta * (widen(rejected) - widen(ref_rejected.detach()))
    margin = chosen_reward - rejected_reward
    losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    count = torch.tensor(margin.numel(), device=margin.device)
    means = {
        "accuracy": 0.5 * (torch.sign(margin) + 1),
        "margin": margin,
        "chosen_reward": chosen_reward,
        "rejected_reward": rejected_reward,
    }
    return Loss(losses.sum(), count, {name: (x.detach().sum(), count) for name, x in means.items()})
