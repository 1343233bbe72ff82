"""Log-probabilities from hidden states by chunks, beside the whole table of logits in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from bessemer.algos.distillation import distillation_loss
from bessemer.algos.head import linear_logprobs, linear_loss
from bessemer.algos.masked import Loss

pytestmark = pytest.mark.usefixtures("operations")

M, D, V = 37, 16, 101


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(M, D, generator=generator, dtype=torch.float64)
    weight = 0.7 * torch.randn(V, D, generator=generator, dtype=torch.float64)
    return hidden.to(dtype), weight.to(dtype), torch.randint(0, V, (M,), generator=generator)


def _plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The definition: all logits at once, log-softmax, one entry of each row; entropy -sum p log p."""
    table = torch.log_softmax(hidden.double() @ weight.double().T / temperature, -1)
    return table[torch.arange(len(targets)), targets], -(table.exp() * table).sum(-1)


@pytest.mark.parametrize("chunk", [1, 5, 37, 256])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_linear_logprobs_against_the_definition(temperature: float, chunk: int) -> None:
    hidden, weight, targets = _inputs()
    logprobs, entropy = linear_logprobs(hidden, weight, targets, temperature, chunk)
    expected, expected_entropy = _plain(hidden, weight, targets, temperature)
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert_close(logprobs.double(), expected, atol=5e-6, rtol=0)
    assert_close(entropy.double(), expected_entropy, atol=5e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 5, 256])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_linear_logprobs_gradients_are_those_of_the_plain_path(temperature: float, chunk: int) -> None:
    hidden, weight, targets = _inputs()
    upstream = torch.randn(M, generator=torch.Generator().manual_seed(1))
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    linear_logprobs(ours[0], ours[1], targets, temperature, chunk)[0].backward(upstream)
    theirs = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    _plain(theirs[0], theirs[1], targets, temperature)[0].backward(upstream.double())
    for x, y in zip(ours, theirs, strict=True):
        assert x.grad is not None and y.grad is not None
        assert_close(x.grad.double(), y.grad, atol=5e-6, rtol=1e-5)


def test_linear_logprobs_gradcheck() -> None:
    """Finite differences in float64."""
    hidden, weight, targets = _inputs(torch.float64)
    leaves = (hidden[:4].requires_grad_(), weight[:9].requires_grad_())
    assert torch.autograd.gradcheck(
        lambda h, w: linear_logprobs(h, w, targets[:4] % 9, 0.7, 3)[0], leaves, raise_exception=False
    )


def test_linear_logprobs_of_bfloat16() -> None:
    """Rounding a logit to 8 bits costs |logit| / 256 at most; the target's and the normaliser's errors add up."""
    hidden, weight, targets = _inputs(torch.bfloat16)
    bound = 2 / 256 * float((hidden.double() @ weight.double().T).abs().max()) / 0.7
    logprobs, entropy = linear_logprobs(hidden, weight, targets, 0.7, M)
    expected, _ = _plain(hidden, weight, targets, 0.7)
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert float((logprobs - expected).abs().max()) < bound < 0.3
    # nothing but the product is rounded: the rest is exact in the product's own figures
    table = torch.log_softmax((hidden @ weight.T).double() / 0.7, -1)
    assert_close(logprobs.double(), table[torch.arange(M), targets], atol=5e-6, rtol=0)


def test_linear_logprobs_of_bfloat16_has_gradients_to_three_per_cent() -> None:
    """The head of a model that is trained in full is float32 and gets its gradient in float32."""
    hidden, _, targets = _inputs(torch.bfloat16)
    master = _inputs()[1]
    ours = [hidden.clone().requires_grad_(), master.clone().requires_grad_()]
    linear_logprobs(ours[0], ours[1], targets, 1.0, 8)[0].sum().backward()
    theirs = [hidden.double().requires_grad_(), master.double().requires_grad_()]
    _plain(theirs[0], theirs[1], targets, 1.0)[0].sum().backward()
    for x, y, dtype in zip(ours, theirs, (torch.bfloat16, torch.float32), strict=True):
        assert x.grad is not None and y.grad is not None and x.grad.dtype == dtype
        assert float((x.grad.double() - y.grad).norm() / y.grad.norm()) < 0.03


