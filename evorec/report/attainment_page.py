"""A page with the attainment surfaces of searches: what a quarter, half and three quarters of the runs reach."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from evorec.archive.comparing import QUARTILES, Trajectory, attainment
from evorec.objectives import FloatArray, Objective
from evorec.report.figures import laid_out, title_axes
from evorec.report.markup import document, drawing, heading, section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def attainment_page(runs: Sequence[Trajectory], objectives: Sequence[Objective], problem: str) -> str:
    """The whole page as text.

    Args:
        runs: of one or several methods.
        objectives: M >= 2 of the runs.
        problem: its name, for the heading.
    Raises:
        DataError: there is a single objective, or a metric is missing.
    """
    common = min(run.n for run in runs)
    counts = {method: sum(run.method == method for run in runs) for method in dict.fromkeys(r.method for r in runs)}
    about = (
        "For every pair of objectives, whatever the others are. Half of the runs of a method reach its line; the band "
        "lies between the surfaces that a quarter and three quarters of its runs reach. A method without a line has "
        "fewer than half of its runs inside the box."
    )
    texts = ", ".join(f"{method} ({n} run{'s' if n > 1 else ''})" for method, n in counts.items())
    return document(
        f"{problem} attainment surfaces",
        [
            heading(problem, "attainment surfaces", f"After {common} evaluations of each run: {texts}."),
            section(
                "What the runs of a method reach", about, drawing(attainment_figure(runs, objectives), "attainment")
            ),
        ],
        footer="Box coordinates, validation figures; surfaces by moocore.",
    )


def attainment_figure(runs: Sequence[Trajectory], objectives: Sequence[Objective]) -> Figure:
    """Median surface and quartile band of each method, for each pair of objectives, in their own units."""
    from plotly.colors import qualitative
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
            colour = qualitative.Safe[number % len(qualitative.Safe)]
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
