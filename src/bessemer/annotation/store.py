"""A project on the disk: the edit log that is the truth, the database that answers questions, one writer at a time.

    PROJECT/edits.log        every change (see `log`)
    PROJECT/project.sqlite   made from it (see `tables`); may be deleted while the project is closed
    PROJECT/project.lock     held while a process has the project open
    PROJECT/snapshots/       see `snapshot`

An edit is acknowledged when it is fsynced in the log and committed in the database, in this order. Threads that save
at the same moment share one fsync. SQLite runs in WAL mode with synchronous=NORMAL: a power cut may take its last
commits, never its consistency, and the log brings them back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..data.schema import need
from ..disk import write_atomic
from ..errors import UserError
from .log import BEGINNING, Edit, EditLog, Position, Record, read_log, seal, set_torn_end_aside
from .shapes import check_text
from .tables import FORMAT, SCHEMA_VERSION, apply, create_tables, position_of

__all__ = ["Plan", "Project", "create_project", "open_project", "utc_now"]

R = TypeVar("R")
# Looks at the database as it stands and says what to log and what to answer; runs in the writer's transaction. It is
# given the time of the edit.
Plan = Callable[[sqlite3.Connection, str], tuple[list[Edit], R]]


@dataclass
class _Request(Generic[R]):
    plan: Plan[R]
    answer: R | None = None
    error: BaseException | None = None
    done: bool = False


def utc_now() -> str:
    """The time in ISO 8601, UTC, to the microsecond: what is saved later sorts later."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def create_project(directory: Path, name: str) -> Project:
    """Make a new project in a directory that does not exist or is empty, and open it.

    Raises:
        UserError: a directory with something in it; a place that cannot be written.
    """
    check_text(name, "the name of the project", 200, empty=False)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists and is not an empty directory, expected a new place; open it instead?")
    line, _ = seal(Edit("create", {"format": FORMAT, "name": name}), utc_now(), BEGINNING)
    write_atomic(directory / "edits.log", line)
    return open_project(directory)


def open_project(directory: Path) -> Project:
    """Open a project, bringing its database up to its log.

    Raises:
        UserError: no project there; open in another process; a damaged log or database; made by a newer version.
    """
    log = directory / "edits.log"
    need(
        log.is_file(),
        f"{directory} is no annotation project (no edits.log)",
        "a project: bessemer annotate PHOTOS makes one",
    )
    lock = os.open(directory / "project.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    db: sqlite3.Connection | None = None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{directory} is open in another process, expected to be alone; stop that one") from error
        try:
            db = _connect(directory / "project.sqlite")
            position = _catch_up(db, log)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{directory / 'project.sqlite'} cannot be used ({error}), expected the project's database; delete "
                "project.sqlite* and open again: it is made anew from edits.log"
            ) from error
        return Project(directory, db, EditLog(log, position.offset), position, lock)
    except BaseException:
        if db is not None:
            db.close()
        os.close(lock)
        raise


def _connect(path: Path) -> sqlite3.Connection:
    # The writer's connection changes hands between threads, always under the lock.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if 0 < found < SCHEMA_VERSION:  # the tables are made of the log alone, so they can be made again
        db.close()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        return _connect(path)
    if found == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        create_tables(db)
    elif found != SCHEMA_VERSION:
        db.close()
        raise UserError(
            f"{path} is of version {found}, expected {SCHEMA_VERSION}; "
            + ("open it with a newer version" if found else "delete project.sqlite* and open again")
        )
    return db


def _catch_up(db: sqlite3.Connection, log: Path) -> Position:
    """Apply the lines of the log that the database does not have; ten thousand a transaction."""
    position = position_of(db)
    if log.stat().st_size >= position.offset:
        aside = set_torn_end_aside(log, position)
        if aside is not None:
            print(f"warning: {log}: the end of an unfinished write was moved to {aside.name}", file=sys.stderr)
    db.execute("BEGIN IMMEDIATE")
    try:
        for number, record in enumerate(read_log(log, position), 1):
            try:
                apply(db, record)
            except (KeyError, TypeError, ValueError, sqlite3.IntegrityError) as error:
                raise UserError(f"{log}: line {record.seq} makes no sense ({error!r}), expected an edit") from error
            position = record.after
            if number % 10_000 == 0:
                db.execute("COMMIT")
                db.execute("BEGIN IMMEDIATE")
    finally:
        db.execute("COMMIT")  # what was applied before a bad line is good
    need(position.seq > 0, f"{log} is empty", "the line that makes a project; put the file back from a backup")
    return position


