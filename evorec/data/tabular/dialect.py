"""How a file is written: format, separator, quotes and encoding, as configured or as its first lines show."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Literal, final

from evorec.config import FilesConfig
from evorec.data.tabular.packed import ENDINGS as PACKED
from evorec.data.tabular.sources import WORKBOOKS, Source
from evorec.data.tabular.typed import TYPED, column_names
from evorec.errors import DataError

Format = Literal["csv", "jsonl", "parquet", "arrow", "excel", "mapping"]

ENDINGS: Final[Mapping[str, Format]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".data"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
    **dict.fromkeys(WORKBOOKS, "excel"),
}  # fmt: skip
FORMATS: Final = ("csv", "tsv", "jsonl", "mapping", "parquet", "arrow", "excel")
"""Values of the setting ``format``."""
SAMPLE_BYTES: Final = 1 << 20
"""Of the beginning of a file, in which the separator and the encoding are looked for."""
SAMPLE_LINES: Final = 200
SEPARATORS: Final[Mapping[str, str]] = {
    ",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", "::": "double colons", " ": "blanks",
}  # fmt: skip
"""That are looked for -> their names."""
USUAL: Final[Mapping[str, str]] = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
"""Separators that endings promise; others promise a comma."""
UNIT_SEPARATOR: Final = "\x1f"
"""Replaces a separator of several characters, because polars splits at a single byte."""
MARKS: Final[Mapping[bytes, str]] = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte order marks of other encodings than UTF-8; the longer first."""
MAGIC: Final[Mapping[bytes, Format]] = {b"PAR1": "parquet", b"ARROW1\0\0": "arrow"}
"""First bytes of formats -> format."""
UNPACK: Final = "unpack it and name the unpacked file"
CONVERT: Final = "convert it to Parquet or CSV, for example with pandas"
UNREADABLE: Final[Mapping[bytes, tuple[str, str]]] = {
    rb"\x1f\x8b\x08": ("compressed twice, inside by gzip", UNPACK),
    rb"BZh[1-9]1AY": ("compressed twice, inside by bzip2", UNPACK),
    rb"\xfd7zXZ": ("compressed twice, inside by xz", UNPACK),
    rb"\x28\xb5\x2f\xfd": ("compressed twice, inside by Zstandard", UNPACK),
    rb"7z\xbc\xaf": ("a 7z archive", UNPACK),
    rb"Rar!\x1a": ("a RAR archive", UNPACK),
    rb"\x04\x22\x4d\x18": ("compressed by LZ4", UNPACK),
    rb"\xff\x06\0\0sNaPpY": ("compressed by Snappy", UNPACK),
    rb"\x1f\x9d": ("compressed by compress", UNPACK),
    rb".{257}ustar": ("a tar archive", UNPACK),
    rb"PK\x03\x04": ("a zip archive", "give it the ending .zip, or unpack it if it is inside of another file"),
    rb"ORC[\0-\x1f]{2}": ("an ORC file", CONVERT),
    rb"Obj\x01": ("an Avro file", CONVERT),
    rb"FEA1\0": ("a Feather file of version 1", CONVERT),
    rb"\x89HDF": ("an HDF5 file", CONVERT),
    rb"SQLite format 3": ("a SQLite database", CONVERT),
    rb"\x93NUMPY": ("a NumPy array", CONVERT),
    rb"\x80[\x02-\x05]": ("a pickle", CONVERT),
    rb"\xd0\xcf\x11\xe0": ("an old Excel workbook or another document", "give it the ending .xls, or save it as CSV"),
    rb"%PDF-": ("a PDF", "name a file with a table"),
    rb"\s*<(!DOCTYPE|html|HTML|\?xml)": ("a page of HTML or XML, not a table", "fetch the file again"),
}  # fmt: skip
"""Beginnings of files that cannot be read -> the kind of file, and what to do."""
DAY: Final = re.compile(r"\d{4}-\d\d?-\d\d?\b")
NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@final
@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Attributes:
        format: csv is any table of text with a separator.
        separator: one or more characters; empty for other formats than csv.
        quote: one character, or empty = no value is quoted; always empty with a separator of several characters.
        encoding: of the text.
        columns: names; those of a csv file may be left out where its first line names them.
        has_header: whether the first line of a csv file names the columns.
        notes: sentences about anything that was guessed.
        escape: one character before a quote or a separator in a value; empty = quotes are doubled.
        ragged: what becomes of lines with another number of values than columns: refuse, drop or pad.
        broken: what becomes of lines of JSON that are not an object: refuse or drop.
        key: of the configuration that has these settings, for errors; empty = they cannot be set.
    """

    format: Format = "csv"
    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    has_header: bool = True
    notes: tuple[str, ...] = ()
    escape: str = ""
    ragged: Literal["refuse", "drop", "pad"] = "refuse"
    broken: Literal["refuse", "drop"] = "refuse"
    key: str = field(default="", compare=False)

    def setting(self, name: str) -> str:
        """Full name of a setting of the file, for errors."""
        return f"{self.key}.{name}" if self.key else name

    @property
    def byte(self) -> str:
        """The separator after `prepared`, one byte."""
        return self.separator if len(self.separator) == 1 else UNIT_SEPARATOR

    def __str__(self) -> str:
        parts: list[str] = [self.format]
        if self.format == "csv":
            parts.append(f"separated by {SEPARATORS.get(self.separator, repr(self.separator))}")
            parts += [] if self.has_header else ["without a header"]
            parts += [f"escaped by {self.escape}"] if self.escape else []
        if self.format in ("csv", "jsonl"):
            parts.append(self.encoding.upper() if self.encoding.startswith("utf") else self.encoding)
        return ", ".join(parts)


def detect(
    file: Path | Source, config: FilesConfig | None = None, *, needed: Collection[str] = (), key: str = "data.log"
) -> Dialect:
    """How a file is written, found in its name and its first lines; the same file always gives the same answer.

    Args:
        file: plain or packed; of a zip file, its only member.
        config: settings; what they leave open is looked for.
        needed: names of columns, which tell apart separators that would all fit.
        key: of the settings, for errors.
    Returns:
        The dialect with the names of all columns. The columns of a file without a header are ``column_1`` and so on,
        unless they are set.
    Raises:
        DataError: the file cannot be read, its format is unknown, or several separators fit.
    """
    source = file if isinstance(file, Source) else Source.of(file)
    config = config or FilesConfig()
    with source.opened() as opened:
        sample = opened.read(SAMPLE_BYTES + 1)
    form = _format(source, sample, config, key)
    if form in TYPED:
        return Dialect(form, separator="", quote="", columns=tuple(column_names(source, form)), key=key)
    encoding, notes = (config.encoding, ()) if config.encoding != "auto" else _encoding(sample)
    text = sample.decode(encoding, errors="replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    if form == "jsonl":
        if re.match(r"\s*\[\s*\{", text):
            raise DataError(
                f"{source} must have a JSON object per line, and is a single list; convert it, e.g. with "
                f"jq -c '.[]' {source.path.name} > {source.path.stem}.jsonl"
            )
        return Dialect(form, "", "", encoding, _keys(text), notes=notes, broken=config.broken, key=key)
    text = text if len(sample) <= SAMPLE_BYTES else text[: text.rfind("\n") + 1]
    usual = "\t" if config.format == "tsv" else USUAL.get(_ending(source), ",")
    separator = config.separator or _separator(source, text, usual, config, needed, key)
    quote = config.quote if len(separator) == 1 else ""
    records = _records(text, separator, quote, config.escape)
    first = tuple(name.strip() for name in records[0]) if records else ()
    has_header = not config.columns and (bool({*needed} & {*first}) or _names_columns(records))
    names = config.columns or (first if has_header else tuple(f"column_{n}" for n in range(1, len(first) + 1)))
    return Dialect(form, separator, quote, encoding, names, has_header, notes, config.escape, config.ragged, key=key)


def _ending(source: Source) -> str:
    """The ending that says the format, in small letters, of the file or of the folder that it is a part of."""
    endings = []
    for name in source.names:
        name = name.lower()
        for packed in PACKED:
            name = name.removesuffix(packed)
        endings.append(Path(name).suffix)
    return next((ending for ending in endings if ending in ENDINGS), endings[0])


def _format(source: Source, sample: bytes, config: FilesConfig, key: str) -> Format:
    found = next((form for magic, form in MAGIC.items() if sample.startswith(magic)), None)
    ending = _ending(source)
    form: Format | None = ENDINGS.get(ending) or ("csv" if config.separator else None)
    if config.format != "auto":
        form = "csv" if config.format == "tsv" else config.format
    if found and form != found:
        raise DataError(f'{source} is a {found.capitalize()} file; set {key}.format = "{found}".')
    if form != "excel":
        for magic, (kind, advice) in UNREADABLE.items():
            if re.match(magic, sample, re.DOTALL):
                raise DataError(f"{source} is {kind}, which cannot be read; {advice}.")
    if form:
        return form
    looks = "jsonl" if sample.lstrip()[:1] == b"{" else "csv"
    raise DataError(
        f"{source}: the format of the ending {ending!r} is unknown; set {key}.format to {', '.join(FORMATS[:-1])} or "
        f"{FORMATS[-1]}; it looks like {looks}."
    )


def _encoding(sample: bytes) -> tuple[str, tuple[str, ...]]:
    """The encoding of a text, and a note if it was guessed. UTF-8 where nothing fits, so that its reader refuses it."""
    for mark, encoding in MARKS.items():
        if sample.startswith(mark):
            return encoding, ()
    text_bytes = sample.rstrip(b"\0")  # a file whose writing was interrupted may end in NUL bytes
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):  # without a mark
        if 2 * text_bytes[first::2].count(0) > len(text_bytes[first::2]):
            return encoding, ()
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) <= SAMPLE_BYTES)
        return "utf-8", ()
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return "utf-8", ()
    foreign = [match.start() for match in re.finditer(r"[^\x00-\x7f]", text)]
    inside = sum(bool(re.search(r"[A-Za-z]", text[max(n - 1, 0) : n + 2])) for n in foreign)
    is_damaged = re.search(r"[^\x00-\x7f\udc80-\udcff]", sample.decode(errors="surrogateescape"))
    if is_damaged or 2 * inside < len(foreign):  # no word of a language of Western Europe
        return "utf-8", ()
    return "cp1252", ("It is not UTF-8 and was read as cp1252; set encoding if letters with accents look wrong.",)


def _keys(text: str) -> tuple[str, ...]:
    """The keys of the first line of JSON that is an object; none if no line of the text is."""
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):
            if isinstance(first := json.loads(line), dict):
                return tuple(first)
    return ()


def _separator(source: Source, text: str, usual: str, config: FilesConfig, needed: Collection[str], key: str) -> str:
    """The separator that splits all lines alike; `usual` where no line is split."""
    found = {separator: _records(text, separator, config.quote, config.escape) for separator in SEPARATORS}
    if not config.escape and f"\\{config.quote}" in text:
        for separator, records in found.items():
            if records and not _is_even(records):
                found[separator] = _records(text, separator, config.quote, "\\")
    header = [separator for separator, records in found.items() if records and len(records[0]) > 1]
    even = [separator for separator in header if _is_even(found[separator])]
    if needed and not config.columns:
        named = [one for one in header if {*needed} <= {name.strip() for name in found[one][0]}]
        header = named or header
        even = [one for one in even if one in named] or even
    if " " in even and len(even) > 1:  # the blanks of texts
        even.remove(" ")
    if len(even) == 1:
        return even[0]
    if not even and (usual in header or not header):
        return usual
    if not even and len(header) == 1:
        return header[0]
    fitting = [SEPARATORS[one] for one in even or header]
    raise DataError(
        f"{source}: the separator is not clear, it may be {' or '.join(fitting)}; set {key}.separator, e.g. to "
        f"{(even or header)[0]!r}."
    )


def _records(text: str, separator: str, quote: str, escape: str) -> list[list[str]]:
    """The first records of a table of text, blank lines left out."""
    lines = (line for line in io.StringIO(text) if line.strip())
    if len(separator) > 1 or not quote:
        return [line.rstrip("\n").split(separator) for line in islice(lines, SAMPLE_LINES)]
    found: list[list[str]] = []
    with suppress(csv.Error):  # a value that is too long, because a quote is never closed
        found.extend(
            islice(csv.reader(lines, delimiter=separator, quotechar=quote, escapechar=escape or None), SAMPLE_LINES)
        )
    return found


def _is_even(records: Sequence[Sequence[str]]) -> bool:
    """Whether all records have as many values as the first, but for a separator at the end of some."""
    lengths = {len(record) if record[-1].strip() else len(record) - 1 for record in records}
    n = len(records[0])
    return all(len(record) == n for record in records) or lengths <= {n - (not records[0][-1].strip()), n - 1}


def _names_columns(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record has names: different texts, which are neither numbers or days nor values below them."""
    first = [name.strip() for name in records[0]] if records else []
    if len(set(first)) < len(first) or any(NUMBER.fullmatch(name) or DAY.match(name) for name in first):
        return False
    others = [record for record in records[1:] if [value.strip() for value in record] != first]
    return not any(
        name and name == record[n].strip() for n, name in enumerate(first) for record in others if n < len(record)
    )
