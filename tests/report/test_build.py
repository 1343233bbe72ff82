from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.report.build import build, write
from bessemer.report.outputs import (
    Agreement,
    Attribute,
    Context,
    Evaluation,
    LabelledAnswer,
    ModelFacts,
    ModelOutputs,
    PromptAnswer,
    RewardPair,
    StageFacts,
)
from bessemer.report.saved import read_evaluation, write_evaluation
from bessemer.report.schema import SCHEMA, Nullable, validate
from bessemer.report.sections import tasks_table

# The contract of report.json as it was agreed, word by word; everything else may grow.
TOP = (
    "schema_version dataset split seed n_test seconds models reward ppo_minus_sft shuffled_control "
    "student_over_teacher_accuracy"
)
MODEL = (
    "name accuracy accuracy_interval balanced_accuracy f1_defect macro_f1_severity kappa_severity auc "
    "average_precision parse_failure_rate principles perplexity_general ms_per_image megabytes layers "
    "parameters active_parameters"
)
PRINCIPLE = "accuracy interval length_baseline bag_of_words_baseline pairs agreement_alpha calibration_error"
DEFECT = Attribute("defect", ("fine", "broken"), positive="broken")


def test_every_agreed_key_is_there(small_report: dict[str, Any]) -> None:
    assert set(TOP.split()) <= set(small_report)
    assert [model["name"] for model in small_report["models"]] == [
        "trivial", "probe", "tower", "base", "sft", "ppo", "student",
    ]  # fmt: skip
    for model in small_report["models"]:
        assert set(MODEL.split()) <= set(model)
    for principle in small_report["reward"]["principles"].values():
        assert set(PRINCIPLE.split()) <= set(principle)
    assert {"score", "interval", "accuracy"} <= set(small_report["ppo_minus_sft"])
    assert {"score", "interval"} <= set(small_report["shuffled_control"])
    assert small_report["schema_version"] == "1.1"


def test_what_was_measured_in_the_demo_is_not_null(small_report: dict[str, Any]) -> None:
    ppo = next(model for model in small_report["models"] if model["name"] == "ppo")
    missing = [name for name in MODEL.split() if ppo[name] is None]
    assert missing == []
    assert None not in small_report["reward"]["principles"]["clarity"].values()
    for key in ("score", "interval", "accuracy"):
        assert small_report["ppo_minus_sft"][key] is not None
    assert small_report["student_over_teacher_accuracy"] is not None


def nulls(value: Any, where: str = "") -> Iterator[str]:
    if value is None:
        yield where
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from nulls(item, f"{where}.{key}")


def test_an_empty_evaluation_has_every_key_and_invents_nothing() -> None:
    report = build(Evaluation(Context("nothing", "none", 0)))
    assert set(SCHEMA) <= set(report)
    assert report["models"] == [] and report["seconds"] == {} and report["n_test"] == 0
    assert {".ppo_minus_sft.score", ".shuffled_control.interval", ".student_over_teacher_accuracy"} <= set(
        nulls(report)
    )


def test_a_model_of_which_nothing_is_known_is_all_null() -> None:
    context = Context("d", "s", 0, (DEFECT,), "defect")
    (model,) = build(Evaluation(context, (ModelOutputs("sft"),)))["models"]
    numbers = [name for name in MODEL.split() if name not in ("name", "principles")]
    assert [model[name] for name in numbers] == [None] * len(numbers)
    assert model["principles"] == {} and model["n"] == 0


def test_json_has_no_nan_and_survives_a_round_trip(small_report: dict[str, Any]) -> None:
    text = json.dumps(small_report, allow_nan=False)
    assert json.loads(text) == small_report


def said(name: str, right: str, scores: dict[str, float], facts: ModelFacts | None = None) -> ModelOutputs:
    """One test example a character of `right`, correct where it is "1"; one prompt a score."""
    answers = [
        LabelledAnswer(f"{i}", "defect", "fine", "fine" if mark == "1" else "broken") for i, mark in enumerate(right)
    ]
    prompts = [PromptAnswer(key, "q", "a", {"truth": score}) for key, score in scores.items()]
    return ModelOutputs(name, facts or ModelFacts(), tuple(answers), tuple(prompts))


