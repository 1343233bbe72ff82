"""A stage's directory: logs, manifest, resumption, signals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bessemer import __version__, checkpoint, interrupts
from bessemer.config import Artifact
from bessemer.disk import tree_hash
from bessemer.errors import Stopped, UserError
from bessemer.run import Run, read_manifest


@dataclass(frozen=True)
class Config:
    output_dir: str = ""
    seed: int = 3
    model: Artifact = Artifact("smollm2")
    words: str = "缺陷"


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    interrupts.release()


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slow to import; one test asks for it."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def start(directory: Path, config: Any = None, **options: Any) -> Run:
    options = {"stage": "sft", "parents": {}, "seed": 3, **options}
    return Run.start(directory, config or Config(), **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest(directory: Path) -> dict[str, Any]:
    found = read_manifest(directory)
    assert found is not None
    return found


def test_a_run_from_start_to_finish(tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "weights").write_bytes(b"1")
    run = start(tmp_path / "sft", parents={"model": tmp_path / "parent"})
    assert manifest(run.directory)["status"] == "running"
    assert yaml.safe_load((run.directory / "config.yaml").read_text(encoding="utf-8"))["words"] == "缺陷"
    run.log(1, {"loss": 0.1 + 0.2, "精度": torch.tensor(0.5)})
    run.record(data_hash="abc", health={"skipped_steps": 2})
    run.record(template_hash="def")
    run.model_directory.mkdir()
    (run.model_directory / "model.safetensors").write_bytes(b"x")
    assert run.finish(accuracy=0.9, auc=float("nan"), per={"真实": [np.float64(0.5)]}) == tmp_path / "sft"
    found = manifest(run.directory)
    assert found["stage"] == "sft" and found["status"] == "done" and found["seed"] == 3 and found["threads"] == 1
    assert found["parents"] == {"model": {"path": str(tmp_path / "parent"), "sha256": tree_hash(tmp_path / "parent")}}
    assert found["versions"]["bessemer"] == __version__ and found["versions"]["torch"] == str(torch.__version__)
    assert found["summary"] == {"accuracy": 0.9, "auc": None, "per": {"真实": [0.5]}}
    assert found["facts"] == {"data_hash": "abc", "template_hash": "def"}
    assert found["health"] == {"skipped_steps": 2, "nonfinite": {}}
    assert found["model_sha256"] == tree_hash(run.model_directory)
    assert lines(run.directory / "metrics.jsonl") == [{"step": 1, "loss": 0.30000000000000004, "精度": 0.5}]
    assert [sorted(line) for line in lines(run.directory / "timings.jsonl")] == [["seconds", "step"]]


def test_the_generators_are_seeded(tmp_path: Path) -> None:
    def draws(name: str, seed: int) -> tuple[float, float, float]:
        start(tmp_path / name, seed=seed).finish()
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = draws("a", 3)
    assert draws("b", 3) == first
    assert all(one != other for one, other in zip(draws("c", 4), first, strict=True))
    draws("negative", -1)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_bad_thread_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BESSEMER_THREADS", value)
    with pytest.raises(UserError, match="BESSEMER_THREADS"):
        start(tmp_path / "sft")
    assert not (tmp_path / "sft").exists()


def test_threads_default_to_the_cores_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.delenv("BESSEMER_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5})
    start(tmp_path / "a")
    monkeypatch.setenv("BESSEMER_THREADS", "7")
    start(tmp_path / "b")
    assert asked == [3, 7]


def test_a_value_that_is_not_finite_is_null_and_counted_once_after_a_resume(tmp_path: Path) -> None:
    run = start(tmp_path / "sft")
    run.log(1, {"loss": float("nan"), "kl": 1.0})
    run.log(2, {"loss": float("inf"), "kl": float("-inf")})
    run.rewind(1)
    run.log(2, {"loss": float("inf"), "kl": float("-inf")})
    run.finish()
    assert lines(run.directory / "metrics.jsonl") == [
        {"step": 1, "loss": None, "kl": 1.0},
        {"step": 2, "loss": None, "kl": None},
    ]
    assert manifest(run.directory)["health"]["nonfinite"] == {"loss": 2, "kl": 1}


def test_rewind_gives_the_bytes_of_an_uninterrupted_log(tmp_path: Path) -> None:
    values = [0.1, 1e-30, 12345.678, -0.0, 3.0, 1 / 3]
    straight = start(tmp_path / "straight")
    for step, value in enumerate(values):
        straight.log(step, {"损失": value, "kl": value / 7})
    straight.finish()
    broken = start(tmp_path / "broken")
    for step, value in enumerate(values[:5]):
        broken.log(step, {"损失": value, "kl": value / 7})
    with open(broken.directory / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 5, "kl')  # torn by a kill
    broken.rewind(2)
    for step, value in list(enumerate(values))[3:]:
        broken.log(step, {"损失": value, "kl": value / 7})
    broken.finish()
    for name in ("metrics.jsonl",):
        assert (broken.directory / name).read_bytes() == (straight.directory / name).read_bytes()
    assert [line["step"] for line in lines(broken.directory / "timings.jsonl")] == list(range(6))


def test_an_interrupted_run_goes_on_and_its_seconds_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(tmp_path / "sft")
    run.record(data_hash="abc")
    run.log(1, {"loss": 1.0})
    run.save(1, {"w": torch.ones(2)}, {"epoch": 0})
    run.log(2, {"loss": 2.0})
    text = manifest(run.directory)
    text["seconds"], text["threads"] = 1000.0, 64
    (run.directory / "manifest.json").write_text(json.dumps(text))
    interrupts.release()
    again = start(tmp_path / "sft")
    found = again.resume()
    assert found is not None and (found.step, found.state) == (1, {"epoch": 0})
    again.finish()
    assert "began with threads 64 and goes on with 1" in capsys.readouterr().err
    after = manifest(tmp_path / "sft")
    assert after["facts"] == {"data_hash": "abc"} and after["status"] == "done"
    assert 1000.0 <= after["seconds"] < 2000.0
    assert lines(tmp_path / "sft" / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
    assert os.listdir(tmp_path) == ["sft"]


def test_a_stage_without_checkpoints_begins_its_log_anew(tmp_path: Path) -> None:
    start(tmp_path / "sft").log(1, {"loss": 1.0})
    again = start(tmp_path / "sft")
    again.log(1, {"loss": 1.0})
    assert lines(tmp_path / "sft" / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]


def test_the_log_is_on_disk_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    run = start(tmp_path / "sft")
    run.log(1, {"loss": 1.0})
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    run.save(1, {"w": torch.ones(2)}, {})
    first = next(i for i, path in enumerate(order) if "ckpt-" in path)
    assert {Path(path).name for path in order[:first]} == {"metrics.jsonl", "timings.jsonl"}


@pytest.mark.parametrize("status", ["running", "done"])
def test_another_configuration_moves_the_old_result_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    run = start(tmp_path / "sft")
    run.log(1, {"loss": 1.0})
    run.save(1, {"w": torch.ones(2)}, {})
    if status == "done":
        run.finish()
    other = start(tmp_path / "sft", replace(Config(), words="x"))
    assert other.resume() is None
    assert not (tmp_path / "sft" / "metrics.jsonl").exists()
    assert manifest(tmp_path / "sft.old-1")["status"] == status
    assert checkpoint.latest(tmp_path / "sft.old-1" / "checkpoints") is not None
    assert f"words was '缺陷' and is 'x'; what was here is kept as {tmp_path}/sft.old-1" in capsys.readouterr().err


def test_why_a_result_is_moved_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records").write_text("1")
    config = Config(model=Artifact(str(tmp_path / "records")))
    start(tmp_path / "sft", config).finish()
    (tmp_path / "records").write_text("2")
    start(tmp_path / "sft", config).finish()
    assert "sft: an input has changed; what was here" in capsys.readouterr().err
    start(tmp_path / "sft", replace(config, output_dir="x")).finish()
    assert "sft: begun again; what was here" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten_by_the_same_again(tmp_path: Path) -> None:
    start(tmp_path / "sft").finish(round=1)
    start(tmp_path / "sft").finish(round=2)
    assert manifest(tmp_path / "sft.old-1")["summary"] == {"round": 1}
    assert manifest(tmp_path / "sft")["summary"] == {"round": 2}


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="holds 'a.jpg'"):
        start(tmp_path / "photos")
    assert os.listdir(tmp_path / "photos") == ["a.jpg"]
    (tmp_path / "begun").mkdir()
    for name in ("config.yaml", "error.txt", ".manifest.json.1.tmp"):  # killed before the manifest
        (tmp_path / "begun" / name).write_text("")
    start(tmp_path / "begun").finish()


def test_two_processes_cannot_work_in_one_directory(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    code = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, 2); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / "sft" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is at work"):
            start(tmp_path / "sft")
        other.communicate(b"\n")
    start(tmp_path / "sft").finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_the_next_safe_place(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run = start(tmp_path / "sft")
    run.raise_if_stopped()
    os.kill(os.getpid(), number)
    assert run.stop_requested
    run.save(4, {"w": torch.ones(2)}, {})
    with pytest.raises(Stopped, match="run the same command again"):
        run.raise_if_stopped()
    assert manifest(run.directory)["status"] == "stopped"
    assert signal.getsignal(number) == before
    again = start(tmp_path / "sft")
    assert not again.stop_requested
    found = again.resume()
    assert found is not None and found.step == 4


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = start(tmp_path / "sft")
    run.log(1, {"loss": 1.0})
    run.record(a=1)
    run.save(1, {"w": torch.ones(1)}, {})
    assert run.resume() is None
    assert run.finish() == tmp_path / "sft"
    assert not (tmp_path / "sft").exists()


def test_tensorboard_gets_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = start(tmp_path / "sft")
    run.log(1, {"loss": 0.5})
    run.log(2, {"loss": 0.25})
    run.finish()
    events = accumulator.EventAccumulator(str(run.directory / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
