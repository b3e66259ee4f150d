"""Parts of the self-contained HTML pages: the frame with styles and scripts inside, sections, tables, figures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from evorec.report.table import Column, Row, Table, show

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
.warnings { border-left: 4px solid var(--base); } ul { margin: 0; padding-left: 20px; } li { margin: 2px 0; }
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
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const up = head.dataset.up = head.dataset.up ? "" : "1";
  const value = row => { const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
    return text === "" ? (up ? Infinity : -Infinity) : isNaN(text) ? text : Number(text); };
  [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1); }).forEach(row => body.append(row));
});
"""

# Nothing is ever loaded from the network, even if plotly wanted to.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def document(title: str, parts: Iterable[str], *, footer: str) -> str:
    """A page that loads nothing: styles, scripts and figures are inside.

    Args:
        title: text of the window.
        parts: HTML, in order.
        footer: text.
    """
    from plotly.offline import get_plotlyjs

    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)} · evorec</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_CSS}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><main>{''.join(parts)}"
        f"<footer>{html.escape(footer)}</footer></main>"
        f"<script>{_SORT}</script></body></html>"
    )


def heading(title: str, small: str, about: str) -> str:
    """The head of a page: title, kind and a sentence in grey."""
    return (
        f"<header><h1>{html.escape(title)} <small>{html.escape(small)}</small></h1>"
        f'<p class="soft">{html.escape(about)}</p></header>'
    )


def verdict_box(text: str) -> str:
    """The most important sentence, in a box."""
    return f'<section class="verdict"><p>{html.escape(text)}</p></section>'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Big figures with their names."""
    cells = "".join(
        f'<div class="tile"><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>' for big, small in pairs
    )
    return f'<div class="tiles">{cells}</div>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names with their texts; an empty text is left out."""
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in pairs.items() if text)
    return f"<dl>{items}</dl>"


def bullets(title: str, texts: Sequence[str], *, kind: str = "") -> str:
    """A box with a list of sentences; `kind` is a class of the style sheet."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f'<section class="{kind}"><h2>{html.escape(title)}</h2><ul>{items}</ul></section>'


def section(title: str, about: str, body: str) -> str:
    """A titled box; `body` is HTML."""
    return f'<section><h2>{html.escape(title)}</h2><p class="soft">{html.escape(about)}</p>{body}</section>'


def drawing(figure: Figure, name: str) -> str:
    """A figure under the id `name`, drawn by the script that the page has once."""
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


def table_html(table: Table) -> str:
    """A table that sorts by a click on a heading."""
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
