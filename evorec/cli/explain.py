"""The command that explains one member of a front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SHIP, Run, command
from evorec.cli.output import Output
from evorec.cli.ship import build_rec_problem, find_member
from evorec.report.table import MISSING, Column, Row, Table

if TYPE_CHECKING:
    from evorec.deploy.explaining.explain import Explanation, Use
    from evorec.deploy.explaining.importance import Importance
    from evorec.report.record import RunRecord

MOST_SHOWN = 20
"""Blocks of the input that are shown without -v, those that are off besides."""
CHANCE = 0.5
"""AUC and concordance of a model that knows nothing; the recall of one is about 0."""


@command(panel=SHIP, order=20)
def explain(
    output: Output,
    run: Run,
    member: Annotated[
        str, typer.Argument(help="Its key or the start of it, or a pick: knee, accuracy, 'auc/click where ...'.")
    ],
    repeats: Annotated[int, typer.Option(min=1, help="Permutations of each block of the input.")] = 5,
) -> None:
    """Explain one member: its settings in words, its neighbours, its experts, and what its inputs are worth.

    It is measured on validation, with the weights of the search. Nothing is written.
    """
    from evorec.deploy.explaining.explain import explain as run_explain
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    record = read_record(run)
    key = find_member(record, member)
    with RunDirectory.open(run, read_only=True) as opened:
        output.note(f"reading the data of {opened.config.problem_name}")
        problem = build_rec_problem(opened.config)
        found = run_explain(opened, problem, key, repeats=repeats, seed=problem.seed, progress=output.note)
    n_shown = len(found.importance) if output.verbosity > 0 else MOST_SHOWN
    output.result(found.as_json(), *_tables(found, record, n_shown))
    output.next_step(f"evorec export {run} {key}")


def _tables(found: Explanation, record: RunRecord, n_shown: int) -> list[Table]:
    words = Table(f"Member {found.member}", "", (), tuple(Row(f"• {text}", ()) for text in found.words))
    return [words, *_neighbour_tables(found, record), *_use_tables(found), *_importance_tables(found, n_shown)]


def _neighbour_tables(found: Explanation, record: RunRecord) -> list[Table]:
    """What the nearest members of the front trade, in figures and in words."""
    if not found.neighbours:
        return [Table("\nNeighbours on the front", "", (), (Row("There is no other member.", ()),))]
    axes = record.axes
    own = next(one.metrics for one in record.members if one.key == found.member)
    rows = [Row(found.member, ("", *(own[axis.key] for axis in axes)), "member")]
    for near in found.neighbours:
        trades = near.neighbour.trades
        its = (trades[axis.title].its for axis in axes)
        rows.append(Row(near.neighbour.key, (f"{near.neighbour.distance:.2f}", *its), "member"))
    columns = [Column(axis.key, axis.unit, axis.direction, axis.title) for axis in axes]
    figures = Table("\nNearest on the front", "member", (Column("distance"), *columns), tuple(rows))
    return [figures, Table("", "", (), tuple(Row(f"• {near.words}", ()) for near in found.neighbours))]


def _use_tables(found: Explanation) -> list[Table]:
    """How tasks share: the layers in a sentence, then a table per level of mixtures."""
    levels = sorted({use.level for use in found.uses})
    tables = [Table("\nHow its tasks share", "", (), (Row(found.layers, ()),))]
    for level in levels:
        uses = [use for use in found.uses if use.level == level]
        title = (
            f"\nWho takes how much of what after layer {level}, mean over {found.n_rows:,} validation rows"
            " (evenness: 0 = one source alone, 1 = all alike)"
        )
        tables.append(_use_table(title, uses))
    return tables


def _use_table(title: str, uses: Sequence[Use]) -> Table:
    sources = dict.fromkeys(source for use in uses for source in use.shares)
    rows = tuple(
        Row(
            use.reader,
            (
                *(use.shares[source].mean if source in use.shares else None for source in sources),
                f"{use.entropy:.2f}",
            ),
        )
        for use in uses
    )
    shares = tuple(Column(source, numbers="share") for source in sources)
    entropy = Column("entropy", title="evenness")
    return Table(title, "reader", (*shares, entropy), rows)


def _importance_tables(found: Explanation, n_shown: int) -> list[Table]:
    """The blocks by what they are worth, as a share of what the member has above chance."""
    times = "1 permutation" if found.repeats == 1 else f"{found.repeats} permutations"
    title = (
        f"\nWhat is lost, in thousandths, when a block of the input belongs to somebody else: mean ± sd of {times},"
        f" {found.n_rows:,} validation rows, lists of {found.n_users:,} users"
    )
    order = sorted((one for one in found.importance if one.used), key=lambda one: -_worth(one, found))
    off = [one for one in found.importance if not one.used]
    rows = [Row("(as it is)", tuple(f"{value:.4f}" for value in found.values.values()))]
    shown = (*order[:n_shown], *off)
    rows += [Row(f"{one.side}: {one.block}", tuple(_lost(one, name) for name in found.values)) for one in shown]
    notes = ["Blocks that say the same stand in for each other: each then looks less important than both are."]
    if len(order) > n_shown:
        notes.append(f"{len(order) - n_shown} more blocks are worth less than these; -v shows them.")
    table = Table(title, "block", tuple(Column(name) for name in found.values), tuple(rows))
    return [table, Table("", "", (), tuple(Row(note, ()) for note in notes))]


def _worth(one: Importance, found: Explanation) -> float:
    """Largest share of a metric, above chance, that the block is worth."""
    above = {name: value - (CHANCE if "/" in name else 0.0) for name, value in found.values.items()}
    return max((drop.mean / above[name] for name, drop in one.drops.items() if above[name] > 0), default=0.0)


def _lost(one: Importance, metric: str) -> str:
    """A drop in words of a table."""
    if metric not in one.drops:
        return MISSING
    if not one.used:
        return "0 (off)"
    drop = one.drops[metric]
    return f"{1000 * drop.mean:.1f}±{1000 * drop.sd:.1f}"
