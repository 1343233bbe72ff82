"""From the features of a vision tower to tokens of a language model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Projector"]


class Projector(nn.Module):
    """Normalise, a two-layer perceptron from tower features to token embeddings, and where each token lies. Final.

    Input (I, n, C): n pooled features of each of I images; output (I, n, D). Places are learnt, one for each of the n
    tokens (Dosovitskiy et al. 2021), and begin at zero.
    """

    def __init__(self, channels: int, hidden: int, width: int, tokens: int) -> None:
        super().__init__()
        self.sizes = {"channels": channels, "hidden": hidden, "width": width, "tokens": tokens}
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, hidden)
        self.outer = nn.Linear(hidden, width)
        self.places = nn.Parameter(torch.zeros(tokens, width))

    def match_scale(self, embeddings: Tensor) -> None:
        """Start with outputs as large as the language model's own embeddings (V, D), so that it can read them."""
        with torch.no_grad():
            probe = torch.randn(256, 1, self.sizes["channels"], generator=torch.Generator().manual_seed(0))
            ratio = embeddings.float().std().to(self.outer.weight.device) / self(probe).std()
            self.outer.weight.mul_(ratio)
            self.outer.bias.mul_(ratio)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.gelu(self.inner(self.norm(features.to(self.norm.weight.dtype))))
        tokens: Tensor = self.outer(inner) + self.places
        return tokens

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
        projector = cls(*(int(sizes[name]) for name in ("channels", "hidden", "width", "tokens")))
        projector.load_state_dict(load_file(directory / "model.safetensors"))
        return projector
