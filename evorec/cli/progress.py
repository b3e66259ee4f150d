"""Progress of a search for people, and their wish to stop it."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self, final

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from evorec.cli.output import Output
from evorec.errors import Interrupted

if TYPE_CHECKING:
    from evorec.search.engine import Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; systemd, Kubernetes and Slurm at the end; Slurm ahead of a time limit."""


def duration(seconds: float) -> str:
    """Seconds as a person reads them.

    Example:
        >>> duration(7), duration(75), duration(3725)
        ('7 s', '1 min 15 s', '1 h 02 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def time_left(now: Progress, elapsed_s: float) -> str:
    """How long the rest will take at the pace of this start; replayed evaluations cost nothing and do not count."""
    n_done = now.n_evaluated - now.n_replayed
    if now.n_evaluated >= now.n_planned:
        return f"done in {duration(elapsed_s)}"
    if n_done == 0:
        return "time left unknown"
    return f"{duration(elapsed_s / n_done * (now.n_planned - now.n_evaluated))} left"


@final
class SearchProgress:
    """A bar on a terminal, one line per generation elsewhere, nothing when quiet.

    Use as a context manager around the search, and give the engine the object itself to call.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started = time.monotonic()
        self._n_evaluated = 0
        self._bar: Bar | None = None
        if output.verbosity >= 0 and output.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[facts]}"))
            self._bar = Bar(*columns, console=output.console, transient=True)
            self._task = self._bar.add_task("first generation", total=None, facts="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, now: Progress) -> None:
        """Show what the engine reports."""
        where = f"generation {now.generation}/{now.n_generations}"
        dropped = f"{now.n_dropped} dropped, " if now.n_dropped else ""
        facts = f"hypervolume {now.hypervolume_share:.4f}, {now.n_members} on the front, {dropped}{now.n_failed} failed"
        left = time_left(now, time.monotonic() - self._started)
        if self._bar is not None:
            done, total = now.n_evaluated, now.n_planned
            where += f" to step {now.rung}" if now.rung is not None else ""
            self._bar.update(self._task, completed=done, total=total, description=where, facts=f"{facts}, {left}")
        elif now.rung is None and now.n_evaluated in (
            self._n_evaluated,
            now.n_replayed,
        ):  # the report that closes a generation adds nothing
            self._output.note(f"{where}: {facts}, {left}")
        self._n_evaluated = now.n_evaluated


@final
class StopOnSignal:
    """Turns the first signal into a polite wish, the second into `Interrupted` on the spot.

    Use as a context manager around the search, and give the engine the object itself as its `stop`.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._asked = False

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether somebody asked to stop."""
        return self._asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise Interrupted(f"stopped at once by {signal.Signals(number).name}; what was committed is on disk.")
        self._asked = True
        name = signal.Signals(number).name
        self._output.note(f"{name}: stopping as soon as the running group is committed; once more stops at once")
