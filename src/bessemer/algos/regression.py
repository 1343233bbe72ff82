"""Linear regression from sums that are added up batch by batch, so that no more than a batch is ever held."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["RIDGES", "Moments", "ridge"]

RIDGES = tuple(10.0**power for power in range(-4, 3))
"""Penalties to choose from, in units of the mean square of an input."""


class Moments:
    """Sums over rows of inputs x (N, D) and targets y (N, P): all that least squares has to know of them. Final.

    xx (D + 1, D + 1), xy (D + 1, P), yy (P,), count; a last input of 1 stands for the intercept; float64.
    """

    def __init__(self, width: int, targets: int) -> None:
        self.xx = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        self.xy = torch.zeros(width + 1, targets, dtype=torch.float64)
        self.yy = torch.zeros(targets, dtype=torch.float64)
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in rows; x (n, D), y (n, P)."""
        if len(x) != len(y):
            raise ValueError(f"{len(x)} rows of inputs for {len(y)} of targets")
        outputs = y.cpu().double()
        inputs = torch.cat([x.cpu().double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
        self.xx += inputs.T @ inputs
        self.xy += inputs.T @ outputs
        self.yy += outputs.square().sum(0)
        self.count += len(x)

    def error(self, solution: Tensor) -> Tensor:
        """Mean squared error (P,) over the rows of the prediction [x, 1] @ solution, solution (D + 1, P)."""
        quadratic = (solution * (self.xx @ solution)).sum(0)
        return (self.yy - 2 * (solution * self.xy).sum(0) + quadratic) / max(1, self.count)


def ridge(train: Moments, held: Moments, penalties: Sequence[float] = RIDGES) -> tuple[Tensor, Tensor, Tensor]:
    """Return weight (P, D) and bias (P,) of a ridge regression, and which share of the held-out variance it explains.

    Of the penalties the one with the least error on the held-out rows is taken, for each target alone (the largest if
    none was held out); the intercept is not penalised. The share (P,) is 1 - error / variance on the same rows, below 0
    where the mean would have been better; nan where a target does not vary. Raises ValueError without rows to learn
    from. Source: Hoerl and Kennard 1970.
    """
    if not train.count:
        raise ValueError("expected at least one row to learn from")
    scale = float(train.xx.diagonal()[:-1].mean())
    free = torch.ones(len(train.xx), dtype=torch.float64)
    free[-1] = 0.0
    strongest_first = sorted((max(penalty * scale, 1e-12) for penalty in penalties), reverse=True)
    solutions = torch.stack([torch.linalg.solve(train.xx + size * free.diag(), train.xy) for size in strongest_first])
    errors = torch.stack([held.error(solution) for solution in solutions])
    best = errors.argmin(0)
    columns = torch.arange(len(best))
    solution = solutions[best, :, columns].T
    variance = held.yy / max(1, held.count) - (held.xy[-1] / max(1, held.count)).square()
    explained = 1 - errors[best, columns] / variance.clamp(min=0)
    return solution[:-1].T.float(), solution[-1].float(), torch.where(variance > 1e-12, explained, torch.nan).float()
