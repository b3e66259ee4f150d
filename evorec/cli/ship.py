"""Commands that turn a front into something that runs elsewhere: finalize, export, recommend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SHIP, Overrides, Run, app
from evorec.cli.output import Output, command
from evorec.cli.problems import build_problem, reset
from evorec.config import RunConfig
from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.rec_problem import RecProblem
    from evorec.report.record import RunRecord


@command(app, rich_help_panel=SHIP)
def finalize(output: Output, run: Run, overrides: Overrides = None) -> None:
    """Choose members, train them again with fresh seeds, and open the test once.

    Picks and seeds come from finalize.* and can be set anew, e.g. --set 'finalize.picks=["knee", "accuracy"]'.
    """
    from evorec.deploy.finalize import finalize as run_finalize
    from evorec.report.record import read_record
    from evorec.report.tables import final_tables
    from evorec.store import RunDirectory

    with RunDirectory.open(run) as opened:
        config = reset(opened.config, overrides or [], sections=("finalize", "run"))
        run_finalize(opened, build_rec_problem(config), config.finalize, progress=output.note)
    record = read_record(run)
    output.result(record.final, *final_tables(record))
    output.next_step(f"evorec report {run}", f"evorec export {run} MEMBER")


def build_rec_problem(config: RunConfig) -> RecProblem:
    """The problem of a run, which must be one that trains recommenders."""
    from evorec.rec_problem import RecProblem

    problem = build_problem(config)
    if not isinstance(problem, RecProblem):
        raise ConfigError(f"problem {config.problem!r} trains no recommender, so there is nothing to ship.")
    return problem


@command(app, rich_help_panel=SHIP)
def export(
    output: Output,
    run: Run,
    member: Annotated[
        str, typer.Argument(help="Its key or the start of it, or a pick: knee, accuracy, 'auc/click where ...'.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default bundles/MEMBER.", show_default=False)
    ] = None,
) -> None:
    """Write the bundle of one member: weights, ids, metrics and a model card."""
    from evorec.deploy.bundle import export_bundle
    from evorec.report.record import read_record
    from evorec.store import RunDirectory

    key = find_member(read_record(run), member)
    target = out or Path("bundles") / key
    with RunDirectory.open(run, read_only=True) as opened:
        output.note(f"reading the data of {opened.config.problem}", level=1)
        export_bundle(opened, build_rec_problem(opened.config), key, target)
    output.result({"member": key, "bundle": str(target)}, text=str(target))
    output.next_step(f"evorec recommend {target} --user ID")


def find_member(record: RunRecord, text: str) -> str:
    """The member that a person means.

    A pick that was finalized means the member it chose then, on all validation users; the search saw a sample.

    Args:
        record: the run.
        text: a key, the unambiguous start of one, or a pick (`evorec.archive.decide.pick`).
    Raises:
        ConfigError: no member or several begin so, and it is no pick either.
    """
    from evorec.archive.decide import pick

    members = {member.key: member.metrics for member in record.members}
    begun = [key for key in members if key.startswith(text)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise ConfigError(f"{text!r} begins {len(begun)} members: {', '.join(begun)}; write more of it.")
    finalized = {entry["pick"]: str(entry["member"]) for entry in (record.final or {}).get("picks", ())}
    if text in finalized:
        return finalized[text]
    try:
        return pick(text, members, record.objectives, record.config.evaluation.k)
    except ConfigError as error:
        known = ", ".join(members) or "none"
        raise ConfigError(f"{text!r} is no member (there are {known}) and no pick: {error}") from None


@command(app, rich_help_panel=SHIP)
def recommend(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle, as `evorec export` wrote it.", show_default=False)],
    user: Annotated[list[str], typer.Option(metavar="ID", help="User to recommend to; repeatable.")],
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="Length of each list; default as measured.")] = None,
) -> None:
    """Recommend items to users from a bundle."""
    from evorec.deploy.bundle import load_bundle
    from evorec.report.tables import Column, Row, Table

    recommender = load_bundle(bundle)
    for name in user:
        if not recommender.knows(name):
            output.note(f"user {name} was not in training and gets the list of an unknown user", style="yellow")
    best = dict(zip(user, recommender.recommend(user, k=k), strict=True))
    tables = [
        Table(f"User {name}", "rank", (Column("item"), Column("score")), tuple(
            Row(str(rank), pair) for rank, pair in enumerate(pairs, start=1)
        ))
        for name, pairs in best.items()
    ]  # fmt: skip
    value = {name: [{"item": item, "score": score} for item, score in pairs] for name, pairs in best.items()}
    output.result(value, *tables)
