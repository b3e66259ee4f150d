"""Id dropout: in a step, the id rows of some users and items read as 0, so that features and content count alone.

A new user or item has no id row of its own when it is measured, and a model that never saw that case relies on ids
alone. The row of unknown ids, which all new items read, is 0 and is dropped in every step, so that new items look like
dropped ones. Features, content and histories are not dropped. Ids that stay are not scaled up: a known item has its
whole id row when it is measured, a new item none, and both cases occur in training as they will be measured.

Source: Volkovs et al., "DropoutNet: addressing cold start in recommender systems", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from evorec.models.devices import to_device
from evorec.models.layers import DROPOUT_LEVELS
from evorec.seeds import generator

if TYPE_CHECKING:
    from evorec.models.spec import ModelSpec
    from evorec.training.plan import Step


@final
class IdDropout:
    """Columns of the members that drop ids, by rate.

    Args:
        members: the spec and the columns of each.
        dtype, device: of the rows.
    """

    def __init__(
        self, members: Sequence[tuple[ModelSpec, slice]], *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        columns: dict[float, list[int]] = {}
        for spec, own in members:
            if spec.id_dropout > 0:
                columns.setdefault(spec.id_dropout, []).extend(range(own.start, own.stop))
        self._columns = {rate: torch.tensor(own, device=device) for rate, own in sorted(columns.items())}
        # Made once, on the device: a step copies no number to it.
        self._zero = torch.zeros((), dtype=dtype, device=device)

    def clear_unknown_(self, table: Tensor, rows: Sequence[int]) -> None:
        """Sets the rows of unknown ids of a table ``[R, C]`` to 0; steps that always drop them leave them there."""
        for columns in self._columns.values():
            table.index_put_((torch.tensor(rows, device=table.device)[:, None], columns), self._zero)

    def without(self, values: Tensor, dropped: Mapping[float, Tensor]) -> Tensor:
        """A copy of the rows ``[n, C]`` of a step with 0 in the dropped ids; `values` itself if no member drops any."""
        return self.clear_(values.clone(), dropped) if self._columns else values

    def clear_(self, values: Tensor, dropped: Mapping[float, Tensor]) -> Tensor:
        """Sets the dropped ids to 0 in rows ``[n, C]`` of a step, or in their gradient.

        Args:
            values: of the rows of a step.
            dropped: `Step.dropped`.
        """
        for rate, columns in self._columns.items():
            values.index_put_((dropped[rate][:, None], columns), self._zero)
        return values


def with_dropped_ids(step: Step, rates: Sequence[float], *, seed: int, number: int) -> Step:
    """The step with its dropped ids: each id row with the probability of the member's rate, unknown ids always.

    All members compare the same draws with their rates: the ids that a low rate drops are among those of a high rate.

    Args:
        step: of the plan.
        rates: of all members, above 0.
        seed: of the training.
        number: 1-based.
    """
    ids = np.concatenate([np.arange(span.start, span.stop) for span in step.id_spans])
    draws = generator(seed, "id dropout", number).integers(0, DROPOUT_LEVELS, len(ids))
    draws[np.isin(ids, step.unknown_ids)] = -1
    found = {rate: ids[draws < round(rate * DROPOUT_LEVELS)] for rate in rates}
    return replace(step, dropped={rate: to_device(rows, step.rows.device) for rate, rows in found.items()})
