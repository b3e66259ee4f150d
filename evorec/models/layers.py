"""Ragged slots: how members of different sharing depth run in one tensor program.

The ranker has L layers between the embeddings and the heads. A member of sharing depth d owns one *slot* in each of
its first d layers (shared by all tasks) and T slots, one per task, in each later layer. The slots of all members stand
side by side on the first axis of one weight tensor ``[S, in, out]``, so a layer is one batched product whatever the
depths are, and no member pays for a deeper or wider neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from evorec.seeds import generator

SHARED = -1
"""The task index of a slot that serves all tasks."""

DROPOUT_LEVELS = 2**15
"""A dropout draw is an integer below this; a unit is kept where the draw is at least ``rate * DROPOUT_LEVELS``."""

Drop = Callable[[int, int, int], Tensor]
"""``(level, batch, width) -> int16 [batch, width]`` draws for dropout, the same for every member."""

BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}
"""The integer type whose bits are those of a floating point type: masks by `and` cost a quarter of `masked_fill`."""


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


def slot_linear(x: Tensor, source: tuple[int, ...], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Linear layer of every slot.

    Args:
        x: ``[S_below, B, in]``.
        source: slot of `x` that each slot reads, ``(S,)``.
        weight: ``[S, in, out]``.
        bias: ``[S, 1, out]`` or ``None``.
    Returns:
        ``[S, B, out]``.
    """
    out: Tensor = _SlotLinear.apply(x, weight, bias, source)  # type: ignore[no-untyped-call]
    return out


def slot_layer(
    x: Tensor,
    source: tuple[int, ...],
    weight: Tensor,
    bias: Tensor,
    drop: Dropout | None,
    uniform: Tensor | None,
    *,
    keep: bool = False,
) -> Tensor:
    """Linear layer, ReLU and inverted dropout of every slot.

    Args:
        x: ``[S_below, B, in]``.
        source: slot of `x` that each slot reads, ``(S,)``.
        weight: ``[S, in, out]``.
        bias: ``[S, 1, out]``.
        drop: dropout of the slots; a slot of rate 0 is not touched by it.
        uniform: int16 ``[B, out]`` draws, shared by all slots (common random numbers make members comparable);
            ``None`` = no dropout.
        keep: whether the graph is walked more than once; else the gradient takes the memory of the output.
    Returns:
        ``[S, B, out]``.
    """
    out: Tensor = _SlotLayer.apply(x, weight, bias, drop, uniform, source, keep)  # type: ignore[no-untyped-call]
    return out


@final
@dataclass(frozen=True)
class Dropout:
    """Inverted dropout of slots.

    Attributes:
        below: int ``[S, 1, 1]``; a unit is dropped where its draw is at most this.
        scale: ``1 / (1 - rate)`` of each slot, ``[S, 1, 1]``, exactly 1 at rate 0.
    """

    below: Tensor
    scale: Tensor

    @classmethod
    def at(cls, rates: Sequence[float], like: Tensor, *, bits: torch.dtype) -> Dropout | None:
        """From rates in ``[0, 1)``, one per slot; ``None`` where nobody drops anything.

        Args:
            like: gives type and device of the scale.
            bits: the integer type of the activations (`BITS`).
        """
        if not any(rates):
            return None
        exact = torch.tensor(rates, dtype=torch.float64, device=like.device)[:, None, None]
        return cls((exact * DROPOUT_LEVELS).round().to(bits) - 1, (1 / (1 - exact)).to(like.dtype))

    def of(self, members: slice, slots: int) -> Dropout:
        """The part of consecutive members, each with so many slots."""
        if members == slice(None):
            return self
        own = slice(members.start * slots, members.stop * slots)
        return Dropout(self.below[own], self.scale[own])

    def apply_(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Sets the dropped units of `x` ``[S, B, D]`` to 0, in place, by int16 draws ``[B, D]``; does not scale."""
        kind = BITS[x.dtype]
        # draw > below: the difference is negative, and its sign fills the mask
        mask = torch.sub(self.below, uniform.to(kind)).bitwise_right_shift_(x.element_size() * 8 - 1)
        x.view(kind).bitwise_and_(mask)
        return x


@final
class _SlotLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, source: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.source, ctx.biased = source, bias is not None
        return _forward(x, source, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight = _backward(x, ctx.source, weight, grad.contiguous(), ctx.needs_input_grad[0])
        return to_x, to_weight, grad.sum(1, keepdim=True) if ctx.biased else None, None


@final
class _SlotLayer(torch.autograd.Function):
    """Keeps one activation per layer instead of four: a unit is positive exactly when it passed ReLU and dropout."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        drop: Dropout | None,
        uniform: Tensor | None,
        source: tuple[int, ...],
        keep: bool,
    ) -> Tensor:
        scale = None if drop is None or uniform is None else drop.scale
        if scale is not None:  # relu(c * z) = c * relu(z): dropout's scale goes into the small weights
            weight, bias = (weight * scale).to(x.dtype), (bias * scale).to(x.dtype)
        out = _relu_(_forward(x, source, weight, bias))
        if drop is not None and uniform is not None:
            drop.apply_(out, uniform)
        ctx.save_for_backward(x, weight, out)
        ctx.source, ctx.keep, ctx.scale = source, keep, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, scaled, out = ctx.saved_tensors
        grad = grad.contiguous()
        # the layer above is done with `out`: its memory takes the gradient
        into = torch.empty_like(out) if ctx.keep else out
        inner = torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=into)
        to_x, to_weight = _backward(x, ctx.source, scaled, inner, ctx.needs_input_grad[0])
        to_bias = inner.sum(1, keepdim=True)
        if ctx.scale is not None:
            to_weight, to_bias = (to_weight * ctx.scale).to(x.dtype), (to_bias * ctx.scale).to(x.dtype)
        return to_x, to_weight, to_bias, None, None, None, None


