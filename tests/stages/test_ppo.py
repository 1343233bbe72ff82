from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from bessemer.data.batches import TextBatch, pack, pad_rows
from bessemer.data.dataset import Dataset
from bessemer.data.records import Message, Prompt
from bessemer.data.render import Rendered
from bessemer.disk import tree_hash
from bessemer.errors import UserError
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.model import load_model
from bessemer.rollout.collect import Answer, RolloutBatch, measure, sample_answers
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.stages import ppo
from bessemer.stages.ppo import Config, Loop, make_roles, run
from vowels import metrics, wanted_share

LOGGED = {
    "reward", "kl/k1", "kl/k3", "kl/exact", "kl/answer", "kl_coef", "entropy", "length", "eos_rate", "clip_fraction",
    "ratio", "approx_kl", "loss/policy", "loss/value", "value_clip_fraction", "updates", "early_stop", "gradient_norm",
}  # fmt: skip
EMPTY = Rendered((0,), (False,), (), ())


def config(shop: Path, out: Path, **values: object) -> Config:
    settled: dict[str, object] = {
        "model_name_or_path": str(shop / "sft"),
        "reward_model": str(shop / "reward"),
        "dataset": str(shop / "import"),
        "dtype": "fp32",
        "total_steps": 1,
        "batch_size_prompts": 4,
        "mini_batch_size": 2,
        "response_length": 6,
        "early_stop_kl": 0.0,
        "eval_steps": 0,
        "eval_prompts": 1,
        **values,
    }
    return Config(output_dir=str(out), **settled)  # type: ignore[arg-type]


def test_the_reward_rises_and_that_of_shuffled_rewards_does_not(texts: Path, vowels: Path, tmp_path: Path) -> None:
    learning: dict[str, Any] = {
        "total_steps": 20,
        "batch_size_prompts": 32,
        "mini_batch_size": 16,
        "learning_rate": 1e-3,
        "kl_coef": 0.0,
        "missing_eos_penalty": 0.0,
        "model_name_or_path": str(texts / "sft"),
        "reward_model": str(vowels / "reward"),
        "dataset": str(vowels),
    }
    gains, shares = {}, {}
    for seed, shuffle in ((0, False), (0, True), (1, True)):
        out = run(config(texts, tmp_path / f"{shuffle}-{seed}", shuffle_rewards=shuffle, seed=seed, **learning))
        rewards = [row["reward"] for row in metrics(out)]
        gains[shuffle, seed] = sum(rewards[-3:]) / 3 - sum(rewards[:3]) / 3
        shares[shuffle, seed] = wanted_share(out, vowels) - wanted_share(texts / "sft", vowels)
    assert gains[False, 0] > 0.7 and shares[False, 0] > 0.2
    # noise drifts, up or down, but nowhere near as far as a reward leads
    for found in (gains, shares):
        assert abs(found[True, 0] + found[True, 1]) / 2 < found[False, 0] / 3
    base = texts / "sft" / "model"
    assert tree_hash(tmp_path / "False-0" / "model" / "language") == tree_hash(base / "language")


