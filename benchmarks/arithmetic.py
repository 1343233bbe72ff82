"""The least that a piece of work costs: multiplications and additions, and bytes that have to be read.

Counted are the linear layers, attention (each token with itself and those before it, nothing of the upper half), the
language-model head on the rows that need it, and low-rank adapters; a multiplication and an addition are two
operations. Not counted are norms, activations, softmax, rotations, the optimiser and every copy: what a network does
besides is above the least, and shows in the ratio. Bytes are those of bf16 weights, read once a pass, and of the cache;
`Work.stored_in` has them for other types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shapes import Shape

__all__ = ["LORA_RANK", "Peak", "Rows", "Work", "decoding", "passing", "rollout", "training", "triangle"]

BYTES = 2
"""Of a weight, and of a number in the cache, in bf16."""
LORA_RANK = 16


@dataclass(frozen=True)
class Peak:
    """What a machine reached where nothing is in the way: `gflops` in a product of the type that is measured, `gbs`
    (GB/s) in a stream."""

    gflops: float
    gbs: float


@dataclass(frozen=True)
class Work:
    """flop: operations; bytes: read from memory at the least."""

    flop: float
    bytes: float

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes)

    def stored_in(self, size: int) -> Work:
        """The same work on numbers of `size` bytes."""
        return Work(self.flop, self.bytes * size / BYTES)

    def seconds(self, peak: Peak) -> float:
        """The roofline: the slower of computing and reading, both at their peak and at the same time."""
        return max(self.flop / peak.gflops, self.bytes / peak.gbs) / 1e9


@dataclass(frozen=True)
class Rows:
    """What a pass has to look at: `tokens` that are computed, `pairs` of a token and one that it sees, `heads` rows
    that go through the language-model head."""

    tokens: int
    pairs: int
    heads: int

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.tokens + other.tokens, self.pairs + other.pairs, self.heads + other.heads)


def triangle(length: int, known: int = 0) -> int:
    """Pairs of `length` tokens behind `known` ones: 1 + 2 + ... + length, and `known` for each."""
    return length * (length + 1) // 2 + length * known


def attention(shape: Shape, pairs: float) -> float:
    """Operations of scores and mixtures: two products over the width of all asking heads, in every block."""
    return 4.0 * shape.layers * shape.heads * shape.head_dim * pairs


def passing(shape: Shape, rows: Rows, adapter: bool = False) -> Work:
    """One pass forward."""
    weights = shape.block_weights + (shape.lora_weights(LORA_RANK) if adapter else 0)
    head = shape.head_weights if rows.heads else 0
    flop = 2.0 * weights * rows.tokens + 2.0 * head * rows.heads + attention(shape, rows.pairs)
    return Work(flop, BYTES * (weights + head))


def training(shape: Shape, rows: Rows, logits: int = 1) -> Work:
    """Forward and backward of a step that trains a low-rank adapter: frozen weights get no gradient of their own.

    logits: how often the logits are computed before the one gradient through them; distillation needs the teacher's.
    """
    frozen, factors = shape.block_weights, shape.lora_weights(LORA_RANK)
    flop = (4.0 * frozen + 6.0 * factors) * rows.tokens
    flop += 2.0 * (logits + 1) * shape.head_weights * rows.heads
    flop += 3.0 * attention(shape, rows.pairs)  # backwards four products instead of two
    head = (logits + 1) * shape.head_weights if rows.heads else 0
    return Work(flop, BYTES * (2 * frozen + head))


def decoding(shape: Shape, contexts: Iterable[float]) -> Work:
    """One step of decoding: one row each, which sees `contexts` tokens, itself among them; adapters are merged."""
    seen = list(contexts)
    weights, pairs = shape.block_weights + shape.head_weights, sum(seen)
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * pairs
    return Work(2.0 * weights * len(seen) + attention(shape, pairs), BYTES * (weights + cache))


def rollout(shape: Shape, prompts: Sequence[int], copies: int, limits: Sequence[int], peak: Peak) -> float:
    """Least seconds of answers of `limits` tokens, `copies` to each of the prompts of `prompts` tokens, all at once.

    A prompt is read once for its copies; an answer's first token comes from there, each further one from a step.
    """
    read = [Rows(length, triangle(length), 1) for length in prompts]
    seconds = passing(shape, sum(read, Rows(0, 0, 0))).seconds(peak)
    answers = [(length, limits[i * copies + k]) for i, length in enumerate(prompts) for k in range(copies)]
    for step in range(1, max(limits)):
        seconds += decoding(shape, [length + step for length, limit in answers if limit > step]).seconds(peak)
    return seconds
