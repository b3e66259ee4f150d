"""Progress of a search, and signals that stop it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from evorec.cli.output import Output
from evorec.config.search import MOST_GENERATIONS
from evorec.errors import Interruption

if TYPE_CHECKING:
    from evorec.search.engine import Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; systemd, Kubernetes and Slurm at the end; Slurm ahead of a time limit."""


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(7), duration(75), duration(3725)
        ('7 s', '1 min 15 s', '1 h 02 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def time_left(now: Progress, elapsed_s: float) -> str:
    """Remaining time at the pace since this start; replayed evaluations cost nothing and are not counted."""
    if now.n_planned >= MOST_GENERATIONS * 4:  # the search ends by the clock
        return f"after {duration(elapsed_s)}"
    n_done = now.n_evaluated - now.n_replayed
    if now.n_evaluated >= now.n_planned:
        return f"done in {duration(elapsed_s)}"
    if n_done == 0:
        return "time left unknown"
    return f"{duration(elapsed_s / n_done * (now.n_planned - now.n_evaluated))} left"


@contextmanager
def search_progress(output: Output) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line per generation elsewhere, nothing when quiet; the engine calls the result."""
    started, n_shown = time.monotonic(), 0
    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[facts]}"))
    hidden = output.verbosity < 0 or not output.console.is_terminal
    bar = Bar(*columns, console=output.console, transient=True, disable=hidden)
    task = bar.add_task("first generation", total=None, facts="")

    def show(now: Progress) -> None:
        nonlocal n_shown
        is_limited = now.n_generations < MOST_GENERATIONS
        title = f"generation {now.generation}" + f"/{now.n_generations}" * is_limited
        dropped = f"{now.n_dropped} dropped, " if now.n_dropped else ""
        facts = (
            f"hypervolume {now.hypervolume_share:.4f}, {now.n_members} on the front, {dropped}{now.n_failed} failed, "
            + time_left(now, time.monotonic() - started)
        )
        # The last report of a generation adds no evaluation: it is the line of the generation.
        if hidden and now.rung is None and now.n_evaluated in (n_shown, now.n_replayed):
            output.note(f"{title}: {facts}")
        title += f" to step {now.rung}" if now.rung is not None else ""
        bar.update(task, completed=now.n_evaluated, total=now.n_planned, description=title, facts=facts)
        n_shown = now.n_evaluated

    with bar:
        yield show


@contextmanager
def stop_on_signal(output: Output) -> Iterator[Callable[[], bool]]:
    """The first signal makes the result return True, which stops the engine; the second raises `Interruption`."""
    received: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if received:
            raise Interruption(f"stopped at once by {name}; all committed evaluations are on disk.")
        received.append(name)
        output.note(f"{name}: stopping as soon as the running stack is committed; a second signal stops at once")

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
