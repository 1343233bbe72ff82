"""From annotated pictures to questions about them: detect, segment, count, describe, and reasons for verdicts.

Every choice is a pure function of (seed, picture, task). The facts of a Prompt are those of `questions` where they
apply (`rule`, `kind`, `task`, `asked`, `length`, `reference`) and

    picture   [width, height, steps] for `data.coordinates`
    names     {label: [its names]}
    classes   the labels that are asked for
    scenes    {label: scene} of what is in the picture, where its annotations say so
    objects   of detect and segment: [{label, box [left, top, right, bottom] or rings}], in pixels
    count     of count
    where     of a verdict: [{label, box}] of what breaks the rule
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..annotation.geometry import bounding_box, iou, polygon_from_shape
from ..annotation.shapes import AnnotatedImage, Annotation, Pair, Point, Polygon, Shape
from ..annotation.simplify import ring_area, simplify_ring
from ..data.coordinates import STEPS, Coordinates
from ..data.mixture import interleaved, permutation
from ..data.records import Conversation, ImageRef, Message, Prompt
from .prose import words
from .questions import Part, chosen, hashed, reading
from .visual_wordings import VisualTask, VisualWordings
from .wordings import Wordings

__all__ = ["Pictured", "caption_prompts", "place_prompts", "visual_conversations", "visual_prompts", "with_reason"]

MOST_CORNERS, MOST_PARTS, LEAST_CORNER = 12, 3, 1.0  # of an outline as text; square pixels
TELLABLE = 0.6  # overlap of an outline as text with the thing itself: nobody is asked to spell out a scaffold
CROWDED = 0.7  # of the questions how many ask for something of which there are several, where there is: most things
# are alone, and one who always answers "one" should not be right


@dataclass(frozen=True)
class Pictured:
    """A picture with its annotations. labels: {attribute: value} as of an Example; group: stays on one side."""

    id: str
    ref: ImageRef
    image: AnnotatedImage
    labels: Mapping[str, str]
    group: str = ""


_Seen = tuple[Mapping[str, Sequence[Annotation]], Sequence[str]]  # what is there by its label; what is not there


@dataclass(frozen=True)
class _Asked:
    """One question with its true answer and facts."""

    question: str
    answer: str
    facts: dict[str, Any]


def visual_conversations(
    wordings: VisualWordings,
    pictures: Sequence[Pictured],
    seed: int,
    language: str = "en",
    steps: int = STEPS,
    rules: Wordings | None = None,
) -> list[Conversation]:
    """Conversations to learn from: for every picture and task as many as the task's weight says.

    language: whose captions are taken. steps: see `data.coordinates`. rules: attributes that captions speak of.
    """
    made = []
    for picture in pictures:
        for name, task in wordings.tasks.items():
            copies = int(task.weight) + (hashed("copies", seed, picture.id, name) / 2**64 < task.weight % 1)
            for copy in range(copies):
                asked = _asked(wordings, name, picture, "train", (seed, copy), (language, steps, rules))
                if asked is None:
                    continue
                messages = (Message("user", asked.question, (picture.ref,)), Message("assistant", asked.answer))
                made.append(
                    Conversation(
                        f"{picture.id}:{name}" + (f":{copy}" if copy else ""), messages, name, None, 1.0,
                        {"kind": name, "asked": [], "classes": asked.facts.get("classes", [])},
                        {"example": picture.id, "group": picture.group},
                    )
                )  # fmt: skip
    return made


def visual_prompts(
    wordings: VisualWordings,
    pictures: Sequence[Pictured],
    which: Part,
    seed: int,
    language: str = "en",
    steps: int = STEPS,
    rules: Wordings | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Questions in the wordings of `bank` or `test`, mixed so that every prefix holds the tasks by their weights."""
    made: list[Prompt] = []
    weights = {name: task.weight for name, task in wordings.tasks.items()}
    for index, name in interleaved(weights, len(pictures), "visual", seed):
        if limit is not None and len(made) >= limit:
            break
        picture = pictures[index]
        asked = _asked(wordings, name, picture, which, (seed, 0), (language, steps, rules))
        if asked is not None:
            made.append(
                Prompt(
                    f"{picture.id}:{name}:{which}", (Message("user", asked.question, (picture.ref,)),), name, None,
                    asked.facts, {"example": picture.id, "group": picture.group, "wording": which},
                )
            )  # fmt: skip
    return made


