"""The order of data: a pure function of (seed, epoch), the same on every machine, whatever any global
generator has drawn.

Stateless order is what makes a resumed run exact: nothing has to be saved, and an epoch cannot be replayed by
a generator that was restored at the wrong moment.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import random
from collections.abc import Iterator, Mapping

from ..errors import UserError

__all__ = ["epoch_order", "interleaved", "mixture_order", "permutation"]


def permutation(n: int, *key: str | int) -> list[int]:
    """A uniformly random order of 0..n-1 that depends on `key` alone.

    Fisher-Yates over `random.Random.random()`: of Python's generators the one stream that is promised not to
    change between versions. The key is hashed, so that neighbouring seeds share nothing.
    """
    digest = hashlib.sha256("\x1f".join(f"{type(part).__name__}:{part}" for part in key).encode()).digest()
    draw = random.Random(int.from_bytes(digest, "big")).random
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = int(draw() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """Indices 0..n-1 in the order of this epoch."""
    return permutation(n, "epoch", seed, epoch)


def interleaved(weights: Mapping[str, float], n: int, *key: str | int) -> Iterator[tuple[int, str]]:
    """(index, task) pairs, each once for n records and every task with a weight above 0; after m of them every task
    has had its share by weight, as near as whole numbers allow. Of equal shares the first in `weights` is due."""
    orders = {name: permutation(n, *key, name) for name, weight in weights.items() if weight > 0}
    done = dict.fromkeys(orders, 0)
    while left := [name for name in orders if done[name] < n]:
        name = min(left, key=lambda name: (done[name] + 1) / weights[name])
        yield orders[name][done[name]], name
        done[name] += 1


def mixture_order(
    sizes: Mapping[str, int], weights: Mapping[str, float], seed: int, epoch: int
) -> list[tuple[str, int]]:
    """Records of several tasks in the order of this epoch, as (task, index within the task).

    A weight says how often a record of the task is seen in an epoch: 1 (also when the task is not named)
    once, 2 twice, 0.5 every second epoch, 0 never. Each task runs through its own shuffled passes without a
    gap between epochs, so over any number of epochs no record of a task is seen more than once more often
    than another of it. Depends on neither the order of the mappings nor on other tasks' sizes, except for the
    interleaving.

    Raises:
        UserError: a weight for a task that does not exist, negative or not finite; nothing left to train on.
    """
    for task, weight in weights.items():
        if task not in sizes:
            near = difflib.get_close_matches(task, list(sizes), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(sizes)}"
            raise UserError(f"weight for task {task!r}, of which there are no records; {hint}")
        if not math.isfinite(weight) or weight < 0:
            raise UserError(f"weight {weight} of task {task!r}, expected a number of 0 or more")
    drawn: list[tuple[str, int]] = []
    for task in sorted(sizes):
        drawn.extend((task, index) for index in _draw(task, sizes[task], weights.get(task, 1.0), seed, epoch))
    if not drawn:
        raise UserError("the task mixture is empty, expected at least one task with records and a weight above 0")
    return [drawn[position] for position in permutation(len(drawn), "mixture", seed, epoch)]


def _draw(task: str, size: int, weight: float, seed: int, epoch: int) -> list[int]:
    """Positions [epoch, epoch + 1) * weight * size of the task's endless sequence of passes; a pass is a
    permutation of its records."""
    start, stop = (math.floor(e * weight * size + 0.5) for e in (epoch, epoch + 1))
    indices: list[int] = []
    while start < stop:
        number, offset = divmod(start, size)
        taken = permutation(size, "pass", task, seed, number)[offset : offset + stop - start]
        indices.extend(taken)
        start += len(taken)
    return indices
