"""Layers of slots: how members of different shape and depth run in the same tensor program.

The matrices of all members are stacked on the first axis of a weight tensor ``[S, in, out]``; each is a *slot* with the
index of the vector below that it reads. So a layer is a few batched products for any mix of members. Slots are
ragged: a member of sharing depth d owns a single slot in each of its first d layers and T slots, a slot per task, in
each later layer. Computing all branches and selecting weights instead costs 1.5 times as much, selecting activations 2
to 3 times.

Autograd functions are written by hand: a layer keeps its output instead of four activations, and the gradient
overwrites it.
`torch.compile` of the stacked program was 1.2 times slower on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from evorec.models.devices import runs_ahead
from evorec.seeds import generator

DROPOUT_LEVELS = 2**15
"""A dropout draw is an integer below this; a unit is kept where the draw is at least ``rate * DROPOUT_LEVELS``."""

LONGEST_PERIOD = 64
"""Most slots of a member in a layer for which equal members share a batched product on a GPU."""

BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}
"""The integer type whose bits are those of a floating point type: masks by `and` cost a quarter of `masked_fill`."""


def draw_columns(run_seed: int, purpose: str, key: Sequence[int], n_rows: int, n_columns: int) -> np.ndarray:
    """Standard normal ``(n_rows, n_columns)``, with a random stream for each column.

    So the matrix of a narrow member is the first columns (and rows) of that of a wide member.
    """
    # Float64 whatever the type of the parameters: training in float32 and in float64 starts from the same draws.
    # Float64 whatever the type of the parameters: training in float32 and in float64 starts from the same draws.
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
        keep: whether several backward passes go through the graph; else the gradient overwrites the output.
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
        below: int ``[R, 1, 1]`` of R rates above 0; a unit is dropped where its draw is at most this.
        runs: for each of the R rates the consecutive slots ``first .. stop`` that have it.
        scale: ``1 / (1 - rate)`` of each slot, ``[S, 1, 1]``, exactly 1 at rate 0.
    """

    below: Tensor
    runs: tuple[tuple[int, int], ...]
    scale: Tensor

    @classmethod
    def at(cls, rates: Sequence[float], like: Tensor, *, bits: torch.dtype) -> Dropout | None:
        """From the rate of each slot in ``[0, 1)``; ``None`` where all rates are 0.

        Args:
            like: gives type and device of the scale.
            bits: the integer type of the activations (`BITS`).
        """
        runs: list[tuple[int, int]] = []
        for slot, rate in enumerate(rates):
            # Neighbours of equal rate share a mask; slots of rate 0 have none, so they are never touched.
            # Neighbours of equal rate share a mask; slots of rate 0 have none, so they are never touched.
            if rate and slot and rates[slot - 1] == rate:
                runs[-1] = (runs[-1][0], slot + 1)
            elif rate:
                runs.append((slot, slot + 1))
        if not runs:
            return None
        exact = torch.tensor(rates, dtype=torch.float64, device=like.device)[:, None, None]
        # Rounded in float64: the threshold must not depend on the type of the activations.
        # Rounded in float64: the threshold must not depend on the type of the activations.
        below = (exact[[first for first, _ in runs]] * DROPOUT_LEVELS).round().to(bits) - 1
        return cls(below, tuple(runs), (1 / (1 - exact)).to(like.dtype))

    def masks(self, uniform: Tensor) -> Tensor:
        """All bits set where a unit stays, none where it is dropped; ``[R, B, D]`` from int16 draws ``[B, D]``."""
        kind = self.below.dtype
        # No overflow in int16: the least difference is -1 - (2**15 - 1).
        # draw > below: the difference is negative, and its sign fills the mask
        # No overflow in int16: the least difference is -1 - (2**15 - 1).
        return torch.sub(self.below, uniform.to(kind)).bitwise_right_shift_(kind.itemsize * 8 - 1)

    def apply_(self, x: Tensor, masks: Tensor) -> Tensor:
        """Overwrites the dropped units of `x` ``[S, B, D]`` with 0, by `masks`; does not scale."""
        bits = x.view(BITS[x.dtype])
        for (first, stop), mask in zip(self.runs, masks, strict=True):
            bits[first:stop].bitwise_and_(mask)
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
        grad = grad.contiguous()  # a sum over another layout adds in another order
        to_x, to_weight = _backward(x, ctx.source, weight, grad, ctx.needs_input_grad[0])
        return to_x, to_weight, grad.sum(1, keepdim=True) if ctx.biased else None, None


