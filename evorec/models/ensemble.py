"""Ensemble heads: K models in one, which share the layers of the ranker.

Every head scales the inputs of the ranker by numbers of its own, passes them through the shared layers of the mechanism
as rows of its own, and has an output layer of its own for each task. The loss is the mean of the heads' losses, so each
head learns to predict by itself; the prediction is the mean of their probabilities, or of their numbers.

Source: Gorishniy et al., "TabM: advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025, the
variant TabM-mini: one adapter below the first shared layer, which starts as random signs. The full TabM has adapters at
every layer, and is hardly better in their experiments; one adapter works with any sharing mechanism.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.models.losses import TaskTargets, task_losses


def head_inputs(x: Tensor, scale: Tensor) -> Tensor:
    """The rows of every head, one head after another.

    Args:
        x: ``[P, G, B, n_in]``.
        scale: of each member and embedding group, ``[P * G, K, n_in]``.
    Returns:
        ``[P, G, K * B, n_in]``.
    """
    out: Tensor = _HeadInputs.apply(x.flatten(0, 1), scale)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:2], -1, x.shape[3])


@final
class _HeadInputs(torch.autograd.Function):
    """Elementwise, and summed in a fixed order: the bits are independent of the other members."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return (x[:, None] * scale[:, :, None]).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        to_x, to_scale = torch.zeros_like(x), torch.empty_like(scale)
        by_head = grad.view(len(x), scale.shape[1], *x.shape[1:])
        for head in range(scale.shape[1]):
            own = by_head[:, head]
            to_scale[:, head] = (own * x).sum(1)
            to_x += own * scale[:, head, None]
        return to_x, to_scale


def mean_prediction(logits: Tensor, n_heads: int, numbers: Collection[int]) -> Tensor:
    """Log-odds of the mean probability of the heads, ``[P, T, K * B] -> [P, T, B]``; the mean of tasks of numbers.

    Args:
        logits: of the heads, one head after another.
        n_heads: K.
        numbers: tasks whose labels are numbers.
    """
    if n_heads == 1:
        return logits
    by_head = logits.view(*logits.shape[:2], n_heads, -1)
    # log(mean p) - log(mean (1 - p)): exact for probabilities near 0 and 1, too.
    odds = F.logsigmoid(by_head).logsumexp(2) - F.logsigmoid(-by_head).logsumexp(2)
    if not numbers:
        return odds
    mean = by_head.mean(2)
    return torch.stack([(mean if task in numbers else odds)[:, task] for task in range(odds.shape[1])], 1)


def head_losses(logits: Tensor, targets: TaskTargets, n_heads: int) -> tuple[Tensor, Tensor]:
    """Mean of the heads' losses ``[P, T]``, and its gradient by the logits, ``[P, T, K * B]`` (`task_losses`)."""
    if n_heads == 1:
        return task_losses(logits, targets)
    members, tasks, rows = logits.shape
    by_head = logits.view(members, tasks, n_heads, rows // n_heads).transpose(1, 2).flatten(0, 1)
    losses, grads = task_losses(by_head, targets)
    first, *others = losses.view(members, n_heads, tasks).unbind(1)
    to_logits = grads.view(members, n_heads, tasks, -1).transpose(1, 2).reshape(logits.shape)
    return sum(others, first) / n_heads, to_logits.div_(n_heads)
