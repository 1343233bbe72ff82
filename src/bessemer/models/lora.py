"""Low-rank adapters (LoRA) in the forward of linear layers: the base's modules, names and weights stay untouched.

`y = W x + (alpha / r) B A x` with A Gaussian and B zero (Hu et al. 2021, arXiv 2106.09685, section 4.1), so that a new
adapter changes nothing. Many named adapters live on one backbone; which one speaks is a single attribute that only
`models/roles` sets. Factors are float32 and are cast to the activations' type at use: a bf16 base is read as it is,
and no update is lost to rounding. On disk an adapter is PEFT's layout and loads there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bessemer.errors import UserError
from bessemer.models.frozen import Frozen

__all__ = ["Lora", "LoraFactors", "adapted", "linear_targets"]

PEFT_PREFIX = "base_model.model."


def linear_targets(model: nn.Module, targets: str | Iterable[str] = "all") -> list[str]:
    """Names of the linear layers to adapt: "all" is every one but the language-model head.

    Any other value is a list of last name parts such as ["q_proj", "v_proj"].
    """
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    head = {"lm_head", "embed_out", "output"}
    if targets == "all":
        return [name for name in found if name.split(".")[-1] not in head]
    wanted = set([targets] if isinstance(targets, str) else targets)
    unknown = wanted - {name.split(".")[-1] for name in found}
    if unknown:
        known = sorted({name.split(".")[-1] for name in found})
        raise UserError(f"lora_target {sorted(unknown)} not in the model, expected some of {known} or all")
    if wanted & head:
        raise UserError(f"lora_target {sorted(wanted & head)}, expected other layers: the head is read, not called")
    return [name for name in found if name.split(".")[-1] in wanted]


class LoraFactors(nn.Module):
    """The factors of one adapter: A (r, in) and B (out, r) of each adapted layer."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self.names = list(shapes)
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.ParameterList()
        self.up = nn.ParameterList()
        for inputs, outputs in shapes.values():
            gaussian = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
            self.down.append(nn.Parameter(gaussian))
            self.up.append(nn.Parameter(torch.zeros(outputs, rank)))

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self, name: str) -> Tensor:
        """The dense update (alpha / r) B A of one layer, (out, in)."""
        index = self.names.index(name)
        return self.scale * (self.up[index].detach() @ self.down[index].detach())


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + u (d x) over rows, in one node: the low-rank parts are added in place, and W gets no gradient.

    x (N, in); weight and bias (out,), frozen; down (r, in) and up (out, r) float32; the scale is put on up.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Frozen, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        narrow, wide = down.to(x.dtype), (up * scale).to(x.dtype)
        low = x @ narrow.T
        output = weight.times(x, bias)
        output.addmm_(low, wide.T)
        ctx.save_for_backward(x, low, narrow, wide)
        ctx.weight, ctx.scale = weight, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, None, Tensor | None, Tensor | None, Tensor | None, None]:
        x, low, narrow, wide = ctx.saved_tensors
        gradient = gradients[0]
        needs_x, _, needs_bias, needs_down, needs_up, _ = ctx.needs_input_grad
        d_low = gradient @ wide
        d_x = ctx.weight.back(gradient).addmm_(d_low, narrow) if needs_x else None
        d_down = (d_low.T @ x).float() if needs_down else None
        d_up = (gradient.T @ low).float().mul_(ctx.scale) if needs_up else None
        return d_x, None, gradient.sum(0) if needs_bias else None, d_down, d_up, None


