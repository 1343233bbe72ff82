"""Filters beside transformers' own processors; draws by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import GenerationConfig
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bessemer.algos.sampling import draw, filter_logits, penalise_repetition

pytestmark = pytest.mark.usefixtures("operations")

LOGITS = 3.0 * torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"top_k": 7},
    {"top_k": 900},
    {"top_p": 0.9},
    {"top_p": 0.3},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.5, "top_p": 0.95, "min_p": 0.01},
]
WARPERS: dict[str, Any] = {
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_filters_are_those_of_transformers(options: dict[str, Any]) -> None:
    """The same tokens are left, with the same probabilities."""
    expected = LOGITS
    for name, value in options.items():
        expected = WARPERS[name](value)(torch.zeros(5, 0), expected)
    found = filter_logits(LOGITS, **options)
    assert torch.equal(found.isinf(), expected.isinf())
    assert_close(torch.softmax(found, -1), torch.softmax(expected, -1), atol=1e-7, rtol=1e-5)


def test_the_order_is_that_of_generate() -> None:
    """Where the order matters: the list that `generate` itself makes of the same options."""
    from transformers import LlamaConfig, LlamaForCausalLM

    network = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    asked = GenerationConfig(
        do_sample=True, temperature=2.0, top_k=30, top_p=0.7, min_p=0.2, repetition_penalty=1.8, num_beams=1
    )
    processors: LogitsProcessorList = network._get_logits_processor(asked, input_ids_seq_length=4)
    wanted = [RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper]
    assert [type(one) for one in processors] == [*wanted, MinPLogitsWarper]
    ids = torch.randint(300, (5, 40), generator=torch.Generator().manual_seed(1))
    said = torch.zeros(5, 300, dtype=torch.bool).scatter_(1, ids, True)
    expected = processors(ids, LOGITS.clone())
    found = filter_logits(penalise_repetition(LOGITS, said, 1.8), 2.0, 30, 0.7, 0.2)
    assert torch.equal(found.isinf(), expected.isinf())
    assert_close(torch.softmax(found, -1), torch.softmax(expected, -1), atol=1e-7, rtol=1e-5)
    swapped = penalise_repetition(filter_logits(LOGITS, 2.0, 30, 0.7, 0.2), said, 1.8)
    assert not torch.equal(swapped.isinf(), expected.isinf())


def test_repetition_penalty_by_hand() -> None:
    """Said tokens: a positive logit is halved, a negative one doubled; nobody else's changes."""
    logits = torch.tensor([[3.0, -3.0, 3.0, -3.0, 0.0]])
    said = torch.tensor([[True, True, False, False, True]])
    assert penalise_repetition(logits, said, 2.0).tolist() == [[1.5, -6.0, 3.0, -3.0, 0.0]]


def test_top_p_of_a_flat_row_beyond_the_leaders() -> None:
    """4000 tokens, nearly alike: three quarters of them are needed, more than are sorted first."""
    logits = 0.001 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(2))
    expected = TopPLogitsWarper(0.75)(torch.zeros(2, 0), logits)
    found = filter_logits(logits, top_p=0.75)
    assert abs(int((found > float("-inf")).sum()) - int((expected > float("-inf")).sum())) <= 2
    assert int((found > float("-inf")).sum()) > 5900
    steep = torch.cat([logits, 50 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(3))])
    assert torch.equal(filter_logits(steep, top_p=0.75)[:2], found)


def test_the_most_likely_token_always_stays() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    for options in ({"top_p": 1e-9}, {"min_p": 1.0}, {"top_k": 1}):
        assert filter_logits(logits, **options).isinf().tolist() == [[True, True, True, False]]  # type: ignore[arg-type]


def test_draw_by_hand() -> None:
    """Shares 0.1, 0.2, 0.3, 0.4: a number falls where the running sum passes it."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(5, 4)
    numbers = torch.tensor([0.0, 0.0999, 0.1001, 0.5999, 0.9999999])
    assert draw(logits, numbers).tolist() == [0, 0, 1, 2, 3]


def test_draw_at_a_temperature() -> None:
    """At a half the shares are the squares: 1/30, 4/30, 9/30, 16/30."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(4, 4)
    numbers = torch.tensor([0.0332, 0.0335, 0.1668, 0.4668])
    assert draw(logits, numbers, 0.5).tolist() == [0, 1, 2, 3]


def test_draw_never_takes_what_has_no_probability() -> None:
    """41 equal shares add up to the largest number that can be drawn, 1 - 2^-24: it is still that of the last."""
    equal = torch.tensor([0.0] * 41 + [float("-inf")] * 2)
    assert draw(equal[None], torch.tensor([1 - 2**-24])).tolist() == [40]


@pytest.mark.parametrize("count", [1, 7, 255, 256, 257, 512, 700, 701])
def test_draw_is_where_the_running_sum_passes(count: int) -> None:
    """Blocks and a rest, tokens that may not be drawn among them: the place that one long running sum gives."""
    generator = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(400, count, generator=generator)
    if count > 1:
        logits[:, 1::3] = float("-inf")
    numbers = torch.rand(400, generator=generator)
    sums = torch.softmax(logits.double(), -1).cumsum(-1)
    drawn, exact = draw(logits, numbers), (sums <= numbers.double()[:, None]).sum(-1)
    # rounding may move a number that lies within 1e-6 of a sum over it
    near = (sums - numbers.double()[:, None]).abs().amin(-1) < 1e-6
    assert torch.equal(drawn[~near], exact[~near]) and int(near.sum()) < 8
    assert bool(torch.isfinite(logits.gather(-1, drawn[:, None])).all())
