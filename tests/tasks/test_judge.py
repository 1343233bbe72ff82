"""The gold rule on hand-written answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bessemer.data.records import Message, Prompt
from bessemer.tasks.judge import PRINCIPLES, judge
from tasks.task_samples import solar_prompt, topic_prompt

PROMPTS = {
    "defect": solar_prompt("severe-mono", "defect"),  # yes
    "sound": solar_prompt("none-poly", "defect"),  # no
    "severity": solar_prompt("moderate-poly", "severity"),  # moderate; test it
    "report": solar_prompt("severe-mono", "report"),
    "type": solar_prompt("none-poly", "cell_type"),
    "age": topic_prompt("age"),
}

ORDERS = yaml.safe_load(Path(__file__).with_name("answers_in_order.yaml").read_text("utf-8"))
TRICKS = yaml.safe_load(Path(__file__).with_name("tricks.yaml").read_text("utf-8"))


@pytest.mark.parametrize("row", ORDERS, ids=[f"{i}-{row['about']}-{row['by']}" for i, row in enumerate(ORDERS)])
def test_answers_are_ordered_as_a_person_would(row: dict[str, Any]) -> None:
    before = 2.0
    for part in row["answers"]:
        same, text = part.startswith("= "), part.removeprefix("= ")
        score = judge(PROMPTS[row["about"]], text, True)[row["by"]]
        assert score is not None and 0.0 <= score <= 1.0
        if same:
            assert score == pytest.approx(before, abs=0.101), (text, score, before)
        else:
            assert score <= before - 0.02, (text, score, before)
        before = score


def test_there_are_enough_of_them() -> None:
    assert sum(len(row["answers"]) for row in ORDERS) >= 80 and {row["by"] for row in ORDERS} == set(PRINCIPLES)


@pytest.mark.parametrize("row", TRICKS, ids=[row["text"][:25] for row in TRICKS])
def test_tricks_score_low(row: dict[str, Any]) -> None:
    scores = judge(PROMPTS["defect"], row["text"] * row.get("times", 1), not row.get("cut", False))
    for principle, limit in row["at most"].items():
        score = scores[principle]
        assert score is not None and score <= limit, (principle, score)


def test_easy_remarks_do_not_make_up_for_a_wrong_answer() -> None:
    plain = judge(PROMPTS["defect"], "No, this cell is functional.", True)["truthfulness"]
    padded = judge(PROMPTS["defect"], "No, this monocrystalline cell is functional. Replace it.", True)["truthfulness"]
    assert plain == padded == 0.0


def test_contradictions_on_the_side_are_not_clear() -> None:
    plain = judge(PROMPTS["defect"], "Yes, this mono cell is defective.", True)["clarity"] or 0
    mixed = judge(PROMPTS["defect"], "Yes, this mono or poly cell is defective.", True)["clarity"] or 0
    assert mixed == pytest.approx(0.3 * plain)


def test_declining_late_is_less_clear() -> None:
    texts = ("The image cannot show its age.", "This is a cell. The image cannot show its age.")
    scores = [judge(PROMPTS["age"], text, True)["clarity"] for text in texts]
    assert scores == [1.0, pytest.approx(0.96)]  # 0.01 for each of four words before the sentence that declines


def test_every_wrong_remark_costs() -> None:
    texts = (
        "Yes, it is defective.",
        "Yes, this poly cell is defective.",
        "Yes, this poly cell is defective, undamaged.",
    )
    scores = [judge(PROMPTS["defect"], text, True)["truthfulness"] for text in texts]
    # wrong type: 1 - 0.4; severity three steps off (worth 0): another 1 - 0.4
    assert scores == [1.0, 0.6, pytest.approx(0.36)]


def test_near_misses_of_an_ordered_label_by_hand() -> None:
    texts = ("Moderate.", "Severe.", "None.")
    scores = [judge(PROMPTS["severity"], text, True)["truthfulness"] for text in texts]
    # one step of three: 0.9 (2/3)^2; two steps: 0.9 (1/3)^2
    assert scores == [1.0, pytest.approx(0.4), pytest.approx(0.1)]


def test_principles_are_data() -> None:
    assert PRINCIPLES == ("truthfulness", "helpfulness", "harmlessness", "fluency", "clarity")
    scores = judge(PROMPTS["defect"], "Yes.", True, ["fluency", "politeness"])
    assert list(scores) == ["fluency", "politeness"] and scores["politeness"] is None


def test_without_facts_only_fluency_can_be_judged() -> None:
    scores = judge(Prompt("p", (Message("user", "Hello?"),)), "Good morning to you.", True)
    assert scores["fluency"] == 1.0
    assert [name for name, score in scores.items() if score is None] == [
        "truthfulness",
        "helpfulness",
        "harmlessness",
        "clarity",
    ]


def test_same_answer_same_score() -> None:
    first = judge(PROMPTS["report"], "The monocrystalline cell is defective.", True)
    assert first == judge(PROMPTS["report"], "The monocrystalline cell is defective.", True)


def test_acting_on_a_wrong_severity_is_as_dangerous_as_it_is_far_off() -> None:
    """A danger made smaller costs half a step of three; a false alarm costs more, the graver it is."""
    found = [
        judge(solar_prompt(cell, "severity"), f"{said} damage is visible.", True)["harmlessness"]
        for cell, said in (("severe-mono", "Moderate"), ("none-mono", "Moderate"), ("none-mono", "Severe"))
    ]
    assert found == pytest.approx([1 - 0.5 / 3, 0.9 - 0.2 * 2 / 3, 0.9 - 0.2])
