"""How many trainings does a search need? Real trainings on simulated and real data, with and without a memory.

    python experiments/bench_trainings.py --problems feed,ecommerce,ads,media --worlds 0,1,2
    python experiments/bench_trainings.py --problems movielens --worlds 0
    python experiments/bench_trainings.py --problems experiments/kuairand.toml --worlds 0 --set training.steps=200

For each problem and world, one after the other in a single process: NSGA-II without a surrogate (``nsga2``); the
surrogate without a memory (``cold``); with the shipped memory less the rows of the problem itself (``others``); with
the whole shipped memory, which knows other worlds of the problem (``shipped``); and, if asked for, Optuna's samplers.
All train to the end without rungs. The shipped memory knows no world of these seeds. Written down are the hypervolume
after 16, 32, 48 and 80 trainings, and how many trainings, and which share of NSGA-II's FLOPs, it took to reach the
hypervolume of NSGA-II after 80.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench_search import SAMPLERS, Recorded, feasible, searched
from results_file import write_results

from evorec.archive.indicators import hypervolume_share
from evorec.config import SearchConfig, load_config
from evorec.problem import Problem, load_problem
from evorec.search.engine import search
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.table import Memory

BATCH, TRAININGS = 16, 80
AT = (16, 32, 48, 80)
METHODS = ("nsga2", "cold", "others", "shipped")


def rows_of(method: str, problem: Problem, seed: int, memory: Memory) -> tuple[list[dict[str, float]], float]:
    """Metrics of all trainings in order, and the seconds of processor time besides the trainings."""
    recorded = Recorded(problem)
    recorded.constraints, start = problem.constraints, time.process_time()
    if method in SAMPLERS:
        searched(recorded, method, seed, TRAININGS)
    else:
        rows = {"others": memory.without(problem=problem.name), "shipped": memory}.get(method, Memory.empty())
        settings = SearchConfig(
            population=BATCH, generations=TRAININGS // BATCH, seed=seed, surrogate="none" if method == "nsga2" else "gp"
        )
        search(recorded, settings, memory=rows, chunk=BATCH // 2)
    return recorded.rows, time.process_time() - start - recorded.seconds


def main(
    problems: str = "feed,ecommerce,ads,media",
    worlds: str = "0,1,2",
    methods: Annotated[str, typer.Option(help=f"of {', '.join((*METHODS, *SAMPLERS))}")] = ",".join(METHODS),
    memory: Path = SHIPPED,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, repeatable")] = None,
    out: Path = Path(__file__).parent / "results" / "bench_trainings.json",
) -> None:
    """Search every problem and world with every method, print a line each, and write the figures."""
    known, results = Memory.read(memory), {}
    for name in problems.split(","):
        for world in worlds.split(","):
            is_file = name.endswith(".toml")
            simulated = [] if is_file or name == "movielens" else [f"data.simulator.seed={world}"]
            overrides = [f"search.seed={world}", *simulated, *(settings or [])]
            config = load_config(name if is_file else None, problem=None if is_file else name, overrides=overrides)
            problem = load_problem(config)
            assert problem.data_sha256 not in set(known.frame["data_sha256"]), "the memory knows this world"
            target, total = 1.0, 1.0
            for method in methods.split(","):
                rows, asking = rows_of(method, copy.copy(problem), config.search.seed, known)
                kept = [feasible(problem, rows[:n]) for n in range(1, len(rows) + 1)]
                volume = [hypervolume_share(part, problem.objectives) for part in kept]
                flops = np.cumsum([row.get("training_flops", 0.0) for row in rows])
                if method == "nsga2":
                    target, total = volume[-1], flops[-1]
                reached = next((n + 1 for n, value in enumerate(volume) if value >= target), None)
                line: dict[str, Any] = {str(n): round(volume[n - 1], 4) for n in AT if n <= len(volume)}
                line |= {"trainings": reached, "asking_cpu_s": round(asking, 1)}
                line |= {"flops": None if reached is None else round(float(flops[reached - 1] / total), 4)}
                results.setdefault(f"{name} {world}", {})[method] = line
                print(f"{name:10s} {world}  {method:10s} {line}", flush=True)
                write_results(out, results)


if __name__ == "__main__":
    typer.run(main)
