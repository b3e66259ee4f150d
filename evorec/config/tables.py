"""How a log and the tables of its users and items are read from files with any column names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    field_serializer,
    model_validator,
)

from evorec.config.expressions import parse_derived, parse_label
from evorec.config.section import Section

FeatureKind = Literal["categorical", "numeric", "multi_hot"]
"""categorical = a value of any type; numeric = a number, binned; multi_hot = a list of values."""
TIME_UNITS = ("auto", "s", "ms", "us", "ns")
OUTPUT_COLUMNS = ("user_id", "item_id", "timestamp", "day", "given_part")
"""Names that the tables use themselves."""


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _encoding(name: str) -> str:
    if name != "auto":
        try:
            "".encode(name)
        except (LookupError, UnicodeError, ValueError):
            raise ValueError(f"encoding must be auto or an encoding such as utf-8 or cp1252, got {name!r}") from None
    return name


Encoding = Annotated[str, AfterValidator(_encoding)]
Label = Annotated[str, _parsed_by(parse_label)]
Derived = Annotated[str, _parsed_by(parse_derived)]


class FilesConfig(Section):
    """Files of a table, and how their text is read."""

    files: tuple[str, ...] = ()
    """names or globs in data.path, concatenated in this order, those of a glob by name; archive.zip/events.csv is a
    file in a zip archive; .gz is unpacked"""
    format: Literal["auto", "csv", "tsv", "jsonl", "mapping", "parquet", "arrow", "excel"] = "auto"
    """jsonl = a JSON object per line; mapping = a single JSON object, whose columns are key and value, or key and the
    fields of the values; arrow = Feather, too; excel = any workbook; auto = by the suffix of the name"""
    separator: str = ""
    """separator of the values of a line; empty = found in the first lines of each file; with several characters, quotes
    are not read"""
    quote: str = Field('"', max_length=1)
    """quote character around values with separators; empty = no quotes"""
    escape: str = Field("", max_length=1)
    """character before a quote or a separator inside a value, e.g. a backslash; empty = quotes are doubled, or, in a
    file that cannot be read so, a backslash"""
    columns: tuple[str, ...] = ()
    """names of the columns of a file without a header line"""
    encoding: Encoding = "auto"
    """encoding of the text, e.g. utf-8, latin-1, cp1252, utf-16, gb18030; auto = found in the first lines"""
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null", "NULL", "None", "\\N")
    """texts that mean a missing value"""
    ragged: Literal["refuse", "drop", "pad"] = "refuse"
    """lines of a text table with more or fewer values than columns: refuse the file, drop them, or pad them: missing
    values at the end of short lines, nothing behind the last column of long lines; both are counted in the notes"""
    broken: Literal["refuse", "drop"] = "refuse"
    """lines of JSON lines that are not an object of JSON, e.g. a last line that is cut off: refuse the file, or drop
    them, which is counted in the notes"""
    derive: dict[str, Derived] = Field({})
    """further columns: name -> COLUMN ~ PATTERN (first group of a regular expression, or missing) or COLUMN * NUMBER, /
    NUMBER, // NUMBER (whole part)"""
    separators: dict[str, str] = Field({})
    """separators in multi-hot texts: column -> separator; lists of JSON and Parquet need none"""

    def kinds(self) -> Mapping[str, FeatureKind]:
        """Kinds of the columns that may be multi-hot."""
        return {}

    def outputs(self) -> Iterable[str]:
        """Names of the columns of the result."""
        return self.kinds()

    @model_validator(mode="after")
    def _text_can_be_read(self) -> FilesConfig:
        for name, texts in (("files", self.files), ("columns", self.columns)):
            if "" in texts or "\0" in "".join(texts) or len(set(texts)) != len(texts):
                raise ValueError(f"{name} must be different texts that are not empty, got {list(texts)}")
        if any(character in self.separator + self.quote + self.escape for character in "\n\r\0"):
            raise ValueError(f"separator, quote and escape must not end a line, got {self.separator!r}, {self.quote!r}")
        if self.escape and (self.escape in self.separator + self.quote or not self.escape.isascii()):
            raise ValueError(f"escape must be ASCII and differ from separator and quote, got {self.escape!r}")
        if self.quote and self.quote in self.separator:
            raise ValueError(f"separator and quote must differ, got {self.separator!r} and {self.quote!r}")
        if not (self.separator + self.quote).isascii():
            raise ValueError(f"separator and quote must be ASCII, got {self.separator!r} and {self.quote!r}")
        if unused := [name for name in self.separators if self.kinds().get(name) != "multi_hot"]:
            raise ValueError(f"separators are for multi_hot columns, got {unused}")
        if taken := [name for name in self.outputs() if name in OUTPUT_COLUMNS]:
            raise ValueError(f"output columns must not be named {list(OUTPUT_COLUMNS)}, got {taken}")
        if empty := [name for name, separator in self.separators.items() if not separator]:
            raise ValueError(f"separators of {empty} must not be empty")
        if again := [name for name in self.derive if name in self.columns]:
            raise ValueError(f"derive must give columns that the file does not have, got {again}")
        return self


