"""The application that commands register with, and the words they share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated

import typer

from evorec.errors import Interrupted

app = typer.Typer(
    name="evorec",
    epilog="Start with: evorec search --problem feed",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SEARCH, SHIP, DEFINE = "Search", "Ship", "Define"
"""Headings of the commands in ``--help``."""

Config = Annotated[Path | None, typer.Argument(help="TOML file with the configuration.", show_default=False)]
ProblemName = Annotated[
    str | None, typer.Option("--problem", "-p", metavar="NAME", help="Problem definition; see `evorec problems`.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. training.steps=200; repeatable."),
]
Run = Annotated[Path, typer.Argument(help="Run directory, as `evorec search` names it.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evorec {metadata.version('evorec')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Evolve recommender configurations into a Pareto archive of deployable models."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words; None = those of this process, whose Ctrl-C and unforeseen errors are then handled too.
    Returns:
        The exit code: 0 done, 2 usage or config; `evorec.errors` has the others.
    """
    if argv is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
    try:
        app(args=None if argv is None else list(argv), prog_name="evorec")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Interrupted as end:  # outside of any command
        return end.exit_code
    finally:
        if argv is None and "--debug" not in sys.argv:
            sys.excepthook = _say_bug  # only now: typer sets its own
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}.")


def _say_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(f"internal error: {kind.__name__}: {error}\nThis is a bug; --debug shows where.", file=sys.stderr)
