"""Adapters beside PEFT's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import tiny
from bessemer.errors import UserError
from bessemer.models.lora import Lora, linear_targets
from bessemer.models.model import Model

KINDS = ["llama", "qwen2", "qwen3"]
# PEFT asks transformers for a property under its old name
PEFT_IS_BEHIND = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
LINEARS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def _theirs(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory).eval()


@torch.no_grad()
def _logits(model: Model, ids: Tensor) -> Tensor:
    packed = tiny.packed([len(ids)])
    hidden = model.backbone.hidden(type(packed)(ids, (len(ids),), packed.image_rows))
    return hidden @ model.backbone.head.T


def _taught(lora: Lora, name: str = "a", seed: int = 0, rank: int = 4, alpha: float = 6.0) -> None:
    """An adapter whose B is not zero."""
    factors = lora.add(name, rank, alpha, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for up in factors.up:
            up.copy_(0.2 * torch.randn(up.shape, generator=generator))


IDS = torch.randint(3, 259, (15,), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    bare = _logits(model, IDS)
    lora = model.adapters()
    assert torch.equal(_logits(model, IDS), bare)
    lora.add("new", 4, 8.0)
    lora.active = "new"
    assert torch.equal(_logits(model, IDS), bare)


def test_a_is_gaussian_and_b_is_zero(tmp_path: Path) -> None:
    """A entries are N(0, 1 / inputs): of 14 layers times 64 rows at once, so that the estimates are close."""
    lora = tiny.text_model(tmp_path).adapters()
    factors = lora.add("a", 64, 128.0, seed=3)
    assert all(float(up.detach().abs().max()) == 0 for up in factors.up) and factors.scale == 2.0
    scaled = torch.cat([down.detach().flatten() * math.sqrt(down.shape[1]) for down in factors.down])
    assert len(scaled) > 30_000
    assert abs(float(scaled.mean())) < 0.03 and abs(float(scaled.std()) - 1) < 0.02
    within = float((scaled.abs() < 1).float().mean())
    assert abs(within - 0.6827) < 0.01  # a uniform of the same deviation would have 0.577
    other = lora.add("b", 64, 128.0, seed=4)
    assert not torch.equal(other.down[0], factors.down[0])
    assert torch.equal(lora.add("c", 64, 128.0, seed=3).down[0], factors.down[0])


@PEFT_IS_BEHIND
@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_what_we_save(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    lora = model.adapters()
    _taught(lora)
    lora.active = "a"
    lora.save("a", tmp_path / "adapter", str(tmp_path / kind))
    wrapped = peft.PeftModel.from_pretrained(_theirs(tmp_path / kind), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        expected = wrapped(input_ids=IDS[None]).logits[0]
    assert_close(_logits(model, IDS), expected, atol=2e-5, rtol=0)
    assert float((_logits(model, IDS) - _logits(tiny.text_model(tmp_path, kind), IDS)).abs().max()) > 0.1


@PEFT_IS_BEHIND
@pytest.mark.parametrize("targets", [LINEARS, ["q_proj", "v_proj"]], ids=["all", "two"])
def test_we_read_what_peft_saves(tmp_path: Path, targets: list[str]) -> None:
    model = tiny.text_model(tmp_path)
    settings = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(_theirs(tmp_path / "llama"), settings).eval()
    wrapped.save_pretrained(str(tmp_path / "theirs"))
    lora = model.adapters(targets)
    lora.load("a", tmp_path / "theirs")
    lora.active = "a"
    with torch.no_grad():
        expected = wrapped(input_ids=IDS[None]).logits[0]
    assert_close(_logits(model, IDS), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_unmerged(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    lora = model.adapters()
    _taught(lora)
    lora.active = "a"
    hooked = _logits(model, IDS)
    lora.active = None
    for layer in lora.shapes:
        module = model.backbone.language.get_submodule(layer)
        module.weight.data = lora.merged("a", layer, module.weight)
    assert_close(_logits(model, IDS), hooked, atol=2e-5, rtol=0)


def test_the_dense_update_by_hand(tmp_path: Path) -> None:
    lora = tiny.text_model(tmp_path).adapters(["q_proj"])
    factors = lora.add("a", 1, 3.0)
    layer = factors.names[0]
    with torch.no_grad():
        factors.down[0].copy_(torch.arange(32.0)[None])
        factors.up[0].copy_(torch.tensor([[2 + 2**-9]] + [[0.0]] * 31))
    delta = lora.factors("a").delta(layer)
    assert torch.equal(delta[0], (6 + 3 * 2**-9) * torch.arange(32.0)) and float(delta[1:].abs().max()) == 0
    assert torch.equal(lora.merged("a", layer, torch.ones(32, 32).bfloat16()), 1.0 + delta)


def test_adapters_do_not_disturb_one_another(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    lora = model.adapters()
    _taught(lora, "a", 0)
    _taught(lora, "b", 1)
    lora.active = "a"
    first = _logits(model, IDS)
    copied = lora.copy("a", "c")
    lora.active = "c"
    assert torch.equal(_logits(model, IDS), first)
    with torch.no_grad():
        copied.up[0].add_(1.0)
    lora.active = "a"
    assert torch.equal(_logits(model, IDS), first)
    lora.active = "b"
    assert not torch.equal(_logits(model, IDS), first)


def test_removed_adapters_are_gone(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    bare = _logits(model, IDS)
    lora = model.adapters()
    _taught(lora)
    lora.active = "a"
    lora.remove()
    assert torch.equal(_logits(model, IDS), bare)


def test_a_bfloat16_base_keeps_its_factors_in_float32(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path, dtype="bf16")
    lora = model.adapters()
    _taught(lora)
    lora.active = "a"
    assert all(p.dtype == torch.float32 for p in lora.factors("a").parameters())
    states = model.backbone.hidden(tiny.packed([4, 7]))
    states.float().square().sum().backward()
    gradients = [p.grad for p in lora.factors("a").parameters()]
    assert states.dtype == torch.bfloat16
    assert all(g is not None and g.dtype == torch.float32 and float(g.abs().max()) > 0 for g in gradients)


def test_targets(tmp_path: Path) -> None:
    language = tiny.text_model(tmp_path).backbone.language
    names = linear_targets(language)
    assert len(names) == 14 and sorted({name.split(".")[-1] for name in names}) == LINEARS
    assert linear_targets(language, "v_proj") == [f"model.layers.{n}.self_attn.v_proj" for n in (0, 1)]
    with pytest.raises(UserError, match=r"lora_target \['lm_head'\], expected other layers: the head is read"):
        linear_targets(language, ["q_proj", "lm_head"])
    with pytest.raises(UserError, match=r"lora_target \['attn'\] not in the model, expected some of .*q_proj.* or all"):
        linear_targets(language, ["attn", "q_proj"])
    with pytest.raises(UserError, match="no linear layer that LoRA could adapt"):
        Lora(torch.nn.Sequential(torch.nn.Embedding(3, 3)))


def _saved(tmp_path: Path) -> tuple[Lora, Path]:
    lora = tiny.text_model(tmp_path).adapters()
    _taught(lora)
    lora.save("a", tmp_path / "adapter", "base")
    return lora, tmp_path / "adapter"


def _with_config(directory: Path, **changes: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**tiny.facts(path), **changes}), encoding="utf-8")


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    lora, directory = _saved(tmp_path)
    loaded = lora.load("again", directory)
    assert (loaded.rank, loaded.alpha) == (4, 6.0)
    for one, other in zip(lora.factors("a").parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, other)
    assert tiny.facts(directory / "adapter_config.json")["target_modules"] == LINEARS


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 99}},
        {"rank_pattern": {"q_proj": 2}},
    ],
    ids=str,
)
def test_other_kinds_of_adapters_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    lora, directory = _saved(tmp_path)
    _with_config(directory, **changes)
    with pytest.raises(UserError, match="expected a plain LoRA adapter of one rank and scale"):
        lora.load("b", directory)


def test_adapters_of_other_models_are_refused(tmp_path: Path) -> None:
    lora, directory = _saved(tmp_path)
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    with pytest.raises(UserError, match=f"no tensor {name}, expected an adapter of this very model"):
        lora.load("b", directory)
    save_file({**tensors, "base_model.model.lm_head.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(UserError, match=r"tensor base_model\.model\.lm_head\.weight fits no adapted layer"):
        lora.load("b", directory)
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, file)
    with pytest.raises(UserError, match="factors of other shapes than this model's"):
        lora.load("b", directory)
    save_file(tensors, file)
    _with_config(directory, r=8)
    with pytest.raises(UserError, match="factors of other shapes than this model's"):
        lora.load("b", directory)
    narrow = tiny.text_model(tmp_path / "narrow").adapters(["q_proj"])
    _with_config(directory, r=4)
    with pytest.raises(UserError, match="fits no adapted layer of this model"):
        narrow.load("b", directory)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_one_node_is_the_plain_sum(bias: bool, shape: tuple[int, ...]) -> None:
    """Values and gradients of W x + b + (alpha / r) B A x written out, in float64's stead by float32 autograd."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=bias)).requires_grad_(False)
    lora = Lora(model)
    _taught(lora, rank=3, alpha=6.0)
    lora.active = "a"
    factors = lora.factors("a")
    x = torch.randn(*shape, 6, generator=generator, requires_grad=True)
    weight = torch.randn(*shape, 4, generator=generator)
    ours = torch.autograd.grad((model(x) * weight).sum(), [x, factors.down[0], factors.up[0]])
    plain = (
        torch.nn.functional.linear(x, model[0].weight, model[0].bias) + 2.0 * (x @ factors.down[0].T) @ factors.up[0].T
    )
    assert_close(model(x), plain, atol=1e-6, rtol=0)
    theirs = torch.autograd.grad((plain * weight).sum(), [x, factors.down[0], factors.up[0]])
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, atol=1e-5, rtol=1e-5)
    assert model[0].weight.grad is None
    lora.active = None
    assert torch.equal(model(x), torch.nn.functional.linear(x, model[0].weight, model[0].bias))
    lora.remove()
    assert "forward" not in vars(model[0])
