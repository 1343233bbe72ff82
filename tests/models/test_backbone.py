"""Packed and padded forward passes, beside transformers' own forward of each sequence alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, GPT2Config

import tiny
from bessemer.data.batches import Packed, pack
from bessemer.data.render import Rendered
from bessemer.errors import UserError
from bessemer.models.backbone import PackedBackbone, PaddedBackbone, packs
from bessemer.models.model import Model, load_model

KINDS = ["llama", "qwen2", "qwen3", "linear", "yarn", "llama3"]
MIXES = [[1], [12], [3, 17, 9, 1, 60], [50, 2, 2, 49, 5, 1, 33]]


def _theirs(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()


def _alone(network: Any, packed: Packed) -> Tensor:
    """Last hidden states of each sequence by itself, one behind the other."""
    body = getattr(network, network.base_model_prefix)
    parts = [
        body(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in packed.ids.split(packed.lengths)
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_transformers_on_each_sequence_alone(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    theirs = _theirs(tmp_path / kind)
    for lengths in MIXES:
        packed = tiny.packed(lengths)
        with torch.no_grad():
            ours, expected = model.backbone.hidden(packed), _alone(theirs, packed)
        assert ours.dtype == torch.float32 and float(expected.std()) > 0.3
        assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["left", "right"])
def test_padded_is_packed(tmp_path: Path, kind: str, padding: str) -> None:
    packed = tiny.packed([3, 17, 9, 1])
    model = tiny.text_model(tmp_path, kind)
    with torch.no_grad():
        expected = model.backbone.hidden(packed)
        ours = PaddedBackbone(_theirs(tmp_path / kind), padding).hidden(packed)
    assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padded_serves_learned_positions(tmp_path: Path, padding: str) -> None:
    """GPT-2 adds a vector for each place: a place counted from the padding would be another vector."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=262, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "gpt2")
    tiny.tokenizer().save_pretrained(tmp_path / "gpt2")
    model = load_model(str(tmp_path / "gpt2"), "fp32")
    assert isinstance(model.backbone, PaddedBackbone) and not packs("gpt2") and packs("llama")
    model.backbone.padding = padding
    packed = tiny.packed([4, 11, 1])
    with torch.no_grad():
        assert_close(model.backbone.hidden(packed), _alone(_theirs(tmp_path / "gpt2"), packed), atol=1e-5, rtol=0)


