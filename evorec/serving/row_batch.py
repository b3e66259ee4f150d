"""Predictions for a table of rows: a file of features in, a file of predictions out, in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from evorec.errors import DataError
from evorec.outputs import workspace
from evorec.serving.batch import check_out, feature_values, write_whole
from evorec.serving.rows import RowScorer

ROWS_PER_CHUNK: Final = 20_000
LINE: Final = "line"
"""Column of the row number in the file of features."""


@final
@dataclass(frozen=True)
class ScoredTable:
    """A table of rows that was scored.

    Attributes:
        n_rows: its rows.
        missing: features of the model that no column has, so that they are unknown in all rows.
        unused: columns that the model does not read, such as labels and ids.
    """

    n_rows: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def score_table(
    scorer: RowScorer, rows: str | Path, out: str | Path, *, progress: Callable[[int], None] = lambda _: None
) -> ScoredTable:
    """Write the predictions of all rows of a table.

    Args:
        scorer: that makes them.
        rows: CSV, TSV, JSON lines or Parquet with the features as columns, by name; other columns are not read.
        out: file to write, of the format of its ending (`evorec.serving.batch.ENDINGS`): ``line``, the row number in
            `rows`, and a column for each task.
        progress: called with the number of rows that are done.
    Raises:
        ConfigError: `out` exists or has another ending.
        DataError: `rows` cannot be read or has no feature of the model; names the file, the line and the column of a
            value that cannot be used.
    """
    import polars as pl

    from evorec.config.tables import FilesConfig
    from evorec.data.tabular.columns import Column
    from evorec.data.tabular.dialect import detect
    from evorec.data.tabular.sheet import read_sheet
    from evorec.data.tabular.sources import Source

    rows, out, files, key = Path(rows), Path(out), FilesConfig(), "--rows"
    check_out(out)
    if not rows.is_file():
        raise DataError(f"{rows} is not a file; {key} reads a CSV, TSV, JSON lines or Parquet file.")
    source = Source.of(rows)
    columns = detect(source, files, key=key).columns
    found = [name for name in scorer.features if name in columns]
    if not found:
        raise DataError(
            f"{rows} has no feature of the model, which reads {', '.join(scorer.features) or 'none'}; it has "
            f"{', '.join(columns) or 'none'}."
        )
    sheet = read_sheet(source, files, found, key)
    features = {
        name: feature_values(Column.read(sheet, name, files.missing, None), scorer.feature_kind(name), sheet)
        for name in found
    }
    n_rows, chunks = sheet.frame.height, list[Path]()
    with workspace(out) as parts:
        for start in range(0, n_rows, ROWS_PER_CHUNK):
            stop = min(start + ROWS_PER_CHUNK, n_rows)
            some = {name: values[start:stop].to_list() for name, values in features.items()}
            given = [dict(zip(some, row, strict=True)) for row in zip(*some.values(), strict=True)]
            predictions = scorer.predictions(given)
            scored = {LINE: range(start, stop), **dict(zip(scorer.tasks, predictions.T, strict=True))}
            chunks.append(parts / f"{start:012}.parquet")
            pl.DataFrame(scored).write_parquet(chunks[-1])
            progress(stop)
        write_whole(chunks, parts, out)
    unread = set(found) | scorer.ignored
    return ScoredTable(
        n_rows,
        tuple(name for name in scorer.features if name not in found),
        tuple(name for name in columns if name not in unread),
    )
