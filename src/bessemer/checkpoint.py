"""Checkpoints that survive a kill at any moment, a full disk and a flipped bit.

`ckpt-00000010/` holds `tensors.safetensors`, `state.json` and `manifest.json` (size and SHA-256 of both). It
is written under a temporary name, fsynced and renamed, so a directory without `.tmp` is complete; its hashes
say whether it still is what was written.
Only safetensors and JSON: opening a stranger's checkpoint runs no code. What a stage must save besides its
tensors is up to the stage; `rng_state` holds every generator that it draws from.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .disk import file_hash, fsync, publish, tree_hash, unwritable, write_atomic, write_json
from .errors import UserError

__all__ = [
    "Checkpoint", "latest", "publish", "restore_rng", "rng_state", "save",
    "tree_hash", "write_atomic", "write_json",
]  # fmt: skip

_NAME = re.compile(r"ckpt-(\d{8,})")
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_ROOM = 1.5  # free space demanded before writing, as a multiple of the tensors' bytes


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint, read back: `tensors` on the CPU, `state` as `save` was given it."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    directory: Path


class _Damaged(Exception):
    """The checkpoint is not what was written."""


def save(
    root: str | Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write the checkpoint of `step` under `root`, then delete all but the newest `keep`; the new one is
    never deleted.

    Tensors may have any shape, dtype, stride and device, and may share memory. `state` must be what JSON
    gives back unchanged: None, bool, int, finite float, str, list, dict with str keys.

    Raises:
        UserError: a floating tensor holds NaN or infinity, or the disk is full or read-only; earlier
            checkpoints are as they were.
        TypeError, ValueError: `state` would not come back as it went in; `keep` < 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, expected at least 1: the newest checkpoint is never deleted")
    _check_state(state, "state")
    _check_finite(tensors, step)
    root = Path(root)
    final = root / f"ckpt-{step:08d}"
    temporary = final.with_name(final.name + ".tmp")
    try:
        root.mkdir(parents=True, exist_ok=True)
        _check_room(root, tensors)
        _repair(root)
        temporary.mkdir()
        _write(temporary, step, tensors, state)
        _swap(temporary, final)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own exception
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    others = [path for path in _candidates(root) if path != final]
    for path in others[keep - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
    return final


def latest(root: str | Path) -> Checkpoint | None:
    """The newest checkpoint under `root` whose every hash holds, or None.

    One that does not verify is renamed to `*.corrupt` with a warning on stderr, and the one before it is
    tried.

    Raises:
        UserError: a checkpoint may not be read at all (permissions, a failing disk): that says nothing about
            its contents.
    """
    root = Path(root)
    if not root.is_dir():
        return None
    _repair(root)
    for path in _candidates(root):
        try:
            return _read(path)
        except _Damaged as damage:
            aside = _quarantine(path)
            print(
                f"warning: checkpoint {path} is damaged ({damage}); "
                f"it was renamed to {aside.name} and the one before it is used",
                file=sys.stderr,
                flush=True,
            )
        except OSError as error:
            raise UserError(
                f"checkpoint {path} could not be read ({error.strerror or error}), expected readable files; "
                "mend the permissions or the disk, or remove it to go on from the one before"
            ) from error
    return None


def rng_state() -> dict[str, Tensor]:
    """The state of Python's, NumPy's and PyTorch's global generators (CUDA's too), as tensors for `save`."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "rng.python": torch.tensor([version, *words], dtype=torch.int64),
        "rng.python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "rng.numpy": torch.tensor([*(int(key) for key in keys), int(position), int(has_gauss)], dtype=torch.int64),
        "rng.numpy_gauss": torch.tensor([float(cached)], dtype=torch.float64),
        "rng.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state |= {f"rng.cuda.{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_rng(tensors: Mapping[str, Tensor]) -> None:
    """Set the generators to what `rng_state` saw; other entries of `tensors` are ignored. KeyError when one
    is missing."""
    version, *words = tensors["rng.python"].tolist()
    gauss = tensors["rng.python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    *keys, position, has_gauss = tensors["rng.numpy"].tolist()
    cached = tensors["rng.numpy_gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["rng.torch"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"rng.cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)


def _check_state(value: Any, where: str) -> None:
    """Only what survives JSON: a tuple would come back as a list, an int key as a str, and the resumed run
    would differ."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, expected str")
            _check_state(item, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_state(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, expected a finite number")
    elif type(value) not in (bool, int, str, type(None)):
        raise TypeError(f"{where} is a {type(value).__name__}, expected None, bool, int, float, str, list or dict")


def _check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise UserError(
                f"step {step}: {bad} of {tensor.numel()} values of {name!r} are NaN or infinite, expected "
                "finite ones; this state was not saved and the checkpoint before it is intact: lower the "
                "learning rate and run the same command again"
            )


def _check_room(root: Path, tensors: Mapping[str, Tensor]) -> None:
    needed = int(_ROOM * sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())) + 1_000_000
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            f"{root} has {free / 1e6:.0f} MB free, expected {needed / 1e6:.0f} MB for the next checkpoint; "
            "free some space, or set output_dir to another disk, and run the same command again"
        )


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense CPU tensors that own their memory, as the format demands: strided views and tied weights are
    copied."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        plain[name] = value
    return plain


def _write(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    save_file(_plain(tensors), folder / _TENSORS)
    fsync(folder / _TENSORS)
    write_json(folder / _STATE, dict(state))
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        for name in (_TENSORS, _STATE)
    }
    write_json(
        folder / _MANIFEST,
        {"step": step, "files": files, "health": {"finite": True, "tensors": len(tensors)}},
    )


def _swap(temporary: Path, final: Path) -> None:
    """Rename into place; an earlier checkpoint of the same step stays as `.old` until the new one stands (see
    `_repair`)."""
    old = final.with_name(final.name + ".old")
    if final.exists():
        os.rename(final, old)
    os.rename(temporary, final)
    fsync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _repair(root: Path) -> None:
    """Finish what a kill left half done: drop temporaries, give back a checkpoint that was about to be
    replaced."""
    for path in root.glob("ckpt-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob("ckpt-*.old"):
        final = path.with_suffix("")
        if final.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.rename(path, final)


def _candidates(root: Path) -> list[Path]:
    """Published checkpoints, newest step first."""
    found = [
        (int(match[1]), path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found, reverse=True)]


def _read(path: Path) -> Checkpoint:
    """Verify and load; raises `_Damaged` when the contents are wrong, OSError when they cannot be read."""
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        listed = {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        step = int(manifest["step"])
    except FileNotFoundError as error:
        raise _Damaged(f"{_MANIFEST} is missing") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Damaged(f"{_MANIFEST} is not readable: {error}") from error
    if set(listed) != {_TENSORS, _STATE} or path.name != f"ckpt-{step:08d}":
        raise _Damaged(f"{_MANIFEST} does not describe this checkpoint")
    for name, (size, sha256) in listed.items():
        if not (path / name).is_file():
            raise _Damaged(f"{name} is missing")
        if (actual := (path / name).stat().st_size) != size:
            raise _Damaged(f"{name} has {actual} bytes, expected {size}")
        if file_hash(path / name) != sha256:
            raise _Damaged(f"{name} does not have the contents that were written")
    state = json.loads((path / _STATE).read_bytes())
    return Checkpoint(step, load_file(path / _TENSORS), state, path)


def _quarantine(path: Path) -> Path:
    number, aside = 1, path.with_name(path.name + ".corrupt")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{number}")
    os.rename(path, aside)
    return aside
