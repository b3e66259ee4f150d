"""Build the memory that is shipped with the package, from searches on the built-in problems.

    python experiments/build_memory.py --runs worlds   # all worlds, then evorec/search/memory/shipped.parquet

Each world is searched once: `GENERATIONS` generations of `POPULATION` genomes, the first of them random and the others
chosen by the surrogate, without rungs and without a memory, so all rows are trained to the end. The seeds of worlds and
searches are at least `FIRST_SEED`: no memory knows a world that is searched with a smaller seed. A run that is finished
is not repeated, so the script can be stopped and started again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evorec.config import load_config
from evorec.errors import RunLockedError
from evorec.problem import load_problem
from evorec.run.directory import RunDirectory, run_path
from evorec.search.engine import search
from evorec.search.memory.library import SHIPPED, rows_of
from evorec.search.memory.table import Memory

PROBLEMS = ("feed", "ecommerce", "ads", "media", "courses", "funnel")
WORLDS = 3
FIRST_SEED = 1000
POPULATION, GENERATIONS = 16, 6


def world(runs: Path, name: str, seed: int) -> Memory:
    """The rows of a search in a simulated world of a problem."""
    settings = (
        f"data.simulator.seed={seed}", f"search.seed={seed}", "search.surrogate=gp", "search.memory=none",
        f"search.population={POPULATION}", f"search.generations={GENERATIONS}",
    )  # fmt: skip
    config = load_config(problem=name, overrides=settings)
    problem = load_problem(config)
    fingerprint = config.fingerprint(problem.data_sha256)
    path = run_path(runs, config, fingerprint)
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
    else:
        run = RunDirectory.create(runs, config=config, fingerprint=fingerprint, environment=problem.environment)
    with run:
        if not run.finished:
            search(problem, config.search, run=run, chunk=POPULATION // 2)
        return rows_of(run)


def main(
    runs: Annotated[Path, typer.Option(help="folder of the runs")],
    problems: str = ",".join(PROBLEMS),
    worlds: int = WORLDS,
    out: Path = SHIPPED,
) -> None:
    """Search all worlds and write the memory."""
    parts = []
    for number in range(worlds):
        for name in problems.split(","):
            try:
                parts.append(world(runs, name, FIRST_SEED + number))
            except RunLockedError as error:
                print(f"{name} {number} is left out: {error}", flush=True)
                continue
            print(f"{name} {number}: {len(parts[-1])} rows", flush=True)
    memory = Memory.joined(parts)
    out.write_bytes(memory.to_bytes())
    print(f"{out}: {len(memory)} rows of {memory.worlds().height} worlds, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
