"""Largest memory of a search for a few values of ``run.memory_gib``, with and without room for the matrix of EASE.

The memory is that of all processes of the command, shared pages counted once, read every tenth of a second: an upper
bound of the budget's part is the difference to the first line, a search in a world of 200 users and 50 items.

    python experiments/bench_memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from results_file import write_results

WORLD = {"data.simulator.n_users": 12_000, "data.simulator.n_items": 10_000, "data.simulator.n_interactions": 400_000}
SMALL = {"data.simulator.n_users": 200, "data.simulator.n_items": 50, "data.simulator.n_interactions": 5_000}
SETTINGS = {"search.population": 8, "search.generations": 1, "training.steps": 60, "training.rungs": "[]"}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, nargs="*", default=[0.5, 1.0, 2.0, 4.0, 0.0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--items", type=int, default=WORLD["data.simulator.n_items"])
    arguments = parser.parse_args()
    world = {**WORLD, "data.simulator.n_items": arguments.items}
    rows = []
    for gib, of in [(0.0, SMALL), *((gib, world) for gib in arguments.gib)]:
        row = {"memory_gib": gib, "items": of["data.simulator.n_items"], **measured(gib, of, arguments.workers)}
        rows.append(row)
        print(row, flush=True)
    write_results(Path(__file__).parent / "results/bench_memory.json", {"workers": arguments.workers, "rows": rows})


def measured(gib: float, world: dict[str, int], workers: int) -> dict[str, float | int | str]:
    """Exit code, seconds and largest memory of a search."""
    settings = {**SETTINGS, **world, "run.memory_gib": gib, "run.workers": workers}
    with tempfile.TemporaryDirectory() as folder:
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "evorec", "search", "--problem", "feed", *words]
        start, largest = time.perf_counter(), 0
        with (
            Path(folder, "err").open("w+") as errors,
            subprocess.Popen(
                [*command, "--set", f"run.output={folder}/runs"], stdout=subprocess.DEVNULL, stderr=errors
            ) as process,
        ):
            while process.poll() is None:
                largest = max(largest, sum(map(resident_bytes, family(process.pid))))
                time.sleep(0.1)
            errors.seek(0)
            said = [line.strip() for line in errors if "memory" in line]
    seconds = round(time.perf_counter() - start, 1)
    return {"exit": process.returncode, "seconds": seconds, "gib": round(largest / 2**30, 2), "said": " ".join(said)}


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def resident_bytes(pid: int) -> int:
    """Memory of a process, each shared page divided by the number of its users; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
