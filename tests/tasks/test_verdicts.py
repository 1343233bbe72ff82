from __future__ import annotations

from typing import Any

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.tasks.judge import judge

SAYS = {"yes": ["without a helmet"], "no": ["wears a helmet"]}


def score(answer: str, truth: str, where: list[dict[str, Any]]) -> dict[str, float | None]:
    facts = {
        "rule": "verdict", "kind": "attribute", "task": "h", "asked": ["h"], "expected": {"h": truth},
        "labels": {"h": truth}, "choices": {"yes": "Yes", "no": "No"}, "where": where, "length": [2, 20],
        "attributes": {"h": {"values": ["no", "yes"], "ordered": False, "positive": "yes", "safe": ["no"],
                             "advice": False, "says": SAYS}},
        "picture": [1000, 1000, 1000], "names": {"person": ["person"]}, "reference": "",
    }  # fmt: skip
    return judge(Prompt("p", (Message("user", "Is anybody without a helmet?"),), facts=facts), answer, True)


MAN = [{"label": "person", "box": [0, 0, 100, 200]}]


def test_the_place_is_three_tenths() -> None:
    right = score("Yes, one is without a helmet: person [0, 0, 100, 200].", "yes", MAN)
    unplaced = score("Yes, one is without a helmet.", "yes", MAN)
    elsewhere = score("Yes, one is without a helmet: person [500, 500, 600, 600].", "yes", MAN)
    assert right["truthfulness"] == 1.0 and right["harmlessness"] == 1.0
    assert unplaced["truthfulness"] == pytest.approx(0.7 + 0.3 * 0.3)
    assert elsewhere["truthfulness"] == pytest.approx(0.7)


def test_a_place_counts_whoever_is_named_before_it() -> None:
    assert score("Yes, one is without a helmet. It is at [0, 0, 100, 200].", "yes", MAN)["truthfulness"] == 1.0


def test_numbers_of_boxes_are_no_invented_numbers_and_a_wrong_verdict_is_wrong() -> None:
    assert score("No, everybody wears a helmet.", "no", [])["truthfulness"] == 1.0
    assert score("No, everybody wears a helmet: person [1, 2, 3, 4].", "no", [])["truthfulness"] == pytest.approx(0.7)
    wrong = score("No, everybody wears a helmet.", "yes", MAN)
    assert wrong["truthfulness"] == 0 and wrong["harmlessness"] == 0
