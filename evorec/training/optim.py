"""AdamW and Adafactor for a population: every column or entry has its own learning rate, decay and optimiser.

Embedding rows are updated lazily: only rows of the batch move, and a row's moments stand still while it is not in a
batch, so lazy AdamW is not dense AdamW. The decay a row missed, ``(1 - lr * decay) ** skipped``, is applied when it is
next touched, and to all rows at the end (`RowOptimizer.flush`). Lazy Adafactor takes the touched rows of a step for
the whole matrix of that step.

AdamW has Adam's own epsilon convention (after the bias correction). Adafactor equals ``torch.optim.Adafactor`` with
its default settings: decoupled decay, step size relative to the root mean square of the parameter.
Sources: Loshchilov & Hutter 2019; Shazeer & Stern 2018.

On a CPU no result depends on company, bitwise: entries of different matrices never meet in one sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
import torch
from torch import Tensor

from evorec.models.devices import to_device
from evorec.training.updates import BETA2_DECAY, adafactor_step, adam_direction, factored_variance

CHUNK = 1 << 17
"""Numbers of a table that pass through AdamW at once on a CPU: some five such buffers fit its second-level cache."""


@final
class RowOptimizer:
    """AdamW or Adafactor on the rows of one table ``[R, C]`` that a batch touches.

    AdamW keeps two moments per number; Adafactor one number per row and matrix, and one per column.

    Args:
        table: ``[R, C]``, changed in place.
        rates: learning rate of each column, ``(C,)``, equal inside a matrix of Adafactor.
        decays: decoupled weight decay per unit of learning rate of each column, ``(C,)``, equal likewise.
        kinds: columns and optimiser (``adamw`` or ``adafactor``) of each matrix, in the order of the columns, without
            gaps. One embedding table is one matrix: T task tables of a member are T entries.
        steps: steps of the whole training; bounds the number of steps a row can miss.
        off: first column of a matrix -> blocks whose rows it leaves at 0, as places in the `spans` of a step; means
            over rows leave them out.
    """

    def __init__(
        self,
        table: Tensor,
        rates: Tensor,
        decays: Tensor,
        kinds: Sequence[tuple[slice, str]],
        *,
        steps: int,
        off: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self._table = table
        self._last = torch.zeros(table.shape[0], dtype=torch.long, device=table.device)
        self._rates = rates.to(table.dtype)
        keep = (1 - rates.double() * decays.double()).expand(steps + 1, -1).clone()
        keep[0] = 1.0
        self._keep = torch.cumprod(keep, 0).to(table.dtype)  # [steps + 1, C]: after k missed steps, never a pow()
        self._decays = bool((decays != 0).any())
        self._scratch = _Scratch(table)
        self._runs = _runs([columns for columns, kind in kinds if kind == "adamw"])
        n_adam = self._runs[-1].moments.stop if self._runs else 0
        self._m, self._v = table.new_zeros(table.shape[0], n_adam), table.new_zeros(table.shape[0], n_adam)
        matrices = [columns for columns, kind in kinds if kind == "adafactor"]
        self._row_var = table.new_zeros(table.shape[0], len(matrices))
        self._col_var = table.new_zeros(sum(columns.stop - columns.start for columns in matrices))
        self._matrices = _matrices(matrices, together=table.device.type != "cpu")
        self._off = {number: off[own.start] for number, own in enumerate(matrices) if own.start in off}

    def read(self, rows: Tensor, step: int) -> Tensor:
        """Rows as they stand before 1-based `step`, with the decay of all earlier steps applied.

        Args:
            rows: distinct row numbers, int64 ``(n,)``.
            step: 1-based.
        Returns:
            ``[n, C]`` in a buffer that the next `read` uses again.
        """
        values = self._scratch.take("values", len(rows), self._table.shape[1])
        missed = step - 1 - self._last.index_select(0, rows)
        for part in self._parts(len(rows)):
            torch.index_select(self._table, 0, rows[part], out=values[part])
            self._decay(values[part], missed[part])
        return values

    def write(self, rows: Tensor, values: Tensor, grad: Tensor, step: int, *, spans: Sequence[slice] = ()) -> None:
        """One step of every optimiser.

        Args:
            rows: the rows given to `read`.
            values: what `read` returned, ``[n, C]``; spoiled.
            grad: gradient of `values`, ``[n, C]``.
            step: 1-based.
            spans: which of `rows` belong to each block.
        """
        values = values.detach()
        if self._matrices:
            self._adafactor(rows, values, grad, step, spans)
        for part in self._parts(len(rows)):
            if self._runs:
                self._adamw(rows[part], values[part], grad[part], step)
            _put(self._table, rows[part], values[part])
        self._last.index_fill_(0, rows, step)

    def flush(self, step: int) -> None:
        """Applies every missed decay up to and including `step`; a row that no batch touched becomes 0.

        An untouched row was never fitted to anything: its initial noise must not tell two cold items apart.
        """
        missed = step - self._last
        for part in self._parts(len(self._table)):
            self._decay(self._table[part], missed[part])
        self._table.masked_fill_((self._last == 0)[:, None], 0.0)
        self._last.fill_(step)

    def state(self, columns: slice) -> dict[str, Tensor]:
        """Copy of the state of whole matrices: `last` and, by kind, `m` and `v`, or `row_var` and `col_var`.

        With the table as it stands, unflushed, it lets training go on bitwise in another population.
        """
        state = {"last": self._last.clone()}
        adam, matrix, factor = self._places(columns)
        if adam:
            state |= {"m": self._m[:, adam], "v": self._v[:, adam]}
        if matrix:
            state |= {"row_var": self._row_var[:, matrix], "col_var": self._col_var[factor]}
        return state

    def load_state(self, columns: slice, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave for `columns`; `last` is one for all columns."""
        self._last.copy_(state["last"])
        adam, matrix, factor = self._places(columns)
        if adam:
            self._m[:, adam], self._v[:, adam] = state["m"], state["v"]
        if matrix:
            self._row_var[:, matrix], self._col_var[factor] = state["row_var"], state["col_var"]

    def _places(self, columns: slice) -> tuple[list[int], list[int], list[int]]:
        """Columns of the moments, of the row variances and of the column variances that belong to `columns`."""
        inside = range(columns.start, columns.stop)
        moments = [c for run in self._runs for c in range(run.columns.start, run.columns.stop)]
        starts = [group.columns.start + i * group.dim for group in self._matrices for i in range(group.n)]
        factors = [c for group in self._matrices for c in range(group.columns.start, group.columns.stop)]
        matrix = [i for i, start in enumerate(starts) if start in inside]
        adam = [i for i, column in enumerate(moments) if column in inside]
        return adam, matrix, [i for i, column in enumerate(factors) if column in inside]

    def _parts(self, n: int) -> Iterator[slice]:
        """Rows 0..n in pieces that stay in the cache; in one piece on an accelerator."""
        size = max(1, CHUNK // self._table.shape[1]) if self._table.device.type == "cpu" else n
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _decay(self, values: Tensor, missed: Tensor) -> None:
        if self._decays:
            factors = self._scratch.take("direction", *values.shape)
            values.mul_(torch.index_select(self._keep, 0, missed, out=factors))

    def _adamw(self, rows: Tensor, values: Tensor, grad: Tensor, step: int) -> None:
        """AdamW on some of the rows: `values` ``[n, C]`` in place."""
        m, v, direction = (self._scratch.take(x, len(rows), self._m.shape[1]) for x in ("m", "v", "direction"))
        torch.index_select(self._m, 0, rows, out=m)
        torch.index_select(self._v, 0, rows, out=v)
        scale = adam_direction(m, v, self._packed(grad), direction, step)
        for run in self._runs:
            own = values[:, run.columns]
            if self._decays:
                own.mul_(self._keep[1, run.columns])
            own.addcmul_(direction[:, run.moments], self._rates[run.columns], value=-scale)
        _put(self._m, rows, m)
        _put(self._v, rows, v)

    def _packed(self, grad: Tensor) -> Tensor:
        """The columns of AdamW side by side."""
        if len(self._runs) == 1:
            return grad[:, self._runs[0].columns]
        packed = self._scratch.take("packed", len(grad), self._m.shape[1])
        for run in self._runs:
            packed[:, run.moments].copy_(grad[:, run.columns])
        return packed

    def _more(self, group: _Matrices, n: int, spans: Sequence[slice]) -> Tensor | None:
        """How many times more rows than trained ones each matrix of a group has, ``[S, 1, 1]``; ``None`` = once."""
        numbers = range(group.first, group.first + group.n)
        if not any(number in self._off for number in numbers):
            return None
        left_out = [sum(spans[i].stop - spans[i].start for i in self._off.get(number, ())) for number in numbers]
        ratios = np.array([n / max(n - left, 1) for left in left_out])
        return to_device(ratios, self._table.device, self._table.dtype).view(-1, 1, 1)

    def _adafactor(self, rows: Tensor, values: Tensor, grad: Tensor, step: int, spans: Sequence[slice]) -> None:
        """Adafactor on all touched rows: `values` ``[n, C]`` in place."""
        n = len(rows)
        weight = step**BETA2_DECAY
        row_var = self._scratch.take("row_var", n, self._row_var.shape[1])
        torch.index_select(self._row_var, 0, rows, out=row_var)
        for group in self._matrices:
            own, g, update = (self._scratch.take(x, group.n, n, group.dim) for x in ("own", "grad", "update"))
            spread = values[:, group.columns].view(n, group.n, group.dim).transpose(0, 1)
            own.copy_(spread)
            g.copy_(grad[:, group.columns].view(n, group.n, group.dim).transpose(0, 1))
            variances = row_var[:, group.first : group.first + group.n]
            rows_now = self._scratch.take("rows_now", group.n, n, 1).copy_(variances.T[:, :, None])
            columns_now = self._col_var[group.factors].view(group.n, 1, group.dim)
            more = self._more(group, n, spans)
            factored_variance(g, rows_now, columns_now, weight, update, more)
            first = slice(group.columns.start, group.columns.stop, group.dim)
            keep = self._keep[1, first].view(-1, 1, 1) if self._decays else None
            adafactor_step(own, g, update, self._rates[first].view(-1, 1, 1), keep, step, more)
            spread.copy_(own)
            variances.copy_(rows_now[:, :, 0].T)
        self._row_var.index_copy_(0, rows, row_var)


@final
class DenseOptimizer:
    """AdamW or Adafactor on one flat buffer of dense parameters.

    Args:
        flat: ``(N,)``, changed in place.
        rate: learning rate of each entry, ``(N,)``.
        keep: share that decay leaves of each entry at a step, 1 - lr * decay, ``(N,)``; 1 where nothing decays.
        matrices: what belongs to Adafactor: slices of `flat` and the shape ``(S, rows, columns)`` of each, S
            parameters of equal shape, one rate and one decay each; one with a single row is a vector and is not
            factored. All else belongs to AdamW.
        more: how many times more rows than trained ones the parameter of each entry has, ``(N,)``: the rows that are
            switched off are 0, and means over rows leave them out; ``None`` = all are trained.
    """

    def __init__(
        self,
        flat: Tensor,
        rate: Tensor,
        keep: Tensor,
        matrices: Sequence[tuple[slice, tuple[int, ...]]],
        *,
        more: Tensor | None = None,
    ) -> None:
        self._flat = flat
        matrices = [(place, shape) for place, shape in matrices if place.stop > place.start]
        shapes = sorted({(shape[1], shape[2]) for _, shape in matrices})
        places = [[place for place, shape in matrices if shape[1:] == inner] for inner in shapes]
        rest = _complement([place for place, _ in matrices], flat.numel())
        self._packing = _Packing.of([*rest, *(place for stack in places for place in stack)])
        self._rate, self._keep = (self._packing.gather(factor.to(flat.dtype)) for factor in (rate, keep))
        self._more = None if more is None else self._packing.gather(more.to(flat.dtype))
        self._decays = bool((keep != 1).any())
        self._n_adam = sum(place.stop - place.start for place in rest)
        self._m, self._v = flat.new_zeros(self._n_adam), flat.new_zeros(self._n_adam)
        self._stacks: list[_Stack] = []
        at = self._n_adam
        for inner, stack in zip(shapes, places, strict=True):
            size = sum(place.stop - place.start for place in stack)
            self._stacks.append(_Stack.of(flat, slice(at, at + size), inner))
            at += size
        self._scratch = _Scratch(flat)
        self._views = _split(flat, self._packing.sizes)

    def step(self, grad: Tensor, step: int) -> None:
        """One step (1-based `step`) with the gradient ``(N,)``."""
        if not self._stacks:
            self._adamw(self._flat, grad, step)
            return
        own = self._packing.gather(self._flat, out=self._scratch.take("own", len(grad)))
        packed = self._packing.gather(grad, out=self._scratch.take("grad", len(grad)))
        if self._n_adam:
            self._adamw(own[: self._n_adam], packed[: self._n_adam], step)
        for stack in self._stacks:
            self._adafactor(stack, own, packed, step)
        self._packing.scatter(own, self._views)

    def state(self, places: Sequence[slice]) -> dict[str, Tensor]:
        """State of the entries at `places` of the flat buffer in their order, ``(k,)`` each.

        `m` and `v` are AdamW's moments, `v` also the variance of a vector of Adafactor; `row_var` and `col_var` are
        the variances of each entry's row and column. 0 where an entry has none.
        """
        return {name: torch.cat([values[place] for place in places]) for name, values in self._spread().items()}

    def load_state(self, places: Sequence[slice], state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave for the same entries, here at `places`: whole matrices only."""
        spread = self._spread()
        for name, values in spread.items():
            for place, piece in zip(places, _split(state[name], [p.stop - p.start for p in places]), strict=True):
                values[place] = piece
        packed = {name: self._packing.gather(values) for name, values in spread.items()}
        self._m.copy_(packed["m"][: self._n_adam])
        self._v.copy_(packed["v"][: self._n_adam])
        for stack in self._stacks:
            if stack.factored:
                stack.row_var.copy_(stack.of_packed(packed["row_var"])[:, :, :1])
                stack.col_var.copy_(stack.of_packed(packed["col_var"])[:, :1])
            else:
                stack.col_var.copy_(stack.of_packed(packed["v"]))

    def _spread(self) -> dict[str, Tensor]:
        """The whole state, entry by entry in the order of the flat buffer, ``(N,)`` each."""
        packed = {name: torch.zeros_like(self._flat) for name in ("m", "v", "row_var", "col_var")}
        packed["m"][: self._n_adam] = self._m
        packed["v"][: self._n_adam] = self._v
        for stack in self._stacks:
            stack.of_packed(packed["row_var"]).copy_(stack.row_var)
            stack.of_packed(packed["col_var" if stack.factored else "v"]).copy_(stack.col_var)
        spread = {name: torch.empty_like(values) for name, values in packed.items()}
        for name, values in packed.items():
            self._packing.scatter(values, _split(spread[name], self._packing.sizes))
        return spread

    def _adamw(self, own: Tensor, grad: Tensor, step: int) -> None:
        direction = self._scratch.take("direction", self._n_adam)
        scale = adam_direction(self._m, self._v, grad, direction, step)
        if self._decays:
            own.mul_(self._keep[: self._n_adam])
        own.addcmul_(direction, self._rate[: self._n_adam], value=-scale)

    def _adafactor(self, stack: _Stack, packed: Tensor, grad: Tensor, step: int) -> None:
        own, g = stack.of_packed(packed), stack.of_packed(grad)
        update = self._scratch.take("update", *stack.shape)
        weight = step**BETA2_DECAY
        more = None if self._more is None else self._more[stack.firsts].view(-1, 1, 1)
        if stack.factored:
            factored_variance(g, stack.row_var, stack.col_var, weight, update, more)
        else:
            update.copy_(stack.col_var.lerp_(torch.mul(g, g, out=update), weight))
        rate, keep = (factor[stack.firsts].view(-1, 1, 1) for factor in (self._rate, self._keep))
        adafactor_step(own, g, update, rate, keep if self._decays else None, step, more)


@final
@dataclass(frozen=True)
class _Run:
    """Neighbouring columns of AdamW, and where their moments stand."""

    columns: slice
    moments: slice


def _runs(slices: Sequence[slice]) -> list[_Run]:
    """Ascending slices, neighbours merged."""
    runs: list[_Run] = []
    at = 0
    for part in slices:
        end = at + part.stop - part.start
        if runs and runs[-1].columns.stop == part.start:
            runs[-1] = _Run(slice(runs[-1].columns.start, part.stop), slice(runs[-1].moments.start, end))
        else:
            runs.append(_Run(part, slice(at, end)))
        at = end
    return runs


def _complement(slices: Sequence[slice], size: int) -> list[slice]:
    """What `slices` leave of 0..size, ascending."""
    ascending = sorted(slices, key=lambda part: part.start)
    stops = [0, *(part.stop for part in ascending)]
    starts = [*(part.start for part in ascending), size]
    return [slice(stop, start) for stop, start in zip(stops, starts, strict=True) if start > stop]


@final
@dataclass(frozen=True)
class _Matrices:
    """`n` neighbouring tables of `dim` columns that take an Adafactor step together.

    `first` is the number of the first among all matrices, `factors` where their column variances stand.
    """

    columns: slice
    dim: int
    n: int
    first: int
    factors: slice


def _matrices(slices: Sequence[slice], *, together: bool) -> list[_Matrices]:
    """Neighbours of equal length in one group; on a CPU each alone: one ``[n, E]`` matrix fits the cache."""
    groups: list[_Matrices] = []
    at = 0
    for number, part in enumerate(slices):
        dim = part.stop - part.start
        last = groups[-1] if groups else None
        if together and last and last.dim == dim and last.columns.stop == part.start:
            columns = slice(last.columns.start, part.stop)
            groups[-1] = _Matrices(columns, dim, last.n + 1, last.first, slice(last.factors.start, at + dim))
        else:
            groups.append(_Matrices(part, dim, 1, number, slice(at, at + dim)))
        at += dim
    return groups


@final
@dataclass(frozen=True)
class _Packing:
    """An order of the pieces of a flat buffer that brings together what is updated together.

    `sizes` are those of the pieces as they stand, `order` their numbers as they are packed, `packed_sizes` likewise.
    """

    sizes: list[int]
    order: list[int]
    packed_sizes: list[int]

    @classmethod
    def of(cls, places: Sequence[slice]) -> _Packing:
        """Packs `places`, which cover the flat buffer, in the order given."""
        standing = sorted(range(len(places)), key=lambda i: places[i].start)
        sizes = [place.stop - place.start for place in places]
        position = {i: at for at, i in enumerate(standing)}
        return cls([sizes[i] for i in standing], [position[i] for i in range(len(places))], sizes)

    def gather(self, flat: Tensor, out: Tensor | None = None) -> Tensor:
        parts = _split(flat, self.sizes)
        ordered = [parts[i] for i in self.order]
        return torch.cat(ordered) if out is None else torch.cat(ordered, out=out)

    def scatter(self, packed: Tensor, parts: Sequence[Tensor]) -> None:
        """Writes what `gather` reads into `parts`, the pieces of a flat buffer."""
        torch._foreach_copy_([parts[i] for i in self.order], _split(packed, self.packed_sizes))


@final
@dataclass(frozen=True)
class _Stack:
    """The Adafactor parameters of one shape ``(S, rows, columns)``; `place` is where the packed buffer has them.

    `row_var` is ``[S, rows, 1]``, `col_var` ``[S, 1, columns]``: of vectors the variance itself.
    """

    place: slice
    shape: tuple[int, int, int]
    row_var: Tensor
    col_var: Tensor

    @classmethod
    def of(cls, flat: Tensor, place: slice, inner: tuple[int, int]) -> _Stack:
        rows, columns = inner
        size = (place.stop - place.start) // (rows * columns)
        return cls(place, (size, rows, columns), flat.new_zeros(size, rows, 1), flat.new_zeros(size, 1, columns))

    @property
    def factored(self) -> bool:
        return self.shape[1] > 1

    @property
    def firsts(self) -> slice:
        """First entry of each parameter."""
        return slice(self.place.start, self.place.stop, self.shape[1] * self.shape[2])

    def of_packed(self, packed: Tensor) -> Tensor:
        return packed[self.place].view(self.shape)


@final
class _Scratch:
    """Named buffers that grow as needed and are used again: fresh memory can cost more than the work on it."""

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


def _split(flat: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.split_with_sizes(flat, sizes)  # Tensor.split has no types
