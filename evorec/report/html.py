"""One self-contained HTML page from a run directory alone: it opens from disk, offline, in any browser."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from evorec.report.figures import hypervolume_figure, parallel_figure, scatter_figure
from evorec.report.record import RunRecord
from evorec.report.tables import (
    Column,
    Row,
    Table,
    dropped_table,
    dropped_text,
    failure_table,
    final_tables,
    front_table,
    gene_table,
    settings_table,
    show,
    show_metric,
    verdict,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NOWRAP = 40  # characters that a cell keeps on one line

_CSS = """
:root { --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --accent: #0f766e; --base: #c2410c; }
* { box-sizing: border-box; }
body { margin: 0; background: #f8fafc; color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0; } h1 small { color: var(--soft); font-weight: 400; }
h2 { font-size: 18px; margin: 0 0 4px; } p { margin: 4px 0 12px; } .soft { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; margin-top: 20px; }
.verdict { border-left: 4px solid var(--accent); font-size: 16px; } .verdict p { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); gap: 12px; margin-top: 20px; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; cursor: pointer; vertical-align: bottom; }
th small { display: block; font-weight: 400; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.long { white-space: normal; text-align: left; }
td:first-child { font-family: ui-monospace, monospace; } td.best { font-weight: 700; color: var(--accent); }
tr.baseline td { color: var(--base); background: #fff7ed; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 8px 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
details summary { cursor: pointer; font-weight: 600; }
footer { color: var(--soft); font-size: 13px; margin-top: 24px; }
@media print { body { background: #fff; } section, .tile { break-inside: avoid; } }
"""

_SORT = """
for (const head of document.querySelectorAll("table.sortable th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], place = head.cellIndex;
  const up = head.dataset.up = head.dataset.up ? "" : "1";
  const value = row => { const text = row.cells[place].dataset.value ?? row.cells[place].textContent;
    return text === "" ? (up ? Infinity : -Infinity) : isNaN(text) ? text : Number(text); };
  [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1); }).forEach(row => body.append(row));
});
"""

# Nothing is ever loaded from the network, even if plotly wanted to.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def page(record: RunRecord) -> str:
    """The whole page as text.

    Args:
        record: a run, finished or not.
    Returns:
        HTML with styles, scripts and figures inside; equal records give equal pages.
    """
    from plotly.offline import get_plotlyjs

    name = html.escape(f"{record.config.problem} {record.path.name}")
    parts = [
        f"<header><h1>{html.escape(record.config.problem)} <small>{html.escape(record.path.name)}</small></h1>",
        f'<p class="soft">{html.escape(_state(record))}</p></header>',
        f'<section class="verdict"><p>{html.escape(verdict(record))}</p></section>',
        _tiles(record),
        _searched(record),
        *_front(record),
        *_final(record),
        _progress(record),
        *_dropped(record),
        _failures(record),
        _details(record),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name} · evorec</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_CSS}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><main>{''.join(parts)}"
        f"<footer>evorec {html.escape(str(_versions(record).get('evorec', '')))}</footer></main>"
        f"<script>{_SORT}</script></body></html>"
    )


def _state(record: RunRecord) -> str:
    dropped = f", {text}" if (text := dropped_text(record)) else ""
    return f"Seed {record.config.search.seed}, {record.state}{dropped}."


def _tiles(record: RunRecord) -> str:
    n_failed = sum(row.failure is not None for row in record.evaluations)
    n_dropped = len(record.evaluations) - len(record.finished)
    tiles: list[tuple[str, str]] = [
        (show(len(record.evaluations)), "genomes evaluated"),
        *([(show(n_dropped), "dropped at a rung")] if n_dropped else []),
        (show(n_failed), "failed"),
        (show(len(record.members)), "members of the front"),
    ]
    if record.hypervolume:
        tiles.append((f"{record.hypervolume[-1]:.3f}", "of the hypervolume box"))
    tiles += [
        (show_metric(best), f"best {measure.title}")
        for measure in record.axes
        if (best := record.best(measure)) is not None
    ]
    cells = "".join(
        f'<div class="tile"><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>' for big, small in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _searched(record: RunRecord) -> str:
    config = record.config
    source = f"{config.data.reader} {config.data.path}" if config.data.path else config.data.reader
    ranked = ", ".join(config.tasks.ranked)
    budget = f"{config.training.steps} steps of {config.training.batch_size} impressions"
    if config.training.rungs:
        steps = ", ".join(map(str, config.training.rungs))
        budget += f"; compared at step {steps}, where a share of {config.training.rung_keep:g} goes on"
    n_evaluations = config.search.generations * config.search.population
    facts = {
        "Objectives": ", ".join(
            f"{m.title} ({'more' if m.direction == 'max' else 'less'} is better)" for m in record.axes
        ),
        "Constraints": "; ".join(config.constraints) or "none",
        "Tasks": f"{ranked}; recall counts {config.tasks.target}" if ranked else "",
        "Data": f"{source}, {config.split.kind} split",
        "Each candidate": budget,
        "Search": f"{config.search.algorithm}, {config.search.generations} x {config.search.population} = "
        f"{n_evaluations} genomes at most, seed {config.search.seed}",
        "Genes set by hand": ", ".join(config.space) or "none",
    }
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<section><h2>What was searched</h2><dl>{items}</dl></section>"


def _front(record: RunRecord) -> Iterable[str]:
    if not record.members:
        return
    about = (
        "Each member is a trained model that no other one beats in every objective. Validation data; the baselines, "
        "shaded, were computed on the same rows. Bold is the best of the members. Click a heading to sort."
    )
    yield _section("The front", about, _table(front_table(record)))
    about = (
        "One line per member; up is better on every axis, ends are labelled with their values. Diamonds are baselines."
    )
    yield _section("Trade-offs", about, _figure(parallel_figure(record), "parallel"))
    about = "Every pair of objectives. A baseline appears where it has both metrics."
    if dropped_table(record).rows:
        about += " Genomes dropped at a rung are left out: they were measured after a part of the training."
    yield _section("Pairs of objectives", about, _figure(scatter_figure(record), "scatter"))
    about = "What each member decodes to. A dash is a gene that is not active."
    yield _section("Genes of the front", about, _table(gene_table(record)))


def _final(record: RunRecord) -> Iterable[str]:
    abouts = (
        "Picks made on validation, trained again on train and validation with fresh seeds; the test was opened once.",
        "Paired over the users of the test, bootstrap intervals; the first seed's model is the one that is shipped.",
    )
    for table, about in zip(final_tables(record), abouts, strict=False):
        yield _section(table.title, about, _table(table))


def _progress(record: RunRecord) -> str:
    if not record.hypervolume:
        return _section("Progress", "No generation is complete yet.", "")
    about = "Share of a box that was fixed before the run; 1 would be ideal in every objective at once."
    return _section("Hypervolume per generation", about, _figure(hypervolume_figure(record), "hypervolume"))


def _dropped(record: RunRecord) -> Iterable[str]:
    table = dropped_table(record)
    if table.rows:
        about = (
            "The generation is compared after some steps, and the worst by rank and crowding are not trained on. A "
            "dropped genome is never in the archive, and the search algorithm never sees its values."
        )
        yield _section("Dropped", about, _table(table))


def _failures(record: RunRecord) -> str:
    table = failure_table(record)
    if not table.rows:
        return _section("Failures", "No evaluation failed.", "")
    return _section("Failures", "A failed genome is never in the archive. Numbers in the causes read #.", _table(table))


def _details(record: RunRecord) -> str:
    versions = Table(
        "", "library", (Column("version"),), tuple(Row(k, (str(v),)) for k, v in _versions(record).items())
    )
    return (
        f"<section><details><summary>All settings</summary>{_table(settings_table(record))}</details></section>"
        f"<section><details><summary>Versions and machine</summary>{_table(versions)}</details></section>"
    )


def _versions(record: RunRecord) -> dict[str, str]:
    """Versions and machine facts, flat."""
    flat: dict[str, str] = {}
    for name, value in record.environment.items():
        flat |= {k: str(v) for k, v in value.items()} if isinstance(value, Mapping) else {name: str(value)}
    return flat


def _section(title: str, about: str, body: str) -> str:
    return f'<section><h2>{html.escape(title)}</h2><p class="soft">{html.escape(about)}</p>{body}</section>'


def _figure(figure: Figure, name: str) -> str:
    from plotly.io import to_html

    config = {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
    return str(
        to_html(
            figure, config, include_plotlyjs=False, full_html=False, div_id=name, default_height=figure.layout.height
        )
    )


def _table(table: Table) -> str:
    texts = [any(isinstance(row.values[i], str | list | bool) for row in table.rows) for i in range(len(table.columns))]
    heads = f"<th>{html.escape(table.corner)}</th>" + "".join(
        f'<th class="{"text" if text else ""}">{html.escape(column.title or column.key)}{_arrow(column)}</th>'
        for column, text in zip(table.columns, texts, strict=True)
    )
    best = [table.best(index) for index in range(len(table.columns))]
    rows = "".join(_row(row, table.columns, best) for row in table.rows)
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="scroll"><table class="sortable">{head}<tbody>{rows}</tbody></table></div>'


def _arrow(column: Column) -> str:
    arrow = {"max": "↑", "min": "↓", None: ""}[column.direction]
    return f" {arrow}<small>{html.escape(column.unit) or '&nbsp;'}</small>" if arrow else ""


def _row(row: Row, columns: Sequence[Column], best: Sequence[float | None]) -> str:
    cells = [f"<td>{html.escape(row.name)}</td>"]
    for value, column, top in zip(row.values, columns, best, strict=True):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        kind = (
            "best"
            if row.kind == "member" and top is not None and value == top
            else ""
            if number or value is None
            else "text"
        )
        kind += " long" if len(column.text(value)) > NOWRAP else ""
        raw = repr(float(value)) if number else "" if value is None else show(value)
        cells.append(f'<td class="{kind}" data-value="{html.escape(raw)}">{html.escape(column.text(value))}</td>')
    return f'<tr class="{row.kind}">{"".join(cells)}</tr>'
