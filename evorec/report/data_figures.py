"""Figures of a data set; plotly is imported when one is drawn."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

from evorec.data.description import WHOLE, Description
from evorec.report.figures import BASELINE, EVALUATED, LAYOUT, MEMBER
from evorec.report.tables import show_share

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS: Final = {"train": EVALUATED, WHOLE: EVALUATED, "validation": MEMBER, "test": BASELINE}
"""One colour per part in every figure."""
_LINES: Final = (
    "#0f766e", "#c2410c", "#1d4ed8", "#a16207", "#7e22ce", "#be123c", "#38bdf8", "#4d7c0f", "#475569", "#9d174d",
)  # fmt: skip
_PERIODS: Final = {
    "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000, "month": "M1", "quarter": "M3", "year": "M12",
}  # fmt: skip
"""Steps of the timeline as plotly counts them."""
_LOG_FROM: Final = 20
"""Rates that differ by more than this factor need a logarithmic axis."""
_FEW_DECADES: Final = 300
"""Up to this factor an axis marks 2 and 5 between the powers of 10."""
_LEGEND: Final = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def rows_figure(found: Description) -> Figure:
    """Rows of each part over time, with the moments at which a time split cuts."""
    from plotly import graph_objects as go

    figure = go.Figure()
    for name, rows in found.timeline.rows.items():
        figure.add_bar(
            **_over_time(found), y=list(rows), name=name, marker={"color": COLOURS[name]},
            hovertemplate=f"%{{x}}<br>%{{y:,}} rows of {name}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(**LAYOUT, height=340, barmode="stack", bargap=0.08, legend={**_LEGEND, "traceorder": "normal"})
    figure.update_yaxes(title_text=f"rows per {found.timeline.step}", rangemode="tozero")
    _mark_split(figure, found)
    return figure


def rates_figure(found: Description) -> Figure:
    """Share of positives of each label over time."""
    from plotly import graph_objects as go

    rates = found.timeline.rates
    known = [rate for line in rates.values() for rate in line if rate]
    log = bool(known) and max(known) > _LOG_FROM * min(known)
    figure = go.Figure()
    for place, (task, line) in enumerate(rates.items()):
        figure.add_scatter(
            **_over_time(found),
            y=[rate or (None if log else rate) for rate in line],  # no logarithm of 0
            name=html.escape(task, quote=False),  # plotly takes a name for markup
            mode="lines+markers",
            line={"color": _LINES[place % len(_LINES)], "width": 2},
            marker={"size": 5},
            hovertemplate="%{x}<br>%{y:.3~p} positive<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(**LAYOUT, height=360, legend=_LEGEND, showlegend=True)
    figure.update_yaxes(
        title_text=f"share of positives per {found.timeline.step}", type="log" if log else "linear", tickformat=".3~p"
    )
    if log:
        figure.update_yaxes(dtick=1 if max(known) > _FEW_DECADES * min(known) else "D2")
    else:
        figure.update_yaxes(rangemode="tozero")
    _mark_split(figure, found)
    return figure


def _over_time(found: Description) -> dict[str, Any]:
    period = _PERIODS[found.timeline.step]
    return {"x": list(found.timeline.starts), "xperiod": period, "xperiodalignment": "middle"}


def _mark_split(figure: Figure, found: Description) -> None:
    """Dashed lines where validation and test begin."""
    for name, start in zip(("validation", "test"), found.split_starts, strict=False):
        line = {"color": COLOURS[name], "width": 1.5, "dash": "dash"}
        figure.add_shape(type="line", x0=start, x1=start, y0=0, y1=1, xref="x", yref="paper", line=line)
        figure.add_annotation(
            x=start, y=1, xref="x", yref="paper", text=name, showarrow=False, xanchor="left", yanchor="top",
            font={"color": COLOURS[name], "size": 12}, bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    figure.update_xaxes(type="date")


def ranks_figure(found: Description) -> Figure:
    """Rows of users and of items by their place, both axes logarithmic: the long tail is a line that falls."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, horizontal_spacing=0.1)
    for column, (side, spread) in enumerate((("user", found.per_user), ("item", found.per_item)), start=1):
        figure.add_scatter(
            x=list(spread.ranks), y=list(spread.counts), mode="lines", line={"color": MEMBER, "width": 2}, name=side,
            hovertemplate=f"{side} at place %{{x:,}}<br>%{{y:,}} rows<extra></extra>", row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(title_text=f"{side}s, most rows first", row=1, col=column)
        figure.update_yaxes(title_text=f"rows of the {side}", row=1, col=column)
    figure.update_layout(**LAYOUT, height=360, showlegend=False)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def new_figure(found: Description) -> Figure:
    """Shares of validation and test that were never met before."""
    from plotly import graph_objects as go

    figure = go.Figure()
    for part, new in found.held_out:
        shares = {
            "users": new.n_cold_users / part.n_users,
            "rows of new users": new.n_cold_user_rows / part.n_rows,
            "items": new.n_cold_items / part.n_items,
            "rows of new items": new.n_cold_item_rows / part.n_rows,
        }
        figure.add_bar(
            x=list(shares), y=list(shares.values()), name=part.name, marker={"color": COLOURS[part.name]},
            text=[show_share(share) for share in shares.values()], textposition="outside", cliponaxis=False,
            hovertemplate=f"%{{y:.3~p}} of the %{{x}} are new in {part.name}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(**LAYOUT, height=320, barmode="group", bargap=0.35, legend=_LEGEND)
    figure.update_yaxes(title_text="never met before", tickformat=".3~p", rangemode="tozero")
    return figure
