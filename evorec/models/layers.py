"""Ragged slots: how members of different sharing depth run in one tensor program.

The ranker has L layers between the embeddings and the heads. A member of sharing depth d owns one *slot* in each of
its first d layers (shared by all tasks) and T slots, one per task, in each later layer. The slots of all members stand
side by side on the first axis of one weight tensor ``[S, in, out]``, so a layer is one batched product whatever the
depths are, and no member pays for a deeper or wider neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from evorec.seeds import generator

SHARED = -1
"""The task index of a slot that serves all tasks."""

Uniforms = Callable[[int, int, int], Tensor]
"""``(layer, batch, width) -> [batch, width]`` uniform draws for dropout, the same for every member."""


@final
@dataclass(frozen=True)
class SlotLayer:
    """The slots of one layer, in member order, then task order.

    Attributes:
        member: owner of each slot, ``(S,)``.
        task: task of each slot or `SHARED`, ``(S,)``.
        source: slot of the layer below that feeds each slot, ``(S,)``; in layer 0 the member itself.
    """

    member: tuple[int, ...]
    task: tuple[int, ...]
    source: tuple[int, ...]

    @property
    def n_slots(self) -> int:
        """Number of slots S."""
        return len(self.member)


def slot_layers(depths: Sequence[int], n_tasks: int, n_layers: int) -> tuple[SlotLayer, ...]:
    """Slots of every layer for members of the given sharing depths.

    Args:
        depths: sharing depth of each member, ``(P,)``, each in ``0..n_layers``.
        n_tasks: T.
        n_layers: L.
    Example:
        >>> [layer.n_slots for layer in slot_layers([0, 2], n_tasks=3, n_layers=2)]
        [4, 4]
        >>> slot_layers([1], n_tasks=2, n_layers=2)[1].source
        (0, 0)
    """
    layers: list[SlotLayer] = []
    for level in range(n_layers):
        owners = [
            (member, task)
            for member, depth in enumerate(depths)
            for task in ((SHARED,) if level < depth else range(n_tasks))
        ]
        source = [member if level == 0 else _slot_below(layers[level - 1], member, task) for member, task in owners]
        layers.append(SlotLayer(tuple(m for m, _ in owners), tuple(t for _, t in owners), tuple(source)))
    return tuple(layers)


def head_slots(last: SlotLayer, n_members: int, n_tasks: int) -> tuple[int, ...]:
    """Slot of the last layer that feeds each (member, task) head, ``(P * T,)``."""
    return tuple(_slot_below(last, member, task) for member in range(n_members) for task in range(n_tasks))


def _slot_below(below: SlotLayer, member: int, task: int) -> int:
    for slot, (owner, its_task) in enumerate(zip(below.member, below.task, strict=True)):
        if owner == member and its_task in (task, SHARED):
            return slot
    raise AssertionError(f"member {member} has no slot for task {task}")


def draw_columns(run_seed: int, purpose: str, key: Sequence[int], n_rows: int, n_columns: int) -> np.ndarray:
    """Standard normal ``(n_rows, n_columns)``, one stream per column.

    A narrower member's matrix is the first columns (and first rows) of a wider one's: the width shifts no stream.
    """
    out = np.empty((n_rows, n_columns))
    for column in range(n_columns):
        out[:, column] = generator(run_seed, purpose, *key, column).standard_normal(n_rows)
    return out


def select_slots(x: Tensor, source: tuple[int, ...]) -> Tensor:
    """``[S_below, B, D] -> [S, B, D]``; no copy when every slot reads its own."""
    if source == tuple(range(x.shape[0])):
        return x
    return x.index_select(0, torch.tensor(source, device=x.device))


def slot_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[S, B, in] @ [S, in, out] + [S, 1, out] -> [S, B, out]``."""
    return torch.baddbmm(bias, x, weight)


def dropout(x: Tensor, rate: Tensor, uniform: Tensor) -> Tensor:
    """Inverted dropout with one shared draw and one rate per member.

    Args:
        x: ``[P, B, D]``.
        rate: ``[P, 1, 1]`` in ``[0, 1)``; at 0 the result is exactly `x`.
        uniform: ``[B, D]`` in ``[0, 1)``.
    """
    return (x / (1 - rate)).masked_fill(uniform < rate, 0.0)


def slot_layer(x: Tensor, weight: Tensor, bias: Tensor, rate: Tensor, uniform: Tensor | None) -> Tensor:
    """Linear layer, ReLU and inverted dropout of every slot.

    Args:
        x: ``[S, B, in]``.
        weight: ``[S, in, out]``.
        bias: ``[S, 1, out]``.
        rate: dropout rate per slot ``[S, 1, 1]`` in ``[0, 1)``; a slot of rate 0 is not touched by dropout.
        uniform: ``[B, out]`` in ``[0, 1)``, shared by all slots (common random numbers make members comparable);
            ``None`` = no dropout.
    Returns:
        ``[S, B, out]``.
    """
    out: Tensor = _SlotLayer.apply(x, weight, bias, rate, uniform)  # type: ignore[no-untyped-call]
    return out


@final
class _SlotLayer(torch.autograd.Function):
    """Keeps one activation per layer instead of four: a unit is positive exactly when it passed ReLU and dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rate: Tensor, uniform: Tensor | None) -> Tensor:
        if uniform is None:
            scaled, shift = weight, bias
        else:  # relu(c * z) = c * relu(z): dropout's scale goes into the small weights
            scaled, shift = weight / (1 - rate), bias / (1 - rate)
        out = torch.baddbmm(shift, x, scaled).relu_()
        if uniform is not None:
            out.masked_fill_(uniform < rate, 0.0)
        ctx.save_for_backward(x, scaled, out, rate if uniform is not None else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scaled, out, rate = ctx.saved_tensors
        # the layer above is done with `out`: its memory takes the gradient
        inner = torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=out)
        to_weight, to_bias = torch.bmm(x.transpose(1, 2), inner), inner.sum(1, keepdim=True)
        if rate is not None:
            to_weight, to_bias = to_weight / (1 - rate), to_bias / (1 - rate)
        return torch.bmm(inner, scaled.transpose(1, 2)), to_weight, to_bias, None, None
