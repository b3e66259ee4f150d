"""Low-rank item-item matrices, for catalogues whose full matrix does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

import numpy as np

from evorec.models.choice import log_gene
from evorec.models.item_item import ITEM_ITEMS, Float32, ItemItem, ItemItemModel, Positives, Settings
from evorec.models.item_item_genes import ASYMMETRY, NEIGHBOURS, NEXT_ITEM, NEXT_WINDOW, SHRINKAGE, USER_NORM
from evorec.models.item_items.knn import matrix_values, neighbour_flops, neighbour_matrix, neighbours_of
from evorec.space.genes import Integer, Real

if TYPE_CHECKING:
    from evorec.space.genes import Gene

ROUNDS: Final = 4
"""Power iterations of the randomised decomposition."""
SPARE: Final = 16
"""Singular vectors that it computes besides those that are kept."""


RIDGE: Final = log_gene("low_rank_l2", 1e-3, 1.0, 0.03, "shrinks weak directions; the strongest has size 1")
NEIGHBOUR_WEIGHT: Final = Real(
    "neighbour_weight", 0.0, 3.0, default=0.0, limits=(0.0, 1e6), text="weight of ItemKNN beside the low rank"
)


@final
class LowRank(ItemItem):
    """``C_i^-a V diag(s^2 / (s^2 + l2)) V^T C_j^(1-a)`` plus a weight times ItemKNN.

    s and V are the largest singular values and right vectors of ``N^(-b/2) X C^(-1/2)``, users by items, with N the
    items of a user, C the users of an item and b the norm of users; s is divided by the largest. With b = 1, a = .5 and
    a small l2 this is the ideal
    low-pass filter of GF-CF, which adds ItemKNN with b = 1 and without shrinkage.

    Source: Shen et al., "How powerful is graph convolution for recommendation?", CIKM 2021 (GF-CF); Halko et al. 2011
    (randomised decomposition).
    """

    name, order = "low_rank", 3
    text = "items are scored by the strongest common directions of the users' items (low rank)"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return (
            Integer("item_item_rank", 16, 256, scale="log2", default=64, limits=(1, 8192), text="directions kept"),
            RIDGE, ASYMMETRY, USER_NORM, NEIGHBOUR_WEIGHT, SHRINKAGE, NEXT_ITEM, NEXT_WINDOW, NEIGHBOURS,
        )  # fmt: skip

    def fit(self, positives: Positives, settings: Settings) -> ItemItemModel:
        sparse = None
        if settings["neighbour_weight"] or settings["next_item"]:
            sparse = neighbour_matrix(positives, settings, settings["neighbour_weight"])
        left, right = factors(positives, settings)
        return ItemItemModel(positives.n_items, sparse, left=left, right=right)

    def fit_flops(self, positives: Positives, settings: Settings) -> int:
        users, items, rank = positives.n_active_users, positives.n_active_items, _rank(positives, settings)
        found = min(rank + SPARE, users, items)
        # Products with the matrix and its transpose, an orthogonal basis after each, and the small decomposition.
        products = 2 * (2 * ROUNDS + 2) * len(positives.history.indices) * found
        bases = 2 * (ROUNDS + 1) * (users + items) * found**2
        flops = products + bases + 6 * items * found**2 + 2 * items * rank
        if settings["neighbour_weight"]:
            return flops + neighbour_flops(positives)
        return flops + 4 * len(positives.past.items)

    def fit_bytes(self, positives: Positives, settings: Settings) -> int:
        found = _rank(positives, settings) + SPARE
        bytes_ = 4 * 8 * found * (positives.n_active_users + positives.n_items)
        bytes_ += 24 * len(positives.history.indices)
        if settings["neighbour_weight"]:
            bytes_ += ITEM_ITEMS["knn"].fit_bytes(positives, settings)
        return bytes_

    def stored_values(self, positives: Positives, settings: Settings) -> tuple[int, int]:
        values = 2 * _rank(positives, settings) * positives.n_items
        is_sparse = settings["neighbour_weight"] or settings["next_item"]
        more, more_bytes = matrix_values(positives, settings) if is_sparse else (0, 0)
        return values + more, 4 * values + more_bytes

    def request_macs(self, positives: Positives, settings: Settings, length: float) -> int:
        macs = _rank(positives, settings) * (length + positives.n_items)
        if settings["neighbour_weight"] or settings["next_item"]:
            macs += length * neighbours_of(positives, settings)
        return round(macs)


def factors(positives: Positives, settings: Settings) -> tuple[Float32, Float32]:
    """The low-rank part as thin matrices ``(I, r)`` and ``(r, I)``."""
    from scipy.sparse import csr_array
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    rank, counts, power = _rank(positives, settings), positives.counts, settings["asymmetry"]
    if not rank:
        return np.zeros((positives.n_items, 0), dtype=np.float32), np.zeros((0, positives.n_items), dtype=np.float32)
    items = np.flatnonzero(counts)
    n_of_user = np.maximum(positives.history.counts(), 1).astype(np.float64)
    matrix = csr_array(positives.matrix(n_of_user ** (-settings["user_norm"] / 2))[:, items])
    matrix = csr_array(matrix[np.diff(matrix.indptr) > 0])
    matrix.data /= np.sqrt(counts[items])[matrix.indices]
    with threadpool_limits(1):  # sums over threads would change the last bits
        _, sizes, vectors = randomized_svd(
            matrix, rank, n_oversamples=SPARE, n_iter=ROUNDS, power_iteration_normalizer="QR", random_state=0
        )
    squares = (sizes / sizes[0]) ** 2
    left, right = (np.zeros(shape, dtype=np.float32) for shape in ((len(counts), rank), (rank, len(counts))))
    left[items] = vectors.T * counts[items, None] ** -power
    right[:, items] = (squares / (squares + settings["low_rank_l2"]))[:, None] * vectors * counts[items] ** (1 - power)
    return left, right


def _rank(positives: Positives, settings: Settings) -> int:
    return min(int(settings["item_item_rank"]), positives.n_active_users, positives.n_active_items)


ITEM_ITEMS.register(LowRank.name, LowRank())
