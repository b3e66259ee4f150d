"""Recommendation lists of a model, as metrics read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]

NO_ITEM = -1
"""Fills a list that has fewer than K items."""
UNIT_NORM_TOLERANCE = 1e-3
"""A float32 row of some hundred entries is a unit vector to about 1e-6; half precision to about 1e-3."""
MARKS_AT_ONCE = 1 << 20
"""Cells of the table of relevant items that is held at a time."""


class ItemSets(Protocol):
    """A set of items per user, as rows of a sparse matrix; `evorec.data.dataset.Csr` and scipy's arrays have both."""

    @property
    def indptr(self) -> Ints:
        """Where each row starts, ``(U + 1,)``."""

    @property
    def indices(self) -> Ints:
        """Item ids, ascending within a row, no repeats."""


@final
@dataclass(frozen=True, eq=False)
class ListData:
    """The users whose lists are measured and the catalogue: the same for all models.

    Attributes:
        relevant: held-out positives of the U users, who have 1 or more each.
        item_counts: training interactions per item, integer ``(I,)``.
        item_content: fixed vectors that no model trains, float ``(>= I, D)`` unit rows; D = 0 without content.
        groups: stated group of each user, integer ``(U,)``, -1 = unknown; ``None`` = no groups.
        user_ids, item_ids: external ids, ``(U,)`` and ``(I,)``; ``None`` = unknown.
        item_columns: columns of the item table that metrics ask for, ``(I,)`` each.
        name: of the data set, for messages.
    """

    relevant: ItemSets
    item_counts: Ints
    item_content: npt.NDArray[np.floating[Any]]
    groups: Ints | None = None
    user_ids: npt.NDArray[Any] | None = None
    item_ids: npt.NDArray[Any] | None = None
    item_columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    name: str = "the data"

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.relevant.indptr) - 1

    @property
    def n_items(self) -> int:
        """Size of the catalogue, I."""
        return len(self.item_counts)

    @cached_property
    def n_relevant(self) -> npt.NDArray[np.int64]:
        """Relevant items per user, int64 ``(U,)``."""
        return n_relevant(self.relevant)

    @cached_property
    def item_vectors(self) -> Floats:
        """`item_content` in float64, if its rows are unit vectors.

        Raises:
            DataError: there are no vectors, or they are not unit rows.
        """
        return unit_rows(self.item_content)


@final
@dataclass(frozen=True, eq=False)
class RecommendedLists:
    """The lists of a model.

    Attributes:
        lists: item ids, integer ``(U, K)``, best first, `NO_ITEM` = empty slot.
        data: users and catalogue.
        retrieved: item ids of the first stage, integer ``(U, C)``; only of models with two stages.
        n_improbable: items of the catalogue that a user is predicted not to prefer, int64 ``(U,)``, on demand.
    Raises:
        DataError: lists are not an integer matrix of the same users, hold an unknown item, or repeat an item.
    """

    lists: Ints
    data: ListData
    retrieved: Ints | None = None
    n_improbable: Ints | None = None

    def __post_init__(self) -> None:
        check_lists(self.lists, self.data.n_items)
        if len(self.lists) != self.data.n_users:
            raise DataError(
                f"lists and relevant must be of the same users, got {len(self.lists)} and {self.data.n_users} rows."
            )

    @property
    def k(self) -> int:
        """Length of a list, K."""
        return int(self.lists.shape[1])

    @cached_property
    def hit(self) -> Bools:
        """Which slots hold a relevant item, bool ``(U, K)``."""
        return hits(self.lists, self.data.relevant, self.data.n_items)

    @cached_property
    def retrieved_hit(self) -> Bools:
        """Which retrieved items are relevant, bool ``(U, C)``."""
        assert self.retrieved is not None
        return hits(self.retrieved, self.data.relevant, self.data.n_items)