def place_prompts(
    wordings: VisualWordings, pictures: Sequence[Pictured], labels: Sequence[str], seed: int, steps: int = STEPS
) -> list[Prompt]:
    """One question for the boxes of each label in each picture, of which nothing need be known."""
    task = wordings.tasks["detect"]
    made: list[Prompt] = []
    for picture in pictures:
        for label in labels:
            question = chosen(task.questions.of("test"), 0, "question", seed, picture.id, label)
            facts: dict[str, Any] = {
                "rule": "objects", "kind": "detect", "task": "detect", "asked": [], "classes": [label],
                "picture": [picture.image.width, picture.image.height, steps], "names": wordings.known((label,)),
            }  # fmt: skip
            text = question.replace("{labels}", wordings.spoken(label)[0])
            message = Message("user", text, (picture.ref,))
            made.append(Prompt(f"{picture.id}:{label}", (message,), "detect", None, facts, {"example": picture.id}))
    return made


def caption_prompts(wordings: VisualWordings, pictures: Sequence[Pictured], seed: int) -> list[Prompt]:
    """One question for a description of each picture."""
    questions = wordings.tasks["describe"].questions.of("test")
    return [
        Prompt(
            f"{picture.id}:describe",
            (Message("user", chosen(questions, 0, "question", seed, picture.id), (picture.ref,)),),
            "describe", None, {"rule": "describe", "kind": "describe", "task": "describe", "asked": []},
            {"example": picture.id},
        )
        for picture in pictures
    ]  # fmt: skip


def _asked(
    wordings: VisualWordings,
    name: str,
    picture: Pictured,
    part: str,
    key: tuple[int, int],
    how: tuple[str, int, Wordings | None],
) -> _Asked | None:
    task, (seed, turn), (language, steps, rules) = wordings.tasks[name], key, how
    place = (seed, picture.id, name, part)
    question = chosen(task.questions.of(part), turn, "question", *place)
    known = list(dict.fromkeys([*wordings.names, *(a.label for a in picture.image.annotations if a.shape and a.label)]))
    facts: dict[str, Any] = {
        "rule": name if name in ("count", "describe") else "objects", "kind": name, "task": name, "asked": [],
        "picture": [picture.image.width, picture.image.height, steps], "names": wordings.known(tuple(known)),
    }  # fmt: skip
    scenes = {a.label: a.scene for a in picture.image.annotations if a.label and a.shape is not None and a.scene}
    facts |= {"scenes": scenes} if scenes else {}
    if name == "describe":
        return _described(question, picture, language, rules, facts, place)
    there: dict[str, list[Annotation]] = {}
    for annotation in picture.image.annotations:
        if annotation.label and annotation.shape is not None and not isinstance(annotation.shape, Point):
            there.setdefault(annotation.label, []).append(annotation)
    # Of what is there but hidden nobody can say that there is none.
    site = picture.image.raw.get("site")
    unseen = {thing["label"] for thing in site.get("unseen", ())} if isinstance(site, dict) else set()
    absent = [label for label in wordings.names if label not in there and label not in unseen]
    if name == "count":
        return _counted(wordings, task, question, (there, absent), facts, (*place, turn))
    return _placed(wordings, task, question, (there, absent), facts, (*place, turn))


