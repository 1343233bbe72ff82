"""How far annotators agree on each principle, and what a principle on which they do not is worth in
training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..algos.agreement import (
    agreement_interval,
    kendall_tau_b,
    krippendorff_alpha_ordinal,
    ranking_units,
    raw_pair_agreement,
)
from ..data.paths import shown
from ..data.records import Ranking
from ..errors import UserError

__all__ = ["PrincipleAgreement", "agreement_table", "measure_agreement", "principle_weights", "rank_tensor"]


@dataclass(frozen=True)
class PrincipleAgreement:
    """Agreement on one principle; None is "cannot be said" (one annotator, nothing ranked twice, nobody
    varied).

    alpha: ordinal Krippendorff over all answers; pair_agreement: share of answer pairs ordered alike, ties
    included; tau_b: mean Kendall tau-b over prompts and pairs of annotators; pairs: how many pairs of answers
    two annotators both ordered; intervals: 95 % bootstrap over prompts; weight: the factor that training
    uses.
    """

    alpha: float | None
    alpha_interval: tuple[float, float] | None
    pair_agreement: float | None
    pair_interval: tuple[float, float] | None
    tau_b: float | None
    pairs: int
    annotators: int
    flagged: bool | None
    weight: float


def rank_tensor(rankings: Sequence[Ranking], principle: str) -> Tensor:
    """Ranks as (N, R, K): prompts x annotators x answers, float, nan = not ranked (or fewer than K answers).

    Raises:
        UserError: two annotators ranked different answers under one prompt, or one annotator ranked a prompt
        twice.
    """
    annotators = sorted({ranking.annotator for ranking in rankings})
    prompts = list(dict.fromkeys(ranking.id for ranking in rankings))
    most = max((len(ranking.responses) for ranking in rankings), default=0)
    ranks = torch.full((len(prompts), len(annotators), most), torch.nan)
    place = {prompt: row for row, prompt in enumerate(prompts)}
    answers: dict[str, tuple[str, ...]] = {}
    seen: set[tuple[str, str]] = set()
    for ranking in rankings:
        if (
            answers.setdefault(ranking.id, ranking.responses) != ranking.responses
            or (ranking.id, ranking.annotator) in seen
        ):
            who = shown(ranking.annotator, 40)
            raise UserError(
                f"ranking {shown(ranking.id)!r} by {who!r}: other answers or a second one, "
                "expected one ranking of the same answers"
            )
        seen.add((ranking.id, ranking.annotator))
        given = [math.nan if rank is None else float(rank) for rank in ranking.ranks.get(principle, ())]
        if given:
            ranks[place[ranking.id], annotators.index(ranking.annotator), : len(given)] = torch.tensor(given)
    return ranks


def measure_agreement(
    rankings: Sequence[Ranking],
    principles: Sequence[str],
    flag_below: float = 0.4,
    samples: int = 500,
    seed: int = 0,
) -> dict[str, PrincipleAgreement]:
    """Agreement on each principle over all annotators of these rankings.

    A principle whose alpha is below `flag_below` is flagged, and its weight falls in proportion, alpha /
    flag_below, to 0 at alpha 0. Where alpha cannot be said, nothing is flagged and the weight is 1.
    """
    return {name: _measured(rank_tensor(rankings, name), flag_below, samples, seed) for name in principles}


def _measured(ranks: Tensor, flag_below: float, samples: int, seed: int) -> PrincipleAgreement:
    shared, pairs = _shared_pairs(ranks)
    ranks = ranks[shared]
    annotators = int((~ranks.isnan()).any(dim=2).any(dim=0).sum()) if len(ranks) else 0
    if pairs == 0:
        return PrincipleAgreement(None, None, None, None, None, 0, annotators, None, 1.0)

    def alpha_of(part: Tensor) -> float:
        return krippendorff_alpha_ordinal(ranking_units(part))

    alpha, alpha_interval = _interval(ranks, alpha_of, samples, seed)
    agreement, pair_interval = _interval(ranks, raw_pair_agreement, samples, seed)
    flagged = None if alpha is None else alpha < flag_below
    weight = max(0.0, alpha / flag_below) if alpha is not None and flagged else 1.0
    return PrincipleAgreement(
        alpha, alpha_interval, agreement, pair_interval, _mean_tau(ranks), pairs, annotators, flagged, weight
    )


def _shared_pairs(ranks: Tensor) -> tuple[Tensor, int]:
    """(N,) bool, True = two annotators ordered the same pair of answers; and how many such pairs there are in
    all."""
    ranked = (~ranks.isnan()).double()
    count = torch.zeros(ranks.shape[0], dtype=torch.float64)
    for a, b in itertools.combinations(range(ranks.shape[1]), 2):
        both = (ranked[:, a] * ranked[:, b]).sum(dim=1)
        count += both * (both - 1) / 2
    return count > 0, int(count.sum())


def _interval(
    ranks: Tensor, statistic: Callable[[Tensor], float], samples: int, seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    estimate = statistic(ranks)
    if not math.isfinite(estimate):
        return None, None
    found = agreement_interval(ranks, statistic, samples=samples, seed=seed)
    ends = (found.low, found.high)
    return estimate, ends if all(map(math.isfinite, ends)) else None


def _mean_tau(ranks: Tensor) -> float | None:
    taus = [kendall_tau_b(ranks[:, a], ranks[:, b]) for a, b in itertools.combinations(range(ranks.shape[1]), 2)]
    mean = float(torch.cat(taus).nanmean())
    return mean if math.isfinite(mean) else None


def principle_weights(
    agreement: Mapping[str, PrincipleAgreement], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The weight of each principle after agreement: the given one (1 if not named) times its factor.

    Raises:
        UserError: nothing is left: the annotators agree on no principle.
    """
    made = {name: (weights or {}).get(name, 1.0) * found.weight for name, found in agreement.items()}
    if made and not any(weight > 0 for weight in made.values()):
        raise UserError("the annotators agree on no principle (alpha 0 or less), expected some; look at the rankings")
    return made


def agreement_table(agreement: Mapping[str, PrincipleAgreement]) -> str:
    """The agreement for a terminal, one line a principle; flagged ones say so."""
    lines = ["principle       pairs  raw    tau-b  alpha (95 %)           weight"]
    for name, found in agreement.items():
        ends = "({:.2f} to {:.2f})".format(*found.alpha_interval) if found.alpha_interval else ""
        numbers = [f"{v:.2f}" if v is not None else "-" for v in (found.pair_agreement, found.tau_b, found.alpha)]
        flag = "  flagged: too little agreement, weighs less" if found.flagged else ""
        lines.append(
            f"{shown(name, 15):<15} {found.pairs:>5}  {numbers[0]:<5}  {numbers[1]:<5}  {numbers[2]:<5} "
            f"{ends:<17} {found.weight:.2f}{flag}"
        )
    return "\n".join(lines)
