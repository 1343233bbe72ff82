"""Who orders K answers to a prompt by each principle: rules, files made by people, simulated annotators;
`ai_judge` asks a model.

Every ranker gives `Ranking`s: one, or as many as there are annotators. What could not be judged is None
there, never a guess.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..data.mixture import permutation
from ..data.paths import shown
from ..data.records import Prompt, Ranking, read_records
from ..errors import UserError
from .judge import PRINCIPLES, judge

__all__ = ["People", "Ranker", "Rules", "Simulated", "ranks_of"]


class Ranker(Protocol):
    """Orders the answers to one prompt."""

    def rank(self, prompt: Prompt, responses: Sequence[str], ended: Sequence[bool]) -> list[Ranking]:
        """A ranking for each annotator; `ended` tells which answers the model itself closed."""
        ...


def ranks_of(scores: Sequence[float | None], tolerance: float) -> tuple[int | None, ...]:
    """Ranks from 1 (best) by descending score, equal ones sharing the better rank (1, 1, 3); None stays None.

    Scores within `tolerance` of the best of a rank are ties of it: measured from that best one, so that a
    chain of small steps does not tie what is far apart.
    """
    order = sorted((i for i, score in enumerate(scores) if score is not None), key=lambda i: -(scores[i] or 0.0))
    ranks: list[int | None] = [None] * len(scores)
    rank, best = 0, float("inf")
    for position, i in enumerate(order, start=1):
        score = scores[i] or 0.0
        if best - score > tolerance + 1e-9:  # 0.54 - 0.52 is a little more than 0.02
            rank, best = position, score
        ranks[i] = rank
    return tuple(ranks)


@dataclass(frozen=True)
class Rules:
    """The gold rule as an annotator: `judge`'s scores, ties within `tolerance`."""

    principles: Sequence[str] = PRINCIPLES
    tolerance: float = 0.02
    annotator: str = "rules"

    def rank(self, prompt: Prompt, responses: Sequence[str], ended: Sequence[bool]) -> list[Ranking]:
        """One ranking; the scores it comes from are in its provenance."""
        scores = [judge(prompt, text, end, self.principles) for text, end in zip(responses, ended, strict=True)]
        ranks = {name: ranks_of([score[name] for score in scores], self.tolerance) for name in self.principles}
        made_of = {
            "ranker": "rules",
            "scores": {name: [score[name] for score in scores] for name in self.principles},
        }
        order = tuple(range(len(responses)))
        return [Ranking(prompt.id, prompt, tuple(responses), tuple(ended), ranks, self.annotator, order, made_of)]


@dataclass(frozen=True)
class Simulated:
    """An annotator made up for demonstrations: the rules' scores with Gaussian noise of a stated width added
    before ordering.

    Named "simulated-..." wherever it appears. noise: standard deviation in units of the score; missing: share
    of answers it cannot judge. What it says depends on (seed, name, prompt, answer's place, principle) alone.
    """

    name: str
    noise: float
    seed: int = 0
    missing: float = 0.0
    principles: Sequence[str] = PRINCIPLES
    tolerance: float = 0.02

    def rank(self, prompt: Prompt, responses: Sequence[str], ended: Sequence[bool]) -> list[Ranking]:
        """One ranking by a noisy eye."""
        annotator = f"simulated-{self.name}"
        scores = [judge(prompt, text, end, self.principles) for text, end in zip(responses, ended, strict=True)]
        ranks = {}
        for principle in self.principles:
            seen: list[float | None] = []
            for place, score in enumerate(scores):
                chance = random.Random(f"{self.seed}/{annotator}/{prompt.id}/{place}/{principle}")
                value, unseen = score[principle], chance.random() < self.missing
                seen.append(None if value is None or unseen else value + chance.gauss(0.0, self.noise))
            ranks[principle] = ranks_of(seen, self.tolerance)
        order = tuple(permutation(len(responses), "shown", self.seed, annotator, prompt.id))
        made_of = {"ranker": "simulated", "noise": self.noise, "missing": self.missing, "seed": self.seed}
        return [Ranking(prompt.id, prompt, tuple(responses), tuple(ended), ranks, annotator, order, made_of)]


@dataclass(frozen=True)
class People:
    """Rankings from a file that people (or another tool) made of these answers."""

    path: Path
    rankings: dict[str, list[Ranking]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, skip_bad: Path | None = None) -> People:
        """Read the file; UserError "file:line: ..." for a bad row unless `skip_bad`."""
        found: dict[str, list[Ranking]] = {}
        for ranking in read_records(path, Ranking, skip_bad):
            found.setdefault(ranking.prompt.id, []).append(ranking)
        return cls(path, found)

    def rank(self, prompt: Prompt, responses: Sequence[str], ended: Sequence[bool]) -> list[Ranking]:
        """The rankings of this prompt, in the order of these responses; none when nobody ranked it.

        Raises:
            UserError: they are of other messages or other answers.
        """
        made = []
        for ranking in self.rankings.get(prompt.id, []):
            if ranking.prompt.messages != prompt.messages:
                raise self._other(ranking, "the messages of the prompt")
            if sorted(ranking.responses) != sorted(responses):
                raise self._other(ranking, "the answers")
            places = _places(responses, ranking.responses)
            ranks = {name: tuple(values[place] for place in places) for name, values in ranking.ranks.items()}
            order = tuple(places.index(place) for place in ranking.shown_order)
            provenance = {"ranker": "people", **ranking.provenance}
            made.append(
                Ranking(
                    ranking.id,
                    prompt,
                    tuple(responses),
                    tuple(ended),
                    ranks,
                    ranking.annotator,
                    order,
                    provenance,
                )
            )
        return made

    def _other(self, ranking: Ranking, what: str) -> UserError:
        return UserError(
            f"{shown(self.path, 200)}: ranking {shown(ranking.id)!r} by {shown(ranking.annotator, 40)!r}: "
            f"{what} differ, expected those that the rank stage sampled; rank those again"
        )


def _places(wanted: Sequence[str], given: Sequence[str]) -> list[int]:
    """Where each wanted answer stands among the given ones; equal texts in their order."""
    free = list(range(len(given)))
    places = []
    for text in wanted:
        place = next(i for i in free if given[i] == text)
        free.remove(place)
        places.append(place)
    return places
