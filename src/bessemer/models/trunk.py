"""The decoder blocks of a Llama-shaped network (Llama, Mistral, Qwen2, Qwen3) over computed rows, in few nodes.

The weights stay those of transformers' modules. What is multiplied with the same input (query, key and value; gate and
up) lies side by side in one tensor, of which the modules hold views: one product does for all, and their low-rank
adapters are joined likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bessemer.models.attention import attend, too_long
from bessemer.models.frozen import PACKED_BYTES, Frozen
from bessemer.models.layout import Layout
from bessemer.models.lora import adapted
from bessemer.models.nodes import gated, rms_norm, rotate, rotation

__all__ = ["Trunk", "llama_shaped"]

KNOWN = {"llama", "mistral", "qwen2", "qwen3"}
FIXED_ROTATIONS = {"default", "linear", "llama3", "yarn"}  # whose frequencies do not depend on the length


def llama_shaped(settings: Any) -> bool:
    """Whether a transformers configuration is of an architecture and a rotary embedding that are known here."""
    rope = getattr(settings, "rope_parameters", None) or {}
    sliding = getattr(settings, "layer_types", None) or []
    return (
        settings.model_type in KNOWN
        and rope.get("rope_type", "default") in FIXED_ROTATIONS
        and settings.hidden_act == "silu"
        and "sliding_attention" not in sliding
    )


class Side:
    """Linear layers that take the same input, as one. Final."""

    def __init__(self, pack: bool, *layers: Any) -> None:
        self.pack = pack
        self.layers: Sequence[nn.Linear] = layers
        self.sizes = [layer.out_features for layer in layers]
        self.frozen: Frozen | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Their outputs side by side: (U, in) -> (U, sum of outs), in x's type."""
        weight = self.weight()
        weight = weight if weight.weight.dtype == x.dtype else Frozen(weight.weight.to(x.dtype))
        return adapted(x, weight, self.bias(x.dtype), self.layers)

    def weight(self) -> Frozen:
        """Their weights, one above the other; frozen ones are joined once, and the modules then hold views."""
        weights: list[Tensor] = [layer.weight for layer in self.layers]
        if any(weight.requires_grad for weight in weights):
            self.frozen = None
            return Frozen(weights[0] if len(weights) == 1 else torch.cat(weights))
        if self.frozen is None or self.frozen.changed:
            with torch.inference_mode(False):  # what the modules hold outlives whoever asks first
                whole = weights[0].detach()
                if len(weights) > 1:
                    whole = torch.cat([weight.detach() for weight in weights])
                    for weight, part in zip(weights, whole.split(self.sizes), strict=True):
                        weight.data = part
                self.frozen = Frozen(whole, self.pack, weights)
        return self.frozen

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        biases: list[Tensor] = [layer.bias for layer in self.layers if layer.bias is not None]
        return torch.cat(biases).to(dtype) if biases else None


class Block:
    """One decoder block. Final."""

    def __init__(self, layer: Any, head_dim: int, epsilon: float, pack: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.head_dim, self.epsilon = layer, head_dim, epsilon
        self.qkv = Side(pack, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = Side(pack, attention.o_proj)
        self.gate_up = Side(pack, mlp.gate_proj, mlp.up_proj)
        self.down = Side(pack, mlp.down_proj)
        self.query_norm = getattr(attention, "q_norm", None)
        self.key_norm = getattr(attention, "k_norm", None)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        fused = self.qkv(rms_norm(x, self.layer.input_layernorm.weight, self.epsilon))
        query, key, value = (part.unflatten(1, (-1, self.head_dim)) for part in fused.split(self.qkv.sizes, 1))
        if self.query_norm is not None and self.key_norm is not None:
            query = rms_norm(query, self.query_norm.weight, self.epsilon)
            key = rms_norm(key, self.key_norm.weight, self.epsilon)
        mixed = attend(rotate(query, cos, sin), rotate(key, cos, sin), value, layout, self.head_dim**-0.5)
        x = x + self.out(mixed.flatten(1))
        normed = rms_norm(x, self.layer.post_attention_layernorm.weight, self.epsilon)
        return x + self.down(gated(self.gate_up(normed)))


class Trunk:
    """A network's blocks and its last norm. Final."""

    def __init__(self, language: Any) -> None:
        config, body = language.config, language.get_decoder()
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.epsilon: float = config.rms_norm_eps
        self.body = body
        self.window: int | None = getattr(config, "sliding_window", None)
        self.layers = body.layers
        weights = [weight for layer in body.layers for weight in layer.parameters() if weight.dim() == 2]
        pack = 2 * sum(weight.numel() * weight.element_size() for weight in weights) <= PACKED_BYTES
        self.blocks = [Block(layer, self.head_dim, self.epsilon, pack) for layer in body.layers]

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        """Hidden states (U, D) after the last norm of computed rows (U, D), in x's type."""
        if self.window is not None and layout.longest > self.window:
            raise too_long(layout.longest, self.window)
        rotary = self.body.rotary_emb
        cos, sin = rotation(layout.positions, rotary.inv_freq.float(), rotary.attention_scaling, x.dtype)
        for block in self.blocks:
            x = block(x, cos[:, None], sin[:, None], layout)
        return rms_norm(x, self.body.norm.weight, self.epsilon)
