"""The ranker's input: vectors of user, item and context, the product of user and item, and the row's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from evorec.models.layers import dropout_

INPUT = -1
"""The level of the dropout on the ranker's input."""


@final
@dataclass(frozen=True)
class InputShape:
    """Sizes that the data set fixes.

    Attributes:
        n_rows: R, rows of the embedding table.
        n_content: D of the item content vectors, 0 = none.
        n_dense: dense statistics per row.
        n_tasks: T.
        n_layers: L.
        n_items: items of the catalogue.
        parents: for each task the one before it in the funnel, or -1.
    """

    n_rows: int
    n_content: int
    n_dense: int
    n_tasks: int
    n_layers: int
    n_items: int
    parents: tuple[int, ...]

    def n_inputs(self, embedding_dim: int) -> int:
        """Inputs of the ranker: user, item, product and context vectors and the statistics."""
        return 4 * embedding_dim + self.n_dense

    def layer_inputs(self, embedding_dim: int, width: int) -> list[int]:
        """Inputs of each level: the ranker's, then the width."""
        return [self.n_inputs(embedding_dim), *([width] * (self.n_layers - 1))]


@final
@dataclass(frozen=True)
class RowIndex:
    """Which entity a row of the batch is about, all ``[B]``, and its statistics ``[B, n_dense]``."""

    users: Tensor
    items: Tensor
    contexts: Tensor
    statistics: Tensor


def ranker_input(
    users: Tensor,
    items: Tensor,
    contexts: Tensor,
    index: RowIndex,
    rates: Tensor,
    uniform: Tensor | None,
    *,
    dtype: torch.dtype,
    keep: bool = False,
) -> Tensor:
    """Input of the ranker, after its dropout.

    Args:
        users, items, contexts: ``[m, P, G, E]`` of the unique entities.
        index: the rows.
        rates: dropout rate of each member ``[P]``.
        uniform: int16 ``[B, 4 * E + n_dense]`` draws, ``None`` = no dropout.
        dtype: of the result.
        keep: whether the graph is walked more than once.
    Returns:
        ``[P, G, B, 4 * E + n_dense]``.
    """
    out: Tensor = _RankerInput.apply(users, items, contexts, index, rates, uniform, dtype, keep)  # type: ignore[no-untyped-call]
    return out


@final
class _RankerInput(torch.autograd.Function):
    """Elementwise work happens row by row, where everybody's columns stand side by side."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        contexts: Tensor,
        index: RowIndex,
        rates: Tensor,
        uniform: Tensor | None,
        dtype: torch.dtype,
        keep: bool,
    ) -> Tensor:
        u, v = users.index_select(0, index.users), items.index_select(0, index.items)
        parts = [u, v, u * v, contexts.index_select(0, index.contexts)]
        batch, members, groups, dim = u.shape
        out = u.new_empty(members, groups, batch, 4 * dim + index.statistics.shape[1], dtype=dtype)
        scale = None if uniform is None else (1 / (1 - rates))[:, None, None]
        for i, part in enumerate(parts):
            scaled = part if scale is None else part * scale
            out[..., i * dim : (i + 1) * dim] = scaled.permute(1, 2, 0, 3)
        statistics = index.statistics.expand(members, 1, -1, -1)
        out[..., 4 * dim :] = statistics if scale is None else statistics * scale[:, None]
        if uniform is not None:
            dropout_(out.flatten(0, 1), _per_slot(rates, groups), uniform)
        ctx.save_for_backward(u, v, rates, uniform)
        ctx.index, ctx.sizes, ctx.keep = index, [len(users), len(items), len(contexts)], keep
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        u, v, rates, uniform = ctx.saved_tensors
        dim, groups = u.shape[3], u.shape[2]
        own = grad.clone() if ctx.keep else grad.contiguous()
        if uniform is not None:
            dropout_(own.flatten(0, 1), _per_slot(rates, groups), uniform)

        def part(i: int) -> Tensor:
            rows = torch.empty_like(u)
            rows.copy_(own[..., i * dim : (i + 1) * dim].permute(2, 0, 1, 3))
            return rows if uniform is None else rows.mul_((1 / (1 - rates))[:, None, None])

        product = part(2)
        to_users, to_items, to_contexts = part(0).addcmul_(product, v), part(1).addcmul_(product, u), part(3)
        index: RowIndex = ctx.index
        sums = [
            rows.new_zeros(n, *rows.shape[1:]).index_add_(0, at, rows)
            for n, at, rows in zip(
                ctx.sizes, (index.users, index.items, index.contexts), (to_users, to_items, to_contexts), strict=True
            )
        ]
        return *sums, None, None, None, None, None


def _per_slot(rates: Tensor, groups: int) -> Tensor:
    return rates.repeat_interleave(groups)[:, None, None]
