"""The batch stream that all members share.

Because everybody sees the same rows, the unique users, items, contexts and embedding rows of a step are found once
per run and not once per member. A plan depends on the data, the training settings and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from evorec.config import TrainConfig
from evorec.data.dataset import Dataset, Part
from evorec.models.population import Bag, InputShape
from evorec.seeds import generator
from evorec.training.cost import StepWork

Ints = np.ndarray


@final
@dataclass(frozen=True)
class DeviceData:
    """The tensors of a data set that training and measuring read, on one device.

    Attributes:
        users, items: bags into the whole table; the last user and item are the unknown ones.
        history: bags of each user's past positives, as they stand at the end of training.
        user_statistics: ``[U + 1, su]``, as they stand at the end of training.
        item_statistics: ``[I + 1, si]``.
    """

    users: Bag
    items: Bag
    history: Bag
    user_statistics: Tensor
    item_statistics: Tensor
    shape: InputShape
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, dataset: Dataset, *, n_layers: int, device: torch.device, dtype: torch.dtype) -> DeviceData:
        """Moves a data set to `device`."""

        def real(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        def ints(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=torch.long, device=device)

        weights = history_weights(dataset.history_rows, dataset.history_recency)
        content = real(dataset.item_content) if dataset.item_content.shape[1] else None
        shape = InputShape(
            n_rows=dataset.n_rows,
            n_content=dataset.item_content.shape[1],
            n_dense=dataset.user_statistics.shape[1] + dataset.item_statistics.shape[1],
            n_tasks=len(dataset.tasks),
            n_layers=n_layers,
        )
        return cls(
            users=Bag(ints(dataset.user_rows), real(dataset.user_weights)),
            items=Bag(ints(dataset.item_rows), real(dataset.item_weights), content),
            history=Bag(ints(dataset.history_rows), real(weights)),
            user_statistics=real(dataset.user_statistics),
            item_statistics=real(dataset.item_statistics),
            shape=shape,
            device=device,
            dtype=dtype,
        )

    def context_bag(self, contexts: Tensor) -> Bag:
        """Bag of contexts ``[m, Fc]`` (embedding rows, each of weight 1)."""
        return Bag(contexts, torch.ones(contexts.shape, dtype=self.dtype, device=self.device))


@final
@dataclass(frozen=True)
class Step:
    """One step of the stream; B rows for the ranker, then Br target positives for retrieval.

    Attributes:
        rows: ``[n]`` unique embedding rows.
        users, items, contexts: bags whose rows point into `rows`; one entry per unique entity.
        history: ``[Br]`` bags of the positives' users: the positives before it, or all without the item itself.
        user_of, item_of: ``[B + Br]`` positions in `users` and `items`.
        context_of: ``[B]``.
        statistics: ``[B, n_dense]``.
        labels, labelled: ``[T, B]``; n_labelled: ``[T]``.
        no_negative: bool ``[Br, Br]``, true off the diagonal where column b' holds a training positive of row b's user.
        n_history_rows: how many of `rows` belong to histories alone.
    """

    rows: Tensor
    users: Bag
    items: Bag
    contexts: Bag
    history: Bag
    user_of: Tensor
    item_of: Tensor
    context_of: Tensor
    statistics: Tensor
    labels: Tensor
    labelled: Tensor
    n_labelled: Tensor
    no_negative: Tensor
    n_history_rows: int

    @property
    def batch_size(self) -> int:
        """B, rows of the ranker's batch."""
        return int(self.labels.shape[1])


