"""Seconds of one step of decoding, scoring or training, with the functions that the stages run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from arithmetic import LORA_RANK, Peak
from peak import measured_peak, repeated

from bessemer.algos.masked import Loss
from bessemer.data.batches import TextBatch, text_batch
from bessemer.data.render import Rendered
from bessemer.distributed import Mesh
from bessemer.memory import keep_memory
from bessemer.models.heads import RewardHead, value_head
from bessemer.models.model import Model, load_model
from bessemer.models.precision import dtype_of
from bessemer.models.roles import Role, Roles
from bessemer.rollout.sampler import Sampling, sampler_for
from bessemer.training.conversations import answer_loss
from bessemer.training.optim import Group, adamw
from bessemer.training.step import optimiser_step

__all__ = ["measured", "random_batch"]

FIRST_TOKEN, NO_TOKEN = 3, -1  # below the first are the tokens that begin and end texts; the other is never drawn
LORA_ALPHA, LEARNING_RATE = 32.0, 2e-4


class Asked(Protocol):
    """What is to be measured: a `scaling.Point`."""

    @property
    def work(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def roles(self) -> int: ...


def measured(point: Asked, directory: Path, steps: int, decoded: int, dtype: str) -> tuple[list[float], Peak]:
    """Seconds of each of `steps` steps after one that is not counted, and the peak of this process before them.

    dtype: bf16, fp32, or auto: bf16 where the device multiplies it.
    """
    keep_memory()
    device = Mesh.start().device
    peak = measured_peak(dtype_of(dtype, device))
    model = load_model(str(directory), dtype, device)
    roles = make_roles(model, point.roles)
    if point.work == "rollout":
        return decoding_times(model, point, steps, decoded), peak
    batch = random_batch(point.batch, point.length, model.backbone.head.shape[0])
    act = scoring(roles, batch) if point.work == "forward" else training(roles, batch)
    return repeated(act, steps), peak


def make_roles(model: Model, count: int) -> Roles:
    """The first `count` of policy, reference, reward and value on one trunk; the policy learns."""
    known = {
        "policy": Role("policy", trainable=True),
        "reference": Role(None),
        "reward": Role("reward", RewardHead(model.width, ["preference"], 0)),
        "value": Role("value", value_head(model.width)),
    }
    chosen = dict(list(known.items())[:count])
    for role in chosen.values():
        if role.adapter is not None:
            model.adapters().add(role.adapter, LORA_RANK, LORA_ALPHA)
    model.freeze()
    return Roles(model, chosen)


def random_batch(batch: int, length: int, vocabulary: int) -> TextBatch:
    """Sequences of random tokens that begin with different ones, so that nothing is shared; the second half of each
    is trained on."""
    generator = torch.Generator().manual_seed(0)
    sequences = []
    for row in range(batch):
        ids = torch.randint(FIRST_TOKEN, vocabulary, (length,), generator=generator).tolist()
        ids[0] = FIRST_TOKEN + row
        answers = (False,) * (length - length // 2) + (True,) * (length // 2)
        sequences.append(Rendered(tuple(ids), answers, (), ()))
    return text_batch(sequences)


def read_by(roles: Roles, name: str, batch: TextBatch) -> torch.Tensor:
    """What one role has to say of the batch: log-probabilities, scores or values."""
    if name in ("policy", "reference"):
        return roles.logprobs(name, batch.packed, batch.rows, batch.targets)[0]
    return roles.scores(name, batch.packed) if name == "reward" else roles.values(name, batch.packed, batch.rows)


def scoring(roles: Roles, batch: TextBatch) -> Callable[[], object]:
    @torch.no_grad()
    def act() -> object:
        return [read_by(roles, name, batch) for name in roles.roles]

    return act


def training(roles: Roles, batch: TextBatch) -> Callable[[], object]:
    parameters = roles.parameters("policy")
    optimiser = adamw([Group({f"{i}": parameter for i, parameter in enumerate(parameters)}, LEARNING_RATE)])

    def loss_of(part: TextBatch) -> Loss:
        return answer_loss(read_by(roles, "policy", part), part, [""])

    def act() -> object:
        with torch.no_grad():
            others = [read_by(roles, name, batch) for name in roles.roles if name != "policy"]
        return others, optimiser_step(optimiser, parameters, [batch], loss_of, 1.0)

    return act


def decoding_times(model: Model, point: Asked, steps: int, decoded: int) -> list[float]:
    """Of one step each: `decoded` steps and a prompt that is read once for all rows, less the fastest reading."""
    sampler = sampler_for(model, "policy")
    prompt = random_batch(1, point.length, model.backbone.head.shape[0]).packed

    def draw(tokens: int) -> Callable[[], object]:
        return lambda: sampler.sample(prompt, Sampling(tokens, 1.0), NO_TOKEN, point.batch)

    reading = min(repeated(draw(1), steps))
    return differences(repeated(draw(1 + decoded), steps), reading, decoded)


def differences(whole: Sequence[float], reading: float, decoded: int) -> list[float]:
    return [(seconds - reading) / decoded for seconds in whole]
