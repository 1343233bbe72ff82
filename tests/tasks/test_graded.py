from __future__ import annotations

from collections import Counter

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.tasks.graded import graded_answers, spoilt, worse_answers
from bessemer.tasks.judge import PRINCIPLES, judge
from tasks.picture_samples import all_prompts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_rules_order_answers_as_they_were_made_worse(language: str) -> None:
    seen: Counter[tuple[str, str, int]] = Counter()
    for prompt in all_prompts(language)[:260]:
        for principle, answers in graded_answers(prompt).items():
            assert answers[0] == prompt.facts["reference"] and len(answers) >= 2
            scores = [judge(prompt, answer, True, [principle])[principle] for answer in answers]
            told = (prompt.id, principle, list(zip(scores, answers, strict=True)))
            for better, worse in zip(scores, scores[1:], strict=False):
                assert better is not None and worse is not None and better > worse + 0.02, told
            assert scores[0] is not None and scores[0] >= 0.75, told
            seen[prompt.facts["rule"], principle, len(answers)] += 1
    rules = {(rule, principle) for rule, principle, _ in seen}
    assert rules == {
        (rule, principle) for rule in ("objects", "count", "describe", "verdict") for principle in PRINCIPLES
    }


def test_other_prompts_have_none() -> None:
    prompt = Prompt("a", (Message("user", "Hi"),))
    assert graded_answers(prompt) == {} and worse_answers(prompt) == ()


def test_what_was_made_worse_is_told_once_and_never_the_reference() -> None:
    for prompt in all_prompts("en")[:60]:
        found = worse_answers(prompt)
        made = {text for texts in graded_answers(prompt).values() for text in texts}
        assert set(found) == made - {prompt.facts["reference"]} and len(found) == len(set(found)) > 0


@pytest.mark.parametrize(
    "text",
    [
        "No, the cell looks sound. Keep it in service.",
        "This is a monocrystalline cell. It is functional and has moderate damage. Have it tested.",
        "Slight.",
        "The image does not show its makers.",
        "是的，该电池片有严重缺陷。请尽快更换。",
    ],
)
def test_every_way_of_spoiling_is_less_fluent_by_the_rules(text: str) -> None:
    prompt = Prompt("a", (Message("user", "Is it?"),))
    made = [found for draw in range(120) if (found := spoilt(text, draw)) is not None]
    assert len(made) == 120
    for worse, ended in made:
        score = judge(prompt, worse, ended, ["fluency"])["fluency"]
        assert score is not None and score <= 0.8, worse
    assert len(set(made)) >= 8 if len(text) > 10 else len(set(made)) >= 3
    assert {ended for _, ended in made} == ({True, False} if len(text) > 10 else {True})


def test_the_ways_of_spoiling() -> None:
    text = "No, the cell looks sound. Keep it."
    assert [spoilt(text, draw) for draw in (6 * 3, 6 * 1 + 1, 6 * 2 + 2, 3, 6 * 5 + 4, 5)] == [
        ("No, the cell", False),
        ("No, the cell looks sound. Keep it. Keep it. Keep it. Keep it.", True),
        ("No, the cell cell cell cell cell looks sound. Keep it.", True),
        ("cell looks sound. keep", True),
        ("No, the cell looks sound. \ufffd\ufffd Keep it.###", True),
        ("no, the cell looks sound. Keep it", True),
    ]
    assert spoilt("“，。", 2) == spoilt("“，。", 2) and spoilt(" \n", 0) is None
    assert spoilt("警告，注意。", 2 + 6 * 2) == ("警告告告告告，注意。", True)  # a comma is nothing to stutter
