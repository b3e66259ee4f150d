"""The command `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SEARCH, check_file, command
from evorec.cli.output import Output
from evorec.errors import ConfigError
from evorec.report.table import Column, Table

if TYPE_CHECKING:
    from evorec.archive.comparing import Trajectory
    from evorec.report.record import RunRecord


@command(panel=SEARCH, order=45)
def compare(
    output: Output,
    runs: Annotated[list[Path], typer.Argument(help="Two or more run directories of a problem.")],
    attained: Annotated[
        Path | None,
        typer.Option(
            "--attainment", metavar="FILE", help="Write a page with the surfaces that the runs of each method reach."
        ),
    ] = None,
) -> None:
    """Compare searches at equal numbers of trainings, on validation figures.

    Runs whose settings differ only in their seeds and limits are a method. With two runs or more of each, methods are
    compared by a Mann-Whitney test with Holm's correction, and by A12: how probably the first is better.
    """
    from evorec.archive.comparing import SHARES, attainment, differences, standings
    from evorec.report.record import check_same_goals, read_record
    from evorec.run.directory import find_run

    if attained is not None:
        check_file("--attainment", attained, "attainment.html")
    records = [read_record(find_run(path)) for path in runs]
    if len(records) < 2:
        raise ConfigError("compare needs at least 2 runs; `evorec runs` lists them.")
    check_same_goals(records)
    objectives = records[0].objectives
    trajectories = _trajectories(records)
    found = standings(trajectories, objectives)
    common = min(run.n for run in trajectories)
    pairs = differences(found)
    steps = [f"at {round(share * common)}" for share in SHARES]
    columns = [
        Column("method"), *(Column(step, direction="max") for step in steps), Column("trainings", numbers="count"),
        Column("flops", title="FLOPs"), Column("igd_plus", direction="min", title="IGD+"),
        Column("epsilon", direction="min", title="ε"),
    ]  # fmt: skip
    rows = [(s.name, s.method, *s.hypervolume, s.trainings, s.flops, s.igd_plus, s.epsilon) for s in found]
    lines = [
        f"Hypervolume after as many trainings; trainings and FLOPs until {min(s.hypervolume[-1] for s in found):.4f}."
    ]
    lines += [f"{pair.first} against {pair.second}: A12 {pair.a12:.2f}, p {pair.p:.3g}" for pair in pairs]
    value = {
        "runs": [asdict(standing) for standing in found],
        "methods": [asdict(pair) for pair in pairs],
        "median_attainment": {
            name: surfaces[50].tolist() for name, surfaces in attainment(trajectories, objectives, [50]).items()
        }
        if len(objectives) in (2, 3)
        else {},
    }
    output.result(value, Table.of("Comparison", ["run", *columns], rows), text="\n".join(lines))
    if attained is not None:
        from evorec.outputs import write_output
        from evorec.report.attainment_page import attainment_page

        write_output(attained, attainment_page(trajectories, objectives, records[0].config.problem_name).encode())
        output.note(f"attainment surfaces: {attained}")
    if names := [str(record.shown) for record in records if record.inherited]:
        output.note(
            f"the figures of {', '.join(names)} are those that the search saw, with inherited weights; trainings from "
            "scratch at its end are not counted, and `evorec front` shows their figures"
        )
    if len({record.config.result_settings()["search"]["seed"] for record in records}) < 2:
        output.note("all runs have the same seed: differences may be chance; repeat them with other search.seed")


def _trajectories(records: list[RunRecord]) -> list[Trajectory]:
    """Runs as trajectories; a method is named by the settings of the search that differ between runs."""
    from evorec.archive.comparing import Trajectory
    from evorec.report.run_tables import flat_settings

    settings: list[dict[str, str]] = []
    for record in records:
        flat = flat_settings(record.config.result_settings())
        own = {name: value for name, value in flat if not name.endswith("seed")}
        settings.append({"search.surrogate": '"none"', **own})  # left out where there is none
    names = sorted(set().union(*settings))
    differing = [name for name in names if len({own[name] for own in settings if name in own}) > 1]
    found = []
    for record, own in zip(records, settings, strict=True):
        values = [(name.rpartition(".")[2], own[name].strip('"')) for name in differing if name in own]
        words = [f"{name} {value}" for name, value in values] or ["same settings"]
        rows, numbers, flops, spent = [], [], [], 0.0
        for number, evaluation in enumerate(record.evaluations, start=1):
            spent += (evaluation.metrics or {}).get("training_flops", 0.0)
            if evaluation.metrics is not None and not evaluation.dropped and record.is_feasible(evaluation.metrics):
                rows.append(evaluation.metrics)
                numbers.append(number)
                flops.append(spent)
        found.append(Trajectory(record.shown.name, ", ".join(words), rows, numbers, flops, len(record.evaluations)))
    return found