class Project:
    """An open project; all of it may be used from many threads. `documents`, `listing`, `predictions`, `rankings` and
    `snapshot` have the questions and the edits."""

    def __init__(self, directory: Path, db: sqlite3.Connection, log: EditLog, position: Position, lock: int) -> None:
        self.directory = directory
        self._db = db
        self._log = log
        self._position = position
        self._lock_file = lock
        self._writing = threading.Lock()
        self._waiting: list[_Request[Any]] = []
        self._guard = threading.Lock()  # of the two lists
        self._readers: list[sqlite3.Connection] = []
        self._closed = ""

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the writer, then give files and locks back; again is no error."""
        with self._writing:
            if self._closed == "closed":
                return
            self._closed = "closed"
            self._log.close()
            with self._guard:
                while self._readers:
                    self._readers.pop().close()
            self._db.close()
            os.close(self._lock_file)

    def discard(self, keep_directory: bool) -> None:
        """Close and delete a project that was just made and could not be filled, with all that lies in its directory:
        the next start would take it for a finished one. keep_directory: it was there before, empty."""
        self.close()
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if not keep_directory:
            self.directory.rmdir()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment of the database, and cannot change it."""
        with self._guard:
            db = self._readers.pop() if self._readers else None
        if db is None:
            need(not self._closed, "the project is closed", "an open one")
            uri = (self.directory / "project.sqlite").absolute().as_uri() + "?mode=ro"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            db.execute("BEGIN")
            yield db
        finally:
            db.execute("ROLLBACK")
            with self._guard:
                if self._closed or len(self._readers) >= 32:
                    db.close()
                else:
                    self._readers.append(db)

    def commit(self, plan: Plan[R]) -> R:
        """Plan an edit on the database as it stands, log it, apply it; its answer when it is safe on the disk.

        Raises:
            UserError: what the plan raises; a disk that is full or fails, and then nothing has changed.
        """
        return self.commit_all([plan])[0]

    def commit_all(self, plans: Sequence[Plan[R]]) -> list[R]:
        """Several edits with one fsync, in their order; each is whole by itself. The first error is raised when all
        are through."""
        requests = [_Request(plan) for plan in plans]
        with self._guard:
            self._waiting.extend(requests)
        with self._writing:
            # Whoever comes first does the work of all who wait; the others then find theirs done.
            if not all(request.done for request in requests):
                with self._guard:
                    batch, self._waiting = self._waiting, []
                self._work_off(batch)
        for request in requests:
            if request.error is not None:
                raise request.error
        return [request.answer for request in requests]  # type: ignore[misc]

    def _work_off(self, batch: list[_Request[Any]]) -> None:
        logged = False
        try:
            need(not self._closed, f"the project is {self._closed}", "an open one; open it again")
            self._db.execute("BEGIN IMMEDIATE")
            lines, position = self._plan_all(batch)
            if lines:
                self._log.append(lines)
                logged = True
            self._db.execute("COMMIT")
            self._position = position
        except BaseException as error:
            if self._closed != "closed" and self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if logged or not isinstance(error, UserError):
                # The log has what the database has not, or its end is unknown: opening again sets that right.
                self._closed = self._closed or f"out of use after an error ({error})"
            for request in batch:
                request.error = request.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for request in batch:
                request.done = True

    def _plan_all(self, batch: list[_Request[Any]]) -> tuple[bytes, Position]:
        """The lines of all requests, applied in the open transaction; one that fails leaves nothing behind."""
        lines: list[bytes] = []
        position = self._position
        for request in batch:
            self._db.execute("SAVEPOINT one")
            try:
                own, reached = self._plan_one(request, position)
            except Exception as error:
                request.error = error
                self._db.execute("ROLLBACK TO one")
            else:
                lines += own
                position = reached
            self._db.execute("RELEASE one")
        return b"".join(lines), position

    def _plan_one(self, request: _Request[Any], position: Position) -> tuple[list[bytes], Position]:
        time = utc_now()
        edits, request.answer = request.plan(self._db, time)
        lines: list[bytes] = []
        for edit in edits:
            line, record = seal(edit, time, position)
            apply(self._db, record)
            lines.append(line)
            position = record.after
        return lines, position

    def verify(self) -> int:
        """Read the whole log again and check every line; how many there are. Raises UserError: see `read_log`."""
        with self._writing:
            end = self._position
        last: Record | None = None
        for last in read_log(self.directory / "edits.log"):
            if last.seq >= end.seq:
                break
        need(last is not None and last.after.chain == end.chain, "an edit log that ends early", f"{end.seq} lines")
        return end.seq
