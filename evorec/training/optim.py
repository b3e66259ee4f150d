"""Optimisers of a population: every column or entry has its own learning rate, decay and optimiser.

Embedding rows are updated lazily: only rows of the batch change, and a row's moments stay while it is not in a batch,
so lazy AdamW is not dense AdamW. The decay that a row missed, ``(1 - lr * decay) ** skipped``, is applied when the row
is next read, and to all rows at the end (`RowOptimizer.flush`). Lazy Adafactor treats the rows of a step as the whole
matrix of that step. Moving averages of rows are kept in the same way (`evorec.training.average`).

At 100,000 items, lazy rows cost 47 times less than dense Adam on every row, and a whole step 3.5 times less.

On a CPU a member's result is independent of the other members, bitwise: no sum adds entries of different matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import final

import numpy as np
import torch
from torch import Tensor

from evorec.models.devices import to_device
from evorec.models.optimizer import OPTIMIZERS, ElementwiseOptimizer, FactoredOptimizer, Optimizer
from evorec.training.average import RowAverage

CHUNK = 1 << 17
"""Entries of a table that are updated together on a CPU: about five such buffers (rows, gradient, moments, direction)
fit its second-level cache."""


@final
class RowOptimizer:
    """Optimisers of the rows of one table ``[R, C]`` that a batch touches.

    An elementwise optimiser has moments for each entry; a factored optimiser has a variance for each row of a matrix
    and for each column.

    Args:
        table: ``[R, C]``; its rows are overwritten.
        rates: learning rate of each column, ``(C,)``, equal inside a matrix of a factored optimiser.
        decays: decoupled weight decay per unit of learning rate of each column, ``(C,)``, equal likewise.
        kinds: columns and optimiser of each matrix, in the order of the columns, without gaps. Each
            embedding table is a matrix: the T task tables of a member are T entries.
        steps: steps of the whole training; bounds the number of steps a row can miss.
        off: first column of a matrix -> blocks whose rows it leaves at 0, as indices in the `spans` of a step; means
            over rows leave them out.
        averages: decay of the moving average of each column, ``(C,)``, 0 = none; ``None`` = no column has one.
    """

    def __init__(
        self,
        table: Tensor,
        rates: Tensor,
        decays: Tensor,
        kinds: Sequence[tuple[slice, Optimizer]],
        *,
        steps: int,
        off: Mapping[int, Sequence[int]] = MappingProxyType({}),
        averages: Tensor | None = None,
    ) -> None:
        self._table = table
        self._last = torch.zeros(table.shape[0], dtype=torch.long, device=table.device)
        self._rates = rates.to(table.dtype)
        keep = (1 - rates.double() * decays.double()).expand(steps + 1, -1).clone()
        self._average: RowAverage | None = None
        if averages is not None and bool(averages.any()):
            self._average = RowAverage(table, averages.double(), 1 - rates.double() * decays.double(), steps=steps)
        keep[0] = 1.0
        # [steps + 1, C]: row k is the decay after k missed steps; a lookup instead of a pow() in every step.
        # In float64, because thousands of factors just below 1 are multiplied; rounded once.
        self._keep = torch.cumprod(keep, 0).to(table.dtype)
        self._decays = bool((decays != 0).any())
        self._scratch = _Scratch(table)
        self._elementwise: list[_ColumnMoments] = []
        self._matrices: list[_Matrices] = []
        together = table.device.type != "cpu"
        for optimizer in dict.fromkeys(optimizer for _, optimizer in kinds):
            own = [columns for columns, kind in kinds if kind is optimizer]
            if isinstance(optimizer, ElementwiseOptimizer):
                joined = _joined(own)
                stops = list(accumulate(map(_length, joined)))
                runs = [(part, slice(stop - _length(part), stop)) for part, stop in zip(joined, stops, strict=True)]
                moments = [table.new_zeros(table.shape[0], stops[-1]) for _ in optimizer.states]
                self._elementwise.append(_ColumnMoments(optimizer, runs, moments))
            elif isinstance(optimizer, FactoredOptimizer):
                self._matrices += _matrices(optimizer, own, self._matrices, together=together)
        self._starts = [start for group in self._matrices for start in group.starts]
        self._row_var = table.new_zeros(table.shape[0], len(self._starts))
        self._col_var = table.new_zeros(sum(group.n * group.dim for group in self._matrices))
        self._off = {number: off[start] for number, start in enumerate(self._starts) if start in off}

    def read(self, rows: Tensor, step: int) -> Tensor:
        """Rows before 1-based `step`, with the decay of all earlier steps applied.

        Args:
            rows: distinct row numbers, int64 ``(n,)``.
            step: 1-based.
        Returns:
            ``[n, C]`` in a buffer that the next `read` uses again.
        """
        values = self._scratch.take("values", len(rows), self._table.shape[1])
        missed = step - 1 - self._last.index_select(0, rows)
        # Gathered and decayed part by part, while the rows are in the cache.
        for part in self._parts(len(rows)):
            torch.index_select(self._table, 0, rows[part], out=values[part])
            self._decay(values[part], missed[part])
        return values

    def write(self, rows: Tensor, values: Tensor, grad: Tensor, step: int, *, spans: Sequence[slice] = ()) -> None:
        """Applies a step of every optimiser.

        Args:
            rows: the rows given to `read`.
            values: the result of `read`, ``[n, C]``; overwritten.
            grad: gradient of `values`, ``[n, C]``.
            step: 1-based.
            spans: the part of `rows` that belongs to each block.
        """
        values = values.detach()
        # All rows at once: factored steps need means over the rows. The elementwise steps then go part by part.
        if self._matrices:
            self._factored(rows, values, grad, step, spans)
        for part in self._parts(len(rows)):
            for own in self._elementwise:
                self._update(own, rows[part], values[part], grad[part], step)
            if self._average is not None:  # before the table and `last` forget what the rows were
                missed = step - 1 - self._last.index_select(0, rows[part])
                before = self._table.index_select(0, rows[part])
                self._average.take(rows[part], before, missed, values[part])
            _put(self._table, rows[part], values[part])
        self._last.index_fill_(0, rows, step)

    def flush(self, step: int) -> None:
        """Applies every missed decay up to and including `step`; a row that no batch touched becomes 0.

        An untouched row was not fitted to any data: its initial noise must not rank two cold items differently.
        Columns with a moving average then hold the average.
        """
        missed = step - self._last
        for part in self._parts(len(self._table)):
            if self._average is not None:
                self._average.skip(part, self._table[part], missed[part])
            self._decay(self._table[part], missed[part])
        if self._average is not None and step:
            self._average.put(self._table, step)
        self._table.masked_fill_((self._last == 0)[:, None], 0.0)
        self._last.fill_(step)

    def state(self, columns: slice) -> dict[str, Tensor]:
        """Copy of the state of whole matrices: `last`, and the states of their optimisers by name.

        With the table as it is, unflushed, training continues from it bitwise in another population.
        """
        state = {"last": self._last.clone()}
        for own, inside in self._moments_of(columns):
            state |= {name: moment[:, inside] for name, moment in zip(own.optimizer.states, own.moments, strict=True)}
        matrix, factor = self._factors_of(columns)
        if matrix:
            state |= {"row_var": self._row_var[:, matrix], "col_var": self._col_var[factor]}
        if self._average is not None and (averaged := self._averaged(columns)):
            state["average"] = self._average.state(averaged)
        return state

    def load_state(self, columns: slice, state: Mapping[str, Tensor]) -> None:
        """Restores the `state` of `columns`; all columns share `last`."""
        self._last.copy_(state["last"])
        for own, inside in self._moments_of(columns):
            for name, moment in zip(own.optimizer.states, own.moments, strict=True):
                moment[:, inside] = state[name]
        matrix, factor = self._factors_of(columns)
        if matrix:
            self._row_var[:, matrix], self._col_var[factor] = state["row_var"], state["col_var"]
        if self._average is not None and (averaged := self._averaged(columns)):
            self._average.load_state(averaged, state["average"])

    def _averaged(self, columns: slice) -> list[int]:
        """The columns of the moving average that belong to `columns`."""
        found = () if self._average is None else self._average.columns
        return [i for i, column in enumerate(found) if columns.start <= column < columns.stop]

    def _moments_of(self, columns: slice) -> Iterator[tuple[_ColumnMoments, list[int]]]:
        """The elementwise optimisers of `columns`, and the columns of their moments."""
        for own in self._elementwise:
            of_table = [c for part, _ in own.runs for c in range(part.start, part.stop)]
            if inside := [i for i, column in enumerate(of_table) if columns.start <= column < columns.stop]:
                yield own, inside

    def _factors_of(self, columns: slice) -> tuple[list[int], list[int]]:
        """Columns of the row variances and entries of the column variances that belong to `columns`."""
        inside = range(columns.start, columns.stop)
        factors = [c for group in self._matrices for c in range(group.columns.start, group.columns.stop)]
        matrix = [i for i, start in enumerate(self._starts) if start in inside]
        return matrix, [i for i, column in enumerate(factors) if column in inside]

    def _parts(self, n: int) -> Iterator[slice]:
        """Rows 0..n in pieces that stay in the cache; undivided on an accelerator."""
        size = max(1, CHUNK // self._table.shape[1]) if self._table.device.type == "cpu" else n
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _decay(self, values: Tensor, missed: Tensor) -> None:
        if self._decays:
            # Its memory is free here: `_update` fills it after the decay.
            factors = self._scratch.take("direction", *values.shape)
            values.mul_(torch.index_select(self._keep, 0, missed, out=factors))

    def _update(self, own: _ColumnMoments, rows: Tensor, values: Tensor, grad: Tensor, step: int) -> None:
        """An elementwise optimiser on its columns of some rows; overwrites `values` ``[n, C]``."""
        n_columns = own.moments[0].shape[1]
        moments = [self._scratch.take(f"moment{i}", len(rows), n_columns) for i in range(len(own.moments))]
        direction = self._scratch.take("direction", len(rows), n_columns)
        for of_all, moment in zip(own.moments, moments, strict=True):
            torch.index_select(of_all, 0, rows, out=moment)
        # Without mixed optimisers the columns are a single run, which is read where it is.
        packed_grad = grad[:, own.runs[0][0]]
        if len(own.runs) > 1:
            packed_grad = self._scratch.take("packed", len(grad), n_columns)
            for columns, packed in own.runs:
                packed_grad[:, packed].copy_(grad[:, columns])
        scale = own.optimizer.direction(moments, packed_grad, direction, step)
        for columns, packed in own.runs:
            part = values[:, columns]
            if self._decays:
                part.mul_(self._keep[1, columns])
            part.addcmul_(direction[:, packed], self._rates[columns], value=-scale)
        for of_all, moment in zip(own.moments, moments, strict=True):
            _put(of_all, rows, moment)

    def _more(self, group: _Matrices, n: int, spans: Sequence[slice]) -> Tensor | None:
        """Ratio of all rows to trained rows of each matrix of a group, ``[S, 1, 1]``; ``None`` = 1."""
        numbers = range(group.first, group.first + group.n)
        if not any(number in self._off for number in numbers):
            return None
        left_out = [sum(spans[i].stop - spans[i].start for i in self._off.get(number, ())) for number in numbers]
        ratios = np.array([n / max(n - left, 1) for left in left_out])
        return to_device(ratios, self._table.device, self._table.dtype).view(-1, 1, 1)

    def _factored(self, rows: Tensor, values: Tensor, grad: Tensor, step: int, spans: Sequence[slice]) -> None:
        """The factored optimisers on all touched rows; overwrites `values` ``[n, C]``."""
        n = len(rows)
        row_var = self._scratch.take("row_var", n, self._row_var.shape[1])
        torch.index_select(self._row_var, 0, rows, out=row_var)
        for group in self._matrices:
            own, g, update = (self._scratch.take(x, group.n, n, group.dim) for x in ("own", "grad", "update"))
            spread = values[:, group.columns].view(n, group.n, group.dim).transpose(0, 1)
            # Contiguous copies: norms and means then add every matrix in the same order, wherever its columns are.
            own.copy_(spread)
            g.copy_(grad[:, group.columns].view(n, group.n, group.dim).transpose(0, 1))
            variances = row_var[:, group.first : group.first + group.n]
            rows_now = self._scratch.take("rows_now", group.n, n, 1).copy_(variances.T[:, :, None])
            columns_now = self._col_var[group.factors].view(group.n, 1, group.dim)
            more = self._more(group, n, spans)
            group.optimizer.variance(g, rows_now, columns_now, update, more, step)
            first = slice(group.columns.start, group.columns.stop, group.dim)  # rate and decay are equal in a matrix
            keep = self._keep[1, first].view(-1, 1, 1) if self._decays else None
            group.optimizer.apply(own, g, update, self._rates[first].view(-1, 1, 1), keep, step, more)
            spread.copy_(own)
            variances.copy_(rows_now[:, :, 0].T)
        # Last: the groups above wrote the new variances into the gathered copy.
        self._row_var.index_copy_(0, rows, row_var)


@final
class DenseOptimizer:
    """Optimisers of the flat buffer of dense parameters.

    Args:
        flat: ``(N,)``; overwritten.
        rate: learning rate of each entry, ``(N,)``.
        keep: share that decay leaves of each entry at a step, 1 - lr * decay, ``(N,)``; 1 where nothing decays.
        parts: slices that cover `flat`, the shape ``(S, rows, columns)`` of each and its optimiser: S parameters of
            equal shape, for a factored optimiser of equal rate and decay. A parameter of a single row is a vector and
            is not factored.
        more: ratio of all rows to trained rows of the parameter of each entry, ``(N,)``: the rows that are switched
            off are 0, and means over rows leave them out; ``None`` = all are trained.
    """

    def __init__(
        self,
        flat: Tensor,
        rate: Tensor,
        keep: Tensor,
        parts: Sequence[tuple[slice, tuple[int, ...], Optimizer]],
        *,
        more: Tensor | None = None,
    ) -> None:
        self._flat = flat
        parts = sorted((part for part in parts if part[0].stop > part[0].start), key=lambda part: part[0].start)
        optimizers = list(dict.fromkeys(optimizer for _, _, optimizer in parts))
        packed: list[slice] = []
        self._elementwise: list[_EntryMoments] = []
        self._stacks: list[_Stack] = []
        for optimizer in optimizers:
            if isinstance(optimizer, ElementwiseOptimizer):
                first = sum(map(_length, packed))
                packed += [part for part, _, kind in parts if kind is optimizer]
                span = slice(first, sum(map(_length, packed)))
                moments = [flat.new_zeros(_length(span)) for _ in optimizer.states]
                self._elementwise.append(_EntryMoments(optimizer, span, moments))
        for optimizer in optimizers:
            if isinstance(optimizer, FactoredOptimizer):
                for inner in sorted({(shape[1], shape[2]) for _, shape, kind in parts if kind is optimizer}):
                    first = sum(map(_length, packed))
                    packed += [part for part, shape, kind in parts if kind is optimizer and shape[1:] == inner]
                    span = slice(first, sum(map(_length, packed)))
                    self._stacks.append(_Stack.of(flat, optimizer, span, inner))
        # Entries that are updated together are neighbours in the packed order.
        self._order = _entries(packed, flat)
        self._rate, self._keep = (factor.to(flat.dtype)[self._order] for factor in (rate, keep))
        self._more = None if more is None else more.to(flat.dtype)[self._order]
        self._decays = bool((keep != 1).any())
        self._scratch = _Scratch(flat)

    def step(self, grad: Tensor, step: int) -> None:
        """Applies 1-based `step` with the gradient ``(N,)``."""
        if not self._stacks and len(self._elementwise) == 1:  # the packed order is that of the buffer: no copy
            self._update(self._elementwise[0], self._flat, grad, step)
            return
        packed, gradient = (self._scratch.take(name, len(grad)) for name in ("own", "grad"))
        torch.index_select(self._flat, 0, self._order, out=packed)
        torch.index_select(grad, 0, self._order, out=gradient)
        for own in self._elementwise:
            self._update(own, packed[own.span], gradient[own.span], step)
        for stack in self._stacks:
            self._factored(stack, packed, gradient, step)
        self._flat.index_copy_(0, self._order, packed)

    def state(self, spans: Sequence[slice]) -> dict[str, Tensor]:
        """State of the entries in `spans` of the flat buffer in their order, ``(k,)`` each.

        Keys are the names of the states of all optimisers. `row_var` and `col_var` are the variances of each entry's
        row and column; `v` is also the variance of a vector of a factored optimiser; 0 where an entry has no such
        state.
        """
        return {name: values[_entries(spans, values)] for name, values in self._spread().items()}

    def load_state(self, spans: Sequence[slice], state: Mapping[str, Tensor]) -> None:
        """Restores the `state` of the same entries, here in `spans`: whole matrices only."""
        spread = self._spread()
        for name, values in spread.items():
            values[_entries(spans, values)] = state[name]
        packed = {name: values[self._order] for name, values in spread.items()}
        for own in self._elementwise:
            for name, moment in zip(own.optimizer.states, own.moments, strict=True):
                moment.copy_(packed[name][own.span])
        for stack in self._stacks:
            if stack.factored:
                stack.row_var.copy_(stack.of_packed(packed["row_var"])[:, :, :1])
                stack.col_var.copy_(stack.of_packed(packed["col_var"])[:, :1])
            else:
                stack.col_var.copy_(stack.of_packed(packed["v"]))

    def _spread(self) -> dict[str, Tensor]:
        """The whole state, entry by entry in the order of the flat buffer, ``(N,)`` each."""
        # The names of all optimisers, so that checkpoints of any members fit together.
        packed = {name: torch.zeros_like(self._flat) for kind in OPTIMIZERS.values() for name in kind.states}
        for own in self._elementwise:
            for name, moment in zip(own.optimizer.states, own.moments, strict=True):
                packed[name][own.span] = moment
        for stack in self._stacks:
            stack.of_packed(packed["row_var"]).copy_(stack.row_var)
            stack.of_packed(packed["col_var" if stack.factored else "v"]).copy_(stack.col_var)
        return {name: torch.empty_like(values).index_copy_(0, self._order, values) for name, values in packed.items()}

    def _update(self, own: _EntryMoments, values: Tensor, grad: Tensor, step: int) -> None:
        direction = self._scratch.take("direction", len(values))
        scale = own.optimizer.direction(own.moments, grad, direction, step)
        if self._decays:
            values.mul_(self._keep[own.span])
        values.addcmul_(direction, self._rate[own.span], value=-scale)

    def _factored(self, stack: _Stack, packed: Tensor, grad: Tensor, step: int) -> None:
        own, g = stack.of_packed(packed), stack.of_packed(grad)
        update = self._scratch.take("update", *stack.shape)
        more = None if self._more is None else self._more[stack.firsts].view(-1, 1, 1)
        row_var = stack.row_var if stack.factored else None
        stack.optimizer.variance(g, row_var, stack.col_var, update, more, step)
        rate, keep = (factor[stack.firsts].view(-1, 1, 1) for factor in (self._rate, self._keep))
        stack.optimizer.apply(own, g, update, rate, keep if self._decays else None, step, more)


@final
@dataclass(frozen=True)
class _EntryMoments:
    """Moments of the entries of an elementwise optimiser, and their span in the packed buffer."""

    optimizer: ElementwiseOptimizer
    span: slice
    moments: list[Tensor]


@final
@dataclass(frozen=True)
class _ColumnMoments:
    """Moments ``[R, columns]`` of the columns of an elementwise optimiser.

    Each of `runs` is a slice of neighbouring columns of the table, and the columns of their moments.
    """

    optimizer: ElementwiseOptimizer
    runs: list[tuple[slice, slice]]
    moments: list[Tensor]


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _joined(slices: Sequence[slice]) -> list[slice]:
    """Ascending slices, neighbours merged."""
    out: list[slice] = []
    for part in slices:
        if out and out[-1].stop == part.start:
            out[-1] = slice(out[-1].start, part.stop)
        else:
            out.append(part)
    return out


@final
@dataclass(frozen=True)
class _Matrices:
    """`n` neighbouring tables of `dim` columns whose factored steps are taken together.

    `first` is the number of the first among all matrices, `factors` the span of their column variances.
    """

    optimizer: FactoredOptimizer
    columns: slice
    dim: int
    n: int
    first: int
    factors: slice

    @property
    def starts(self) -> range:
        """First column of each table."""
        return range(self.columns.start, self.columns.stop, self.dim)


def _matrices(
    optimizer: FactoredOptimizer, slices: Sequence[slice], before: Sequence[_Matrices], *, together: bool
) -> list[_Matrices]:
    """Groups neighbours of equal length; on a CPU none, because a single ``[n, E]`` matrix fits the cache."""
    groups: list[_Matrices] = []
    first = sum(group.n for group in before)
    at = sum(group.n * group.dim for group in before)
    for number, part in enumerate(slices, start=first):
        dim = _length(part)
        last = groups[-1] if groups else None
        if together and last and last.dim == dim and last.columns.stop == part.start:
            columns, factors = slice(last.columns.start, part.stop), slice(last.factors.start, at + dim)
            groups[-1] = _Matrices(optimizer, columns, dim, last.n + 1, last.first, factors)
        else:
            groups.append(_Matrices(optimizer, part, dim, 1, number, slice(at, at + dim)))
        at += dim
    return groups


@final
@dataclass(frozen=True)
class _Stack:
    """Factored parameters of equal shape ``(S, rows, columns)``; `span` is their span in the packed buffer.

    `row_var` is ``[S, rows, 1]``, `col_var` ``[S, 1, columns]``: of vectors the variance itself.
    """

    optimizer: FactoredOptimizer
    span: slice
    shape: tuple[int, int, int]
    row_var: Tensor
    col_var: Tensor

    @classmethod
    def of(cls, flat: Tensor, optimizer: FactoredOptimizer, span: slice, inner: tuple[int, int]) -> _Stack:
        rows, columns = inner
        size = _length(span) // (rows * columns)
        return cls(
            optimizer, span, (size, rows, columns), flat.new_zeros(size, rows, 1), flat.new_zeros(size, 1, columns)
        )

    @property
    def factored(self) -> bool:
        return self.shape[1] > 1

    @property
    def firsts(self) -> slice:
        """First entry of each parameter."""
        return slice(self.span.start, self.span.stop, self.shape[1] * self.shape[2])

    def of_packed(self, packed: Tensor) -> Tensor:
        return packed[self.span].view(self.shape)


@final
class _Scratch:
    """Named buffers that grow as needed and are reused.

    Fresh memory can cost more than the work on it: adding to 33 MB takes 16 ms with page faults, 2 ms without.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of `shape` with any content, valid until the same name is taken again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size)
        return buffer[:size].view(shape)


def _put(table: Tensor, rows: Tensor, values: Tensor) -> None:
    """``table[rows] = values``; on a CPU by numpy, which moves whole rows in a third of the time."""
    if table.device.type == "cpu":
        table.numpy()[rows.numpy()] = values.numpy()
    else:
        table.index_copy_(0, rows, values)


def _entries(spans: Sequence[slice], like: Tensor) -> Tensor:
    """Indices of the entries of some spans, int64 ``(n,)``; none without spans."""
    none = torch.empty(0, dtype=torch.long)
    return torch.cat([none, *(torch.arange(span.start, span.stop) for span in spans)]).to(like.device)
