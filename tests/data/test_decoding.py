"""Photographs decoded in a process of their own."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bessemer.data import decoding
from bessemer.data.decoding import inspect_apart, load_apart
from bessemer.data.images import image_ref, inspect_image, load_image
from bessemer.errors import UserError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (31, 47, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    return tmp_path / "a.jpg"


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more: 23 bytes each, and each a pass over the picture."""
    file = io.BytesIO()
    Image.new("L", (side, side), 100).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    end = data.rindex(b"\xff\xd9")
    return data[:end] + data[data.rindex(b"\xff\xda") : end] * count + data[end:]


def test_the_same_picture_and_facts(photo: Path) -> None:
    ref = image_ref(photo)
    assert load_apart(ref).tobytes() == load_image(ref).tobytes() and load_apart(ref).size == (31, 47)
    assert inspect_apart(photo) == inspect_image(photo) and inspect_apart(photo).orientation == 6


def test_refusals_are_those_of_a_plain_reading(tmp_path: Path, photo: Path) -> None:
    ref = image_ref(photo)
    (tmp_path / "b.png").write_bytes(b"<svg/>")
    photo.write_bytes(photo.read_bytes() + b" ")
    for apart, plain in (
        (lambda: load_apart(ref), lambda: load_image(ref)),
        (lambda: inspect_apart(tmp_path / "b.png"), lambda: inspect_image(tmp_path / "b.png")),
        (lambda: inspect_apart(tmp_path / "c.png"), lambda: inspect_image(tmp_path / "c.png")),
        (lambda: inspect_apart(photo, 10), lambda: inspect_image(photo, 10)),
    ):
        with pytest.raises(UserError) as one:
            apart()
        with pytest.raises(UserError) as other:
            plain()
        assert str(one.value) == str(other.value)


def test_a_thousand_scans_end_with_the_worker(tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 KB that a decoder is busy with for long: stopped after a second of processor time."""
    monkeypatch.setattr(decoding, "SECONDS", 1)
    (tmp_path / "scans.jpg").write_bytes(scans(3_000, 3_000))
    ref = image_ref(tmp_path / "scans.jpg")
    start = time.process_time()
    with pytest.raises(UserError, match=r"scans\.jpg: decoding it takes more than 3072 MB or 1 s.*expected"):
        load_apart(ref)
    assert time.process_time() - start < 1  # none of it here
    assert inspect_apart(photo).width == 31


def test_memory_is_bounded_and_the_next_photograph_is_read(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MEMORY", 400 * 2**20)
    Image.new("1", (10_000, 5_000)).save(tmp_path / "large.png")  # 50 MP in a few kilobytes; RGB takes 200 MB and 150
    ref = image_ref(tmp_path / "large.png")
    with pytest.raises(UserError, match=r"large\.png.*expected"):
        load_apart(ref)
    assert load_apart(image_ref(photo)).size == (31, 47)
    monkeypatch.undo()
    assert load_apart(ref).size == (10_000, 5_000)


def test_a_worker_that_dies_is_replaced(photo: Path) -> None:
    inspect_apart(photo)
    (worker, *_) = reversed(decoding._idle)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="breaks the decoder"):
        inspect_apart(photo)
    assert inspect_apart(photo).width == 31


def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "PIL", "numpy", "bessemer"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    decoding._close_idle()
    assert inspect_apart(photo).width == 31 and not (tmp_path / "canary").exists()
