"""Losses of classifiers: of whole pictures, and of the cells of a grid over them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bessemer.algos.masked import Loss, same_shape, widen

__all__ = ["cell_loss", "soft_cross_entropy"]


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


def cell_loss(logits: Tensor, there: Tensor, edges: Tensor, true_edges: Tensor, gamma: float = 2.0) -> Loss:
    """Return a focal loss of what lies in each cell, and an L1 loss of where its edges are, added up over pictures.

    logits, there: (B, N, L), the labels that lie in each of N cells, 1 or 0; edges, true_edges: (B, N, L, 4), nan where
    there is nothing to say. Of each picture the focal loss -(1 - p_t)^gamma log p_t is divided by how many of `there`
    are 1, and the L1 loss averaged over what can be said, so that neither a crowd nor an empty wall outweighs the rest;
    count is B. Metric `cells`: the share of things that are found, at a probability of a half. Source: Lin et al. 2017,
    equation 4; the division as in section 4.1 there.
    """
    same_shape(logits, there)
    same_shape(edges, true_edges)
    wide, there = widen(logits), widen(there)
    right = functional.logsigmoid(torch.where(there > 0, wide, -wide))  # log p_t
    focal = -((1 - right.exp()) ** gamma) * right
    found = focal.sum((1, 2)) / there.sum((1, 2)).clamp(min=1)
    known = torch.isfinite(true_edges)
    distance = torch.where(known, widen(edges) - torch.where(known, widen(true_edges), 0.0), 0.0).abs()
    placed = distance.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)
    count = torch.tensor(float(len(logits)), device=logits.device)
    hits = ((wide > 0) & (there > 0)).sum()
    return Loss((found + placed).sum(), count, {"cells": (hits, there.sum())})