class PivotConfig(Section):
    """Event rows that are merged into a row per user and item."""

    by: tuple[str, ...] = ()
    """columns whose equal values are merged into a row: those of the user and the item, which are always included, and
    e.g. a session; empty = events are not merged"""
    session_gap_s: float = Field(0.0, ge=0)
    """pause of a user after which a new session begins, in seconds; only events of a session are merged; 0 = no
    sessions"""

    @property
    def is_on(self) -> bool:
        """Whether events are merged."""
        return bool(self.by) or self.session_gap_s > 0


Files = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
PartName = Literal["train", "validation", "test"]
LogFormat = Literal["auto", "csv", "tsv", "jsonl", "mapping", "parquet", "arrow", "excel", "sequence", "adjacency"]
LIST_FORMATS = ("sequence", "adjacency")
"""Formats of a log whose lines are a user and its items."""
COLUMN_SETTINGS = ("user", "item", "time", "day", "part", "columns", "derive")
"""Settings that name columns, which those formats do not have."""
EVENT = "event"
"""Column that the files of a source with an event have beside their own."""
ALWAYS = "interaction"
"""Label of a log without labels: 1 in every row."""


class SourceConfig(FilesConfig):
    """Files of the log with columns of their own, e.g. those of a kind of event.

    A setting that is left out is that of ``[data.log]``.
    """

    format: LogFormat = "auto"  # type: ignore[assignment]
    """as of the tables of users and items; sequence = a line per user: the user, then its items in order of time;
    adjacency = the same, in any order"""
    parts: dict[PartName, Files] = Field({})
    """of a given split: part (train, validation, test) -> its files, instead of files"""
    user: str = ""
    """column of the user's id"""
    item: str = ""
    """column of the item's id"""
    time: str = ""
    """column of the time; empty = the log has no times"""
    time_unit: str = Field("auto", examples=["auto", "s", "ms", "us", "ns", "%Y-%m-%d %H:%M:%S"])
    """of the time: a unit since 1970-01-01 UTC or a format of strptime; auto = ISO 8601 text, or a unit by the size of
    the number"""
    time_zone: str = Field("UTC", examples=["UTC", "Europe/Berlin"])
    """IANA name of the zone of times without a zone"""
    day: str = ""
    """column of the calendar day, if the log has such a column; 2024-01-31 or 20240131"""
    part: str = ""
    """of a given split: column whose values name the part of a row: train, validation (or valid, val, dev) and test"""
    part_names: dict[str, PartName] = Field({})
    """further values of that column -> part, e.g. 0 -> train"""
    tasks: dict[str, Label] = Field({})
    """label -> COLUMN (0, 1, true, false or a number), "COLUMN >= 4", "COLUMN == TEXT" (also > < <= !=, several joined
    by or), or "COLUMN / 1000" (also * //); none = every row is a positive of the label interaction"""
    context: dict[str, FeatureKind] = Field({})
    """features of the context: column -> categorical, numeric or multi_hot"""
    missing_ids: Literal["refuse", "drop"] = "refuse"
    """rows without a user or an item: refuse the file, or drop and count them"""
    missing_times: Literal["refuse", "drop"] = "refuse"
    """rows without a time or a day: refuse the file, or drop and count them, also those whose time cannot be read, if
    they are at most a quarter of a file: more are times in another notation"""

    def kinds(self) -> Mapping[str, FeatureKind]:
        return self.context

    def outputs(self) -> Iterable[str]:
        return (*self.tasks, *self.context)

    @property
    def is_of_lists(self) -> bool:
        """Whether each line is a user and its items."""
        return self.format in LIST_FORMATS

    @property
    def has_parts(self) -> bool:
        """Whether the files say the part of each row."""
        return bool(self.parts or self.part)

    @model_validator(mode="before")
    @classmethod
    def _files_by_part(cls, value: Any) -> Any:
        """``files`` as a table of parts is a spelling of `parts`."""
        if isinstance(value, Mapping) and isinstance(files := value.get("files"), Mapping):
            return {**{name: own for name, own in value.items() if name != "files"}, "parts": files}
        return value

    @model_validator(mode="after")
    def _columns_fit_together(self) -> SourceConfig:
        unit, zone = self.time_unit, self.time_zone
        if unit not in TIME_UNITS and "%" not in unit:
            raise ValueError(f"time_unit must be one of {list(TIME_UNITS)} or a format such as %Y-%m-%d, got {unit!r}")
        try:
            ZoneInfo(zone)
        except (LookupError, ValueError, OSError):
            raise ValueError(f"time_zone must be an IANA name such as UTC or Europe/Berlin, got {zone!r}") from None
        if both := [name for name in self.context if name in self.tasks]:
            raise ValueError(f"context must not be a task: labels are not known when a list is requested, got {both}")
        if self.day and not self.time:
            raise ValueError("time is missing: day is read beside it; a log with days alone names their column in time")
        if self.parts and (self.files or self.part):
            raise ValueError("parts names the files of each part, so that files and part must be left out")
        if self.part_names and not self.part:
            raise ValueError("part is missing: it names the column whose values part_names translates")
        unused = [name for name in (*COLUMN_SETTINGS, "tasks", "context") if getattr(self, name)]
        if self.is_of_lists and unused:
            raise ValueError(
                f'format = "{self.format}" has no named columns, a line is a user and its items; leave out '
                f"{', '.join(unused)}"
            )
        return self


