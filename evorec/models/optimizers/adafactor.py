"""Adafactor: a factored second moment, and steps relative to the size of the parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from evorec.metrics.cost import ADAFACTOR_FLOPS
from evorec.models.optimizer import OPTIMIZERS, FactoredOptimizer

if TYPE_CHECKING:
    from torch import Tensor

BETA2_DECAY = -0.8
"""beta2 of 1-based step t is ``1 - t ** BETA2_DECAY``."""
SMALLEST_RMS = 1e-3
"""The step size is relative to the parameter's root mean square, but at least to this."""
LARGEST_UPDATE = 1.0
"""Root mean square at which an update is clipped."""


@final
class Adafactor(FactoredOptimizer):
    """As ``torch.optim.Adafactor`` with its default settings, with decoupled decay.

    Source: Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018.
    """

    name, text, order = "adafactor", "Adafactor", 1
    flops_per_update = ADAFACTOR_FLOPS

    def variance(
        self, grad: Tensor, row_var: Tensor | None, col_var: Tensor, out: Tensor, more: Tensor | None, step: int
    ) -> None:
        import torch

        # lerp(old, new, 1 - beta2) = beta2 old + (1 - beta2) new.
        weight = step**BETA2_DECAY
        torch.mul(grad, grad, out=out)
        if row_var is None:
            out.copy_(col_var.lerp_(out, weight))
            return
        row_var.lerp_(out.mean(-1, keepdim=True), weight)
        columns, overall = out.mean(-2, keepdim=True), row_var.mean(-2, keepdim=True)
        if more is not None:
            # Rows that are switched off add 0 to the sums: the means become those of the trained rows.
            columns, overall = columns * more, overall * more
        col_var.lerp_(columns, weight)
        # As torch: all gradients may be 0 so far.
        overall.clamp_(min=torch.finfo(grad.dtype).eps)
        torch.mul(row_var, col_var / overall, out=out)  # equation 4: the rank-1 matrix of equal row and column sums

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
        import torch

        # As torch: a variance of 0 has a finite root, and its gradient of 0 makes no step.
        update.clamp_(min=torch.finfo(grad.dtype).eps ** 2).rsqrt_().mul_(grad)
        before, change = _rms(own), _rms(update)
        if more is not None:
            before, change = before * more.sqrt(), change * more.sqrt()
        # The learning rate is relative to the parameter, and falls as 1 / sqrt(t) once that is smaller.
        size = before.clamp_(min=SMALLEST_RMS).mul_(rate.clamp(max=step**-0.5))
        size.div_(change.div_(LARGEST_UPDATE).clamp_(min=1.0))
        if keep is not None:
            own.mul_(keep)
        own.addcmul_(update, size, value=-1)


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each of S parameters, ``[S, 1, 1]``."""
    import torch

    flat = values.flatten(1)
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm.div_(math.sqrt(flat.shape[1])).view(-1, 1, 1)


OPTIMIZERS.register(Adafactor.name, Adafactor())
