"""Commands that search and that show a run: search, resume, front, report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import SEARCH, Config, Overrides, ProblemName, Run, command, complete_pick
from evorec.cli.output import Output
from evorec.cli.ship import find_member
from evorec.cli.signals import check_interrupted
from evorec.errors import ConfigError
from evorec.errors import command as shell
from evorec.report.table import Column, Row, Table, show_metric

if TYPE_CHECKING:
    from evorec.config import RunConfig, SearchConfig

AnyMachine = Annotated[
    bool,
    typer.Option(
        "--allow-different-machine",
        metavar="",
        help="Go on with another processor or other versions; gives up bitwise equality, which reports then say.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the run, shown instead of its hash; commands accept it."),
]
MEMBERS_SHOWN = 16
"""At the end of a search; with the baselines and the verdict this fits a screen."""


@command(
    panel=SEARCH,
    order=10,
    examples=(
        "evorec search --problem feed",
        "evorec search my.toml --set search.evaluations=80 --name friday",
        "evorec search my.toml --start-from runs/friday:knee --dry-run",
    ),
)
def search(
    output: Output,
    config: Config = None,
    problem: ProblemName = None,
    overrides: Overrides = None,
    allow_different_machine: AnyMachine = False,
    name: Name = None,
    start_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN[:MEMBER]",
            help="Begin with the front of a finished run, or with a member of it; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="Only predict the front, and what the search would cost; seconds."),
    ] = False,
) -> None:
    """Evolve a population and archive its front.

    An interrupted search is resumed. A finished search is shown, and extended if search.generations or
    search.evaluations are larger than before.
    """
    from evorec.config import load_config

    settings = load_config(config, problem=problem, overrides=overrides or [])
    specs = [spec for text in start_from or () for spec in _front_specs(text)]
    if dry_run:
        _forecast(output, settings, specs)
        return
    _search(output, settings, allow_different_machine=allow_different_machine, name=name, start=specs)


def _front_specs(text: str) -> list[Mapping[str, Any]]:
    """Specs of the front of a finished run, or of a member of it.

    Args:
        text: a run, or ``RUN:MEMBER`` with a member as `find_member` takes it.
    Raises:
        ConfigError: the run has no end or no front, or there is no such run or member.
    """
    from evorec.report.record import UNFINISHED, read_record
    from evorec.run.directory import RunDirectory, find_run

    path, member = find_run(Path(text)), ""
    if not RunDirectory.exists(path) and ":" in text:
        name, _, member = text.rpartition(":")
        path = find_run(Path(name))
    record = read_record(path)
    if record.state == UNFINISHED:
        raise ConfigError(
            f"--start-from: run {path} is not finished, so its front may still change; {shell('resume', path)} ends it."
        )
    if not record.members:
        raise ConfigError(f"--start-from: run {path} has no front, because no genome was feasible; name another run.")
    keys = {find_member(record, member)} if member else {found.key for found in record.members}
    return [found.spec for found in record.members if found.key in keys]


@command(
    panel=SEARCH,
    order=20,
    examples=(
        "evorec resume runs/feed-0123456789ab",
        "evorec resume runs/feed-0123456789ab --generations 20",
        "evorec resume friday --time 30m --set run.workers=4",
    ),
)
def resume(
    output: Output,
    run: Run,
    generations: Annotated[
        int | None,
        typer.Option(min=1, help="Extend to this number of generations.", show_default=False),
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Extend to at most this number of evaluations.", show_default=False)
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Extend by this time, e.g. 90s, 30m or 2h.", show_default=False),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Evaluate failed genomes of the last generation again.")
    ] = False,
    overrides: Overrides = None,
    allow_different_machine: AnyMachine = False,
    name: Name = None,
) -> None:
    """Resume an interrupted search, or extend a search; nothing is trained again.

    Limits that are given replace the old limits. Of the settings only run.* (workers, device, chunk) can be changed.
    """
    from evorec.config import reset_config
    from evorec.config.search import MOST_GENERATIONS
    from evorec.run.directory import read_config

    limits: dict[str, float] = {}
    if generations or evaluations or time:
        limits = {
            "generations": generations or MOST_GENERATIONS,
            "evaluations": evaluations or 0,
            "flops": 0.0,
            "gain": 0.0,
        }
        limits["minutes"] = minutes_of(time) if time else 0.0
    config = reset_config(read_config(run), overrides or [], sections=("run",))
    _search(
        output,
        config,
        run,
        limits,
        allow_different_machine=allow_different_machine,
        name=name,
        retry_failed=retry_failed,
    )


def minutes_of(text: str, *, option: str = "--time") -> float:
    """A time of the command line in minutes.

    Raises:
        ConfigError: it is not a number above 0 with a unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"{option} must be a number with s, m or h, e.g. 30m, got {text!r}.")
    return float(found[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[found[2]]


def _search(
    output: Output,
    config: RunConfig,
    path: Path | None = None,
    limits: Mapping[str, float] | None = None,
    *,
    allow_different_machine: bool,
    name: str | None,
    start: Sequence[Mapping[str, Any]] = (),
    retry_failed: bool = False,
) -> None:
    """Search in the run directory of a configuration, or resume the run at `path`, perhaps with other limits.

    Args:
        start: specs of earlier searches to begin with; they become part of the configuration.
        retry_failed: whether failed genomes of the last generation are evaluated again.
    """
    output.note(f"problem {config.problem_name}: reading the data")  # before the imports, which take seconds
    from evorec.cli.progress import search_progress, stop_on_signal, stop_without_space
    from evorec.config import RunConfig, merge, parse_config
    from evorec.problem import load_problem
    from evorec.report.observed import observe, observe_result, observers_of
    from evorec.run.directory import RunDirectory, check_name, run_path
    from evorec.search import engine
    from evorec.search.checks import check_room, check_start
    from evorec.search.executor_choice import executor_for
    from evorec.search.memory.prior import with_start
    from evorec.search.start import start_remark

    check_interrupted()
    problem = load_problem(config)
    check_interrupted()
    if (size := getattr(problem, "size", None)) is not None:
        output.note(f"data {size}")
    for remark in problem.remarks:
        output.note(remark)
    config = used if isinstance(used := getattr(problem, "config", None), RunConfig) else config
    config = with_start(config.sized(problem.device_type), start, problem.space)
    fingerprint, environment = config.fingerprint(problem.data_sha256), problem.environment
    settings = config.search if path is None else None
    if not RunDirectory.exists(path or run_path(Path(config.run.output), config, fingerprint)):
        problem.check_first_start()
    path = check_start(
        config,
        space=problem.space,
        objectives=problem.objectives,
        constraints=problem.constraints,
        data_sha256=problem.data_sha256,
        environment=None if allow_different_machine else lambda: environment,
        path=path,
    )
    if name is not None:
        check_name(path, name)
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
        fingerprint = run.fingerprint_of(config, problem.data_sha256)
    else:
        check_room(path, config, problem)
        output.note(f"searching in {path}")
        if remark := start_remark(problem.space, config.search.start, config.search.population):
            output.note(remark)
        run = RunDirectory.create(path.parent, config=config, fingerprint=fingerprint, environment=environment)
    with run:
        if name is not None:
            run.rename(name)
        shown = path if run.name is None else path.with_name(run.name)
        old, was_finished = run.config.search, run.finished
        if settings is None:
            resumed = merge(run.config.model_dump(mode="json"), {"search": limits or {}})
            settings = parse_config(resumed, source="command line", kind=type(run.config)).search
        is_longer = was_finished and (not run.is_within(settings) or bool(limits and limits["minutes"]))
        if was_finished and not is_longer:  # restoring lost files needs no more than the run has
            settings = old.model_copy(update={"minutes": 0.0})
        lost = run.lost()
        retries = retry_failed and any(row.metrics is None for row in run.ledger.evaluations())
        finished = was_finished and not lost and not is_longer and not retries
        run.check_same(
            config=config,
            fingerprint=fingerprint,
            environment=None if finished else environment,
            allow_different_machine=allow_different_machine,
        )
        if finished:
            output.note(f"{shown} is finished already; nothing was run")
        else:
            if is_longer:
                output.note(
                    f"extending {shown}, {_limits(old)} until now: {_limits(settings)}; nothing is trained again"
                )
            elif lost or run.ledger.evaluations():
                output.note(f"restoring {', '.join(lost)} of {shown}" if lost else f"going on with {shown}")
            check_room(path, config, problem)
            executor = executor_for(config.run, device=problem.device_type)
            say = partial(output.note, style="yellow")
            with (
                run.logged(), observers_of(run, config.run, say=say) as observers, stop_on_signal(output) as stop,
                search_progress(output) as show,
            ):  # fmt: skip

                def progress(now: engine.Progress) -> None:
                    show(now)
                    observe(observers, now)

                engine.search(
                    problem, settings, run=run, executor=executor, chunk=config.run.chunk, progress=progress,
                    stop=stop_without_space(stop, path, config.run.min_free_gib), retry_failed=retry_failed,
                )  # fmt: skip
                observe_result(observers, path)
    _show(output, path, ended=True)


def _forecast(output: Output, config: RunConfig, start: Sequence[Mapping[str, Any]]) -> None:
    """The predicted front and cost of a search, which is not begun."""
    from evorec.cli.progress import duration
    from evorec.problem import load_problem
    from evorec.search.forecast import forecast
    from evorec.search.memory.library import gathered
    from evorec.search.memory.prior import with_start

    problem = load_problem(config)
    config = with_start(config, start, problem.space)
    output.note("a calibration run of a few steps")
    rows = gathered(config.search.memory, Path(config.run.output))
    workers = config.run.n_workers(problem.device_type)
    found = forecast(problem, config.search, rows, workers=workers)
    columns = tuple(Column(f"{o.name} {'↑' if o.direction == 'max' else '↓'}") for o in problem.objectives)
    members = tuple(
        Row(f"predicted {number}", tuple(_interval(*values) for values in m.values.values()))
        for number, m in enumerate(found.members, start=1)
    )
    title = "Predicted front, 10th to 90th percentile in brackets" if members else "No memory knows this problem"
    lines = [f"memory: {found.n_rows} rows of {len(found.worlds)} searches"]
    if found.first_generation:
        low, middle, high = found.first_generation
        lines.append(f"hypervolume after the first generation: {middle:.4f} [{low:.4f}, {high:.4f}]")
    lines += [
        f"evaluations: {found.n_evaluations}",
        f"time: about {duration(found.seconds)} with {workers} worker{'s' * (workers != 1)}",
        f"memory of the machine: about {found.memory_bytes / 2**30:.1f} GiB",
        f"training: {found.flops:.3g} FLOPs",
        f"energy: about {found.watt_hours:.2g} Wh, if a busy core takes 10 W",
    ]
    output.result(asdict(found), Table(title, "genome", columns, members), text="\n".join(lines))


def _interval(low: float, middle: float, high: float) -> str:
    """A prediction with its interval, if it has any."""
    return show_metric(middle) + (f" [{show_metric(low)}, {show_metric(high)}]" if high > low else "")


def _limits(search: SearchConfig) -> str:
    """The limits of a search in words."""
    from evorec.config.search import MOST_GENERATIONS

    limits = [f"{search.generations} generations"] if search.generations < MOST_GENERATIONS else []
    limits += [f"{search.evaluations} evaluations"] if search.evaluations else []
    limits += [f"{search.flops:.3g} FLOPs of training"] if search.flops else []
    limits += [f"an expected gain below {100 * search.gain:g} %"] if search.gain else []
    limits += [f"{search.minutes:g} more minutes"] if search.minutes else []
    return " or ".join(limits) or "no limit"


@command(
    panel=SEARCH,
    order=30,
    examples=(
        "evorec front runs/feed-0123456789ab --sort cost --most 8",
        "evorec front friday --pick knee --pick 'recall where cost <= 2.5e9'",
        "evorec front runs/feed-0123456789ab --format json > front.json",
    ),
)
def front(
    output: Output,
    run: Run,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Column to sort by, best first.")] = None,
    most: Annotated[
        int | None,
        typer.Option(
            min=1, help="Show at most so many members, which cover the front; the best of each objective stays."
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICK",
            autocompletion=complete_pick,
            help="Show a chosen member with its exchange rates: best:METRIC, cheapest, knee, ideal, 'weights "
            "accuracy=2 cost=1', bands:3, each with limits, e.g. 'recall where cost<=5e9, diversity>=.7'; repeatable.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Follow each pick for groups of users, too: by a column of the table of users, or activity.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the front of a run with the baselines in it, or members that are picked from it."""
    if groups and not pick:
        raise ConfigError(f"--groups {groups} needs a pick, e.g. --pick 'recall where cost <= 5e9'.")
    if not pick:
        _show(output, run, sort, most)
    elif sort or most:
        raise ConfigError("--pick shows the picked members only; leave --sort and --most out.")
    elif groups:
        _show_group_picks(output, run, pick, groups)
    else:
        _show_picks(output, run, pick)


def _show_picks(output: Output, path: Path, texts: list[str]) -> None:
    """Picked members, with their exchange rates and the gaps of the front."""
    from evorec.archive.decide import choices
    from evorec.config import RecommenderConfig
    from evorec.report.pick_tables import pick_tables
    from evorec.report.record import read_record

    record = read_record(path)
    claimed, members = {member.key: member.metrics for member in record.members}, record.eligible
    found = choices(
        texts, members, record.objectives, record.config.k, baselines=record.baselines, keys=True, also=claimed
    )
    members |= {choice.member: claimed[choice.member] for choice in found if choice.member not in members}
    value, tables = pick_tables(found, members, record.objectives, record.columns)
    output.result({"run": str(path), "state": record.state, **value}, *tables)
    if isinstance(record.config, RecommenderConfig):
        output.next_step("evorec", "explain", record.shown, found[0].member)
        picks = [word for text in texts for word in ("--pick", text)]
        output.next_step("evorec", "finalize", record.shown, *picks, label="measure on the test, once")


def _show_group_picks(output: Output, path: Path, texts: list[str], column: str) -> None:
    """Members that are picked for groups of users, by validation figures of all users."""
    from evorec.archive.decide import choices
    from evorec.cli.ship import build_rec_problem
    from evorec.deploy.final.groups import measure_groups
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    record = read_record(path)
    with RunDirectory.open(path, read_only=True) as run:
        output.note(f"measuring {len(record.members)} members on all validation users")
        measured = measure_groups(run, build_rec_problem(run.config), column)
    columns, value = record.columns, []
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for found in measured:
        for choice in choices(
            texts, found.members, record.objectives, record.config.k, baselines=found.baselines, keys=True
        ):
            own = found.members[choice.member]
            values = (own.get(column.key) for column in columns)
            rows.setdefault(choice.pick, []).append((choice.member, found.group, found.n_users, *values))
            one = {"group": found.group, "users": found.n_users, "pick": choice.pick, "member": choice.member}
            value.append(one | {"metrics": dict(own)})
    headings: tuple[str | Column, ...] = ("member", Column("group"), Column("users", numbers="count"), *columns)
    tables = [Table.of(f"{text}, by group on validation data", headings, part, "member") for text, part in rows.items()]
    text = "Metrics with a value per user are means over the group, all others are those of all users."
    output.result({"run": str(path), "picks": value}, *tables, text=output.wrapped(text))


def _show(output: Output, path: Path, sort: str | None = None, most: int | None = None, *, ended: bool = False) -> None:
    """The front and a verdict; at the end of a search shortened, with the causes of failures."""
    from evorec.config import RecommenderConfig
    from evorec.energy import kwh
    from evorec.report.record import read_record
    from evorec.report.run_tables import (
        confirmed_table,
        dropped_text,
        energy_of,
        energy_text,
        failure_table,
        front_table,
        inheritance_table,
        verdict,
        with_energy,
    )

    record = read_record(path, check=not ended)
    if text := dropped_text(record):
        output.note(f"of {len(record.evaluations)} evaluations {text}")
    for row in failure_table(record).rows if ended else ():
        output.note(f"{row.values[0]} of {len(record.evaluations)} evaluations failed: {row.name}", style="yellow")
    table, text = front_table(record, sort, most), verdict(record)
    value: dict[str, Any] = {"run": str(path), "state": record.state, "verdict": text, "front": table.as_json()}
    value |= {"confirmed": record.confirmed.as_json()} if record.confirmed else {}
    value |= {"machines": list(record.machines)} if record.machines else {}
    value |= {"name": record.name} if record.name else {}
    if about_energy := energy_text(record):
        used = {member.key: kwh(record.energy.get(member.key, {})) for member in record.members}
        value["energy"] = {"kwh": kwh(energy_of(record)), "text": about_energy, "members": used}
        output.note(f"energy: {about_energy}")
    short = front_table(record, sort, max(MEMBERS_SHOWN, len(record.objectives))) if ended else table
    tables = [with_energy(record, short)]
    if record.inherited:
        tables.append(inheritance_table(record))
        value |= {"inheritance": tables[-1].as_json()}
    if not ended and (confirmed := confirmed_table(record, short)) is not None:
        tables.append(confirmed)
    output.result(value, *tables, text=output.wrapped(text))
    path = record.shown
    if len(short.rows) < len(table.rows):
        output.next_step("evorec", "front", path, label="all members")
    if ended:
        output.next_step("evorec", "report", path)
    if record.members and isinstance(record.config, RecommenderConfig):
        output.next_step("evorec", *(("finalize", path) if ended else ("export", path, table.rows[0].name)))
