from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.annotation.documents import Saved, document, document_at, history, save, submit
from bessemer.annotation.listing import progress
from bessemer.annotation.log import BEGINNING, Edit, read_log, seal
from bessemer.annotation.shapes import Annotation
from bessemer.annotation.store import Project, create_project, open_project
from bessemer.errors import UserError
from source_tree import SOURCE

SCRIPT = Path(__file__).parents[1] / "killed_annotators.py"


def dump(project: Project) -> list[str]:
    """The whole database as SQL."""
    with sqlite3.connect(project.directory / "project.sqlite") as db:
        lines = list(db.iterdump())
    db.close()
    return lines


def note(text: str) -> list[Annotation]:
    return [Annotation("1", text=text)]


def forget_database(directory: Path) -> None:
    for path in directory.glob("project.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("lost_database", [False, True])
@pytest.mark.parametrize(
    ("point", "number"),
    [("write", 7), ("half", 1), ("half", 12), ("fsync", 9), ("power", 9), ("commit", 8), ("commit", 1), ("ack", 10)],
)
def test_no_kill_loses_what_was_acknowledged(project: Project, point: str, number: int, lost_database: bool) -> None:
    directory = project.directory
    project.close()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, str(SCRIPT), str(directory), point, str(number)]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    acknowledged = [line.split() for line in done.stdout.decode().splitlines()]
    assert acknowledged or number == 1
    if lost_database:
        forget_database(directory)
    with open_project(directory) as again:
        for image, annotator, version in acknowledged:
            found = document_at(again, int(image), annotator, int(version))
            assert [item.text for item in found.annotations] == [f"{annotator} {version}"]
        for image in (1, 2):
            for annotator in ("a0", "a1", "a2", "a3"):
                versions = [entry.version for entry in history(again, image, annotator)]
                assert versions == list(range(1, len(versions) + 1))
        again.verify()
        assert isinstance(save(again, 3, "a0", 0, note("goes on")), Saved)
    with open_project(directory) as again:
        assert document(again, 3, "a0").annotations[0].text == "goes on"


