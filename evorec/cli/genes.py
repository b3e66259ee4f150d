"""Commands about genes: `genes` for a run, `memory genes` for a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evorec.cli.app import SEARCH, Run, command
from evorec.cli.output import Output
from evorec.errors import ConfigError, guess
from evorec.report.table import Row, Table

if TYPE_CHECKING:
    from evorec.search.front_rules import FrontRules
    from evorec.search.gene_importance import GeneImportance

Objectives = Annotated[
    list[str] | None, typer.Option("--objective", metavar="NAME", help="Analyse this objective; repeatable.")
]


@command(
    panel=SEARCH,
    order=35,
    examples=(
        "evorec genes runs/feed-0123456789ab",
        "evorec genes runs/feed-0123456789ab --objective recall",
    ),
)
def genes(output: Output, run: Run, objective: Objectives = None) -> None:
    """Show which genes drive which objective of a run, and what the genomes of its front have in common.

    The importance of a gene is the share of an objective's variance that depends on it, by the surrogate of all
    genomes that were trained to the end. An objective that the surrogate predicts badly is not shown; the reason is.
    Nothing is trained or written.
    """
    from evorec.report.gene_tables import run_genes
    from evorec.report.record import read_record

    importance, front = run_genes(read_record(run), objective or ())
    _show(output, importance, front)


@command(
    panel=SEARCH,
    order=53,
    name="memory genes",
    examples=(
        "evorec memory genes",
        "evorec memory genes --problem feed --objective accuracy",
    ),
)
def memory_genes(
    output: Output,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", metavar="NAME", help="Analyse this metric; repeatable.")
    ] = None,
    problem: Annotated[
        list[str] | None, typer.Option("--problem", "-p", metavar="NAME", help="Rows of this problem; repeatable.")
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Folder with run directories.")] = Path("runs"),
) -> None:
    """Show which genes drive which objective in all earlier searches: those shipped with evorec and of a folder.

    Objectives are standardised in each world. The model is judged on worlds that it did not see.
    """
    from evorec.search.memory.genes import memory_genes as analysed
    from evorec.search.memory.library import gathered
    from evorec.search.memory.table import Memory

    memory = gathered("auto", runs)
    known = memory.frame["problem"].unique().sort().to_list()
    if unknown := [name for name in problem or () if name not in known]:
        raise ConfigError(f"the memory has no rows of problem {unknown[0]!r}{guess(unknown[0], known)}")
    if problem:
        memory = Memory(memory.frame.filter(memory.frame["problem"].is_in(problem)))
    importance, front = analysed(memory, objective or ())
    _show(output, importance, front)


def _show(output: Output, importance: Sequence[GeneImportance], front: FrontRules) -> None:
    from evorec.report.gene_tables import SMALL, best_table, front_notes, importance_notes, importance_table

    least = 0.0 if output.verbosity > 0 else SMALL
    table = importance_table(importance, least)
    tables = [table, replace(best := best_table(importance), title=f"\n{best.title}")] if table.columns else []
    tables.append(_lines("", importance_notes(importance, least)))
    tables.append(_lines("\nWhat the genomes of the front have in common", front_notes(front)))
    output.result({"importance": [asdict(own) for own in importance], "front": asdict(front)}, *tables)


def _lines(title: str, texts: Sequence[str]) -> Table:
    return Table(title, "", (), tuple(Row(f"• {text}", ()) for text in texts))
