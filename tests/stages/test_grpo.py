from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from bessemer.data.dataset import Dataset
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.model import ADAPTER, load_model
from bessemer.rollout.collect import batch_of, sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages import grpo
from bessemer.stages.grpo import Config, Loop, make_roles, run
from bessemer.stages.rounds import Prompts
from bessemer.tasks.judge import judge
from vowels import metrics, wanted_share

ROLES = ("policy", "reference")


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(shop / "sft"),
        "reward_model": str(shop / "reward"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "total_steps": 1,
        "batch_size_prompts": 2,
        "num_generations": 3,
        "response_length": 6,
        "eval_steps": 0,
        "eval_prompts": 1,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "adapter" / "adapter_model.safetensors")


def test_the_reward_rises_and_that_of_shuffled_rewards_does_not(texts: Path, vowels: Path, tmp_path: Path) -> None:
    learning: dict[str, Any] = {
        "total_steps": 24,
        "batch_size_prompts": 4,
        "num_generations": 8,
        "learning_rate": 3e-3,
        "beta": 0.0,
        "missing_eos_penalty": 0.0,
        "model_name_or_path": str(texts / "sft"),
        "reward_model": str(vowels / "reward"),
        "dataset": str(vowels),
    }
    for shuffle in (False, True):
        run(config(texts, tmp_path / str(shuffle), shuffle_rewards=shuffle, **learning))
    before = wanted_share(texts / "sft", vowels)
    gained, drifted = (wanted_share(tmp_path / str(shuffle), vowels) - before for shuffle in (False, True))
    assert gained > 0.2 and drifted < gained / 2