def test_nothing_is_acknowledged_before_it_is_synced(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        with project.read() as db:  # nobody sees the edit yet
            seen.append(f"fsync at {db.execute('SELECT count(*) FROM versions').fetchone()[0]}")
        assert b"a note" in (project.directory / "edits.log").read_bytes()
        fsync(file)

    monkeypatch.setattr(os, "fsync", watched)
    save(project, 1, "ann", 0, note("a note"))
    assert seen == ["fsync at 0"]


def test_a_database_made_again_is_the_same(project: Project) -> None:
    for version in range(3):
        save(project, 1, "ann", version, [Annotation("1", "裂纹", text=f"{version}", scene="equipment")])
    submit(project, 1, "ann", 3)
    save(project, 1, "ann", 0, note("late"))
    before = dump(project)
    project.close()
    forget_database(project.directory)
    with open_project(project.directory) as again:
        assert dump(again) == before
        assert any("late" in line for line in before)


def test_threads_share_their_fsyncs_and_lose_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    fsync = os.fsync
    gate = threading.Event()

    def slow(file: int) -> None:
        nonlocal syncs
        syncs += 1
        gate.wait(20)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=save, args=(project, 1, f"a{n}", 0, note(str(n)))) for n in range(10)]
    for thread in threads:
        thread.start()
    while len(project._waiting) < 9:  # one is in its fsync, the others wait
        threading.Event().wait(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert syncs == 2
    for n in range(10):
        assert document(project, 1, f"a{n}").annotations[0].text == str(n)


def test_many_writers_of_one_document_never_overwrite(project: Project) -> None:
    """Each takes the version that stands and adds its line; all lines are there in the end."""

    def work(name: str) -> None:
        for k in range(5):
            while True:
                current = document(project, 1, "ann")
                new = [*current.annotations, Annotation(f"{name} {k}")]
                if isinstance(save(project, 1, "ann", current.version, new), Saved):
                    break

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = document(project, 1, "ann")
    assert {item.id for item in final.annotations} == {f"t{n} {k}" for n in range(4) for k in range(5)}
    assert final.version == 20


def test_one_bad_edit_of_a_batch_leaves_the_others(project: Project) -> None:
    def bad(db: sqlite3.Connection, time: str) -> tuple[list[Any], None]:
        db.execute("DELETE FROM documents")
        raise UserError("no")

    save(project, 1, "ann", 0, note("a"))
    with pytest.raises(UserError, match="no"):
        project.commit_all([bad, lambda db, time: ([], None)])
    assert document(project, 1, "ann").version == 1


def test_a_full_disk_changes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (project.directory / "edits.log").read_bytes()
    write = os.write

    def full(file: int, data: Any) -> int:
        write(file, bytes(data)[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError, match="No space left on device"):
            save(project, 1, "ann", 0, note("a"))
    assert (project.directory / "edits.log").read_bytes() == before
    assert document(project, 1, "ann").version == 0
    assert save(project, 1, "ann", 0, note("b")) == Saved(1, "doing")


def test_after_a_log_that_cannot_be_set_right_nothing_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            save(project, 1, "ann", 0, note("a"))
    with pytest.raises(UserError, match="out of use"):
        save(project, 1, "ann", 0, note("a"))
    project.close()
    with open_project(project.directory) as again:
        assert save(again, 1, "ann", 0, note("a")) == Saved(1, "doing")


def test_every_flipped_bit_of_the_log_is_detected(project: Project) -> None:
    """Of a log that is replayed, and by `verify` of one that is not."""
    save(project, 1, "ann", 0, note("a"))
    save(project, 1, "ann", 1, note("b"))
    project.close()
    log = project.directory / "edits.log"
    whole = log.read_bytes()
    for place in (*range(0, len(whole) - 1, 37), len(whole) - 2):
        log.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with open_project(project.directory) as opened, pytest.raises(UserError, match="damaged"):
            opened.verify()
        moved = project.directory.parent / "replayed"
        moved.mkdir(exist_ok=True)
        forget_database(moved)
        (moved / "edits.log").write_bytes(log.read_bytes())
        with pytest.raises(UserError, match=r"line \d+ \(byte \d+\) is damaged"):
            open_project(moved)


def test_lost_and_moved_lines_are_detected(project: Project) -> None:
    for version in range(4):
        save(project, 1, "ann", version, note(str(version)))
    project.close()
    log = project.directory / "edits.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UserError, match="lines were lost"):
        open_project(project.directory)
    forget_database(project.directory)
    for damaged in ([*lines[:2], *lines[3:]], [*lines[:2], lines[3], lines[2], *lines[4:]], [lines[0], *lines]):
        log.write_bytes(b"".join(damaged))
        with pytest.raises(UserError, match="damaged"):
            open_project(project.directory)
        forget_database(project.directory)


def test_a_line_of_another_log_is_detected(project: Project) -> None:
    """Whole and with the right number but behind another line, and behind the right line with another number."""
    save(project, 1, "ann", 0, note("a"))
    save(project, 1, "ann", 1, note("b"))
    project.close()
    log = project.directory / "edits.log"
    lines = log.read_bytes().splitlines(keepends=True)
    *_, before, last = read_log(log)
    edit = Edit(last.op, last.data)
    for position in (replace(before.after, chain="0" * 64), replace(before.after, seq=before.seq + 1)):
        foreign, _ = seal(edit, last.time, position)
        forget_database(project.directory)
        log.write_bytes(b"".join(lines[:-1]) + foreign)
        with pytest.raises(UserError, match=f"line {last.seq} .* is damaged"):
            open_project(project.directory)


@pytest.mark.parametrize("end", [b'{"sha256":"12', b"\0" * 600, b'{"sha256":"12' + b"\0" * 512 + b'"}\n{}\n'])
def test_a_torn_end_is_set_aside(project: Project, end: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    save(project, 1, "ann", 0, note("a"))
    project.close()
    log = project.directory / "edits.log"
    whole = log.read_bytes()
    log.write_bytes(whole + end)
    with open_project(project.directory) as again:
        assert log.read_bytes() == whole
        assert (project.directory / f"edits.log.torn-{len(whole)}").read_bytes() == end
        assert save(again, 1, "ann", 1, note("b")) == Saved(2, "doing")
    assert "unfinished write was moved" in capsys.readouterr().err


def test_what_cannot_be_opened(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is open in another process"):
        open_project(project.directory)
    with pytest.raises(UserError, match="not an empty directory"):
        create_project(project.directory, "again")
    with pytest.raises(UserError, match="no annotation project"):
        open_project(tmp_path)
    project.close()
    project.close()
    with pytest.raises(UserError, match="is closed"):
        progress(project)
    with pytest.raises(UserError, match="is closed"):
        save(project, 1, "ann", 0, note("a"))
    database = project.directory / "project.sqlite"
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="version 99, expected 3; open it with a newer version"):
        open_project(project.directory)
    forget_database(project.directory)
    database.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(UserError, match="made anew from edits.log"):
        open_project(project.directory)
    forget_database(project.directory)
    with open_project(project.directory) as again:
        assert progress(again).images == 3


def test_a_newer_log_is_refused(project: Project) -> None:
    project.close()
    forget_database(project.directory)
    first, record = seal(Edit("create", {"format": 2, "name": "x"}), "now", BEGINNING)
    (project.directory / "edits.log").write_bytes(first)
    with pytest.raises(UserError, match="format 2, expected 1"):
        open_project(project.directory)
    first, record = seal(Edit("create", {"format": 1, "name": "x"}), "now", BEGINNING)
    for op, data, message in (("paint", {}, "of the kind 'paint'"), ("save", {}, "makes no sense")):
        second, _ = seal(Edit(op, data), "now", record.after)
        forget_database(project.directory)
        (project.directory / "edits.log").write_bytes(first + second)
        with pytest.raises(UserError, match=message):
            open_project(project.directory)
