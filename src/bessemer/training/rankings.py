"""Rankings as batches: all answers to a prompt in one element, with soft targets for every pair and principle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bessemer.algos.preference import aggregate_targets
from bessemer.data.batches import Packed, pack_answers, response_rows
from bessemer.data.mixture import epoch_order, permutation
from bessemer.data.records import Prompt, Ranking
from bessemer.data.render import Rendered
from bessemer.data.schema import subject_of
from bessemer.errors import UserError
from bessemer.models.feed import Feed

__all__ = ["RankedPrompt", "RankingBatch", "RankingBatches", "ranked_prompts", "split_by_subject"]


@dataclass(frozen=True)
class RankedPrompt:
    """One prompt with K answers and what all annotators together say of them.

    targets (K, K, P): share of annotators who put answer i before j, nan = nobody judged; pair_weights (K, K, P).
    temperatures: at which each of the model's own answers was drawn, those being the first; the others were borrowed
    from other prompts or made worse by rule.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ended: tuple[bool, ...]
    targets: Tensor
    pair_weights: Tensor
    temperatures: tuple[float, ...]

    @property
    def own(self) -> int:
        """How many of the answers were given to this prompt."""
        return len(self.temperatures)

    @property
    def usual(self) -> list[int]:
        """Places of the answers that were drawn at the first temperature, as those of the policy are."""
        return [place for place, value in enumerate(self.temperatures) if value == self.temperatures[0]]

    @property
    def subject(self) -> str:
        """What the prompt is about; see `subject_of`."""
        return subject_of(self.prompt.messages)


@dataclass(frozen=True)
class RankingBatch:
    """B prompts with K answers each (short ones are padded by targets of nan, never by tokens).

    packed: all answers of all prompts; places (A, 2): row and column of each of the A answers in the (B, K) grid;
    rows (M,): rows that predict each answer token; lengths (A,): tokens of each answer, summing to M; usual (A,) bool:
    those that were drawn as the policy's are; targets, pair_weights: (B, K, K, P).
    """

    packed: Packed
    places: Tensor
    rows: Tensor
    lengths: Tensor
    usual: Tensor
    targets: Tensor
    pair_weights: Tensor

    def grid(self, scores: Tensor) -> Tensor:
        """Scores (A, P) of the answers laid out as (B, K, P); absent answers score 0 and have no pair."""
        grid = scores.new_zeros(*self.targets.shape[:2], scores.shape[1])
        return grid.index_put((self.places[:, 0], self.places[:, 1]), scores)


def ranked_prompts(rankings: Sequence[Ranking], principles: Sequence[str]) -> list[RankedPrompt]:
    """Bring the rankings of all annotators together, prompt by prompt."""
    together: dict[tuple[str, tuple[str, ...]], list[Ranking]] = {}
    for ranking in rankings:
        together.setdefault((ranking.prompt.id, ranking.responses), []).append(ranking)
    found = []
    for group in together.values():
        first = group[0]
        ranks = [_ranks(ranking, principles) for ranking in group]
        targets, weights = aggregate_targets(ranks)
        pairwise = (targets.permute(1, 2, 0), weights.permute(1, 2, 0))
        if bool(targets.isnan().all()):
            continue  # nobody judged a pair
        drawn_at = _temperatures(first)
        found.append(RankedPrompt(first.prompt, first.responses, first.ended, *pairwise, drawn_at))
    if not found:
        raise UserError("no rankings, expected at least one; run the rank stage or give it files made by people")
    if len(found) < len(together):
        print(f"reward: {len(together) - len(found)} of {len(together)} prompts have no judged pair", file=sys.stderr)
    return found


def _temperatures(ranking: Ranking) -> tuple[float, ...]:
    """Of the prompt's own answers, by what the rank stage noted; else all are its own, and drawn alike."""
    noted = ranking.prompt.provenance.get("temperatures")
    if isinstance(noted, list) and 0 < len(noted) <= len(ranking.responses):
        return tuple(map(float, noted))
    return (1.0,) * len(ranking.responses)


def _ranks(ranking: Ranking, principles: Sequence[str]) -> Tensor:
    """Ranks (P, K), nan where the annotator could not judge."""
    nothing = (None,) * len(ranking.responses)
    rows = [
        [float("nan") if rank is None else float(rank) for rank in ranking.ranks.get(name, nothing)]
        for name in principles
    ]
    return torch.tensor(rows)


def split_by_subject(
    items: Sequence[RankedPrompt], share: float, seed: int
) -> tuple[list[RankedPrompt], list[RankedPrompt]]:
    """Train and held-out part; all questions about a photograph, and all rankings of a question, are on one side."""
    ids = sorted({item.subject for item in items})
    count = max(1, round(share * len(ids)))
    if count >= len(ids):
        raise UserError(
            f"rankings of {len(ids)} photographs or questions, expected enough to train on and to hold some back; "
            "rank more"
        )
    held = {ids[index] for index in permutation(len(ids), "reward split", seed)[:count]}
    return [i for i in items if i.subject not in held], [i for i in items if i.subject in held]


class RankingBatches:
    """Batches of a step, a pure function of the step. Final."""

    def __init__(self, feed: Feed, items: Sequence[RankedPrompt], batch_size: int, cutoff: int, seed: int) -> None:
        self.feed, self.items = feed, list(items)
        self.batch_size = min(batch_size, len(self.items))
        self.steps_per_epoch = max(1, len(self.items) // self.batch_size)
        self.order = lru_cache(maxsize=2)(lambda epoch: epoch_order(len(self.items), seed, epoch))
        self.rendered: list[Rendered] = []
        self.answers: list[list[list[int]]] = []
        for item in self.items:
            prompt = feed.renderer.prompt(item.prompt.messages)
            room = cutoff - len(prompt.ids)
            if room < 2:
                raise UserError(
                    f"prompt {item.prompt.id}: {len(prompt.ids)} tokens, expected under cutoff_len={cutoff}"
                )
            self.rendered.append(prompt)
            self.answers.append(
                [
                    feed.renderer.answer_ids(text, end, room)
                    for text, end in zip(item.responses, item.ended, strict=True)
                ]
            )
        feed.prepare([item.prompt.messages for item in self.items])

    def __call__(self, step: int) -> list[RankingBatch]:
        """The one microbatch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return [self.batch(self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size])]

    def batch(self, chosen: Sequence[int]) -> RankingBatch:
        """The items at these places."""
        places = [(row, column) for row, index in enumerate(chosen) for column in range(len(self.answers[index]))]
        prompts = [self.rendered[chosen[row]] for row, _ in places]
        # an answer of no token at all still needs a place to be read at: the end of its prompt
        answers = [self.answers[chosen[row]][column] for row, column in places]
        packed, prompt_length, lengths = pack_answers(prompts, answers, self.feed.inputs(prompts))
        usual = torch.tensor([column in self.items[chosen[row]].usual for row, column in places])
        widest = max(len(self.answers[index]) for index in chosen)
        principles = self.items[chosen[0]].targets.shape[2]
        targets = torch.full((len(chosen), widest, widest, principles), float("nan"))
        weights = torch.zeros_like(targets)
        for row, index in enumerate(chosen):
            count = len(self.answers[index])
            targets[row, :count, :count] = self.items[index].targets
            weights[row, :count, :count] = self.items[index].pair_weights
        rows = response_rows(packed, prompt_length, lengths)
        return RankingBatch(packed, torch.tensor(places), rows, lengths, usual, targets, weights)