@pytest.mark.parametrize("world", ["shop", "texts"])
def test_learnt_as_it_was_sampled_the_ratio_is_one(world: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    out = run(config(request.getfixturevalue(world), tmp_path / "grpo"))
    (row,) = metrics(out)
    assert (row["ratio"], row["approx_kl"], row["clip_fraction"]) == (1.0, 0.0, 0.0)
    assert (row["kl/k1"], row["kl/k3"], row["kl/answer"]) == (0.0, 0.0, 0.0)
    assert {"reward", "reward/truthfulness", "length", "eos_rate", "equal_groups", "gradient_norm"} <= set(row)
    assert set(json.loads((out / "manifest.json").read_text())["summary"]) >= {"gold", "gold/clarity"}


def test_the_parts_of_a_step_add_up(shop: Path, tmp_path: Path) -> None:
    """One pass over 12 answers, or four over 3: the same rewards and the same policy, to rounding."""
    rows, weights = [], []
    for part in (12, 3):
        moved: dict[str, Any] = {"learning_rate": 3e-3, "batch_size_prompts": 4, "total_steps": 2}
        out = run(config(shop, tmp_path / str(part), per_device_train_batch_size=part, **moved))
        rows.append(metrics(out))
        weights.append(adapter(out))
    for one, other in zip(*rows, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    for name, weight in weights[0].items():
        assert_close(weight, weights[1][name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_gradient_is_that_of_the_formula(shop: Path, tmp_path: Path, beta: float) -> None:
    """A step on answers that are there: -sum of A log pi over tokens, divided by their number (ratio 1); the reward of
    an answer less `beta` times how much likelier it is to the policy, which has moved, than to the reference."""
    settings = config(shop, tmp_path, beta=beta, missing_eos_penalty=0.0)
    model = load_model(str(shop / "sft"), "fp32")
    roles = make_roles(model, str(shop / "reward"), 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    feed = Feed(model, shop / "import", tmp_path)
    prompts = Dataset(shop / "import").prompts("ppo")
    loop = Loop(settings, roles, feed, sampler_for(model, "policy"), prompts)
    answers = sample_answers(loop.sampler, feed, loop.prompts(0), Sampling(6, 1.0, seed=0), 3)
    batch = batch_of(feed, answers)
    assert loop.reward is not None
    with torch.no_grad():
        rewards, _ = loop.reward(roles.scores("reward", batch.packed), answers, 0)
        for place, answer in enumerate(answers):
            one = batch_of(feed, [answer])
            mine, theirs = (roles.logprobs(name, one.packed, one.rows, one.targets)[0] for name in ROLES)
            rewards[place] -= beta * (mine - theirs).sum()
    by_hand = torch.cat([group - group.mean() for group in rewards.split(3)])
    total = torch.tensor(0.0)
    for answer, advantage in zip(answers, by_hand, strict=True):
        alone = batch_of(feed, [answer])
        logprobs, _ = roles.logprobs("policy", alone.packed, alone.rows, alone.targets)
        total = total - advantage * logprobs.sum() / batch.lengths.sum()
    expected = torch.autograd.grad(total, roles.parameters("policy"))
    loop.round(0)
    found = [parameter.grad for parameter in roles.parameters("policy")]
    scale = min(1.0, 1.0 / float(torch.stack([gradient.norm() for gradient in expected]).norm()))
    assert float(max(gradient.abs().max() for gradient in expected)) > 1e-3
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        assert_close(ours, scale * theirs, atol=2e-5, rtol=1e-3)


def test_rules_can_be_the_reward(shop: Path, tmp_path: Path) -> None:
    """Without a reward model: the gold rule's mean, less the penalty; and the recipe says so by an empty name."""
    out = run(config(shop, tmp_path / "grpo", reward_model="", missing_eos_penalty=0.25))
    (row,) = metrics(out)
    model = load_model(str(shop / "sft"), "fp32")
    feed = Feed(model, shop / "import", tmp_path)
    prompts = Prompts(Dataset(shop / "import").prompts("ppo"), 2, 0)(0)
    answers = sample_answers(sampler_for(model, ADAPTER), feed, prompts, Sampling(6, 1.0, seed=0), 3)
    judged = [
        sum(scores) / len(scores)
        for scores in (
            [s for s in judge(answer.prompt, answer.text, answer.ended).values() if s is not None] for answer in answers
        )
    ]
    cut_off = sum(not answer.ended for answer in answers)
    assert row["reward"] == pytest.approx((sum(judged) - 0.25 * cut_off) / 6, abs=1e-6)
    assert not any(name.startswith("reward/") for name in row)


def test_rewards_of_rules_can_be_shuffled_too(shop: Path, tmp_path: Path) -> None:
    """What is logged is what was earned; what is learnt from is another answer's."""
    settings = config(shop, tmp_path, reward_model="", missing_eos_penalty=0.0, shuffle_rewards=True)
    model = load_model(str(shop / "sft"), "fp32")
    feed = Feed(model, shop / "import", tmp_path)
    prompts = Dataset(shop / "import").prompts("ppo")
    loop = Loop(settings, make_roles(model, "", 0), feed, sampler_for(model, "policy"), prompts)
    answers = sample_answers(loop.sampler, feed, loop.prompts(0), Sampling(2, 1.0), 6)
    loop.rule = lambda answers: torch.arange(float(len(answers)))
    rewards, logged = loop._rewards([], answers, 0)
    assert sorted(rewards.tolist()) == list(range(12)) != rewards.tolist() and logged == {"reward": 5.5}


@pytest.mark.parametrize(
    ("values", "kl"),
    [({"mini_batch_size": 3}, 0.0), ({"num_iterations": 2}, 0.0), ({"num_iterations": 2, "beta": 0.0}, None)],
)
def test_several_steps_a_round_know_where_the_answers_came_from(
    shop: Path, tmp_path: Path, values: dict[str, float], kl: float | None
) -> None:
    """Whether they are steps on parts of a round or a second pass over all of it, with a reference and without."""
    far: dict[str, Any] = {"learning_rate": 1e-2, "batch_size_prompts": 4, **values}
    (row,) = metrics(run(config(shop, tmp_path / "grpo", **far)))
    assert row["ratio"] != 1.0 and row["approx_kl"] > 0
    assert row.get("kl/answer") == kl  # measured before the round's first step


def test_the_loss_is_that_of_the_formula_once_the_policy_has_moved(shop: Path, tmp_path: Path) -> None:
    """By hand, in the midst of a round: log-probabilities (at a temperature) were up to 1 away when the answers were
    sampled, on either side, and the recipe's range clips some of them."""
    settings = config(shop, tmp_path, epsilon=0.4, temperature=0.7)
    model = load_model(str(shop / "sft"), "fp32")
    roles = make_roles(model, str(shop / "reward"), 0)
    feed = Feed(model, shop / "import", tmp_path)
    loop = Loop(settings, roles, feed, sampler_for(model, "policy"), Dataset(shop / "import").prompts("ppo"))
    batch = batch_of(feed, sample_answers(loop.sampler, feed, loop.prompts(0), Sampling(6, 1.0, seed=0), 3))
    draw = torch.Generator().manual_seed(0)
    moved = 2 * torch.rand(batch.mask.shape, generator=draw) - 1
    gains = torch.linspace(-1, 1, 6)
    with torch.no_grad():
        logits = roles.logits_of(roles.hidden("policy", batch.packed)[batch.rows])
        logprobs = torch.log_softmax(logits / 0.7, -1).gather(1, batch.targets[:, None])[:, 0]
        old = torch.zeros(batch.mask.shape).masked_scatter(batch.mask, logprobs) - moved
        loss = loop._loss(grpo._Part(batch, old, gains))
    ratio = moved.exp()
    total = -torch.minimum(gains[:, None] * ratio, gains[:, None] * ratio.clamp(0.6, 1.4))[batch.mask].sum()
    assert float(loss.sum) == pytest.approx(float(total), abs=1e-3)
    assert float(loss.count) == len(batch.targets)


def test_thresholds_and_the_missing_end(shop: Path, tmp_path: Path) -> None:
    """An answer that was cut off costs the penalty; a threshold that no answer meets costs what is missing to it."""
    plain, free, limited = (
        metrics(run(config(shop, tmp_path / str(number), **values)))[0]
        for number, values in enumerate(({}, {"missing_eos_penalty": 0.0}, {"thresholds": {"harmlessness": 9.0}}))
    )
    assert plain["eos_rate"] < 1
    assert free["reward"] - plain["reward"] == pytest.approx(1 - plain["eos_rate"], abs=1e-5)
    assert limited["reward"] < plain["reward"] - 3


def test_the_price_of_kl_is_part_of_the_reward(shop: Path, tmp_path: Path) -> None:
    """Without it there is no reference; with a great one the policy stays near."""
    # so slowly that it is the price that holds the policy, and not the step that throws it about
    moved: dict[str, Any] = {"learning_rate": 1e-3, "total_steps": 12, "batch_size_prompts": 4}
    free = metrics(run(config(shop, tmp_path / "a", beta=0.0, **moved)))
    assert not any(name.startswith("kl/") for row in free for name in row)
    loose, tight = (
        sum(row["kl/k3"] for row in metrics(run(config(shop, tmp_path / str(beta), beta=beta, **moved)))[6:])
        for beta in (1e-6, 10.0)
    )
    assert 0 < tight < loose / 2


def test_divided_by_the_deviation_of_the_group(shop: Path, tmp_path: Path) -> None:
    plain, scaled = (metrics(run(config(shop, tmp_path / kind, scale_rewards=kind)))[0] for kind in ("none", "group"))
    assert plain["reward"] == scaled["reward"] and plain["gradient_norm"] != scaled["gradient_norm"]


@pytest.mark.parametrize("values", [{"mini_batch_size": 4}, {"per_device_train_batch_size": 2}, {"num_generations": 1}])
def test_groups_are_never_cut(shop: Path, tmp_path: Path, values: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected (each to divide the one before|at least 2)"):
        run(config(shop, tmp_path / "grpo", **values))


def test_the_policy_is_saved_as_an_adapter(texts: Path, tmp_path: Path) -> None:
    """Also where the reference has none."""
    out = run(config(texts, tmp_path / "grpo", learning_rate=1e-2))
    model = load_model(str(out), "fp32")
    assert model.lora is not None and ADAPTER in model.lora.adapters
    assert any(float(tensor.abs().max()) > 0 for name, tensor in adapter(out).items() if "lora_B" in name)