@final
@dataclass(frozen=True, eq=False)
class AttackedLists:
    """Lists of two models for the same genuine users: trained without and with the rows of fake users.

    Attributes:
        before: item ids, integer ``(U, K)``, `NO_ITEM` = empty slot.
        after: likewise, under attack.
        targets: item ids that the attack pushes, integer ``(n,)``.
        data: users and catalogue, without the fake users.
    """

    before: Ints
    after: Ints
    targets: Ints
    data: ListData

    @property
    def k(self) -> int:
        """Length of a list, K."""
        return int(self.before.shape[1])


def n_relevant(relevant: ItemSets) -> npt.NDArray[np.int64]:
    """Number of relevant items per user, int64 ``(U,)``."""
    return np.diff(relevant.indptr).astype(np.int64)


def hits(lists: Ints, relevant: ItemSets, n_items: int) -> Bools:
    """Which slots of each list hold a relevant item.

    Args:
        lists: item ids in ``[-1, I)``, integer ``(U, K)``; see `check_lists`.
        relevant: the relevant items of the same U users.
        n_items: size of the catalogue, I.
    Returns:
        bool ``(U, K)``.
    Cost: O(U K + nnz), memory O(I). A table of marks is faster than a search in the sorted ids of each user.
    Example:
        >>> from scipy.sparse import csr_array
        >>> hits(np.array([[2, 0, -1]]), csr_array([[1, 1, 0]]), n_items=3)
        array([[False,  True, False]])
    """
    width = n_items + 1  # `NO_ITEM` wraps around to the last column of the row before, which is never marked
    at_once = max(1, MARKS_AT_ONCE // width)
    marked = np.zeros(at_once * width, dtype=np.bool_)
    out = np.empty(lists.shape, dtype=np.bool_)
    for start in range(0, len(lists), at_once):
        rows = lists[start : start + at_once]
        offset = np.arange(len(rows)) * width
        bounds = relevant.indptr[start : start + len(rows) + 1]
        own = np.repeat(offset, np.diff(bounds)) + relevant.indices[bounds[0] : bounds[-1]]
        marked[own] = True
        np.take(marked, rows + offset[:, None], out=out[start : start + len(rows)], mode="wrap")
        # Only what was marked is cleared: clearing the whole table would cost its size for every block.
        marked[own] = False
    return out


def check_lists(lists: Ints, n_items: int) -> None:
    """Refuse recommendation lists that no metric may score.

    Raises:
        DataError: lists are not an integer matrix, an id is outside ``[-1, n_items)``, or a list repeats an item.
    """
    if lists.ndim != 2 or lists.shape[1] == 0 or not np.issubdtype(lists.dtype, np.integer):
        raise DataError(f"lists must be integer (users, K >= 1), got {lists.dtype} {lists.shape}.")
    if lists.size and (lists.min() < NO_ITEM or lists.max() >= n_items):
        raise DataError(f"lists must hold item ids in [-1, {n_items}), got {lists.min()}..{lists.max()}.")
    ordered = np.sort(lists, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).any(axis=1)
    if repeated.any():
        row = int(repeated.argmax())
        raise DataError(f"a list must not repeat an item, got {lists[row].tolist()} in row {row}.")


def unit_rows(item_vectors: npt.NDArray[np.floating[Any]]) -> Floats:
    """The vectors in float64, if they are unit rows.

    Raises:
        DataError: there are no vectors, or a row has another length.
    """
    if item_vectors.ndim != 2 or item_vectors.shape[1] == 0:
        raise DataError(
            f"item_vectors must be (items, D >= 1), got shape {item_vectors.shape}; the data have no item content: "
            "choose another diversity objective, such as catalogue_coverage@k."
        )
    vectors = item_vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    off = np.abs(norms - 1)
    # As a negation, because a comparison with NaN is false.
    if not (off <= UNIT_NORM_TOLERANCE).all():
        row = int(np.nanargmax(np.where(np.isnan(off), np.inf, off)))
        raise DataError(f"item_vectors must be unit rows, got length {norms[row]:g} in row {row}; divide by the norm.")
    return vectors
