"""The compiled functions, beside the same in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from bessemer.models.nodes import rotation
from bessemer.rollout.cache import Cache
from bessemer.rollout.compiled import Compiled
from bessemer.rollout.operations import Shape
from compiling import compiled_library

EPSILON = 1e-5
TYPES = [torch.float32, torch.bfloat16]
CPU = torch.device("cpu")

pytestmark = pytest.mark.parametrize("dtype", TYPES, ids=str)


def _close(found: Tensor, expected: Tensor, times: float = 1.0) -> None:
    """Within a rounding or two of the type that it is stored in; `times` that, where roundings before it count too."""
    rtol, atol = (3e-6, 3e-6) if found.dtype == torch.float32 else (0.009, 0.004)
    assert_close(found.double(), expected, rtol=times * rtol, atol=times * atol)


def _random(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain


@pytest.mark.parametrize("rows", [1, 300])  # alone, and shared between threads
def test_norm_after_the_residual(dtype: torch.dtype, rows: int) -> None:
    kernels = compiled_library(dtype)
    x, delta, gain = _random(dtype, rows, 96), _random(dtype, rows, 96, seed=1), _random(dtype, 96, seed=2)
    total = (x.double() + delta.double()).to(dtype).double()
    kept, inverses = x.clone(), torch.empty(rows)
    normed = kernels.add_norm(kept, delta, gain, EPSILON, inverses)
    assert torch.equal(kept.double(), total)
    _close(normed, _norm(total, gain.double()))
    _close(inverses, 1 / (total.square().mean(-1) + EPSILON).sqrt())
    assert torch.equal(kernels.add_norm(kept, None, gain, EPSILON), normed) and torch.equal(kept.double(), total)


@pytest.mark.parametrize("rows", [1, 300])
def test_gradient_of_the_norm(dtype: torch.dtype, rows: int) -> None:
    kernels = compiled_library(dtype)
    x, gain, gradient = (_random(dtype, *shape, seed=i) for i, shape in enumerate([(rows, 96), (96,), (rows, 96)]))
    inverses = torch.empty(rows)
    kernels.add_norm(x, None, gain, EPSILON, inverses)
    exact = x.double().requires_grad_(True)
    (expected,) = torch.autograd.grad(_norm(exact, gain.double()), exact, gradient.double())
    _close(kernels.norm_backward(x, gain, inverses, gradient), expected)


@pytest.mark.parametrize("rows", [1, 300])
def test_gate(dtype: torch.dtype, rows: int) -> None:
    """Over all gates that matter, up to those whose exponential has no number."""
    kernels = compiled_library(dtype)
    gate, up = torch.linspace(-120, 120, 64 * rows).view(rows, 64).to(dtype), _random(dtype, rows, 64)
    both, gradient = torch.cat([gate, up], -1), _random(dtype, rows, 64, seed=1)
    exact = both.double().requires_grad_(True)
    product = functional.silu(exact[:, :64]) * exact[:, 64:]
    _close(kernels.gated(both), product.detach())
    _close(kernels.gated_backward(both, gradient), torch.autograd.grad(product, exact, gradient.double())[0])


@pytest.mark.parametrize(("rows", "dim"), [(1, 64), (3, 6), (300, 16)])
def test_rotation_there_and_back(dtype: torch.dtype, rows: int, dim: int) -> None:
    """Of heads that lie within wider rows, as a projection leaves them."""
    kernels = compiled_library(dtype)
    wide = _random(dtype, rows, 7, dim)
    frequencies = 1.0 / 100 ** (torch.arange(dim // 2) / (dim // 2))
    cos, sin = (part[:, None] for part in rotation(torch.arange(rows) + 5, frequencies, 1.0, dtype))
    x = wide[:, 2:5]
    turned = kernels.rotate(x, cos, sin, 1)
    angles = ((torch.arange(rows) + 5)[:, None, None] * frequencies).double()
    first, second = x.double().chunk(2, -1)
    complex_ = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    tolerance = 4e-5 if dtype == torch.float32 else 0.05  # of the angles' own float32
    assert_close(turned.double(), torch.cat([complex_.real, complex_.imag], -1), rtol=0, atol=tolerance)
    assert_close(kernels.rotate(turned, cos, sin, -1), x, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("batch", "heads", "queries", "keys"), [(2, 3, 4, 9), (4, 3, 40, 50)])
def test_shares_of_what_is_seen(dtype: torch.dtype, batch: int, heads: int, queries: int, keys: int) -> None:
    kernels = compiled_library(dtype)
    scores = 8 * _random(dtype, batch, heads, queries, keys)
    seen = torch.randint(1, keys + 1, (batch, queries), generator=torch.Generator().manual_seed(2))
    hidden = (torch.arange(keys) >= seen[..., None])[:, None]
    exact = scores.double().requires_grad_(True)
    expected = torch.softmax(exact.masked_fill(hidden, float("-inf")), -1)
    kernels.soften(scores, seen)
    _close(scores, expected.detach())
    assert not scores.masked_select(hidden.expand_as(scores)).any()
    gradient = _random(dtype, *scores.shape, seed=3)
    (wanted,) = torch.autograd.grad(expected, exact, gradient.double())
    kernels.soften_backward(scores, gradient)
    _close(gradient, wanted, times=2)


@pytest.mark.parametrize("scale", [1.0, 0.4])
@pytest.mark.parametrize("rows", [1, 150])
def test_log_probability(dtype: torch.dtype, rows: int, scale: float) -> None:
    """And its gradient, in the logits' place; one row has a target that everything else is far below, one far above."""
    kernels = compiled_library(dtype)
    logits, targets = 3 * _random(dtype, rows, 301), torch.arange(rows) * 7 % 301
    logits[0, targets[0]] = 200.0
    if rows > 1:
        logits[1, targets[1] + 1] = 150.0
    exact = (scale * logits.double()).requires_grad_(True)
    logarithms = torch.log_softmax(exact, -1)
    expected = logarithms.gather(-1, targets[:, None])[:, 0]
    entropy = -(logarithms.exp() * logarithms).sum(-1).detach()
    whole = logits.clone()
    for slope in (False, True):
        found = kernels.log_probability(whole, targets, scale, slope)
        for mine, true in zip(found, (expected.detach(), torch.logsumexp(exact, -1).detach(), entropy), strict=True):
            assert_close(mine.double(), true, rtol=2e-6, atol=2e-5)
        assert slope or torch.equal(whole, logits)
    (wanted,) = torch.autograd.grad(expected.sum(), exact)
    _close(whole, wanted)


