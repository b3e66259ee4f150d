"""How far do search methods come with the same number of evaluations? Many seeds each, on landscapes that cost nothing.

    python experiments/bench_search.py                                   # analytic, 11 seeds: three minutes
    python experiments/bench_search.py --landscapes 3945,7593 --seeds 5  # data sets of lcbench, under $EVOREC_DATA

The hypervolume is a share of the known front's, or on lcbench of the front of all runs together. Methods take turns,
seed by seed, in a single process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from lcbench import LCBench
from results_file import write_results

from evorec.archive.indicators import hypervolume_share
from evorec.config import SearchConfig
from evorec.problem import Outcome, Problem, Spec
from evorec.search.engine import search
from problems import analytic

METHODS: dict[str, dict[str, Any]] = {
    "nsga2 + gp": {"surrogate": "gp", "population": 12},
    "nsga2": {"population": 12},
    "nsga2, population 24": {"population": 24},
    "weighted_sum": {"algorithm": "weighted_sum", "population": 12},
    "random": {"algorithm": "random", "population": 12},
}
COUNTS = (50, 100, 200)
"""Evaluations after which the hypervolume is taken."""


class Recorded(Problem):
    """A problem that keeps the metrics of all evaluations in order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.__dict__ |= {key: value for key, value in vars(problem).items() if not key.startswith("_")}
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0  # of processor time that evaluations took

    def shape_key(self, spec: Spec) -> Any:
        """As the problem."""
        return self._problem.shape_key(spec)

    def evaluate(self, specs: Sequence[Spec], *, seed: int, **_: Any) -> list[Outcome]:
        """As the problem."""
        start = time.process_time()
        outcomes = self._problem.evaluate(specs, seed=seed)
        self.seconds += time.process_time() - start
        self.rows += [dict(outcome.metrics or {}) for outcome in outcomes]
        return outcomes

    def known_metrics(self, spec: Spec) -> Any:
        """As the problem."""
        return self._problem.known_metrics(spec)

    def baselines(self) -> dict[str, dict[str, float]]:
        """None: nothing is compared with them here."""
        return {}


def main(
    landscapes: Annotated[str, typer.Option(help="analytic, or OpenML tasks of lcbench")] = "analytic",
    seeds: int = 11,
    methods: Annotated[str, typer.Option(help="some of the methods, separated by ;")] = ";".join(METHODS),
    out: Path = Path(__file__).parent / "results" / "bench_search.json",
) -> None:
    """Run all methods on all landscapes, print a table of medians and quartiles, and write the figures."""
    results: dict[str, Any] = {}
    for name in landscapes.split(","):
        rows: dict[str, list[list[dict[str, float]]]] = {method: [] for method in methods.split(";")}
        cpu = dict.fromkeys(rows, 0.0)
        for seed in range(seeds):
            for method, found in rows.items():
                problem = Recorded(analytic.build() if name == "analytic" else LCBench(name))
                settings = METHODS[method]
                generations = -(-COUNTS[-1] // settings["population"])
                start = time.process_time()
                search(problem, SearchConfig(seed=seed, generations=generations, **settings))
                cpu[method] += time.process_time() - start
                found.append(problem.rows)
        axes = problem.objectives
        reference = analytic.known_hypervolume([axis.name for axis in axes]) if name == "analytic" else 0.0
        if not reference:
            reference = hypervolume_share([row for found in rows.values() for run in found for row in run], axes)
        results[name] = {}
        for method, found in rows.items():
            line = {"cpu_s_per_search": round(cpu[method] / seeds, 2)}
            for count in COUNTS:
                shares = [hypervolume_share(run[:count], axes) / reference for run in found]
                line |= {str(count): np.round(np.quantile(shares, (0.25, 0.5, 0.75)), 4).tolist()}
            results[name][method] = line
            quartiles = "   ".join("{1:.3f} ({0:.3f}..{2:.3f})".format(*line[str(count)]) for count in COUNTS)
            print(f"{name:10s} {method:22s} {quartiles}   {line['cpu_s_per_search']:.1f} s", flush=True)
    write_results(out, results)


if __name__ == "__main__":
    typer.run(main)
