"""Copies of weights in oneDNN's order, beside the weights themselves."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from bessemer.data.batches import pack
from bessemer.models import trunk
from bessemer.models.frozen import Frozen, packable
from bessemer.models.model import Model, load_model


def _weight(dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(48, 32, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_both_ways(rows: int, dtype: torch.dtype) -> None:
    """Few rows, and types that are not packed, take the weight as it is."""
    weight, bias = _weight(dtype), torch.arange(48).to(dtype)
    x, gradient = torch.randn(rows, 32).to(dtype), torch.randn(rows, 48).to(dtype)
    frozen = Frozen(weight, pack=True)
    tolerance = 1e-5 if dtype == torch.float32 else 0.15  # of numbers up to 60
    for offset in (bias, None):
        expected = x.double() @ weight.double().T + (0 if offset is None else offset.double())
        assert_close(frozen.times(x, offset).double(), expected, rtol=0, atol=tolerance)
    assert_close(frozen.back(gradient).double(), gradient.double() @ weight.double(), rtol=0, atol=tolerance)
    packed = rows == 40 and packable(weight)
    assert (frozen._forth is not None) == packed and (frozen._back is not None) == packed


def test_a_weight_that_was_written_to_is_packed_anew() -> None:
    weight, x = _weight(), torch.randn(40, 32).bfloat16()
    frozen = Frozen(weight, pack=True)
    before, back = frozen.times(x, None), frozen.back(frozen.times(x, None))
    weight.mul_(2)
    assert torch.equal(frozen.times(x, None), 2 * before) and torch.equal(frozen.back(before), 2 * back)


def _states(model: Model) -> Tensor:
    states: Tensor = model.backbone.hidden(pack(tiny.sequences([30, 50], seed=3)))
    return states


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_network_follows_its_modules(tmp_path: Path, kind: str) -> None:
    """What somebody loads into a module, or puts in its place, is what the next pass multiplies with."""
    model = load_model(str(tiny.language_model(tmp_path / kind, kind)), "bf16")
    model.freeze()
    before = _states(model)
    layer = model.backbone.language.get_decoder().layers[0]
    kept = layer.self_attn.k_proj.weight.detach().clone()
    frozen = model.backbone.trunk.blocks[0].qkv.frozen
    assert frozen is not None and (frozen._forth is not None) == packable(kept)
    with torch.no_grad():
        layer.self_attn.k_proj.weight.copy_(3 * kept)
    changed = _states(model)
    assert float((changed - before).abs().max()) > 0.01
    layer.self_attn.k_proj.weight.data = kept
    assert torch.equal(_states(model), before)


def test_a_large_network_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "PACKED_BYTES", 1000)
    model = load_model(str(tiny.language_model(tmp_path / "llama", "llama")), "bf16")
    _states(model)
    assert all(block.qkv.frozen is None or block.qkv.frozen._forth is None for block in model.backbone.trunk.blocks)


def test_gradients_without_an_adapter(tmp_path: Path) -> None:
    """Layers that no adapter speaks in multiply alike whether or not a gradient is asked for, and hand it on."""
    model = load_model(str(tiny.language_model(tmp_path / "llama", "llama")), "bf16")
    model.freeze()
    packed = pack(tiny.sequences([30, 50], seed=3))
    expected = _states(model)
    embedding = model.backbone.language.get_input_embeddings().weight.requires_grad_(True)
    states = model.backbone.hidden(packed)
    assert torch.equal(states.detach(), expected)
    (gradient,) = torch.autograd.grad(states.float().sum(), embedding)
    assert float(gradient.abs().max()) > 0


def test_a_weight_that_changes_before_its_gradient_is_an_error(tmp_path: Path) -> None:
    model = load_model(str(tiny.language_model(tmp_path / "llama", "llama")), "bf16")
    model.freeze()
    model.backbone.language.get_input_embeddings().weight.requires_grad_(True)
    states = model.backbone.hidden(pack(tiny.sequences([30, 50], seed=3)))
    with torch.no_grad():
        model.backbone.language.get_decoder().layers[0].self_attn.k_proj.weight.mul_(2)
    with pytest.raises(RuntimeError, match="written to between a forward pass and its backward pass"):
        states.float().sum().backward()


def test_whoever_asks_first_changes_nothing_for_the_others(tmp_path: Path) -> None:
    """In inference mode, say; and a copy of a network that was asked is a network."""
    model = load_model(str(tiny.language_model(tmp_path / "llama", "llama")), "bf16")
    model.freeze()
    with torch.inference_mode():
        first = _states(model)
    assert torch.equal(_states(model), first)
    copied = copy.deepcopy(Frozen(_weight(), pack=True))
    assert copied._forth is None