@pytest.mark.parametrize("slope", [False, True])
def test_distillation_of_a_teacher_of_this_type(dtype: torch.dtype, slope: bool) -> None:
    """Beside autograd in float64; a token that the teacher rules out, and a row that does not count."""
    kernels = compiled_library(dtype)
    student, teacher = 3 * _random(torch.float32, 70, 301), 3 * _random(dtype, 70, 301, seed=1)
    teacher[4, 7] = float("-inf")
    targets, weights = torch.arange(70) * 11 % 301, torch.linspace(0, 2, 70)
    exact = student.double().requires_grad_(True)
    p = torch.softmax(teacher.double() / 2, -1)
    kl = torch.special.xlogy(p, p).sum(-1) - (p * torch.log_softmax(exact / 2, -1)).sum(-1)
    ce = functional.cross_entropy(exact, targets, reduction="none")
    kls, ces, gradient = kernels.distillation(student, teacher, targets, weights, 2.0, 0.3, slope)
    assert_close(kls.double(), kl.detach(), rtol=1e-5, atol=1e-5)
    assert_close(ces.double(), ce.detach(), rtol=1e-5, atol=1e-5)
    assert (gradient is not None) == slope
    if gradient is not None:
        (wanted,) = torch.autograd.grad((weights.double() * (0.3 * 4 * kl + 0.7 * ce)).sum(), exact)
        assert_close(gradient.double(), wanted, rtol=1e-4, atol=2e-6)
        assert not gradient[0].any()


