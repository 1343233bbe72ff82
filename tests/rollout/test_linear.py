"""Linear layers of the decoder: whole weights, and weights of 8 bits for few rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

import tiny
from bessemer.data.batches import pack
from bessemer.rollout.decoder import Decoder
from bessemer.rollout.linear import Linear, eight_bits
from bessemer.rollout.sampler import DecoderSampler, Sampling, sampler_for

PROMPTS = tiny.sequences([7, 40, 2], seed=3)


def test_eight_bits_by_hand() -> None:
    """Half a step at most is lost; each output has its own scale; a row of zeros stays one."""
    weight = torch.tensor([[127.0, -63.4, 0.6], [0.0, 0.0, 0.0], [-2.54, 0.01, 1.27]])
    levels, scales = eight_bits(weight)
    assert levels.dtype == torch.int8 and levels.tolist() == [[127, -63, 1], [0, 0, 0], [-127, 0, 64]]
    assert_close(scales[[0, 2]], torch.tensor([1.0, 0.02]))
    assert bool(((levels * scales[:, None] - weight).abs() <= 0.5 * scales[:, None] + 1e-6).all())


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("biased", [False, True])
def test_the_product_is_that_of_the_rounded_weights(rows: int, biased: bool) -> None:
    """Beside float64 with weights as levels times scales; what is left is the rounding of the result."""
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 64, generator=generator).bfloat16()
    bias = torch.randn(96, generator=generator).bfloat16() if biased else None
    x = torch.randn(rows, 64, generator=generator).bfloat16()
    linear = Linear(weight, bias, int8=True)
    levels, scales = eight_bits(weight)
    rounded = levels.double() * scales.double()[:, None]
    expected = functional.linear(x.double(), rounded, None if bias is None else bias.double())
    assert_close(linear(x, narrow=True).double(), expected, atol=0.07, rtol=0.01)
    whole = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert_close(linear(x).double(), whole, atol=0.07, rtol=0.01)
    # the difference that 8 bits make is larger than that of the products' rounding
    assert float((expected - whole).norm()) > 0 and not torch.equal(linear(x, narrow=True), linear(x))


def test_where_there_are_no_eight_bits_the_weights_are_whole() -> None:
    weight, x = torch.randn(8, 16), torch.randn(3, 16)
    assert torch.equal(Linear(weight, None, int8=True)(x, narrow=True), Linear(weight)(x))


@pytest.mark.parametrize("natural", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_float32_in_onednns_order_where_it_is_the_natural_type(
    monkeypatch: pytest.MonkeyPatch, rows: int, natural: bool
) -> None:
    monkeypatch.setattr("bessemer.rollout.linear.multiplies_bfloat16", lambda device: not natural)
    generator = torch.Generator().manual_seed(rows)
    weight, bias, x = (torch.randn(*shape, generator=generator) for shape in ((96, 64), (96,), (rows, 64)))
    for added in (None, bias):
        linear = Linear(weight, added)
        assert linear.reordered == natural
        wide = functional.linear(x.double(), weight.double(), None if added is None else added.double())
        assert_close(linear(x).double(), wide, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_steps_of_few_rows_are_those_of_the_rounded_model(tmp_path: Path, kind: str) -> None:
    """The same model with its weights rounded beforehand; prompts are read whole in both, so that caches are alike."""
    following = torch.randint(3, 259, (5,), generator=torch.Generator().manual_seed(8))

    def steps(decoder: Decoder, prompts: int) -> torch.Tensor:
        read = [decoder.prefill(pack(PROMPTS[:prompts]), 1, 6)]
        return torch.stack(read + [decoder.step(token.expand(prompts)) for token in following])

    model = tiny.text_model(tmp_path, kind, "bf16")
    whole, small = steps(Decoder(model, None), 1), steps(Decoder(model, None, int8=True), 1)
    assert torch.equal(whole[0], small[0])  # the prompt
    rounded = Decoder(model, None, int8=True)
    for layer in rounded.layers:
        for linear in (layer.qkv, layer.out, layer.gate_up, layer.down):
            _dequantise(linear)
    _dequantise(rounded.head)
    reference = Decoder(model, None)
    reference.prefill(pack(PROMPTS[:1]), 1, 6)
    rounded.cache = reference.cache
    rounded.cos, rounded.sin = reference.cos, reference.sin
    expected = torch.stack([rounded.step(token[None]) for token in following])
    error = float((small[1:] - expected).norm() / expected.norm())
    assert error < 0.02
    assert float((small[1:] - whole[1:]).norm() / whole[1:].norm()) > 1e-4
    # three rows: whole weights again, bit for bit
    assert torch.equal(steps(Decoder(model, None), 3), steps(Decoder(model, None, int8=True), 3))


def test_every_product_of_a_step_is_narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four in each of two layers and the head; none while the prompt is read."""
    asked: list[bool] = []
    call = Linear.__call__

    def watched(self: Linear, x: torch.Tensor, narrow: bool = False) -> torch.Tensor:
        asked.append(narrow)
        return call(self, x, narrow)

    monkeypatch.setattr(Linear, "__call__", watched)
    decoder = Decoder(tiny.text_model(tmp_path, dtype="bf16"), None, int8=True)
    decoder.prefill(pack(PROMPTS[:1]), 1, 6)
    decoder.step(torch.tensor([5]))
    assert asked == [False] * 9 + [True] * 9


def _dequantise(linear: Linear) -> None:
    assert linear.small is not None
    levels, scales = linear.small
    linear.weight, linear.reordered, linear.small = (levels * scales[:, None]).to(scales.dtype), False, None


def test_a_batch_that_shrinks_does_not_change_its_weights(tmp_path: Path) -> None:
    """Who began beside four others ends with whole weights, though alone."""
    model = tiny.text_model(tmp_path, dtype="bf16")
    prompts = tiny.sequences([9] * 5, seed=1)
    sampling = Sampling(40, 0.0, limits=(40, 2, 2, 2, 2))
    whole = DecoderSampler(model, None).sample(pack(prompts), sampling, -1)
    assert DecoderSampler(model, None, int8=True).sample(pack(prompts), sampling, -1) == whole


def test_a_sampler_is_asked_for_eight_bits(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path, dtype="bf16")
    sampler = sampler_for(model, None, int8=True)
    assert isinstance(sampler, DecoderSampler) and sampler.decoder.int8
    sampler.refresh()
    assert sampler.decoder.int8 and sampler.decoder.head.small is not None
    plain = sampler_for(model)
    assert isinstance(plain, DecoderSampler) and plain.decoder.head.small is None
