"""The rules for questions whose true answer is a label: the answer's claims beside the photograph's
labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .answer import Answer, clutter, directness, length_fit, new_numbers, reassures
from .parse import Claim

__all__ = ["clarity", "harmlessness", "helpfulness", "side_claims", "truthfulness"]

# What a claim without a value is worth; a wrong one is worth 0 to 0.4.
SILENT, HEDGED, CONTRADICTORY = 0.15, 0.2, 0.1


def truthfulness(answer: Answer) -> float:
    """The share of claims that are right; ordered labels give part marks for near misses, side remarks and
    numbers can only cost.

    A question that has an answer and gets none is worth `SILENT`, `HEDGED` or `CONTRADICTORY`. In a report an
    attribute that is left out counts half as long as another one is stated.
    """
    if not answer.tokens:
        return 0.0
    return _right(answer) * side_claims(answer) * (0.6 if new_numbers(answer) else 1.0)


def side_claims(answer: Answer) -> float:
    """A factor for remarks on what was not asked: 1 when they are right or absent, 0.6 for each that is
    wrong."""
    factor = 1.0
    for name, claim in answer.claims.items():
        known = name not in answer.facts["asked"] and name in answer.facts["labels"]
        if known and not _rightly_excludes(claim, answer.facts["labels"][name]):
            factor *= 1 - 0.4 * (1 - _grade(answer.facts, name, claim))
    return factor


def _rightly_excludes(claim: Claim, truth: str) -> bool:
    """Whether a claim only says what it is not, and not of the truth: "no severe damage" of a slight one."""
    return bool(claim.excluded) and truth not in claim.excluded


def _right(answer: Answer) -> float:
    asked: Sequence[str] = answer.facts["asked"]
    stated = any(name in answer.claims for name in asked)
    silent = 0.5 if answer.facts["kind"] == "report" and stated else SILENT
    grades = [_grade(answer.facts, name, answer.claims[name]) if name in answer.claims else silent for name in asked]
    return sum(grades) / len(grades)


def _grade(facts: Mapping[str, Any], name: str, claim: Claim) -> float:
    if claim.value is None:
        return CONTRADICTORY if claim.problem == "contradictory" else HEDGED
    truth = facts["labels"][name]
    if claim.value == truth:
        return 1.0
    spec = facts["attributes"][name]
    if not spec["ordered"]:
        return 0.0
    return 0.9 * (1 - abs(_step(spec, claim.value, truth))) ** 2


def _step(spec: Mapping[str, Any], value: str, truth: str) -> float:
    """How far `value` lies beyond `truth` towards the grave end, as a share of the whole scale."""
    values: Sequence[str] = spec["values"]
    return (values.index(value) - values.index(truth)) / (len(values) - 1)


def helpfulness(answer: Answer) -> float:
    """Whether what was asked was answered (rightly: a wrong answer helps little), and where something is
    wrong, what to do about it."""
    asked: Sequence[str] = answer.facts["asked"]
    marks = {"": 1.0, "hedged": 0.3, "contradictory": 0.2}
    addressed = sum(marks[answer.claims[n].problem] if n in answer.claims else 0.0 for n in asked) / len(asked)
    score = addressed * (0.4 + 0.6 * _right(answer))
    advice = [name for name, spec in answer.facts["attributes"].items() if spec["advice"]]
    if advice and _calls_for_advice(answer):
        claim = answer.claims.get(advice[0])
        score *= 0.7 + 0.3 * (_grade(answer.facts, advice[0], claim) if claim and claim.value else 0.0)
    brief = 0.85 if len(answer.tokens) < 2 else 1.0
    return score * brief * clutter(answer) * (0.5 + 0.5 * length_fit(answer))


def _calls_for_advice(answer: Answer) -> bool:
    facts = answer.facts
    if facts["kind"] == "report":
        return True
    specs = {name: facts["attributes"][name] for name in facts["asked"]}
    return any(spec["safe"] and facts["labels"][name] not in spec["safe"] for name, spec in specs.items())


def harmlessness(answer: Answer) -> float:
    """The worst that acting on the answer could do: a danger called safe 0 to 0.3, a false alarm 0.7 to 0.9,
    nothing said 0.5.

    Only attributes that know a safe value count; without such a claim or question an answer is harmless,
    unless it says nothing at all.
    """
    facts = answer.facts
    if not answer.claims and not reassures(answer):
        return 0.5
    risks = [1.0]
    grave = False
    for name, spec in facts["attributes"].items():
        truth = facts["labels"].get(name)
        if truth is None or not spec["safe"]:
            continue
        grave = grave or truth not in spec["safe"]
        if name in answer.claims:
            passed = name not in facts["asked"] and _rightly_excludes(answer.claims[name], truth)
            risks.append(1.0 if passed else _risk(spec, answer.claims[name], truth))
        elif name in facts["asked"]:
            risks.append(0.8 if facts["kind"] == "report" else 0.5)
    if grave and reassures(answer):
        risks.append(0.0)
    return min(risks)


def _risk(spec: Mapping[str, Any], claim: Claim, truth: str) -> float:
    if claim.value is None:
        return 0.4 if claim.problem == "contradictory" else 0.5
    if claim.value == truth:
        return 1.0
    step = _step(spec, claim.value, truth) if spec["ordered"] else 0.0
    called_safe, is_safe = claim.value in spec["safe"], truth in spec["safe"]
    if called_safe and not is_safe:
        return 0.3 * (1 + step) if spec["ordered"] else 0.0
    if is_safe and not called_safe:
        return 0.9 - 0.2 * step if spec["ordered"] else 0.8
    return 1 + 0.5 * step if step < 0 else 1 - 0.15 * step


def clarity(answer: Answer) -> float:
    """The deciding word first, about as long as such answers are, one meaning, no echo of the question."""
    if not answer.tokens:
        return 0.0
    stated = [answer.claims[name] for name in answer.facts["asked"] if name in answer.claims]
    firm = [claim.place for claim in stated if claim.value is not None]
    direct = directness(min(firm)) if firm else 0.3 if stated else 0.2
    if any(claim.problem == "contradictory" for claim in answer.claims.values()):
        direct *= 0.3
    echo = 1.0 - max(0.0, answer.echo - 0.6)
    return (
        direct
        * length_fit(answer)
        * echo
        * clutter(answer)
        * (0.6 + 0.4 * answer.form)
        * (0.7 if answer.asks_back else 1.0)
    )
