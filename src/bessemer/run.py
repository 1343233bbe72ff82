"""One stage at work in one directory: seed, logs, manifest, signals, resumption.

Usage:
    run = Run.start(Path(config.output_dir), config, stage="sft", parents={"model": model}, seed=config.seed)
    before = run.resume()                          # Checkpoint | None; metrics are cut back to its step
    with run.track(total, "sft", start=step) as progress:
        ...
        run.log(step, {"loss": loss}); progress.advance(loss=loss)
        run.save(step, tensors, state)             # metrics first, then the checkpoint
        if run.stop_requested: run.save(...); run.raise_if_stopped()
    return run.finish(accuracy=0.9)

metrics.jsonl holds no times, so that a resumed run's file equals an uninterrupted one's; they are in
timings.jsonl. Under torchrun only rank 0 writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import random
import sys
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import yaml
from torch import Tensor

from . import __version__, checkpoint, interrupts
from .checkpoint import Checkpoint
from .config import dump, read_recipe
from .disk import fsync, move_aside, tree_hash, unwritable, write_atomic, write_json
from .errors import Stopped, UserError
from .manifest import MANIFEST, content_hash, fingerprint, is_current, parent_paths, read_manifest
from .progress import Track, track

__all__ = ["Run", "fingerprint", "is_current", "mark_ended", "read_manifest"]

_METRICS, _TIMINGS, _LOCK = "metrics.jsonl", "timings.jsonl", ".lock"
_BEFORE_MANIFEST = ("config.yaml", "error.txt", _LOCK)  # what a start that was killed can have left


@final
class Run:
    """A stage's directory, open for writing; made by `Run.start` alone."""

    def __init__(self, directory: Path, manifest: dict[str, Any], lock: int | None, owns_signals: bool) -> None:
        self.directory = directory
        self.model_directory = directory / "model"
        self.checkpoints = directory / "checkpoints"
        self._manifest, self._owns_signals = manifest, owns_signals
        self._main = lock is not None
        self._unlock = weakref.finalize(self, os.close, lock) if lock is not None else None
        self._began, self._before = time.monotonic(), float(manifest["seconds"])
        self._board: Any = None
        self._board_wanted = self._main
        self._purge_step: int | None = None

    @classmethod
    def start(
        cls, directory: str | Path, config: Any, *, stage: str, parents: Mapping[str, Path], seed: int, dtype: str = ""
    ) -> Run:
        """Open the directory: go on with what an interrupted run of the same configuration and inputs left
        there, else begin.

        A directory that holds anything else of ours is renamed to NAME.old-1 (-2 ...), never deleted. Seeds
        Python, NumPy and PyTorch, sets the number of threads (BESSEMER_THREADS, else the cores that this
        process may use), catches SIGTERM and SIGINT.

        Args:
            config: the stage's configuration, written to config.yaml.
            parents: field or other name -> path of each input as it was used, for the manifest. What decides
                whether a result is current is the configuration's Artifacts and their contents
                (`manifest.fingerprint`).
            dtype: the type of number that is computed in, which "auto" leaves to the machine; a run that goes on in
                another one says so.

        Raises:
            UserError: the directory holds files that are not ours, or another process is at work in it.
        """
        directory = Path(directory)
        inputs = parent_paths(config)
        hashes = {name: content_hash(path) for name, path in inputs.items()}
        mark, threads = fingerprint(config, hashes), _set_threads()
        manifest, lock = _claim(directory, mark, config) if _is_main() else ({}, None)
        known = {path: hashes[name] for name, path in inputs.items()}
        facts = {"stage": stage, "status": "running", "fingerprint": mark, "seed": seed}
        facts["parents"] = {
            name: {"path": str(path), "sha256": known.get(path) or content_hash(path)} for name, path in parents.items()
        }
        now = {"versions": _versions(), "threads": threads, "dtype": dtype}
        fresh = not manifest
        if fresh:
            manifest = {**facts, **now, "seconds": 0.0, "summary": {}, "health": {}, "facts": {}}
        else:
            _warn_of_changes(directory, manifest, now)
        run = cls(directory, manifest | facts, lock, interrupts.catch())
        if fresh and lock is not None:
            write_atomic(directory / "config.yaml", dump(config).encode())
        if not any(run.checkpoints.glob("*")):
            run.rewind(-1)
        run._write_manifest()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        return run

    @property
    def stop_requested(self) -> bool:
        """Whether SIGTERM or SIGINT asked to stop: save, then call `raise_if_stopped`."""
        return interrupts.requested()

    def raise_if_stopped(self) -> None:
        """Close the run as "stopped" and raise `Stopped` when a signal asked for it; call it after the state
        was saved."""
        if self.stop_requested:
            self._close("stopped")
            raise Stopped(f"stopped in {self.directory}; the state is saved: run the same command again to go on")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl. A value that is not finite becomes null and is counted in the
        manifest's health."""
        values = {name: float(value) for name, value in metrics.items()}
        row = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append(_METRICS, {"step": step, **row})
        self._append(_TIMINGS, {"step": step, "seconds": round(self._seconds(), 3)})
        board = self._tensorboard()
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Drop the log lines after `step`, and a last line that a kill tore: what follows is written
        again."""
        self._purge_step = step + 1
        for name in (_METRICS, _TIMINGS):
            kept = [json.dumps(row) for row in _rows(self.directory / name) if row["step"] <= step]
            if self._main and (self.directory / name).exists():
                write_atomic(self.directory / name, "".join(line + "\n" for line in kept).encode())

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int = 2) -> None:
        """`checkpoint.save` after the log is safely on disk: a checkpoint never knows of steps that the log
        lost."""
        if not self._main:
            return
        for path in (self.directory / _METRICS, self.directory / _TIMINGS):
            if path.exists():
                fsync(path)
        checkpoint.save(self.checkpoints, step, tensors, state, keep=keep)
        self._write_manifest()

    def resume(self) -> Checkpoint | None:
        """The newest sound checkpoint, the log cut back to its step; None, and an empty log, when there is
        none."""
        found = checkpoint.latest(self.checkpoints)
        self.rewind(found.step if found else -1)
        return found

    def track(self, total: int, description: str, start: int = 0) -> AbstractContextManager[Track]:
        """Progress on stderr; see `progress.track`."""
        return track(total, description, start)

    def record(self, **facts: Any) -> None:
        """Add facts to the manifest (JSON values); `health={"skipped_steps": 2}` is merged into the health
        counters."""
        self._manifest["health"] |= _finite(facts.pop("health", {}))
        self._manifest["facts"] |= _finite(facts)
        self._write_manifest()

    def finish(self, **summary: Any) -> Path:
        """Close the run as "done" with its summary, its seconds and the hash of model/; returns the
        directory."""
        self._manifest["summary"] = _finite(summary)
        has_model = self.model_directory.is_dir()
        self._manifest["model_sha256"] = tree_hash(self.model_directory) if has_model and self._main else None
        self._close("done")
        return self.directory

    def _close(self, status: str) -> None:
        if self._board is not None:
            self._board.close()
        rows = _rows(self.directory / _METRICS)
        nulls = Counter(name for row in rows for name, value in row.items() if value is None)
        self._manifest["health"]["nonfinite"] = dict(nulls)
        self._manifest["status"] = status
        self._write_manifest()
        if self._unlock is not None:
            self._unlock()
        if self._owns_signals:
            interrupts.release()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def _write_manifest(self) -> None:
        self._manifest["seconds"] = round(self._seconds(), 3)
        if self._main:
            write_json(self.directory / MANIFEST, self._manifest)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if not self._main:
            return
        try:
            with open(self.directory / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise unwritable(self.directory / name, error) from error

    def _tensorboard(self) -> Any:
        """The writer, made at the first log; None without the optional package."""
        if self._board_wanted:
            self._board_wanted = False
            try:
                from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
            except ImportError:
                return None
            self._board = SummaryWriter(str(self.directory / "tensorboard"), purge_step=self._purge_step)
        return self._board


def mark_ended(directory: Path, status: str) -> None:
    """Say "failed" or "stopped" of a run that ended without saying so itself, unless another process is at work there;
    what it saved is used when it is started again."""
    manifest = read_manifest(directory)
    if manifest is None or manifest["status"] != "running":
        return
    with contextlib.suppress(UserError):
        lock = _locked(directory)
        try:
            write_json(directory / MANIFEST, {**manifest, "status": status})
        finally:
            os.close(lock)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _claim(directory: Path, mark: str, config: Any) -> tuple[dict[str, Any], int]:
    """(the manifest to go on with, {} to begin; the lock); whatever else is in the directory is moved aside."""
    manifest = read_manifest(directory)
    if manifest is None and directory.is_dir():
        names = sorted(path.name for path in directory.iterdir())
        strangers = [name for name in names if name not in _BEFORE_MANIFEST and name[0] != "."]
        if strangers:
            raise UserError(
                f"{directory} holds {strangers[0]!r} and perhaps more that no stage wrote there, expected an "
                "empty directory; set output_dir to another place"
            )
    lock = _locked(directory)
    if manifest is None:
        return {}, lock
    if manifest["fingerprint"] == mark and manifest["status"] != "done":
        return manifest, lock
    os.close(lock)
    aside = move_aside(directory)
    why = "begun again" if manifest["fingerprint"] == mark else _changes(aside, config)
    print(f"{directory}: {why}; what was here is kept as {aside}", file=sys.stderr)
    return {}, _locked(directory)


def _locked(directory: Path) -> int:
    """A descriptor whose lock says that this process writes here; the system drops it with the process."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise unwritable(directory, error) from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UserError(
            f"another process is at work in {directory}, expected one at a time; wait for it or stop it"
        ) from error
    return lock


def _changes(aside: Path, config: Any) -> str:
    """Which fields differ from those of the run in `aside`."""
    file = aside / "config.yaml"
    before, now = read_recipe(file) if file.is_file() else {}, yaml.safe_load(dump(config))
    changed = [name for name in now if name != "output_dir" and before.get(name) != now[name]]
    texts = [f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in changed]
    return ", ".join(texts) or "an input has changed"


def _warn_of_changes(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in now if before.get(key) != now[key]]
    for key in changed:
        print(
            f"warning: {directory} began with {key} {before.get(key)} and goes on with {now[key]}: "
            "the result may differ in its last bits",
            file=sys.stderr,
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that a kill tore is left out."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    rows.append(row)
    return rows


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that is not finite was not measured, so it is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _set_threads() -> int:
    text = os.environ.get("BESSEMER_THREADS", "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"BESSEMER_THREADS is {text!r}, expected a whole number of at least 1")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    torch.set_num_threads(int(text) if text else cores)
    return torch.get_num_threads()


def _versions() -> dict[str, str | None]:
    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {
        "bessemer": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
