"""Short definitions of many things, whatever they were read from, as questions and answers: each thing in one
part only, each part in wordings of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import UserError
from .mixture import permutation
from .records import Conversation, Message, Prompt
from .references import text_facts

__all__ = ["Definition", "Definitions", "define", "first_sentences"]

Part = Literal["train", "val", "bank", "test"]

_MIN_WORDS, _MAX_WORDS = 4, 40
_SENTENCE = re.compile(r"[.!](?=\s|$)")
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|fig|no)\.$", re.IGNORECASE)


@dataclass(frozen=True)
class Definition:
    """One thing: its name, its kind (a key of the questions), the answer to "what is it?", names that an answer may
    use though that one does not, and its part, which `define` decides."""

    name: str
    kind: str
    answer: str
    names: tuple[str, ...] = ()
    part: Part = "train"


@dataclass(frozen=True)
class Definitions:
    """The things of one source by name. questions: kind -> "train" | "bank" | "test" -> wordings with {name}."""

    dataset: str
    entries: tuple[Definition, ...]
    questions: Mapping[str, Mapping[str, tuple[str, ...]]]

    def conversations(self, part: Part, seed: int = 0, system: str | None = None) -> list[Conversation]:
        """Question and answer on each thing of a part, in the wordings to learn from."""
        return [
            Conversation(
                f"{self.dataset}:{entry.name}",
                (*_opening(system), Message("user", self._question(entry, "train", seed)), _said(entry)),
                self.dataset,
                facts={"kind": "text", "reference": entry.answer},
                provenance=self._origin(entry),
            )
            for entry in self.entries
            if entry.part == part
        ]

    def prompts(
        self,
        part: Literal["bank", "test"],
        seed: int = 0,
        system: str | None = None,
        limit: int | None = None,
        rounds: int = 1,
    ) -> list[Prompt]:
        """Questions on the things of a part, in that part's wordings and a shuffled order; another wording
        each round.

        The facts are those of `references.text_facts`.
        """
        mine = [entry for entry in self.entries if entry.part == part]
        made: list[Prompt] = []
        for turn in range(rounds):
            for index in permutation(len(mine), "prompts", seed, part, turn):
                entry = mine[index]
                facts = text_facts(entry.answer, self.dataset, entry.names)
                messages = (*_opening(system), Message("user", self._question(entry, part, seed, turn)))
                place = f"{self.dataset}:{entry.name}:{part}{turn}"
                made.append(Prompt(place, messages, self.dataset, None, facts, self._origin(entry)))
        return made[:limit]

    def _question(self, entry: Definition, wording: str, seed: int, turn: int = 0) -> str:
        options = self.questions[entry.kind][wording]
        first = permutation(len(options), "question", seed, entry.name, wording)[0]
        return options[(first + turn) % len(options)].replace("{name}", entry.name)

    def _origin(self, entry: Definition) -> dict[str, str]:
        return {"dataset": self.dataset, "object": entry.name}


def _opening(system: str | None) -> tuple[Message, ...]:
    return (Message("system", system),) if system else ()


def _said(entry: Definition) -> Message:
    return Message("assistant", entry.answer)


def define(
    dataset: str,
    found: Iterable[Definition],
    questions: Mapping[str, Mapping[str, tuple[str, ...]]],
    seed: int,
    test: float,
    bank: float,
    val: float,
) -> Definitions:
    """What was found, each name in one part at random by the shares (the rest is "train"); of a name or an
    answer that stands twice the first is kept.

    Raises:
        UserError: shares that leave nothing to train on.
    """
    if not (min(test, bank, val) >= 0 and test + bank + val < 1):
        raise UserError(f"shares test={test}, bank={bank}, val={val}, expected 0 or more each and less than 1 in all")
    kept: dict[str, Definition] = {}
    answers: set[str] = set()
    for one in found:
        if one.name not in kept and one.answer.casefold() not in answers:
            answers.add(one.answer.casefold())
            kept[one.name] = one
    ends = [round(share * len(kept)) for share in (test, test + bank, test + bank + val)]
    names = list(kept)
    parts: dict[str, Part] = {}
    for place, index in enumerate(permutation(len(names), dataset, seed)):
        parts[names[index]] = (
            "test" if place < ends[0] else "bank" if place < ends[1] else "val" if place < ends[2] else "train"
        )
    return Definitions(dataset, tuple(replace(one, part=parts[one.name]) for one in kept.values()), questions)


def first_sentences(paragraph: str, abbreviated: re.Pattern[str] = _ABBREVIATED) -> str | None:
    """The first sentence of a paragraph, with the second one if both are short; None when that makes no good
    answer: too short, too long, not begun with a capital letter.

    abbreviated: what ends with a full stop that ends no sentence.
    """
    sentences: list[str] = []
    rest = paragraph
    while rest and len(sentences) < 2:
        end = next((m.end() for m in _SENTENCE.finditer(rest) if not abbreviated.search(rest[: m.end()])), len(rest))
        sentences.append(rest[:end])
        rest = rest[end:].strip()
    text = sentences[0] if sentences else ""
    if len(sentences) > 1 and len(" ".join(sentences).split()) <= 25:
        text = " ".join(sentences)
    text = text.replace("``", "").replace("`", "'")
    if not text.endswith((".", "!")):
        text += "."
    usable = text[:1].isupper() and _MIN_WORDS <= len(text.split()) <= _MAX_WORDS and text.isprintable()
    return text if usable else None
