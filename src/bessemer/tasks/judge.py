"""The gold rule: an answer's score by each principle, from what is known about its prompt, by rules.

Called "rules" wherever its scores or rankings appear, never "people". It knows these kinds of questions
(`facts["rule"]`): about labels of a photograph (`labelled`), about what a photograph cannot show
(`declining`), about a short text (`documents`), and, with annotations, where things are (`placing`), how many
(`counting`), what is to be seen (`describing`) and whether and where a rule is broken (`verdicts`).

Scores are graded in [0, 1] so that K answers can be ordered; None means that the rules cannot judge (no
facts, or a principle they do not know), and is never to be replaced by a number.

What it is not: it reads claims by phrases (`parse`), so a right answer in words that the wordings file does
not know counts as silent; fluency is form (begun, closed, nothing repeated, no broken characters), not style;
harmlessness is about acting on a wrong label, not about content in general; the weights of its parts are
judgement, written in the code where they act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..data.records import Prompt
from . import counting, declining, describing, documents, labelled, placing, verdicts
from .answer import Answer, fluency, look_at

__all__ = ["PRINCIPLES", "judge"]

PRINCIPLES = ("truthfulness", "helpfulness", "harmlessness", "fluency", "clarity")

_Rule = Callable[[Answer], float]
_RULES: Mapping[str, Mapping[str, _Rule]] = {
    rule: {
        "truthfulness": room.truthfulness,
        "helpfulness": room.helpfulness,
        "harmlessness": room.harmlessness,
        "fluency": form,
        "clarity": room.clarity,
    }
    for rule, room, form in (
        ("attributes", labelled, fluency),
        ("unanswerable", declining, fluency),
        ("text", documents, fluency),
        ("objects", placing, placing.fluency),
        ("count", counting, fluency),
        ("describe", describing, fluency),
        ("verdict", verdicts, verdicts.fluency),
    )
}


def judge(prompt: Prompt, answer: str, ended: bool, principles: Sequence[str] = PRINCIPLES) -> dict[str, float | None]:
    """Score one answer by each principle, in [0, 1], higher is better; None where the rules cannot judge.

    ended: whether the model closed the answer itself; an answer that was cut off is not fluent. A prompt
    without facts gets fluency alone.
    """
    seen = look_at(prompt, answer, ended)
    rules = _RULES.get(prompt.facts.get("rule", ""), {"fluency": fluency})
    return {name: round(min(1.0, max(0.0, rules[name](seen))), 6) if name in rules else None for name in principles}
