"""A scatter plot of characters for the terminal.

Plot libraries for terminals (plotext, plotille) have no logarithmic axes or no fixed interface, no types, and write
colours that a pipe would keep; a grid of characters needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from evorec.objectives import Metrics, Objective
from evorec.report.table import show_metric

HEIGHT: Final = 14
"""Lines of a plot whose height is free."""
ASCII_MARKS: Final = {"·": ".", "●": "o", "◆": "x"}


@final
@dataclass(frozen=True)
class Cloud:
    """Points of a kind.

    Attributes:
        rows: metrics of each point.
        mark: a character.
        style: of rich.
        names: of the points, written beside them; empty = none.
    """

    rows: Sequence[Metrics]
    mark: str
    style: str
    names: Sequence[str] = ()


@final
@dataclass(frozen=True)
class Scatter:
    """Two objectives against each other, as large as the terminal gives room for.

    Attributes:
        clouds: from back to front.
        across, down: horizontal and vertical axis; logarithmic where the objective is.
        height: lines; None = as many as there is room for.
    """

    clouds: Sequence[Cloud]
    across: Objective
    down: Objective
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, max((self.height or options.height or HEIGHT) - 2, 3)
        lines = self._lines(width, height, plain=options.ascii_only)
        yield Text("\n").join(lines)

    def _lines(self, width: int, height: int, *, plain: bool) -> list[Text]:
        """The plot in `height` lines, between a line with the vertical axis and a line with the horizontal axis."""
        needed = {self.across.metric, self.down.metric}
        known = [[row for row in cloud.rows if needed <= row.keys()] for cloud in self.clouds]
        everything = [row for rows in known for row in rows]
        title = Text(_titled(self.down), style="bold")
        if not everything:
            return [title, *[Text()] * (height // 2), Text("no evaluation has both values yet", style="dim")]
        x, y = (_Axis(axis, [row[axis.metric] for row in everything]) for axis in (self.across, self.down))
        margin = max(len(x_label) for x_label in (y.low_text, y.high_text)) + 1
        n_columns = max(width - margin - 1, 8)
        grid, styles = [[" "] * n_columns for _ in range(height)], {}
        for cloud, rows in zip(self.clouds, known, strict=True):
            mark = ASCII_MARKS[cloud.mark] if plain else cloud.mark
            spots = [
                (height - 1 - y.cell(row[self.down.metric], height), x.cell(row[self.across.metric], n_columns))
                for row in rows
            ]
            for line, column in spots:
                grid[line][column], styles[line, column] = mark, cloud.style
            names = [name for name, row in zip(cloud.names, cloud.rows, strict=False) if needed <= row.keys()]
            for name, (line, column) in zip(names, spots, strict=False):
                for start in (column + 2, column - len(name) - 1):  # to the right, else to the left, else not at all
                    cells = range(start, start + len(name))
                    if (
                        start >= 0
                        and cells[-1] < n_columns
                        and all(grid[line][cell] in (" ", "·", ".") for cell in cells)
                    ):
                        for cell, letter in zip(cells, name, strict=True):
                            grid[line][cell], styles[line, cell] = letter, cloud.style
                        break
        wall, lines = "|" if plain else "│", [title]
        for number, row in enumerate(grid):
            label = y.high_text if number == 0 else y.low_text if number == height - 1 else ""
            text = Text(label.rjust(margin) + wall, style="dim")
            for column, letter in enumerate(row):
                text.append(letter, styles.get((number, column), "not dim"))
            lines.append(text)
        middle = _titled(self.across)
        room = n_columns - len(x.low_text) - len(x.high_text)
        foot = Text(" " * (margin + 1) + x.low_text, style="dim")
        foot.append(middle[: max(room - 2, 0)].center(room), "not dim bold")
        foot.append(x.high_text)
        return [*lines, foot]


@final
class _Axis:
    """The range of an axis with the texts of its ends."""

    def __init__(self, objective: Objective, values: Sequence[float]) -> None:
        self._is_log = objective.log10
        low, high = min(values), max(values)
        self.low_text, self.high_text = show_metric(low), show_metric(high)
        self._low, self._span = self._scaled(low), self._scaled(high) - self._scaled(low)

    def _scaled(self, value: float) -> float:
        return float(np.log10(max(value, 1e-300))) if self._is_log else value

    def cell(self, value: float, n: int) -> int:
        """The cell of a value among `n`."""
        share = (self._scaled(value) - self._low) / self._span if self._span > 0 else 0.5
        return min(max(round(share * (n - 1)), 0), n - 1)


def _titled(objective: Objective) -> str:
    return f"{objective.name} ({'more' if objective.direction == 'max' else 'less'} is better)"
