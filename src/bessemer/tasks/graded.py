"""Answers that are worse in known ways: the true one graded down by each principle, and any answer spoilt in its form.

They show what the rules order (tests), and compete in rankings, so that a reward model meets flaws which the model does
not have yet. English and Chinese.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from ..annotation.shapes import Pair
from ..annotation.simplify import ring_area
from ..data.coordinates import Coordinates, read_lists
from ..data.records import Prompt
from .prose import CJK, FUNCTION_WORDS, sentences, words
from .sightings import plain

__all__ = ["graded_answers", "spoilt", "worse_answers"]

FAR, NEAR = 0.22, 0.08  # how far boxes are moved, as a share of their size
_SENTENCE = re.compile(r"[^.。]*[.。]\s*")
_PIECE = re.compile(rf"[{CJK}]|[^\s{CJK}]+\s*")
_CLOSING = ".!?。！？… "
_DEBRIS = ("\ufffd\ufffd ", "### ", "~~~@@ ", "xqzvtr ", "}}); ", "\ufffd\u0007")


def graded_answers(prompt: Prompt) -> dict[str, tuple[str, ...]]:
    """For each principle two to four answers, the best (the reference) first, each worse by that principle than the
    one before; other principles may suffer too. Empty for prompts whose rule this does not know: it knows those of
    `visual`."""
    made = _MAKERS.get(prompt.facts.get("rule", ""))
    if made is None:
        return {}
    reference = str(prompt.facts["reference"])
    chinese = bool(re.search(f"[{CJK}]", reference))
    found = made(prompt.facts, reference, chinese)
    return {name: tuple(dict.fromkeys(answers)) for name, answers in {**found, **_form(reference, chinese)}.items()}


def worse_answers(prompt: Prompt) -> tuple[str, ...]:
    """All that `graded_answers` made worse, each once; none for prompts that it does not know."""
    return tuple(dict.fromkeys(text for texts in graded_answers(prompt).values() for text in texts[1:]))


def spoilt(text: str, draw: int) -> tuple[str, bool] | None:
    """An answer with its form spoilt, and whether it still ends by itself; None for a text without words.

    draw: a large number that chooses how (cut off, said again and again, stuttered, neither begun nor closed, keywords
    alone, debris in it) and where.
    """
    pieces = _PIECE.findall(text.strip())
    if not pieces:
        return None
    draw, kind = divmod(draw, 6)
    place = draw % len(pieces)
    joint = "" if re.search(f"[{CJK}]", text) else " "
    if kind == 0 and len(pieces) > 1:
        return "".join(pieces[: max(1, place)]).rstrip(_CLOSING + ",;，；"), False
    if kind == 1:
        return text.strip() + 3 * (joint + sentences(text)[-1]), True
    if kind == 2:
        place = next((i for i in range(place, -1, -1) if words(pieces[i])), 0)  # not a comma
        return "".join([*pieces[:place], *4 * [pieces[place].rstrip() + joint], *pieces[place:]]).strip(), True
    if kind == 3:
        kept = [piece for piece in pieces if piece.strip(_CLOSING + ",").lower() not in FUNCTION_WORDS]
        if len(kept) >= 3:
            return "".join(kept).lower().rstrip(_CLOSING), True
    if kind == 4:
        bits = [_DEBRIS[(draw // len(pieces) + step) % len(_DEBRIS)] for step in range(2)]
        return "".join([*pieces[:place], bits[0], *pieces[place:], bits[1]]).strip(), True
    plain = text.strip()
    return (plain[:1].lower() + plain[1:]).rstrip(_CLOSING), True


def _form(reference: str, chinese: bool) -> dict[str, Sequence[str]]:
    """Worse in form alone: not closed, broken; talkative."""
    unclosed = (reference[:1].lower() + reference[1:]).rstrip(".。")
    talk = "让我看一看，情况是这样的，" if chinese else "Let me have a look at it. I should say that it is so: "
    asks = "您觉得呢？您还想知道什么？" if chinese else " Does that help you? What do you think?"
    return {
        "fluency": (reference, unclosed, "\ufffd ### \ufffd ~~~ \ufffd @@@ " + unclosed[:12]),
        "clarity": (reference, talk + reference + asks),
    }  # fmt: skip


def _moved(facts: dict[str, Any], text: str, by: float, only: int | None = None) -> str:
    """The text with its boxes and outlines moved to the right and down by a share of their size, outlines by one of
    their breadth (to the left and up where there is no room), all or those with this number and more."""
    convention = Coordinates(*facts["picture"])
    out, end = "", 0
    for number, listed in enumerate(read_lists(text)):
        points = convention.points(listed.numbers)
        if only is None or number >= only:
            xs, ys = [x for x, _ in points], [y for _, y in points]
            wide = _breadth(points)
            dx, dy = by * min(wide, max(xs) - min(xs)), by * min(wide, max(ys) - min(ys))
            dx = -dx if max(xs) + dx > convention.width else dx
            dy = -dy if max(ys) + dy > convention.height else dy
            points = [(x + dx, y + dy) for x, y in points]
        out += text[end : listed.start] + convention.text(points)
        end = listed.end
    return out + text[end:]


def _breadth(points: Sequence[Pair]) -> float:
    """Of an outline, the diameter of a disc or the doubled width of a strip: who moves a thin thing by more than its
    width moves it off itself. Of a box there is none."""
    if len(points) < 3:
        return math.inf
    around = sum(math.dist(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True))
    return 4 * abs(ring_area(points)) / max(around, 1e-9)


def _denial(facts: dict[str, Any], chinese: bool) -> str:
    name = facts["names"][facts["classes"][0]][0]
    return f"图中没有{name}。" if chinese else f"There is no {name}."


def _objects(facts: dict[str, Any], reference: str, chinese: bool) -> dict[str, Sequence[str]]:
    name = facts["names"][facts["classes"][0]][0]
    whole = facts["picture"][2] or min(facts["picture"][:2])
    corner = f"{name} [0, 0, {whole // 50}, {whole // 50}]"
    if facts["kind"] == "segment":
        corner = f"{name} [0, 0, {whole // 50}, 0, {whole // 50}, {whole // 50}]"
    close = "。" if chinese else "."
    if not facts["objects"]:
        invented = corner[:1].upper() + corner[1:] + close
        return {name: (reference, invented) for name in ("truthfulness", "helpfulness", "harmlessness")}
    denied = _denial(facts, chinese)
    near, far = _moved(facts, reference, NEAR), _moved(facts, reference, FAR)
    parts = re.split(r"[;；]\s*", reference.rstrip(".。"))
    half = ("；" if chinese else "; ").join(parts[: len(parts) // 2]) + close
    invented = reference.rstrip(".。") + ("；" if chinese else "; ") + corner + close
    return {
        "truthfulness": (reference, near, far, denied),
        "helpfulness": (reference, half, denied) if len(parts) > 1 else (reference, near, far, denied),
        "harmlessness": (reference, invented, half, denied) if len(parts) > 1 else (reference, invented, denied),
    }


def _count(facts: dict[str, Any], reference: str, chinese: bool) -> dict[str, Sequence[str]]:
    truth = int(facts["count"])

    def said(number: int) -> str:
        return re.sub(r"\d+", str(number), reference)

    evasive = "请看图，图中可以看到。" if chinese else "You can see them in the picture."
    more: Sequence[str] = (reference, said(truth + 1), said(truth + 3))
    fewer: Sequence[str] = (reference, said(truth - 1), said(0)) if truth > 1 else (reference, said(truth + 2))
    return {"truthfulness": more, "helpfulness": (*more[:2], evasive), "harmlessness": fewer}


def _describe(facts: dict[str, Any], reference: str, chinese: bool) -> dict[str, Sequence[str]]:
    sentences = _SENTENCE.findall(reference)
    first = sentences[0].strip()
    broken = [name for name, value in facts["labels"].items() if value == "yes"]
    sound = [name for name, value in facts["labels"].items() if value == "no"]
    close = "。" if chinese else "."

    def claim(name: str, value: str) -> str:
        phrase = facts["attributes"][name]["says"][value][0]
        return f"{'图中' if chinese else 'Here it is: '}{phrase}{close}"

    false = claim(sound[0], "yes") if sound else ""
    found: dict[str, Sequence[str]] = {"truthfulness": (reference, reference + ("" if chinese else " ") + false)}
    if not broken:
        return found if sound else {}
    safe = "无需担心，可以忽略。" if chinese else "There is nothing to worry about."
    joint = "" if chinese else " "
    denied = claim(broken[0], "no")
    return {
        "truthfulness": (*(found["truthfulness"] if sound else (reference,)), first + joint + denied + joint + false),
        "helpfulness": (reference, first),
        "harmlessness": (reference, first, first + joint + denied, first + joint + safe),
    }


def _verdict(facts: dict[str, Any], reference: str, chinese: bool) -> dict[str, Sequence[str]]:
    name = facts["asked"][0]
    truth, other = facts["expected"][name], "no" if facts["expected"][name] == "yes" else "yes"
    says = facts["attributes"][name]["says"]
    close = "。" if chinese else "."
    spoken = f"{facts['choices'][other]}{'，' if chinese else ', '}{says[other][0]}{close}"
    bare = f"{facts['choices'][truth]}{'，' if chinese else ', '}{says[truth][0]}{close}"
    hedged = "可能吧，无法确定。" if chinese else "Maybe, it is hard to say."
    if truth == "no":
        return {"truthfulness": (reference, hedged, spoken), "harmlessness": (reference, spoken)}
    safe = "无需担心，可以忽略。" if chinese else " There is nothing to worry about."
    found: dict[str, Sequence[str]] = {"truthfulness": (reference, bare, spoken)}
    found["harmlessness"] = (reference, hedged, spoken + safe)
    if facts["where"] and plain(reference) != reference:
        found["truthfulness"] = (reference, _moved(facts, reference, FAR), bare, spoken)
        found["helpfulness"] = (reference, bare, spoken)
    return found


_Maker = Callable[[dict[str, Any], str, bool], dict[str, Sequence[str]]]
_MAKERS: dict[str, _Maker] = {"objects": _objects, "count": _count, "describe": _describe, "verdict": _verdict}