class SourceOfEvents(SourceConfig):
    """An entry of ``[[data.log.sources]]``."""

    event: str = ""
    """text of the column event in all rows of these files, which labels can name, e.g. click"""


class LogConfig(SourceConfig):
    """The log: its files and columns."""

    sources: tuple[SourceOfEvents, ...] = ()
    """several tables with columns of their own, whose rows are joined; a setting that a table leaves out is that of the
    log, and a label or a feature of one table is missing in the others"""
    duplicates: Literal["keep", "refuse", "first", "last"] = "keep"
    """rows with the same user, item, time and text labels: which to keep"""
    pivot: PivotConfig = PivotConfig()

    @field_serializer("sources")
    def _as_written(self, sources: tuple[SourceOfEvents, ...], info: FieldSerializationInfo) -> list[dict[str, Any]]:
        """Without what a source leaves out: written as a default, it would hide the setting of the log."""
        return [source.model_dump(mode=info.mode, exclude_unset=True) for source in sources]

    @property
    def each_source(self) -> tuple[SourceOfEvents, ...]:
        """The sources with the settings that they take from the log; without sources the log itself."""
        shared = {name: getattr(self, name) for name in SourceConfig.model_fields}
        if not self.sources:
            return (SourceOfEvents(**shared),)
        names = dict.fromkeys(source.event for source in self.sources if source.event)
        tasks = self.tasks or {name: f"{EVENT} == {name!r}" for name in names}
        out = []
        for source in self.sources:
            columns = COLUMN_SETTINGS if source.is_of_lists else ()
            left_out = ("files", "parts", "tasks", "context", "separators", *columns)
            common = {name: value for name, value in shared.items() if name not in left_out}
            merged = SourceOfEvents(**{**common, **{name: getattr(source, name) for name in source.model_fields_set}})
            both = {name: {**getattr(self, name), **getattr(source, name)} for name in ("context", "separators")}
            out.append(merged.model_copy(update={"tasks": {**tasks, **source.tasks}, **both}))
        return tuple(out)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the tables that are read; without any, each row is a positive of `ALWAYS`."""
        return tuple(dict.fromkeys(name for source in self.each_source for name in source.tasks)) or (ALWAYS,)

    @property
    def features(self) -> dict[str, FeatureKind]:
        """The features of the context of all sources."""
        return {name: kind for source in self.each_source for name, kind in source.context.items()}

    @model_validator(mode="after")
    def _sources_fit_together(self) -> LogConfig:
        named = [source for source in self.each_source if source.files or source.parts]
        if self.pivot.session_gap_s and any(not source.time for source in named):
            raise ValueError("pivot.session_gap_s needs times: set time, or merge events by pivot.by")
        if not self.sources:
            return self
        if self.files or self.parts:
            raise ValueError("files belong to each of sources, and must be left out beside them")
        kinds: dict[str, FeatureKind] = {}
        for source in self.each_source:
            for name, kind in source.context.items():
                if kinds.setdefault(name, kind) != kind:
                    raise ValueError(
                        f"context {name} must be of the same kind in all sources, got {kinds[name]}, {kind}"
                    )
        if both := [name for name in kinds if name in self.labels]:
            raise ValueError(f"context must not be a task: labels are not known when a list is requested, got {both}")
        return self


class EntityConfig(FilesConfig):
    """A table with a row per user or per item."""

    key: str = ""
    """column of the id, as in the log"""
    features: dict[str, FeatureKind] = Field({})
    """column -> categorical, numeric or multi_hot"""
    duplicates: Literal["refuse", "first", "last"] = "refuse"
    """rows with the same id: which to keep, or refuse the file"""
    missing_ids: Literal["refuse", "drop"] = "refuse"
    """rows without an id: refuse the file, or drop and count them"""

    def kinds(self) -> Mapping[str, FeatureKind]:
        return self.features

    @model_validator(mode="after")
    def _features_fit_together(self) -> EntityConfig:
        if self.files and not self.key:
            raise ValueError("key is missing: it names the column of the id")
        if not self.files and (self.key or self.features):
            raise ValueError("files is missing: it names the files of the table")
        return self


class UsersConfig(EntityConfig):
    """The table of users."""


class ItemsConfig(EntityConfig):
    """The table of items."""

    texts: tuple[str, ...] = ()
    """columns that are kept as text, e.g. titles for data.content"""
    content: tuple[str, ...] = ()
    """columns of the fixed content vectors: categorical or multi_hot features, or columns with a list of numbers per
    item"""

    def kinds(self) -> Mapping[str, FeatureKind]:
        return {**dict.fromkeys(self.content, "multi_hot"), **self.features}

    def outputs(self) -> Iterable[str]:
        return (*self.features, *self.texts, *self.content)

    @model_validator(mode="after")
    def _content_fits(self) -> ItemsConfig:
        if numeric := [name for name in self.content if self.features.get(name) == "numeric"]:
            raise ValueError(f"content must be categorical or multi_hot features, or lists of numbers, got {numeric}")
        if (self.content or self.texts) and not self.files:
            raise ValueError("files is missing: it names the files of the table")
        return self
