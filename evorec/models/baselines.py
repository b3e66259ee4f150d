"""Popularity, ItemKNN and EASE: the baselines of a searched model, measured on the same users and by the same code.

A fitted baseline is a function from users to scores. All three learn from the training positives of the target task
only, as sets of items per user, and are exact, without a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_array, vstack

from evorec.data.dataset import Csr, Dataset
from evorec.data.held_out import HeldOut, masked_items
from evorec.errors import DataError
from evorec.metrics.lists import NO_ITEM
from evorec.metrics.metric import Measurements
from evorec.metrics.top_items import top_k

if TYPE_CHECKING:
    Sparse = csr_array[Any, tuple[int, int]]

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Scorer = Callable[[Ints], Float32]
"""From users, int64 ``(B,)``, to a new array of scores, float32 ``(B, I)``; higher is better."""

EASE_L2 = 200.0
"""By validation recall a compromise: KuaiRand .076 (best .078 at 1000), MovieLens .080 (best .092 at 50)."""
EASE_MAX_ITEMS = 20_000
"""The matrix of pairs takes 8 bytes each: 3.2 GB, and a quarter of an hour on two cores."""
KNN_NEIGHBOURS = 200
KNN_SHRINKAGE = 10.0
SCORES_AT_ONCE = 8_000_000
"""Scores held in memory at a time, 32 MB in float32."""
PAIR_BYTES = 8
"""Of a pair in the matrix of EASE, which is filled, inverted and scaled in place."""
NEIGHBOUR_BYTES = 24
"""Of a neighbour of ItemKNN: value and index, in blocks, joined, and transposed."""
SCORE_BYTES = 64
"""Of a score while lists are cut: counts, scales and similarities in float64, and their copies."""


@dataclass(frozen=True)
class Baselines:
    """Metrics and lists by name of the baseline, and the reason for each that was not computed."""

    measured: Mapping[str, Measurements]
    skipped: Mapping[str, str]
    lists: Mapping[str, Ints]


def baselines(held_out: HeldOut, *, budget_bytes: int | None = None) -> Baselines:
    """Fit every baseline on the training positives, and measure it on the held-out users (`all_baseline_lists`).

    Values that are not finite are left out.
    """
    dataset, users, config = held_out.dataset, held_out.users.ids, held_out.config
    lists, skipped = all_baseline_lists(
        dataset, users, config.k, masked=masked_items(dataset, config), budget_bytes=budget_bytes
    )
    measured = {}
    for name, own in lists.items():
        found = held_out.measure_lists(own)
        finite = {key: value for key, value in found.values.items() if math.isfinite(value)}
        measured[name] = Measurements(finite, found.per_user)
    return Baselines(measured, skipped, lists)


def all_baseline_lists(
    dataset: Dataset, users: Ints, k: int, *, masked: Csr, budget_bytes: int | None = None
) -> tuple[dict[str, Ints], dict[str, str]]:
    """Fit every baseline and list items: ``popularity``, ``item_knn``, ``ease``.

    The last two give a user without a training positive the popular items.

    Args:
        dataset: the baselines are fitted on its `history`.
        users: int64 ``(B,)``.
        k: length of the lists.
        masked: per user id, the items that are never listed.
        budget_bytes: memory that a baseline may take; ``None`` = any. It changes no list.
    Returns:
        Lists ``(B, k)`` by name, and the reason for each baseline that was not computed (`oversized`).
    Cost: EASE inverts a matrix of ``min(users, items)`` rows: seconds for 5,000, minutes for 20,000.
    """
    history, n_items, at_once = dataset.history, dataset.n_items, scores_at_once(budget_bytes)
    fits: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: popularity(history, n_items),
        "item_knn": lambda: _or_popular(item_knn(history, n_items, at_once=at_once), history, n_items),
        "ease": lambda: _or_popular(ease(history, n_items, at_once=at_once), history, n_items),
    }
    skipped = oversized(history, n_items, budget_bytes)
    lists = {
        name: baseline_lists(fit(), users, k, masked=masked, n_items=n_items, at_once=at_once)
        for name, fit in fits.items()
        if name not in skipped
    }
    return lists, skipped


def oversized(history: Csr, n_items: int, budget_bytes: int | None = None) -> dict[str, str]:
    """The baselines that cannot be computed, each with the reason, in words that follow its name.

    Args:
        history: training positives per user.
        n_items: size of the catalogue, I.
        budget_bytes: memory that a baseline may take; ``None`` = any.
    Example:
        >>> history = Csr.from_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), n_rows=2)
        >>> oversized(history, 30_000)
        {'ease': 'the catalogue has 30000 items, more than 20000'}
    """
    n_active = len(np.unique(history.indices))
    n_pairs = min(int(np.count_nonzero(history.counts())), n_active) ** 2
    needs = {
        "item_knn": NEIGHBOUR_BYTES * min(KNN_NEIGHBOURS, n_active) * n_active,
        "ease": PAIR_BYTES * n_pairs,
    }
    skipped = {}
    if budget_bytes is not None:
        room = budget_bytes - SCORE_BYTES * scores_at_once(budget_bytes)
        skipped = {
            name: f"its matrix takes {need / 2**30:.2g} GiB, and the memory of the run leaves {room / 2**30:.2g} GiB; "
            "raise run.memory_gib to have it"
            for name, need in needs.items()
            if need > room
        }
    if n_items > EASE_MAX_ITEMS:
        skipped["ease"] = f"the catalogue has {n_items} items, more than {EASE_MAX_ITEMS}"
    return skipped


def scores_at_once(budget_bytes: int | None) -> int:
    """Scores that fit half of a budget, at most `SCORES_AT_ONCE`.

    Example:
        >>> scores_at_once(None), scores_at_once(2**28)
        (8000000, 2097152)
    """
    return SCORES_AT_ONCE if budget_bytes is None else min(SCORES_AT_ONCE, budget_bytes // (2 * SCORE_BYTES))


def baseline_lists(
    scorer: Scorer, users: Ints, k: int, *, masked: Csr, n_items: int, at_once: int = SCORES_AT_ONCE
) -> Ints:
    """Recommendation lists of a baseline; equal scores are ordered by item id.

    Args:
        scorer: from `popularity`, `item_knn` or `ease`.
        users: int64 ``(B,)``.
        k: length of the lists.
        masked: per user, the items that are never listed.
        n_items: size of the catalogue, I.
        at_once: scores held in memory at a time; it changes no list.
    Returns:
        int64 ``(B, k)``, best first, -1 where no item is left.
    Cost: O(B I), and that of the scores; a few users at a time.
    """
    lists = [np.empty((0, k), dtype=np.int64)]
    chunk = _rows_at_once(n_items, at_once)
    for start in range(0, len(users), chunk):
        some = users[start : start + chunk]
        scores = scorer(some)
        hidden = masked.select(some)
        scores[np.repeat(np.arange(len(some)), hidden.counts()), hidden.indices] = -np.inf
        lists.append(top_k(scores, k))
    return np.concatenate(lists)


def popularity(history: Csr, n_items: int) -> Scorer:
    """Score of an item: the number of users with a training positive on it; the same for all users.

    Args:
        history: training positives per user.
        n_items: size of the catalogue, I.
    Source: Cremonesi et al. 2010 (TopPop). Cost: O(nnz + I).
    Example:
        >>> history = Csr.from_pairs(np.array([0, 1, 1]), np.array([2, 2, 0]), n_rows=2)
        >>> popularity(history, n_items=3)(np.array([0]))
        array([[1., 0., 2.]], dtype=float32)
    """
    counts = np.bincount(history.indices, minlength=n_items).astype(np.float32)
    return lambda users: np.tile(counts, (len(users), 1))


def item_knn(
    history: Csr,
    n_items: int,
    *,
    neighbours: int = KNN_NEIGHBOURS,
    shrinkage: float = KNN_SHRINKAGE,
    at_once: int = SCORES_AT_ONCE,
) -> Scorer:
    """Score of an item: its summed similarity to the user's items, over the item's nearest neighbours.

    ``sim_ij = c_ij / (sqrt(c_i c_j) + shrinkage)`` with c the numbers of users: cosine, shrunk where few users agree.

    Args:
        history: training positives per user.
        n_items: size of the catalogue, I.
        neighbours: kept per item, >= 1; equal similarities are ordered by item id.
        shrinkage: in users, >= 0.
        at_once: similarities held in memory at a time; it changes no score.
    Source: Sarwar et al. 2001; shrinkage and cut as in Ferrari Dacrema et al. 2019. Cost: O(sum_u n_u^2 + I^2).
    Example:
        >>> history = Csr.from_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), n_rows=2)
        >>> item_knn(history, n_items=2, shrinkage=0.0)(np.array([1])).round(4)  # 1 / sqrt(2 * 1)
        array([[0.    , 0.7071]], dtype=float32)
    """
    matrix = history.to_scipy(n_items)
    columns = csr_array(matrix.T)
    counts = np.bincount(history.indices, minlength=n_items)
    blocks = []
    chunk = _rows_at_once(n_items, at_once)
    for start in range(0, n_items, chunk):
        own = np.arange(start, min(start + chunk, n_items))
        together = (columns[own] @ matrix).toarray()
        scale = np.sqrt(counts[own, None] * counts[None, :]) + shrinkage
        # -inf, not 0: `top_k` lists no item that shares no user, however few neighbours there are.
        similarity = np.divide(together, scale, out=np.full(together.shape, -np.inf), where=together > 0)
        similarity[np.arange(len(own)), own] = -np.inf
        nearest = top_k(similarity, neighbours)
        row, rank = np.nonzero(nearest != NO_ITEM)
        column = nearest[row, rank]
        values = similarity[row, column].astype(np.float32)
        blocks.append(csr_array((values, (row, column)), shape=similarity.shape))
    # A row per item of the user, a column per target: scores are a sparse product.
    to_targets = csr_array(vstack(blocks).T)
    return lambda users: np.asarray((matrix[users] @ to_targets).toarray(), dtype=np.float32)


def ease(history: Csr, n_items: int, *, l2: float = EASE_L2, at_once: int = SCORES_AT_ONCE) -> Scorer:
    """Score of an item: the linear item-item model with zero diagonal that best rebuilds the users' items.

    ``min |X - X B|^2 + l2 |B|^2, diag B = 0`` has the solution ``B_ij = -P_ij / P_jj`` with
    ``P = (X^T X + l2)^-1``. An item without a training positive has score 0. With fewer users than items the same
    scores come from a matrix of users (Woodbury).

    Args:
        history: training positives per user, X.
        n_items: size of the catalogue, I, at most `EASE_MAX_ITEMS`.
        l2: regularisation, > 0.
        at_once: values held in memory at a time besides the matrix; it changes no score.
    Raises:
        DataError: the catalogue is too large, ``l2 <= 0``, or no row is a training positive.
    Source: Steck 2019 (WWW). Cost: O(min(U, I)^3), memory 8 bytes x min(U, I)^2.
    Example:
        >>> history = Csr.from_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), n_rows=2)
        >>> ease(history, n_items=2, l2=1.0)(np.array([1])).round(4)  # P ~ (2, -1; -1, 3): B_01 = 1 / 3
        array([[0.    , 0.3333]], dtype=float32)
    """
    if n_items > EASE_MAX_ITEMS or l2 <= 0 or len(history.indices) == 0:
        raise DataError(
            f"ease needs at most {EASE_MAX_ITEMS} items, l2 > 0 and a training positive, "
            f"got {n_items} items, l2 = {l2:g} and {len(history.indices)} positives."
        )
    items = np.unique(history.indices)  # the others are rows and columns of zeros in X^T X
    # Float64: rounding in an inverse grows with the condition number.
    matrix = csr_array(history.to_scipy(n_items)[:, items].astype(np.float64))
    n_active_users = int(np.count_nonzero(history.counts()))
    solve = _ease_by_users if n_active_users < len(items) else _ease_by_items
    active_scores = solve(matrix, l2, at_once)

    def score(users: Ints) -> Float32:
        scores = np.zeros((len(users), n_items), dtype=np.float32)
        scores[:, items] = active_scores(users)
        return scores

    return score


def _or_popular(scorer: Scorer, history: Csr, n_items: int) -> Scorer:
    popular, known = popularity(history, n_items), history.counts() > 0

    def score(users: Ints) -> Float32:
        scores, unknown = scorer(users), ~known[users]
        scores[unknown] = popular(users[unknown])
        return scores

    return score


def _ease_by_items(matrix: Sparse, l2: float, at_once: int) -> Callable[[Ints], Float64]:
    weights = _inverse(_gram(csr_array(matrix.T), at_once), l2)
    # The negation copies the diagonal, which the division overwrites.
    np.divide(weights, -np.diag(weights), out=weights)
    np.fill_diagonal(weights, 0.0)
    return lambda users: np.asarray(matrix[users] @ weights)


def _ease_by_users(matrix: Sparse, l2: float, at_once: int) -> Callable[[Ints], Float64]:
    """``X P = (X - (X X^T) M X) / l2`` with ``M = (X X^T + l2)^-1``; the diagonal of B adds the user's own X back."""
    active = csr_array(matrix[np.diff(matrix.indptr) > 0])
    inverse = _inverse(_gram(active, at_once), l2)
    columns = csr_array(active.T)
    # x' M x of the column x of each item: P_jj = (1 - x' M x) / l2.
    projections = np.concatenate(
        [rows.multiply(rows @ inverse).sum(axis=1) for rows in _parts(columns, at_once, len(inverse))]
    )
    p_diagonal = (1 - projections) / l2

    def score(users: Ints) -> Float64:
        own = matrix[users]
        dense = own.toarray()
        projected = (dense - ((own @ columns) @ inverse) @ active) / l2
        return np.asarray(dense - projected / p_diagonal)

    return score


