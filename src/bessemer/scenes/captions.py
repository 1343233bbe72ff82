"""What is to be seen in a scene, in a few sentences, made of the annotations and the verdicts. English and Chinese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..annotation.shapes import AnnotatedImage, Annotation
from .rules import Verdict

__all__ = ["captions"]

_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_CHINESE = ("没有", "一", "两", "三", "四", "五", "六", "七", "八", "九")
_PLACES = {"warehouse": "仓库", "corridor": "走廊", "building site": "工地", "yard": "院子"}
# rule -> (of one person or thing, of several)
_BROKEN = {
    "no helmet": ("{} person wears no helmet.", "{} people wear no helmet."),
    "no vest": ("{} person wears no vest.", "{} people wear no vest."),
    "in marked zone": ("{} person stands in the marked zone.", "{} people stand in the marked zone."),
    "near vehicle": ("{} person is too close to a vehicle.", "{} people are too close to a vehicle."),
    "climbing without rope": ("{} person climbs without a rope.", "{} people climb without a rope."),
    "spill": ("Liquid has been spilt on the floor.", "Liquid has been spilt on the floor."),
    "smoke": ("Dark smoke rises.", "Dark smoke rises."),
    "fire": ("Something is on fire.", "Something is on fire."),
    "blocked exit": ("The emergency exit is blocked.", "The emergency exits are blocked."),
    "missing extinguisher": ("The extinguisher is missing.", "Extinguishers are missing."),
}
_BROKEN_CHINESE = {
    "no helmet": "{}人没有戴安全帽。",
    "no vest": "{}人没有穿反光背心。",
    "in marked zone": "{}人站在警戒区内。",
    "near vehicle": "{}人离车辆太近。",
    "climbing without rope": "{}人登高没有系安全绳。",
    "spill": "地面有泄漏的液体。",
    "smoke": "有黑烟冒出。",
    "fire": "有东西着火了。",
    "blocked exit": "安全出口被堵住。",
    "missing extinguisher": "灭火器不在原位。",
}


def captions(image: AnnotatedImage, verdicts: Sequence[Verdict], place: str) -> tuple[Annotation, ...]:
    """A caption in each language, as annotations without a shape; attribute `language`: en, zh."""
    counts = Counter(annotation.label for annotation in image.annotations if annotation.shape is not None)
    english, chinese = [_opening(counts, place)], [_opening_chinese(counts, place)]
    for verdict in verdicts:
        number = min(9, sum(case.broken is True for case in verdict.cases))
        if number:
            english.append(_BROKEN[verdict.rule][number > 1].format(_NUMBERS[number]))
            chinese.append(_BROKEN_CHINESE[verdict.rule].format(_CHINESE[number]))
    if len(english) == 1 and all(verdict.broken is False for verdict in verdicts):
        english.append("No hazard and no violation can be seen.")
        chinese.append("没有看到隐患和违规。")
    return tuple(
        Annotation(f"caption-{language}", text=text, attributes={"language": language}, source="generated")
        for language, text in (("en", " ".join(english)), ("zh", "".join(chinese)))
    )


def _opening(counts: Counter[str | None], place: str) -> str:
    people = min(9, counts["person"])
    said = f"{_NUMBERS[people]} {'person works' if people == 1 else 'people work'}" if people else "Nobody works"
    others = [
        f"a {name}" if counts[name] == 1 else f"{_NUMBERS[min(9, counts[name])].lower()} {name}s"
        for name in ("vehicle", "ladder")
        if counts[name]
    ]
    beside = f" with {' and '.join(others)}" if others else ""
    return f"{said} in a {place}{beside}."


def _opening_chinese(counts: Counter[str | None], place: str) -> str:
    people = min(9, counts["person"])
    said = f"{_CHINESE[people]}人在{_PLACES[place]}里作业" if people else f"{_PLACES[place]}里没有人"
    others = [
        f"{_CHINESE[min(9, counts[name])]}{unit}"
        for name, unit in (("vehicle", "辆车"), ("ladder", "架梯子"))
        if counts[name]
    ]
    return said + (f"，旁边有{'和'.join(others)}" if others else "") + "。"
