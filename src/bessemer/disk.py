"""Files that are either wholly there or not at all, whatever kills the process or the power.

Every write goes to a temporary name on the same file system, is fsynced, renamed, and the parent directory is
fsynced: a rename without the first fsync may leave a zero-byte file after a power cut, and without the second
may be forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from .errors import UserError

__all__ = [
    "file_hash",
    "fsync",
    "move_aside",
    "publish",
    "tree_hash",
    "unwritable",
    "write_atomic",
    "write_json",
]


def fsync(path: Path) -> None:
    """Force a file's contents, or a directory's entries, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: Exception) -> UserError:
    """What to tell the user when `path` could not be written; `error` is the operating system's."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(
        f"{path} could not be written ({reason}), expected a writable place with free space; "
        "free some space, or set output_dir to another place, and run the same command again"
    )


def write_atomic(path: str | Path, data: bytes) -> None:
    """Replace the file `path` by `data`, or leave it as it was.

    Raises:
        UserError: the disk is full, the place is read-only, and whatever else the operating system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def write_json(path: str | Path, value: Any) -> None:
    """Replace the file `path` by `value` as JSON: UTF-8, Chinese kept as it is, NaN and infinity refused
    (ValueError)."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def publish(temporary: str | Path, final: str | Path) -> None:
    """Put the directory `temporary` in the place of `final`, complete: the old one is moved aside first and
    removed last.

    Both must be on one file system. A kill between the two renames leaves no `final`: the caller's checkpoint
        makes it again.
    """
    temporary, final = Path(temporary), Path(final)
    aside = final.with_name(f".{final.name}.{os.getpid()}.aside")
    try:
        for path in _walk(temporary):
            fsync(path)
        for folder, _, _ in os.walk(temporary, topdown=False):
            fsync(Path(folder))
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            os.rename(final, aside)
        os.rename(temporary, final)
        fsync(final.parent)
    except OSError as error:
        if aside.exists() and not final.exists():
            os.rename(aside, final)
        raise unwritable(final, error) from error
    for old in final.parent.glob(f".{final.name}.*.aside"):  # this one, and what an earlier kill left
        shutil.rmtree(old, ignore_errors=True)


def move_aside(directory: Path) -> Path:
    """Rename `directory` to the first free of NAME.old-1, NAME.old-2 ... and return that name: results are
    never deleted."""
    number = 1
    while (target := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    os.rename(directory, target)
    fsync(target.parent)
    return target


def file_hash(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(
    path: str | Path, without: Collection[str] = (), leave_out: Callable[[Path], bool] = lambda path: False
) -> str:
    """SHA-256 over the sorted relative names and contents of the files under `path`; of a single file, over
    its contents.

    `without` are names of entries directly under `path` that do not count; `leave_out` says of any entry below
    whether it does not. Links count as what they point to, one that points nowhere as the text of its target. Empty
    directories, pipes and devices, permissions and times do not count.

    Raises:
        UserError: a file or directory that cannot be read.
    """
    path = place = Path(path)
    try:
        if path.is_file():
            return file_hash(path)
        digest = hashlib.sha256()
        files = {str(file.relative_to(path)): file for file in _walk(path, leave_out)}
        for name in sorted(files):
            place = files[name]
            contents = None if name.split(os.sep, 1)[0] in without else _entry_hash(place)
            if contents is not None:
                # A name cannot hold NUL and a digest has a fixed length, so no two trees can run together into
                # the same bytes.
                digest.update(os.fsencode(name) + b"\0" + bytes.fromhex(contents))
    except OSError as error:
        raise UserError(
            f"{error.filename or place} could not be read ({error.strerror or error}), expected files and folders that "
            "can be read; mend the permissions, or move it away"
        ) from error
    return digest.hexdigest()


def _entry_hash(path: Path) -> str | None:
    """Of a file its contents, of a link that points nowhere its target's text; None for what is neither."""
    if path.is_file():
        return file_hash(path)
    if path.is_symlink() and not path.exists():
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    return None


def _walk(
    root: Path, leave_out: Callable[[Path], bool] = lambda path: False, above: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Files under `root`, through links, each directory at most once on the way down (a link to its own
    parent would never end)."""
    real = os.path.realpath(root)
    if real in above:
        return
    for path in sorted(Path(root).iterdir(), key=lambda path: path.name):
        if leave_out(path):
            continue
        if path.is_dir():  # False, not an error, for a link to itself
            yield from _walk(path, leave_out, above | {real})
        else:
            yield path
