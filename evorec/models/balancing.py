"""Rules that balance the task losses of each member: the coefficients of a step, and the registry of the rules.

All rules work on small tensors ``[P, T]`` and, where they look at gradients, on the Gram matrix ``[P, T, T]`` of the
task losses' gradients with respect to the shared parameters. Everything is computed in float64, elementwise over
members: a sum over tasks is written out task by task (`total`), because a reduction kernel may add in another order
when there are other members.

A task without a label in the batch has loss and gradient 0: its coefficient has no effect, and it moves no state of the
others.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, final

from evorec.models.choice import Choice
from evorec.registry import Registry
from evorec.seeds import generator

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

State = dict[str, "Tensor"]
"""Name -> ``[n, T]``; a rule replaces the tensors that it changes."""


@final
@dataclass(frozen=True)
class StepLosses:
    """Losses and gradients of a step for n members, in float64.

    Attributes:
        step: 1-based.
        seed: run seed.
        weights, losses: ``[n, T]``.
        labelled: ``[n, T]``, 1 or 0.
        rate: learning rates, ``[n, 1]``.
        gram: ``[n, T, T]`` of the gradients of the weighted losses; 0 for rules that do not need gradients.
        rounding: relative rounding unit of the Gram matrix as it was computed.
        retrieval: retrieval losses times their weight, ``[n, 1]``; ``None`` = there are none.
        condition: the numbers of `evorec.training.plan.Step.condition`, or ``None``.
    """

    step: int
    seed: int
    weights: Tensor
    losses: Tensor
    labelled: Tensor
    rate: Tensor
    gram: Tensor
    rounding: float
    retrieval: Tensor | None = None
    condition: Tensor | None = None

    def generator(self, purpose: str, *key: int) -> np.random.Generator:
        """Random numbers of this step, the same for all members."""
        return generator(self.seed, purpose, self.step, *key)


class Balancing(Choice):
    """A rule for the coefficients of the task losses.

    Attributes:
        needs_gradients: whether it reads `StepLosses.gram`, for which each task costs a backward pass of its own.
        state: tensors carried from step to step, with their first value; names are unique among all rules.
    """

    needs_gradients: bool = False
    state: Mapping[str, float] = {}

    @abc.abstractmethod
    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        """Factors of the losses, ``[n, T]`` each: for parameters that serve several tasks, and for the others.

        Args:
            now: losses and gradients.
            state: of `Balancing.state`, ``[n, T]`` each; changed tensors are replaced in it.
        """

    def retrieval_factor(self, now: StepLosses) -> Tensor | None:
        """Factor of the retrieval loss besides its weight, ``[n, 1]``; ``None`` = 1, as for all built-in rules."""
        return None


BALANCINGS: Registry[Balancing] = Registry("balancing", package="evorec.models.balancings")
"""Ways of balancing the task losses."""


def total(x: Tensor) -> Tensor:
    """Sum over the last axis, kept, term by term."""
    return reduce(add, x.unbind(-1)).unsqueeze(-1)


def softmax(x: Tensor) -> Tensor:
    """Softmax over tasks ``[n, T]``, times T."""
    # Relative to the largest, so that exp cannot overflow.
    raised = (x - x.amax(1, keepdim=True)).exp()
    return x.shape[1] * raised / total(raised)
