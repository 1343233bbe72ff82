"""One optimiser step, however its batch is cut: by microbatches, by ranks, not at all."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import tiny
from bessemer.algos.head import linear_logprobs
from bessemer.algos.masked import Loss
from bessemer.algos.policy import clipped_surrogate, clipped_value_loss
from bessemer.algos.preference import soft_bradley_terry
from bessemer.data.batches import TextBatch, pad_rows, response_rows, text_batch
from bessemer.data.records import Message, Prompt, Ranking
from bessemer.data.render import Rendered
from bessemer.models.feed import Feed
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.model import ADAPTER, Model
from bessemer.models.roles import Role, Roles
from bessemer.models.tuning import tune_language
from bessemer.training.conversations import answer_loss
from bessemer.training.rankings import RankingBatch, RankingBatches, ranked_prompts
from bessemer.training.step import StepResult, optimiser_step

Batch = object


def _adapted(tmp_path: Path) -> Model:
    model = tiny.text_model(tmp_path)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in tune_language(model, "lora", lora_rank=4).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def _step(
    parameters: Sequence[nn.Parameter], batches: Sequence[Batch], loss_of: Callable[[Batch], Loss]
) -> tuple[StepResult, list[Tensor]]:
    """The result of a step at learning rate 0 and the gradients that it had."""
    result = optimiser_step(torch.optim.SGD(parameters, lr=0.0), parameters, batches, loss_of, 0.0)
    assert result.applied
    return result, [p.grad.clone() for p in parameters if p.grad is not None]


def _compare(
    parameters: Sequence[nn.Parameter], cut: Callable[[list[int]], Batch], loss_of: Callable[[Batch], Loss]
) -> None:
    """8 at once, 8 times one, and 3 + 1 + 4: the same gradients, loss and metrics."""
    whole, expected = _step(parameters, [cut(list(range(8)))], loss_of)
    assert len(expected) == len(parameters) and max(float(g.abs().max()) for g in expected) > 1e-3
    for pieces in ([[n] for n in range(8)], [[0, 1, 2], [3], [4, 5, 6, 7]]):
        result, gradients = _step(parameters, [cut(piece) for piece in pieces], loss_of)
        for ours, theirs in zip(gradients, expected, strict=True):
            assert_close(ours, theirs, atol=1e-6, rtol=5e-6)
        assert result.loss == pytest.approx(whole.loss, abs=1e-6)
        assert result.gradient_norm == pytest.approx(whole.gradient_norm, abs=1e-5)
        assert result.metrics == pytest.approx(whole.metrics, rel=1e-6, abs=1e-6) and result.metrics


def test_fine_tuning_eight_at_once_are_eight_times_one(tmp_path: Path) -> None:
    """Answers of 1 to 29 tokens and weights of 0.25 to 2: a mean of means would be another number."""
    model = _adapted(tmp_path)
    sequences = tiny.sequences([30, 3, 9, 2, 17, 5, 12, 26])
    weights = [1.0, 0.5, 2.0, 1.0, 0.25, 1.0, 0.75, 1.5]

    def cut(chosen: list[int]) -> TextBatch:
        return text_batch([sequences[n] for n in chosen], None, [weights[n] for n in chosen], [n % 2 for n in chosen])

    def loss_of(batch: object) -> Loss:
        assert isinstance(batch, TextBatch)
        hidden = model.backbone.hidden(batch.packed)[batch.rows]
        logprobs, _ = linear_logprobs(hidden, model.backbone.head, batch.targets)
        return answer_loss(logprobs, batch, ["a", "b"])

    _compare(list(model.adapters().factors(ADAPTER).parameters()), cut, loss_of)


def _rankings() -> list[Ranking]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for number in range(8):
        answers = tuple("answer"[: 1 + k] + str(number) for k in range(2 + number % 3))
        ranks: dict[str, tuple[int | None, ...]] = {}
        for name in ("clarity", "truthfulness"):
            drawn = torch.randint(1, len(answers) + 1, (len(answers),), generator=generator).tolist()
            ranks[name] = tuple(None if number == 3 and name == "clarity" else rank for rank in drawn)
        prompt = Prompt(f"p{number}", (Message("user", "q" * (1 + 3 * number)),))
        order = tuple(range(len(answers)))
        found.append(Ranking(f"r{number}", prompt, answers, (True,) * len(answers), ranks, "rules", order))
    return found


def test_reward_eight_at_once_are_eight_times_one(tmp_path: Path) -> None:
    """Two to four answers a prompt, ties, and a prompt that nobody judged by one principle."""
    model = _adapted(tmp_path)
    principles = ["clarity", "truthfulness"]
    feed = Feed(model, tmp_path, tmp_path / "cache")
    batches = RankingBatches(feed, ranked_prompts(_rankings(), principles), 8, 200, 0)
    head = RewardHead(model.width, principles)
    roles = Roles(model, {"reward": Role(ADAPTER, head, trainable=True)})

    def loss_of(batch: object) -> Loss:
        assert isinstance(batch, RankingBatch)
        grid = batch.grid(roles.scores("reward", batch.packed))
        cells = torch.tensor([0.5, 1.0]).expand(len(batch.targets), -1)
        return soft_bradley_terry(grid, batch.targets, 0.01, batch.pair_weights, cells, principles)

    _compare(roles.parameters("reward"), batches.batch, loss_of)


def test_ppo_eight_at_once_are_eight_times_one(tmp_path: Path) -> None:
    model = _adapted(tmp_path)
    lora = model.adapters()
    lora.copy(ADAPTER, "value")
    value = value_head(model.width, tiny.reward_head(model.width, ["a"]))
    roles = Roles(model, {"policy": Role(ADAPTER, trainable=True), "value": Role("value", value, trainable=True)})
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([1, 6, 2, 9, 4, 3, 12, 5])
    asked = [5, 3, 8, 2, 6, 4, 7, 3]
    sequences = tiny.sequences([a + int(n) for a, n in zip(asked, lengths, strict=True)])
    old = [-3 + torch.randn(int(n), generator=generator) for n in lengths]
    advantages, returns = ([torch.randn(int(n), generator=generator) for n in lengths] for _ in range(2))

    def cut(chosen: list[int]) -> tuple[TextBatch, list[int]]:
        parts = [
            Rendered(s.ids, tuple(place >= asked[n] for place in range(len(s.ids))), (), ())
            for n, s in ((n, sequences[n]) for n in chosen)
        ]
        batch = text_batch(parts)
        prompts = torch.tensor([asked[n] for n in chosen])
        assert torch.equal(response_rows(batch.packed, prompts, lengths[chosen]), batch.rows)
        return batch, chosen

    def loss_of(item: object) -> Loss:
        assert isinstance(item, tuple)
        batch, chosen = item
        size = lengths[chosen]
        new, _ = roles.logprobs("policy", batch.packed, batch.rows, batch.targets, 0.8)
        logprobs, mask = pad_rows(new, size)
        grids = [pad_rows(torch.cat([rows[n] for n in chosen]), size)[0] for rows in (old, advantages, returns)]
        values, _ = pad_rows(roles.values("value", batch.packed, batch.rows), size)
        policy = clipped_surrogate(logprobs, grids[0], grids[1], mask, 0.2)
        worth = clipped_value_loss(values, torch.zeros_like(values), grids[2], mask, 0.2)
        return Loss(policy.sum + 0.1 * worth.sum, policy.count, {**policy.metrics, **worth.metrics})

    _compare([*roles.parameters("policy"), *roles.parameters("value")], cut, loss_of)


def _quadratic(weight: nn.Parameter) -> Callable[[tuple[float, float]], Loss]:
    """(target, count) -> count * (w - target)^2 / 2 of a single weight, so that gradients are known."""

    def loss_of(batch: tuple[float, float]) -> Loss:
        target, count = batch
        total = 0.5 * count * (weight - target).square().sum()
        nothing = torch.tensor(0.0)
        means = {"target": (torch.tensor(target * count), torch.tensor(count)), "nothing": (nothing, nothing)}
        return Loss(total, torch.tensor(count), means)

    return loss_of


def test_a_step_by_hand() -> None:
    """w = 2, targets 1 (weight 3) and 6 (weight 1): gradient (3 * 1 + 1 * -4) / 4 = -1/4, loss (3/2 + 16/2) / 4."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimiser = torch.optim.SGD([weight], lr=0.5)
    result = optimiser_step(optimiser, [weight], [(1.0, 3.0), (6.0, 1.0)], _quadratic(weight), 10.0)
    assert weight.item() == pytest.approx(2.125)
    assert result == StepResult(pytest.approx(9.5 / 4), pytest.approx(0.25), True, {"target": pytest.approx(9 / 4)})
    # the gradient of the step before is forgotten
    again = optimiser_step(optimiser, [weight], [(2.125, 1.0)], _quadratic(weight), 10.0)
    assert again.gradient_norm == 0.0 and weight.item() == pytest.approx(2.125)


