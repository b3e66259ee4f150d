"""The labelled rows of a task and a model's predictions for them, as metrics read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.config import QuantileKind, TaskKind
from evorec.errors import DataError
from evorec.metrics.top_items import ordered_bits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.floating[Any]]


@final
@dataclass(frozen=True, eq=False)
class LabelPairs:
    """The (positive, negative) pairs of rows inside each group that has both classes, G groups, ascending.

    Attributes:
        rows: rows of these groups, in any order.
        key: ``2 * group + label`` of each of them, groups numbered 0..G-1.
        size, positives: rows and positive rows of each group, ``(G,)``.
    """

    rows: Ints
    key: npt.NDArray[np.uint64]
    size: Ints
    positives: Ints

    @classmethod
    def of(cls, positive: Bools, groups: npt.NDArray[Any]) -> LabelPairs:
        """The pairs of rows with labels ``(N,)`` and groups ``(N,)``."""
        names, group = np.unique(groups, return_inverse=True)
        size = np.bincount(group, minlength=len(names))
        positives = np.bincount(group[positive], minlength=len(names))
        both = (positives > 0) & (positives < size)
        rows = np.flatnonzero(both[group])
        number = np.cumsum(both) - 1
        key = (2 * number[group[rows]] + positive[rows]).astype(np.uint64)
        return cls(rows, key, size[both], positives[both])

    def auc(self, scores: Reals) -> Floats:
        """Share of the pairs of each group in the right order, ties half, ``(G,)``.

        Exact, from counts of integers, and independent of the order of the rows. With rows sorted by group, score and
        label, a positive's position in its group less the positives before it is the number of negatives that it
        beats or ties; half of the tied pairs is subtracted.
        """
        keys = self._sorted_keys(scores[self.rows])
        position = np.flatnonzero(keys & np.uint64(1))
        end = np.cumsum(self.positives)
        start = np.cumsum(self.size) - self.size
        # Every group has a positive, so no segment is empty: reduceat would return an element for it.
        below = np.add.reduceat(position, end - self.positives) - self.positives * start
        twice_right = 2 * below - self.positives * (self.positives - 1) - self._tied_pairs(keys, start)
        return np.asarray(twice_right / (2 * self.positives * (self.size - self.positives)))

    def _sorted_keys(self, scores: Reals) -> npt.NDArray[np.uint64]:
        """Group, score and label in an integer each, sorted; the label is the lowest bit.

        Float32 scores fit as they are; others are replaced by their rank among all scores.
        """
        group, label = self.key >> np.uint64(1), self.key & np.uint64(1)
        # Sorting one integer per row replaces an indirect sort by three keys.
        if scores.dtype == np.float32 and len(self.size) < 1 << 31:
            level = ordered_bits(scores.astype(np.float32, copy=False))
        else:
            level = np.unique(scores, return_inverse=True)[1].astype(np.uint32)
        # 31 bits of group, 32 of score, 1 of label.
        keys: npt.NDArray[np.uint64] = (group << np.uint64(33)) | (level.astype(np.uint64) << np.uint64(1)) | label
        keys.sort()
        return keys

    def _tied_pairs(self, keys: npt.NDArray[np.uint64], start: Ints) -> Ints:
        """(Positive, negative) pairs of equal score in each group, ``(G,)``."""
        out = np.zeros(len(start), dtype=np.int64)
        turn = np.flatnonzero(((keys[1:] ^ keys[:-1]) == 1) & (keys[1:] > keys[:-1])) + 1
        if len(turn):  # the first positive of a run of equal scores that begins with negatives
            level = keys >> np.uint64(1)
            first, last = (np.searchsorted(level, level[turn], side) for side in ("left", "right"))
            np.add.at(out, np.searchsorted(start, turn, "right") - 1, (turn - first) * (last - turn))
        return out


@final
@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of a task whose label is known: the same for all models.

    Attributes:
        task: its name.
        kind: of its labels.
        labels: 0 and 1, or numbers, standardised as in training, ``(N,)``.
        users: user of each row, ``(N,)``.
        unit: how much a label that is larger by 1 is in the task's own unit.
        rows: the rows among all rows of the part.
    """

    task: str
    kind: TaskKind
    labels: Reals
    users: npt.NDArray[Any]
    unit: float
    rows: Ints | slice

    @classmethod
    def of(
        cls, labels: Reals, users: npt.NDArray[Any], *, task: str = "", kind: TaskKind = "binary", unit: float = 1.0
    ) -> TaskRows:
        """The known rows of a part.

        Args:
            labels: NaN = unknown, ``(N',)``.
            users: ``(N',)``.
            task, kind, unit: see `TaskRows`.
        Raises:
            DataError: shapes differ, a label of a binary task is not 0 or 1, or no label is known.
        """
        known = np.flatnonzero(labels == labels)  # NaN differs from itself
        if labels.shape != users.shape or len(known) == 0:
            raise DataError(
                f"expected a label and a user per row, got {labels.shape}, {users.shape}, {len(known)} known."
            )
        # A slice where all rows are known: indexing then gives views instead of copies.
        rows: Ints | slice = slice(None) if len(known) == len(labels) else known
        if kind == "binary":
            check_binary(labels[rows])
        return cls(task, kind, labels[rows], users[rows], unit, rows)

    @property
    def quantile(self) -> float:
        """The quantile that the task predicts."""
        assert isinstance(self.kind, QuantileKind)
        return self.kind.quantile

    @cached_property
    def pairs(self) -> LabelPairs:
        """Of all rows."""
        return LabelPairs.of(self.labels == 1, np.zeros(len(self.labels), dtype=np.int64))

    @cached_property
    def pairs_of_users(self) -> LabelPairs:
        """Of each user's rows."""
        return LabelPairs.of(self.labels == 1, self.users)


@final
@dataclass(frozen=True, eq=False)
class TaskPredictions:
    """Predictions of a model for the rows of a task.

    Attributes:
        scores: logits of a binary task, else predicted numbers on the scale of the labels, ``(N,)``.
        data: the rows.
    """

    scores: Reals
    data: TaskRows

    @property
    def predictions(self) -> Reals:
        """The scores, of a task whose labels are numbers."""
        return self.scores


def check_binary(labels: npt.NDArray[Any]) -> Bools:
    """Which labels ``(N,)`` are 1.

    Raises:
        DataError: a label is not 0 or 1.
    """
    bad = (labels != 0) & (labels != 1)
    if bad.any():
        raise DataError(
            f"labels must be 0 or 1, got {labels[bad][0]} in row {int(np.flatnonzero(bad)[0])}; drop missing labels "
            "first."
        )
    return np.asarray(labels == 1)
