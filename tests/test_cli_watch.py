import fcntl
import io
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from evorec.cli import main
from evorec.cli.scatter import Cloud, Scatter
from evorec.cli.watch import frame
from evorec.objectives import Objective
from evorec.report.live_view import LiveView, read_live
from evorec.report.record import UNFINISHED

RECALL = Objective("recall", "r", "max", "", ideal=1.0, worst=0.0)
COST = Objective("cost", "c", "min", "FLOP", ideal=1.0, worst=1e4, log10=True)
ROWS = [{"r": 0.0, "c": 1.0}, {"r": 1.0, "c": 100.0}]
STARTUP_S = 600.0  # a Python process that imports the package, on a busy machine


def drawn(plot: Scatter, *, width: int, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, force_terminal=False)
    console.print(plot)
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def test_points_stand_where_their_values_are() -> None:
    clouds = (Cloud(ROWS, "●", ""), Cloud([{"r": 0.5, "c": 10.0}, {"r": 0.2}], "◆", "", ["ease", "random"]))
    # the plot is 5 lines high and 33 columns wide; 10 is the middle of 1 to 100 on a logarithmic axis
    lines = drawn(Scatter(clouds, COST, RECALL, height=7), width=41)
    assert lines[0] == "recall (more is better)"
    assert lines[1] == " 1.0000│" + " " * 32 + "●"
    assert lines[3] == "       │" + " " * 16 + "◆ ease"
    assert lines[5] == " 0.0000│●"


def test_a_terminal_without_unicode_gets_letters() -> None:
    lines = drawn(Scatter((Cloud(ROWS, "●", ""),), COST, RECALL, height=7), width=41, encoding="ascii")
    assert lines[1] == " 1.0000|" + " " * 32 + "o"


def test_equal_values_and_no_values_are_drawn() -> None:
    assert "no evaluation has both values yet" in drawn(Scatter((Cloud([], "●", ""),), COST, RECALL), width=60)
    assert any("●" in line for line in drawn(Scatter((Cloud(ROWS[:1], "●", ""),), COST, RECALL), width=60))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the analytic problem."""
    root = tmp_path_factory.mktemp("runs")
    small = ["search.population=8", "search.generations=2", "search.surrogate=none", f"run.output={root}"]
    assert main(["search", "--problem", "analytic", "-q", *(part for text in small for part in ("--set", text))]) == 0
    (path,) = root.glob("analytic-*")
    return path


def test_a_pipe_gets_the_run_once_as_plain_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{run.name}: finished: 2 generations done")
    for text in ("quality (more is better)", "Best so far", "Hypervolume", "No failures", "● front"):
        assert text in out
    assert "\x1b" not in out


def test_json_has_the_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run), "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["state"], value["running"], value["generation"]) == ("finished: 2 generations done", False, 2)
    assert len(value["hypervolume"]) == 2


def test_an_unknown_objective_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run), "--objective", "qualty"]) == 2
    assert "'qualty' is not an objective" in capsys.readouterr().err
    assert main(["watch", str(run), *["--objective", "cost"] * 3]) == 2
    assert "--objective can be given twice" in capsys.readouterr().err


@pytest.mark.parametrize(("width", "height"), [(60, 24), (60, 12), (100, 30), (200, 60), (96, 8)])
def test_a_frame_fills_the_terminal_exactly(width: int, height: int, run: Path) -> None:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(frame(read_live(run), console, (), 0), height=height)
    lines = captured.get().splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(run.name)
    assert any("●" in line for line in lines)


def test_a_run_without_an_evaluation_has_a_frame(run: Path) -> None:
    view = read_live(run)
    assert view.record is not None
    empty = replace(view.record, state=UNFINISHED, evaluations=(), members=(), hypervolume=())
    for record in (empty, None):
        console = Console(width=70, height=24, file=io.StringIO(), force_terminal=False)
        with console.capture() as captured:
            console.print(frame(LiveView(run, record, running=True), console, (), 0), height=24)
        assert captured.get().startswith(f"{run.name}: {'running' if record else 'starting'}")


def test_failures_are_seen_in_a_narrow_terminal(run: Path) -> None:
    view = read_live(run)
    assert view.record is not None
    lost = [replace(row, metrics=None, failure=f"NaN at step {row.seq}") for row in view.record.evaluations[:3]]
    record = replace(view.record, evaluations=(*lost, *view.record.evaluations[3:]))
    console = Console(width=60, height=24, file=io.StringIO(), force_terminal=False)
    with console.capture() as captured:
        console.print(frame(replace(view, record=record), console, (), 0), height=24)
    assert "3 x NaN at step #" in captured.get()


@pytest.mark.parametrize("end", [b"q", b"\x03"])
def test_a_key_ends_the_live_view_and_gives_the_terminal_back(end: bytes, run: Path) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "evorec", "watch", str(run)]
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C becomes a signal
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(child)
    text, until = b"", time.monotonic() + STARTUP_S
    sent = False
    while time.monotonic() < until:
        if select.select([parent], [], [], 1.0)[0]:
            try:
                text += os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
        if b"Best so far" in text and not sent:
            os.write(parent, end)
            sent = True
        if process.poll() is not None and not select.select([parent], [], [], 0)[0]:
            break
    assert process.wait(STARTUP_S) == 0, text.decode(errors="replace")
    assert text.index(b"\x1b[?1049h") < text.index(b"\x1b[?1049l"), "the alternate screen is left"
    os.close(parent)
