"""What a report says in sentences; each follows from a number in report.json, or is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.report.formats import percent, points, span
from bessemer.report.plots import METRIC_TITLES, headline_metric
from bessemer.report.sections import model_named

__all__ = ["headline", "limits", "method", "verdict"]

Report = Mapping[str, Any]
RULES = (
    "a rule-based annotator: a program that compares an answer with the known labels. No person took part, and "
    "its judgement is as good as its rules"
)


def headline(report: Report) -> str:
    """The result in plain sentences; every part is left out that was not measured."""
    metric, roles = headline_metric(report), report["roles"]
    model = model_named(report, roles["featured"])
    if metric is None or model is None or model[metric] is None:
        return f"An evaluation on {report['dataset']}."
    ends = f" (95 % interval {span(model[f'{metric}_interval'])} %)" if model[f"{metric}_interval"] else ""
    known = {
        roles["aligned"]: "the aligned model",
        roles["sft"]: "the fine-tuned model",
        roles["student"]: "the student",
    }
    part = known.get(model["name"], model["name"])
    if metric != "accuracy":
        what = METRIC_TITLES[metric].lower()
        sentences = [
            f"On {model['n_prompts']} held-out prompts, {part} reaches a {what} of {percent(model[metric])}{ends}."
        ]
    else:
        sentences = [
            f"On {model['n']} questions about test photographs, {part} is right "
            f"{percent(model[metric])} of the time{ends}."
        ]
    rivals = []
    for name, words in (
        (roles["trivial"], "the trivial answer"),
        (roles["base"], "the base model before any training"),
        ("tower", "the vision tower alone, fine-tuned as a classifier,"),
    ):
        other = model_named(report, name)
        if other is not None and other is not model and other[metric] is not None:
            rivals.append(f"{words} reaches {percent(other[metric])}")
    if rivals:
        joined = rivals[0] if len(rivals) == 1 else f"{', '.join(rivals[:-1])} and {rivals[-1]}"
        sentences.append(f"{joined[0].upper()}{joined[1:]}.")
    return " ".join(sentences)


def _moved(value: float, interval: Sequence[float] | None, what: str) -> str:
    if interval is None:
        return f"{what} moved by {points(value)} points (no interval: too few cases)"
    ends = f"95 % interval {points(interval[0])} to {points(interval[1])}"
    if interval[0] > 0 or interval[1] < 0:
        return f"{what} {'rose' if value > 0 else 'fell'} by {points(abs(value))[1:]} points ({ends})"
    return f"{what} moved by {points(value)} points, which is not distinguishable from no change ({ends})"


def verdict(report: Report) -> list[str]:
    """What reinforcement learning did, in sentences that follow from the intervals and not from hope."""
    own, control, roles = report["ppo_minus_sft"], report["shuffled_control"], report["roles"]
    sentences = []
    if own["score"] is not None:
        moved = _moved(own["score"], own["interval"], "the mean principle score")
        sentences.append(f"From {roles['sft']} to {roles['aligned']}, {moved}, on {own['n']} held-out prompts.")
    if own["accuracy"] is not None:
        moved = _moved(own["accuracy"], own["accuracy_interval"], "Accuracy on the test examples")
        sentences.append(f"{moved}.")
    if control["score"] is not None:
        moved = _moved(control["score"], control["interval"], "the score")
        low = None if control["interval"] is None else control["interval"][0]
        sentences.append(f"In the control, the same run with its rewards shuffled, {moved}.")
        if low is not None:
            meaning = "a gain is a warning" if low > 0 else "no gain is what should be seen"
            sentences[-1] += f" Shuffled rewards carry no information: {meaning}."
    return sentences


def method(report: Report) -> list[str]:
    """How the numbers came about; only what applies to this report."""
    called = {"rules": RULES}
    annotator, scorer = report["reward"]["annotator"], report["scorer"]
    found = []
    if annotator:
        found.append(f"Answers were ranked for the reward model by {called.get(annotator, annotator)}.")
    who = "the same rules" if annotator == scorer == "rules" else called.get(scorer, scorer)
    found += [
        f"Principle scores of held-out answers are given by {who}, never by the reward model.",
        "All outputs were saved before they were scored.",
        "Samples are the first prompts of each task in order of their id; nobody chose them.",
    ]
    each = {model["name"]: model["n_prompt_answers"] / max(1, model["n_prompts"]) for model in report["models"]}
    if (draws := max(each.values(), default=0)) > 1:
        base = each.get("base") or draws  # a model that was not asked is no exception
        but = "" if base == draws else f", by the base model {'once' if base == 1 else f'{base:.0f} times'}"
        found.append(f"Each held-out prompt was answered {draws:.0f} times{but}; its score is their mean.")
    if report["main_attribute"] is not None:
        found += [
            "An answer that cannot be read counts as wrong: as the other of two values, as the furthest of "
            "ordered values, else as a class of its own.",
            "AUC, average precision and calibration use the probability of the positive value, from the "
            "answer's log-odds.",
        ]
    clustered = any(model["interval_method"] != "wilson" for model in report["models"])
    grouped = "bootstraps over whole groups, since examples of one group are not independent"
    found.append(f"Intervals are 95 %: {grouped if clustered else 'Wilson for accuracy, bootstraps elsewhere'}.")
    return [
        *found,
        "Differences are paired: both models saw the same examples.",
        "Intervals say how far another test sample could move a number. They do not cover another training "
        f"seed: this is one run, seed {report['seed']}.",
        *report["provenance"]["notes"],
    ]


def limits(report: Report) -> list[str]:
    """What the reader must not conclude, and under which terms the parts stand."""
    return [
        "The figures hold for data like the test data: other cameras, products or sites need their own test.",
        "A model can be certain and wrong. Leave decisions that touch safety to people.",
        *report["provenance"]["licences"],
    ]
