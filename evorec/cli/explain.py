"""The command that explains one member of a front."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SHIP, Member, Run, command
from evorec.cli.output import Output
from evorec.cli.ship import build_rec_problem, find_member
from evorec.report.table import MISSING, Column, Row, Table

if TYPE_CHECKING:
    from evorec.deploy.explanation.explain import Explanation
    from evorec.deploy.explanation.importance import Importance
    from evorec.report.record import RunRecord

MOST_SHOWN = 20
"""Used blocks of the input that are shown without -v; unused blocks are always shown."""
CHANCE = 0.5
"""AUC and concordance of a random model; its recall is about 0."""


@command(
    panel=SHIP,
    order=20,
    examples=(
        "evorec explain runs/feed-0123456789ab knee",
        "evorec explain friday 'recall where cost <= 2.5e9' --format json",
    ),
)
def explain(
    output: Output,
    run: Run,
    member: Member,
    repeats: Annotated[int, typer.Option(min=1, help="Permutations of each block of the input.")] = 5,
) -> None:
    """Explain one member: its settings, its neighbours on the front, its experts, and the importance of its inputs.

    Metrics are those of validation, with the weights of the search. Nothing is written.
    """
    from evorec.deploy.explanation.explain import explain as run_explain
    from evorec.report.record import read_record
    from evorec.run.directory import RunDirectory

    record = read_record(run)
    key = find_member(record, member)
    with RunDirectory.open(run, read_only=True) as opened:
        output.note(f"reading the data of {opened.config.problem_name}")
        problem = build_rec_problem(opened.config)
        found = run_explain(opened, problem, key, repeats=repeats, seed=problem.seed, progress=output.note)
    n_shown = len(found.importance) if output.verbosity > 0 else MOST_SHOWN
    tables = [_lines(f"Member {found.member}", *(f"• {text}" for text in found.words))]
    tables += [*_neighbour_tables(found, record), *_use_tables(found), *_importance_tables(found, n_shown)]
    output.result(asdict(found), *tables)
    output.next_step("evorec", "export", run, key)


def _lines(title: str, *texts: str) -> Table:
    return Table(title, "", (), tuple(Row(text, ()) for text in texts))


def _neighbour_tables(found: Explanation, record: RunRecord) -> list[Table]:
    if not found.neighbours:
        return [_lines("\nNeighbours on the front", "There is no other member.")]
    columns = record.columns[: len(record.objectives)]
    own = next(member.metrics for member in record.members if member.key == found.member)
    rows = [Row(found.member, ("", *(own[column.key] for column in columns)), "member")]
    for near in found.neighbours:
        values = (near.trades[column.title].its for column in columns)
        rows.append(Row(near.key, (f"{near.distance:.2f}", *values), "member"))
    figures = Table("\nNearest on the front", "member", (Column("distance"), *columns), tuple(rows))
    return [figures, _lines("", *(f"• {near.text}" for near in found.neighbours))]


def _use_tables(found: Explanation) -> list[Table]:
    """Sharing of layers in a sentence, then a table of shares for each level with mixtures."""
    tables = [_lines("\nHow its tasks share", found.layers)]
    for level in sorted({use.level for use in found.uses}):
        uses = [use for use in found.uses if use.level == level]
        sources = dict.fromkeys(source for use in uses for source in use.shares)
        rows = []
        for use in uses:
            shares = (use.shares[source].mean if source in use.shares else None for source in sources)
            rows.append(Row(use.reader, (*shares, f"{use.entropy:.2f}")))
        title = (
            f"\nShares of each source after layer {level}, mean over {found.n_rows:,} validation rows"
            " (evenness: 0 = a single source, 1 = equal shares)"
        )
        columns = (*(Column(source, numbers="share") for source in sources), Column("entropy", title="evenness"))
        tables.append(Table(title, "reader", columns, tuple(rows)))
    return tables


def _importance_tables(found: Explanation, n_shown: int) -> list[Table]:
    """The blocks by their largest loss, as a share of the member's metric above chance."""
    above = {name: value - (CHANCE if "/" in name else 0.0) for name, value in found.values.items()}

    def worth(block: Importance) -> float:
        return max((drop.mean / above[name] for name, drop in block.drops.items() if above[name] > 0), default=0.0)

    def lost(block: Importance, metric: str) -> str:
        if metric not in block.drops:
            return MISSING
        drop = block.drops[metric]
        return f"{1000 * drop.mean:.1f}±{1000 * drop.sd:.1f}" if block.used else "0 (off)"

    times = "1 permutation" if found.repeats == 1 else f"{found.repeats} permutations"
    title = (
        f"\nLoss in thousandths when a block of the input is permuted: mean ± sd of {times},"
        f" {found.n_rows:,} validation rows{f', lists of {found.n_users:,} users' if found.n_users else ''}"
    )
    order = sorted((block for block in found.importance if block.used), key=lambda block: -worth(block))
    off = [block for block in found.importance if not block.used]
    rows = [Row("(not permuted)", tuple(f"{value:.4f}" for value in found.values.values()))]
    shown = (*order[:n_shown], *off)
    rows += [Row(f"{block.side}: {block.block}", tuple(lost(block, name) for name in found.values)) for block in shown]
    notes = ["Correlated blocks replace each other: each then looks less important than both are together."]
    if len(order) > n_shown:
        notes.append(f"{len(order) - n_shown} more blocks are less important; -v shows them.")
    table = Table(title, "block", tuple(Column(name) for name in found.values), tuple(rows))
    return [table, _lines("", *notes)]
