"""Options of sampling, in both samplers; answers as streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from bessemer.data.batches import pack
from bessemer.data.images import image_ref
from bessemer.data.records import Message, Prompt
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import Model
from bessemer.rollout.answers import Answers
from bessemer.rollout.collect import sample_answers, stream_answer
from bessemer.rollout.sampler import DecoderSampler, Sampler, Sampling, TransformersSampler, stream
from bessemer.rollout.text import answer_text

pytestmark = pytest.mark.usefixtures("operations")

PROMPTS = tiny.sequences([7, 21, 2, 12], seed=3)


def _samplers(model: Model) -> list[Sampler]:
    return [DecoderSampler(model, None), TransformersSampler(model)]


def test_the_penalty_is_that_of_generate(tmp_path: Path) -> None:
    """Greedy, each prompt alone in transformers' `generate`; prompts hold what the penalty is to see."""
    model = tiny.text_model(tmp_path)
    network: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    expected, plain = [], []
    for prompt in PROMPTS:
        ids = torch.tensor(prompt.ids)[None]
        for penalty, found in ((1.7, expected), (1.0, plain)):
            output = network.generate(
                ids, do_sample=False, max_new_tokens=20, eos_token_id=-1, pad_token_id=0, repetition_penalty=penalty,
                attention_mask=torch.ones_like(ids),
            )  # fmt: skip
            found.append(tuple(output[0, ids.shape[1] :].tolist()))
    assert expected != plain
    for sampler in _samplers(model):
        answers = sampler.sample(pack(PROMPTS), Sampling(20, 0.0, repetition_penalty=1.7), -1, copies=2).answers
        assert answers == tuple(answer for answer in expected for _ in range(2))


