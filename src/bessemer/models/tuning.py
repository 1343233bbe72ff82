"""Which parameters of a model learn: everything else stays frozen, and nothing is derived from `requires_grad`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from bessemer.errors import UserError
from bessemer.models.model import ADAPTER, Model

__all__ = ["tune_language", "tune_projector", "tune_tower"]


def tune_language(
    model: Model,
    finetuning_type: str,
    *,
    lora_rank: int = 16,
    lora_alpha: float = 32.0,
    lora_target: str | Iterable[str] = "all",
    trainable_blocks: int = 2,
    seed: int = 0,
) -> dict[str, nn.Parameter]:
    """Make the language model learn by "lora", "full" or "freeze" (only its last `trainable_blocks` blocks).

    Returns the trained parameters by unique name. LoRA continues the model's own adapter if it has one. Weights that
    are trained in full become float32: bf16 would lose every update smaller than 2^-8 of a weight.
    """
    if finetuning_type == "lora":
        lora = model.adapters(lora_target)
        if ADAPTER not in lora.adapters:
            lora.add(ADAPTER, lora_rank, lora_alpha, seed)
        lora.active = ADAPTER
        return _learn({f"lora.{name}": p for name, p in lora.factors(ADAPTER).named_parameters()})
    if model.lora is not None:
        raise UserError("finetuning_type full or freeze on a model with an adapter; export it merged first")
    language = model.backbone.language
    if finetuning_type == "full":
        language.float()
        return _learn({f"language.{name}": p for name, p in language.named_parameters()})
    if finetuning_type == "freeze":
        blocks = getattr(language.get_decoder(), "layers", None)
        if blocks is None:
            raise UserError(
                f"finetuning_type freeze: a {language.config.model_type} has no list of layers; expected lora"
            )
        if not 1 <= trainable_blocks <= len(blocks):
            raise UserError(f"trainable_blocks={trainable_blocks}, expected 1 to {len(blocks)}")
        language.float()
        first = len(blocks) - trainable_blocks
        chosen = {
            f"language.blocks.{first + number}.{name}": parameter
            for number, block in enumerate(blocks[first:])
            for name, parameter in block.named_parameters()
        }
        return _learn(chosen)
    raise UserError(f"finetuning_type {finetuning_type!r}, expected lora, full or freeze")


def tune_projector(model: Model) -> dict[str, nn.Parameter]:
    """Make the projector learn; {} for a model without one."""
    if model.facts.kind != "composed":
        return {}
    return _learn({f"projector.{name}": p for name, p in model.backbone.projector.named_parameters()})


def tune_tower(model: Model, trainable_blocks: int = 0) -> dict[str, nn.Parameter]:
    """Make the vision tower learn: all of it, or its last `trainable_blocks` children."""
    if model.tower is None:
        raise UserError("freeze_vision_tower=false, but this model has no vision tower of ours")
    network = model.tower.network
    parts: list[tuple[str, nn.Module]] = [("", network)]
    if trainable_blocks:
        blocks = [
            (f"{name}.{index}.", block)
            for name, module in network.named_children()
            if isinstance(module, nn.Sequential | nn.ModuleList)
            for index, block in enumerate(module)
        ]
        if not 1 <= trainable_blocks <= len(blocks):
            raise UserError(f"tower_blocks={trainable_blocks}, expected 0 (all) to {len(blocks)}")
        parts = blocks[-trainable_blocks:]
    named = {f"tower.{prefix}{name}": p for prefix, part in parts for name, p in part.named_parameters()}
    return _learn(named)


def _learn(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        if parameter.dtype != torch.float32:
            raise ValueError("trained weights must be float32")
    return dict(parameters)
