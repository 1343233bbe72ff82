"""Wordings back into YAML that a person can edit, with comments on what each part is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from .wordings import Attribute, Questions, Task, Topic, Wordings

__all__ = ["dump_wordings"]

_HEAD = """\
# What is asked about your photographs, and how the labels are spoken. Edit freely: `bessemer import` checks
# every line and names file, line and key of what it cannot use. Texts that hold : , ? # or brackets stand in
# quotes.
"""
_ATTRIBUTES = """\
# The labels.
#   values    as they stand in your folders or table; the positive one of two last
#   ordered   true: the values run from harmless to grave
#   positive  the value that F1 and AUC are about
#   safe      the values that mean "nothing needs doing": to call anything else by them counts as harmful
#   says      phrases by which an answer is read: add those that your people use
#   phrases   what stands for {NAME} in an answer
# A label can follow from another one, such as the action to take:
#   action: {values: [keep, repair], from: class, map: {good: keep, crack: repair}, advice: true, says: {...}}
"""
_TASKS = """\
# The questions. train: learned from; bank: ranked and improved on; test: only for measuring. No question may
# stand in two of them.
#   weight    conversations a photograph: 0.5 every second one, 0 none
#   answers   several wordings for each value, short, the deciding word first
#   choices   the first word of the answer for each value
"""


def dump_wordings(wordings: Wordings, comments: bool = True) -> str:
    """The YAML text of the wordings; `load_wordings` of it gives the same wordings again."""
    parts = [_HEAD if comments else "", _yaml({"scene": wordings.scene}) if wordings.scene else ""]
    attributes = {name: _attribute(attribute) for name, attribute in wordings.attributes.items()}
    parts += [_ATTRIBUTES if comments else "", _yaml({"attributes": attributes})]
    tasks = {name: _task(task) for name, task in wordings.tasks.items()}
    parts += [_TASKS if comments else "", _yaml({"tasks": tasks})]
    return "\n".join(part for part in parts if part)


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), allow_unicode=True, sort_keys=False, width=10_000))


def _lists(values: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {key: list(texts) for key, texts in values.items() if texts}


def _attribute(attribute: Attribute) -> dict[str, Any]:
    made: dict[str, Any] = {"values": list(attribute.values), "ordered": attribute.ordered}
    if attribute.positive is not None:
        made["positive"] = attribute.positive
    made |= {
        "safe": list(attribute.safe),
        "says": _lists(attribute.says),
        "phrases": _lists(attribute.phrases),
    }
    if attribute.source is not None:
        made |= {"from": attribute.source, "map": dict(attribute.mapping)}
    return made | ({"advice": True} if attribute.advice else {})


def _questions(questions: Questions) -> dict[str, list[str]]:
    return {"train": list(questions.train), "bank": list(questions.bank), "test": list(questions.test)}


def _task(task: Task) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": task.kind, "weight": task.weight}
    if task.kind == "attribute":
        made["attribute"] = task.attributes[0]
    elif task.kind == "report":
        made["attributes"] = list(task.attributes)
    elif task.kind == "dialogue":
        made["turns"] = list(task.turns)
    else:
        made |= {
            "declines": list(task.declines),
            "topics": {name: _topic(t) for name, t in task.topics.items()},
        }
    if task.questions is not None:
        made["questions"] = _questions(task.questions)
    if task.templates:
        made["answers"] = list(task.templates)
    if task.answers:
        made["answers"] = _lists(task.answers)
    return made | ({"choices": dict(task.choices)} if task.choices else {})


def _topic(topic: Topic) -> dict[str, Any]:
    made: dict[str, Any] = {"questions": _questions(topic.questions), "answers": list(topic.answers)}
    return made | ({"instead": list(topic.instead)} if topic.instead else {})
