"""What the tables say of an item, as a vector: its features and its content, not who met it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from evorec.data.dataset import Dataset


def item_descriptions(dataset: Dataset) -> csr_array[Any, tuple[int, int]] | None:
    """Sparse float32 unit rows ``(I, V)`` whose product is the likeness of two items; ``None`` without any description.

    A column per value of a feature, weighted by ``1 + log(I / items with the value)``, and the columns of the fixed
    content beside it; where an item has both, they count half each. An item of which nothing is known has a row of 0.

    Source: the smooth inverse document frequency; Salton & Buckley 1988.
    """
    from scipy.sparse import csr_array, hstack

    parts = []
    rows, weights = dataset.item_rows[:-1, 1:], dataset.item_weights[:-1, 1:]
    unknown = [field.first_row for field in dataset.item_fields]
    known = (rows > 0) & (weights > 0) & ~np.isin(rows, unknown)
    if known.any():
        _, columns = np.unique(rows[known], return_inverse=True)
        frequency = np.bincount(columns)
        values = (1 + np.log(dataset.n_items / frequency))[columns]
        indptr = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        parts.append(csr_array((values, columns, indptr), shape=(dataset.n_items, len(frequency))))
    if dataset.distance_content.shape[1]:
        parts.append(csr_array(dataset.distance_content[:-1].astype(np.float64)))
    if not parts:
        return None
    joined = csr_array(hstack([_unit_rows(part) for part in parts], format="csr"))
    return csr_array(_unit_rows(joined).astype(np.float32))


def _unit_rows(rows: csr_array[Any, tuple[int, int]]) -> csr_array[Any, tuple[int, int]]:
    """Rows of length 1; rows of zeros stay."""
    from scipy.sparse import csr_array

    lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
    return csr_array(rows.multiply(1 / np.where(lengths > 0, lengths, 1.0)[:, None]))
