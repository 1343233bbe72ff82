"""Who generates, and what is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, GPT2Config

import tiny
from bessemer.algos.head import linear_logprobs
from bessemer.data.batches import pack, pack_answers, response_rows
from bessemer.data.images import image_ref, load_image
from bessemer.data.records import Message
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, Model, load_model
from bessemer.models.roles import speaking
from bessemer.models.tuning import tune_language
from bessemer.rollout.sampler import DecoderSampler, Sampling, TransformersSampler, _slower, choose, sampler_for
from tiny_vision import MODELS, noise

pytestmark = pytest.mark.usefixtures("operations")

END = 2
KINDS = ["llama", "qwen2", "qwen3", "linear", "yarn", "llama3"]
PROMPTS = tiny.sequences([7, 21, 2, 12], seed=3)


def _generate(network: Any, prompt: Tensor, steps: int, end_id: int, **inputs: Any) -> list[int]:
    """transformers' own greedy answer to one prompt."""
    output = network.generate(
        prompt[None] if not inputs else None, **inputs, do_sample=False, max_new_tokens=steps,
        eos_token_id=end_id, pad_token_id=0, attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
    )  # fmt: skip
    answer: list[int] = output[0].tolist()
    return answer if inputs else answer[len(prompt) :]


def _taught(model: Model) -> Model:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in tune_language(model, "lora", lora_rank=4).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _a_token_that_is_said(model: Model, after: int = 6) -> int:
    """A token of the first greedy answer, to be the end token, so that answers end at different lengths."""
    samples = TransformersSampler(model).sample(pack(PROMPTS), Sampling(after, 0.0), end_id=-1)
    return samples.answers[0][-1]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_transformers_own(tmp_path: Path, kind: str) -> None:
    """Token for token, each prompt alone in `generate`; one answer ends early, as its end token is chosen."""
    model = tiny.text_model(tmp_path, kind)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    end = _a_token_that_is_said(model)
    expected = [_generate(network, torch.tensor(p.ids), 20, end) for p in PROMPTS]
    assert len({len(answer) for answer in expected}) > 1 and len({tuple(answer) for answer in expected}) > 1
    for sampler in (DecoderSampler(model, None), TransformersSampler(model)):
        samples = sampler.sample(pack(PROMPTS), Sampling(20, 0.0), end)
        assert [list(answer) for answer in samples.answers] == expected
        assert samples.ended == tuple(answer[-1] == end for answer in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_of_an_adapter_are_those_of_the_merged_model(tmp_path: Path, kind: str) -> None:
    model = _taught(tiny.text_model(tmp_path, kind))
    assert model.lora is not None
    network = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    bare = [_generate(network, torch.tensor(p.ids), 12, -1) for p in PROMPTS]
    for layer in model.lora.shapes:
        module = network.get_submodule(layer)
        module.weight.data = model.lora.merged(ADAPTER, layer, module.weight)
    expected = [_generate(network, torch.tensor(p.ids), 12, -1) for p in PROMPTS]
    assert expected != bare
    for sampler in (DecoderSampler(model, ADAPTER), TransformersSampler(model, ADAPTER)):
        assert [list(a) for a in sampler.sample(pack(PROMPTS), Sampling(12, 0.0), -1).answers] == expected
    for sampler in (DecoderSampler(model, None), TransformersSampler(model, None)):
        assert [list(a) for a in sampler.sample(pack(PROMPTS), Sampling(12, 0.0), -1).answers] == bare
    assert model.lora.active == ADAPTER  # who spoke before speaks again
    with torch.no_grad():
        fresh = _taught(tiny.text_model(tmp_path / "again", kind)).backbone.hidden(pack(PROMPTS))
        assert_close(model.backbone.hidden(pack(PROMPTS)), fresh, atol=1e-5, rtol=0)  # by packed attention again


def test_greedy_answers_behind_an_image(tmp_path: Path) -> None:
    model = tiny.composed_model(tmp_path)
    folder = tiny.photographs(tmp_path / "photos", 2)
    images = [image_ref(path, tmp_path) for path in sorted(folder.rglob("*.png"))]
    feed = Feed(model, tmp_path, tmp_path / "cache")
    talks = [[Message("user", "有裂纹吗？", (image,))] for image in images] + [[Message("user", "No image.")]]
    rendered = [feed.renderer.prompt(talk) for talk in talks]
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    expected = []
    for one in rendered:
        packed = feed.pack([one])
        with torch.no_grad():
            embeddings = network.get_input_embeddings()(packed.ids)
            if one.images:
                embeddings[packed.image_rows] = model.backbone.projector(packed.model_inputs["features"])[0]
        expected.append(_generate(network, packed.ids, 12, -1, inputs_embeds=embeddings[None]))
    for sampler in (DecoderSampler(model, None), TransformersSampler(model)):
        assert [list(a) for a in sampler.sample(feed.pack(rendered), Sampling(12, 0.0), -1).answers] == expected
    assert expected[0] != expected[2]


def test_greedy_answers_with_learned_positions(tmp_path: Path) -> None:
    """GPT-2 runs padded on the left: its positions must not count the padding."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=262, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "gpt2")
    tiny.tokenizer().save_pretrained(tmp_path / "gpt2")
    model = load_model(str(tmp_path / "gpt2"), "fp32")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").eval()
    expected = [_generate(network, torch.tensor(p.ids), 12, -1) for p in PROMPTS]
    sampler = sampler_for(model)
    assert isinstance(sampler, TransformersSampler)
    assert [list(a) for a in sampler.sample(pack(PROMPTS), Sampling(12, 0.0), -1).answers] == expected


@pytest.mark.parametrize("name", MODELS)
def test_a_pretrained_vision_language_model_answers(tmp_path: Path, name: str) -> None:
    """Prompts with two images, one and none, and copies: as its own `generate` with its own processor."""
    directory = MODELS[name](tmp_path / name)
    model = load_model(str(directory), "fp32")
    images = noise(tmp_path, [(8, 8), (40, 24), (16, 40)])
    talks = [[Message("user", "a?", tuple(images[:2]))], [Message("user", "bb?")], [Message("user", "c", (images[2],))]]
    network = AutoModelForImageTextToText.from_pretrained(directory).eval()
    processor: Any = AutoProcessor.from_pretrained(directory)
    expected = []
    for ((message,),) in zip(talks, strict=True):
        parts = [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.text}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        pictures = [load_image(image, tmp_path) for image in message.images]
        inputs = processor(text=text, images=pictures or None, return_tensors="pt", add_special_tokens=False)
        output = network.generate(**inputs, do_sample=False, max_new_tokens=8, eos_token_id=261, pad_token_id=0)
        expected.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    feed = Feed(model, tmp_path, tmp_path / "cache")
    rendered = [feed.renderer.prompt(talk) for talk in talks]
    samples = sampler_for(model).sample(feed.pack(rendered), Sampling(8, 0.0), 261, copies=2)
    assert [list(answer) for answer in samples.answers] == [answer for answer in expected for _ in range(2)]
    assert len({tuple(answer) for answer in expected}) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [Sampling(15, 1.0), Sampling(15, 0.6, 5, 0.9, 7)], ids=["whole", "cut"])
def test_both_samplers_draw_the_same(tmp_path: Path, kind: str, sampling: Sampling) -> None:
    model = _taught(tiny.text_model(tmp_path, kind))
    end = _a_token_that_is_said(model)
    samples = [
        sampler.sample(pack(PROMPTS), sampling, end, copies=3)
        for sampler in (DecoderSampler(model, ADAPTER), TransformersSampler(model, ADAPTER))
    ]
    assert samples[0] == samples[1] and len(samples[0].answers) == 12
    assert len(set(samples[0].answers)) > 8


def test_an_answer_ends_once_or_not_at_all(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    end = _a_token_that_is_said(model, 3)
    sampler = DecoderSampler(model, None)
    seen = set()
    for seed in range(4):
        samples = sampler.sample(pack(PROMPTS), Sampling(25, 0.5, seed=seed), end, copies=6)
        for answer, ended in zip(samples.answers, samples.ended, strict=True):
            assert answer.count(end) == ended and (answer[-1] == end) == ended
            assert 1 <= len(answer) <= 25 and (ended or len(answer) == 25)
            seen.add(ended)
    assert seen == {True, False}


def test_what_a_row_says_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    """The same numbers, so the same words: alone, beside others, and whether ended rows have left the batch."""
    model = tiny.text_model(tmp_path)
    sampler = DecoderSampler(model, None)
    prompts = tiny.sequences([7, 21, 2, 12, 5, 30, 9, 3, 17, 4, 8, 11], seed=3)
    sampling = Sampling(30, 0.4, seed=11)
    # ended rows never leave: nothing ends
    free = sampler.sample(pack(prompts), sampling, -1)
    end = Counter(token for answer in free.answers for token in answer[:15]).most_common(1)[0][0]
    together = sampler.sample(pack(prompts), sampling, end)
    assert sum(together.ended) > 4 and len({len(answer) for answer in together.answers}) > 3
    for answer, longer in zip(together.answers, free.answers, strict=True):
        assert longer[: len(answer)] == answer
    # a prompt alone has the first row's numbers
    assert sampler.sample(pack(prompts[:1]), sampling, end).answers[0] == together.answers[0]
    for row in (1, 5, 10):
        changed = [*prompts[:row], *tiny.sequences([33], seed=9), *prompts[row + 1 :]]
        others = sampler.sample(pack(changed), sampling, end).answers
        assert others[:row] == together.answers[:row] and others[row + 1 :] == together.answers[row + 1 :]


def test_copies_lie_side_by_side(tmp_path: Path) -> None:
    """Greedy copies are equal; drawn ones are those of the same prompts written out."""
    model = tiny.text_model(tmp_path)
    sampler = DecoderSampler(model, None)
    one = sampler.sample(pack(PROMPTS), Sampling(8, 0.0), -1)
    three = sampler.sample(pack(PROMPTS), Sampling(8, 0.0), -1, copies=3)
    assert three.answers == tuple(answer for answer in one.answers for _ in range(3))
    drawn = sampler.sample(pack(PROMPTS), Sampling(8, 1.0, seed=2), -1, copies=2)
    written = sampler.sample(pack([p for p in PROMPTS for _ in range(2)]), Sampling(8, 1.0, seed=2), -1)
    assert drawn == written and drawn.answers[0] != drawn.answers[1]
    assert sampler.sample(pack(PROMPTS), Sampling(8, 1.0, seed=3), -1, copies=2) != drawn


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_first_token_is_drawn_from_the_softmax(tmp_path: Path, temperature: float) -> None:
    """Chi-square over the vocabulary, rare tokens together; the seed is fixed, p is what it is."""
    model = tiny.text_model(tmp_path)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    prompt = PROMPTS[0]
    with torch.no_grad():
        logits = network(input_ids=torch.tensor(prompt.ids)[None]).logits[0, -1]
    shares = torch.softmax(logits.double() / temperature, -1)
    copies = 8000
    samples = DecoderSampler(model, None).sample(pack([prompt]), Sampling(1, temperature, seed=5), -1, copies)
    counts = torch.bincount(torch.tensor([answer[0] for answer in samples.answers]), minlength=len(shares)).double()
    common = shares * copies >= 8
    observed = [*counts[common].tolist(), float(counts[~common].sum())]
    expected = [*(shares[common] * copies).tolist(), float((shares[~common] * copies).sum())]
    assert len(observed) > 12
    assert scipy.stats.chisquare(observed, expected).pvalue > 0.01
    # the same draws are not from the softmax of another temperature
    wrong = torch.softmax(logits.double() / (temperature * 1.6), -1) * copies
    others = [*wrong[common].tolist(), float(wrong[~common].sum())]
    assert scipy.stats.chisquare(observed, others).pvalue < 1e-6


def test_who_listens_hears_of_every_answer_as_it_ends(tmp_path: Path) -> None:
    model = _taught(tiny.text_model(tmp_path, "llama"))
    limits, end = Sampling(9, 1.0, seed=3), _a_token_that_is_said(model)
    for sampler in (TransformersSampler(model, ADAPTER), DecoderSampler(model, ADAPTER)):
        heard: list[int] = []
        samples = sampler.sample(pack(PROMPTS), limits, end, copies=3, rows=3, tell=heard.append)
        assert sum(heard) == len(samples.answers) == 12 and len(heard) >= 4 and min(heard) > 0

        def stop(count: int) -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            sampler.sample(pack(PROMPTS), limits, end, copies=3, rows=3, tell=stop)
        assert sampler.sample(pack(PROMPTS), limits, end, copies=3, rows=3) == samples  # nothing is left in disorder


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_generated_has_the_probability_of_teacher_forcing(tmp_path: Path, kind: str) -> None:
    """The decoder's own logits at every step, against one forward of prompt and answer together."""
    model = _taught(tiny.text_model(tmp_path, kind))
    sampler = DecoderSampler(model, ADAPTER)
    packed, room = pack(PROMPTS), 10
    logits = sampler.decoder.prefill(packed, 1, room)
    answers: list[list[int]] = [[] for _ in PROMPTS]
    found: list[list[float]] = [[] for _ in PROMPTS]
    for step in range(room):
        table = torch.log_softmax(logits, -1)
        token = choose(logits, torch.rand(4, generator=torch.Generator().manual_seed(step)), Sampling(room, 1.0))
        for row, value in enumerate(token.tolist()):
            answers[row].append(value)
            found[row].append(float(table[row, value]))
        logits = sampler.decoder.step(token)
    whole, prompt_length, lengths = pack_answers(PROMPTS, answers)
    rows = response_rows(whole, prompt_length, lengths)
    with torch.no_grad(), speaking(model, ADAPTER):
        hidden = model.backbone.hidden(whole)[rows]
        forced, _ = linear_logprobs(hidden, model.backbone.head, whole.ids[rows + 1])
    assert float((torch.tensor(found).flatten() - forced).abs().max()) < 1e-4


def test_choose_by_hand() -> None:
    """Shares 0.1, 0.2, 0.3, 0.4: a number falls where the running sum passes it; 0 is the first, never beyond."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(6, 4)
    numbers = torch.tensor([0.0, 0.0999, 0.1001, 0.2999, 0.3001, 0.9999999])
    assert choose(logits, numbers, Sampling()).tolist() == [0, 0, 1, 1, 2, 3]
    # at temperature 1/2 shares are squared: 1, 4, 9, 16 of 30
    halves = torch.tensor([0.033, 0.034, 0.166, 0.167, 0.466, 0.467])
    assert choose(logits, halves, Sampling(temperature=0.5)).tolist() == [0, 1, 1, 2, 2, 3]
    assert choose(logits, numbers, Sampling(temperature=0.0)).tolist() == [3] * 6


def test_top_k_and_top_p_by_hand() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(5, 4)
    numbers = torch.tensor([0.0, 0.42, 0.43, 0.5, 0.999])
    # the two best: 3 of 7 and 4 of 7
    assert choose(logits, numbers, Sampling(top_k=2)).tolist() == [2, 2, 3, 3, 3]
    assert choose(logits, numbers, Sampling(top_k=1)).tolist() == [3] * 5
    assert choose(logits, numbers, Sampling(top_k=99)).tolist() == [0, 2, 2, 2, 3]
    # 0.4 and 0.3 reach 0.5 and not before; 0.2 is needed for 0.75
    assert choose(logits, numbers, Sampling(top_p=0.5)).tolist() == [2, 2, 3, 3, 3]
    # 2, 3 and 4 of 9
    assert choose(logits, numbers, Sampling(top_p=0.75)).tolist() == [1, 2, 2, 2, 3]
    assert choose(logits, numbers, Sampling(top_p=1e-6)).tolist() == [3] * 5
    # first the two best, then of them what 0.5 needs
    assert choose(logits, numbers, Sampling(top_k=2, top_p=0.5)).tolist() == [3] * 5


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.full((3, 6), float("-inf"))
    logits[:, 2] = logits[:, 4] = 0.0
    numbers = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert choose(logits, numbers, Sampling()).tolist() == [2, 4, 4]
    # 41 equal shares add up to the largest number that can be drawn, 1 - 2^-24: it is still that of the last of them
    equal = torch.tensor([0.0] * 41 + [float("-inf")] * 2)
    assert choose(equal[None], numbers[-1:], Sampling()).tolist() == [40]


def test_the_right_sampler_is_found(tmp_path: Path) -> None:
    model = _taught(tiny.text_model(tmp_path))
    sampler = sampler_for(model, ADAPTER)
    assert isinstance(sampler, DecoderSampler)
    before = sampler.sample(pack(PROMPTS), Sampling(6, 0.0), -1)
    assert model.lora is not None
    with torch.no_grad():
        for up in model.lora.factors(ADAPTER).up:
            up.mul_(-1)
    assert sampler.sample(pack(PROMPTS), Sampling(6, 0.0), -1) == before  # the copy is as old as its last refresh
    sampler.refresh()
    after = sampler.sample(pack(PROMPTS), Sampling(6, 0.0), -1)
    assert after != before
    assert after == TransformersSampler(model, ADAPTER).sample(pack(PROMPTS), Sampling(6, 0.0), -1)


def test_each_answer_has_its_own_limit(tmp_path: Path) -> None:
    """What is said up to there is what would have been said without one."""
    model = tiny.text_model(tmp_path)
    limits = tuple(1 + 3 * n % 8 for n in range(len(PROMPTS)))
    for sampler in (DecoderSampler(model, None), TransformersSampler(model)):
        whole = sampler.sample(pack(PROMPTS), Sampling(8, 1.0, seed=4), -1).answers
        cut = sampler.sample(pack(PROMPTS), Sampling(8, 1.0, seed=4, limits=limits), -1)
        assert cut.answers == tuple(answer[:limit] for answer, limit in zip(whole, limits, strict=True))
        assert not any(cut.ended)
        with pytest.raises(ValueError, match="1 limits for"):
            sampler.sample(pack(PROMPTS), Sampling(8, limits=(3,)), -1)


def test_what_only_transformers_knows_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A scaled rotation and an architecture without a packed path: answers all the same, one line each."""
    _slower.cache_clear()
    model = tiny.text_model(tmp_path)
    model.backbone.language.config.hidden_act = "gelu"  # as far as the decoder can see
    for _ in range(3):
        assert isinstance(sampler_for(model), TransformersSampler)
    assert [record.message for record in caplog.records] == [
        "the fast decoder does not know this llama: sampling through transformers, slower"
    ]
    with pytest.raises(UserError, match="weights=int8: the fast decoder does not know this llama; leave weights empty"):
        sampler_for(model, None, int8=True)
    caplog.clear()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=262, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "gpt2")
    tiny.tokenizer().save_pretrained(tmp_path / "gpt2")
    sampler = sampler_for(load_model(str(tmp_path / "gpt2"), "fp32"))
    assert len(sampler.sample(pack(PROMPTS), Sampling(2, 0.0), -1).answers) == 4
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "architecture gpt2 runs padded through transformers"
    ]
