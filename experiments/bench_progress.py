"""What a search says about itself on a pipe, and when; and the CPU time of ``evorec --help``.

Seconds until the first line, until the first line of progress, and the error of each forecast: the time left that a
line names, against the time that was left. Compiled modules are in the cache, as in an installed package.

    python experiments/bench_progress.py
    python experiments/bench_progress.py --set training.steps=400
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from results_file import write_results

N_HELP = 5
LEFT = re.compile(r"(?:(\d+) h )?(?:(\d+) min )?(?:(\d+) s )?left$")
TENTH, END = 0.1, 0.9
"""Part of a search whose forecasts count: the last seconds are rounded too coarsely for a relative error."""


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--problem", default="feed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": f"{folder}/cache", "PYTHONUNBUFFERED": "1"}
        help_s = help_seconds(environment)
        print(f"evorec --help: {min(help_s):.2f} s of CPU (median {sorted(help_s)[N_HELP // 2]:.2f})", flush=True)
        tiny = ["data.simulator.n_interactions=3000", "search.generations=1", "search.population=4", "training.steps=2"]
        warm = [word for text in [*tiny, f"run.output={folder}/tiny"] for word in ("--set", text)]
        timed_lines(["search", "--problem", arguments.problem, *warm], environment)
        words = [word for text in arguments.overrides for word in ("--set", text)]
        command = ["search", "--problem", arguments.problem, *words, "--set", f"run.output={folder}/runs"]
        lines = timed_lines(command, environment)
    found = facts(lines)
    print("\n".join(f"{seconds:7.1f} s  {text}" for seconds, text in lines))
    print(found)
    path = Path(__file__).parent / "results" / "bench_progress.json"
    write_results(path, {"help_cpu_s": min(help_s), "overrides": arguments.overrides, **found})


def help_seconds(environment: dict[str, str]) -> list[float]:
    """CPU seconds of ``evorec --help``, started several times after a first start that compiles the modules."""
    seconds = []
    for _ in range(N_HELP + 1):
        before = os.times()
        subprocess.run([sys.executable, "-m", "evorec", "--help"], env=environment, capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
    return seconds[1:]


def timed_lines(command: list[str], environment: dict[str, str]) -> list[tuple[float, str]]:
    """Lines of a command on standard error, each with the seconds since its start."""
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "evorec", *command],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        lines = [(time.monotonic() - start, line.rstrip()) for line in process.stderr]
    if process.returncode:
        raise SystemExit("\n".join(text for _, text in lines))
    return lines


def facts(lines: list[tuple[float, str]]) -> dict[str, Any]:
    """The first line, the first line of progress, the longest silence, and the errors of the forecasts."""
    progress = [(seconds, text) for seconds, text in lines if text.startswith("generation ")]
    begin = next((seconds for seconds, text in lines if text.startswith("searching in ")), 0.0)
    end = progress[-1][0]
    errors = []
    for seconds, text in progress:
        if (match := LEFT.search(text)) and begin + TENTH * (end - begin) <= seconds <= begin + END * (end - begin):
            hours, minutes, rest = (int(group or 0) for group in match.groups())
            errors.append((3600 * hours + 60 * minutes + rest) / (end - seconds) - 1)
    times = [seconds for seconds, _ in lines]
    return {
        "first_line_s": times[0],
        "first_count_s": progress[0][0],
        "first_count_after_begin_s": progress[0][0] - begin,
        "longest_silence_s": max(b - a for a, b in pairwise(times)),
        "search_s": end - begin,
        "forecasts": len(errors),
        "first_forecast_error": errors[0] if errors else None,
        "largest_forecast_error": max(errors, key=abs) if errors else None,
    }


if __name__ == "__main__":
    main()
