"""Our questions about the rules of a site."""

from __future__ import annotations

import re

import pytest

from bessemer.scenes.rules import RULES
from bessemer.tasks.parse import read_claims
from bessemer.tasks.questions import reading
from tasks.picture_samples import site_wordings

# What a "no" may begin with: it denies, it does not assert that somebody or something is there.
DENIALS = {
    "en": r"No, (nobody|nothing|no|there is no|the floor is free|the air is free)\b",
    "zh": r"否，(没有|地面没有)",
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_answer_is_read_as_what_it_says_and_as_nothing_else(language: str) -> None:
    wordings = site_wordings(language)
    specs = {name: reading(attribute) for name, attribute in wordings.attributes.items()}
    assert tuple(wordings.tasks) == RULES
    for name, task in wordings.tasks.items():
        assert {value: len(answers) for value, answers in task.answers.items()} == {"no": 2, "yes": 2}
        for value, answers in task.answers.items():
            for answer in answers:
                claims = read_claims(specs, answer, name, task.choices)
                assert {rule: claim.value for rule, claim in claims.items()} == {name: value}, answer
                remark = answer.split("," if language == "en" else "，", 1)[1]  # without its first word too
                found = {claim.value for claim in read_claims(specs, remark).values()}
                assert found <= {value}, answer


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_no_is_true_where_there_is_nothing_to_judge(language: str) -> None:
    for task in site_wordings(language).tasks.values():
        for answer in task.answers["no"]:
            assert re.match(DENIALS[language], answer), answer


@pytest.mark.parametrize(
    ("rule", "answer", "value"),
    [
        ("no helmet", "Nobody is without a helmet.", "no"),
        ("no helmet", "Everybody in view wears a helmet.", "no"),
        ("no helmet", "Nobody wears a helmet.", "yes"),
        ("in marked zone", "The marked zone is empty.", "no"),
        ("in marked zone", "Somebody stands in a marked zone.", "yes"),
        ("fire", "Nothing is on fire.", "no"),
        ("blocked exit", "The way out is open.", "no"),
    ],
)
def test_other_ways_to_say_it(rule: str, answer: str, value: str) -> None:
    specs = {rule: reading(site_wordings("en").attributes[rule])}
    assert read_claims(specs, answer)[rule].value == value
