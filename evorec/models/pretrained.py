"""Vectors that the items' rows of the first table may start from instead of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.config import COOCCURRENCE
from evorec.data.dataset import Dataset


@final
@dataclass(frozen=True, eq=False)
class PretrainedVectors:
    """Vectors of the items that were in training, for their id rows and for their rows in histories.

    Both have the same initial vector: the history of an untrained user then retrieves items that co-occur with it.

    Attributes:
        rows: rows of the embedding table, int64 ``(n,)``.
        vectors: float64 ``(n, W)``, the columns that tell most first.
    """

    rows: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float64]

    @classmethod
    def of(cls, dataset: Dataset) -> PretrainedVectors | None:
        """The part of the content that comes from interactions; ``None`` without it."""
        part = next((part for part in dataset.content_parts if part.name == COOCCURRENCE), None)
        if part is None:
            return None
        known = np.flatnonzero(dataset.item_counts > 0)
        columns = slice(part.first_column, part.first_column + part.n_columns)
        vectors = dataset.item_content[known, columns].astype(np.float64)
        rows = [dataset.item_rows[known, 0], dataset.item_history_row[known]]
        return cls(np.concatenate(rows), np.concatenate([vectors, vectors]))

    def put(self, table: Tensor, *, scale: float) -> None:
        """Writes the first columns of the vectors into the rows of a member's table.

        Args:
            table: ``[R, E]``; columns that the vectors do not have stay as they are.
            scale: root mean square of the written values.
        """
        values = self.vectors[:, : table.shape[1]]
        # As large as fresh rows: a step size then suits both.
        size = np.sqrt(np.mean(values**2)) if values.size else 0.0
        if size > 0:
            rows = torch.from_numpy(self.rows).to(table.device)
            table[rows, : values.shape[1]] = torch.from_numpy(values * (scale / size)).to(table)
