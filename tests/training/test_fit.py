"""The loop: a run that was stopped and resumed ends in the same bits as one that was not."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bessemer import checkpoint, interrupts
from bessemer.algos.masked import Loss
from bessemer.errors import Stopped, UserError
from bessemer.run import Run
from bessemer.training.fit import TrainState, fit
from bessemer.training.optim import Group, adamw

STEPS = 9


@dataclass
class Config:
    output_dir: str = ""
    """Where it writes."""
    seed: int = 3
    """Seed."""


class Network(nn.Module):
    """Something of everything that a run must restore: layouts, running statistics, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(5, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.head(self.drop(self.norm(self.conv(pixels)).relu().mean((2, 3))))
        return output


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A run that was cut off in the same process leaves its signal handlers behind."""
    yield
    interrupts.release()


class Interrupted(Exception):
    """What a power cut looks like from inside."""


def _network() -> Network:
    torch.manual_seed(0)
    network = Network().to(memory_format=torch.channels_last)
    return network.train()


def _batches(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(4, 3, 6, 6, generator=generator).to(memory_format=torch.channels_last) for _ in range(2)]


def _train(
    directory: Path,
    *,
    fail_at: int | None = None,
    signal_at: int | None = None,
    poison: Callable[[int], bool] = lambda step: False,
    save_steps: int = 2,
    max_grad_norm: float = 1.0,
) -> tuple[Network, Run]:
    """A run of STEPS steps; `fail_at`: raise in that step's second microbatch; `poison`: that step's loss is nan."""
    network = _network()
    run = Run.start(directory, Config(str(directory)), stage="fit", parents={}, seed=3)
    at = {"step": 0, "batch": 0}

    def batches_at(step: int) -> list[Tensor]:
        at.update(step=step, batch=0)
        return _batches(step)

    def loss_of(pixels: Tensor) -> Loss:
        at["batch"] += 1
        if at["step"] == fail_at and at["batch"] == 2:
            raise Interrupted
        noise = torch.rand(())  # of the global generator, as dropout's
        loss = network(pixels).square().sum() * noise
        if poison(at["step"]):
            loss = loss * float("nan")
        return Loss(loss, torch.tensor(4.0), {"noise": (noise * 4, torch.tensor(4.0))})

    def after_step(step: int) -> Mapping[str, float]:
        if step == signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"after": float(step)}

    head = {f"head.{name}": p for name, p in network.head.named_parameters()}
    body = {f"body.{name}": p for name, p in network.named_parameters() if not name.startswith("head")}
    fit(
        run,
        [Group(body, 0.05, 0.1), Group(head, 0.2)],
        batches_at,
        loss_of,
        steps=STEPS,
        description="fit",
        warmup_ratio=0.3,
        save_steps=save_steps,
        max_grad_norm=max_grad_norm,
        buffers=dict(network.named_buffers()),
        after_step=after_step,
    )
    run.finish()
    return network, run


def _everything(network: Network, run: Run) -> dict[str, object]:
    """All bits that a run leaves: weights and statistics in memory, the last checkpoint's tensors, the log."""
    found: dict[str, object] = {name: tensor.tolist() for name, tensor in network.state_dict().items()}
    last = checkpoint.latest(run.checkpoints)
    assert last is not None and last.step == STEPS
    found |= {f"saved.{name}": tensor.tolist() for name, tensor in last.tensors.items()}
    return found | {"state": last.state, "log": (run.directory / "metrics.jsonl").read_bytes()}


def test_killed_twice_and_resumed_is_straight(tmp_path: Path) -> None:
    straight = _everything(*_train(tmp_path / "straight"))
    with pytest.raises(Interrupted):
        _train(tmp_path / "killed", fail_at=3)  # between the checkpoints of steps 2 and 4
    with pytest.raises(Interrupted):
        _train(tmp_path / "killed", fail_at=7)
    resumed = _everything(*_train(tmp_path / "killed"))
    assert resumed == straight
    assert {"saved.exp_avg.body.conv.weight", "saved.exp_avg_sq.head.bias", "saved.count.head.bias"} <= set(straight)
    assert "saved.buffer.norm.running_var" in straight and "saved.rng.rng.torch" in straight
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert len({line["noise"] for line in lines}) == STEPS and [line["after"] for line in lines][-1] == STEPS


def test_stopped_by_a_signal_and_resumed_is_straight(tmp_path: Path) -> None:
    """SIGTERM saves at once, also where no checkpoint is due."""
    straight = _everything(*_train(tmp_path / "straight", save_steps=100))
    for step in (3, 4):
        with pytest.raises(Stopped, match="the state is saved: run the same command again"):
            _train(tmp_path / "stopped", signal_at=step, save_steps=100)
        last = checkpoint.latest(tmp_path / "stopped" / "checkpoints")
        assert last is not None and last.step == step
    assert _everything(*_train(tmp_path / "stopped", save_steps=100)) == straight


def test_a_finished_run_is_resumed_at_its_end(tmp_path: Path) -> None:
    """Killed after the last checkpoint and before the model was written: nothing is trained again."""
    first = _everything(*_train(tmp_path / "run"))
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"done"', '"running"'), encoding="utf-8")
    assert _everything(*_train(tmp_path / "run", fail_at=0)) == first


def test_steps_that_are_not_finite_are_counted_and_skipped(tmp_path: Path) -> None:
    clean, _ = _train(tmp_path / "clean")
    network, run = _train(tmp_path / "poisoned", poison=lambda step: step in (1, 2, 5))
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("skipped") == 1.0] == [2, 3, 6]
    assert [line["step"] for line in lines if line["loss"] is None] == [2, 3, 6]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
    assert not torch.equal(network.head.weight, clean.head.weight)
    found = checkpoint.latest(run.checkpoints)
    assert found is not None and found.state["skipped_in_a_row"] == 0
    assert found.tensors["count.head.bias"].item() == STEPS - 3


