"""The fast decode loop for Llama-shaped models (Llama, Mistral, Qwen2, Qwen3), in process.

A decode step of a small model is dominated by many small operations. So: adapters are merged into a packed copy of the
weights, query-key-value and gate-up are one product each, weights are laid out once for oneDNN, and what lies between
the products is compiled where there is a compiler. Greedy answers equal transformers' token for token in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bessemer.data.batches import Packed
from bessemer.kernels import kernels_for
from bessemer.models.attention import attend, too_long
from bessemer.models.backbone import PackedBackbone
from bessemer.models.layout import layout_of
from bessemer.models.model import Model
from bessemer.models.nodes import rotation
from bessemer.rollout.cache import Cache
from bessemer.rollout.compiled import Compiled
from bessemer.rollout.linear import NARROW_ROWS, Linear
from bessemer.rollout.operations import Plain, Shape

__all__ = ["Decoder"]

FEW_ROWS = 6  # up to here float32 products cost a CPU less than bfloat16 ones, whose set-up exceeds their arithmetic
BLOCK = 32  # tokens that the cache grows by where whole matrices are read: 1.06 to 1.1 times as fast as slices of room


class Layer:
    """One decoder layer's fused weights. Final."""

    def __init__(self, layer: Any, merged: Callable[[Any], Tensor], dtype: torch.dtype, int8: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp

        def fused(*linears: Any) -> Linear:
            weight = torch.cat([merged(linear) for linear in linears])
            if linears[0].bias is None:
                return Linear(weight, None, int8)
            return Linear(weight, torch.cat([linear.bias.detach() for linear in linears]).to(weight.dtype), int8)

        def gain(norm: Any) -> Tensor:
            weight: Tensor = norm.weight.detach().to(dtype)
            return weight

        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = fused(attention.o_proj)
        self.gate_up = fused(mlp.gate_proj, mlp.up_proj)
        self.down = fused(mlp.down_proj)
        self.before_attention = gain(layer.input_layernorm)
        self.before_mlp = gain(layer.post_attention_layernorm)
        normed = getattr(attention, "q_norm", None) is not None
        self.query_norm = gain(attention.q_norm) if normed else None
        self.key_norm = gain(attention.k_norm) if normed else None


class Decoder:
    """A merged, fused copy of a model with its cache. Final.

    `prefill` sets up B * copies rows, `step` advances all of them by one token, `keep` drops the others.
    int8: whether steps of few rows read weights of 8 bits; prompts and larger batches always have the whole ones.
    """

    def __init__(self, model: Model, adapter: str | None, int8: bool = False) -> None:
        backbone = model.backbone
        assert isinstance(backbone, PackedBackbone)
        self.backbone = backbone
        network = backbone.language
        config = network.config
        self.dtype = backbone.compute_dtype
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.shape = Shape(heads, kv_heads, head_dim, head_dim**-0.5, config.rms_norm_eps)
        self.plain = Plain(self.shape)
        self.window: int | None = getattr(config, "sliding_window", None)
        names = {id(module): name for name, module in network.named_modules()}

        def merged(linear: Any) -> Tensor:
            weight, name = linear.weight.detach(), names[id(linear)]
            if adapter is not None and model.lora is not None and name in model.lora.shapes:
                weight = model.lora.merged(adapter, name, weight)
            return weight.to(self.dtype)

        with torch.no_grad():
            body = network.get_decoder()
            self.layers = [Layer(layer, merged, self.dtype, int8) for layer in body.layers]
            self.head = Linear(backbone.head.detach().to(self.dtype), None, int8)
        # what each block's output is normed with: for the next block, and for the head
        self.following = [layer.before_attention for layer in self.layers[1:]]
        self.following.append(body.norm.weight.detach().to(self.dtype))
        self.table = network.get_input_embeddings().weight.detach().to(self.dtype)
        self.frequencies = body.rotary_emb.inv_freq.float()
        self.rotary_scale = body.rotary_emb.attention_scaling
        kernels = kernels_for(self.dtype, self.table.device)
        self.operations = self.plain if kernels is None else Compiled(kernels, self.shape)
        self.int8 = int8
        self.narrow = False

    def allocate(self, rows: int, room: int) -> None:
        """Make room for that many rows of up to `room` tokens, prompts included."""
        if self.window is not None and room > self.window:
            raise too_long(room, self.window)
        device = self.table.device
        # decided here and not in a step: what a row says must not change when its neighbours leave
        self.narrow = self.int8 and rows <= NARROW_ROWS
        dtype, block = self.dtype, 0
        if device.type == "cpu" and self.operations is self.plain:
            dtype, block = torch.float32 if rows <= FEW_ROWS else dtype, BLOCK
        shape = self.shape
        self.cache = Cache(len(self.layers), rows, shape.kv_heads, shape.head_dim, room, dtype, device, block)
        places = torch.arange(room, device=device)
        self.cos, self.sin = rotation(places, self.frequencies, self.rotary_scale, self.dtype)

    def prefill(self, prompts: Packed, copies: int, room: int) -> Tensor:
        """Allocate the cache for prompts and answers of up to `room` tokens, and `read` into all of its rows."""
        rows = len(prompts.lengths) * copies
        self.allocate(rows, max(prompts.lengths) + room)
        return self.read(prompts, copies, torch.arange(rows))

    @torch.inference_mode()
    def read(self, prompts: Packed, copies: int, rows: Tensor) -> Tensor:
        """Read the prompts once each into the given rows (B * copies,), whatever these held; logits of the next token.

        Copies of a prompt lie side by side. Returns (B * copies, V).
        """
        device, small = self.table.device, self.operations
        layout = layout_of(prompts.lengths, prompts.identities(), device)
        x = self.backbone.embed(prompts).to(self.dtype)[layout.first]
        cos, sin = self.cos[layout.positions][:, None], self.sin[layout.positions][:, None]
        rows = rows.to(device)
        lengths = torch.tensor(prompts.lengths, device=device)
        owner = rows.view(-1, copies).repeat_interleave(lengths, 0).flatten()
        index = layout.index.repeat_interleave(copies)
        places = torch.cat([torch.arange(length, device=device) for length in prompts.lengths])
        places = places.repeat_interleave(copies)
        self.cache.reach(max(prompts.lengths))
        x, normed = small.add_norm(x, None, self.layers[0].before_attention)
        for number, (layer, gain) in enumerate(zip(self.layers, self.following, strict=True)):
            qkv = layer.qkv(normed)
            query, key, value = self.plain.project(qkv, cos, sin, layer.query_norm, layer.key_norm)
            self.cache.fill(number, key[index], value[index], owner, places)
            mixed = attend(query, key, value, layout, self.shape.scaling).flatten(1)
            x, normed = small.add_norm(x, layer.out(mixed), layer.before_mlp)
            x, normed = small.add_norm(x, layer.down(small.gated(layer.gate_up(normed))), gain)
        self.cache.lengths[rows] = lengths.repeat_interleave(copies)
        last = normed[layout.index[lengths.cumsum(0) - 1]]
        return self.head(last).repeat_interleave(copies, 0)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row and return the logits of the next, (B, V), in the weights' type."""
        cache, small, narrow = self.cache, self.operations, self.narrow
        cache.begin()
        small.begin(cache, self.cos, self.sin)
        x, normed = small.add_norm(self.table[tokens.to(self.table.device)], None, self.layers[0].before_attention)
        for number, (layer, gain) in enumerate(zip(self.layers, self.following, strict=True)):
            qkv = layer.qkv(normed, narrow)
            mixed = small.attend(cache, number, qkv, layer.query_norm, layer.key_norm)
            x, normed = small.add_norm(x, layer.out(mixed, narrow), layer.before_mlp)
            product = small.gated(layer.gate_up(normed, narrow))
            x, normed = small.add_norm(x, layer.down(product, narrow), gain)
        cache.end()
        return self.head(normed, narrow)

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows of the cache."""
        self.cache.keep(rows)
