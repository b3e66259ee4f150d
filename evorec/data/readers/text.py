"""The structure of a text table: bytes made uniform, and every line checked for its number of values.

Polars splits text fast but forgives: a short line becomes one with empty values, a long one may lose some. What is read
is therefore checked here first, byte by byte in NumPy, so that what Polars gets can be read in one way only.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

UNIT_SEPARATOR: Final = "\x1f"
"""Stands in for a separator of several characters, because polars splits at a single one."""
CHUNK: Final = 1 << 22
"""Bytes that are looked at at once; the working memory is about ten times that."""
NEWLINE: Final = 10
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Places = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Layout:
    """How a text table is laid out.

    Args:
        separator: one or more characters.
        quote: one character, or empty when no value is quoted.
        columns: names, where the file has no header line.
        encoding: of the text.
    """

    separator: str
    quote: str
    columns: tuple[str, ...]
    encoding: str

    @property
    def byte(self) -> str:
        """The separator after `prepared`, one byte."""
        return self.separator if len(self.separator) == 1 else UNIT_SEPARATOR

    @property
    def quote_byte(self) -> int | None:
        """The quote as a byte; text with a separator of several characters has none."""
        return ord(self.quote) if self.quote and len(self.separator) == 1 else None


def prepared(source: object, content: bytes, encoding: str, separator: str = "", *, first_line: int = 1) -> bytes:
    """UTF-8 without a byte order mark, lines that end with a line feed (the last one too), and a separator of one byte.

    Args:
        source: named in errors.
        content: of the file.
        encoding: of the text.
        separator: of several characters, replaced by `UNIT_SEPARATOR`.
        first_line: number of the first line of a part of a file, for errors; the mark stands only before line 1.
    Raises:
        DataError: bytes that the encoding does not have, or a NUL.
    """
    content = _utf8(source, content, encoding, first_line)
    if first_line == 1:
        content = content.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
        if b"\n" not in content:
            content = content.replace(b"\r", b"\n")
    if (place := content.find(b"\0")) >= 0:
        line = first_line + content.count(b"\n", 0, place)
        raise DataError(f"{source}, line {line} must be text, got a NUL byte; the file is damaged or no text.")
    if len(separator) > 1:
        if (place := content.find(UNIT_SEPARATOR.encode())) >= 0:
            line = first_line + content.count(b"\n", 0, place)
            raise DataError(f"{source}, line {line} must not have the control character 0x1f; remove it.")
        content = content.replace(separator.encode(), UNIT_SEPARATOR.encode())
    return content if content.endswith(b"\n") or not content else content + b"\n"


def _utf8(source: object, content: bytes, encoding: str, first_line: int) -> bytes:
    if encoding == "utf-8":
        if not content.isascii():
            _check_utf8(source, content, first_line)
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = first_line + content.count(b"\n", 0, start)
        raise DataError(
            f"{source}, line {line} must be {encoding} text, got the byte 0x{content[start]:02x}."
        ) from None


def _check_utf8(source: object, content: bytes, first_line: int) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(content)
    for start in range(0, len(content), CHUNK):
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(view[start : start + CHUNK], final=start + CHUNK >= len(content))
        except UnicodeDecodeError as error:
            place = start - kept + error.start
            line = first_line + content.count(b"\n", 0, place)
            raise DataError(
                f"{source}, line {line} must be UTF-8 text, got the byte 0x{content[place]:02x}; convert the file, or "
                "set its encoding."
            ) from None


def header_of(source: object, content: bytes, layout: Layout) -> tuple[str, ...]:
    """Names of all columns: those that were set, else those of the first line.

    Raises:
        DataError: there is no first line.
    """
    if layout.columns:
        return layout.columns
    text = _first_line(content, layout)
    if layout.quote_byte is None or layout.quote not in text:
        return tuple(name.strip() for name in text.split(layout.byte))
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=layout.byte, quotechar=layout.quote), [])
    except csv.Error as error:
        raise DataError(f"{source}, line 1 must name the columns: {error}; got {text[:80]!r}.") from None
    return tuple(name.strip() for name in names)


def _first_line(content: bytes, layout: Layout) -> str:
    """The first line that is not blank."""
    for piece in _lines(content, layout):
        for place in np.flatnonzero(~_is_blank(content, piece)):
            return content[piece.starts[place] : piece.ends[place]].decode()
    return ""


def check_records(source: object, content: bytes, layout: Layout, n_columns: int) -> tuple[bytes, int]:
    """The text without blank lines, and its number of rows without the header.

    Args:
        source: named in errors.
        content: prepared.
        layout: separator and quote.
        n_columns: values that every line must have.
    Raises:
        DataError: a line with another number of values, or a quote inside a value.
    """
    if layout.quote_byte is not None and layout.quote.encode() in content:
        _check_quotes(source, content, layout)
    blank: list[tuple[int, int]] = []
    n_lines = 0
    for piece in _lines(content, layout):
        is_blank = _is_blank(content, piece)
        for place in np.flatnonzero((piece.n_values != n_columns) & ~is_blank):
            line = 1 + content.count(b"\n", 0, int(piece.starts[place]))
            raise DataError(
                f"{source}, line {line} must have {n_columns} columns{_separated(layout)}, got {piece.n_values[place]}."
            )
        blank += [(int(piece.starts[place]), int(piece.ends[place]) + 1) for place in np.flatnonzero(is_blank)]
        n_lines += len(piece.ends)
    n_rows = max(0, n_lines - len(blank) - (not layout.columns))
    return _without(content, blank), n_rows


def find_record(content: bytes, layout: Layout, row: int) -> int:
    """Line, from 1, on which a row begins; rows are counted from 0, without header and blank lines."""
    left = row + (not layout.columns)
    for piece in _lines(content, layout):
        full = piece.starts[~_is_blank(content, piece)]
        if left < len(full):
            return 1 + content.count(b"\n", 0, int(full[left]))
        left -= len(full)
    return content.count(b"\n")


class _Piece(NamedTuple):
    """Some lines of a text: where each begins, where its line feed is, and its number of values; ``(n,)`` each."""

    starts: Places
    ends: Places
    n_values: Places


def _lines(content: bytes, layout: Layout) -> Iterator[_Piece]:
    """Every line, piece by piece; what stands between quotes neither ends a line nor separates values."""
    start, n_before = 0, 0
    for marks, is_end in _marks(content, layout):
        ends = np.flatnonzero(is_end)
        if len(ends):
            n_values = np.diff(ends, prepend=-1)
            n_values[0] += n_before
            places = marks[ends]
            yield _Piece(np.concatenate([[start], places[:-1] + 1]), places, n_values)
            start, n_before = int(places[-1]) + 1, len(marks) - 1 - int(ends[-1])
        else:
            n_before += len(marks)


def _is_blank(content: bytes, piece: _Piece) -> npt.NDArray[np.bool_]:
    """Which lines hold nothing but white space, without a separator."""
    blank = np.zeros(len(piece.ends), dtype=np.bool_)
    for place in np.flatnonzero(piece.n_values == 1):
        blank[place] = not content[piece.starts[place] : piece.ends[place]].strip(b" \t\r")
    return blank


def _marks(content: bytes, layout: Layout) -> Iterator[tuple[Places, npt.NDArray[np.bool_]]]:
    """Places of separators and line feeds outside quotes, and which of them are line feeds."""
    text = np.frombuffer(content, dtype=np.uint8)
    separator, quote = ord(layout.byte), layout.quote_byte
    if quote is not None and layout.quote.encode() not in content:
        quote = None
    n_quotes = 0
    for start in range(0, len(text), CHUNK):
        piece = text[start : start + CHUNK]
        marks = np.flatnonzero((piece == separator) | (piece == NEWLINE))
        if quote is not None:
            quotes = np.flatnonzero(piece == quote)
            marks = marks[(np.searchsorted(quotes, marks) + n_quotes) % 2 == 0]
            n_quotes += len(quotes)
        yield start + marks, piece[marks] == NEWLINE


def _check_quotes(source: object, content: bytes, layout: Layout) -> None:
    """A quote must open a value at its beginning and close it at its end; inside a value it stands twice."""
    text = np.frombuffer(content, dtype=np.uint8)
    quote = ord(layout.quote)
    around = np.zeros(256, dtype=np.bool_)
    around[[ord(layout.byte), NEWLINE, quote]] = True
    n_before = 0
    for start in range(0, len(text), CHUNK):
        quotes = start + np.flatnonzero(text[start : start + CHUNK] == quote)
        opens = (np.arange(len(quotes)) + n_before) % 2 == 0
        beside = np.where(opens, quotes - 1, quotes + 1)
        fine = around[text[np.clip(beside, 0, len(text) - 1)]] | (beside < 0)
        n_before += len(quotes)
        if not fine.all():
            _refuse_quote(source, content, int(quotes[np.flatnonzero(~fine)[0]]))
    if n_before % 2:
        _refuse_quote(source, content, content.rfind(layout.quote.encode()))


def _refuse_quote(source: object, content: bytes, place: int) -> None:
    line = 1 + content.count(b"\n", 0, place)
    near = (
        content[max(content.rfind(b"\n", 0, place) + 1, place - 40) : place + 40]
        .split(b"\n")[0]
        .decode(errors="replace")
    )
    raise DataError(
        f"{source}, line {line}: a quote must stand around a whole value (and twice inside one), got {near!r}; set "
        'quote = "" if the file quotes nothing.'
    )


def _separated(layout: Layout) -> str:
    return f" separated by {layout.separator!r}" if layout.columns or layout.separator != "," else ""


def _without(content: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return content
    edges = [0, *(edge for span in spans for edge in span), len(content)]
    return b"".join(content[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
