"""Recorded runs as trajectories, and their comparison as a table."""

from __future__ import annotations

from collections.abc import Sequence

from evorec.archive.comparing import SHARES, Standing, Trajectory
from evorec.report.record import RunRecord
from evorec.report.run_tables import flat_settings
from evorec.report.table import Column, Table


def trajectories(records: Sequence[RunRecord]) -> list[Trajectory]:
    """Runs as trajectories; a method is named by the settings of the search that differ between runs."""
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


def standing_table(found: Sequence[Standing], common: int) -> Table:
    """Hypervolume, costs until the lowest final hypervolume, and distances to the common front of all runs.

    Args:
        found: figures of the runs.
        common: trainings that all runs have.
    """
    columns = [
        Column("method"), *(Column(f"at {round(share * common)}", direction="max") for share in SHARES),
        Column("trainings", numbers="count"), Column("flops", title="FLOPs"),
        Column("igd_plus", direction="min", title="IGD+"), Column("epsilon", direction="min", title="ε"),
    ]  # fmt: skip
    rows = ((s.name, s.method, *s.hypervolume, s.trainings, s.flops, s.igd_plus, s.epsilon) for s in found)
    return Table.of("Comparison", ["run", *columns], rows)
