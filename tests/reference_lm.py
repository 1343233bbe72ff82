"""A language model small enough to enumerate: what reinforcement learning must reach is known in closed form.

Vocabulary of 6, one of it EOS, at most 3 tokens: 31 prefixes, 156 whole answers, 125 of which are cut off
before an EOS. The policy is a table of logits, one row a prefix. Padding is the EOS id on purpose, as in
SmolLM2, so that a mask made from token ids would be wrong. Nothing here uses the code under test.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

VOCABULARY, LENGTH, EOS = 6, 3, 5
WORDS = VOCABULARY - 1
PREFIXES = 1 + WORDS + WORDS**2
FIRST_PREFIX = (0, 1, 1 + WORDS)  # of each length


@dataclass(frozen=True)
class Answers:
    """tokens, prefixes: (N, 3) int64, the token taken and the row of the table it was taken from.

    mask: (N, 3), True = a token that was taken. ended: (N,), True = ends with EOS.
    index: (N,) into `enumerate_answers`.
    """

    tokens: Tensor
    prefixes: Tensor
    mask: Tensor
    ended: Tensor
    index: Tensor


@dataclass(frozen=True)
class Problem:
    """reference: (31, 6) logits. rewards: (156,) of the enumerated answers. beta: the price of KL."""

    reference: Tensor
    rewards: Tensor
    beta: float


def make_problem(seed: int, beta: float = 0.5, reward_scale: float = 1.0) -> Problem:
    """Return random logits and random rewards, no two prefixes or answers alike."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(PREFIXES, VOCABULARY, generator=generator)
    rewards = reward_scale * torch.randn(len(_SEQUENCES), generator=generator)
    return Problem(reference, rewards, beta)


def _sequences() -> list[tuple[int, ...]]:
    words = range(WORDS)
    short = [(*prefix, EOS) for n in range(LENGTH) for prefix in itertools.product(words, repeat=n)]
    return short + list(itertools.product(words, repeat=LENGTH))


_SEQUENCES = _sequences()


def _prefix_row(prefix: tuple[int, ...]) -> int:
    row = 0
    for token in prefix:
        row = row * WORDS + token
    return FIRST_PREFIX[len(prefix)] + row


def enumerate_answers() -> Answers:
    """Return all 156 answers, each once."""
    tokens = torch.tensor([[*s, *[EOS] * (LENGTH - len(s))] for s in _SEQUENCES])
    mask = torch.tensor([[t < len(s) for t in range(LENGTH)] for s in _SEQUENCES])
    rows = [[_prefix_row(s[:t]) if t < len(s) else 0 for t in range(LENGTH)] for s in _SEQUENCES]
    ended = torch.tensor([s[-1] == EOS for s in _SEQUENCES])
    return Answers(tokens, torch.tensor(rows), mask, ended, torch.arange(len(_SEQUENCES)))


_BY_TOKENS = torch.full((VOCABULARY**LENGTH,), -1)
_PLACES = torch.tensor([VOCABULARY**2, VOCABULARY, 1])
_BY_TOKENS[(enumerate_answers().tokens * _PLACES).sum(1)] = torch.arange(len(_SEQUENCES))


@torch.no_grad()
def sample(table: Tensor, n: int, generator: torch.Generator) -> Answers:
    """Draw `n` answers token by token from softmax of the table's rows."""
    probabilities = torch.softmax(table, -1)
    alive = torch.ones(n, dtype=torch.bool)
    word = torch.zeros(n, dtype=torch.int64)  # the prefix as a number in base 5
    tokens, prefixes, masks = [], [], []
    for t in range(LENGTH):
        row = torch.where(alive, FIRST_PREFIX[t] + word, 0)
        token = torch.multinomial(probabilities[row], 1, generator=generator)[:, 0]
        token = torch.where(alive, token, EOS)
        tokens.append(token)
        prefixes.append(row)
        masks.append(alive)
        alive = alive & (token != EOS)
        word = torch.where(alive, word * WORDS + token, 0)
    stacked = torch.stack(tokens, 1)
    index = _BY_TOKENS[(stacked * _PLACES).sum(1)]
    return Answers(stacked, torch.stack(prefixes, 1), torch.stack(masks, 1), ~alive, index)


def answer_logprobs(table: Tensor, answers: Answers) -> Tensor:
    """Return log p of each whole answer, (N,)."""
    rows = torch.log_softmax(table, -1)[answers.prefixes]
    each = rows.gather(-1, answers.tokens.unsqueeze(-1)).squeeze(-1)
    return torch.where(answers.mask, each, 0.0).sum(1)


def distribution(table: Tensor) -> Tensor:
    """Return p of all 156 answers."""
    return answer_logprobs(table, enumerate_answers()).exp()


def optimum(problem: Problem) -> Tensor:
    """Return pi* = ref * exp(R / beta) / Z over all answers: the maximiser of E[R] - beta * KL(pi, ref)."""
    return torch.softmax(answer_logprobs(problem.reference, enumerate_answers()) + problem.rewards / problem.beta, 0)


def sequence_kl(table: Tensor, reference: Tensor) -> Tensor:
    """Return KL between the distributions of whole answers, in nats."""
    answers = enumerate_answers()
    logprobs = answer_logprobs(table, answers)
    return (logprobs.exp() * (logprobs - answer_logprobs(reference, answers))).sum()


def total_variation(p: Tensor, q: Tensor) -> float:
    return 0.5 * float((p - q).abs().sum())
