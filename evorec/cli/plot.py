"""Commands that write files about runs: `plot` figures, `table` tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import SEARCH, Run, check_file, command, complete_run
from evorec.cli.output import Output


class FigureKind(StrEnum):
    """A figure of a run."""

    FRONT = "front"
    PARALLEL = "parallel"
    HYPERVOLUME = "hypervolume"
    IMPORTANCE = "importance"
    CONFIRMED = "confirmed"


class TableKind(StrEnum):
    """A table of a run."""

    FRONT = "front"
    EVALUATIONS = "evaluations"
    BASELINES = "baselines"
    HYPERVOLUME = "hypervolume"
    FINAL = "final"


@command(
    panel=SEARCH,
    order=41,
    examples=(
        "evorec plot runs/feed-0123456789ab --what front -o front.svg",
        "evorec plot runs/feed-0123456789ab --what parallel -o parallel.pdf",
    ),
)
def plot(
    output: Output,
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories or names of runs; several runs are drawn over each other.",
            autocompletion=complete_run,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help=".svg, .png or .pdf to write.")],
    what: Annotated[
        FigureKind,
        typer.Option(
            help="front = every pair of objectives; parallel = a line per member; hypervolume = over the evaluations; "
            "importance = of the genes; confirmed = claimed values against those of fresh seeds."
        ),
    ] = FigureKind.FRONT,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", metavar="NAME", help="Draw this objective; repeatable.")
    ] = None,
) -> None:
    """Draw a figure of one or several runs for a paper or slides, with the baselines in it."""
    from evorec.report.record import read_record
    from evorec.report.static_figures import FIGURES, check_kind
    from evorec.run.directory import find_run

    check_file("--out", out, f"{what}.svg")
    check_kind("--out", out)
    records = [read_record(find_run(path)) for path in runs]
    FIGURES[what](records, objective or ()).save(out)
    output.result({"what": what, "runs": [str(record.path) for record in records], "out": str(out)}, text=str(out))


@command(
    panel=SEARCH,
    order=42,
    examples=("evorec table friday --what evaluations -o evaluations.parquet",),
)
def table(
    output: Output,
    run: Run,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help=".csv, .tsv, .parquet, .json or .jsonl to write.")
    ],
    what: Annotated[
        TableKind,
        typer.Option(
            help="front = the members; evaluations = the ledger; baselines; hypervolume = after each generation; "
            "final = the results on the test."
        ),
    ] = TableKind.FRONT,
) -> None:
    """Write the ledger, the front or the test results of a run as a table: metrics and genes are columns."""
    from evorec.outputs import write_output
    from evorec.report.frames import FRAMES, check_ending, frame_bytes
    from evorec.report.record import read_record

    check_file("--out", out, f"{what}.csv")
    check_ending("--out", out)
    frame = FRAMES[what](read_record(run))
    write_output(out, frame_bytes(frame, out.suffix.lower()))
    output.note(f"{frame.height:,} rows, {frame.width} columns")
    output.result({"what": what, "rows": frame.height, "columns": frame.columns, "out": str(out)}, text=str(out))
