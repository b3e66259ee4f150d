"""Losses of the tasks of a population, a value for each member (never a mean over members), and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.config import QuantileKind, TaskKind
from evorec.models.devices import to_device


@final
@dataclass(frozen=True)
class NumberTasks:
    """The Tn tasks whose labels are numbers, and their losses: with ``d = logit - label``,

    ``square * d * d + tilt * d + size * |d|``. Squared error / 2 is (1/2, 0, 0); the pinball loss of quantile q,
    ``max(q (label - logit), (1 - q) (logit - label))``, is (0, 1/2 - q, 1/2).

    Attributes:
        at: their indices among the tasks, ``[Tn]``.
        square, tilt, size: ``[Tn, 1]``.
    Source: Koenker & Bassett 1978 (pinball loss).
    """

    at: Tensor
    square: Tensor
    tilt: Tensor
    size: Tensor

    @classmethod
    def of(cls, kinds: Sequence[TaskKind], device: torch.device, dtype: torch.dtype) -> NumberTasks | None:
        """Among T tasks; ``None`` where all are binary."""
        numbers = {task: kind for task, kind in enumerate(kinds) if kind != "binary"}
        if not numbers:
            return None
        constants = [
            (0.0, 0.5 - kind.quantile, 0.5) if isinstance(kind, QuantileKind) else (0.5, 0.0, 0.0)
            for kind in numbers.values()
        ]
        columns = to_device(np.array(constants).T[:, :, None], device, dtype)
        return cls(to_device(np.array(list(numbers)), device), columns[0], columns[1], columns[2])


@final
@dataclass(frozen=True)
class TaskTargets:
    """Weights of each row of a batch in the mean over the labelled rows of a task; all but the last ``[T, B]``.

    Attributes:
        weight: of a label 0 or 1; 0 where there is none and for tasks whose labels are numbers.
        positive, negative: of a label 1 and of a label 0; they sum to `weight`.
        numbers: of the other tasks.
    """

    weight: Tensor
    positive: Tensor
    negative: Tensor
    numbers: NumberTargets | None = None

    @classmethod
    def of(cls, labels: Tensor, labelled: Tensor, tasks: NumberTasks | None = None) -> TaskTargets:
        """From labels ``[T, B]``, 0 where missing, and 1 where there is a label, else 0; `tasks` have numbers."""
        # Without a label in the batch 0 / 1 instead of 0 / 0: weights, loss and gradient of the task are 0.
        weight = labelled / labelled.sum(1, keepdim=True).clamp_min(1)
        numbers = None
        if tasks is not None:
            numbers = NumberTargets(tasks, labels.index_select(0, tasks.at), weight.index_select(0, tasks.at))
            weight = weight.index_fill(0, tasks.at, 0)
        positive = weight * labels
        return cls(weight, positive, weight - positive, numbers)


@final
@dataclass(frozen=True)
class NumberTargets:
    """Labels that are numbers.

    Attributes:
        tasks: the tasks with these labels.
        labels: ``[Tn, B]``, 0 where missing.
        weight: of a label in the mean over the labelled rows, ``[Tn, B]``, 0 where missing.
    """

    tasks: NumberTasks
    labels: Tensor
    weight: Tensor


def task_losses(logits: Tensor, targets: TaskTargets) -> tuple[Tensor, Tensor]:
    """Loss per member and task, averaged over the labelled rows of the batch.

    Binary cross-entropy, or squared error / 2 or pinball loss where labels are numbers.

    Args:
        logits: ``[P, T, B]``.
        targets: of the B rows.
    Returns:
        ``[P, T]``, and its gradient ``[P, T, B]``; both 0 for a task without a label in the batch.
    """
    # Not binary_cross_entropy_with_logits: the kernel of its gradient rounds the last elements of a tensor differently
    # from the others, and which elements are the last ones depends on the number of members.
    # log(1 - p) = log p - logit, so -y log p - (1 - y) log(1 - p) needs a single logsigmoid and no log of 0.
    log_p = F.logsigmoid(logits)
    losses = torch.mul(logits, targets.negative).addcmul_(log_p, targets.weight, value=-1).sum(2)
    # p - y in the memory of log p, times the weight of the row.
    to_logits = log_p.exp_().mul_(targets.weight).sub_(targets.positive)
    if targets.numbers is not None:
        at = targets.numbers.tasks.at
        loss, grad = _number_losses(logits.index_select(1, at), targets.numbers)
        losses.index_copy_(1, at, loss)
        to_logits.index_copy_(1, at, grad)
    return losses, to_logits


def _number_losses(logits: Tensor, targets: NumberTargets) -> tuple[Tensor, Tensor]:
    """`task_losses` of the tasks whose labels are numbers, ``[P, Tn, B]``; 0 is between the slopes of ``|d|``."""
    # One rounding per operation: where a product and a sum may be fused, the last elements of a tensor can differ.
    tasks, d = targets.tasks, logits - targets.labels
    half = (d * tasks.square).add_(tasks.tilt)
    loss = (half * d).add_(d.abs().mul_(tasks.size)).mul_(targets.weight).sum(2)
    slope = (d * tasks.square).add_(half).add_(d.sign_().mul_(tasks.size))
    return loss, slope.mul_(targets.weight)
