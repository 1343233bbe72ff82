"""The wordings of questions about places, numbers and contents of pictures: visual.en.yaml, visual.zh.yaml, or a file
like them.

    names: {LABEL: [one, several, other words ...]}     one name alone serves for both; default: the label
    tasks:
      detect:    weight, questions {train, bank, test} with {labels}, none [answers with {labels}]
      segment:   as detect
      count:     weight, questions with {several}, one, several, none [answers with {n}, {one}, {several}]
      describe:  weight, questions
    and: what stands between two names in {labels}
    reasons: [sentences with {where}] behind a yes to whether a rule is broken

Every error names file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from pathlib import Path

from .located import Located, read_located
from .prose import CJK
from .wordings import Questions, questions_of, refuse_overlap

__all__ = ["VISUAL_TASKS", "VisualTask", "VisualWordings", "default_visual_wordings", "load_visual_wordings"]

VISUAL_TASKS = ("detect", "segment", "count", "describe")
_KEYS = {
    "detect": ("weight", "questions", "none"), "segment": ("weight", "questions", "none"),
    "count": ("weight", "questions", "one", "several", "none"), "describe": ("weight", "questions"),
}  # fmt: skip
_UNSAID = re.compile(r"[_{}\[\]［］]")  # brackets hold numbers, braces are slots
_SLOT = {"detect": "{labels}", "segment": "{labels}", "count": "{several}", "describe": ""}


@dataclass(frozen=True)
class VisualTask:
    """One kind of question; answers: "none", "one", "several" -> templates."""

    weight: float
    questions: Questions
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class VisualWordings:
    """Everything of one file. joint: what stands between two names."""

    names: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, VisualTask]
    joint: str
    reasons: tuple[str, ...]

    def about(self, labels: Iterable[str]) -> VisualWordings:
        """The same for these labels alone, with their names where the file has some: nobody looked for others, so that
        nothing can be said of them."""
        return replace(self, names={label: self.names.get(label, self.spoken(label)[:1]) for label in labels})

    def spoken(self, label: str) -> tuple[str, ...]:
        """The names of a label: for one, for several, then others; the label itself where the file has none."""
        plain = " ".join(_UNSAID.sub(" ", label).split())
        found = self.names.get(label, (plain or label,))
        return found if len(found) > 1 else found * 2

    def known(self, labels: Mapping[str, object] | tuple[str, ...]) -> dict[str, list[str]]:
        """Label -> all its names, for reading answers."""
        return {label: list(dict.fromkeys([*self.spoken(label), label])) for label in labels}


def default_visual_wordings(language: str) -> VisualWordings:
    """Ours, "en" or "zh"."""
    with as_file(files(__package__) / f"visual.{language}.yaml") as path:
        return load_visual_wordings(path)


def load_visual_wordings(path: Path) -> VisualWordings:
    """Read and check a file.

    Raises:
        UserError: "file:line: key: what, expected what".
    """
    root = read_located(path)
    top = root.entries(("names", "tasks", "and", "reasons"), required=("tasks",))
    names = {label: entry.texts() for label, entry in top["names"].entries().items()} if "names" in top else {}
    tasks = {name: _task(name, entry) for name, entry in top["tasks"].entries(VISUAL_TASKS).items()}
    refuse_overlap(top["tasks"].entries())
    if not tasks:
        raise top["tasks"].error("no task, expected at least one")
    reasons = top["reasons"].texts() if "reasons" in top else ()
    for text in reasons:
        if "{where}" not in text:
            raise top["reasons"].error(f"{text!r} without {{where}}, expected it to say where")
    # The joint's blanks matter, which `text` would take away; Chinese needs none.
    joint = top["and"].text() if "and" in top else "and"
    return VisualWordings(names, tasks, joint if re.search(f"[{CJK}]", joint) else f" {joint} ", reasons)


def _task(name: str, place: Located) -> VisualTask:
    entries = place.entries(_KEYS[name], required=[key for key in _KEYS[name] if key != "weight"])
    questions = questions_of(entries["questions"])
    slot = _SLOT[name]
    for text in (*questions.train, *questions.bank, *questions.test):
        if slot and slot not in text:
            raise entries["questions"].error(f"{text!r} without {slot}, expected it in every question")
    answers = {str(key): entries[key].texts() for key in ("none", "one", "several") if key in entries}
    for key, texts in answers.items():
        for text in texts:
            if name == "count" and key == "several" and "{n}" not in text:
                raise entries[key].error(f"{text!r} without {{n}}, expected the number")
    weight = entries["weight"].number(0, 100) if "weight" in entries else 1.0
    return VisualTask(weight, questions, answers)
