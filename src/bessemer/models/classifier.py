"""A vision tower with a linear classifier: the honest rival of every vision-language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bessemer.models.vision import Tower, pool

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """Tower, global average, dropout, and one linear layer for each attribute. Final.

    attributes: name -> its values in order; forward gives logits (B, K) for each.
    """

    def __init__(self, tower: Tower, attributes: Mapping[str, Sequence[str]], dropout: float = 0.2) -> None:
        super().__init__()
        self.tower = tower
        self.attributes = {name: list(values) for name, values in attributes.items()}
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(tower.channels, len(v)) for name, v in self.attributes.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (B, K) of each attribute for pixels (B, 3, H, W)."""
        pooled = self.dropout(pool(self.tower(pixels).float(), 1)[:, 0])
        return {name: head(pooled) for name, head in self.heads.items()}

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, 3, H, W) as the tower expects them."""
        mean = torch.tensor(self.tower.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.tower.std, device=pixels.device).view(3, 1, 1)
        return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def save(self, directory: Path) -> None:
        """Write the tower as a model directory, and the heads beside it in classifier/."""
        self.tower.save(directory)
        heads = directory / "classifier"
        heads.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().contiguous() for name, tensor in self.heads.state_dict().items()}
        save_file(state, heads / "model.safetensors", metadata={"format": "pt"})
        text = json.dumps({"attributes": self.attributes}, indent=2, ensure_ascii=False) + "\n"
        (heads / "config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Classifier:
        """Read what `save` wrote."""
        config = json.loads((directory / "classifier" / "config.json").read_text(encoding="utf-8"))
        classifier = cls(Tower.load(directory), config["attributes"])
        classifier.heads.load_state_dict(load_file(directory / "classifier" / "model.safetensors"))
        return classifier.eval()
