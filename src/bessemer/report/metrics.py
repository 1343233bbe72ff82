"""Scores of answers against labels. A number that cannot be measured is None, never nan."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from bessemer.algos.statistics import (
    Interval,
    bootstrap_interval,
    calibration_bins,
    expected_calibration_error,
    wilson_interval,
)
from bessemer.errors import UserError
from bessemer.report.outputs import Attribute, LabelledAnswer, PromptAnswer, RewardPair

__all__ = [
    "UNREADABLE",
    "about",
    "classification",
    "confusion",
    "correctness",
    "counted_prediction",
    "detection",
    "mean_with_interval",
    "ordinal",
    "paired_difference",
    "principle_means",
    "prompt_score",
    "reward_accuracy",
    "slices",
    "token_f1",
]

UNREADABLE = "(unreadable)"
FALSE_ALARMS = 0.05
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_]+")


def measured(value: float) -> float | None:
    """`value` as a plain float, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def ends(interval: Interval | None) -> list[float] | None:
    """[low, high], or None where there is no finite interval."""
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None
    return [interval.low, interval.high]


def about(answers: Sequence[LabelledAnswer], attribute: Attribute) -> list[LabelledAnswer]:
    """The answers on `attribute` whose example has that label; UserError for a label outside its values."""
    rows = [row for row in answers if row.attribute == attribute.name and row.truth is not None]
    for row in rows:
        if row.truth not in attribute.values:
            raise UserError(
                f"test example {row.id}: {attribute.name} is {row.truth!r}, expected one of "
                f"{', '.join(attribute.values)}; give the value wordings or leave the example out"
            )
    return rows


def counted_prediction(row: LabelledAnswer, attribute: Attribute) -> str:
    """The value an answer is scored as: what was parsed or, if nothing was, a wrong one.

    Of two values the other one; of ordered values the one furthest from the truth; else a class of its own.
    """
    if row.parsed in attribute.values:
        return str(row.parsed)
    if not (attribute.ordered or len(attribute.values) == 2):
        return UNREADABLE
    where = attribute.values.index(str(row.truth))
    return max(attribute.values, key=lambda value: abs(attribute.values.index(value) - where))


def group_ids(keys: Sequence[Hashable]) -> Tensor | None:
    """(N,) integers, equal for equal keys; None when all keys differ, that is when rows are independent."""
    numbers: dict[Hashable, int] = {}
    ids = [numbers.setdefault(key, len(numbers)) for key in keys]
    return None if len(numbers) == len(ids) else torch.tensor(ids)


def mean_with_interval(values: Sequence[float], keys: Sequence[Hashable]) -> tuple[float | None, list[float] | None]:
    """The mean and its 95 % bootstrap interval, whole groups of equal `keys` drawn; no interval from one
    group."""
    if not values:
        return None, None
    if len(set(keys)) < 2:
        return float(np.mean(values)), None
    interval = bootstrap_interval(torch.tensor(values, dtype=torch.float64), groups=group_ids(keys))
    return interval.estimate, ends(interval)


def cluster(row: LabelledAnswer | PromptAnswer) -> str:
    """What is resampled together with this row: its group, else its photograph, else its example or prompt."""
    return f"group {row.group}" if row.group else row.image_sha256 or row.id


def share_correct(rows: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, Any]:
    """Accuracy with its 95 % interval: Wilson's, or a cluster bootstrap where rows share a group or an
    example."""
    hits = [float(counted_prediction(row, attribute) == row.truth) for row in rows]
    keys = [cluster(row) for row in rows]
    groups, method = len(set(keys)), "wilson"
    if not rows:
        accuracy, interval = None, None
    elif groups == len(rows) or len(set(hits)) == 1:
        # All right or all wrong: every resample is the same, and the bootstrap would claim certainty.
        accuracy = sum(hits) / len(hits)
        interval = ends(wilson_interval(min(accuracy * groups, groups), groups))
    else:
        (accuracy, interval), method = mean_with_interval(hits, keys), "cluster bootstrap"
    return {"n": len(rows), "accuracy": accuracy, "accuracy_interval": interval, "interval_method": method}


