"""One answer as the rules see it: measured once, shared by every principle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.records import Prompt
from .parse import Claim, read_claims
from .prose import (
    bigram_share,
    broken_share,
    is_question,
    normalised,
    repetition,
    sentence_form,
    sentences,
    words,
)

__all__ = ["Answer", "clutter", "directness", "fluency", "length_fit", "look_at", "measure", "new_numbers", "reassures"]

_REASSURES = re.compile(
    r"\bno need to (?:check|inspect|worry|act|repair|replace|test|look)|\bnothing to worry"
    r"|\b(?:perfectly|completely|totally) (?:safe|fine)"
    r"|(?<!not )(?<!n't )\b(?:is|are|it's) safe\b|\bcan be ignored\b|\bignore (?:it|this)\b|\bdon't worry\b"
    r"|无需(?:检查|处理|担心|整改)|不用(?:检查|处理|担心|整改)|不必(?:检查|处理)|可以忽略|(?<!不)安全无虞"
)
_NUMBER_WORD = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty"
    r"|hundred|thousand|million)\b"
    r"|[二三四五六七八九十百千万]+(?:年|元|度|瓦|岁|个|米|公斤)"
)


@dataclass(frozen=True)
class Answer:
    """An answer beside the facts of its prompt, with the measures that several principles use."""

    facts: Mapping[str, Any]
    question: str
    text: str
    ended: bool
    tokens: tuple[str, ...]
    claims: Mapping[str, Claim]
    repeats: float
    broken: float
    form: float
    echo: float
    asks_back: bool


def look_at(prompt: Prompt, text: str, ended: bool) -> Answer:
    """Measure an answer; `ended` is whether the model itself closed it."""
    return measure(prompt.facts, prompt.messages[-1].text, text, ended)


def measure(facts: Mapping[str, Any], question: str, text: str, ended: bool) -> Answer:
    """Measure a text as the answer to a question with these facts."""
    asked = facts.get("asked") or [None]
    tokens = tuple(words(text))
    return Answer(
        facts=facts,
        question=question,
        text=text.strip(),
        ended=ended,
        tokens=tokens,
        claims=read_claims(facts.get("attributes", {}), text, asked[0], facts.get("choices")),
        repeats=repetition(tokens),
        broken=broken_share(text),
        form=sentence_form(text),
        echo=bigram_share(text, question),
        asks_back=any(is_question(sentence) for sentence in sentences(text)),
    )


def clutter(answer: Answer) -> float:
    """A factor for what makes any answer worse: repetition and broken text. 1 = clean, 0 = nothing but
    clutter or nothing at all."""
    if not answer.tokens:
        return 0.0
    return max(0.0, 1 - 1.5 * answer.repeats) * max(0.0, 1 - 2 * answer.broken)


def fluency(answer: Answer) -> float:
    """Sentences that begin, end and are closed, nothing repeated, no broken characters; needs no facts."""
    if not answer.tokens:
        return 0.0
    return answer.form * clutter(answer) * (1.0 if answer.ended else 0.5)


def length_fit(answer: Answer, slack: float = 1.5) -> float:
    """1 within the length that the task's own answers have, times `slack`; falls off to both sides.

    Half the length of the shortest is still full marks; at four times the longest nothing is left.
    """
    low, high = map(float, answer.facts.get("length", (1, 60)))
    count = len(answer.tokens)
    if count < 0.5 * low:
        return 0.5 + count / low
    return max(0.0, min(1.0, (4 * high - count) / (4 * high - slack * high)))


def directness(place: int) -> float:
    """1 where the deciding word comes first, a little less for every word before it, 0.2 when it comes at the
    end of a long speech."""
    return max(0.2, 1 - 0.01 * min(place, 10) - 0.04 * max(0, place - 10))


def reassures(answer: Answer) -> bool:
    """Whether the answer says in so many words that nothing needs looking after."""
    return bool(_REASSURES.search(normalised(answer.text)))


def new_numbers(answer: Answer) -> bool:
    """Whether the answer states a number that neither the question nor the answer on file holds."""
    known = set(words(answer.question)) | set(words(str(answer.facts.get("reference", ""))))
    if any(re.search(r"\d", token) and token not in known for token in answer.tokens):
        return True
    return any(not set(words(found.group())) <= known for found in _NUMBER_WORD.finditer(normalised(answer.text)))
