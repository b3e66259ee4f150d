"""Files of any kind as columns: found by name or glob, unpacked, checked, and read; errors name file and line."""

from __future__ import annotations

import glob
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Final, Literal, final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.config import FilesConfig
from evorec.data.readers.text import Layout, check_records, find_record, header_of, prepared
from evorec.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "parquet"]

ENDINGS: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ZIP: Final = ".zip"
GZIP_MAGIC: Final = b"\x1f\x8b"
PARQUET_MAGIC: Final = b"PAR1"
UNPACKING: Final = (
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries raise on damaged archives."""
MAX_NAMES: Final = 8
"""Names of files or columns that an error lists."""


@final
@dataclass(frozen=True)
class Source:
    """One file, or one member of a zip file."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The last part of the name, which says the format."""
        return self.member or self.path.name

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def content(self) -> bytes:
        """All bytes, unpacked.

        Raises:
            DataError: the file is missing, unreadable or damaged.
        """
        try:
            content = _member(self.path, self.member) if self.member else self.path.read_bytes()
            return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
        except OSError as error:
            why = error.strerror or str(error)
            raise DataError(f"{self} cannot be read: {why}; expected the file as published.") from None
        except UNPACKING as error:
            raise DataError(f"{self} cannot be unpacked: {error}; fetch it again, or unpack it yourself.") from None


@final
@dataclass(frozen=True)
class Sheet:
    """Some columns of one source, as they were read.

    Args:
        source: where they are from.
        layout: how the text was read; None = Parquet.
        frame: text as it stands, null for an empty value; Parquet columns in their own type.
        is_json: text of JSON lines.
    """

    source: Source
    layout: Layout | None
    frame: pl.DataFrame
    is_json: bool = False

    def place(self, row: int) -> str:
        """File and line (of Parquet: row, from 1) of a row, from 0; looked up in the file once more."""
        if self.layout is None:
            return f"{self.source}, row {row + 1}"
        content = prepared(self.source, self.source.content(), self.layout.encoding, self.layout.separator)
        if not self.is_json:
            return f"{self.source}, line {find_record(content, self.layout, row)}"
        full = (number for number, line in enumerate(content.split(b"\n"), 1) if line.strip())
        return f"{self.source}, line {next(islice(full, row, None), 0)}"

    def refusal(self, row: int, column: str, expected: str, got: object) -> DataError:
        """The error of one value."""
        return DataError(f"{self.place(row)}, column {column} must be {expected}, got {got!r}.")


def find_sources(folder: Path, patterns: Sequence[str], key: str) -> list[Source]:
    """The files that names and globs stand for, each once, in the order of the entries and of the names of one.

    Args:
        folder: that the names are in.
        patterns: e.g. ``events-*.csv.gz``, ``archive.zip/events.csv``, ``archive.zip``.
        key: of the configuration, for errors.
    Raises:
        DataError: an entry that matches nothing, or an archive that cannot be opened.
    """
    found: dict[Source, None] = {}
    for pattern in patterns:
        try:
            sources = list(_matches(folder, pattern))
            there = sorted(path.name for path in folder.iterdir())[:MAX_NAMES] if folder.is_dir() else []
        except OSError as error:
            raise DataError(f"{key}: {pattern!r} cannot be looked up in {folder}: {error.strerror}.") from None
        if not sources:
            raise DataError(f"{key}: {pattern!r} matches no file in {folder}; it has {there}.")
        found.update(dict.fromkeys(sources))
    return list(found)


def read_sheet(source: Source, config: FilesConfig, columns: Sequence[str], key: str) -> Sheet:
    """Some columns of one source.

    Args:
        source: the file.
        config: how it is read.
        columns: to read, each of which must be there.
        key: of the configuration, for errors.
    Raises:
        DataError: names the file, the line and what is wrong.
    """
    kind = _format(source, config, key)
    try:
        if kind == "parquet":
            return Sheet(source, None, _parquet(source, columns))
        content = source.content()
        if content.startswith(PARQUET_MAGIC):
            raise DataError(f'{source} is a Parquet file; set {key}.format = "parquet".')
        content = prepared(source, content, config.encoding, config.separator if kind != "jsonl" else "")
        if kind == "jsonl":
            layout = Layout(separator="", quote="", columns=(), encoding=config.encoding)
            return Sheet(source, layout, _json_lines(source, content, columns), is_json=True)
        separator = config.separator or ("\t" if kind == "tsv" else ",")
        layout = Layout(separator=separator, quote=config.quote, columns=config.columns, encoding=config.encoding)
        return Sheet(source, layout, read_text(source, content, layout, columns))
    except PolarsError as error:
        raise DataError(f"{source} cannot be read as {kind}: {_first_line(error)}") from None
    except PanicException as error:  # a damaged Parquet file can bring the library down
        raise DataError(f"{source} cannot be read as {kind}, it is damaged: {_first_line(error)}") from None
    except MemoryError:
        raise DataError(f"{source} does not fit into memory; split it into several files.") from None


def read_text(source: Source, content: bytes, layout: Layout, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of a text table, as text, null where a value is empty.

    Args:
        source: for errors.
        content: prepared (`prepared`).
        layout: separator, quote, and the names of the columns where there is no header line.
        columns: to read, each of which must be there.
    Raises:
        DataError: a header without a column, a line with another number of values, a quote inside a value.
    """
    names = header_of(source, content, layout)
    missing = [name for name in columns if name not in names]
    if missing and layout.columns:
        raise DataError(f"{source} lacks the columns {missing}; its columns were set to {list(names)}.")
    if missing:
        first = content.split(b"\n", 1)[0].decode(errors="replace").strip()
        raise DataError(f"{source}, line 1 must name the columns {missing}; it has {first[:200]!r}.")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{source}, line 1 must name each column once, got {twice[0]!r} again.")
    content, n_rows = check_records(source, content, layout, len(names))
    if n_rows == 0:
        raise DataError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    places = [names.index(name) for name in columns]
    order = sorted(places)
    frame = pl.read_csv(
        content,
        has_header=False,
        skip_rows=0 if layout.columns else 1,
        columns=order,
        infer_schema=False,
        separator=layout.byte,
        quote_char=layout.quote if layout.quote_byte is not None and layout.quote.encode() in content else None,
    )
    if frame.height != n_rows:
        raise DataError(f"{source} has {n_rows} rows, of which {frame.height} can be read; check its quotes.")
    read = dict(zip(order, frame.get_columns(), strict=True))
    return pl.DataFrame([read[place].alias(name) for place, name in zip(places, columns, strict=True)])


def _member(path: Path, member: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _matches(folder: Path, pattern: str) -> Iterator[Source]:
    archives, slash, member = pattern.partition(f"{ZIP}/")
    if slash:
        for path in _paths(folder, f"{archives}{ZIP}"):
            yield from (Source(path, name) for name in _members(path) if name == member or fnmatchcase(name, member))
        return
    for path in _paths(folder, pattern):
        if path.suffix.lower() != ZIP:
            yield Source(path)
            continue
        members = _members(path)
        if len(members) != 1:
            raise DataError(f"{path} has {len(members)} files, {members[:MAX_NAMES]}; name one as {path.name}/FILE.")
        yield Source(path, members[0])


def _paths(folder: Path, pattern: str) -> list[Path]:
    """Files of a name or a glob; a name with brackets in it is a name where there is such a file."""
    if (folder / pattern).is_file():
        return [folder / pattern]
    found = (folder / name for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True)))
    return [path for path in found if path.is_file()]


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (OSError, *UNPACKING) as error:
        raise DataError(f"{path} cannot be opened as a zip file: {error}.") from None


def _format(source: Source, config: FilesConfig, key: str) -> Format:
    if config.format != "auto":
        return config.format
    name = source.name.lower()
    for packed in (".gz", ZIP):
        name = name.removesuffix(packed)
    ending = Path(name).suffix
    if ending in ENDINGS:
        return ENDINGS[ending]
    if config.separator:
        return "csv"
    raise DataError(f"{source}: the ending {ending!r} says no format; set {key}.format to csv, tsv, jsonl or parquet.")


def _parquet(source: Source, columns: Sequence[str]) -> pl.DataFrame:
    content = source.content()
    found = list(pl.read_parquet_schema(io.BytesIO(content)))
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{source} lacks the columns {missing}; it has {found[:100]}.")
    frame = pl.read_parquet(io.BytesIO(content), columns=list(columns))
    if frame.is_empty():
        raise DataError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    return frame.select(list(columns))


def _json_lines(source: Source, content: bytes, columns: Sequence[str]) -> pl.DataFrame:
    if not content.strip():
        raise DataError(f"{source} has no rows; expected one JSON object per line.")
    try:
        frame = pl.read_ndjson(content, schema=dict.fromkeys(columns, pl.String))
    except (PolarsError, PanicException) as error:
        raise _json_problem(source, content) or DataError(f"{source} is not JSON lines: {_first_line(error)}") from None
    if frame.is_empty():
        raise DataError(f"{source} has no rows; expected one JSON object per line.")
    for name in columns:
        if frame[name].null_count() == frame.height and json.dumps(name).encode() not in content:
            first = content.lstrip().split(b"\n", 1)[0]
            raise DataError(f"{source}: no line has the key {name!r}; the first is {_shown(first)}.")
    return frame


def _json_problem(source: Source, content: bytes) -> DataError | None:
    """The first line that is no JSON object: a slow second look."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            return DataError(f"{source}, line {number} must be one JSON object: {error}; got {_shown(line)}.")
        if not isinstance(value, dict):
            return DataError(f"{source}, line {number} must be one JSON object, got {_shown(line)}.")
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace"))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
