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

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evorec.report.table import Column, Row, Table

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which a terminal may obey, except tab and line feed; marks that change the direction of a text;
line separators; halves of characters."""
ASCII: Final[Mapping[str, str]] = {
    "→": "->", "←": "<-", "↑": "^", "↓": "v", "–": "-", "—": "-", "−": "-", "…": "...", "±": "+-", "×": "x",
    "•": "*", "·": "*", "≤": "<=", "≥": ">=",
}  # fmt: skip
"""Replacements of characters that the encoding of an output does not have; other letters are written as their code."""
GAP: Final = 2
"""Spaces between columns."""


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
            self.console.print(shown(text, self.console), style=style, markup=False)

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line of the result."""
        self.result_console.print(shown(text, self.result_console), style=style, markup=False)

    def next_step(self, *words: object, label: str = "next") -> None:
        """Show the command that usually follows, as it can be typed in this shell.

        Args:
            words: the program and its arguments, not quoted.
            label: in front of the command.
        """
        program, *rest = map(str, words)
        script = Path(sys.argv[0])
        # `make search` runs .venv/bin/evorec from a shell in which the environment is not active.
        if program == "evorec" == script.name and shutil.which("evorec") is None:
            program = str(script)
        command = " ".join(_quoted(word, self.console.encoding) for word in (program, *rest))
        self.note(f"{label}: {command}", style="cyan")

    def wrapped(self, text: str) -> str:
        """Paragraphs broken at words to fit the terminal, however they were broken before."""
        width = min(self.result_console.width, 120)
        return "\n\n".join(textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n"))

    def result(self, value: Any, *tables: Table, heading: str = "", text: str = "") -> None:
        """The command's result: `value` as JSON; for people `heading`, `tables` and `text`."""
        console = self.result_console
        if self.form is Format.JSON:
            console.print(_json_text(value, console.encoding), markup=False)
            return
        if heading:
            self.line(heading)
        for table in tables:
            console.print(_rich(table, console), soft_wrap=False, crop=False)
        if text:
            self.line(text)


def shown(text: str, console: Console) -> str:
    """A text as a console can show it: without control characters, and in the letters of its encoding."""
    safe = terminal_safe(text)
    if _can_encode(safe, console.encoding):
        return safe
    return "".join(
        letter
        if _can_encode(letter, console.encoding)
        else ASCII.get(letter, letter.encode("ascii", "backslashreplace").decode("ascii"))
        for letter in safe
    )


def _quoted(word: str, encoding: str) -> str:
    """A word for a shell, on a single line and in the letters of an encoding; ``$'...'`` is that of bash and zsh."""
    if word.isprintable() and _can_encode(word, encoding):
        return shlex.quote(word)
    letters = []
    for letter in word:
        code = ord(letter)
        if letter.isprintable() and _can_encode(letter, encoding):
            letters.append("\\" + letter if letter in "\\'" else letter)
        elif 0xDC80 <= code <= 0xDCFF:  # a byte of a path that is not valid text
            letters.append(f"\\x{code - 0xDC00:02x}")
        else:
            letters.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f"$'{''.join(letters)}'"


def _json_text(value: Any, encoding: str) -> str:
    """Indented JSON; letters that the encoding does not have as their escapes."""
    text = terminal_safe(json.dumps(value, indent=2, ensure_ascii=False))
    return text if _can_encode(text, encoding) else json.dumps(value, indent=2)


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def fact_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Names with their values."""
    return Table(title, "", (Column(""),), tuple(Row(name, (value,)) for name, value in facts.items()))


def _rich(table: Table, console: Console) -> RichTable:
    """The table for a terminal: best member values bold, baselines dimmed, arrows point to the good end."""
    arrows = {"max": " ↑", "min": " ↓", None: ""}
    rich = RichTable(
        title=Text(shown(table.title, console), style="bold") if table.title else None,
        title_justify="left", header_style="bold", box=None, pad_edge=False,
    )  # fmt: skip

    def cell(text: str, style: str = "") -> Text:
        return Text(shown(text if table.has_lines else text.replace("\n", "\\n"), console), style=style)

    # Keys of members can be copied from a narrow terminal too: they are neither cut nor broken.
    names = [cell(row.name) for row in table.rows]
    widest = max((cell_len(name.plain) for name, row in zip(names, table.rows, strict=True) if row.kind), default=1)
    rich.add_column(cell(table.corner), no_wrap=bool(table.columns), min_width=widest)
    for column in table.columns:
        title = (column.title or column.key.replace("\n", "\\n")).replace("_", "_\n")
        title = (title.replace("@", "\n@") if "\n" in title else title) + arrows[column.direction]
        title = shown(title, console)
        unit = f"\n{shown(column.unit, console)}" if column.unit else ""
        rich.add_column(
            Text(title + unit),
            justify="right" if column.direction or column.numbers else "left",
            overflow="fold",
            min_width=max(map(cell_len, title.split("\n"))),  # a heading is never broken inside a word
        )
    # Rich leaves columns out where a terminal is narrower than all headings; the lines are then longer than it.
    needed = sum((column.min_width or 1) + GAP for column in rich.columns) - GAP
    rich.width = needed if needed > console.width else None
    best = [table.best(index) for index in range(len(table.columns))]
    for name, row in zip(names, table.rows, strict=True):
        cells = [
            cell(column.text(value), "bold" if row.kind == "member" and top is not None and value == top else "")
            for value, column, top in zip(row.values, table.columns, best, strict=True)
        ]
        rich.add_row(name, *cells, style={"baseline": "yellow", "ensemble": "cyan"}.get(row.kind, ""))
    return rich
