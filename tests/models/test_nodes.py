"""Nodes with a gradient by hand, beside the plain operations and differences of float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from bessemer.models.nodes import gated, rms_norm, rotate, rotation

pytestmark = pytest.mark.usefixtures("operations")


def _random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(True)


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 6)], ids=str)
def test_norm(shape: tuple[int, ...]) -> None:
    x, weight = _random(*shape), _random(6, seed=1)
    assert_close(rms_norm(x, weight, 1e-3), functional.rms_norm(x, (6,), weight, 1e-3))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), (x, weight))


def test_norm_rounds_as_transformers_does() -> None:
    x, weight = _random(5, 64).bfloat16(), _random(64, seed=1).bfloat16()
    normed = (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).bfloat16()
    assert_close(rms_norm(x, weight, 1e-5), normed * weight, atol=0, rtol=2**-7)
    assert rms_norm(x, weight, 1e-5).dtype == torch.bfloat16


def test_rotation() -> None:
    frequencies = torch.tensor([1.0, 0.1], dtype=torch.float64)
    cos, sin = (part[:, None] for part in rotation(torch.tensor([0, 3]), frequencies, 1.0, torch.float64))
    x = _random(2, 3, 4)
    turned = rotate(x, cos, sin)
    assert_close(turned[0], x[0])
    angle = torch.tensor(0.3, dtype=torch.float64)  # of the second pair of numbers at place 3
    first, second = x[1, 0, 1], x[1, 0, 3]
    expected = torch.stack([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()])
    assert_close(turned[1, 0, [1, 3]], expected, atol=1e-6, rtol=0)
    assert_close(rotate(x.detach(), cos, sin), turned.detach())
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (x,))


def test_gate() -> None:
    x = _random(5, 8)
    expected = functional.silu(x[:, :4]) * x[:, 4:]
    assert_close(gated(x), expected)
    assert_close(gated(x.detach()), expected.detach())
    assert torch.autograd.gradcheck(gated, (x,))
