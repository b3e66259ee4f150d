"""The first rows of a file as columns, read as the reader for any table would read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, final

import polars as pl

from evorec.config import FilesConfig
from evorec.data.tabular.columns import Column
from evorec.data.tabular.dialect import Dialect, detect
from evorec.data.tabular.json_lines import read_json_objects
from evorec.data.tabular.sheet import Sheet, read_text
from evorec.data.tabular.sources import ColumnsError, Source
from evorec.data.tabular.text import prepared
from evorec.data.tabular.typed import read_typed
from evorec.errors import DataError

MAX_BYTES: Final = 64 * 2**20
"""Unpacked bytes of a file that are looked at."""
FIRST_BYTES: Final = 1 << 16
"""Of a text, in which lists are looked for."""
MIN_LENGTHS: Final = 3
"""Numbers of values of a line that lists have more of; a table has one."""
MANY_KEYS: Final = 100
"""Columns that a table hardly has."""
LIST_SEPARATORS: Final = ("|", ";", ",", "/", " ")
"""Separators of lists in a value, the most certain first."""
LISTED: Final = 0.1
"""Share of the values of a column of lists that have several elements."""
MAX_BLANKS: Final = 3
"""Blanks of an element of a list; texts have more."""
WORDS_OF_TEXT: Final = 1.5
"""Mean number of words of a text."""
FEW_VALUES: Final = 20
"""Whole numbers with so few different values are codes rather than amounts."""
MOSTLY: Final = 0.95
"""Share of the values that must be numbers in a column of numbers; the others mean a missing value."""
MAX_BROKEN: Final = 0.05
"""Share of the lines that may be broken in a table."""
MAX_MARKS: Final = 8
"""Different texts of a column of numbers that may mean a missing value."""


@final
@dataclass(frozen=True)
class Values:
    """Facts about a column.

    Args:
        column: as read.
    """

    column: Column

    @cached_property
    def is_list(self) -> bool:
        """Whether the values are lists of Parquet or JSON."""
        if isinstance(self.column.values.dtype, pl.List | pl.Array):
            return not self.column.values.dtype.inner.is_nested()
        texts = self.column.values.drop_nulls().head(1000) if self.column.is_text else pl.Series([], dtype=pl.String)
        return len(texts) > 0 and bool((texts.str.contains(r"^\s*\[.*\]\s*$")).all())

    @cached_property
    def is_vector(self) -> bool:
        """Whether the values are lists of fractions, all of one length."""
        dtype = self.column.values.dtype
        if not isinstance(dtype, pl.List | pl.Array) or not dtype.inner.is_float():
            return False
        lengths = self.column.values.drop_nulls().cast(pl.List(pl.Float64)).list.len()
        return lengths.n_unique() == 1 and int(lengths[0]) > 1

    @cached_property
    def is_nested(self) -> bool:
        """Whether the values are objects, or lists of lists: no setting reads them."""
        if self.column.values.dtype.is_nested() or self.column.values.dtype == pl.Binary:
            return not self.is_list
        return self.column.is_text and bool(self.column.values.head(1000).str.contains(r"^\s*[\[{].*[\]}]\s*$").any())

    @cached_property
    def texts(self) -> pl.Series:
        """Single values as texts, null where missing; all null for lists and objects."""
        if self.is_list or (self.is_nested and self.column.sheet.dialect.format != "csv"):
            return pl.Series([None] * len(self.column.values), dtype=pl.String)
        return self.column.texts

    @cached_property
    def known(self) -> pl.Series:
        """The texts without the missing values."""
        return self.texts.drop_nulls()

    @cached_property
    def n_values(self) -> int:
        """Number of different values."""
        return self.known.n_unique()

    @cached_property
    def parsed(self) -> pl.Series:
        """The known texts as numbers, null where a text is not a finite number."""
        numbers = self.known.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_finite().fill_null(True), None)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Texts that mean a missing value in a column of numbers, e.g. ``N/A``."""
        odd = self.known.filter(self.parsed.is_null()).unique(maintain_order=True)
        return tuple(odd.to_list()) if len(odd) <= MAX_MARKS else ()

    @cached_property
    def is_number(self) -> bool:
        """Whether the values are numbers, apart from a few marks of missing values."""
        n_odd = self.parsed.null_count()
        n = len(self.known)
        return n > n_odd and n_odd <= (1 - MOSTLY) * n and (n_odd == 0 or bool(self.marks))

    @cached_property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        numbers = self.parsed.drop_nulls()
        return self.is_number and bool((numbers == numbers.floor()).all())

    @cached_property
    def is_truth(self) -> bool:
        """Whether the values are 0 and 1, or true and false, and both are there."""
        values = set(self.known.str.to_lowercase().unique().to_list()) if self.n_values <= 4 else set()
        return values in ({"0", "1"}, {"0.0", "1.0"}, {"true", "false"})

    @cached_property
    def is_day_or_time(self) -> bool:
        """Whether the values look like days or times in the usual notations."""
        some = self.known.head(1000)
        return len(some) > 0 and bool(some.str.contains(r"^\d{4}-\d\d-\d\d|^\d{1,2}[/.]\d{1,2}[/.]\d{4}").all())

    @cached_property
    def list_separator(self) -> str | None:
        """Separator of the lists in the values; ``None`` = the values are no lists with a separator.

        Lists differ in length, have short elements, and combine few elements to more values.
        """
        for separator in LIST_SEPARATORS:
            parts = self.known.str.split(separator)
            lengths = parts.list.len()
            if not len(lengths) or _mean(lengths > 1) < LISTED or (lengths.n_unique() < 3 and separator not in "|;"):
                continue
            elements = parts.list.explode(empty_as_null=True).drop_nulls().str.strip_chars()
            n_elements = elements.n_unique()
            is_short = _mean(elements.str.count_matches(r"\s+") < MAX_BLANKS) > 0.9
            if is_short and n_elements <= 0.5 * len(elements) and (n_elements < self.n_values or separator == "|"):
                return separator
        return None

    @property
    def is_text(self) -> bool:
        """Whether the values are mostly different texts of several words."""
        n_words = _mean(self.known.head(1000).str.count_matches(r"\S+"))
        return self.n_values > 0.5 * len(self.known) and n_words >= WORDS_OF_TEXT


