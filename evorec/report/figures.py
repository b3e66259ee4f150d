"""Figures of a run; plotly is imported when a figure is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from evorec.objectives import Objective
from evorec.report.record import RunRecord
from evorec.report.table import show_metric

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MEMBER, EVALUATED, BASELINE = "#0f766e", "#cbd5e1", "#c2410c"
"""Colours of the archive's members, of the other evaluations, and of the baselines."""

_SCALE = [[0.0, "#99d5cf"], [0.5, "#14918a"], [1.0, "#0b3b52"]]
_LABELS = ("bottom center", "top center", "middle left")  # baselines often lie close together
ENSEMBLE = {"color": "#b45309", "symbol": "square"}
LAYOUT: Mapping[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1e293b"},
    "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
    "hovermode": "closest",
}
"""Layout of every figure."""


def parallel_figure(record: RunRecord) -> Figure:
    """A line per member across the objectives, every axis oriented so that up is better.

    A plain line plot: unlike plotly's own kind it needs no WebGL, and it shows the baselines too.
    """
    from plotly import graph_objects as go
    from plotly.colors import sample_colorscale

    axes, n_members = record.objectives, len(record.members)
    rows = [*((member.key, member.metrics) for member in record.members), *record.baselines.items()]
    values = np.array([[found.get(axis.metric, np.nan) for axis in axes] for _, found in rows]).reshape(-1, len(axes))
    is_log = [axis.log10 for axis in axes]
    values[:, is_log] = np.log10(np.maximum(values[:, is_log], 1e-300))
    low, high = np.fmin.reduce(values, initial=np.inf), np.fmax.reduce(values, initial=-np.inf)
    low, high = np.where(low <= high, (low, high), [[0.0], [1.0]])  # 0 to 1 where no row has a value
    bad, good = np.where([axis.direction == "max" for axis in axes], (low, high), (high, low))
    with np.errstate(invalid="ignore", divide="ignore"):
        heights = np.where((good == bad) & ~np.isnan(values), 0.5, (values - bad) / (good - bad))
    first = np.nan_to_num(heights[:n_members, 0])
    share = (first - first.min()) / np.ptp(first) if n_members and np.ptp(first) > 0 else np.full(n_members, 0.5)
    colours = [*sample_colorscale(_SCALE, share.tolist()), *[BASELINE] * len(record.baselines)]

    figure = go.Figure()
    for index, ((name, metrics), height, colour) in enumerate(zip(rows, heights, colours, strict=True)):
        known = np.flatnonzero(~np.isnan(height))
        is_member = index < n_members
        figure.add_scatter(
            x=known.tolist(),
            y=height[known].tolist(),
            mode="lines+markers" if is_member else "markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"size": 7, "symbol": "circle"} if is_member else {"size": 10, "symbol": "diamond"},
            hovertemplate=_hover(name, metrics, record),
            showlegend=False,
        )
    grey = {"color": "#64748b"}
    for i, axis in enumerate(axes):
        ends = (show_metric(float(10**end if axis.log10 else end)) for end in (good[i], bad[i]))
        figure.add_annotation(x=i, y=1.13, text=f"<b>{axis.name}</b>", showarrow=False)
        for y, text in zip((1.07, -0.07), ends, strict=True):
            figure.add_annotation(x=i, y=y, text=text, showarrow=False, font=grey)
    figure.update_xaxes(range=[-0.3, len(axes) - 0.7], tickvals=list(range(len(axes))), showticklabels=False)
    figure.update_yaxes(range=[-0.12, 1.18], showticklabels=False, showgrid=False, zeroline=False)
    return figure.update_layout(**LAYOUT, height=440)


def _hover(name: str, metrics: Mapping[str, float], record: RunRecord) -> str:
    known = [f"{o.name} {show_metric(metrics[o.metric])}" for o in record.objectives if o.metric in metrics]
    return "<br>".join([f"<b>{name}</b>", *known]) + "<extra></extra>"