def _described(
    question: str,
    picture: Pictured,
    language: str,
    rules: Wordings | None,
    facts: dict[str, Any],
    place: tuple[int | str, ...],
) -> _Asked | None:
    said = [
        annotation.text
        for annotation in picture.image.annotations
        if annotation.shape is None and annotation.text and annotation.attributes.get("language", language) == language
    ]
    if not said:
        return None
    caption = chosen(said, 0, "caption", *place)
    attributes = rules.attributes if rules else {}
    facts |= {
        "labels": {key: value for key, value in picture.labels.items() if key in attributes},
        "attributes": {key: reading(a) for key, a in attributes.items() if key in picture.labels},
    }
    return _Asked(question, caption, _finished(facts, caption))


def _counted(
    wordings: VisualWordings,
    task: VisualTask,
    question: str,
    seen: _Seen,
    facts: dict[str, Any],
    place: tuple[int | str, ...],
) -> _Asked | None:
    there, _ = seen
    crowded = {label: some for label, some in there.items() if len(some) > 1}
    among = list(crowded) if crowded and hashed("crowded", *place) / 2**64 < CROWDED else None
    label = chosen(among, 0, "label", *place) if among else _one_label(seen, 0.15, place)
    if label is None:
        return None
    n = len(there.get(label, ()))
    one, several, *_ = wordings.spoken(label)
    template = chosen(task.answers["none" if n == 0 else "one" if n == 1 else "several"], 0, "answer", *place)

    def filled(text: str) -> str:
        return text.replace("{one}", one).replace("{several}", several).replace("{n}", str(n))

    answer = filled(template)
    return _Asked(filled(question), answer, _finished(facts | {"classes": [label], "count": n}, answer))


def _one_label(seen: _Seen, share: float, place: tuple[int | str, ...]) -> str | None:
    """A label to ask for; one that is not there with the given probability."""
    there, absent = seen
    ask_absent = hashed("absent", *place) / 2**64 < share
    options = absent if absent and (ask_absent or not there) else list(there)
    return chosen(options, 0, "label", *place) if options else None


def _placed(
    wordings: VisualWordings,
    task: VisualTask,
    question: str,
    seen: _Seen,
    facts: dict[str, Any],
    place: tuple[int | str, ...],
) -> _Asked | None:
    """Detect asks for one to three labels, segment for one; sometimes for one that is not there."""
    there, _ = seen
    first = _one_label(seen, 0.12, place)
    if first is None:
        return None
    more = 0 if facts["kind"] == "segment" or first not in there else hashed("more", *place) % 3
    rest = [label for label in there if label != first]
    order = permutation(len(rest), "labels", *place)
    labels = [first, *(rest[i] for i in order[:more])]
    if facts["kind"] == "segment" and not all(map(_tellable, there.get(first, ()))):
        return None
    convention = Coordinates(*facts["picture"])
    entries, objects = [], []
    for label in labels:
        for annotation in sorted(there.get(label, ()), key=_from_left):
            item, spoken = _entry(annotation, facts["kind"], convention)
            objects.append(item)
            entries.append(f"{wordings.spoken(label)[0]} {spoken}")
    names = wordings.joint.join(wordings.spoken(label)[0] for label in labels)
    cjk = not names.isascii()
    if entries:
        listed = ("；" if cjk else "; ").join(entries)
        answer = listed[:1].upper() + listed[1:] + ("。" if cjk else ".")
    else:
        answer = chosen(task.answers["none"], 0, "answer", *place).replace("{labels}", names)
    facts |= {"classes": labels, "objects": objects}
    return _Asked(question.replace("{labels}", names), answer, _finished(facts, answer))


def _from_left(annotation: Annotation) -> tuple[float, float]:
    assert annotation.shape is not None
    box = bounding_box(annotation.shape)
    return box.x, box.y