def test_tokens_are_drawn_where_the_running_sum_passes(dtype: torch.dtype) -> None:
    """What is ruled out is never drawn, by whatever number."""
    kernels = compiled_library(dtype)
    logits = 3 * _random(dtype, 200, 701)
    logits[:, ::3] = float("-inf")
    uniform = torch.linspace(0, 1 - 2**-24, 200)
    tokens = kernels.draw(logits, uniform, 0.7)
    sums = torch.softmax(0.7 * logits.double(), -1).cumsum(-1)
    rows = torch.arange(200)
    before = sums[rows, (tokens - 1).clamp(min=0)] * (tokens > 0)
    assert bool((before <= uniform + 1e-5).all()) and bool((uniform - 1e-5 <= sums[rows, tokens]).all())
    assert bool((tokens % 3 != 0).all())


@pytest.mark.parametrize("targets", [[0, -100], [0, 5], [0.0, 1.0]], ids=str)
def test_targets_that_are_no_columns_are_refused(dtype: torch.dtype, targets: list[float]) -> None:
    kernels, logits, numbers = compiled_library(dtype), _random(dtype, 2, 5), torch.tensor(targets)
    for slope in (False, True):
        with pytest.raises(ValueError, match="expected int64 targets from 0 to 4"):
            kernels.log_probability(logits, numbers, 1.0, slope)
        with pytest.raises(ValueError, match="expected int64 targets from 0 to 4"):
            kernels.distillation(logits.float(), logits, numbers, torch.ones(2), 1.0, 0.5, slope)


def test_a_step_needs_its_own_rows_and_room(dtype: torch.dtype) -> None:
    kernels = compiled_library(dtype)
    operations, cache = Compiled(kernels, Shape(1, 1, 2, 1.0, EPSILON)), Cache(1, 2, 1, 2, 4, dtype, CPU)
    with pytest.raises(ValueError, match="5 tokens exceed the room of 4"):
        cache.reach(5)
    cache.reach(1)
    operations.begin(cache, torch.ones(4, 2, dtype=dtype), torch.zeros(4, 2, dtype=dtype))
    other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
    for qkv in (torch.ones(1, 6, dtype=dtype), torch.ones(2, 6, dtype=other)):
        with pytest.raises(ValueError, match="expected 2 of"):
            operations.attend(cache, 0, qkv, None, None)


def _attended(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """(Hq, d) looks at (Hk, T, d), in float64."""
    group = len(query) // len(keys)
    keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
    return torch.einsum("ht,htd->hd", torch.softmax(scaling * torch.einsum("hd,htd->ht", query, keys), -1), values)


def _turned(head: Tensor, gain: Tensor | None, angle: Tensor) -> Tensor:
    """Rotated pairs as complex numbers (Su et al. 2021, equation 14), after the norm."""
    if gain is not None:
        head = head / (head.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain
    first, second = head.chunk(2, -1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 64), (4, 4, 16), (8, 1, 128), (1, 1, 6)])
