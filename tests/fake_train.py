"""A stage for tests: a random walk that is saved, stopped and resumed as a training run is."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bessemer.checkpoint import publish, restore_rng, rng_state
from bessemer.config import Artifact
from bessemer.errors import UserError
from bessemer.run import Run


@dataclass(frozen=True)
class Config:
    """A walk of `steps` steps."""

    output_dir: str = ""
    """Where it writes."""
    seed: int = 0
    """Seed of the walk."""
    source: Artifact = Artifact("source")
    """Where its records are."""
    steps: int = 8
    """How many steps."""
    save_steps: int = 3
    """A checkpoint each so many."""
    learning_rate: float = 1.0
    """Length of a step."""
    gate: str = ""
    """Wait after step 4 until this file is there."""
    fail_at: int | None = None
    """Raise after this step."""
    refuse: bool = False
    """Refuse the input."""


def run(config: Config) -> Path:
    run = Run.start(config.output_dir, config, stage="train", parents={"source": Path(config.source)}, seed=config.seed)
    if config.refuse:
        raise UserError("the stage refuses this input")
    step, weight = 0, torch.zeros(4)
    found = run.resume()
    if found is not None:
        step, weight = found.step, found.tensors["weight"]
        restore_rng(found.tensors)
    with run.track(config.steps, "train", start=step) as progress:
        while step < config.steps:
            weight = weight + config.learning_rate * torch.randn(4)
            step += 1
            run.log(step, {"loss": float(weight.sum())})
            progress.advance(loss=float(weight.sum()))
            while step == 4 and config.gate and not Path(config.gate).exists():
                time.sleep(0.01)
            if step % config.save_steps == 0 or run.stop_requested:
                run.save(step, {"weight": weight, **rng_state()}, {})
                run.raise_if_stopped()
            if step == config.fail_at:
                raise ValueError("a defect at 步 " + str(step))
    temporary = run.directory / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file({"weight": weight}, temporary / "model.safetensors")
    publish(temporary, run.model_directory)
    return run.finish(total=float(weight.sum()))
