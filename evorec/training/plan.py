"""The batch stream that all members share.

Because all members see the same rows, the unique users, items, contexts and embedding rows of a step are found once
per run and not once per member. A plan depends on the data, the training settings and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.config import TrainConfig
from evorec.data.dataset import Dataset, Part
from evorec.data.histories import history_weights
from evorec.models.blocks import absent_blocks, input_blocks
from evorec.models.devices import to_device
from evorec.models.encoder import Sequences
from evorec.models.input_shape import InputShape
from evorec.models.losses import NumberTasks, TaskTargets
from evorec.models.negative_scores import Cells
from evorec.models.population import Bag, plain_factor
from evorec.models.pretrained import PretrainedVectors
from evorec.models.target_attention import RowPasts
from evorec.seeds import generator
from evorec.training.cost import StepWork, mean_work
from evorec.training.windows import WindowBatch, Windows

Ints = np.ndarray

KEPT_BYTES = 2**30
"""Most memory for steps that are kept for the next stacks."""
SAMPLED_STEPS = 64
"""Steps whose sizes are averaged for counting cost; sizes vary by a few percent between steps."""


@final
@dataclass(frozen=True)
class DeviceData:
    """The tensors of a data set that training and measuring read, on the same device.

    Attributes:
        users, items: bags into the whole table; the last user and the last item are the unknown user and item.
        history: bags of each user's past positives at the end of training.
        user_statistics: ``[U + 1, su]``, at the end of training.
        item_statistics: ``[I + 1, si]``.
        pretrained: vectors from which items' rows may start, or ``None``.
    """

    users: Bag
    items: Bag
    history: Bag
    user_statistics: Tensor
    item_statistics: Tensor
    shape: InputShape
    device: torch.device
    dtype: torch.dtype
    pretrained: PretrainedVectors | None = None

    @classmethod
    def of(cls, dataset: Dataset, *, n_layers: int, device: torch.device, dtype: torch.dtype) -> DeviceData:
        """Moves a data set to `device`."""

        def real(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        def ints(array: np.ndarray) -> Tensor:
            return torch.tensor(array, dtype=torch.long, device=device)

        weights = history_weights(dataset.history_rows, dataset.history_recency)
        content = real(dataset.item_content) if dataset.item_content.shape[1] else None
        sides = (dataset.user_fields, dataset.item_fields)  # without fields where rows have no users and items
        shape = InputShape(
            n_rows=dataset.n_rows,
            n_content=dataset.item_content.shape[1],
            n_dense=dataset.user_statistics.shape[1] + dataset.item_statistics.shape[1],
            n_tasks=len(dataset.tasks),
            n_layers=n_layers,
            n_items=dataset.n_items,
            parents=dataset.parents,
            blocks=input_blocks(dataset),
            signs=dataset.signs,
            absent=absent_blocks(dataset),
            numbers=tuple(task for task, kind in enumerate(dataset.kinds) if kind != "binary"),
            n_past=dataset.history_rows.shape[1],
            id_rows=tuple((own[0].first_row, own[0].n_rows) for own in sides if own),
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
            pretrained=PretrainedVectors.of(dataset),
        )

    def context_bag(self, contexts: Tensor) -> Bag:
        """Bag of contexts ``[m, Fc]`` (embedding rows, each of weight 1)."""
        return Bag(contexts, torch.ones(contexts.shape, dtype=self.dtype, device=self.device))

    def row_contexts(self, part: Part, some: slice) -> Bag:
        """Bag of the contexts of some rows of a part."""
        contexts = torch.tensor(part.context[some], device=self.device)
        if part.context_weights is None:
            return self.context_bag(contexts)
        return Bag(contexts, torch.tensor(part.context_weights[some], dtype=self.dtype, device=self.device))


@final
@dataclass(frozen=True)
class Sums:
    """Many weighted sums of rows: sum m adds rows ``index[offset[m]:offset[m + 1]]``, each times its weight.

    Attributes:
        index: ``[entries]`` row numbers.
        offset: ``[m + 1]``.
        weight: ``[entries]``.
    """

    index: Tensor
    offset: Tensor
    weight: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """The sums ``[m, C]`` of `rows` ``[n, C]``."""
        # No bag has a row: contexts, for example, in data without context features.
        if len(self.index) == 0:
            return rows.new_zeros(len(self.offset) - 1, rows.shape[1])
        return F.embedding_bag(
            self.index, rows, self.offset, per_sample_weights=self.weight, mode="sum", include_last_offset=True
        )


@final
@dataclass(frozen=True)
class StepSequences:
    """The sequences of a step, for members with a sequence encoder.

    Attributes:
        sequences: the N positions.
        item_of: ``[N]`` indices in the items of the step.
        target_of: ``[Br]`` positions whose next item is a positive of the step.
    """

    sequences: Sequences
    item_of: Tensor
    target_of: Tensor


@final
@dataclass(frozen=True)
class Step:
    """A step of the stream: B rows for the ranker, then Br target positives for retrieval.

    Attributes:
        rows: ``[n]`` unique embedding rows.
        users, items, contexts: sums over `rows`, for each of the mu, mi and mc unique entities.
        content: ``[mi, D]`` content vectors of `items` or ``None``.
        history: ``[Br]`` sums of the positives' users: the positives before it, or all without the item itself; none
            with `sequences`.
        back: the transpose of users, items and contexts together: gradients ``[mu + mi + mc, C]`` to `rows`.
        history_back: the transpose of `history`.
        user_of, item_of: ``[B + Br]`` indices in `users` and `items`.
        context_of: ``[B]``.
        uniform_of: ``[Un]`` indices in `items` of the items drawn uniformly.
        statistics: ``[B, n_dense]``.
        targets: of the ranker.
        has_label: bool ``[T]``.
        no_negative: cells ``[Br, Br]`` where column b' holds a training positive of row b's user, the diagonal among
            them.
        no_uniform: ``[Br, Un]``, likewise for the items drawn uniformly.
        work: sizes for counting cost.
        pasts: past positives of the ranker's rows; ``None`` = the plan has none.
        spans: for each block that has rows (`InputShape.row_blocks`), which of `rows` are its own.
        condition: further numbers of the step, ``[K]``, which networks (`evorec.models.forward.ForwardPass`) and
            balancing rules (`evorec.models.balancing.StepLosses`) may read, such as a preference over the losses;
            ``None`` = there are none.
        sequences: what comes before each positive, in order; ``None`` = bags (`history`).
        history_age: ``[entries]`` steps back of each entry of `history`; history_order: its index for each entry of
            `history_back`.
        id_spans: which of `rows` are ids of users, and of items.
        unknown_ids: indices in `rows` of the rows of unknown ids.
        dropped: rate of `evorec.training.id_dropout` -> indices in `rows` of the ids that it drops in this step.
        graph: of members with graph layers; ``None`` = these have none.
    """

    rows: Tensor
    users: Sums
    items: Sums
    contexts: Sums
    content: Tensor | None
    history: Sums
    back: Sums
    history_back: Sums
    user_of: Tensor
    item_of: Tensor
    context_of: Tensor
    uniform_of: Tensor
    statistics: Tensor
    targets: TaskTargets
    has_label: Tensor
    no_negative: Cells
    no_uniform: Cells
    work: StepWork
    pasts: RowPasts | None = None
    spans: tuple[slice, ...] = ()
    condition: Tensor | None = None
    sequences: StepSequences | None = None
    history_age: Tensor | None = None
    history_order: Tensor | None = None
    id_spans: tuple[slice, ...] = ()
    unknown_ids: tuple[int, ...] = ()
    dropped: Mapping[float, Tensor] = field(default_factory=dict)
    graph: GraphRows | None = None

    @property
    def batch_size(self) -> int:
        """B, rows of the ranker's batch."""
        return len(self.statistics)

    def decayed_history(self, decay: float) -> tuple[Sums, Sums]:
        """`history` and `history_back` with the weights of `evorec.models.population.decayed`."""
        assert self.history_age is not None
        assert self.history_order is not None
        past, back = self.history, self.history_back
        n, entries = len(past.offset) - 1, len(past.index)
        bag = torch.repeat_interleave(past.offset.diff(), output_size=entries)

        def sums(weights: Tensor) -> Tensor:
            return weights.new_zeros(n).index_add_(0, bag, weights)

        plain = past.weight * plain_factor(sums(past.weight))[bag] * decay**self.history_age
        weights = plain / (sums(plain) + 1).sqrt()[bag]
        return replace(past, weight=weights), replace(back, weight=weights[self.history_order])


