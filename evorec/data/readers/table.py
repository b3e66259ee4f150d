"""Any log: the configuration names the columns of user, item, time and labels, and the tables of users and items.

Each file is read and converted on its own, so that a single file at a time is held as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config import DataConfig, FilesConfig, ItemsConfig, LogConfig, UsersConfig
from evorec.config.data import source_times
from evorec.config.expressions import Clause, parse_derived, parse_label
from evorec.config.faults import Faults, refuse_all
from evorec.config.tables import ALWAYS, EVENT, FeatureKind, SourceConfig, SourceOfEvents
from evorec.data.readers import READERS, TABLE, Origin, Reader, folder_of
from evorec.data.tables import PARTS, Columns, Feature, Tables
from evorec.data.tabular.columns import Column, label
from evorec.data.tabular.item_lists import LIST_ITEM, LIST_USER, read_item_lists
from evorec.data.tabular.sheet import Sheet, read_sheet
from evorec.data.tabular.sources import (
    MAX_NAMES,
    BrokenLineError,
    ColumnsError,
    EmptyFileError,
    Source,
    find_sources,
    reason,
)
from evorec.data.tabular.text import such_rows
from evorec.data.tabular.times import days, session_numbers, times
from evorec.errors import DataError

BY: Final = "\0by "
TEXT: Final = "\0text "
SESSION: Final = "\0session"
FILE: Final = "\0file"
ROW: Final = "\0row"
"""Columns that only the reader uses; no file has such names, because a text with a NUL is refused."""
ROUNDED: Final = r"^\d\.\d{2,}E\+\d\d$"
"""As spreadsheets write numbers of more digits than they show."""
OWN_COLUMNS: Final = "; files with columns of their own are entries of [[data.log.sources]]"
MAX_FAULTS: Final = 10
"""Errors of the tables that are shown."""

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
    folder, log, faults = folder_of(config), config.log, _TableFaults()
    sources = [_LogSource.of(source, log, n) for n, source in enumerate(log.each_source)]
    unmatched = _UnmatchedTexts([source.tasks for source in sources])
    texts = {name for source in sources for name in source.texts}
    part = [Columns.PART] if log.each_source[0].has_parts else []
    same = (Columns.USER, Columns.ITEM, Columns.TIME, *part, *(TEXT + name for name in sorted(texts)))
    groups = [group for source in sources for group in source.groups(unmatched)]
    frame, files, dropped = _read_files(folder, groups, "data.log", same, log.duplicates, faults)
    if not faults.of("data.log"):
        unmatched.refuse(faults.of("data.log"))
    n_rows, n_events = sum(n for _, n in files), frame.height
    tables: dict[str, pl.DataFrame | None] = {"users": None, "items": None}
    sides = (("users", Columns.USER, config.users), ("items", Columns.ITEM, config.items))
    for side, id_column, entity in sides:
        if entity.files:
            group = _entity_group(entity, f"data.{side}", id_column)
            found, more_files, _ = _read_files(folder, [group], group.key, [id_column], entity.duplicates, faults)
            files += more_files
            if not (faults.of("data.log") or faults.of(group.key)):
                with faults.of(group.key).collect():
                    frame, tables[side] = _with_one_type(frame, found, id_column, side)
    faults.refuse()
    if (meaning := source_times(log.each_source[0])) == "order":  # of the lines of a user, the files of training first
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(Columns.USER).alias(Columns.TIME))
    kept = [name for name in frame.columns if not name.startswith("\0")]
    if log.pivot.is_on:
        frame = _pivoted(frame, log.pivot.session_gap_s, log.labels)
    frame = frame.select(kept)
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
        has_items=config.has_items,
    )
    origin = Origin(
        TABLE,
        str(folder),
        files=tuple((str(sheet.source).removeprefix(f"{folder}/"), n) for sheet, n in files),
        dialects=tuple(str(sheet.dialect) for sheet, _ in files),
        notes=tuple(f"{sheet.source}: {note}" for sheet, _ in files for note in sheet.dialect.notes),
        n_read=n_rows,
        n_missing_ids=dropped["ids"],
        n_missing_times=dropped["times"],
        n_duplicates=n_rows - dropped.total() - n_events,
        n_events=n_events,
    )
    return checked, origin


def read_item_columns(config: DataConfig, names: Sequence[str]) -> pl.DataFrame:
    """Columns of the table of items as texts, whether the configuration uses them or not, beside the id.

    Raises:
        DataError: the table lacks a column, or it cannot be read.
    """
    items = config.items.model_copy(update={"features": {}, "content": (), "texts": tuple(names)})
    group, faults = _entity_group(items, "data.items", Columns.ITEM), _TableFaults()
    frame = _read_files(folder_of(config), [group], group.key, [Columns.ITEM], items.duplicates, faults)[0]
    faults.refuse()
    return frame


READERS.register(TABLE, Reader("any CSV, TSV, JSON lines or Parquet files, described by log, users and items", read))


@final
class _TableFaults:
    """The errors of the log, of the users and of the items, raised together."""

    def __init__(self) -> None:
        self._of: dict[str, Faults] = {}

    def of(self, key: str) -> Faults:
        """The errors of a table, by its key in the configuration."""
        return self._of.setdefault(key, Faults())

    def refuse(self) -> None:
        """Raise the errors if there are any."""
        refuse_all(list(self._of.values()), at_most=MAX_FAULTS)


class _MissingColumnError(DataError):
    """A column that a file lacks, which has been reported."""


@final
class _File:
    """A file of a table: its columns, columns derived from them, and notes about their values.

    Args:
        sheet: the file.
        config: of the file.
        derived: name -> clause of the columns that are derived from others.
        faults: collects the errors of the columns.
        missing: columns that the file lacks.
        event: kind of event of all rows; empty = the file says it.
    """

    def __init__(
        self,
        sheet: Sheet,
        config: FilesConfig,
        derived: Mapping[str, Clause],
        faults: Faults,
        missing: Sequence[str],
        event: str = "",
    ) -> None:
        self.sheet, self._config, self._derived, self._faults = sheet, config, derived, faults
        self._missing = set(missing)
        self._columns: dict[str, Column] = {}
        self.notes: list[str] = []
        if event:
            same = pl.repeat(event, sheet.frame.height, dtype=pl.String, eager=True)
            self._columns[EVENT] = Column(sheet, EVENT, same, is_derived=True)

    def attempt(self, convert: Callable[[], pl.Series]) -> pl.Series:
        """What a conversion gives; null after an error, which is kept."""
        with self._faults.collect():
            try:
                return convert()
            except _MissingColumnError:
                pass
            except PolarsError as error:  # a type of Parquet that cannot be converted
                raise DataError(f"{self.sheet.source} cannot be converted: {reason(error)}") from None
        return pl.repeat(None, self.sheet.frame.height, dtype=pl.String, eager=True)

    def column(self, name: str) -> Column:
        if self._source_of(name) in self._missing:
            raise _MissingColumnError(name)
        if name not in self._columns:
            self._columns[name] = Column.read(self.sheet, name, self._config.missing, self._derived.get(name))
        return self._columns[name]

    def feature(self, name: str, kind: FeatureKind) -> pl.Series:
        column = self.column(name)
        if kind == "numeric":
            return column.numbers
        return column.lists(self._config.separators.get(name)) if kind == "multi_hot" else column.texts

    def texts(self, name: str) -> pl.Series:
        return self.column(name).texts

    def vectors(self, name: str) -> pl.Series:
        return self.column(name).vectors(self._config.separators.get(name))

    def refuse(self, name: str, is_missing: pl.Series, repair: str = "") -> None:
        """Raise the error of the first missing value."""
        self.sheet.refuse(self._source_of(name), is_missing, "not be empty", repair=repair)

    def ids(self, name: str, missing_ids: str) -> pl.Series:
        """Ids of users or items; a missing id is null, or refused."""
        found = self.column(name).ids
        if found.dtype == pl.String and len(rounded := found.filter(found.str.contains(ROUNDED))):
            shown = f"{rounded[0]!r}{such_rows(len(rounded))}"
            self.notes.append(
                f"column {name}: {shown} looks like an id that a spreadsheet has rounded, so that different ids may be "
                "the same; export the column as text."
            )
        if found.dtype == pl.String and self.sheet.is_text_table:
            whole = found.filter(found.str.ends_with(".0")).str.strip_suffix(".0")
            if len(twice := whole.filter(whole.is_in(found.implode()))):
                self.notes.append(
                    f"column {name}: {twice[0] + '.0'!r} and {twice[0]!r} are different ids; write them alike if they "
                    "are the same."
                )
        if missing_ids == "refuse":
            repair = f'set {self.sheet.key}.missing_ids = "drop" to leave out and count rows without an id'
            self.refuse(name, found.is_null(), repair)
        return found

    def _source_of(self, name: str) -> str:
        """The column of the file that a column is, or is derived from."""
        return self._derived[name].column if name in self._derived else name


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
    folder: Path, groups: Sequence[_FileGroup], key: str, same: Sequence[str], duplicates: str, tables: _TableFaults
) -> tuple[pl.DataFrame, list[tuple[Sheet, int]], Counter[str]]:
    """Read and convert file after file.

    Args:
        folder: that the files are in.
        groups: the files; a column that a group does not have is null there.
        key: of the configuration, for errors.
        same: columns of the result in which a duplicate equals an earlier row.
        duplicates: keep, refuse, first or last.
        tables: collects the errors of all files; the rows are incomplete if there are any of `key`.
    Returns:
        The rows; emptied sheet and number of rows of each file; number of rows dropped without ids and without times.
    """
    dropped: Counter[str] = Counter()
    ids = [name for name in same if name in (Columns.USER, Columns.ITEM)]
    parts: list[pl.DataFrame] = []
    files: list[tuple[Sheet, int]] = []
    empty: EmptyFileError | None = None
    faults = tables.of(key)
    for group in groups:
        config = group.config
        derived = {name: parse_derived(text) for name, text in config.derive.items()}
        event = config.event if isinstance(config, SourceOfEvents) else ""
        names = [name for name in group.names if not (event and name == EVENT)]
        needed = tuple(dict.fromkeys(derived[name].column if name in derived else name for name in names))
        found: list[Source] = []
        for pattern in group.patterns:
            with faults.collect():
                found += find_sources(folder, [pattern], f"{group.key}.files")
        for source in dict.fromkeys(found):
            missing: tuple[str, ...] = ()
            sheet: Sheet | None = None
            with faults.collect():
                try:
                    try:
                        sheet = _read_file(source, group, needed)
                    except (ColumnsError, BrokenLineError) as error:
                        hint = ""
                        if isinstance(error, ColumnsError):
                            missing = error.names
                            hint = _named_by(group, missing)
                            hint += OWN_COLUMNS if len(found) > 1 and key == "data.log" else ""
                        faults.add(DataError(f"{str(error).removesuffix('.')}{hint}."))
                        others = [name for name in needed if name not in missing]
                        lenient = config if missing else config.model_copy(update={"ragged": "drop", "broken": "drop"})
                        with suppress(DataError):  # the other columns and lines may have faults of their own
                            sheet = _read_file(source, replace(group, config=lenient), others)
                except EmptyFileError as error:
                    if source.folder is None:
                        raise
                    empty = error  # Spark writes parts without rows
            if sheet is None:
                continue
            file = _File(sheet, config, derived, faults, missing, event)
            frame = group.convert(file)
            if faults:
                continue
            if duplicates == "refuse":
                frame = frame.with_row_index(ROW).with_columns(pl.lit(len(files)).alias(FILE))
            with_ids = frame.drop_nulls(ids)
            parts.append(with_ids.drop_nulls([name for name in (Columns.TIME, Columns.DAY) if name in frame.columns]))
            dropped["ids"] += frame.height - with_ids.height
            dropped["times"] += with_ids.height - parts[-1].height
            sheet = sheet.emptied()
            for note in file.notes:
                sheet = sheet.noted(note)
            if key != "data.log" and (n_dropped := frame.height - parts[-1].height):
                sheet = sheet.noted(f"rows without an id, dropped ({key}.missing_ids): {n_dropped}.")
            files.append((sheet, frame.height))
            del sheet, frame  # its text, before the next file is read
    if empty and not parts:
        faults.add(empty)
    if faults:
        return pl.DataFrame(), files, dropped
    n_rows = sum(n for _, n in files)
    if not any(part.height for part in parts):
        what = "a user, an item or a time" if dropped["times"] else "a user or an item"
        lacking = f"{[str(sheet.source) for sheet, _ in files]} lack {what if key == 'data.log' else 'an id'}"
        faults.add(DataError(f"{key}: all {n_rows} rows of {lacking}."))
        return pl.DataFrame(), files, dropped
    texts = {name for one in parts for name, dtype in one.schema.items() if dtype == pl.String}
    texts_in = [
        one.with_columns(pl.col(name).cast(pl.String) for name in texts if name in one.columns) for one in parts
    ]
    joined = pl.concat(texts_in, how="diagonal")
    if duplicates == "refuse":
        again = joined.select(~pl.struct(same).is_first_distinct()).to_series().arg_true()
        if len(again):
            row = joined.row(again[0], named=True)
            shown = {name: row[name] for name in same if not name.startswith("\0")}
            choices = "keep, first or last" if key == "data.log" else "first or last"
            repeated = f"{files[row[FILE]][0].location(row[ROW])} repeats an earlier row, {shown}"
            repair = f"remove it, or set {key}.duplicates to {choices}"
            faults.add(DataError(f"{repeated}{such_rows(len(again))}; {repair}."))
        joined = joined.drop(ROW, FILE)
    elif duplicates in ("first", "last"):
        joined = joined.unique(same, keep=cast(Literal["first", "last"], duplicates), maintain_order=True)
    return joined, files, dropped


def _read_file(source: Source, group: _FileGroup, columns: Sequence[str]) -> Sheet:
    """Some columns of a file of any format."""
    if isinstance(group.config, SourceConfig) and group.config.is_of_lists:
        return read_item_lists(source, group.config, group.key)
    return read_sheet(source, group.config, columns, group.key)


def _named_by(group: _FileGroup, columns: Sequence[str]) -> str:
    """The end of a message: the settings that name some columns."""
    found: dict[str, None] = {}
    settings = dict(group.config)
    for name in ("user", "item", "time", "day", "part", "key", "derive", "tasks", "context", "features"):
        value = settings.get(name, "")
        texts = [value] if isinstance(value, str) else [f"{own} {text}" for own, text in value.items()]
        for column in columns:
            if any(re.search(rf"(?<!\w){re.escape(column)}(?!\w)", text) for text in texts):
                found[f"{group.key}.{name}"] = None
    for name in ("texts", "content"):
        if set(columns) & {*settings.get(name, ())}:
            found[f"{group.key}.{name}"] = None
    return f"; named by {', '.join(found)}" if found else ""


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
        single = filter(None, [config.user, config.item, config.time, config.day, config.part])
        names = (*single, *self.by, *config.context, *(clause.column for clause in clauses))
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
        columns = {
            own: file.attempt(lambda name=name: file.ids(name, config.missing_ids))  # type: ignore[misc]
            if name
            else pl.repeat(0, file.sheet.frame.height, dtype=pl.Int64, eager=True)  # a table of rows
            for own, name in ((Columns.USER, config.user), (Columns.ITEM, config.item))
        }
        has_ids = columns[Columns.USER].is_not_null() & columns[Columns.ITEM].is_not_null()

        drop = config.missing_times == "drop"

        def needed(name: str, convert: Callable[[Column], pl.Series], *, is_time: bool = False) -> pl.Series:
            """A column that a row may lack only if it is dropped."""

            def converted() -> pl.Series:
                column = file.column(name)
                values = convert(column)
                if is_time and column.values.dtype == pl.Float32:
                    file.notes.append(
                        f"column {name}: 32-bit floats round times since 1970 to minutes, and rows lose their order; "
                        "write 64-bit numbers."
                    )
                if not (is_time and drop):
                    repair = 'set KEY.missing_times = "drop" to leave out and count rows without a time'
                    file.refuse(name, values.is_null() & has_ids, repair.replace("KEY", self.key) if is_time else "")
                elif len(unread := column.texts.filter(values.is_null()).drop_nulls()):
                    shown = f"{unread[0]!r}{such_rows(len(unread))}"
                    file.notes.append(f"column {name}: not a time, dropped ({self.key}.missing_times): {shown}.")
                return values

            return file.attempt(converted)

        def labels(task: str, clauses: Sequence[Clause]) -> pl.Series:
            values = label(clauses, file.column)
            file.column(clauses[0].column).refuse(
                values.is_infinite(),
                f"small enough for a label of task {task}, below 3.4e38",
                f'divide it, e.g. KEY.tasks.{task} = "{clauses[0].column} / 1000"',
            )
            return values

        def context(name: str, kind: FeatureKind) -> pl.Series:
            return file.column(name).codes if kind == "categorical" else file.feature(name, kind)

        columns[Columns.TIME] = pl.repeat(0, len(has_ids), dtype=pl.Int64, eager=True)
        if config.time:
            columns[Columns.TIME] = needed(
                config.time,
                lambda column: times(column, config.time_unit, config.time_zone, drop=drop),
                is_time=True,
            )
        if config.day:
            columns[Columns.DAY] = needed(config.day, lambda column: days(column, drop=drop), is_time=True)
        if config.part:
            columns[Columns.PART] = needed(config.part, lambda column: _parts(column, config.part_names))
        elif part:
            columns[Columns.PART] = pl.repeat(PARTS.index(part), len(has_ids), dtype=pl.Int8, eager=True)
        columns |= {BY + name: needed(name, lambda column: column.codes) for name in self.by}
        columns |= {task: file.attempt(partial(labels, task, clauses)) for task, clauses in self.tasks.items()}
        if self.is_positive:
            columns[ALWAYS] = pl.repeat(1.0, len(has_ids), dtype=pl.Float32, eager=True)
        columns |= {name: file.attempt(partial(context, name, kind)) for name, kind in config.context.items()}
        columns |= {TEXT + name: file.attempt(partial(file.texts, name)) for name in self.texts}
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
        "a part, train, validation (valid, val, dev) or test",
        "KEY.part_names translates other values",
    )
    return found


def _entity_group(config: UsersConfig | ItemsConfig, key: str, id_column: str) -> _FileGroup:
    """The files of the table of users or items."""
    texts, content = (config.texts, config.content) if isinstance(config, ItemsConfig) else ((), ())

    def part(file: _File) -> pl.DataFrame:
        columns = {id_column: file.attempt(partial(file.ids, config.key, config.missing_ids))}
        columns |= {name: file.attempt(partial(file.feature, name, kind)) for name, kind in config.features.items()}
        columns |= {name: file.attempt(partial(file.texts, name)) for name in texts if name not in columns}
        columns |= {name: file.attempt(partial(file.vectors, name)) for name in content if name not in columns}
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
            values = file.attempt(partial(file.texts, clause.column))
            if (values == clause.operand).any():
                del self.tasks[clause]
            elif clause.column not in self.seen:
                counts = values.drop_nulls().value_counts(sort=True).head(MAX_NAMES)
                self.seen[clause.column] = counts[counts.columns[0]].to_list()

    def refuse(self, faults: Faults) -> None:
        """Add the errors of the texts that no file has."""
        for clause, task in self.tasks.items():
            faults.add(
                DataError(
                    f"data.log.tasks.{task}: no row has {clause.column} == {clause.operand!r}; the most frequent "
                    f"values are {self.seen[clause.column]}."
                )
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
