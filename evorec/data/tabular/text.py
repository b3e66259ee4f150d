"""The structure of a text table: uniform bytes, and every line checked for its number of values.

Polars splits text fast but tolerates errors: it fills a short line with empty values and may cut a long line. The text
is therefore checked here first, byte by byte in NumPy, so that polars can read it in a single way.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from evorec.data.tabular.dialect import UNIT_SEPARATOR, Dialect
from evorec.data.tabular.sources import ColumnsError
from evorec.errors import DataError

CHUNK: Final = 1 << 22
"""Bytes that are checked at once; the working memory is about ten times that."""
NEWLINE: Final = 10
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def prepared(
    source: object, content: bytes, encoding: str, separator: str = "", *, first_line: int = 1, key: str = ""
) -> bytes:
    """UTF-8 without a byte order mark, lines that end with a line feed (the last too), and a separator of one byte.

    Args:
        source: named in errors.
        content: of the file.
        encoding: of the text.
        separator: of several characters, replaced by `UNIT_SEPARATOR`.
        first_line: number of the first line of a part of a file, for errors; only line 1 may have the mark.
        key: of the configuration that has the encoding, for errors.
    Raises:
        DataError: bytes that are invalid in the encoding, or a NUL.
    """

    def error_at(position: int, message: str) -> DataError:
        return DataError(f"{source}, line {first_line + content.count(NEWLINE, 0, position)} must {message}.")

    if encoding != "utf-8" or not content.isascii():
        try:
            text = content.decode(encoding)
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            setting = f"{key}.encoding" if key else "encoding"
            byte = f'got the byte 0x{content[start]:02x}; convert the file, or set {setting}, e.g. to "cp1252"'
            raise error_at(start, f"be {encoding.replace('utf-8', 'UTF-8')} text, {byte}") from None
        if encoding != "utf-8":
            content = text.encode()
    if first_line == 1:
        content = content.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
        if b"\n" not in content:
            content = content.replace(b"\r", b"\n")
    if (position := content.find(0)) >= 0:
        raise error_at(position, "be text, got a NUL byte; the file is damaged or is not text")
    if len(separator) > 1:
        if (position := content.find(UNIT_SEPARATOR.encode())) >= 0:
            raise error_at(position, "not have the control character 0x1f; remove it")
        content = content.replace(separator.encode(), UNIT_SEPARATOR.encode())
    return content if content.endswith(b"\n") or not content else content + b"\n"


def unescaped(source: object, content: bytes, dialect: Dialect) -> tuple[bytes, Dialect]:
    """The text with quotes doubled instead of escaped, and its dialect; lines keep their numbers.

    An escape character before anything but a quote, a separator, the end of a line or itself is kept, as Spark writes
    it; so is ``\\N``, a missing value of MySQL.

    Args:
        source: named in errors.
        content: prepared.
        dialect: of the text; without an escape character the text is returned as it is.
    Raises:
        DataError: a quote inside a value.
    """
    if not dialect.escape:
        return content, dialect
    special = {dialect.escape, dialect.quote, dialect.byte, "\n"}
    text = re.sub(
        rf"{re.escape(dialect.escape)}(.)",
        lambda found: found[0] if found[1] in special else dialect.escape + found[0],
        content.decode(),
        flags=re.DOTALL,
    )
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.byte,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape,
        strict=True,
    )
    out = io.StringIO(newline="")
    try:
        csv.writer(out, delimiter=dialect.byte, quotechar=dialect.quote or '"', lineterminator="\n").writerows(reader)
    except csv.Error as error:
        raise DataError(
            f"{source}, line {reader.line_num} cannot be read with {dialect.setting('escape')} = {dialect.escape!r}: "
            f"{error}."
        ) from None
    return out.getvalue().encode(), replace(dialect, quote=dialect.quote or '"', escape="")


class Records(NamedTuple):
    """A text table whose lines have been checked.

    Attributes:
        names: of all columns: those that were set, else those of the first line.
        content: the text without blank lines; no line is shorter than the first.
        n_rows: number of rows without the header.
        n_ragged: lines that were dropped or padded.
    """

    names: tuple[str, ...]
    content: bytes
    n_rows: int
    n_ragged: int


def check_records(source: object, content: bytes, dialect: Dialect) -> Records:
    """Check that every line of a text table has as many values as there are columns.

    Args:
        source: named in errors.
        content: prepared.
        dialect: separator, quote, and the names of the columns if there is no header line.
    Raises:
        DataError: a line with another number of values, except for a separator at its end, or a quote inside a value.
    """
    names = () if dialect.has_header else dialect.columns
    n_rows, n_ragged = 0 if names else -1, 0
    wrong: tuple[int, int] | None = None  # offset and number of values of the first line that is refused
    pieces, kept_until = list[bytes](), 0
    letters = np.frombuffer(content, dtype=np.uint8)
    for lines in _lines(source, content, dialect):
        filled = np.flatnonzero(~lines.is_blank)
        names = names or _header(content, lines, dialect)
        ragged = _ragged(lines, letters, names, dialect)
        n_ragged += len(ragged)
        n_rows += len(filled)
        gone, lacking = lines.is_blank, np.zeros(len(lines.ends), dtype=np.int64)
        if len(ragged) and dialect.ragged == "refuse":
            wrong = wrong or (int(lines.starts[ragged[0]]), int(lines.n_values[ragged[0]]))
        elif len(ragged) and dialect.ragged == "drop":
            n_rows -= len(ragged)
            gone[ragged] = True
        elif len(ragged):
            lacking[ragged] = len(names) - lines.n_values[ragged]  # polars cuts long lines, which lack less than 0
        for line in np.flatnonzero(gone | (lacking > 0)):
            end = int(lines.ends[line])
            pieces.append(content[kept_until : lines.starts[line] if gone[line] else end])
            pieces.append(dialect.byte.encode() * int(lacking[line]))
            kept_until = end + 1 if gone[line] else end
    if wrong:
        start, n_values = wrong
        line_text = content[start : content.find(NEWLINE, start)]
        escapes = any(f"\\{mark}".encode() in line_text for mark in (dialect.quote, dialect.byte) if mark)
        repairs = [_escape_hint(dialect)] if escapes and not dialect.escape else []
        if dialect.key:
            leave = f'set {dialect.key}.ragged = "drop" or "pad" to read the other lines'
            repairs.append(f"{leave}, or {dialect.key}.separator if it is another")
        named = not dialect.has_header or dialect.separator != ","
        raise ColumnsError(
            f"{source}, line {1 + content.count(NEWLINE, 0, start)} must have {len(names)} columns"
            f"{f' separated by {dialect.separator!r}' if named else ''}, got {n_values}{such_rows(n_ragged, 'lines')}"
            f"{''.join(f'; {repair}' for repair in repairs)}."
        )
    if pieces:
        content = b"".join([*pieces, content[kept_until:]])
    return Records(names, content, max(n_rows, 0), n_ragged)


def _header(content: bytes, lines: _Lines, dialect: Dialect) -> tuple[str, ...]:
    """The names in the first line that is not blank; empty = there is none."""
    filled = np.flatnonzero(~lines.is_blank)
    if not len(filled):
        return ()
    header = content[lines.starts[filled[0]] : lines.ends[filled[0]]].decode()
    found = header.split(dialect.byte)
    if dialect.quote and dialect.quote in header:
        found = next(csv.reader(io.StringIO(header, newline=""), delimiter=dialect.byte, quotechar=dialect.quote), [])
    return tuple(name.strip() for name in found)


def such_rows(n: int, name: str = "rows") -> str:
    """The words about further rows with the same fault.

    Example:
        >>> such_rows(3), such_rows(1)
        (' (the first of 3 rows)', '')
    """
    return f" (the first of {n} {name})" if n > 1 else ""


def _ragged(
    lines: _Lines, letters: npt.NDArray[np.uint8], names: Sequence[str], dialect: Dialect
) -> npt.NDArray[np.int64]:
    """Lines with another number of values than columns, except for a separator at their end."""
    fits = lines.is_blank | (lines.n_values == len(names))
    if names and not fits.all():
        ends_empty = letters[lines.ends - 1] == ord(dialect.byte)
        fits |= ends_empty & (lines.n_values == len(names) + 1)
        fits |= (lines.n_values == len(names) - 1) & (not names[-1])
    return np.flatnonzero(~fits)


def _escape_hint(dialect: Dialect) -> str:
    """As it is written in TOML."""
    return rf'set {dialect.setting("escape")} = "\\" if a backslash comes before quotes'


def find_record(content: bytes, dialect: Dialect, row: int) -> int:
    """Line, from 1, on which a row begins; rows are counted from 0, without header, blank and dropped lines."""
    left = row + dialect.has_header
    names = () if dialect.has_header else dialect.columns
    letters = np.frombuffer(content, dtype=np.uint8)
    for lines in _lines("", content, dialect):
        if dialect.ragged == "drop":
            names = names or _header(content, lines, dialect)
            lines.is_blank[_ragged(lines, letters, names, dialect)] = True
        filled = lines.starts[~lines.is_blank]
        if left < len(filled):
            return 1 + content.count(NEWLINE, 0, int(filled[left]))
        left -= len(filled)
    return content.count(NEWLINE)


class _Lines(NamedTuple):
    """Some lines of a text: where each begins, where its line feed is, and its number of values; ``(n,)`` each.

    A blank line has nothing but white space, without a separator.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    n_values: npt.NDArray[np.int64]
    is_blank: npt.NDArray[np.bool_]


