"""Dynamic weight averaging."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses, softmax

if TYPE_CHECKING:
    from torch import Tensor

DWA_WINDOW = 10
"""Steps over which a loss is averaged; the paper averages over epochs."""
DWA_TEMPERATURE = 2.0


@final
class DynamicWeightAverage(Balancing):
    """Weights by the ratio of a task's last two mean losses.

    A task without a label in either window counts as a task whose loss did not change.

    Source: Liu et al., "End-to-end multi-task learning with attention", CVPR 2019, equation 7.
    """

    name, order = "dwa", 2
    text = "a task whose loss falls more slowly than the others' gets more (dynamic weight averaging)"
    state = MappingProxyType({"window_sum": 0.0, "window_count": 0.0, "last_mean": 0.0, "earlier_mean": 0.0})

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        last, earlier = state["last_mean"], state["earlier_mean"]
        out = now.weights
        # A ratio needs two full windows.
        if now.step > 2 * DWA_WINDOW:
            ratio = (last / earlier).where((last > 0) & (earlier > 0), 1.0)
            out = out * softmax(ratio / DWA_TEMPERATURE)
        state["window_sum"] = state["window_sum"] + now.losses * now.labelled
        state["window_count"] = state["window_count"] + now.labelled
        if now.step % DWA_WINDOW == 0:
            state["earlier_mean"] = last
            state["last_mean"] = state["window_sum"] / state["window_count"].clamp_min(1)
            state["window_sum"], state["window_count"] = last.new_zeros(last.shape), last.new_zeros(last.shape)
        return out, out


BALANCINGS.register(DynamicWeightAverage.name, DynamicWeightAverage())
