"""Any log: the configuration names the columns of user, item, time and labels, and the tables of users and items.

Each file is read and converted on its own, so that a single file at a time is held as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config import DataConfig, FilesConfig, ItemsConfig, LogConfig, UsersConfig
from evorec.config.data import source_times
from evorec.config.expressions import Clause, parse_derived, parse_label
from evorec.config.tables import ALWAYS, EVENT, FeatureKind, SourceConfig, SourceOfEvents
from evorec.data.readers import READERS, TABLE, Origin, Reader, folder_of
from evorec.data.tables import PARTS, Columns, Feature, Tables
from evorec.data.tabular.columns import Column, label
from evorec.data.tabular.item_lists import LIST_ITEM, LIST_USER, read_item_lists
from evorec.data.tabular.sheet import Sheet, read_sheet
from evorec.data.tabular.sources import MAX_NAMES, EmptyFileError, find_sources, reason
from evorec.data.tabular.times import days, session_numbers, times
from evorec.errors import DataError

BY: Final = "\0by "
TEXT: Final = "\0text "
SESSION: Final = "\0session"
FILE: Final = "\0file"
ROW: Final = "\0row"
"""Columns that only the reader uses; no file has such names, because a text with a NUL is refused."""

PART_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Usual values of a column of parts, in small letters -> part."""

Tasks = Mapping[str, tuple[Clause, ...]]


