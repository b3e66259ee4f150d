"""Where a command writes: results to standard output, everything else to standard error, so that a pipe gets only the
result."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, final

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from evorec.report.table import Column, Row, Table

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which a terminal may obey, except tab and line feed; marks that change the direction of a text;
line separators; halves of characters."""


def terminal_safe(text: str) -> str:
    r"""A text that a terminal shows and does not obey: ids, titles and names of columns may come from strangers.

    Args:
        text: of any origin.
    Returns:
        The text with each control character, except tab and line feed, as ``\uXXXX``, its escape in JSON.
    Example:
        >>> print(terminal_safe("7\x1b[2J"))
        7\u001b[2J
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Format(StrEnum):
    """How a result is written to standard output."""

    TABLE = "table"
    JSON = "json"


@final
class Output:
    """Where a command writes.

    Attributes:
        form: of the result.
        verbosity: -1 quiet, 0 normal, 1 and more verbose.
    """

    def __init__(self, form: Format = Format.TABLE, verbosity: int = 0) -> None:
        self.form = form
        self.verbosity = verbosity
        self.result_console = Console(soft_wrap=True, highlight=False, emoji=False)
        self.console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

    def note(self, text: str, *, style: str = "", level: int = 0) -> None:
        """A line for people, on standard error; shown from verbosity `level` on."""
        if self.verbosity >= level:
            self.console.print(_shown(text), style=style)

    def next_step(self, *commands: str) -> None:
        """Show the commands that usually follow, as they can be typed in this shell."""
        script = Path(sys.argv[0])
        # `make search` runs .venv/bin/evorec from a shell in which the environment is not active.
        on_path = script.name != "evorec" or shutil.which("evorec") is not None
        for command in commands:
            typed = command if on_path else command.replace("evorec", shlex.quote(str(script)), 1)
            self.note(f"next: {typed}", style="cyan")

    def wrapped(self, text: str) -> str:
        """Paragraphs broken at words to fit the terminal, however they were broken before."""
        width = min(self.result_console.width, 120)
        return "\n\n".join(textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n"))

    def result(self, value: Any, *tables: Table, heading: str = "", text: str = "") -> None:
        """The command's result: `value` as JSON; for people `heading`, `tables` and `text`."""
        if self.form is Format.JSON:
            self.result_console.print(terminal_safe(json.dumps(value, indent=2, ensure_ascii=False)), markup=False)
            return
        if heading:
            self.result_console.print(terminal_safe(heading), markup=False)
        for table in tables:
            self.result_console.print(_rich(table), soft_wrap=False, crop=False)
        if text:
            self.result_console.print(terminal_safe(text), markup=False)


def fact_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Names with their values."""
    return Table(title, "", (Column(""),), tuple(Row(name, (value,)) for name, value in facts.items()))


def _shown(text: str) -> str:
    """A text from anywhere in the markup of rich."""
    return escape(terminal_safe(text))


def _rich(table: Table) -> RichTable:
    """The table for a terminal: best member values bold, baselines dimmed, arrows point to the good end."""
    arrows = {"max": " ↑", "min": " ↓", None: ""}
    rich = RichTable(
        title=_shown(table.title),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    rich.add_column(_shown(table.corner), no_wrap=bool(table.columns))
    for column in table.columns:
        title = (column.title or column.key).replace("_", "_\n")
        title = (title.replace("@", "\n@") if "\n" in title else title) + arrows[column.direction]
        unit = f"\n{column.unit}" if column.unit else ""
        rich.add_column(
            _shown(title + unit),
            justify="right" if column.direction or column.numbers else "left",
            overflow="fold",
            min_width=max(map(len, title.split("\n"))),  # a heading is never broken inside a word
        )
    best = [table.best(index) for index in range(len(table.columns))]
    for row in table.rows:
        cells = [
            f"[bold]{_shown(column.text(value))}[/bold]"
            if row.kind == "member" and top is not None and value == top
            else _shown(column.text(value))
            for value, column, top in zip(row.values, table.columns, best, strict=True)
        ]
        rich.add_row(_shown(row.name), *cells, style="yellow" if row.kind == "baseline" else "")
    return rich
