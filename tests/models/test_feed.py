"""What a model is fed, beside a pretrained vision-language model's own processor and forward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ImageOps
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText, AutoProcessor

import tiny
from bessemer.data.images import image_ref, load_image
from bessemer.data.records import ImageRef, Message
from bessemer.models.backbone import PaddedBackbone
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model, save_model
from bessemer.models.tuning import tune_language
from tiny_vision import MODELS, noise


@pytest.fixture
def images(tmp_path: Path) -> list[ImageRef]:
    return noise(tmp_path, [(8, 8), (12, 9), (40, 16)])


def _talks(images: Sequence[ImageRef]) -> list[list[Message]]:
    return [
        [Message("user", "有裂纹吗？", (images[0],))],
        [Message("user", "No picture at all.")],
        [Message("user", "Which?", (images[1], images[2])), Message("assistant", "二"), Message("user", "Why?")],
    ]


@torch.no_grad()
def _theirs(directory: Path, talk: Sequence[Message], root: Path) -> tuple[list[int], Tensor]:
    """Ids and last hidden states of one conversation, by the model's own processor and forward alone."""
    processor: Any = AutoProcessor.from_pretrained(directory)
    network = AutoModelForImageTextToText.from_pretrained(directory).eval()
    turns = [
        {"role": m.role, "content": [*({"type": "image"} for _ in m.images), {"type": "text", "text": m.text}]}
        for m in talk
    ]
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    pictures = [load_image(image, root) for message in talk for image in message.images]
    inputs = processor(text=text, images=pictures or None, return_tensors="pt", add_special_tokens=False)
    output = network(**inputs, output_hidden_states=True, use_cache=False)
    return inputs["input_ids"][0].tolist(), output.hidden_states[-1][0]


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_a_pretrained_model_sees_what_its_own_processor_makes(
    tmp_path: Path, images: list[ImageRef], name: str, padding: str
) -> None:
    directory = MODELS[name](tmp_path / name)
    model = load_model(str(directory), "fp32")
    assert isinstance(model.backbone, PaddedBackbone) and model.facts.kind == "vlm"
    model.backbone.padding = padding
    feed = Feed(model, tmp_path, tmp_path / "cache")
    talks = _talks(images)
    rendered = [feed.renderer.prompt(talk) for talk in talks]
    with torch.no_grad():
        together = model.backbone.hidden(feed.pack(rendered)).split([len(r.ids) for r in rendered])
    for talk, mine, states in zip(talks, rendered, together, strict=True):
        ids, expected = _theirs(directory, talk, tmp_path)
        assert list(mine.ids) == ids
        assert_close(states, expected, atol=2e-5, rtol=0)
    assert rendered[0].image_places and not rendered[1].image_places


