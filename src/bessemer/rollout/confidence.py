"""How sure a model was of the answers that it gave."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bessemer.algos.head import linear_logprobs
from bessemer.models.feed import Feed
from bessemer.models.model import Model
from bessemer.rollout.collect import Answer, batch_of

__all__ = ["confidences"]

ROWS = 32  # answers a pass


@torch.no_grad()
def confidences(model: Model, feed: Feed, answers: Sequence[Answer]) -> list[float]:
    """Of each answer the geometric mean of its tokens' probabilities, the end token included: 0 to 1."""
    found: list[float] = []
    for start in range(0, len(answers), ROWS):
        batch = batch_of(feed, answers[start : start + ROWS])
        states = model.backbone.hidden(batch.packed)[batch.rows]
        logprobs, _ = linear_logprobs(states, model.backbone.head, batch.targets.to(states.device))
        found += [float(part.mean().exp()) for part in logprobs.float().cpu().split(batch.lengths.tolist())]
    return found