def test_gradients_are_clipped_to_their_common_norm() -> None:
    """Gradients 3 and 4 have norm 5: at most 1 leaves 0.6 and 0.8."""
    weights = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))]
    optimiser = torch.optim.SGD(weights, lr=1.0)

    def loss_of(_: int) -> Loss:
        return Loss(0.5 * (weights[0].square() + weights[1].square()).sum(), torch.tensor(1.0))

    result = optimiser_step(optimiser, weights, [0], loss_of, 1.0)
    assert result.gradient_norm == pytest.approx(5.0)
    assert [w.item() for w in weights] == pytest.approx([2.4, 3.2], abs=1e-5)
    free = optimiser_step(optimiser, weights, [0], loss_of, 0.0)
    assert free.gradient_norm == pytest.approx(4.0, abs=1e-5)
    assert [w.item() for w in weights] == pytest.approx([0.0, 0.0], abs=1e-5)


BAD: dict[str, Callable[[Tensor], Tensor]] = {
    "nan loss": lambda w: w.sum() * float("nan"),
    "inf loss": lambda w: w.sum() * 0 + float("inf"),
    "inf gradient": lambda w: torch.where(w > 1e9, w, w * 1e-45).sum().sqrt() * 0 + (w - w.detach()).sum().sqrt(),
    "one nan among many": lambda w: (w * torch.tensor([1.0, float("nan"), 1.0])).nansum() + w[1] * float("nan"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_not_finite_reaches_no_weight(name: str) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    good: Callable[[int], Loss] = lambda _: Loss(weight.square().sum(), torch.tensor(1.0))  # noqa: E731
    optimiser_step(optimiser, [weight], [0], good, 1.0)
    before = weight.detach().clone()
    moments = {key: value.clone() for key, value in optimiser.state[weight].items()}

    def loss_of(batch: int) -> Loss:
        return Loss(BAD[name](weight), torch.tensor(1.0)) if batch == 1 else good(batch)

    result = optimiser_step(optimiser, [weight], [0, 1, 0], loss_of, 1.0)
    assert not result.applied and torch.equal(weight.detach(), before)
    for key, value in optimiser.state[weight].items():
        assert torch.equal(value, moments[key])
    assert not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm))
    assert optimiser_step(optimiser, [weight], [0], good, 1.0).applied
    assert not torch.equal(weight.detach(), before) and bool(torch.isfinite(weight).all())