def _relu_(x: Tensor) -> Tensor:
    """ReLU in place; in bfloat16 on the integer bits, which costs a quarter (a negative NaN becomes 0)."""
    if x.dtype == torch.bfloat16:
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.relu_()


@final
@dataclass(frozen=True)
class _Run:
    """Consecutive slots ``first .. first + n`` that read consecutive slots from `source` on, or all the same one."""

    first: int
    n: int
    source: int
    same: bool

    def of(self, x: Tensor) -> Tensor:
        """What the slots read, ``[n, B, in]`` without a copy."""
        if self.same:
            return x[self.source : self.source + 1].expand(self.n, -1, -1)
        return x[self.source : self.source + self.n]

    def slots(self, x: Tensor) -> Tensor:
        return x[self.first : self.first + self.n]


@cache
def _runs(source: tuple[int, ...]) -> tuple[_Run, ...]:
    """The slots in runs.

    Example:
        >>> [(run.first, run.n, run.source, run.same) for run in _runs((0, 1, 2, 2, 2))]
        [(0, 2, 0, False), (2, 3, 2, True)]
    """
    runs: list[_Run] = []
    at = 0
    while at < len(source):
        n = 1
        same = at + 1 < len(source) and source[at + 1] == source[at]
        while at + n < len(source) and source[at + n] == source[at] + (0 if same else n):
            if not same and at + n + 1 < len(source) and source[at + n + 1] == source[at + n]:
                break  # the next slot begins a run of its own
            n += 1
        runs.append(_Run(at, n, source[at], same))
        at += n
    return tuple(runs)


def _forward(x: Tensor, source: tuple[int, ...], weight: Tensor, bias: Tensor | None) -> Tensor:
    out = x.new_empty(weight.shape[0], x.shape[1], weight.shape[2])
    for run in _runs(source):
        product(run.of(x), run.slots(weight), run.slots(out), None if bias is None else run.slots(bias))
    return out


def _backward(
    x: Tensor, source: tuple[int, ...], weight: Tensor, grad: Tensor, wants_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of input and weight from the gradient ``[S, B, out]`` of the product."""
    runs = _runs(source)
    to_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    for run in runs:
        product(run.of(x).transpose(1, 2), run.slots(grad), run.slots(to_weight))
    if not wants_x:
        return None, to_weight
    read_once = len(runs) == 1 or len({s for run in runs for s in _sources(run)}) == sum(len(_sources(r)) for r in runs)
    covered = read_once and len({s for run in runs for s in _sources(run)}) == x.shape[0]
    to_x = x.new_empty(x.shape) if covered else x.new_zeros(x.shape)
    for run in runs:
        _to_input(run, run.slots(weight).transpose(1, 2), run.slots(grad), to_x, overwrite=covered)
    return to_x, to_weight


def _sources(run: _Run) -> range:
    return range(run.source, run.source + (1 if run.same else run.n))


def _to_input(run: _Run, weight: Tensor, grad: Tensor, to_x: Tensor, *, overwrite: bool) -> None:
    target = to_x[_sources(run).start : _sources(run).stop]
    if overwrite and not run.same:
        product(grad, weight, target)
        return
    each = product(grad, weight, target.new_empty(run.n, *target.shape[1:]))
    if run.same:
        each = each.sum(0, keepdim=True)
    if overwrite:
        target.copy_(each)
    else:
        target.add_(each)


def product(x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight + bias`` slot by slot into `out`; a slot's result never depends on how many there are.

    Args:
        x: ``[S, m, k]``; weight: ``[S, k, n]``; out: contiguous ``[S, m, n]``; bias: ``[S, 1, n]``.
    """
    if len(x) == 1 and not _lone_is_exact(x.dtype, x.device.type, *x.shape[1:], weight.shape[2], bias is not None,
                                          x.stride(2) == 1, weight.stride(2) == 1):  # fmt: skip
        twice = out.new_empty(2, *out.shape[1:])
        product(x.expand(2, -1, -1), weight.expand(2, -1, -1), twice, None if bias is None else bias.expand(2, -1, -1))
        return out.copy_(twice[:1])
    if bias is None:
        return torch.bmm(x, weight, out=out)
    return torch.baddbmm(bias, x, weight, out=out)


@cache
def _lone_is_exact(
    dtype: torch.dtype, device: str, m: int, k: int, n: int, biased: bool, x_rows: bool, weight_rows: bool
) -> bool:
    """Whether a batch of one rounds like a batch of two here: libraries may pick another kernel for one matrix."""
    if device != "cpu":
        return True  # bitwise equality is promised on a CPU
    rng = torch.Generator().manual_seed(0)

    def draw(rows: int, columns: int, by_rows: bool) -> Tensor:
        flat = torch.randn(1, *((rows, columns) if by_rows else (columns, rows)), generator=rng).to(dtype)
        return flat if by_rows else flat.transpose(1, 2)

    x, weight = draw(m, k, x_rows), draw(k, n, weight_rows)
    two = [t.expand(2, -1, -1) for t in (x, weight)]
    if biased:
        bias = draw(1, n, True)
        return torch.equal(torch.baddbmm(bias, x, weight), torch.baddbmm(bias.expand(2, -1, -1), *two)[:1])
    return torch.equal(torch.bmm(x, weight), torch.bmm(*two)[:1])
