"""Exponential moving averages of parameters: the weighted mean of their values after every step.

After step t the average is ``sum_{i <= t} b^(t - i) (1 - b) / (1 - b^t) value_i`` with the decay b of the member, the
mean that starts without the bias of Kingma & Ba 2015 (section 3, for moments). Measuring, stored weights and exports
then use the averages; the steps themselves go on from the parameters.

Rows of embedding tables are exact, too, although a step changes few of them: a row of value r that no batch reads in n
steps only decays, by k per step, so ``average <- b^n average + (1 - b) sum_{j = 1..n} b^(n - j) k^j r``.

Source: Polyak & Juditsky 1992, averaging of iterates; with exponential weights as in Izmailov et al. 2018 (section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor


@final
class RowAverage:
    """Averages of the rows of a table ``[R, C]`` in the columns that have a decay.

    Args:
        table: ``[R, C]``.
        decays: b of each column, float64 ``(C,)``, 0 = the column has no average.
        kept: share of a row that weight decay leaves in a step, float64 ``(C,)``.
        steps: steps of the whole training; bounds the number of steps that a row can miss.
    """

    def __init__(self, table: Tensor, decays: Tensor, kept: Tensor, *, steps: int) -> None:
        self._columns = decays.nonzero().flatten()
        b, k = decays[self._columns], kept[self._columns]
        added = torch.zeros(steps + 1, len(b), dtype=torch.float64, device=table.device)
        for n in range(1, steps + 1):  # a recursion: the closed form divides by b - k, which may be 0
            added[n] = b * added[n - 1] + k**n
        counts = torch.arange(steps + 1, dtype=torch.float64, device=table.device)[:, None]
        # [steps + 1, c]: row n holds the factors of the average and of the row after n steps; rounded once.
        self._fade, self._added = (b**counts).to(table.dtype), ((1 - b) * added).to(table.dtype)
        self._decays, self._now = b, (1 - b).to(table.dtype)
        self._mean = table.new_zeros(table.shape[0], len(b))  # without the correction of the start

    @property
    def columns(self) -> list[int]:
        """The averaged columns of the table, ascending."""
        found: list[int] = self._columns.tolist()
        return found

    def take(self, rows: Tensor, values: Tensor, missed: Tensor, after: Tensor) -> None:
        """Adds the steps that some rows missed, then a step.

        Args:
            rows: distinct row numbers, ``(n,)``.
            values: the rows after the last step that changed them, ``[n, C]``.
            missed: steps since then, ``(n,)``.
            after: the rows after the step, ``[n, C]``.
        """
        mean = self._mean.index_select(0, rows)
        self._skip(mean, values, missed)
        # A product and a sum that are not fused: fused kernels round the last entries of a tensor differently.
        mean.mul_(self._fade[1]).add_(after.index_select(1, self._columns).mul_(self._now))
        self._mean.index_copy_(0, rows, mean)

    def skip(self, part: slice, values: Tensor, missed: Tensor) -> None:
        """Adds the steps that consecutive rows missed; `values` and `missed` as in `take`."""
        self._skip(self._mean[part], values, missed)

    def put(self, table: Tensor, step: int) -> None:
        """Overwrites the averaged columns of a table with the averages of `step` >= 1 steps."""
        table[:, self._columns] = self._mean / (1 - self._decays**step).to(table.dtype)

    def state(self, inside: Sequence[int]) -> Tensor:
        """Copy of some columns, as indices in `columns`, ``[R, n]``."""
        return self._mean[:, inside]

    def load_state(self, inside: Sequence[int], state: Tensor) -> None:
        """Restores the `state` of the same columns."""
        self._mean[:, inside] = state

    def _skip(self, mean: Tensor, values: Tensor, missed: Tensor) -> None:
        mean.mul_(self._fade.index_select(0, missed))
        mean.add_(values.index_select(1, self._columns).mul_(self._added.index_select(0, missed)))


@final
class DenseAverage:
    """Averages of the entries of a flat buffer that have a decay.

    Args:
        flat: ``(N,)``.
        decays: b of each entry, float64 ``(N,)``, 0 = the entry has no average.
    """

    def __init__(self, flat: Tensor, decays: Tensor) -> None:
        self._flat, self._entries = flat, decays.nonzero().flatten()
        self._decays = decays[self._entries]
        self._fade, self._added = self._decays.to(flat.dtype), (1 - self._decays).to(flat.dtype)
        self._mean = flat.new_zeros(len(self._entries))

    def take(self) -> None:
        """Adds a step."""
        self._mean.mul_(self._fade).add_(self._flat.index_select(0, self._entries).mul_(self._added))

    def put(self, step: int) -> None:
        """Overwrites the entries with their averages of `step` >= 1 steps."""
        self._flat[self._entries] = self._mean / (1 - self._decays**step).to(self._flat.dtype)

    def state(self, entries: Tensor) -> Tensor:
        """The averages of some entries of the buffer, ``(k,)``; 0 where there is none."""
        spread = torch.zeros_like(self._flat)
        spread[self._entries] = self._mean
        return spread[entries]

    def load_state(self, entries: Tensor, state: Tensor) -> None:
        """Restores the `state` of the same entries."""
        spread = torch.zeros_like(self._flat)
        spread[self._entries] = self._mean
        spread[entries] = state
        self._mean = spread[self._entries]
