from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from bessemer import assets
from bessemer.data.dataset import Dataset
from bessemer.disk import tree_hash
from bessemer.errors import UserError
from bessemer.models import convert
from bessemer.stages import align
from bessemer.stages.align import Config, run


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(shop / "tiny-model"),
        "vision_tower": str(shop / "tower"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "image_grid": 1,
        "projector_width": 16,
        "per_device_train_batch_size": 8,
        "max_steps": 1,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_projector_learns_and_nothing_else(shop: Path, tmp_path: Path) -> None:
    whole: dict[str, object] = {"per_device_train_batch_size": 64, "max_steps": 12, "warmup_ratio": 0.0}
    whole |= {"projector_width": 64, "learning_rate": 1e-2}
    out = run(config(shop, tmp_path / "align", system_prompt="请看照片。", **whole))
    losses = [row["loss"] for row in metrics(out)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
    for name, source in (("language", shop / "tiny-model"), ("tower", shop / "tower" / "model")):
        for file in ("config.json", "model.safetensors"):
            assert (out / "model" / name / file).read_bytes() == (source / file).read_bytes()
    assert not (out / "model" / "adapter").exists()
    facts = json.loads((out / "model" / "bessemer.json").read_text(encoding="utf-8"))
    assert facts == {"format": 2, "kind": "composed", "image_grid": 1, "system_prompt": "请看照片。"}


def test_what_it_is_aligned_on(shop: Path, texts: Path, tmp_path: Path) -> None:
    everything = metrics(run(config(shop, tmp_path / "a", per_device_train_batch_size=64)))[0]
    assert {name for name in everything if name.startswith("loss/")} == {
        "loss/class", "loss/report", "loss/unanswerable",
    }  # fmt: skip
    alone = metrics(run(config(shop, tmp_path / "b", per_device_train_batch_size=64, tasks=["report"])))[0]
    assert alone["loss"] == pytest.approx(everything["loss/report"], rel=1e-5)
    with pytest.raises(UserError, match=r"tasks names \['colour'\], expected some of \['class', 'report', 'unans"):
        run(config(shop, tmp_path / "c", tasks=["report", "colour"]))
    with pytest.raises(UserError, match="no conversations to train on"):
        run(config(shop, tmp_path / "d", dataset=str(texts / "import")))


def test_the_recipe_decides_how_it_learns(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(align, "fit", lambda *places, **named: given.extend([*places[1:3], named]))
    sizes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "augment_views": 4, "seed": 5}
    rates = {"learning_rate": 0.5, "warmup_ratio": 0.25, "save_steps": 7}
    run(config(shop, tmp_path / "align", **sizes, **rates, max_steps=0, num_train_epochs=1.5))
    (group,), batches, named = given
    assert (batches.batch_size, batches.accumulation, batches.views, batches.seed) == (2, 3, 4, 5)
    assert group.learning_rate == 0.5 and {name.split(".")[0] for name in group.parameters} == {"projector"}
    steps = round(1.5 * (len(Dataset(shop / "import").conversations("train")) // 6))
    assert named == {"steps": steps, "description": "align", "warmup_ratio": 0.25, "save_steps": 7} and steps > 2


def test_the_seed_decides_and_a_conversion_on_the_way_does_not(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asset is converted when it is first asked for, which draws random numbers; the projector must not notice."""
    source = tmp_path / "wheel"
    source.mkdir()

    def write(_: Path, target: Path) -> None:
        tiny.language_model(target, layers=3)
        torch.rand(5)

    monkeypatch.setitem(convert.CONVERTERS, "made-up", write)
    monkeypatch.setattr(assets, "obtain", lambda name: source)
    cold = run(config(shop, tmp_path / "cold", model_name_or_path="made-up"))
    assert (tmp_path / "wheel-converted" / "config.json").is_file()
    warm = run(config(shop, tmp_path / "warm", model_name_or_path="made-up"))
    assert tree_hash(cold / "model") == tree_hash(warm / "model")
    other = run(config(shop, tmp_path / "other", model_name_or_path="made-up", seed=1))
    first, second = (load_file(path / "model" / "projector" / "model.safetensors") for path in (warm, other))
    assert not torch.equal(first["inner.weight"], second["inner.weight"])
