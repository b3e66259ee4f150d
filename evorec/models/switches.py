"""Blocks of the input that are switched off: their parameters are 0 from the start and never get a gradient.

AdamW, Adafactor and decay leave a zero without a gradient at zero, so a member without a block runs in the same batched
products as a member with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from evorec.models.blocks import InputBlock, blocks_of

if TYPE_CHECKING:
    from evorec.models.input_shape import InputShape
    from evorec.models.spec import ModelSpec

PROJECTIONS = ("content.weight", "task_content.weight")
"""Dense tensors with a row for each column of the content."""


def off_rows(spec: ModelSpec, shape: InputShape) -> list[int]:
    """Indices in `InputShape.row_blocks` of the blocks that a member has switched off.

    Raises:
        ConfigError: the data have no such block.
    """
    off = blocks_of(spec.off, shape.blocks, shape.absent)
    return [index for index, block in enumerate(shape.row_blocks) if block in off]


def adapted_content(spec: ModelSpec, shape: InputShape) -> list[tuple[InputBlock, int]]:
    """The parts of the content whose projection is a product of two thin matrices, and their rank.

    Raises:
        ConfigError: the data have no such part.
    """
    ranks = dict(spec.ranks)
    parts = blocks_of(ranks, shape.content_blocks, shape.absent)
    return [(part, ranks[part.name]) for part in parts if part.name not in spec.off]


def untrained_content(spec: ModelSpec, shape: InputShape) -> list[InputBlock]:
    """The parts of the content whose rows of the projection no optimiser moves: off, or made of other matrices."""
    off = [block for block in blocks_of(spec.off, shape.blocks, shape.absent) if block.is_content]
    return [*off, *(part for part, _ in adapted_content(spec, shape))]


@final
class OffRows:
    """Entries of the tables' rows that are switched off.

    Args:
        members: the spec and the columns of each.
        shape: with the blocks.
        device: of the rows.
    """

    def __init__(
        self, members: Sequence[tuple[ModelSpec, slice]], shape: InputShape, device: torch.device | str
    ) -> None:
        columns: dict[int, list[int]] = {}
        for spec, own in members:
            for index in off_rows(spec, shape):
                columns.setdefault(index, []).extend(range(own.start, own.stop))
        self._columns = [(index, torch.tensor(own, device=device)) for index, own in sorted(columns.items())]
        self._whole = [slice(block.first, block.first + block.size) for block in shape.row_blocks]

    def clear_(self, values: Tensor, spans: Sequence[slice] | None = None) -> Tensor:
        """Sets them to 0.

        Args:
            values: ``[n, C]``, of some rows of a table.
            spans: for each block that has rows, which of the n rows those are; ``None`` = these are all rows.
        """
        for index, columns in self._columns:
            # A span is a view, so the rows of `values` themselves are cleared.
            values[(self._whole if spans is None else spans)[index]].index_fill_(1, columns, 0.0)
        return values
