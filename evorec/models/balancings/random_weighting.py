"""Random weighting."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses, softmax

if TYPE_CHECKING:
    from torch import Tensor


@final
class RandomWeighting(Balancing):
    """The softmax of normal draws, the same for all members.

    Source: Lin et al., "Reasonable effectiveness of random weighting: a litmus test for multi-task learning", TMLR
    2022.
    """

    name, order = "random", 3
    text = "each step multiplies them by weights drawn anew (random weighting)"

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        from evorec.models.devices import to_device

        # Drawn on the host, so that the weights are the same on every device.
        draw = now.generator("random weighting").standard_normal(now.weights.shape[1])
        return (out := now.weights * softmax(to_device(draw, now.weights.device)[None])), out


BALANCINGS.register(RandomWeighting.name, RandomWeighting())
