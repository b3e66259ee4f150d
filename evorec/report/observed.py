"""What trackers get to see of a run: its generations, and its front and report when the search has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evorec.config import ExecutionConfig
from evorec.errors import RunError
from evorec.run.directory import RunDirectory
from evorec.tracking.observers import Observers

if TYPE_CHECKING:
    from evorec.search.engine import Progress


def observers_of(run: RunDirectory, config: ExecutionConfig, *, say: Callable[[str], None]) -> Observers:
    """The trackers of a search.

    Args:
        run: open for writing; its log names the trackers that are dropped.
        config: the present settings, which may name other trackers than the run began with.
        say: takes a line about a tracker that is dropped.
    """

    def dropped(text: str) -> None:
        say(text)
        with suppress(OSError, RunError):
            run.log("tracker", text=text)

    return Observers.of(run, config, say=dropped)


def observe(observers: Observers, now: Progress) -> None:
    """Report the progress of a search: complete generations only."""
    if now.n_stage == 0:
        facts = {"hypervolume": now.hypervolume_share, "evaluations": now.n_evaluated, "failures": now.n_failed}
        facts |= {"dropped": now.n_dropped, "members": now.n_members}
        best = {f"best/{name}": value for name, value in now.best.items()}
        observers.generation(now.generation, {name: float(value) for name, value in {**facts, **best}.items()})


def observe_result(observers: Observers, path: Path) -> None:
    """Give the trackers the front and the report of a run whose search has ended."""
    observers.files(partial(_write_result, path))


def _write_result(path: Path, folder: Path) -> None:
    import polars as pl

    from evorec.report.record import read_record
    from evorec.report.run_page import page
    from evorec.report.run_tables import front_table

    record = read_record(path)
    pl.DataFrame(front_table(record).as_json(), infer_schema_length=None).write_csv(folder / "front.csv")
    (folder / "report.html").write_text(page(record), encoding="utf-8")
