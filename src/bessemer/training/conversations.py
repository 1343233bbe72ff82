"""Conversations as training batches: a mixture of tasks in an order that is a pure function of the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from torch import Tensor

from bessemer.algos.language import next_token_loss
from bessemer.algos.masked import Loss
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.mixture import mixture_order, permutation
from bessemer.data.records import Conversation
from bessemer.data.render import Rendered
from bessemer.errors import UserError
from bessemer.models.feed import Feed

__all__ = ["ConversationBatches", "answer_loss"]


class ConversationBatches:
    """Batches of a step, rendered once, packed when asked for. Final.

    tasks: names in the order of `TextBatch.tasks`; steps_per_epoch: optimiser steps in one pass over the mixture.
    """

    def __init__(
        self,
        feed: Feed,
        conversations: Sequence[Conversation],
        *,
        cutoff: int,
        batch_size: int,
        accumulation: int = 1,
        task_weights: Mapping[str, float] | None = None,
        views: int = 1,
        seed: int = 0,
    ) -> None:
        # one of weight 0 teaches nothing, and a batch of them would look like a loss that is not finite
        conversations = [conversation for conversation in conversations if conversation.weight > 0]
        if not conversations:
            raise UserError("no conversations to train on; look at the import stage's output")
        self.feed, self.views, self.seed = feed, views, seed
        self.tasks = sorted({conversation.task for conversation in conversations})
        self.rendered: dict[str, list[Rendered]] = {task: [] for task in self.tasks}
        self.weights: dict[str, list[float]] = {task: [] for task in self.tasks}
        for conversation in conversations:
            try:
                rendered = feed.renderer.conversation(conversation.messages, cutoff)
            except UserError as error:
                raise UserError(f"conversation {conversation.id}: {error}") from error
            self.rendered[conversation.task].append(rendered)
            self.weights[conversation.task].append(conversation.weight)
        feed.prepare([conversation.messages for conversation in conversations], views)
        sizes = {task: len(items) for task, items in self.rendered.items()}
        unknown = set(task_weights or {}) - set(sizes)
        if unknown:
            raise UserError(f"task_weights names {sorted(unknown)}, expected some of {self.tasks}")
        self.order = lru_cache(maxsize=2)(lambda epoch: mixture_order(sizes, task_weights or {}, seed, epoch))
        self.accumulation = accumulation
        self.batch_size = max(1, min(batch_size, len(self.order(0)) // accumulation))
        self.steps_per_epoch = max(1, len(self.order(0)) // (self.batch_size * accumulation))

    def __call__(self, step: int) -> list[TextBatch]:
        """The microbatches of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self.order(epoch)
        first = place * self.batch_size * self.accumulation
        # a weighted mixture may be an item shorter in some epochs: the last batch then starts over
        chosen = [order[(first + k) % len(order)] for k in range(self.batch_size * self.accumulation)]
        parts = [chosen[k : k + self.batch_size] for k in range(0, len(chosen), self.batch_size)]
        return [self._batch(part, step * self.accumulation + k) for k, part in enumerate(parts)]

    def _batch(self, chosen: Sequence[tuple[str, int]], key: int) -> TextBatch:
        sequences = [self.rendered[task][index] for task, index in chosen]
        views = [0] * len(chosen)
        if self.views > 1:
            shuffled = permutation(len(chosen) * self.views, "views", self.seed, key)
            views = [value % self.views for value in shuffled[: len(chosen)]]
        return text_batch(
            sequences,
            self.feed.inputs(sequences, views),
            [self.weights[task][index] for task, index in chosen],
            [self.tasks.index(task) for task, _ in chosen],
        )


def answer_loss(logprobs: Tensor, batch: TextBatch, tasks: Sequence[str]) -> Loss:
    """Cross-entropy of the answers' tokens with the loss of each task as a metric."""
    loss = next_token_loss(logprobs, batch.weights.to(logprobs.device))
    metrics = dict(loss.metrics)
    for index, task in enumerate(tasks):
        if len(tasks) > 1:
            # also for a task that this batch has nothing of: ranks must add up the same metrics
            mine = (batch.tasks == index).to(logprobs.device)
            metrics[f"loss/{task}"] = (-logprobs.detach()[mine].sum(), mine.sum())
    return Loss(loss.sum, loss.count, metrics)