def test_the_pixels_of_a_few_photographs_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ids all do; what was dropped is made again, and is the same."""
    monkeypatch.setattr("bessemer.models.feed.EXPANDED", 2)
    model = load_model(str(next(iter(MODELS.values()))(tmp_path / "model")), "fp32")
    feed = Feed(model, tmp_path, tmp_path / "cache")
    some = noise(tmp_path, [(8 + n, 8) for n in range(5)])
    rendered = [feed.renderer.prompt([Message("user", "?", (image,))]) for image in some]
    first = feed.inputs(rendered[:1])
    assert [feed.renderer.prompt([Message("user", "?", (image,))]) for image in some] == rendered
    assert len(feed._ids) == 5 and feed._expand.cache_info().currsize == 2
    again = feed.inputs(rendered[:1])
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_in_the_image_matters(tmp_path: Path, images: list[ImageRef], name: str) -> None:
    model = load_model(str(MODELS[name](tmp_path / name)), "fp32")
    feed = Feed(model, tmp_path, tmp_path / "cache")
    ends = []
    for image in images[:2]:
        rendered = feed.renderer.prompt([Message("user", "?", (image,))])
        with torch.no_grad():
            ends.append(model.backbone.hidden(feed.pack([rendered]))[-1])
    assert float((ends[0] - ends[1]).abs().max()) > 1e-3


def test_a_pretrained_model_learns_and_is_saved(tmp_path: Path, images: list[ImageRef]) -> None:
    """By an adapter, merged, and in full; in bfloat16 too."""
    directory = tiny.vision_language_model(tmp_path / "llava")
    for case, kind in (("adapter", "lora"), ("merged", "lora"), ("full", "full")):
        model = load_model(str(directory), "fp32")
        with torch.no_grad():
            for parameter in tune_language(model, kind).values():
                parameter.add_(0.02 * torch.ones_like(parameter))
        save_model(model, tmp_path / case, adapter=ADAPTER if kind == "lora" else None, merge=case == "merged")
        feed = Feed(model, tmp_path, tmp_path / "cache")
        packed = feed.pack([feed.renderer.prompt(talk) for talk in _talks(images)])
        loaded = load_model(str(tmp_path / case), "fp32")
        again = Feed(loaded, tmp_path, tmp_path / "cache")
        assert loaded.facts.kind == "vlm" and (loaded.lora is not None) == (case == "adapter")
        with torch.no_grad():
            expected = model.backbone.hidden(packed)
            assert_close(
                loaded.backbone.hidden(again.pack([again.renderer.prompt(t) for t in _talks(images)])),
                expected,
                atol=5e-5,
                rtol=0,
            )
            rounded = load_model(str(tmp_path / case), "bf16").backbone.hidden(packed)
        assert rounded.dtype == torch.bfloat16
        assert float((rounded.float() - expected).norm() / expected.norm()) < 0.05


def test_cached_features_or_pixels(tmp_path: Path, images: list[ImageRef]) -> None:
    model = tiny.composed_model(tmp_path)
    feed = Feed(model, tmp_path, tmp_path / "cache")
    rendered = [feed.renderer.prompt(talk) for talk in _talks(images)]
    cached = feed.inputs(rendered, [0, 3, 1])
    assert set(cached) == {"features"} and cached["features"].shape == (
        3,
        5,
        model.tower.channels if model.tower else 0,
    )
    assert [len(r.image_places) for r in rendered] == [5, 0, 10]
    feed.use_pixels()
    live = feed.inputs(rendered, [0, 3, 1])
    assert set(live) == {"pixels"} and live["pixels"].shape == (3, 3, 32, 32)
    with torch.no_grad():
        exact = model.backbone.visual_tokens(live)
        stored = model.backbone.visual_tokens(cached)
    assert float((stored - exact).norm() / exact.norm()) < 0.03
    straight = feed.inputs(rendered)
    assert torch.equal(live["pixels"][0], straight["pixels"][0])
    assert torch.equal(live["pixels"][1:], straight["pixels"][1:].flip(-1))
    assert feed.inputs(rendered[1:2]) == {}


def test_a_system_prompt_stays_with_the_model(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    Feed(model, tmp_path, tmp_path / "cache", system_prompt="看图")
    save_model(model, tmp_path / "saved")
    loaded = load_model(str(tmp_path / "saved"), "fp32")
    feed = Feed(loaded, tmp_path, tmp_path / "cache")
    assert loaded.facts.system_prompt == feed.renderer.system_prompt == "看图"


def test_a_view_is_what_a_processor_makes_of_the_turned_photograph(tmp_path: Path) -> None:
    (image,) = noise(tmp_path, [(12, 9)])
    picture = load_image(image, tmp_path)
    model = load_model(str(tiny.vision_language_model(tmp_path / "llava")), "fp32")
    feed = Feed(model, tmp_path, tmp_path / "cache")
    turned = {1: ImageOps.mirror(picture), 2: ImageOps.flip(picture), 3: picture.rotate(180)}
    rendered = [feed.renderer.prompt([Message("user", "?", (image,))])]
    plain = feed.inputs(rendered)["pixel_values"]
    for view, other in turned.items():
        other.save(tmp_path / f"view{view}.png")
        shown = [feed.renderer.prompt([Message("user", "?", (image_ref(tmp_path / f"view{view}.png", tmp_path),))])]
        found = feed.inputs(rendered, [view])["pixel_values"]
        assert_close(found, feed.inputs(shown)["pixel_values"], atol=0, rtol=0)
        assert not torch.equal(found, plain)
