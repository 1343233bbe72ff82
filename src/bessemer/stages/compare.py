"""Say what the reports of several seeds and splits mean together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bessemer.config import Artifact
from bessemer.disk import write_atomic, write_json
from bessemer.errors import UserError
from bessemer.report.summary import find_report, read_report, summarise
from bessemer.report.summary_table import summary_markdown, summary_text

__all__ = ["Config", "run"]


@dataclass
class Config:
    POSITIONAL: ClassVar[tuple[str, ...]] = ("reports",)

    reports: list[Artifact] = field(default_factory=list)
    """The reports: report.json files, or the directories of runs that hold one."""
    output_dir: str | None = None
    """Where to write comparison.json and comparison.md; none: they are only shown."""


def run(config: Config) -> Path:
    """Print the table, write it if asked to, and return where it was written (else the first report)."""
    if not config.reports:
        raise UserError("which reports? expected: bessemer compare runs/first runs/second ... [output_dir=DIR]")
    paths = [find_report(Path(place)) for place in config.reports]
    twice = [path for i, path in enumerate(paths) if path.resolve() in [other.resolve() for other in paths[:i]]]
    if twice:
        raise UserError(f"{twice[0]} is given twice, expected every report once")
    summary = summarise({str(path): read_report(path) for path in paths})
    print(summary_text(summary), end="")
    if config.output_dir is None:
        return paths[0]
    target = Path(config.output_dir)
    write_json(target / "comparison.json", summary)
    write_atomic(target / "comparison.md", summary_markdown(summary).encode())
    print(f"wrote {target / 'comparison.json'} and {target / 'comparison.md'}")
    return target
