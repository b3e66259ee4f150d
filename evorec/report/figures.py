"""Colours, layout and axes that figures of pages share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from evorec.objectives import Objective

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS: Final = ("#0b7a6f", "#2563eb", "#b5179e", "#9a6200", "#6d28d9", "#3f7d20", "#0e7490", "#9f1239")
"""Colours of series, as in the light scheme of page.css; a page replaces them, and those below, in the dark scheme."""
MEMBER, EVALUATED, BASELINE = COLOURS[0], "#ccd6e0", "#b93c0a"
"""Colours of validation and of what was found, of all that is less important, and of tests and baselines."""

LAYOUT: Mapping[str, Any] = {
    "template": "none",  # the page gives all figures the colours of its scheme
    "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
    "hovermode": "closest",
}
"""Layout of every figure on a page."""


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
