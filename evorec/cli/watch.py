"""The command `watch`: a run in the terminal while the search goes on."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evorec.cli.app import SEARCH, Run, command
from evorec.cli.output import Format, Output, shown
from evorec.errors import ConfigError, Interruption, RunError, guess

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from evorec.cli.scatter import Scatter
    from evorec.objectives import Objective
    from evorec.report.live_view import LiveView
    from evorec.report.record import RunRecord

WIDE: Final = 96
"""Columns of a terminal that shows the facts beside the plot; a narrower terminal shows them below it."""
PLOT_LINES: Final = 16
"""Of a plot in a text."""
LEAST_PLOT: Final = 8
"""Lines that a plot has at least above the facts."""
SIDE_COLUMNS: Final = 46
MOST_LOAD: Final = 0.1
"""Share of a core that reading a large run may take from its search."""
TICK_S: Final = 0.2
"""Seconds between two looks at the keyboard and at the size of the terminal."""
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


@command(
    panel=SEARCH,
    order=22,
    examples=("evorec watch runs/feed-0123456789ab --interval 5",),
)
def watch(
    output: Output,
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="Show the run as it is now, and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks at the run.")] = 2.0,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", metavar="NAME", help="Axis of the plot, first the vertical; up to two."),
    ] = None,
) -> None:
    """Watch a search: front, hypervolume, what is trained now, failures, and the time that is left.

    The run is only read, and may be finished. Keys: n shows the next pair of objectives, q or Ctrl-C ends. Without a
    terminal the run is shown once, as plain text.
    """
    from evorec.report.live_view import live_json, read_live

    view = read_live(run)
    _pairs(view.record, objective or ())  # an unknown name is refused before anything is shown
    if output.form is Format.JSON or once or not output.result_console.is_terminal:
        console = output.result_console
        if output.form is Format.JSON:
            output.result(live_json(view))
        else:
            console.print(frame(view, console, objective or (), 0, live=False), soft_wrap=False)
        return
    try:
        view = _follow(view, run, interval, objective or ())
    except (Interruption, KeyboardInterrupt):
        return
    if view.record is not None:
        output.note(f"{view.record.shown}: {view.state}, {len(view.front)} on the front")
        output.next_step("evorec", "front", view.record.shown)


def _follow(view: LiveView, path: Path, interval: float, objectives: Sequence[str]) -> LiveView:
    """Show a run until q is pressed, and return its last view."""
    from rich.console import Console
    from rich.live import Live

    from evorec.report.live_view import read_live

    console, turn, note, rest_s = Console(highlight=False, emoji=False), 0, "", interval
    with _keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            size, due = console.size, time.monotonic() + rest_s
            live.update(frame(view, console, objectives, turn, note=note), refresh=True)
            while time.monotonic() < due and size == console.size:
                pressed = key()
                if pressed == "q":
                    return view
                if pressed == "n":
                    turn += 1
                    break
            else:
                began = time.thread_time()
                try:
                    view, note = read_live(path), ""
                except (RunError, OSError) as error:  # a file may be replaced at this moment
                    note = str(error).splitlines()[0]
                rest_s = max(interval, (time.thread_time() - began) / MOST_LOAD)


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that waits `TICK_S` for a key and returns it, or an empty text."""
    if not sys.stdin.isatty():

        def wait() -> str:
            time.sleep(TICK_S)
            return ""

        yield wait
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def key() -> str:
        ready, _, _ = select.select([descriptor], [], [], TICK_S)
        return sys.stdin.read(1).lower() if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def frame(
    view: LiveView, console: Console, objectives: Sequence[str], turn: int, *, live: bool = True, note: str = ""
) -> RenderableType:
    """A picture of a run for a terminal.

    Args:
        view: the run.
        console: where it is shown; its size decides on the arrangement.
        objectives: names of the axes of the plot; empty = all pairs, one after the other.
        turn: which pair of objectives is shown, counted round.
        live: fill the screen, in boxes; otherwise a text as long as it needs to be.
        note: shown in the last line, such as the reason for which a view is old.
    """
    from rich.console import Group
    from rich.layout import Layout
    from rich.panel import Panel
    from rich.text import Text

    from evorec.cli.scatter import ASCII_MARKS

    def safe(text: str, style: str = "", *, cut: bool = live) -> Text:
        return Text(shown(text, console), style=style, no_wrap=cut, overflow="ellipsis" if cut else None)

    is_wide = console.width >= WIDE
    head = safe((" | " if is_wide else "\n").join(_headline(view)), "bold")
    if view.record is None:
        return Group(head, safe("The data is read and the baselines are measured; nothing is evaluated yet."))
    pairs = _pairs(view.record, objectives)
    plot = _plot(view, *pairs[turn % len(pairs)], height=None if live else PLOT_LINES)
    mark = ASCII_MARKS.__getitem__ if console.options.ascii_only else str
    legend = f"{mark('●')} front  {mark('◆')} baselines  {mark('·')} others"
    parts = [(title, lines) for title, lines in _sections(view, view.record, console).items() if lines]
    if not live:
        sections = [
            part for title, lines in parts for part in (Text(), safe(title, "bold"), *(safe(line) for line in lines))
        ]
        return Group(head, Text(), plot, safe(legend, "dim"), *sections)
    keys = safe(note or f"{legend} | {'n next pair, ' * (len(pairs) > 1)}q ends", "dim")
    boxes = []
    room = console.height - 3 - (0 if is_wide else max(LEAST_PLOT, (console.height - 2) // 2))
    for title, lines in parts:
        lines = lines[: max(room - 2, 0)]
        if lines:
            box = Panel(Group(*(safe(line) for line in lines)), title=title, title_align="left", border_style="dim")
            boxes.append(Layout(box, size=len(lines) + 2))
            room -= len(lines) + 2
    picture = Layout(Panel(plot, border_style="dim"), minimum_size=3)
    body, whole = Layout(), Layout()
    if is_wide:
        facts = Layout(size=SIDE_COLUMNS)
        facts.split_column(*boxes, Layout(Text(" ")))
        body.split_row(picture, facts)
    else:
        body.split_column(picture, *boxes)
    whole.split_column(Layout(head, size=len(head.plain.splitlines())), body, Layout(keys, size=1))
    return whole


def _headline(view: LiveView) -> list[str]:
    """The run with its state, and how far it is."""
    from evorec.config.search import MOST_GENERATIONS

    if view.record is None:
        return [f"{view.path.name}: {view.state}"]
    record, finished = view.record, view.state.startswith("finished")
    search, last = record.config.search, max((row.generation for row in record.evaluations), default=0)
    of = "" if finished or search.generations >= MOST_GENERATIONS else f" of {search.generations}"
    planned = "" if finished or view.n_planned is None else f" of {view.n_planned}"
    return [
        f"{record.shown.name}: {view.state}",
        f"generation {last}{of}, {len(record.evaluations)}{planned} evaluations, {len(view.front)} on the front",
    ]


def _sections(view: LiveView, record: RunRecord, console: Console) -> dict[str, list[str]]:
    """Lines of each box, the most important box first."""
    from evorec.cli.progress import duration
    from evorec.report.live_view import best_so_far
    from evorec.report.run_tables import dropped_text, failure_table
    from evorec.report.table import counted, show_metric

    bars = PLAIN_BARS if console.options.ascii_only else BARS
    best = best_so_far(view)
    wide = max((len(name) for name, *_ in best), default=0)
    hypervolume = []
    if record.hypervolume:
        bar = sparkline(record.hypervolume, SIDE_COLUMNS - 12, bars)
        hypervolume.append(f"{bar} {record.hypervolume[-1]:.4f}")
    expected = record.surrogate.get(len(record.hypervolume), {}).get("hypervolume")
    if expected:
        low, middle, high = expected
        hypervolume.append(f"expected: {middle:.4f} [{low:.4f}, {high:.4f}]")
    time_lines = [f"{duration(view.spent_s)} spent in complete generations"] if view.spent_s else []
    if view.left_s is not None and view.running:
        end = datetime.now() + timedelta(seconds=view.left_s)
        time_lines.append(f"about {duration(view.left_s)} left, until {end:%H:%M}")
    flops = sum((row.metrics or {}).get("training_flops", 0.0) for row in record.evaluations)
    time_lines += [f"{show_metric(flops)}FLOP of training"] if flops else []
    failures = failure_table(record).rows
    return {
        "Best so far": [
            f"{name:<{wide}}  {show_metric(value):>8}" + (f"   {show_metric(its)} {baseline}" if baseline else "")
            for name, value, baseline, its in best
        ],
        "Failures": [f"{row.values[0]} x {row.name}" for row in failures],
        "Hypervolume": hypervolume or ["the first generation is not complete yet"],
        "Workers": _workers(view) if view.running else [],
        "Time": time_lines,
        "Dropped": [text] if (text := dropped_text(record)) else [],
        "No failures": [] if failures else [f"in {counted(len(record.evaluations), 'evaluation')}"],
    }


def _workers(view: LiveView) -> list[str]:
    """What is trained now, and when the last result came."""
    from evorec.cli.progress import duration
    from evorec.report.table import counted

    training = view.training
    if training is None:
        lines = ["nothing is trained: genomes are proposed or stored"]
    else:
        where = "worker processes" if training.isolated else "threads of the search"
        goal = "to the end" if training.rung is None else f"to step {training.rung}"
        lines = [f"{training.workers} {where}"] if training.workers > 1 else []
        lines.append(f"{counted(len(training.keys), 'genome')} {goal}: {training.n_done} done")
    return [*lines, f"last entry in the ledger {duration(view.silent_s)} ago"]


def sparkline(values: Sequence[float], most: int, bars: str = BARS) -> str:
    """Values as bars, the lowest and the highest value with the lowest and the highest bar.

    Args:
        values: at least 1.
        most: bars; of more values, those at equal distances and the last.
        bars: characters from low to high.
    Example:
        >>> sparkline([0.1, 0.2, 0.3], 8)
        '▁▅█'
    """
    step = (len(values) - 1) / max(most - 1, 1)
    kept = [values[round(index * step)] for index in range(most)] if len(values) > most else list(values)
    low, span = min(kept), max(kept) - min(kept)
    return "".join(bars[round((value - low) / span * (len(bars) - 1)) if span else len(bars) // 2] for value in kept)


def _pairs(record: RunRecord | None, names: Sequence[str]) -> list[tuple[Objective, Objective]]:
    """Vertical and horizontal axis of each plot.

    Raises:
        ConfigError: there is no such objective, or there are more than two names.
    """
    if record is None:
        return []
    if len(names) > 2:
        raise ConfigError(f"--objective can be given twice, got {', '.join(names)}")
    known = {name: axis for axis in record.objectives for name in (axis.metric, axis.name)}
    chosen = []
    for name in names:
        if (found := known.get(name) or known.get(record.resolve(name))) is None:
            listed = [axis.name for axis in record.objectives]
            raise ConfigError(f"{name!r} is not an objective of {record.shown}{guess(name, listed)}")
        chosen.append(found)
    if len(chosen) == 2:
        return [(chosen[0], chosen[1])]
    down = chosen[0] if chosen else record.objectives[0]
    others = [axis for axis in record.objectives if axis is not down] or [down]
    others.sort(key=lambda axis: not axis.log10)  # a cost first
    first = [(down, axis) for axis in others]
    return first if chosen else [*first, *combinations(others, 2)]


def _plot(view: LiveView, down: Objective, across: Objective, *, height: int | None) -> Scatter:
    """The front with the baselines over all other evaluations."""
    from evorec.cli.scatter import Cloud, Scatter

    baselines = view.record.baselines if view.record else {}
    clouds = (
        Cloud(view.others, "·", "dim"),
        Cloud(view.front, "●", "bold cyan"),
        Cloud(list(baselines.values()), "◆", "yellow", list(baselines)),
    )
    return Scatter(clouds, across, down, height)
