"""The fast decode loop for Llama-shaped models (Llama, Mistral, Qwen2, Qwen3), in process.

A decode step of a small model is dominated by many small operations. So: adapters are merged into a packed copy of the
weights, query-key-value and gate-up are one product each, weights are laid out once for oneDNN, the cache is allocated
once, and attention is two batched products over grouped heads. Greedy answers equal transformers' token for token in
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bessemer.data.batches import Packed
from bessemer.models.attention import attend
from bessemer.models.backbone import PackedBackbone
from bessemer.models.layout import layout_of
from bessemer.models.model import Model

__all__ = ["Decoder", "decodes"]

KNOWN = {"llama", "mistral", "qwen2", "qwen3"}


def decodes(settings: Any) -> bool:
    """Whether this decoder knows the architecture and its rotary embedding."""
    rope = getattr(settings, "rope_parameters", None) or {}
    sliding = getattr(settings, "layer_types", None) or []
    return (
        settings.model_type in KNOWN
        and rope.get("rope_type", "default") == "default"
        and settings.hidden_act == "silu"
        and "sliding_attention" not in sliding
    )


class Linear:
    """A frozen linear layer laid out for decoding: on a CPU in oneDNN's own blocked order. Final."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.bias = bias
        self.reordered = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        self.weight = weight.contiguous()
        if self.reordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        if self.reordered:
            output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return output
        return functional.linear(x, self.weight, self.bias)


class Layer:
    """One decoder layer's fused weights. Final."""

    def __init__(self, layer: Any, merged: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp

        def fused(*linears: Any) -> Linear:
            weight = torch.cat([merged(linear) for linear in linears])
            if linears[0].bias is None:
                return Linear(weight)
            return Linear(weight, torch.cat([linear.bias.detach() for linear in linears]).to(weight.dtype))

        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = fused(attention.o_proj)
        self.gate_up = fused(mlp.gate_proj, mlp.up_proj)
        self.down = fused(mlp.down_proj)
        self.before_attention = layer.input_layernorm
        self.before_mlp = layer.post_attention_layernorm
        self.query_norm = getattr(attention, "q_norm", None)
        self.key_norm = getattr(attention, "k_norm", None)


class Decoder:
    """A merged, fused copy of a model with its cache. Final.

    `prefill` sets up B * copies rows, `step` advances all of them by one token, `keep` drops the others.
    """

    def __init__(self, model: Model, adapter: str | None) -> None:
        backbone = model.backbone
        assert isinstance(backbone, PackedBackbone)
        self.backbone = backbone
        network = backbone.language
        config = network.config
        self.dtype = backbone.compute_dtype
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.group = self.heads // self.kv_heads
        self.window: int | None = getattr(config, "sliding_window", None)
        names = {id(module): name for name, module in network.named_modules()}

        def merged(linear: Any) -> Tensor:
            weight, name = linear.weight.detach(), names[id(linear)]
            if adapter is not None and model.lora is not None and name in model.lora.shapes:
                weight = model.lora.merged(adapter, name, weight)
            return weight.to(self.dtype)

        with torch.no_grad():
            body = network.get_decoder()
            self.layers = [Layer(layer, merged) for layer in body.layers]
            self.head = Linear(backbone.head.detach().to(self.dtype))
        self.norm = body.norm
        self.epsilon = config.rms_norm_eps
        self.table = network.get_input_embeddings().weight.detach().to(self.dtype)
        self.frequencies = body.rotary_emb.inv_freq.float()
        self.rotary_scale = body.rotary_emb.attention_scaling
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.lengths = torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def prefill(self, prompts: Packed, copies: int, room: int) -> Tensor:
        """Read the prompts once each, copy their cache, and return the logits of the next token, (B * copies, V)."""
        layout = layout_of(prompts.lengths, prompts.identities(), self.table.device)
        x = self.backbone.embed(prompts).to(self.dtype)[layout.first]
        cos, sin = self._rotation(layout.positions)
        batch, longest = len(prompts.lengths), max(prompts.lengths)
        if self.window is not None and longest + room > self.window:
            raise ValueError(f"{longest + room} tokens exceed the sliding window of {self.window}")
        owner = torch.repeat_interleave(torch.arange(batch), torch.tensor(prompts.lengths)).to(x.device)
        places = torch.cat([torch.arange(length) for length in prompts.lengths]).to(x.device)
        self.keys, self.values = [], []
        for layer in self.layers:
            query, key, value = self._project(layer, x, cos, sin)
            cache = [
                torch.zeros(batch, longest + room, self.kv_heads, self.head_dim, dtype=self.dtype, device=x.device)
                for _ in range(2)
            ]
            cache[0][owner, places] = key[layout.index]
            cache[1][owner, places] = value[layout.index]
            for store, tensor in ((self.keys, cache[0]), (self.values, cache[1])):
                store.append(tensor.transpose(1, 2).repeat_interleave(copies, 0).contiguous())
            x = self._rest(layer, x, attend(query, key, value, layout, self.head_dim**-0.5).flatten(1))
        self.lengths = torch.tensor(prompts.lengths, device=x.device).repeat_interleave(copies)
        last = self._norm(self.norm, x[layout.index[torch.tensor(prompts.lengths).cumsum(0) - 1]])
        return self.head(last).float().repeat_interleave(copies, 0)

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row and return the logits of the next, (B, V)."""
        x = self.table[tokens.to(self.table.device)]
        cos, sin = self._rotation(self.lengths)
        rows = torch.arange(len(x), device=x.device)
        seen = int(self.lengths.max()) + 1
        hidden = torch.arange(seen, device=x.device) > self.lengths[:, None]  # True = not yet written
        for layer, keys, values in zip(self.layers, self.keys, self.values, strict=True):
            query, key, value = self._project(layer, x, cos, sin)
            keys[rows, :, self.lengths] = key
            values[rows, :, self.lengths] = value
            grouped = query.view(-1, self.kv_heads, self.group, self.head_dim) * self.head_dim**-0.5
            scores = torch.matmul(grouped, keys[:, :, :seen].transpose(2, 3))
            weights = torch.softmax(scores.masked_fill(hidden[:, None, None], float("-inf")), -1)
            mixed = torch.matmul(weights, values[:, :, :seen])
            x = self._rest(layer, x, mixed.flatten(1))
        self.lengths = self.lengths + 1
        return self.head(self._norm(self.norm, x)).float()

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows of the cache."""
        rows = rows.to(self.lengths.device)
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]
        self.lengths = self.lengths[rows]

    def _norm(self, norm: Any, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), self.epsilon)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[:, None].float() * self.frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        return (angles.cos() * self.rotary_scale).to(self.dtype), (angles.sin() * self.rotary_scale).to(self.dtype)

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (N, Hq, d), key and value (N, Hk, d) of N tokens, rotated."""
        fused = layer.qkv(self._norm(layer.before_attention, x)).view(len(x), -1, self.head_dim)
        query, key, value = fused.split([self.heads, self.kv_heads, self.kv_heads], 1)
        if layer.query_norm is not None:
            query, key = self._norm(layer.query_norm, query), self._norm(layer.key_norm, key)
        return _rotate(query, cos, sin), _rotate(key, cos, sin), value

    def _rest(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """Output projection and perceptron, with their residuals."""
        x = x + layer.out(mixed)
        gate, up = layer.gate_up(self._norm(layer.before_mlp, x)).chunk(2, -1)
        return x + layer.down(functional.silu(gate) * up)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of x (N, H, d) by cos and sin (N, 1, d)."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