@final
class _SlotLayer(torch.autograd.Function):
    """Keeps only the output of the layer: a unit is positive exactly when it passed ReLU and dropout."""

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
            # The scale is float32 for bfloat16 weights too, so the scaled weight is rounded once.
            # The scale is float32 for bfloat16 weights too, so the scaled weight is rounded once.
            weight, bias = (weight * scale).to(x.dtype), (bias * scale).to(x.dtype)
        out = _relu_(_forward(x, source, weight, bias))
        if drop is not None and uniform is not None:
            drop.apply_(out, drop.masks(uniform))
        # The scaled weight is kept: the gradient by `x` needs it, and that by the plain weight is scaled afterwards.
        # The scaled weight is kept: the gradient by `x` needs it, and that by the plain weight is scaled afterwards.
        ctx.save_for_backward(x, weight, out)
        ctx.source, ctx.keep, ctx.scale = source, keep, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, scaled, out = ctx.saved_tensors
        grad = grad.contiguous()
        # The layer above no longer needs `out`: its memory takes the gradient, which saves an array per layer.
        into = torch.empty_like(out) if ctx.keep else out
        inner = torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=into)
        to_x, to_weight = _backward(x, ctx.source, scaled, inner, ctx.needs_input_grad[0])
        to_bias = inner.sum(1, keepdim=True)
        if ctx.scale is not None:
            to_weight, to_bias = (to_weight * ctx.scale).to(x.dtype), (to_bias * ctx.scale).to(x.dtype)
        return to_x, to_weight, to_bias, None, None, None, None


def _relu_(x: Tensor) -> Tensor:
    """ReLU that overwrites `x`; in bfloat16 on the integer bits, which costs a quarter (a negative NaN becomes 0)."""
    if x.dtype == torch.bfloat16:
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.relu_()


@final
@dataclass(frozen=True)
class _Run:
    """Consecutive slots that read consecutive sources, `fan` slots each: ``first .. first + n * fan``."""

    first: int
    n: int
    source: int
    fan: int

    @property
    def sources(self) -> slice:
        """The n sources."""
        return slice(self.source, self.source + self.n)

    def branch(self, x: Tensor, i: int) -> Tensor:
        """The i-th slot of every source, ``[n, ...]`` without a copy."""
        return x[self.first + i : self.first + self.n * self.fan : self.fan]


@cache
def _runs(source: tuple[int, ...]) -> tuple[_Run, ...]:
    """The slots in runs.

    Example:
        >>> [(run.first, run.n, run.source, run.fan) for run in _runs((0, 1, 2, 2, 3, 3))]
        [(0, 2, 0, 1), (2, 2, 2, 2)]
    """
    fans: list[list[int]] = []  # first slot, source, slots that read it
    for slot, read in enumerate(source):
        if fans and fans[-1][1] == read:
            fans[-1][2] += 1
        else:
            fans.append([slot, read, 1])
    runs: list[_Run] = []
    for first, read, fan in fans:
        last = runs[-1] if runs else None
        if last is not None and last.fan == fan and read == last.source + last.n:
            runs[-1] = _Run(last.first, last.n + 1, last.source, fan)
        else:
            runs.append(_Run(first, 1, read, fan))
    return tuple(runs)


@cache
def _covers(source: tuple[int, ...], n_sources: int) -> bool:
    """Whether every source is read by exactly one run."""
    read = [i for run in _runs(source) for i in range(run.source, run.source + run.n)]
    return sorted(read) == list(range(n_sources))


