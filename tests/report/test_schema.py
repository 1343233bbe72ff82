from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from bessemer.errors import UserError
from bessemer.report.schema import validate


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(report: dict[str, Any]) -> None:
        *steps, last = path.split("/")
        place: Any = report
        for step in steps:
            place = place[int(step)] if step.isdigit() else place[step]
        place[int(last) if last.isdigit() else last] = value

    return apply


def remove(path: str) -> Callable[[dict[str, Any]], None]:
    def apply(report: dict[str, Any]) -> None:
        *steps, last = path.split("/")
        place: Any = report
        for step in steps:
            place = place[int(step)] if step.isdigit() else place[step]
        del place[last]

    return apply


def test_a_real_report_passes(small_report: dict[str, Any]) -> None:
    validate(small_report)
    validate({**small_report, "more": {"keys": ["are", "welcome"]}})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("models/0/auc"), r"report\.models\[0\]\.auc: missing"),
        (remove("student_over_teacher_accuracy"), r"report\.student_over_teacher_accuracy: missing"),
        (change("models/1/accuracy", float("nan")), r"report\.models\[1\]\.accuracy: 'nan'"),
        (change("models/1/accuracy", "0.9"), r"expected a number from 0 to 1 or null"),
        (change("models/1/accuracy", True), r"report\.models\[1\]\.accuracy: 'True'"),
        (change("models/1/accuracy", 1.2), r"expected a number from 0 to 1"),
        (change("models/1/accuracy_interval", [0.9, 0.1]), r"low <= high"),
        (change("models/1/layers", 2.5), r"whole number"),
        (change("models/1/name", "trivial"), r"'trivial' twice"),
        (change("ppo_minus_sft/interval", [0.1]), r"report\.ppo_minus_sft\.interval"),
        (change("reward/principles/clarity/pairs", -1), r"report\.reward\.principles\.clarity\.pairs"),
        (change("models", {}), r"report\.models: dict, expected a list"),
        (change("seconds", []), r"report\.seconds: list, expected an object"),
        (change("schema_version", "9.9"), r"schema_version: '9\.9', expected '1\.1'"),
        (change("extra", {"deep": [1.0, float("inf")]}), r"report\.extra\.deep\[1\]: inf"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    small_report: dict[str, Any], spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    spoilt = copy.deepcopy(small_report)
    spoil(spoilt)
    with pytest.raises(UserError, match=message):
        validate(spoilt)


def test_many_problems_are_counted_not_all_printed(small_report: dict[str, Any]) -> None:
    spoilt = copy.deepcopy(small_report)
    for model in spoilt["models"]:
        model |= {"auc": "x", "brier": "x", "mcc": "x"}
    with pytest.raises(UserError, match=r"and 11 more$") as caught:
        validate(spoilt)
    assert str(caught.value).count("\n") == 10


def test_not_an_object() -> None:
    with pytest.raises(UserError, match="list, expected an object"):
        validate([])
