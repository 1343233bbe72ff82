"""What a model directory must not contain, checked before any library opens it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bessemer.errors import UserError

__all__ = ["check_directory"]

EXECUTABLE = {".py", ".pyc", ".so", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".joblib"}


def check_directory(directory: Path) -> None:
    """Refuse a model directory that could run code: pickles, Python files, `auto_map`, links that leave it.

    Raises UserError naming the file. Weights must be safetensors and settings JSON.
    """
    if not (directory / "config.json").is_file():
        raise UserError(
            f"{directory}: no config.json, expected a Hugging Face model directory, or a stage that made one"
        )
    roots = [directory.resolve()]
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parents[1] / "blobs")  # the hub's cache keeps a snapshot's files beside it
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise UserError(f"{path}: a link that leaves the model directory; copy the file there instead")
        if path.suffix.lower() in EXECUTABLE:
            raise UserError(f"{path}: may run code when loaded; expected safetensors and JSON, convert or remove it")
        if path.suffix == ".json" and path.is_file():
            _check_json(path)


def _check_json(path: Path) -> None:
    if path.stat().st_size > 100_000_000:
        raise UserError(f"{path}: {path.stat().st_size} bytes of JSON, expected less than 100 MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if path.name != "tokenizer.json":  # a vocabulary may well contain these words
        _check_keys(content, path)


def _check_keys(content: Any, path: Path) -> None:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            forbidden = {"auto_map", "trust_remote_code"} & set(item)
            if forbidden:
                raise UserError(f"{path}: key {sorted(forbidden)[0]} asks to run code from the directory; remove it")
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
