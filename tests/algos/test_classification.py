"""Losses of classifiers beside those of PyTorch and torchvision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss

from bessemer.algos.classification import cell_loss, soft_cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(12, 2, generator=GENERATOR, dtype=torch.float64)
POSITIVE = torch.rand(12, generator=GENERATOR, dtype=torch.float64)
WEIGHTS = torch.rand(12, generator=GENERATOR, dtype=torch.float64)


def test_two_classes_are_binary_cross_entropy_with_logits() -> None:
    """softmax of (a, b) is sigmoid of b - a; raters' confidence weighs the rows."""
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss = soft_cross_entropy(ours, torch.stack([1 - POSITIVE, POSITIVE], -1), WEIGHTS)
    expected = functional.binary_cross_entropy_with_logits(
        theirs[:, 1] - theirs[:, 0], POSITIVE, weight=WEIGHTS, reduction="sum"
    )
    loss.sum.backward()
    expected.backward()
    assert_close(loss.sum, expected, atol=1e-12, rtol=0)
    assert_close(loss.count, WEIGHTS.sum(), atol=1e-12, rtol=0)
    assert ours.grad is not None and theirs.grad is not None
    assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("classes", [3, 5])
def test_more_classes_are_cross_entropy_with_probabilities(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(8, classes, generator=generator, dtype=torch.float64)
    targets = torch.rand(8, classes, generator=generator, dtype=torch.float64)
    targets = targets / targets.sum(-1, keepdim=True)
    loss = soft_cross_entropy(logits, targets, torch.ones(8, dtype=torch.float64))
    assert_close(loss.sum, functional.cross_entropy(logits, targets, reduction="sum"), atol=1e-12, rtol=0)


def test_unlabelled_rows_count_for_nothing() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 9.0], [1.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    weights = torch.tensor([2.0, 5.0, 1.0])
    loss = soft_cross_entropy(logits, targets, weights)
    # log(1 + e^-2) twice, log(1 + e^2) once
    assert float(loss.sum) == pytest.approx(2 * 0.126928011 + 2.126928011, abs=1e-6)
    assert float(loss.count) == 3.0


def test_accuracy_is_against_the_likelier_class_of_the_labelled() -> None:
    logits = torch.tensor([[2.0, 0.0], [9.0, 0.0], [1.0, 3.0], [0.0, 1.0]])
    targets = torch.tensor([[0.6, 0.4], [0.0, 0.0], [1.0, 0.0], [0.3, 0.7]])
    right, labelled = soft_cross_entropy(logits, targets, torch.ones(4)).metrics["accuracy"]
    assert (int(right), int(labelled)) == (2, 3)


def test_bfloat16_logits_are_widened() -> None:
    logits = torch.tensor([[30.0, 29.9]]).bfloat16()
    loss = soft_cross_entropy(logits, torch.tensor([[0.5, 0.5]]), torch.ones(1))
    gap = float(logits[0, 0]) - float(logits[0, 1])
    assert loss.sum.dtype == torch.float32
    assert float(loss.sum) == pytest.approx(0.5 * gap + float(torch.log1p(torch.tensor(-gap).exp())), abs=1e-6)


def _cells() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pictures of nine cells and two labels: three things in one, none in the other."""
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(2, 9, 2, generator=generator, dtype=torch.float64)
    there = torch.zeros(2, 9, 2, dtype=torch.float64)
    there[0, [1, 4, 4], [0, 0, 1]] = 1
    edges, true = (torch.randn(2, 9, 2, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return logits, there, edges, torch.where(there[..., None] > 0, true, float("nan"))


def test_cells_have_a_focal_loss_divided_by_what_is_there() -> None:
    logits, there, edges, true = _cells()
    focal = sigmoid_focal_loss(logits, there, alpha=-1, gamma=2).sum((1, 2))
    distances = (edges - true)[0][there[0] > 0].abs()
    loss = cell_loss(logits, there, edges, true)
    assert_close(loss.sum, focal[0] / 3 + distances.mean() + focal[1], atol=1e-12, rtol=0)
    assert float(loss.count) == 2
    hits, things = loss.metrics["cells"]
    assert float(hits) == float((logits[there > 0] > 0).sum()) and float(things) == 3


def test_edges_of_which_nothing_is_known_get_no_gradient() -> None:
    logits, there, edges, true = _cells()
    edges.requires_grad_()
    cell_loss(logits, there, edges, true).sum.backward()
    assert edges.grad is not None and torch.equal(edges.grad != 0, torch.isfinite(true))
