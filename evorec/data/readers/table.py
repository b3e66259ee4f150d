"""Any log: the configuration names the columns of user, item, time and labels, and the tables of users and items.

Each file is read and converted on its own, so that a single file at a time is held as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config import DataConfig, FilesConfig, ItemsConfig, LogConfig, UsersConfig
from evorec.config.expressions import Clause, parse_derived, parse_label
from evorec.config.tables import FeatureKind
from evorec.data.readers import READERS, TABLE, Origin, Reader, folder_of
from evorec.data.tables import Columns, Feature, Tables
from evorec.data.tabular.columns import Column, label
from evorec.data.tabular.sheet import Sheet, read_sheet
from evorec.data.tabular.sources import MAX_NAMES, find_sources, reason
from evorec.data.tabular.times import days, session_numbers, times
from evorec.errors import DataError

BY: Final = "\0by "
TEXT: Final = "\0text "
SESSION: Final = "\0session"
FILE: Final = "\0file"
ROW: Final = "\0row"
"""Columns that only the reader uses; no file has such names, because a text with a NUL is refused."""

Tasks = Mapping[str, tuple[Clause, ...]]
Rows = tuple[pl.DataFrame, list[tuple[Sheet, int]], int]
"""Rows of a table; emptied sheet and number of rows of each file; number of rows with all ids, repeated rows
included."""


def read(config: DataConfig) -> tuple[Tables, Origin]:
    """The tables that a configuration describes, and counts of the rows that were read and dropped.

    Args:
        config: ``log``, and, where there are such tables, ``users`` and ``items``.
    Raises:
        ConfigError: a format or a pattern that cannot be used.
        DataError: names the file, the line and the column.
    """
    folder, log = folder_of(config), config.log
    tasks = {task: parse_label(text) for task, text in log.tasks.items()}
    clauses = [clause for own in tasks.values() for clause in own]
    by = tuple(name for name in log.pivot.by if name not in (log.user, log.item))
    names = (log.user, log.item, log.time, *filter(None, [log.day]), *by, *log.context, *(c.column for c in clauses))
    texts = () if log.duplicates == "keep" else tuple(sorted({c.column for c in clauses if c.is_text}))
    unmatched = _UnmatchedTexts(tasks)

    def part(file: _File) -> pl.DataFrame:
        unmatched.look_at(file)
        return _log_part(file, log, tasks, by, texts)

    same = (Columns.USER, Columns.ITEM, Columns.TIME, *(TEXT + name for name in texts))
    frame, files, n_with_ids = _read_files(folder, log, "data.log", names, part, same)
    n_rows, n_events = sum(n for _, n in files), frame.height
    if n_with_ids == 0:
        read_files = [str(sheet.source) for sheet, _ in files]
        raise DataError(f"data.log: all {n_rows} rows of {read_files} lack a user or an item.")
    unmatched.refuse()
    kept = [name for name in frame.columns if not name.startswith("\0")]
    if log.pivot.is_on:
        frame = _pivoted(frame, log.pivot.session_gap_s, tuple(tasks))
    frame = frame.select(kept)

    tables: dict[str, pl.DataFrame | None] = {"users": None, "items": None}
    for side, id_column, entity in (("users", Columns.USER, config.users), ("items", Columns.ITEM, config.items)):
        if entity.files:
            found, more_files, _ = _read_entities(folder, entity, f"data.{side}", id_column)
            frame, tables[side] = _with_one_type(frame, found, id_column, side)
            files += more_files
    checked = Tables(
        name=folder.resolve().name or "table",
        interactions=frame,
        tasks=tuple(tasks),
        users=tables["users"],
        items=tables["items"],
        context=_features(log.context),
        user_features=_features(config.users.features),
        item_features=_features(config.items.features),
        content=config.items.content,
    )
    origin = Origin(
        TABLE,
        str(folder),
        files=tuple((str(sheet.source).removeprefix(f"{folder}/"), n) for sheet, n in files),
        dialects=tuple(str(sheet.dialect) for sheet, _ in files),
        notes=tuple(f"{sheet.source}: {note}" for sheet, _ in files for note in sheet.dialect.notes),
        n_read=n_rows,
        n_missing_ids=n_rows - n_with_ids,
        n_duplicates=n_with_ids - n_events,
        n_events=n_events,
    )
    return checked, origin


READERS.register(TABLE, Reader("any CSV, TSV, JSON lines or Parquet files, described by log, users and items", read))


@final
class _File:
    """A file of a table: its columns, and columns derived from them."""

    def __init__(self, sheet: Sheet, config: FilesConfig, derived: Mapping[str, Clause]) -> None:
        self.sheet, self._config, self._derived = sheet, config, derived
        self._columns: dict[str, Column] = {}

    def column(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = Column.read(self.sheet, name, self._config.missing, self._derived.get(name))
        return self._columns[name]

    def feature(self, name: str, kind: FeatureKind) -> pl.Series:
        column = self.column(name)
        if kind == "numeric":
            return column.numbers
        return column.lists(self._config.separators.get(name)) if kind == "multi_hot" else column.texts

    def vectors(self, name: str) -> pl.Series:
        return self.column(name).vectors(self._config.separators.get(name))

    def refuse(self, name: str, is_missing: pl.Series) -> None:
        """Raise the error of the first missing value."""
        column = self._derived[name].column if name in self._derived else name
        self.sheet.refuse(column, is_missing, "not be empty")


def _read_files(
    folder: Path,
    config: LogConfig | UsersConfig | ItemsConfig,
    key: str,
    names: Sequence[str],
    part: Callable[[_File], pl.DataFrame],
    same: Sequence[str],
) -> Rows:
    """Read and convert file after file.

    Args:
        folder: that the files are in.
        config: of the files.
        key: of the configuration, for errors.
        names: columns to read.
        part: converts a file, row by row.
        same: columns of its result in which a duplicate equals an earlier row.
    """
    derived = {name: parse_derived(text) for name, text in config.derive.items()}
    needed = tuple(dict.fromkeys(derived[name].column if name in derived else name for name in names))
    ids = [name for name in same if name in (Columns.USER, Columns.ITEM)]
    parts: list[pl.DataFrame] = []
    files: list[tuple[Sheet, int]] = []
    for source in find_sources(folder, config.files, f"{key}.files"):
        file = _File(read_sheet(source, config, needed, key), config, derived)
        try:
            frame = part(file)
        except PolarsError as error:  # a type of Parquet that cannot be converted
            raise DataError(f"{source} cannot be converted: {reason(error)}") from None
        if config.duplicates == "refuse":
            frame = frame.with_row_index(ROW).with_columns(pl.lit(len(files)).alias(FILE))
        parts.append(frame.drop_nulls(ids))
        files.append((file.sheet.emptied(), frame.height))
        del file, frame  # its text, before the next file is read
    texts = {name for one in parts for name, dtype in one.schema.items() if dtype == pl.String}
    joined = pl.concat([one.with_columns(pl.col(name).cast(pl.String) for name in texts) for one in parts])
    n_with_ids = joined.height
    if config.duplicates == "refuse":
        again = joined.select(~pl.struct(same).is_first_distinct()).to_series().arg_true()
        if len(again):
            row = joined.row(again[0], named=True)
            shown = {name: row[name] for name in same if not name.startswith("\0")}
            choices = "keep, first or last" if isinstance(config, LogConfig) else "first or last"
            raise DataError(
                f"{files[row[FILE]][0].location(row[ROW])} repeats an earlier row, {shown}; remove it, or set "
                f"{key}.duplicates to {choices}."
            )
        joined = joined.drop(ROW, FILE)
    elif config.duplicates != "keep":
        joined = joined.unique(same, keep=config.duplicates, maintain_order=True)
    return joined, files, n_with_ids


def _log_part(file: _File, config: LogConfig, tasks: Tasks, by: Sequence[str], texts: Sequence[str]) -> pl.DataFrame:
    """The rows of a file of the log; ``by`` and ``texts`` are kept as columns of the reader's own."""
    columns = {Columns.USER: file.column(config.user).ids, Columns.ITEM: file.column(config.item).ids}
    has_ids = columns[Columns.USER].is_not_null() & columns[Columns.ITEM].is_not_null()
    if config.missing_ids == "refuse":
        file.refuse(config.user, columns[Columns.USER].is_null())
        file.refuse(config.item, columns[Columns.ITEM].is_null())
    needed = {config.time: times(file.column(config.time), config.time_unit, config.time_zone)}
    columns[Columns.TIME] = needed[config.time]
    if config.day:
        columns[Columns.DAY] = needed[config.day] = days(file.column(config.day))
    for name in by:
        columns[BY + name] = needed[name] = file.column(name).codes
    for name, values in needed.items():
        file.refuse(name, values.is_null() & has_ids)  # a row that is dropped may lack them
    for task, clauses in tasks.items():
        columns[task] = label(clauses, file.column)
        too_large = columns[task].is_infinite()
        file.column(clauses[0].column).refuse(too_large, f"small enough for a label of task {task}, below 3.4e38")
    for name, kind in config.context.items():
        columns[name] = file.column(name).codes if kind == "categorical" else file.feature(name, kind)
    columns |= {TEXT + name: file.column(name).texts for name in texts}
    return pl.DataFrame([values.alias(name) for name, values in columns.items()])


