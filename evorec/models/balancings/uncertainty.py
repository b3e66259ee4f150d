"""Uncertainty weighting."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses

if TYPE_CHECKING:
    from torch import Tensor

ADAM_BETAS, ADAM_FLOOR = (0.9, 0.999), 1e-8


@final
class Uncertainty(Balancing):
    """A learned variance per task scales its loss.

    The log variances are trained by Adam on ``sum_t w_t (exp(-z_t) L_t + z_t / 2)`` over the labelled tasks.

    Source: Kendall et al., "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics",
    CVPR 2018.
    """

    name, order = "uncertainty", 1
    text = "training shifts these shares to the tasks with the smaller losses (uncertainty weighting)"
    state = MappingProxyType({"log_variance": 0.0, "first_moment": 0.0, "second_moment": 0.0})

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        z, precision = state["log_variance"], (-state["log_variance"]).exp()
        # 0 for a task without a label in the batch; its z then moves by momentum only.
        grad = now.weights * (0.5 - precision * now.losses) * now.labelled
        first, second = ADAM_BETAS
        state["first_moment"] = state["first_moment"] * first + grad * (1 - first)
        state["second_moment"] = state["second_moment"] * second + grad * grad * (1 - second)
        mean = state["first_moment"] / (1 - first**now.step)
        spread = (state["second_moment"] / (1 - second**now.step)).sqrt()
        state["log_variance"] = z - now.rate * mean / (spread + ADAM_FLOOR)
        return (out := now.weights * precision), out


BALANCINGS.register(Uncertainty.name, Uncertainty())
