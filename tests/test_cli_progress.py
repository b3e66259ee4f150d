import io
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from evorec.cli.output import Output
from evorec.cli.progress import Forecast, duration, search_progress, stop_on_signal, time_left
from evorec.errors import Interruption
from evorec.search.engine import Progress


def at(generation: int, n_evaluated: int, *, n_replayed: int = 0, n_dropped: int = 0, **stage: Any) -> Progress:
    return Progress(generation, 3, n_evaluated, n_replayed, 24, 1, 2, 0.25, n_dropped, **stage)


def shown(*reports: Progress, terminal: bool = False, verbosity: int = 0) -> str:
    output = Output(verbosity=verbosity)
    output.console = Console(file=io.StringIO(), force_terminal=terminal, width=120, soft_wrap=True)
    with search_progress(output) as progress:
        for report in reports:
            progress(report)
    text = output.console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_a_pipe_gets_one_line_per_generation() -> None:
    stages = [at(1, 4, n_trained=4, n_stage=8), at(1, 8, n_trained=8, n_stage=8), at(1, 8)]
    lines = shown(*stages, at(2, 12, n_trained=4, n_stage=8), at(2, 16)).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["generation 1/3", "generation 2/3"]
    assert "hypervolume 0.2500, 2 on the front, 1 failed" in lines[0]


def test_replayed_generations_are_shown_too() -> None:
    going_on = at(2, 12, n_replayed=8, n_trained=4, n_stage=8)
    assert len(shown(at(1, 8, n_replayed=8), going_on, at(2, 16, n_replayed=8)).splitlines()) == 2


def test_rungs_add_no_lines_and_dropped_ones_are_counted() -> None:
    at_rungs = [at(1, 0, rung=100, n_trained=n, n_stage=8) for n in (4, 8)]
    finals = [at(1, 8, n_dropped=4, n_trained=4, n_stage=4), at(1, 8, n_dropped=4)]
    lines = shown(*at_rungs, *finals, at(2, 8, rung=100, n_dropped=4, n_trained=4, n_stage=8)).splitlines()
    assert len(lines) == 1
    assert "2 on the front, 4 dropped, 1 failed" in lines[0]
    assert "4 of 8 trained to step 100" in shown(at_rungs[0], terminal=True)


def test_after_a_silence_a_pipe_gets_the_trainings_of_the_generation() -> None:
    output, seconds = Output(), iter(range(0, 1000, 4))
    output.console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    with search_progress(output, clock=lambda: next(seconds), every_s=25.0) as progress:
        for n in range(1, 9):
            progress(at(1, n, n_trained=n, n_stage=8))
    lines = output.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 1 <= len(lines) < 8
    assert all(re.match(r"generation 1/3, [2-8] of 8 trained: .* left$", line) for line in lines)


def test_a_search_that_reports_nothing_for_a_while_shows_that_it_runs() -> None:
    output, said = Output(), threading.Event()
    output.console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    found: list[str] = []
    output.note = lambda text, **_: (found.append(text), said.set())  # type: ignore[method-assign,assignment]
    with search_progress(output, every_s=0.01) as progress:
        progress(at(1, 0, n_stage=8))
        said.clear()
        assert said.wait(600)
        assert "generation 1/3, 0 of 8 trained: " in found[-1]


def test_a_terminal_gets_a_bar() -> None:
    text = shown(at(1, 4), terminal=True)
    assert "generation 1/3" in text
    assert "━" in text


def test_quiet_shows_nothing() -> None:
    assert shown(at(1, 8), at(1, 8), verbosity=-1) == ""


def left(*reports: tuple[Progress, float], at_s: float | None = None) -> str:
    forecast = Forecast()
    for report, seconds in reports:
        forecast.add(report, seconds)
    return time_left(reports[-1][0], forecast, reports[-1][1] if at_s is None else at_s)


def test_time_left_counts_only_what_this_start_evaluated() -> None:
    # 4 evaluated now in 8 s, 12 replayed for nothing, 8 of 24 to go: 16 s, and later generations take four fifths
    assert left((at(2, 16, n_replayed=12), 8.0)) == "13 s left"
    assert left((at(2, 16, n_replayed=16), 8.0)) == "time left unknown"
    assert left((at(3, 24), 90.0)) == "done in 1 min 30 s"


def test_time_left_is_the_pace_of_the_generations_after_the_first_and_falls_with_time() -> None:
    first = (at(1, 8), 50.0)  # with the start of the workers
    assert left(first) == "1 min 20 s left"
    assert left(first, at_s=70.0) == "1 min 00 s left"
    assert left((replace(first[0], busy_s=20.0), 50.0)) == "32 s left"  # the workers started for 30 s
    assert left(first, (at(2, 12, n_trained=4, n_stage=8), 55.0)) == "1 min 15 s left"
    assert left(first, (at(2, 16), 60.0)) == "8 s left"
    assert left(first, (at(2, 16), 60.0), (at(3, 20, n_trained=4, n_stage=8), 64.0)) == "4 s left"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3600, "1 h 00 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_first_signal_asks_and_the_second_stops() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(Output(verbosity=-1)) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(Interruption, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_after_the_end_of_a_command_does_not_change_its_exit_code() -> None:
    late = (
        "import atexit, os, signal, sys; from evorec.cli.app import main; sys.argv = ['evorec', '--version'];"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM)); sys.exit(main())"
    )
    process = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_signal_that_comes_while_a_line_is_written_is_answered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python refuses to write to a stream from a handler that interrupted a write to it."""
    output = Output(verbosity=0)
    said: list[str] = []

    def note(text: str, **_: object) -> None:
        if not said:
            said.append("")
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
        said.append(text)

    monkeypatch.setattr(Output, "note", lambda self, text, **options: note(text, **options))
    with stop_on_signal(output) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert stop()
    assert [text.partition(":")[0] for text in said] == ["", "SIGTERM"]