def scatter_figure(record: RunRecord) -> Figure:
    """Every pair of objectives: genomes trained to their end, the members of the front, the baselines."""
    from plotly.subplots import make_subplots

    pairs = list(combinations(record.objectives, 2)) or [(record.objectives[0],) * 2]
    n_columns = min(3, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    figure = make_subplots(n_rows, n_columns, horizontal_spacing=0.09, vertical_spacing=0.16 if n_rows > 1 else 0.1)
    members = {member.key: member.metrics for member in record.members}
    others = {row.key: row.metrics for row in record.finished if row.metrics is not None and row.key not in members}
    clouds: list[tuple[str, Mapping[str, Mapping[str, float]], dict[str, Any]]] = [  # from back to front
        ("evaluated", others, {"color": EVALUATED, "size": 6}),
        ("front", members, {"color": MEMBER, "size": 9}),
        ("baselines", record.baselines, {"color": BASELINE, "size": 11, "symbol": "diamond"}),
    ]
    if record.ensembles:
        clouds.insert(-1, ("ensembles", {one.key: one.metrics for one in record.ensembles}, {**ENSEMBLE, "size": 9}))
    named: set[str] = set()  # kinds of points that the legend has
    for index, (down, across) in enumerate(pairs):
        panel = {"row": index // n_columns + 1, "col": index % n_columns + 1}
        for kind, points, marker in clouds:
            known = {key: found for key, found in points.items() if {across.metric, down.metric} <= set(found)}
            figure.add_scatter(
                **panel,
                name=kind,
                x=[found[across.metric] for found in known.values()],
                y=[found[down.metric] for found in known.values()],
                text=list(known),
                mode="markers+text" if kind == "baselines" else "markers",
                textposition=[_LABELS[i % len(_LABELS)] for i in range(len(known))],
                cliponaxis=False,
                textfont={"size": 11, "color": BASELINE},
                hovertemplate=[_hover(key, found, record) for key, found in known.items()],
                marker=marker,
                showlegend=bool(known) and kind not in named,
                legendgroup=kind,
            )
            named |= {kind} if known else set()
        title_axes(figure, across, down, panel)
    return laid_out(figure, height=90 + 320 * n_rows)


def title_axes(figure: Figure, across: Objective, down: Objective, panel: Mapping[str, int]) -> None:
    """Titles and scales of the axes of a panel, ``row`` and ``col`` of a figure."""
    for axis, update in ((across, figure.update_xaxes), (down, figure.update_yaxes)):
        update(title_text=axis_title(axis), type="log" if axis.log10 else "linear", exponentformat="SI", **panel)


def laid_out(figure: Figure, height: int) -> Figure:
    """A figure of panels with its legend above them."""
    figure.update_xaxes(title_standoff=8).update_yaxes(title_standoff=4)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(**LAYOUT, height=height, legend=legend)


def axis_title(axis: Objective) -> str:
    """Name of an objective and which values are better."""
    return f"{axis.name} ({'more' if axis.direction == 'max' else 'less'} is better)"


def hypervolume_figure(record: RunRecord) -> Figure:
    """Share of the hypervolume box that the archive dominates, generation by generation."""
    import plotly.express as px
    import polars as pl

    generations = range(1, len(record.hypervolume) + 1)
    shares = pl.DataFrame(
        {"generation": generations, "share": record.hypervolume}, schema_overrides={"share": pl.Float64}
    )
    # A data frame of ours: without it plotly express needs pandas.
    figure = px.line(shares, x="generation", y="share", markers=True, color_discrete_sequence=[MEMBER])
    figure.update_traces(hovertemplate="generation %{x}<br>%{y:.4f} of the box<extra></extra>")
    figure.update_xaxes(title_text="generation", tickformat="d", nticks=min(12, len(generations) + 1))
    figure.update_yaxes(title_text="share of the box", rangemode="tozero")
    return figure.update_layout(**LAYOUT, height=320)
