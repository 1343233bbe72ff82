"""Rows that end are given to prompts that wait: fuller batches, the same answers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from bessemer.data.batches import Packed, pack
from bessemer.data.images import image_ref
from bessemer.data.records import Message, Prompt
from bessemer.models.feed import Feed
from bessemer.models.model import Model
from bessemer.rollout.answers import Answers
from bessemer.rollout.collect import sample_answers
from bessemer.rollout.sampler import DecoderSampler, Sampling, TransformersSampler

pytestmark = pytest.mark.usefixtures("operations")

PROMPTS = tiny.sequences([7, 21, 2, 12, 5, 30, 9, 3, 17, 4, 8, 11, 40, 6, 7, 1, 19, 10], seed=3)
LIMITS = tuple(2 + 7 * n % 23 for n in range(len(PROMPTS)))


def _watched(sampler: DecoderSampler, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the decoder is asked to do: ("read", prompts) and ("step", rows)."""
    calls: list[tuple[str, int]] = []
    read, step = sampler.decoder.read, sampler.decoder.step

    def reads(prompts: Packed, copies: int, rows: Tensor) -> Tensor:
        calls.append(("read", len(prompts.lengths)))
        return read(prompts, copies, rows)

    def steps(tokens: Tensor) -> Tensor:
        calls.append(("step", len(tokens)))
        return step(tokens)

    monkeypatch.setattr(sampler.decoder, "read", reads)
    monkeypatch.setattr(sampler.decoder, "step", steps)
    return calls


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("rows", [1, 3, 8, 17, 18, 40])
def test_rows_in_flight_change_no_answer(tmp_path: Path, kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.text_model(tmp_path, kind)
    sampler = DecoderSampler(model, None)
    options: list[dict[str, Any]] = [{}, {"repetition_penalty": 1.3, "stop": ("e", "7"), "top_p": 0.9}]
    for extra in options:
        sampling = Sampling(24, 0.8, seed=4, limits=LIMITS, **extra)
        expected = sampler.sample(pack(PROMPTS), sampling, 2)
        with monkeypatch.context() as patch:
            calls = _watched(sampler, patch)
            assert sampler.sample(pack(PROMPTS), sampling, 2, rows=rows) == expected
        assert max(count for name, count in calls if name == "step") <= rows
        assert sum(count for name, count in calls if name == "read") == len(PROMPTS)
        assert len({len(answer) for answer in expected.answers}) > 8


@pytest.mark.parametrize("rows", [1, 5, 6, 9, 36])
def test_copies_of_a_prompt_come_together(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt is read once; a batch smaller than the copies of one prompt holds that prompt alone."""
    model = tiny.text_model(tmp_path)
    prompts, sampling = PROMPTS[:9], Sampling(20, 0.8, seed=4, limits=(LIMITS + LIMITS)[:27])
    plain = TransformersSampler(model).sample(pack(prompts), sampling, 2, copies=3, rows=rows)
    sampler = DecoderSampler(model, None)
    calls = _watched(sampler, monkeypatch)
    assert sampler.sample(pack(prompts), sampling, 2, copies=3, rows=rows) == plain
    assert sum(count for name, count in calls if name == "read") == 9
    assert max(count for name, count in calls if name == "step") <= max(3, rows)
    monkeypatch.undo()
    assert TransformersSampler(model).sample(pack(prompts), sampling, 2, copies=3) == plain


def test_the_batch_stays_full_while_prompts_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 requests, one of them long, 4 rows: the long one does not hold up the others, which take turns beside it."""
    sampler = DecoderSampler(tiny.text_model(tmp_path), None)
    prompts = tiny.sequences([5] * 16, seed=1)
    limits = (60, *([4] * 15))
    calls = _watched(sampler, monkeypatch)
    samples = sampler.sample(pack(prompts), Sampling(60, 1.0, limits=limits), -1, rows=4)
    assert tuple(map(len, samples.answers)) == limits
    assert sum(name == "step" for name, _ in calls) == 59  # as many as the long one needs
    # 15 short ones in 3 rows are 5 rounds of 4 tokens, the first of which comes with reading
    waited = [name for name, _ in calls][: [name for name, _ in calls].index("read", 1)]
    assert waited == ["read", "step", "step", "step"]
    assert [count for name, count in calls if name == "read"] == [4, 3, 3, 3, 3]
    # when nobody waits, rows that ended leave: the long one ends alone
    assert calls[-1] == ("step", 1)


def _composed(tmp_path: Path) -> tuple[Model, Feed, list[Prompt]]:
    model = tiny.composed_model(tmp_path)
    photographs = sorted(tiny.photographs(tmp_path / "photos", 8).rglob("*.png"))
    images = [image_ref(path, tmp_path) for path in photographs]
    seen: list[tuple[Any, ...]] = [(images[0],), (), (images[1], images[2]), (images[3],), (), (), (images[4],)]
    prompts = [Prompt(f"p{n}", (Message("user", "裂纹" + "?" * n, shown),)) for n, shown in enumerate(seen)]
    return model, Feed(model, tmp_path, tmp_path / "cache"), prompts


@pytest.mark.parametrize("pixels", [False, True], ids=["features", "pixels"])
def test_images_go_with_their_prompts(tmp_path: Path, pixels: bool) -> None:
    """Prompts with one image, two and none, two rows in flight: each answer is the one to its prompt alone."""
    model, feed, prompts = _composed(tmp_path)
    if pixels:
        feed.use_pixels()
    greedy = Sampling(9, 0.0)
    for sampler in (DecoderSampler(model, None), TransformersSampler(model)):
        together = sample_answers(sampler, feed, prompts, greedy, batch_size=2)
        alone = [sample_answers(sampler, feed, [prompt], greedy)[0] for prompt in prompts]
        assert together == alone
        assert len({answer.ids for answer in together}) > 3
    assert sample_answers(sampler, feed, [], greedy) == []
    packed = feed.pack([feed.renderer.prompt(prompt.messages) for prompt in prompts])
    fast = DecoderSampler(model, None)
    assert fast.sample(packed, greedy, -1, copies=2, rows=4) == fast.sample(packed, greedy, -1, copies=2)


def test_an_answer_that_ends_with_its_first_token_frees_its_row(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    limits = tuple(1 if n % 3 else 5 for n in range(len(PROMPTS)))
    sampling = Sampling(5, 1.0, seed=2, limits=limits)
    for rows in (1, 2, 4):
        samples = DecoderSampler(model, None).sample(pack(PROMPTS), sampling, -1, rows=rows)
        assert samples == DecoderSampler(model, None).sample(pack(PROMPTS), sampling, -1)
    ones = Sampling(1, 1.0, seed=2)
    assert DecoderSampler(model, None).sample(pack(PROMPTS), ones, -1, rows=4) == TransformersSampler(model).sample(
        pack(PROMPTS), ones, -1
    )
    assert torch.is_grad_enabled()


def test_nobody_waits_for_a_row_that_has_ended(tmp_path: Path) -> None:
    """One of eight rows, the longest, ends first and rides along: from then on no step reads as far as it did."""
    sampler = DecoderSampler(tiny.text_model(tmp_path), None)
    prompts = pack(tiny.sequences([60, *([4] * 7)], seed=1))
    answers = Answers(prompts, 1, Sampling(12, 1.0, limits=(2, *([12] * 7))), -1, None)
    longest = [int(sampler.decoder.cache.lengths.max()) for _ in sampler.decode(prompts, answers)]
    assert longest[:2] == [60, 61] and len(sampler.decoder.cache.lengths) == 8
    assert longest[2:] == [4 + step for step in range(2, 12)]


@pytest.mark.parametrize("pixels", [False, True], ids=["features", "pixels"])
def test_images_of_ours_take_no_more_rows_than_are_asked_for(
    tmp_path: Path, pixels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through transformers too, for architectures that the fast decoder does not know."""
    model, feed, prompts = _composed(tmp_path)
    if pixels:
        feed.use_pixels()
    packed = feed.pack([feed.renderer.prompt(prompt.messages) for prompt in prompts])
    sampler, sampling = TransformersSampler(model), Sampling(5, 1.0, seed=2)
    expected = sampler.sample(packed, sampling, -1, copies=2)
    seen: list[int] = []
    forward = model.backbone.language.forward

    @functools.wraps(forward)
    def watched(*args: Any, **given: Any) -> Any:
        seen.append(len(given["attention_mask"]))
        return forward(*args, **given)

    monkeypatch.setattr(model.backbone.language, "forward", watched)
    assert sampler.sample(packed, sampling, -1, copies=2, rows=3) == expected
    assert set(seen) == {3, 1}
