from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bessemer.errors import UserError
from bessemer.report.outputs import LabelledAnswer, ModelFacts, ModelOutputs, PromptAnswer
from bessemer.report.saved import (
    read_evaluation,
    read_metrics,
    read_outputs,
    write_evaluation,
    write_outputs,
)
from report.plausible import evaluation

OUTPUTS = ModelOutputs(
    "sft",
    ModelFacts("微调", ms_per_image=1.5, layers=2),
    (
        LabelledAnswer("1", "defect", "缺陷", None, 'line\u2028break\n"quoted"', 0.25, labels={"n": 3, "ok": True}),
        LabelledAnswer("2", "defect", None, "fine", group="g", image="图/1.jpg", ended=False),
    ),
    (PromptAnswer("p", "q?", "答案 \x00", {"truth": 1.0, "form": None}, reference="r"),),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = write_outputs(tmp_path, OUTPUTS)
    assert read_outputs(written) == OUTPUTS
    assert "缺陷" in (written / "answers.jsonl").read_text("utf-8")


def test_a_whole_evaluation_is_read_back_in_the_order_of_the_table(tmp_path: Path) -> None:
    whole = evaluation(cells=3, prompts=2, reward_prompts=1)
    shuffled = replace(whole, models=whole.models[::-1])
    write_evaluation(tmp_path, shuffled)
    assert read_evaluation(tmp_path) == whole


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-rf", "x" * 65, "a\nb"])
def test_a_model_name_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="model name"):
        write_outputs(tmp_path, replace(OUTPUTS, name=name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": "0.5"}, r"answers\.jsonl:1: probability: found '0\.5', expected float"),
        ({"probability": True}, "probability"),
        ({"probability": float("nan")}, "probability"),
        ({"labels": {"a": [1]}}, r"labels\.a"),
        ({"truth": 3}, "truth"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_a_changed_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_outputs(tmp_path, OUTPUTS) / "answers.jsonl"
    first, second = path.read_text("utf-8").rstrip("\n").split("\n")
    path.write_text(json.dumps({**json.loads(first), **change}) + "\n" + second + "\n", "utf-8")
    with pytest.raises(UserError, match=message):
        read_outputs(path.parent)


@pytest.mark.parametrize(("line", "message"), [("{", "not JSON"), ("[1]", "found list"), ("{}", "'id' is missing")])
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = write_outputs(tmp_path, OUTPUTS) / "answers.jsonl"
    path.write_text(path.read_text("utf-8") + "\n" + line + "\n", "utf-8")
    with pytest.raises(UserError, match=rf"answers\.jsonl:4: .*{message}"):
        read_outputs(path.parent)


def test_missing_facts_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts\.json.*run evaluate again"):
        read_outputs(tmp_path)


def test_metrics_keep_numbers_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kl": 0.5, "note": "x", "ok": true, "bad": NaN, "none": null}\n\n', "utf-8")
    assert read_metrics(path) == ({"step": 1.0, "kl": 0.5, "bad": None},)
    assert read_metrics(tmp_path / "absent.jsonl") == ()
