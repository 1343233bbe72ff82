"""Linear heads on a backbone's hidden states: one score a principle, or one value a token."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bessemer.errors import UserError

__all__ = ["RewardHead", "value_head"]


class RewardHead(nn.Module):
    """Replaces the language-model head: hidden states (M, D) -> scores (M, P), one column a principle. Final.

    Scores are raw; `mean` and `std` (P,) standardise them to mean 0 and, where they vary enough, deviation 1 on the
    reference model's answers, and `weights` (P,) add the standardised scores up. `expected_weight` (P, D) and
    `expected_bias` (P,), on the same states, say before an answer has ended which scores the reference model's answers
    get from there on: fitted, never descended, and zero where nobody fitted them. All are saved with the head, so that
    a reward never depends on who loads it.
    """

    def __init__(self, width: int, principles: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.principles = tuple(principles)
        self.linear = nn.Linear(width, len(self.principles))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            # N(0, 1 / (d + 1)) starts scores near N(0, 1) for unit-variance states (arXiv 2009.01325, appendix B)
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator) / (width + 1) ** 0.5)
            self.linear.bias.zero_()
        self.expected_weight = nn.Buffer(torch.zeros(len(self.principles), width))
        self.expected_bias = nn.Buffer(torch.zeros(len(self.principles)))
        self.mean = nn.Buffer(torch.zeros(len(self.principles)))
        self.std = nn.Buffer(torch.ones(len(self.principles)))
        self.weights = nn.Buffer(torch.full((len(self.principles),), 1.0 / len(self.principles)))

    def forward(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.linear(hidden.float())
        return scores

    def save(self, directory: Path) -> None:
        """Write config.json (principles in order) and model.safetensors."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        config = {"principles": self.principles, "width": self.linear.in_features}
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (directory / "config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> RewardHead:
        """Read what `save` wrote."""
        path = directory / "config.json"
        if not path.is_file():
            raise UserError(f"{directory}: no reward head; expected the model of a reward stage")
        config = json.loads(path.read_text(encoding="utf-8"))
        head = cls(int(config["width"]), config["principles"])
        state = load_file(directory / "model.safetensors")
        head.load_state_dict({**{n: t for n, t in head.state_dict().items() if n.startswith("expected_")}, **state})
        return head


def value_head(width: int, reward: RewardHead | None = None, thresholds: Collection[str] = ()) -> nn.Linear:
    """A head for one value a token: zero, or warm-started as the weighted sum of the standardised scores that the
    reward head expects of the reference model, which is the policy at first.

    thresholds: principles that are no summand of the reward, and so none of its expectation.
    """
    head = nn.Linear(width, 1)
    with torch.no_grad():
        if reward is None:
            head.weight.zero_()
            head.bias.zero_()
        else:
            summand = torch.tensor([name not in thresholds for name in reward.principles], device=reward.weights.device)
            weights = reward.weights * summand
            share = weights / weights.sum() / reward.std
            head.weight.copy_((share[:, None] * reward.expected_weight).sum(0, keepdim=True))
            head.bias.copy_((share * (reward.expected_bias - reward.mean)).sum()[None])
    return head
