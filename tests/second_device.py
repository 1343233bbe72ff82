"""A device that is none: what lies on it is computed on the CPU, but may not meet a tensor of the CPU, as on a GPU.

It goes by the name of PyTorch's "meta" device, whose gradients are taken in the thread of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from bessemer.distributed import Mesh
from bessemer.rollout.decoder import Decoder

DEVICE = torch.device("meta")
COPIES = ("_to_copy", "copy_")
EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
INDEXING = ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_")


class Elsewhere(Tensor):
    """A tensor on the device; `inner` has its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        facts = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made: Elsewhere = Tensor._make_wrapper_subclass(cls, inner.shape, device=DEVICE, **facts)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the CPU; there if it is asked for there, or its tensors are.

    Raises:
        RuntimeError: tensors on both, other than single numbers and indices of the CPU; or one without numbers, which
            PyTorch made by itself: whatever lay in memory would be taken for them.
    """
    name, asked = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    if any(tensor.device == DEVICE and not isinstance(tensor, Elsewhere) for tensor in tensors):
        raise RuntimeError(f"{func}: a tensor without numbers, of {[tuple(tensor.shape) for tensor in tensors]}")
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    others = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if there and others and name not in COPIES and not (name in INDEXING and isinstance(args[0], Elsewhere)):
        raise RuntimeError(f"{func}: tensors on two devices, of {[tuple(tensor.shape) for tensor in tensors]}")
    stays = bool(there) if asked is None else torch.device(asked) == DEVICE
    if name == "copy_":
        stays = isinstance(args[0], Elsewhere)
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain = tree_map(lambda value: value.inner if isinstance(value, Elsewhere) else value, (args, kwargs))
    known = {id(tensor.inner): tensor for tensor in there}  # what is changed in place stays what it was

    def placed(value: Any) -> Any:
        if not (stays and isinstance(value, Tensor)):
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    found = func(*plain[0], **plain[1])
    if name in EMPTY and found.is_floating_point():
        found.fill_(torch.nan)  # nothing may count on what happens to lie in memory
    return tree_map(placed, found)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if (asked is not None and torch.device(asked) == DEVICE) or Elsewhere in types:
            return computed(func, args, kwargs)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """What does not come to be dispatched: `torch.tensor` and an index that is a list fill their memory before, a
    subclass gives no lists."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].inner.tolist()
        if func is torch.tensor and kwargs.get("device") is not None and torch.device(kwargs["device"]) == DEVICE:
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _indexed(args[1]), *args[2:])
        return func(*args, **kwargs)


def _indexed(index: Any) -> Any:
    """The index with tensors for its lists."""
    if isinstance(index, tuple):
        return tuple(map(_indexed, index))
    if not isinstance(index, list):
        return index
    mask = bool(index) and isinstance(index[0], bool)
    return torch.tensor(index, dtype=torch.bool if mask else torch.int64, device="cpu")


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Stages find this device instead of the CPU."""
    fused = optimizer._get_fused_kernels_supported_devices
    with pytest.MonkeyPatch.context() as patch, _Functions(), _Dispatch():
        patch.setattr(Mesh, "start", classmethod(lambda cls: Mesh(0, 1, DEVICE)))
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*fused(), "meta"])
        for name in ("read", "step"):  # views of a subclass cannot be made in inference mode
            patch.setattr(Decoder, name, torch.no_grad()(vars(Decoder)[name].__wrapped__))
        yield DEVICE
