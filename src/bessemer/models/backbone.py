"""One interface to every network: packed batch in, one hidden state a token out.

`PackedBackbone` is a causal language model of any architecture whose attention is pluggable, with or without our own
vision side; it never pads. `PaddedBackbone` runs any transformers model as it is, padded, and serves pretrained
vision-language models and architectures the packed path does not know. Both give the same numbers.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bessemer.data.batches import Packed
from bessemer.errors import UserError
from bessemer.models.attention import register
from bessemer.models.layout import Layout, layout_of
from bessemer.models.logits import logit_scale, states_for, whole_head
from bessemer.models.projector import Projector
from bessemer.models.trunk import Trunk, llama_shaped
from bessemer.models.vision import Tower, pool

__all__ = ["Backbone", "PackedBackbone", "PaddedBackbone", "packs"]

log = logging.getLogger(__name__)

PACKED_ARCHITECTURES = {"llama", "qwen2", "qwen3", "mistral", "smollm3", "olmo2", "granite"}


class Backbone(Protocol):
    """What everything above needs of a network."""

    language: nn.Module

    def hidden(self, packed: Packed) -> Tensor:
        """Hidden state of each of the N tokens after the last norm, (N, D)."""
        ...

    @property
    def head(self) -> Tensor:
        """Weight of the language-model head, (V, D): logits are `hidden(...) @ head.T` (`logits`)."""
        ...

    @property
    def device(self) -> torch.device: ...


def packs(model_type: str) -> bool:
    """Whether the packed path knows this architecture; if not, one log line says that it runs padded."""
    known = model_type in PACKED_ARCHITECTURES
    if not known:
        log.warning("architecture %s runs padded through transformers: correct, but slower than packed", model_type)
    return known


class PackedBackbone(nn.Module):
    """A causal language model, and optionally a tower and a projector, over packed batches. Final.

    compute_dtype: type of the activations; float32 weights that are trained are cast at use (autocast).
    """

    def __init__(
        self,
        language: Any,
        projector: Projector | None = None,
        tower: Tower | None = None,
        image_grid: int = 2,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.language = language
        self.projector = projector
        self.tower = tower
        self.image_grid = image_grid
        self.compute_dtype = compute_dtype
        language.set_attn_implementation(register())
        self.trunk = Trunk(language) if llama_shaped(language.config) else None
        self.logit_scale = logit_scale(language.config)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.language.get_output_embeddings().weight.device
        return device

    @property
    def head(self) -> Tensor:
        return whole_head(self.language.get_output_embeddings())

    def embed(self, packed: Packed) -> Tensor:
        """Token embeddings with visual tokens in their places, (N, D)."""
        embeddings: Tensor = self.language.get_input_embeddings()(packed.ids.to(self.device))
        if not len(packed.image_rows):
            return embeddings.to(self.compute_dtype)
        visual = self.visual_tokens(packed.model_inputs).to(self.compute_dtype).flatten(0, 1)
        rows = packed.image_rows.to(self.device)
        return embeddings.to(self.compute_dtype).index_copy(0, rows, visual)

    def visual_tokens(self, model_inputs: Mapping[str, Tensor]) -> Tensor:
        """Projected features of each image, (I, n, D), from cached `features` (I, n, C) or `pixels` (I, 3, H, W)."""
        assert self.projector is not None
        if "features" in model_inputs:
            features = model_inputs["features"].to(self.device)
        else:
            assert self.tower is not None
            features = pool(self.tower(model_inputs["pixels"].to(self.device)).float(), self.image_grid)
        projected: Tensor = self.projector(features)
        return projected

    def hidden(self, packed: Packed) -> Tensor:
        """Hidden state of each token after the last norm, (N, D); what sequences have in common is computed once."""
        layout = layout_of(packed.lengths, packed.identities(), self.device)
        states = self._blocks(self.embed(packed)[layout.first], layout)
        output = self.language.get_output_embeddings()
        return states_for(output, states.to(self.compute_dtype), self.logit_scale)[layout.index]

    def _blocks(self, x: Tensor, layout: Layout) -> Tensor:
        """The computed rows (U, D) through all blocks: by the short way where it is known, else by transformers'."""
        if self.trunk is not None:
            if list(self.trunk.layers) != list(self.language.get_decoder().layers):
                self.trunk = Trunk(self.language)
            return self.trunk(x, layout)
        mixed = self.compute_dtype != torch.float32
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed and self._has_float32()):
            output = self.language.get_decoder()(
                inputs_embeds=x[None], position_ids=layout.positions[None], use_cache=False, layout=layout
            )
        states: Tensor = output.last_hidden_state[0]
        return states

    def _has_float32(self) -> bool:
        return bool(self.language.get_output_embeddings().weight.dtype == torch.float32)


class PaddedBackbone(nn.Module):
    """Any transformers causal or image-text-to-text model, run padded on the left or on the right. Final."""

    def __init__(self, language: Any, padding: str = "right") -> None:
        super().__init__()
        self.language = language
        self.padding = padding
        self.compute_dtype: torch.dtype = language.dtype
        self.logit_scale = logit_scale(language.config.get_text_config())
        taken = inspect.signature(self.body.forward).parameters
        # what says which tokens are an image's: they see one another both ways. Elsewhere `token_type_ids` says other
        # things (Paligemma: what is asked and what is answered).
        names = ("mm_token_type_ids", *(["token_type_ids"] if language.config.model_type == "gemma3" else []))
        self._types = next((name for name in names if name in taken), None)

    @property
    def body(self) -> Any:
        """The network without its language-model head."""
        return getattr(self.language, self.language.base_model_prefix)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.language.get_output_embeddings().weight.device
        return device

    @property
    def head(self) -> Tensor:
        return whole_head(self.language.get_output_embeddings())

    def hidden(self, packed: Packed) -> Tensor:
        """Hidden state of each token after the last norm, (N, D)."""
        ids, mask = self.padded(packed)
        output = self.body(use_cache=False, **self.arguments(ids, mask, packed.model_inputs))
        return states_for(self.language.get_output_embeddings(), output.last_hidden_state[mask], self.logit_scale)

    def arguments(self, ids: Tensor, mask: Tensor, model_inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network is called with: ids and mask (B, T), True = a real token, and the images' inputs."""
        settings = self.language.config.get_text_config()
        most = getattr(settings, "max_position_embeddings", None)
        learned = not any(name.startswith("rope") for name in settings.to_dict())
        if learned and most and ids.shape[1] > most:
            raise UserError(
                f"a sequence of {ids.shape[1]} tokens, but this model learned {most} positions; lower cutoff_len "
                "(training) or response_length (sampling), or shorten the prompts"
            )
        given = {"input_ids": ids, "attention_mask": mask.long()}
        for name, value in model_inputs.items():
            value = value.to(self.device)
            given[name] = value.to(self.compute_dtype) if value.is_floating_point() else value
        if not model_inputs:  # vision-language models derive their own positions, some from the types of the tokens
            given["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        elif self._types:
            given[self._types] = (ids == self.language.config.image_token_id).long()
        return given

    def padded(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """The batch as a (B, T) grid of ids and its mask (True = a real token)."""
        lengths = torch.tensor(packed.lengths)
        steps = torch.arange(int(lengths.max()))
        mask = steps < lengths[:, None]
        if self.padding == "left":
            mask = mask.flip(1)
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[mask] = packed.ids
        return ids.to(self.device), mask.to(self.device)