def _gram(rows: Sparse, at_once: int) -> Float64:
    """Products of all pairs of rows, dense; never sparse as a whole, which would take more memory than the result."""
    out, start = np.empty((rows.shape[0], rows.shape[0])), 0
    other = csr_array(rows.T)
    for part in _parts(rows, at_once, len(out)):
        out[start : start + part.shape[0]] = (part @ other).toarray()
        start += part.shape[0]
    return out


def _parts(matrix: Sparse, at_once: int, n_columns: int) -> Iterator[Sparse]:
    """Blocks of rows, each with as many rows as give `at_once` values of `n_columns` columns."""
    chunk = _rows_at_once(n_columns, at_once)
    for start in range(0, matrix.shape[0], chunk):
        yield csr_array(matrix[start : start + chunk])


def _inverse(gram: Float64, l2: float) -> Float64:
    """Inverse of ``gram + l2``, symmetric and positive definite, by Cholesky in the memory of `gram`."""
    gram[np.diag_indices_from(gram)] += l2
    factor, failed = dpotrf(gram.T, lower=True, overwrite_a=True)  # the transpose of a C array is in LAPACK's order
    if failed:
        raise DataError(f"the item matrix is singular in floating point with l2 = {l2:g}; raise l2.")
    inverse, _ = dpotri(factor, lower=True, overwrite_c=True)
    for row in range(len(inverse) - 1):
        inverse[row, row + 1 :] = inverse[row + 1 :, row]
    return np.asarray(inverse.T)  # in C order, which products with sparse matrices would otherwise make a copy of


def _rows_at_once(n_items: int, at_once: int) -> int:
    return max(1, at_once // n_items)
