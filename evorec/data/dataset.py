"""An encoded data set, the input of training and metrics.

All fields of users, items and context share an embedding table. Row 0 is the padding row; each field then has a row
for "unknown" followed by a row per known value. An entity's vector is ``sum_f weight[f] * table[row[f]]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.config import COOCCURRENCE
from evorec.data.pasts import Past
from evorec.data.sorting import distinct

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from evorec.config import TaskKind
    from evorec.data.tables import TimeKind

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Impressions of a part, in the order of the file.

    Args:
        users: int64 ``(N,)`` in ``[0, U]``; U = a user without a training row.
        items: int64 ``(N,)`` in ``[0, I]``; I = an item outside the catalogue.
        context: int64 ``(N, Fc)``, rows of the embedding table.
        labels: float32 ``(N, T)``, NaN = not observed; numbers are standardised (`Dataset.label_scale`).
        statistics: float32 ``(N, S)``, counts and rates of earlier days (`evorec.data.statistics`).
        target: float32 ``(N,)``, NaN = not observed; a positive is > 0.
        time: int64 ``(N,)``, seconds since 1970 UTC.
        context_weights: float32 ``(N, Fc)``, of the rows in `context`; ``None`` = all 1.
    """

    users: Int64
    items: Int64
    context: Int64
    labels: Float32
    statistics: Float32
    target: Float32
    time: Int64
    context_weights: Float32 | None = None

    @property
    def n_rows(self) -> int:
        """Number of impressions N."""
        return len(self.users)

    def rows(self, chosen: slice | Int64) -> Part:
        """Some of the impressions."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: array[chosen] for name, array in own.items() if array is not None}
        return replace(self, **changed)


@final
@dataclass(frozen=True, eq=False)
class Csr:
    """A sparse Boolean matrix: for each row a sorted set of columns.

    Args:
        indptr: int64 ``(R + 1,)``.
        indices: int64 ``(nnz,)``, ascending and unique inside a row.
    Example:
        >>> Csr.from_pairs(np.array([1, 1, 1]), np.array([7, 2, 7]), n_rows=3).row(1).tolist()
        [2, 7]
    """

    indptr: Int64
    indices: Int64

    @classmethod
    def from_pairs(cls, rows: Int64, columns: Int64, *, n_rows: int) -> Csr:
        """Matrix with ones at ``(rows[n], columns[n])``; a repeated pair counts once.

        Args:
            rows: int64 ``(N,)`` in ``[0, n_rows)``.
            columns: int64 ``(N,)``, not negative.
            n_rows: R.
        """
        bits = int(columns.max(initial=0)).bit_length()
        pairs = distinct((rows << bits) | columns)
        counts = np.bincount(pairs >> bits, minlength=n_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs & ((1 << bits) - 1))

    @property
    def n_rows(self) -> int:
        """Number of rows R."""
        return len(self.indptr) - 1

    def row(self, index: int) -> Int64:
        """Columns of a row, ascending."""
        return self.indices[self.indptr[index] : self.indptr[index + 1]]

    def counts(self) -> Int64:
        """Number of columns of each row, int64 ``(R,)``."""
        return np.diff(self.indptr)

    def select(self, rows: Int64) -> Csr:
        """The matrix of the given rows, in the given order; ``rows``: int64 ``(B,)``."""
        counts = self.counts()[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        positions = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], counts)
        return Csr(indptr, self.indices[positions])

    def contains(self, rows: Int64, columns: Int64) -> npt.NDArray[np.bool_]:
        """Whether each pair ``(rows[n], columns[n])`` is set; bool ``(N,)``."""
        if len(self.indices) == 0:
            return np.zeros(len(rows), dtype=np.bool_)
        width = 1 + max(int(self.indices.max()), int(columns.max(initial=0)))
        own = np.repeat(np.arange(self.n_rows), self.counts()) * width + self.indices
        wanted = rows * width + columns
        return np.asarray(own[np.minimum(np.searchsorted(own, wanted), len(own) - 1)] == wanted)

    def to_scipy(self, n_columns: int) -> csr_array[Any, tuple[int, int]]:
        """float32 ``(R, n_columns)`` of ones."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self.indices), dtype=np.float32)
        return csr_array((ones, self.indices, self.indptr), shape=(self.n_rows, n_columns))


