"""The command `ensemble`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evorec.cli.app import SHIP, Overrides, Run, command
from evorec.cli.output import Output
from evorec.cli.ship import build_rec_problem


@command(
    panel=SHIP,
    order=5,
    examples=("evorec ensemble runs/feed-0123456789ab",),
)
def ensemble(
    output: Output,
    run: Run,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="PICK",
            help="Ensemble to keep, as --pick of `evorec front`, which may also limit the members, e.g. 'accuracy "
            "where members <= 3, cost <= 5e10'; repeatable. Default: of each size the best of each goal and their "
            "balance.",
            show_default=False,
        ),
    ] = None,
    members: Annotated[
        int | None, typer.Option(min=2, help="Most members of an ensemble; default ensemble.members.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Select ensembles of members on validation; nothing is trained, and the test is not read.

    Members are added greedily, with replacement, to the mean of their task outputs or of their list scores. What such a
    selection gains is measured on the half of the users that did not select. `evorec front` then shows the ensembles,
    `evorec finalize --set finalize.ensembles=true` measures them on the test, and `evorec export` writes their bundles.
    """
    from evorec.config import recommender_config, reset_config
    from evorec.deploy.ensemble.select import select_ensembles
    from evorec.report.ensemble_tables import ensemble_table, ensemble_text, held_table, weights_table
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    given = [f"ensemble.picks={json.dumps(pick)}"] if pick else []
    given += [f"ensemble.members={members}"] if members else []
    with RunDirectory.open(run) as opened:
        stored = recommender_config(opened.config)
        config = reset_config(stored, [*(overrides or []), *given], sections=("ensemble", "run"))
        output.note(f"reading the data of {config.problem_name}", level=1)
        problem = build_rec_problem(config.model_copy(update={"ensemble": stored.ensemble}))
        report = select_ensembles(opened, problem, config.ensemble, progress=output.note)
    record = read_record(run)
    tables = [ensemble_table(record), weights_table(record)] if record.ensembles else []
    output.result(report, *tables, held_table(record), text=output.wrapped(ensemble_text(record)))
    if record.ensembles:
        output.next_step("evorec", "finalize", record.shown, "--set", "finalize.ensembles=true")
        output.next_step("evorec", "export", record.shown, record.ensembles[0].key)