@final
@dataclass(frozen=True)
class PositiveOrder:
    """Target positives in the order of their users and times; equal times stand in file order.

    Attributes:
        rows: ``(M,)`` row numbers, in that order.
        place: ``(N,)`` place of a row in `rows`.
        first: ``(M,)`` place of the same user's first positive.
    """

    rows: Ints
    place: Ints
    first: Ints

    @classmethod
    def of(cls, part: Part, positives: Ints) -> PositiveOrder:
        """Of the rows `positives` of a part."""
        rows = positives[np.lexsort((positives, part.time[positives], part.users[positives]))]
        place = np.zeros(part.n_rows, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        users = part.users[rows]
        return cls(rows, place, np.searchsorted(users, users))

    def before(self, positives: Ints, length: int) -> Ints:
        """Rows of the `length` positives before each of the given ones, latest first, -1 = none; ``(m, length)``."""
        place = self.place[positives][:, None]
        at = place - 1 - np.arange(length)
        return np.where(at >= self.first[place], self.rows[at], -1)


@final
class BatchPlan:
    """All steps of a training: which rows, in which order.

    Args:
        dataset: the rows of ``dataset.train`` are drawn.
        config: steps and batch sizes.
        seed: run seed; streams are keyed by epoch.
        data: the same data set on the device.
    """

    def __init__(self, dataset: Dataset, config: TrainConfig, *, seed: int, data: DeviceData) -> None:
        self._part = dataset.train
        self._data = data
        self._arrays = (dataset.user_rows, dataset.item_rows)
        self._history, self._history_row = dataset.history_rows, dataset.item_history_row
        self._recency, self._known = dataset.history_recency, dataset.history
        positives = np.flatnonzero(self._part.target > 0)
        self._order = PositiveOrder.of(self._part, positives) if config.next_item else None
        self.batch_size = min(config.batch_size, len(self._part.users))
        self.retrieval_batch = min(config.retrieval_batch, len(positives))
        self._batches = list(_batches(np.arange(len(self._part.users)), self.batch_size, config.steps, seed, "batches"))
        self._positives = list(_batches(positives, self.retrieval_batch, config.steps, seed, "positives"))
        self._steps: list[Step | None] = [None] * config.steps
        self._work: StepWork | None = None

    def __len__(self) -> int:
        return len(self._steps)

    def step(self, index: int) -> Step:
        """Step `index`, built at the first call and kept; calls from several threads are safe and agree."""
        step = self._steps[index]
        if step is None:
            step = self._steps[index] = self._build(self._batches[index], self._positives[index])
        return step

    def work(self) -> StepWork:
        """Sizes of an average step, for counting cost; builds all steps."""
        if self._work is None:
            steps = [self.step(i) for i in range(len(self))]
            mean = {
                "rows": [len(s.rows) - s.n_history_rows for s in steps],
                "history_rows": [s.n_history_rows for s in steps],
                "bag_entries": [
                    sum(int((b.weights != 0).sum()) for b in (s.users, s.items, s.contexts)) for s in steps
                ],
                "history_entries": [int((s.history.weights != 0).sum()) for s in steps],
                "items": [len(s.items.rows) for s in steps],
            }
            averages = {name: float(np.mean(values)) for name, values in mean.items()}
            self._work = StepWork(batch=self.batch_size, positives=self.retrieval_batch, **averages)
        return self._work

    def _build(self, batch: Ints, positives: Ints) -> Step:
        part, data = self._part, self._data
        both = np.concatenate([batch, positives])
        users, user_of = np.unique(part.users[both], return_inverse=True)
        items, item_of = np.unique(part.items[both], return_inverse=True)
        contexts, context_of = np.unique(part.context[batch], axis=0, return_inverse=True)
        user_rows, item_rows = (array[ids] for array, ids in zip(self._arrays, (users, items), strict=True))
        if self._order is None:
            history = self._history[part.users[positives]]
        else:
            before = self._order.before(positives, self._history.shape[1])
            history = self._history_row[np.where(before < 0, -1, part.items[before])]
        history = np.where(history == self._history_row[part.items[positives]][:, None], 0, history)
        present = np.zeros(data.shape.n_rows, dtype=bool)
        for rows in (user_rows, item_rows, contexts, history):
            present[rows] = True
        position = np.cumsum(present) - 1
        labels = part.labels[batch].T
        labelled = ~np.isnan(labels)
        user_index, item_index = self._ints(users), self._ints(items)
        content = None if data.items.content is None else data.items.content[item_index]
        return Step(
            rows=self._ints(np.flatnonzero(present)),
            users=Bag(self._ints(position[user_rows]), data.users.weights[user_index]),
            items=Bag(self._ints(position[item_rows]), data.items.weights[item_index], content),
            contexts=data.context_bag(self._ints(position[contexts])),
            history=Bag(self._ints(position[history]), self._reals(history_weights(history, self._recency))),
            user_of=self._ints(user_of),
            item_of=self._ints(item_of),
            context_of=self._ints(context_of.reshape(-1)),
            statistics=self._reals(part.statistics[batch]),
            labels=self._reals(np.nan_to_num(labels, nan=0.0)),
            labelled=self._reals(labelled),
            n_labelled=self._reals(np.maximum(labelled.sum(1), 1)),
            no_negative=torch.from_numpy(self._positive_pairs(positives)).to(data.device),
            n_history_rows=int(np.count_nonzero(np.unique(history))),
        )

    def _positive_pairs(self, positives: Ints) -> np.ndarray:
        """Whether column b' holds a training positive of row b's user, off the diagonal; bool ``(Br, Br)``."""
        items, column = np.unique(self._part.items[positives], return_inverse=True)
        place = np.full(len(self._history_row), -1)
        place[items] = np.arange(len(items))
        own = self._known.select(self._part.users[positives])
        row, at = np.repeat(np.arange(len(positives)), own.counts()), place[own.indices]
        pairs = np.zeros((len(positives), len(items)), dtype=bool)
        pairs[row[at >= 0], at[at >= 0]] = True
        out = pairs[:, column]
        np.fill_diagonal(out, False)
        return out

    def _ints(self, array: Ints) -> Tensor:
        return torch.tensor(array, dtype=torch.long, device=self._data.device)

    def _reals(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=self._data.dtype, device=self._data.device)


def _batches(pool: Ints, size: int, steps: int, seed: int, purpose: str) -> Iterator[Ints]:
    """`steps` batches of `size` rows: shuffled epochs, the rest of an epoch that fills no batch left out."""
    epoch, order, at = 0, generator(seed, purpose, 0).permutation(pool), 0
    for _ in range(steps):
        if at + size > len(order):
            epoch, at = epoch + 1, 0
            order = generator(seed, purpose, epoch).permutation(pool)
        yield order[at : at + size]
        at += size


def history_weights(rows: Ints, recency: float = 0.0) -> np.ndarray:
    """Weights of history bags: ``w_j / sqrt(sum of w + 1)`` with ``w_j = (1 + j) ** -recency``, 0 for padding (row 0).

    Between a sum, which lets long histories shout, and a mean, which forgets how sure they are.

    Args:
        rows: int64 ``(m, H)``, latest first: column j is j places back.
        recency: 0 = all items weigh alike.
    Example:
        >>> history_weights(np.array([[5, 0, 6, 7]]))
        array([[0.5, 0. , 0.5, 0.5]])
    """
    real = (rows > 0) * np.arange(1.0, rows.shape[1] + 1) ** -recency
    return np.asarray(real / np.sqrt(real.sum(1, keepdims=True) + 1))
