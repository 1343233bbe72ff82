"""A student made of its teacher: some of the layers, everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bessemer.errors import UserError
from bessemer.models.model import Model

__all__ = ["evenly", "keep_layers", "merge_adapter"]


def evenly(layers: int, kept: int) -> list[int]:
    """Indices of `kept` of the layers, first and last always among them, the others evenly between."""
    if not 2 <= kept <= layers:
        raise UserError(f"student_layers={kept}, expected 2 to {layers}")
    return [round(index * (layers - 1) / (kept - 1)) for index in range(kept)]


def keep_layers(model: Model, kept: Sequence[int]) -> None:
    """Drop all decoder layers but those given, in order."""
    decoder = model.backbone.language.get_decoder()
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        kind = decoder.config.model_type
        raise UserError(f"student_layers: a {kind} has no list of layers to choose from; name a smaller `student`")
    layers = [decoder.layers[index] for index in kept]
    for index, layer in enumerate(layers):
        layer.self_attn.layer_idx = index
    decoder.layers = nn.ModuleList(layers)
    # changed in place, as every layer holds it; a vision-language model has another copy to be saved
    saved = model.backbone.language.config.get_text_config(decoder=True)
    for config in [decoder.config] if saved is decoder.config else [decoder.config, saved]:
        whole = config.num_hidden_layers
        config.num_hidden_layers = len(layers)
        # what is said of each layer (layer_types, no_rope_layers ...) goes with it
        for name, value in config.to_dict().items():
            if isinstance(value, list) and len(value) == whole:
                setattr(config, name, [value[index] for index in kept])
    model.language_changed = True


def merge_adapter(model: Model, name: str) -> None:
    """Add an adapter into the weights it adapts, and forget all adapters."""
    lora = model.lora
    assert lora is not None
    for layer in lora.shapes:
        module = model.backbone.language.get_submodule(layer)
        module.weight.data = lora.merged(name, layer, module.weight).to(module.weight.dtype)
    lora.remove()
    model.lora = None
    model.language_changed = True
