"""Commands that search, and that read what was found: search, resume, front, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SEARCH, Config, Overrides, ProblemName, Run, command
from evorec.cli.output import Output
from evorec.config import RecommenderConfig, RunConfig, load_config, reset_config
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.problem import Problem
    from evorec.run.directory import RunDirectory

MEMBERS_SHOWN = 16
"""At the end of a search; with the baselines and the verdict this fits a screen."""


@command(panel=SEARCH, order=10)
def search(output: Output, config: Config = None, problem: ProblemName = None, overrides: Overrides = None) -> None:
    """Evolve a population and archive its front.

    A search that was interrupted goes on where it stopped; one that is finished is shown, not repeated.
    """
    from evorec.problem import load_problem
    from evorec.run.directory import RunDirectory, run_path
    from evorec.search.algorithm import check_algorithm

    settings = load_config(config, problem=problem, overrides=overrides or [])
    check_algorithm(settings.search.algorithm, settings.search.options)
    output.note(f"building problem {settings.problem_name}", level=1)
    built = load_problem(settings)
    fingerprint = settings.fingerprint(built.data_sha256)
    path = run_path(Path(settings.run.output), settings, fingerprint)
    if RunDirectory.exists(path):
        _go_on(output, path, built, settings)
        return
    output.note(f"searching in {path}")
    created = RunDirectory.create(path.parent, config=settings, fingerprint=fingerprint, environment=built.environment)
    with created as run:
        _evolve(output, run, built, settings)
    _show_end(output, path)


@command(panel=SEARCH, order=20)
def resume(output: Output, run: Run, overrides: Overrides = None) -> None:
    """Go on with a search that was interrupted; only run.* (workers, device, chunk) can be set anew."""
    from evorec.problem import load_problem
    from evorec.run.directory import read_config

    settings = reset_config(read_config(run), overrides or [], sections=("run",))
    _go_on(output, run, load_problem(settings), settings)


def _go_on(output: Output, path: Path, problem: Problem, config: RunConfig) -> None:
    """Open a run that is there; what it was made from must be the same as now."""
    from evorec.run.directory import RunDirectory

    with RunDirectory.open(path) as run:
        lost = run.lost()
        shown = run.finished and not lost
        fingerprint = config.fingerprint(problem.data_sha256)
        run.check_same(config=config, fingerprint=fingerprint, environment=None if shown else problem.environment)
        if shown:
            output.note(f"{path} is finished already; nothing was run")
        else:
            output.note(f"restoring {', '.join(lost)} of {path}" if lost else f"going on with {path}")
            _evolve(output, run, problem, config)
    _show_end(output, path)


def _evolve(output: Output, run: RunDirectory, problem: Problem, config: RunConfig) -> None:
    from evorec.cli.progress import SearchProgress, StopOnSignal
    from evorec.search import engine
    from evorec.search.executors import executor_for

    with StopOnSignal(output) as stop, SearchProgress(output) as progress:
        device, chunk = str(problem.environment.get("device", "cpu")), config.run.chunk
        executor = executor_for(config.run, device=device)
        engine.search(problem, config.search, run=run, executor=executor, chunk=chunk, progress=progress, stop=stop)


def _show_end(output: Output, path: Path) -> None:
    """What a search has found, and what to type next."""
    from evorec.report.record import read_record
    from evorec.report.run_tables import dropped_text, failure_table, front_table, shortened, verdict

    record = read_record(path)
    if text := dropped_text(record):
        output.note(f"of {len(record.evaluations)} evaluations {text}")
    for row in failure_table(record).rows:
        output.note(f"{row.values[0]} of {len(record.evaluations)} evaluations failed: {row.name}", style="yellow")
    table = front_table(record)
    text = verdict(record)
    value = {"run": str(path), "verdict": text, "front": table.as_json()}
    short = shortened(table, MEMBERS_SHOWN)
    output.result(value, short, text=output.wrapped(text))
    if short is not table:
        output.note(f"all members: evorec front {path}")
    output.next_step(f"evorec report {path}")
    if record.members and isinstance(record.config, RecommenderConfig):
        output.next_step(f"evorec finalize {path}")


@command(panel=SEARCH, order=30)
def front(
    output: Output,
    run: Run,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Column to sort by, best first.")] = None,
) -> None:
    """Show the front of a run, with the baselines in it."""
    from evorec.report.record import read_record
    from evorec.report.run_tables import dropped_text, front_table, verdict

    record = read_record(run)
    if text := dropped_text(record):
        output.note(f"of {len(record.evaluations)} evaluations {text}")
    table = front_table(record, sort)
    text = verdict(record)
    value = {"run": str(run), "state": record.state, "verdict": text, "front": table.as_json()}
    output.result(value, table, text=output.wrapped(text))
    if record.members and isinstance(record.config, RecommenderConfig):
        output.next_step(f"evorec export {run} {table.rows[0].name}")


@command(panel=SEARCH, order=40)
def report(
    output: Output,
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default report.html in the run directory.", show_default=False)
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from evorec.report.record import read_record
    from evorec.report.run_page import page
    from evorec.run.atomic import write_atomic
    from evorec.run.directory import report_path

    target = out or report_path(run)
    if target.is_dir():
        raise ConfigError(f"--out must be a file, and {target} is a folder; e.g. --out {target / 'report.html'}")
    text = page(read_record(run))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, text.encode())
    output.result({"report": str(target)}, text=str(target))
