"""The command `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import SEARCH, command, complete_run
from evorec.cli.output import Output
from evorec.errors import ConfigError


@command(
    panel=SEARCH,
    order=45,
    examples=("evorec compare runs/feed-0123456789ab runs/feed-ba9876543210",),
)
def compare(
    output: Output,
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run directories of a problem.", autocompletion=complete_run)
    ],
) -> None:
    """Compare searches at equal numbers of trainings, on validation figures.

    Runs whose settings differ only in their seeds and limits are a method. With two runs or more of each, methods are
    compared by a Mann-Whitney test with Holm's correction, and by A12: how probably the first is better.
    """
    from evorec.archive.comparing import attainment, differences, standings
    from evorec.report.record import check_same_goals, read_record
    from evorec.report.trajectories import standing_table, trajectories
    from evorec.run.directory import find_run

    records = [read_record(find_run(path)) for path in runs]
    if len(records) < 2:
        raise ConfigError("compare needs at least 2 runs; `evorec runs` lists them.")
    check_same_goals(records)
    objectives = records[0].objectives
    compared = trajectories(records)
    found = standings(compared, objectives)
    common = min(run.n for run in compared)
    pairs = differences(found)
    lines = [
        f"Hypervolume after as many trainings; trainings and FLOPs until {min(s.hypervolume[-1] for s in found):.4f}."
    ]
    lines += [f"{pair.first} against {pair.second}: A12 {pair.a12:.2f}, p {pair.p:.3g}" for pair in pairs]
    value = {
        "runs": [asdict(standing) for standing in found],
        "methods": [asdict(pair) for pair in pairs],
        "median_attainment": {
            name: surfaces[50].tolist() for name, surfaces in attainment(compared, objectives, [50]).items()
        }
        if len(objectives) in (2, 3)
        else {},
    }
    output.result(value, standing_table(found, common), text="\n".join(lines))
    if names := [str(record.shown) for record in records if record.inherited]:
        output.note(
            f"the figures of {', '.join(names)} are those that the search saw, with inherited weights; trainings from "
            "scratch at its end are not counted, and `evorec front` shows their figures"
        )
    if len({record.config.result_settings()["search"]["seed"] for record in records}) < 2:
        output.note("all runs have the same seed: differences may be chance; repeat them with other search.seed")
    output.next_step("evorec", "report", *(record.shown for record in records), label="as a page")
