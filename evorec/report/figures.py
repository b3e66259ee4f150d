"""Figures of a run; plotly is imported when a figure is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from evorec.report.record import Measure, RunRecord
from evorec.report.table import show_metric

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MEMBER, EVALUATED, BASELINE = "#0f766e", "#cbd5e1", "#c2410c"
"""Colours of the archive's members, of the other evaluations, and of the baselines."""

_SCALE = [[0.0, "#99d5cf"], [0.5, "#14918a"], [1.0, "#0b3b52"]]
_LABELS = ("bottom center", "top center", "middle left")  # baselines often lie close together
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

    rows = [(member.key, member.metrics, "member") for member in record.members]
    rows += [(name, metrics, "baseline") for name, metrics in record.baselines.items()]
    axes = [_Axis(measure, [metrics for _, metrics, _ in rows]) for measure in record.axes]
    figure = go.Figure()
    positions = _shares([axes[0].position(metrics) for _, metrics, kind in rows if kind == "member"])
    for index, (name, metrics, kind) in enumerate(rows):
        known = [(i, axis.position(metrics)) for i, axis in enumerate(axes) if axis.position(metrics) is not None]
        member = kind == "member"
        figure.add_scatter(
            x=[i for i, _ in known],
            y=[position for _, position in known],
            mode="lines+markers" if member else "markers",
            name=name,
            line={"color": _colour(positions[index]) if member else BASELINE, "width": 2},
            marker={"size": 7 if member else 10, "symbol": "circle" if member else "diamond"},
            hovertemplate=_hover(name, metrics, record.axes),
            showlegend=False,
        )
    for i, axis in enumerate(axes):
        figure.add_annotation(x=i, y=1.13, text=f"<b>{axis.measure.title}</b>", showarrow=False)
        figure.add_annotation(x=i, y=1.07, text=axis.text(1.0), showarrow=False, font={"color": "#64748b"})
        figure.add_annotation(x=i, y=-0.07, text=axis.text(0.0), showarrow=False, font={"color": "#64748b"})
    figure.update_layout(**LAYOUT, height=440)
    figure.update_xaxes(range=[-0.3, len(axes) - 0.7], tickvals=list(range(len(axes))), showticklabels=False)
    figure.update_yaxes(range=[-0.12, 1.18], showticklabels=False, showgrid=False, zeroline=False)
    return figure


class _Axis:
    """Range of an objective over the rows drawn; `position` is 1 at the good end and 0 at the bad end."""

    def __init__(self, measure: Measure, rows: Sequence[Mapping[str, float]]) -> None:
        self.measure = measure
        values = [self._scaled(metrics[measure.key]) for metrics in rows if measure.key in metrics]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        self._bad, self._good = (low, high) if measure.direction == "max" else (high, low)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.measure.log10 else value

    def position(self, metrics: Mapping[str, float]) -> float | None:
        if self.measure.key not in metrics:
            return None
        if self._good == self._bad:
            return 0.5
        return (self._scaled(metrics[self.measure.key]) - self._bad) / (self._good - self._bad)

    def text(self, position: float) -> str:
        value = self._bad + position * (self._good - self._bad)
        return show_metric(float(10**value if self.measure.log10 else value))


def _shares(positions: Sequence[float | None]) -> list[float]:
    known = [position or 0.0 for position in positions]
    low, high = min(known, default=0.0), max(known, default=1.0)
    return [(position - low) / (high - low) if high > low else 0.5 for position in known]


def _colour(share: float) -> str:
    from plotly.colors import sample_colorscale

    return str(sample_colorscale(_SCALE, [share])[0])


def _hover(name: str, metrics: Mapping[str, float], measures: Sequence[Measure]) -> str:
    lines = [f"{measure.title} {show_metric(metrics[measure.key])}" for measure in measures if measure.key in metrics]
    return "<br>".join([f"<b>{name}</b>", *lines]) + "<extra></extra>"


def scatter_figure(record: RunRecord) -> Figure:
    """Every pair of objectives: genomes trained to their end, the members of the front, the baselines."""
    from plotly.subplots import make_subplots

    pairs = list(combinations(record.axes, 2)) or [(record.axes[0], record.axes[0])]
    n_columns = min(3, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    figure = make_subplots(n_rows, n_columns, horizontal_spacing=0.09, vertical_spacing=0.16 if n_rows > 1 else 0.1)
    named: set[str] = set()  # kinds of points that the legend has
    for index, (down, across) in enumerate(pairs):
        spot = {"row": index // n_columns + 1, "col": index % n_columns + 1}
        for cloud in _clouds(record, across, down):
            first = bool(cloud["x"]) and cloud["name"] not in named
            figure.add_scatter(**cloud, **spot, showlegend=first, legendgroup=cloud["name"])
            named |= {cloud["name"]} if first else set()
        figure.update_xaxes(title_text=_axis_title(across), type="log" if across.log10 else "linear", **spot)
        figure.update_yaxes(title_text=_axis_title(down), type="log" if down.log10 else "linear", **spot)
    figure.update_layout(
        **LAYOUT, height=90 + 320 * n_rows, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    figure.update_xaxes(title_standoff=8, exponentformat="SI")
    figure.update_yaxes(title_standoff=4, exponentformat="SI")
    return figure


def _axis_title(measure: Measure) -> str:
    return f"{measure.title} ({'more' if measure.direction == 'max' else 'less'} is better)"


def _clouds(record: RunRecord, across: Measure, down: Measure) -> list[dict[str, Any]]:
    """The points of a panel: other evaluations at the back, then the front, then the baselines by name."""
    front = {member.key for member in record.members}
    others = [(row.key, row.metrics) for row in record.finished if row.metrics is not None and row.key not in front]
    members = [(member.key, member.metrics) for member in record.members]
    baselines = list(record.baselines.items())
    kinds: list[tuple[str, Sequence[tuple[str, Mapping[str, float]]], dict[str, Any]]] = [
        ("evaluated", others, {"color": EVALUATED, "size": 6}),
        ("front", members, {"color": MEMBER, "size": 9}),
        ("baselines", baselines, {"color": BASELINE, "size": 11, "symbol": "diamond"}),
    ]
    clouds = []
    for name, rows, marker in kinds:
        known = [(key, metrics) for key, metrics in rows if across.key in metrics and down.key in metrics]
        clouds.append(
            {
                "name": name,
                "x": [metrics[across.key] for _, metrics in known],
                "y": [metrics[down.key] for _, metrics in known],
                "text": [key for key, _ in known],
                "mode": "markers+text" if name == "baselines" else "markers",
                "textposition": [_LABELS[i % len(_LABELS)] for i in range(len(known))],
                "cliponaxis": False,
                "textfont": {"size": 11, "color": BASELINE},
                "hovertemplate": [_hover(key, metrics, record.axes) for key, metrics in known],
                "marker": marker,
            }
        )
    return clouds


def hypervolume_figure(record: RunRecord) -> Figure:
    """Share of the hypervolume box that the archive dominates, generation by generation."""
    from plotly import graph_objects as go

    generations = list(range(1, len(record.hypervolume) + 1))
    figure = go.Figure()
    figure.add_scatter(
        x=generations,
        y=list(record.hypervolume),
        mode="lines+markers",
        line={"color": MEMBER, "width": 2},
        hovertemplate="generation %{x}<br>%{y:.4f} of the box<extra></extra>",
    )
    figure.update_layout(**LAYOUT, height=320)
    figure.update_xaxes(title_text="generation", tickformat="d", nticks=min(12, len(generations) + 1))
    figure.update_yaxes(title_text="share of the box", rangemode="tozero")
    return figure
