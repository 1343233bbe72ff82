"""Zip archives from outside. What they hold is made by hand; names and links are tried in test_assets.py too."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from bessemer.archives import check_entries, read_entry
from bessemer.errors import UserError


def made(path: Path, method: int, data: bytes, name: str = "a") -> Path:
    with zipfile.ZipFile(path, "w", method) as bundle:
        bundle.writestr(name, data)
    return path


def checked(path: Path, max_ratio: float | None = None) -> list[str]:
    with zipfile.ZipFile(path) as bundle:
        return [entry.filename for entry in check_entries("a.zip", bundle.infolist(), 10, 1 << 30, max_ratio)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bounds_are_refused(tmp_path: Path, method: int) -> None:
    """100 MB of zeros in a few kilobytes, said to be a hundred: `zipfile` itself would unpack them all."""
    path = made(tmp_path / "a.zip", method, bytes(100_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 100_000_000), struct.pack("<L", 100)))
    with pytest.raises(UserError, match="stored or deflated"):
        checked(path)


def test_no_more_is_unpacked_than_is_claimed(tmp_path: Path) -> None:
    """The headers say 100 bytes; of the 100 MB that follow no more than a block is ever in memory."""
    path = made(tmp_path / "a.zip", zipfile.ZIP_DEFLATED, bytes(100_000_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 100_000_000), struct.pack("<L", 100)))
    assert checked(path) == ["a"]
    tracemalloc.start()
    try:
        with zipfile.ZipFile(path) as bundle, pytest.raises((zipfile.BadZipFile, zlib.error)):
            list(read_entry(bundle, bundle.infolist()[0], 1 << 30))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_sizes_and_ratios(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", zipfile.ZIP_DEFLATED, bytes(3_000_000))
    assert checked(path) == ["a"]
    with pytest.raises(UserError, match="a ratio below 200"):
        checked(path, 200)
    with zipfile.ZipFile(path) as bundle:
        entry = bundle.infolist()[0]
        assert sum(map(len, read_entry(bundle, entry, 3_000_000))) == 3_000_000
        with pytest.raises(ValueError, match="larger than 2999999 bytes"):
            next(read_entry(bundle, entry, 2_999_999))
        with pytest.raises(UserError, match="more than 2999999 bytes"):
            check_entries("a.zip", [entry], 10, 2_999_999)


@pytest.mark.parametrize("names", [("a/b", "A"), ("a", "a/"), ("a", "A/b/c"), ("a//b",), ("./a",), ("a/" * 70,)])
def test_names_that_meet_or_lead_nowhere(tmp_path: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for name in names:
            bundle.writestr(name, b"")
    with pytest.raises(UserError, match="nothing was unpacked"):
        checked(tmp_path / "a.zip")
