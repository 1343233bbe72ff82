"""From saved outputs to report.json, the one source of every number that is shown anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.checkpoint import write_atomic, write_json
from bessemer.report import metrics
from bessemer.report.cases import samples, worst_errors
from bessemer.report.html import render
from bessemer.report.outputs import Agreement, Attribute, Context, Evaluation, ModelOutputs, PromptAnswer
from bessemer.report.pictured import pictured_scores
from bessemer.report.schema import SCHEMA_VERSION, validate

__all__ = ["build", "write"]

CURVE_POINTS = 240


def main_attribute(context: Context) -> Attribute | None:
    """The attribute that accuracy is about."""
    return next((a for a in context.attributes if a.name == context.main), None)


def severity_attribute(context: Context) -> Attribute | None:
    """The first ordered attribute of more than two values."""
    return next((a for a in context.attributes if a.ordered and len(a.values) > 2), None)


def _by_prompt(
    rows: Sequence[PromptAnswer], value: Callable[[PromptAnswer], float | None]
) -> dict[str, tuple[float, str]]:
    """Prompt -> the mean value of its answers, of those that have one, and what it is resampled with."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if (one := value(row)) is not None:
            found.setdefault(row.id, []).append(one)
    clusters = {row.id: metrics.cluster(row) for row in rows}
    return {id: (sum(values) / len(values), clusters[id]) for id, values in found.items()}


def _token_f1(rows: Sequence[PromptAnswer]) -> dict[str, tuple[float, str]]:
    return _by_prompt(rows, lambda row: None if row.reference is None else metrics.token_f1(row.text, row.reference))


def _scores(rows: Sequence[PromptAnswer]) -> dict[str, tuple[float, str]]:
    return _by_prompt(rows, metrics.prompt_score)


def _mean(cases: Mapping[str, tuple[float, str]]) -> tuple[float | None, list[float] | None]:
    values = [cases[key] for key in sorted(cases)]
    return metrics.mean_with_interval([value for value, _ in values], [key for _, key in values])


def _correct(model: ModelOutputs | None, context: Context) -> dict[str, tuple[float, str]]:
    attribute = main_attribute(context)
    return {} if model is None or attribute is None else metrics.correctness(model.answers, attribute)


def _minus(new: ModelOutputs | None, old: ModelOutputs | None, context: Context) -> dict[str, Any]:
    """The paired differences of two models in accuracy, score and token-F1."""
    result: dict[str, Any] = {}
    new_prompts, old_prompts = (() if model is None else model.prompts for model in (new, old))
    pairs = {
        "accuracy": (_correct(new, context), _correct(old, context)),
        "score": (_scores(new_prompts), _scores(old_prompts)),
        "token_f1": (_token_f1(new_prompts), _token_f1(old_prompts)),
    }
    for name, (a, b) in pairs.items():
        result[name], result[f"{name}_interval"], result[f"{name}_n"] = metrics.paired_difference(a, b)
    return result


def _by_task(rows: Sequence[PromptAnswer]) -> dict[str, Any]:
    """The score of each kind of question: a gain in most can hide the loss of one."""
    found = {}
    for task in sorted({row.task for row in rows}):
        scores = _scores([row for row in rows if row.task == task])
        mean, interval = _mean(scores)
        found[task] = {"n": len(scores), "score": mean, "score_interval": interval}
    return found


def _judged(model: ModelOutputs, context: Context) -> dict[str, Any]:
    """What the labelled answers of one model come to."""
    main = main_attribute(context) or Attribute("", ())
    severity = severity_attribute(context) or Attribute("", ())
    confusions = {a.name: metrics.confusion(model.answers, a) for a in context.attributes}
    found = metrics.detection(model.answers, main)
    return {
        **metrics.classification(model.answers, main),
        **metrics.ordinal(model.answers, severity),
        **found,
        "curves": found["curves"] or {},
        "slices": metrics.slices(model.answers, main, context.attributes),
        "confusion": {name: matrix for name, matrix in confusions.items() if matrix is not None},
    }


def _model(model: ModelOutputs, evaluation: Evaluation) -> dict[str, Any]:
    context = evaluation.context
    base = evaluation.model(context.base)
    score, score_interval = _mean(_scores(model.prompts))
    token_f1, token_f1_interval = _mean(_token_f1(model.prompts))
    firsts: dict[str, PromptAnswer] = {}
    for row in model.prompts:
        firsts.setdefault(row.id, row)
    ended = [row.ended for row in model.prompts if row.ended is not None]
    facts = dataclasses.asdict(model.facts)
    before = None if base is None else base.facts.perplexity_general
    after = model.facts.perplexity_general
    return {
        "name": model.name,
        **facts,
        **_judged(model, context),
        "principles": metrics.principle_means(model.prompts),
        "score": score,
        "score_interval": score_interval,
        "by_task": _by_task(model.prompts),
        "n_prompts": len(firsts),
        "n_prompt_answers": len(model.prompts),
        "token_f1": token_f1,
        "token_f1_interval": token_f1_interval,
        "pictured": pictured_scores(list(firsts.values())),
        "ended_rate": sum(ended) / len(ended) if ended else None,
        "minus_base": _minus(None if model.name == context.base else model, base, context),
        "perplexity_over_base": after / before if after is not None and before else None,
    }


