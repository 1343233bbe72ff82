"""What a stage was made of: the manifest in its directory, and the fingerprint that says whether it is still
current."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .assets import ASSETS
from .config import artifacts
from .disk import tree_hash
from .errors import UserError

__all__ = [
    "MANIFEST",
    "content_hash",
    "fingerprint",
    "is_current",
    "is_stage",
    "parent_paths",
    "read_manifest",
]

MANIFEST = "manifest.json"
# Differ from run to run though the results do not: times, paths, and what only serves to go on.
_NOT_CONTENT = (MANIFEST, "config.yaml", "timings.jsonl", "checkpoints", "tensorboard", "error.txt")
_BESIDE_STAGES = ("report.json", "report.html")  # evaluate's copies


def read_manifest(directory: str | Path) -> dict[str, Any] | None:
    """The manifest of a stage's directory; None when there is none.

    Raises:
        UserError: it is not the JSON object that `Run` writes.
    """
    path = Path(directory, MANIFEST)
    try:
        manifest = json.loads(path.read_bytes())
        if not isinstance(manifest, dict) or not {"stage", "status", "fingerprint"} <= set(manifest):
            raise ValueError("stage, status or fingerprint is missing")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({error}), expected what a stage wrote; move {path.parent} away and run again"
        ) from error
    except OSError as error:
        raise UserError(f"{path} could not be read ({error.strerror}), expected a stage's manifest") from error
    return manifest


def is_stage(path: Path) -> bool:
    """Whether `path` is a stage's directory; somebody else's manifest.json does not make it one."""
    try:
        return read_manifest(path) is not None
    except UserError:
        return False


def parent_paths(config: Any) -> dict[str, Path]:
    """Field -> path of every Artifact of the configuration that is on this disk (not assets, not hub ids)."""
    return {name: Path(value) for name, value in artifacts(config).items() if Path(value).exists()}


def content_hash(path: str | Path) -> str:
    """SHA-256 of what a later stage could read there: for a stage's directory without times, paths and
    checkpoints; for any other without the stages that lie below it, since the folder of photographs may be the one
    that `runs` is made in."""
    path = Path(path)
    if not is_stage(path):
        return tree_hash(path, leave_out=lambda below: _is_made(below, path))
    hidden = [entry.name for entry in path.iterdir() if entry.name.startswith(".")]
    return tree_hash(path, without=(*_NOT_CONTENT, *hidden))


def _is_made(path: Path, root: Path) -> bool:
    """Whether a run left this below `root`, a folder of inputs: the directory of a stage, or the report beside it; a
    report in `root` itself is an input of `compare`."""
    if path.name in _BESIDE_STAGES:
        return path.parent != root and any(map(is_stage, path.parent.iterdir()))
    return is_stage(path)


def fingerprint(config: Any, parents: Mapping[str, str]) -> str:
    """SHA-256 of everything that decides a stage's result.

    Args:
        config: the resolved configuration. `output_dir` does not count, so a moved run stays current.
        parents: field -> content hash of the inputs on this disk; the hash stands in the place of the field's
            path.
    """
    values = dataclasses.asdict(config)
    values.pop("output_dir", None)
    for name in {key.partition(".")[0] for key in parents}:
        values.pop(name, None)
    # A new release of an asset is another input, though its name stays.
    named = {key: ASSETS[value].sha256 if value in ASSETS else value for key, value in artifacts(config).items()}
    whole = {"stage": type(config).__module__, "config": values, "inputs": named | dict(parents)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def is_current(directory: str | Path, fingerprint: str) -> bool:
    """Whether the stage in `directory` finished with this very fingerprint and its model is still there."""
    manifest = read_manifest(directory)
    if manifest is None or manifest["status"] != "done" or manifest["fingerprint"] != fingerprint:
        return False
    return manifest.get("model_sha256") is None or Path(directory, "model").is_dir()
