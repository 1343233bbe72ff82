"""Cross-entropy against target distributions, for classifiers."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.algos.masked import Loss, same_shape, widen

__all__ = ["soft_cross_entropy"]


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Loss:
    """Return -sum_k t_k log softmax(z)_k a row; with two classes and (1 - p, p) this is binary cross-entropy.

    logits, targets: (M, K); a row of targets is a distribution, or all zero for an unlabelled row, which counts for
    nothing. weights: (M,) >= 0. count is the weight of the labelled rows. Metric `accuracy` against the most likely
    target class.
    """
    same_shape(logits, targets)
    labelled = targets.sum(-1) > 0
    weight = torch.where(labelled, widen(weights), 0.0)
    entropy = -(widen(targets) * torch.log_softmax(widen(logits), -1)).sum(-1)
    right = (logits.argmax(-1) == targets.argmax(-1)) & labelled
    count = weight.sum()
    return Loss((entropy * weight).sum(), count, {"accuracy": (right.sum(), labelled.sum())})
