"""The command line: commands that register themselves, and the arguments that they share.

A command is a function with the decorator `command`, in a module of this package or of an installed plugin
(entry-point group ``evorec.plugins``).
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, final

import typer
from rich.markup import escape

from evorec.cli.output import Format, Output
from evorec.cli.signals import interruptions
from evorec.errors import ConfigError, EvorecError, Interruption, disk_is_full
from evorec.registry import Registry
from evorec.streams import keep_streams, lost_output

SEARCH, SHIP, DEFINE = "Search", "Ship", "Define"
"""Headings of the commands in ``--help``, in this order; a plugin may add headings."""


def _problem_names(incomplete: str) -> list[str]:
    """Completions of a problem: installed names."""
    from evorec.config import installed_problems

    return [name for name in installed_problems() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Completions of a run: run directories below what is typed or in ``runs``, and names of runs there."""
    from evorec.run.directory import RunDirectory, run_name

    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = []
    for root in dict.fromkeys((folder, Path("runs"))):
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            try:
                names = [str(path), run_name(path)] if RunDirectory.exists(path) else []
            except (EvorecError, OSError):  # damaged; `evorec runs` says so
                names = [str(path)]
            found += [name for name in names if name and name.startswith(incomplete)]
    return list(dict.fromkeys(found))


