"""Item-item methods: closed forms that score items by a user's past, and the registry of their kinds.

A method is a matrix W with a row for each item of a past and a column for each item that may be listed. The scores of a
user are ``p W`` with p the user's past, whose weights fade with the steps back or with the age (`evorec.data.pasts`).
Every kind adds a directed term to its own matrix: how often an item is the next one directly after another.

Nothing is random and nothing depends on the number of cores, so a matrix follows from the data and the settings. It is
computed where it is needed and never stored with a run.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from evorec.data.descriptions import item_descriptions
from evorec.errors import DataError
from evorec.models.choice import Choice
from evorec.registry import Registry

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from evorec.data.dataset import Csr, Dataset
    from evorec.data.pasts import Past

    Sparse = csr_array[Any, tuple[int, int]]

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Settings = Mapping[str, Any]

PAIRS_AT_ONCE: Final = 8_000_000
"""Pairs of items that are counted, scaled and cut at a time, some 200 MB."""
NEIGHBOUR_BYTES: Final = 12
"""Of a neighbour in a bundle: a float32 value and an int64 index."""
ALL: Final = 0
"""The setting `neighbours` for a matrix that is not cut."""
DEFAULTS: Final[Settings] = {
    "past_decay": 1.0, "past_half_life": float("inf"), "next_item": 0.0, "shrinkage": 10.0, "asymmetry": 0.5,
    "user_norm": 0.0, "neighbours": ALL, "item_item_l2": 100.0, "item_item_rank": 64, "low_rank_l2": 0.03,
    "neighbour_weight": 0.0, "next_window": 1, "content_weight": 0.0, "content_popularity": 0.25,
}  # fmt: skip
"""Settings that leave an effect out, or the textbook's, for those that are not given."""


@final
@dataclass(frozen=True, eq=False)
class Positives:
    """The training positives, from which all matrices are computed.

    Attributes:
        history: the set of items of each of the ``U + 1`` users.
        past: the same in order.
        n_items: I.
        describe: makes `descriptions`; ``None`` = nothing is known of the items.
    """

    history: Csr
    past: Past
    n_items: int
    describe: Callable[[], Sparse | None] | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Positives:
        """Those of a data set; the same object for the same data set, so that what it computes is computed once."""
        if dataset not in _OF_DATASET:
            known = ref(dataset)  # a reference in the value would keep the key for good

            def describe() -> Sparse | None:
                alive = known()
                return None if alive is None else item_descriptions(alive)

            _OF_DATASET[dataset] = cls(dataset.history, dataset.past, dataset.n_items, describe)
        return _OF_DATASET[dataset]

    @cached_property
    def descriptions(self) -> Sparse | None:
        """Unit rows ``(I, V)`` (`evorec.data.descriptions`), made when a matrix first reads them."""
        return None if self.describe is None else self.describe()

    @cached_property
    def mean_length(self) -> float:
        """Items of a user with a positive, on average; 0.0 without users."""
        return len(self.history.indices) / max(self.n_active_users, 1)

    @cached_property
    def counts(self) -> Float64:
        """Users of each item, ``(I,)``."""
        return np.bincount(self.history.indices, minlength=self.n_items).astype(np.float64)

    @cached_property
    def n_pairs(self) -> int:
        """Sum over users of their squared number of items: multiply-adds of all co-occurrence counts."""
        return int((self.history.counts() ** 2).sum())

    @cached_property
    def n_active_items(self) -> int:
        """Items with a positive."""
        return int(np.count_nonzero(self.counts))

    @cached_property
    def n_active_users(self) -> int:
        """Users with a positive."""
        return int(np.count_nonzero(self.history.counts()))

    def matrix(self, user_weights: Float64 | None = None) -> Sparse:
        """Users by items, float64, each user's row times a weight; without users that have no positive."""
        from scipy.sparse import csr_array

        counts = self.history.counts()
        values = np.repeat(np.ones(len(counts)) if user_weights is None else user_weights, counts)
        shape = (len(counts), self.n_items)
        return csr_array((values, self.history.indices, self.history.indptr), shape=shape)


