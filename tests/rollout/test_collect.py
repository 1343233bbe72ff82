"""From prompts to experience."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import tiny
from bessemer.algos.kl import k1, k3
from bessemer.algos.policy import clipped_surrogate
from bessemer.data.images import image_ref
from bessemer.data.records import ImageRef, Message, Prompt
from bessemer.models.feed import Feed
from bessemer.models.heads import value_head
from bessemer.models.model import ADAPTER, Model, load_model
from bessemer.models.roles import Role, Roles
from bessemer.models.tuning import tune_language
from bessemer.rollout.collect import (
    Answer,
    gold_means,
    gold_scores,
    measure,
    rewards_of,
    sample_answers,
)
from bessemer.rollout.sampler import DecoderSampler, Sampling, TransformersSampler, sampler_for

TEMPERATURE = 0.7


def _model(tmp_path: Path, dtype: str, vision: bool = False) -> Model:
    model = tiny.composed_model(tmp_path, dtype) if vision else tiny.text_model(tmp_path, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tune_language(model, "lora", lora_rank=4).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _roles(model: Model, frozen: bool = False) -> Roles:
    lora = model.adapters()
    for name in ("policy", "value", "reward"):
        lora.copy(ADAPTER, name)
    reward = tiny.reward_head(model.width, ["truth", "清晰"])
    model.freeze()
    return Roles(
        model,
        {
            "policy": Role("policy", trainable=True),
            "reference": Role(ADAPTER),
            "reward": Role("reward", reward),
            "value": Role("reward" if frozen else "value", value_head(model.width, reward), True, frozen),
        },
    )


def _prompts(images: list[ImageRef]) -> list[Prompt]:
    return [Prompt(f"p{n}", (Message("user", "裂纹？ " + "x" * (5 * n), tuple(images[n : n + 1])),)) for n in range(6)]


def _answers(model: Model, tmp_path: Path, images: list[ImageRef] | None = None) -> tuple[Feed, list[Answer]]:
    feed = Feed(model, tmp_path, tmp_path / "cache")
    sampler = sampler_for(model, "policy" if model.lora and "policy" in model.lora.adapters else ADAPTER)
    return feed, sample_answers(sampler, feed, _prompts(images or []), Sampling(7, TEMPERATURE, seed=3))


@pytest.mark.parametrize("vision", [False, True], ids=["text", "vision"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_before_the_first_update_the_ratio_is_one_and_the_kl_zero(tmp_path: Path, dtype: str, vision: bool) -> None:
    """Exactly, in bfloat16 too: the same kernels on the same shapes."""
    model = _model(tmp_path, dtype, vision)
    roles = _roles(model)
    folder = tiny.photographs(tmp_path / "photos", 6)
    images = [image_ref(path, tmp_path) for path in sorted(folder.rglob("*.png"))] if vision else []
    feed, answers = _answers(model, tmp_path, images)
    rollout = measure(roles, feed, answers, TEMPERATURE)
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs) and rollout.exact_kl == 0.0
    assert float(k1(rollout.logprobs, rollout.ref_logprobs).abs().max()) == 0.0
    assert float(k3(rollout.logprobs, rollout.ref_logprobs).abs().max()) == 0.0
    new, _ = roles.logprobs("policy", rollout.packed, rollout.rows, rollout.targets, TEMPERATURE)
    assert new.requires_grad
    ratio = (new.detach() - rollout.logprobs[rollout.mask]).exp()
    assert torch.equal(ratio, torch.ones_like(ratio))
    assert bool((rollout.logprobs[rollout.mask] < 0).all()) and (len(rollout.packed.image_rows) > 0) == vision


def test_log_probabilities_are_those_of_teacher_forcing(tmp_path: Path) -> None:
    """The merged model in transformers, each prompt with its answer alone, logits divided by the temperature."""
    model = _model(tmp_path, "fp32")
    roles = _roles(model)
    feed, answers = _answers(model, tmp_path)
    rollout = measure(roles, feed, answers, TEMPERATURE)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    for layer in model.adapters().shapes:
        module = network.get_submodule(layer)
        module.weight.data = model.adapters().merged("policy", layer, module.weight)
    entropies: list[Tensor] = []
    for row, answer in enumerate(answers):
        ids = torch.tensor([*answer.rendered.ids, *answer.ids])
        with torch.no_grad():
            logits = network(input_ids=ids[None]).logits[0, len(answer.rendered.ids) - 1 : -1].double()
        table = torch.log_softmax(logits / TEMPERATURE, -1)
        expected = table[torch.arange(len(answer.ids)), torch.tensor(answer.ids)]
        assert_close(rollout.logprobs[row][rollout.mask[row]].double(), expected, atol=5e-5, rtol=0)
        entropies.append(-(table.exp() * table).sum(-1))
    assert rollout.entropy == pytest.approx(float(torch.cat(entropies).mean()), abs=5e-5)
    assert rollout.mask.sum(1).tolist() == rollout.lengths.tolist() == [len(answer.ids) for answer in answers]
    flat = [token for answer in answers for token in answer.ids]
    assert rollout.targets.tolist() == flat


def test_values_are_read_before_the_token(tmp_path: Path) -> None:
    """The state that predicts a token is the state before the action: the last one of the prompt for the first."""
    model = _model(tmp_path, "fp32")
    roles = _roles(model)
    feed, answers = _answers(model, tmp_path)
    rollout = measure(roles, feed, answers, TEMPERATURE)
    head = roles.roles["value"].head
    assert head is not None
    for row, answer in enumerate(answers):
        alone = feed.pack([answer.rendered])
        with torch.no_grad():
            first = head(roles.hidden("value", alone)[-1])
        assert_close(rollout.values[row, :1], first, atol=1e-5, rtol=0)
        assert float(rollout.values[row][~rollout.mask[row]].abs().sum()) == 0.0


def test_a_value_on_a_frozen_trunk_is_read_from_what_is_there(tmp_path: Path) -> None:
    """The states of the pass that scored the answers, kept: learning needs no pass, and reaches the head alone."""
    model = _model(tmp_path, "fp32")
    roles = _roles(model, frozen=True)
    feed, answers = _answers(model, tmp_path)
    with torch.no_grad():  # the reward model is not the policy
        for factor in model.adapters().factors("reward").parameters():
            factor.mul_(1.5)
    rollout = measure(roles, feed, answers, TEMPERATURE)
    with torch.no_grad():
        expected = roles.hidden("reward", rollout.packed)[rollout.rows]
        assert torch.equal(rollout.value_states, expected)
        assert not torch.equal(expected, roles.hidden("policy", rollout.packed)[rollout.rows])
    values = roles.values_of("value", rollout.value_states)
    assert torch.equal(values.detach(), rollout.values[rollout.mask])
    values.square().sum().backward()
    head = roles.roles["value"].head
    assert head is not None and roles.parameters("value") == list(head.parameters())
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert all(factor.grad is None for factor in model.adapters().parameters())
    assert all(not factor.requires_grad for factor in model.adapters().factors("reward").parameters())


def test_after_an_update_the_kl_is_positive(tmp_path: Path) -> None:
    """And what was measured before is the denominator of the ratio."""
    model = _model(tmp_path, "fp32")
    roles = _roles(model)
    feed, answers = _answers(model, tmp_path)
    before = measure(roles, feed, answers, TEMPERATURE)
    optimiser = torch.optim.AdamW(roles.parameters("policy"), lr=0.003)
    for _ in range(2):
        new, _ = roles.logprobs("policy", before.packed, before.rows, before.targets, TEMPERATURE)
        optimiser.zero_grad()
        (-new.sum()).backward()
        optimiser.step()
    after = measure(roles, feed, answers, TEMPERATURE)
    assert after.exact_kl > 0.01
    assert torch.equal(after.ref_logprobs, before.ref_logprobs)
    assert float((after.logprobs - before.logprobs)[before.mask].mean()) > 0.1
    reference = _exact_kl_by_hand(roles, after.packed, after.rows)
    assert after.exact_kl == pytest.approx(reference, rel=1e-4)
    many = measure(roles, feed, answers * 4, TEMPERATURE)
    assert 128 <= len(many.rows) < 192  # of so many every second one is looked at
    assert many.exact_kl == pytest.approx(_exact_kl_by_hand(roles, many.packed, many.rows[::2]), rel=1e-4)
    flat = after.logprobs[after.mask], before.logprobs[before.mask]
    ones = torch.ones_like(flat[0])
    ratio, count = clipped_surrogate(*flat, ones, ones.bool(), 0.2).metrics["ratio"]
    assert float(ratio / count) == pytest.approx(float((flat[0] - flat[1]).double().exp().mean()), rel=1e-5)


@torch.no_grad()
def _exact_kl_by_hand(roles: Roles, packed: object, rows: Tensor) -> float:
    tables = [
        torch.log_softmax((roles.hidden(name, packed)[rows] @ roles.model.backbone.head.T).double() / TEMPERATURE, -1)  # type: ignore[arg-type]
        for name in ("policy", "reference")
    ]
    return float((tables[0].exp() * (tables[0] - tables[1])).sum(-1).mean())


def test_answers_belong_to_their_prompts(tmp_path: Path) -> None:
    model = _model(tmp_path, "fp32")
    feed = Feed(model, tmp_path, tmp_path / "cache")
    prompts = _prompts([])
    sampler = sampler_for(model, ADAPTER)
    answers = sample_answers(sampler, feed, prompts, Sampling(5, 1.0, seed=1), copies=3, batch_size=6)
    assert [answer.prompt.id for answer in answers] == [f"p{n}" for n in range(6) for _ in range(3)]
    for answer in answers:
        assert answer.rendered.ids == feed.renderer.prompt(answer.prompt.messages).ids
        assert answer.text == feed.renderer.decode(answer.ids)
        assert answer.ended == (answer.ids[-1] == feed.renderer.end_id)
    assert len({answer.ids for answer in answers}) > 12
    assert answers == sample_answers(sampler, feed, prompts, Sampling(5, 1.0, seed=1), copies=3, batch_size=6)
    assert answers != sample_answers(sampler, feed, prompts, Sampling(5, 1.0, seed=2), copies=3, batch_size=6)


def test_a_prompt_that_comes_again_gets_another_answer(tmp_path: Path) -> None:
    """In the same batch and in the next."""
    model = _model(tmp_path, "fp32")
    prompts = [Prompt(f"p{n}", (Message("user", "Is it broken?"),)) for n in range(4)]
    feed = Feed(model, tmp_path, tmp_path / "cache")
    answers = sample_answers(sampler_for(model, ADAPTER), feed, prompts, Sampling(8, 1.0), batch_size=2)
    assert len({answer.ids for answer in answers}) == 4


def test_a_photograph_that_comes_again_gets_another_answer(tmp_path: Path) -> None:
    """Also where pixels are fed, two at a time."""
    model = _model(tmp_path, "fp32", vision=True)
    photograph = image_ref(next(tiny.photographs(tmp_path / "photos", 1).rglob("*.png")), tmp_path)
    feed = Feed(model, tmp_path, tmp_path / "cache")
    feed.use_pixels()
    prompts = [Prompt(f"p{n}", (Message("user", "裂纹?", (photograph,)),)) for n in range(6)]
    answers = sample_answers(sampler_for(model, ADAPTER), feed, prompts, Sampling(8, 1.0), batch_size=2)
    assert len({answer.ids for answer in answers}) == 6


def test_scores_at_batch_one_and_n(tmp_path: Path) -> None:
    """Of a text, whatever it shares its batch with; read at the answer's last token."""
    model = _model(tmp_path, "fp32")
    roles = _roles(model)
    feed, answers = _answers(model, tmp_path)
    together = measure(roles, feed, answers, 1.0).scores
    assert together.shape == (6, 2) and float(together.std(0).min()) > 0.01
    for size in (1, 4):
        parts = [measure(roles, feed, answers[k : k + size], 1.0).scores for k in range(0, 6, size)]
        assert_close(torch.cat(parts), together, atol=1e-5, rtol=0)
    head = roles.roles["reward"].head
    assert head is not None
    for row, answer in enumerate(answers):
        alone = feed.pack([answer.rendered])
        whole = type(alone)(
            torch.tensor([*answer.rendered.ids, *answer.ids]), (alone.lengths[0] + len(answer.ids),), alone.image_rows
        )
        with torch.no_grad():
            assert_close(together[row], head(roles.hidden("reward", whole)[-1]), atol=1e-5, rtol=0)


