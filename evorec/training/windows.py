"""Batches of sequences: every position of a window of a user's positives has the next positive as its target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from heapq import heappush, heapreplace
from typing import final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.dataset import Dataset
from evorec.errors import ConfigError
from evorec.seeds import generator

Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class WindowBatch:
    """The windows of a step: N positions side by side, of which Br have a target in this step.

    Attributes:
        items: of the positions, ``(N,)``, window by window in the order of time.
        lengths: positions of each window, ``(S,)``.
        order: distance of each position from the end of its whole window, ``(N,)``.
        target_of: positions with a target, ``(Br,)``.
        users, targets: of these, ``(Br,)``.
    """

    items: Ints
    lengths: Ints
    order: Ints
    target_of: Ints
    users: Ints
    targets: Ints

    @cached_property
    def grid(self) -> tuple[Ints, Ints]:
        """Cell of each position, ``(N,)``, and window of each cell, ``(rows, L)``, -1 = padding; L is the longest.

        A row takes several short windows: on most data few windows are long, and attention over a row costs ``L^2``.
        """
        length = int(self.lengths.max())
        starts, rows = np.zeros(len(self.lengths), dtype=np.int64), list[tuple[int, int]]()
        for window in np.argsort(-self.lengths, kind="stable").tolist():  # the longest first, into the emptiest row
            own, (used, row) = int(self.lengths[window]), rows[0] if rows else (length, 0)
            if used + own > length:
                used, row = 0, len(rows)
                heappush(rows, (own, row))
            else:
                heapreplace(rows, (used + own, row))
            starts[window] = row * length + used
        number = np.arange(len(self.items)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        cell = np.repeat(starts, self.lengths) + number
        owner = np.full(len(rows) * length, -1)
        owner[cell] = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return cell, owner.reshape(-1, length)


@final
class Windows:
    """All windows of the training rows, in shuffled epochs that are cut into batches of equally many targets.

    A user's positives, each item at its last time as in `Dataset.history_rows`, are cut from the end into windows of at
    most H targets; the position before a target is its input. Each positive but the first is a target once per epoch.
    A window at a batch's border is in both batches, with its targets divided.

    Args:
        dataset: the positives of ``dataset.train``.
        size: targets of a batch, at most.
        seed: run seed; streams are keyed by epoch and step.
    Raises:
        ConfigError: no user has two positives.
    """

    def __init__(self, dataset: Dataset, *, size: int, seed: int) -> None:
        self._seed, part, length = seed, dataset.train, dataset.history_rows.shape[1]
        liked = np.flatnonzero(part.target > 0)
        rows = liked[np.lexsort((liked, part.time[liked], part.users[liked]))]
        pairs = part.users[rows] * (dataset.n_items + 1) + part.items[rows]
        rows = rows[pl.Series(pairs).is_last_distinct().to_numpy()]
        users, first, counts = np.unique(part.users[rows], return_index=True, return_counts=True)
        self._items, self._users = part.items[rows], part.users[rows]
        # Window k of a user with n + 1 positives has the targets n - (k + 1) H .. n - k H.
        n_windows = -(-(counts - 1) // length)
        user = np.repeat(np.arange(len(users)), n_windows)
        number = np.arange(len(user)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
        stop = counts[user] - 1 - number * length
        start = np.maximum(stop - length, 0)
        self._starts, self._lengths = first[user] + start, stop - start
        n_targets = int(self._lengths.sum())
        if not n_targets:
            raise ConfigError(
                f"encoder: a sequence needs a user with at least 2 positives of {dataset.target}, and no user has; "
                'use encoder = "bag".'
            )
        self.size = min(size, n_targets)
        self._per_epoch = n_targets // self.size
        self._epochs: dict[int, tuple[Ints, Ints]] = {}

    def __getitem__(self, step: int) -> WindowBatch:
        epoch, at = divmod(step, self._per_epoch)
        order, stops = self._epoch(epoch)
        lengths = self._lengths[order]
        low, high = at * self.size, (at + 1) * self.size
        own = slice(np.searchsorted(stops, low, side="right"), np.searchsorted(stops - lengths, high))
        whole, begins = lengths[own], (stops - lengths)[own]
        used = np.minimum(whole, high - begins)
        number = np.arange(used.sum()) - np.repeat(np.cumsum(used) - used, used)
        position = np.repeat(self._starts[order[own]], used) + number
        target_of = np.flatnonzero(np.repeat(begins, used) + number >= low)
        # Members with few negatives use the first targets as such: those of many users instead of a few.
        target_of = generator(self._seed, "targets", step).permutation(target_of)
        return WindowBatch(
            items=self._items[position],
            lengths=used,
            order=np.repeat(whole, used) - 1 - number,
            target_of=target_of,
            users=self._users[position[target_of]],
            targets=self._items[position[target_of] + 1],
        )

    def _epoch(self, epoch: int) -> tuple[Ints, Ints]:
        """The windows in the order of an epoch, and the number of targets up to and including each."""
        found = self._epochs.get(epoch)
        if found is None:
            order = generator(self._seed, "sequences", epoch).permutation(len(self._lengths))
            found = order, np.cumsum(self._lengths[order])
            # The neighbours are kept: threads that share the plan may be on both sides of an epoch's end.
            self._epochs = {**{e: own for e, own in self._epochs.items() if abs(e - epoch) == 1}, epoch: found}
        return found