def _reward(evaluation: Evaluation) -> dict[str, Any]:
    names = {pair.principle for pair in evaluation.reward_pairs} | set(evaluation.agreement)
    principles = {}
    for name in sorted(names):
        agreement = dataclasses.asdict(evaluation.agreement.get(name, Agreement()))
        for key in ("alpha_interval", "pair_interval"):
            agreement[key] = None if agreement[key] is None else list(agreement[key])
        pairs = [pair for pair in evaluation.reward_pairs if pair.principle == name]
        principles[name] = {
            **metrics.reward_accuracy(pairs),
            "agreement_alpha": agreement["alpha"],
            "agreement": agreement,
        }
    return {"annotator": evaluation.context.annotator, "principles": principles}


def _against_sft(name: str, evaluation: Evaluation) -> dict[str, Any]:
    context = evaluation.context
    gain = _minus(evaluation.model(name), evaluation.model(context.sft), context)
    return {
        "score": gain["score"],
        "interval": gain["score_interval"],
        "n": gain["score_n"],
        "accuracy": gain["accuracy"],
        "accuracy_interval": gain["accuracy_interval"],
    }


def _curves(lines: Sequence[Mapping[str, float | None]]) -> dict[str, list[list[float]]]:
    """{metric: [[step, value], ...]} of the numbers logged, at most CURVE_POINTS of each, the last one
    among them."""
    curves: dict[str, list[list[float]]] = {}
    for line in lines:
        step = line.get("step")
        for name, value in line.items():
            if name != "step" and step is not None and value is not None:
                curves.setdefault(name, []).append([step, value])
    for name, points in curves.items():
        stride = -(-len(points) // CURVE_POINTS)
        curves[name] = points[::-1][::stride][::-1]
    return dict(sorted(curves.items()))


def featured(evaluation: Evaluation) -> ModelOutputs | None:
    """The model whose errors, confusions and calibration are shown: the named one, else the first that was
    run."""
    context = evaluation.context
    preference = [context.featured, context.aligned, context.sft, context.student, context.base]
    found = [evaluation.model(name) for name in preference if name is not None]
    others = [model for model in evaluation.models if model.name not in (context.control, context.trivial)]
    return next((model for model in [*found, *others] if model and (model.answers or model.prompts)), None)


def _ratio(evaluation: Evaluation) -> float | None:
    """Accuracy of the student over that of its teacher, the aligned model, on the cases both answered."""
    context = evaluation.context
    student, teacher = (_correct(evaluation.model(name), context) for name in (context.student, context.aligned))
    both = sorted(set(student) & set(teacher))
    right = sum(teacher[case][0] for case in both)
    return sum(student[case][0] for case in both) / right if right else None


def build(evaluation: Evaluation) -> dict[str, Any]:
    """The report of an evaluation, checked against the schema; every key present, null where nothing was
    measured.

    Same evaluation, same report: intervals come from seeded bootstraps, and no clock and no machine is asked.
    """
    context = evaluation.context
    shown = [model for model in evaluation.models if model.name != context.control]
    main, severity, subject = main_attribute(context), severity_attribute(context), featured(evaluation)
    prompts = {row.id for model in evaluation.models for row in model.prompts}
    tested = {key for model in shown for key in _correct(model, context)}
    roles = ("trivial", "base", "sft", "aligned", "student", "control")
    report = {
        "schema_version": SCHEMA_VERSION,
        "title": context.title,
        "dataset": context.dataset,
        "split": context.split,
        "seed": context.seed,
        "scorer": context.scorer,
        "n_test": len(tested) if main else len(prompts),
        "n_heldout": len(prompts),
        "seconds": {stage.stage: stage.seconds for stage in evaluation.lineage},
        "main_attribute": main.name if main else None,
        "severity_attribute": severity.name if severity else None,
        "attributes": [{**dataclasses.asdict(a), "values": list(a.values)} for a in context.attributes],
        "roles": {
            **{role: getattr(context, role) for role in roles},
            "featured": subject.name if subject else None,
        },
        "models": [_model(model, evaluation) for model in shown],
        "reward": _reward(evaluation),
        "ppo_minus_sft": _against_sft(context.aligned, evaluation),
        "shuffled_control": _against_sft(context.control, evaluation),
        "student_over_teacher_accuracy": _ratio(evaluation),
        "ppo": {"curves": _curves(evaluation.metrics), "control_curves": _curves(evaluation.control_metrics)},
        "samples": samples(shown),
        "worst_errors": {
            "model": subject.name if subject and main and subject.answers else None,
            "cases": worst_errors(subject.answers, main) if subject and main else [],
        },
        "lineage": [dataclasses.asdict(stage) for stage in evaluation.lineage],
        "provenance": {
            "command": context.command,
            "date": context.date,
            "git_commit": context.git_commit,
            "version": context.version,
            "machine": dict(context.machine),
            "assets": dict(context.assets),
            "licences": list(context.licences),
            "notes": list(context.notes),
        },
    }
    validate(report)
    return report


def write(report: Mapping[str, Any], directory: Path, image_root: Path) -> Path:
    """Write report.json and report.html to `directory`, each atomically; returns the path of the page.

    image_root: what the image paths of the outputs are relative to.
    """
    validate(report)
    write_json(directory / "report.json", report)
    page = directory / "report.html"
    write_atomic(page, render(report, image_root).encode())
    return page
