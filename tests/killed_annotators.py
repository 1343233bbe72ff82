"""Run by annotation/test_store.py in a process of its own: four annotators save at once, and the process is killed.

    killed_annotators.py PROJECT POINT NUMBER

POINT: `write` (before a write to the log), `half` (within it), `fsync` (before one), `power` (before one, and what was
not synced is half lost), `commit` (between the log's fsync and the database's commit), `ack` (behind the commit). The
kill comes at the NUMBER-th time. Every acknowledged save is a line on stdout: image, annotator, version.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from bessemer.annotation.documents import Saved, save
from bessemer.annotation.shapes import Annotation
from bessemer.annotation.store import Project, open_project


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def arm(project: Project, point: str, number: int) -> None:
    """Let the process die at the `number`-th passage of a point."""
    log = project.directory / "edits.log"
    calls = 0
    synced = log.stat().st_size
    write, fsync, work_off = os.write, os.fsync, project._work_off

    def due(here: str) -> bool:
        nonlocal calls
        calls += here == point
        return here == point and calls == number

    def killed_write(file: int, data: Any) -> int:
        if file == 1:
            return write(file, data)
        if due("write"):
            die()
        if due("half"):
            write(file, bytes(data)[: len(data) // 2])
            die()
        return write(file, data)

    def killed_fsync(file: int) -> None:
        nonlocal synced
        if due("fsync"):
            die()
        if due("power"):
            os.truncate(log, synced + (log.stat().st_size - synced) // 2)
            die()
        fsync(file)
        synced = log.stat().st_size
        if due("commit"):
            die()

    def killed_work_off(batch: Any) -> None:
        work_off(batch)
        if due("ack"):
            die()

    os.write, os.fsync = killed_write, killed_fsync  # type: ignore[assignment]
    project._work_off = killed_work_off  # type: ignore[method-assign]


def annotate(project: Project, annotator: str) -> None:
    for version in range(1, 100):
        for image in (1, 2):
            done = save(project, image, annotator, version - 1, [Annotation("1", text=f"{annotator} {version}")])
            assert done == Saved(version, "doing")
            os.write(1, f"{image} {annotator} {version}\n".encode())


if __name__ == "__main__":
    opened = open_project(Path(sys.argv[1]))
    arm(opened, sys.argv[2], int(sys.argv[3]))
    threads = [threading.Thread(target=annotate, args=(opened, f"a{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