def _lines(source: object, content: bytes, dialect: Dialect) -> Iterator[_Lines]:
    """Every line, some megabytes at a time; between quotes, line feeds and separators are part of the value.

    A quote must open a value at its beginning and close it at its end; inside a value it is doubled.
    """
    text = np.frombuffer(content, dtype=np.uint8)
    separator = ord(dialect.byte)
    quote = ord(dialect.quote) if dialect.quote and dialect.quote.encode() in content else None
    around = np.zeros(256, dtype=np.bool_)
    around[[separator, NEWLINE, *([] if quote is None else [quote])]] = True
    start, size = 0, CHUNK
    while start < len(text):
        piece = text[start : start + size]
        marks = np.flatnonzero((piece == separator) | (piece == NEWLINE))
        if quote is not None and len(quotes := np.flatnonzero(piece == quote)):
            beside = start + np.where(np.arange(len(quotes)) % 2 == 0, quotes - 1, quotes + 1)
            fine = around[text[beside]]  # the text ends with a line feed, which is also the byte before the first
            if not fine.all():
                raise _quote_error(source, content, dialect, start + int(quotes[np.argmin(fine)]))
            marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
        ends_of = np.flatnonzero(piece[marks] == NEWLINE)
        if not len(ends_of):
            if start + size >= len(text):
                raise _quote_error(source, content, dialect, content.rfind(dialect.quote.encode()))
            size *= 2
            continue
        ends, n_values = marks[ends_of], np.diff(ends_of, prepend=-1)
        starts = np.append(0, ends[:-1] + 1)
        is_blank = np.zeros(len(ends), dtype=np.bool_)
        for line in np.flatnonzero(n_values == 1):
            is_blank[line] = not content[start + starts[line] : start + ends[line]].strip(b" \t\r")
        yield _Lines(start + starts, start + ends, n_values, is_blank)
        start, size = start + int(ends[-1]) + 1, CHUNK


def _quote_error(source: object, content: bytes, dialect: Dialect, position: int) -> DataError:
    first = max(content.rfind(NEWLINE, 0, position) + 1, position - 40)
    hint = f", or {_escape_hint(dialect)}" if f"\\{dialect.quote}".encode() in content else ""
    near = content[first : position + 40].split(b"\n")[0].decode(errors="replace")
    return DataError(
        f"{source}, line {1 + content.count(NEWLINE, 0, position)}: a quote must enclose a whole value (and be doubled "
        f'inside it), got {near!r}; set {dialect.setting("quote")} = "" if the file quotes nothing{hint}.'
    )