def test_five_in_a_row_end_the_run_and_leave_a_sound_checkpoint(tmp_path: Path) -> None:
    """Also when the run was resumed in between: the count is part of the state."""
    bad = lambda step: step >= 3  # noqa: E731
    with pytest.raises(Interrupted):
        _train(tmp_path / "run", poison=bad, fail_at=6, save_steps=1)
    last = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert last is not None and last.step == 6 and last.state["skipped_in_a_row"] == 3
    with pytest.raises(UserError, match="5 steps in a row had a loss or gradient that is not finite") as caught:
        _train(tmp_path / "run", poison=bad, save_steps=1)
    assert "no weight was changed by them" in str(caught.value)
    after = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert after is not None and after.step == 7
    for name, tensor in after.tensors.items():
        if name.startswith(("weight.", "exp_avg")):
            assert torch.equal(tensor, last.tensors[name]) and bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize(
    ("options", "falling"),
    [
        ({"schedule": "linear"}, [left / 6 for left in (6, 5, 4, 3, 2, 1)]),
        ({}, [0.5 + 0.5 * math.cos(math.pi * done / 6) for done in range(6)]),
    ],
)
def test_the_rate_follows_the_schedule(tmp_path: Path, options: dict[str, Any], falling: list[float]) -> None:
    """Plain descent on a constant gradient: the weight moves by the rate alone. 3 warm-up steps of 9, and then linear,
    or a cosine where nothing is said."""
    weight = nn.Parameter(torch.zeros(1))
    run = Run.start(tmp_path / "run", Config(str(tmp_path / "run")), stage="fit", parents={}, seed=0)
    places = [0.0]

    def after_step(_: int) -> Mapping[str, float]:
        places.append(weight.item())
        return {}

    fit(
        run,
        [Group({"w": weight}, 0.8)],
        lambda step: [step],
        lambda _: Loss(weight.sum(), torch.tensor(1.0)),
        steps=9,
        description="fit",
        warmup_ratio=1 / 3,
        after_step=after_step,
        **options,
    )
    # Adam's step is the rate itself where the gradient never changes
    moved = [before - after for before, after in zip(places, places[1:], strict=False)]
    rates = [0.2, 0.4, 0.6, *(0.8 * share for share in falling)]
    assert moved == pytest.approx(rates, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "norm"), [({}, 1.0), ({"max_grad_norm": 1e-3}, 1e-3), ({"max_grad_norm": 1e9}, 50.0)]
)
def test_a_gradient_is_clipped_by_the_norm_over_all_groups(
    tmp_path: Path, options: dict[str, float], norm: float
) -> None:
    """Of 30 and 40; after one step Adam's first moments are a tenth of what was left of them. 1 where nothing is
    said."""
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    run = Run.start(tmp_path / "run", Config(str(tmp_path / "run")), stage="fit", parents={}, seed=0)
    fit(
        run,
        [Group({"v": weights[0]}, 0.1), Group({"w": weights[1]}, 0.2)],
        lambda step: [step],
        lambda _: Loss((30 * weights[0] + 40 * weights[1]).sum(), torch.tensor(1.0)),
        steps=1,
        description="fit",
        **options,
    )
    found = checkpoint.latest(run.checkpoints)
    assert found is not None
    moments = [found.tensors[f"exp_avg.{name}"].item() for name in "vw"]
    assert moments == pytest.approx([0.1 * 0.6 * norm, 0.1 * 0.8 * norm], rel=1e-4)
    (line,) = (json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines())
    assert line["gradient_norm"] == pytest.approx(50.0)  # as it was


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    _, run = _train(tmp_path / "run")
    extra = nn.Parameter(torch.zeros(2))
    state = TrainState({"more": extra}, adamw([Group({"more": extra}, 0.1)]))
    with pytest.raises(UserError, match="no weights of more; remove .*checkpoints to start afresh"):
        state.resume(run)


def test_numbers_and_buffers_come_back(tmp_path: Path) -> None:
    """What PPO keeps beside its weights: the coefficient of the KL."""
    run = Run.start(tmp_path / "run", Config(str(tmp_path / "run")), stage="fit", parents={}, seed=0)
    weight, mean = nn.Parameter(torch.zeros(2)), torch.tensor([1.5, -2.0])
    state = TrainState({"w": weight}, adamw([Group({"w": weight}, 0.1)]), {"mean": mean}, {"kl_coef": 0.07})
    assert state.resume(run) == 0
    state.note(False)
    state.save(run, 4)
    other = nn.Parameter(torch.ones(2))
    fresh = TrainState({"w": other}, adamw([Group({"w": other}, 0.1)]), {"mean": torch.zeros(2)}, {"kl_coef": 0.5})
    assert fresh.resume(run) == 4
    assert fresh.numbers == {"kl_coef": 0.07} and fresh.skipped_in_a_row == 1
    assert fresh.buffers["mean"].tolist() == [1.5, -2.0] and other.tolist() == [0.0, 0.0]
    assert not fresh.optimiser.state