def test_a_step_in_which_nothing_counts_is_not_applied() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimiser = torch.optim.SGD([weight], lr=0.5)
    for batches in ([], [(1.0, 0.0)]):
        result = optimiser_step(optimiser, [weight], batches, _quadratic(weight), 1.0)
        assert result == StepResult(0.0, 0.0, False, {}) and weight.item() == 2.0
    mixed = optimiser_step(optimiser, [weight], [(1.0, 0.0), (1.0, 2.0)], _quadratic(weight), 10.0)
    assert mixed.applied and weight.item() == pytest.approx(1.5) and mixed.metrics == {"target": 1.0}


RANK_PROGRAM = """
import atexit, json, os, weakref
import torch
import torch.distributed as dist
from torch import nn
from bessemer.algos.head import linear_logprobs
from bessemer.algos.language import next_token_loss
from bessemer.algos.masked import Loss
from bessemer.distributed import Mesh
from bessemer.training.step import optimiser_step

torch.set_num_threads(1)
atexit.register(lambda: os._exit(0 if group is None or group() is None else 3))  # runs after Mesh's own farewell
mesh = Mesh.start()
group = weakref.ref(dist.group.WORLD) if mesh.world_size > 1 else None
torch.manual_seed(0)
table, rare, head = nn.Embedding(20, 6), nn.Parameter(torch.ones(6)), nn.Linear(6, 20, bias=False)
trained = [*table.parameters(), rare, *head.parameters()]
optimiser = torch.optim.AdamW(trained, lr=0.1)
ids = torch.arange(60).view(12, 5) * 7 % 20
weights = torch.linspace(0.1, 2.0, 60).view(12, 5)

def loss_of(rows):
    hidden = table(ids[rows]).tanh()
    if 0 in rows:  # a parameter that one rank alone uses
        first = torch.tensor([row == 0 for row in rows])[:, None, None]
        hidden = torch.where(first, hidden * rare, hidden)
    hidden = hidden.flatten(0, 1)
    logprobs, _ = linear_logprobs(hidden, head.weight, (ids[rows].flatten() * 3 + 1) % 20)
    loss = next_token_loss(logprobs, weights[rows].flatten())
    odd = torch.tensor([row % 2 == 1 for row in rows for _ in range(5)])
    return Loss(loss.sum, loss.count, {**loss.metrics, "loss/odd": (-logprobs.detach()[odd].sum(), odd.sum())})

mine = {1: [[0, 1, 2], [3], [4, 5, 6, 7, 8, 9, 10, 11]], 2: [[[0, 2], [1]], [[3, 4, 5, 6, 7, 8, 9, 10, 11]]]}
for _ in range(3):
    batches = mine[1] if mesh.world_size == 1 else mine[2][mesh.rank]
    result = optimiser_step(optimiser, trained, batches, loss_of, 0.05, mesh)
numbers = torch.cat([p.detach().flatten() for p in trained]).tolist()
figures = [result.loss, result.gradient_norm, result.metrics["nll"], result.metrics["loss/odd"], *numbers]
print(json.dumps(figures), flush=True)
mesh.barrier()  # nobody leaves while another still needs the store
"""


def _ranks(count: int) -> list[list[float]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return [[float(number) for number in output.strip("[] \n").split(",")] for output in outputs]


def test_two_ranks_are_one() -> None:
    """Three steps on uneven shares of the batch: the same loss, norm, metrics and weights on both.

    Each then ends with 0, and with no group left: its threads abort a process that ends before them.
    """
    (alone,), (first, second) = _ranks(1), _ranks(2)
    assert first == second and len(alone) == 4 + 246
    assert first == pytest.approx(alone, abs=1e-6)
