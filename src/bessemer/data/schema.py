"""The records that stages hand to one another, checked when they are made; `records` reads and writes them.

Every class raises UserError "what, expected what" on values that break its rules.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from ..errors import UserError
from .paths import check_path, shown

__all__ = [
    "ROLES", "SCENES", "SPLITS", "Conversation", "Document", "Example", "ImageRef", "Message", "Prompt",
    "Ranking", "Record", "Role", "Scene", "Split", "choice", "is_number", "need",
    "subject_of",
]  # fmt: skip

Role: TypeAlias = Literal["system", "user", "assistant"]
Scene: TypeAlias = Literal["equipment", "environment", "personnel"]
Split: TypeAlias = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
SCENES: tuple[Scene, ...] = ("equipment", "environment", "personnel")
SPLITS: tuple[Split, ...] = ("train", "val", "test")

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageRef:
    """An image file: path, absolute or relative to the record file's folder, and the SHA-256 of its bytes in
    hex."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)
        need(_SHA256.fullmatch(self.sha256), f"sha256 {shown(self.sha256)!r}", "64 digits 0-9a-f")


@dataclass(frozen=True)
class Message:
    """One turn; images (the user's alone) come before the text."""

    role: Role
    text: str
    images: tuple[ImageRef, ...] = ()

    def __post_init__(self) -> None:
        choice(self.role, ROLES, "role")
        need(
            not self.images or self.role == "user",
            f"images in a message of {self.role!r}",
            "images from the user",
        )
        need(self.text.strip() or self.images, f"the text of {self.role!r} is empty", "text or an image")


@dataclass(frozen=True)
class Conversation:
    """Turns to train on, the last one the assistant's; `weight` scales its loss, `facts` is what is known to
    be true."""

    id: str
    messages: tuple[Message, ...]
    task: str = ""
    scene: Scene | None = None
    weight: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self.id, self.scene)
        _check_turns(self.messages, last="assistant")
        object.__setattr__(self, "weight", _weight(self.weight))


@dataclass(frozen=True)
class Prompt:
    """Turns to answer, the last one the user's."""

    id: str
    messages: tuple[Message, ...]
    task: str = ""
    scene: Scene | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self.id, self.scene)
        _check_turns(self.messages, last="user")


@dataclass(frozen=True)
class Ranking:
    """K >= 2 answers to one prompt and one annotator's order of them by each principle.

    ended: K flags, True where the model itself ended the answer. ranks: principle -> K ranks from 1 (best) to
    K, equal ranks are ties, gaps are allowed, None is "cannot judge". shown_order: the answers' indices in
    the order in which they were shown. The id may stand once for each annotator.
    """

    id: str
    prompt: Prompt
    responses: tuple[str, ...]
    ended: tuple[bool, ...]
    ranks: dict[str, tuple[int | None, ...]]
    annotator: str
    shown_order: tuple[int, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self.id, None)
        k = len(self.responses)
        need(k >= 2, f"{k} responses", "at least 2 to rank")
        need(len(self.ended) == k, f"{len(self.ended)} flags in 'ended'", f"{k}, one a response")
        need(
            sorted(self.shown_order) == list(range(k)),
            f"shown_order {self.shown_order}",
            f"each of 0..{k - 1} once",
        )
        need(self.annotator.strip(), "annotator is empty", "who or what ranked")
        for principle, ranks in self.ranks.items():
            need(len(ranks) == k, f"{len(ranks)} ranks of {shown(principle)!r}", f"{k}, one a response")
            for rank in ranks:
                ok = rank is None or (type(rank) is int and 1 <= rank <= k)
                need(ok, f"rank {rank!r} of {shown(principle)!r}", f"1 (best) to {k}, or null")


@dataclass(frozen=True)
class Document:
    """Plain text."""

    id: str
    text: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self.id, None)
        need(self.text.strip(), "the text is empty", "some text")


@dataclass(frozen=True)
class Example:
    """One labelled photograph.

    labels: attribute -> value; an attribute that nobody labelled is absent. soft: attribute -> probability in
    [0, 1] of the attribute's positive value, where raters were unsure. weight: confidence in the labels.
    group: images of one group stay on one side of a grouped split.
    """

    id: str
    image: ImageRef
    labels: dict[str, str]
    soft: dict[str, float] = field(default_factory=dict)
    weight: float = 1.0
    group: str = ""
    split: Split = "train"
    scene: Scene | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_common(self.id, self.scene)
        choice(self.split, SPLITS, "split")
        need(self.labels, "labels are empty", "at least one attribute with its value")
        for name, value in self.labels.items():
            ok = bool(name.strip()) and isinstance(value, str) and bool(value.strip())
            need(ok, f"label {shown(name)!r}: {shown(value)!r}", "a name and a value of text")
        for name, share in self.soft.items():
            need(name in self.labels, f"soft label {shown(name)!r}", f"one of {sorted(self.labels)}")
            need(is_number(share) and 0 <= share <= 1, f"soft label {shown(name)!r}: {share!r}", "0 to 1")
        object.__setattr__(self, "weight", _weight(self.weight))
        object.__setattr__(self, "soft", {name: float(share) for name, share in self.soft.items()})


Record: TypeAlias = Conversation | Prompt | Ranking | Document | Example
V = TypeVar("V")


def need(condition: object, what: str, expected: str) -> None:
    """Raise UserError "what, expected what" unless the condition holds."""
    if not condition:
        raise UserError(f"{what}, expected {expected}")


def choice(value: object, options: tuple[V, ...], name: str) -> V:
    """The option that the value equals; UserError names them all when there is none."""
    for option in options:
        if value == option:
            return option
    raise UserError(f"{name} {shown(value, 40)!r}, expected one of {', '.join(map(str, options))}")


def _check_common(id: str, scene: Scene | None) -> None:
    need(id.strip(), "id is empty", "a name of its own for every record")
    if scene is not None:
        choice(scene, SCENES, "scene")


def _check_turns(messages: tuple[Message, ...], last: Role) -> None:
    """An optional system message, then user and assistant in turn, from the user to `last`."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    need(turns, "no messages", "at least one of the user")
    for number, turn in enumerate(turns):
        due = "assistant" if number % 2 else "user"
        need(
            turn.role == due,
            f"message {len(messages) - len(turns) + number + 1} is of {turn.role!r}",
            f"{due!r}",
        )
    need(turns[-1].role == last, f"the last message is of {turns[-1].role!r}", f"{last!r}")


def is_number(value: object) -> bool:
    """A finite int or float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _weight(value: float) -> float:
    need(is_number(value) and value >= 0, f"weight {value!r}", "a number of 0 or more")
    return float(value)


def subject_of(messages: Sequence[Message]) -> str:
    """What messages are about, for whoever must not see it twice: their photographs, or else their words."""
    seen = sorted(image.sha256 for message in messages for image in message.images)
    said = [f"{message.role}: {' '.join(message.text.casefold().split())}" for message in messages]
    return hashlib.sha256("\0".join(seen or said).encode()).hexdigest()[:16]
