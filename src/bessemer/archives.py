"""Zip archives from outside: looked over whole before a byte of them is used, then read in blocks that are counted.

Only stored and deflated members are read: Python's `zipfile` unpacks a block of bzip2 or LZMA at once, whatever size
the archive claims, and a kilobyte of those can be gigabytes.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from .errors import UserError

__all__ = ["check_entries", "read_entry"]

BLOCK = 1 << 20
FLAT = 1 << 20  # bytes up to which a member may be as dense as it likes


def check_entries(
    archive: str, entries: Sequence[zipfile.ZipInfo], max_files: int, max_total: int, max_ratio: float | None = None
) -> list[zipfile.ZipInfo]:
    """The members of an archive that are files, as they come.

    Args:
        archive: how to name it in a message.
        max_total: bytes of all members, as the archive claims; `read_entry` holds it to its claims.
        max_ratio: of data to compressed data in a member above a megabyte.

    Raises:
        UserError: names that leave the archive, meet one another (but for case too) or lie inside a file; links and
            devices; encrypted members; other methods than stored and deflated; too many, too large, too dense.
    """
    _need(len(entries) <= max_files, f"{archive} holds {len(entries)} files", f"at most {max_files}")
    total, seen, files = 0, set[str](), []
    for entry in entries:
        name, what = entry.filename, f"{archive} holds {ascii(entry.filename)[:80]}"
        parts = name.rstrip("/").split("/")
        plain = name.isprintable() and not set(name) & set('\\:"<>|?*') and not {"", ".", ".."} & set(parts)
        _need(plain, what, "names inside the archive alone")
        _need(len(name) <= 1_000 and len(parts) <= 64, what, "shorter names")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        _need(kind in (0, stat.S_IFREG, stat.S_IFDIR), f"{what}, a link or device", "plain files")
        key = name.rstrip("/").casefold()
        _need(key not in seen, f"{what} twice (or but for case)", "each file with its own name")
        seen.add(key)
        _need(not entry.flag_bits & 1, f"{what}, encrypted", "files without a password")
        method = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        _need(method, f"{what}, packed by method {entry.compress_type}", "stored or deflated files")
        total += entry.file_size
        _need(total <= max_total, f"{archive} unpacks to more than {max_total} bytes", "a smaller archive")
        dense = max_ratio and entry.file_size > FLAT and entry.file_size > max_ratio * max(1, entry.compress_size)
        _need(not dense, f"{what} of {entry.file_size} bytes in {entry.compress_size}", f"a ratio below {max_ratio}")
        if not entry.is_dir():
            files.append(entry)
    names = {entry.filename.casefold() for entry in files}
    for entry in entries:
        above = PurePosixPath(entry.filename).parents
        clash = any(str(folder).casefold() in names for folder in above)
        _need(not clash, f"{archive} holds {ascii(entry.filename)[:80]} inside another file", "files in folders")
    return files


def read_entry(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> Iterator[bytes]:
    """The data of a checked member in blocks of at most a megabyte, never more than it claims.

    Raises:
        ValueError: it claims more than `limit` bytes. What `zipfile` and zlib raise on damaged data.
    """
    if entry.file_size > limit:
        raise ValueError(f"{ascii(entry.filename)[:80]} is larger than {limit} bytes")
    with bundle.open(entry) as file:
        while block := file.read(BLOCK):
            yield block


def _need(ok: bool, what: str, expected: str) -> None:
    if not ok:
        raise UserError(f"{what}, expected {expected}; nothing was unpacked")
