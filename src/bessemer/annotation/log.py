"""The edit log: every change of a project, one JSON line each, on the disk before anybody is told that it is saved.

A line is `{"sha256": ..., "seq": n, "time": ..., "op": ..., "data": {...}}`; its hash covers the hash of the line
before it and the bytes of the line behind its own hash, so a flipped bit, a lost line and a changed order are seen.
What a power cut leaves of the last write (a line without its end, blocks of zeros) was never acknowledged: it is set
aside when the log is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.schema import need
from ..disk import fsync, unwritable, write_atomic
from ..errors import UserError
from .codec import to_json

__all__ = ["BEGINNING", "Edit", "EditLog", "Position", "Record", "read_log", "seal", "set_torn_end_aside"]

MAX_LINE = 64 * 2**20
BLOCK = 512  # bytes that a disk writes at once at least; our JSON holds no zero byte at all
_PREFIX = b'{"sha256":"'
_BODY = len(_PREFIX) + 64 + 2  # the hash is followed by `",`


@dataclass(frozen=True)
class Position:
    """A place in the log: how many lines lie before it, at which byte, and the hash of the last of them."""

    seq: int
    offset: int
    chain: str


@dataclass(frozen=True)
class Edit:
    """What is to be logged: the name of an operation and its JSON object."""

    op: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One line of the log and the position behind it."""

    seq: int
    time: str
    op: str
    data: dict[str, Any]
    after: Position


BEGINNING = Position(0, 0, "")


def seal(edit: Edit, time: str, before: Position) -> tuple[bytes, Record]:
    """The line of an edit at a position, and its record. Raises UserError: a line above 64 MB."""
    seq = before.seq + 1
    body = to_json({"seq": seq, "time": time, "op": edit.op, "data": edit.data})[1:].encode()
    digest = _digest(before.chain, body)
    line = _PREFIX + digest.encode() + b'",' + body + b"\n"
    need(len(line) <= MAX_LINE, f"an edit of {len(line)} bytes", f"at most {MAX_LINE}; split it")
    return line, Record(seq, time, edit.op, edit.data, Position(seq, before.offset + len(line), digest))


def _digest(chain: str, body: bytes) -> str:
    return hashlib.sha256(chain.encode() + body).hexdigest()


def read_log(path: Path, start: Position = BEGINNING) -> Iterator[Record]:
    """The records behind a position, each verified.

    Raises:
        UserError: the file is shorter than the position; a line that was changed, lost or moved; an unreadable
            file. `set_torn_end_aside` goes before.
    """
    position = start
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            need(size >= start.offset, f"{path} has {size} bytes", f"at least {start.offset}: lines were lost; {_HELP}")
            file.seek(start.offset)
            while line := file.readline(MAX_LINE + 1):
                record = _record(line, position)
                if record is None:
                    raise UserError(
                        f"{path}: line {position.seq + 1} (byte {position.offset}) is damaged, expected the line that "
                        f"was written; {_HELP}"
                    )
                yield record
                position = record.after
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), expected the edit log of a project") from error


_HELP = "put the file back from a backup"


def _record(line: bytes, before: Position) -> Record | None:
    """The record of a line, or None where it is not what was written behind that position."""
    if not (line.startswith(_PREFIX) and line.endswith(b"\n")):
        return None
    body = line[_BODY:-1]
    digest = _digest(before.chain, body)
    if line[: len(_PREFIX) + 66] != _PREFIX + digest.encode() + b'",':
        return None
    row = json.loads(b"{" + body)
    if row["seq"] != before.seq + 1:
        return None
    after = Position(before.seq + 1, before.offset + len(line), digest)
    return Record(after.seq, row["time"], row["op"], row["data"], after)


def set_torn_end_aside(path: Path, start: Position) -> Path | None:
    """Cut off what a power cut left of an unfinished write behind `start`, and keep it in a file beside the log.

    Only a last line without its end, or lines from a block of zeros on, are taken for that; other damage is left
    for `read_log` to refuse.

    Returns:
        The file with the torn bytes, or None where there are none.
    """
    with path.open("rb") as file:
        file.seek(start.offset)
        position = start
        while line := file.readline(MAX_LINE + 1):
            record = _record(line, position)
            if record is None:
                break
            position = record.after
        else:
            return None
        rest = line + file.read()
    if b"\n" in rest and b"\0" * BLOCK not in rest and b"\0" not in rest[-1:]:
        return None
    aside = path.with_name(f"{path.name}.torn-{position.offset}")
    write_atomic(aside, rest)
    os.truncate(path, position.offset)
    fsync(path)
    return aside


class EditLog:
    """The log of an open project, for appending."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, lines: bytes) -> None:
        """Write whole lines and wait until they are on the disk.

        Raises:
            UserError: it could not be done; the log is then as it was before.
            OSError: nor could that be brought about: nothing more may be appended.
        """
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._offset)
            os.fsync(self._file)
            raise unwritable(self._path, error) from error
        self._offset += len(lines)

    def close(self) -> None:
        """Give the file back; again is no error."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1
