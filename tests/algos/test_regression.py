from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import Tensor
from torch.testing import assert_close

from bessemer.algos.regression import Moments, ridge


def _rows(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Inputs far from 0, a target that they explain, one that they hardly do, and one that never varies."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 + torch.randn(count, 6, generator=generator)
    noise = torch.randn(count, 2, generator=generator)
    return x, torch.stack([x[:, 0] - 2 * x[:, 3] + 5 + 0.1 * noise[:, 0], noise[:, 1], torch.full((count,), 0.1)], 1)


def _moments(x: Tensor, y: Tensor, pieces: int = 1) -> Moments:
    moments = Moments(x.shape[1], y.shape[1])
    for part, targets in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
        moments.add(part, targets)
    return moments


def test_ridge_is_that_of_scikit_learn() -> None:
    (x, y), held = _rows(0, 50), _rows(1, 40)
    weight, bias, _ = ridge(_moments(x, y), _moments(*held), [0.01])
    scale = float(torch.cat([x, torch.ones(50, 1)], 1).square().sum(0)[:-1].mean())
    same = Ridge(alpha=0.01 * scale).fit(x.double().numpy(), y.double().numpy())
    assert_close(weight, torch.tensor(same.coef_).float(), atol=1e-4, rtol=1e-4)
    assert_close(bias, torch.tensor(same.intercept_).float(), atol=1e-3, rtol=1e-4)


def test_each_target_takes_the_penalty_that_serves_the_held_out_rows() -> None:
    """What cannot be explained is left alone, what can be is not shrunk; the share is scikit-learn's R2."""
    (x, y), (seen, truth) = _rows(0, 20), _rows(1, 400)
    weight, bias, explained = ridge(_moments(x, y), _moments(seen, truth), [1e-6, 1e3])
    predicted = seen @ weight.T + bias
    for column in (0, 1):
        expected = r2_score(truth[:, column].numpy(), predicted[:, column].numpy())
        assert abs(float(explained[column]) - expected) < 1e-3
    assert explained[0] > 0.99 and explained[2].isnan()
    assert weight[1].abs().max() < 1e-3 < 0.9 < weight[0, 0]
    unheld, *_ = ridge(_moments(x, y), Moments(6, 3), [1e-6, 1e3])
    assert unheld.abs().max() < 1e-3
    with pytest.raises(ValueError, match="at least one row"):
        ridge(Moments(6, 3), _moments(x, y))


def test_sums_of_batches_are_those_of_the_whole() -> None:
    x, y = _rows(2, 30)
    for whole, parts in zip(vars(_moments(x, y)).values(), vars(_moments(x, y, 4)).values(), strict=True):
        assert_close(torch.as_tensor(whole), torch.as_tensor(parts), atol=1e-9, rtol=1e-12)
