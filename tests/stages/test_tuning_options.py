"""What a recipe says of the shape of things: how much of an image and of a conversation is seen, what is adapted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bessemer.stages import align, sft


def aligned_on(shop: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **values: Any) -> Any:
    """The batches that `align` would train on."""
    given: list[Any] = []
    monkeypatch.setattr(align, "fit", lambda *places, **named: given.append(places[2]))
    there: dict[str, Any] = {"model_name_or_path": str(shop / "tiny-model"), "vision_tower": str(shop / "tower")}
    there |= {"dataset": str(shop / "import"), "dtype": "fp32", "output_dir": str(out)}
    align.run(align.Config(**there, **values))
    return given[0]


@pytest.mark.parametrize(("grid", "tokens"), [(1, 1), (3, 10)])
def test_an_image_is_as_many_tokens_as_its_grid_makes(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: int, tokens: int
) -> None:
    """Its cells and the whole before them; where there is one cell, that is the whole."""
    batches = aligned_on(shop, tmp_path / "out", monkeypatch, image_grid=grid, per_device_train_batch_size=4)
    (batch,) = batches(0)
    assert len(batch.packed.image_rows) == 4 * tokens
    assert json.loads((tmp_path / "out" / "model" / "bessemer.json").read_text())["image_grid"] == grid


def test_conversations_to_align_on_are_cut(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def longest(cutoff: int) -> int:
        batches = aligned_on(shop, tmp_path / str(cutoff), monkeypatch, cutoff_len=cutoff)
        return max(len(one.ids) for rendered in batches.rendered.values() for one in rendered)

    whole = longest(512)
    assert whole < 512 and longest(whole - 3) == whole - 3


def test_the_adapter_is_where_the_recipe_wants_it(shop: Path, tmp_path: Path) -> None:
    there: dict[str, Any] = {"model_name_or_path": str(shop / "align"), "dataset": str(shop / "import")}
    settings = sft.Config(**there, dtype="fp32", max_steps=1, lora_target="q_proj", output_dir=str(tmp_path / "sft"))
    saved = sft.run(settings) / "model" / "adapter"
    names = load_file(saved / "adapter_model.safetensors").keys()
    # two factors in each of three layers
    assert len(names) == 6 and all(".q_proj.lora_" in name for name in names)
    assert json.loads((saved / "adapter_config.json").read_text())["target_modules"] == ["q_proj"]
