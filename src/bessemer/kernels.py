"""What lies between the products of a language model, in C: kernels.c on tensors of one type, on a CPU.

A step of a small model asks PyTorch for a thousand operations that each take a few microseconds and go over memory
anew. Here are the calls; what they compute is said once more, in PyTorch's operations, where they are used.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from bessemer.compiling import library

__all__ = ["Kernels", "kernels_for"]

POINTER, SIZE, REAL, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
ARGUMENTS = {
    "add_norm": [*[POINTER] * 5, SIZE, SIZE, REAL, INT],
    "norm_backward": [*[POINTER] * 5, SIZE, SIZE, INT],
    "gated": [*[POINTER] * 2, SIZE, SIZE, INT],
    "gated_backward": [*[POINTER] * 3, SIZE, SIZE, INT],
    "rotate": [*[POINTER] * 4, *[SIZE] * 4, REAL, INT],
    "soften": [*[POINTER] * 2, *[SIZE] * 4, INT],
    "soften_backward": [*[POINTER] * 2, SIZE, SIZE, INT],
    "log_probability": [*[POINTER] * 5, SIZE, SIZE, REAL, INT, INT],
    "distillation": [*[POINTER] * 8, SIZE, SIZE, REAL, REAL, INT],
    "draw": [*[POINTER] * 3, SIZE, SIZE, REAL, INT],
    "attend": [*[POINTER] * 11, REAL, REAL],
}


@final
class Kernels:
    """The compiled functions for tensors of one type: contiguous ones, if nothing else is said."""

    def __init__(self, compiled: ctypes.CDLL) -> None:
        for name, arguments in ARGUMENTS.items():
            function = getattr(compiled, name)
            function.argtypes, function.restype = arguments, None
        self._do = compiled

    def add_norm(
        self, x: Tensor, delta: Tensor | None, gain: Tensor, epsilon: float, inverses: Tensor | None = None
    ) -> Tensor:
        """x += delta, in place; returns x / rms(x) * gain over the last axis, and writes 1 / rms(x) into `inverses`."""
        normed = torch.empty_like(x)
        added, kept = (None if tensor is None else tensor.data_ptr() for tensor in (delta, inverses))
        width = x.shape[-1]
        self._do.add_norm(
            x.data_ptr(), added, gain.data_ptr(), normed.data_ptr(), kept, x.numel() // width, width, epsilon,
            torch.get_num_threads(),
        )  # fmt: skip
        return normed

    def norm_backward(self, x: Tensor, gain: Tensor, inverses: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of x from that of x / rms(x) * gain."""
        found, width = torch.empty_like(x), x.shape[-1]
        pointers = (tensor.data_ptr() for tensor in (x, gain, inverses, gradient, found))
        self._do.norm_backward(*pointers, x.numel() // width, width, torch.get_num_threads())
        return found

    def gated(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up: (U, 2 F) -> (U, F)."""
        rows, both = gate_up.shape
        product = gate_up.new_empty(rows, both // 2)
        self._do.gated(gate_up.data_ptr(), product.data_ptr(), rows, both // 2, torch.get_num_threads())
        return product

    def gated_backward(self, gate_up: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of gate and up, (U, 2 F), from that of their product, (U, F)."""
        found = torch.empty_like(gate_up)
        pointers = gate_up.data_ptr(), gradient.data_ptr(), found.data_ptr()
        self._do.gated_backward(*pointers, *gradient.shape, torch.get_num_threads())
        return found

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
        """Heads (U, H, d), whose rows may lie apart, turned by cos and signed sin (U, 1, d); way -1 turns back."""
        rows, heads, dim = x.shape
        turned = x.new_empty(x.shape)
        pointers = (tensor.data_ptr() for tensor in (x, cos, sin, turned))
        self._do.rotate(*pointers, rows, heads, dim, x.stride(0), way, torch.get_num_threads())
        return turned

    def soften(self, scores: Tensor, seen: Tensor) -> None:
        """Scores (b, H, Tq, Tk) become shares in place, of the first `seen` (b, Tq) keys of each query."""
        self._do.soften(scores.data_ptr(), seen.data_ptr(), *scores.shape, torch.get_num_threads())

    def soften_backward(self, shares: Tensor, gradient: Tensor) -> None:
        """The gradient of shares (..., Tk) becomes that of their scores, in place."""
        keys = shares.shape[-1]
        self._do.soften_backward(
            shares.data_ptr(), gradient.data_ptr(), shares.numel() // keys, keys, torch.get_num_threads()
        )

    def log_probability(self, logits: Tensor, targets: Tensor, scale: float, slope: bool) -> tuple[Tensor, ...]:
        """Of scaled logits (M, V) and targets (M,): log-probability, log of the normaliser, entropy, float32 (M,) each.

        slope: the logits become d log p(target) / d (scaled logits) in place; otherwise they stay.
        """
        _check_targets(targets, logits)
        found = tuple(_floats(logits, len(logits)) for _ in range(3))
        pointers = (tensor.data_ptr() for tensor in (logits, targets, *found))
        self._do.log_probability(*pointers, *logits.shape, scale, slope, torch.get_num_threads())
        return found

    def distillation(
        self,
        student: Tensor,
        teacher: Tensor,
        targets: Tensor,
        weights: Tensor,
        temperature: float,
        alpha: float,
        slope: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """KL(teacher, student) at the temperature, cross-entropy at 1 (M,), and the gradient of the loss (M, V).

        Student (M, V) and weights (M,) are float32, whatever the teacher is; slope: whether to take the gradient.
        """
        _check_targets(targets, student)
        kls, ces = _floats(student, len(student)), _floats(student, len(student))
        gradient = torch.empty_like(student) if slope else None
        threads = torch.get_num_threads()
        room = _floats(student, threads, 3, student.shape[1])
        pointers = (tensor.data_ptr() for tensor in (student, teacher, targets, weights, kls, ces, room))
        taken = None if gradient is None else gradient.data_ptr()
        self._do.distillation(*pointers, taken, *student.shape, temperature, alpha, threads)
        return kls, ces, gradient

    def draw(self, logits: Tensor, uniform: Tensor, scale: float) -> Tensor:
        """One token a row from softmax(scale * logits): (B, V), and uniform (B,) float32 in [0, 1) -> ids (B,)."""
        tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
        pointers = logits.data_ptr(), uniform.data_ptr(), tokens.data_ptr()
        self._do.draw(*pointers, *logits.shape, scale, torch.get_num_threads())
        return tokens

    def attend(self, *pointers: int | None, sizes: Sequence[int], scaling: float, epsilon: float) -> None:
        """A step of decoding, as kernels.c says: sizes are rows, heads, key heads, head's width, room and threads."""
        self._do.attend(*pointers, (SIZE * len(sizes))(*sizes), scaling, epsilon)


def _floats(like: Tensor, *shape: int) -> Tensor:
    """Room for float32 numbers, whatever PyTorch's defaults are."""
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _check_targets(targets: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless every target is the number of a column: C would write elsewhere."""
    if targets.dtype != torch.int64 or (
        len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]
    ):
        raise ValueError(f"expected int64 targets from 0 to {logits.shape[1] - 1}")


def kernels_for(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """The functions for this type, or None where PyTorch's operations have to do."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return None
    return _kernels(dtype)


@functools.cache
def _kernels(dtype: torch.dtype) -> Kernels | None:
    compiled = library(dtype)
    return None if compiled is None else Kernels(compiled)