def _gradients(backbone: PackedBackbone, batches: list[Packed], weights: list[Tensor]) -> dict[str, Tensor]:
    backbone.requires_grad_(True)
    backbone.zero_grad()
    for packed, weight in zip(batches, weights, strict=True):
        (backbone.hidden(packed) * weight).sum().backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_gradients_are_the_sum_of_those_of_single_sequences(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    assert isinstance(model.backbone, PackedBackbone)
    alone = tiny.sequences([3, 17, 9, 1, 40])
    weights = [torch.randn(len(s.ids), 32, generator=torch.Generator().manual_seed(n)) for n, s in enumerate(alone)]
    whole = _gradients(model.backbone, [pack(alone)], [torch.cat(weights)])
    parts = _gradients(model.backbone, [pack([sequence]) for sequence in alone], weights)
    assert whole.keys() == parts.keys() and len(whole) > 15
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        assert_close(gradient, parts[name], atol=1e-5 * scale, rtol=0, msg=name)


def test_the_order_of_sequences_does_not_matter(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    sequences = tiny.sequences([3, 17, 9, 1, 60, 18])
    order = list(range(6))
    random.Random(0).shuffle(order)
    with torch.no_grad():
        straight = model.backbone.hidden(pack(sequences)).split([len(s.ids) for s in sequences])
        chosen = [sequences[index] for index in order]
        shuffled = model.backbone.hidden(pack(chosen)).split([len(s.ids) for s in chosen])
    for place, index in enumerate(order):
        assert_close(shuffled[place], straight[index], atol=1e-5, rtol=0)


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """Every activation is rounded to 8 bits: through two layers a hundredth or two of the states' size is lost."""
    packed = tiny.packed([3, 17, 9])
    full, half = tiny.text_model(tmp_path), load_model(str(tmp_path / "llama"), "bf16")
    with torch.no_grad():
        exact, rounded = full.backbone.hidden(packed), half.backbone.hidden(packed)
    assert rounded.dtype == half.backbone.head.dtype == torch.bfloat16
    assert 1e-4 < float((rounded.float() - exact).norm() / exact.norm()) < 0.03


def test_float32_weights_that_learn_compute_in_bfloat16(tmp_path: Path) -> None:
    model = load_model(str(tiny.language_model(tmp_path / "llama")), "bf16")
    frozen = model.backbone.hidden(tiny.packed([5, 9])).detach()
    model.backbone.language.float().requires_grad_(True)
    states = model.backbone.hidden(tiny.packed([5, 9]))
    assert states.dtype == torch.bfloat16
    assert float((states.detach() - frozen).float().norm() / frozen.float().norm()) < 0.02
    states.float().sum().backward()
    gradient = model.backbone.language.get_input_embeddings().weight.grad
    assert gradient.dtype == torch.float32 and float(gradient.abs().max()) > 0


def _with_image(model: Model) -> tuple[Packed, Tensor]:
    """Two sequences, the second with an image at places 2 to 6; the features of that image."""
    features = torch.randn(1, 5, model.tower.channels if model.tower else 0, generator=torch.Generator().manual_seed(3))
    first, second = tiny.sequences([6, 12])
    pictured = Rendered(second.ids, second.answers, (2, 3, 4, 5, 6), ())
    return pack([first, pictured], {"features": features}), features


def test_visual_tokens_take_their_rows(tmp_path: Path) -> None:
    """transformers is given the embeddings with the projected features in their places."""
    model = tiny.composed_model(tmp_path)
    packed, features = _with_image(model)
    theirs = _theirs(tmp_path / "llama")
    with torch.no_grad():
        embeddings = theirs.get_input_embeddings()(packed.ids[6:])
        embeddings[2:7] = model.backbone.projector(features)[0]
        expected = theirs.model(inputs_embeds=embeddings[None]).last_hidden_state[0]
        ours = model.backbone.hidden(packed)
        plain = model.backbone.hidden(pack(tiny.sequences([6, 12])))
    assert_close(ours[6:], expected, atol=1e-5, rtol=0)
    assert_close(ours[:6], plain[:6], atol=1e-5, rtol=0)
    assert float((ours[8:] - plain[8:]).abs().min(-1).values.min()) > 0


def test_pixels_through_the_tower_are_its_features(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    packed, _ = _with_image(model)
    pixels = torch.randn(1, 3, 128, 64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        maps = model.backbone.tower(pixels)
        assert maps.shape[2:] == (4, 2)
        cells = [maps[0, :, 2 * row : 2 * row + 2, column].mean(1) for row in (0, 1) for column in (0, 1)]
        features = torch.stack([maps[0].mean((1, 2)), *cells])[None]
        image = Packed(packed.ids, packed.lengths, packed.image_rows, {"pixels": pixels})
        cached = Packed(packed.ids, packed.lengths, packed.image_rows, {"features": features})
        assert_close(model.backbone.hidden(image), model.backbone.hidden(cached), atol=1e-5, rtol=0)


def test_more_tokens_than_learned_positions_are_refused(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=1, n_head=4, n_positions=16, bos_token_id=1, eos_token_id=2)
    backbone = PaddedBackbone(AutoModelForCausalLM.from_config(config).eval())
    assert backbone.hidden(tiny.packed([16])).shape == (16, 32)
    with pytest.raises(UserError, match="17 tokens, but this model learned 16 positions; lower cutoff_len"):
        backbone.hidden(tiny.packed([3, 17]))


@torch.no_grad()
def test_the_tokens_of_an_image_see_one_another_where_the_model_was_taught_so() -> None:
    torch.manual_seed(0)
    said = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    seen = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "image_size": 16, "patch_size": 4}
    config = Gemma3Config(
        text_config={**said, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2},
        vision_config={**seen, "num_attention_heads": 2}, mm_tokens_per_image=4,
        image_token_id=290, boi_token_id=291, eoi_token_id=292,
    )  # fmt: skip
    network = Gemma3ForConditionalGeneration(config).eval()
    ids, pixels = torch.tensor([5, 6, 291, 290, 290, 290, 290, 292, 7, 8]), torch.randn(1, 3, 16, 16)
    ours = PaddedBackbone(network).hidden(Packed(ids, (10,), torch.tensor([3, 4, 5, 6]), {"pixel_values": pixels}))
    given = {"input_ids": ids[None], "pixel_values": pixels, "attention_mask": torch.ones(1, 10, dtype=torch.long)}
    expected, causal = (
        network.model(**given, **types, use_cache=False).last_hidden_state[0]
        for types in ({"token_type_ids": (ids == 290).long()[None]}, {})
    )
    assert_close(ours, expected, atol=1e-5, rtol=0)
    assert float((ours - causal).abs().max()) > 0.1
