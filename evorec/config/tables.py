"""How a log and the tables of its users and items are read from files, whatever their columns are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from evorec.config.expressions import parse_derived, parse_label
from evorec.config.section import Section

Kind = Literal["categorical", "numeric", "multi_hot"]
TIME_UNITS = ("auto", "s", "ms", "us", "ns")
OUTPUT_COLUMNS = ("user_id", "item_id", "timestamp", "day")
"""Names that the tables use themselves."""


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Label = Annotated[str, _parsed_by(parse_label)]
Derived = Annotated[str, _parsed_by(parse_derived)]


class FilesConfig(Section):
    """Files of a table, and the layout of their text."""

    files: tuple[str, ...] = Field(
        (),
        description="names or globs in data.path, concatenated in this order, files of a glob in order of name; of "
        "a zip file archive.zip/events.csv; .gz is unpacked",
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = Field(
        "auto", description="jsonl = a JSON object per line; auto = by the ending of the name"
    )
    separator: str = Field(
        "", description="between the values of a line; empty = by format; with several characters nothing is quoted"
    )
    quote: str = Field(
        '"', max_length=1, description="character around a value that holds a separator; empty = there is none"
    )
    columns: tuple[str, ...] = Field((), description="names of the columns of a file without a header line")
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = Field("utf-8", description="of the text")
    missing: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "None", "\\N"), description="texts that mean a missing value"
    )
    derive: dict[str, Derived] = Field(
        {},
        description="further columns: name -> COLUMN ~ PATTERN (first group of a regular expression, or missing) or "
        "COLUMN * NUMBER, / NUMBER, // NUMBER (whole part)",
    )
    separators: dict[str, str] = Field(
        {}, description="between the values of a multi-hot text: name -> separator; lists of JSON and Parquet need none"
    )

    @model_validator(mode="after")
    def _text_can_be_read(self) -> FilesConfig:
        for name, texts in (("files", self.files), ("columns", self.columns)):
            if "" in texts or "\0" in "".join(texts) or len(set(texts)) != len(texts):
                raise ValueError(f"{name} must be different texts that are not empty, got {list(texts)}")
        if any(character in self.separator + self.quote for character in "\n\r\0"):
            raise ValueError(f"separator and quote must not end a line, got {self.separator!r} and {self.quote!r}")
        if self.quote and self.quote in self.separator:
            raise ValueError(f"separator and quote must differ, got {self.separator!r} and {self.quote!r}")
        if not (self.separator + self.quote).isascii():
            raise ValueError(f"separator and quote must be ASCII, got {self.separator!r} and {self.quote!r}")
        if empty := [name for name, separator in self.separators.items() if not separator]:
            raise ValueError(f"separators of {empty} must not be empty")
        if again := [name for name in self.derive if name in self.columns]:
            raise ValueError(f"derive must give columns that the file does not have, got {again}")
        return self


class PivotConfig(Section):
    """Event rows combined to a row per user and item."""

    by: tuple[str, ...] = Field(
        (),
        description="columns whose values share a row: the user's and the item's, which always belong to them, and "
        "e.g. a session's; empty = every event stays a row of its own",
    )
    session_gap_s: float = Field(
        0.0,
        ge=0,
        description="a user's pause that begins a new session, in seconds; events share a row only within a session; "
        "0 = no sessions",
    )

    @property
    def is_on(self) -> bool:
        """Whether events share rows at all."""
        return bool(self.by) or self.session_gap_s > 0


class LogConfig(FilesConfig):
    """The log: its files, and the meaning of their columns."""

    user: str = Field("", description="column of the user's id")
    item: str = Field("", description="column of the item's id")
    time: str = Field("", description="column of the time")
    time_unit: str = Field(
        "auto",
        examples=["auto", "s", "ms", "us", "ns", "%Y-%m-%d %H:%M:%S"],
        description="of the time: a unit since 1970-01-01 UTC or a format of strptime; auto = ISO 8601 text, or a unit "
        "by the size of the number",
    )
    time_zone: str = Field(
        "UTC", examples=["UTC", "Europe/Berlin"], description="of times that do not say theirs, by its IANA name"
    )
    day: str = Field(
        "", description="column of the log's own calendar day, if there is such a column; 2024-01-31 or 20240131"
    )
    tasks: dict[str, Label] = Field(
        {},
        description='label -> COLUMN (0, 1, true, false or a number), "COLUMN >= 4", "COLUMN == TEXT" (also > <= < !=, '
        'several joined by or), or "COLUMN / 1000" (also * //)',
    )
    context: dict[str, Kind] = Field(
        {}, description="features of the moment: column -> categorical, numeric or multi_hot"
    )
    missing_ids: Literal["refuse", "drop"] = Field(
        "refuse", description="rows without a user or an item: refuse the file, or drop and count them"
    )
    duplicates: Literal["keep", "refuse", "first", "last"] = Field(
        "keep", description="rows with the same user, item, time and text labels: which to keep"
    )
    pivot: PivotConfig = PivotConfig()

    @model_validator(mode="after")
    def _columns_fit_together(self) -> LogConfig:
        check_time(self.time_unit, self.time_zone)
        taken = [name for name in (*self.tasks, *self.context) if name in OUTPUT_COLUMNS]
        if taken:
            raise ValueError(f"tasks and context must not be called as {list(OUTPUT_COLUMNS)}, got {taken}")
        if both := [name for name in self.context if name in self.tasks]:
            raise ValueError(f"context must not be a task: a label is not known when a list is requested, got {both}")
        check_separators(self.separators, self.context)
        return self


class EntityConfig(FilesConfig):
    """A table with a row per user or per item."""

    key: str = Field("", description="column of the id, as in the log")
    features: dict[str, Kind] = Field({}, description="column -> categorical, numeric or multi_hot")
    duplicates: Literal["refuse", "first", "last"] = Field(
        "refuse", description="rows with the same id: which to keep, or refuse the file"
    )

    @model_validator(mode="after")
    def _features_fit_together(self) -> EntityConfig:
        if self.files and not self.key:
            raise ValueError("key is missing: it names the column of the id")
        if not self.files and (self.key or self.features):
            raise ValueError("files is missing: it names the files of the table")
        if taken := [name for name in self.features if name in OUTPUT_COLUMNS]:
            raise ValueError(f"features must not be called as {list(OUTPUT_COLUMNS)}, got {taken}")
        return self


class UsersConfig(EntityConfig):
    """The table of users."""

    @model_validator(mode="after")
    def _separators_are_used(self) -> UsersConfig:
        check_separators(self.separators, self.features)
        return self


class ItemsConfig(EntityConfig):
    """The table of items."""

    texts: tuple[str, ...] = Field((), description="columns that are kept as text, e.g. titles for data.content")
    content: tuple[str, ...] = Field(
        (),
        description="sources of the fixed content vectors: categorical or multi_hot features, or columns with "
        "a list of numbers per item",
    )

    @model_validator(mode="after")
    def _content_fits(self) -> ItemsConfig:
        vectors: dict[str, Kind] = dict.fromkeys(
            (name for name in self.content if name not in self.features), "multi_hot"
        )
        check_separators(self.separators, {**self.features, **vectors})
        if taken := [name for name in (*self.texts, *self.content) if name in OUTPUT_COLUMNS]:
            raise ValueError(f"texts and content must not be called as {list(OUTPUT_COLUMNS)}, got {taken}")
        if numeric := [name for name in self.content if self.features.get(name) == "numeric"]:
            raise ValueError(f"content must be categorical or multi_hot features, or lists of numbers, got {numeric}")
        if (self.content or self.texts) and not self.files:
            raise ValueError("files is missing: it names the files of the table")
        return self


def check_time(unit: str, zone: str) -> None:
    """Refuse a unit or a time zone that does not exist.

    Raises:
        ValueError: names the expected form.
    """
    if unit not in TIME_UNITS and "%" not in unit:
        raise ValueError(f"time_unit must be one of {list(TIME_UNITS)} or a format such as %Y-%m-%d, got {unit!r}")
    try:
        ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"time_zone must be an IANA name such as UTC or Europe/Berlin, got {zone!r}") from None


def check_separators(separators: Mapping[str, str], features: Mapping[str, Kind]) -> None:
    """Refuse a separator of a column that is not a multi-hot text.

    Raises:
        ValueError: names them.
    """
    if idle := [name for name in separators if features.get(name) != "multi_hot"]:
        raise ValueError(f"separators are for multi_hot columns, got {idle}")
