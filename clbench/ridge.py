"""Ridge regression on data that come in parts, for strategies that classify by one regression on all data so far."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 512
"""Columns per block; smaller blocks save more work, but are multiplied less efficiently."""


class RidgeRegression:
    """The W, (m, outputs), that minimizes ‖Y - XW‖² + λ‖W‖² over everything added so far: W = (XᵀX + λI)⁻¹ XᵀY.

    Only XᵀX, (m, m), and XᵀY, (m, outputs), are kept, in float64, so that W is that of one regression on all data,
    however they were divided.
    """

    def __init__(self) -> None:
        self.gram = torch.zeros(0)
        """XᵀX, (m, m)."""

        self.moments = torch.zeros(0)
        """XᵀY, (m, outputs)."""

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add samples `x` (n, m) with targets `y` (n, outputs); outputs that are new come last."""
        x, y = x.double(), y.double()
        if not len(self.gram):
            self.gram, self.moments = x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1], 0)
        _add_gram(self.gram, x)
        self.moments = F.pad(self.moments, (0, y.shape[1] - self.moments.shape[1])) + x.T @ y

    def weights(self, ridge: float) -> Tensor:
        """Return W for λ = `ridge`, which must be positive, (m, outputs) of float64."""
        factor, failed = torch.linalg.cholesky_ex(plus_diagonal(self.gram, ridge))
        if not failed:
            return torch.cholesky_solve(self.moments, factor)
        # Fewer samples than columns, and a λ below the rounding of XᵀX: its zero eigenvalues may come out negative.
        values, vectors = torch.linalg.eigh(self.gram)
        weights: Tensor = vectors @ (vectors.T @ self.moments / (values.clamp(min=0) + ridge)[:, None])
        return weights

    def packed(self) -> tuple[Tensor, Tensor]:
        """Return the rows of XᵀX up to its diagonal, one after the other, (m (m + 1) / 2,), and XᵀY."""
        rows = [row[: place + 1] for place, row in enumerate(self.gram)]
        return torch.cat(rows) if rows else self.gram, self.moments

    @classmethod
    def unpacked(cls, rows: Tensor, moments: Tensor) -> RidgeRegression:
        """Return the regression that was `packed` into these: its weights are the same to the bit.

        Raises ValueError if they do not fit together.
        """
        size = len(moments)
        if len(rows) != size * (size + 1) // 2:
            raise ValueError(f"{len(rows)} values of XᵀX for {size} columns")
        regression = cls()
        if size:
            regression.gram, regression.moments = rows.new_empty(size, size), moments
            for place, part in enumerate(rows.split([place + 1 for place in range(size)])):
                # Decompositions read the half below the diagonal alone.
                regression.gram[place, : place + 1] = regression.gram[: place + 1, place] = part
        return regression


def _add_gram(gram: Tensor, x: Tensor) -> None:
    """Add XᵀX in place, block by block: it is symmetric, so little more than half of the blocks must be computed."""
    for start in range(0, len(gram), _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = x[:, rows].T @ x[:, start:]
        gram[rows, start:] += part
        gram[start + _BLOCK :, rows] += part[:, _BLOCK:].T


def plus_diagonal(matrix: Tensor, ridge: float) -> Tensor:
    """Return A + λI."""
    result = matrix.clone()
    result.diagonal().add_(ridge)
    return result
