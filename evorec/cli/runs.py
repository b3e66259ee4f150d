"""The command `runs`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import SEARCH, command
from evorec.cli.output import Output
from evorec.errors import ConfigError
from evorec.report.table import Column, Row, Table


@command(
    panel=SEARCH,
    order=25,
    examples=(
        "evorec runs",
        "evorec runs /data/runs --format json",
    ),
)
def runs(
    output: Output,
    folder: Annotated[Path, typer.Argument(help="Folder with run directories.")] = Path("runs"),
) -> None:
    """List the runs of a folder: state, date of the start, problem, evaluations and hypervolume.

    Nothing of a run is executed, and nothing is changed. A damaged run is listed with the reason.
    """
    from evorec.report.run_list import list_runs

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give the folder of the runs, e.g. the value of run.output.")
    found = list_runs(folder)
    columns = (
        Column("state"), Column("started"), Column("problem"), Column("evaluations", numbers="count"),
        Column("hypervolume", direction="max"),
    )  # fmt: skip
    rows = tuple(
        Row(run.name or run.folder, (run.state, run.started, run.problem, run.evaluations, run.hypervolume))
        for run in found
    )
    value = [{name: field for name, field in asdict(run).items() if field is not None} for run in found]
    output.result(value, Table(f"Runs in {folder}", "run", columns, rows))
    for run in found:
        if run.fault:
            output.note(f"{run.folder} is damaged: {run.fault}", style="yellow")
