"""Progress of a search, and signals that stop it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, final

from evorec.cli.output import Output
from evorec.cli.signals import GRACE_S, SIGNALS
from evorec.errors import Interruption
from evorec.outputs import free_gib

if TYPE_CHECKING:
    from evorec.search.engine import Progress

LINE_EVERY_S: Final = 5.0
"""Longest silence of a search whose output is no terminal, at its start."""
LATER: Final = 0.8
"""Time of a later evaluation as a share of those of the first two generations, which make the batches and have random,
expensive genomes. Measured shares: .7 to 1.05 on five problems."""
LINES: Final = 30
"""Later a silence may take this part of the time since the start: a search of hours does not fill a log file."""


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


@final
class Forecast:
    """Seconds until the end, by the pace of this start.

    Replayed evaluations cost nothing and are not counted. The first generation starts the workers and builds the
    batches, so its pace is that of the trainings alone, if they say how long they took; later the pace is that of the
    generations after the first. Until the second generation has ended, the rest is expected to be faster by `LATER`.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[float, int]] = []  # of each generation that was trained: seconds, evaluations
        self._since, self._n_left, self._pace = 0.0, 0, 0.0

    def add(self, now: Progress, elapsed_s: float) -> None:
        """Take a report, `elapsed_s` after the start."""
        n_new = now.n_evaluated - now.n_replayed
        is_end = now.n_stage == 0 and n_new > (self._ends[-1][1] if self._ends else 0)
        if is_end:
            self._ends.append((elapsed_s, n_new))
        if len(self._ends) > 1:
            (first_s, first), (self._since, n_done) = self._ends[0], self._ends[-1]
            self._pace = (self._since - first_s) / (n_done - first)
        elif is_end or (n_new and not self._ends):
            self._since, n_done = elapsed_s, n_new
            self._pace = (now.busy_s or elapsed_s) / n_new
        else:
            return
        if len(self._ends) <= 2:
            self._pace *= LATER
        self._n_left = now.n_planned - now.n_replayed - n_done

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds left; None = unknown."""
        return max(self._pace * self._n_left - (elapsed_s - self._since), 0.0) if self._pace else None


def time_left(now: Progress, forecast: Forecast, elapsed_s: float) -> str:
    """Remaining time in words."""
    from evorec.config.search import MOST_GENERATIONS

    if now.n_planned >= MOST_GENERATIONS * 4:  # the search ends by the clock
        return f"after {duration(elapsed_s)}"
    if now.n_evaluated >= now.n_planned and not now.n_stage:
        return f"done in {duration(elapsed_s)}"
    left = forecast.left_s(elapsed_s)
    return "time left unknown" if left is None else f"{duration(left)} left"


@contextmanager
def search_progress(
    output: Output, *, clock: Callable[[], float] = time.monotonic, every_s: float = LINE_EVERY_S
) -> Iterator[Callable[[Progress], None]]:
    """Progress of a search; the engine calls the result.

    A bar on a terminal. Elsewhere a line per generation, and after `every_s` without a line, later after a thirtieth of
    the time, another line that counts the trainings of the generation. Nothing when quiet.
    """
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    from evorec.config.search import MOST_GENERATIONS

    started, forecast, lock, ended = clock(), Forecast(), threading.Lock(), threading.Event()
    last: Progress | None = None
    last_line_s = started
    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[facts]}"))
    hidden = output.verbosity < 0 or not output.console.is_terminal
    bar = Bar(*columns, console=output.console, transient=True, disable=hidden)
    task = bar.add_task("first generation", total=None, facts="")

    def title_of(now: Progress) -> str:
        title = f"generation {now.generation}" + f"/{now.n_generations}" * (now.n_generations < MOST_GENERATIONS)
        if not now.n_stage:
            return title
        return f"{title}, {now.n_trained} of {now.n_stage} trained" + f" to step {now.rung}" * (now.rung is not None)

    def facts_of(now: Progress) -> str:
        dropped = f"{now.n_dropped} dropped, " if now.n_dropped else ""
        facts = f"hypervolume {now.hypervolume_share:.4f}, {now.n_members} on the front, {dropped}{now.n_failed} failed"
        return f"{facts}, {time_left(now, forecast, clock() - started)}"

    def is_due() -> bool:
        return clock() >= last_line_s + max(every_s, (last_line_s - started) / LINES)

    def show(now: Progress) -> None:
        nonlocal last, last_line_s
        with lock:
            last = now
            forecast.add(now, clock() - started)
            title, facts = title_of(now), facts_of(now)
            bar.update(task, completed=now.n_evaluated, total=now.n_planned, description=title, facts=facts)
            if hidden and (not now.n_stage or is_due()):
                last_line_s = clock()
                output.note(f"{title}: {facts}")

    def wait() -> None:
        """Write a line when no report has come for a while."""
        nonlocal last_line_s
        while not ended.wait(every_s / 10):
            with lock:
                if not ended.is_set() and last and is_due():
                    last_line_s = clock()
                    output.note(f"{title_of(last)}: {facts_of(last)}")

    waiting = threading.Thread(target=wait, name="evorec progress", daemon=True)
    if hidden and output.verbosity >= 0:
        waiting.start()
    try:
        with bar:
            yield show
    finally:
        ended.set()
        if waiting.is_alive():
            waiting.join()


def stop_without_space(stop: Callable[[], bool], folder: Path, min_free_gib: float) -> Callable[[], bool | str]:
    """Another reason to stop: the disk of a folder has less space left than `run.min_free_gib`."""

    def stopped() -> bool | str:
        if stop():
            return True
        if min_free_gib and (free := free_gib(folder)) < min_free_gib:
            return f"{free:.3g} GiB of the disk are free, less than run.min_free_gib = {min_free_gib:g}; make room"
        return False

    return stopped


@contextmanager
def stop_on_signal(output: Output, *, grace_s: float = GRACE_S) -> Iterator[Callable[[], bool]]:
    """The first signal makes the result return True, which stops the engine between two stacks.

    A second signal raises `Interruption`, and so does the end of the grace period: running stacks are dropped then.
    A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """
    received: list[str] = []
    unsaid: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if received:
            why = f"{grace_s:g} s after {received[0]}" if number == signal.SIGALRM else f"at once by {name}"
            raise Interruption(f"stopped {why}; all committed evaluations are on disk.")
        received.append(name)
        signal.setitimer(signal.ITIMER_REAL, grace_s)
        said = f"{name}: stopping as soon as the running stack is committed, in {grace_s:g} s at the latest"
        try:
            output.note(said)
        except RuntimeError:  # the signal came while a line was being written, and a stream refuses a second writer
            unsaid.append(said)

    def stopped() -> bool:
        if unsaid:
            output.note(unsaid.pop())
        return bool(received)

    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in (*numbers, signal.SIGALRM)}
    try:
        yield stopped
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
