"""Where a report's numbers come from: the manifests of the stages, the machine, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bessemer.manifest import read_manifest
from bessemer.report.outputs import Parent, StageFacts

__all__ = ["git_commit", "machine_facts", "read_lineage"]


def read_lineage(directories: Iterable[Path]) -> tuple[StageFacts, ...]:
    """What the manifests of these stage directories say, in the order given; directories without one are left
    out.

    Stages and inputs are called by the names of their directories: a page that is passed on tells nothing of
    the machine's folders.
    """
    found = []
    for directory in directories:
        manifest = read_manifest(directory)
        if manifest is None:
            continue
        parents = {
            field: Parent(Path(parent["path"]).name, parent["sha256"])
            for field, parent in sorted(manifest.get("parents", {}).items())
        }
        found.append(
            StageFacts(
                stage=directory.name,
                directory=f"{directory.parent.name}/{directory.name}",
                fingerprint=manifest.get("fingerprint"),
                sha256=manifest.get("model_sha256"),
                parents=parents,
                seed=manifest.get("seed"),
                seconds=manifest.get("seconds"),
            )
        )
    return tuple(found)


def machine_facts(device: str = "cpu") -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, memory in GB, device, system and Python; no names of
    hosts or users."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def git_commit(directory: Path) -> str | None:
    """The short hash of the commit checked out in `directory`, with "+" if files differ from it; None
    outside of git."""
    try:
        head = _git(directory, "rev-parse", "--short", "HEAD")
        return head + ("+" if _git(directory, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
