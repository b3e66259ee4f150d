"""Lists for very many users: a table of users in, a table of lists out, in chunks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from evorec.data.ids import LARGEST_EXACT, Id, as_ids
from evorec.errors import ConfigError, DataError
from evorec.outputs import workspace
from evorec.serving.queries import ListOptions, User
from evorec.serving.recommender import NO_ITEM, Recommender

if TYPE_CHECKING:
    import polars as pl

    from evorec.data.tabular.columns import Column
    from evorec.data.tabular.sheet import Sheet

USERS_PER_CHUNK: Final = 20_000
"""Users whose lists are in memory at the same time."""
USER, LIKED, EXCLUDE = "user", "liked", "exclude"
"""Columns of a table of users; any other column is a feature of users or of the context."""
WRITTEN: Final = ("line", USER, "known", "rank", "item", "score")
"""Columns of a table of lists; columns to show follow."""
ENDINGS: Final = (".parquet", ".csv", ".tsv", ".jsonl")
"""Of a table of lists."""


@final
@dataclass
class BatchCounts:
    """Users and items of a table of users.

    Attributes:
        users, without_id, unknown: users, those without an id, and ids that training never saw.
        liked, liked_unknown: liked items, and those that the catalogue does not have.
        empty: users without any item left to list.
        examples: the first unknown users and items.
    """

    users: int = 0
    without_id: int = 0
    unknown: int = 0
    liked: int = 0
    liked_unknown: int = 0
    empty: int = 0
    examples: dict[str, list[Id]] = field(default_factory=lambda: {USER: [], LIKED: []})

    def add(self, recommender: Recommender, users: Sequence[User]) -> list[bool]:
        """Count some users; returns whether training knows each."""
        known = [recommender.knows(user.id) for user in users]
        new = [user.id for user, is_known in zip(users, known, strict=True) if user.id is not None and not is_known]
        liked = [id_ for user in users for id_ in user.liked]
        unknown = [id_ for id_ in liked if not recommender.has_item(id_)]
        self.users += len(users)
        self.without_id += sum(user.id is None for user in users)
        self.unknown += len(new)
        self.liked += len(liked)
        self.liked_unknown += len(unknown)
        for what, ids in ((USER, new), (LIKED, unknown)):
            self.examples[what] = list(dict.fromkeys([*self.examples[what], *ids[:3]]))[:3]
        return known


def recommend_table(
    recommender: Recommender,
    users: str | Path,
    out: str | Path,
    options: ListOptions,
    *,
    show: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> BatchCounts:
    """Write the lists of all users of a table.

    Args:
        recommender: that makes them.
        users: CSV, TSV, JSON lines or Parquet with a column ``user``, or ``liked`` (lists of items, in text as JSON)
            for new users, or both; further columns are features by name, and ``exclude`` has lists of items that are
            not listed. Ids are read as those of a log; a row without an id is a new user.
        out: file to write, of the format of its ending (`ENDINGS`), a row per user and rank: ``user``; ``known``,
            whether training saw the user; ``rank`` from 1; ``item``; ``score``; ``line`` is the row number of the user
            in `users`.
        options: of the lists.
        show: columns of the items table to write beside each item.
        progress: called with the number of users that are done.
    Raises:
        ConfigError: `out` exists or has another ending.
        DataError: `users` cannot be read, or has no usable column; names the file, the line and the column of a value
            that cannot be used.
    """
    import polars as pl

    users, out = Path(users), Path(out)
    check_out(out)
    items = {"item": _column(recommender.catalogue.ids.ids, out)}
    items |= {f"item_{name}" if name in WRITTEN else name: _column(recommender.column(name), out) for name in show}
    asked, counts, chunks = _Users(recommender, users), BatchCounts(), list[Path]()
    ids = _column(asked.ids, out)
    with workspace(out) as parts:
        for start in range(0, asked.n_users, USERS_PER_CHUNK):
            part = asked.users(start, start + USERS_PER_CHUNK)
            known = np.array(counts.add(recommender, part))
            found = recommender.index_lists(part, options)
            row, rank = np.nonzero(found.items != NO_ITEM)
            counts.empty += len(part) - len(np.unique(row))
            listed = {name: values.gather(found.items[row, rank]) for name, values in items.items()}
            lists = pl.DataFrame(
                {
                    "line": start + row,
                    USER: ids.gather(start + row),
                    "known": known[row],
                    "rank": (rank + 1).astype(np.int32),
                    "item": listed.pop("item"),
                    "score": found.scores[row, rank],
                    **listed,
                }
            )
            chunks.append(parts / f"{start:012}.parquet")
            lists.write_parquet(chunks[-1])
            progress(counts.users)
        write_whole(chunks, parts, out)
    return counts


def check_out(out: Path) -> None:
    """Check the name of a file to write.

    Raises:
        ConfigError: it exists or has an ending that no format has.
    """
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists already and is not overwritten.")
    if out.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--out must end in {', '.join(ENDINGS)}, got {out.name}.")


def write_whole(chunks: list[Path], folder: Path, out: Path) -> None:
    """Write Parquet files as a single file of the format of `out`; `folder` holds it until it is complete."""
    import polars as pl

    whole = folder / f"whole{out.suffix.lower()}"
    _write(pl.scan_parquet(chunks, glob=False), whole)
    whole.replace(out)


def _column(values: Sequence[Any] | pl.Series, out: Path) -> pl.Series:
    """Values of a single type that the format of `out` can hold."""
    import polars as pl

    form = out.suffix.lower()
    if len({type(value) for value in values if value is not None}) > 1:  # new items may have ids of another type
        values = [None if value is None else str(value) for value in values]
    column = pl.Series(values)
    if column.dtype.is_nested() and form in (".csv", ".tsv"):
        return pl.Series([json.dumps(value) for value in column.to_list()])
    if column.dtype.is_integer() and form == ".jsonl" and (column.abs() > LARGEST_EXACT).any():
        return column.cast(pl.String)  # many programs round such numbers of JSON
    return column


def _write(lists: pl.LazyFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        lists.sink_parquet(file)
    elif file.suffix == ".jsonl":
        lists.sink_ndjson(file)
    else:
        lists.sink_csv(file, separator="\t" if file.suffix == ".tsv" else ",")


@final
class _Users:
    """A table of users.

    Attributes:
        n_users: its rows.
        ids: of the users, null for a user without an id.
    """

    def __init__(self, recommender: Recommender, file: Path) -> None:
        import polars as pl

        from evorec.config.tables import FilesConfig
        from evorec.data.tabular.columns import Column
        from evorec.data.tabular.json_lines import json_values

        missing = FilesConfig().missing
        self._recommender, self._sheet = recommender, _read(recommender, file)
        self.n_users = self._sheet.frame.height
        self._columns = {name: Column.read(self._sheet, name, missing, None) for name in self._sheet.frame.columns}
        nobody = pl.repeat(None, self.n_users, dtype=pl.Int64, eager=True)
        self.ids = self._columns[USER].ids if USER in self._columns else nobody
        has_numbers = all(isinstance(id_, int) for id_ in recommender.user_ids[:1])
        may_be_floats = self._sheet.is_text_table and has_numbers and self.ids.dtype == pl.String
        if may_be_floats and self.ids.str.contains(r"^-?[0-9]+\.[0-9]+$").all():  # refused as in Parquet
            self._columns[USER].refuse(~self.ids.str.contains(r"\.0+$"), "a whole number or a text")
        source, encoding = self._sheet.source, self._sheet.dialect.encoding
        lists = [name for name in (LIKED, EXCLUDE) if name in self._columns and self._sheet.is_json]
        self._objects = {name: json_values(source, name, encoding) for name in lists}  # polars reads floats as whole
        self._features = {
            name: feature_values(column, recommender.feature_kind(name), self._sheet)
            for name, column in self._columns.items()
            if name not in (USER, LIKED, EXCLUDE)
        }

    def users(self, start: int, stop: int) -> list[User]:
        """The users of some rows."""
        recommender = self._recommender
        rows = range(start, min(stop, self.n_users))
        ids = self.ids[start:stop].to_list()
        liked, exclude = (self._lists(name, rows) for name in (LIKED, EXCLUDE))
        values = {name: column[start:stop].to_list() for name, column in self._features.items()}
        users = []
        for i in range(len(rows)):
            given = {name: own[i] for name, own in values.items() if own[i] is not None}
            features, context = (
                {name: value for name, value in given.items() if name in names}
                for names in (recommender.user_features, recommender.context_features)
            )
            users.append(User(ids[i], liked[i], features, context, exclude[i]))
        return users

    def _lists(self, name: str, rows: range) -> list[list[Id]]:
        """Lists of ids of some rows."""
        if name not in self._columns:
            return [[] for _ in rows]
        values, out = self._objects.get(name, self._columns[name].values), []
        for row in rows:
            value = values[row]
            if isinstance(value, str):
                value = _parsed(value)
            try:
                out.append([] if value is None else as_ids(value, name))
            except DataError as error:
                expected = f'be a list of ids such as [1, 2] or ["a", "b"]: {error}'
                raise self._sheet.refusal(row, name, expected.removesuffix(".")) from None
        return out


def feature_values(column: Column, kind: str, sheet: Sheet) -> pl.Series:
    """Values of a feature; texts of a multi-valued feature are JSON lists or single values.

    Args:
        column: of the file.
        kind: of the feature.
        sheet: the file.
    """
    if kind in ("numeric", "linear"):
        return column.numbers
    if column.values.dtype.is_nested() or not (sheet.is_json or sheet.is_text_table):
        return column.values
    if kind == "multi_hot":
        import polars as pl

        parsed = [None if text is None else _parsed(text) for text in column.values]
        lists = [value if value is None or isinstance(value, list) else [value] for value in parsed]
        return pl.Series(column.name, [None if own is None else list(map(str, own)) for own in lists])
    return column.texts


def _parsed(text: str) -> Any:
    """A list in a text as a list, an empty text as ``None``, any other text as it is."""
    from evorec.data.tabular.lists import parse_list

    if not text.strip():
        return None
    with suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), list):
            return value  # with the types of its elements
    found = parse_list(text)
    return text if found is None else found


def _read(recommender: Recommender, file: Path) -> Sheet:
    """The columns of a table of users.

    Raises:
        DataError: it cannot be read, or it has a column that the model does not know, or none that it needs.
    """
    from evorec.config.tables import FilesConfig
    from evorec.data.tabular.dialect import detect
    from evorec.data.tabular.sheet import read_sheet
    from evorec.data.tabular.sources import Source

    if not file.is_file():
        raise DataError(f"{file} is not a file; --users reads a CSV, TSV, JSON lines or Parquet file.")
    source, key = Source.of(file), "--users"
    dialect = detect(source, FilesConfig(), key=key)
    found, known = list(dialect.columns), {USER, LIKED, EXCLUDE} | recommender.user_features
    known |= recommender.context_features
    if dialect.format == "jsonl":  # a later line may have further keys
        content = source.content()
        found += [name for name in sorted(known - set(found)) if json.dumps(name).encode() in content]
    if not {USER, LIKED} & set(found):
        raise DataError(f"{file} needs a column {USER} or {LIKED}, got {', '.join(found) or 'none'}.")
    if unknown := sorted(set(found) - known):
        raise DataError(
            f"{file} has a column {unknown[0]!r} that the model does not know; it knows: {', '.join(sorted(known))}."
        )
    return read_sheet(source, FilesConfig(), found, key)