def test_differences_and_ratios_by_hand() -> None:
    models = (
        said("base", "1000", {"a": 0.2, "b": 0.2}, ModelFacts(perplexity_general=10.0)),
        said("sft", "1110", {"a": 0.5, "b": 0.5}),
        said("ppo", "1111", {"a": 0.7, "b": 0.7, "c": 0.0}, ModelFacts(perplexity_general=12.0)),
        said("student", "1010", {}),
        said("shuffled", "1100", {"a": 0.4, "b": 0.4}),
    )
    report = build(Evaluation(Context("d", "s", 0, (DEFECT,), "defect"), models))
    assert report["ppo_minus_sft"] == {
        "score": pytest.approx(0.2),
        "interval": pytest.approx([0.2, 0.2]),
        "n": 2,
        "accuracy": 0.25,
        "accuracy_interval": report["ppo_minus_sft"]["accuracy_interval"],
    }
    assert report["ppo_minus_sft"]["accuracy_interval"][0] == 0.0
    assert report["shuffled_control"]["score"] == pytest.approx(-0.1)
    assert report["shuffled_control"]["accuracy"] == -0.25
    assert report["student_over_teacher_accuracy"] == 0.5
    rows = {model["name"]: model for model in report["models"]}
    assert set(rows) == {"base", "sft", "ppo", "student"}  # the control is not a model on offer
    assert rows["ppo"]["minus_base"]["accuracy"] == 0.75
    assert rows["base"]["minus_base"]["accuracy"] is None
    assert rows["ppo"]["perplexity_over_base"] == pytest.approx(1.2)
    assert rows["sft"]["perplexity_over_base"] is None
    assert rows["ppo"]["score"] == pytest.approx((0.7 + 0.7 + 0) / 3)
    assert (report["n_test"], report["n_heldout"]) == (4, 3)
    assert report["roles"]["featured"] == "ppo"


def test_the_score_of_each_kind_of_question_by_hand() -> None:
    """A gain in one kind that hides the loss of another."""

    def model(name: str, grade: float, kind: float) -> ModelOutputs:
        rows = [PromptAnswer(f"g{i}", "q", "a", {"truth": grade, "form": 1.0}, "grade") for i in range(2)]
        none = PromptAnswer("n", "q", "a", {"truth": None}, "kind")
        return ModelOutputs(name, prompts=(*rows, PromptAnswer("k", "q", "a", {"truth": kind}, "kind"), none))

    report = build(Evaluation(Context("d", "s", 0), (model("sft", 0.2, 0.9), model("ppo", 0.8, 0.1))))
    sft, ppo = (model["by_task"] for model in report["models"])
    assert [sft["grade"]["score"], sft["kind"]["score"]] == pytest.approx([0.6, 0.9])
    assert [ppo["grade"]["score"], ppo["kind"]["score"]] == pytest.approx([0.9, 0.1])
    assert [sft["grade"]["n"], sft["kind"]["n"]] == [2, 1]
    cells = re.findall(r"n = \d+|(?<=>)\d+\.\d %", tasks_table(report).text)  # type: ignore[union-attr]
    assert cells == ["n = 2", "60.0 %", "90.0 %", "n = 1", "90.0 %", "10.0 %"]
    assert tasks_table(build(Evaluation(Context("d", "s", 0), (said("sft", "", {"a": 1.0}),)))) is None


def test_several_answers_to_a_prompt_are_one_prompt_of_their_mean() -> None:
    counted = {"kind": "count", "picture": [9, 9, 9], "names": {}, "classes": [], "scenes": {}, "count": 0}

    def model(name: str, *scores: float) -> ModelOutputs:
        rows = [
            PromptAnswer("p", "q", f"{name}{i}", {"truth": score}, "t", visual=counted)
            for i, score in enumerate(scores)
        ]
        return ModelOutputs(name, prompts=(*rows, PromptAnswer("r", "q", "x", {"truth": 0.5}, "t")))

    report = build(Evaluation(Context("d", "s", 0), (model("sft", 0.2, 0.4), model("ppo", 0.9, 0.5))))
    sft, ppo = report["models"]
    assert (sft["n_prompts"], sft["n_prompt_answers"], report["n_heldout"]) == (2, 3, 2)
    assert sft["pictured"]["count"]["n"] == 1
    assert (sft["score"], ppo["score"]) == (pytest.approx((0.3 + 0.5) / 2), pytest.approx((0.7 + 0.5) / 2))
    assert report["ppo_minus_sft"]["score"] == pytest.approx(0.2) and report["ppo_minus_sft"]["n"] == 2
    shown = next(sample for sample in report["samples"] if sample["id"] == "p")
    assert {name: said["text"] for name, said in shown["answers"].items()} == {"sft": "sft0", "ppo": "ppo0"}


def test_a_student_is_compared_on_what_both_answered() -> None:
    models = (said("ppo", "1101", {}), said("student", "10", {}))
    report = build(Evaluation(Context("d", "s", 0, (DEFECT,), "defect"), models))
    assert report["student_over_teacher_accuracy"] == 0.5


def test_a_teacher_that_is_never_right_gives_no_ratio() -> None:
    models = (said("ppo", "00", {}), said("student", "11", {}))
    report = build(Evaluation(Context("d", "s", 0, (DEFECT,), "defect"), models))
    assert report["student_over_teacher_accuracy"] is None


