"""How every stage begins: its directory, its parents' hashes, its seed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bessemer.config import artifacts
from bessemer.run import Run

__all__ = ["begin", "cache_directory"]


def begin(config: Any, stage: str) -> Run:
    """Start (or resume) the run of a stage whose config has `output_dir`, `seed` and Artifact fields."""
    parents = {field: Path(value) for field, value in artifacts(config).items() if Path(value).is_dir()}
    return Run.start(Path(config.output_dir), config, stage=stage, parents=parents, seed=config.seed)


def cache_directory() -> Path:
    """Where assets and visual features are kept: $BESSEMER_CACHE, or bessemer in the user's cache folder."""
    given = os.environ.get("BESSEMER_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "bessemer"
