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
from bessemer.models import frozen as frozen_module
from bessemer.models import trunk
from bessemer.models.frozen import Frozen, packable, rows_at_once
from bessemer.models.model import Model, load_model


def _weight(dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(48, 32, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """A processor with tiles and two threads, or one without: the products themselves are this one's."""
    with_tiles: bool = getattr(request, "param", False)
    monkeypatch.setattr(frozen_module, "has_tiles", lambda: with_tiles)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return with_tiles


@pytest.mark.parametrize("tiles", [False, True], indirect=True)
@pytest.mark.parametrize("rows", [3, 40, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_both_ways(rows: int, dtype: torch.dtype, tiles: bool) -> None:
    """Few rows, and types that are not packed, take the weight as it is; with tiles 65 rows are several products."""
    weight, bias = _weight(dtype), torch.arange(48).to(dtype)
    draw = torch.Generator().manual_seed(rows)
    x, gradient = (torch.randn(rows, width, generator=draw).to(dtype) for width in (32, 48))
    frozen = Frozen(weight, pack=True)
    near = {"rtol": 0.0, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2**-8, "atol": 0.01}  # one rounding
    for offset in (bias, None):
        expected = x.double() @ weight.double().T + (0 if offset is None else offset.double())
        assert_close(frozen.times(x, offset).double(), expected, **near)
    assert_close(frozen.back(gradient).double(), gradient.double() @ weight.double(), **near)
    packed = rows >= 40 and packable(weight) and not tiles
    assert (frozen._forth is not None) == packed and (frozen._back is not None) == packed


@pytest.mark.parametrize("tiles", [True], indirect=True)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "at_once"),
    [
        (575, 576, 576, 575),
        (576, 576, 576, 288),
        (938, 576, 576, 240),
        (1151, 576, 576, 288),
        (1152, 576, 576, 1152),
        (383, 3072, 576, 383),
        (384, 3072, 576, 192),
        (512, 3072, 576, 256),
        (512, 2880, 576, 512),  # an input that is not long enough
        (700, 4864, 896, 700),  # more outputs than that holds for
        (900, 4864, 896, 304),
        (1100, 1024, 1024, 1100),
    ],
)
def test_rows_at_once(
    tiles: bool, rows: int, inputs: int, outputs: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: equal parts of at most half as many rows as outputs, rounded up to whole tiles."""
    assert rows_at_once(rows, inputs, outputs) == at_once
    for threads in (1, 4):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert rows_at_once(rows, inputs, outputs) == rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(frozen_module, "has_tiles", lambda: False)
    assert rows_at_once(rows, inputs, outputs) == rows


@pytest.mark.parametrize("tiles", [True], indirect=True)
def test_parts_are_multiplied_each_and_in_their_order(tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """65 rows to 48 outputs in parts of 32, 40 rows back to 32 in parts of 16; never float32, and no copy is kept."""
    sizes: list[int] = []
    split = torch.Tensor.split

    def noted(tensor: Tensor, size: int) -> tuple[Tensor, ...]:
        sizes.append(size)
        return split(tensor, size)

    monkeypatch.setattr(torch.Tensor, "split", noted)
    weight, numbers = _weight(), torch.arange(65, dtype=torch.bfloat16)[:, None]
    frozen = Frozen(weight, pack=True)
    first = torch.eye(48, dtype=torch.bfloat16)[0]
    assert_close(frozen.times(numbers * first[:32], None), numbers * weight[:, 0], rtol=0.01, atol=0)
    assert_close(frozen.back(numbers[:40] * first), numbers[:40] * weight[0], rtol=0.01, atol=0)
    assert sizes == [32, 16] and frozen._forth is None and frozen._back is None
    frozen.times(numbers[:47] * first[:32], None), Frozen(weight.float()).times(torch.ones(65, 32), None)
    assert len(sizes) == 2


def test_a_weight_that_was_written_to_is_packed_anew(tiles: bool) -> None:
    weight, x = _weight(), torch.randn(40, 32).bfloat16()
    frozen = Frozen(weight, pack=True)
    before, back = frozen.times(x, None), frozen.back(frozen.times(x, None))
    weight.mul_(2)
    assert torch.equal(frozen.times(x, None), 2 * before) and torch.equal(frozen.back(before), 2 * back)


def _states(model: Model) -> Tensor:
    states: Tensor = model.backbone.hidden(pack(tiny.sequences([30, 50], seed=3)))
    return states


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_network_follows_its_modules(tmp_path: Path, kind: str, tiles: bool) -> None:
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
