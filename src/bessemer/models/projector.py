"""From the features of a vision tower to tokens of a language model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Concepts", "Projector"]

BESIDE_CONCEPTS = 0.3  # size of the perceptron's first outputs where concepts speak: noise should not drown them


@dataclass(frozen=True)
class Concepts:
    """What a tower was taught to tell: weight (M, C) and bias (M,) give the log-odds that `names` (M) are there, from
    a feature."""

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor


class Projector(nn.Module):
    """Normalise, a two-layer perceptron from tower features to token embeddings, and where each token lies. Final.

    Input (I, n, C): n pooled features of each of I images; output (I, n, D). Places are learnt, one for each of the n
    tokens (Dosovitskiy et al. 2021), and begin at zero. concepts: how many words (D) are added as well, each by its
    probability, which is a linear function of the feature (a concept bottleneck, Koh et al. 2020, beside the rest).
    """

    def __init__(self, channels: int, hidden: int, width: int, tokens: int, concepts: int = 0) -> None:
        super().__init__()
        self.sizes = {"channels": channels, "hidden": hidden, "width": width, "tokens": tokens, "concepts": concepts}
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, hidden)
        self.outer = nn.Linear(hidden, width)
        self.places = nn.Parameter(torch.zeros(tokens, width))
        self.words = nn.Parameter(torch.zeros(concepts, width))
        self.odds: Tensor  # weight and bias: they belong to the tower, and stay as they are
        self.register_buffer("odds", torch.zeros(concepts, channels + 1))

    def match_scale(self, embeddings: Tensor) -> None:
        """Start with outputs as large as the language model's own embeddings (V, D), so that it can read them."""
        with torch.no_grad():
            probe = torch.randn(256, self.sizes["channels"], generator=torch.Generator().manual_seed(0))
            ratio = (
                embeddings.float().std() / self._perceptron(probe).std() * (BESIDE_CONCEPTS if len(self.words) else 1)
            )
            self.outer.weight.mul_(ratio)
            self.outer.bias.mul_(ratio)

    def begin_with(self, concepts: Concepts, words: Tensor) -> None:
        """Say what the tower can tell in these words (M, D): the language model's own embeddings of the names."""
        with torch.no_grad():
            self.odds.copy_(torch.cat([concepts.weight, concepts.bias[:, None]], 1))
            self.words.copy_(words)

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(self.norm.weight.dtype)
        tokens = self._perceptron(features) + self.places
        if not len(self.words):
            return tokens
        there = functional.linear(features, self.odds[:, :-1], self.odds[:, -1]).sigmoid()
        return tokens + there @ self.words

    def _perceptron(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.outer(functional.gelu(self.inner(self.norm(features))))
        return outputs

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()},
            directory / "model.safetensors",
            metadata={"format": "pt"},
        )
        (directory / "config.json").write_text(json.dumps(self.sizes, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Projector:
        """Read what `save` wrote."""
        sizes = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        projector = cls(*(int(sizes[name]) for name in ("channels", "hidden", "width", "tokens", "concepts")))
        projector.load_state_dict(load_file(directory / "model.safetensors"))
        return projector
