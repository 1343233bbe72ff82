"""The schema of report.json: every key with its type, and the check that a report keeps to it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bessemer.errors import UserError

__all__ = ["MODEL", "Nullable", "SCHEMA", "SCHEMA_VERSION", "check_schema", "validate"]

SCHEMA_VERSION: Final = "1.1"
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Nullable:
    """An object or list in whose place null may stand."""

    schema: Any


# A leaf is the name of a type, with "?" when null ("not measured") is allowed. A list holds the schema of its
# items; the key "*" stands for any key. Keys that are not listed may be present; listed ones must be.
SHARE = {"n": "count", "accuracy": "rate?", "accuracy_interval": "interval?", "interval_method": "text"}
MINUS: dict[str, Any] = {
    "accuracy": "number?",
    "accuracy_interval": "interval?",
    "score": "number?",
    "score_interval": "interval?",
    "token_f1": "number?",
    "token_f1_interval": "interval?",
}
PLACED: dict[str, Any] = {name: "rate?" for name in ("AP", "AP50", "AP75", "AR100")}
COUNTED: dict[str, Any] = {
    "n": "count", "unread": "count", "exact": "rate?", "constant": "rate?", "mean_error": "number?", "bias": "number?"
}  # fmt: skip
FOUND: dict[str, Any] = {
    "n": "count", **PLACED, "AP_interval": "interval?", "AP50_interval": "interval?", "mask_iou": "rate?",
    "mask_iou_interval": "interval?", "by_label": {"*": PLACED}, "by_scene": {"*": PLACED}
}  # fmt: skip
DESCRIBED: dict[str, Any] = {
    "n": "count", "cider_d": "number?", "cider_d_interval": "interval?", "rouge_l": "rate?",
    "rouge_l_interval": "interval?", "token_f1": "rate?", "token_f1_interval": "interval?",
}  # fmt: skip
PICTURED: dict[str, Any] = {
    "detect": Nullable(FOUND),
    "segment": Nullable(FOUND),
    "count": Nullable({**COUNTED, "exact_interval": "interval", "by_scene": {"*": COUNTED}}),
    "describe": Nullable({**DESCRIBED, "by_scene": {"*": DESCRIBED}}),
}
PLACE: dict[str, Any] = {"label": "text", "points": [["number"]]}
CONFUSION: dict[str, Any] = {"values": ["text"], "columns": ["text"], "counts": [["count"]]}
MODEL: dict[str, Any] = {
    "name": "text",
    "description": "text",
    **SHARE,
    "balanced_accuracy": "rate?",
    "macro_f1": "rate?",
    "mcc": "signed?",
    "f1_defect": "rate?",
    "auc": "rate?",
    "average_precision": "rate?",
    "recall_at_5_false_alarms": "rate?",
    "brier": "rate?",
    "calibration_error": "rate?",
    "macro_f1_severity": "rate?",
    "kappa_severity": "signed?",
    "parse_failure_rate": "rate?",
    "principles": {"*": "rate?"},
    "score": "rate?",
    "score_interval": "interval?",
    "by_task": {"*": {"n": "count", "score": "rate?", "score_interval": "interval?"}},
    "n_prompts": "count",
    "n_prompt_answers": "count",
    "token_f1": "rate?",
    "token_f1_interval": "interval?",
    "ended_rate": "rate?",
    "pictured": PICTURED,
    "minus_base": MINUS,
    "perplexity_general": "number?",
    "perplexity_over_base": "number?",
    "ms_per_image": "number?",
    "megabytes": "number?",
    "layers": "count?",
    "parameters": "count?",
    "active_parameters": "count?",
    "slices": {"*": {"*": SHARE}},
    "confusion": {"*": CONFUSION},
    "curves": {"*": "list"},
}
GAIN = {"accuracy": "number?", "interval": "interval?"}
PRINCIPLE: dict[str, Any] = {
    "accuracy": "rate?",
    "interval": "interval?",
    "length_baseline": "rate?",
    "bag_of_words_baseline": "rate?",
    "minus_length": GAIN,
    "minus_bag_of_words": GAIN,
    "pairs": "count",
    "ties": "count",
    "own": {"accuracy": "rate?", "interval": "interval?", "pairs": "count"},
    "calibration_error": "rate?",
    "agreement_alpha": "number?",
    "agreement": {
        "alpha": "number?",
        "alpha_interval": "interval?",
        "pair_agreement": "rate?",
        "pair_interval": "interval?",
        "tau_b": "signed?",
        "pairs": "count?",
        "annotators": "count?",
        "flagged": "flag?",
        "weight": "number?",
    },
}
DIFFERENCE = {
    "score": "number?",
    "interval": "interval?",
    "n": "count",
    "accuracy": "number?",
    "accuracy_interval": "interval?",
}
CASE: dict[str, Any] = {
    "id": "text",
    "image": "text?",
    "image_sha256": "text?",
    "attribute": "text",
    "truth": "text",
    "parsed": "text?",
    "probability": "rate?",
    "question": "text",
    "answer": "text?",
}
SAMPLE: dict[str, Any] = {
    "id": "text",
    "image": "text?",
    "image_sha256": "text?",
    "task": "text",
    "question": "text",
    "reference": "text?",
    "frame": Nullable(["count"]),
    "places": [PLACE],
    "answers": {"*": {"text": "text", "score": "rate?", "places": [PLACE]}},
}
STAGE: dict[str, Any] = {
    "stage": "text",
    "directory": "text",
    "fingerprint": "text?",
    "sha256": "text?",
    "parents": {"*": {"name": "text", "sha256": "text"}},
    "seed": "count?",
    "seconds": "number?",
}
SCHEMA: dict[str, Any] = {
    "schema_version": "text",
    "title": "text",
    "dataset": "text",
    "split": "text",
    "seed": "count",
    "scorer": "text",
    "n_test": "count",
    "n_heldout": "count",
    "seconds": {"*": "number?"},
    "main_attribute": "text?",
    "severity_attribute": "text?",
    "attributes": [{"name": "text", "values": ["text"], "ordered": "flag", "positive": "text?"}],
    "roles": {
        "trivial": "text",
        "base": "text",
        "sft": "text",
        "aligned": "text",
        "student": "text",
        "control": "text",
        "featured": "text?",
    },
    "models": [MODEL],
    "reward": {"annotator": "text", "principles": {"*": PRINCIPLE}},
    "ppo_minus_sft": DIFFERENCE,
    "shuffled_control": DIFFERENCE,
    "student_over_teacher_accuracy": "number?",
    "ppo": {"curves": {"*": [["number"]]}, "control_curves": {"*": [["number"]]}},
    "samples": [SAMPLE],
    "worst_errors": {"model": "text?", "cases": [CASE]},
    "lineage": [STAGE],
    "provenance": {
        "command": "text?",
        "date": "text?",
        "git_commit": "text?",
        "version": "text?",
        "machine": {"*": "plain"},
        "assets": {"*": "text"},
        "licences": ["text"],
        "notes": ["text"],
    },
}


def is_number(value: Any) -> bool:
    """True for a finite float, or an int that could be one (a bool is neither)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_interval(value: Any) -> bool:
    """True for [low, high] with low <= high."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]


# Rounding may leave a rate of 1 a hair above it.
LEAVES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "number": ("a finite number", is_number),
    "rate": ("a number from 0 to 1", lambda value: is_number(value) and -1e-9 <= value <= 1 + 1e-9),
    "signed": ("a number from -1 to 1", lambda value: is_number(value) and abs(value) <= 1 + 1e-9),
    "count": (
        "a whole number >= 0",
        lambda value: is_number(value) and isinstance(value, int) and value >= 0,
    ),
    "text": ("text", lambda value: isinstance(value, str)),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "list": ("a list", lambda value: isinstance(value, list)),
    "plain": (
        "text, a number or null",
        lambda value: value is None or isinstance(value, str) or is_number(value),
    ),
    "interval": ("[low, high] with low <= high", is_interval),
}


def _problems(value: Any, schema: Any, where: str) -> Iterator[str]:
    if isinstance(schema, Nullable):
        if value is not None:
            yield from _problems(value, schema.schema, where)
        return
    if isinstance(schema, str):
        expected, fits = LEAVES[schema.removesuffix("?")]
        optional = schema.endswith("?")
        if not (fits(value) or (optional and value is None)):
            yield f"{where}: {str(value)[:60]!r}, expected {expected}{' or null' if optional else ''}"
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{where}: {type(value).__name__}, expected a list"
            return
        for i, item in enumerate(value):
            yield from _problems(item, schema[0], f"{where}[{i}]")
    elif not isinstance(value, Mapping):
        yield f"{where}: {type(value).__name__}, expected an object"
    else:
        for key, inner in schema.items():
            if key != "*" and key not in value:
                yield f"{where}.{key}: missing (null is how to say not measured)"
            for name in value if key == "*" else {key} & set(value):
                yield from _problems(value[name], inner, f"{where}.{name}")


def _not_finite(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value}, expected a finite number or null"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _not_finite(item, f"{where}[{i}]")


def check_schema(value: Any, schema: Mapping[str, Any], what: str, maker: str, also: Sequence[str] = ()) -> None:
    """Raise UserError listing what keeps `value` from being a document of `schema`.

    Args:
        what: what the document is called; `maker`: the verb that writes it.
        also: problems that were found elsewhere.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{what}: {type(value).__name__}, expected an object; write it with {maker}")
    if value.get("schema_version") != SCHEMA_VERSION:
        found = str(value.get("schema_version"))[:20]
        raise UserError(f"{what}.schema_version: {found!r}, expected {SCHEMA_VERSION!r}; run {maker} again")
    problems = list(dict.fromkeys([*_problems(value, schema, what), *_not_finite(value, what), *also]))
    if problems:
        more = f"\n... and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise UserError(f"not a valid {what}: " + "\n".join(problems[:SHOWN_PROBLEMS]) + more)


def validate(report: Any) -> None:
    """Raise UserError listing what keeps `report` from being a report.json of this schema version."""
    models = report.get("models") if isinstance(report, Mapping) else None
    names = [model.get("name") for model in models if isinstance(model, Mapping)] if isinstance(models, list) else []
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    check_schema(
        report, SCHEMA, "report", "evaluate", [f"report.models: {name!r} twice, expected once" for name in twice]
    )
