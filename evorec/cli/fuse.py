"""The command `fuse`: formulas that combine the task heads of members."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evorec.cli.app import SHIP, Overrides, Run, command
from evorec.cli.output import Output
from evorec.cli.ship import build_rec_problem, find_member
from evorec.report.table import Column, Row, Table


@command(
    panel=SHIP,
    order=30,
    examples=("evorec fuse runs/feed-0123456789ab knee",),
)
def fuse(
    output: Output,
    run: Run,
    members: Annotated[
        list[str], typer.Argument(metavar="MEMBER...", help="Keys or unique prefixes of them, or picks such as knee.")
    ],
    overrides: Overrides = None,
) -> None:
    """Evolve the formula that combines the task heads of members; nothing is trained.

    Formulas are fitted on half of the validation users and evaluated on the other half. Settings come from fuse.* and
    can be changed, e.g. --set fuse.generations=40.
    """
    from evorec.config import recommender_config, reset_config
    from evorec.deploy.fusion.fuse import fuse as run_fuse
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    keys = list(dict.fromkeys(find_member(read_record(run), text) for text in members))
    with RunDirectory.open(run) as opened:
        config = reset_config(recommender_config(opened.config), overrides or [], sections=("fuse", "run"))
        output.note(f"reading the data of {config.problem_name}", level=1)
        problem = build_rec_problem(config)
        found = [run_fuse(opened, problem, key, config.fuse, progress=output.note) for key in keys]
    output.result(found, *(table for report in found for table in _tables(report)))
    best = [(report["member"], report["formulas"][0]["id"]) for report in found]
    for key, name in best:
        output.next_step("evorec", "export", run, key, "--formula", name)


def _tables(report: dict[str, Any]) -> list[Table]:
    """Formulas and baselines of a member, on the half of the users that is not used for fitting."""
    from evorec.deploy.fusion.formula import Formula

    metrics = [one for one in report["objectives"] if one["metric"] != "size"]
    columns = [Column(one["metric"], direction=one["direction"]) for one in metrics]
    columns += [Column("mmr"), Column("size")]
    texts: list[Row] = []

    def row(name: str, one: dict[str, Any], kind: str) -> Row:
        text = Formula.parse(one["text"], report["tasks"]).short
        values = [one["validation"][metric["metric"]] for metric in metrics]
        texts.append(Row(name, (text,), kind))
        return Row(name, (*values, one["mmr"], one["size"]), kind)

    rows = [row(one["id"], one, "member") for one in report["formulas"]]
    rows.append(row("member", report["baselines"]["member"][0], "baseline"))
    first = metrics[0]["metric"] if metrics else "size"
    for name, some in report["baselines"].items():
        if name != "member" and metrics:
            rows.append(row(name, max(some, key=lambda one: one["validation"][first]), "baseline"))
    counts = report["halves"]
    few = "".join(f", {task} of {users[1]}" for task, users in counts["of_task"].items())
    title = (
        f"Formulas of {report['member']}, on {counts['validation']} users{few}; fitted on {counts['fitting']} others\n"
        f"(member = its own list score; of each baseline the formula with the best {first})"
    )
    shares = report["hypervolume"]
    own = shares["member"]["validation"]
    volumes = [
        Row(name, (one["validation"], one["validation"] / own if own else None), "" if name == "member" else "member")
        for name, one in shares.items()
    ]
    heading = f"\nHypervolume, {report['evaluations']} evaluations each"
    return [
        Table(title, "id", tuple(columns), tuple(rows)),
        Table("\nFormulas, constants to 3 digits", "id", (Column("formula"),), tuple(texts)),
        Table(heading, "front", (Column("share of the box", direction="max"), Column("times member")), tuple(volumes)),
    ]
