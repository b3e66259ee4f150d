"""The command `confirm`."""

from __future__ import annotations

from typing import Annotated

import typer

from evorec.cli.app import SEARCH, Overrides, Run, command
from evorec.cli.output import Output


@command(
    panel=SEARCH,
    order=35,
    examples=(
        "evorec confirm runs/feed-0123456789ab",
        "evorec confirm runs/feed-0123456789ab --seeds 3",
    ),
)
def confirm(
    output: Output,
    run: Run,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each member.")] = 2,
    overrides: Overrides = None,
) -> None:
    """Train the front again with fresh seeds: which members still hold, and which were luck?

    Every member is trained from scratch on the training and validation data of the search; the test is not read. An
    interrupted call continues, and further seeds are added with a larger --seeds. Afterwards front, report, picks and
    finalize use the members that are still non-dominated. Of the settings only run.* (workers, device, chunk) can be
    changed.
    """
    output.note("reading the data")  # before the imports, which take seconds
    from evorec.cli.progress import stop_on_signal
    from evorec.config import reset_config
    from evorec.problem import load_problem
    from evorec.report.record import read_record
    from evorec.report.run_tables import confirmed_table, confirmed_text, front_table
    from evorec.run.directory import RunDirectory
    from evorec.search.confirm import confirm as run_confirm
    from evorec.search.executor_choice import executor_for

    with RunDirectory.open(run) as opened:
        config = reset_config(opened.config, overrides or [], sections=("run",))
        problem = load_problem(config)
        executor = executor_for(config.run, device=problem.device_type)
        with stop_on_signal(output) as stop:
            found = run_confirm(
                opened, problem, seeds=seeds, executor=executor, chunk=config.run.chunk, progress=output.note,
                stop=stop,
            )  # fmt: skip
    record = read_record(run)
    table = confirmed_table(record, front_table(record))
    output.result(
        {"run": str(run), **found.as_json()}, *([table] if table else []), text=output.wrapped(confirmed_text(record))
    )
    output.next_step("evorec", "front", record.shown)
