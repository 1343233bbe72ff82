"""Our C source is compiled once, and what happens where it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bessemer import compiling
from bessemer.kernels import _kernels, kernels_for
from compiling import compiled_library, need_compiler

CPU = torch.device("cpu")


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache in which nothing was compiled, for a process that has not looked yet."""
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path))
    compiling.library.cache_clear(), _kernels.cache_clear()
    yield tmp_path / "kernels"
    compiling.library.cache_clear(), _kernels.cache_clear()


def _why_not(caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert kernels_for(torch.bfloat16, CPU) is None
    (line,) = [record.getMessage() for record in caplog.records if record.name == compiling.__name__]
    return line


def test_it_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_library(torch.bfloat16)
    (made,) = anew.glob("*")
    assert made.suffix == ".so" and anew.stat().st_mode & 0o077 == 0
    compiling.library.cache_clear()
    asked: list[tuple[str, ...]] = []
    run = compiling._run
    monkeypatch.setattr(compiling, "_run", lambda *command: asked.append(command) or run(*command))
    assert compiling.library(torch.bfloat16) is not None
    assert [command[1] for command in asked] == ["--version"]
    assert compiling.library(torch.float32) is not None and len(list(anew.glob("*"))) == 2


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("no-such-compiler", "expected Linux with a C compiler"),
        ("#!/bin/sh\ncase $1 in --version) echo odd 1.0;; *) echo 'no such flag' >&2; exit 1;; esac", "no such flag"),
    ],
)
def test_without_a_compiler_one_line_says_why(
    anew: Path, compiler: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if compiler.startswith("#!"):
        script = anew.parent / "odd-cc"
        script.write_text(compiler)
        script.chmod(0o755)
        compiler = str(script)
    monkeypatch.setenv("CC", compiler)
    assert said in _why_not(caplog)
    assert not list(anew.glob("*")) if anew.exists() else True


def test_a_damaged_library_is_compiled_again(anew: Path) -> None:
    need_compiler()
    made = compiling._build(torch.bfloat16)
    made.write_bytes(b"")
    assert compiling.library(torch.bfloat16) is not None and made.stat().st_size > 1000


def test_a_folder_that_others_can_write_to_is_not_trusted(anew: Path, caplog: pytest.LogCaptureFixture) -> None:
    anew.mkdir()
    anew.chmod(0o777)
    need_compiler()
    assert "can be written to by others" in _why_not(caplog)


def test_it_can_be_turned_off(anew: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("BESSEMER_KERNELS", "0")
    assert "BESSEMER_KERNELS is 0" in _why_not(caplog)


def test_other_devices_and_types_are_not_compiled_for() -> None:
    assert kernels_for(torch.float64, CPU) is None and kernels_for(torch.bfloat16, torch.device("meta")) is None
