"""Policy, reference, value and reward on one backbone do not disturb one another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import tiny
from bessemer.data.batches import Packed, pack
from bessemer.errors import UserError
from bessemer.models.backbone import PaddedBackbone
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.model import ADAPTER, Model, load_model, save_model
from bessemer.models.reward import load_reward
from bessemer.models.roles import Role, Roles, speaking
from bessemer.models.tuning import tune_language

SEQUENCES = tiny.sequences([8, 15, 3])
PACKED = pack(SEQUENCES)
ROWS = torch.tensor([2, 3, 4, 10, 15, 24])
TARGETS = PACKED.ids[ROWS + 1]


def _model(tmp_path: Path, dtype: str = "fp32", seed: int = 1) -> Model:
    """A model whose adapter "sft" changes something."""
    model = tiny.text_model(tmp_path, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tune_language(model, "lora", lora_rank=4, lora_alpha=8.0).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _roles(model: Model) -> Roles:
    lora = model.adapters()
    for name in ("policy", "reward", "value"):
        lora.copy(ADAPTER, name)
    reward = tiny.reward_head(model.width, ["truthfulness", "clarity"])
    model.freeze()
    return Roles(
        model,
        {
            "policy": Role("policy", trainable=True),
            "reference": Role(ADAPTER),
            "reward": Role("reward", reward),
            "value": Role("value", value_head(model.width, reward), trainable=True),
            "bare": Role(None),
        },
    )


def _frozen(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _changed(parameters: list[nn.Parameter], before: list[Tensor]) -> list[bool]:
    return [not torch.equal(p.detach(), b) for p, b in zip(parameters, before, strict=True)]


def _step(roles: Roles, loss: Tensor) -> None:
    both = [*roles.parameters("policy"), *roles.parameters("value")]
    optimiser = torch.optim.AdamW(both, lr=0.05)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_reference_is_bit_identical_after_the_policy_has_learned(tmp_path: Path, dtype: str) -> None:
    model = _model(tmp_path, dtype)
    roles = _roles(model)
    with torch.no_grad():
        before = roles.logprobs("reference", PACKED, ROWS, TARGETS, 0.7)[0]
        scores, values = roles.scores("reward", PACKED), roles.values("value", PACKED, ROWS)
        assert torch.equal(roles.logprobs("policy", PACKED, ROWS, TARGETS, 0.7)[0], before)
    for _ in range(3):
        _step(roles, -roles.logprobs("policy", PACKED, ROWS, TARGETS, 0.7)[0].sum())
    with torch.no_grad():
        assert torch.equal(roles.logprobs("reference", PACKED, ROWS, TARGETS, 0.7)[0], before)
        assert torch.equal(roles.scores("reward", PACKED), scores)
        assert torch.equal(roles.values("value", PACKED, ROWS), values)
        assert float((roles.logprobs("policy", PACKED, ROWS, TARGETS, 0.7)[0] - before).sum()) > 1.0


def test_the_value_s_loss_moves_the_value_alone(tmp_path: Path) -> None:
    roles = _roles(_model(tmp_path))
    policy, value = roles.parameters("policy"), roles.parameters("value")
    before = _frozen(policy), _frozen(value)
    _step(roles, roles.values("value", PACKED, ROWS).square().sum())
    assert not any(_changed(policy, before[0])) and all(_changed(value, before[1]))


def test_the_policy_s_loss_moves_the_policy_alone(tmp_path: Path) -> None:
    roles = _roles(_model(tmp_path))
    policy, value = roles.parameters("policy"), roles.parameters("value")
    everything = [p for p in roles.model.backbone.parameters()] + list(roles.model.adapters().parameters())
    others = [p for p in everything if not any(p is mine for mine in policy)]
    before = _frozen(policy), _frozen(value), _frozen(others)
    _step(roles, roles.logprobs("policy", PACKED, ROWS, TARGETS)[0].sum())
    assert all(_changed(policy, before[0])) and not any(_changed(value, before[1]))
    assert len(others) > 60 and not any(_changed(others, before[2]))


def test_what_each_role_may_change(tmp_path: Path) -> None:
    model = _model(tmp_path)
    roles = _roles(model)
    lora = model.adapters()
    assert {id(p) for p in roles.parameters("policy")} == {id(p) for p in lora.factors("policy").parameters()}
    head = roles.roles["value"].head
    assert head is not None
    expected = {id(p) for p in [*lora.factors("value").parameters(), *head.parameters()]}
    assert {id(p) for p in roles.parameters("value")} == expected
    assert roles.parameters("reference") == roles.parameters("reward") == roles.parameters("bare") == []
    for frozen in ("reference", "reward", "bare"):
        assert not roles.hidden(frozen, PACKED).requires_grad
    assert roles.hidden("policy", PACKED).requires_grad
    looking = Roles(model, {"policy": Role("policy", trainable=True), "old": Role("policy")})
    assert looking.hidden("policy", PACKED).requires_grad and not looking.hidden("old", PACKED).requires_grad
    with torch.no_grad():
        assert not roles.hidden("policy", PACKED).requires_grad


@torch.no_grad()
def test_the_bare_role_is_transformers_own(tmp_path: Path) -> None:
    roles = _roles(_model(tmp_path))
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    logits = torch.cat([network(input_ids=ids[None]).logits[0] for ids in PACKED.ids.split(PACKED.lengths)])[ROWS]
    table = torch.log_softmax(logits.double() / 1.5, -1)
    logprobs, entropy = roles.logprobs("bare", PACKED, ROWS, TARGETS, 1.5)
    assert_close(logprobs.double(), table[torch.arange(6), TARGETS], atol=2e-5, rtol=0)
    assert_close(entropy.double(), -(table.exp() * table).sum(-1), atol=2e-5, rtol=0)
    assert_close(roles.logits_of(roles.hidden("bare", PACKED)[ROWS]), logits, atol=2e-5, rtol=0)
    assert float((roles.logits_of(roles.hidden("reference", PACKED)[ROWS]) - logits).abs().max()) > 0.05


def test_whoever_spoke_before_speaks_again(tmp_path: Path) -> None:
    model = _model(tmp_path)
    roles, lora = _roles(model), model.adapters()
    lora.active = "value"
    roles.hidden("policy", PACKED)
    assert lora.active == "value"
    broken = Packed(torch.tensor([10_000]), (1,), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(IndexError):
        roles.hidden("policy", broken)
    assert lora.active == "value"
    with pytest.raises(ZeroDivisionError), speaking(model, None):
        assert lora.active is None
        _ = 1 / 0
    assert lora.active == "value"


def _reward_model(tmp_path: Path, name: str, seed: int) -> Model:
    model = _model(tmp_path, seed=seed)
    model.reward = RewardHead(model.width, ["truthfulness", "clarity"], seed)
    save_model(model, tmp_path / name, adapter=ADAPTER)
    return model


@torch.no_grad()
def _scores_one_by_one(model: Model) -> Tensor:
    """Each sequence alone, its last state, its head: nothing of `Roles`."""
    assert model.reward is not None
    return torch.cat([model.reward(model.backbone.hidden(pack([sequence]))[-1:]) for sequence in SEQUENCES])


@torch.no_grad()
def test_scores_are_the_separately_loaded_reward_model_s(tmp_path: Path) -> None:
    reward = _reward_model(tmp_path, "reward", 5)
    policy = _model(tmp_path)
    head = load_reward(policy, tmp_path / "reward", "reward")
    roles = Roles(policy, {"reward": Role("reward", head)})
    expected = _scores_one_by_one(reward)
    assert float(expected.std(0).min()) > 0.01
    assert_close(roles.scores("reward", PACKED), expected, atol=1e-5, rtol=0)
    alone = torch.cat([roles.scores("reward", pack([sequence])) for sequence in SEQUENCES])
    assert_close(alone, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("padding", ["left", "right"])
def test_scores_do_not_depend_on_padding(tmp_path: Path, padding: str) -> None:
    reward = _reward_model(tmp_path, "reward", 5)
    expected = _scores_one_by_one(reward)
    network = reward.backbone.language
    network.set_attn_implementation("eager")
    reward.backbone = PaddedBackbone(network, padding)
    roles = Roles(reward, {"reward": Role(ADAPTER, reward.reward)})
    assert_close(roles.scores("reward", PACKED), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_scores_of_a_merged_reward_model(tmp_path: Path) -> None:
    reward = _reward_model(tmp_path, "reward", 5)
    save_model(reward, tmp_path / "merged", adapter=ADAPTER, merge=True)
    merged = load_model(str(tmp_path / "merged"), "fp32")
    roles = Roles(merged, {"reward": Role(None, merged.reward)})
    assert_close(roles.scores("reward", PACKED), _scores_one_by_one(reward), atol=2e-5, rtol=0)


def _composed(tmp_path: Path) -> Model:
    """The same language model with a vision side."""
    save_model(tiny.composed_model(tmp_path), tmp_path / "composed")
    return load_model(str(tmp_path / "composed"), "fp32")


def test_a_reward_model_of_another_backbone_is_refused(tmp_path: Path) -> None:
    _reward_model(tmp_path, "reward", 5)
    other = tiny.text_model(tmp_path / "other", seed=9)
    with pytest.raises(UserError, match="its language is not the policy's; train the reward model from that policy"):
        load_reward(other, tmp_path / "reward", "reward")
    save_model(other, tmp_path / "saved")
    with pytest.raises(UserError, match="no adapter, expected a reward stage trained with LoRA"):
        load_reward(other, tmp_path / "saved", "reward")
    with pytest.raises(UserError, match="its projector is not the policy's"):
        load_reward(_composed(tmp_path), tmp_path / "reward", "reward")
