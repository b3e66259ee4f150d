"""Parts of the self-contained HTML pages: the frame with styles and scripts inside, sections, tables, figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from evorec.report.table import Table, show

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NOWRAP = 40  # characters that a cell keeps on one line

# Nothing is ever loaded from the network, even if plotly wanted to.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_BUTTONS = {
    "displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]
}  # fmt: skip


def document(title: str, parts: Iterable[str], *, footer: str) -> str:
    """A page that loads nothing: styles, scripts and figures are inside.

    Args:
        title: text of the window.
        parts: HTML, in order.
        footer: text.
    """
    from plotly.offline import get_plotlyjs

    css, script = (files("evorec.report").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · evorec</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{css}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><main>{''.join(parts)}"
        f"<footer>{escape(footer)}</footer></main><script>{script}</script></body></html>"
    )


def heading(title: str, small: str, about: str) -> str:
    """The head of a page: title, kind and a sentence in grey."""
    return (
        f'<header><h1>{escape(title)} <small>{escape(small)}</small></h1><p class="soft">{escape(about)}</p></header>'
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Big figures with their names."""
    cells = (f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in pairs)
    return f'<div class="tiles">{"".join(cells)}</div>'


def facts(pairs: Mapping[str, str]) -> str:
    """Names with their texts; an empty text is left out."""
    items = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items() if text)
    return f"<dl>{''.join(items)}</dl>"


def bullets(title: str, texts: Sequence[str], *, kind: str = "") -> str:
    """A box with a list of sentences; `kind` is a class of the style sheet."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<section class="{kind}"><h2>{escape(title)}</h2><ul>{items}</ul></section>'


def section(title: str, about: str, body: str) -> str:
    """A titled box; `body` is HTML."""
    return f'<section><h2>{escape(title)}</h2><p class="soft">{escape(about)}</p>{body}</section>'


def drawing(figure: Figure, name: str) -> str:
    """A figure under the id `name`, drawn by the script that the page has once."""
    from plotly.io import to_html

    height = figure.layout.height
    html = to_html(figure, _BUTTONS, include_plotlyjs=False, full_html=False, div_id=name, default_height=height)
    return str(html)


def table_html(table: Table) -> str:
    """A table that sorts by a click on a heading."""
    heads = [f"<th>{escape(table.corner)}</th>"]
    for i, column in enumerate(table.columns):
        kind = "text" if any(isinstance(row.values[i], str | list | bool) for row in table.rows) else ""
        arrow = {"max": " ↑", "min": " ↓", None: ""}[column.direction]
        unit = f"<small>{escape(column.unit) or '&nbsp;'}</small>" if arrow else ""
        heads.append(f'<th class="{kind}">{escape(column.title or column.key)}{arrow}{unit}</th>')
    best = [table.best(index) for index in range(len(table.columns))]
    rows = []
    for row in table.rows:
        cells = [
            _cell(value, column.text(value), is_best=row.kind == "member" and top is not None and value == top)
            for value, column, top in zip(row.values, table.columns, best, strict=True)
        ]
        rows.append(f'<tr class="{row.kind}"><td>{escape(row.name)}</td>{"".join(cells)}</tr>')
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f'<div class="scroll"><table class="sortable">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _cell(value: Any, text: str, *, is_best: bool) -> str:
    """A cell whose attribute ``data-value`` sorts it: numbers as numbers, a missing value always last."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    raw = repr(float(value)) if is_number else "" if value is None else show(value)
    kind = "best" if is_best else "" if is_number or value is None else "text"
    kind += " long" if len(text) > NOWRAP else ""
    return f'<td class="{kind}" data-value="{escape(raw)}">{escape(text)}</td>'
