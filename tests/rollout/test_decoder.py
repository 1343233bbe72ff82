"""The fast decode loop, beside transformers' forward of the whole text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, LlamaConfig

import tiny
from bessemer.data.batches import pack
from bessemer.errors import UserError
from bessemer.models.model import ADAPTER, Model, load_model
from bessemer.models.tuning import tune_language
from bessemer.rollout.decoder import Decoder

pytestmark = pytest.mark.usefixtures("operations")

PROMPTS = tiny.sequences([7, 40, 2], seed=3)
FOLLOWING = torch.randint(3, 259, (3, 6), generator=torch.Generator().manual_seed(8))


@torch.no_grad()
def _whole(network: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits after each prompt and after each of the following tokens, (7, 3, V), one forward a row."""
    rows = []
    for prompt, more in zip(PROMPTS, FOLLOWING, strict=True):
        ids = torch.cat([torch.tensor(prompt.ids), more])
        rows.append(network(input_ids=ids[None]).logits[0, len(prompt.ids) - 1 :])
    return torch.stack(rows, 1).to(dtype)


def _steps(decoder: Decoder) -> Tensor:
    """The same by one prefill and six steps."""
    found = [decoder.prefill(pack(PROMPTS), 1, 6)]
    found += [decoder.step(FOLLOWING[:, step]) for step in range(6)]
    return torch.stack(found)


