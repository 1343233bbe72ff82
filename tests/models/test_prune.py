from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config, SmolLM3Config

import tiny
from bessemer.data.records import Message
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model, save_model
from bessemer.models.prune import evenly, keep_layers, merge_adapter
from bessemer.models.tuning import tune_language
from bessemer.rollout.sampler import DecoderSampler, Sampling, TransformersSampler
from tiny_vision import MODELS, noise


@pytest.mark.parametrize(
    ("layers", "kept", "expected"),
    [
        (30, 2, [0, 29]),
        (5, 3, [0, 2, 4]),
        (4, 4, [0, 1, 2, 3]),
        (30, 15, [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29]),
    ],
)
def test_layers_evenly_between_first_and_last(layers: int, kept: int, expected: list[int]) -> None:
    assert evenly(layers, kept) == expected


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_too_few_or_too_many_layers(kept: int) -> None:
    with pytest.raises(UserError, match=f"student_layers={kept}, expected 2 to 4"):
        evenly(4, kept)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_the_kept_layers_are_the_network(tmp_path: Path, kind: str) -> None:
    """As transformers runs it with the other layers taken out of its list by hand."""
    directory = tiny.language_model(tmp_path / kind, kind, layers=4)
    model = load_model(str(directory), "fp32")
    keep_layers(model, [0, 3])
    theirs = AutoModelForCausalLM.from_pretrained(directory).eval()
    theirs.model.layers = torch.nn.ModuleList([theirs.model.layers[0], theirs.model.layers[3]])
    theirs.config.num_hidden_layers = 2
    packed = tiny.packed([9])
    with torch.no_grad():
        expected = theirs(input_ids=packed.ids[None], use_cache=False).logits[0]
        ours = model.backbone.hidden(packed) @ model.backbone.head.T
        assert_close(ours, expected, atol=2e-5, rtol=0)
        greedy = Sampling(6, 0.0)
        # through a cache that has a place for each layer
        assert TransformersSampler(model).sample(packed, greedy, -1) == DecoderSampler(model, None).sample(
            packed, greedy, -1
        )
        save_model(model, tmp_path / "student")
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "student" / "language").eval()
        assert plain.config.num_hidden_layers == len(plain.model.layers) == 2
        assert_close(plain(input_ids=packed.ids[None]).logits[0], ours, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_a_vision_language_model(tmp_path: Path, name: str) -> None:
    """Those of its language model; its picture side stays."""
    model = load_model(str(MODELS[name](tmp_path / name)), "fp32")
    pictured = model.backbone.language.config.vision_config.to_dict()
    keep_layers(model, [1])
    images = noise(tmp_path, [(8, 8)])
    feed = Feed(model, tmp_path, tmp_path / "cache")
    packed = feed.pack([feed.renderer.prompt([Message("user", "?", tuple(images))])])
    save_model(model, tmp_path / "student")
    loaded = load_model(str(tmp_path / "student"), "fp32")
    assert len(loaded.backbone.language.get_decoder().layers) == 1
    assert loaded.backbone.language.config.vision_config.to_dict() == pictured
    with torch.no_grad():
        assert_close(loaded.backbone.hidden(packed), model.backbone.hidden(packed), atol=1e-5, rtol=0)
    greedy = Sampling(6, 0.0)
    assert TransformersSampler(loaded).sample(packed, greedy, -1) == TransformersSampler(model).sample(
        packed, greedy, -1
    )


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
def test_a_student_is_saved_with_the_layers_it_has(tmp_path: Path, finetuning_type: str) -> None:
    """Also when only an adapter learns: its base is not the teacher's any more."""
    teacher = load_model(str(tiny.language_model(tmp_path / "base", layers=4)), "fp32")
    factors = tune_language(teacher, "lora", seed=1)
    with torch.no_grad():
        for parameter in factors.values():
            parameter.add_(0.1)
    save_model(teacher, tmp_path / "teacher", adapter=ADAPTER)
    student = load_model(str(tmp_path / "teacher"), "fp32")
    packed = tiny.packed([9, 4])
    with torch.no_grad():
        before = student.backbone.hidden(packed)
        merge_adapter(student, ADAPTER)
        assert student.lora is None
        assert_close(student.backbone.hidden(packed), before, atol=5e-5, rtol=0)
    keep_layers(student, [0, 2])
    tune_language(student, finetuning_type, seed=2)
    save_model(student, tmp_path / "student", adapter=ADAPTER if student.lora is not None else None)
    loaded = load_model(str(tmp_path / "student"), "fp32")
    with torch.no_grad():
        assert_close(loaded.backbone.hidden(packed), student.backbone.hidden(packed), atol=1e-5, rtol=0)
    assert len(loaded.backbone.language.get_decoder().layers) == 2


def test_what_is_said_of_each_layer_goes_with_it(tmp_path: Path) -> None:
    """SmolLM3 rotates only some of its layers, and says which."""
    torch.manual_seed(0)
    config = SmolLM3Config(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "lm")
    tiny.tokenizer().save_pretrained(tmp_path / "lm")
    model = load_model(str(tmp_path / "lm"), "fp32")
    keep_layers(model, evenly(8, 5))
    save_model(model, tmp_path / "student")
    packed = tiny.packed([30])
    with torch.no_grad():
        kept, loaded = (m.backbone.hidden(packed) for m in (model, load_model(str(tmp_path / "student"), "fp32")))
    assert_close(loaded, kept, atol=1e-5, rtol=0)


def test_layers_that_have_no_list_are_refused(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    model = load_model(str(tmp_path), "fp32")
    with pytest.raises(UserError, match="a gpt2 has no list of layers to choose from; name a smaller `student`"):
        keep_layers(model, [0, 2])
    with pytest.raises(UserError, match="a gpt2 has no list of layers; expected lora"):
        tune_language(model, "freeze")
