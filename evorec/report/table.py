"""Tables as frozen data, which the terminal, the HTML pages and ``--format json`` share, and the text of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

MISSING = "–"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@final
@dataclass(frozen=True)
class Column:
    """Heading of a column.

    Attributes:
        key: name in JSON, and title unless there is another.
        unit: shown under the title.
        direction: of a metric: whether high or low values are better; None for other columns.
        title: heading, if it is not the key.
        numbers: format of the numbers, shares with three digits, percent without decimals, digits as two digits; such
            columns are aligned right.
    """

    key: str
    unit: str = ""
    direction: Literal["max", "min"] | None = None
    title: str = ""
    numbers: Literal["", "count", "share", "percent", "digits"] = ""

    def text(self, value: Any) -> str:
        """A value of this column; metrics of a column line up."""
        if self.numbers and isinstance(value, int | float):
            if self.numbers == "percent":
                return f"{100 * value:.0f} %"
            if self.numbers == "digits":
                return f"{value:.2g}"
            return show_share(value) if self.numbers == "share" else f"{value:,}"
        return show(value) if self.direction is None else show_metric(value)


@final
@dataclass(frozen=True)
class Row:
    """A row; `kind` is ``"member"``, ``"ensemble"``, ``"infeasible"``, ``"baseline"`` or ``""``."""

    name: str
    values: tuple[Any, ...]
    kind: str = ""


@final
@dataclass(frozen=True)
class Table:
    """A titled table; the first column holds the rows' names and is headed by `corner`.

    Attributes:
        has_lines: whether names and values may have several lines; otherwise a line feed comes from the data, and a
            terminal shows its escape.
    """

    title: str
    corner: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    has_lines: bool = False

    @classmethod
    def of(cls, title: str, headings: Sequence[str | Column], rows: Iterable[Sequence[Any]], kind: str = "") -> Table:
        """A table of sequences: the first heading is the corner, and the first value of a row is its name."""
        corner, *columns = headings
        return cls(
            title,
            corner if isinstance(corner, str) else corner.key,
            tuple(column if isinstance(column, Column) else Column(column) for column in columns),
            tuple(Row(name, tuple(values), kind) for name, *values in rows),
        )

    def best(self, column: int) -> float | None:
        """Best value of the members in a column, None where neither high nor low values are better."""
        direction = self.columns[column].direction
        values = [row.values[column] for row in self.rows if row.kind == "member" and row.values[column] is not None]
        if direction is None or not values:
            return None
        return float(max(values) if direction == "max" else min(values))

    def as_json(self) -> list[dict[str, Any]]:
        """Rows as plain dictionaries, values unrounded."""
        names = [column.key for column in self.columns]
        return [
            {self.corner: row.name}
            | ({"kind": row.kind} if row.kind else {})
            | dict(zip(names, row.values, strict=True))
            for row in self.rows
        ]


def show(value: Any) -> str:
    """A plain JSON value as a person reads it.

    Example:
        >>> [show(value) for value in (0.003, 48, True, None, {"click": 1.5, "like": 0.5}, ["a", "b"])]
        ['0.003', '48', 'yes', '–', 'click 1.5, like 0.5', 'a, b']
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {show(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(show(part) for part in value)
    return str(value)


def show_metric(value: float | None) -> str:
    """A measured value: four decimals, or three digits and a prefix from 1000 on.

    Example:
        >>> [show_metric(value) for value in (0.07991, 12_345_678.0, 0.00002, None)]
        ['0.0799', '12.3 M', '2.00e-05', '–']
    """
    if value is None:
        return MISSING
    for size, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {prefix}"
    return f"{value:.2e}" if 0 < abs(value) < 5e-5 else f"{value:.4f}"


def show_share(share: float) -> str:
    """A share in percent; only all reads 100 %, and only nothing 0 %.

    Example:
        >>> [show_share(share) for share in (0.0, 0.00001, 0.00217, 0.3896, 0.99999, 1.0)]
        ['0 %', '< 0.01 %', '0.22 %', '39.0 %', '> 99.9 %', '100 %']
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if not 1e-4 <= share <= 0.9995:
        return "< 0.01 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.{1 if share >= 0.0995 else 2}f} %"


def counted(n: int, thing: str) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "row"), counted(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"
