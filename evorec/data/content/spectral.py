"""Truncated singular value and eigenvalue decompositions, the same numbers however many threads there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from threadpoolctl import threadpool_limits

from evorec.seeds import generator

Float64 = npt.NDArray[np.float64]
Sparse = csr_array[Any, tuple[int, int]]

DENSE_UP_TO: Final = 400
"""Rows of a symmetric matrix that is decomposed whole: faster than an iteration, and exact."""
SMALLEST: Final = 1e-10
"""Of the largest eigenvalue, or of 1 if that is larger: a direction below it is rounding, where rows or entries of a
matrix are of size about 1."""


def singular_vectors(
    matrix: Sparse, dims: int, *, without: tuple[Float64, Float64] | None = None
) -> tuple[Float64, Float64]:
    """Left singular vectors of the largest singular values.

    Args:
        matrix: ``(N, V)``.
        dims: most of them.
        without: ``u (N,)`` and ``v (V,)``; ``u vᵀ`` is subtracted from the matrix first.
    Returns:
        Vectors ``(N, d)`` as columns and values ``(d,)``, descending; d <= dims, without values at the level of
        rounding errors.
    """
    u, v = (np.zeros(size) for size in matrix.shape) if without is None else without
    flipped = matrix.shape[0] > matrix.shape[1]  # the smaller side has the smaller problem
    left, right = (matrix.T.tocsr(), matrix) if flipped else (matrix, matrix.T.tocsr())
    a, b = (v, u) if flipped else (u, v)

    def onto(x: Float64) -> Float64:  # the matrix (shifted, maybe flipped) times its transpose
        across = right @ x - b * (a @ x)
        return np.asarray(left @ across - a * (b @ across))

    vectors, squares = leading_eigenvectors(onto, left.shape[0], dims)
    values = np.sqrt(squares)
    if flipped:
        vectors = (right @ vectors - np.outer(b, a @ vectors)) / values
    return _signed(vectors), values


def leading_eigenvectors(times: Callable[[Float64], Float64], n: int, dims: int) -> tuple[Float64, Float64]:
    """Eigenvectors of the largest positive eigenvalues of a symmetric matrix.

    Args:
        times: the matrix times a vector ``(n,)``.
        n: rows of the matrix.
        dims: most eigenvectors.
    Returns:
        Vectors ``(n, d)`` as columns, each with its largest entry positive, and values ``(d,)``, descending; d <= dims.
    """
    with threadpool_limits(1):  # sums over threads would change the last bits
        if n <= max(DENSE_UP_TO, dims + 1):
            whole = np.stack([times(row) for row in np.eye(n)])
            values, vectors = np.linalg.eigh((whole + whole.T) / 2)
        else:
            start = generator(0, "start of an eigenvalue iteration").standard_normal(n)
            operator = LinearOperator((n, n), matvec=times, dtype=np.float64)
            try:
                values, vectors = eigsh(operator, k=dims, which="LA", v0=start)
            except ArpackNoConvergence as error:  # the converged vectors are right
                values, vectors = error.eigenvalues, error.eigenvectors
    order = np.argsort(-values, kind="stable")[:dims]
    order = order[values[order] > SMALLEST * max(float(values.max(initial=0.0)), 1.0)]
    return _signed(vectors[:, order]), values[order]


def _signed(vectors: Float64) -> Float64:
    """The columns, of which both signs are right, with their largest entry positive."""
    if not vectors.size:
        return vectors
    largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])]
    return np.asarray(vectors * np.where(largest < 0, -1.0, 1.0))
