"""A tool for tests: not a stage of a recipe, with a positional argument."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Config:
    """Prints its question."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("question",)

    question: str = ""
    """What to ask."""
    model: str = ""
    """Whom to ask."""
    loud: bool = False
    """Shout."""


def run(config: Config) -> Path:
    if config.question == "crash":
        raise ZeroDivisionError("asked to")
    print(f"{config.model}: {config.question.upper() if config.loud else config.question}")
    return Path()
