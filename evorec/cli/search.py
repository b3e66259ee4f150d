"""Commands that search and that show a run: search, resume, front, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evorec.cli.app import SEARCH, Config, Overrides, ProblemName, Run, check_file, command
from evorec.cli.output import Output
from evorec.config import RecommenderConfig, RunConfig, load_config, reset_config

MEMBERS_SHOWN = 16
"""At the end of a search; with the baselines and the verdict this fits a screen."""


@command(panel=SEARCH, order=10)
def search(output: Output, config: Config = None, problem: ProblemName = None, overrides: Overrides = None) -> None:
    """Evolve a population and archive its front.

    An interrupted search is resumed; a finished search is shown, not repeated.
    """
    _search(output, load_config(config, problem=problem, overrides=overrides or []))


@command(panel=SEARCH, order=20)
def resume(output: Output, run: Run, overrides: Overrides = None) -> None:
    """Resume an interrupted search; only run.* (workers, device, chunk) can be changed."""
    from evorec.run.directory import read_config

    _search(output, reset_config(read_config(run), overrides or [], sections=("run",)), run)


def _search(output: Output, config: RunConfig, path: Path | None = None) -> None:
    """Search in the run directory of a configuration, or resume the run at `path`."""
    from evorec.cli.progress import search_progress, stop_on_signal
    from evorec.problem import load_problem
    from evorec.run.directory import RunDirectory
    from evorec.search import engine
    from evorec.search.checks import check_start
    from evorec.search.executors import executor_for

    output.note(f"building problem {config.problem_name}", level=1)
    problem = load_problem(config)
    for remark in problem.remarks:
        output.note(remark)
    config = used if isinstance(used := getattr(problem, "config", None), RunConfig) else config
    fingerprint, environment = config.fingerprint(problem.data_sha256), problem.environment
    path = check_start(
        config,
        space=problem.space,
        objectives=problem.objectives,
        constraints=problem.constraints,
        data_sha256=problem.data_sha256,
        environment=lambda: environment,
        path=path,
    )
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
    else:
        output.note(f"searching in {path}")
        run = RunDirectory.create(path.parent, config=config, fingerprint=fingerprint, environment=environment)
    with run:
        lost = run.lost()
        finished = run.finished and not lost
        run.check_same(config=config, fingerprint=fingerprint, environment=None if finished else environment)
        if finished:
            output.note(f"{path} is finished already; nothing was run")
        else:
            if lost or run.ledger.evaluations():
                output.note(f"restoring {', '.join(lost)} of {path}" if lost else f"going on with {path}")
            executor = executor_for(config.run, device=str(environment.get("device", "cpu")))
            with stop_on_signal(output) as stop, search_progress(output) as progress:
                engine.search(
                    problem, config.search, run=run, executor=executor, chunk=config.run.chunk, progress=progress,
                    stop=stop,
                )  # fmt: skip
    _show(output, path, ended=True)


@command(panel=SEARCH, order=30)
def front(
    output: Output,
    run: Run,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Column to sort by, best first.")] = None,
) -> None:
    """Show the front of a run, with the baselines in it."""
    _show(output, run, sort)


def _show(output: Output, path: Path, sort: str | None = None, *, ended: bool = False) -> None:
    """The front and a verdict; at the end of a search shortened, with the causes of failures."""
    from evorec.report.record import read_record
    from evorec.report.run_tables import dropped_text, failure_table, front_table, shortened, verdict

    record = read_record(path)
    if text := dropped_text(record):
        output.note(f"of {len(record.evaluations)} evaluations {text}")
    for row in failure_table(record).rows if ended else ():
        output.note(f"{row.values[0]} of {len(record.evaluations)} evaluations failed: {row.name}", style="yellow")
    table, text = front_table(record, sort), verdict(record)
    value = {"run": str(path), "state": record.state, "verdict": text, "front": table.as_json()}
    shown = shortened(table, MEMBERS_SHOWN) if ended else table
    output.result(value, shown, text=output.wrapped(text))
    if shown is not table:
        output.next_step("evorec", "front", path, label="all members")
    if ended:
        output.next_step("evorec", "report", path)
    if record.members and isinstance(record.config, RecommenderConfig):
        output.next_step("evorec", *(("finalize", path) if ended else ("export", path, table.rows[0].name)))


@command(panel=SEARCH, order=40)
def report(
    output: Output,
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default report.html in the run directory.", show_default=False)
    ] = None,
) -> None:
    """Write a self-contained HTML page about a run."""
    from evorec.outputs import write_output
    from evorec.report.record import read_record
    from evorec.report.run_page import page
    from evorec.run.directory import report_path

    target = out or report_path(run)
    check_file("--out", target, "report.html")
    write_output(target, page(read_record(run)).encode())
    output.result({"report": str(target)}, text=str(target))
