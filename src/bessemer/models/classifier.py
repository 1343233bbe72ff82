"""A vision tower with a linear classifier: the honest rival of every vision-language model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bessemer.models.vision import Tower, pool

__all__ = ["Classifier"]

RARE = 0.01  # how likely a thing is in a cell before anything was learnt


class Classifier(nn.Module):
    """Tower, global average, dropout, and one linear layer for each attribute. Final.

    attributes: name -> its values in order; forward gives logits (B, K) for each. places: labels of things; where there
    are any, a linear layer says of every cell of the feature map which of them lie there, and where their edges are.
    """

    def __init__(
        self,
        tower: Tower,
        attributes: Mapping[str, Sequence[str]],
        dropout: float = 0.2,
        places: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.tower = tower
        self.attributes = {name: list(values) for name, values in attributes.items()}
        self.dropout = nn.Dropout(dropout)
        # in a list: a name that a user chose, such as "type", may be one that modules have
        self.heads = nn.ModuleList(nn.Linear(tower.channels, len(values)) for values in self.attributes.values())
        self.places = list(places)
        self.cells = nn.Linear(tower.channels, 5 * len(self.places)) if self.places else None
        if self.cells is not None:
            with torch.no_grad():  # nothing is anywhere at first, or empty cells would drown the rest (Lin et al. 2017)
                self.cells.bias[: len(self.places)].fill_(math.log(RARE / (1 - RARE)))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (B, K) of each attribute for pixels (B, 3, H, W)."""
        return self._judged(self.tower(pixels).float())

    def judged_and_placed(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The same, and of each of N cells the logits of what lies there (B, N, L) and its edges (B, N, L, 4)."""
        assert self.cells is not None
        features = self.tower(pixels).float()
        cells = self.cells(features.flatten(2).transpose(1, 2))
        there, edges = cells.split([len(self.places), 4 * len(self.places)], -1)
        return self._judged(features), there, edges.unflatten(-1, (len(self.places), 4))

    def _judged(self, features: Tensor) -> dict[str, Tensor]:
        pooled = self.dropout(pool(features, 1)[:, 0])
        return {name: head(pooled) for name, head in zip(self.attributes, self.heads, strict=True)}

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
        if self.cells is not None:
            state = {name: tensor.detach().contiguous() for name, tensor in self.cells.state_dict().items()}
            save_file(state, heads / "cells.safetensors", metadata={"format": "pt"})
        config = {"attributes": self.attributes, "places": self.places}
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (heads / "config.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Classifier:
        """Read what `save` wrote."""
        config = json.loads((directory / "classifier" / "config.json").read_text(encoding="utf-8"))
        classifier = cls(Tower.load(directory), config["attributes"], places=config.get("places", ()))
        state = load_file(directory / "classifier" / "model.safetensors")
        for index, name in enumerate(classifier.attributes):  # before, tensors were called by the names
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in state and f"{index}.{kind}" not in state:
                    state[f"{index}.{kind}"] = state.pop(f"{name}.{kind}")
        classifier.heads.load_state_dict(state)
        if classifier.cells is not None:
            classifier.cells.load_state_dict(load_file(directory / "classifier" / "cells.safetensors"))
        return classifier.eval()