def test_rewards_by_hand() -> None:
    """Standardised, clipped at 5, weighed, and 0.5 less for an answer that was cut off."""
    scores = torch.tensor([[3.0, 0.0], [1.0, 100.0], [1.0, -2.0]])
    mean, std, weights = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), torch.tensor([0.75, 0.25])
    rewards = rewards_of(scores, [True, True, False], mean, std, weights, None, 0.5)
    # (1, -0.5), (0, 24.5 -> 5), (0, -1)
    assert rewards.tolist() == pytest.approx([0.75 - 0.125, 1.25, -0.25 - 0.5])


def test_gold_scores_ask_the_judge_about_each_answer(tmp_path: Path) -> None:
    model = _model(tmp_path, "fp32")
    _, answers = _answers(model, tmp_path)
    asked: list[tuple[str, str, bool]] = []

    def judge(prompt: Prompt, text: str, ended: bool) -> dict[str, float | None]:
        asked.append((prompt.id, text, ended))
        return {"truth": float(len(asked)), "清晰": None}

    assert [scores["truth"] for scores in gold_scores(judge, answers)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert asked == [(answer.prompt.id, answer.text, answer.ended) for answer in answers]


def test_gold_is_the_mean_of_the_principles_however_often_each_was_judged(tmp_path: Path) -> None:
    answers = _answers(_model(tmp_path, "fp32"), tmp_path)[1][:4]
    given: list[dict[str, float | None]] = [
        {"truth": 1.0, "清晰": 0.5}, {"truth": None, "清晰": 0.0}, {"清晰": 0.0}, {"truth": None, "清晰": 0.5},
    ]  # fmt: skip
    said = iter(given)
    found = gold_means(lambda prompt, text, ended: next(said), answers)
    assert found == {"gold": 0.625, "gold/truth": 1.0, "gold/清晰": 0.25}
    assert gold_means(lambda prompt, text, ended: {"truth": None}, answers) == gold_means(_nobody, []) == {}


def _nobody(prompt: Prompt, text: str, ended: bool) -> dict[str, float | None]:
    raise AssertionError("there is nothing to judge")


def test_a_network_may_name_several_tokens_that_end_an_answer(tmp_path: Path) -> None:
    """As generation_config.json lists them; one that is text in this vocabulary is left alone."""
    directory = tiny.language_model(tmp_path / "llama")
    path = directory / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, 0, 77]}))
    model = load_model(str(directory), "fp32")
    feed = Feed(model, tmp_path, tmp_path)
    assert (feed.renderer.end_id, feed.ends) == (2, (0,))
    prompts = [Prompt("a", (Message("user", "Who?"),))]
    for sampler in (DecoderSampler(model, None), TransformersSampler(model)):
        answers = sample_answers(sampler, feed, prompts, Sampling(60, 1.0), copies=60)
        ends = {end: [answer for answer in answers if end in answer.ids] for end in (0, 2)}
        assert all(some and all(a.ended and a.ids[-1] == end for a in some) for end, some in ends.items())
        assert any(77 in answer.ids[:-1] for answer in answers)
        assert all("<|" not in answer.text for answer in answers)


def test_any_seed_may_be_asked_for(tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path)
    feed, prompts = Feed(model, tmp_path, tmp_path), [Prompt("a", (Message("user", "Who?"),))]
    samplings = [Sampling(9, seed=seed) for seed in (2**32 * 100_003, -5, 3)]
    assert len({sample_answers(DecoderSampler(model, None), feed, prompts, how)[0].ids for how in samplings}) == 3
