from __future__ import annotations

import statistics

import pytest
import torch
from torch.testing import assert_close

from bessemer.algos.masked import Loss, masked_mean, masked_sum, masked_var, same_shape, whiten, widen

NAN, INF = float("nan"), float("inf")
ROWS = torch.tensor([[1.0, 4.0, NAN], [-2.0, INF, 7.5]])
MASK = torch.tensor([[True, True, False], [True, False, True]])
COUNTED = [1.0, 4.0, -2.0, 7.5]


def test_masked_reductions_see_only_what_counts() -> None:
    assert masked_sum(ROWS, MASK).item() == 10.5
    assert masked_mean(ROWS, MASK).item() == 2.625
    assert masked_var(ROWS, MASK).item() == pytest.approx(statistics.pvariance(COUNTED), rel=1e-6)


def test_nothing_counts() -> None:
    nothing = torch.zeros_like(MASK)
    assert [f(ROWS, nothing).item() for f in (masked_sum, masked_mean, masked_var)] == [0.0, 0.0, 0.0]
    assert_close(whiten(ROWS, nothing), torch.zeros(2, 3))


def test_what_is_behind_the_mask_reaches_no_gradient() -> None:
    x, y, z = (ROWS.clone().requires_grad_() for _ in range(3))
    masked_mean(x, MASK).backward()
    assert_close(x.grad, torch.tensor([[0.25, 0.25, 0.0], [0.25, 0.0, 0.25]]))
    masked_var(y, MASK).backward()
    # d var / d x = 2 (x - mean) / n, with mean 2.625
    assert_close(y.grad, torch.tensor([[-0.8125, 0.6875, 0.0], [-2.3125, 0.0, 2.4375]]))
    whiten(z, MASK).max().backward()
    assert z.grad is not None and ((z.grad != 0) == MASK).all() and z.grad.isfinite().all()


def test_whiten_gives_mean_zero_and_population_deviation_one() -> None:
    mean, deviation = statistics.fmean(COUNTED), statistics.pstdev(COUNTED)
    expected = torch.zeros(2, 3)
    expected[MASK] = torch.tensor([(value - mean) / deviation for value in COUNTED])
    assert_close(whiten(ROWS, MASK), expected, atol=1e-6, rtol=0)


def test_whiten_can_keep_the_mean() -> None:
    # Rewards are scaled about their mean but not shifted: 1 and 3, of mean 2 and deviation 1, stay.
    x, mask = torch.tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False])
    assert_close(whiten(x, mask, shift_mean=False), torch.tensor([1.0, 3.0, 0.0]), atol=1e-6, rtol=0)
    assert_close(whiten(x, mask), torch.tensor([-1.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_whiten_of_equal_values_is_finite() -> None:
    assert_close(whiten(torch.full((3,), 5.0), torch.ones(3, dtype=torch.bool)), torch.zeros(3))


def test_half_precision_is_summed_in_float32() -> None:
    # In bfloat16 256 + 65 is 320.
    x = torch.tensor([256.0] + [1.0] * 65, dtype=torch.bfloat16)
    assert masked_sum(x, torch.ones(66, dtype=torch.bool)).item() == 321.0
    assert [widen(torch.ones(1, dtype=d)).dtype for d in (torch.float16, torch.int64, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]


def test_shapes_are_not_broadcast() -> None:
    same_shape(ROWS, MASK)
    with pytest.raises(ValueError, match=r"\(2, 3\), \(3,\)"):
        masked_sum(ROWS, MASK[0])


def test_loss_is_immutable_and_metrics_are_its_own() -> None:
    first, second = (Loss(torch.tensor(1.0), torch.tensor(2)) for _ in range(2))
    first.metrics["x"] = (torch.tensor(1.0), torch.tensor(1))
    assert second.metrics == {}
    with pytest.raises(AttributeError):
        first.sum = torch.tensor(3.0)  # type: ignore[misc]
