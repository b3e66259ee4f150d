"""Optimisers: the update of a step on tensors of many members, and the registry.

`evorec.training.optim` applies them to the rows of embedding tables and to the flat buffer of dense parameters.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evorec.models.choice import Choice
from evorec.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Optimizer(Choice):
    """An update rule. Learning rate and decoupled weight decay are applied outside, per column or entry.

    Attributes:
        flops_per_update: arithmetic per dense parameter and step.
        flops_per_row_update: arithmetic per parameter of the updated embedding rows; ``None`` = as of dense parameters.
        states: names of the state tensors, unique among optimisers up to equal meaning.
        pads_exactly: whether zeros at the end of a parameter's axes leave its other entries the same.
        of_dense: name of the optimiser of the dense parameters, if it is another one.
    """

    flops_per_update: int
    flops_per_row_update: int | None = None
    states: tuple[str, ...]
    pads_exactly: bool = False
    of_dense: str = ""

    def table_states(self, dim: int) -> float:
        """Numbers of state per embedding parameter, at most, for rows of `dim` parameters."""
        return 2.0


class ElementwiseOptimizer(Optimizer):
    """Every entry is updated by itself; `states` are moments with an entry per parameter."""

    pads_exactly = True

    @abc.abstractmethod
    def direction(self, moments: Sequence[Tensor], grad: Tensor, out: Tensor, step: int) -> float:
        """Updates the moments; the step is the learning rate times `out` times the returned factor.

        Args:
            moments: in the order of `states`, of the shape of `grad`.
            grad: gradient.
            out: takes the direction, of the shape of `grad`.
            step: 1-based.
        """


class FactoredOptimizer(Optimizer):
    """Matrices are updated as a whole; `states` are a variance per row and a variance per column."""

    states = ("row_var", "col_var")

    @abc.abstractmethod
    def variance(
        self, grad: Tensor, row_var: Tensor | None, col_var: Tensor, out: Tensor, more: Tensor | None, step: int
    ) -> None:
        """Updates both factors and writes to `out` the variance that they estimate.

        Args:
            grad: ``[S, rows, columns]``.
            row_var: ``[S, rows, 1]``; ``None`` = these are vectors, whose variance `col_var` holds unfactored.
            col_var: ``[S, 1, columns]``.
            out: of the shape of `grad`.
            more: ``[S, 1, 1]``, ratio of all rows to trained rows: the gradients of the others are 0, and means over
                rows leave them out; ``None`` = all are trained.
            step: 1-based.
        """

    @abc.abstractmethod
    def apply(
        self,
        own: Tensor,
        grad: Tensor,
        update: Tensor,
        rate: Tensor,
        keep: Tensor | None,
        step: int,
        more: Tensor | None,
    ) -> None:
        """Updates the S parameters `own` ``[S, rows, columns]``, which are overwritten.

        Args:
            own: parameters.
            grad: their gradient.
            update: its `variance`; overwritten.
            rate: learning rates, ``[S, 1, 1]``.
            keep: share that decay leaves, ``[S, 1, 1]``; ``None`` = nothing decays.
            step: 1-based.
            more: see `variance`.
        """


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", package="evorec.models.optimizers")
"""Optimisers by name."""