def _mean(values: pl.Series) -> float:
    """The mean; 0 without values."""
    mean = values.mean()
    return float(mean) if isinstance(mean, float | int) else 0.0


@final
@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Args:
        source: the file.
        name: relative to the folder of the data.
        dialect: how the file is written.
        values: facts about each column, in order.
        is_of_lists: whether each line is a user and its items; the columns have a row for each item.
        form: format that must be set; empty = it is found.
        broken: setting that drops the lines that cannot be read, ``ragged`` or ``broken``; empty = there are none.
    """

    source: Source
    name: str
    dialect: Dialect
    values: Mapping[str, Values]
    is_of_lists: bool = False
    form: str = ""
    broken: str = ""

    @property
    def has_header(self) -> bool:
        """Whether the columns have names of their own."""
        return self.dialect.has_header

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.values)

    @property
    def n_rows(self) -> int:
        """Number of rows that were looked at."""
        return len(next(iter(self.values.values())).column.values)


def read_samples(sources: Mapping[str, Source]) -> tuple[list[Sample], dict[str, str]]:
    """The first rows of some files, and the reasons why others cannot be read.

    Args:
        sources: name relative to the folder of the data -> file.
    """
    found: list[Sample] = []
    unread: dict[str, str] = {}
    for name, source in sources.items():
        try:
            found.append(_read_sample(name, source, MIN_LENGTHS))
        except DataError as error:
            unread[name] = str(error)
    if any(sample.is_of_lists for sample in found):  # a file with a single item per user is of lists, too
        found = [_read_sample(sample.name, sample.source, 0) for sample in found]
    return found, unread


def _read_sample(name: str, source: Source, min_lengths: int) -> Sample:
    is_of_lists, form, broken = False, "", ""
    try:
        dialect = detect(source)
    except DataError:
        dialect, form = detect(source, FilesConfig(format="csv")), "csv"
        if len(dialect.columns) == 1:
            raise
    if dialect.format == "jsonl" and _is_mapping(source):
        dialect, form = detect(source, FilesConfig(format="mapping")), "mapping"
    if dialect.format == "jsonl":
        schema = dict.fromkeys(dialect.columns, pl.String())
        frame, n_broken = read_json_objects(source, schema, encoding=dialect.encoding, drop=True)
        if n_broken > MAX_BROKEN * (n_broken + frame.height):
            read_json_objects(source, schema, encoding=dialect.encoding, drop=False)
        if n_broken:
            broken, dialect = "broken", replace(dialect, broken="drop")
    elif dialect.format != "csv":
        frame = read_typed(source, dialect.columns, dialect.format)
    else:
        with source.opened() as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            content = content[: content.rfind(b"\n") + 1]
        content = prepared(source, content, dialect.encoding, dialect.separator)
        if is_of_lists := _is_of_lists(content, min_lengths):
            dialect, frame = replace(dialect, columns=("user", "item")), _item_lists(content)
        else:
            try:
                frame, _ = read_text(source, content, dialect, dialect.columns)
            except ColumnsError:
                frame, n_broken = read_text(source, content, replace(dialect, ragged="drop"), dialect.columns)
                if n_broken > MAX_BROKEN * (n_broken + frame.height):
                    raise
                broken, dialect = "ragged", replace(dialect, ragged="drop")
    sheet, missing = Sheet(source, dialect, frame), FilesConfig().missing
    values = {column: Values(Column.read(sheet, column, missing, None)) for column in dialect.columns}
    return Sample(source, name, dialect, values, is_of_lists, form, broken)


def _is_mapping(source: Source) -> bool:
    """Whether a file is a single JSON object whose entries are rows: there are many, or all are lists or objects."""
    with source.opened() as file:
        content = file.read(MAX_BYTES + 1)
    try:
        found = json.loads(content)  # fails behind the first line of JSON lines
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    return len(found) > MANY_KEYS or (len(found) > 1 and all(isinstance(own, list | dict) for own in found.values()))


def _item_lists(content: bytes) -> pl.DataFrame:
    """A row per user and item of lines with a user and its items."""
    values = pl.Series(content.decode().splitlines()).str.strip_chars().str.split(" ")
    frame = pl.DataFrame({"user": values.list.first(), "item": values.list.slice(1)})
    return frame.filter(pl.col("item").list.len() > 0).explode("item")


def _is_of_lists(content: bytes, min_lengths: int) -> bool:
    """Whether lines are a user and its items: whole numbers, more or fewer of them, and no user twice."""
    lines = [line.split() for line in content[:FIRST_BYTES].decode(errors="replace").splitlines()[:-1] if line.strip()]
    users = [line[0] for line in lines]
    is_whole = all(re.fullmatch(r"[0-9]+", value) for line in lines for value in line)
    return is_whole and len(set(users)) == len(users) and len({len(line) for line in lines}) > min_lengths


def merged(samples: Sequence[Sample]) -> dict[str, Values]:
    """Facts about the columns of several files that have the same columns."""
    first = samples[0]
    if len(samples) == 1:
        return dict(first.values)
    out = {}
    for name, values in first.values.items():
        columns = [sample.values[name].column for sample in samples]
        parts = [column.values for column in columns]
        if len({part.dtype for part in parts}) > 1:
            parts = [part.cast(pl.String) for part in parts]
        out[name] = Values(replace(values.column, values=pl.concat(parts)))
    return out
