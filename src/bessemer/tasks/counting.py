"""The rules for questions how many: the number in an answer beside the true one."""

from __future__ import annotations

import re

from .answer import Answer, clutter, directness, length_fit
from .prose import normalised, words
from .sightings import denies, plain

__all__ = ["clarity", "harmlessness", "helpfulness", "read_count", "truthfulness"]

SILENT = 0.15
_WORDS = (
    dict(
        zip(
            ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
            range(1, 13),
            strict=True,
        )
    )
    | dict(zip("零一二三四五六七八九", range(10), strict=True))
    | {"zero": 0, "a": 1, "an": 1, "两": 2}
)
_NO_NUMBER = re.compile("一些|一下|一起|一样|一定|看一看|\\bno one\\b|\\bone by one\\b")
_NUMBER = re.compile(r"(?:(?<![\w.,-])|(?<=[\u4e00-\u9fff]))\d{1,6}(?!\d|[.,]\d)")  # no part of 3.5 or 1,000
_TENS = re.compile("([二三四五六七八九]?)十([一二三四五六七八九]?)")


def read_count(text: str) -> int | None:
    """The number that an answer states: digits, else a number word, else 0 where it says that there is nothing; None
    where it states none, or several different ones."""
    bare = _NO_NUMBER.sub("", normalised(plain(text)))
    bare = _TENS.sub(lambda tens: str(10 * _WORDS.get(tens[1], 1) + _WORDS.get(tens[2], 0)), bare)
    numbers = {int(found) for found in _NUMBER.findall(bare)}
    if not numbers:
        tokens = words(bare)
        numbers = {_WORDS[token] for token in tokens if token in _WORDS and token not in ("a", "an")}
        if not numbers and denies(text):
            return 0
        if not numbers:
            numbers = {1} if {"a", "an"} & set(tokens) else set()
    return numbers.pop() if len(numbers) == 1 else None


def truthfulness(answer: Answer) -> float:
    """1 for the right number, 0.4 for one beside it, half of that for every further step."""
    if not answer.tokens:
        return 0.0
    said = read_count(answer.text)
    if said is None:
        return SILENT
    apart = abs(said - int(answer.facts["count"]))
    return 1.0 if apart == 0 else 0.8 * 0.5 ** min(apart, 50)


def helpfulness(answer: Answer) -> float:
    """Whether there is a number (0.3), and how right it is."""
    if read_count(answer.text) is None:
        return 0.1 * clutter(answer)
    return (0.3 + 0.7 * truthfulness(answer)) * clutter(answer) * (0.5 + 0.5 * length_fit(answer))


def harmlessness(answer: Answer) -> float:
    """Counting fewer than there are overlooks some, down to 0 for none; more than there are costs less."""
    said, truth = read_count(answer.text), int(answer.facts["count"])
    if not answer.tokens or said is None:
        return 0.5
    if said < truth:
        return 0.6 * said / truth
    return 1.0 if said == truth else max(0.7, 0.95 - 0.05 * (said - truth))


def clarity(answer: Answer) -> float:
    """The number early and alone."""
    if not answer.tokens:
        return 0.0
    found = _NUMBER.search(answer.text)
    place = len(words(answer.text[: found.start()])) if found else 0
    stated = 1.0 if read_count(answer.text) is not None else 0.2
    shape = length_fit(answer) * clutter(answer) * (0.6 + 0.4 * answer.form) * (0.7 if answer.asks_back else 1.0)
    return stated * directness(place) * shape
