"""Any log: which column is user, item and time, what the labels are, and the tables of users and items.

Each file is read and converted on its own, so that only one of them is held as text at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config import DataConfig, FilesConfig, ItemsConfig, LogConfig, UsersConfig
from evorec.config.expressions import Clause, parse_derived, parse_label
from evorec.config.tables import Kind
from evorec.data.readers import columns as convert
from evorec.data.readers.expressions import label
from evorec.data.readers.files import Sheet, read_sheet
from evorec.data.readers.sources import MAX_NAMES, Source, find_sources
from evorec.data.readers.times import days, times
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import DataError

BY: Final = "\0by "
TEXT: Final = "\0text "
SESSION: Final = "\0session"
FILE: Final = "\0file"
ROW: Final = "\0row"
"""Columns that only the reader uses; no file has such names, because a text with a NUL is refused."""

Tasks = Mapping[str, tuple[Clause, ...]]


@final
@dataclass(frozen=True)
class FileRows:
    """One file that was read, and its number of rows."""

    name: str
    n_rows: int


@final
@dataclass(frozen=True)
class Reading:
    """What was read, and what became of it.

    Args:
        tables: the data set.
        files: of the log, then of the users and of the items.
        n_rows: rows of the log's files.
        n_missing_ids: of them, dropped because they have no user or no item.
        n_duplicates: of them, dropped because they repeat another one.
        n_events: those that are left, before events were put together to one row each.
    """

    tables: Tables
    files: tuple[FileRows, ...]
    n_rows: int
    n_missing_ids: int
    n_duplicates: int
    n_events: int


def read(config: DataConfig, folder: Path) -> Tables:
    """The tables that a configuration describes.

    Args:
        config: ``log``, and where there are such tables ``users`` and ``items``.
        folder: that the files are in.
    Raises:
        ConfigError: a format or a pattern that cannot be used.
        DataError: names the file, the line and the column.
    """
    return read_counted(config, folder).tables


def read_counted(config: DataConfig, folder: Path) -> Reading:
    """`read`, with counts of what was read and dropped."""
    log = _read_log(config.log, folder)
    frame, files = log.frame, list(log.files)
    tables: dict[str, pl.DataFrame | None] = {"users": None, "items": None}
    for side, id_column, entity in (("users", Columns.USER, config.users), ("items", Columns.ITEM, config.items)):
        if entity.files:
            table, read_from = _read_entities(entity, folder, f"data.{side}", id_column)
            frame, tables[side] = _with_one_type(frame, table, id_column, side)
            files += read_from
    checked = Tables(
        name=folder.resolve().name or "table",
        interactions=frame,
        tasks=tuple(config.log.tasks),
        users=tables["users"],
        items=tables["items"],
        context=_features(config.log.context),
        user_features=_features(config.users.features),
        item_features=_features(config.items.features),
        content=config.items.content,
    )
    return Reading(checked, tuple(files), log.n_rows, log.n_missing_ids, log.n_duplicates, log.n_events)


@final
@dataclass(frozen=True)
class _File:
    """One file of a table: its columns, those that are derived, and each conversion done once."""

    sheet: Sheet
    config: FilesConfig
    derived: Mapping[str, Clause]
    done: dict[tuple[str, str], pl.Series] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Source, config: FilesConfig, key: str, names: Sequence[str]) -> _File:
        """Only the columns that are named, and those that they are derived from."""
        derived = {name: parse_derived(text) for name, text in config.derive.items()}
        needed = dict.fromkeys(derived[name].column if name in derived else name for name in names)
        return cls(read_sheet(source, config, tuple(needed), key), config, derived)

    @property
    def rows(self) -> FileRows:
        return FileRows(str(self.sheet.source), self.sheet.frame.height)

    def cells(self, name: str) -> convert.Cells:
        return convert.cells(self.sheet, name, self.config.missing, self.derived.get(name))

    def numbers(self, name: str) -> pl.Series:
        return self._once("numbers", name)

    def labels(self, name: str) -> pl.Series:
        """Numbers, true and false among them."""
        return self._once("labels", name)

    def texts(self, name: str) -> pl.Series:
        return self._once("texts", name)

    def ids(self, name: str) -> pl.Series:
        return self._once("ids", name)

    def codes(self, name: str) -> pl.Series:
        """Categories of the log: numbers where all of them are whole, which takes half the memory of texts."""
        return self._once("codes", name)

    def lists(self, name: str) -> pl.Series:
        return convert.lists(self.cells(name), self.config.separators.get(name))

    def vectors(self, name: str) -> pl.Series:
        return convert.vectors(self.cells(name), self.config.separators.get(name))

    def _once(self, kind: str, name: str) -> pl.Series:
        if (kind, name) not in self.done:
            cells = self.cells(name)
            if kind in ("ids", "codes"):
                self.done[kind, name] = convert.whole_or_text(cells, is_id=kind == "ids")
            elif kind == "texts":
                self.done[kind, name] = convert.texts(cells)
            else:
                self.done[kind, name] = convert.numbers(cells, truth=kind == "labels")
        return self.done[kind, name]

    def refuse_missing(self, name: str, values: pl.Series) -> None:
        """Raise the error of the first missing value."""
        column = self.derived[name].column if name in self.derived else name
        convert.refuse_missing(self.sheet, column, values)


@final
@dataclass(frozen=True)
class _Log:
    """The log as one table, and the counts of its rows."""

    frame: pl.DataFrame
    files: tuple[FileRows, ...]
    n_rows: int
    n_missing_ids: int
    n_duplicates: int
    n_events: int


def _read_log(config: LogConfig, folder: Path) -> _Log:
    """Every file of the log, without what is to be dropped, its events put together."""
    tasks = {task: parse_label(text) for task, text in config.tasks.items()}
    unmatched = _Unmatched(tasks)
    parts: list[pl.DataFrame] = []
    files: list[FileRows] = []
    sheets: list[Sheet] = []
    for source in find_sources(folder, config.files, "data.log.files"):
        file = _File.read(source, config, "data.log", _log_columns(config, tasks))
        with _errors_of(source):
            parts.append(_log_part(file, config, tasks, len(files)))
            unmatched.look_at(file)
        files.append(file.rows)
        sheets.append(file.sheet.emptied())
        del file  # its text, before the next one is read
    unmatched.refuse()
    frame = _joined(parts)
    del parts
    n_with_ids, n_rows = frame.height, sum(file.n_rows for file in files)
    if n_with_ids == 0:
        raise DataError(f"data.log: all {n_rows} rows of {[file.name for file in files]} lack a user or an item.")
    frame = _without_duplicates(frame, config, sheets)
    n_events, kept = frame.height, [name for name in frame.columns if not name.startswith("\0")]
    if config.pivot.is_on:
        frame = _pivoted(frame, config.pivot.session_gap_s, tuple(tasks))
    frame = frame.select(kept)
    return _Log(frame, tuple(files), n_rows, n_rows - n_with_ids, n_with_ids - n_events, n_events)


def _log_columns(config: LogConfig, tasks: Tasks) -> tuple[str, ...]:
    labels = (clause.column for clauses in tasks.values() for clause in clauses)
    return (config.user, config.item, config.time, *filter(None, [config.day]), *_by(config), *config.context, *labels)


def _by(config: LogConfig) -> tuple[str, ...]:
    """The columns that share rows besides the user's and the item's."""
    return tuple(name for name in config.pivot.by if name not in (config.user, config.item))


def _log_part(file: _File, config: LogConfig, tasks: Tasks, number: int) -> pl.DataFrame:
    """The rows of one file that have a user and an item."""
    columns = {Columns.USER: file.ids(config.user), Columns.ITEM: file.ids(config.item)}
    has_ids = columns[Columns.USER].is_not_null() & columns[Columns.ITEM].is_not_null()
    if config.missing_ids == "refuse":
        file.refuse_missing(config.user, columns[Columns.USER])
        file.refuse_missing(config.item, columns[Columns.ITEM])
    wanted = {config.time: times(file.cells(config.time), config.time_unit, config.time_zone)}
    columns[Columns.TIME] = wanted[config.time]
    if config.day:
        columns[Columns.DAY] = wanted[config.day] = days(file.cells(config.day))
    for name in _by(config):
        columns[BY + name] = wanted[name] = file.codes(name)
    for name, values in wanted.items():
        file.refuse_missing(
            name, values if config.missing_ids == "refuse" else values.zip_with(has_ids, _zeros(values))
        )
    for task, clauses in tasks.items():
        columns[task] = label(clauses, file.labels, file.texts)
        convert.refuse_infinite(file.cells(clauses[0].column), columns[task], task)
    for name, kind in config.context.items():
        columns[name] = file.codes(name) if kind == "categorical" else _feature(file, name, kind)
    if config.duplicates != "keep":
        texts = {clause.column for clauses in tasks.values() for clause in clauses if clause.is_text}
        columns |= {TEXT + name: file.texts(name) for name in sorted(texts)}
    frame = pl.DataFrame([values.alias(name) for name, values in columns.items()])
    if config.duplicates == "refuse":
        frame = frame.with_row_index(ROW).with_columns(pl.lit(number).alias(FILE))
    return frame if has_ids.all() else frame.filter(has_ids)


def _zeros(values: pl.Series) -> pl.Series:
    """As many values of the same type, none of them missing."""
    return pl.select(pl.repeat(0, len(values), dtype=pl.Int64).cast(values.dtype)).to_series()


def _feature(file: _File, name: str, kind: Kind) -> pl.Series:
    if kind == "numeric":
        return file.numbers(name)
    return file.lists(name) if kind == "multi_hot" else file.texts(name)


@final
class _Unmatched:
    """Texts that labels are compared with and that no row has had so far: a misspelt one makes a label of zeros."""

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
            values = file.texts(clause.column)
            if (values == clause.operand).any():
                del self.tasks[clause]
            elif clause.column not in self.seen:
                counts = values.drop_nulls().value_counts(sort=True).head(MAX_NAMES)
                self.seen[clause.column] = counts[counts.columns[0]].to_list()

    def refuse(self) -> None:
        """Raise the error of the first one that no file has."""
        for clause, task in self.tasks.items():
            raise DataError(
                f"data.log.tasks.{task}: no row has {clause.column} == {clause.operand!r}; the most frequent values "
                f"are {self.seen[clause.column]}."
            )


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Tables of several files, one after the other; a column that is text in one of them is text."""
    texts = {name for part in parts for name, dtype in part.schema.items() if dtype == pl.String}
    return pl.concat([part.with_columns(pl.col(name).cast(pl.String) for name in texts) for part in parts])