@pytest.mark.parametrize("normed", [False, True])
def test_attention(dtype: torch.dtype, heads: int, kv_heads: int, dim: int, normed: bool) -> None:
    """Rows of lengths 0, 3 and 40: each new token is turned, kept where its row ends, and sees what its row holds."""
    torch.manual_seed(1)
    lengths, room = torch.tensor([0, 3, 40]), 48
    operations = Compiled(compiled_library(dtype), Shape(heads, kv_heads, dim, 0.3, EPSILON))
    cache = Cache(2, 3, kv_heads, dim, room, dtype, CPU)
    cache.reach(1)
    cache.keys[1].normal_(), cache.values[1].normal_()
    cache.lengths.copy_(lengths)
    before = [bank[1].view(3, kv_heads, room, dim).double() for bank in (cache.keys, cache.values)]
    gains = (torch.rand(dim).to(dtype), torch.rand(dim).to(dtype)) if normed else (None, None)
    qkv = torch.randn(3, heads + 2 * kv_heads, dim).to(dtype)
    frequencies = 1.0 / 100 ** (torch.arange(dim // 2) / (dim // 2))
    operations.begin(cache, *rotation(torch.arange(room), frequencies, 1.0, dtype))
    found = operations.attend(cache, 1, qkv.flatten(1), *gains).view(3, heads, dim)
    after = [bank[1].view(3, kv_heads, room, dim).double() for bank in (cache.keys, cache.values)]
    query, key, value = qkv.double().split([heads, kv_heads, kv_heads], 1)
    for row, length in enumerate(lengths.tolist()):
        angle = (length * frequencies).double()
        wide = [None if gain is None else gain.double() for gain in gains]
        for bank, old, new in zip(after, before, (_turned(key[row], wide[1], angle), value[row]), strict=True):
            kept = old[row].clone()
            kept[:, length] = new
            assert_close(bank[row], kept, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.04)
        keys, values = (bank[row, :, : length + 1] for bank in after)
        expected = _attended(_turned(query[row], wide[0], angle), keys, values, 0.3)
        assert_close(found[row].double(), expected, rtol=0, atol=5e-6 if dtype == torch.float32 else 0.04)
    assert not cache.keys[0].any()  # the other layer's


def test_what_is_no_number_shows(dtype: torch.dtype) -> None:
    """A network that diverged has to be seen: nothing turns NaN into a number, and small numbers are not flushed."""
    kernels = compiled_library(dtype)
    nan, good = float("nan"), torch.ones(3, 8, dtype=dtype)
    bad = good.clone()
    bad[1, 2] = nan
    assert torch.isnan(kernels.gated(bad)[1, 2]) and torch.isfinite(kernels.gated(bad)[[0, 2]]).all()
    assert torch.isnan(kernels.gated_backward(bad, good[:, :4].contiguous())[1, 2])
    assert torch.isnan(kernels.add_norm(bad, None, good[0].contiguous(), EPSILON)[1]).all()
    assert torch.isnan(kernels.norm_backward(good, good[0].contiguous(), torch.ones(3), bad)[1]).all()
    assert torch.isnan(kernels.log_probability(bad.clone(), torch.zeros(3, dtype=torch.int64), 1.0, True)[0][1])
    scores = bad.clone().view(1, 1, 3, 8)
    kernels.soften(scores, torch.full((1, 3), 8))
    assert torch.isnan(scores[0, 0, 1]).all() and torch.isfinite(scores[0, 0, [0, 2]]).all()
    kernels.soften_backward(good, bad)
    assert torch.isnan(bad[1]).all() and torch.isfinite(bad[[0, 2]]).all()
    attending = Compiled(kernels, Shape(1, 1, 2, 1.0, EPSILON))
    cache = Cache(1, 2, 1, 2, 4, dtype, CPU)
    cache.reach(1)
    attending.begin(cache, torch.ones(4, 2, dtype=dtype), torch.zeros(4, 2, dtype=dtype))
    qkv = torch.ones(2, 6, dtype=dtype)
    qkv[0, 0] = nan
    mixed = attending.attend(cache, 0, qkv, None, None)
    assert torch.isnan(mixed[0]).all() and torch.isfinite(mixed[1]).all()
    assert float(torch.tensor(1e-40) * 1) > 0


def test_as_many_threads_say_the_same(dtype: torch.dtype) -> None:
    kernels, shape = compiled_library(dtype), Shape(4, 2, 16, 0.25, EPSILON)
    said = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        torch.manual_seed(3)
        cache = Cache(1, 5, 2, 16, 9, dtype, CPU)
        cache.reach(1)
        cache.keys[0].normal_(), cache.values[0].normal_()
        cache.lengths.copy_(torch.tensor([8, 1, 4, 0, 2]))
        operations = Compiled(kernels, shape)
        operations.begin(cache, torch.randn(9, 16).to(dtype), torch.randn(9, 16).to(dtype))
        attended = operations.attend(cache, 0, torch.randn(5, 8 * 16).to(dtype), None, None)
        said.append([attended, kernels.gated(torch.randn(300, 200).to(dtype))])
    torch.set_num_threads(threads)
    for others in said[1:]:
        assert all(torch.equal(mine, other) for mine, other in zip(said[0], others, strict=True))