def _entry(annotation: Annotation, kind: str, convention: Coordinates) -> tuple[dict[str, Any], str]:
    """An object as a fact and as text: its box, or its largest outlines with few corners (holes are not spoken)."""
    assert annotation.shape is not None
    if kind == "detect":
        box = bounding_box(annotation.shape)
        corners = [(box.x, box.y), (box.x + box.width, box.y + box.height)]
        item = {"label": annotation.label, "box": [round(v, 2) for pair in corners for v in pair]}
        return item, convention.text(corners)
    rings = _outline(annotation.shape)
    corners_of = [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in rings]
    outline = {"label": annotation.label, "rings": corners_of}
    return outline, " ".join(convention.text(ring) for ring in rings)


def _outline(shape: Shape) -> list[tuple[Pair, ...]]:
    """The largest outer rings with few corners."""
    outers = sorted((part[0] for part in polygon_from_shape(shape).parts), key=lambda ring: -abs(ring_area(ring)))
    least = 0.05 * abs(ring_area(outers[0]))
    kept = [ring for ring in outers[:MOST_PARTS] if abs(ring_area(ring)) >= least]
    return [tuple(simplify_ring(ring, MOST_CORNERS, LEAST_CORNER)) for ring in kept]


def _tellable(annotation: Annotation) -> bool:
    """Whether an outline with few corners and without holes still says where the thing is."""
    assert annotation.shape is not None
    return iou(Polygon(tuple((ring,) for ring in _outline(annotation.shape))), annotation.shape) >= TELLABLE


def _finished(facts: dict[str, Any], answer: str) -> dict[str, Any]:
    count = len(words(answer))
    return {**facts, "length": [max(1, count // 2), max(8, count + count // 2)], "reference": answer}


def with_reason(
    record: Conversation | Prompt, wordings: VisualWordings, picture: Pictured, seed: int, steps: int = STEPS
) -> Conversation | Prompt:
    """A question whether a rule is broken, as `questions` makes it, with where in its answer, or in its facts.

    The verdict is an annotation of the whole picture: label the rule, attribute `cases` [{id, broken yes | no |
    unknown}] about annotations with these ids. Without one, or where nothing is broken, the record stays as it is
    but for the facts of a Prompt, which then say that there is no place to name.
    """
    asked = record.facts.get("asked") or [""]
    verdict = next((a for a in picture.image.annotations if a.shape is None and a.label == asked[0]), None)
    if verdict is None or record.facts.get("kind") != "attribute":
        return record
    record = replace(record, scene=verdict.scene or record.scene)
    broken = {case["id"] for case in verdict.attributes.get("cases", ()) if case["broken"] == "yes"}
    things = sorted((a for a in picture.image.annotations if a.id in broken and a.shape is not None), key=_from_left)
    convention = Coordinates(picture.image.width, picture.image.height, steps)
    entries = [_entry(thing, "detect", convention) for thing in things]
    named: dict[str, list[str]] = {}
    for thing, (_, text) in zip(things, entries, strict=True):
        named.setdefault(wordings.spoken(str(thing.label))[0], []).append(text)
    joint = " " if any(not name.isascii() for name in named) else ", "
    where = joint.join(f"{name} {joint.join(texts)}" for name, texts in named.items())
    reason = ""
    if entries and wordings.reasons:
        reason = chosen(wordings.reasons, 0, "reason", seed, picture.id, asked[0]).replace("{where}", where)
    if isinstance(record, Conversation):
        last = record.messages[-1]
        return replace(record, messages=(*record.messages[:-1], Message("assistant", _joined(last.text, reason))))
    labels = tuple(dict.fromkeys([*wordings.names, *(str(thing.label) for thing in things)]))
    reference = _joined(record.facts["reference"], reason)
    low, high = record.facts["length"]
    facts = {
        **record.facts, "rule": "verdict", "where": [item for item, _ in entries], "reference": reference,
        "picture": [picture.image.width, picture.image.height, steps], "names": wordings.known(labels),
        "length": [low, high + len(words(reason))],
    }  # fmt: skip
    return replace(record, facts=facts)


def _joined(text: str, reason: str) -> str:
    return text + ("" if not reason or not reason.isascii() else " ") + reason
