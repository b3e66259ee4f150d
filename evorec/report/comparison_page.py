"""A page about several runs: their fronts over each other, hypervolume with the noise of seeds, attainment surfaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from evorec.archive.comparing import (
    QUARTILES,
    Standing,
    Trajectory,
    attainment,
    differences,
    standings,
)
from evorec.archive.indicators import hypervolume_share
from evorec.objectives import FloatArray, Objective
from evorec.report.figures import COLOURS, LAYOUT, laid_out, title_axes
from evorec.report.markup import document, drawing, heading, section, table_html, tiles
from evorec.report.page_data import explorer_data
from evorec.report.record import RunRecord, check_same_goals
from evorec.report.run_page import explorer
from evorec.report.table import Column, Table, counted
from evorec.report.trajectories import standing_table, trajectories
from evorec.report.verdict import names_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STEPS: Final = 24
"""Numbers of trainings at which the hypervolume is computed."""


def comparison_page(records: Sequence[RunRecord]) -> str:
    """The whole page as text.

    Args:
        records: at least 2 runs, finished or not, with the same objectives.
    Raises:
        ConfigError: their objectives differ.
        DataError: a run has no evaluation.
    """
    check_same_goals(records)
    runs, objectives = trajectories(records), records[0].objectives
    methods = list(dict.fromkeys(run.method for run in runs))
    colours = [methods.index(run.method) if len(methods) > 1 else number for number, run in enumerate(runs)]
    names = [names_of(record) for record in records]
    data = explorer_data(records, names, colours)
    found, common = standings(runs, objectives), min(run.n for run in runs)
    lead = "".join(f"<p>{escape(text)}</p>" for text in _sentences(data["members"], records, found, common))
    same_seed = len({record.config.search.seed for record in records}) < 2
    notes = "All runs have the same seed: differences may be chance. " if same_seed else ""
    notes += f"Figures are those of validation, each run after {common} trainings; fronts are those of whole runs."
    problem = records[0].config.problem_name
    parts = [
        heading(problem, f"{len(records)} runs", ", ".join(record.shown.name for record in records)),
        f'<section class="verdict" aria-label="Verdict">{lead}<p class="soft">{escape(notes)}</p></section>',
        tiles((f"{run.hypervolume[-1]:.3f}", f"of the box, {run.name}") for run in found),
    ]
    if data["members"]:
        about = (
            "Members of all fronts. The number before a name is that of the run; the colour is that of the method, or "
            "of the run where all runs are of one method. Members that a member of another run dominates are faded and "
            "have no rank. Baselines are those of the first run."
        )
        parts.append(section("Fronts of the runs", about, explorer(data), anchor="fronts"))
    about = "Share of the box over the trainings. A thin line is a run; a band spans the runs of a method."
    body = drawing(hypervolume_figure(runs, objectives, common), "hypervolume", about)
    body += "".join(table_html(table) for table in (standing_table(found, common), _differences(found)) if table.rows)
    parts.append(section("Hypervolume and the noise of seeds", about, body, anchor="hypervolume"))
    if len(objectives) > 1:
        about = (
            "For every pair of objectives, whatever the others are. Half of the runs of a method reach its line; the "
            "band lies between the surfaces that a quarter and three quarters of its runs reach. A method without a "
            "line has fewer than half of its runs inside the box."
        )
        body = drawing(attainment_figure(runs, objectives), "attainment", about)
        parts.append(section("What the runs of a method reach", about, body, anchor="attainment"))
    headings = ("run", "method", Column("seed"), Column("state"), Column("evaluations", numbers="count"),
                Column("members", numbers="count"), Column("fingerprint"), Column("data"))  # fmt: skip
    rows = (
        (record.shown.name, run.method, str(record.config.search.seed), record.state, len(record.evaluations),
         len(record.members), record.fingerprint, record.data_sha256[:12])
        for record, run in zip(records, runs, strict=True)
    )  # fmt: skip
    parts.append(section("Provenance", "", table_html(Table.of("", headings, rows)), anchor="provenance"))
    version = records[0].environment.get("versions", {}).get("evorec", "")
    return document(f"{problem} {len(records)} runs", parts, footer=f"evorec {version}; attainment surfaces by moocore")


def _sentences(
    members: Sequence[dict[str, object]], records: Sequence[RunRecord], found: Sequence[Standing], common: int
) -> list[str]:
    """Which method is ahead and how surely, and whose members make the common front."""
    groups: dict[str, list[float]] = {}
    for run in found:
        groups.setdefault(run.method, []).append(run.hypervolume[-1])
    texts = []
    for method, values in sorted(groups.items(), key=lambda pair: -float(np.median(pair[1]))):
        spread = f"{min(values):.4f} to {max(values):.4f} over {len(values)} runs, " if len(values) > 1 else ""
        texts.append(f"{method} {spread}median {np.median(values):.4f}")
    out = [f"Hypervolume after {counted(common, 'training')}: {'; '.join(texts)}."]
    out += [
        f"{pair.first} is ahead of {pair.second} in {100 * pair.a12:.0f} % of the pairs of runs (p {pair.p:.2g})."
        for pair in differences(found)
    ]
    shares = Counter(str(records[int(str(one["run"]))].shown.name) for one in members if one["rank"] is not None)
    if shares:
        parts = ", ".join(f"{n} of {name}" for name, n in shares.most_common())
        out.append(f"Of the {counted(shares.total(), 'member')} that no member of another run dominates: {parts}.")
    return out


def _differences(found: Sequence[Standing]) -> Table:
    rows = ((pair.first, pair.second, pair.a12, pair.p) for pair in differences(found))
    return Table.of("Methods", ("method", "against", "A12", "p"), rows)


def hypervolume_figure(runs: Sequence[Trajectory], objectives: Sequence[Objective], common: int) -> Figure:
    """Share of the box over the trainings, with a band over the runs of each method."""
    from plotly import graph_objects as go

    counts = np.unique(np.linspace(1, common, STEPS).round().astype(int))
    figure = go.Figure()
    methods = list(dict.fromkeys(run.method for run in runs))
    for number, method in enumerate(methods):
        colour = COLOURS[number % len(COLOURS)]
        own = [run for run in runs if run.method == method]
        shares = np.array([[hypervolume_share(run.until(int(n)), objectives) for n in counts] for run in own])
        low, high = shares.min(axis=0), shares.max(axis=0)
        line = {"color": colour, "width": 2.5}
        if len(own) > 1:
            figure.add_scatter(
                x=[*counts.tolist(), *counts[::-1].tolist()], y=[*low.tolist(), *high[::-1].tolist()], mode="none",
                fill="toself", fillcolor=colour, opacity=0.15, hoverinfo="skip", showlegend=False, legendgroup=method,
            )  # fmt: skip
            for run, share in zip(own, shares, strict=True):
                figure.add_scatter(
                    x=counts.tolist(), y=share.tolist(), mode="lines", line={"color": colour, "width": 0.8},
                    name=run.name, showlegend=False, legendgroup=method,
                )  # fmt: skip
        name = f"{method}, median of {len(own)}" if len(own) > 1 else method if len(methods) > 1 else own[0].name
        median = np.median(shares, axis=0).tolist()
        figure.add_scatter(x=counts.tolist(), y=median, mode="lines", line=line, name=name, legendgroup=method)
    figure.update_xaxes(title_text="trainings").update_yaxes(title_text="share of the box", rangemode="tozero")
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(**LAYOUT, height=380, legend=legend)


def attainment_figure(runs: Sequence[Trajectory], objectives: Sequence[Objective]) -> Figure:
    """Median surface and quartile band of each method, for each pair of objectives, in their own units."""
    from plotly.subplots import make_subplots

    pairs = list(combinations(objectives, 2))
    n_columns = min(3, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    figure = make_subplots(n_rows, n_columns, horizontal_spacing=0.09, vertical_spacing=0.16 if n_rows > 1 else 0.1)
    best, median, rest = QUARTILES
    named: set[str] = set()
    for index, (down, across) in enumerate(pairs):
        panel = {"row": index // n_columns + 1, "col": index % n_columns + 1}
        for number, (method, surfaces) in enumerate(attainment(runs, (across, down)).items()):
            colour = COLOURS[number % len(COLOURS)]
            lines = {percent: _natural(staircase(points), (across, down)) for percent, points in surfaces.items()}
            band = np.vstack([lines[best], lines[rest][::-1]])
            common = {"name": method, "legendgroup": method, "hoverinfo": "skip"}
            x, y = band.T.tolist()
            figure.add_scatter(
                **panel, **common, x=x, y=y, mode="none", fill="toself", fillcolor=colour, opacity=0.2, showlegend=False
            )
            x, y = lines[median].T.tolist() if (surfaces[median] < 1).any() else ([], [])
            line, is_new = {"color": colour, "width": 2}, method not in named
            figure.add_scatter(**panel, **common, x=x, y=y, mode="lines", line=line, showlegend=is_new)
            named.add(method)
        title_axes(figure, across, down, panel)
    return laid_out(figure, height=90 + 360 * n_rows)


def staircase(points: FloatArray) -> FloatArray:
    """The border of the region that corners dominate, from the worst second to the worst first coordinate.

    Args:
        points: corners of a surface in box coordinates ``(N, 2)``, sorted by the first; none dominates another.
    Returns:
        ``(2 N + 1, 2)``.
    Example:
        >>> staircase(np.array([[0.1, 0.5], [0.5, 0.1]])).tolist()
        [[0.1, 1.0], [0.1, 0.5], [0.5, 0.5], [0.5, 0.1], [1.0, 0.1]]
    """
    x, y = np.repeat(points[:, 0], 2), np.repeat(points[:, 1], 2)
    return np.stack([np.append(x, 1.0), np.insert(y, 0, 1.0)], axis=1)


def _natural(points: FloatArray, axes: Sequence[Objective]) -> FloatArray:
    return np.stack([axis.natural(column) for axis, column in zip(axes, points.T, strict=True)], axis=1)
