"""The command `nightly`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from evorec.cli.app import SHIP, Config, Overrides, ProblemName, command
from evorec.cli.output import Output
from evorec.cli.signals import check_interrupted
from evorec.report.table import Column, Row, Table


@command(
    panel=SHIP,
    order=58,
    examples=(
        "evorec nightly my.toml --time-budget 3h",
        "evorec nightly my.toml --format json",
    ),
)
def nightly(
    output: Output,
    config: Config = None,
    problem: ProblemName = None,
    overrides: Overrides = None,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time of the night, e.g. 3h; the search leaves a part of it to the other steps. Default: "
            "nightly.minutes.",
            show_default=False,
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with expected figures of the challenger on the test, for CI: "
            '{"recall@20": {"value": 0.19, "tolerance": 0.02}}.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search, judge and promote without a person: the job that a scheduler starts.

    Checks the data, searches in the time that it has, trains and exports the best member, and makes it the champion if
    it is better on the test. The same command goes on with an interrupted night. Exit codes: 0 done, whatever the
    verdict; 1 --expect missed; 2 configuration; 3 data refused; 4 every candidate failed; 75 interrupted; 99 nothing
    new, or another process holds the folder.
    """
    from evorec.cli.search import minutes_of
    from evorec.config import load_config, recommender_config
    from evorec.nightly.expected import read_expected

    given = list(overrides or ())
    if time_budget is not None:
        given.append(f"nightly.minutes={minutes_of(time_budget, option='--time-budget')!r}")
    settings = recommender_config(load_config(config, problem=problem, overrides=given))
    expected = read_expected(expect) if expect is not None else {}
    output.note("loading the libraries", level=1)
    from evorec.cli.progress import search_progress, stop_on_signal, stop_without_space
    from evorec.nightly.job import Hooks, run_night

    check_interrupted()
    with stop_on_signal(output) as stop:
        stops = stop_without_space(stop, Path(settings.nightly.folder), settings.run.min_free_gib)
        hooks = Hooks(output.note, lambda: search_progress(output), stops)
        webhook = os.environ.get(settings.nightly.webhook, "") if settings.nightly.webhook else ""
        summary = run_night(settings, expected=expected, webhook=webhook, hooks=hooks)
    output.result(summary, _checks(summary), text=output.wrapped(str(summary["text"])))
    if summary["champion"] is not None:
        output.next_step("evorec", "serve", Path(summary["models"]) / "champion")


def _checks(summary: dict[str, Any]) -> Table:
    rows = tuple(Row(check["name"], (check["outcome"], check["text"])) for check in summary["checks"])
    return Table(f"Night {summary['night']}", "check", (Column("outcome"), Column("text")), rows)
