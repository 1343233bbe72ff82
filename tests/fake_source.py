"""A stage for tests: writes a file that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bessemer.run import Run


@dataclass(frozen=True)
class Config:
    """Writes `text`."""

    output_dir: str = ""
    """Where it writes."""
    seed: int = 0
    """Seed."""
    text: str = "样本"
    """What it writes."""
    defer: bool = False
    """Return without finishing."""


def run(config: Config) -> Path:
    run = Run.start(config.output_dir, config, stage="source", parents={}, seed=config.seed)
    (run.directory / "records.jsonl").write_text(config.text, encoding="utf-8")
    return run.directory if config.defer else run.finish(records=1)
