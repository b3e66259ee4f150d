"""Projecting conflicting gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses

if TYPE_CHECKING:
    from torch import Tensor


@final
class PcGrad(Balancing):
    """Gradient surgery in terms of the Gram matrix.

    A projected gradient is a combination of the tasks' gradients: its coefficients and its inner products with them
    are sufficient, and no gradient of all parameters is copied.

    Source: Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, algorithm 1.
    """

    name, order = "pcgrad", 5
    text = "where two tasks pull the shared layers apart, the opposed part of each is left out (PCGrad)"
    needs_gradients = True

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        gram, n_tasks = now.gram, now.gram.shape[1]
        total = now.weights.new_zeros(now.weights.shape)
        for i in range(n_tasks):
            mine, inner = total.new_zeros(total.shape), gram[:, i]
            mine[:, i].fill_(1)
            for j in now.generator("pcgrad", i).permutation(n_tasks).tolist():
                if j == i:
                    continue
                conflict = (inner[:, j] < 0) & (gram[:, j, j] > 0)
                away = (inner[:, j] / gram[:, j, j]).where(conflict, 0.0)
                mine[:, j] -= away
                # <g_i - a g_j, g_k> = <g_i, g_k> - a <g_j, g_k>.
                inner = inner - away.unsqueeze(1) * gram[:, j]
            total = total + mine
        # A task-specific parameter has the gradient of a single task: nothing conflicts there.
        return now.weights * total, now.weights


BALANCINGS.register(PcGrad.name, PcGrad())
