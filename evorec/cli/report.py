"""The command `report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from evorec.cli.app import SEARCH, check_file, command, complete_run
from evorec.cli.output import Output
from evorec.errors import ConfigError

LIVE_S: Final = 5.0
"""Seconds between two versions of a page that follows a search."""


@command(
    panel=SEARCH,
    order=40,
    examples=(
        "evorec report runs/feed-0123456789ab",
        "evorec report runs/monday runs/tuesday --out both.html",
    ),
)
def report(
    output: Output,
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directory or name of a run; several runs make a page that compares them.",
            autocompletion=complete_run,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; default report.html in the run directory, comparison.html beside several runs.",
            show_default=False,
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Write the page again and again until the search of the run has ended.")
    ] = False,
) -> None:
    """Write a self-contained HTML page about a run, or about several runs with the same objectives.

    The page opens from disk, without a network, and sends nothing. With --live, an open page loads itself again every 5
    seconds; Ctrl-C ends it, and the search goes on.
    """
    from evorec.outputs import write_output
    from evorec.report.comparison_page import comparison_page
    from evorec.report.record import read_record
    from evorec.report.run_page import page
    from evorec.run.directory import RunDirectory, find_run, report_path

    paths = list(dict.fromkeys(map(find_run, runs)))
    if live and len(paths) > 1:
        raise ConfigError(f"--live follows the search of a single run, got {len(paths)} runs.")
    target = out or (report_path(paths[0]) if len(paths) == 1 else paths[0].parent / "comparison.html")
    check_file("--out", target, "report.html")
    if len(paths) > 1:
        write_output(target, comparison_page([read_record(path, check=True) for path in paths]).encode())
    elif live:
        (path,) = paths
        output.note(f"following the search in {target}; Ctrl-C ends it")
        while RunDirectory.is_held(path):  # asked before the record is read, so that the last page has everything
            if RunDirectory.has_begun(path):
                write_output(target, page(read_record(path), live_s=LIVE_S).encode())
            time.sleep(LIVE_S)
        write_output(target, page(read_record(path, check=True)).encode())
    else:
        write_output(target, page(read_record(paths[0], check=True)).encode())
    output.result({"report": str(target)}, text=str(target))
