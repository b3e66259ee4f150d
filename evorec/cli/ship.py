"""Commands that turn a front into something that runs elsewhere: finalize, export, recommend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SHIP, Overrides, Run, app
from evorec.cli.output import Output, command
from evorec.config import load_config
from evorec.errors import ConfigError

if TYPE_CHECKING:
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

    _refuse_foreign(overrides or [], ("finalize.", "run."))
    with RunDirectory.open(run) as opened:
        stored = opened.config.model_dump(mode="json")
        config = load_config(defaults=stored, overrides=overrides or [])
        run_finalize(opened, config=config, progress=output.note)
    record = read_record(run)
    output.result(record.final, *final_tables(record))
    output.next_step(f"evorec report {run}", f"evorec export {run} MEMBER")


def _refuse_foreign(overrides: list[str], allowed: tuple[str, ...]) -> None:
    foreign = [text for text in overrides if not text.strip().startswith(allowed)]
    if foreign:
        known = " and ".join(f"{prefix}*" for prefix in allowed)
        raise ConfigError(f"only {known} can be set anew here, anything else is another run; got {', '.join(foreign)}.")


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
        export_bundle(opened, key, target)
    output.result({"member": key, "bundle": str(target)}, text=str(target))
    output.next_step(f"evorec recommend {target} --user ID")


def find_member(record: RunRecord, text: str) -> str:
    """The member that a person means.

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
    k: Annotated[int, typer.Option(min=1, help="Length of each list.")] = 10,
) -> None:
    """Recommend items to users from a bundle."""
    from evorec.deploy.bundle import load_bundle
    from evorec.report.tables import Column, Row, Table

    lists = load_bundle(bundle).recommend(user, k=k)
    best = {name: [(item, score) for item, score in one] for name, one in zip(user, lists, strict=True)}
    tables = [
        Table(f"User {name}", "rank", (Column("item"), Column("score")), tuple(
            Row(str(rank), pair) for rank, pair in enumerate(pairs, start=1)
        ))
        for name, pairs in best.items()
    ]  # fmt: skip
    value = {name: [{"item": item, "score": score} for item, score in pairs] for name, pairs in best.items()}
    output.result(value, *tables)
