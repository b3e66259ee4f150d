"""A self-contained HTML page from a run directory only: it opens from disk, offline, in any browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from evorec.archive.naming import MemberName
from evorec.errors import DataError
from evorec.report.ensemble_tables import ensemble_table, ensemble_text, held_table, weights_table
from evorec.report.final_tables import final_members, final_notes, final_sections
from evorec.report.markup import (
    bullets,
    document,
    drawing,
    facts,
    figure_box,
    heading,
    json_script,
    section,
    table_html,
    tiles,
)
from evorec.report.page_data import confirmed_data, early_data, explorer_data, memory_data, progress_data
from evorec.report.record import UNFINISHED, RunRecord
from evorec.report.run_tables import (
    baseline_notes,
    confirmed_table,
    dropped_text,
    energy_text,
    failure_table,
    front_table,
    gene_table,
    inheritance_table,
    settings_table,
    surrogate_table,
    verdict,
)
from evorec.report.table import Table, show_metric
from evorec.report.verdict import names_of, sentences


def page(record: RunRecord, *, live_s: float = 0.0) -> str:
    """The whole page as text.

    Args:
        record: a run, finished or not.
        live_s: seconds after which an open page loads itself again; 0 = never.
    Returns:
        HTML with styles, scripts and figures inside; equal records give equal pages.
    """
    problem, run, dropped = record.config.problem_name, record.shown.name, dropped_text(record)
    state = f"Seed {record.config.search.seed}, {record.state}{f', {dropped}' if dropped else ''}."
    if live_s:
        state += f" The search goes on; this page is written again every {live_s:g} s."
    names = names_of(record)
    lead = "".join(f"<p>{escape(text)}</p>" for text in sentences(record, names))
    notes = "".join(f'<p class="soft">{escape(text)}</p>' for text in verdict(record).split("\n\n"))
    parts = [
        heading(problem, run, state),
        f'<section class="verdict" aria-label="Verdict">{lead}{notes}</section>',
        tiles(_numbers(record)),
        *_sections(record, names, live_s),
    ]
    versions = _versions(record)
    return document(f"{problem} {run}", parts, footer=f"evorec {versions.get('evorec', '')}", live_s=live_s)


def explorer(data: Mapping[str, Any]) -> str:
    """The linked views of members, with limits, weights and the sheet of the chosen member.

    Args:
        data: of `evorec.report.page_data.explorer_data`.
    """
    space = ""
    if len(data["objectives"]) > 2:
        about = "Members and baselines in three objectives; the colour is a fourth"
        space = f"<h3>Three objectives</h3>{figure_box('space', about, has_axes=True)}"
    pairs = "Every pair of objectives: members, other evaluations and baselines"
    return (
        f"{json_script('explorer-data', data)}"
        '<div class="chips" id="chips"></div><div class="choose"><div class="views">'
        '<div class="controls" id="controls"></div>'
        '<h3>All objectives</h3><p class="soft">A line per member; up is better on every axis. Drag along an axis to '
        'keep a range. Orange diamonds are baselines.</p><div id="parallel"></div>'
        f"<h3>Pairs of objectives</h3>{figure_box('matrix', pairs)}{space}"
        '</div><details class="sheet" id="sheet" aria-label="The chosen member"></details></div>'
        '<div id="members"></div>'
    )


def _numbers(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield str(len(record.evaluations)), "genomes evaluated"
    if n_dropped := len(record.evaluations) - len(record.finished):
        yield str(n_dropped), "dropped at a rung"
    yield str(sum(row.failure is not None for row in record.evaluations)), "failed"
    yield str(len(record.members)), "members of the front"
    if record.confirmed is not None and record.confirmed.depends_on_seed:
        yield str(len(record.confirmed.front)), "hold with fresh seeds"
    if record.hypervolume:
        yield f"{record.hypervolume[-1]:.3f}", "of the hypervolume box"
    front = front_table(record)
    for index, objective in enumerate(record.objectives):
        if (best := front.best(index)) is not None:
            yield show_metric(best), f"best {objective.name}"


def _sections(record: RunRecord, names: Mapping[str, MemberName], live_s: float) -> Iterator[str]:
    shown = {key: own.name for key, own in names.items()}
    if record.members:
        source = "means over fresh seeds" if record.confirmed else "of validation, which also chose the members"
        about = (
            f"Each member is a trained model that no other model dominates. Choose one in any view; all views and "
            f"tables show it. Figures are {source}; baselines were computed on the same rows. Members with a role have "
            "its name and colour, all others are A, B, C and so on. Rank is the weighted mean of the objectives, "
            "scaled to the members within the limits; equal weights put the knee first."
        )
        data = explorer_data([record], [names])
        yield section("Choose a member", about, explorer(data), anchor="choose")
        yield from _after_choice(record, data["gaps"], shown)
    for number, (table, about) in enumerate(final_sections(record)):
        body = table_html(table, picks=final_members(record))
        yield section(table.title, about, body, anchor="" if number else "test")
    if notes := final_notes(record).splitlines():
        yield bullets("Missing from the test", notes)
    if early := early_data(record)["groups"]:
        about = (
            "The same genomes, measured early and late. A high rank correlation means that the cheap figure puts them "
            "in the right order; the dotted line is equality."
        )
        body = json_script("early-data", {"groups": early}) + figure_box("early", about, has_axes=True)
        if record.inherited:
            body += table_html(inheritance_table(record), shown)
        yield section("Short runs against full runs", about, body, anchor="short-runs")
    yield from _progress(record)
    if live_s:
        yield section("What matters", "The importance of genes follows when the search has ended.", "")
    else:
        yield from _genes(record, shown)
    if record.surrogate.get(1, {}).get("hypervolume") and record.memory:
        yield _memory(record)
    yield from _provenance(record)


def _after_choice(record: RunRecord, gaps: Sequence[str], shown: Mapping[str, str]) -> Iterator[str]:
    """What follows the views of the members: gaps, baselines, fresh seeds, ensembles."""
    if gaps:
        yield bullets("Gaps of the front", gaps)
    if notes := baseline_notes(record):
        yield bullets("Baselines", notes)
    if record.confirmed is not None or record.final is not None:
        about = (
            "Hollow circles are figures of the search, which chose the members and so are optimistic. A line leads to "
            "the mean of the trainings with fresh seeds, on the same rows, and for picks on to the test, which has "
            "other rows."
        )
        body = json_script("confirmed-data", confirmed_data(record)) + figure_box("confirmed", about, has_axes=True)
        if (confirmed := confirmed_table(record, front_table(record))) is not None:
            body += (
                f"<details><summary>{escape(confirmed.title)}</summary>{table_html(confirmed, shown)}</details>"
            )  # fmt: skip
        yield section("Claimed and confirmed", about, body, anchor="confirmed")
    if record.ensemble_goals:
        tables = [ensemble_table(record), weights_table(record)] if record.ensembles else []
        body = "".join(map(table_html, [*tables, held_table(record)]))
        about = (
            "Means of the task outputs and of the list scores of members, selected greedily on validation. The "
            "last table is the gain over the best member on users that did not select: each half of the users was "
            "measured with the selection of the other."
        )
        yield section("Ensembles", f"{about} {ensemble_text(record)}", body, anchor="ensembles")


def _progress(record: RunRecord) -> Iterator[str]:
    failures = failure_table(record)
    about = "Share of a box that was fixed before the run; 1 would be ideal in every objective at once."
    if not record.hypervolume:
        yield section("Progress", "No generation is complete yet.", "")
    else:
        if any("hypervolume" in facts for facts in record.surrogate.values()):
            about += " The forecast was made before each generation, by the surrogate."
        data = json_script("progress-data", progress_data(record))
        body = data + figure_box("progress", "Hypervolume over the search, forecast and measured", has_axes=True)
        fates = "Genomes of each generation: trained to the end, dropped at a rung, failed"
        body += f"<h3>What became of the genomes</h3>{figure_box('fates', fates)}"
        if dropped := dropped_text(record):
            body += f'<p class="soft">{escape(dropped.capitalize())}: the worst of a generation are not trained on, '
            body += "and never enter the archive.</p>"
        if record.surrogate:
            body += (
                "<details><summary>Forecast and sources of each generation</summary>"
                f"{table_html(surrogate_table(record))}</details>"
            )
        yield section("Progress", about, body, anchor="progress")
    text = "A failed genome never enters the archive. Numbers in the causes read #."
    yield section("Failures", *((text, table_html(failures)) if failures.rows else ("No evaluation failed.", "")))


def _genes(record: RunRecord, shown: Mapping[str, str]) -> Iterator[str]:
    """Which genes drive which objective, as far as the run has enough genomes to say so, and all genomes."""
    from evorec.report.gene_tables import (  # the surrogate needs a part of scipy, which no other section does
        best_table,
        front_notes,
        importance_figure,
        importance_notes,
        importance_table,
        run_genes,
    )

    all_genomes = ""
    if record.members:
        all_genomes = (
            "<details><summary>All genomes of the front</summary>"
            f"{table_html(gene_table(record), shown)}</details>"
        )  # fmt: skip
    try:
        importance, front = run_genes(record)
    except DataError as error:
        yield section("What matters", f"Nothing can be said: {error}", all_genomes, anchor="genes")
        return
    table = importance_table(importance)
    if table.rows:
        about = (
            "How much of each objective depends on a gene, by itself or together with others, when all genes vary "
            "independently over the values that the search tried, by the surrogate. "
        )
        text = "Bars: share of the variance of each objective that depends on a gene; the table has the same numbers"
        body = drawing(importance_figure(importance), "genes", text)
        body += f"<details><summary>The same numbers</summary>{table_html(table)}</details>"
        body += (
            "<h3>Best values on average</h3><p class='soft'>The quarter of the values, or the option, with the best "
            f"mean of an objective, for genes that matter to it.</p>{table_html(best_table(importance))}"
        )
        yield section(
            "What matters", about + " ".join(importance_notes(importance)), body + all_genomes, anchor="genes"
        )
    else:
        about = " ".join(importance_notes(importance))
        yield section("What matters", about, all_genomes, anchor="genes")
    yield bullets("What the genomes of the front have in common", front_notes(front))


def _memory(record: RunRecord) -> str:
    """The prediction of earlier searches before the first training, beside what came."""
    low, middle, high = record.surrogate[1]["hypervolume"]
    about = (
        f"The search started from {record.memory}. Before the first training they promised a hypervolume of "
        f"{middle:.4f} ({low:.4f} to {high:.4f}, 80 %) after the first generation"
    )
    if record.hypervolume:
        came = record.hypervolume[0]
        about += f"; {came:.4f} came, {'inside' if low <= came <= high else 'outside of'} that interval"
    data = memory_data(record)
    if not data["groups"]:
        return section("Memory of earlier searches", f"{about}.", "", anchor="memory")
    text = "For each genome of the first generation, the predicted value across and the measured value up"
    body = json_script("memory-data", data) + figure_box("memory", text, has_axes=True)
    return section("Memory of earlier searches", f"{about}. {text}.", body, anchor="memory")


def _provenance(record: RunRecord) -> Iterator[str]:
    better = {"max": "more is better", "min": "less is better"}
    described = record.config.facts()
    amounts = {name.capitalize(): f"{value:,.0f}" for name, value in record.data.items()}
    data = {"Source": described.get("data", ""), **amounts, "SHA-256": record.data_sha256}
    about = "As the search read it; evorec data describe writes a page about it."
    yield section("Data", about, facts(data), anchor="data")
    made = {
        "Run": str(record.shown),
        "Fingerprint of settings and data": record.fingerprint,
        "State": record.state,
        "Objectives": ", ".join(f"{o.name} ({better[o.direction]})" for o in record.objectives),
        "Constraints": ", ".join(constraint.text for constraint in record.constraints),
        **({"Memory": record.memory} if record.memory else {}),
        **{name.capitalize(): text for name, text in described.items() if name != "data"},
        "Energy": energy_text(record),
        "Further machines": "; ".join(record.machines),
        "Test opened": str((record.final or {}).get("opened_at", "" if record.state == UNFINISHED else "not yet")),
    }
    details = {
        "All settings": settings_table(record),
        "Versions and machine": Table.of("", ("library", "version"), _versions(record).items()),
    }
    tables = "".join(
        f"<details><summary>{title}</summary>{table_html(table)}</details>" for title, table in details.items()
    )
    about = "The run directory alone reproduces this page; equal settings, data and versions give an equal search."
    yield section("Provenance", about, facts(made) + tables, anchor="provenance")


def _versions(record: RunRecord) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in record.environment.items():
        found |= {k: str(v) for k, v in (value if isinstance(value, Mapping) else {name: value}).items()}
    return found
