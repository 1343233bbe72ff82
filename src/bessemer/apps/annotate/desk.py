"""What the routes work on: the project, its people and its pictures."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...annotation.store import Project
from .pixels import Pictures
from .sessions import Sessions

__all__ = ["Desk", "Language"]

Language: TypeAlias = Literal["auto", "en", "zh"]


@dataclass(frozen=True)
class Desk:
    """One open project and whom it is open to. slow: held by what computes for seconds, so that it runs once."""

    project: Project
    name: str
    sessions: Sessions
    pictures: Pictures
    language: Language = "auto"
    slow: threading.Lock = field(default_factory=threading.Lock)
