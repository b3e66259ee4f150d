"""Scores of positives and their negatives, and the mask of the cells that do not belong to negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.models.devices import to_device


@final
@dataclass(frozen=True)
class Cells:
    """True cells of a matrix ``[B, M]``, column by column, so that the first n columns are a prefix.

    Attributes:
        rows, columns: ``[k]``.
        before: cells before each column, ``(M + 1,)``, on the host, which would have to wait for a value on the device.
        n_rows: B.
    """

    rows: Tensor
    columns: Tensor
    before: np.ndarray
    n_rows: int

    @classmethod
    def of(cls, matrix: np.ndarray, device: torch.device) -> Cells:
        """Of a bool matrix ``(B, M)``."""
        # Of the transpose: nonzero goes row by row, and the cells are wanted column by column.
        columns, rows = np.nonzero(matrix.T)
        before = np.concatenate([[0], np.cumsum(matrix.sum(0))])
        return cls(to_device(rows, device), to_device(columns, device), before, len(matrix))

    @property
    def n_columns(self) -> int:
        """M."""
        return len(self.before) - 1


@final
class FirstCells:
    """The cells of the first n columns, in the forms that losses read.

    Args:
        cells: of all columns.
        n: how many count.
        like: gives the type of `n_left`.
    """

    def __init__(self, cells: Cells, n: int, like: Tensor) -> None:
        self._n, self._n_rows, self._like = n, cells.n_rows, like
        self._rows, self._columns = (part[: cells.before[n]] for part in (cells.rows, cells.columns))

    @cached_property
    def flat(self) -> Tensor:
        """Indices of the cells in ``[B n]``."""
        return torch.add(self._columns, self._rows, alpha=self._n)

    @cached_property
    def n_left(self) -> Tensor:
        """Other cells of each row, the negatives: ``[B]``."""
        # Counted on the device: the host would have to wait for the number of cells of a row.
        all_of_row, one = self._like.new_full((self._n_rows,), self._n), self._like.new_ones(1)
        return all_of_row.index_add_(0, self._rows, one.expand(len(self._rows)), alpha=-1)


@final
class NegativeMask:
    """Scores of a step that do not belong to negatives, found once for all members.

    Args:
        sources: `ModelSpec.negative_source` -> cells ``[B, M]`` of scores of positive b and item j of the source where
            row b's user is known to want item j (accidental hits); in the batch row b's own item among them.
    """

    def __init__(self, sources: Mapping[str, Cells]) -> None:
        self._sources = sources
        self._found: dict[tuple[str, int], FirstCells] = {}

    def n_columns(self) -> dict[str, int]:
        """Items of each source."""
        return {source: cells.n_columns for source, cells in self._sources.items()}

    def first(self, source: str, n: int, like: Tensor) -> FirstCells:
        """Among the first `n` items of a source; counts are of the type of `like`."""
        if (source, n) not in self._found:
            self._found[source, n] = FirstCells(self._sources[source], n, like)
        return self._found[source, n]


@final
@dataclass(frozen=True)
class NegativeScores:
    """Scores of a member or, with a further first axis G, of several; losses overwrite them.

    Attributes:
        scores: of the negatives, ``[(G) B, N]``; takes the gradient.
        own: of the positives, ``[(G) B]``.
        mask: cells that do not belong to negatives.
        spare: memory of the shape of `scores`.
        bounded: whether exp of every score is a normal number (`evorec.models.retrieval.COLDEST`).
        positive_weight: `RetrievalLoss.positive_weight`, ``[1]`` or ``[G, 1]``.
    """

    scores: Tensor
    own: Tensor
    mask: FirstCells
    spare: Tensor
    bounded: bool
    positive_weight: Tensor

    def mask_(self, scores: Tensor, value: float) -> Tensor:
        """Overwrites the cells that do not belong to negatives."""
        # Only the few masked cells are written; a dense mask would be read as often as the scores.
        scores.flatten(-2).index_fill_(-1, self.mask.flat, value)
        return scores

    def softplus_(self, own: Tensor | None) -> Tensor:
        """``sum_j log(1 + exp(s_j - s+))`` of every row, s+ = 0 without `own`; `scores` takes its gradient.

        Returns:
            ``[(G) B]``.
        """
        scores = self.scores
        if own is not None:
            scores.sub_(own.unsqueeze(-1))
        if self.bounded:  # exp once: log(1 + e) is the loss and e / (1 + e) its gradient
            # Masked after exp: log(1 + 0) and its gradient are 0.
            self.mask_(scores.exp_(), 0)
            torch.add(scores, 1, out=self.spare)
            # Where 1 + e rounds to 1, a negative adds 0 to the loss and keeps its gradient e.
            scores.div_(self.spare)
            return self.spare.log_().sum(-1)
        # Masked before: logsigmoid(inf) and sigmoid(-inf) are exactly 0.
        self.mask_(scores, float("-inf"))
        total = -F.logsigmoid(-scores).sum(-1)
        scores.sigmoid_()
        return total

    @staticmethod
    def log_sigmoid(x: Tensor) -> Tensor:
        """``log(1 / (1 + exp(-x)))``."""
        return F.logsigmoid(x)