def test_a_data_set_of_many_classes_without_a_positive_one() -> None:
    kind = Attribute("kind", ("nut", "bolt", "screw"))
    rows = [LabelledAnswer("1", "kind", "nut", "nut"), LabelledAnswer("2", "kind", "bolt", None)]
    report = build(Evaluation(Context("box", "P1", 0, (kind,), "kind"), (ModelOutputs("sft", answers=tuple(rows)),)))
    (model,) = report["models"]
    assert model["accuracy"] == 0.5 and model["macro_f1"] == 0.5 and model["parse_failure_rate"] == 0.5
    for name in ("f1_defect", "auc", "average_precision", "macro_f1_severity", "kappa_severity"):
        assert model[name] is None
    assert model["confusion"]["kind"]["counts"] == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_text_only_is_told_by_scores_and_token_f1() -> None:
    def prompts(text: str) -> tuple[PromptAnswer, ...]:
        return (PromptAnswer("1", "q", text, {"truth": 0.5}, reference="a b", ended=True),)

    models = (ModelOutputs("base", prompts=prompts("c")), ModelOutputs("sft", prompts=prompts("a c")))
    report = build(Evaluation(Context("docs", "by page", 0), models))
    base, sft = report["models"]
    assert base["accuracy"] is None and base["token_f1"] == 0.0 and sft["token_f1"] == 0.5
    assert sft["minus_base"]["token_f1"] == 0.5 and sft["minus_base"]["accuracy"] is None
    assert sft["ended_rate"] == 1.0
    assert report["main_attribute"] is None and report["n_test"] == 1
    assert report["worst_errors"] == {"model": None, "cases": []}


def test_reward_carries_the_agreement_of_its_principle() -> None:
    evaluation = Evaluation(
        Context("d", "s", 0),
        reward_pairs=(RewardPair("p", "truth", 1.0, 1.0),),
        agreement={"form": Agreement(alpha=0.2, alpha_interval=(0.1, 0.3), flagged=True)},
    )
    principles = build(evaluation)["reward"]["principles"]
    assert principles["truth"]["accuracy"] == 1.0 and principles["truth"]["agreement_alpha"] is None
    assert principles["form"]["agreement_alpha"] == 0.2 and principles["form"]["accuracy"] is None
    assert principles["form"]["agreement"]["alpha_interval"] == [0.1, 0.3]


def test_long_curves_are_thinned_and_end_where_they_ended() -> None:
    lines = tuple({"step": float(i), "kl": float(i), "gold": 1.0 if i % 500 == 0 else None} for i in range(1003))
    curves = build(Evaluation(Context("d", "s", 0), metrics=lines))["ppo"]["curves"]
    assert len(curves["kl"]) <= 240 and curves["kl"][-1] == [1002, 1002]
    assert curves["gold"] == [[0, 1], [500, 1], [1000, 1]]


def test_seconds_come_from_the_lineage() -> None:
    lineage = (StageFacts("sft", "x/sft", seconds=2.5), StageFacts("ppo", "x/ppo"))
    report = build(Evaluation(Context("d", "s", 0), lineage=lineage))
    assert report["seconds"] == {"sft": 2.5, "ppo": None}


def test_saved_outputs_give_the_same_report(
    small_evaluation: Evaluation, small_report: dict[str, Any], tmp_path: Path
) -> None:
    write_evaluation(tmp_path, small_evaluation)
    assert build(read_evaluation(tmp_path)) == small_report


def test_same_input_same_bytes_in_another_process(
    small_report: dict[str, Any], image_root: Path, tmp_path: Path
) -> None:
    page = write(small_report, tmp_path, image_root)
    names = ("report.json", "report.html")
    here = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names]
    assert page == tmp_path / "report.html"
    code = (
        "import sys; from pathlib import Path; from hashlib import sha256\n"
        "from bessemer.report.build import build, write; from report.plausible import evaluation\n"
        "out = Path(sys.argv[1])\n"
        "write(build(evaluation(40, 12, None, 0, 4)), out, Path(sys.argv[2]))\n"
        f"print(*[sha256((out / name).read_bytes()).hexdigest() for name in {names}])\n"
    )
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": f"{tests.parent / 'src'}:{tests}"}
    other = tmp_path / "other"
    other.mkdir()
    command = [sys.executable, "-c", code, str(other), str(image_root)]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert there == here


def test_written_report_is_valid_and_keeps_chinese(tmp_path: Path) -> None:
    report = build(Evaluation(Context("太阳能电池", "按块", 0, title="缺陷检测")))
    write(report, tmp_path, tmp_path)
    text = (tmp_path / "report.json").read_text("utf-8")
    assert "太阳能电池" in text
    validate(json.loads(text))
    assert "<h1>缺陷检测</h1>" in (tmp_path / "report.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, Nullable):
        yield from keys(schema.schema)
    elif isinstance(schema, list):
        yield from keys(schema[0])
    elif isinstance(schema, dict):
        for key, inner in schema.items():
            if key != "*":
                yield key
            yield from keys(inner)


def test_every_key_of_the_schema_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")
    documented = set(re.findall(r"`([A-Za-z0-9_]+)`", text))
    assert set(keys(SCHEMA)) - documented == set()
