"""Labelled photographs into conversations to learn from and prompts to answer, by a wordings file.

Every choice of a wording is a pure function of (seed, example, task): the same inputs give the same bytes.

The facts of a Prompt hold all that a judge needs:
    rule        "attributes" | "unanswerable"
    kind, task  of the task; a dialogue names the task of its last turn in `turn`
    asked       the attributes that the answer must state
    expected    {asked attribute: its true value}
    labels      {attribute: true value}, derived ones included; what is unknown is absent
    soft        {attribute: probability of its positive value}, where raters were unsure
    attributes  {name: {values, ordered, positive, safe, advice, says}}, what the parser and the judge read by
    choices     {value: first word} of the asked attribute, or {}: their log-odds give AUC
    length      [fewest, most] words of the answers that the wordings file would give
    reference   one such answer
    topic, declines, instead    of an unanswerable question
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

from ..data.mixture import interleaved
from ..data.paths import shown
from ..data.records import Conversation, Example, Message, Prompt
from ..errors import UserError
from .prose import CJK, words
from .wordings import Attribute, Task, Wordings

__all__ = ["Part", "attribute_prompts", "chosen", "conversations", "hashed", "prompts", "reading"]

T = TypeVar("T")
Part = Literal["bank", "test"]
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")
_ENDS_OPEN = re.compile(r"[^.!?。！？]$")


def conversations(
    wordings: Wordings, examples: Sequence[Example], seed: int, system: str | None = None
) -> list[Conversation]:
    """As many conversations for every example and task as the task's weight says, in the order of the
    examples.

    Tasks that need a label that is unknown are left out. A conversation's weight is the example's.

    Raises:
        UserError: a label whose value the wordings file does not know.
    """
    made = []
    for example in examples:
        labels = _labels(wordings, example)
        for name, task in wordings.tasks.items():
            for copy in range(_copies(task.weight, seed, example.id, name)):
                turns = _turns(wordings, name, task, labels, "train", (seed, example.id), copy)
                if not turns:
                    continue
                messages = _opening(system)
                for place, (question, answer, _) in enumerate(turns):
                    images = () if place else (example.image,)
                    messages += [Message("user", question, images), Message("assistant", answer)]
                facts = {"kind": task.kind, "asked": list(task.attributes), "labels": labels}
                made.append(
                    Conversation(
                        f"{example.id}:{name}" + (f":{copy}" if copy else ""), tuple(messages), name,
                        wordings.scene or example.scene, example.weight, facts,
                        {"example": example.id, "group": example.group},
                    )
                )  # fmt: skip
    return made


def _copies(weight: float, seed: int, example: str, name: str) -> int:
    """The weight rounded up or down, by chance of its fraction."""
    return int(weight) + (hashed("copies", seed, example, name) / 2**64 < weight % 1)


def prompts(
    wordings: Wordings,
    examples: Sequence[Example],
    which: Part,
    seed: int,
    system: str | None = None,
    limit: int | None = None,
    rounds: int = 1,
    tasks: Collection[str] | None = None,
) -> list[Prompt]:
    """Questions on the examples in the wordings of `bank` or `test`, mixed so that every prefix holds the
    tasks by their weights.

    Each (example, task) is asked once in every round, in another wording; `limit` cuts the list; of `tasks` alone, if
    they are given. A dialogue breaks off before an answer that depends on the seed; the turns before it are answered
    truly.
    """
    labels = [_labels(wordings, example) for example in examples]
    weights = {name: task.weight for name, task in wordings.tasks.items()}
    made: list[Prompt] = []
    for turn in range(rounds):
        for index, name in interleaved(weights, len(examples), "prompts", seed, turn):
            if limit is not None and len(made) >= limit:
                return made
            if tasks is not None and name not in tasks:
                continue
            prompt = _prompt(wordings, name, examples[index], labels[index], which, seed, turn, system)
            if prompt is not None:
                made.append(prompt)
    return made


def attribute_prompts(
    wordings: Wordings, examples: Sequence[Example], names: Collection[str], seed: int
) -> list[Prompt]:
    """One question an example and attribute, for the attributes named, in the wordings kept for tests; those about one
    example follow one another, so that whoever answers them looks at a photograph once."""
    asked = {
        name
        for name, task in wordings.tasks.items()
        if task.kind == "attribute" and task.attributes and task.attributes[0] in names
    }
    found = prompts(wordings, examples, "test", seed, tasks=asked)
    places = {example.id: place for place, example in enumerate(examples)}
    return sorted(found, key=lambda prompt: places[prompt.provenance["example"]])


def _prompt(
    wordings: Wordings,
    name: str,
    example: Example,
    labels: dict[str, str],
    which: Part,
    seed: int,
    turn: int,
    system: str | None,
) -> Prompt | None:
    turns = _turns(wordings, name, wordings.tasks[name], labels, which, (seed, example.id), turn)
    if not turns:
        return None
    last = 0
    if len(turns) > 1:
        last = chosen(range(1, len(turns)), turn, "last turn", seed, example.id, which)
    messages = _opening(system)
    for place, (question, answer, _) in enumerate(turns[: last + 1]):
        messages.append(Message("user", question, () if place else (example.image,)))
        if place < last:
            messages.append(Message("assistant", answer))
    facts = {
        **_facts(wordings, name, labels, turns[last][2]),
        "soft": {key: value for key, value in example.soft.items() if key in labels},
        "reference": turns[last][1],
    }
    return Prompt(
        f"{example.id}:{name}:{which}{turn}", tuple(messages), name, wordings.scene or example.scene, facts,
        {"example": example.id, "group": example.group, "wording": which},
    )  # fmt: skip


def _opening(system: str | None) -> list[Message]:
    return [Message("system", system)] if system else []


def _labels(wordings: Wordings, example: Example) -> dict[str, str]:
    for name, attribute in wordings.attributes.items():
        value = example.labels.get(name)
        if attribute.source is None and value is not None and value not in attribute.values:
            raise UserError(
                f"{shown(example.id)}: label {name} is {shown(value, 40)!r}, expected one of "
                f"{', '.join(attribute.values)}; correct the label or add the value to the wordings file"
            )
    return wordings.complete(example.labels)


def chosen(options: Sequence[T], turn: int, *key: str | int) -> T:
    """One of the options by the hash of the key, the next one each turn."""
    return options[(hashed(*key) + turn) % len(options)]


def hashed(*key: str | int) -> int:
    """A number below 2^64 that depends on the key alone."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:8], "big")


