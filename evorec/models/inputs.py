"""The ranker's input: vectors of user, item and context, the product of user and item, and the row's statistics.

With target attention, the user's past as seen by the item comes before the statistics. A row without user and item
has the vector of the context and the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.layers import Dropout
from evorec.models.target_attention import TargetAttention

INPUT = -1
"""The level of the dropout on the ranker's input."""


@final
@dataclass(frozen=True)
class RowIndex:
    """Which entity a row of the batch is about, all ``[B]``, and its statistics ``[B, n_dense]``."""

    users: Tensor
    items: Tensor
    contexts: Tensor
    statistics: Tensor


@final
class RankerInput:
    """Input of the ranker for some members, and the way back.

    Elementwise work happens row by row, where the columns of all members are contiguous.

    Args:
        vectors: of the unique users, items and contexts, each ``[m, P, G, E]``.
        index: the rows.
        drop: dropout of each member and group, ``P * G`` slots; ``None`` = no dropout.
        uniform: int16 ``[B, n_in]`` draws.
        attention: of the same members, or ``None``.
        has_items: whether rows are of users and items.
    """

    def __init__(
        self,
        vectors: Sequence[Tensor],
        index: RowIndex,
        drop: Dropout | None,
        uniform: Tensor | None,
        attention: TargetAttention | None = None,
        *,
        has_items: bool = True,
    ) -> None:
        users, items, contexts = vectors
        self._has_items = has_items
        self._index, self._sizes = index, [len(part) for part in vectors]
        # Kept for `backward`: the gradient of the product of user and item needs both.
        self._u, self._v = users.index_select(0, index.users), items.index_select(0, index.items)
        self._c = contexts.index_select(0, index.contexts)
        self._drop, self._attention = drop, attention
        self._masks = None if drop is None or uniform is None else drop.masks(uniform)
        _, members, groups, _ = self._u.shape
        self._scale = None if drop is None else drop.scale.view(members, groups, 1)

    def rows(self, dtype: torch.dtype) -> Tensor:
        """The input ``[P, G, B, n_in]``, after its dropout."""
        batch, members, groups, dim = self._c.shape
        statistics = self._index.statistics
        past = [] if self._attention is None else [self._attention.rows()]
        pair = [self._u, self._v, torch.mul(self._u, self._v)] if self._has_items else []
        parts = (*pair, self._c, *past)
        first = len(parts) * dim
        out = self._c.new_empty(members, groups, batch, first + statistics.shape[1], dtype=dtype)
        scale = None if self._scale is None else self._scale[:, :, None]
        for i, part in enumerate(parts):
            # [B, P, G, E] -> [P, G, B, E] in the pass that scales, without a permuted copy in between.
            _scaled(part.permute(1, 2, 0, 3), scale, out[..., i * dim : (i + 1) * dim])
        everyone = statistics.expand(members, groups, -1, -1)
        out[..., first:] = everyone if self._scale is None else everyone * self._scale[..., None]
        if self._drop is not None and self._masks is not None:
            # `out` is contiguous, so flattening gives a view and the masks reach it.
            self._drop.apply_(out.flatten(0, 1), self._masks)
        return out

    def backward(self, grad: Tensor, members: slice = slice(None)) -> list[Tensor]:
        """Gradients of the vectors of users, items and contexts, ``[m, P', G, E]`` for the P' chosen members.

        With target attention, those of the distinct past items come last.

        Args:
            grad: of the input, ``[P', G, B, n_in]``; overwritten.
            members: the chosen members.
        """
        dim = self._u.shape[3]
        if self._drop is not None and self._masks is not None:
            first, stop, _ = members.indices(self._u.shape[1])
            groups, bits = self._u.shape[2], grad.flatten(0, 1).view(self._masks.dtype)
            for (start, end), mask in zip(self._drop.runs, self._masks, strict=True):
                # The part of the run that belongs to the chosen members, counted from the first of them.
                own = slice(max(start, first * groups) - first * groups, min(end, stop * groups) - first * groups)
                if own.start < own.stop:
                    bits[own].bitwise_and_(mask)

        def part(i: int) -> Tensor:
            rows = self._u.new_empty(len(self._u), grad.shape[0], *self._u.shape[2:])
            own = grad[..., i * dim : (i + 1) * dim].permute(2, 0, 1, 3)
            return _scaled(own, None if self._scale is None else self._scale[members], rows)

        def by_entity(n: int, where: Tensor, rows: Tensor) -> Tensor:
            # On a CPU, added row after row: the same order, so the same bits, in every stack.
            return rows.new_zeros(n, *rows.shape[1:]).index_add_(0, where, rows)

        at = (self._index.users, self._index.items, self._index.contexts)
        if not self._has_items:
            context = part(0)
            nothing = [context.new_zeros(n, *context.shape[1:]) for n in self._sizes[:2]]
            return [*nothing, by_entity(self._sizes[2], at[2], context)]
        product = part(2)
        u, v = self._u[:, members], self._v[:, members]
        # d(u v) = v du + u dv, on top of the gradients of u and v themselves.
        rows = (part(0).addcmul_(product, v), part(1).addcmul_(product, u), part(3))
        out = [by_entity(*one) for one in zip(self._sizes, at, rows, strict=True)]
        if self._attention is not None:
            to_items, to_past = self._attention.backward(part(4), members)
            out = [out[0], out[1].add_(to_items), out[2], to_past]
        return out


def _scaled(x: Tensor, scale: Tensor | None, out: Tensor) -> Tensor:
    """Writes ``x * scale`` to `out` without a temporary array."""
    return out.copy_(x) if scale is None else torch.mul(x, scale, out=out)
