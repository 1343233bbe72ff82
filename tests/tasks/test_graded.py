from __future__ import annotations

from collections import Counter

import pytest

from bessemer.data.records import Message, Prompt
from bessemer.tasks.graded import graded_answers
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
    assert graded_answers(Prompt("a", (Message("user", "Hi"),))) == {}