def _without_duplicates(frame: pl.DataFrame, config: LogConfig, sheets: Sequence[Sheet]) -> pl.DataFrame:
    if config.duplicates == "keep":
        return frame
    same = [Columns.USER, Columns.ITEM, Columns.TIME, *(name for name in frame.columns if name.startswith(TEXT))]
    if config.duplicates != "refuse":
        return frame.unique(same, keep=config.duplicates, maintain_order=True)
    again = frame.select(~pl.struct(same).is_first_distinct()).to_series()
    if again.any():
        row = frame.row(int(again.arg_true()[0]), named=True)
        place = sheets[row[FILE]].place(row[ROW])
        raise DataError(
            f"{place} has the same user, item and time as a row before it ({row[Columns.USER]}, {row[Columns.ITEM]}, "
            f"{row[Columns.TIME]}); set data.log.duplicates to keep, first or last."
        )
    return frame


def _pivoted(frame: pl.DataFrame, session_gap_s: float, tasks: tuple[str, ...]) -> pl.DataFrame:
    """One row per user, item, further columns and session: the first moment, and each task's largest label.

    Rows come in the order of their first moments.
    """
    frame = frame.sort(Columns.TIME, maintain_order=True)
    if session_gap_s:
        pause = pl.col(Columns.TIME).diff().over(Columns.USER)
        begins = (pause > session_gap_s).fill_null(value=False)
        frame = frame.with_columns(begins.alias(SESSION))
        frame = frame.with_columns(pl.col(SESSION).cast(pl.Int32).cum_sum().over(Columns.USER))
    keys = [Columns.USER, Columns.ITEM, *(name for name in frame.columns if name == SESSION or name.startswith(BY))]
    first = [name for name in frame.columns if name not in (*keys, *tasks)]
    return frame.group_by(keys, maintain_order=True).agg(pl.col(first).first(), pl.col(tasks).max())