@pytest.mark.parametrize("world", ["shop", "texts"])
@pytest.mark.parametrize("start", ["reward", "zero"])
def test_before_the_first_update_nothing_differs(
    world: str, start: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With and without images, beside an adapter and on the bare backbone: ratio 1 and KL 0, exactly."""
    one_update: dict[str, Any] = {"mini_batch_size": 4, "num_ppo_epochs": 1, "value_init": start}
    out = run(config(request.getfixturevalue(world), tmp_path / "ppo", **one_update))
    (row,) = metrics(out)
    assert set(row) >= LOGGED | {"reward/truthfulness"}
    assert (row["kl/k1"], row["kl/k3"], row["kl/exact"]) == (0.0, 0.0, 0.0)
    assert (row["ratio"], row["approx_kl"], row["clip_fraction"], row["updates"]) == (1.0, 0.0, 0.0, 1.0)
    assert 1 <= row["length"] <= 6 and 0 <= row["eos_rate"] <= 1 and 0 < row["entropy"] < 6
    assert (out / "model" / "adapter" / "adapter_model.safetensors").is_file()
    summary = json.loads((out / "manifest.json").read_text())["summary"]
    assert set(summary) == {"gold"} | {
        f"gold/{name}" for name in ("truthfulness", "helpfulness", "harmlessness", "fluency", "clarity")
    }


def test_a_critic_that_was_fitted_errs_less_than_one_that_starts_at_zero(
    texts: Path, vowels: Path, tmp_path: Path
) -> None:
    """Where all answers get 4 more than nothing, which a critic can know before any ends."""
    shutil.copytree(vowels / "reward", tmp_path / "kind")
    file = tmp_path / "kind" / "model" / "reward" / "model.safetensors"
    head = load_file(file)
    save_file({**head, "mean": head["mean"] - 4 * head["std"]}, file)
    there = {"model_name_or_path": str(texts / "sft"), "reward_model": str(tmp_path / "kind"), "dataset": str(vowels)}
    size = {"batch_size_prompts": 32, "mini_batch_size": 32, "num_ppo_epochs": 1}

    def error(start: str, shuffled: bool = False) -> float:
        out = tmp_path / f"{start}-{shuffled}"
        ran = run(config(texts, out, **there, **size, value_init=start, shuffle_rewards=shuffled))
        return metrics(ran)[0]["value_error"]

    assert error("reward") < 0.5 * error("zero")
    assert error("reward", shuffled=True) == error("zero", shuffled=True)  # what it saw would tell the control
    save_file({name: part for name, part in head.items() if not name.startswith("expected_")}, file)
    with pytest.raises(UserError, match="an older version made it"):
        run(config(texts, tmp_path / "no", **there))


def advantages_by_hand(rewards: Tensor, values: Tensor, lam: float) -> Tensor:
    """Of one answer's tokens, by the definition, undiscounted: a double sum over what comes after each."""
    deltas = rewards + torch.cat([values[1:], torch.zeros(1)]) - values
    places = range(len(deltas))
    return torch.stack([sum((lam ** (k - t) * deltas[k] for k in places if k >= t), torch.tensor(0.0)) for t in places])


def test_an_annotated_conversation_is_learnt_whole(texts: Path, tmp_path: Path) -> None:
    """What is cut off would not be kept."""
    settings = config(texts, tmp_path, ptx_coef=0.1, mini_batch_size=2, per_device_train_batch_size=2)
    model = load_model(str(texts / "sft"), "fp32")
    roles = make_roles(model, texts / "reward", "reward", 0)
    feed, dataset = Feed(model, texts / "import", tmp_path), Dataset(texts / "import")
    long = replace(
        dataset.conversations("train")[0], messages=(Message("user", "Go on?"), Message("assistant", 700 * "x"))
    )
    loop = Loop(settings, roles, feed, sampler_for(model, "policy"), dataset.prompts("ppo"), [long])
    (batch,) = loop.annotated(0) if loop.annotated else ()
    assert len(batch.targets) == len(feed.renderer.answer_ids(700 * "x")) > 700


@pytest.mark.parametrize("ptx_coef", [0.0, 0.8])
def test_the_gradient_is_that_of_the_formula(ptx_coef: float, shop: Path, tmp_path: Path) -> None:
    """The first step of a round of two passes, by a policy that has moved, at a price of KL that was adapted: of every
    answer the price of its tokens and its score at the last one, GAE, whitened over the round; half the squared error
    of the values, which weighs a tenth. Ratio 1, so nothing is clipped. With a price on forgetting, the mean
    cross-entropy of as many conversations' answers beside it."""
    passes: dict[str, Any] = {"mini_batch_size": 4, "per_device_train_batch_size": 2, "num_ppo_epochs": 1}
    settings = config(shop, tmp_path, lam=0.6, ptx_coef=ptx_coef, **passes)
    model = load_model(str(shop / "sft"), "fp32")
    roles = make_roles(model, shop / "reward", "reward", 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in roles.parameters("policy"):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    feed = Feed(model, shop / "import", tmp_path)
    dataset = Dataset(shop / "import")
    taught = dataset.conversations("train")
    loop = Loop(settings, roles, feed, sampler_for(model, "policy"), dataset.prompts("ppo"), taught)
    loop.state.numbers["kl_coef"] = 0.7
    answers = sample_answers(loop.sampler, feed, loop.prompts(0), Sampling(6, 1.0, seed=0))
    alone = [measure(roles, feed, [answer], 1.0) for answer in answers]
    scores, _ = loop.reward(torch.cat([one.scores for one in alone]), answers, 0)
    gains, targets = [], []
    for one, score in zip(alone, scores, strict=True):
        rewards = -0.7 * (one.logprobs[0] - one.ref_logprobs[0])
        rewards[-1] += score
        gains.append(advantages_by_hand(rewards, one.values[0], 0.6))
        targets.append(gains[-1] + one.values[0])
    flat = torch.cat(gains)
    total = torch.tensor(0.0)
    for one, gain, target in zip(alone, gains, targets, strict=True):
        logprobs, _ = roles.logprobs("policy", one.packed, one.rows, one.targets)
        values = roles.values_of("value", one.value_states)
        total = total - ((gain - flat.mean()) / flat.std(correction=0) * logprobs).sum()
        total = total + 0.1 * 0.5 * (values - target).square().sum()
    total = total / len(flat)
    if loop.annotated is not None:
        texts = loop.annotated(0)
        assert sum(len(text.packed.lengths) for text in texts) == 4
        logits = [roles.logits_of(roles.hidden("policy", text.packed)[text.rows]) for text in texts]
        total = total + 0.8 * functional.cross_entropy(torch.cat(logits), torch.cat([text.targets for text in texts]))
    assert (loop.annotated is None) == (ptx_coef == 0)
    learnt = [*roles.parameters("policy"), *roles.parameters("value")]
    expected = torch.autograd.grad(total, learnt)
    loop.round(0)
    scale = min(1.0, 1.0 / float(torch.stack([gradient.norm() for gradient in expected]).norm()))
    assert all(float(scale * gradient.abs().max()) > 1e-3 for gradient in (expected[0], expected[-2], expected[-1]))
    for parameter, theirs in zip(learnt, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, scale * theirs, atol=2e-5, rtol=1e-3)


def test_every_pass_divides_its_logits_by_the_temperature(shop: Path, tmp_path: Path) -> None:
    """Before the first update the ratio is 1 at any temperature: what is measured and what is learnt are alike."""
    one_update: dict[str, Any] = {"mini_batch_size": 4, "num_ppo_epochs": 1, "temperature": 0.7}
    (row,) = metrics(run(config(shop, tmp_path / "ppo", **one_update)))
    assert (row["ratio"], row["approx_kl"], row["clip_fraction"], row["updates"]) == (1.0, 0.0, 0.0, 1.0)


def test_the_loss_is_that_of_the_formula_once_policy_and_value_have_moved(shop: Path, tmp_path: Path) -> None:
    """By hand, in the midst of a round: log-probabilities (at a temperature) and values were up to 1 away when the
    answers were sampled, on either side, and the recipe's range clips some of both."""
    settings = config(shop, tmp_path, cliprange=0.4, temperature=0.7)
    model = load_model(str(shop / "sft"), "fp32")
    roles = make_roles(model, shop / "reward", "reward", 0)
    feed = Feed(model, shop / "import", tmp_path)
    prompts = Dataset(shop / "import").prompts("ppo")
    loop = Loop(settings, roles, feed, sampler_for(model, "policy"), prompts)
    rollout = measure(roles, feed, sample_answers(loop.sampler, feed, prompts[:4], Sampling(6, 1.0, seed=0)), 1.0)
    with torch.no_grad():
        logits = roles.logits_of(roles.hidden("policy", rollout.packed)[rollout.rows])
        logprobs = torch.log_softmax(logits / 0.7, -1).gather(1, rollout.targets[:, None])[:, 0]
        values = roles.values_of("value", rollout.value_states)
    draw = torch.Generator().manual_seed(0)
    moved, drifted, gains, missing = 2 * torch.rand(4, len(values), generator=draw) - 1
    parts = [gains, values + missing, logprobs - moved, values - drifted]
    gain, returns, *old = (pad_rows(part, rollout.lengths)[0] for part in parts)
    rollout = replace(rollout, logprobs=old[0], values=old[1])
    loss = loop._loss(ppo._Minibatch(rollout, gain, returns))
    policy = -torch.minimum(gains * moved.exp(), gains * moved.exp().clamp(0.6, 1.4)).sum()
    near = values - drifted + drifted.clamp(-0.4, 0.4)
    value = 0.5 * torch.maximum(missing.square(), (near - values - missing).square()).sum()
    assert float(loss.metrics["loss/policy"][0]) == pytest.approx(float(policy), abs=1e-3)
    assert float(loss.metrics["loss/value"][0]) == pytest.approx(float(value), abs=1e-3)
    assert loss.sum.item() == pytest.approx(float(policy + 0.1 * value), abs=1e-3)


def test_answers_of_a_step_may_be_computed_in_any_number_of_passes(shop: Path, tmp_path: Path) -> None:
    """Same answers, losses and weights, to rounding; only memory differs."""
    whole: dict[str, Any] = {"mini_batch_size": 4, "total_steps": 2, "ptx_coef": 0.5}
    runs = {
        size: run(config(shop, tmp_path / str(size), per_device_train_batch_size=size, **whole)) for size in (1, 2, 8)
    }
    one, two, eight = (metrics(runs[size]) for size in (1, 2, 8))
    for row in zip(one, two, eight, strict=True):
        for name in ("reward", "loss", "ratio", "loss/value", "loss/ptx", "gradient_norm", "updates", "kl/k3"):
            assert row[0][name] == pytest.approx(row[2][name], rel=1e-3, abs=1e-5), name
            assert row[1][name] == pytest.approx(row[2][name], rel=1e-3, abs=1e-5), name
    with pytest.raises(UserError, match="mini_batch_size=4, expected a multiple of per_device_train_batch_size=3"):
        run(config(shop, tmp_path / "no", mini_batch_size=4, per_device_train_batch_size=3))


def test_what_was_taught_is_kept_at_a_price(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards are noise here: the cross-entropy of the conversations falls where it has a weight. Every step asks for
    the next ones."""
    asked: list[int] = []

    class Asked(ppo.ConversationBatches):
        def __call__(self, step: int) -> list[TextBatch]:
            asked.append(step)
            return super().__call__(step)

    monkeypatch.setattr(ppo, "ConversationBatches", Asked)
    drifting: dict[str, Any] = {"total_steps": 6, "learning_rate": 3e-3, "shuffle_rewards": True}
    losses = {}
    for coef in (1e-9, 5.0):
        rows = metrics(run(config(shop, tmp_path / str(coef), ptx_coef=coef, **drifting)))
        losses[coef] = [row["loss/ptx"] for row in rows]
    assert sorted(asked) == sorted(2 * list(range(6 * 2 * 2)))  # rounds, passes, minibatches
    assert losses[5.0][-1] < losses[5.0][0] and losses[5.0][-1] < losses[1e-9][-1]


def test_the_kl_is_that_to_the_reference_once_the_policy_has_moved(shop: Path, tmp_path: Path) -> None:
    rows = metrics(run(config(shop, tmp_path / "ppo", total_steps=3, learning_rate=3e-3)))
    assert [row["kl/k3"] > 0 and row["kl/exact"] > 0 for row in rows] == [False, True, True]
    assert rows[1]["kl/answer"] == pytest.approx(rows[1]["kl/k1"] * rows[1]["length"])
    assert {row["kl_coef"] for row in rows} == {0.05}


def test_a_round_is_described_by_means_over_its_tokens() -> None:
    """Of answers of one and of three tokens, however they were cut into passes: no mean of means."""
    gaps, nothing = ([0.4], [0.1, 0.2, 0.3]), torch.zeros(0)
    rollouts, answers = [], []
    for apart, entropy, exact in zip(gaps, (2.0, 1.0), (0.8, 0.4), strict=True):
        own, size = torch.tensor([apart]), torch.tensor([len(apart)])
        grids = own > 0, own, 0 * own, own
        rollouts.append(RolloutBatch(pack([EMPTY]), nothing, nothing, size, *grids, nothing, nothing, entropy, exact))
        answers.append(Answer(Prompt("p", (Message("user", "?"),)), EMPTY, (), "", len(apart) == 3))
    assert ppo._experience_metrics(rollouts, answers) == pytest.approx(
        {
            "kl/k1": 0.25,
            "kl/k3": sum(math.exp(-gap) - 1 + gap for apart in gaps for gap in apart) / 4,
            "kl/exact": (0.8 + 3 * 0.4) / 4,
            "kl/answer": 0.5,
            "entropy": (2.0 + 3 * 1.0) / 4,
            "length": 2.0,
            "eos_rate": 0.5,
        }
    )


def test_the_coefficient_aims_at_its_target(shop: Path, tmp_path: Path) -> None:
    """Ziegler et al. 2019: at most 20 % in 1000 answers, 4 answers a round."""
    rows = metrics(run(config(shop, tmp_path / "ppo", total_steps=3, learning_rate=3e-3, kl_target=0.001)))
    coefficient = 0.05
    for row in rows:
        error = max(-0.2, min(0.2, row["kl/answer"] / 0.001 - 1))
        coefficient *= 1 + error * 4 / 1000
        assert row["kl_coef"] == pytest.approx(coefficient, rel=1e-9)
    assert rows[0]["kl_coef"] < 0.05 < rows[2]["kl_coef"] / rows[1]["kl_coef"]


def test_a_round_ends_when_the_policy_has_gone_too_far(shop: Path, tmp_path: Path) -> None:
    far = metrics(run(config(shop, tmp_path / "a", learning_rate=1e-2, num_ppo_epochs=3)))[0]
    assert (far["updates"], far["early_stop"]) == (6.0, 0.0)
    near = metrics(run(config(shop, tmp_path / "b", learning_rate=1e-2, num_ppo_epochs=3, early_stop_kl=1e-6)))[0]
    # the first minibatch knows of no update yet, the second sees the first one's
    assert (near["updates"], near["early_stop"]) == (2.0, 1.0)


def test_the_value_begins_as_the_reward_models_forecast_or_as_nothing(shop: Path, texts: Path) -> None:
    for world, adapted in ((shop, True), (texts, False)):
        model = load_model(str(world / "sft"), "fp32")
        feed = Feed(model, world, world)
        message = Message("user", "Is anything wrong?")
        packed = pack([feed.renderer.prompt([message]), feed.renderer.prompt([Message("user", "?")])])
        last = torch.tensor(packed.lengths).cumsum(0) - 1
        warm = make_roles(model, world / "reward", "reward", 0)
        head = load_file(world / "reward" / "model" / "reward" / "model.safetensors")
        with torch.no_grad():
            forecast = warm.hidden("reward", packed)[last] @ head["expected_weight"].T + head["expected_bias"]
            expected = ((forecast - head["mean"]) / head["std"]) @ head["weights"]
            torch.testing.assert_close(warm.values("value", packed, last), expected, atol=1e-4, rtol=1e-4)
            assert float(expected.abs().max()) > 0.01
            model = load_model(str(world / "sft"), "fp32")
            cold = make_roles(model, world / "reward", "zero", 0)
            assert cold.values("value", packed, last).tolist() == [0.0, 0.0]
            # both are read from what the reward model sees
            for roles in (warm, cold):
                assert torch.equal(roles.hidden("value", packed), roles.hidden("reward", packed))
                assert not torch.equal(roles.hidden("value", packed), roles.hidden("reference", packed))
                assert all(parameter.numel() <= model.width for parameter in roles.parameters("value"))
        assert (cold.roles["reference"].adapter is not None) == adapted


def test_thresholds_and_the_missing_end(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand from the logged means: a threshold leaves the sum, the critic's too, and costs what is missing to it."""
    left_out: list[set[str]] = []

    def noted(width: int, reward: RewardHead | None, thresholds: Collection[str]) -> nn.Linear:
        left_out.append(set(thresholds))
        return value_head(width, reward, thresholds)

    monkeypatch.setattr(ppo, "value_head", noted)
    head = load_file(shop / "reward" / "model" / "reward" / "model.safetensors")
    names = json.loads((shop / "reward" / "model" / "reward" / "config.json").read_text())["principles"]
    weights = dict(zip(names, head["weights"].tolist(), strict=True))
    assert sum(weight > 0 for weight in weights.values()) >= 2
    plain = metrics(run(config(shop, tmp_path / "a")))[0]
    cut_off = 1 - plain["eos_rate"]
    means = {name: plain[f"reward/{name}"] for name in names}
    assert plain["reward"] == pytest.approx(sum(weights[n] * means[n] for n in names) - cut_off, abs=1e-4)
    free = metrics(run(config(shop, tmp_path / "b", missing_eos_penalty=0.0)))[0]
    assert free["reward"] == pytest.approx(plain["reward"] + cut_off, abs=1e-5)
    limited = metrics(run(config(shop, tmp_path / "c", thresholds={"harmlessness": 9.0})))[0]
    assert left_out == [set(), set(), {"harmlessness"}]
    others = [name for name in names if name != "harmlessness"]
    total = sum(weights[n] * means[n] for n in others) / sum(weights[n] for n in others)
    assert limited["reward"] == pytest.approx(total - (9.0 - means["harmlessness"]) - cut_off, abs=1e-4)
    with pytest.raises(UserError, match=r"thresholds names \['wit'\]"):
        run(config(shop, tmp_path / "d", thresholds={"wit": 0.0}))
    with pytest.raises(UserError, match="every principle with a weight is a threshold"):
        run(config(shop, tmp_path / "e", thresholds=dict.fromkeys(names, 0.0)))


def test_it_looks_at_held_out_questions_by_the_gold_rule(shop: Path, tmp_path: Path) -> None:
    rows = metrics(run(config(shop, tmp_path / "ppo", total_steps=3, eval_steps=2, eval_prompts=3)))
    assert [("gold" in row, "gold/fluency" in row) for row in rows] == [(True, True), (False, False), (True, True)]
    for row in rows[::2]:
        parts = [value for name, value in row.items() if name.startswith("gold/")]
        assert len(parts) == 5 and row["gold"] == pytest.approx(sum(parts) / 5)


def test_refusals(shop: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its language is not the policy's; train the reward model from that policy"):
        run(config(shop, tmp_path / "a", reward_model=str(texts / "reward")))
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="ppo.jsonl: no such file, expected records of the import stage"):
        run(config(shop, tmp_path / "b", dataset=str(tmp_path / "data")))