@final
@dataclass(frozen=True)
class Codebook:
    """How the values of a feature become codes; a value that is not in it has code 0, "unknown".

    Attributes:
        kind: ``categorical``, ``multi_hot``, ``numeric``, ``linear`` or ``vector``, whose numbers are used unchanged.
        values: value of each code from 1 on; of numbers and vectors empty.
        edges: ascending; a number's code is 1 + how many of them are not above it. Of kind ``linear``, the number of
            each code from 1 on; a number between two of them is a weighted mean of both codes.
    """

    kind: str
    values: tuple[Any, ...] = ()
    edges: tuple[float, ...] = ()


class Field(NamedTuple):
    """The columns of a feature in `Dataset.user_rows` or `Dataset.item_rows`, and its rows of the embedding table.

    `codebook` says how a value becomes a row; ids, and content that does not come from the item table, have none.
    """

    name: str
    first_column: int
    n_columns: int
    first_row: int = 0
    n_rows: int = 0
    codebook: Codebook | None = None


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, encoded for a fit.

    Args:
        name: of the data set.
        tasks: the T ranked label columns, in the order of `Part.labels`.
        parents: ``(T,)``, index of the task that a task implies (its earlier step of the funnel), -1 = none.
        kinds: ``(T,)``, kind of the labels of each task.
        label_shift: float64 ``(T,)``; a label in its own unit is ``label_shift + label_scale * label``. Of numbers the
            mean of the training rows, else 0.
        label_scale: float64 ``(T,)``, of numbers the standard deviation of the training rows, else 1.
        target: label column whose positives are retrieved.
        n_users: U, users with a training row; 0 for a table of rows.
        n_items: I, the catalogue: the item table's ids and the training rows' ids; 0 for a table of rows.
        user_ids: external ids ``(U,)``, ascending; int64 or str.
        item_ids: external ids ``(I,)``, ascending; int64 or str.
        n_rows: R, rows of the embedding table; row 0 is padding and is never trained.
        user_rows: int64 ``(U + 1, Fu)``; entity U is the unknown user, column 0 the id.
        user_weights: float32 ``(U + 1, Fu)``; a multi-hot value weighs 1 / number of values, padding 0.
        item_rows: int64 ``(I + 1, Fi)``; entity I is the unknown item, column 0 the id. All items that were never in
            training share the "unknown item" id row and keep their feature rows.
        item_weights: float32 ``(I + 1, Fi)``.
        user_fields: which columns of `user_rows` a feature has.
        item_fields: which columns of `item_rows` a feature has.
        context_fields: names of the Fc context features.
        context_mode: int64 ``(Fc,)``, the most frequent context of the training rows.
        history_rows: int64 ``(U + 1, H)``, embedding rows of the items of a user's last H training target positives,
            padded with row 0; these rows are a table of their own, with a row per item.
        history_recency: how fast the weight of a positive falls with its rank in `history_rows`.
        item_history_row: int64 ``(I + 1,)``, the row of an item in `history_rows`.
        user_statistics: float32 ``(U + 1, su)``, at the end of training, in the usual context.
        item_statistics: float32 ``(I + 1, S - su)``, at the end of training.
        statistics: names of the S columns of `Part.statistics`, user side first.
        item_content: float32 ``(I + 1, D)``, fixed unit rows, the last row the mean; D = 0 without content.
        train: training impressions.
        held_out: impressions to be predicted.
        seen: ``(U + 1)`` rows: items of all training rows of a user.
        history: ``(U + 1)`` rows: training target positives.
        relevant: ``(U + 1)`` rows: held-out target positives in the catalogue; row U is empty. A positive that is
            masked when lists are made stays here and counts as a miss.
        item_counts: int64 ``(I,)``, training rows per item.
        target_counts: int64 ``(I,)``, training target positives per item.
        notes: counts of what was left out: ``n_constant_fields``; of the held-out rows ``n_cold_users`` (no training
            row) with their ``n_cold_user_rows``, and ``n_cold_item_rows`` (item never in training); and the held-out
            target positives that are not in `relevant`, each under its first reason: ``n_cold_user_positives``,
            ``n_unknown_item_positives`` (outside the catalogue). ``n_seen_positives`` are in it although the user's
            training has the item, so that a list that leaves out seen items cannot hit them. With sampled negatives
            their number among the held-out rows, ``n_sampled_negatives``.
        sha256: hash of the tables, the rows and the choices that made this.
        context_columns: which column of `Part.context` and which rows of the embedding table a context feature has.
        content_parts: the sources of the columns of `item_content`, in order; the part `COOCCURRENCE` comes from the
            training rows, all others are known before the first interaction with an item.
        signs: ``(T,)``, -1 for a task whose high values are bad, else 1; empty = all are good.
        user_groups: int64 ``(U + 1,)``, stated group of each user, -1 = none is known; ``None`` = no groups are stated.
        declared: side (user, item, context or content) and name of every feature and part of the content that the
            tables declare, those included that are the same for all training rows and so have no field here; empty =
            all have a field.
        no_statistics: float32 ``(S,)``, the statistics of an entity without a training row.
        item_columns: columns of the item table that registered metrics ask for, ``(I,)`` each.
        times: meaning of `Part.time`.
    """

    name: str
    tasks: tuple[str, ...]
    parents: tuple[int, ...]
    kinds: tuple[TaskKind, ...]
    label_shift: Float64
    label_scale: Float64
    target: str
    n_users: int
    n_items: int
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    n_rows: int
    user_rows: Int64
    user_weights: Float32
    item_rows: Int64
    item_weights: Float32
    user_fields: tuple[Field, ...]
    item_fields: tuple[Field, ...]
    context_fields: tuple[str, ...]
    context_mode: Int64
    history_rows: Int64
    history_recency: float
    item_history_row: Int64
    user_statistics: Float32
    item_statistics: Float32
    statistics: tuple[str, ...]
    item_content: Float32
    train: Part
    held_out: Part
    seen: Csr
    history: Csr
    relevant: Csr
    item_counts: Int64
    target_counts: Int64
    notes: Mapping[str, int]
    sha256: str
    context_columns: tuple[Field, ...] = ()
    content_parts: tuple[Field, ...] = ()
    signs: tuple[int, ...] = ()
    user_groups: Int64 | None = None
    declared: tuple[tuple[str, str], ...] = ()
    no_statistics: Float32 | None = None
    item_columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    times: TimeKind = "seconds"

    @property
    def n_tasks(self) -> int:
        """T."""
        return len(self.tasks)

    @cached_property
    def past(self) -> Past:
        """The training target positives of the ``U + 1`` users in order; without times in that of the file."""
        rows, part = np.flatnonzero(self.train.target > 0), self.train
        return Past.of(part.users[rows], part.items[rows], part.time[rows], n_users=self.n_users + 1)

    @property
    def has_items(self) -> bool:
        """Whether rows are of users and items; else their context is all that a model sees, and there are no lists."""
        return self.n_items > 0

    @property
    def distance_content(self) -> Float32:
        """Content that distances inside lists are measured in, float32 ``(I + 1, D')`` unit rows: not who met them."""
        columns = [
            column
            for part in self.content_parts
            if part.name == COOCCURRENCE
            for column in range(part.first_column, part.first_column + part.n_columns)
        ]
        if not columns:
            return self.item_content
        rest = np.delete(self.item_content, columns, axis=1).astype(np.float64)
        lengths = np.linalg.norm(rest, axis=1, keepdims=True)
        return (rest / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
