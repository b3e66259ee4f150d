"""The operations of which every mechanism is made: layers of slots, gates, stitches, attention.

Written by hand as autograd functions where that saves memory, or where a library kernel would round a member's numbers
by their position in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor

from evorec.models.layers import BITS, Dropout, slot_layer, slot_linear
from evorec.models.slots import Drop, Slots

Reads = tuple[tuple[int, ...], ...]
"""Experts that each mixture reads, in the order of its gate."""


@final
@dataclass(frozen=True)
class ForwardPass:
    """Parameters by name, dropout, and whether the graph is used again; with them a network runs.

    Attributes:
        dense: tensors ``[S, ...]``; cast to the type of the activations where they differ.
        rates: dropout rate of each member, ``(P,)``.
        uniforms: dropout draws; ``None`` = no dropout, as for measuring.
        keep: whether several backward passes go through the graph.
        condition: numbers of the step that a network may read (`evorec.training.plan.Step`), or ``None``.
        n_heads: K, heads of each task (`evorec.models.ensemble`); the rows of head k are the k-th B of K * B rows.
    """

    dense: Mapping[str, Tensor]
    rates: Sequence[float]
    uniforms: Drop | None = None
    keep: bool = False
    condition: Tensor | None = None
    n_heads: int = 1

    def layer(self, slots: Slots, x: Tensor) -> Tensor:
        """Linear layer, ReLU and dropout, ``[S_below, B, in] -> [S, B, out]``."""
        weight, bias = self.tensor(f"{slots.name}.weight", x), self.tensor(f"{slots.name}.bias", x)
        drop = uniform = None
        if self.uniforms is not None:
            drop = _dropout(tuple(map(float, self.rates)), slots.member, x.dtype, weight.device)
            uniform = None if drop is None else self.uniforms(slots.level, x.shape[1], slots.size[1])
        return slot_layer(x, slots.source, weight, bias, drop, uniform, keep=self.keep)

    def gate(self, slots: Slots, x: Tensor) -> Tensor:
        """Shares of the experts, ``[S_below, B, in] -> [P, S / P, K, B]``; those of a row sum to 1."""
        scores = slot_linear(x, slots.source, self.tensor(f"{slots.name}.weight", x), None)
        # Across rows the softmax is vectorised: some twenty times faster on a CPU than along a few experts.
        shares = torch.softmax(exact(scores.transpose(1, 2)), 1)
        return shares.view(len(self.rates), -1, *shares.shape[1:])

    def stitch(self, name: str, units: Tensor) -> Tensor:
        """Linear blends of the T units of each member, ``[P * T, B, W] -> [P * T, B, W]``."""
        stitch, members = self.tensor(name, units), len(self.rates)
        # One product [T, T] @ [T, B * W] per member.
        flat = units.reshape(members, stitch.shape[1], -1)
        return slot_linear(stitch, tuple(range(members)), flat, None).view(units.shape)

    def heads(self, x: Tensor, source: tuple[int, ...], heads: tuple[int, ...] | None = None) -> Tensor:
        """Heads ``[S_below, B, W] -> [P, S / P, B]``, all or those in slots `heads`; every head on its own rows."""
        n_rows, n = x.shape[1], self.n_heads
        if n > 1:
            x = x.reshape(x.shape[0] * n, n_rows // n, x.shape[2])
            source = tuple(slot * n + head for slot in source for head in range(n))
            heads = None if heads is None else tuple(slot * n + head for slot in heads for head in range(n))
        weight, bias = self.tensor("head.weight", x), self.tensor("head.bias", x)
        if heads is not None:
            weight, bias = self.pick(weight, heads), self.pick(bias, heads)
        return exact(slot_linear(x, source, weight, bias)).view(len(self.rates), -1, n_rows)

    def mixture(self, experts: Tensor, gates: Sequence[Tensor], reads: Reads, learns: Reads) -> Tensor:
        """Gated sums of experts ``[P, K, B, W] -> [P * Q, B, W]`` (`mixture`)."""
        return mixture(experts, gates, reads, learns).flatten(0, 1)

    @staticmethod
    def pick(x: Tensor, slots: tuple[int, ...]) -> Tensor:
        """Slots of `x` in the given order; `x` itself if those are all of them in order."""
        if slots == tuple(range(x.shape[0])):
            return x
        # A tensor made while a graph is exported is symbolic and must not stay in the cache.
        index = _index.__wrapped__ if torch.compiler.is_exporting() else _index
        return x.index_select(0, index(slots, x.device))

    def replace(self, x: Tensor, slots: tuple[int, ...], values: Tensor) -> Tensor:
        """`x` with `values` in the given slots; `values` itself if those are all of them."""
        if len(slots) == len(x):
            return values
        at = {slot: len(x) + i for i, slot in enumerate(slots)}
        return self.pick(torch.cat([x, values]), tuple(at.get(slot, slot) for slot in range(len(x))))

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """A parameter in the type of the activations."""
        return self.dense[name].to(like.dtype)


def exact(x: Tensor) -> Tensor:
    """Float32 for bfloat16: sums of exponentials need the digits."""
    return x.float() if x.dtype == torch.bfloat16 else x


@lru_cache(maxsize=256)
def vector(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers on the device, copied once: the host waits for every copy."""
    return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=4096)
