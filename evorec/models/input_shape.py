"""Sizes that the data set fixes for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from evorec.models.blocks import InputBlock


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
        n_items: items of the catalogue; 0 = rows without users and items, of which a model sees the context alone.
        parents: for each task the index of the task before it in the funnel, or -1.
        blocks: parts of the input that a member can switch off, rows of the tables before parts of the content.
        signs: for each task -1 if its high values are bad, else 1; empty = all are good.
        absent: names of blocks that the data declare and these training rows do not have.
        numbers: tasks whose labels are numbers, ascending.
        n_past: H, most past positives of a user.
        id_rows: first row and number of rows of the ids of users, and of items.
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
    numbers: tuple[int, ...] = ()
    n_past: int = 0
    id_rows: tuple[tuple[int, int], ...] = ()

    def score_weights(self, task_weights: Sequence[float]) -> tuple[float, ...]:
        """Weight of each task's logit in the score of an item: negative where high values are bad.

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

    @property
    def has_items(self) -> bool:
        """Whether a row is of a user and an item."""
        return self.n_items > 0

    def n_inputs(self, embedding_dim: int, *, attends: bool = False) -> int:
        """Inputs of the ranker: user, item, product and context vectors, with attention the past, and statistics.

        Without items the context vector and the statistics.
        """
        return (4 + attends if self.has_items else 1) * embedding_dim + self.n_dense

    def layer_inputs(self, embedding_dim: int, width: int, *, attends: bool = False) -> list[int]:
        """Inputs of each level: the ranker's, then the width."""
        return [self.n_inputs(embedding_dim, attends=attends), *([width] * (self.n_layers - 1))]
