"""Run by test_checkpoint.py in a process of its own: kill a save at every call that touches the disk, then
look.

Prints one JSON object: scenario -> list of what `latest` found after each kill.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bessemer import checkpoint
from bessemer.errors import UserError

CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink")


def tensors(value: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((500,), float(value)), **checkpoint.rng_state()}


def inodes(root: Path) -> dict[int, Path]:
    return {path.stat().st_ino: path for path in root.rglob("*") if path.is_file()}


def die_at(root: Path, number: int, power_cut: bool) -> None:
    """SIGKILL this process before its `number`-th disk call.

    With `power_cut`, new files that are not yet synced lose their second half: the system had them in memory only.
    """
    count = 0
    safe = set(inodes(root))

    def wrap(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                if name == "save_file":
                    Path(arguments[1]).write_bytes(b"half")
                for inode, path in inodes(root).items() if power_cut else ():
                    if inode not in safe:
                        os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            if name == "fsync":
                safe.add(os.fstat(arguments[0]).st_ino)
            return result

        return counted

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name), name))
    checkpoint.save_file = wrap(save_file, "save_file")  # type: ignore[assignment]


def killed(root: Path, before: list[int], step: int, power_cut: bool) -> list[dict[str, Any]]:
    """Save `step` (value 100 + step) onto the steps `before` (value = step), killed at call 1, 2, ... until
    it gets through."""
    seen = []
    for number in range(1, 200):
        shutil.rmtree(root, ignore_errors=True)
        for old in before:
            checkpoint.save(root, old, tensors(old), {"value": old})
        child = os.fork()
        if child == 0:
            die_at(root, number, power_cut)
            checkpoint.save(root, step, tensors(100 + step), {"value": 100 + step})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = checkpoint.latest(root)
        names = sorted(os.listdir(root)) if root.exists() else []
        checkpoint.save(root, 999, tensors(999), {"value": 999})
        after = checkpoint.latest(root)
        seen.append(
            {
                "killed": os.WIFSIGNALED(status),
                "step": found.step if found else None,
                "state": found.state["value"] if found else None,
                "tensor": sorted(set(found.tensors["w"].tolist())) if found else None,
                "names": names,
                "next": after.step if after else None,
            }
        )
        if os.WIFEXITED(status):
            return seen
    raise RuntimeError("the save never got through")


def full_disk(root: Path) -> dict[str, Any]:
    """The system refuses to let files grow beyond a limit, as a full disk does: the safetensors writer meets
    a true error."""
    shutil.rmtree(root, ignore_errors=True)
    checkpoint.save(root, 1, tensors(1), {"value": 1})
    child_out, child_in = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        message = ""
        try:
            checkpoint.save(root, 2, {"w": torch.ones(100_000)}, {})
        except UserError as error:
            message = str(error)
        os.write(child_in, message.encode())
        os._exit(0)
    os.close(child_in)
    os.waitpid(child, 0)
    message = os.read(child_out, 10_000).decode()
    return {
        "message": message,
        "names": sorted(os.listdir(root)),
        "step": getattr(checkpoint.latest(root), "step", None),
    }


if __name__ == "__main__":
    root = Path(sys.argv[1]) / "checkpoints"
    report = {
        "new step, killed": killed(root, [1, 2], 3, power_cut=False),
        "new step, power cut": killed(root, [1, 2], 3, power_cut=True),
        "same step, killed": killed(root, [3], 3, power_cut=False),
        "first, killed": killed(root, [], 3, power_cut=False),
        "full": full_disk(root),
    }
    print(json.dumps(report))