@cache
def _strands(source: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """Progressions of slots and of the sources that they read, a product each: few, for any number of slots.

    Example:
        >>> _strands((1, 2, 5, 6))
        ((slice(0, 4, 2), slice(1, 6, 4)), (slice(1, 4, 2), slice(2, 7, 4)))
    """
    out: list[tuple[slice, slice]] = []
    start = 0
    while start < len(source):
        reach = {n: _reach(source[start:], n) for n in range(1, LONGEST_PERIOD + 1)}
        # The period that covers most slots per product, among equals the longest stretch.
        # The period that covers most slots per product, among equals the longest stretch.
        n = max(reach, key=lambda n: (reach[n] / n, reach[n]))
        stop = start + reach[n]
        for own in (slice(first, stop, n) for first in range(start, min(start + n, stop))):
            read = source[own]
            out.append((own, slice(read[0], read[-1] + 1, read[1] - read[0] if len(read) > 1 else 1)))
        start = stop
    return tuple(out)


def _reach(source: tuple[int, ...], n: int) -> int:
    """Number of first slots in which each slot reads a fixed, positive offset from the source of the slot n before."""
    if len(source) <= n or source[n] <= source[0]:
        return min(n, len(source))
    step = source[n] - source[0]
    ends = (i for i in range(n, len(source)) if source[i] - source[i - n] != step)
    return next(ends, len(source))


def _forward(x: Tensor, source: tuple[int, ...], weight: Tensor, bias: Tensor | None) -> Tensor:
    out = x.new_empty(weight.shape[0], x.shape[1], weight.shape[2])
    if runs_ahead(x.device):
        # A launch is the price of a product here: as few products as the order of the sources allows.
        # A launch is the price of a product here: as few products as the order of the sources allows.
        for own, sources in _strands(source):
            product(x[sources], weight[own], out[own], None if bias is None else bias[own])
        return out
    for run in _runs(source):
        if run.fan == 1:
            own = slice(run.first, run.first + run.n)
            product(x[run.sources], weight[own], out[own], None if bias is None else bias[own])
            continue
        for at in range(run.n):  # one source, many slots: a batch of views of the same input
            own = slice(run.first + at * run.fan, run.first + (at + 1) * run.fan)
            shared = x[run.source + at].expand(run.fan, -1, -1)
            product(shared, weight[own], out[own], None if bias is None else bias[own])
    return out


def _backward(
    x: Tensor, source: tuple[int, ...], weight: Tensor, grad: Tensor, wants_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of input and weight from the gradient ``[S, B, out]`` of the product."""
    # Products write whole matrices, also where the weight is a strided view.
    # Products write whole matrices, also where the weight is a strided view.
    to_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    if runs_ahead(x.device):
        # Several strands may read the same source, so every product adds to its gradient.
        # Several strands may read the same source, so every product adds to its gradient.
        to_x = torch.zeros_like(x)
        for own, sources in _strands(source):
            product(x[sources].transpose(1, 2), grad[own], to_weight[own])
            if wants_x:
                target = to_x[sources]
                product(grad[own], weight[own].transpose(1, 2), target, target)
        return to_x if wants_x else None, to_weight
    for run in _runs(source):
        for at in range(run.n if run.fan > 1 else 1):
            n = run.fan if run.fan > 1 else run.n
            own = slice(run.first + at * run.fan, run.first + at * run.fan + n)
            read = x[run.source + at].expand(n, -1, -1) if run.fan > 1 else x[run.sources]
            product(read.transpose(1, 2), grad[own], to_weight[own])
    if not wants_x:
        return None, to_weight
    covered = _covers(source, x.shape[0])
    # Where every source has its own run, the first branch is written and no memory is cleared.
    # Where every source has its own run, the first branch is written and no memory is cleared.
    to_x = x.new_empty(x.shape) if covered else x.new_zeros(x.shape)
    for run in _runs(source):
        target = to_x[run.sources]
        for i in range(run.fan):
            # Branch after branch, always in this order: the rounding of a sum depends on it.
            # Branch after branch, always in this order: the rounding of a sum depends on it.
            back = run.branch(weight, i).transpose(1, 2)
            product(run.branch(grad, i), back, target, target if i or not covered else None)
    return to_x, to_weight


def product(x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight + bias`` slot by slot into `out`; a slot's result is independent of the number of slots.

    Args:
        x: ``[S, m, k]``; weight: ``[S, k, n]``; out: ``[S, m, n]``, its matrices contiguous; bias: ``[S, 1, n]``,
            or `out` itself, to which the product is then added.
    """
    kind = "none" if bias is None else "into" if bias is out else "row"
    # With the type and the sizes, all that may select another kernel of the library.
    # With the type and the sizes, all that may select another kernel of the library.
    layout = x.stride(2) == 1, weight.stride(2) == 1
    alone = len(x) == 1 and not torch.compiler.is_exporting()  # another runtime has kernels of its own
    if alone and not _lone_is_exact(x.dtype, x.device.type, *x.shape[1:], weight.shape[2], kind, *layout):
        # Computed twice as a batch of two, of which one is kept: a lone member rounds as it does beside others.
        # Computed twice as a batch of two, of which one is kept: a lone member rounds as it does beside others.
        twice = out.expand(2, -1, -1).clone() if bias is out else out.new_empty(2, *out.shape[1:])
        added = twice if bias is out else None if bias is None else bias.expand(2, -1, -1)
        return out.copy_(product(x.expand(2, -1, -1), weight.expand(2, -1, -1), twice, added)[:1])
    if bias is None:
        return torch.bmm(x, weight, out=out)
    return torch.baddbmm(bias, x, weight, out=out)


@cache
def _lone_is_exact(
    dtype: torch.dtype, device: str, m: int, k: int, n: int, bias: str, x_rows: bool, weight_rows: bool
) -> bool:
    """Whether a single matrix is rounded like a batch of two: libraries may pick another kernel for a single matrix."""
    if device != "cpu":
        return True  # bitwise equality is promised on a CPU
    # A generator of its own: the probe must not move torch's global random state.
    # A generator of its own: the probe must not move torch's global random state.
    rng = torch.Generator().manual_seed(0)

    def draw(rows: int, columns: int, by_rows: bool) -> Tensor:
        # The strides of the operand too: a transposed matrix takes another path through the library.
        # The strides of the operand too: a transposed matrix takes another path through the library.
        flat = torch.randn(1, *((rows, columns) if by_rows else (columns, rows)), generator=rng).to(dtype)
        return flat if by_rows else flat.transpose(1, 2)

    x, weight = draw(m, k, x_rows), draw(k, n, weight_rows)
    two = [t.expand(2, -1, -1) for t in (x, weight)]
    if bias == "none":
        return torch.equal(torch.bmm(x, weight), torch.bmm(*two)[:1])
    start = draw(m if bias == "into" else 1, n, True)
    return torch.equal(torch.baddbmm(start, x, weight), torch.baddbmm(start.expand(2, -1, -1), *two)[:1])