@final
@dataclass(frozen=True)
class GraphRows:
    """The rows that members with graph layers (`evorec.training.smoothing`) read and update in a step.

    Attributes:
        rows: ``[N + m]``, the N nodes, then the rows of the step that are no nodes.
        slots: ``[n]`` index in `rows` of each row of the step.
        n_nodes: N.
        neighbours: sums over the neighbours of each node.
    """

    rows: Tensor
    slots: Tensor
    n_nodes: int
    neighbours: Sums


@final
@dataclass(frozen=True)
class PositiveGraph:
    """Users and items with a training target positive, joined by their positives.

    Attributes:
        rows: ``[N]`` id rows of the nodes, ascending.
        neighbours: ``[N]`` sums over the neighbours of each node, weighted by ``1 / sqrt(degree degree')``.
        node_of: ``[R]`` index in `rows` of each row of the table, -1 = no node.
    """

    rows: Tensor
    neighbours: Sums
    node_of: Tensor

    def of_step(self, rows: Tensor) -> GraphRows:
        """The rows of a step, ``[n]``, among those of the graph."""
        nodes = self.node_of.index_select(0, rows)
        other, n = nodes < 0, len(self.rows)
        slots = torch.where(other, n - 1 + torch.cumsum(other, 0), nodes)
        # On a GPU the host waits here for the number of other rows.
        return GraphRows(torch.cat([self.rows, rows[other]]), slots, n, self.neighbours)


