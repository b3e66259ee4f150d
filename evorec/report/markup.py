"""Parts of the self-contained HTML pages: the frame with styles and scripts inside, sections, tables, figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from evorec.report.table import Table, show

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NOWRAP = 40  # characters that a cell keeps on one line

# Nothing is ever loaded from the network, even if plotly wanted to. WebGL figures compile functions ('unsafe-eval').
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:"
)


def document(title: str, parts: Iterable[str], *, footer: str, live_s: float = 0.0) -> str:
    """A page that loads nothing: styles, scripts and figures are inside. Its colours follow the scheme of the reader.

    Args:
        title: text of the window.
        parts: HTML, in order; sections of `section` and `bullets` with an anchor are listed at the top.
        footer: text.
        live_s: seconds after which the page loads itself again; 0 = never.
    """
    from plotly.offline import get_plotlyjs

    css, script = (files("evorec.report").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    body = "".join(parts)
    anchors = re.findall(r'<section id="to-([a-z-]+)"', body)
    links = "".join(f'<a href="#to-{name}">{name.replace("-", " ").capitalize()}</a>' for name in anchors)
    contents = f'<nav class="contents" aria-label="Sections"><div>{links}</div></nav>' if anchors else ""
    live = f' data-live="{live_s:g}"' if live_s else ""
    return (
        f'<!doctype html><html lang="en"{live}><head><meta charset="utf-8">'
        f"<title>{escape(title)} · evorec</title>"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{css}</style>'
        f"<script>{get_plotlyjs()}</script></head><body>{contents}<main>{body}"
        f"<footer>{escape(footer)}</footer></main><script>{script}</script></body></html>"
    )


def json_script(name: str, value: object) -> str:
    """Data for the script of the page, under the id `name`; no text in it can become markup."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


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


def section(title: str, about: str, body: str, *, anchor: str = "") -> str:
    """A titled box; `body` is HTML, and `anchor`, words joined by hyphens, makes it an entry of the contents."""
    mark = f' id="to-{anchor}"' if anchor else ""
    return f'<section{mark}><h2>{escape(title)}</h2><p class="soft">{escape(about)}</p>{body}</section>'


def figure_box(name: str, text: str, *, has_axes: bool = False) -> str:
    """An empty element that the script of the page fills with a figure.

    Args:
        name: its id.
        text: what the figure shows, for readers who cannot see it.
        has_axes: whether there is a menu above it, with the id ``NAME-axes``.
    """
    menu = f'<div class="axes" id="{name}-axes"></div>' if has_axes else ""
    return f'{menu}<div class="plot" id="{name}" role="group" aria-label="{escape(text)}"></div>'


def drawing(figure: Figure, name: str, text: str) -> str:
    """A figure of plotly under the id `name`, drawn by the script that the page has once.

    Args:
        figure: with a height, and without a template: its colours are those of the page.
        name: its id.
        text: what it shows, for readers who cannot see it.
    """
    box = f'<div class="plot" id="{name}" role="group" aria-label="{escape(text)}" data-figure="{name}-figure"></div>'
    return box + json_script(f"{name}-figure", json.loads(figure.to_json()))


def table_html(table: Table, names: Mapping[str, str] = {}, picks: Mapping[str, str] = {}) -> str:
    """A table that sorts by a click on a heading.

    Args:
        table: the table.
        names: of members, by key: their rows show the name, too, and choose the member.
        picks: keys of members, by the names of rows that choose them.
    """
    heads = [_heading(escape(table.corner))]
    for i, column in enumerate(table.columns):
        kind = "text" if any(isinstance(row.values[i], str | list | bool) for row in table.rows) else ""
        arrow = {"max": " ↑", "min": " ↓", None: ""}[column.direction]
        unit = f"<small>{escape(column.unit) or '&nbsp;'}</small>" if arrow else ""
        heads.append(_heading(f"{escape(column.title or column.key)}{arrow}{unit}", kind))
    best = [table.best(index) for index in range(len(table.columns))]
    rows = []
    for row in table.rows:
        cells = [
            _cell(value, column.text(value), is_best=row.kind == "member" and top is not None and value == top)
            for value, column, top in zip(row.values, table.columns, best, strict=True)
        ]
        name, chooses = escape(row.name), ""
        if row.name in names:
            chooses = f' data-key="{name}"'
            name = f'{escape(names[row.name])} <span class="key">{name[:8]}</span>'
        elif row.name in picks:
            chooses = f' data-key="{escape(picks[row.name])}"'
        lines = ' class="lines"' if "\n" in name else ""
        rows.append(f'<tr class="{row.kind}"{chooses}><td{lines}>{name}</td>{"".join(cells)}</tr>')
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    return f'<div class="scroll"><table class="sortable">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _heading(text: str, kind: str = "") -> str:
    return f'<th scope="col" class="{kind}"><button type="button">{text}</button></th>'


def _cell(value: Any, text: str, *, is_best: bool) -> str:
    """A cell whose attribute ``data-value`` sorts it: numbers as numbers, a missing value always last."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    raw = repr(float(value)) if is_number else "" if value is None else show(value)
    kind = "best" if is_best else "" if is_number or value is None else "text"
    kind += " lines" if "\n" in text else " long" if len(text) > NOWRAP else ""
    return f'<td class="{kind}" data-value="{escape(raw)}">{escape(text)}</td>'
