"""Gradient normalization."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses, total

if TYPE_CHECKING:
    from torch import Tensor

GRADNORM_RATE = 0.025
GRADNORM_LEAST = 1e-3
"""Lower bound of a task's scale: a scale that reached 0 would never return."""


@final
class GradNorm(Balancing):
    """Scales that move each gradient's norm towards a common norm, larger for tasks that learn slowly.

    Source: Chen et al., "GradNorm: gradient normalization for adaptive loss balancing", ICML 2018, with alpha = 1.5.
    """

    name, order = "gradnorm", 4
    text = "training shifts these shares so that all tasks learn equally fast (GradNorm)"
    needs_gradients = True
    state = MappingProxyType({"first_loss": 0.0, "scale": 1.0})

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        # Over all shared parameters; the paper takes the last shared layer, to save work that the Gram matrix has done.
        scale, norm = state["scale"], now.gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        first = state["first_loss"]
        # That of the first batch with a label of the task, which need not be the first batch.
        state["first_loss"] = first.where(first > 0, now.losses * now.labelled)
        counted = now.labelled * (state["first_loss"] > 0)
        n_counted = total(counted).clamp_min(1)
        progress = counted * now.losses / state["first_loss"].where(counted > 0, 1.0)
        mean_progress = total(progress) / n_counted
        progress = (progress / mean_progress).where(mean_progress > 0, 1.0)
        target = total(counted * scale * norm) / n_counted * progress * progress.sqrt()  # r ** 1.5
        # A subgradient step on sum |scale * norm - target|, with the target held constant.
        moved = (scale - GRADNORM_RATE * counted * (scale * norm - target).sign() * norm).clamp_min(GRADNORM_LEAST)
        # Sum T again, so that only the shares move and not the size of the steps.
        moved = moved * (scale.shape[1] / total(moved))
        # Gradients that are not finite leave the scales as they are.
        state["scale"] = moved.where(total(moved).isfinite(), scale)
        # The scales of this step: the moved scales count from the next step on.
        return (out := now.weights * scale), out


BALANCINGS.register(GradNorm.name, GradNorm())
