"""Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from evorec.metrics.cost import ADAM_FLOPS
from evorec.models.optimizer import OPTIMIZERS, ElementwiseOptimizer

if TYPE_CHECKING:
    from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@final
class AdamW(ElementwiseOptimizer):
    """Moments of the gradient and of its square, both bias-corrected.

    Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    name, text, order = "adamw", "AdamW", 0
    flops_per_update = ADAM_FLOPS
    states = ("m", "v")

    def direction(self, moments: Sequence[Tensor], grad: Tensor, out: Tensor, step: int) -> float:
        import torch

        m, v = moments
        m.lerp_(grad, 1 - BETA1)
        v.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
        # Adam's convention: epsilon is added after the bias correction, here multiplied through. SparseAdam adds it
        # before, which changes weights by up to 0.07 within 20 steps.
        root = math.sqrt(1 - BETA2**step)
        torch.sqrt(v, out=out).add_(EPSILON * root)
        torch.div(m, out, out=out)
        # Both corrections in a number that multiplies the learning rate: no pass over the moments.
        return root / (1 - BETA1**step)


OPTIMIZERS.register(AdamW.name, AdamW())