def n_bytes(value: object) -> int:
    """Memory of all arrays of a step, or of a part of it."""
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(n_bytes(getattr(value, part.name)) for part in fields(value))
    return 0


@final
@dataclass(frozen=True)
class PositiveOrder:
    """Target positives ordered by user and time; equal times keep the order of the file.

    Attributes:
        rows: ``(M,)`` row numbers, in that order.
        index: ``(N,)`` index of a row in `rows`.
        first: ``(M,)`` index of the same user's first positive.
    """

    rows: Ints
    index: Ints
    first: Ints

    @classmethod
    def of(cls, part: Part, positives: Ints) -> PositiveOrder:
        """Of the rows `positives` of a part."""
        rows = positives[np.lexsort((positives, part.time[positives], part.users[positives]))]
        index = np.zeros(part.n_rows, dtype=np.int64)
        index[rows] = np.arange(len(rows))
        users = part.users[rows]
        return cls(rows, index, np.searchsorted(users, users))

    def before(self, positives: Ints, length: int) -> Ints:
        """Rows of the `length` positives before each given positive, latest first, -1 = none; ``(m, length)``."""
        index = self.index[positives][:, None]
        # May be negative, but stays inside `rows`: `length` is at most the number of positives of some user.
        earlier = index - 1 - np.arange(length)
        return np.where(earlier >= self.first[index], self.rows[earlier], -1)