def test_linear_logprobs_of_what_is_nearly_certain() -> None:
    """What is left to learn of a token that is all but certain is not lost to rounding: 1 - p is taken in float32."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, D, generator=generator)
    targets = torch.arange(M) % V
    hidden = weight[targets] * (14 / weight[targets].square().sum(1, keepdim=True))
    ours, theirs = hidden.bfloat16().requires_grad_(), hidden.bfloat16().double().requires_grad_()
    logprobs, _ = linear_logprobs(ours, weight.bfloat16(), targets)
    logprobs.sum().backward()
    _plain(theirs, weight.bfloat16().double(), targets, 1.0)[0].sum().backward()
    assert ours.grad is not None and theirs.grad is not None and float(logprobs.exp().detach().max()) > 0.97
    assert float((ours.grad.double() - theirs.grad).norm() / theirs.grad.norm()) < 0.03


def test_linear_logprobs_gives_a_frozen_head_no_gradient() -> None:
    hidden, weight, targets = _inputs()
    hidden.requires_grad_()
    logprobs, entropy = linear_logprobs(hidden, weight, targets)
    logprobs.sum().backward()
    assert hidden.grad is not None and weight.grad is None and not entropy.requires_grad
    frozen = hidden.detach()
    trained = weight.clone().requires_grad_()
    linear_logprobs(frozen, trained, targets)[0].sum().backward()
    assert frozen.grad is None and trained.grad is not None


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return result


def test_linear_logprobs_never_holds_all_logits() -> None:
    hidden, weight, targets = _inputs()
    hidden.requires_grad_()
    with _Largest() as largest:
        linear_logprobs(hidden, weight, targets, 1.0, chunk=4)[0].sum().backward()
    assert largest.size == max(4 * V, V * D) < M * V


def test_linear_logprobs_of_no_rows() -> None:
    hidden, weight, targets = _inputs()
    none = hidden[:0].requires_grad_()
    logprobs, entropy = linear_logprobs(none, weight, targets[:0])
    logprobs.sum().backward()
    assert logprobs.shape == entropy.shape == (0,) and none.grad is not None


def test_linear_logprobs_refuses_what_would_be_nonsense() -> None:
    hidden, weight, targets = _inputs()
    with pytest.raises(ValueError, match="37 hidden rows for 38 targets"):
        linear_logprobs(hidden, weight, torch.cat([targets, targets[:1]]), chunk=M)
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match="expected a temperature above 0"):
            linear_logprobs(hidden, weight, targets, temperature)


def _distilled(logits: Tensor, part: slice) -> Loss:
    """Any loss that adds up over rows and has metrics: some rows do not count."""
    generator = torch.Generator().manual_seed(2)
    theirs = torch.randn(M, V, generator=generator, dtype=torch.float64).to(logits.dtype)
    weights = torch.tensor([0.0, 1.0, 0.5] * M)[:M]
    return distillation_loss(logits, theirs[part], _inputs()[2][part], weights[part], 2.0, 0.3)


@pytest.mark.parametrize("chunk", [1, 5, 37, 512])
def test_linear_loss_is_the_loss_of_all_logits(chunk: int) -> None:
    hidden, weight, _ = _inputs()
    ours, theirs = ([tensor.clone().requires_grad_() for tensor in (hidden, weight)] for _ in range(2))
    found = linear_loss(ours[0], ours[1], _distilled, chunk)
    expected = _distilled(theirs[0] @ theirs[1].T, slice(0, M))
    assert_close(found.sum, expected.sum)
    assert float(found.count) == float(expected.count) == pytest.approx(18.0)
    assert found.metrics.keys() == expected.metrics.keys() == {"kl", "ce"}
    for name, (total, count) in found.metrics.items():
        assert_close(total, expected.metrics[name][0])
        assert_close(count, expected.metrics[name][1])
    # the upstream gradient counts
    (0.5 * found.sum).backward()
    (0.5 * expected.sum).backward()
    for x, y in zip(ours, theirs, strict=True):
        assert x.grad is not None and y.grad is not None
        assert_close(x.grad, y.grad, atol=2e-6, rtol=1e-5)


def test_linear_loss_in_bfloat16_and_of_a_frozen_head() -> None:
    """The head of a model that is trained in full is float32, and so is its gradient; a frozen one gets none."""
    hidden, master = _inputs(torch.bfloat16)[0].requires_grad_(), _inputs()[1].requires_grad_()
    linear_loss(hidden, master, _distilled, 8).sum.backward()
    wide = [_inputs(torch.bfloat16)[0].double().requires_grad_(), _inputs()[1].double().requires_grad_()]
    _distilled(wide[0] @ wide[1].T, slice(0, M)).sum.backward()
    for x, y, dtype in zip((hidden, master), wide, (torch.bfloat16, torch.float32), strict=True):
        assert x.grad is not None and y.grad is not None and x.grad.dtype == dtype
        assert float((x.grad.double() - y.grad).norm() / y.grad.norm()) < 0.03
    frozen = _inputs()[1]
    linear_loss(hidden, frozen, _distilled, 8).sum.backward()
    assert frozen.grad is None
    with torch.no_grad():
        assert not linear_loss(hidden, frozen, _distilled, 8).sum.requires_grad


def test_linear_loss_never_holds_all_logits() -> None:
    hidden, weight, targets = _inputs()
    loss_of = lambda logits, part: Loss(  # noqa: E731
        -torch.log_softmax(logits, -1)[:, 0].sum(), torch.tensor(float(len(logits)))
    )
    with _Largest() as largest:
        linear_loss(hidden.requires_grad_(), weight, loss_of, chunk=4).sum.backward()
    assert largest.size == max(4 * V, V * D) < M * V
    with pytest.raises(ValueError, match="expected at least one hidden row"):
        linear_loss(hidden[:0], weight, loss_of)
