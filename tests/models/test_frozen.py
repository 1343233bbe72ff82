"""Copies of weights in oneDNN's order, beside the weights themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import tiny
from bessemer.data.batches import pack
from bessemer.models import trunk
from bessemer.models.frozen import Frozen
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
    packed = rows == 40 and dtype == torch.bfloat16
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
    assert all(
        side.frozen is not None and side.frozen._forth is not None for side in [model.backbone.trunk.blocks[0].qkv]
    )
    kept = layer.self_attn.k_proj.weight.detach().clone()
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
