"""Item neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from evorec.metrics.cost import FLOPS_PER_MAC
from evorec.models.item_item import (
    ALL,
    ITEM_ITEMS,
    NEIGHBOUR_BYTES,
    PAIRS_AT_ONCE,
    ItemItem,
    ItemItemModel,
    Positives,
    Settings,
    content_flops,
    content_rows,
    cut,
    cut_dense,
    next_item_rows,
    row_blocks,
    scaled,
)
from evorec.models.item_item_genes import (
    ASYMMETRY,
    CONTENT_POPULARITY,
    CONTENT_WEIGHT,
    NEIGHBOURS,
    NEXT_ITEM,
    NEXT_WINDOW,
    SHRINKAGE,
    USER_NORM,
)

if TYPE_CHECKING:
    from evorec.models.item_item import Sparse
    from evorec.space.genes import Gene


@final
class Knn(ItemItem):
    """``c_ij / (c_i^a c_j^(1-a) + s)`` with ``c_ij = sum_u 1 / n_u^b`` over the users of both items.

    c_i is the number of users of item i and n_u that of items of user u. The diagonal is 0.

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; Deshpande &
    Karypis, TOIS 2004 (asymmetry, norm of users); Aiolli, RecSys 2013 (asymmetric cosine).
    """

    name, order = "knn", 1
    text = "items are scored by how many users share them with the user's past (ItemKNN)"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return (
            SHRINKAGE, ASYMMETRY, USER_NORM, NEXT_ITEM, NEXT_WINDOW, CONTENT_WEIGHT, CONTENT_POPULARITY, NEIGHBOURS
        )  # fmt: skip

    def fit(self, positives: Positives, settings: Settings) -> ItemItemModel:
        return ItemItemModel(positives.n_items, neighbour_matrix(positives, settings))

    def fit_flops(self, positives: Positives, settings: Settings) -> int:
        return neighbour_flops(positives) + content_flops(positives, settings)

    def fit_bytes(self, positives: Positives, settings: Settings) -> int:
        # Value and index of the matrix and of a copy while its blocks are joined, and the block in work.
        n = neighbours_of(positives, settings)
        n_following = settings["next_window"] * len(positives.past.items)
        kept = min(n * positives.n_active_items, positives.n_pairs + n_following)
        if content_flops(positives, settings):
            kept = n * positives.n_items
        return int(2 * 12 * kept + 64 * min(PAIRS_AT_ONCE, max(positives.n_pairs, 1)))

    def stored_values(self, positives: Positives, settings: Settings) -> tuple[int, int]:
        return matrix_values(positives, settings)

    def request_macs(self, positives: Positives, settings: Settings, length: float) -> int:
        return round(length * neighbours_of(positives, settings))


def neighbour_matrix(positives: Positives, settings: Settings, weight: float = 1.0) -> Sparse:
    """The matrix times a weight, plus the directed term, cut to the nearest neighbours; sparse float32 ``(I, I)``.

    Args:
        positives: of the training.
        settings: all of `evorec.models.item_item.DEFAULTS`.
        weight: of the symmetric part; 0 leaves it out.
    """
    from scipy.sparse import csr_array, diags_array, vstack

    following, n_items = next_item_rows(positives, settings), positives.n_items
    if not weight:
        return cut(following if following is not None else csr_array((n_items, n_items)), settings["neighbours"])
    has_content = content_rows(positives, settings, np.zeros(0, dtype=np.int64)) is not None
    n_of_user = np.maximum(positives.history.counts(), 1).astype(np.float64)
    weighted = positives.matrix(n_of_user ** -settings["user_norm"])
    columns = csr_array(positives.matrix().T)
    # Work of a row: the items of all users of its item.
    work = columns @ positives.history.counts()
    if has_content:  # whole rows
        work = np.maximum(work, n_items)
    blocks = []
    for part in row_blocks(work):
        rows = csr_array(columns[part] @ weighted)
        rows = scaled(rows, positives, settings["shrinkage"], settings["asymmetry"], part.start) * weight
        own = np.arange(part.start, part.stop)
        rows = rows - diags_array(rows[own - part.start, own], offsets=part.start, shape=rows.shape)
        rows = csr_array(rows)
        rows.eliminate_zeros()
        if following is not None:
            rows = csr_array(rows + following[part])
        content = content_rows(positives, settings, own)
        if content is None:
            blocks.append(cut(rows, settings["neighbours"]))
        else:
            blocks.append(cut_dense(content + rows.toarray(), neighbours_of(positives, settings)))
    return csr_array(vstack(blocks, format="csr"))


def neighbour_flops(positives: Positives) -> int:
    """Arithmetic of the counts, their scales and the directed term: at most a scale per count."""
    return FLOPS_PER_MAC * positives.n_pairs + 4 * (positives.n_pairs + len(positives.past.items))


def neighbours_of(positives: Positives, settings: Settings) -> int:
    """Entries of a row of the matrix, at most."""
    return min(settings["neighbours"] if settings["neighbours"] != ALL else positives.n_items, positives.n_items)


def matrix_values(positives: Positives, settings: Settings) -> tuple[int, int]:
    """Numbers of a matrix in a bundle and their bytes: neighbours with their indices, or all values."""
    n_values = neighbours_of(positives, settings) * positives.n_items
    return n_values, n_values * (4 if neighbours_of(positives, settings) == positives.n_items else NEIGHBOUR_BYTES)


ITEM_ITEMS.register(Knn.name, Knn())