def complete_pick(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of a member: picks without numbers, objectives, and keys of the archive of the run that is typed."""
    picks, given = ["knee", "cheapest", "ideal", "all"], context.params.get("run")
    if given is not None:
        from evorec.run.directory import find_run

        folder = find_run(Path(given))
        with suppress(OSError, ValueError, KeyError, TypeError):
            problem = json.loads((folder / "problem.json").read_bytes())
            picks += [str(objective["name"]) for objective in problem["objectives"]]
            picks += sorted(path.name for path in (folder / "archive").iterdir() if not path.name.startswith("."))
    return [pick for pick in picks if pick.startswith(incomplete)]


Config = Annotated[Path | None, typer.Argument(help="TOML file with the configuration.", show_default=False)]
ProblemName = Annotated[
    str | None,
    typer.Option(
        "--problem",
        "-p",
        metavar="NAME",
        help="Name of a problem (see `evorec problems`), or a Python file.",
        autocompletion=_problem_names,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. training.steps=200; repeatable."),
]


def _find_run(path: Path) -> Path:
    from evorec.run.directory import find_run

    return find_run(path)


Run = Annotated[
    Path,
    typer.Argument(
        help="Run directory, as `evorec search` names it, or the name of the run.",
        show_default=False,
        callback=_find_run,
        autocompletion=complete_run,
    ),
]
Member = Annotated[
    str,
    typer.Argument(
        help="Key of a member or a prefix of it, or a pick as for `evorec front`: knee, 'recall where ...'.",
        autocompletion=complete_pick,
    ),
]


def config_words(config: Path | None, problem: str | None, overrides: Sequence[str] | None) -> list[str]:
    """The words of a command line that name a configuration, so that another command can repeat them."""
    words = [str(config)] if config else []
    words += ["--problem", problem] if problem else []
    return [*words, *(word for text in overrides or () for word in ("--set", text))]


def check_file(option: str, path: Path, example: str) -> None:
    """Check that a file can be written, before the work that fills it: no folder and no device such as /dev/stdout.

    Raises:
        ConfigError: the option names something else.
    """
    if path.is_dir():
        raise ConfigError(f"{option} must be a file, and {path} is a folder; e.g. {option} {path / example}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option} must be a file, and {path} is a device or a pipe; e.g. {option} {example}")


_HELP: Final = {"help_option_names": ["-h", "--help"]}
_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "form": (Annotated[Format, typer.Option("--format", help="Format of the result.")], Format.TABLE),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Only the result and errors.")], False),
    "verbose": (
        Annotated[int, typer.Option("--verbose", "-v", metavar="", count=True, help="Say more.", show_default=False)],
        0,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")], False),
}
"""Options of every command."""


@final
@dataclass(frozen=True)
class Command:
    """A command with its position in ``--help``: by panel, then by order."""

    run: Callable[..., None]
    panel: str
    order: int
    epilog: str | None
    examples: tuple[str, ...] = ()

    @property
    def end_of_help(self) -> str:
        """The last lines of its help, in the markup of rich."""
        examples = [f"[dim]$[/dim] {escape(text)}" for text in self.examples]
        heading = ["[bold]Examples[/bold]"] if examples else []
        return "\n".join([*([escape(self.epilog)] if self.epilog else []), *heading, *examples])

    @property
    def rank(self) -> tuple[int, str, int]:
        """Sorts commands as the help lists them."""
        panels = (SEARCH, SHIP, DEFINE)
        return (panels.index(self.panel) if self.panel in panels else len(panels), self.panel, self.order)


COMMANDS: Final[Registry[Command]] = Registry("command", package="evorec.cli")
GROUPS: Final[dict[str, str]] = {}
"""First word of the commands that have two -> its help."""


def command(
    *, panel: str, order: int, name: str | None = None, epilog: str | None = None, examples: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; its function gets an `Output` first, then its own arguments.

    Errors raised on purpose or by the operating system become a message and an exit code; their traceback is shown with
    ``--debug`` only.

    Args:
        panel: heading in ``--help``.
        order: rank inside the panel; the built-in commands have multiples of 10.
        name: a word, or two such as ``"data describe"``; ``None`` = that of the function.
        epilog: a line at the end of the command's help.
        examples: whole command lines, which follow it; those of built-in commands fit 76 letters.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, form: Format, quiet: bool, verbose: int, debug: bool, **arguments: Any) -> None:
            output = Output(form, -1 if quiet else verbose)
            try:
                function(output, **arguments)
            except Exception as error:
                if (known := _explained(error)) is not None:
                    if debug:
                        traceback.print_exc(file=sys.stderr)
                    output.note(f"error: {known}", style="red", level=-1)
                    raise typer.Exit(known.exit_code) from None
                raise

        keyword_only = inspect.Parameter.KEYWORD_ONLY
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        parameters = [parameter.replace(kind=keyword_only) for parameter in own]
        parameters += [
            inspect.Parameter(option, keyword_only, default=default, annotation=annotation)
            for option, (annotation, default) in _OPTIONS.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        COMMANDS.register(name or function.__name__, Command(run, panel, order, epilog, tuple(examples)))
        return function

    return register


def _explained(error: Exception) -> EvorecError | None:
    """An error as one for the user; ``None`` for a bug. After a full disk the same command can be repeated."""
    if isinstance(error, Interruption):
        return error
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if disk_is_full(error):
        return Interruption(f"{text}; make room and repeat the command, finished work is kept.")
    if isinstance(error, OSError):
        return ConfigError(f"{text}; give another path, or remove the obstacle.")
    return error if isinstance(error, EvorecError) else None


def application() -> typer.Typer:
    """The command line with all registered commands."""
    app = typer.Typer(
        name="evorec",
        epilog="Start with: evorec search --problem feed",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings=_HELP,
    )
    app.callback()(_options)
    groups: dict[str, typer.Typer] = {}
    for name, entry in sorted(COMMANDS.items(), key=lambda item: item[1].rank):
        group, _, last = name.rpartition(" ")
        if not group:
            app.command(last, rich_help_panel=entry.panel, epilog=entry.end_of_help)(entry.run)
            continue
        if group not in groups:
            groups[group] = typer.Typer(
                name=group, help=GROUPS.get(group, ""), no_args_is_help=True, context_settings=_HELP
            )
            app.add_typer(groups[group], rich_help_panel=entry.panel)
        groups[group].command(last, epilog=entry.end_of_help)(entry.run)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"evorec {metadata.version('evorec')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Evolve recommender configurations into a Pareto archive of deployable models."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its words; ``None`` = those of this process, whose Ctrl-C and unexpected errors are then handled too.
    Returns:
        The exit code: 0 done, 2 usage or configuration; `evorec.errors` has the others.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")  # MKL reads it once: see `evorec.reproducible_cpu`
    if argv is not None:
        return _run(list(argv))
    keep_streams()
    try:
        with interruptions():
            code = _run(None)
    finally:
        if "--debug" not in sys.argv:
            sys.excepthook = _report_bug  # only now: typer sets its own
    if (lost := lost_output()) is not None and code == 0:
        known = _explained(lost)
        assert known is not None
        Output(verbosity=-1).note(f"error: the result could not be written to standard output: {known}", level=-1)
        return known.exit_code
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    observers = sys.modules.get("evorec.tracking.observers")
    if (code == Interruption.exit_code and not all(thread.daemon for thread in others)) or (
        observers is not None and observers.stuck()
    ):
        # Python would wait for threads that still train, and libraries for a tracker; either may hang the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(argv: list[str] | None) -> int:
    """Exit code of a command."""
    for word in sys.argv[1:] if argv is None else argv:
        if word.encode("utf-8", "replace").decode() != word:  # Python shows such bytes as halves of characters
            text = f"error: the argument {word!a} has bytes that are not UTF-8; rename the file or the folder"
            Output(verbosity=-1).note(text, style="red", level=-1)
            return ConfigError.exit_code
    try:
        application()(args=argv, prog_name="evorec")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Interruption as end:  # outside of any command
        return end.exit_code
    return 0


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    Output().note(f"internal error: {kind.__name__}: {error}\nThis is a bug; --debug shows where.")