def classification(answers: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro-F1, MCC and parse failures on one attribute; None throughout without
    rows.

    Balanced accuracy averages recall over the values that occur; macro-F1 over those that occur or were
    answered.
    """
    rows = about(answers, attribute)
    names = ("balanced_accuracy", "macro_f1", "mcc", "parse_failure_rate")
    if not rows:
        return {**share_correct(rows, attribute), **dict.fromkeys(names)}
    truth = [str(row.truth) for row in rows]
    predicted = [counted_prediction(row, attribute) for row in rows]
    present = [value for value in attribute.values if value in set(truth)]
    seen = [value for value in attribute.values if value in {*truth, *predicted}]
    recall = sklearn_metrics.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    macro_f1 = sklearn_metrics.f1_score(truth, predicted, labels=seen, average="macro", zero_division=0)
    return {
        **share_correct(rows, attribute),
        "balanced_accuracy": float(recall),
        "macro_f1": float(macro_f1),
        "mcc": float(sklearn_metrics.matthews_corrcoef(truth, predicted)) if len(present) > 1 else None,
        "parse_failure_rate": sum(row.parsed not in attribute.values for row in rows) / len(rows),
    }


def ordinal(answers: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, float | None]:
    """Macro-F1 and quadratically weighted kappa on an ordered attribute."""
    rows = about(answers, attribute)
    truth = [str(row.truth) for row in rows]
    predicted = [counted_prediction(row, attribute) for row in rows]
    kappa = None
    if len({*truth, *predicted}) > 1:
        kappa = sklearn_metrics.cohen_kappa_score(truth, predicted, labels=list(attribute.values), weights="quadratic")
    return {
        "macro_f1_severity": classification(answers, attribute)["macro_f1"],
        "kappa_severity": None if kappa is None else measured(kappa),
    }


def detection(answers: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, Any]:
    """How well the positive value is found: F1 from the answers; the rest from its probability where every
    row has one.

    `recall_at_5_false_alarms` is the largest share of positives found at a threshold that flags at most 5 %
    of the negatives. Curves are points [x, y], thinned for drawing: ROC (false, true positive rate),
    precision over recall, accuracy over the share of examples answered when the least certain are left to
    people.
    """
    names = (
        "f1_defect",
        "auc",
        "average_precision",
        "recall_at_5_false_alarms",
        "brier",
        "calibration_error",
    )
    result: dict[str, Any] = {**dict.fromkeys(names), "curves": None}
    rows = about(answers, attribute)
    if attribute.positive is None or not rows:
        return result
    truth = np.array([row.truth == attribute.positive for row in rows])
    flagged = np.array([counted_prediction(row, attribute) == attribute.positive for row in rows])
    if truth.any():
        result["f1_defect"] = float(sklearn_metrics.f1_score(truth, flagged, zero_division=0))
    if any(row.probability is None for row in rows):
        return result
    probability = np.array([float(row.probability or 0.0) for row in rows])
    p, y = torch.from_numpy(probability), torch.from_numpy(truth).double()
    result["brier"] = float((p - y).square().mean())
    result["calibration_error"] = expected_calibration_error(p, y)
    curves: dict[str, Any] = {
        "calibration": reliability(p, y),
        "risk_coverage": risk_coverage(rows, attribute),
    }
    if truth.any() and not truth.all():
        false, true, _ = sklearn_metrics.roc_curve(truth, probability)
        precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, probability)
        result["auc"] = float(sklearn_metrics.roc_auc_score(truth, probability))
        result["average_precision"] = float(sklearn_metrics.average_precision_score(truth, probability))
        result["recall_at_5_false_alarms"] = float(true[false <= FALSE_ALARMS].max())
        curves |= {"roc": thinned(false, true), "precision_recall": thinned(recall, precision)}
    return result | {"curves": curves}


def thinned(x: Any, y: Any, points: int = 80) -> list[list[float]]:
    """At most `points` of the points (x, y), the first and the last among them, rounded for drawing."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(points, len(x))).round().astype(int))
    return [[round(float(x[i]), 4), round(float(y[i]), 4)] for i in keep]


def reliability(p: Tensor, y: Tensor) -> list[dict[str, float | int]]:
    """The non-empty bins of the reliability curve."""
    bins = zip(*(column.tolist() for column in calibration_bins(p, y)), strict=True)
    return [{"probability": a, "outcome": b, "count": int(n)} for a, b, n in bins if n]


def risk_coverage(rows: Sequence[LabelledAnswer], attribute: Attribute) -> list[list[float]]:
    """[share answered, accuracy among them] for 20 shares, the most certain first (ties in order of id)."""
    ordered = sorted(rows, key=lambda row: (-abs(float(row.probability or 0.0) - 0.5), row.id))
    hits = np.cumsum([counted_prediction(row, attribute) == row.truth for row in ordered])
    counts = sorted({max(1, round(len(rows) * step / 20)) for step in range(1, 21)})
    return [[round(n / len(rows), 4), round(float(hits[n - 1] / n), 4)] for n in counts]


def confusion(answers: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, Any] | None:
    """Counts, truth down and answer across; an answer that could not be read has a column of its own, the
    last."""
    rows = about(answers, attribute)
    if not rows:
        return None
    counts = Counter((row.truth, row.parsed if row.parsed in attribute.values else UNREADABLE) for row in rows)
    columns = [*attribute.values, UNREADABLE]
    matrix = [[counts[truth, column] for column in columns] for truth in attribute.values]
    return {"values": list(attribute.values), "columns": columns, "counts": matrix}


def slices(
    answers: Sequence[LabelledAnswer], attribute: Attribute, by: Sequence[Attribute]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy on `attribute` within each value of the other labels: {label: {value: {n, accuracy, ...}}}."""
    rows = about(answers, attribute)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for other in by:
        for value in other.values:
            inside = [row for row in rows if row.labels.get(other.name) == value]
            if inside and other.name != attribute.name:
                found.setdefault(other.name, {})[value] = share_correct(inside, attribute)
    return found


def correctness(answers: Sequence[LabelledAnswer], attribute: Attribute) -> dict[str, tuple[float, str]]:
    """{example: (share of its questions answered correctly, what it is resampled with)}."""
    hits: dict[str, list[float]] = {}
    keys: dict[str, str] = {}
    for row in about(answers, attribute):
        hits.setdefault(row.id, []).append(float(counted_prediction(row, attribute) == row.truth))
        keys[row.id] = cluster(row)
    return {key: (sum(values) / len(values), keys[key]) for key, values in hits.items()}


def paired_difference(
    new: Mapping[str, tuple[float, str]], old: Mapping[str, tuple[float, str]]
) -> tuple[float | None, list[float] | None, int]:
    """Mean of `new` minus `old` over the cases both have, its 95 % paired bootstrap interval, how many
    cases."""
    both = sorted(set(new) & set(old))
    if not both:
        return None, None, 0
    # Resampling the differences of cases is resampling both models' answers together, which is the pairing.
    differences = [new[case][0] - old[case][0] for case in both]
    estimate, interval = mean_with_interval(differences, [new[case][1] for case in both])
    return estimate, interval, len(both)


def prompt_score(row: PromptAnswer) -> float | None:
    """The mean of the principles that could be judged, each in [0, 1]; None if none could."""
    scores = [score for score in row.principles.values() if score is not None]
    return sum(scores) / len(scores) if scores else None


def principle_means(rows: Sequence[PromptAnswer]) -> dict[str, float | None]:
    """{principle: mean over the prompts where it could be judged}, in alphabetical order."""
    scores: dict[str, list[float]] = {name: [] for name in sorted({n for row in rows for n in row.principles})}
    for row in rows:
        for name, score in row.principles.items():
            if score is not None:
                scores[name].append(score)
    return {name: sum(values) / len(values) if values else None for name, values in scores.items()}


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the precision and recall of tokens, as multisets; 0 if either text has none.

    Tokens are case-folded words, and each Chinese, Japanese or Korean character. Source: SQuAD, Rajpurkar et
    al. 2016.
    """
    given, wanted = (Counter(TOKEN.findall(text.casefold())) for text in (answer, reference))
    common = (given & wanted).total()
    return 2 * common / (given.total() + wanted.total()) if common else 0.0


def reward_accuracy(pairs: Sequence[RewardPair]) -> dict[str, Any]:
    """How often the reward orders two answers as the annotators do, beside the baselines, over the pairs not
    tied.

    A margin of 0 counts half. Intervals draw whole subjects. Calibration is that of sigmoid(margin) against
    the target, over all pairs in both orders, since which answer is called first means nothing.
    """
    decided = [pair for pair in pairs if pair.target != 0.5]
    keys = [pair.subject or pair.prompt for pair in decided]
    hits = {
        name: [
            None if margin is None else 0.5 if margin == 0 else float((margin > 0) == (pair.target > 0.5))
            for pair in decided
            for margin in [getattr(pair, name)]
        ]
        for name in ("margin", "length_margin", "bag_of_words_margin")
    }
    own = [float(hit) for hit in hits["margin"] if hit is not None]
    accuracy, interval = mean_with_interval(own, keys)
    result: dict[str, Any] = {
        "accuracy": accuracy,
        "interval": interval,
        "pairs": len(decided),
        "ties": len(pairs) - len(decided),
    }
    for name, key in (("length_margin", "length"), ("bag_of_words_margin", "bag_of_words")):
        theirs = [float(hit) for hit in hits[name] if hit is not None]
        complete = bool(theirs) and len(theirs) == len(own)
        gains = [a - b for a, b in zip(own, theirs, strict=True)] if complete else []
        gain, gain_interval = mean_with_interval(gains, keys)
        result[f"{key}_baseline"] = sum(theirs) / len(theirs) if complete else None
        result[f"minus_{key}"] = {"accuracy": gain, "interval": gain_interval}
    drawn = [not pair.borrowed for pair in decided]
    accuracy, interval = mean_with_interval(list(compress(own, drawn)), list(compress(keys, drawn)))
    result["own"] = {"accuracy": accuracy, "interval": interval, "pairs": sum(drawn)}
    margins = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    targets = torch.tensor([pair.target for pair in pairs], dtype=torch.float64)
    p, y = torch.cat([margins.sigmoid(), (-margins).sigmoid()]), torch.cat([targets, 1 - targets])
    result["calibration_error"] = expected_calibration_error(p, y) if pairs else None
    return result
