"""The size of a data set: the numbers and the hash that every command shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import polars as pl

from evorec.data.splits import Split
from evorec.data.tables import Columns, Tables


@final
@dataclass(frozen=True)
class DataSize:
    """Rows, users and items of a data set, and its hash.

    Attributes:
        name: of the data set.
        n_rows: of the log.
        n_users: with a row in the log; 0 for a table of rows.
        n_items: of the log and of the item table together: the catalogue; 0 for a table of rows.
        n_items_in_log: of them with a row in the log; the others are in the item table alone.
        sha256: hash of the tables (`Tables.sha256`).
    """

    name: str
    n_rows: int
    n_users: int
    n_items: int
    n_items_in_log: int
    sha256: str

    @classmethod
    def of(cls, tables: Tables) -> DataSize:
        """Of all rows, whatever part they are in."""
        if not tables.has_items:
            return cls(tables.name, tables.n_rows, 0, 0, 0, tables.sha256())
        log, items = tables.interactions, _items(tables, tables.interactions)
        n_in_log = log[Columns.ITEM].n_unique()
        return cls(tables.name, log.height, log[Columns.USER].n_unique(), len(items), n_in_log, tables.sha256())

    def __str__(self) -> str:
        size = f"{self.n_rows:,} rows" + (f", {self.n_users:,} users, {self.n_items:,} items" if self.n_items else "")
        return f"{self.name}: {size}, sha256 {self.sha256[:12]}"


def item_numbers(tables: Tables, parts: Split | None) -> pl.DataFrame:
    """How the number of items comes about: a row per step with ``items`` and ``n``.

    Args:
        tables: all interactions.
        parts: row numbers of the parts; ``None`` = the log cannot be split, and what a model can list is left out.
    Returns:
        No row for a table of rows, which has no items.
    """
    log = tables.interactions
    if not tables.has_items:
        return pl.DataFrame(schema={"items": pl.String, "n": pl.Int64})
    n_items, n_in_log = len(_items(tables, log)), log[Columns.ITEM].n_unique()
    rows = [("with a row in the log", n_in_log), ("only in the item table", n_items - n_in_log), ("all", n_items)]
    if parts is not None:
        both = pl.concat([log[parts.train], log[parts.validation]])
        rows.append(("listed by the search, from training", len(_items(tables, log[parts.train]))))
        rows.append(("listed by the final model, from training + validation", len(_items(tables, both))))
    return pl.DataFrame(rows, {"items": pl.String, "n": pl.Int64}, orient="row")


def _items(tables: Tables, log: pl.DataFrame) -> pl.Series:
    """The items that a model of some rows can list: those of the rows and those of the item table."""
    known = log[Columns.ITEM] if tables.items is None else pl.concat([log[Columns.ITEM], tables.items[Columns.ITEM]])
    return known.unique()