def read(config: DataConfig) -> tuple[Tables, Origin]:
    """The tables that a configuration describes, and counts of the rows that were read and dropped.

    Args:
        config: ``log``, and, where there are such tables, ``users`` and ``items``.
    Raises:
        ConfigError: a format or a pattern that cannot be used.
        DataError: names the file, the line and the column.
    """
    folder, log = folder_of(config), config.log
    sources = [_LogSource.of(source, log, n) for n, source in enumerate(log.each_source)]
    unmatched = _UnmatchedTexts([source.tasks for source in sources])
    texts = {name for source in sources for name in source.texts}
    part = [Columns.PART] if log.each_source[0].has_parts else []
    same = (Columns.USER, Columns.ITEM, Columns.TIME, *part, *(TEXT + name for name in sorted(texts)))
    groups = [group for source in sources for group in source.groups(unmatched)]
    frame, files, n_with_ids = _read_files(folder, groups, "data.log", same, log.duplicates)
    n_rows, n_events = sum(n for _, n in files), frame.height
    if n_with_ids == 0:
        read_files = [str(sheet.source) for sheet, _ in files]
        raise DataError(f"data.log: all {n_rows} rows of {read_files} lack a user or an item.")
    unmatched.refuse()
    if (meaning := source_times(log.each_source[0])) == "order":  # of the lines of a user, the files of training first
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(Columns.USER).alias(Columns.TIME))
    kept = [name for name in frame.columns if not name.startswith("\0")]
    if log.pivot.is_on:
        frame = _pivoted(frame, log.pivot.session_gap_s, log.labels)
    frame = frame.select(kept)

    tables: dict[str, pl.DataFrame | None] = {"users": None, "items": None}
    for side, id_column, entity in (("users", Columns.USER, config.users), ("items", Columns.ITEM, config.items)):
        if entity.files:
            group = _entity_group(entity, f"data.{side}", id_column)
            found, more_files, _ = _read_files(folder, [group], group.key, [id_column], entity.duplicates)
            frame, tables[side] = _with_one_type(frame, found, id_column, side)
            files += more_files
    checked = Tables(
        name=folder.resolve().name or "table",
        interactions=frame,
        tasks=log.labels,
        users=tables["users"],
        items=tables["items"],
        context=_features(log.features),
        user_features=_features(config.users.features),
        item_features=_features(config.items.features),
        content=config.items.content,
        times=meaning,
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


def read_item_columns(config: DataConfig, names: Sequence[str]) -> pl.DataFrame:
    """Columns of the table of items as texts, whether the configuration uses them or not, beside the id.

    Raises:
        DataError: the table lacks a column, or it cannot be read.
    """
    items = config.items.model_copy(update={"features": {}, "content": (), "texts": tuple(names)})
    group = _entity_group(items, "data.items", Columns.ITEM)
    return _read_files(folder_of(config), [group], group.key, [Columns.ITEM], items.duplicates)[0]


READERS.register(TABLE, Reader("any CSV, TSV, JSON lines or Parquet files, described by log, users and items", read))


@final
class _File:
    """A file of a table: its columns, and columns derived from them."""

    def __init__(self, sheet: Sheet, config: FilesConfig, derived: Mapping[str, Clause], event: str = "") -> None:
        self.sheet, self._config, self._derived = sheet, config, derived
        self._columns: dict[str, Column] = {}
        if event:
            same = pl.repeat(event, sheet.frame.height, dtype=pl.String, eager=True)
            self._columns[EVENT] = Column(sheet, EVENT, same, is_derived=True)

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


@final
@dataclass(frozen=True)
class _FileGroup:
    """Files that are read and converted alike.

    Attributes:
        patterns: names and globs of the files.
        config: of the files.
        key: of the configuration, for errors.
        names: columns to read.
        convert: a file to columns of the result, row by row.
    """

    patterns: Sequence[str]
    config: FilesConfig
    key: str
    names: Sequence[str]
    convert: Callable[[_File], pl.DataFrame]


def _read_files(
    folder: Path, groups: Sequence[_FileGroup], key: str, same: Sequence[str], duplicates: str
) -> tuple[pl.DataFrame, list[tuple[Sheet, int]], int]:
    """Read and convert file after file.

    Args:
        folder: that the files are in.
        groups: the files; a column that a group does not have is null there.
        key: of the configuration, for errors.
        same: columns of the result in which a duplicate equals an earlier row.
        duplicates: keep, refuse, first or last.
    Returns:
        The rows; emptied sheet and number of rows of each file; number of rows with all ids, repeated rows included.
    """
    ids = [name for name in same if name in (Columns.USER, Columns.ITEM)]
    parts: list[pl.DataFrame] = []
    files: list[tuple[Sheet, int]] = []
    empty: EmptyFileError | None = None
    for group in groups:
        config = group.config
        derived = {name: parse_derived(text) for name, text in config.derive.items()}
        event = config.event if isinstance(config, SourceOfEvents) else ""
        names = [name for name in group.names if not (event and name == EVENT)]
        needed = tuple(dict.fromkeys(derived[name].column if name in derived else name for name in names))
        for source in find_sources(folder, group.patterns, f"{group.key}.files"):
            try:
                if isinstance(config, SourceConfig) and config.is_of_lists:
                    sheet = read_item_lists(source, config, group.key)
                else:
                    sheet = read_sheet(source, config, needed, group.key)
            except EmptyFileError as error:
                if source.folder is None:
                    raise
                empty = error  # Spark writes parts without rows
                continue
            file = _File(sheet, config, derived, event)
            try:
                frame = group.convert(file)
            except PolarsError as error:  # a type of Parquet that cannot be converted
                raise DataError(f"{source} cannot be converted: {reason(error)}") from None
            if duplicates == "refuse":
                frame = frame.with_row_index(ROW).with_columns(pl.lit(len(files)).alias(FILE))
            parts.append(frame.drop_nulls(ids))
            files.append((sheet.emptied(), frame.height))
            del file, sheet, frame  # its text, before the next file is read
    if empty and not parts:
        raise empty
    texts = {name for one in parts for name, dtype in one.schema.items() if dtype == pl.String}
    texts_in = [
        one.with_columns(pl.col(name).cast(pl.String) for name in texts if name in one.columns) for one in parts
    ]
    joined = pl.concat(texts_in, how="diagonal")
    n_with_ids = joined.height
    if duplicates == "refuse":
        again = joined.select(~pl.struct(same).is_first_distinct()).to_series().arg_true()
        if len(again):
            row = joined.row(again[0], named=True)
            shown = {name: row[name] for name in same if not name.startswith("\0")}
            choices = "keep, first or last" if key == "data.log" else "first or last"
            raise DataError(
                f"{files[row[FILE]][0].location(row[ROW])} repeats an earlier row, {shown}; remove it, or set "
                f"{key}.duplicates to {choices}."
            )
        joined = joined.drop(ROW, FILE)
    elif duplicates in ("first", "last"):
        joined = joined.unique(same, keep=cast(Literal["first", "last"], duplicates), maintain_order=True)
    return joined, files, n_with_ids


@final
@dataclass(frozen=True)
class _LogSource:
    """A source of the log as its rows are converted.

    Attributes:
        config: with all settings.
        key: of the configuration, for errors.
        tasks: clauses of the labels; without labels each row is a positive.
        by: columns by whose values events are merged.
        texts: columns whose texts make rows differ.
        is_positive: whether the log has no labels, so that each row is a positive.
    """

    config: SourceOfEvents
    key: str
    tasks: Tasks
    by: tuple[str, ...]
    texts: tuple[str, ...]
    is_positive: bool

    @classmethod
    def of(cls, config: SourceOfEvents, log: LogConfig, number: int) -> _LogSource:
        if config.is_of_lists:
            config = config.model_copy(update={"user": LIST_USER, "item": LIST_ITEM})
        tasks = {task: parse_label(text) for task, text in config.tasks.items()}
        by = tuple(name for name in log.pivot.by if name not in (config.user, config.item))
        texts = {clause.column for clauses in tasks.values() for clause in clauses if clause.is_text}
        texts = set() if log.duplicates == "keep" else texts
        key = f"data.log.sources[{number}]" if log.sources else "data.log"
        return cls(config, key, tasks, by, tuple(sorted(texts)), log.labels == (ALWAYS,) and not tasks)

    def groups(self, unmatched: _UnmatchedTexts) -> Iterator[_FileGroup]:
        """The files of each part."""
        config, clauses = self.config, [clause for own in self.tasks.values() for clause in own]
        single = filter(None, [config.time, config.day, config.part])
        names = (config.user, config.item, *single, *self.by, *config.context, *(clause.column for clause in clauses))
        by_part = sorted(config.parts.items(), key=lambda part: PARTS.index(part[0]))
        files: list[tuple[str, tuple[str, ...]]] = [*by_part] or [("", config.files)]
        for part, patterns in files:

            def convert(file: _File, part: str = part) -> pl.DataFrame:
                unmatched.look_at(file, self.tasks)
                return self._rows(file, part)

            yield _FileGroup(patterns, config, self.key, names, convert)

    def _rows(self, file: _File, part: str) -> pl.DataFrame:
        """The rows of a file of a part; `by` and `texts` are kept as columns of the reader's own."""
        config = self.config
        columns = {Columns.USER: file.column(config.user).ids, Columns.ITEM: file.column(config.item).ids}
        has_ids = columns[Columns.USER].is_not_null() & columns[Columns.ITEM].is_not_null()
        if config.missing_ids == "refuse":
            file.refuse(config.user, columns[Columns.USER].is_null())
            file.refuse(config.item, columns[Columns.ITEM].is_null())
        needed: dict[str, pl.Series] = {}
        columns[Columns.TIME] = pl.repeat(0, len(has_ids), dtype=pl.Int64, eager=True)
        if config.time:
            needed[config.time] = times(file.column(config.time), config.time_unit, config.time_zone)
            columns[Columns.TIME] = needed[config.time]
        if config.day:
            columns[Columns.DAY] = needed[config.day] = days(file.column(config.day))
        if config.part:
            columns[Columns.PART] = needed[config.part] = _parts(file.column(config.part), config.part_names)
        elif part:
            columns[Columns.PART] = pl.repeat(PARTS.index(part), len(has_ids), dtype=pl.Int8, eager=True)
        for name in self.by:
            columns[BY + name] = needed[name] = file.column(name).codes
        for name, values in needed.items():
            file.refuse(name, values.is_null() & has_ids)  # a row that is dropped may lack them
        for task, clauses in self.tasks.items():
            columns[task] = label(clauses, file.column)
            too_large = columns[task].is_infinite()
            file.column(clauses[0].column).refuse(too_large, f"small enough for a label of task {task}, below 3.4e38")
        if self.is_positive:
            columns[ALWAYS] = pl.repeat(1.0, len(has_ids), dtype=pl.Float32, eager=True)
        for name, feature in config.context.items():
            column = file.column(name)
            columns[name] = column.codes if feature == "categorical" else file.feature(name, feature)
        columns |= {TEXT + name: file.column(name).texts for name in self.texts}
        return pl.DataFrame([values.alias(name) for name, values in columns.items()])


def _parts(column: Column, names: Mapping[str, str]) -> pl.Series:
    """Index in `PARTS` of the part that each value names; null where missing."""
    known = {**PART_NAMES, **{name.lower(): part for name, part in names.items()}}
    text = column.texts.str.to_lowercase()
    found = text.replace_strict(
        {name: PARTS.index(part) for name, part in known.items()}, default=None, return_dtype=pl.Int8
    )
    column.refuse(
        found.is_null() & text.is_not_null(),
        "a part, train, validation (valid, val, dev) or test; data.log.part_names translates other values",
    )
    return found


def _entity_group(config: UsersConfig | ItemsConfig, key: str, id_column: str) -> _FileGroup:
    """The files of the table of users or items."""
    texts, content = (config.texts, config.content) if isinstance(config, ItemsConfig) else ((), ())

    def part(file: _File) -> pl.DataFrame:
        columns = {id_column: file.column(config.key).ids}
        file.refuse(config.key, columns[id_column].is_null())
        columns |= {name: file.feature(name, kind) for name, kind in config.features.items()}
        columns |= {name: file.column(name).texts for name in texts if name not in columns}
        columns |= {name: file.vectors(name) for name in content if name not in columns}
        return pl.DataFrame([values.alias(name) for name, values in columns.items()])

    return _FileGroup(config.files, config, key, (config.key, *config.features, *texts, *content), part)


@final
class _UnmatchedTexts:
    """Texts that labels are compared with and that no row has had so far: a misspelt text makes a label of zeros."""

    def __init__(self, of_sources: Sequence[Tasks]) -> None:
        self.tasks = {
            clause: task
            for tasks in of_sources
            for task, clauses in tasks.items()
            for clause in clauses
            if clause.is_text and clause.operator == "=="
        }
        self.seen: dict[str, list[str]] = {}

    def look_at(self, file: _File, tasks: Tasks) -> None:
        """Look for the texts in a file that has the columns of some tasks."""
        own = {clause for clauses in tasks.values() for clause in clauses}
        for clause in [clause for clause in self.tasks if clause in own]:
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
    own = (SESSION, Columns.PART)
    keys = [Columns.USER, Columns.ITEM, *(name for name in frame.columns if name in own or name.startswith(BY))]
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
