"""A self-contained HTML page from a run directory only: it opens from disk, offline, in any browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evorec.report.figures import hypervolume_figure, parallel_figure, scatter_figure
from evorec.report.final_tables import final_notes, final_sections
from evorec.report.markup import bullets, document, drawing, facts, heading, section, table_html, tiles, verdict_box
from evorec.report.record import RunRecord
from evorec.report.run_tables import (
    dropped_table,
    dropped_text,
    failure_table,
    front_table,
    gene_table,
    settings_table,
    verdict,
)
from evorec.report.table import Column, Row, Table, show, show_metric


def page(record: RunRecord) -> str:
    """The whole page as text.

    Args:
        record: a run, finished or not.
    Returns:
        HTML with styles, scripts and figures inside; equal records give equal pages.
    """
    config = record.config
    parts = [
        heading(config.problem_name, record.path.name, _state(record)),
        verdict_box(verdict(record)),
        _tiles(record),
        _searched(record),
        *_front(record),
        *_final(record),
        _progress(record),
        *_dropped(record),
        _failures(record),
        _details(record),
    ]
    footer = f"evorec {_versions(record).get('evorec', '')}"
    return document(f"{config.problem_name} {record.path.name}", parts, footer=footer)


def _state(record: RunRecord) -> str:
    dropped = f", {text}" if (text := dropped_text(record)) else ""
    return f"Seed {record.config.search.seed}, {record.state}{dropped}."


def _tiles(record: RunRecord) -> str:
    n_failed = sum(row.failure is not None for row in record.evaluations)
    n_dropped = len(record.evaluations) - len(record.finished)
    pairs: list[tuple[str, str]] = [
        (show(len(record.evaluations)), "genomes evaluated"),
        *([(show(n_dropped), "dropped at a rung")] if n_dropped else []),
        (show(n_failed), "failed"),
        (show(len(record.members)), "members of the front"),
    ]
    if record.hypervolume:
        pairs.append((f"{record.hypervolume[-1]:.3f}", "of the hypervolume box"))
    pairs += [
        (show_metric(best), f"best {measure.title}")
        for measure in record.axes
        if (best := record.best(measure)) is not None
    ]
    return tiles(pairs)


def _searched(record: RunRecord) -> str:
    known = {
        "Objectives": ", ".join(
            f"{m.title} ({'more' if m.direction == 'max' else 'less'} is better)" for m in record.axes
        ),
        **{name.capitalize(): text for name, text in record.config.facts().items()},
    }
    return f"<section><h2>Search</h2>{facts(known)}</section>"


def _front(record: RunRecord) -> Iterable[str]:
    if not record.members:
        return
    about = (
        "Each member is a trained model that no other model dominates. Validation data; the baselines, "
        "shaded, were computed on the same rows. Bold is the best of the members. Click a heading to sort."
    )
    yield section("The front", about, table_html(front_table(record)))
    about = (
        "A line per member; up is better on every axis, ends are labelled with their values. Diamonds are baselines."
    )
    yield section("Trade-offs", about, drawing(parallel_figure(record), "parallel"))
    about = "Every pair of objectives. A baseline appears where it has both metrics."
    if dropped_table(record).rows:
        about += " Genomes dropped at a rung are left out: they were measured after a part of the training."
    yield section("Pairs of objectives", about, drawing(scatter_figure(record), "scatter"))
    about = "The decoded genome of each member. A dash is a gene that is not active."
    yield section("Genes of the front", about, table_html(gene_table(record)))


def _final(record: RunRecord) -> Iterable[str]:
    for table, about in final_sections(record):
        yield section(table.title, about, table_html(table))
    if notes := final_notes(record).splitlines():
        yield bullets("Missing from the test", notes)


def _progress(record: RunRecord) -> str:
    if not record.hypervolume:
        return section("Progress", "No generation is complete yet.", "")
    about = "Share of a box that was fixed before the run; 1 would be ideal in every objective at once."
    return section("Hypervolume per generation", about, drawing(hypervolume_figure(record), "hypervolume"))


def _dropped(record: RunRecord) -> Iterable[str]:
    table = dropped_table(record)
    if table.rows:
        about = (
            "The genomes of a generation are compared after some steps, and the worst are not trained further. A "
            "dropped genome never enters the archive, and the search algorithm never sees its values."
        )
        yield section("Dropped", about, table_html(table))


def _failures(record: RunRecord) -> str:
    table = failure_table(record)
    if not table.rows:
        return section("Failures", "No evaluation failed.", "")
    return section(
        "Failures", "A failed genome never enters the archive. Numbers in the causes read #.", table_html(table)
    )


def _details(record: RunRecord) -> str:
    versions = Table(
        "", "library", (Column("version"),), tuple(Row(k, (str(v),)) for k, v in _versions(record).items())
    )
    return (
        f"<section><details><summary>All settings</summary>{table_html(settings_table(record))}</details></section>"
        f"<section><details><summary>Versions and machine</summary>{table_html(versions)}</details></section>"
    )


def _versions(record: RunRecord) -> dict[str, str]:
    """Versions and machine facts, flat."""
    flat: dict[str, str] = {}
    for name, value in record.environment.items():
        flat |= {k: str(v) for k, v in value.items()} if isinstance(value, Mapping) else {name: str(value)}
    return flat
