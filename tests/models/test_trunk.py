"""The short way through the blocks of known architectures, beside transformers' own modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, MistralConfig, Qwen2Config

import tiny
from bessemer.data.batches import Packed
from bessemer.models.model import Model, load_model, save_model
from bessemer.models.prune import keep_layers
from bessemer.models.trunk import llama_shaped
from bessemer.models.tuning import tune_language

pytestmark = pytest.mark.usefixtures("operations")

KINDS = ["llama", "qwen2", "qwen3", "linear", "yarn", "llama3"]


def test_what_it_does_not_know() -> None:
    """Other activations, rotations that change with the length and sliding windows are left to transformers."""
    assert llama_shaped(LlamaConfig()) and llama_shaped(Qwen2Config())
    assert not llama_shaped(LlamaConfig(hidden_act="gelu"))
    long = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    assert not llama_shaped(LlamaConfig(rope_parameters=long))
    assert not llama_shaped(Qwen2Config(use_sliding_window=True, sliding_window=8, max_window_layers=0))
    assert llama_shaped(MistralConfig())


def _adapted(directory: Path, kind: str, targets: object = "all") -> Model:
    """A model whose adapter says something, as a new one does not."""
    model = tiny.text_model(directory, kind)
    factors = model.adapters(targets).add("sft", 4, 8.0)
    model.adapters().active = "sft"
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for up in factors.up:
            up.copy_(torch.randn(up.shape, generator=generator) * 0.1)
    return model


def _both(model: Model, packed: Packed, parameters: list[Tensor]) -> list[tuple[Tensor, list[Tensor]]]:
    """Hidden states and gradients by the short way, and by transformers' modules."""
    found = []
    for trunk in (model.backbone.trunk, None):
        model.backbone.trunk = trunk
        states = model.backbone.hidden(packed)
        weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
        found.append((states.detach(), list(torch.autograd.grad((states * weight).sum(), parameters))))
    return found


def _equal(found: list[tuple[Tensor, list[Tensor]]]) -> None:
    (states, ours), (expected, theirs) = found
    assert_close(states, expected, atol=1e-5, rtol=0)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, atol=1e-5 * float(other.abs().max()) + 1e-7, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["all", ["q_proj", "v_proj"], ["down_proj"]], ids=str)
def test_adapters_learn_the_same(tmp_path: Path, kind: str, targets: object) -> None:
    model = _adapted(tmp_path, kind, targets)
    packed = tiny.packed([3, 17, 9, 1, 40])
    factors = list(model.adapters().factors("sft").parameters())
    for factor in factors:
        factor.requires_grad_(True)
    _equal(_both(model, packed, factors))
    model.adapters().active = None
    with torch.no_grad():
        bare = model.backbone.hidden(packed)
    model.adapters().active = "sft"
    with torch.no_grad():
        assert float((model.backbone.hidden(packed) - bare).abs().max()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_weights_learn_the_same(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    _equal(_both(model, tiny.packed([3, 17, 9, 1, 40]), list(tune_language(model, "full").values())))


def test_what_the_embeddings_learn_comes_through(tmp_path: Path) -> None:
    """A projector learns below frozen blocks, and below blocks of which only the last learns."""
    model = tiny.text_model(tmp_path)
    table = model.backbone.language.get_input_embeddings().weight
    _equal(_both(model, tiny.packed([4, 8]), [table.requires_grad_(True)]))
    model = tiny.text_model(tmp_path)
    last = list(tune_language(model, "freeze", trainable_blocks=1).values())
    _equal(_both(model, tiny.packed([4, 8]), last))


def test_joined_weights_are_still_the_modules_own(tmp_path: Path) -> None:
    """They are saved, changed in place, replaced, and made to learn as if they lay alone."""
    model = tiny.text_model(tmp_path)
    packed = tiny.packed([5, 3])
    with torch.no_grad():
        before = model.backbone.hidden(packed)
        attention = model.backbone.language.get_decoder().layers[0].self_attn
        places = {layer.weight.untyped_storage().data_ptr() for layer in (attention.q_proj, attention.k_proj)}
        assert len(places) == 1
        save_model(model, tmp_path / "saved", merge=True)
        again = load_model(str(tmp_path / "saved"), "fp32")
        assert torch.equal(again.backbone.hidden(packed), before)
        attention.k_proj.weight.mul_(2)
        doubled = model.backbone.hidden(packed)
        assert not torch.allclose(doubled, before)
        attention.k_proj.weight.data = attention.k_proj.weight.data / 2
        assert_close(model.backbone.hidden(packed), before)
    parameters = tune_language(model, "full")
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.zero_()
    assert float(model.backbone.hidden(packed).detach().abs().max()) == 0


def test_removed_layers_are_not_computed(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    packed = tiny.packed([5])
    with torch.no_grad():
        whole = model.backbone.hidden(packed)
        keep_layers(model, [0])
        less = model.backbone.hidden(packed)
        model.backbone.trunk = None
        assert_close(less, model.backbone.hidden(packed), atol=1e-6, rtol=0)
    assert not torch.allclose(less, whole)