def _plain(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory).eval()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_steps_are_the_whole_forward(tmp_path: Path, kind: str) -> None:
    model = tiny.text_model(tmp_path, kind)
    assert_close(_steps(Decoder(model, None)), _whole(_plain(tmp_path / kind)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_bfloat16_stays_near_float32(tmp_path: Path, kind: str) -> None:
    """oneDNN's blocked weights; every activation rounded to 8 bits, through two layers."""
    directory = tiny.language_model(tmp_path / kind, kind)
    exact = _whole(_plain(directory))
    found = _steps(Decoder(load_model(str(directory), "bf16"), None))
    assert found.dtype == torch.bfloat16
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < 0.03


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_row_much_longer_than_the_others(tmp_path: Path, kind: str, operations: str) -> None:
    """To PyTorch it is a span of its own, and so are the rows before and behind it; read as if there were one span."""
    model = tiny.text_model(tmp_path, kind)
    prompts = tiny.sequences([9, 7, 300, 2, 40, 11], seed=3)
    following = torch.randint(3, 259, (6, 4), generator=torch.Generator().manual_seed(8))
    decoder = Decoder(model, None)
    decoder.prefill(pack(prompts), 1, 4)
    found = torch.stack([decoder.step(following[:, step]) for step in range(4)])
    if operations == "plain":
        assert [span[:2] for span in decoder.plain._spans] == [(0, 2), (2, 3), (3, 6)]
    network = _plain(tmp_path / kind)
    for row, (prompt, more) in enumerate(zip(prompts, following, strict=True)):
        with torch.no_grad():
            whole = network(input_ids=torch.cat([torch.tensor(prompt.ids), more])[None]).logits[0, -4:]
        assert_close(found[:, row], whole, atol=2e-5, rtol=0)


def test_rows_are_read_anew_while_others_go_on(tmp_path: Path) -> None:
    """A freed row takes another prompt; what the row before it held is gone, and its neighbours do not notice."""
    decoder = Decoder(tiny.text_model(tmp_path), None)
    expected = _steps(decoder)
    decoder.allocate(3, 48)
    decoder.read(pack([PROMPTS[0], PROMPTS[2], PROMPTS[1]]), 1, torch.tensor([0, 2, 1]))
    decoder.step(FOLLOWING[:, 0])
    late = decoder.read(pack([PROMPTS[0]]), 1, torch.tensor([1]))
    assert_close(late[0], expected[0, 0], atol=1e-5, rtol=0)
    for step in range(1, 5):
        logits = decoder.step(torch.stack([FOLLOWING[0, step], FOLLOWING[0, step - 1], FOLLOWING[2, step]]))
        assert_close(logits[[0, 2]], expected[step + 1, [0, 2]], atol=1e-5, rtol=0)
        assert_close(logits[1], expected[step, 0], atol=1e-5, rtol=0)


def _biased(directory: Path) -> Path:
    """Biases everywhere that Llama may have them, none of them zero."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True, initializer_range=0.2,
        tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )  # fmt: skip
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    network.save_pretrained(directory)
    tiny.tokenizer().save_pretrained(directory)
    return directory


def test_biases_wide_heads_and_another_base_of_rotation(tmp_path: Path) -> None:
    directory = _biased(tmp_path / "llama")
    assert_close(
        _steps(Decoder(load_model(str(directory), "fp32"), None)), _whole(_plain(directory)), atol=5e-5, rtol=0
    )


def test_weights_that_learn_in_float32_decode_in_bfloat16(tmp_path: Path) -> None:
    directory = _biased(tmp_path / "llama")
    model = load_model(str(directory), "bf16")
    expected = _steps(Decoder(model, None))
    tune_language(model, "full")
    assert_close(_steps(Decoder(model, None)), expected, atol=0.05, rtol=0.02)


def _with_adapter(model: Model, targets: str | list[str]) -> Model:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in tune_language(model, "lora", lora_rank=4, lora_target=targets).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("targets", ["all", "q_proj", ["v_proj", "down_proj"]], ids=str)
def test_an_adapter_on_some_layers_is_merged_where_it_is(tmp_path: Path, targets: str | list[str]) -> None:
    model = _with_adapter(tiny.text_model(tmp_path), targets)
    packed = pack(PROMPTS)
    with torch.no_grad():
        hidden = model.backbone.hidden(packed)[torch.tensor(packed.lengths).cumsum(0) - 1]
        expected = hidden @ model.backbone.head.T
    assert_close(Decoder(model, ADAPTER).prefill(packed, 1, 1), expected, atol=2e-5, rtol=0)
    bare = _whole(_plain(tmp_path / "llama"))[0]
    assert_close(Decoder(model, None).prefill(packed, 1, 1), bare, atol=2e-5, rtol=0)
    assert float((expected - bare).abs().max()) > 0.05


def test_copies_share_what_was_read(tmp_path: Path) -> None:
    decoder = Decoder(tiny.text_model(tmp_path), None)
    once = _steps(decoder)
    logits = decoder.prefill(pack(PROMPTS), 2, 6)
    assert torch.equal(logits, once[0].repeat_interleave(2, 0))
    for step in range(6):
        logits = decoder.step(FOLLOWING[:, step].repeat_interleave(2))
        assert_close(logits, once[step + 1].repeat_interleave(2, 0), atol=1e-5, rtol=0)


def test_rows_that_leave_do_not_change_the_others(tmp_path: Path) -> None:
    decoder = Decoder(tiny.text_model(tmp_path), None)
    expected = _steps(decoder)
    decoder.prefill(pack(PROMPTS), 1, 6)
    decoder.step(FOLLOWING[:, 0])
    decoder.keep(torch.tensor([0, 2]))
    assert_close(decoder.step(FOLLOWING[[0, 2], 1]), expected[2, [0, 2]], atol=1e-5, rtol=0)
    decoder.keep(torch.tensor([1]))
    assert_close(decoder.step(FOLLOWING[[2], 2]), expected[3, [2]], atol=1e-5, rtol=0)
    assert decoder.cache.lengths.tolist() == [len(PROMPTS[2].ids) + 3]


def test_beyond_a_sliding_window_is_refused(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    model.backbone.language.config.sliding_window = 48
    decoder = Decoder(model, None)
    decoder.prefill(pack(PROMPTS), 1, 8)
    with pytest.raises(UserError, match="49 tokens exceeds this model's sliding window of 48; lower cutoff_len"):
        decoder.prefill(pack(PROMPTS), 1, 9)
