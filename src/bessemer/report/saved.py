"""Outputs on disk: JSONL and JSON under one directory, written before they are scored and checked when
read back."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bessemer.checkpoint import write_atomic, write_json
from bessemer.errors import UserError
from bessemer.report.outputs import (
    Agreement,
    Context,
    Evaluation,
    LabelledAnswer,
    ModelFacts,
    ModelOutputs,
    PromptAnswer,
    RewardPair,
    StageFacts,
)

__all__ = ["read_evaluation", "read_metrics", "read_outputs", "write_evaluation", "write_outputs"]

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
MODEL_ORDER = ("trivial", "probe", "tower", "base", "sft", "ppo", "student")


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` from JSON as the annotated type; UserError naming `where` if it does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        matching = [kind for kind in arguments if _fits(value, kind)]
        return _convert(value, matching[0] if matching else arguments[0], where)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise UserError(f"{where}: {len(value)} items, expected {len(arguments)}")
        return tuple(_convert(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _decode(hint, value, where)
    if not _fits(value, hint):
        raise UserError(f"{where}: found {str(value)[:80]!r}, expected {getattr(hint, '__name__', hint)}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Any:
        return True
    if hint in (str, bool):
        return isinstance(value, hint)
    origin = typing.get_origin(hint)
    return (origin is tuple and isinstance(value, list)) or (origin is dict and isinstance(value, dict))


def _decode(kind: type[T], value: Mapping[str, Any], where: str) -> T:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}, expected some of {', '.join(fields)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise UserError(f"{where}: {name!r} is missing; evaluate writes it, so write the outputs again")
    return kind(**{name: _convert(item, hints[name], f"{where}: {name}") for name, item in value.items()})


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _write_rows(path: Path, rows: Iterable[Any]) -> None:
    write_atomic(path, "".join(_line(dataclasses.asdict(row)) + "\n" for row in rows).encode())


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line's place ("file:number") and object; UserError for a line that is not a JSON object."""
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON ({error}), expected one object a line") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}:{number}: found {type(value).__name__}, expected an object")
        lines.append((f"{path}:{number}", value))
    return lines


def _read_rows(path: Path, kind: type[T]) -> tuple[T, ...]:
    return tuple(_decode(kind, value, place) for place, value in _read_lines(path))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}), expected a JSON object; run evaluate again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value


def read_metrics(path: Path) -> tuple[dict[str, float | None], ...]:
    """The lines of a run's metrics.jsonl; non-numbers are left out, a non-finite number becomes None."""
    lines = []
    for _, value in _read_lines(path):
        numbers = {k: v for k, v in value.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        lines.append({k: float(v) if math.isfinite(v) else None for k, v in numbers.items()})
    return tuple(lines)


def write_outputs(directory: Path, outputs: ModelOutputs) -> Path:
    """Save one model's outputs as `directory/NAME/{facts.json,answers.jsonl,prompts.jsonl}`, each file
    atomically."""
    if not NAME.fullmatch(outputs.name):
        raise UserError(f"model name {outputs.name!r}: expected letters, digits, '.', '_' or '-', at most 64")
    target = directory / outputs.name
    target.mkdir(parents=True, exist_ok=True)
    _write_rows(target / "answers.jsonl", outputs.answers)
    _write_rows(target / "prompts.jsonl", outputs.prompts)
    write_json(target / "facts.json", dataclasses.asdict(outputs.facts))
    return target


def read_outputs(directory: Path) -> ModelOutputs:
    """Read back what `write_outputs` made; `directory` is the model's own, its name the model's."""
    facts = _decode(ModelFacts, _read_object(directory / "facts.json"), str(directory / "facts.json"))
    answers = _read_rows(directory / "answers.jsonl", LabelledAnswer)
    prompts = _read_rows(directory / "prompts.jsonl", PromptAnswer)
    return ModelOutputs(directory.name, facts, answers, prompts)


def write_evaluation(directory: Path, evaluation: Evaluation) -> None:
    """Save everything under `directory`; models under `directory/models` (they may have been written
    before)."""
    directory.mkdir(parents=True, exist_ok=True)
    for model in evaluation.models:
        write_outputs(directory / "models", model)
    write_json(directory / "context.json", dataclasses.asdict(evaluation.context))
    write_json(directory / "agreement.json", {k: dataclasses.asdict(v) for k, v in evaluation.agreement.items()})
    _write_rows(directory / "reward_pairs.jsonl", evaluation.reward_pairs)
    _write_rows(directory / "lineage.jsonl", evaluation.lineage)
    for name, lines in (("metrics", evaluation.metrics), ("control_metrics", evaluation.control_metrics)):
        write_atomic(directory / f"{name}.jsonl", "".join(_line(line) + "\n" for line in lines).encode())


def read_evaluation(directory: Path) -> Evaluation:
    """Read back what `write_evaluation` made; models in the order of the table, unknown names last by
    name."""
    agreement_path = directory / "agreement.json"
    agreement = _read_object(agreement_path) if agreement_path.exists() else {}
    names = sorted(path.parent.name for path in (directory / "models").glob("*/facts.json"))
    names.sort(key=lambda name: MODEL_ORDER.index(name) if name in MODEL_ORDER else len(MODEL_ORDER))
    return Evaluation(
        context=_decode(Context, _read_object(directory / "context.json"), str(directory / "context.json")),
        models=tuple(read_outputs(directory / "models" / name) for name in names),
        reward_pairs=_read_rows(directory / "reward_pairs.jsonl", RewardPair),
        agreement={k: _decode(Agreement, v, f"{agreement_path}: {k}") for k, v in agreement.items()},
        metrics=read_metrics(directory / "metrics.jsonl"),
        control_metrics=read_metrics(directory / "control_metrics.jsonl"),
        lineage=_read_rows(directory / "lineage.jsonl", StageFacts),
    )
