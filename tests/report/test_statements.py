from __future__ import annotations

import copy
from typing import Any

from bessemer.report.build import build
from bessemer.report.outputs import Context, Evaluation, ModelOutputs, PromptAnswer
from bessemer.report.statements import headline, method, verdict


def test_headline_names_the_result_its_interval_and_the_rivals(small_report: dict[str, Any]) -> None:
    report = copy.deepcopy(small_report)
    shares = {"trivial": 0.687, "tower": 0.889, "base": 0.31, "ppo": 0.9, "sft": 0.8}
    for model in report["models"]:
        model |= {"accuracy": shares.get(model["name"]), "accuracy_interval": [0.88, 0.92], "n": 656}
    assert headline(report) == (
        "On 656 questions about test photographs, the aligned model is right 90.0 % of the time "
        "(95 % interval 88.0 to 92.0 %). The trivial answer reaches 68.7 %, the base model before any "
        "training reaches 31.0 % and the vision tower alone, fine-tuned as a classifier, reaches 88.9 %."
    )


def test_headline_of_text_alone() -> None:
    rows = tuple(PromptAnswer(f"{i}", "q", "a b", {"truth": 1.0}, reference="a b c d") for i in range(2))
    report = build(Evaluation(Context("docs", "s", 0), (ModelOutputs("sft", prompts=rows),)))
    assert headline(report).startswith("On 2 held-out prompts, the fine-tuned model reaches a token f1 ")
    assert "66.7 %" in headline(report)


def test_headline_without_results_claims_none() -> None:
    assert headline(build(Evaluation(Context("docs", "s", 0)))) == "An evaluation on docs."


def claim(score: float, interval: list[float] | None, control: list[float] | None) -> list[str]:
    report = build(Evaluation(Context("d", "s", 0)))
    report["ppo_minus_sft"] = {
        "score": score, "interval": interval, "n": 100,
        "accuracy": -0.02, "accuracy_interval": [-0.03, -0.01],
    }  # fmt: skip
    report["shuffled_control"] |= {"score": 0.01 if control else None, "interval": control}
    return verdict(report)


def test_a_gain_is_claimed_only_when_its_interval_excludes_zero() -> None:
    gained, lost, control = claim(0.08, [0.05, 0.11], [-0.01, 0.03])
    assert gained == (
        "From sft to ppo, the mean principle score rose by 8.0 points (95 % interval +5.0 to +11.0), "
        "on 100 held-out prompts."
    )
    assert lost == "Accuracy on the test examples fell by 2.0 points (95 % interval −3.0 to −1.0)."
    assert control.endswith("Shuffled rewards carry no information: no gain is what should be seen.")
    assert "not distinguishable from no change" in claim(0.08, [-0.01, 0.17], None)[0]
    assert "rose" not in claim(0.08, [-0.01, 0.17], None)[0]
    assert "no interval" in claim(0.08, None, None)[0]


def test_a_control_that_gains_is_called_a_warning() -> None:
    assert claim(0.08, [0.05, 0.11], [0.005, 0.03])[-1].endswith("a gain is a warning.")


def test_nothing_is_said_of_what_was_not_run() -> None:
    assert verdict(build(Evaluation(Context("d", "s", 0)))) == []


def told(annotator: str, scorer: str = "rules") -> str:
    return " ".join(method(build(Evaluation(Context("d", "s", 0, annotator=annotator, scorer=scorer)))))


def test_rules_are_called_rules_and_people_are_called_what_they_are() -> None:
    assert "ranked for the reward model by a rule-based annotator" in told("rules")
    assert "held-out answers are given by the same rules, never by the reward model." in told("rules")
    assert "ranked for the reward model by three inspectors." in told("three inspectors")
    # People ranked, rules scored: neither may borrow the other's standing.
    assert "held-out answers are given by a rule-based annotator" in told("three inspectors")
    assert "rule-based" not in told("three inspectors", "three inspectors")
    assert "ranked" not in told("") and "rule-based annotator" in told("")