@final
@dataclass(frozen=True, eq=False)
class ItemItemModel:
    """A matrix W as the sum of a sparse matrix, a dense matrix and a product of thin matrices, each of which may lack.

    Attributes:
        neighbours: sparse float32 ``(I, I)``.
        dense: float32 ``(I, I)``.
        left, right: float32 ``(I, r)`` and ``(r, I)``.
    """

    n_items: int
    neighbours: Sparse | None = None
    dense: Float32 | None = None
    left: Float32 | None = None
    right: Float32 | None = None

    def scores(self, past: Sparse) -> Float32:
        """Scores ``(B, I)`` of users with faded pasts ``(B, I)``; 0 for all items without a past.

        Sums over the past are in float64: entries of both signs may cancel, and a bundle adds them in another order.
        Cost: O(B I), and for each item of a past its neighbours, all items, or the rank.
        """
        from threadpoolctl import threadpool_limits

        out = np.zeros((past.shape[0], self.n_items), dtype=np.float32)
        if self.neighbours is not None:
            out += (past.astype(np.float64) @ self.neighbours).toarray()
        if self.dense is not None:
            for user, (start, stop) in enumerate(itertools.pairwise(past.indptr)):
                rows = self.dense[past.indices[start:stop]]
                out[user] += np.einsum("l,li->i", past.data[start:stop], rows, dtype=np.float64)
        if self.left is not None and self.right is not None:
            with threadpool_limits(1):  # sums over threads would change the last bits
                out += (past @ self.left) @ self.right
        return out

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The matrix for a bundle, by name.

        ``neighbours`` int64 and ``values`` float32, both ``(I, N)`` with the value 0 for padding, or ``dense``;
        ``left`` and ``right``.
        """
        out: dict[str, npt.NDArray[Any]] = {}
        if self.neighbours is not None:
            counts = np.diff(self.neighbours.indptr)
            longest = max(int(counts.max(initial=0)), 1)
            if NEIGHBOUR_BYTES * longest < 4 * self.n_items:
                filled = np.arange(longest) < counts[:, None]
                ids, values = np.zeros(filled.shape, dtype=np.int64), np.zeros(filled.shape, dtype=np.float32)
                ids[filled], values[filled] = self.neighbours.indices, self.neighbours.data
                out |= {"neighbours": ids, "values": values}
            else:
                out["dense"] = self.neighbours.toarray()
        if self.dense is not None:
            out["dense"] = self.dense
        if self.left is not None and self.right is not None:
            out |= {"left": self.left, "right": self.right}
        return out


_LATEST: dict[tuple[Any, ...], ItemItemModel] = {}
"""The matrix that was last asked for, by positives, kind and settings."""
_OF_DATASET: WeakKeyDictionary[Dataset, Positives] = WeakKeyDictionary()


class ItemItem(Choice):
    """A kind of item-item matrix."""

    @abc.abstractmethod
    def fit(self, positives: Positives, settings: Settings) -> ItemItemModel:
        """The matrix of the kind with its directed term.

        Args:
            positives: of the training.
            settings: values of the kind's genes; those that are missing are as in `DEFAULTS`.
        Raises:
            DataError: a setting is out of range, or the matrix cannot be computed.
        """

    @abc.abstractmethod
    def fit_flops(self, positives: Positives, settings: Settings) -> int:
        """Arithmetic of `fit`."""

    @abc.abstractmethod
    def fit_bytes(self, positives: Positives, settings: Settings) -> int:
        """Memory that `fit` takes at its peak, its result included."""

    @abc.abstractmethod
    def stored_values(self, positives: Positives, settings: Settings) -> tuple[int, int]:
        """Numbers of the matrix in a bundle, and their bytes with those of indices."""

    @abc.abstractmethod
    def request_macs(self, positives: Positives, settings: Settings, length: float) -> int:
        """Multiply-adds of the scores of a user with a past of `length` items."""


ITEM_ITEMS: Registry[ItemItem] = Registry("item_item", package="evorec.models.item_items")
"""Kinds of item-item matrices."""


def fit_item_item(
    kind: str, positives: Positives, settings: Settings, *, budget_bytes: int | None = None
) -> ItemItemModel:
    """The matrix of a kind; see `ItemItem.fit`.

    Args:
        kind: a name of `ITEM_ITEMS`.
        positives: of the training.
        settings: of the kind; what is missing is as in `DEFAULTS`.
        budget_bytes: memory that the matrix may take while it is computed; ``None`` = any. It changes no value.
    Raises:
        DataError: it takes more memory, or a setting is out of range.
    Example:
        >>> from evorec.data.dataset import Csr
        >>> from evorec.data.pasts import Past
        >>> users, items, times = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1, 2, 3])
        >>> past = Past.of(users, items, times, n_users=2)
        >>> positives = Positives(Csr.from_pairs(users, items, n_rows=2), past, n_items=2)
        >>> knn = fit_item_item("knn", positives, {"shrinkage": 0.0})
        >>> knn.scores(past.faded(2)[[1]]).round(4)  # 1 / sqrt(2 * 1)
        array([[0.    , 0.7071]], dtype=float32)
    """
    settings = with_defaults(settings)
    if reason := oversized(kind, positives, settings, budget_bytes):
        raise DataError(reason)
    return ITEM_ITEMS[kind].fit(positives, settings)


def latest_item_item(kind: str, positives: Positives, settings: Settings) -> ItemItemModel:
    """`fit_item_item`, which keeps the last matrix of the process, for members of equal settings that follow."""
    key = (positives, kind, *sorted(with_defaults(settings).items()))
    found = _LATEST.get(key)
    if found is None:
        _LATEST.clear()  # before the next is computed: two may not fit
        found = _LATEST[key] = fit_item_item(kind, positives, settings)
    return found


def with_defaults(settings: Settings) -> Settings:
    """All settings, those that are not given as in `DEFAULTS`."""
    return {**DEFAULTS, **settings}


def oversized(kind: str, positives: Positives, settings: Settings, budget_bytes: int | None) -> str:
    """Why a matrix does not fit a budget, as a sentence; empty where it does."""
    need = ITEM_ITEMS[kind].fit_bytes(positives, with_defaults(settings))
    if budget_bytes is None or need <= budget_bytes:
        return ""
    return (
        f"{kind} takes {need / 2**30:.2g} GiB for {positives.n_active_items} items and {positives.n_active_users} "
        f"users, and the memory allows {budget_bytes / 2**30:.2g} GiB; raise run.memory_gib, lower neighbours, or take "
        "knn or low_rank."
    )


def next_item_rows(positives: Positives, settings: Settings) -> Sparse | None:
    """The directed term, ``w n_ij / (sqrt(c_i c_j) + s)`` with n_ij how often j comes soon after i; float64.

    Returns:
        Sparse ``(I, I)``; ``None`` for a weight of 0.
    """
    if not settings["next_item"]:
        return None
    followers = positives.past.followers(positives.n_items, window=settings["next_window"])
    out: Sparse = scaled(followers, positives, settings["shrinkage"], 0.5) * settings["next_item"]
    return out


def content_rows(positives: Positives, settings: Settings, items: Ints) -> Float64 | None:
    """Rows of the content term, ``w cos(d_i, d_j) max(c_j, 1/2)^p`` with d the items' descriptions; 0 for j = i.

    It needs no common user, so new items have scores.

    Args:
        items: of the rows, int64 ``(n,)``.
    Returns:
        ``(n, I)``; ``None`` for a weight of 0 or without descriptions.
    """
    if not settings["content_weight"] or positives.descriptions is None:
        return None
    described = positives.descriptions
    scale = settings["content_weight"] * np.maximum(positives.counts, 0.5) ** settings["content_popularity"]
    rows = (described[items] @ described.T).toarray() * scale
    rows[np.arange(len(items)), items] = 0
    return np.asarray(rows)


def content_flops(positives: Positives, settings: Settings) -> int:
    """Arithmetic of all rows of the content term."""
    if not settings["content_weight"] or positives.descriptions is None:
        return 0
    items_of_value = np.bincount(positives.descriptions.indices).astype(np.float64)
    return int(2 * (items_of_value**2).sum() + 2 * positives.n_items**2)


def scaled(together: Sparse, positives: Positives, shrinkage: float, asymmetry: float, first: int = 0) -> Sparse:
    """Counts of pairs of items divided by ``c_i^a c_j^(1-a) + shrinkage``, with c the users of an item.

    Args:
        together: sparse ``(n, I)``, rows of the items `first`, ..., first + n - 1.
        positives: give c.
        shrinkage: in users, >= 0.
        asymmetry: a, in 0..1; .5 = the cosine, 1 = the share of the users of i.
        first: item of the first row.
    """
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(first, first + together.shape[0]), np.diff(together.indptr))
    counts = positives.counts
    # Items without a user have no pair, and 0 ** 0 = 1.
    scale = counts[rows] ** asymmetry * counts[together.indices] ** (1 - asymmetry) + shrinkage
    return csr_array((together.data / scale, together.indices, together.indptr), shape=together.shape)


def cut(rows: Sparse, neighbours: int) -> Sparse:
    """The entries of largest size in each row, in float32; equal sizes are kept by ascending column.

    Args:
        rows: sparse ``(n, I)``.
        neighbours: entries kept per row; `ALL` = all.
    """
    from scipy.sparse import csr_array

    rows = csr_array(rows)
    rows.sum_duplicates()
    counts = np.diff(rows.indptr)
    if neighbours != ALL and counts.max(initial=0) > neighbours:
        sizes, kept = np.abs(rows.data), np.ones(len(rows.data), dtype=np.bool_)
        # Row by row: a partition of each long row takes a tenth of the time of a sort of all entries.
        for row in np.flatnonzero(counts > neighbours):
            own, keep = (array[rows.indptr[row] : rows.indptr[row + 1]] for array in (sizes, kept))
            least = np.partition(own, len(own) - neighbours)[len(own) - neighbours]
            np.greater(own, least, out=keep)
            keep[np.flatnonzero(own == least)[: neighbours - np.count_nonzero(keep)]] = True
        indptr = np.concatenate([[0], np.cumsum(np.minimum(counts, neighbours))])
        rows = csr_array((rows.data[kept], rows.indices[kept], indptr), shape=rows.shape)
    return csr_array(rows.astype(np.float32))


def cut_dense(rows: npt.NDArray[np.floating[Any]], neighbours: int) -> Sparse:
    """As `cut`, of dense rows ``(n, I)``."""
    from scipy.sparse import csr_array

    from evorec.metrics.top_items import best_items

    ids = np.sort(best_items(np.abs(rows).astype(np.float32), neighbours)[1], axis=1)
    values = np.take_along_axis(rows, ids, 1).astype(np.float32)
    indptr = np.arange(len(rows) + 1) * neighbours
    out = csr_array((values.ravel(), ids.ravel(), indptr), shape=rows.shape)
    out.eliminate_zeros()
    return out


def row_blocks(work: Iterable[int] | npt.NDArray[Any], at_once: int | None = None) -> Iterator[slice]:
    """Consecutive rows whose work sums to at most `at_once` (`PAIRS_AT_ONCE`), or single rows with more.

    Example:
        >>> [(part.start, part.stop) for part in row_blocks([3, 3, 9, 1], at_once=6)]
        [(0, 2), (2, 3), (3, 4)]
    """
    at_once, ends = at_once or PAIRS_AT_ONCE, np.cumsum(np.asarray(work))
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + at_once, side="right")))
        yield slice(start, stop)
        start = stop
