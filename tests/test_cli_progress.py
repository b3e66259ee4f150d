import io
import subprocess
import sys

import pytest
from rich.console import Console

from evorec.cli.output import Output
from evorec.cli.progress import duration, search_progress, stop_on_signal, time_left
from evorec.errors import Interruption
from evorec.search.engine import Progress


def at(
    generation: int,
    n_evaluated: int,
    *,
    n_replayed: int = 0,
    n_members: int = 2,
    n_dropped: int = 0,
    rung: int | None = None,
) -> Progress:
    return Progress(generation, 3, n_evaluated, n_replayed, 24, 1, n_members, 0.25, n_dropped, rung)


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
    lines = shown(at(1, 4), at(1, 8), at(1, 8), at(2, 12), at(2, 16), at(2, 16)).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["generation 1/3", "generation 2/3"]
    assert "hypervolume 0.2500, 2 on the front, 1 failed" in lines[0]


def test_replayed_generations_are_shown_too() -> None:
    lines = shown(at(1, 8, n_replayed=8), at(2, 12, n_replayed=8), at(2, 16, n_replayed=8), at(2, 16, n_replayed=8))
    assert len(lines.splitlines()) == 2


def test_rungs_add_no_lines_and_dropped_ones_are_counted() -> None:
    at_rungs = [at(1, 0, rung=100), at(1, 0, rung=100), at(1, 4, rung=200, n_dropped=4)]
    lines = shown(*at_rungs, at(1, 8, n_dropped=4), at(1, 8, n_dropped=4), at(2, 8, rung=100, n_dropped=4)).splitlines()
    assert len(lines) == 1
    assert "2 on the front, 4 dropped, 1 failed" in lines[0]
    assert "to step 100" in shown(at(1, 0, rung=100), terminal=True)


def test_a_terminal_gets_a_bar() -> None:
    text = shown(at(1, 4), terminal=True)
    assert "generation 1/3" in text
    assert "━" in text


def test_quiet_shows_nothing() -> None:
    assert shown(at(1, 8), at(1, 8), verbosity=-1) == ""


def test_time_left_counts_only_what_this_start_evaluated() -> None:
    # 4 evaluated now in 8 s, 12 replayed for nothing, 8 of 24 to go: 16 s
    assert time_left(at(2, 16, n_replayed=12), 8.0) == "16 s left"
    assert time_left(at(2, 16, n_replayed=16), 8.0) == "time left unknown"
    assert time_left(at(3, 24), 90.0) == "done in 1 min 30 s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3600, "1 h 00 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_first_signal_asks_and_the_second_stops() -> None:
    import signal

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
