"""Which single answers a report shows: the worst errors, and samples that nobody picked by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.report.metrics import about, prompt_score
from bessemer.report.outputs import Attribute, LabelledAnswer, ModelOutputs, PromptAnswer
from bessemer.report.pictured import outlines, true_outlines

__all__ = ["samples", "worst_errors"]


def confidence_in_truth(row: LabelledAnswer, attribute: Attribute) -> float:
    """The probability the model gave to the truth; 0 for an unreadable answer without one, 0.5 for other
    unknowns.

    With more than two values the probability of the positive one says nothing about which of the others was
    meant, so it is used where the truth or the answer is the positive value.
    """
    known = row.probability is not None and attribute.positive is not None
    if known and row.truth == attribute.positive:
        return float(row.probability or 0.0)
    if known and (len(attribute.values) == 2 or row.parsed == attribute.positive):
        return 1.0 - float(row.probability or 0.0)
    return 0.5 if row.parsed in attribute.values else 0.0


def distance(row: LabelledAnswer, attribute: Attribute) -> float:
    """How many steps of an ordered attribute the answer is off; infinite if unreadable, 1 if there is no
    order."""
    if row.parsed not in attribute.values:
        return math.inf
    if not attribute.ordered:
        return 1.0
    return abs(attribute.values.index(str(row.parsed)) - attribute.values.index(str(row.truth)))


def worst_errors(answers: Sequence[LabelledAnswer], attribute: Attribute, count: int = 20) -> list[dict[str, Any]]:
    """The wrong answers in which the model gave the truth the least probability, then the furthest off, then
    by id.

    An example that was asked several questions is listed once, with its worst answer.
    """
    wrong = [row for row in about(answers, attribute) if row.parsed != row.truth]
    wrong.sort(key=lambda r: (confidence_in_truth(r, attribute), -distance(r, attribute), r.id, r.question))
    first = {row.id: row for row in reversed(wrong)}
    chosen = sorted(first.values(), key=wrong.index)[:count]
    return [
        {
            "id": row.id,
            "image": row.image,
            "image_sha256": row.image_sha256,
            "attribute": row.attribute,
            "truth": row.truth,
            "parsed": row.parsed if row.parsed in attribute.values else None,
            "probability": row.probability,
            "question": row.question,
            "answer": row.text,
        }
        for row in chosen
    ]


def samples(models: Sequence[ModelOutputs], per_task: int = 2, count: int = 10) -> list[dict[str, Any]]:
    """The first held-out prompts of every task, in order of id, with the answer of each model that was asked.

    Tasks take turns until `count` is reached, so that no task is left out for another's third prompt.
    """
    asked: dict[str, PromptAnswer] = {}
    answers: dict[str, dict[str, Any]] = {}
    for model in models:
        for row in model.prompts:
            asked.setdefault(row.id, row)
            said = {"text": row.text, "score": prompt_score(row), "places": outlines(row)}
            answers.setdefault(row.id, {}).setdefault(model.name, said)  # the first, where there are several
    by_task: dict[str, list[PromptAnswer]] = {}
    for key in sorted(asked):
        by_task.setdefault(asked[key].task, []).append(asked[key])
    turns = [rows[turn] for turn in range(per_task) for _, rows in sorted(by_task.items()) if turn < len(rows)]
    return [_sample(row, answers[row.id]) for row in turns[:count]]


def _sample(row: PromptAnswer, answers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "image": row.image,
        "image_sha256": row.image_sha256,
        "task": row.task,
        "question": row.question,
        "reference": row.reference,
        "frame": row.visual["picture"][:2] if "picture" in row.visual else None,
        "places": true_outlines(row),
        "answers": dict(answers),
    }
