"""The wordings file: the questions and answers in which labels are spoken, as data a person can edit.

    scene: equipment | environment | personnel                   (optional)
    attributes:
      NAME:
        values: [none, slight, severe]    an `ordered` attribute runs from harmless to grave
        ordered: true
        positive: severe                  the value that F1 and AUC are about
        safe: [none]                      "nothing needs doing"; default: all but `positive`, or the first of
        an ordered list says: {none: [no damage], ...}    phrases by which an answer is read; default: the
        value itself phrases: {none: [no damage], ...} what stands for `{NAME}` in an answer; default: as
        `says` from: OTHER  map: {a: none, ...}  a label that follows from another one, such as the action to
        take advice: true                      its values are actions; saying one is helpful
    tasks:                                every answer may hold `{NAME}` of an attribute
      NAME:
        kind: attribute   attribute, questions {train, bank, test}, answers {value: [...]}, choices {value:
        first word} kind: report      attributes, questions, answers [...]
        kind: dialogue    turns: names of attribute tasks, asked one after the other
        kind: unanswerable   declines: [phrases], topics: {NAME: {questions, answers, instead: [phrases]}}
        weight: 1.0       conversations a photograph: 0.5 every second one, 2 two, 0 none; and its share of
        the prompts

Every error names file, line and key. The loader refuses a question that stands in two of train, bank and
test, and an answer that the parser does not read as the value it was written for.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.paths import shown
from ..data.records import SCENES, Scene
from ..errors import UserError
from .located import Located, read_located
from .parse import bare_value, read_claims
from .prose import words

__all__ = [
    "KINDS",
    "PARTS",
    "Attribute",
    "Questions",
    "Task",
    "Topic",
    "Wordings",
    "check_name",
    "check_wordings",
    "load_wordings",
    "questions_of",
    "refuse_overlap",
    "unanswerable_task",
]

KINDS = ("attribute", "report", "dialogue", "unanswerable")
PARTS = ("train", "bank", "test")
_LONGEST = 200
_UNFIT = frozenset("{}")  # they mark slots
_SLOT = re.compile(r"\{([^{}]*)\}")
_ATTRIBUTE_KEYS = ("values", "ordered", "positive", "safe", "says", "phrases", "from", "map", "advice")
_TASK_KEYS = {
    "attribute": ("kind", "weight", "attribute", "questions", "answers", "choices"),
    "report": ("kind", "weight", "attributes", "questions", "answers"),
    "dialogue": ("kind", "weight", "turns"),
    "unanswerable": ("kind", "weight", "declines", "topics"),
}


@dataclass(frozen=True)
class Attribute:
    """A label: its values and how answers say them; `source` and `mapping` are set when it follows from
    another label."""

    values: tuple[str, ...]
    ordered: bool = False
    positive: str | None = None
    safe: tuple[str, ...] = ()
    says: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    advice: bool = False


@dataclass(frozen=True)
class Questions:
    """Wordings of one question: for sft, for rank and ppo, for the held-out part."""

    train: tuple[str, ...]
    bank: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, part: str) -> tuple[str, ...]:
        """The wordings of one part."""
        return {"train": self.train, "bank": self.bank, "test": self.test}[part]


@dataclass(frozen=True)
class Topic:
    """Something that the image cannot show; `instead` are the phrases that tell what could be done about
    it."""

    questions: Questions
    answers: tuple[str, ...]
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One kind of question; which fields are filled depends on `kind`, see the module."""

    kind: str
    weight: float = 1.0
    attributes: tuple[str, ...] = ()
    questions: Questions | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    turns: tuple[str, ...] = ()
    declines: tuple[str, ...] = ()
    topics: Mapping[str, Topic] = field(default_factory=dict)


