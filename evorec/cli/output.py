"""What every command shares: its common options, how it speaks, and how an error becomes an exit code.

Results go to standard output, everything else to standard error, so that a pipe gets the result alone.
"""

from __future__ import annotations

import errno
import functools
import inspect
import json
import sys
import textwrap
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from evorec.errors import ConfigError, EvorecError, Interrupted
from evorec.report.tables import Table


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
            self.console.print(escape(text), style=style)

    def next_step(self, *commands: str) -> None:
        """What to type next."""
        for command in commands:
            self.note(f"next: {command}", style="cyan")

    def wrapped(self, text: str) -> str:
        """Paragraphs broken at words to fit the terminal, however they were broken before."""
        width = min(self.result_console.width, 120)
        return "\n\n".join(textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n"))

    def result(self, value: Any, *tables: Table, text: str = "") -> None:
        """The command's result: `value` as JSON, or `tables` and `text` for people."""
        if self.form is Format.JSON:
            self.result_console.print(json.dumps(value, indent=2, ensure_ascii=False), markup=False)
            return
        for table in tables:
            self.result_console.print(_rich(table), soft_wrap=False, crop=False)
        if text:
            self.result_console.print(text, markup=False)


def _rich(table: Table) -> RichTable:
    """The table for a terminal: best member values bold, baselines dimmed, arrows point to the good end."""
    arrows = {"max": " ↑", "min": " ↓", None: ""}
    rich = RichTable(
        title=table.title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    rich.add_column(table.corner, no_wrap=bool(table.columns))
    for column in table.columns:
        title = (column.title or column.key).replace("_", "_\n")
        title = (title.replace("@", "\n@") if "\n" in title else title) + arrows[column.direction]
        unit = f"\n{column.unit}" if column.unit else ""
        rich.add_column(
            escape(title + unit),
            justify="right" if column.direction or column.numbers else "left",
            overflow="fold",
            min_width=max(map(len, title.split("\n"))),  # a heading is never broken inside a word
        )
    best = [table.best(index) for index in range(len(table.columns))]
    for row in table.rows:
        cells = [
            f"[bold]{escape(column.text(value))}[/bold]"
            if row.kind == "member" and top is not None and value == top
            else escape(column.text(value))
            for value, column, top in zip(row.values, table.columns, best, strict=True)
        ]
        rich.add_row(escape(row.name), *cells, style="yellow" if row.kind == "baseline" else "")
    return rich


def _explained(error: OSError) -> EvorecError:
    """What the operating system refused; a full disk can be cured, and then the same command goes on."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Interrupted(f"{where}{error.strerror}; make room and type the command again, what was done is kept.")
    return ConfigError(f"{where}{error.strerror}; give another path, or change what is in the way.")


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "form": (Annotated[Format, typer.Option("--format", help="How the result is written.")], Format.TABLE),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Nothing but the result and errors.")],
        False,
    ),
    "verbose": (
        Annotated[int, typer.Option("--verbose", "-v", metavar="", count=True, help="Say more.", show_default=False)],
        0,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")], False),
}


def command(app: typer.Typer, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with the options every command has; it gets them as one `Output`, its first argument.

    An error raised on purpose, or by the operating system, is one message and an exit code; its traceback is shown
    with ``--debug`` only.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, form: Format, quiet: bool, verbose: int, debug: bool, **arguments: Any) -> None:
            output = Output(form, -1 if quiet else verbose)
            try:
                function(output, **arguments)
            except (EvorecError, OSError) as error:
                if debug:
                    traceback.print_exc(file=sys.stderr)
                known = error if isinstance(error, EvorecError) else _explained(error)
                output.note(f"error: {known}", style="red", level=-1)
                raise typer.Exit(known.exit_code) from None

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(name, keyword_only, default=default, annotation=annotation)
            for name, (annotation, default) in _OPTIONS.items()
        ]
        parameters = [parameter.replace(kind=keyword_only) for parameter in own] + shared
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        app.command(**settings)(run)
        return function

    return register
