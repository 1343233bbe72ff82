"""Checkpoints: complete or absent, verified, never poisoned."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from bessemer import checkpoint
from bessemer.errors import UserError


def weights(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"w": torch.full((4, 3), value), "n": torch.tensor(3)}


def save(root: Path, step: int, **options: Any) -> Path:
    return checkpoint.save(root, step, weights(step), {"value": step}, **options)


def steps(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tied = torch.nn.Linear(3, 3)
    tensors = {
        "bf16": torch.tensor([1.0, -0.0, 3e38], dtype=torch.bfloat16),
        "f16": torch.tensor([[6e-8]], dtype=torch.float16),
        "f64": torch.tensor(0.1, dtype=torch.float64),
        "scalar": torch.tensor(True),
        "empty": torch.zeros(0, 3),
        "also empty": torch.zeros(3, 0),
        "transposed": base.T,
        "strided": base[:, ::2],
        "view": base[1:],
        "whole": base,
        "same": base,
        "expanded": torch.ones(1).expand(5),
        "parameter": tied.weight,
        "the same parameter": tied.weight,
        "complex": torch.tensor([1 + 2j]),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8),
        "权重": torch.tensor([-(2**62)]),
    }
    checkpoint.save(tmp_path, 7, tensors, {})
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 7 and found.directory == tmp_path / "ckpt-00000007"
    assert set(found.tensors) == set(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().clone(memory_format=torch.contiguous_format)
        assert found.tensors[name].dtype == tensor.dtype and found.tensors[name].shape == tensor.shape, name
        bits = torch.int16 if tensor.dtype is torch.bfloat16 else tensor.dtype  # NumPy has no bfloat16
        actual = found.tensors[name].view(bits).numpy().tobytes()
        assert actual == expected.view(bits).numpy().tobytes(), name


def test_the_state_comes_back_equal(tmp_path: Path) -> None:
    state = {"epoch": 3, "lr": 0.1 + 0.2, "名": "缺陷", "list": [1, [None, True], {"a": -0.0}], "big": 2**70}
    checkpoint.save(tmp_path, 1, {}, state)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.state == state
    assert json.dumps(found.state) == json.dumps(state)  # -0.0 == 0.0, but not here


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"a": (1, 2)}, TypeError),
        ({"a": {1: 2}}, TypeError),
        ({"a": [torch.tensor(1)]}, TypeError),
        ({"a": {"b": float("inf")}}, ValueError),
        ({"a": np.float32(1)}, TypeError),
    ],
)
def test_a_state_that_would_come_back_different_is_a_defect(
    tmp_path: Path, state: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"state\['a'\]"):
        checkpoint.save(tmp_path, 1, {}, state)
    assert not list(tmp_path.iterdir())


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for root in ("a", "b"):
        save(tmp_path / root, 5)
    assert checkpoint.tree_hash(tmp_path / "a") == checkpoint.tree_hash(tmp_path / "b")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_a_poisoned_tensor_is_refused_and_the_healthy_checkpoint_stays(
    tmp_path: Path, bad: float, dtype: torch.dtype
) -> None:
    save(tmp_path, 1)
    poisoned = torch.ones(5).to(dtype)
    poisoned[3] = bad
    with pytest.raises(UserError, match="step 2: 1 of 5 values of 'lora.A' are NaN or infinite"):
        checkpoint.save(tmp_path, 2, {"fine": torch.ones(2), "lora.A": poisoned}, {}, keep=1)
    assert steps(tmp_path) == ["ckpt-00000001"]


def test_only_the_newest_are_kept_and_the_one_just_written_always(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert steps(tmp_path) == ["ckpt-00000002", "ckpt-00000003"]
    save(tmp_path, 4, keep=1)
    assert steps(tmp_path) == ["ckpt-00000004"]
    save(tmp_path, 2, keep=1)  # gone back
    assert steps(tmp_path) == ["ckpt-00000002"]
    with pytest.raises(ValueError, match="keep is 0"):
        save(tmp_path, 5, keep=0)


def test_steps_beyond_eight_digits_are_ordered_as_numbers(tmp_path: Path) -> None:
    save(tmp_path, 99_999_999)
    save(tmp_path, 100_000_000)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 100_000_000


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zero bytes": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}
# A flipped bit of the manifest may hit a space; that loses nothing.
PARTS = [(part, how) for part in ("tensors.safetensors", "state.json", "manifest.json") for how in DAMAGE]
PARTS = [(part, how) for part, how in PARTS if part != "manifest.json" or how not in ("flipped bit", "longer")]


@pytest.mark.parametrize(("part", "how"), PARTS)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, how: str
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    DAMAGE[how](tmp_path / "ckpt-00000002" / part)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1 and torch.equal(found.tensors["w"], weights(1)["w"])
    assert steps(tmp_path) == ["ckpt-00000001", "ckpt-00000002.corrupt"]
    warning = capsys.readouterr().err
    assert ("bytes, expected" in warning) == (how in ("truncated", "longer", "zero bytes") and part != "manifest.json")
    assert warning.startswith(f"warning: checkpoint {tmp_path}/ckpt-00000002 is damaged (") and part in warning


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "{}",
        '{"files": [], "step": 2}',
        '{"files": {"state.json": 1}, "step": 2}',
        '{"files": {}, "step": 2}',
        "[" * 9999,
    ],
)
def test_a_manifest_of_another_shape_is_damage_too(tmp_path: Path, manifest: str) -> None:
    save(tmp_path, 2)
    (tmp_path / "ckpt-00000002" / "manifest.json").write_text(manifest)
    assert checkpoint.latest(tmp_path) is None


def test_a_checkpoint_under_another_step_is_damage(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, 1), tmp_path / "ckpt-00000009")
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.directory.name == "ckpt-00000001"
    assert steps(tmp_path) == ["ckpt-00000001", "ckpt-00000009.corrupt"]


def test_the_rename_itself_is_on_disk_when_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append("rename"), rename(a, b)))
    save(tmp_path, 1)
    temporary = tmp_path / "ckpt-00000001.tmp"
    assert calls[-3:] == [str(temporary), "rename", str(tmp_path)]


def test_several_damaged_ones_keep_their_evidence(tmp_path: Path) -> None:
    for _ in range(2):
        save(tmp_path, 2)
        flip(tmp_path / "ckpt-00000002" / "tensors.safetensors")
        assert checkpoint.latest(tmp_path) is None
    assert steps(tmp_path) == ["ckpt-00000002.corrupt", "ckpt-00000002.corrupt-2"]


def test_other_files_are_not_checkpoints(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None
    (tmp_path / "ckpt-00000009").write_text("a file")
    (tmp_path / "ckpt-0000000x").mkdir()
    assert checkpoint.latest(tmp_path) is None


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 2)

    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "file_hash", refuse)
    with pytest.raises(UserError, match="could not be read .*Permission denied"):
        checkpoint.latest(tmp_path)
    assert steps(tmp_path) == ["ckpt-00000002"]


@pytest.mark.parametrize("call", ["save_file", "mkdir", "fsync", "rename"])
def test_a_full_disk_leaves_the_old_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        if call == "save_file":
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint if call == "save_file" else os, call, full)
        with pytest.raises(UserError, match="No space left on device.*free some space"):
            save(tmp_path, 2)
    assert steps(tmp_path) == ["ckpt-00000001"]
    save(tmp_path, 2)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 2


def test_too_little_room_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    save(tmp_path, 1)
    with pytest.raises(UserError, match="3 MB free, expected 7 MB"):
        checkpoint.save(tmp_path, 2, {"w": torch.zeros(10**6)}, {})
    assert steps(tmp_path) == ["ckpt-00000001"]


def test_the_generators_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [
            random.random(),
            random.gauss(0, 1),
            float(np.random.rand()),
            float(np.random.randn()),
            float(torch.rand(())),
            float(torch.randn(3)[0]),
        ]

    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draw()  # leaves half of a pair of normal numbers in Python's and NumPy's generators
    state = checkpoint.rng_state()
    expected = [draw(), draw()]
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    checkpoint.restore_rng({**state, "w": torch.ones(1)})
    assert [draw(), draw()] == expected
    with pytest.raises(KeyError):
        checkpoint.restore_rng({})


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = Path(__file__).with_name("killed_save.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("kills"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("scenario", "possible"),
    [
        ("new step, killed", {(2, 2), (3, 103)}),
        ("new step, power cut", {(2, 2), (3, 103)}),
        ("same step, killed", {(3, 3), (3, 103)}),
        ("first, killed", {(None, None), (3, 103)}),
    ],
)
def test_a_kill_anywhere_leaves_the_old_or_the_new(
    kills: dict[str, Any], scenario: str, possible: set[tuple[int | None, int | None]]
) -> None:
    seen = kills[scenario]
    assert len(seen) > 10 and all(one["killed"] for one in seen[:-1]) and not seen[-1]["killed"]
    assert {(one["step"], one["state"]) for one in seen} == possible
    for one in seen:
        assert one["tensor"] == (None if one["state"] is None else [float(one["state"])])
        assert not [name for name in one["names"] if not name.removeprefix("ckpt-").isdecimal()]
        assert one["next"] == 999


def test_the_true_error_of_a_full_disk(kills: dict[str, Any]) -> None:
    assert "could not be written" in kills["full"]["message"] and "File too large" in kills["full"]["message"]
    assert (kills["full"]["names"], kills["full"]["step"]) == (["ckpt-00000001"], 1)
