"""Folders, files and zip archives from outside, read member by member and never unpacked; JSON and XML from them.

Names within come from a listing, so a name that a file mentions is looked up, never joined to a path: `..`, drives
and links lead nowhere. An archive is checked whole before a byte of it is used.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...archives import check_entries, read_entry
from ...data.jsonl import finite_float
from ...data.paths import shown
from ...data.schema import need
from ...errors import UserError

__all__ = ["MAX_ANNOTATION_BYTES", "Source", "open_source", "parse_json"]

MAX_FILES = 1_000_000
MAX_ANNOTATION_BYTES = 512 * 2**20  # of one annotation file
MAX_TOTAL = 16 * 2**30
MAX_RATIO = 200  # of data to compressed data, above a megabyte; JSON of one repeated word reaches 100
MAX_DEPTH = 64
_SURROGATE = re.compile("[\ud800-\udfff]")  # where a byte of a name is no UTF-8


@dataclass(frozen=True)
class Source:
    """What was given: a folder, one file, or a zip archive. names: its files, sorted, `/` between folders. unnamed:
    those that are left out, as their names are no UTF-8."""

    place: Path
    names: tuple[str, ...]
    archive: zipfile.ZipFile | None = None
    unnamed: tuple[str, ...] = ()
    listed: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "listed", frozenset(self.names))

    def shown(self, name: str) -> str:
        """The file for a message."""
        return shown(self.place / name if self.place.is_dir() or self.archive else self.place)

    def read(self, name: str, limit: int = MAX_ANNOTATION_BYTES) -> bytes:
        """The bytes of a file of the listing. Raises UserError: more than `limit`, unreadable, damaged."""
        need(name in self.listed, f"{shown(self.place)}: no {shown(name)}", "a file of the listing")
        try:
            if self.archive is not None:
                entry = self.archive.getinfo(name)
                need(entry.file_size <= limit, f"{self.shown(name)}: {entry.file_size} bytes", f"at most {limit}")
                data = b"".join(read_entry(self.archive, entry, limit))
            else:
                path = self.place / name if self.place.is_dir() else self.place
                # A link that was put there since the listing is not followed; a pipe would never end.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with open(descriptor, "rb") as file:
                    need(stat.S_ISREG(os.fstat(descriptor).st_mode), f"{self.shown(name)}: no file", "a plain one")
                    data = file.read(limit + 1)
        except (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.shown(name)}: cannot be read ({shown(error)}), expected a sound file") from error
        except zlib.error as error:
            raise UserError(f"{self.shown(name)}: damaged ({shown(error)}), expected a sound file") from error
        need(len(data) <= limit, f"{self.shown(name)}: more than {limit} bytes", "a smaller file")
        return data

    def text(self, name: str) -> str:
        """A UTF-8 file, with or without a byte order mark."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.shown(name)}: byte {error.start} is not UTF-8, expected UTF-8 text") from error

    def json(self, name: str) -> Any:
        """The value of a JSON file, see `parse_json`."""
        return parse_json(self.text(name), self.shown(name))


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The source at a path: what the user named, so this one path is followed as it is.

    Raises:
        UserError: nothing there; an archive that is damaged, or that could not be unpacked safely.
    """
    if path.is_dir():
        names = sorted(_walk(path))
        good = tuple(name for name in names if not _SURROGATE.search(name))
        yield Source(path, good, unnamed=tuple(sorted(set(names) - set(good))))
        return
    need(path.is_file(), f"{shown(path)} is not there", "a folder, a file or a zip archive")
    if not zipfile.is_zipfile(path):
        need(path.suffix.lower() != ".zip", f"{shown(path)} is no zip archive", "a sound one")
        resolved = path.resolve()
        yield Source(resolved, (resolved.name,))
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{shown(path)} cannot be read ({shown(error)}), expected a sound zip archive") from error
    with archive:
        files = check_entries(shown(path), archive.infolist(), MAX_FILES, MAX_TOTAL, MAX_RATIO)
        names = [entry.filename for entry in files]
        visible = sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
        yield Source(path, tuple(visible), archive)


def _walk(folder: Path) -> Iterator[str]:
    count = 0
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where) / name
            count += 1
            need(count <= MAX_FILES, f"{shown(folder)} holds more than {MAX_FILES} files", "a smaller folder")
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder).as_posix()


def parse_json(text: str, where: str) -> Any:
    """A JSON value, strictly: no NaN, no number beyond floats, no key twice, at most 64 levels.

    Raises:
        UserError: "where:line: what, expected what".
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=finite_float, object_pairs_hook=_once)
    except RecursionError as error:
        raise UserError(f"{where}: nested more than {MAX_DEPTH} levels, expected a flatter file") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}:{error.lineno}: broken JSON ({error.msg}), expected a sound JSON file") from error
    except (ValueError, UserError) as error:
        raise UserError(f"{where}: {shown(error, 200)}, expected sound JSON") from error
    _check_depth(value, where)
    return value


def _check_depth(value: Any, where: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, dict | list))
        if not inner:
            return
        level = inner
    raise UserError(f"{where}: nested more than {MAX_DEPTH} levels, expected a flatter file")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"key {shown(twice)!r} twice in one object")
    return row