def _read_entities(
    config: UsersConfig | ItemsConfig, folder: Path, key: str, id_column: str
) -> tuple[pl.DataFrame, list[FileRows]]:
    """The table of users or items, and its files."""
    parts: list[pl.DataFrame] = []
    files: list[FileRows] = []
    sheets: list[Sheet] = []
    further = (*config.texts, *config.content) if isinstance(config, ItemsConfig) else ()
    for source in find_sources(folder, config.files, f"{key}.files"):
        file = _File.read(source, config, key, (config.key, *config.features, *further))
        with _errors_of(source):
            part = _entities_part(file, config, id_column)
        parts.append(part.with_row_index(ROW).with_columns(pl.lit(len(files)).alias(FILE)))
        files.append(file.rows)
        sheets.append(file.sheet.emptied())
    frame = _joined(parts)
    if config.duplicates != "refuse":
        frame = frame.unique(id_column, keep=config.duplicates, maintain_order=True)
    again = ~frame[id_column].is_first_distinct()
    if again.any():
        row = frame.row(int(again.arg_true()[0]), named=True)
        place = sheets[row[FILE]].place(row[ROW])
        raise DataError(
            f"{place}, column {config.key} has {row[id_column]!r} again; remove the row, or set {key}.duplicates to "
            "first or last."
        )
    return frame.drop(ROW, FILE), files


def _entities_part(file: _File, config: UsersConfig | ItemsConfig, id_column: str) -> pl.DataFrame:
    """The users or items of one file."""
    columns = {id_column: file.ids(config.key)}
    file.refuse_missing(config.key, columns[id_column])
    for name, kind in config.features.items():
        columns[name] = _feature(file, name, kind)
    if isinstance(config, ItemsConfig):
        columns |= {name: file.texts(name) for name in config.texts if name not in columns}
        columns |= {name: file.vectors(name) for name in config.content if name not in columns}
    return pl.DataFrame([values.alias(name) for name, values in columns.items()])


@contextmanager
def _errors_of(source: Source) -> Iterator[None]:
    """A type of Parquet that cannot be converted is the file's mistake, too."""
    try:
        yield
    except PolarsError as error:
        raise DataError(f"{source} cannot be converted: {str(error).splitlines()[0]}") from None


def _with_one_type(
    log: pl.DataFrame, table: pl.DataFrame, id_column: str, side: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Log and table with the same type of id; ids that have nothing in common are refused.

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


def _features(kinds: Mapping[str, Kind]) -> tuple[Feature, ...]:
    return tuple(Feature(name, kind) for name, kind in kinds.items())