def test_all_options_at_once_draw_the_same_in_both(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    sampling = Sampling(12, 1.3, 60, 0.95, 5, min_p=0.02, repetition_penalty=1.3, stop=("e", "ü", "o "))
    fast, plain = (sampler.sample(pack(PROMPTS), sampling, 2, copies=4) for sampler in _samplers(model))
    assert fast == plain and len({len(answer) for answer in fast.answers}) > 3
    assert set(fast.ended) == {True, False}


def test_an_answer_stops_with_the_token_that_completes_a_text(tmp_path: Path) -> None:
    """It is the beginning of what is said without the option, up to there; and it has ended."""
    model = tiny.text_model(tmp_path)
    words = model.tokenizer
    for sampler in _samplers(model):
        free = sampler.sample(pack(PROMPTS), Sampling(30, 1.0, seed=1), 2, copies=6)
        texts = [words.decode(answer, skip_special_tokens=True) for answer in free.answers]
        mark = next(text[7:9] for text in texts if len(text) > 20 and text[7:9].isascii())
        found = sampler.sample(pack(PROMPTS), Sampling(30, 1.0, seed=1, stop=(mark, "e")), 2, copies=6)
        stopped = 0
        for text, longer, answer, ended in zip(texts, free.answers, found.answers, found.ended, strict=True):
            ends = [text.index(one) + len(one) for one in (mark, "e") if one in text]
            assert longer[: len(answer)] == answer
            assert ended == (bool(ends) or answer[-1] == 2)
            said = words.decode(answer, skip_special_tokens=True)
            assert said == (text[: min(ends)] if ends else text)
            stopped += bool(ends)
        assert stopped > 3


def test_a_prompt_with_a_photograph_is_penalised_for_its_text_alone(tmp_path: Path) -> None:
    """The ids in the places of visual tokens stand for nothing; token 0 is what they happen to be."""
    model = tiny.composed_model(tmp_path)
    photograph = sorted(tiny.photographs(tmp_path / "photos", 1).rglob("*.png"))[0]
    feed = Feed(model, tmp_path, tmp_path / "cache")
    prompt = feed.renderer.prompt([Message("user", "?", (image_ref(photograph, tmp_path),))])
    answers = Answers(feed.pack([prompt]), 1, Sampling(2, 0.0, repetition_penalty=1e6), -1, model.tokenizer)
    logits = torch.ones(1, 262)
    logits[0, prompt.ids[-1]], logits[0, 0] = 3.0, 2.0
    # the likeliest is in the question; once token 0 was said, it is one of those that lose
    assert answers.extend(torch.tensor([0]), logits).tolist() == [0]
    assert answers.extend(torch.tensor([0]), logits).item() not in (0, *prompt.ids)


def test_every_token_is_drawn_by_a_number_of_its_own() -> None:
    """Of 64 equal shares each number names one; row by row from the first of the seed's numbers to the last."""
    answers = Answers(pack(PROMPTS[:2]), 2, Sampling(5, 1.0, seed=3), -1, None)
    for _ in range(5):
        answers.extend(torch.arange(4), torch.zeros(4, 64))
    numbers = torch.rand(4, 5, generator=torch.Generator().manual_seed(3))
    assert answers.ids == (64 * numbers).long().tolist() and not answers.open.any()


@pytest.mark.parametrize("stop", [(), ("e", "ü")], ids=["to the end", "stopped"])
def test_a_stream_is_the_answer(tmp_path: Path, stop: tuple[str, ...]) -> None:
    """Token by token and piece by piece, for several seeds; no half characters in between."""
    model = tiny.text_model(tmp_path)
    feed = Feed(model, tmp_path, tmp_path / "cache")
    prompt = Prompt("p", (Message("user", "裂纹?"),))
    packed = feed.pack([feed.renderer.prompt(prompt.messages)])
    several = 0
    for sampler in _samplers(model):
        for seed in range(6):
            sampling = Sampling(25, 1.0, seed=seed, repetition_penalty=1.2, stop=stop)
            whole = sampler.sample(packed, sampling, feed.renderer.end_id)
            pieces = list(stream(sampler, packed, sampling, feed.renderer.end_id))
            assert tuple(piece.token for piece in pieces) == whole.answers[0]
            text = answer_text(model.tokenizer, whole.answers[0], stop)
            assert "".join(piece.text for piece in pieces) == text
            several += sum(bool(piece.text) for piece in pieces) > 1
            answer = sample_answers(sampler, feed, [prompt], sampling)[0]
            assert "".join(stream_answer(sampler, feed, prompt, sampling)) == answer.text
    assert several > 5
    with pytest.raises(ValueError, match="4 prompts, expected one"):
        next(stream(sampler, pack(PROMPTS), sampling, 2))


def test_a_stream_that_is_left_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    before = model.backbone.language.config._attn_implementation
    pieces = stream(TransformersSampler(model), pack(PROMPTS[:1]), Sampling(9, 0.0), -1)
    assert next(pieces).token >= 0
    assert torch.is_grad_enabled()
    pieces.close()  # type: ignore[attr-defined]
    assert model.backbone.language.config._attn_implementation == before


def test_options_that_are_off_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is decoded, no token is marked as said."""
    model = tiny.text_model(tmp_path)
    for name in ("bessemer.rollout.text.AnswerText.push", "bessemer.rollout.answers.Answers._mask"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("called"))
    for sampler in _samplers(model):
        assert len(sampler.sample(pack(PROMPTS), Sampling(3, 0.5), 2).answers) == 4


def test_options_without_a_meaning_are_refused() -> None:
    with pytest.raises(UserError, match=r"min_p=1.5, expected a number from 0 \(all tokens\) to 1"):
        Sampling(min_p=1.5)
    with pytest.raises(UserError, match="temperature=nan, expected a number of at least 0"):
        Sampling(temperature=float("nan"))


def test_the_logits_of_watched_tokens_are_those_of_the_first_step(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    prompts = tiny.packed([5, 9, 3])
    watched = (7, 2)
    for sampler in _samplers(model):
        for rows in (0, 1):  # one at a time: those that wait have a first step of their own
            how = Sampling(4, 0.7, top_k=1, watched=watched)
            found = sampler.sample(prompts, how, -1, rows=rows)
            last = torch.tensor(prompts.lengths).cumsum(0) - 1
            with torch.no_grad():
                logits = model.backbone.hidden(prompts)[last] @ model.backbone.head.T
            assert torch.allclose(torch.tensor(found.first), logits[:, list(watched)].float(), atol=1e-4)
    assert DecoderSampler(model, None).sample(prompts, Sampling(4), -1).first == ((), (), ())
