"""Run by stages/test_resume.py in a process of its own: each stage is killed with SIGKILL again and again, amid a step
and amid a write, until it gets through.

    killed_stage.py SHOP OUT STAGE...

Every attempt is a fork, so that PyTorch is imported once. Prints one JSON object: stage -> list of
[whether SIGKILL ended the attempt, step of the newest checkpoint then].
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import bessemer.stages.rank
from bessemer import checkpoint, run
from bessemer.config import read_recipe
from bessemer.loop import Section, plan
from bessemer.models.model import load_model
from bessemer.models.vision import Tower

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny" / "loop.yaml"
# Seven steps, about three an epoch, and a checkpoint every two: interrupted twice within an epoch and after its end.
SMALL = [
    "save_steps=2",
    "tower.num_train_epochs=2.34",
    "tower.per_device_train_batch_size=5",
    "align.max_steps=7",
    "sft.max_steps=7",
    "sft.per_device_train_batch_size=4",
    "sft.gradient_accumulation_steps=2",
    "rank.batch_size=9",
    "reward.num_train_epochs=2.34",
    "reward.per_device_train_batch_size=2",
    "ppo.total_steps=7",
    "ppo.early_stop_kl=0",
    "ppo.num_ppo_epochs=1",
    "ppo.kl_target=0.01",
    "ppo.ptx_coef=0.3",
    "ppo.eval_steps=3",
    "ppo.response_length=6",
    "grpo.total_steps=7",
    "grpo.eval_steps=3",
    "grpo.response_length=6",
    "distill.teacher=sft",
    "distill.max_steps=7",
    "distill.general_share=0.4",
    "distill.on_policy_share=0.3",
    "distill.response_length=6",
]


def killing(call: Callable[..., Any], at: int, before: Callable[..., None] | None = None) -> Callable[..., Any]:
    """The call, but the `at`-th one ends this process; `before` that it leaves something half done."""
    count = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            if before is not None:
                before(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)

    return wrapped


def half_a_file(tensors: Any, path: Path) -> None:
    path.write_bytes(b"half")


def half_a_line(self: run.Run, name: str, row: Any) -> None:
    with open(self.directory / name, "a", encoding="utf-8") as file:
        file.write(json.dumps(row)[:20])


def step(at: int) -> None:
    """In the middle of the `at`-th step: the gradients are there, the weights are not yet changed."""
    torch.optim.AdamW.step = killing(torch.optim.AdamW.step, at)  # type: ignore[method-assign]


def checkpoint_file(at: int) -> None:
    checkpoint.save_file = killing(checkpoint.save_file, at, half_a_file)


def checkpoint_rename(at: int) -> None:
    os.rename = killing(os.rename, at)


def log(at: int) -> None:
    """Metrics and timings take turns, so an odd number is a line of metrics."""
    run.Run._append = killing(run.Run._append, at, half_a_line)  # type: ignore[method-assign]


def model(at: int) -> None:
    """In the middle of writing the model, of which the tower comes after the language model and the adapter."""
    Tower.save = killing(Tower.save, at)  # type: ignore[method-assign]


def finish(at: int) -> None:
    """Everything is written, but the manifest does not say so."""
    run.tree_hash = killing(run.tree_hash, at)  # type: ignore[assignment]


def part(at: int) -> None:
    """Before the `at`-th file takes its name: a part of the answers, or what is made of them."""
    os.replace = killing(os.replace, at)


def sampled(at: int) -> None:
    """In the middle of the `at`-th part of the answers."""
    rank: Any = bessemer.stages.rank
    rank.sample_answers = killing(rank.sample_answers, at)


# (where, which call of that process); one attempt each, in one directory, then one that nobody disturbs.
KILLS = [(step, 1), (checkpoint_file, 1), (step, 3), (checkpoint_rename, 1), (log, 5), (model, 1), (finish, 1)]
KILLS_OF = {
    # a round of ppo makes two steps
    "ppo": [(step, 2), (checkpoint_file, 1), (step, 6), (checkpoint_rename, 1), (log, 5), (model, 1), (finish, 1)],
    # start writes config.yaml and the manifest
    "rank": [(sampled, 1), (part, 3), (sampled, 2), (part, 4), (part, 5)],
}


def attempt(section: Section, kill: Callable[[int], None] | None, at: int) -> bool:
    """Run the stage in a fork; whether SIGKILL ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                if kill is not None:
                    kill(at)
                section.run(section.config)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"{section.name} failed")
    return os.WIFSIGNALED(status)


def sections(shop: Path, out: Path, stages: list[str]) -> list[Section]:
    """These stages, reading from `shop` (the current folder) and writing to `out`."""
    made = ["import", "tower", "align", "sft", "rank", "reward"]
    where = [f"{name}.output_dir={shop / name}" for name in made]
    planned = {section.name: section for section in plan(read_recipe(RECIPE), SMALL + where)}
    for name in stages:
        planned[name].config.output_dir = str(out / name)
    return [planned[name] for name in stages]


def main(shop: Path, out: Path, stages: list[str]) -> None:
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]  # slow to import in every fork
    os.chdir(shop)
    load_model(str(shop / "sft"), "fp32")  # transformers and timm import their parts when first asked
    report: dict[str, list[tuple[bool, int | None]]] = {}
    for section in sections(shop, out, stages):
        report[section.name] = []
        for kill, at in [*KILLS_OF.get(section.name, KILLS), (None, 0)]:
            died = attempt(section, kill, at)
            found = checkpoint.latest(out / section.name / "checkpoints")
            report[section.name].append((died, found.step if found else None))
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
