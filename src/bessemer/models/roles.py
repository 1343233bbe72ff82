"""Policy, reference, value and reward on one backbone.

A role is an adapter and a head. Which role speaks is an expression (`roles.hidden("reference", packed)`), never a mode
left behind: the adapter is chosen inside a try/finally, here and nowhere else. Each role's trainable parameters are
captured once, when it is made, and handed to the optimiser by name; nothing is ever derived from `requires_grad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bessemer.algos.head import linear_logprobs
from bessemer.data.batches import Packed
from bessemer.models.heads import RewardHead
from bessemer.models.model import Model

__all__ = ["Role", "Roles", "speaking"]


@contextmanager
def speaking(model: Model, adapter: str | None) -> Iterator[None]:
    """Let one adapter of the model speak, or with None the bare backbone; whatever spoke before speaks again after."""
    lora = model.lora
    if lora is None:
        yield
        return
    before = lora.active
    lora.active = adapter
    try:
        yield
    finally:
        lora.active = before


@dataclass(frozen=True)
class Role:
    """adapter: name of its LoRA adapter, None for the bare backbone; head: linear head on the hidden states, None for
    the language-model head; trainable: whether it learns, by its head alone if the trunk is frozen."""

    adapter: str | None
    head: nn.Module | None = None
    trainable: bool = False
    frozen_trunk: bool = False


class Roles:
    """The roles that share one model. Final."""

    def __init__(self, model: Model, roles: Mapping[str, Role]) -> None:
        self.model = model
        self.roles = dict(roles)
        self._parameters: dict[str, list[nn.Parameter]] = {}
        for name, role in self.roles.items():
            own: list[nn.Parameter] = []
            if role.trainable and not role.frozen_trunk and role.adapter is not None:
                own.extend(model.adapters().factors(role.adapter).parameters())
            if role.trainable and role.head is not None:
                own.extend(role.head.parameters())
            for parameter in own:
                parameter.requires_grad_(True)
            self._parameters[name] = own

    def parameters(self, name: str) -> list[nn.Parameter]:
        """What the optimiser may change for this role."""
        return self._parameters[name]

    def hidden(self, name: str, packed: Packed) -> Tensor:
        """Hidden states (N, D) as this role sees the batch; gradients flow only into a trunk that learns."""
        role = self.roles[name]
        learns = role.trainable and not role.frozen_trunk
        with speaking(self.model, role.adapter), torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            states: Tensor = self.model.backbone.hidden(packed)
        return states

    def logprobs(
        self, name: str, packed: Packed, rows: Tensor, targets: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Log-probability (M,) of each target token and entropy (M,), from the states at `rows`."""
        return self.logprobs_of(self.hidden(name, packed)[rows], targets, temperature)

    def logprobs_of(self, states: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log-probability (M,) of each target token and entropy (M,), from the states (M, D) that predict them."""
        return linear_logprobs(states, self.model.backbone.head, targets, temperature)

    def logits_of(self, states: Tensor) -> Tensor:
        """Logits (M, V) in float32 of states (M, D)."""
        return (states @ self.model.backbone.head.to(states.dtype).T).float()

    def values(self, name: str, packed: Packed, rows: Tensor) -> Tensor:
        """Value (M,) of each state at `rows`."""
        return self.values_of(name, self.hidden(name, packed)[rows])

    def values_of(self, name: str, states: Tensor) -> Tensor:
        """Value (M,) of states (M, D) of this role's trunk."""
        head = self.roles[name].head
        assert head is not None
        values: Tensor = head(states.float())
        return values[:, 0]

    def scores(self, name: str, packed: Packed) -> Tensor:
        """Raw score of each principle (B, P), read at each sequence's last token."""
        return self.scores_of(name, self.hidden(name, packed), packed)

    def scores_of(self, name: str, hidden: Tensor, packed: Packed) -> Tensor:
        """Raw score of each principle (B, P) from the hidden states (N, D) of this role's trunk."""
        head = self.roles[name].head
        assert isinstance(head, RewardHead)
        scores: Tensor = head(hidden[torch.tensor(packed.lengths).cumsum(0) - 1])
        return scores
