from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer.cli import main
from bessemer.data.dataset import Dataset
from bessemer.disk import tree_hash
from bessemer.errors import UserError
from bessemer.models.model import load_model
from bessemer.stages import sft
from bessemer.stages.sft import Config, run
from bessemer.training import fit


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(shop / "align"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "per_device_train_batch_size": 8,
        "max_steps": 2,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def changed(before: Path, after: Path) -> set[str]:
    """The tensors that differ between two files."""
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_lora_learns_beside_an_untouched_base(shop: Path, tmp_path: Path) -> None:
    out = run(config(shop, tmp_path / "sft", max_steps=12, learning_rate=1e-2, lora_rank=4, lora_alpha=8))
    losses = [row["loss"] for row in metrics(out)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    base, model = shop / "align" / "model", out / "model"
    assert tree_hash(model / "language") == tree_hash(base / "language")
    assert tree_hash(model / "tower") == tree_hash(base / "tower")
    assert changed(base / "projector", model / "projector")
    settings = json.loads((model / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 8)
    loaded = load_model(str(out), "fp32")
    assert loaded.lora is not None and loaded.facts.system_prompt == "You inspect parts."
    frozen = run(config(shop, tmp_path / "frozen", freeze_multi_modal_projector=True))
    assert not changed(base / "projector", frozen / "model" / "projector")


def test_in_full_and_by_the_last_blocks(shop: Path, tmp_path: Path) -> None:
    base = shop / "align" / "model" / "language"
    full = run(config(shop, tmp_path / "full", finetuning_type="full", learning_rate=1e-2))
    assert not (full / "model" / "adapter").exists()
    assert changed(base, full / "model" / "language") == set(load_file(base / "model.safetensors"))
    network = AutoModelForCausalLM.from_pretrained(full / "model" / "language")
    assert network.config.num_hidden_layers == 3
    last = run(config(shop, tmp_path / "last", finetuning_type="freeze", trainable_blocks=1, learning_rate=1e-2))
    assert {name.split(".")[2] for name in changed(base, last / "model" / "language")} == {"2"}


def test_the_tower_learns_from_pixels_if_it_is_told_to(shop: Path, tmp_path: Path) -> None:
    base = shop / "align" / "model" / "tower"
    nothing: dict[str, object] = {"finetuning_type": "none", "freeze_multi_modal_projector": True}
    out = run(config(shop, tmp_path / "sft", freeze_vision_tower=False, max_steps=1, **nothing))
    moved = changed(base, out / "model" / "tower")
    assert moved and not any("running" in name for name in moved)
    last = run(config(shop, tmp_path / "last", freeze_vision_tower=False, tower_blocks=1, max_steps=1, **nothing))
    assert changed(base, last / "model" / "tower") < moved
    with pytest.raises(UserError, match="nothing to train"):
        run(config(shop, tmp_path / "none", **nothing))


def test_loss_is_that_of_the_answers_alone(texts: Path, tmp_path: Path) -> None:
    """Against transformers, one conversation at a time, with the answer found in the template's text."""
    out = run(
        config(
            texts,
            tmp_path / "sft",
            model_name_or_path=str(texts / "tiny-model"),
            cutoff_len=400,
            per_device_train_batch_size=64,
            max_steps=1,
        )
    )
    model = AutoModelForCausalLM.from_pretrained(texts / "tiny-model").eval()
    words = AutoTokenizer.from_pretrained(texts / "tiny-model")
    total, count = 0.0, 0
    for conversation in Dataset(texts / "import").conversations("train"):
        turns = [{"role": message.role, "content": message.text} for message in conversation.messages]
        text = words.apply_chat_template(turns, tokenize=False)
        ids = torch.tensor(words(text, add_special_tokens=False)["input_ids"])[:400]
        start = len(
            words(text[: text.rindex("assistant\n") + len("assistant\n")], add_special_tokens=False)["input_ids"]
        )
        end = start + len(turns[-1]["content"].encode()) + 1
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0]
        wanted = torch.arange(start, min(end, 400))
        total += float(torch.nn.functional.cross_entropy(logits[wanted - 1], ids[wanted], reduction="sum"))
        count += len(wanted)
    assert metrics(out)[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_the_mixture_follows_the_weights(shop: Path, tmp_path: Path) -> None:
    weights = {"report": 0.0, "unanswerable": 3.0}
    out = run(config(shop, tmp_path / "sft", task_weights=weights, num_train_epochs=1.0, max_steps=0))
    # 15 of class, 4 of unanswerable three times: 27 in batches of 8
    assert len(metrics(out)) == 3
    assert all("loss/unanswerable" in row for row in metrics(out)) and not any("loss/report" in r for r in metrics(out))
    with pytest.raises(UserError, match="colour"):
        run(config(shop, tmp_path / "other", task_weights={"colour": 2.0}))


def test_the_recipe_decides_how_it_learns(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(sft, "fit", lambda *places, **named: given.extend([*places[1:3], named]))
    sizes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "augment_views": 4, "seed": 5}
    rates = {"learning_rate": 0.5, "warmup_ratio": 0.25, "save_steps": 7}
    run(config(shop, tmp_path / "sft", **sizes, **rates, max_steps=0, num_train_epochs=1.5))
    groups, batches, named = given
    assert (batches.batch_size, batches.accumulation, batches.views, batches.seed) == (2, 3, 4, 5)
    assert {group.learning_rate for group in groups} == {0.5}
    steps = round(1.5 * (len(Dataset(shop / "import").conversations("train")) // 6))
    assert named == {"steps": steps, "description": "sft", "warmup_ratio": 0.25, "save_steps": 7} and steps > 2


def test_accumulation_changes_nothing_but_the_rounding(shop: Path, tmp_path: Path) -> None:
    whole = metrics(run(config(shop, tmp_path / "a", max_steps=3)))
    parts = metrics(
        run(config(shop, tmp_path / "b", max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=4))
    )
    for one, other in zip(whole, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


def asking_to_stop(call: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The call, and in the middle of the `at`-th a SIGTERM to this process."""
    count = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*arguments, **named)

    return wrapped


@pytest.mark.parametrize("verb", ["sft", "ppo"])
def test_sigterm_saves_and_the_same_command_goes_on(
    verb: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(Path(__file__).parents[2] / "recipes" / "tiny" / "loop.yaml")
    inputs = {
        "sft": ["max_steps=4", f"model_name_or_path={shop / 'align'}"],
        "ppo": ["total_steps=3", f"model_name_or_path={shop / 'sft'}", f"reward_model={shop / 'reward'}"],
    }[verb]

    def command(out: str) -> list[str]:
        return [verb, recipe, *inputs, f"dataset={shop / 'import'}", f"output_dir={tmp_path / out}"]

    with contextlib.chdir(shop):
        assert main(command("straight")) == 0
        stopping = asking_to_stop(torch.optim.AdamW.step, 2 if verb == "sft" else 5)
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", stopping)
            assert main(command("stopped")) == 75
        stopped = tmp_path / "stopped"
        assert json.loads((stopped / "manifest.json").read_text())["status"] == "stopped"
        assert len(metrics(stopped)) == 2 and (stopped / "checkpoints" / "ckpt-00000002").is_dir()
        assert not (stopped / "model").exists()
        assert "the state is saved: run the same command again to go on" in capsys.readouterr().err
        assert main(command("stopped")) == 0
    straight = tmp_path / "straight"
    assert (stopped / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    assert tree_hash(stopped / "model") == tree_hash(straight / "model")


def test_five_steps_that_are_not_finite_end_the_run_and_change_no_weight(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def poisoned(optimiser: Any, parameters: Any, batches: Any, loss_of: Any, *rest: Any) -> Any:
        held = list(parameters)
        seen.append([parameter.detach().clone() for parameter in held])

        def loss(batch: Any) -> Any:
            found = loss_of(batch)
            return type(found)(found.sum * float("nan"), found.count, found.metrics)

        return step(optimiser, held, batches, loss, *rest)

    step = fit.optimiser_step
    monkeypatch.setattr(fit, "optimiser_step", poisoned)
    with pytest.raises(UserError, match="5 steps in a row had a loss or gradient that is not finite"):
        run(config(shop, tmp_path / "sft", max_steps=9))
    assert len(seen) == 5
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[-1], strict=True))
    rows = metrics(tmp_path / "sft")
    assert [row["loss"] for row in rows] == [None] * 4 and all(row["skipped"] == 1 for row in rows)
