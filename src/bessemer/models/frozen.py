"""A weight that does not learn, for products with many rows: where it pays also in oneDNN's own order, both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from bessemer.models.precision import has_tiles

__all__ = ["PACKED_BYTES", "Frozen", "packable", "rows_at_once"]

PACKED_BYTES: Final = 2**30  # most that the copies of one network may take: they are worth a tenth of the time
MANY_ROWS: Final = 32  # fewer are not worth a copy
TILE_ROWS: Final = 16


def packable(weight: Tensor) -> bool:
    """Whether oneDNN lays a weight out in its own order here: in bfloat16, on a CPU that multiplies it."""
    here = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return here and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def rows_at_once(rows: int, inputs: int, outputs: int) -> int:
    """How many of the rows of a product (rows, inputs) -> (rows, outputs) to multiply at a time: all, or equal parts.

    With tiles (AMX) and two threads oneDNN 3.12 leaves one of them idle between as many rows as outputs and twice as
    many, sooner where an input is long; parts of half as many keep both at work. Seen by each thread's own clock, for
    28 layers of 64 to 2,048 rows in bfloat16; what it does with more threads is not known.
    """
    first = outputs if inputs <= 5 * outputs or outputs > 640 else 2 * outputs // 3
    if not first <= rows < 2 * outputs or outputs >= 1024 or torch.get_num_threads() != 2 or not has_tiles():
        return rows
    parts = -(-2 * rows // outputs)
    return -(-rows // parts // TILE_ROWS) * TILE_ROWS


class Frozen:
    """A weight (out, in) that no gradient changes. Final.

    pack: keep two more copies of it, the first time that each is used, in the order in which a CPU's products read
    bfloat16, unless it has tiles, to which the order is all the same; otherwise it is used as it is. parts: the
    parameters that are views of it, whose changes are noticed, but for those that somebody writes through `.data`,
    which PyTorch does not count.
    """

    def __init__(self, weight: Tensor, pack: bool = False, parts: Sequence[Tensor] = ()) -> None:
        self.weight = weight
        self._parts = [weight, *parts]
        self._pack = pack and packable(weight) and not has_tiles()
        self._state = self._now()
        self._forth: Tensor | None = None
        self._back: Tensor | None = None

    @property
    def changed(self) -> bool:
        """Whether somebody wrote into it, or gave a parameter other memory, since it was made."""
        return self._now() != self._state

    def _now(self) -> list[tuple[int, int]]:
        return [(part.data_ptr(), part._version) for part in self._parts]

    def times(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + b: (N, in) -> (N, out)."""
        if not self._packs(x):
            return _in_parts(x, len(self.weight), lambda part: functional.linear(part, self.weight, bias))
        if self._forth is None:
            self._forth = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._forth, bias, "none", [], "")
        return output

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient of x from that of x W^T: (N, out) -> (N, in).

        Raises:
            RuntimeError: the weight is not the one of the forward pass any more.
        """
        if self.changed:
            raise RuntimeError("a frozen weight was written to between a forward pass and its backward pass")
        if not self._packs(gradient):
            return _in_parts(gradient, self.weight.shape[1], lambda part: part @ self.weight)
        if self._back is None:
            self._back = torch.ops.mkldnn._reorder_linear_weight(self.weight.T.contiguous())
        output: Tensor = torch.ops.mkldnn._linear_pointwise(gradient, self._back, None, "none", [], "")
        return output

    def __getstate__(self) -> dict[str, Any]:
        """Without the copies, which cannot be copied and are made again."""
        return self.__dict__ | {"_forth": None, "_back": None}

    def _packs(self, rows: Tensor) -> bool:
        if self.changed:  # the copies are of what it was
            self._state, self._forth, self._back = self._now(), None, None
        return self._pack and len(rows) >= MANY_ROWS and rows.dtype == torch.bfloat16


def _in_parts(x: Tensor, outputs: int, product: Callable[[Tensor], Tensor]) -> Tensor:
    """A product of rows (N, in), as many at a time as `rows_at_once` says."""
    rows = len(x)
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:
        rows = rows_at_once(len(x), x.shape[1], outputs)
    return product(x) if rows == len(x) else torch.cat([product(part) for part in x.split(rows)])