@final
class EarlierPositives:
    """The past of every training row: positives of its user at strictly earlier times, so a row is not in its own past.

    Without times, all positives of the user but those of the row's own item.

    Args:
        dataset: its training rows, `history_rows` and `item_history_row`.
        order: of its positives by user and time; read where there are times.
    """

    def __init__(self, dataset: Dataset, order: PositiveOrder) -> None:
        self._part, self._history, self._history_row = dataset.train, dataset.history_rows, dataset.item_history_row
        self._rows, self._times = order.rows, dataset.times != "none"
        if self._times:
            moment = np.unique(self._part.time, return_inverse=True)[1]
            n = int(moment.max(initial=0)) + 1
            code, users = self._part.users * n + moment, self._part.users * n
            self._first, self._stop = (np.searchsorted(code[order.rows], these) for these in (users, code))

    def of(self, batch: Ints) -> Ints:
        """Embedding rows of the past of some rows, latest first, 0 = none; ``(B, H)``."""
        if not self._times:
            history = self._history[self._part.users[batch]]
            return np.where(history == self._history_row[self._part.items[batch]][:, None], 0, history)
        at = self._stop[batch][:, None] - 1 - np.arange(self._history.shape[1])
        # May be negative, but stays inside: the length is at most the number of positives of some user.
        items = np.where(at >= self._first[batch][:, None], self._part.items[self._rows[at]], -1)
        return self._history_row[items]  # item -1 is the unknown item, whose row is 0, the padding


