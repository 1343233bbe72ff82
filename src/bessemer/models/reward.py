"""Put a reward model's adapter and head on another model's backbone, after checking that it is the same backbone."""

from __future__ import annotations

from pathlib import Path

import torch

from bessemer.disk import file_hash
from bessemer.errors import UserError
from bessemer.models.heads import RewardHead
from bessemer.models.lora import LoraFactors
from bessemer.models.model import Model

__all__ = ["load_reward"]

SHARED = ("language", "projector", "tower")


def load_reward(model: Model, directory: Path, name: str) -> RewardHead:
    """Load the adapter of a reward model under `name` and return its head.

    Raises UserError if the reward model was trained on another language model, projector or tower: its scores would
    be noise on this backbone.
    """
    folder = directory / "model" if (directory / "model").is_dir() else directory
    if not (folder / "adapter").is_dir():
        raise UserError(f"{directory}: no adapter, expected a reward stage trained with LoRA on the policy's backbone")
    for part in SHARED:
        mine = model.source / part
        if part == "language" and not mine.is_dir():
            mine = model.source  # a plain Hugging Face directory
        if _weights(mine) != _weights(folder / part):
            raise UserError(f"{directory}: its {part} is not the policy's; train the reward model from that policy")
    factors: LoraFactors = model.adapters().load(name, folder / "adapter")
    head = RewardHead.load(folder / "reward")
    device = model.backbone.device
    factors.to(device)
    with torch.no_grad():
        return head.to(device)


def _weights(directory: Path) -> dict[str, str]:
    """Hash of each file of weights in a directory, which may not be there."""
    return {path.name: file_hash(path) for path in directory.glob("*.safetensors")}
