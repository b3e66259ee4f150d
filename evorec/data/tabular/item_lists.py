"""Files with a line per user: the user, then its items; S3-Rec has them in order of time, LightGCN in any order."""

from __future__ import annotations

from typing import Final

import polars as pl

from evorec.config.tables import FilesConfig, SourceConfig
from evorec.data.tabular.dialect import Dialect, detect
from evorec.data.tabular.sheet import Sheet
from evorec.data.tabular.sources import Source
from evorec.data.tabular.text import prepared
from evorec.errors import DataError

LIST_USER: Final = "user"
LIST_ITEM: Final = "item"
"""Columns of the sheet."""
OTHER_SEPARATOR: Final = r"[,;|:]$|^[^,;|]+[,;|][^,;|]+[,;|]"
"""In the id of a user: the values are separated by something else."""
MAX_TEXT: Final = 60
"""Characters of a line that an error shows."""


def read_item_lists(source: Source, config: SourceConfig, key: str) -> Sheet:
    """A row per user and item, in the order of the file; a user without items has no row.

    Args:
        source: the file.
        config: encoding, and the separator; empty = white space.
        key: of the configuration, for errors.
    Raises:
        DataError: the file has no items, or its values are separated by something else; names the line.
    """
    separator = config.separator or " "
    found = detect(source, FilesConfig(format="csv", separator=separator, encoding=config.encoding), key=key)
    content = prepared(source, source.content(), found.encoding, key=key)
    lines = pl.Series("text", content.decode().split("\n")).str.strip_chars()
    frame = lines.to_frame().with_row_index("line", offset=1).filter(pl.col("text") != "")
    if config.separator:
        values = pl.col("text").str.split(config.separator).list.eval(pl.element().str.strip_chars())
    else:
        values = pl.col("text").str.replace_all(r"\s+", " ").str.split(" ")
    items = values.list.slice(1)
    frame = frame.select(
        "line", "text", values.list.first().alias(LIST_USER), items.alias(LIST_ITEM), n=items.list.len()
    )
    separated = f"separated by {config.separator!r}" if config.separator else "separated by white space"
    other = frame.filter(pl.col(LIST_USER).str.contains(OTHER_SEPARATOR))
    if other.height or not frame["n"].sum():
        line, text = other.select("line", "text").row(0) if other.height else (1, "".join(frame["text"].head(1)))
        raise DataError(
            f"{source}, line {line} must be a user and its items, {separated}, got {text[:MAX_TEXT]!r}; set "
            f"{key}.separator, or the {key}.format of the file."
        )
    frame = frame.filter(pl.col("n") > 0).explode(LIST_ITEM)
    columns = (LIST_USER, LIST_ITEM)
    dialect = Dialect("csv", separator, "", found.encoding, columns, has_header=False, notes=found.notes)
    return Sheet(source, dialect, frame.select(columns), lines=frame["line"], key=key)