@final
class BatchPlan:
    """All steps of a training: which rows, in which order. It depends on data, settings and seed alone.

    Args:
        dataset: the rows of ``dataset.train`` are drawn.
        config: steps and batch sizes.
        seed: run seed; streams are keyed by epoch.
        data: the same data set on the device.
        pasts: whether steps have the past positives of the ranker's rows. Their rows are then rows of the step, for
            all members.
        kept_bytes: memory for steps that are kept for the next stack; it changes no step.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        *,
        seed: int,
        data: DeviceData,
        pasts: bool = False,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._part, self._data, self._seed = dataset.train, data, seed
        self._users = (dataset.user_rows, dataset.user_weights)
        self._items = (dataset.item_rows, dataset.item_weights)
        self._history, self._history_row = dataset.history_rows, dataset.item_history_row
        self._recency, self._known = dataset.history_recency, dataset.history
        self._numbers = NumberTasks.of(dataset.kinds, data.device, data.dtype)
        self._dataset, self._retrieval_batch = dataset, config.retrieval_batch
        positives = np.flatnonzero(self._part.target > 0)
        is_ordered = config.next_item and dataset.times != "none"
        self._order = PositiveOrder.of(self._part, positives) if is_ordered else None
        self._earlier: EarlierPositives | None = None
        if pasts and dataset.tasks:
            self._earlier = EarlierPositives(dataset, self._order or PositiveOrder.of(self._part, positives))
        self._n_items, self._n_steps = dataset.n_items, config.steps
        self._n_uniform = config.uniform_negatives if dataset.has_items else 0
        ranked = np.arange(self._part.n_rows if dataset.tasks else 0)
        self._batches = _Batches(ranked, config.batch_size, seed, "batches")
        self._positives = _Batches(positives, config.retrieval_batch, seed, "positives")
        # Ids and histories are in no block: the last number.
        self._block_of = np.full(data.shape.n_rows, len(data.shape.row_blocks))
        for index, block in enumerate(data.shape.row_blocks):
            self._block_of[block.first : block.first + block.size] = index
        # Ids with a positive, the nodes of the graph, are counted apart.
        ids = (dataset.user_rows[:-1, :1], dataset.history.counts()[:-1] > 0)
        of_items = (dataset.item_rows[:-1, :1], dataset.target_counts > 0)
        self._node_rows = np.concatenate([rows[positive].reshape(-1) for rows, positive in (ids, of_items)])
        self._block_of[self._node_rows] = len(data.shape.row_blocks) + 1
        self._kept: dict[tuple[int, bool], Step] = {}
        self._kept_bytes, self._most_kept = 0, kept_bytes
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which belongs to the process, and without the steps, which are built again."""
        state = self.__dict__ | {"_kept": {}, "_kept_bytes": 0}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=Lock())

    @property
    def batch_size(self) -> int:
        """B, rows of the ranker's batch."""
        return self._batches.size

    @property
    def retrieval_batch(self) -> int:
        """Br, target positives of a batch."""
        return self._positives.size

    def __len__(self) -> int:
        return self._n_steps

    def step(self, index: int, *, sequences: bool = False) -> Step:
        """Step `index`; kept for the next stack while all kept steps fit their memory, else built again.

        Args:
            index: from 0.
            sequences: whether the positives are the targets of sequences, for members with a sequence encoder. The
                rows of the ranker are the same.
        """
        step = self._kept.get((index, sequences))
        if step is None:
            # Outside of the lock: threads that build the same step twice build equal steps.
            step = self._build(index, self._windows[index] if sequences else None)
            with self._lock:
                if (index, sequences) not in self._kept and self._kept_bytes + n_bytes(step) <= self._most_kept:
                    self._kept[index, sequences] = step
                    self._kept_bytes += n_bytes(step)
        return step

    @cached_property
    def graph(self) -> PositiveGraph:
        """Users and items joined by the target positives of training."""
        rows = np.sort(self._node_rows)
        node_of = np.full(self._data.shape.n_rows, -1)
        node_of[rows] = np.arange(len(rows))
        users = np.repeat(np.arange(self._known.n_rows), self._known.counts())
        user = node_of[self._users[0][users, 0]]
        item = node_of[self._items[0][self._known.indices, 0]]
        degree = np.bincount(np.concatenate([user, item]), minlength=len(rows))
        weight = 1 / np.sqrt(degree[user].astype(np.float64) * degree[item])
        into, out = np.concatenate([user, item]), np.concatenate([item, user])
        order = np.lexsort((out, into))
        offset = np.concatenate([[0], np.cumsum(degree)])
        neighbours = _Entries(out[order], np.concatenate([weight, weight])[order], offset)
        return PositiveGraph(self._ints(rows), self._sums(neighbours), self._ints(node_of))

    @cached_property
    def work(self) -> StepWork:
        """Sizes of an average step, for counting cost: the mean of at most `SAMPLED_STEPS` steps."""
        return self._mean_work(sequences=False)

    @cached_property
    def sequence_work(self) -> StepWork:
        """Sizes of an average step of members with a sequence encoder."""
        return self._mean_work(sequences=True)

    def _mean_work(self, *, sequences: bool) -> StepWork:
        n_sampled = min(len(self), SAMPLED_STEPS)
        steps = (self.step(i * len(self) // n_sampled, sequences=sequences) for i in range(n_sampled))
        return mean_work([step.work for step in steps])

    @cached_property
    def _windows(self) -> Windows:
        return Windows(self._dataset, size=self._retrieval_batch, seed=self._seed)

    def _build(self, index: int, windows: WindowBatch | None) -> Step:
        part, data = self._part, self._data
        batch = self._batches[index]
        # Drawn whether or not a member uses them: a step depends on no spec.
        drawn = generator(self._seed, "uniform negatives", index + 1)
        if windows is None:
            positives = self._positives[index]
            liked_by, liked, history = part.users[positives], part.items[positives], self._histories(positives)
            uniform, read = drawn.integers(0, self._n_items or 1, self._n_uniform), part.items[:0]
        else:
            liked_by, liked, history = windows.users, windows.targets, self._history[:0]
            # Without repetition: a catalogue that is not larger is taken whole.
            uniform, read = drawn.permutation(self._n_items)[: self._n_uniform], windows.items
        users, user_of = np.unique(np.concatenate([part.users[batch], liked_by]), return_inverse=True)
        all_items = np.concatenate([part.items[batch], liked, uniform, read])
        items, item_of = np.unique(all_items, return_inverse=True)
        n_both = len(batch) + len(liked)
        if part.context_weights is None:
            contexts, context_of = np.unique(part.context[batch], axis=0, return_inverse=True)
            context_weights = np.ones(contexts.shape)
        else:  # of rows with numbers hardly any two are alike
            contexts, context_of = part.context[batch], np.arange(len(batch))
            context_weights = part.context_weights[batch]
        bags = [_Entries.of(array[users] for array in self._users)]
        bags.append(_Entries.of(array[items] for array in self._items))
        bags.append(_Entries.of((contexts, context_weights)))
        past = _Entries.of((history, history_weights(history, self._recency)))
        earlier = None if self._earlier is None else self._earlier.of(batch)
        of_rows = [] if earlier is None else [_Entries.of((earlier, np.ones(earlier.shape) * (earlier > 0)))]
        rows, position = _unique_rows([*bags, past, *of_rows], data.shape.n_rows)
        labels = part.labels[batch].T
        labelled = ~np.isnan(labels)
        return Step(
            rows=self._ints(rows),
            users=self._sums(bags[0], position),
            items=self._sums(bags[1], position),
            contexts=self._sums(bags[2], position),
            content=None if data.items.content is None else data.items.content[self._ints(items)],
            history=self._sums(past, position),
            back=self._sums(_transposed(bags, position, len(rows))),
            history_back=self._sums(_transposed([past], position, len(rows))),
            user_of=self._ints(user_of),
            item_of=self._ints(item_of[:n_both]),
            # The shape of an inverse along an axis differs between versions of NumPy.
            context_of=self._ints(context_of.reshape(-1)),
            uniform_of=self._ints(item_of[n_both : n_both + len(uniform)]),
            statistics=self._reals(part.statistics[batch]),
            # A missing label is 0 with weight 0: NaN times 0 would be NaN.
            targets=TaskTargets.of(self._reals(np.nan_to_num(labels, nan=0.0)), self._reals(labelled), self._numbers),
            has_label=to_device(labelled.any(1), data.device),
            no_negative=self._wanted(liked_by, liked),
            no_uniform=self._wanted(liked_by, uniform),
            work=self._work_of(
                bags, past, np.unique(np.delete(item_of, slice(n_both, n_both + len(uniform)))), windows, of_rows
            ),
            pasts=None if earlier is None else self._row_pasts(earlier, position),
            spans=_spans(rows, [(block.first, block.size) for block in data.shape.row_blocks]),
            id_spans=_spans(rows, data.shape.id_rows),
            # The first row of an id is that of unknown ids (`evorec.data.features.id_block`).
            unknown_ids=tuple(np.flatnonzero(np.isin(rows, [first for first, _ in data.shape.id_rows])).tolist()),
            sequences=None if windows is None else self._sequences(windows, item_of[n_both + len(uniform) :]),
            **self._ages(history, past, position),
        )

    def _sequences(self, windows: WindowBatch, item_of: Ints) -> StepSequences:
        cell, owner = windows.grid
        sequences = Sequences(self._ints(cell), self._ints(owner), self._ints(windows.order))
        return StepSequences(sequences, self._ints(item_of), self._ints(windows.target_of))

    def _ages(self, history: Ints, past: _Entries, position: Ints) -> dict[str, Any]:
        """`Step.history_age` and `Step.history_order`."""
        age = np.broadcast_to(np.arange(history.shape[1]), history.shape)[history > 0]
        order = np.argsort(position[past.rows], kind="stable")
        return {"history_age": self._reals(age), "history_order": self._ints(order)}

    def _row_pasts(self, earlier: Ints, position: Ints) -> RowPasts:
        row_of, rank = np.nonzero(earlier)
        rows, past_of = np.unique(position[earlier[row_of, rank]], return_inverse=True)
        counts = np.bincount(row_of, minlength=len(earlier))
        return RowPasts(
            rows=self._ints(rows),
            row_of=self._ints(row_of),
            past_of=self._ints(past_of),
            rank=self._ints(rank),
            longest=int(rank.max(initial=0)) + 1,
            share=self._reals((counts + 1) ** -0.5),
        )

    def _work_of(
        self,
        bags: Sequence[_Entries],
        past: _Entries,
        own_items: Ints,
        windows: WindowBatch | None,
        of_rows: Sequence[_Entries],
    ) -> StepWork:
        """Sizes of a step.

        Args:
            bags: of users, items and contexts.
            past: of the positives' users.
            own_items: those of the batch's rows, without the items drawn uniformly.
            windows: of a step of sequences, or ``None``.
            of_rows: pasts of the batch's rows, if the plan has them.
        """
        users, items, contexts = bags
        own, n_blocks = items.select(own_items), len(self._data.shape.row_blocks)

        def by_block(rows: Ints) -> Ints:
            """Number of rows in each block, and in none."""
            return np.bincount(self._block_of[rows], minlength=n_blocks + 2)

        def unique(*of: _Entries) -> Ints:
            return by_block(_unique_rows(of, self._data.shape.n_rows)[0])

        rows = unique(users, own, contexts)
        past_rows = unique(users, own, contexts, *of_rows) - rows
        joint_rows = unique(users, own, contexts, past, *of_rows) - rows
        history_rows, uniform_rows = unique(users, own, contexts, past) - rows, unique(users, items, contexts) - rows
        entries = by_block(np.concatenate([users.rows, own.rows, contexts.rows]))
        uniform_entries = by_block(items.rows) - by_block(own.rows)
        return StepWork(
            batch=self.batch_size,
            positives=self.retrieval_batch if windows is None else len(windows.targets),
            rows=int(rows.sum()),
            history_rows=int(history_rows.sum()),
            bag_entries=int(entries.sum()),
            history_entries=len(past.rows),
            past_rows=int(past_rows.sum()),
            joint_rows=int(joint_rows.sum()),
            past_entries=sum(len(entries.rows) for entries in of_rows),
            items=len(own_items),
            uniform=self._n_uniform if windows is None else min(self._n_uniform, self._n_items),
            uniform_rows=int(uniform_rows.sum()),
            uniform_entries=int(uniform_entries.sum()),
            uniform_items=len(items.offset) - 1 - len(own_items),
            nodes=int(rows[-1]),
            uniform_nodes=int(uniform_rows[-1]),
            block_rows=tuple(rows[:n_blocks].tolist()),
            block_entries=tuple(entries[:n_blocks].tolist()),
            block_uniform_rows=tuple(uniform_rows[:n_blocks].tolist()),
            block_uniform_entries=tuple(uniform_entries[:n_blocks].tolist()),
            read=0.0 if windows is None else len(windows.items),
            pairs=0.0 if windows is None else float(windows.grid[1].size * windows.lengths.max()),
        )

    def _histories(self, positives: Ints) -> Ints:
        """Embedding rows of the past positives of each positive's user, 0 = none; ``(Br, H)``."""
        part = self._part
        if self._order is None:
            history = self._history[part.users[positives]]
        else:
            before = self._order.before(positives, self._history.shape[1])
            # Item -1 is the unknown item, whose row is 0, the padding.
            history = self._history_row[np.where(before < 0, -1, part.items[before])]
        # The item to be found must not be in the history that it is found from.
        return np.where(history == self._history_row[part.items[positives]][:, None], 0, history)

    def _wanted(self, users: Ints, columns: Ints) -> Cells:
        """Cells in which item j of the columns is a training positive of user b of the rows."""
        # By unique items, then copied: popular items are in many columns.
        items, column = np.unique(columns, return_inverse=True)
        found = np.full(self._n_items + 1, -1)
        found[items] = np.arange(len(items))
        own = self._known.select(users)
        row, at = np.repeat(np.arange(len(users)), own.counts()), found[own.indices]
        wanted = np.zeros((len(items), len(users)), dtype=bool)
        wanted[at[at >= 0], row[at >= 0]] = True
        return Cells.of(wanted[column].T, self._data.device)

    def _sums(self, entries: _Entries, position: Ints | None = None) -> Sums:
        index = entries.rows if position is None else position[entries.rows]
        return Sums(self._ints(index), self._ints(entries.offset), self._reals(entries.weights))

    def _ints(self, array: Ints) -> Tensor:
        return to_device(array, self._data.device, torch.long)

    def _reals(self, array: np.ndarray) -> Tensor:
        return to_device(array, self._data.device, self._data.dtype)


@final
@dataclass(frozen=True)
class _Entries:
    """The weighted rows of consecutive bags, without padding."""

    rows: Ints
    weights: np.ndarray
    offset: Ints

    @classmethod
    def of(cls, bags: Iterable[np.ndarray]) -> _Entries:
        """From rows and weights, both ``(m, F)``; weight 0 is padding."""
        rows, weights = bags
        real = weights != 0
        return cls(rows[real], weights[real], np.concatenate([[0], np.cumsum(real.sum(1))]))

    def select(self, bags: Ints) -> _Entries:
        """Some of the bags."""
        counts = np.diff(self.offset)
        chosen = np.zeros(len(counts), dtype=bool)
        chosen[bags] = True
        real = np.repeat(chosen, counts)
        return _Entries(self.rows[real], self.weights[real], np.concatenate([[0], np.cumsum(counts[chosen])]))


def _spans(rows: Ints, blocks: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Which of ascending `rows` belong to each block, given by its first row and its size."""
    starts, stops = (np.searchsorted(rows, [first + size * end for first, size in blocks]) for end in (0, 1))
    return tuple(slice(start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True))


def _unique_rows(bags: Iterable[_Entries], n_rows: int) -> tuple[Ints, Ints]:
    """The rows that any bag adds, ascending, and each row's index among them."""
    present = np.zeros(n_rows, dtype=bool)
    for bag in bags:
        present[bag.rows] = True
    return np.flatnonzero(present), np.cumsum(present) - 1


def _transposed(bags: Sequence[_Entries], position: Ints, n_rows: int) -> _Entries:
    """For each of `n_rows` rows, the bags that add it, numbered through all `bags`.

    Gradients of the rows are then weighted sums too: at 100,000 items they cost a third of `index_add_`.
    """
    rows = np.concatenate([position[bag.rows] for bag in bags])
    starts = np.cumsum([0, *(len(bag.offset) - 1 for bag in bags)])
    owner = np.concatenate(
        [np.repeat(np.arange(len(bag.offset) - 1), np.diff(bag.offset)) + start
         for bag, start in zip(bags, starts, strict=False)]
    )  # fmt: skip
    # Stable: the gradients of a row are added in the order of the bags.
    order = np.argsort(rows, kind="stable")
    weights = np.concatenate([bag.weights for bag in bags])
    offset = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    return _Entries(owner[order], weights[order], offset)


@final
class _Batches:
    """Batches of equal size: shuffled epochs, the rest of an epoch that fills no batch left out.

    Batches of an empty pool are empty.
    """

    def __init__(self, pool: Ints, size: int, seed: int, purpose: str) -> None:
        self.size = min(size, len(pool))
        self._pool, self._seed, self._purpose = pool, seed, purpose
        self._epochs: dict[int, Ints] = {}

    def __getitem__(self, step: int) -> Ints:
        if not self.size:
            return self._pool
        epoch, at = divmod(step, len(self._pool) // self.size)
        return self._order(epoch)[at * self.size : (at + 1) * self.size]

    def _order(self, epoch: int) -> Ints:
        order = self._epochs.get(epoch)
        if order is None:
            order = generator(self._seed, self._purpose, epoch).permutation(self._pool)
            # The neighbours are kept: threads that share the plan may be on both sides of an epoch's end.
            self._epochs = {**{e: o for e, o in self._epochs.items() if abs(e - epoch) == 1}, epoch: order}
        return order