def _dropout(
    rates: tuple[float, ...], member: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Dropout | None:
    """Dropout of slots by the rates of their owners."""
    # Float32 for bfloat16 activations: their 8 bits are too few for 1 / (1 - rate).
    like = torch.empty(0, dtype=torch.promote_types(dtype, torch.float32), device=device)
    return Dropout.at([rates[owner] for owner in member], like, bits=BITS[dtype])


@lru_cache(maxsize=4096)
def _index(slots: tuple[int, ...], device: torch.device) -> Tensor:
    # Cached: a list would be copied to the device in every step, for which the host waits.
    return torch.tensor(slots, device=device)


def funnel_products(own: Tensor, parents: Sequence[int], waves: Sequence[Sequence[int]]) -> Tensor:
    """Log-odds of the product of the probabilities up the funnel, ``[P, T, B] -> [P, T, B]``.

    Args:
        own: log-odds of each task given its parent.
        parents: parent task or -1, ``(T,)``.
        waves: tasks by their distance from the start (`evorec.models.slots.funnel_waves`).
    """
    # With odds against, (1 - p) / p = exp(-z), a product is 1 + exp(-z) = (1 + exp(-a)) (1 + exp(-b)): no difference
    # of nearly equal numbers, and never above its parent.
    rows = list(own.unbind(1))
    for wave in waves[1:]:
        for task in wave:
            # The parent's row is its own product already: waves go down the funnel.
            above, given = -rows[parents[task]], -rows[task]
            rows[task] = -torch.logsumexp(torch.stack([above, given, above + given]), 0)
    return torch.stack(rows, 1)


def sigmoid(x: Tensor) -> Tensor:
    """Sigmoid whose bits are independent of the alignment of a number in memory, unlike `torch.sigmoid` on a CPU."""
    out: Tensor = _Sigmoid.apply(x)  # type: ignore[no-untyped-call]
    return out


@final
class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # exp overflows to inf below -88 in float32; its reciprocal, 0, is right.
        out = torch.exp(-x).add_(1).reciprocal_()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor
        (out,) = ctx.saved_tensors
        return grad * out * (1 - out)


def mixture(experts: Tensor, gates: Sequence[Tensor], reads: Reads, learns: Reads | None = None) -> Tensor:
    """Gated sums of experts, row by row.

    Args:
        experts: ``[P, K, B, W]``.
        gates: shares ``[P, Q_i, K_i, B]``, float32 for bfloat16 experts, the mixtures of all gates, concatenated.
        reads: the experts of each of the ``Q = sum Q_i`` mixtures; mixture q of gate i reads ``K_i``.
        learns: the experts among them that get a gradient from the mixture; ``None`` = all.
    Returns:
        ``[P, Q, B, W]``.
    """
    out: Tensor = _Mixture.apply(experts, reads, learns or reads, *gates)  # type: ignore[no-untyped-call]
    return out


@final
class _Mixture(torch.autograd.Function):
    """Gated sums without a copy of an expert per mixture.

    Elementwise, because the rounding of a matrix product may depend on the other members of the batch. Sums are in
    float32 at least: on a CPU, elementwise bfloat16 is slower than the conversion.
    """

    @staticmethod
    def forward(ctx: Any, experts: Tensor, reads: Reads, learns: Reads, *gates: Tensor) -> Tensor:
        ctx.save_for_backward(experts, *gates)
        ctx.reads, ctx.learns = reads, learns
        members, _, batch, width = experts.shape
        # One conversion for all mixtures that read an expert.
        wide, kind = exact(experts), experts.dtype
        out = wide.new_empty(members, len(reads), batch, width)
        for q, share in enumerate(_columns(gates)):
            for k, expert in enumerate(reads[q]):
                _add(out[:, q], wide[:, expert], share[:, k, :, None], first=k == 0)
        return out.to(kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        experts, *gates = ctx.saved_tensors
        wide, grad, kind = exact(experts), exact(grad), experts.dtype
        to_experts, to_gates = torch.empty_like(wide), [torch.empty_like(gate) for gate in gates]
        # Used again by every pair of mixture and expert: fresh memory would cost page faults.
        product = torch.empty_like(wide[:, 0])
        touched: set[int] = set()
        for q, (share, to_share) in enumerate(zip(_columns(gates), _columns(to_gates), strict=True)):
            for k, expert in enumerate(ctx.reads[q]):
                torch.mul(wide[:, expert], grad[:, q], out=product)
                torch.sum(product, -1, out=to_share[:, k])
                # A gate learns from every expert that it reads; the gradient of some experts stops here.
                if expert in ctx.learns[q]:
                    _add(to_experts[:, expert], grad[:, q], share[:, k, :, None], first=expert not in touched)
                    touched.add(expert)
        # Experts that no mixture teaches: their part of the buffer holds anything.
        for expert in set(range(experts.shape[1])) - touched:
            to_experts[:, expert].zero_()
        return to_experts.to(kind), None, None, *to_gates


def _columns(gates: Sequence[Tensor]) -> Iterator[Tensor]:
    """The mixtures of all gates, each ``[P, K_i, B]``."""
    for gate in gates:
        yield from gate.unbind(1)


def _add(out: Tensor, x: Tensor, share: Tensor, *, first: bool) -> None:
    # The first term is written, not added: the sum needs no memory filled with zeros.
    if first:
        torch.mul(x, share, out=out)
    else:
        out.addcmul_(x, share)


def attention(candidates: Sequence[Tensor]) -> Tensor:
    """Attention of each row over its candidates, each scored by its own query and key.

    Args:
        candidates: query, key and value side by side, each ``[S, B, 3 W]``.
    Returns:
        ``[S, B, W]``: values weighted by the softmax of ``<query, key> / sqrt(W)``.
    """
    out: Tensor = _Attention.apply(*candidates)  # type: ignore[no-untyped-call]
    return out


def attention_shares(candidates: Sequence[Tensor]) -> Tensor:
    """Weight of each of C candidates in `attention`, ``[S, C, B]``; those of a row sum to 1."""
    return _attention_shares([_thirds(exact(candidate)) for candidate in candidates])


@final
class _Attention(torch.autograd.Function):
    """Writes the gradients of query, key and value into a common buffer: autograd would add three of them."""

    @staticmethod
    def forward(ctx: Any, *candidates: Tensor) -> Tensor:
        parts = [_thirds(exact(candidate)) for candidate in candidates]
        shares = _attention_shares(parts)
        ctx.save_for_backward(shares, *candidates)
        # A third is a strided view of 3 W columns; the output must not inherit its strides.
        out = torch.empty_like(parts[0][0], memory_format=torch.contiguous_format)
        for c, (_, _, value) in enumerate(parts):
            _add(out, value, shares[:, c, :, None], first=c == 0)
        return out.to(candidates[0].dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        shares, *candidates = ctx.saved_tensors
        grad, wide = exact(grad), [exact(candidate) for candidate in candidates]
        parts = [_thirds(candidate) for candidate in wide]
        to_shares = torch.stack([(grad * value).sum(2) for _, _, value in parts], 1).mul_(shares)
        # Softmax backward: p (g - sum p g), of which p g is `to_shares`.
        to_scores = (to_shares - shares * to_shares.sum(1, keepdim=True)) / grad.shape[2] ** 0.5
        out = []
        for c, (query, key, _) in enumerate(parts):
            to_query, to_key, to_value = _thirds(to_candidate := torch.empty_like(wide[c]))
            score = to_scores[:, c, :, None]
            torch.mul(key, score, out=to_query)
            torch.mul(query, score, out=to_key)
            torch.mul(grad, shares[:, c, :, None], out=to_value)
            out.append(to_candidate.to(candidates[c].dtype))
        return tuple(out)


def _attention_shares(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    scores = torch.stack([(query * key).sum(2) for query, key, _ in parts], 1)
    return torch.softmax(scores / parts[0][0].shape[2] ** 0.5, 1)


def _thirds(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width = x.shape[2] // 3
    return x[..., :width], x[..., width : 2 * width], x[..., 2 * width :]