def _read_entities(folder: Path, config: UsersConfig | ItemsConfig, key: str, id_column: str) -> Rows:
    """The table of users or items."""
    texts, content = (config.texts, config.content) if isinstance(config, ItemsConfig) else ((), ())

    def part(file: _File) -> pl.DataFrame:
        columns = {id_column: file.column(config.key).ids}
        file.refuse(config.key, columns[id_column].is_null())
        columns |= {name: file.feature(name, kind) for name, kind in config.features.items()}
        columns |= {name: file.column(name).texts for name in texts if name not in columns}
        columns |= {name: file.vectors(name) for name in content if name not in columns}
        return pl.DataFrame([values.alias(name) for name, values in columns.items()])

    return _read_files(folder, config, key, (config.key, *config.features, *texts, *content), part, (id_column,))


@final
class _UnmatchedTexts:
    """Texts that labels are compared with and that no row has had so far: a misspelt text makes a label of zeros."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = {
            clause: task
            for task, clauses in tasks.items()
            for clause in clauses
            if clause.is_text and clause.operator == "=="
        }
        self.seen: dict[str, list[str]] = {}

    def look_at(self, file: _File) -> None:
        for clause in list(self.tasks):
            values = file.column(clause.column).texts
            if (values == clause.operand).any():
                del self.tasks[clause]
            elif clause.column not in self.seen:
                counts = values.drop_nulls().value_counts(sort=True).head(MAX_NAMES)
                self.seen[clause.column] = counts[counts.columns[0]].to_list()

    def refuse(self) -> None:
        """Raise the error of the first text that no file has."""
        for clause, task in self.tasks.items():
            raise DataError(
                f"data.log.tasks.{task}: no row has {clause.column} == {clause.operand!r}; the most frequent values "
                f"are {self.seen[clause.column]}."
            )


def _pivoted(frame: pl.DataFrame, session_gap_s: float, tasks: tuple[str, ...]) -> pl.DataFrame:
    """A row per user, item, further columns and session: the first moment, and each task's largest label.

    Rows are in the order of their first moments.
    """
    frame = frame.sort(Columns.TIME, maintain_order=True)
    if session_gap_s:
        frame = frame.with_columns(session_numbers(Columns.TIME, Columns.USER, session_gap_s).alias(SESSION))
    keys = [Columns.USER, Columns.ITEM, *(name for name in frame.columns if name == SESSION or name.startswith(BY))]
    first = [name for name in frame.columns if name not in (*keys, *tasks)]
    return frame.group_by(keys, maintain_order=True).agg(pl.col(first).first(), pl.col(tasks).max())


def _with_one_type(
    log: pl.DataFrame, table: pl.DataFrame, id_column: str, side: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Log and table with the same type of id; ids without a match are refused.

    Raises:
        DataError: shows ids of both.
    """
    if log.schema[id_column] != table.schema[id_column]:
        log, table = (frame.with_columns(pl.col(id_column).cast(pl.String)) for frame in (log, table))
    met = log[id_column].unique()
    if not met.is_in(table[id_column].implode()).any():
        raise DataError(
            f"data.{side}: none of the {len(met)} {side} of the log is in the table: the log has "
            f"{met.sort().head(3).to_list()}, the table has {table[id_column].head(3).to_list()}; data.{side}.key must "
            "name the column with the same ids."
        )
    return log, table


def _features(kinds: Mapping[str, FeatureKind]) -> tuple[Feature, ...]:
    return tuple(Feature(name, kind) for name, kind in kinds.items())
