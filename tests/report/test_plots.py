from __future__ import annotations

import copy
import re
from typing import Any

from bessemer.report.build import build
from bessemer.report.figure import style
from bessemer.report.outputs import Attribute, Context, Evaluation, LabelledAnswer, ModelOutputs
from bessemer.report.plots import charts, confusion_matrix, headline_metric, reward_curves, training_curves

EVERY = {
    "comparison", "principles", "roc", "precision_recall", "calibration", "risk_coverage", "reward",
    "kl", "entropy", "length", "rates", "reward_model", "agreement", "stages",
    "confusion_main_attribute", "confusion_severity_attribute",
}  # fmt: skip


def test_every_plot_of_a_full_report_is_drawn_with_ids_of_its_own(small_report: dict[str, Any]) -> None:
    drawn = charts(small_report)
    assert set(drawn) == EVERY
    ids = [name for chart in drawn.values() for name in re.findall(r' id="([^"]+)"', chart.text)]
    assert len(ids) == len(set(ids))
    assert not any("nan" in re.sub(r">[^<]*<", "", chart.text).lower() for chart in drawn.values())


def test_an_empty_report_has_no_plots() -> None:
    assert charts(build(Evaluation(Context("d", "s", 0)))) == {}


def test_predicted_reward_and_held_out_score_are_both_drawn_with_the_control(
    small_report: dict[str, Any],
) -> None:
    with style():
        chart = reward_curves(small_report)
    assert chart is not None
    assert "Reward predicted" in chart.text and "Score of held-out answers" in chart.text
    assert chart.text.count(">shuffled rewards<") == 2


def test_metric_names_with_slashes_and_underscores_are_one(small_report: dict[str, Any]) -> None:
    report = copy.deepcopy(small_report)
    report["ppo"] = {"curves": {"kl_k1": [[0, 0.1], [1, 0.2]], "length": [[0, 3]]}, "control_curves": {}}
    with style():
        assert set(training_curves(report)) == {"kl", "length"}


def test_a_column_for_unreadable_answers_only_where_there_are_some() -> None:
    defect = Attribute("defect", ("fine", "broken"))

    def chart(parsed: str | None) -> str:
        rows = (
            LabelledAnswer("1", "defect", "fine", "fine"),
            LabelledAnswer("2", "defect", "broken", parsed),
        )
        outputs = (ModelOutputs("sft", answers=rows),)
        report = build(Evaluation(Context("d", "s", 0, (defect,), "defect"), outputs))
        with style():
            drawn = confusion_matrix(report, "defect")
        assert drawn is not None
        return drawn.text

    assert ">(unreadable)<" in chart(None)
    assert ">(unreadable)<" not in chart("fine")


def test_models_are_compared_by_what_was_measured(small_report: dict[str, Any]) -> None:
    assert headline_metric(small_report) == "accuracy"
    text_only = copy.deepcopy(small_report)
    for model in text_only["models"]:
        model["accuracy"] = None
    assert headline_metric(text_only) == "score"
    assert headline_metric({**small_report, "models": []}) is None
