"""The linear item-item model that best rebuilds the users' items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.models.item_item import (
    ALL,
    ITEM_ITEMS,
    PAIRS_AT_ONCE,
    ItemItem,
    ItemItemModel,
    Positives,
    Settings,
    content_flops,
    content_rows,
    cut_dense,
    next_item_rows,
    row_blocks,
)
from evorec.models.item_item_genes import (
    CONTENT_POPULARITY,
    CONTENT_WEIGHT,
    L2,
    NEIGHBOURS,
    NEXT_ITEM,
    NEXT_WINDOW,
    SHRINKAGE,
)
from evorec.models.item_items.knn import matrix_values, neighbours_of

if TYPE_CHECKING:
    from evorec.models.item_item import Sparse
    from evorec.space.genes import Gene

Floats = npt.NDArray[np.floating[Any]]

LARGEST_IN_FLOAT64: Final = 10_000
"""Rows of the inverse up to which it is computed in float64, 0.8 GB. Above that float32 halves memory and time; its
rounding grows with the condition number, at most the largest eigenvalue of the counts divided by l2. The rule looks at
the size alone, because a member must not depend on the memory that is free."""


@final
class Ease(ItemItem):
    """``min |X - X B|^2 + l2 |B|^2, diag B = 0``: ``B_ij = -P_ij / P_jj`` with ``P = (X^T X + l2)^-1``.

    With fewer users than items P comes from a matrix of users (Woodbury): ``l2 P = 1 - X^T (X X^T + l2)^-1 X``.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.
    """

    name, order = "ease", 2
    text = "items are scored by the linear model that best rebuilds each user's items from the others (EASE)"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return (L2, SHRINKAGE, NEXT_ITEM, NEXT_WINDOW, CONTENT_WEIGHT, CONTENT_POPULARITY, NEIGHBOURS)

    def fit(self, positives: Positives, settings: Settings) -> ItemItemModel:
        l2, neighbours, n_items = settings["item_item_l2"], settings["neighbours"], positives.n_items
        if l2 <= 0:
            raise DataError(f"item_item_l2 must be > 0, got {l2:g}.")
        following = next_item_rows(positives, settings)
        items = np.flatnonzero(positives.counts)  # the others are rows and columns of zeros in X^T X
        is_cut = neighbours != ALL and neighbours < n_items
        blocks, dense = [], np.zeros((0 if is_cut else n_items, n_items), dtype=np.float32)
        for part, rows in _inverse_rows(positives, items, l2):
            own = np.zeros((len(rows), n_items), dtype=rows.dtype)
            own[:, items] = rows
            if following is not None:
                own += following[items[part]].toarray()
            if (content := content_rows(positives, settings, items[part])) is not None:
                own += content
            if is_cut:
                blocks.append(cut_dense(own, neighbours))
            else:
                dense[items[part]] = own
        if not is_cut:
            return ItemItemModel(n_items, dense=dense)
        return ItemItemModel(n_items, _spread(blocks, items, n_items))

    def fit_flops(self, positives: Positives, settings: Settings) -> int:
        items, users, nnz = positives.n_active_items, positives.n_active_users, len(positives.history.indices)
        n = min(items, users)
        # Cholesky n^3 / 3 and the inverse of its factor, squared, 2 n^3 / 3.
        by_rows = 2 * nnz * (items + users) if users < items else 2 * positives.n_pairs
        return n**3 + by_rows + 2 * items**2 + 4 * len(positives.past.items) + content_flops(positives, settings)

    def fit_bytes(self, positives: Positives, settings: Settings) -> int:
        n = min(positives.n_active_items, positives.n_active_users)
        kept = neighbours_of(positives, settings)
        result = 4 * positives.n_items**2 if kept == positives.n_items else 2 * 12 * kept * positives.n_active_items
        block = max(PAIRS_AT_ONCE, positives.n_items)
        return n**2 * _itemsize(n) + result + 40 * min(block, positives.n_items**2)

    def stored_values(self, positives: Positives, settings: Settings) -> tuple[int, int]:
        return matrix_values(positives, settings)

    def request_macs(self, positives: Positives, settings: Settings, length: float) -> int:
        return round(length * neighbours_of(positives, settings))


def _itemsize(n: int) -> int:
    return 8 if n <= LARGEST_IN_FLOAT64 else 4


def _spread(blocks: Sequence[Sparse], items: npt.NDArray[np.int64], n_items: int) -> Sparse:
    """Rows of `items` as rows of all items."""
    from scipy.sparse import csr_array, vstack

    if not blocks:
        return csr_array((n_items, n_items), dtype=np.float32)  # type: ignore[return-value]
    rows: Sparse = csr_array(vstack(blocks, format="csr"))
    counts = np.zeros(n_items, dtype=np.int64)
    counts[items] = np.diff(rows.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    out: Sparse = csr_array((rows.data, rows.indices, indptr), shape=(n_items, n_items))
    return out


def _inverse_rows(positives: Positives, items: npt.NDArray[np.int64], l2: float) -> Iterator[tuple[slice, Floats]]:
    """Blocks of rows of B among the active items, with the slice of `items` that they belong to."""
    from scipy.sparse import csr_array
    from threadpoolctl import threadpool_limits

    n_items, n_users = len(items), positives.n_active_users
    if not n_items:
        return
    matrix = csr_array(positives.matrix()[:, items])
    matrix = csr_array(matrix[np.diff(matrix.indptr) > 0])
    columns = csr_array(matrix.T)
    parts = list(row_blocks(np.full(n_items, n_items)))
    by_users = n_users < n_items
    with threadpool_limits(1):  # sums over threads would change the last bits
        inverse = _inverse(_gram(matrix if by_users else columns, l2), l2)
        if not by_users:
            diagonal = inverse.diagonal().copy()
            for part in parts:
                yield part, _without_diagonal(inverse[part] / -diagonal, part.start)
            return
        matrix, columns = matrix.astype(inverse.dtype), columns.astype(inverse.dtype)
        # x' M x of the column x of each item: l2 P_jj = 1 - x' M x.
        diagonal = 1 - np.concatenate(
            [
                columns[part].multiply(columns[part] @ inverse).sum(axis=1)
                for part in row_blocks(np.full(n_items, n_users))
            ]
        )
        for part in parts:
            rows = (columns[part] @ inverse) @ matrix  # -l2 P outside the diagonal
            yield part, _without_diagonal(rows / diagonal, part.start)


def _without_diagonal(rows: Floats, first: int) -> Floats:
    index = np.arange(len(rows))
    rows[index, first + index] = 0
    return rows


def _gram(rows: Sparse, l2: float) -> Floats:
    """Products of all pairs of rows plus l2, dense; never sparse as a whole, which would take more memory."""
    from scipy.sparse import csr_array

    n = rows.shape[0]
    out = np.empty((n, n), dtype=np.float64 if _itemsize(n) == 8 else np.float32)
    other = csr_array(rows.T)
    for part in row_blocks(np.full(n, n)):
        out[part] = (rows[part] @ other).toarray()
    out[np.diag_indices_from(out)] += l2
    return out


def _inverse(gram: Floats, l2: float) -> Floats:
    """Inverse of a symmetric positive definite matrix by Cholesky, in its memory."""
    from scipy.linalg.lapack import dpotrf, dpotri, spotrf, spotri

    factor_of, inverse_of = (dpotrf, dpotri) if gram.dtype == np.float64 else (spotrf, spotri)
    factor, failed = factor_of(gram.T, lower=True, overwrite_a=True)  # the transpose of a C array is in LAPACK's order
    if failed:
        raise DataError(f"the item matrix is singular in floating point with item_item_l2 = {l2:g}; raise it.")
    inverse, _ = inverse_of(factor, lower=True, overwrite_c=True)
    return _symmetric(inverse.T)  # in C order


def _symmetric(upper: Floats, tile: int = 1024) -> Floats:
    """Fills the lower triangle from the upper, in place; in tiles, because single columns miss the cache."""
    n = len(upper)
    for row in range(0, n, tile):
        for column in range(row, n, tile):
            block = upper[row : row + tile, column : column + tile]
            if row == column:
                below = np.tril_indices(len(block), -1)
                block[below] = block.T[below]
            else:
                upper[column : column + tile, row : row + tile] = block.T
    return upper


ITEM_ITEMS.register(Ease.name, Ease())
