from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from bessemer.algos.principles import aggregate, normalise
from bessemer.errors import UserError
from bessemer.models.heads import RewardHead, value_head

HIDDEN = torch.randn(9, 24, generator=torch.Generator().manual_seed(0))


def _head() -> RewardHead:
    head = RewardHead(24, ["truthfulness", "clarity", "fluency"], seed=1)
    with torch.no_grad():
        head.linear.bias.copy_(torch.tensor([0.3, -1.0, 2.0]))
        head.expected_weight.copy_(torch.randn(3, 24, generator=torch.Generator().manual_seed(5)))
        head.expected_bias.copy_(torch.tensor([1.0, 0.5, -2.0]))
    head.mean.copy_(torch.tensor([0.5, -2.0, 1.0]))
    head.std.copy_(torch.tensor([0.5, 4.0, 1.5]))
    head.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    return head


@torch.no_grad()
def test_scores_are_one_linear_output_a_principle() -> None:
    head = _head()
    lines = list(zip(head.linear.weight, head.linear.bias, strict=True))
    expected = [[float(row @ weight) + float(bias) for weight, bias in lines] for row in HIDDEN]
    assert_close(head(HIDDEN), torch.tensor(expected), atol=1e-5, rtol=0)
    assert head(HIDDEN.bfloat16()).dtype == torch.float32


def test_a_new_head_scores_unit_states_near_a_unit_normal() -> None:
    head = RewardHead(1000, ["a", "b"], seed=0)
    assert float(head.linear.bias.detach().abs().max()) == 0
    states = torch.randn(400, 1000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = head(states)
    assert abs(float(scores.mean())) < 0.15 and 0.85 < float(scores.std()) < 1.15
    assert torch.equal(RewardHead(8, ["a"], seed=3).linear.weight, RewardHead(8, ["a"], seed=3).linear.weight)
    assert not torch.equal(RewardHead(8, ["a"], seed=3).linear.weight, RewardHead(8, ["a"], seed=4).linear.weight)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    head = _head()
    head.save(tmp_path)
    loaded = RewardHead.load(tmp_path)
    assert loaded.principles == head.principles
    assert {n: t.tolist() for n, t in loaded.state_dict().items()} == {
        n: t.tolist() for n, t in head.state_dict().items()
    }
    names = {"linear.weight", "linear.bias", "expected_weight", "expected_bias", "mean", "std", "weights"}
    assert set(head.state_dict()) == names
    with pytest.raises(UserError, match="no reward head; expected the model of a reward stage"):
        RewardHead.load(tmp_path / "nothing")


def test_a_head_of_before_expects_nothing(tmp_path: Path) -> None:
    head = _head()
    head.save(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if not n.startswith("expected_")}, file)
    loaded = RewardHead.load(tmp_path)
    assert float(loaded.expected_weight.abs().max()) == 0 and torch.equal(loaded.linear.weight, head.linear.weight)


@torch.no_grad()
def test_a_warm_value_is_the_reward_that_the_expected_scores_would_make() -> None:
    head = _head()
    scores = normalise(HIDDEN @ head.expected_weight.T + head.expected_bias, head.mean, head.std, 1e9)
    reward = aggregate(scores, head.weights)
    assert_close(value_head(24, head)(HIDDEN)[:, 0], reward, atol=1e-5, rtol=0)
    limits = torch.tensor([torch.nan, -9.0, torch.nan])  # none falls short of it, and it is no summand
    thresholded = aggregate(scores, head.weights, limits, penalty=0.0)
    assert_close(value_head(24, head, ["clarity"])(HIDDEN)[:, 0], thresholded, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_cold_value_is_zero() -> None:
    assert float(value_head(24)(HIDDEN).abs().max()) == 0