def _turns(
    wordings: Wordings,
    name: str,
    task: Task,
    labels: Mapping[str, str],
    part: str,
    key: tuple[int, str],
    turn: int,
) -> list[tuple[str, str, tuple[str, str]]]:
    """(question, true answer, (task, topic) they are of) of each turn; none when a label that is asked for is
    unknown."""
    seed, example = key
    if any(attribute not in labels for attribute in task.attributes):
        return []
    if task.kind == "dialogue":
        return [
            t
            for n in task.turns
            for t in _turns(wordings, n, wordings.tasks[n], labels, part, (seed, example + name), turn)
        ]
    topic = ""
    questions = task.questions
    answers: Sequence[str] = task.templates
    if task.kind == "unanswerable":
        topic = chosen(sorted(task.topics), turn, "topic", seed, example, name, part)
        questions, answers = task.topics[topic].questions, task.topics[topic].answers
    elif task.kind == "attribute":
        answers = task.answers[labels[task.attributes[0]]]
    usable = [answer for answer in answers if all(slot in labels for slot in wordings.slots(answer))]
    if questions is None or not usable:
        return []
    question = chosen(questions.of(part), turn, "question", seed, example, name, part, topic)
    answer = chosen(usable, turn, "answer", seed, example, name, part)
    return [(question, _filled(wordings, answer, labels, seed, example), (name, topic))]


def _filled(wordings: Wordings, answer: str, labels: Mapping[str, str], seed: int, example: str) -> str:
    """The answer with a phrase in place of every slot, closed by a full stop and with sentences beginning in
    capitals."""
    for slot in wordings.slots(answer):
        spoken = wordings.attributes[slot].phrases[labels[slot]]
        answer = answer.replace(f"{{{slot}}}", chosen(spoken, 0, "phrase", seed, example, slot), 1)
    if _ENDS_OPEN.search(answer):
        answer += "。" if re.search(f"[{CJK}]$", answer) else "."
    return _SENTENCE_START.sub(lambda found: found.group(1) + found.group(2).upper(), answer)


def _facts(wordings: Wordings, name: str, labels: Mapping[str, str], of: tuple[str, str]) -> dict[str, Any]:
    turn, topic = of
    task = wordings.tasks[turn]
    asked = list(task.attributes)
    facts: dict[str, Any] = {
        "rule": "unanswerable" if task.kind == "unanswerable" else "attributes",
        "kind": wordings.tasks[name].kind,
        "task": name,
        "asked": asked,
        "expected": {attribute: labels[attribute] for attribute in asked},
        "labels": dict(labels),
        "attributes": {key: reading(attribute) for key, attribute in wordings.attributes.items() if key in labels},
        "choices": dict(task.choices),
        "length": _length(wordings, task, topic),
    }
    if turn != name:
        facts["turn"] = turn
    if topic:
        facts |= {
            "topic": topic,
            "declines": list(task.declines),
            "instead": list(task.topics[topic].instead),
        }
    return facts


def reading(attribute: Attribute) -> dict[str, Any]:
    """What a judge and the parser need to know of an attribute, as facts."""
    return {
        "values": list(attribute.values),
        "ordered": attribute.ordered,
        "positive": attribute.positive,
        "safe": list(attribute.safe),
        "advice": attribute.advice,
        "says": {value: list(phrases) for value, phrases in attribute.says.items()},
    }


def _length(wordings: Wordings, task: Task, topic: str) -> list[int]:
    """Fewest and most words of the task's answers, slots counted by their shortest and longest phrases."""
    answers = task.topics[topic].answers if topic else task.templates or [a for v in task.answers.values() for a in v]
    shortest, longest = [], []
    for answer in answers:
        bare = len(words(re.sub(r"\{[^{}]*\}", " ", answer)))
        spoken = [
            [len(words(p)) for phrases in wordings.attributes[slot].phrases.values() for p in phrases]
            for slot in wordings.slots(answer)
        ]
        shortest.append(bare + sum(map(min, spoken)))
        longest.append(bare + sum(map(max, spoken)))
    return [min(shortest), max(longest)]
