from __future__ import annotations

import pytest
import torch
from torch import nn

from bessemer.training.optim import Group, adamw, learning_rate_at, set_learning_rate

# 10 steps, 2 of them warm-up: thirds of the way up, then down to the last step, which still learns
TABLE = {
    "linear": [1 / 3, 2 / 3, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "constant": [1 / 3, 2 / 3, *[1.0] * 8],
    # (1 + cos(pi k / 8)) / 2
    "cosine": [1 / 3, 2 / 3, 1.0, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602],
}


@pytest.mark.parametrize("kind", list(TABLE))
def test_learning_rate_by_hand(kind: str) -> None:
    assert [learning_rate_at(step, 10, 2, kind) for step in range(10)] == pytest.approx(TABLE[kind], abs=1e-7)


def test_learning_rate_is_never_zero_within_a_run() -> None:
    for total in (1, 2, 7, 100):
        for warmup in (0, 1, total):
            for kind in TABLE:
                rates = [learning_rate_at(step, total, warmup, kind) for step in range(total)]
                assert all(0 < rate <= 1 for rate in rates), (total, warmup, kind)
    assert learning_rate_at(0, 1, 0) == 1.0
    with pytest.raises(ValueError, match="schedule 'step', expected cosine, linear or constant"):
        learning_rate_at(5, 10, 2, "step")


def test_rates_and_decay_by_group() -> None:
    matrix, bias, other = (nn.Parameter(torch.ones(*shape)) for shape in ((2, 2), (2,), (3, 3)))
    optimiser = adamw([Group({"m": matrix, "b": bias}, 0.1, weight_decay=0.5), Group({"o": other}, 0.02)])
    set_learning_rate(optimiser, 0.25)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    assert found == {id(matrix): (0.025, 0.5), id(bias): (0.025, 0.0), id(other): (0.005, 0.0)}
    set_learning_rate(optimiser, 1.0)
    assert [group["lr"] for group in optimiser.param_groups] == [0.1, 0.1, 0.02]
    with pytest.raises(ValueError, match="nothing to train: every part is frozen"):
        adamw([Group({}, 0.1)])


def test_a_step_of_adamw_by_hand() -> None:
    """Loshchilov and Hutter: after one step of gradient g from zero moments, w (1 - lr decay) - lr g / (|g| + eps)."""
    matrix, bias = nn.Parameter(torch.full((1, 1), 2.0)), nn.Parameter(torch.full((1,), 2.0))
    optimiser = adamw([Group({"m": matrix, "b": bias}, 0.1, weight_decay=0.5)], eps=0.5)
    matrix.grad, bias.grad = torch.full((1, 1), -3.0), torch.full((1,), 3.0)
    optimiser.step()
    assert matrix.item() == pytest.approx(2.0 * 0.95 + 0.1 * 3 / 3.5)
    assert bias.item() == pytest.approx(2.0 - 0.1 * 3 / 3.5)
