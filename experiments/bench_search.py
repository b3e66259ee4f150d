"""How far do search methods come with the same number of evaluations? Many seeds each, on landscapes that cost nothing.

    python experiments/bench_search.py                                   # analytic, 11 seeds: three minutes
    python experiments/bench_search.py --landscapes 3945,7593 --seeds 5  # data sets of lcbench, under $EVOREC_DATA
    python experiments/bench_search.py --landscapes simulated,kuairand   # tables of trained recommenders

The hypervolume is a share of the known front's, or on lcbench of that of a reference front (`lcbench`), on a table of
that of the best means over its seeds, which lucky trainings can exceed. A12 is the probability that a search of the
first method is above one of another. The memory of a
data set of lcbench holds 30 random genomes and 30 of a small NSGA-II of each of 24 others; a weak memory half of them.
Methods take turns, seed by seed, in a single process. ``--pictures FOLDER`` draws the attainment surfaces.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer
from lcbench import JUDGED, LAST_CHECK, LCBench, instances
from lcbench import reference as known_front
from pictures import panels, save
from results_file import write_results
from tabular_methods import a12

from evorec.archive.comparing import Trajectory, attainment
from evorec.archive.indicators import hypervolume_share
from evorec.config import SearchConfig, load_config
from evorec.objectives import to_matrices
from evorec.problem import Outcome, Problem, Spec, load_problem
from evorec.report.comparison_page import staircase
from evorec.search.engine import search
from evorec.search.memory.table import Memory
from evorec.search.optuna_study import as_optuna
from problems import analytic

METHODS: dict[str, dict[str, Any]] = {
    "nsga2 + gp": {"surrogate": "gp", "population": 12},
    "nsga2 + gp + memory": {"surrogate": "gp", "population": 12},
    "nsga2 + gp + weak memory": {"surrogate": "gp", "population": 12},
    "nsga2 + gp + memory, batches of 4": {"surrogate": "gp", "population": 4},
    "nsga2": {"surrogate": "none", "population": 12},
    "nsga2, population 24": {"surrogate": "none", "population": 24},
    "weighted_sum": {"algorithm": "weighted_sum", "population": 12},
    "random": {"algorithm": "random", "population": 12},
}
SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "gp_sampler": lambda seed: optuna.samplers.GPSampler(seed=seed, deterministic_objective=True),
}
"""Optuna's; a suggestion at a time."""
TABLES = ("simulated", "kuairand")
DEFAULT = ("nsga2 + gp", "nsga2", "nsga2, population 24", "weighted_sum", "random")
COUNTS = (12, 25, 50, 100, 200)
"""Evaluations after which the hypervolume is taken."""


@cache
def memory_of_others(n: int = 24) -> Memory:
    """Rows of the first n data sets of lcbench that are not compared."""
    parts = []
    for name in [name for name in instances() if name not in (*JUDGED, *LAST_CHECK)][:n]:
        problem = Recorded(LCBench(name))
        space = problem.space
        specs = [space.decode(x) for x in space.snap(space.sample(np.random.default_rng(int(name)), 30))]
        problem.evaluate(specs, seed=0)
        search(problem, SearchConfig(surrogate="none", population=10, generations=3, seed=1))
        parts.append(
            Memory.of(
                zip(problem.specs, problem.rows, strict=True),
                world=name,
                problem="lcbench",
                data_sha256=name,
                steps=0,
                facts={},
            )
        )
    return Memory.joined(parts)


def landscape(name: str) -> Any:
    """The problem of a landscape."""
    if name in TABLES:
        return load_problem(load_config(problem="tabular", overrides=[f"data.path={name}", "training.rungs=[]"]))
    return analytic.build() if name == "analytic" else LCBench(name)