class _FrozenLinear(torch.autograd.Function):
    """y = W x + b over rows, of a weight that does not learn: the same product whether or not somebody asks for a
    gradient, so that who samples and who learns agree."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Frozen, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return weight.times(x, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None, Tensor | None]:
        needs_x, _, needs_bias = ctx.needs_input_grad
        d_x = ctx.weight.back(gradients[0]) if needs_x else None
        return d_x, None, gradients[0].sum(0) if needs_bias else None


class _Adapted:
    """What an adapted linear layer has for its forward."""

    def __init__(self, lora: Lora, index: int, layer: nn.Linear) -> None:
        self.lora, self.index, self.layer = lora, index, layer

    def factors(self) -> tuple[Tensor, Tensor, float] | None:
        """A (r, in), B (out, r) and scale of the adapter that speaks; None if none does."""
        if self.lora.active is None:
            return None
        factors = self.lora.factors(self.lora.active)
        return factors.down[self.index], factors.up[self.index], factors.scale

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if self.lora.active is None:
            return functional.linear(x, layer.weight, layer.bias)
        rows = x.to(layer.weight.dtype).reshape(-1, layer.in_features)
        return adapted(rows, Frozen(layer.weight), layer.bias, [layer]).view(*x.shape[:-1], layer.out_features)


def adapted(x: Tensor, weight: Frozen, bias: Tensor | None, layers: Sequence[nn.Linear]) -> Tensor:
    """The outputs side by side of layers that take the same input, with whatever adapter speaks in each.

    x (N, in); weight (sum of outs, in) and bias: theirs, joined; the weight learns only where no adapter speaks.
    Returns (N, sum of outs).
    """
    parts = [layer.__dict__.get("forward") for layer in layers]
    speaking = [part.factors() if isinstance(part, _Adapted) else None for part in parts]
    found = [factors for factors in speaking if factors is not None]
    if not found:
        if weight.weight.requires_grad:
            return functional.linear(x, weight.weight, bias)
        plain: Tensor = _FrozenLinear.apply(x, weight, bias)
        return plain
    down = found[0][0] if len(found) == 1 else torch.cat([factors[0] for factors in found])
    up = found[0][1]
    if len(layers) > 1:  # each layer reads what its own A made: B of the others is zero there, and of one without any
        silent = up.new_zeros(1, 0)
        up = torch.block_diag(
            *(
                silent.expand(layer.out_features, 0) if factors is None else factors[1]
                for layer, factors in zip(layers, speaking, strict=True)
            )
        )
    output: Tensor = _LoraLinear.apply(x, weight, bias, down, up, found[0][2])
    return output


class Lora(nn.Module):
    """Named adapters on one backbone. Final.

    `active` names the adapter whose updates are added, or is None for the bare backbone.
    """

    def __init__(self, model: nn.Module, targets: str | Iterable[str] = "all") -> None:
        super().__init__()
        names = linear_targets(model, targets)
        if not names:
            raise UserError("this model has no linear layer that LoRA could adapt; set finetuning_type=full")
        self.shapes: dict[str, tuple[int, int]] = {}
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self._layers: list[nn.Linear] = []
        for index, name in enumerate(names):
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            self._device = layer.weight.device
            self.shapes[name] = (layer.in_features, layer.out_features)
            self._layers.append(layer)
            layer.forward = _Adapted(self, index, layer)  # type: ignore[method-assign, assignment]

    def add(self, name: str, rank: int, alpha: float, seed: int = 0) -> LoraFactors:
        """Add an adapter that changes nothing yet (B is zero)."""
        factors = LoraFactors(self.shapes, rank, alpha, seed).to(self._device)
        self.adapters[name] = factors
        return factors

    def copy(self, source: str, target: str) -> LoraFactors:
        """Add an adapter that starts as an exact copy of another."""
        original = self.factors(source)
        factors = self.add(target, original.rank, original.alpha)
        factors.load_state_dict(original.state_dict())
        return factors

    def remove(self) -> None:
        """Give the layers their own forward back: adapters are forgotten."""
        for layer in self._layers:
            del layer.forward

    def factors(self, name: str) -> LoraFactors:
        factors = self.adapters[name]
        assert isinstance(factors, LoraFactors)
        return factors

    def merged(self, name: str, layer: str, weight: Tensor) -> Tensor:
        """W + (alpha / r) B A of one layer in float32, (out, in)."""
        return weight.detach().float() + self.factors(name).delta(layer)

    def save(self, name: str, directory: Path, base: str) -> None:
        """Write one adapter in PEFT's layout: adapter_config.json and adapter_model.safetensors."""
        directory.mkdir(parents=True, exist_ok=True)
        factors = self.factors(name)
        tensors = {}
        for layer, down, up in zip(factors.names, factors.down, factors.up, strict=True):
            tensors[f"{PEFT_PREFIX}{layer}.lora_A.weight"] = down.detach().contiguous()
            tensors[f"{PEFT_PREFIX}{layer}.lora_B.weight"] = up.detach().contiguous()
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": factors.rank,
            "lora_alpha": factors.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": sorted({layer.split(".")[-1] for layer in factors.names}),
        }
        (directory / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def load(self, name: str, directory: Path) -> LoraFactors:
        """Read an adapter in PEFT's layout; every factor of every adapted layer must be there and fit."""
        config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        others = [key for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if config.get(key)]
        if config.get("peft_type") != "LORA" or others:
            found = ", ".join([str(config.get("peft_type")), *others])
            raise UserError(f"{directory}: expected a plain LoRA adapter of one rank and scale, got {found}")
        tensors = load_file(directory / "adapter_model.safetensors")
        factors = self.add(name, int(config["r"]), float(config["lora_alpha"]))
        state: dict[str, Tensor] = {}
        for index, layer in enumerate(factors.names):
            for part, kind in (("down", "lora_A"), ("up", "lora_B")):
                key = f"{PEFT_PREFIX}{layer}.{kind}.weight"
                if key not in tensors:
                    raise UserError(f"{directory}: no tensor {key}, expected an adapter of this very model")
                state[f"{part}.{index}"] = tensors.pop(key)
        if tensors:
            raise UserError(f"{directory}: tensor {next(iter(tensors))} fits no adapted layer of this model")
        try:
            factors.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{directory}: factors of other shapes than this model's: {error}") from error
        return factors
