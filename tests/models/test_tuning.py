from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from bessemer.errors import UserError
from bessemer.models.model import ADAPTER, Model, load_model
from bessemer.models.tuning import tune_language, tune_projector, tune_tower


def _learning(model: Model) -> set[int]:
    return {id(parameter) for parameter in model.backbone.parameters() if parameter.requires_grad}


def _ids(parameters: dict[str, torch.nn.Parameter]) -> set[int]:
    return {id(parameter) for parameter in parameters.values()}


def test_lora_continues_the_adapter_that_is_there(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    first = tune_language(model, "lora", lora_rank=4, lora_alpha=8.0, lora_target="q_proj")
    assert len(first) == 4 and _learning(model) == set() and model.lora is not None and model.lora.active == ADAPTER
    again = tune_language(model, "lora", lora_rank=16)
    assert _ids(again) == _ids(first)


def test_full_is_every_weight_in_float32(tmp_path: Path) -> None:
    model = load_model(str(tiny.language_model(tmp_path / "llama")), "bf16")
    named = tune_language(model, "full")
    assert _ids(named) == _learning(model) == {id(p) for p in model.backbone.language.parameters()}
    assert {parameter.dtype for parameter in named.values()} == {torch.float32}


def test_freeze_is_the_last_blocks(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    named = tune_language(model, "freeze", trainable_blocks=1)
    layers = model.backbone.language.get_decoder().layers
    assert _ids(named) == _learning(model) == {id(p) for p in layers[1].parameters()}
    assert all(name.startswith("language.blocks.1.") for name in named)
    for wrong in (0, 3):
        with pytest.raises(UserError, match=f"trainable_blocks={wrong}, expected 1 to 2"):
            tune_language(model, "freeze", trainable_blocks=wrong)


def test_full_beside_an_adapter_is_refused(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    tune_language(model, "lora")
    with pytest.raises(UserError, match="on a model with an adapter; export it merged first"):
        tune_language(model, "full")
    with pytest.raises(UserError, match="finetuning_type 'qlora', expected lora, full or freeze"):
        tune_language(tiny.text_model(tmp_path), "qlora")


def test_the_vision_side_part_by_part(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    projector = tune_projector(model)
    assert _ids(projector) == _learning(model) == {id(p) for p in model.backbone.projector.parameters()}
    model.freeze()
    assert model.tower is not None and _learning(model) == set()
    last = tune_tower(model, 1)
    assert 0 < len(last) < len(list(model.tower.parameters())) and _ids(last) == _learning(model)
    assert _ids(last) == {id(p) for p in model.tower.network.blocks[-1].parameters()}  # type: ignore[index]
    assert _ids(tune_tower(model)) == {id(p) for p in model.tower.parameters()}
    with pytest.raises(UserError, match="tower_blocks=99, expected 0"):
        tune_tower(model, 99)


def test_a_text_model_has_no_vision_side(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    assert tune_projector(model) == {}
    with pytest.raises(UserError, match="this model has no vision tower of ours"):
        tune_tower(model)
