"""A model on disk and back, and what other tools read of it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from bessemer.data.batches import Packed, pack
from bessemer.data.render import Rendered
from bessemer.errors import UserError
from bessemer.models.heads import RewardHead
from bessemer.models.model import ADAPTER, Model, attach_vision, load_model, save_model
from bessemer.models.tuning import tune_language, tune_projector
from bessemer.models.vision import Tower

PACKED = tiny.packed([5, 11])


@torch.no_grad()
def _logits(model: Model, packed: Packed = PACKED) -> Tensor:
    return (model.backbone.hidden(packed) @ model.backbone.head.T).float()


@torch.no_grad()
def _plain_logits(directory: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    network = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    return torch.cat([network(input_ids=ids[None]).logits[0] for ids in PACKED.ids.split(PACKED.lengths)]).float()


def _disturb(parameters: object, seed: int = 0) -> None:
    """What training does: other values everywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:  # type: ignore[attr-defined]
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _pictured() -> Packed:
    first, second = tiny.sequences([6, 12])
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return pack([first, Rendered(second.ids, second.answers, (2, 3, 4, 5, 6), ())], {"pixels": pixels})


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_an_adapter_beside_an_untouched_base(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    _disturb(tune_language(model, "lora", lora_rank=4, lora_alpha=8.0).values())
    save_model(model, tmp_path / "saved", adapter=ADAPTER)
    loaded = load_model(str(tmp_path / "saved"), "fp32")
    assert_close(_logits(loaded), _logits(model), atol=1e-5, rtol=0)
    assert float((_logits(model) - _plain_logits(tmp_path / kind)).abs().max()) > 0.05
    assert loaded.lora is not None and loaded.lora.active == ADAPTER and loaded.source == tmp_path / "saved"
    # the base is the very same file, and loads as it is
    assert os.path.samefile(
        tmp_path / "saved" / "language" / "model.safetensors", tmp_path / kind / "model.safetensors"
    )
    assert_close(_plain_logits(tmp_path / "saved" / "language"), _plain_logits(tmp_path / kind), atol=0, rtol=0)
    assert not any(p.requires_grad for p in loaded.backbone.parameters())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_base_and_adapter_load_in_transformers_and_peft(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    _disturb(tune_language(model, "lora").values())
    save_model(model, tmp_path / "saved", adapter=ADAPTER)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "language")
    wrapped = peft.PeftModel.from_pretrained(base, str(tmp_path / "saved" / "adapter")).eval()
    with torch.no_grad():
        expected = [wrapped(input_ids=ids[None]).logits[0] for ids in PACKED.ids.split(PACKED.lengths)]
    assert_close(_logits(model), torch.cat(expected), atol=2e-5, rtol=0)
    words = AutoTokenizer.from_pretrained(tmp_path / "saved" / "language")
    assert words.get_vocab() == model.tokenizer.get_vocab() and words.chat_template == tiny.TEMPLATE


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_merged_it_is_one_plain_model(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    _disturb(tune_language(model, "lora").values())
    save_model(model, tmp_path / "merged", adapter=ADAPTER, merge=True)
    assert not (tmp_path / "merged" / "adapter").exists()
    assert_close(_plain_logits(tmp_path / "merged" / "language"), _logits(model), atol=2e-5, rtol=0)
    loaded = load_model(str(tmp_path / "merged"), "fp32")
    assert loaded.lora is None
    assert_close(_logits(loaded), _logits(model), atol=2e-5, rtol=0)
    assert_close(_plain_logits(tmp_path / kind), _logits(tiny.text_model(tmp_path, kind)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("finetuning_type", ["full", "freeze"])
def test_weights_that_learned_are_written_anew(tmp_path: Path, finetuning_type: str) -> None:
    model = tiny.text_model(tmp_path)
    _disturb(tune_language(model, finetuning_type, trainable_blocks=1).values())
    save_model(model, tmp_path / "saved")
    assert_close(_logits(load_model(str(tmp_path / "saved"), "fp32")), _logits(model), atol=1e-5, rtol=0)
    assert_close(_plain_logits(tmp_path / "saved" / "language"), _logits(model), atol=2e-5, rtol=0)


def test_a_bfloat16_model_is_written_in_bfloat16(tmp_path: Path) -> None:
    model = load_model(str(tiny.language_model(tmp_path / "llama")), "bf16")
    _disturb(tune_language(model, "full").values())
    save_model(model, tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "language" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    for name, parameter in model.backbone.language.named_parameters():
        if name in stored:
            assert torch.equal(stored[name], parameter.detach().bfloat16()), name
    assert tiny.facts(tmp_path / "saved" / "language" / "config.json")["dtype"] == "bfloat16"


def test_a_composed_model_comes_back_whole(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    model.facts.system_prompt = "看图回答"
    _disturb([*tune_language(model, "lora").values(), *tune_projector(model).values()])
    save_model(model, tmp_path / "saved", adapter=ADAPTER)
    loaded = load_model(str(tmp_path / "saved"), "fp32")
    assert loaded.facts == model.facts and loaded.facts.kind == "composed" and loaded.facts.image_grid == 2
    assert loaded.tower is not None and not loaded.tower.training
    assert_close(_logits(loaded, _pictured()), _logits(model, _pictured()), atol=1e-5, rtol=0)
    save_model(loaded, tmp_path / "again", adapter=ADAPTER)
    assert_close(
        _logits(load_model(str(tmp_path / "again"), "fp32"), _pictured()),
        _logits(model, _pictured()),
        atol=1e-5,
        rtol=0,
    )
    assert _plain_logits(tmp_path / "saved" / "language").shape == (16, len(model.tokenizer))


def test_merging_keeps_the_vision_side(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    _disturb(tune_language(model, "lora").values())
    save_model(model, tmp_path / "merged", adapter=ADAPTER, merge=True)
    assert_close(
        _logits(load_model(str(tmp_path / "merged"), "fp32"), _pictured()),
        _logits(model, _pictured()),
        atol=2e-5,
        rtol=0,
    )


def test_a_reward_model_keeps_its_head(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    _disturb(tune_language(model, "lora").values())
    model.reward = RewardHead(model.width, ["truthfulness", "清晰"])
    _disturb(model.reward.parameters())
    model.reward.mean.copy_(torch.tensor([1.0, -2.0]))
    save_model(model, tmp_path / "saved", adapter=ADAPTER)
    loaded = load_model(str(tmp_path / "saved"), "fp32")
    assert loaded.reward is not None and loaded.reward.principles == ("truthfulness", "清晰")
    assert "清晰" in (tmp_path / "saved" / "reward" / "config.json").read_text(encoding="utf-8")
    with torch.no_grad():
        hidden = model.backbone.hidden(PACKED)
        assert_close(loaded.reward(loaded.backbone.hidden(PACKED)), model.reward(hidden), atol=1e-5, rtol=0)
    for name, buffer in model.reward.named_buffers():
        assert torch.equal(buffer, dict(loaded.reward.named_buffers())[name])


def test_a_stage_directory_is_its_model(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    save_model(model, tmp_path / "stage" / "model")
    assert_close(_logits(load_model(str(tmp_path / "stage"), "fp32")), _logits(model), atol=1e-5, rtol=0)


def test_saving_over_itself_loses_nothing(tmp_path: Path) -> None:
    save_model(tiny.text_model(tmp_path), tmp_path / "saved")
    loaded = load_model(str(tmp_path / "saved"), "fp32")
    save_model(loaded, tmp_path / "saved")
    assert_close(_logits(load_model(str(tmp_path / "saved"), "fp32")), _logits(loaded), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [0.3, 20.0])
def test_a_projector_starts_as_large_as_the_embeddings(tmp_path: Path, size: float) -> None:
    model = tiny.text_model(tmp_path)
    table = model.backbone.language.get_input_embeddings().weight
    table.mul_(size)
    attach_vision(model, Tower.load(tiny.vision_tower(tmp_path / "tower")), 2)
    features = torch.randn(50, 5, model.backbone.tower.channels, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert 0.8 < float(model.backbone.projector(features).std() / table.std()) < 1.25


def test_a_second_vision_side_is_refused(tmp_path: Path) -> None:
    model = load_model(str(tiny.vision_language_model(tmp_path / "llava")), "fp32")
    with pytest.raises(UserError, match="already has a vision side, or runs padded"):
        attach_vision(model, Tower.from_timm("test_efficientnet"), 2)


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    directory = tiny.language_model(tmp_path / "model")
    weights = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(weights[:100])
    with pytest.raises(UserError, match="transformers cannot load this model"):
        load_model(str(directory), "fp32")
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match="transformers cannot load this model"):
        load_model(str(directory), "fp32")
    (directory / "model.safetensors").write_bytes(weights)
    config = tiny.facts(directory / "config.json")
    (directory / "config.json").write_text(json.dumps({**config, "model_type": "nothing"}), encoding="utf-8")
    with pytest.raises(UserError, match="transformers cannot load this model"):
        load_model(str(directory), "fp32")


def test_weights_that_are_missing_are_never_made_up(tmp_path: Path) -> None:
    directory = tiny.language_model(tmp_path / "model")
    tensors = load_file(directory / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    save_file(
        {name: value for name, value in tensors.items() if name != gone},
        directory / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=gone):
        load_model(str(directory), "fp32")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    directory = tiny.language_model(tmp_path / "model")
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = number
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="layers.1.mlp.up_proj.weight has numbers that are not finite"):
        load_model(str(directory), "fp32")


def test_models_of_another_version_are_refused(tmp_path: Path) -> None:
    save_model(tiny.text_model(tmp_path), tmp_path / "saved")
    path = tmp_path / "saved" / "bessemer.json"
    path.write_text(json.dumps({**tiny.facts(path), "format": 99}), encoding="utf-8")
    with pytest.raises(UserError, match="written by another version, expected format 2"):
        load_model(str(tmp_path / "saved"), "fp32")
    for text in ('{"format": 2, "kin', "[]", "{}", '{"format": 2, "grid": 1}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"bessemer\.json is damaged .*, expected what a stage wrote"):
            load_model(str(tmp_path / "saved"), "fp32")
