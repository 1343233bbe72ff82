from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from bessemer.report.build import build
from bessemer.report.outputs import Attribute, Context, Evaluation, LabelledAnswer, ModelFacts, ModelOutputs
from bessemer.report.table import markdown_table, terminal_table


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def small(name: str = "sft", dataset: str = "盒子 | images", split: str = "P1") -> dict[str, Any]:
    """Ten examples: the base model has 5 right, the other 8."""

    def model(name: str, right: int, size: float | None) -> ModelOutputs:
        rows = [LabelledAnswer(f"{i}", "defect", "fine", "fine" if i < right else "broken") for i in range(10)]
        return ModelOutputs(name, ModelFacts(megabytes=size), tuple(rows))

    context = Context(dataset, split, 0, (Attribute("defect", ("fine", "broken")),), "defect", sft=name)
    return build(Evaluation(context, (model("base", 5, None), model(name, 8, 12.0))))


def test_terminal_table_of_two_models_in_full() -> None:
    lines = terminal_table(small()).splitlines()
    assert lines[:2] == ["盒子 | images; P1", "10 test cases, 0 held-out prompts"]
    assert lines[2].split() == ["model", "accuracy", "95", "%", "interval", "minus", "base", "unread", "MB"]
    assert lines[4].split() == ["base", "50.0", "%", "23.7", "to", "76.3", "–", "0.0", "%", "–"]
    assert lines[5].split()[:7] == ["sft", "80.0", "%", "49.0", "to", "94.3", "+30.0"]
    assert len(lines) == 6


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_is_wider_than_the_terminal(small_report: dict[str, Any], width: int) -> None:
    lines = terminal_table(small_report, width).splitlines()
    assert max(map(cells, lines)) <= width
    names = [line.split()[0] for line in lines[4:11]]
    assert names == ["trivial", "probe", "tower", "base", "sft", "ppo", "student"]


def test_at_a_hundred_columns_every_column_of_the_demo_is_there(small_report: dict[str, Any]) -> None:
    head = terminal_table(small_report).splitlines()[2]
    for name in ("accuracy", "minus base", "F1", "AUC", "unread", "score", "ppl", "ms", "MB"):
        assert name in head


def test_columns_line_up_under_chinese_names() -> None:
    lines = terminal_table(small("模型")).splitlines()
    ends = {cells(line[: line.index("%") + 1]) for line in lines[4:6]}
    assert len(ends) == 1


def test_control_characters_do_not_reach_the_terminal() -> None:
    shown = terminal_table(small(name="sft\x1b", dataset="a\x1b[2Jb\u202e", split="x\r"))
    assert "\x1b" not in shown and "\u202e" not in shown and "\r" not in shown
    assert shown.count("\\x1b") == 2


def test_markdown_table_escapes_what_would_break_it() -> None:
    lines = markdown_table(small(dataset="a|b <img> [x](y)")).splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| base | 50.0 % (23.7 to 76.3) | – | 0.0 % | – |")
    assert lines[3].startswith("| sft | 80.0 % (49.0 to 94.3) | +30.0 (")
    assert {line.replace("\\|", "").count("|") for line in lines[:4]} == {6}
    assert lines[-1] == "a\\|b &lt;img> \\[x](y); P1; 10 test cases; seed 0"
