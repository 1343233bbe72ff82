"""The tower, which turns pixels into a feature map.

A frozen tower sees each image once: its pooled features are cached by content hash, and a training sample with an
image then costs as much as one of text.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from bessemer.errors import UserError
from bessemer.models.safety import check_directory

__all__ = ["Tower", "pool", "pooled"]


def pool(features: Tensor, grid: int) -> Tensor:
    """Average a feature map (B, C, h, w) into grid x grid cells, row by row, behind the average of all of it unless
    that is the one cell: (B, pooled(grid), C)."""
    cells = functional.adaptive_avg_pool2d(features, grid).flatten(2).transpose(1, 2)
    # a language model finds what one token says long before it finds which of many says it
    return cells if grid == 1 else torch.cat([features.mean((2, 3))[:, None], cells], 1)


def pooled(grid: int) -> int:
    """How many visual tokens a grid of cells comes to."""
    return grid * grid + (grid > 1)


def _timm() -> Any:
    """The library, imported where a tower is: it takes half a second and a torchvision that fits, which work on text
    alone can do without."""
    import timm

    return timm


class Tower(nn.Module):
    """A timm or Hugging Face vision model that returns its last feature map. Final.

    `image_size`, `mean`, `std` describe the pixels it expects: (B, 3, image_size, image_size), normalised.
    """

    def __init__(self, network: nn.Module, settings: dict[str, object]) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.library = str(settings["library"])
        self.image_size = int(str(settings["image_size"]))
        self.mean = tuple(float(value) for value in settings["mean"])  # type: ignore[attr-defined]
        self.std = tuple(float(value) for value in settings["std"])  # type: ignore[attr-defined]
        self.channels = int(str(settings["channels"]))

    @classmethod
    def from_timm(
        cls, architecture: str, image_size: int = 0, pretrained_state: dict[str, Tensor] | None = None
    ) -> Tower:
        """Build a timm architecture by name, without its classifier; image_size 0 takes the architecture's own."""
        timm = _timm()
        try:
            network = timm.create_model(architecture, pretrained=False, num_classes=0)
        except RuntimeError as error:
            raise UserError(f"vision tower {architecture!r}: not an architecture timm knows ({error})") from error
        if pretrained_state is not None:
            network.load_state_dict(pretrained_state)
        data = timm.data.resolve_model_data_config(network)
        settings: dict[str, object] = {
            "library": "timm",
            "architecture": architecture,
            "image_size": image_size or data["input_size"][-1],
            "mean": list(data["mean"]),
            "std": list(data["std"]),
            "channels": network.num_features,
        }
        return cls(network, settings)

    @classmethod
    def load(cls, directory: Path) -> Tower:
        """Read a tower that `save` wrote, or a plain Hugging Face vision model."""
        check_directory(directory)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if config.get("library") == "timm":
            network = _timm().create_model(config["architecture"], pretrained=False, num_classes=0)
            network.load_state_dict(load_file(directory / "model.safetensors"))
            return cls(network, config)
        network = AutoModel.from_pretrained(directory, use_safetensors=True)
        network = getattr(network, "vision_model", network)
        return cls(network, _huggingface_settings(directory, network.config))

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors."""
        directory.mkdir(parents=True, exist_ok=True)
        if self.library == "timm":
            state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
            save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
            text = json.dumps(self.settings, indent=2) + "\n"
            (directory / "config.json").write_text(text, encoding="utf-8")
            return
        self.network.save_pretrained(directory)  # type: ignore[operator]
        preprocessing = {"image_mean": self.mean, "image_std": self.std, "size": self.image_size}
        text = json.dumps(preprocessing, indent=2) + "\n"
        (directory / "preprocessor_config.json").write_text(text, encoding="utf-8")

    def learnable(self, frozen_blocks: int, depthwise: bool) -> dict[str, nn.Parameter]:
        """Put the tower into training, freeze what is not to learn, and return the rest by name.

        frozen_blocks: the stem and so many of the first blocks stay as they are, running statistics too. depthwise:
        whether the weights of depthwise convolutions learn. On a CPU their gradient is two fifths of a step of
        EfficientNet-Lite0, of whose weights they are a twentieth.
        """
        self.train()
        for part in self._front(frozen_blocks) if frozen_blocks else []:
            part.requires_grad_(False).eval()
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                module.weight.requires_grad_(depthwise and module.weight.requires_grad)
                if max(module.stride) > 1:
                    _in_float32(module)
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def _front(self, count: int) -> list[nn.Module]:
        """What comes before the blocks, and the first `count` of them."""
        front: list[nn.Module] = []
        for name, part in self.network.named_children():
            if name in ("blocks", "stages") and isinstance(part, nn.Sequential | nn.ModuleList):
                if not 0 < count < len(part):
                    raise UserError(f"frozen_blocks={count}, expected 0 to {len(part) - 1} for this tower")
                return [*front, *part[:count]]
            front.append(part)
        raise UserError(f"frozen_blocks={count}, expected 0: this tower has no blocks in a row")

    def forward(self, pixels: Tensor) -> Tensor:
        """Feature map (B, C, h, w) of pixels (B, 3, H, W)."""
        if self.library == "timm":
            features = self.network.forward_features(pixels)  # type: ignore[operator]
            skip = getattr(self.network, "num_prefix_tokens", 0)
        else:
            features = self.network(pixel_values=pixels).last_hidden_state
            # in front of the square of patches may stand a class token and registers
            skip = features.shape[1] - math.isqrt(features.shape[1]) ** 2 if features.ndim == 3 else 0
        if features.ndim == 4:
            # some architectures put the channels last
            return features if features.shape[1] == self.channels else features.permute(0, 3, 1, 2)
        tokens = features[:, skip:]
        side = math.isqrt(tokens.shape[1])
        return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def _in_float32(module: nn.Conv2d) -> None:
    """Leave autocast for this layer: oneDNN's bf16 gradient of a strided depthwise convolution is six times slower."""

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return type(module).forward(module, x.float())

    if module.weight.device.type == "cpu":
        module.forward = forward  # type: ignore[assignment, method-assign]


def _huggingface_settings(directory: Path, config: Any) -> dict[str, object]:
    preprocessing: dict[str, object] = {}
    path = directory / "preprocessor_config.json"
    if path.exists():
        preprocessing = json.loads(path.read_text(encoding="utf-8"))
    size = preprocessing.get("size", getattr(config, "image_size", 224))
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    channels = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
    return {
        "library": "transformers",
        "image_size": size,
        "mean": preprocessing.get("image_mean", [0.5, 0.5, 0.5]),
        "std": preprocessing.get("image_std", [0.5, 0.5, 0.5]),
        "channels": channels,
    }
