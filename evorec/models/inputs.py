"""The ranker's input: vectors of user, item and context, the product of user and item, and the row's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.blocks import InputBlock
from evorec.models.layers import Dropout

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
        blocks: what a member can do without, rows of the tables before parts of the content.
        signs: for each task -1 if its high values are bad, else 1; empty = all are good.
        absent: names of blocks that the data declare and these training rows do not have.
    """

    n_rows: int
    n_content: int
    n_dense: int
    n_tasks: int
    n_layers: int
    n_items: int
    parents: tuple[int, ...]
    blocks: tuple[InputBlock, ...] = ()
    signs: tuple[int, ...] = ()
    absent: tuple[str, ...] = ()

    def score_weights(self, task_weights: Sequence[float]) -> tuple[float, ...]:
        """What each task's logit counts in the score of an item: its weight, less than 0 where high values are bad.

        Args:
            task_weights: loss weights, ``(T,)``.
        """
        return tuple(w * sign for w, sign in zip(task_weights, self.signs or (1,) * self.n_tasks, strict=True))

    @property
    def row_blocks(self) -> tuple[InputBlock, ...]:
        """The blocks that have rows of the embedding tables."""
        return tuple(block for block in self.blocks if not block.is_content)

    @property
    def content_blocks(self) -> tuple[InputBlock, ...]:
        """The parts of the items' content."""
        return tuple(block for block in self.blocks if block.is_content)

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


@final
class RankerInput:
    """Input of the ranker for some members, and the way back.

    Elementwise work happens row by row, where everybody's columns stand side by side.

    Args:
        vectors: of the unique users, items and contexts, each ``[m, P, G, E]``.
        index: the rows.
        drop: dropout of each member and group, ``P * G`` slots; ``None`` = no dropout.
        uniform: int16 ``[B, 4 * E + n_dense]`` draws.
    """

    def __init__(
        self, vectors: Sequence[Tensor], index: RowIndex, drop: Dropout | None, uniform: Tensor | None
    ) -> None:
        users, items, contexts = vectors
        self._index, self._sizes = index, [len(part) for part in vectors]
        self._u, self._v = users.index_select(0, index.users), items.index_select(0, index.items)
        self._c = contexts.index_select(0, index.contexts)
        self._drop = drop
        self._masks = None if drop is None or uniform is None else drop.masks(uniform)
        _, members, groups, _ = self._u.shape
        self._scale = None if drop is None else drop.scale.view(members, groups, 1)

    def rows(self, dtype: torch.dtype) -> Tensor:
        """The input ``[P, G, B, 4 * E + n_dense]``, after its dropout."""
        batch, members, groups, dim = self._u.shape
        statistics = self._index.statistics
        out = self._u.new_empty(members, groups, batch, 4 * dim + statistics.shape[1], dtype=dtype)
        product = torch.mul(self._u, self._v)
        scale = None if self._scale is None else self._scale[:, :, None]
        for i, part in enumerate((self._u, self._v, product, self._c)):
            _scaled(part.permute(1, 2, 0, 3), scale, out[..., i * dim : (i + 1) * dim])
        everyone = statistics.expand(members, groups, -1, -1)
        out[..., 4 * dim :] = everyone if self._scale is None else everyone * self._scale[..., None]
        if self._drop is not None and self._masks is not None:
            self._drop.apply_(out.flatten(0, 1), self._masks)
        return out

    def backward(self, grad: Tensor, members: slice = slice(None)) -> list[Tensor]:
        """Gradients of the vectors of users, items and contexts, ``[m, P', G, E]`` for the P' chosen members.

        Args:
            grad: of the input, ``[P', G, B, 4 * E + n_dense]``; spoilt.
            members: which ones.
        """
        dim = self._u.shape[3]
        if self._drop is not None and self._masks is not None:
            first, stop, _ = members.indices(self._u.shape[1])
            groups, bits = self._u.shape[2], grad.flatten(0, 1).view(self._masks.dtype)
            for (start, end), mask in zip(self._drop.runs, self._masks, strict=True):
                own = slice(max(start, first * groups) - first * groups, min(end, stop * groups) - first * groups)
                if own.start < own.stop:
                    bits[own].bitwise_and_(mask)

        def part(i: int) -> Tensor:
            rows = self._u.new_empty(len(self._u), grad.shape[0], *self._u.shape[2:])
            own = grad[..., i * dim : (i + 1) * dim].permute(2, 0, 1, 3)
            return _scaled(own, None if self._scale is None else self._scale[members], rows)

        product = part(2)
        u, v = self._u[:, members], self._v[:, members]
        rows = (part(0).addcmul_(product, v), part(1).addcmul_(product, u), part(3))
        at = (self._index.users, self._index.items, self._index.contexts)
        return [
            part.new_zeros(n, *part.shape[1:]).index_add_(0, where, part)
            for n, where, part in zip(self._sizes, at, rows, strict=True)
        ]


def _scaled(x: Tensor, scale: Tensor | None, out: Tensor) -> Tensor:
    """``x * scale`` in `out`, in one pass."""
    return out.copy_(x) if scale is None else torch.mul(x, scale, out=out)
