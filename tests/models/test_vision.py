from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.testing import assert_close
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

import tiny
from bessemer.errors import UserError
from bessemer.models.projector import Projector
from bessemer.models.vision import Tower, pool, pooled

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_pool_is_the_mean_of_each_cell() -> None:
    features = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    tokens = pool(features, 2)
    assert tokens.shape == (2, pooled(2), 3) and pooled(2) == 5 and pooled(1) == 1
    assert_close(tokens[:, 0], features.mean((2, 3)))
    for image in range(2):
        for channel in range(3):
            plane = features[image, channel]
            cells = [plane[:2, :3], plane[:2, 3:], plane[2:, :3], plane[2:, 3:]]
            assert tokens[image, 1:, channel].tolist() == [float(cell.mean()) for cell in cells]
    assert_close(pool(features, 1)[:, 0], features.mean((2, 3)))


@torch.no_grad()
def test_a_timm_tower_is_timm_s_own_features(tmp_path: Path) -> None:
    tower = Tower.load(tiny.vision_tower(tmp_path / "tower")).eval()
    theirs = timm.create_model("test_efficientnet", pretrained=False, num_classes=0).eval()
    theirs.load_state_dict(tower.network.state_dict())
    assert_close(tower(PIXELS), theirs.forward_features(PIXELS), atol=1e-5, rtol=0)
    assert tower(PIXELS).shape[:2] == (3, tower.channels) and tower.image_size == 32


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit"])
def test_saved_and_loaded_is_the_same(tmp_path: Path, architecture: str) -> None:
    torch.manual_seed(0)
    tower = Tower.from_timm(architecture).eval()
    tower.save(tmp_path)
    loaded = Tower.load(tmp_path).eval()
    size = tower.image_size
    pixels = torch.randn(1, 3, size, size)
    assert_close(loaded(pixels), tower(pixels), atol=1e-5, rtol=0)
    assert loaded.settings == tower.settings


@torch.no_grad()
def test_a_transformer_s_tokens_become_a_map() -> None:
    """Row by row, without the class token."""
    torch.manual_seed(0)
    tower = Tower.from_timm("test_vit").eval()
    pixels = torch.randn(1, 3, tower.image_size, tower.image_size)
    tokens = tower.network.forward_features(pixels)
    features = tower(pixels)
    side = features.shape[-1]
    assert features.shape == (1, tower.channels, side, side) and tokens.shape[1] == side * side + 1
    for row, column in ((0, 0), (0, side - 1), (side - 1, 1)):
        assert torch.equal(features[0, :, row, column], tokens[0, 1 + row * side + column])


@torch.no_grad()
def test_hugging_face_towers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPVisionModel(CLIPVisionConfig(**shape, image_size=16, patch_size=4)).eval()
    clip.save_pretrained(tmp_path / "clip")
    tower = Tower.load(tmp_path / "clip").eval()
    pixels = PIXELS[:, :, :16, :16]
    tokens = clip(pixel_values=pixels).last_hidden_state
    assert tower.image_size == 16 and tower.channels == 16
    assert_close(tower(pixels)[1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3], atol=1e-6, rtol=0)
    tower.save(tmp_path / "again")
    assert_close(Tower.load(tmp_path / "again").eval()(pixels), tower(pixels), atol=1e-6, rtol=0)
    convnext = ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[4, 8, 8, 12], image_size=64)).eval()
    convnext.save_pretrained(tmp_path / "convnext")
    maps = Tower.load(tmp_path / "convnext").eval()
    wide = torch.randn(1, 3, 64, 64)
    assert maps.channels == 12
    assert_close(maps(wide), convnext(pixel_values=wide).last_hidden_state, atol=1e-6, rtol=0)


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="vision tower 'resnet99x': not an architecture timm knows"):
        Tower.from_timm("resnet99x")


