"""Fixed weights: the task weights of the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses

if TYPE_CHECKING:
    from torch import Tensor


@final
class Fixed(Balancing):
    """The plain task weights at every step."""

    name, order = "fixed", 0
    text = "these shares do not change during training"

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        return now.weights, now.weights


BALANCINGS.register(Fixed.name, Fixed())
