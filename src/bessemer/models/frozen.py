"""A weight that does not learn, for products with many rows: on a CPU also in oneDNN's own order, both ways."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["PACKED_BYTES", "Frozen"]

PACKED_BYTES: Final = 2**30  # most that the copies of one network may take: they are worth a tenth of the time
MANY_ROWS: Final = 32  # fewer are not worth a copy


class Frozen:
    """A weight (out, in) that no gradient changes. Final.

    pack: keep two more copies of it, the first time that each is used, in the order in which a CPU's products read
    bfloat16; otherwise it is used as it is.
    """

    def __init__(self, weight: Tensor, pack: bool = False) -> None:
        self.weight = weight
        self._pack = pack and weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        self._version = weight._version
        self._forth: Tensor | None = None
        self._back: Tensor | None = None

    def times(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + b: (N, in) -> (N, out)."""
        if not self._packs(x):
            return functional.linear(x, self.weight, bias)
        if self._forth is None:
            self._forth = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._forth, bias, "none", [], "")
        return output

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient of x from that of x W^T: (N, out) -> (N, in)."""
        if not self._packs(gradient):
            return gradient @ self.weight
        if self._back is None:
            self._back = torch.ops.mkldnn._reorder_linear_weight(self.weight.T.contiguous())
        output: Tensor = torch.ops.mkldnn._linear_pointwise(gradient, self._back, None, "none", [], "")
        return output

    def _packs(self, rows: Tensor) -> bool:
        if self.weight._version != self._version:  # somebody wrote into it: the copies are of what it was
            self._version, self._forth, self._back = self.weight._version, None, None
        return self._pack and len(rows) >= MANY_ROWS and rows.dtype == torch.bfloat16