def searched(problem: Recorded, method: str, seed: int, n: int) -> None:
    """Evaluate n genomes or a few more by a method; the problem keeps their metrics."""
    if method in SAMPLERS:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        wrapped = as_optuna(problem)
        wrapped.run(wrapped.study(seed=seed, sampler=SAMPLERS[method](seed)), n, batch=1)
        return
    memory = memory_of_others(12 if "weak" in method else 24) if "memory" in method else Memory.empty()
    settings = METHODS[method]
    generations = -(-n // settings["population"])
    search(problem, SearchConfig(seed=seed, generations=generations, **settings), memory=memory)


class Recorded(Problem):
    """A problem that keeps the metrics of all evaluations in order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.__dict__ |= {key: value for key, value in vars(problem).items() if not key.startswith("_")}
        self.specs: list[Spec] = []
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
        self.specs += specs
        self.rows += [dict(outcome.metrics or {}) for outcome in outcomes]
        return outcomes

    def known_metrics(self, spec: Spec) -> Any:
        """As the problem."""
        return self._problem.known_metrics(spec)

    def baselines(self) -> dict[str, dict[str, float]]:
        """None: nothing is compared with them here."""
        return {}


def feasible(problem: Problem, rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """The rows that keep all constraints."""
    _, G = to_matrices([row or None for row in rows], problem.objectives, problem.constraints)
    return [row for row, g in zip(rows, G, strict=True) if (g <= 0).all()]


def draw(path: Path, problem: Problem, rows: dict[str, list[list[dict[str, float]]]], n: int) -> None:
    """What a quarter, half and three quarters of the searches of each method reach, for each pair of objectives."""
    runs = []
    for method, found in rows.items():
        for seed, run in enumerate(found):
            numbers = [number for number, row in enumerate(run, start=1) if feasible(problem, [row])]
            kept = [run[number - 1] for number in numbers]
            runs.append(Trajectory(f"{method} {seed}", method, kept, numbers, [0.0] * len(kept), n))
    pairs = list(combinations(problem.objectives, 2))
    figure, panes = panels(len(pairs), width=4.6, height=4.0)
    for pane, (down, across) in zip(panes, pairs, strict=True):
        for method, surfaces in attainment(runs, (across, down)).items():
            best, middle, rest = (
                [axis.natural(part) for axis, part in zip((across, down), staircase(points).T, strict=True)]
                for points in surfaces.values()
            )
            (line,) = pane.plot(*middle, label=method)
            both = [np.append(a, b[::-1]) for a, b in zip(best, rest, strict=True)]
            pane.fill(*both, color=line.get_color(), alpha=0.15, linewidth=0)
        pane.set_xlabel(across.name)
        pane.set_ylabel(down.name)
        pane.set_xscale("log" if across.log10 else "linear")
        pane.set_yscale("log" if down.log10 else "linear")
    panes[0].legend(fontsize=8)
    save(figure, path)


def main(
    landscapes: Annotated[
        str, typer.Option(help="analytic, simulated, kuairand, or OpenML tasks of lcbench")
    ] = "analytic",
    seeds: int = 11,
    methods: Annotated[str, typer.Option(help=f"of {'; '.join((*METHODS, *SAMPLERS))}")] = ";".join(DEFAULT),
    evaluations: int = COUNTS[-1],
    out: Path = Path(__file__).parent / "results" / "bench_search.json",
    pictures: Annotated[
        Path | None, typer.Option(help="folder for a picture of the attainment surfaces of each landscape")
    ] = None,
) -> None:
    """Run all methods on all landscapes, print a table of medians and quartiles, and write the figures."""
    results: dict[str, Any] = {}
    for name in landscapes.split(","):
        rows: dict[str, list[list[dict[str, float]]]] = {method: [] for method in methods.split(";")}
        cpu = dict.fromkeys(rows, 0.0)
        for seed in range(seeds):
            for method, found in rows.items():
                problem = Recorded(landscape(name))
                start = time.process_time()
                searched(problem, method, seed, evaluations)
                cpu[method] += time.process_time() - start
                found.append(problem.rows)
        axes = problem.objectives
        if pictures is not None:
            draw(pictures / f"attainment_{name}.svg", problem, rows, evaluations)
        counts = [count for count in COUNTS if count <= evaluations]
        volumes = {
            method: [[hypervolume_share(feasible(problem, run[:count]), axes) for count in counts] for run in found]
            for method, found in rows.items()
        }
        if name == "analytic":
            reference = analytic.known_hypervolume([axis.name for axis in axes])
        elif name in TABLES:
            reference = landscape(name).reference_hypervolume()
        elif name in (*JUDGED, *LAST_CHECK):
            reference = known_front(name)["share"]
        else:
            reference = hypervolume_share([row for found in rows.values() for run in found for row in run], axes)
        results[name] = {}
        (first, *_) = volumes.values()
        for method, shares in volumes.items():
            quartiles = np.quantile(np.array(shares) / reference, (0.25, 0.5, 0.75), axis=0).T
            line: dict[str, Any] = {"cpu_s_per_search": round(cpu[method] / seeds, 2)}
            line |= {str(count): np.round(part, 4).tolist() for count, part in zip(counts, quartiles, strict=True)}
            pairs = zip(np.transpose(first), np.transpose(shares), strict=True)
            against = [round(a12(mine, other), 3) for mine, other in pairs]
            line |= {"a12": dict(zip(map(str, counts), against, strict=True))}
            results[name][method] = line
            shown = "   ".join(f"{middle:.3f} ({low:.3f}..{high:.3f})" for low, middle, high in quartiles)
            print(f"{name:10s} {method:22s} {shown}   {line['cpu_s_per_search']:.1f} s   A12 {against}", flush=True)
    write_results(out, results)


if __name__ == "__main__":
    typer.run(main)
