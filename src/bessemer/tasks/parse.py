"""What an answer claims: conservative reading of free text, by phrases, negation and hedging. English and
Chinese.

A claim that is ambiguous, hedged or contradicts itself has no value (None), and no value counts as wrong.
Every attribute is looked for, also when it was not asked for, so that a wrong remark in a report is caught.

Limits: it knows only the phrases it is given; negation reaches four words ahead within a clause; irony and
comparisons ("brighter than a defective cell") are not understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .prose import CJK, is_question, normalised, sentences, words

__all__ = ["Claim", "bare_value", "leading_choice", "parse_value", "read_claims"]

_CLAUSE = re.compile(r"[,;:、—]|\bbut\b|\bhowever\b|\bwhile\b|但是?|而是?|不过")
_NEGATOR = re.compile(
    r"\b(?:not|no|never|nobody|nothing|without|non|nor|neither|cannot|hardly)\b|\b\w+n't\b|\bfree (?:of|from)\b"
)
# What may stand between a Chinese negator and what it negates: 未发现裂纹, 没有看到任何裂纹, 不存在裂纹.
_CJK_FOUND = "发现|看到|看见|见到|见|检测到|检测出|检出|存在|出现|显示|任何|明显的?|显著的?|可见的?"
_CJK_NEGATOR = re.compile(
    rf"(?:没有|没|未|无)(?:能|被)?(?:{_CJK_FOUND}|有)*$"
    r"|(?:不是|并非|不|非)(?:存在|含有?|有|见)?(?:任何)?$|看不(?:到|见|出)(?:任何|明显的?)*$"
)
_CJK_REACH = 12  # characters before a phrase in which such a negation is looked for
_NO_NEGATOR = re.compile(r"\bnot only\b|\bno doubt\b|不仅|不但|非常|不断|未来|无疑")
_NEGATED_AFTER = re.compile(
    r"^\s*[:=]\s*(?:no|none|false|否|无)\b"
    r"|^(?:\s\w+){0,2}\s(?:is|are|was|were)(?:\snot\b|n't\b|\sabsent\b|\sruled out\b)"
    r"|^\s(?:not|never) (?:visible|seen|present|found|detected)\b"
    r"|^(?:不存在|不可见|未见|未发现|未出现|没有(?:发现|出现|看到))"
)
_DENIED = re.compile(r":\s*(?:no|none|false|否|无)\s*(?=[.,;!。]|$)")
_NO_HEDGE = re.compile(r"\bas (?:soon|far|early) as possible\b|\bif possible\b|尽可能")
_HEDGE = re.compile(
    r"\b(?:may|might|could|perhaps|maybe|possibly|possible|whether|if|either|unclear|unsure|uncertain|unknown|depends)\b"
    r"|\b(?:cannot|can't|can not|not able to|unable to|hard to|difficult to|impossible to) "
    r"(?:\w+ )?(?:say|tell|determine|judge|decide|know|see(?! (?:an?|any|x+)\b)|be sure|assess)\b"
    r"|\bnot (?:sure|certain|clear)\b"
    r"|可能|也许|或许|大概|不确定|无法|难以|是否|不好说|说不准|不清楚|不能?排除"
)
_AND = re.compile(r"^[\s,/&]*(?:and|or|和|或|也)?[\s,/&]*")
_LATIN = rf"[^\W{CJK}]"  # a letter or digit that is no word by itself
_REACH = 4  # words between a negator and what it negates
_BARE = frozenset({"yes", "no", "true", "false", "y", "n", "是", "否", "有", "无", "没有", "none"})


@dataclass(frozen=True)
class Claim:
    """What an answer says about one attribute: its value, or None with the problem; `place` counts the words
    before it; `excluded`: the values that it only denies ("no severe damage"), where that leaves several."""

    value: str | None
    problem: str = ""  # "hedged" | "contradictory"
    place: int = 0
    excluded: frozenset[str] = frozenset()


def bare_value(value: str) -> bool:
    """Whether a value is a word like "yes", "无" or "1", which means nothing outside an answer's first
    word."""
    return normalised(value) in _BARE or normalised(value).isdigit()


def read_claims(
    attributes: Mapping[str, Mapping[str, Any]],
    answer: str,
    asked: str | None = None,
    choices: Mapping[str, str] | None = None,
) -> dict[str, Claim]:
    """Every attribute that the answer speaks of, with what it claims; an attribute it is silent on is absent.

    attributes: name -> {"values": [...], "says": {value: [phrases]}}. With `asked` and `choices` ({value:
    first word}), the first word of the answer ("Yes") speaks for that attribute. Questions in the answer
    claim nothing.
    """
    said = [sentence for sentence in sentences(normalised(answer)) if not is_question(sentence)]
    text = " ".join(said)
    found: dict[str, _Evidence] = {}
    if asked is not None and asked in attributes and choices and (first := leading_choice(text, choices)):
        rest = _AND.sub("", text[len(choices[first]) :])
        named = any(start == 0 for start, _, _ in _matches(attributes[asked], rest))  # "Yes, no helmet is worn."
        second = None if named else leading_choice(rest, choices)  # "Yes and no."
        found[asked] = _Evidence(asserted={first, second or first}, places=[0])
    for offset, clause in _clauses(said):
        spans = {name: _matches(attribute, clause) for name, attribute in attributes.items()}
        taken = [(start, end) for matches in spans.values() for start, end, _ in matches]
        doubtful = bool(_HEDGE.search(_NO_HEDGE.sub("", _blanked(clause, taken))))
        for name, matches in spans.items():
            for start, end, value in matches:
                # A "no" that belongs to another phrase ("no damage and functional") denies nothing else.
                before = _blanked(clause, [span for span in taken if span[1] <= start])[:start]
                evidence = found.setdefault(name, _Evidence())
                evidence.add(value, doubtful, _negated(before, clause[end:]), offset + start)
    return {name: evidence.settle(attributes[name]["values"], text) for name, evidence in found.items()}


def parse_value(facts: Mapping[str, Any], answer: str, attribute: str | None = None) -> str | None:
    """The value that an answer claims for the asked attribute (the first one asked for by default), or None.

    facts: those of a Prompt made from wordings. None stands for silent, hedged, contradictory and unreadable
    alike.
    """
    asked: Sequence[str] = facts.get("asked", ())
    name = attribute or (asked[0] if asked else None)
    if name is None:
        return None
    claim = read_claims(facts["attributes"], answer, asked[0] if asked else None, facts.get("choices")).get(name)
    return claim.value if claim else None


def leading_choice(answer: str, choices: Mapping[str, str]) -> str | None:
    """The value whose choice word begins the answer, longest word first; None when none does."""
    text = normalised(answer).lstrip("\"'*-( ")
    for value, word in sorted(choices.items(), key=lambda item: -len(item[1])):
        start = normalised(word)
        rest = text[len(start) :]
        whole_word = bool(re.match(f"[{CJK}]", start[-1])) or not re.match(r"\w", rest)
        if text.startswith(start) and whole_word:
            return value
    return None


def _clauses(said: Sequence[str]) -> list[tuple[int, str]]:
    """The clauses of the sentences with their offset in the text that the sentences make."""
    found = []
    offset = 0
    for sentence in said:
        start = 0
        for mark in [*_CLAUSE.finditer(sentence), None]:
            end = mark.start() if mark else len(sentence)
            denied = _DENIED.match(sentence, end)  # "defect: no" must be seen whole
            if sentence[start:end].strip():
                found.append((offset + start, sentence[start:end] + (denied.group() if denied else "")))
            start = mark.end() if mark else end
        offset += len(sentence) + 1
    return found


def _matches(attribute: Mapping[str, Any], clause: str) -> list[tuple[int, int, str]]:
    pattern, owners = _phrases(tuple((value, tuple(phrases)) for value, phrases in attribute["says"].items()))
    return [(m.start(), m.end(), owners[_key(m.group())]) for m in pattern.finditer(clause)] if pattern else []


def _blanked(clause: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in spans:
        clause = clause[:start] + "x" * (end - start) + clause[end:]
    return clause


@dataclass
class _Evidence:
    """What the clauses of an answer say about one attribute."""

    asserted: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)
    hedged: set[str] = field(default_factory=set)
    places: list[int] = field(default_factory=list)

    def add(self, value: str, doubtful: bool, negated: bool, place: int) -> None:
        self.places.append(place)
        kind = self.hedged if doubtful else self.excluded if negated else self.asserted
        kind.add(value)

    def settle(self, values: Sequence[str], text: str) -> Claim:
        place = len(words(text[: min(self.places)]))
        if len(self.asserted) > 1 or self.asserted & self.excluded:
            return Claim(None, "contradictory", place)
        left = self.asserted or {value for value in values if value not in self.excluded}
        if self.hedged - self.asserted or len(left) != 1:
            denied = frozenset() if self.hedged or self.asserted else frozenset(self.excluded)
            return Claim(None, "hedged", place, denied)
        return Claim(min(left), "", place)


def _negated(before: str, after: str) -> bool:
    before = _NO_NEGATOR.sub(lambda found: "x" * len(found.group()), before)
    if _CJK_NEGATOR.search(before.rstrip()[-_CJK_REACH:]):
        return True
    negators = list(_NEGATOR.finditer(before))
    near = bool(negators) and len(re.findall(r"\w+", before[negators[-1].end() :])) < _REACH
    return near or bool(_NEGATED_AFTER.match(after))


def _key(phrase: str) -> str:
    return phrase.rstrip().replace("-", " ")


@lru_cache(maxsize=512)
def _phrases(says: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[re.Pattern[str] | None, dict[str, str]]:
    """One pattern for all phrases of an attribute, longest first, and the value that each stands for."""
    owners: dict[str, str] = {}
    parts = []
    for phrase, value in sorted(((normalised(p), v) for v, ps in says for p in ps), key=lambda item: -len(item[0])):
        body = re.escape(phrase).replace(r"\ ", "[ -]").replace(r"\-", "[ -]")
        plural = bool(re.search("[a-z]{4,}$", phrase))  # crack, cracks; but not it, its
        begin = f"(?<!{_LATIN})" if phrase[0].isascii() else ""
        finish = ("s?" if plural else "") + (f"(?!{_LATIN})" if phrase[-1].isascii() else "")
        parts.append(begin + body + finish)
        for form in (phrase, phrase + "s") if plural else (phrase,):
            owners.setdefault(_key(form), value)
    return (re.compile("|".join(parts)) if parts else None), owners
