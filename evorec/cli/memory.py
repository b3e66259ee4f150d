"""Commands about the memory of earlier searches: memory list, memory add, memory remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import GROUPS, SEARCH, command
from evorec.cli.output import Output
from evorec.errors import ConfigError
from evorec.report.table import Column, Row, Table

GROUPS["memory"] = "List, add or remove rows of earlier searches, from which new searches start."

Folder = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Folder with run directories.")]


@command(
    panel=SEARCH,
    order=50,
    name="memory list",
    examples=(
        "evorec memory list",
        "evorec memory list --runs /data/runs --format json",
    ),
)
def list_memory(output: Output, runs: Folder = Path("runs")) -> None:
    """List the rows that a search in this folder starts from by default: those shipped with evorec and of its runs."""
    from evorec.search.memory.library import SHIPPED, stored
    from evorec.search.memory.table import Memory

    found, rows = [], []
    for file in [SHIPPED, *stored(runs)]:
        name = "shipped" if file == SHIPPED else file.stem
        for world, problem, n_rows, steps in Memory.read(file).worlds().rows():
            found.append({"memory": name, "world": world, "problem": problem, "rows": n_rows, "steps": steps})
            rows.append(Row(name, (world, problem, n_rows, steps)))
    columns = (Column("world"), Column("problem"), Column("rows", numbers="count"), Column("steps", numbers="count"))
    output.result(found, Table(f"Memory of searches in {runs}", "memory", columns, tuple(rows)))


@command(
    panel=SEARCH,
    order=51,
    name="memory add",
    examples=("evorec memory add /data/runs/feed-0123456789ab",),
)
def add_to_memory(
    output: Output,
    runs: Annotated[list[Path], typer.Argument(help="Run directories, e.g. of other folders or unfinished.")],
    into: Folder = Path("runs"),
) -> None:
    """Add the rows of runs to the memory of a folder; a finished search does so by itself.

    A row holds a genome and its validation figures, never data and never figures of the test.
    """
    from evorec.run.directory import RunDirectory, find_run
    from evorec.search.memory.library import remember

    added = []
    for path in runs:
        with RunDirectory.open(find_run(path), read_only=True) as run:
            added.append(str(remember(run, into)))
    output.result({"added": added}, text="\n".join(added))


@command(
    panel=SEARCH,
    order=52,
    name="memory remove",
    examples=("evorec memory remove feed-0123456789ab",),
)
def remove_from_memory(
    output: Output,
    names: Annotated[list[str], typer.Argument(help="Names of runs as `evorec memory list` shows them.")],
    runs: Folder = Path("runs"),
) -> None:
    """Remove the rows of runs from the memory of a folder; the runs themselves stay.

    Searches that have begun keep the rows that they started from. search.memory = "none" leaves out the shipped rows.
    """
    from evorec.search.memory.library import stored

    files = {file.stem: file for file in stored(runs)}
    if unknown := [name for name in names if name not in files]:
        known = f"it has {', '.join(files)}" if files else "it is empty"
        raise ConfigError(f"the memory of {runs} has no rows of {', '.join(unknown)}; {known}.")
    for name in names:
        files[name].unlink()
    removed = [str(files[name]) for name in names]
    output.result({"removed": removed}, text="\n".join(removed))
