"""Tables and the figure of the importance of genes, and the rules of the front in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from evorec.errors import ConfigError, DataError, guess
from evorec.report.figures import LAYOUT
from evorec.report.record import RunRecord
from evorec.report.table import Column, Row, Table, counted
from evorec.search.front_rules import FrontRules, front_rules
from evorec.search.gene_importance import GeneImportance, gene_importance

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SMALL: Final = 0.05
"""Genes with a smaller share of every objective are left out of short tables."""
MOST_BARS: Final = 12
"""Genes of the figure."""


def run_genes(record: RunRecord, names: Sequence[str] = ()) -> tuple[list[GeneImportance], FrontRules]:
    """Importance of genes for the objectives of a run, and what its front has in common.

    Genomes that failed or were dropped at a rung have no part in either.

    Args:
        record: the run.
        names: of objectives; by default all.
    Raises:
        ConfigError: the run has no such objective.
        DataError: it has too few evaluations.
    """
    known = {name: objective for objective in record.objectives for name in (objective.metric, objective.name)}
    for name in names:
        if name not in known and record.resolve(name) not in known:
            raise ConfigError(
                f"{name!r} is not an objective of {record.shown}{guess(name, [o.name for o in record.objectives])}"
            )
    chosen = [known[name if name in known else record.resolve(name)] for name in names] or record.objectives
    rows = [(e.key, e.spec, e.metrics) for e in record.evaluations if e.metrics is not None and not e.dropped]
    if not rows:
        raise DataError(f"{record.shown} has no evaluation that succeeded and was trained to the end.")
    keys, specs, metrics = zip(*rows, strict=True)
    members = {member.key for member in record.members}
    importance = gene_importance(specs, metrics, tuple(dict.fromkeys(chosen)), seed=record.config.search.seed)
    return importance, front_rules(specs, [key in members for key in keys], seed=record.config.search.seed)


def importance_table(found: Sequence[GeneImportance], least: float = SMALL) -> Table:
    """Share of each objective's variance that depends on a gene, most important gene first.

    Args:
        found: importance for each objective; an objective without shares has no column.
        least: genes with a smaller share of every objective are left out.
    """
    shown = [own for own in found if own.shares]
    top = {name: max(own.shares[name] for own in shown) for name in (shown[0].shares if shown else ())}
    names = sorted((name for name in top if top[name] >= least), key=lambda name: -top[name])
    rows = tuple(Row(name, tuple(own.shares[name] for own in shown)) for name in names)
    columns = tuple(Column(own.objective, numbers="percent") for own in shown)
    return Table("Importance of genes", "gene", columns, rows)


def best_table(found: Sequence[GeneImportance]) -> Table:
    """The values of each important gene at which each objective is best on average; only where the gene matters."""
    shown = [own for own in found if own.shares]
    rows = (
        Row(row.name, tuple(own.best.get(row.name) if own.shares[row.name] >= SMALL else None for own in shown))
        for row in importance_table(found).rows
    )
    columns = tuple(Column(own.objective) for own in shown)
    return Table("Best values on average", "gene", columns, tuple(row for row in rows if any(row.values)))


def importance_notes(found: Sequence[GeneImportance], least: float = SMALL) -> list[str]:
    """What the table of importance rests on, and what it leaves out."""
    notes = []
    trusted = [f"{own.objective} {'exact' if own.exact else f'{own.skill:.2f}'}" for own in found if own.shares]
    if trusted:
        n_rows = " to ".join(map(str, sorted({f(own.n_rows for own in found if own.shares) for f in (min, max)})))
        notes.append(
            f"Rank correlation of the model with measurements that it did not see: {', '.join(trusted)} "
            f"({n_rows} genomes)."
        )
        notes.append(
            "A share is that of the variance of the objective that depends on the gene. Genes that act together are "
            "counted for each of them, so a column may add up to more than 100 %."
        )
        (some, *_) = [own for own in found if own.shares]
        n_small = len(some.shares) - len(importance_table(found, least).rows)
        if n_small:
            notes.append(f"Left out: {counted(n_small, 'gene')} with less than {100 * least:.0f} % of every objective.")
    return notes + [f"{own.objective}: not shown, because {own.reason}." for own in found if own.reason]


def front_notes(found: FrontRules) -> list[str]:
    """The rules of the front in words, or why there are none."""
    if found.reason:
        return [f"No rule is shown: {found.reason}."]
    about = f"Of all {found.n} genomes, {found.n_front} are on the front. Balanced accuracy on unseen genomes: "
    return [*map(str, found.rules), f"{about}{found.skill:.2f} (guessing: 0.50)."]


def importance_figure(found: Sequence[GeneImportance]) -> Figure:
    """Bars of the most important genes, one colour per objective."""
    from plotly import graph_objects as go

    table = importance_table(found)
    rows = table.rows[:MOST_BARS][::-1]  # plotly draws the first bar at the bottom
    figure = go.Figure()
    for index, column in reversed(list(enumerate(table.columns))):
        figure.add_bar(
            orientation="h",
            name=column.key,
            y=[row.name for row in rows],
            x=[row.values[index] for row in rows],
            hovertemplate="%{y}: %{x:.0%} of the variance of " + column.key.replace("%", "") + "<extra></extra>",
        )
    figure.update_xaxes(title_text="share of the variance", tickformat=".0%", rangemode="tozero")
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "reversed"}
    return figure.update_layout(**LAYOUT, height=140 + 44 * len(rows), legend=legend, barmode="group")
