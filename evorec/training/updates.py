"""One step of AdamW and of Adafactor, on tensors of any owner.

Adafactor equals ``torch.optim.Adafactor`` with its default settings: decoupled decay, step size relative to the root
mean square of the parameter. Sources: Loshchilov & Hutter 2019; Shazeer & Stern 2018.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
BETA2_DECAY = -0.8
"""Adafactor: beta2 of 1-based step t is ``1 - t ** BETA2_DECAY``."""
SMALLEST_RMS = 1e-3
"""Adafactor: the step size is relative to the parameter's root mean square, but at least to this."""
LARGEST_UPDATE = 1.0
"""Adafactor: root mean square at which an update is clipped."""


def adam_direction(m: Tensor, v: Tensor, grad: Tensor, out: Tensor, step: int) -> float:
    """Updates both moments in place; `out` times the number returned is the bias-corrected direction."""
    m.lerp_(grad, 1 - BETA1)
    v.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    root = math.sqrt(1 - BETA2**step)
    torch.sqrt(v, out=out).add_(EPSILON * root)
    torch.div(m, out, out=out)
    return root / (1 - BETA1**step)


def factored_variance(
    grad: Tensor, row_var: Tensor, col_var: Tensor, weight: float, out: Tensor, more: Tensor | None
) -> None:
    """Updates both factors in place and writes to `out` the variance they estimate; `weight` is 1 - beta2.

    `grad` and `out` are ``[S, rows, columns]``, `row_var` ``[S, rows, 1]``, `col_var` ``[S, 1, columns]``; `more`
    ``[S, 1, 1]`` is how many times more rows than trained ones there are, whose gradients are 0.
    """
    torch.mul(grad, grad, out=out)
    row_var.lerp_(out.mean(-1, keepdim=True), weight)
    columns, overall = out.mean(-2, keepdim=True), row_var.mean(-2, keepdim=True)
    if more is not None:
        columns, overall = columns * more, overall * more
    col_var.lerp_(columns, weight)
    overall.clamp_(min=torch.finfo(grad.dtype).eps)
    torch.mul(row_var, col_var / overall, out=out)


def adafactor_step(
    own: Tensor, grad: Tensor, update: Tensor, rate: Tensor, keep: Tensor | None, step: int, more: Tensor | None
) -> None:
    """One step of the S parameters `own` ``[S, rows, columns]`` in place.

    `update` is the variance of `grad`, of the same shape, and spoiled; `rate`, `keep` (``None`` = nothing decays) and
    `more` (`factored_variance`) are ``[S, 1, 1]``.
    """
    update.clamp_(min=torch.finfo(grad.dtype).eps ** 2).rsqrt_().mul_(grad)
    before, change = _rms(own), _rms(update)
    if more is not None:
        before, change = before * more.sqrt(), change * more.sqrt()
    size = before.clamp_(min=SMALLEST_RMS).mul_(rate.clamp(max=step**-0.5))
    size.div_(change.div_(LARGEST_UPDATE).clamp_(min=1.0))
    if keep is not None:
        own.mul_(keep)
    own.addcmul_(update, size, value=-1)


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each of S parameters, ``[S, 1, 1]``."""
    flat = values.flatten(1)
    norm: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm.div_(math.sqrt(flat.shape[1])).view(-1, 1, 1)
