"""A self-contained HTML page from a run directory only: it opens from disk, offline, in any browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from evorec.errors import DataError
from evorec.report.ensemble_tables import ensemble_table, ensemble_text, held_table, weights_table
from evorec.report.figures import hypervolume_figure, parallel_figure, scatter_figure
from evorec.report.final_tables import final_notes, final_sections
from evorec.report.markup import bullets, document, drawing, facts, heading, section, table_html, tiles
from evorec.report.record import RunRecord
from evorec.report.run_tables import (
    baseline_notes,
    confirmed_table,
    dropped_table,
    dropped_text,
    energy_text,
    failure_table,
    front_table,
    gene_table,
    inheritance_table,
    settings_table,
    surrogate_table,
    verdict,
    with_energy,
)
from evorec.report.table import Table, show_metric


def page(record: RunRecord) -> str:
    """The whole page as text.

    Args:
        record: a run, finished or not.
    Returns:
        HTML with styles, scripts and figures inside; equal records give equal pages.
    """
    versions: dict[str, str] = {}
    for name, value in record.environment.items():
        versions |= {k: str(v) for k, v in (value if isinstance(value, Mapping) else {name: value}).items()}
    problem, run, dropped = record.config.problem_name, record.shown.name, dropped_text(record)
    state = f"Seed {record.config.search.seed}, {record.state}{f', {dropped}' if dropped else ''}."
    details = {
        "All settings": settings_table(record),
        "Versions and machine": Table.of("", ("library", "version"), versions.items()),
    }
    parts = [
        heading(problem, run, state),
        f'<section class="verdict"><p>{escape(verdict(record))}</p></section>',
        tiles(_numbers(record)),
        f"<section><h2>Search</h2>{facts(_search(record))}</section>",
        *_sections(record),
        *(
            f"<section><details><summary>{title}</summary>{table_html(table)}</details></section>"
            for title, table in details.items()
        ),
    ]
    return document(f"{problem} {run}", parts, footer=f"evorec {versions.get('evorec', '')}")


def _numbers(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield str(len(record.evaluations)), "genomes evaluated"
    if n_dropped := len(record.evaluations) - len(record.finished):
        yield str(n_dropped), "dropped at a rung"
    yield str(sum(row.failure is not None for row in record.evaluations)), "failed"
    yield str(len(record.members)), "members of the front"
    if record.hypervolume:
        yield f"{record.hypervolume[-1]:.3f}", "of the hypervolume box"
    front = front_table(record)
    for index, objective in enumerate(record.objectives):
        if (best := front.best(index)) is not None:
            yield show_metric(best), f"best {objective.name}"


def _search(record: RunRecord) -> dict[str, str]:
    better = {"max": "more is better", "min": "less is better"}
    objectives = ", ".join(f"{o.name} ({better[o.direction]})" for o in record.objectives)
    memory = {"Memory": record.memory} if record.memory else {}
    energy = {"Energy": text} if (text := energy_text(record)) else {}
    return (
        {"Objectives": objectives}
        | memory
        | energy
        | {name.capitalize(): text for name, text in record.config.facts().items()}
    )


def _sections(record: RunRecord) -> Iterator[str]:
    dropped, failures = dropped_table(record), failure_table(record)
    if record.members:
        about = (
            "Each member is a trained model that no other model dominates. Validation data; the baselines, "
            "shaded, were computed on the same rows. Bold is the best of the members. Click a heading to sort."
        )
        yield section("The front", about, table_html(with_energy(record, front_table(record))))
        if notes := baseline_notes(record):
            yield bullets("Baselines", notes)
        if record.inherited:
            about = (
                "The search measured these members with weights that they inherited from an earlier genome. They were "
                "then trained from scratch; the front shows, and an export has, those models."
            )
            yield section("Inherited weights", about, table_html(inheritance_table(record)))
        if (confirmed := confirmed_table(record, front_table(record))) is not None:
            about = (
                "The members were trained again from scratch with fresh seeds, on the same training and validation "
                "rows. These seeds chose nothing, so their means are not optimistic. Picks choose among the members "
                "that are still non-dominated."
            )
            yield section(confirmed.title, about, table_html(confirmed))
        if record.ensemble_goals:
            tables = [ensemble_table(record), weights_table(record)] if record.ensembles else []
            body = "".join(map(table_html, [*tables, held_table(record)]))
            about = (
                "Means of the task outputs and of the list scores of members, selected greedily on validation. The "
                "last table is the gain over the best member on users that did not select: each half of the users was "
                "measured with the selection of the other."
            )
            yield section("Ensembles", f"{about} {ensemble_text(record)}", body)
        about = (
            "A line per member; up is better on every axis, ends are labelled with their values. Diamonds are "
            "baselines."
        )
        yield section("Trade-offs", about, drawing(parallel_figure(record), "parallel"))
        about = "Every pair of objectives. A baseline appears where it has both metrics."
        if dropped.rows:
            about += " Genomes dropped at a rung are left out: they were measured after a part of the training."
        yield section("Pairs of objectives", about, drawing(scatter_figure(record), "scatter"))
        about = "The decoded genome of each member. A dash is a gene that is not active."
        yield section("Genes of the front", about, table_html(gene_table(record)))
    yield from _gene_sections(record)
    for table, about in final_sections(record):
        yield section(table.title, about, table_html(table))
    if notes := final_notes(record).splitlines():
        yield bullets("Missing from the test", notes)
    if record.hypervolume:
        about = "Share of a box that was fixed before the run; 1 would be ideal in every objective at once."
        yield section("Hypervolume per generation", about, drawing(hypervolume_figure(record), "hypervolume"))
    else:
        yield section("Progress", "No generation is complete yet.", "")
    if record.surrogate:
        about = (
            "Who chose the genomes of each generation: plain offspring, the model of own rows, or the model "
            "that starts from earlier searches; how well each ordered the measured values of the last two generations; "
            "and the hypervolume that was expected, with its 10th and 90th percentile."
        )
        yield section("Surrogate", about, table_html(surrogate_table(record)))
    if dropped.rows:
        about = (
            "The genomes of a generation are compared after some steps, and the worst are not trained further. A "
            "dropped genome never enters the archive, and the search algorithm never sees its values."
        )
        yield section("Dropped", about, table_html(dropped))
    about = "A failed genome never enters the archive. Numbers in the causes read #."
    yield section("Failures", *((about, table_html(failures)) if failures.rows else ("No evaluation failed.", "")))


def _gene_sections(record: RunRecord) -> Iterator[str]:
    """Which genes drive which objective, as far as the run has enough genomes to say so."""
    from evorec.report.gene_tables import (  # the surrogate needs a part of scipy, which no other section does
        best_table,
        front_notes,
        importance_figure,
        importance_notes,
        importance_table,
        run_genes,
    )

    try:
        importance, front = run_genes(record)
    except DataError as error:
        yield section("What matters", f"Nothing can be said: {error}", "")
        return
    table = importance_table(importance)
    if table.rows:
        about = (
            "How much of each objective depends on a gene, by itself or together with others, when all genes vary "
            "independently over the values that the search tried, by the surrogate. "
        )
        body = drawing(importance_figure(importance), "genes") + table_html(table)
        yield section("What matters", about + " ".join(importance_notes(importance)), body)
        about = (
            "The quarter of the values, or the option, with the best mean of an objective, for genes that matter to it."
        )
        yield section("Best values on average", about, table_html(best_table(importance)))
    else:
        yield section("What matters", " ".join(importance_notes(importance)), "")
    yield bullets("What the genomes of the front have in common", front_notes(front))