@dataclass(frozen=True)
class Wordings:
    """Everything of one wordings file."""

    attributes: Mapping[str, Attribute]
    tasks: Mapping[str, Task]
    scene: Scene | None = None

    def slots(self, answer: str) -> tuple[str, ...]:
        """The attributes whose phrases an answer asks for."""
        return tuple(_SLOT.findall(answer))

    def complete(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels of the file's attributes, those that follow from another one included; unknown ones are
        left out."""
        known = {name: labels[name] for name, a in self.attributes.items() if a.source is None and name in labels}
        for name, attribute in self.attributes.items():
            if attribute.source in known:
                known[name] = attribute.mapping[known[attribute.source]]
        return known


def check_name(name: str) -> str:
    """The name of an attribute or a task, if it can be one.

    Raises:
        UserError: more than 200 characters, some that cannot be printed, a brace, or blanks at an end or in a row
            (the file's reader makes one of them).
    """
    plain = name.isprintable() and name == " ".join(name.split())
    if not plain or not 0 < len(name) <= _LONGEST or set(name) & _UNFIT:
        raise UserError(
            f"the name {shown(name)!r}, expected up to {_LONGEST} printable characters without braces and "
            "needless blanks; rename it, or leave it out"
        )
    return name


def load_wordings(path: Path | str) -> Wordings:
    """Read and check a wordings file.

    Raises:
        UserError: "file:line: key: what, expected what".
    """
    root = read_located(Path(path))
    top = root.entries(("scene", "attributes", "tasks"), required=("attributes", "tasks"))
    scene = next((s for s in SCENES if s == top["scene"].among(SCENES)), None) if "scene" in top else None
    attributes = _attributes(top["attributes"])
    tasks: dict[str, Task] = {}
    places = top["tasks"].entries()
    if not places:
        raise top["tasks"].error("no task, expected at least one")
    for name, place in sorted(places.items(), key=lambda item: _kind(item[1]) == "dialogue"):
        _named(place, name)
        tasks[name] = _task(place, attributes, tasks)
    refuse_overlap(places)
    return Wordings(attributes, {name: tasks[name] for name in places}, scene)


def check_wordings(text: str, file: str) -> Wordings:
    """The same of a text that is not written yet; `file` stands in the messages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "wordings.yaml")
        path.write_bytes(text.encode())
        try:
            return load_wordings(path)
        except UserError as error:
            raise UserError(str(error).replace(shown(path, 200), file)) from error


def _named(place: Located, name: str) -> None:
    try:
        check_name(name)
    except UserError as error:
        raise place.error(str(error)) from error


def _kind(place: Located) -> str:
    entries = place.entries()
    if "kind" not in entries:
        raise place.error("key 'kind' is missing")
    return entries["kind"].among(KINDS)


def _attributes(place: Located) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    sources = {}
    for name, entry in place.entries().items():
        _named(entry, name)
        found[name] = _attribute(name, entry)
        sources[name] = entry
    for name, attribute in found.items():
        if attribute.source is None:
            continue
        source = found.get(attribute.source)
        if source is None or source.source is not None:
            raise sources[name].error(f"from: {attribute.source!r}, expected an attribute that has labels of its own")
        if set(attribute.mapping) != set(source.values):
            raise sources[name].error(f"map: expected one entry for each of {', '.join(source.values)}")
    return found


def _attribute(name: str, place: Located) -> Attribute:
    entries = place.entries(_ATTRIBUTE_KEYS, required=("values",))
    values = entries["values"].texts(at_least=2)
    ordered = "ordered" in entries and entries["ordered"].flag()
    positive = entries["positive"].among(values) if "positive" in entries else None
    if "safe" in entries:
        safe = tuple(_inside(entries["safe"], v, values) for v in entries["safe"].texts(at_least=0))
    elif positive is not None and len(values) == 2:
        safe = tuple(value for value in values if value != positive)
    else:
        safe = values[:1] if ordered else ()
    says: dict[str, tuple[str, ...]] = {v: () if bare_value(v) else (v.replace("_", " "),) for v in values}
    says.update(_per_value(entries["says"], values) if "says" in entries else {})
    phrases: dict[str, tuple[str, ...]] = {value: spoken or (value,) for value, spoken in says.items()}
    phrases.update(_per_value(entries["phrases"], values) if "phrases" in entries else {})
    if ("from" in entries) != ("map" in entries):
        raise place.error("expected `from` and `map` together")
    mapping = {}
    if "map" in entries:
        mapping = {key: value.among(values) for key, value in entries["map"].entries().items()}
    attribute = Attribute(
        values, ordered, positive, safe, says, phrases,
        source=entries["from"].text() if "from" in entries else None,
        mapping=mapping,
        advice="advice" in entries and entries["advice"].flag(),
    )  # fmt: skip
    for value, spoken in phrases.items():
        if says[value]:
            for phrase in spoken:
                _check_reading(entries.get("phrases", place), {name: attribute}, phrase, value)
    return attribute


def _inside(place: Located, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise place.error(f"{shown(value, 40)!r}, expected one of {', '.join(known)}")
    return value


def _per_value(place: Located, values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {value: entry.texts() for value, entry in place.entries(values).items()}


def _task(place: Located, attributes: Mapping[str, Attribute], tasks: Mapping[str, Task]) -> Task:
    kind = _kind(place)
    entries = place.entries(
        _TASK_KEYS[kind], required=[key for key in _TASK_KEYS[kind] if key not in ("weight", "choices")]
    )
    weight = entries["weight"].number(0, 100) if "weight" in entries else 1.0
    if kind == "attribute":
        return _attribute_task(entries, attributes, weight)
    if kind == "report":
        names = tuple(_inside(entries["attributes"], n, list(attributes)) for n in entries["attributes"].texts())
        templates = entries["answers"].texts()
        _check_slots(entries["answers"], templates, names)
        return Task(kind, weight, names, questions_of(entries["questions"]), templates=templates)
    if kind == "dialogue":
        turns = entries["turns"].texts(at_least=2)
        for turn in turns:
            if turn not in tasks or tasks[turn].kind != "attribute":
                raise entries["turns"].error(f"{shown(turn, 40)!r}, expected names of tasks of kind attribute")
        return Task(kind, weight, tuple(dict.fromkeys(tasks[turn].attributes[0] for turn in turns)), turns=turns)
    return unanswerable_task(entries, weight)


def unanswerable_task(entries: Mapping[str, Located], weight: float) -> Task:
    """The task of a mapping with `declines` and `topics`; every answer must hold one of the declining
    phrases."""
    topics = {name: _topic(entry) for name, entry in entries["topics"].entries().items()}
    if not topics:
        raise entries["topics"].error("no topic, expected at least one")
    declines = entries["declines"].texts()
    for name, topic in topics.items():
        for answer in topic.answers:
            if not any(" ".join(words(phrase)) in " ".join(words(answer)) for phrase in declines):
                raise entries["topics"].error(f"{name}: {shown(answer)!r} holds none of the phrases in `declines`")
    return Task("unanswerable", weight, declines=declines, topics=topics)


def _attribute_task(entries: Mapping[str, Located], attributes: Mapping[str, Attribute], weight: float) -> Task:
    name = entries["attribute"].among(attributes)
    values = attributes[name].values
    choices = {}
    if "choices" in entries:
        choices = {value: entry.text() for value, entry in entries["choices"].entries(values, required=values).items()}
        if len({word.casefold() for word in choices.values()}) < len(choices):
            raise entries["choices"].error("expected a different word for each value")
    places = entries["answers"].entries(values, required=values)
    answers = {value: places[value].texts() for value in values}
    for value, spoken in answers.items():
        _check_slots(places[value], spoken, attributes)
        for answer in spoken:
            _check_reading(places[value], {name: attributes[name]}, _SLOT.sub("", answer), value, choices)
    return Task("attribute", weight, (name,), questions_of(entries["questions"]), answers, choices=choices)


def _check_reading(
    place: Located,
    attribute: Mapping[str, Attribute],
    answer: str,
    value: str,
    choices: Mapping[str, str] | None = None,
) -> None:
    """Refuse an answer that the parser would not read as the value it was written for."""
    name = next(iter(attribute))
    spec = {name: {"values": attribute[name].values, "says": attribute[name].says}}
    claim = read_claims(spec, answer, name, choices).get(name)
    if claim is None or claim.value != value:
        reads = "nothing" if claim is None else repr(claim.value) if claim.value else f"a {claim.problem} claim"
        raise place.error(
            f"{shown(answer)!r} reads as {reads} for attribute {name!r}, expected {value!r}; "
            f"begin with its choice word, or add its phrase to attributes.{name}.says"
        )


def _check_slots(place: Located, answers: Sequence[str], names: Iterable[str]) -> None:
    known = list(names)
    for answer in answers:
        for name in _SLOT.findall(answer):
            if name not in known:
                raise place.error(f"{{{shown(name, 40)}}} in {shown(answer)!r}, expected one of {', '.join(known)}")
        if set(_SLOT.sub("", answer)) & set("{}"):
            raise place.error(f"{shown(answer)!r}: broken braces, expected {{NAME}}")


def questions_of(place: Located) -> Questions:
    """The questions of a mapping with `train`, `bank` and `test`, none of them empty."""
    entries = place.entries(PARTS, required=PARTS)
    return Questions(*(entries[part].texts() for part in PARTS))


def _topic(place: Located) -> Topic:
    entries = place.entries(("questions", "answers", "instead"), required=("questions", "answers"))
    instead = entries["instead"].texts() if "instead" in entries else ()
    return Topic(questions_of(entries["questions"]), entries["answers"].texts(), instead)


def refuse_overlap(tasks: Mapping[str, Located]) -> None:
    """Refuse a question that stands in two parts, in whatever task, however it is spaced, cased or
    punctuated."""
    owner: dict[str, tuple[str, str]] = {}
    for task in tasks.values():
        entries = task.entries()
        holders = [entries] if "questions" in entries else []
        holders += [topic.entries() for topic in entries["topics"].entries().values()] if "topics" in entries else []
        for holder in holders:
            for part, place in holder["questions"].entries().items():
                for question in place.texts():
                    key = " ".join(words(question))
                    other, where = owner.setdefault(key, (part, place.key))
                    if other != part:
                        raise place.error(
                            f"{shown(question)!r} stands in {where} too, expected train, bank and test apart"
                        )