@torch.no_grad()
def test_a_projector_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    projector = Projector(12, 20, 8, 5)
    torch.nn.init.normal_(projector.places)
    features = torch.randn(2, 5, 12)
    normed = torch.nn.functional.layer_norm(features, (12,), projector.norm.weight, projector.norm.bias)
    inner = torch.nn.functional.gelu(normed @ projector.inner.weight.T + projector.inner.bias)
    assert_close(
        projector(features),
        inner @ projector.outer.weight.T + projector.outer.bias + projector.places,
        atol=1e-6,
        rtol=0,
    )
    projector.save(tmp_path)
    assert_close(Projector.load(tmp_path)(features), projector(features), atol=1e-6, rtol=0)
    assert projector(features.half()).dtype == torch.float32


def _tower(tmp_path: Path) -> Tower:
    return Tower.load(tiny.vision_tower(tmp_path / "tower"))


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("frozen", [0, 2])
def test_what_is_frozen_stays_and_the_rest_learns(tmp_path: Path, frozen: int, depthwise: bool) -> None:
    """Weights and running statistics, after steps at a great rate."""
    tower = _tower(tmp_path)
    blocks = [f"network.blocks.{n}." for n in range(frozen)] + ["network.conv_stem.", "network.bn1."] * bool(frozen)
    spatial = {
        f"{name}.weight" for name, m in tower.named_modules()
        if isinstance(m, torch.nn.Conv2d) and m.groups == m.in_channels > 1
    }  # fmt: skip
    assert len(spatial) >= 2
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    learnable = tower.learnable(frozen, depthwise)
    optimiser = torch.optim.SGD(learnable.values(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        tower(PIXELS).square().mean().backward()
        optimiser.step()
    for name, tensor in tower.state_dict().items():
        still = name.startswith(tuple(blocks)) or (name in spatial and not depthwise)
        assert torch.equal(tensor, before[name]) == still, name
    assert set(learnable) == {
        name for name, _ in tower.named_parameters()
        if not name.startswith(tuple(blocks)) and (depthwise or name not in spatial)
    }  # fmt: skip


def test_a_strided_depthwise_layer_is_the_same_outside_autocast(tmp_path: Path) -> None:
    plain, mended = _tower(tmp_path), _tower(tmp_path)
    mended.learnable(0, True)
    strided = [
        (name, module) for name, module in mended.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1 and max(module.stride) > 1
    ]  # fmt: skip
    assert strided
    for name, module in strided:
        x = torch.randn(2, module.in_channels, 9, 9)
        assert torch.equal(module(x), plain.get_submodule(name)(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(x.bfloat16()).dtype == torch.float32
            assert plain.get_submodule(name)(x).dtype == torch.bfloat16


def test_more_blocks_than_there_are_cannot_be_frozen(tmp_path: Path) -> None:
    for count in (-1, 99):
        with pytest.raises(UserError, match=f"frozen_blocks={count}, expected 0 to "):
            _tower(tmp_path).learnable(count, True)
    clip = CLIPVisionModel(CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                            num_attention_heads=2, image_size=16, patch_size=4))  # fmt: skip
    clip.save_pretrained(tmp_path / "clip")
    with pytest.raises(UserError, match="this tower has no blocks in a row"):
        Tower.load(tmp_path / "clip").learnable(1, True)


@torch.no_grad()
@pytest.mark.parametrize(
    ("network", "size"),
    [
        (lambda seen: SiglipVisionModel(SiglipVisionConfig(**seen)), 12),  # an odd number of patches, no class token
        (lambda seen: SiglipVisionModel(SiglipVisionConfig(**seen)), 16),
        (lambda seen: Dinov2Model(Dinov2Config(**seen)), 12),  # an even number of tokens, a class token among them
        (lambda seen: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**seen, num_register_tokens=4)), 16),
    ],
)
def test_what_stands_before_the_patches_is_left_out(tmp_path: Path, network: Any, size: int) -> None:
    seen = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": size, "patch_size": 4}
    made = network(seen).eval()
    made.save_pretrained(tmp_path)
    pixels = PIXELS[:2, :, :size, :size]
    side = size // 4
    expected = made(pixel_values=pixels).last_hidden_state[:, -side * side :].transpose(1, 2).reshape(2, 16, side, side)
    assert_close(Tower.load(tmp_path).eval()(pixels), expected, atol=1e-5, rtol=0)
