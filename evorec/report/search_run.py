"""A run for notebooks and scripts: its tables as frames, its figures, and a summary that notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, final

import polars as pl

from evorec.config import RunConfig
from evorec.report.frames import baselines_frame, evaluations_frame, final_frame, front_frame, hypervolume_frame
from evorec.report.record import RunRecord, read_record
from evorec.report.run_tables import front_table, verdict
from evorec.report.table import counted
from evorec.report.verdict import called, names_of
from evorec.run.directory import find_run

if TYPE_CHECKING:
    from evorec.report.static_figures import StaticFigure

MEMBERS_SHOWN = 12
"""In the summary of a run."""


@final
class SearchRun:
    """A run, finished or not, as it was when it was read. Frames are made at their first use, and cost nothing before.

    Attributes:
        record: everything that was read.
    """

    def __init__(self, record: RunRecord) -> None:
        """Use `load_run`."""
        self.record = record

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.record.path

    @property
    def name(self) -> str:
        """The name that a person gave to the run, else that of its directory."""
        return self.record.shown.name

    @property
    def state(self) -> str:
        """Why the search ended, or ``"not finished"``."""
        return self.record.state

    @property
    def config(self) -> RunConfig:
        """The configuration."""
        return self.record.config

    @cached_property
    def evaluations(self) -> pl.DataFrame:
        """The ledger, a row per evaluation: see `evorec.report.frames.evaluations_frame`."""
        return evaluations_frame(self.record)

    @cached_property
    def front(self) -> pl.DataFrame:
        """The members, best first in the first objective: see `evorec.report.frames.front_frame`."""
        return front_frame(self.record)

    @cached_property
    def baselines(self) -> pl.DataFrame:
        """Metrics of the baselines on validation data."""
        return baselines_frame(self.record)

    @cached_property
    def hypervolume(self) -> pl.DataFrame:
        """Share of the box after each complete generation."""
        return hypervolume_frame(self.record)

    @cached_property
    def final(self) -> pl.DataFrame:
        """The results on the test, no rows before `evorec finalize`: see `evorec.report.frames.final_frame`."""
        return final_frame(self.record)

    def plot_front(self, *others: SearchRun, objectives: Sequence[str] = ()) -> StaticFigure:
        """Every pair of objectives, with the baselines; `others` are drawn over this run.

        Example:
            >>> load_run("runs/feed-0123456789ab").plot_front().save("front.svg")  # doctest: +SKIP
        """
        return self._plot("front", others, objectives)

    def plot_parallel(self, *others: SearchRun, objectives: Sequence[str] = ()) -> StaticFigure:
        """A line per member across the objectives; `others` are drawn over this run."""
        return self._plot("parallel", others, objectives)

    def plot_hypervolume(self, *others: SearchRun) -> StaticFigure:
        """The hypervolume over the evaluations; `others` are drawn over this run."""
        return self._plot("hypervolume", others, ())

    def plot_importance(self, objectives: Sequence[str] = ()) -> StaticFigure:
        """The most important genes."""
        return self._plot("importance", (), objectives)

    def plot_confirmed(self, objectives: Sequence[str] = ()) -> StaticFigure:
        """What the search claimed of each member against the mean of its fresh seeds."""
        return self._plot("confirmed", (), objectives)

    def _plot(self, what: str, others: Sequence[SearchRun], objectives: Sequence[str]) -> StaticFigure:
        from evorec.report.static_figures import FIGURES

        return FIGURES[what]([self.record, *(other.record for other in others)], objectives)

    def __repr__(self) -> str:
        evaluations, members = len(self.record.evaluations), len(self.record.members)
        return f"SearchRun({self.name!r}, {self.state}, {counted(evaluations, 'evaluation')}, {members} on the front)"

    def _repr_html_(self) -> str:
        from evorec.report.markup import table_html

        record = self.record
        n = max(MEMBERS_SHOWN, len(record.objectives))
        members, evaluations = counted(len(record.members), "member"), counted(len(record.evaluations), "evaluation")
        facts = f"{record.config.problem_name}, {record.state}, {evaluations}, {members} of the front"
        if record.hypervolume:
            facts += f", hypervolume {record.hypervolume[-1]:.4f}"
        table, names = front_table(record, most=n), names_of(record)
        table = replace(
            table,
            rows=tuple(
                replace(row, name=called(row.name, names) if row.name in names else row.name) for row in table.rows
            ),
        )
        return (
            f"<h4>{escape(self.name)}</h4><p>{escape(facts)}</p><p><b>{escape(table.title)}</b></p>{table_html(table)}"
            f"<p>{escape(verdict(record))}</p>"
        )


def load_run(path: Path | str) -> SearchRun:
    """Read a run, finished or not; a search that is going on is not disturbed.

    Args:
        path: the run directory, or the name of the run.
    Raises:
        RunError: it is not a run directory, is damaged, or was stopped before its first evaluation.
    Example:
        >>> run = load_run("runs/feed-0123456789ab")  # doctest: +SKIP
        >>> run.front.select("member", "recall@20", "gene.width").head(3)  # doctest: +SKIP
        >>> run.evaluations.filter(pl.col("status") == "ok").to_pandas()  # doctest: +SKIP
        >>> run.plot_front().save("front.svg")  # doctest: +SKIP
    """
    return SearchRun(read_record(find_run(Path(path))))
