"""The compiled operations of a step, beside the same in float64, and what happens where nothing can be compiled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bessemer.models.nodes import rotation
from bessemer.rollout import kernels
from bessemer.rollout.cache import Cache
from bessemer.rollout.kernels import Compiled, compiled
from bessemer.rollout.operations import Shape
from compiling import compiled_library

EPSILON = 1e-5
TYPES = [torch.float32, torch.bfloat16]
CPU = torch.device("cpu")


def _close(found: Tensor, expected: Tensor) -> None:
    """Within a rounding or two of the type that it is stored in."""
    rtol, atol = (2e-6, 2e-6) if found.dtype == torch.float32 else (0.009, 0.004)
    assert_close(found.double(), expected, rtol=rtol, atol=atol)


def _operations(dtype: torch.dtype, shape: Shape) -> Compiled:
    operations = Compiled(compiled_library(dtype), shape)
    operations.begin(Cache(1, 1, 1, 2, 1, dtype, CPU), torch.empty(0), torch.empty(0))
    return operations


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 300])  # alone, and shared between threads
def test_norm_after_the_residual(dtype: torch.dtype, rows: int) -> None:
    operations = _operations(dtype, Shape(1, 1, 2, 1.0, EPSILON))
    torch.manual_seed(0)
    x, delta, gain = torch.randn(rows, 96).to(dtype), torch.randn(rows, 96).to(dtype), torch.rand(96).to(dtype)
    total = (x.double() + delta.double()).to(dtype).double()
    expected = total / (total.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain.double()
    kept, normed = operations.add_norm(x.clone(), delta, gain)
    assert torch.equal(kept.double(), total)
    _close(normed, expected)
    same, again = operations.add_norm(kept, None, gain)
    assert torch.equal(same.double(), total) and torch.equal(again, normed)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 300])
def test_gate(dtype: torch.dtype, rows: int) -> None:
    """Over all gates that matter, up to those whose exponential has no number."""
    operations = _operations(dtype, Shape(1, 1, 2, 1.0, EPSILON))
    gate = torch.linspace(-120, 120, 64 * rows).view(rows, 64).to(dtype)
    up = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = operations.gated(torch.cat([gate, up], -1))
    _close(found, gate.double() * torch.sigmoid(gate.double()) * up.double())


def _attended(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """(Hq, d) looks at (Hk, T, d), in float64."""
    group = len(query) // len(keys)
    keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
    return torch.einsum("ht,htd->hd", torch.softmax(scaling * torch.einsum("hd,htd->ht", query, keys), -1), values)


def _turned(head: Tensor, gain: Tensor | None, angle: Tensor) -> Tensor:
    """Rotated pairs as complex numbers (Su et al. 2021, equation 14), after the norm."""
    if gain is not None:
        head = head / (head.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain
    first, second = head.chunk(2, -1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 64), (4, 4, 16), (8, 1, 128), (1, 1, 6)])
@pytest.mark.parametrize("normed", [False, True])
def test_attention(dtype: torch.dtype, heads: int, kv_heads: int, dim: int, normed: bool) -> None:
    """Rows of lengths 0, 3 and 40: each new token is turned, kept where its row ends, and sees what its row holds."""
    torch.manual_seed(1)
    lengths, room = torch.tensor([0, 3, 40]), 48
    operations = Compiled(compiled_library(dtype), Shape(heads, kv_heads, dim, 0.3, EPSILON))
    cache = Cache(2, 3, kv_heads, dim, room, dtype, CPU)
    cache.reach(1)
    cache.keys[1].normal_(), cache.values[1].normal_()
    cache.lengths.copy_(lengths)
    before = [bank[1].view(3, kv_heads, room, dim).double() for bank in (cache.keys, cache.values)]
    gains = (torch.rand(dim).to(dtype), torch.rand(dim).to(dtype)) if normed else (None, None)
    qkv = torch.randn(3, heads + 2 * kv_heads, dim).to(dtype)
    frequencies = 1.0 / 100 ** (torch.arange(dim // 2) / (dim // 2))
    operations.begin(cache, *rotation(torch.arange(room), frequencies, 1.0, dtype))
    found = operations.attend(cache, 1, qkv.flatten(1), *gains).view(3, heads, dim)
    after = [bank[1].view(3, kv_heads, room, dim).double() for bank in (cache.keys, cache.values)]
    query, key, value = qkv.double().split([heads, kv_heads, kv_heads], 1)
    for row, length in enumerate(lengths.tolist()):
        angle = (length * frequencies).double()
        wide = [None if gain is None else gain.double() for gain in gains]
        for bank, old, new in zip(after, before, (_turned(key[row], wide[1], angle), value[row]), strict=True):
            kept = old[row].clone()
            kept[:, length] = new
            assert_close(bank[row], kept, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.04)
        keys, values = (bank[row, :, : length + 1] for bank in after)
        expected = _attended(_turned(query[row], wide[0], angle), keys, values, 0.3)
        assert_close(found[row].double(), expected, rtol=0, atol=5e-6 if dtype == torch.float32 else 0.04)
    assert not cache.keys[0].any()  # the other layer's


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_what_is_no_number_shows(dtype: torch.dtype) -> None:
    """A network that diverged has to be seen: nothing turns NaN into a number, and small numbers are not flushed."""
    operations = _operations(dtype, Shape(1, 1, 2, 1.0, EPSILON))
    bad = torch.ones(3, 8, dtype=dtype)
    bad[1, 2] = float("nan")
    assert torch.isnan(operations.gated(bad)[1, 2]) and torch.isfinite(operations.gated(bad)[[0, 2]]).all()
    assert torch.isnan(operations.add_norm(bad, None, bad[0].contiguous())[1][1]).all()
    attending = Compiled(compiled_library(dtype), Shape(1, 1, 2, 1.0, EPSILON))
    cache = Cache(1, 2, 1, 2, 4, dtype, CPU)
    cache.reach(1)
    attending.begin(cache, torch.ones(4, 2, dtype=dtype), torch.zeros(4, 2, dtype=dtype))
    qkv = torch.ones(2, 6, dtype=dtype)
    qkv[0, 0] = float("nan")
    mixed = attending.attend(cache, 0, qkv, None, None)
    assert torch.isnan(mixed[0]).all() and torch.isfinite(mixed[1]).all()
    assert float(torch.tensor(1e-40) * 1) > 0


def test_as_many_threads_say_the_same() -> None:
    library, shape = compiled_library(torch.float32), Shape(4, 2, 16, 0.25, EPSILON)
    said = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        torch.manual_seed(3)
        cache = Cache(1, 5, 2, 16, 9, torch.float32, CPU)
        cache.reach(1)
        cache.keys[0].normal_(), cache.values[0].normal_()
        cache.lengths.copy_(torch.tensor([8, 1, 4, 0, 2]))
        operations = Compiled(library, shape)
        operations.begin(cache, torch.randn(9, 16), torch.randn(9, 16))
        said.append(operations.attend(cache, 0, torch.randn(5, 8 * 16), None, None))
    torch.set_num_threads(threads)
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache in which nothing was compiled, for a process that has not looked yet."""
    monkeypatch.setenv("BESSEMER_CACHE", str(tmp_path))
    kernels._library.cache_clear()
    yield tmp_path / "kernels"
    kernels._library.cache_clear()


def _why_not(caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert compiled(Shape(1, 1, 2, 1.0, EPSILON), torch.bfloat16, CPU) is None
    (line,) = [record.getMessage() for record in caplog.records if record.name == kernels.__name__]
    return line


def test_it_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_library(torch.bfloat16)
    (made,) = anew.glob("*")
    assert made.suffix == ".so" and anew.stat().st_mode & 0o077 == 0
    kernels._library.cache_clear()
    asked: list[tuple[str, ...]] = []
    run = kernels._run
    monkeypatch.setattr(kernels, "_run", lambda *command: asked.append(command) or run(*command))
    assert kernels._library(torch.bfloat16) is not None
    assert [command[1] for command in asked] == ["--version"]
    assert kernels._library(torch.float32) is not None and len(list(anew.glob("*"))) == 2


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


def test_it_can_be_turned_off(anew: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("BESSEMER_KERNELS", "0")
    assert "BESSEMER_KERNELS is 0" in _why_not(caplog)


def test_other_devices_and_types_are_not_compiled_for() -> None:
    shape = Shape(1, 1, 2, 1.0, EPSILON)
    assert compiled(shape, torch.float64, CPU) is None and compiled(shape, torch.bfloat16, torch.device("meta")) is None
