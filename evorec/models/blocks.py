"""Blocks of the input that a member can switch off: features of users, items and contexts, parts of item content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, final

from evorec.config import COOCCURRENCE
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.data.dataset import Dataset, Field

CONTENT = "content"
"""The side of a block that is a part of the items' content; the others are user, item and context."""
TAKEN = ("blend",)
"""Names that would make a gene of another meaning: ``rank_blend``."""


@final
class InputBlock(NamedTuple):
    """A block of the input.

    Attributes:
        name: unique; of the genes ``use_<name>`` and ``rank_<name>``.
        side: ``user``, ``item``, ``context`` or ``content``.
        field: its name in the data.
        first: its first row of the embedding tables; of content its first column.
        size: its rows, or columns.
        n_columns: most rows that an entity has in it; 0 for content.
    """

    name: str
    side: str
    field: str
    first: int
    size: int
    n_columns: int = 0

    @property
    def is_content(self) -> bool:
        """Whether it is a part of the items' content, with a projection instead of rows."""
        return self.side == CONTENT


def input_blocks(dataset: Dataset) -> tuple[InputBlock, ...]:
    """The blocks of an encoded data set: everything but the ids, rows of the tables first.

    Their names do not depend on which other fields these training rows have: a stored spec must mean the same block in
    the fit of another part of the log.

    Args:
        dataset: with the rows of its fields.
    """
    found = _found(dataset)
    names = _names(dataset)
    return tuple(
        InputBlock(names[side, field.name], side, field.name, first, size, 0 if side == CONTENT else field.n_columns)
        for side, field, first, size in found
    )


def absent_blocks(dataset: Dataset) -> tuple[str, ...]:
    """Names of the blocks that the tables declare and these training rows do not have: the same for all of them.

    Args:
        dataset: with the fields that its tables declare.
    """
    present = {(side, field.name) for side, field, _, _ in _found(dataset)}
    return tuple(name for key, name in _names(dataset).items() if key not in present)


def _names(dataset: Dataset) -> dict[tuple[str, str], str]:
    """Name of every declared block by its side and field."""
    declared = dataset.declared or [(side, field.name) for side, field, _, _ in _found(dataset)]
    return dict(zip(declared, block_names(declared), strict=True))


def _found(dataset: Dataset) -> list[tuple[str, Field, int, int]]:
    """Side, field, first row or column, and size of every block that there is."""
    fields = {"user": dataset.user_fields[1:], "item": dataset.item_fields[1:], "context": dataset.context_columns}
    found = [(side, field, field.first_row, field.n_rows) for side, own in fields.items() for field in own]
    found = [part for part in found if part[3]]
    return found + [(CONTENT, part, part.first_column, part.n_columns) for part in dataset.content_parts]


ANY_SIZE = 1 << 20
"""Size of a block of which only the name is known."""


def named_blocks(genes: Iterable[str]) -> tuple[InputBlock, ...]:
    """The blocks that the names of genes speak of, for checking a configuration without its data.

    Example:
        >>> [(block.name, block.field) for block in named_blocks(["width", "use_city", "rank_text", "pretrained"])]
        [('city', 'city'), ('text', 'text'), ('cooccurrence', 'cooccurrence')]
    """
    names = [gene.removeprefix("use_") for gene in genes if gene.startswith("use_")]
    names += [gene.removeprefix("rank_") for gene in genes if gene.startswith("rank_")]
    names += [COOCCURRENCE for gene in genes if gene == "pretrained"]
    return tuple(InputBlock(name, CONTENT, name, 0, ANY_SIZE) for name in dict.fromkeys(names) if name not in TAKEN)


def block_names(found: Sequence[tuple[str, str]]) -> list[str]:
    """A name for each (side, field): the field's own where no other block has it, else with the side before it.

    Example:
        >>> block_names([("user", "city"), ("item", "city"), ("item", "price"), ("content", "blend")])
        ['user_city', 'item_city', 'price', 'content_blend']
    """
    often = Counter(field for _, field in found)
    long = [f"{side}_{field}" for side, field in found]
    names = [
        whole if often[field] > 1 or field in TAKEN else field for whole, (_, field) in zip(long, found, strict=True)
    ]
    return names if len(set(names)) == len(names) else long


def blocks_of(names: Iterable[str], blocks: Sequence[InputBlock], absent: Sequence[str] = ()) -> list[InputBlock]:
    """The blocks of the given names.

    Args:
        names: of blocks to switch.
        blocks: those that there are.
        absent: names that the data declare and that have no block here (`absent_blocks`); nothing is switched there.
    Raises:
        ConfigError: the data have no such block.
    """
    known = {block.name: block for block in blocks}
    names = [name for name in names if name not in absent]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"the data have no feature {', '.join(map(repr, unknown))} to switch; known: {', '.join(known) or 'none'}."
        )
    return [known[name] for name in names]
