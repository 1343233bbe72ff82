"""What the import stage hands over, whatever it was read from; and how files of records become that."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bessemer.data.mixture import permutation
from bessemer.data.paths import shown
from bessemer.data.readers import read_any
from bessemer.data.records import Conversation, Document, Example, Message, Prompt, Ranking, Record
from bessemer.data.references import text_facts
from bessemer.data.schema import subject_of
from bessemer.errors import UserError

__all__ = ["Imported", "bank_shares", "check_apart", "from_records", "limited", "sample_text"]


@dataclass
class Imported:
    """Everything of one import. conversations: by "train", "val", "test"; prompts: by "rank", "ppo",
    "heldout"."""

    format: str
    examples: list[Example] = field(default_factory=list)
    conversations: dict[str, list[Conversation]] = field(default_factory=dict)
    prompts: dict[str, list[Prompt]] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    wordings: bytes | None = None

    def files(self) -> dict[str, Sequence[Record]]:
        """File name -> its records, empty ones left out."""
        named: dict[str, Sequence[Record]] = {"examples": self.examples, **self.conversations, **self.prompts}
        named |= {"general": self.documents, "rankings": self.rankings}
        return {f"{name}.jsonl": records for name, records in named.items() if records}


def check_apart(found: Imported) -> None:
    """Refuse questions of rank, ppo or heldout that sft learns from, held-out ones that are ranked, and
    rank's in ppo.

    Two questions are the same when text and photographs are; where there are photographs the text alone must
    differ too.

    Raises:
        UserError: naming the question.
    """
    learned = {_question(conversation.messages) for conversation in found.conversations.get("train", ())}
    asked = {name: {_question(prompt.messages) for prompt in prompts} for name, prompts in found.prompts.items()}
    pairs = [("train", learned, name) for name in asked]
    pairs += [(first, asked[first], "heldout") for first in ("rank", "ppo") if first in asked and "heldout" in asked]
    pairs += [("rank", asked["rank"], "ppo")] if "rank" in asked and "ppo" in asked else []
    for first, questions, second in pairs:
        for question in sorted(questions & asked[second]):
            raise UserError(
                f"the question {shown(question[1])!r} stands in {first} and {second}, expected them apart; "
                "reword it, or remove the record that stands twice"
            )
    if found.examples:
        spoken = {text for _, text in learned}
        for name, questions in asked.items():
            for _, text in sorted(questions):
                if text in spoken:
                    raise UserError(f"the wording {shown(text)!r} stands in train and in {name}, expected other words")


def _question(messages: Sequence[Message]) -> tuple[str, str]:
    """The photographs, and all that was said up to the last question, normalised."""
    end = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
    images = ",".join(image.sha256 for message in messages for image in message.images)
    return images, "\n".join(" ".join(message.text.casefold().split()) for message in messages[: end + 1])


def from_records(
    path: Path,
    *,
    image_root: Path | None,
    skip_bad: Path | None,
    seed: int,
    shares: Mapping[str, float],
    limits: Mapping[str, int],
) -> Imported | list[Example]:
    """A file of records: conversations split into parts, preferences as rankings, text as general documents,
    examples as they are.

    Of the photographs (questions without one) a share is only measured on ("test"), a share of the rest asked by rank
    and ppo ("bank"), a share validated on ("val"); all conversations about one are in its part. The answer on file is
    the reference that the rules judge by. A conversation that stands twice counts once, and of several answers to one
    question the first is its reference.

    Raises:
        UserError: see `read_any`; a share that leaves nothing; prompts without anything to learn from.
    """
    reading = read_any(path, image_root=image_root, skip_bad=skip_bad)
    kinds = {type(record) for record in reading.records}
    if kinds == {Example}:
        return [record for record in reading.records if isinstance(record, Example)]
    found = Imported(reading.format)
    found.documents = [record for record in reading.records if isinstance(record, Document)]
    found.rankings = [record for record in reading.records if isinstance(record, Ranking)]
    given = [record for record in reading.records if isinstance(record, Conversation)]
    conversations = list({(_question(c.messages), _said(c.messages)): c for c in reversed(given)}.values())[::-1]
    if len(conversations) < len(given):
        print(f"import: {len(given) - len(conversations)} conversations stand twice and count once", file=sys.stderr)
    subjects = [subject_of(conversation.messages[:-1]) for conversation in conversations]
    different = list(dict.fromkeys(subjects))
    part_of = dict(zip(different, _parts(len(different), shares, seed), strict=True))
    parts = [part_of[subject] for subject in subjects]
    conversations = [_grouped(c, subject) for c, subject in zip(conversations, subjects, strict=True)]
    for part in ("train", "val", "test"):
        found.conversations[part] = [c for c, mine in zip(conversations, parts, strict=True) if mine == part]
    own = [record for record in reading.records if isinstance(record, Prompt)]
    bank = own + _prompts([c for c, mine in zip(conversations, parts, strict=True) if mine == "bank"])
    bank = [bank[i] for i in permutation(len(bank), "bank", seed)]
    heldout = _prompts(found.conversations["test"])
    found.prompts = bank_shares(bank, limits) | {"heldout": heldout[: limits["heldout"] or None]}
    return found


def bank_shares(bank: Sequence[Prompt], wanted: Mapping[str, int]) -> dict[str, list[Prompt]]:
    """The questions of "rank" and "ppo", none in both; where there are fewer than both want, they share them by what
    they want."""
    rank, ppo = wanted["rank"], wanted["ppo"]
    cut = min(rank, -(-len(bank) * rank // max(1, rank + ppo)))
    return {"rank": list(bank[:cut]), "ppo": list(bank[cut : cut + ppo])}


def _parts(n: int, shares: Mapping[str, float], seed: int) -> list[str]:
    """A part for each of n photographs or questions, at random; "train" where no share claims it."""
    if not all(0 <= share < 1 for share in shares.values()):
        raise UserError(f"shares {dict(shares)}, expected numbers from 0 to less than 1")
    parts = ["train"] * n
    left = permutation(n, "records", seed)
    for name in ("test", "bank", "val"):
        count = round(shares[name] * len(left))
        for index in left[:count]:
            parts[index] = name
        left = left[count:]
    if n and not left:
        raise UserError(f"{n} photographs or questions leave none to train on, expected more of them or smaller shares")
    return parts


def _said(messages: Sequence[Message]) -> str:
    return " ".join(messages[-1].text.split())


def _grouped(conversation: Conversation, subject: str) -> Conversation:
    """With what it is about as its group, unless it has one: whoever measures must not take two for independent."""
    return replace(conversation, provenance={"group": subject, **conversation.provenance})


def _prompts(conversations: Sequence[Conversation]) -> list[Prompt]:
    """Each question once, with the first answer as its reference."""
    return [_prompt(c) for c in {_question(c.messages): c for c in reversed(conversations)}.values()][::-1]


def _prompt(conversation: Conversation) -> Prompt:
    """The conversation without its last answer, which is the reference to judge by."""
    *before, last = conversation.messages
    facts: dict[str, Any] = conversation.facts
    if "rule" not in facts:
        facts = facts | text_facts(last.text, conversation.task)
    return Prompt(conversation.id, tuple(before), conversation.task, conversation.scene, facts, conversation.provenance)


def sample_text(record: Record) -> str:
    """A record as plain text for a terminal."""
    if isinstance(record, Ranking):
        answers = "\n".join(
            f"  {[ranks[i] for ranks in record.ranks.values()]} {shown(text, 200)}"
            for i, text in enumerate(record.responses)
        )
        return f"{sample_text(record.prompt)}\n{answers}"
    if isinstance(record, Document):
        return f"  {shown(record.text, 200)}"
    if isinstance(record, Example):
        labels = ", ".join(f"{shown(name, 40)}={shown(value, 40)}" for name, value in record.labels.items())
        return f"  [{shown(Path(record.image.path).name)}] {labels}"
    marks = {"system": "#", "user": ">", "assistant": "<"}
    lines = []
    for message in record.messages:
        images = "".join(f"[{shown(Path(image.path).name, 60)}] " for image in message.images)
        lines.append(f"  {marks[message.role]} {images}{shown(message.text, 300)}")
    return "\n".join(lines)


def limited(examples: Sequence[Example], limits: Mapping[str, int], seed: int) -> list[Example]:
    """At most so many examples of each split (0: all), a random choice, in their order."""
    kept: set[int] = set()
    for split in ("train", "val", "test"):
        mine = [i for i, example in enumerate(examples) if example.split == split]
        count = limits.get(split, 0) or len(mine)
        kept.update(mine[i] for i in permutation(len(mine), "limit", split, seed)[:count])
    return [example for i, example in enumerate(examples) if i in kept]
