"""A tool for tests whose last positional argument takes all the words that remain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Config:
    """Prints its words."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("first", "things")

    first: str = ""
    """One."""
    things: list[str] = field(default_factory=lambda: ["none"])
    """Many."""


def run(config: Config) -> Path:
    print(f"{config.first}: {config.things}")
    return Path()
