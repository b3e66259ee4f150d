"""What every sharing mechanism is made of: dense tensors in slots, layers that run them, and gated mixtures.

A *slot* is one member's use of a layer, an expert, a gate or a head. The slots of all members stand side by side on
the first axis of one tensor, members in order, so a level of a whole block is one batched product. Nothing here mixes
members: a slot's result is the same alone and in any company.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from evorec.models.layers import BITS, SHARED, Drop, Dropout, slot_layer, slot_linear

if TYPE_CHECKING:
    from evorec.models.inputs import InputShape
    from evorec.models.spec import ModelSpec

GATE, SHARED_GATE, STITCH, INFO, QUERY, KEY, VALUE, EXPERT, HEAD = range(9)
"""What a parameter is for, the third part of the key of its initial draw; a layer of a trunk or tower has none."""


@final
@dataclass(frozen=True)
class DenseTensor:
    """One parameter tensor of a block, ``[S, *shape]``.

    Attributes:
        name: unique in the block.
        member: owner of each slot, position in the block, ``(S,)``, ascending.
        task: the only task whose loss reaches the slot, or `SHARED`, ``(S,)``.
        key: stream key of each slot's initial draw, ``(S,)``; equal for the same role in any company.
        shape: of one slot.
        scale: standard deviation of the initial draw; 0 = zeros.
        decayed: whether weight decay applies.
        uses: multiply-adds per entry and row of the ranker.
        fixed: initial value of every slot instead of a draw.
    """

    name: str
    member: tuple[int, ...]
    task: tuple[int, ...]
    key: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    scale: float
    decayed: bool
    uses: int = 1
    fixed: np.ndarray | None = field(default=None, compare=False)

    @property
    def n_slots(self) -> int:
        """Number of slots S."""
        return len(self.member)

    @property
    def n_entries(self) -> int:
        """Number of parameters of all slots."""
        return self.n_slots * prod(self.shape)


@final
@dataclass(frozen=True)
class Slots:
    """Linear maps of one size that run as one batched product.

    Attributes:
        name: prefix of the tensors.
        size: inputs and outputs of one slot.
        member: owner of each slot, ``(S,)``.
        task: the only task whose loss reaches the slot, or `SHARED`, ``(S,)``.
        key: stream key of each slot's initial draw, ``(S,)``.
        source: which vector each slot reads, ``(S,)``.
        level: layer whose dropout draw applies.
    """

    name: str
    size: tuple[int, int]
    member: tuple[int, ...]
    task: tuple[int, ...]
    key: tuple[tuple[int, ...], ...]
    source: tuple[int, ...]
    level: int = 0

    def weight(self, *, gain: float = 1.0, uses: int = 1) -> DenseTensor:
        """The matrices; a draw of variance ``gain / n_in``."""
        scale = (gain / self.size[0]) ** 0.5
        return self._tensor("weight", self.size, scale, decayed=True, uses=uses)

    def bias(self) -> DenseTensor:
        """The biases, 0 at first and not decayed."""
        return self._tensor("bias", (1, self.size[1]), 0.0, decayed=False, uses=0)

    def hidden(self) -> tuple[DenseTensor, DenseTensor]:
        """Parameters of a layer with ReLU (He et al. 2015)."""
        return self.weight(gain=2.0), self.bias()

    def _tensor(self, part: str, shape: tuple[int, ...], scale: float, *, decayed: bool, uses: int) -> DenseTensor:
        return DenseTensor(f"{self.name}.{part}", self.member, self.task, self.key, shape, scale, decayed, uses)


@final
@dataclass(frozen=True)
class Pass:
    """One forward pass: parameters by name, dropout and what becomes of the graph.

    Attributes:
        dense: tensors ``[S, ...]``; cast to the type of the activations where they differ.
        rates: dropout rate of each member, ``(P,)``.
        uniforms: dropout draws; ``None`` when measuring.
        keep: whether the graph is walked more than once.
    """

    dense: Mapping[str, Tensor]
    rates: Sequence[float]
    uniforms: Drop | None = None
    keep: bool = False

    def layer(self, slots: Slots, x: Tensor) -> Tensor:
        """Linear layer, ReLU and dropout, ``[S_below, B, in] -> [S, B, out]``."""
        weight, bias = self.tensor(f"{slots.name}.weight", x), self.tensor(f"{slots.name}.bias", x)
        drop = (
            None
            if self.uniforms is None
            else _dropout(tuple(map(float, self.rates)), slots.member, x.dtype, weight.device)
        )
        uniform = None
        if drop is not None and self.uniforms is not None:
            uniform = self.uniforms(slots.level, x.shape[1], slots.size[1])
        return slot_layer(x, slots.source, weight, bias, drop, uniform, keep=self.keep)

    def gate(self, slots: Slots, x: Tensor) -> Tensor:
        """Shares of the experts, ``[S_below, B, in] -> [P, S / P, K, B]``; those of a row sum to 1."""
        scores = slot_linear(x, slots.source, self.tensor(f"{slots.name}.weight", x), None)
        # across rows the softmax is vectorised: some twenty times faster on a CPU than along a few experts
        shares = torch.softmax(exact(scores.transpose(1, 2)), 1)
        return shares.view(len(self.rates), -1, *shares.shape[1:])

    def logits(self, x: Tensor, source: tuple[int, ...], heads: tuple[int, ...] | None = None) -> Tensor:
        """Heads ``[S_below, B, W] -> [P, S / P, B]``, all or those in slots `heads`."""
        weight, bias = self.tensor("head.weight", x), self.tensor("head.bias", x)
        if heads is not None:
            weight, bias = pick(weight, heads), pick(bias, heads)
        return exact(slot_linear(x, source, weight, bias)).view(len(self.rates), -1, x.shape[1])

    def tensor(self, name: str, like: Tensor) -> Tensor:
        """A parameter in the type of the activations."""
        return self.dense[name].to(like.dtype)


@final
@dataclass(frozen=True)
class Mix:
    """One mixture of a mechanism as it stands for some rows: who gets how much of what.

    Attributes:
        level: the layer after which things are mixed, from 0.
        reader: the task that reads the mixture; `SHARED` = what the next level's shared experts read.
        sources: owner (a task or `SHARED`) and number, from 0, of each of the K things that are mixed.
        shares: ``[P, K, B]``, the K of a row sum to 1; B is 1 where all rows are mixed alike.
    """

    level: int
    reader: int
    sources: tuple[tuple[int, int], ...]
    shares: Tensor


class Mechanism(abc.ABC):
    """How tasks share in the members of one block: its parameters and the way from ranker input to logits.

    Args:
        specs: members of equal `ModelSpec.block_key`.
        shape: sizes fixed by the data.

    Attributes:
        tensors: all dense parameters between the ranker input and the logits.
        n_groups: G, embedding groups: the shared one, then with task embeddings one per task.
    """

    tensors: tuple[DenseTensor, ...]

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape) -> None:
        self.specs = tuple(specs)
        self.shape = shape
        self.n_groups = n_groups(specs[0], shape)

    @abc.abstractmethod
    def logits(
        self,
        x: Tensor,
        dense: Mapping[str, Tensor],
        rates: Sequence[float],
        uniforms: Drop | None,
        *,
        keep: bool = False,
    ) -> Tensor:
        """Task logits of B rows.

        Args:
            x: ``[P, G, B, n_in]``, ranker input of each embedding group, after the input dropout.
            dense: parameters by name, ``[S, ...]``.
            rates: dropout rate of each member, ``(P,)``.
            uniforms: dropout draws; ``None`` when measuring.
            keep: whether the graph is walked more than once.
        Returns:
            ``[P, T, B]``, of the type of `x`, float32 for bfloat16.
        """

    @abc.abstractmethod
    def mixing_macs(self) -> int:
        """Multiply-adds per row of the ranker, all members, that no parameter tensor counts."""

    def mixes(self, x: Tensor, dense: Mapping[str, Tensor]) -> tuple[Mix, ...]:
        """What `logits` mixes without dropout, from the bottom up; empty where nothing is mixed.

        Args:
            x, dense: see `logits`.
        """
        return ()

    def extra_loss(self, logits: Tensor) -> Tensor | None:
        """Loss of each member besides its task losses, ``[P, T, B] -> [P]``; ``None`` = there is none."""
        return None

    def initial_bias(self, base_logits: Sequence[float]) -> np.ndarray:
        """First bias of each head, ``(P, T)``, with which a fresh model predicts the base rates.

        Args:
            base_logits: log-odds of each task in training, or what a constant predicts of numbers, ``(T,)``.
        """
        return np.tile(np.asarray(base_logits, dtype=np.float64), (len(self.specs), 1))

    def group(self, member: int, task: int) -> int:
        """Position of the ranker input, among the P * G, that the layers of a task or of all (`SHARED`) read."""
        return member * self.n_groups + (task + 1 if self.n_groups > 1 and task != SHARED else 0)


def n_groups(spec: ModelSpec, shape: InputShape) -> int:
    """Embedding groups of a member: the shared table, and one per task when tasks have their own."""
    return 1 + shape.n_tasks * spec.task_embeddings


def role(level: int, task: int, *purpose: int) -> tuple[int, ...]:
    """Stream key of an initial draw: level, task or `SHARED`, and what it is for."""
    return (level, task - SHARED, *purpose)


def task_slots(mechanism: Mechanism, level: int, *, specific: bool = True) -> Slots:
    """One layer per member and task, each on its own input: its embedding group in level 0, else its slot below.

    Args:
        mechanism: whose members.
        level: level of the layers.
        specific: whether only the task's own loss reaches its layer.
    """
    specs, shape = mechanism.specs, mechanism.shape
    units = [(member, task) for member in range(len(specs)) for task in range(shape.n_tasks)]
    source = [mechanism.group(*unit) for unit in units] if level == 0 else range(len(units))
    return Slots(
        name=f"layer{level}",
        size=(shape.layer_inputs(specs[0].embedding_dim, specs[0].width)[level], specs[0].width),
        member=tuple(member for member, _ in units),
        task=tuple(task if specific else SHARED for _, task in units),
        key=tuple(role(level, task) for _, task in units),
        source=tuple(source),
        level=level,
    )


def heads(specs: Sequence[ModelSpec], task: Sequence[int]) -> tuple[DenseTensor, DenseTensor]:
    """One head per member and task on vectors of the members' width.

    Args:
        specs: P members.
        task: `DenseTensor.task` of each head, ``(P * T,)``.
    """
    n_tasks = len(task) // len(specs)
    owners = tuple(member for member in range(len(specs)) for _ in range(n_tasks))
    keys = tuple(role(0, t, HEAD) for _ in specs for t in range(n_tasks))
    slots = Slots("head", (specs[0].width, 1), owners, tuple(task), keys, tuple(range(len(task))))
    return slots.weight(), slots.bias()


def exact(x: Tensor) -> Tensor:
    """Float32 for bfloat16: sums of exponentials need the digits."""
    return x.float() if x.dtype == torch.bfloat16 else x


def pick(x: Tensor, slots: tuple[int, ...]) -> Tensor:
    """Slots of `x` in the given order; `x` itself when that is all of them as they stand."""
    if slots == tuple(range(x.shape[0])):
        return x
    # what is made while a graph is exported is no value, and must not stay in the cache
    index = _index.__wrapped__ if torch.compiler.is_exporting() else _index
    return x.index_select(0, index(slots, x.device))


@lru_cache(maxsize=4096)
def _dropout(
    rates: tuple[float, ...], member: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Dropout | None:
    """Dropout of slots by the rates of their owners."""
    like = torch.empty(0, dtype=torch.promote_types(dtype, torch.float32), device=device)
    return Dropout.at([rates[owner] for owner in member], like, bits=BITS[dtype])


@lru_cache(maxsize=4096)
def _index(slots: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(slots, device=device)


Reads = tuple[tuple[int, ...], ...]
"""Experts that each mixture reads, in the order of its gate."""


def mixture(experts: Tensor, gates: Sequence[Tensor], reads: Reads, learns: Reads | None = None) -> Tensor:
    """Gated sums of experts, row by row.

    Args:
        experts: ``[P, K, B, W]``.
        gates: shares ``[P, Q_i, K_i, B]``, float32 for bfloat16 experts, the mixtures of all gates one after another.
        reads: the experts of each of the ``Q = sum Q_i`` mixtures; mixture q of gate i reads ``K_i``.
        learns: the experts among them that get a gradient from the mixture; ``None`` = all.
    Returns:
        ``[P, Q, B, W]``.
    """
    out: Tensor = _Mixture.apply(experts, reads, learns or reads, *gates)  # type: ignore[no-untyped-call]
    return out


@final
class _Mixture(torch.autograd.Function):
    """Element by element: no copy of an expert per mixture, and no product whose rounding depends on the company.

    Sums are in float32 at least: on a CPU, elementwise bfloat16 is slower than the conversion.
    """

    @staticmethod
    def forward(ctx: Any, experts: Tensor, reads: Reads, learns: Reads, *gates: Tensor) -> Tensor:
        ctx.save_for_backward(experts, *gates)
        ctx.reads, ctx.learns = reads, learns
        members, _, batch, width = experts.shape
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
        product = torch.empty_like(wide[:, 0])
        touched: set[int] = set()
        for q, (share, to_share) in enumerate(zip(_columns(gates), _columns(to_gates), strict=True)):
            for k, expert in enumerate(ctx.reads[q]):
                torch.mul(wide[:, expert], grad[:, q], out=product)
                torch.sum(product, -1, out=to_share[:, k])
                if expert in ctx.learns[q]:
                    _add(to_experts[:, expert], grad[:, q], share[:, k, :, None], first=expert not in touched)
                    touched.add(expert)
        for expert in set(range(experts.shape[1])) - touched:
            to_experts[:, expert].zero_()
        return to_experts.to(kind), None, None, *to_gates


def _columns(gates: Sequence[Tensor]) -> Iterator[Tensor]:
    """The mixtures of all gates, each ``[P, K_i, B]``."""
    for gate in gates:
        yield from gate.unbind(1)


def _add(out: Tensor, x: Tensor, share: Tensor, *, first: bool) -> None:
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
    """Writes the gradients of query, key and value into one buffer instead of three padded with zeros."""

    @staticmethod
    def forward(ctx: Any, *candidates: Tensor) -> Tensor:
        parts = [_thirds(exact(candidate)) for candidate in candidates]
        shares = _attention_shares(parts)
        ctx.save_for_backward(shares, *candidates)
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
