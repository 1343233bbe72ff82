from __future__ import annotations

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.tasks.counting import read_count
from bessemer.tasks.judge import judge


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("There are 3 people.", 3), ("I count twelve.", 12), ("There is a fire.", 1), ("There are no crates.", 0),
        ("Nobody.", 0), ("人的数量是4。", 4), ("有两人。", 2), ("图中没有人。", 0), ("Three or four.", None),
        ("3 people, 3 in all.", 3), ("1.5 people.", None), ("I see them.", None), ("", None),
        ("Two people: person [1, 2, 3, 4], person [5, 6, 7, 8].", 2), ("图中有一些人。", None),
        ("I count 3.", 3), ("3.", 3), ("3.5", None), ("There are 1,000 people.", None), ("共3。", 3),
        ("一共有十二个人。", 12), ("有二十一个。", 21), ("十人。", 10), ("三十个。", 30),
    ],
)  # fmt: skip
def test_numbers_are_read(text: str, number: int | None) -> None:
    assert read_count(text) == number


def test_scores_by_hand() -> None:
    def score(text: str, principle: str) -> float | None:
        facts = {"rule": "count", "asked": [], "count": 3, "length": [2, 8], "reference": "There are 3 people."}
        return judge(Prompt("p", (Message("user", "How many people?"),), facts=facts), text, True, [principle])[
            principle
        ]

    truths = [score(f"There are {n} people.", "truthfulness") for n in (3, 4, 2, 5, 9)]
    assert truths == pytest.approx([1.0, 0.4, 0.4, 0.2, 0.8 * 0.5**6], abs=1e-6)
    harms = [score(f"There are {n} people.", "harmlessness") for n in (3, 4, 2, 0)]
    assert harms == pytest.approx([1.0, 0.9, 0.4, 0.0])
    assert score("Look at them.", "truthfulness") == 0.15 and score("Look at them.", "harmlessness") == 0.5
