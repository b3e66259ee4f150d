"""Vectors of items from interactions without labels: which items the same users met."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from evorec.config import CooccurrenceContent
from evorec.data.content.spectral import Float64, Sparse, leading_eigenvectors, singular_vectors
from evorec.data.content.stored import hash_of, stored
from evorec.data.sorting import Int64
from evorec.errors import DataError

MAX_PAIRS: Final = 500_000_000
"""Limit of pairs of items with a common user, summed over users: some GiB."""


def cooccurrence_vectors(
    users: Int64, items: Int64, *, n_users: int, n_items: int, source: CooccurrenceContent, where: str
) -> npt.NDArray[np.float32]:
    """Vectors of items that users met; a repeated pair counts once. Kept in the cache.

    ``normalised`` are the right singular vectors of ``D_u^(-1/2) X D_i^(-1/2)`` without its trivial part, times their
    singular values: a correspondence analysis of the user-item matrix X. ``ppmi`` are the eigenvectors of the
    shifted positive pointwise mutual information of items, times the roots of the positive eigenvalues: the vectors
    whose products come closest to it.

    Args:
        users: int64 ``(N,)`` in ``[0, n_users)``.
        items: int64 ``(N,)`` in ``[0, n_items)``.
        n_users: U.
        n_items: I.
        source: weighting, shift and width.
        where: begins a message.
    Returns:
        float32 ``(I, d)``, d <= dims; zero for an item without a row, with ``ppmi`` also for an item that shares no
        user.
    Raises:
        DataError: no user met two items, or there are too many pairs for ``ppmi``.
    Source: Greenacre 1984 (correspondence analysis); Levy and Goldberg 2014 (shifted PPMI).
    """
    pairs = np.unique(users * n_items + items)
    met = csr_array((np.ones(len(pairs)), (pairs // n_items, pairs % n_items)), shape=(n_users, n_items))
    per_user = np.diff(met.indptr)
    if per_user.max(initial=0) < 2:
        raise DataError(f"{where} needs a user with two items in the training rows, and there is none; leave it out.")
    if source.weighting == "ppmi" and float((per_user.astype(np.float64) ** 2).sum()) > MAX_PAIRS:
        raise DataError(f'{where}: users met too many items for weighting = "ppmi"; use weighting = "normalised".')
    choices = f"{source.weighting} {source.shift} {source.dims} {n_users} {n_items}"
    key = hash_of({"kind": "cooccurrence", "choices": choices, "pairs": pairs})
    weigh = _normalised if source.weighting == "normalised" else _ppmi
    return stored(key, ("numpy", "scipy"), lambda: weigh(met, source).astype(np.float32))


def _normalised(met: Sparse, source: CooccurrenceContent) -> Float64:
    by_user, by_item = (np.asarray(met.sum(axis=axis), dtype=np.float64) for axis in (1, 0))
    u, i = (1 / np.sqrt(np.maximum(counts, 1)) for counts in (by_user, by_item))
    shares = csr_array(met.multiply(u[:, None]).multiply(i[None, :]))
    trivial = np.sqrt(by_item / met.sum()), np.sqrt(by_user / met.sum())
    vectors, values = singular_vectors(csr_array(shares.T), source.dims, without=trivial)
    return _or_none(vectors * values, by_item)


def _ppmi(met: Sparse, source: CooccurrenceContent) -> Float64:
    together = csr_array(met.T @ met)
    together.setdiag(0)
    together.eliminate_zeros()
    counts = np.asarray(together.sum(axis=1), dtype=np.float64)
    rows, columns = together.nonzero()
    information = np.log(together.data * counts.sum() / (counts[rows] * counts[columns])) - np.log(source.shift)
    some = information > 0
    matrix = csr_array((information[some], (rows[some], columns[some])), shape=together.shape)
    vectors, values = leading_eigenvectors(lambda x: np.asarray(matrix @ x), matrix.shape[0], source.dims)
    return _or_none(vectors * np.sqrt(values), counts)


def _or_none(vectors: Float64, counts: Float64) -> Float64:
    """The vectors, exactly zero where nothing was counted, without rounding errors."""
    return np.where(counts[:, None] > 0, vectors, 0.0)
