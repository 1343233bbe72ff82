from __future__ import annotations

from bessemer.report.cases import samples, worst_errors
from bessemer.report.outputs import Attribute, LabelledAnswer, ModelOutputs, PromptAnswer

DEFECT = Attribute("defect", ("fine", "broken"), positive="broken")
GRADE = Attribute("grade", ("none", "slight", "severe"), ordered=True)


def answer(id: str, truth: str, parsed: str | None, p: float | None = None, question: str = "") -> LabelledAnswer:
    return LabelledAnswer(id, "defect", truth, parsed, probability=p, question=question)


def test_worst_is_what_gave_the_truth_the_least() -> None:
    rows = [
        answer("right", "fine", "fine", 0.01),
        answer("unsure", "fine", "broken", 0.6),
        answer("missed", "broken", "fine", 0.03),
        answer("alarm", "fine", "broken", 0.99),
        answer("mute", "fine", None),
        answer("blind", "broken", "fine"),
        answer("mumbled", "broken", None, 0.2),
    ]
    # To the truth: mute 0 (nothing said, nothing known), alarm 0.01, missed 0.03, mumbled 0.2, unsure 0.4,
    # blind 0.5.
    found = worst_errors(rows, DEFECT)
    assert [case["id"] for case in found] == ["mute", "alarm", "missed", "mumbled", "unsure", "blind"]
    assert found[0]["parsed"] is None and found[1]["probability"] == 0.99


def test_the_furthest_off_comes_first_without_probabilities() -> None:
    rows = [
        LabelledAnswer("near", "grade", "none", "slight"),
        LabelledAnswer("far", "grade", "none", "severe"),
        LabelledAnswer("also near", "grade", "severe", "slight"),
        LabelledAnswer("unread", "grade", "slight", "zebra"),
    ]
    found = worst_errors(rows, GRADE)
    assert [case["id"] for case in found] == ["unread", "far", "also near", "near"]
    assert found[0]["parsed"] is None


def test_an_example_is_listed_once_with_its_worst_answer() -> None:
    rows = [answer("x", "fine", "broken", 0.7, "first"), answer("x", "fine", "broken", 0.9, "second")]
    assert [case["question"] for case in worst_errors(rows, DEFECT)] == ["second"]


def test_at_most_twenty_whatever_the_order_of_rows() -> None:
    rows = [answer(f"c{i:03d}", "fine", "broken", 0.5 + i / 200) for i in range(60)]
    found = worst_errors(rows, DEFECT)
    assert [case["id"] for case in found] == [f"c{i:03d}" for i in range(59, 39, -1)]
    assert worst_errors(rows[::-1], DEFECT) == found


def test_samples_take_turns_by_task_in_order_of_id() -> None:
    def prompt(id: str, task: str, text: str) -> PromptAnswer:
        return PromptAnswer(id, f"question {id}", text, {"truth": 0.5, "form": None}, task)

    ids = [("p3", "b"), ("p4", "a"), ("p2", "a"), ("p1", "a")]
    base = ModelOutputs("base", prompts=tuple(prompt(id, task, "before") for id, task in ids))
    after = ModelOutputs("ppo", prompts=(prompt("p1", "a", "after"),))
    found = samples([base, after], per_task=2, count=3)
    assert [sample["id"] for sample in found] == ["p1", "p3", "p2"]
    assert found[0]["answers"] == {
        "base": {"text": "before", "score": 0.5, "places": []},
        "ppo": {"text": "after", "score": 0.5, "places": []},
    }
    assert list(found[1]["answers"]) == ["base"]
