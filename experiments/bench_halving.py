"""Does dropping candidates early pay? Hypervolume at equal training: no rungs, rungs by rank, rungs by prediction.

    python experiments/bench_halving.py --landscapes simulated,kuairand_table,3945,7593,167152 --seeds 11
    python experiments/bench_halving.py --landscapes feed,ecommerce --seeds 5     # real trainings

All methods have the surrogate and a memory without rows of the problem (lcbench: of other data sets; the tables:
none), generations of 16, and a single rung at a third of the training, or at the first rung of a table. Training is
counted in FLOPs, or in trainings where they cost nothing; a member that is dropped costs its share. The budget is that
of the search without rungs after 80 trainings. ``reached`` is the share of the budget after which the hypervolume of
the search without rungs at the end of its budget is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench_search import feasible, memory_of_others
from lcbench import EPOCHS, LCBench
from problem_wrapper import ProblemWrapper
from results_file import write_results

from evorec.archive.indicators import hypervolume_share
from evorec.config import SearchConfig, load_config
from evorec.problem import Outcome, Problem, Spec, load_problem
from evorec.search.engine import search
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.table import Memory
from evorec.search.rungs import survivors
from evorec.search.surrogate.search import SurrogateSearch

BATCH, TRAININGS = 16, 80
AT = (0.25, 0.5, 0.75, 1.0)
"""Shares of the budget at which the hypervolume is taken."""
METHODS = ("no rungs", "by rank", "by prediction")
predicted = SurrogateSearch.survivors


def by_rank(self: SurrogateSearch, X: Any, rungs: Any, G: Any, keep: float) -> Any:
    """The comparison of a search without a surrogate."""
    return survivors(rungs[:, -1], G, keep)


class Counted(ProblemWrapper):
    """Keeps the cost and the metrics of all trainings in order.

    Args:
        problem: is evaluated.
        steps: of a whole training.
    """

    def __init__(self, problem: Problem, steps: int) -> None:
        super().__init__(problem)
        self.rungs, self.rung_keep, self._steps = problem.rungs, problem.rung_keep, steps
        self.costs: list[float] = []
        self.rows: list[dict[str, float] | None] = []

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """See `Problem`."""
        how: dict[str, Any] = {"rung": rung, "states": states} if self.rungs else {}
        outcomes = self._problem.evaluate(specs, seed=seed, **how)
        ends = (0, *self.rungs, self._steps)
        index = len(self.rungs) if rung is None else rung
        for spec, outcome in zip(specs, outcomes, strict=True):
            whole = self._problem.known_metrics(spec).get("training_flops", 1.0)
            self.costs.append(whole * (ends[index + 1] - ends[index]) / self._steps)
            self.rows.append(dict(outcome.metrics) if outcome.metrics and rung is None else None)
        return outcomes


def landscape(name: str, seed: int, with_rungs: bool) -> tuple[Problem, int, Memory]:
    """A problem, the steps of a whole training, and the memory of its search."""
    if name.isdigit():
        return LCBench(name, (EPOCHS // 3,) if with_rungs else ()), EPOCHS, memory_of_others()
    if name in ("simulated", "kuairand_table"):
        table = name.removesuffix("_table")
        rungs = "[30]" if with_rungs else "[]"
        overrides = [f"data.path={table}", f"training.rungs={rungs}", f"search.seed={seed}"]
        config = load_config(problem="tabular", overrides=overrides)
        return load_problem(config), config.training.steps, Memory.empty()
    steps = load_config(problem=name).training.steps
    rungs = f"[{steps // 3}]" if with_rungs else "[]"
    overrides = [f"search.seed={seed}", f"data.simulator.seed={seed}", f"training.rungs={rungs}"]
    problem = load_problem(load_config(problem=name, overrides=overrides))
    return problem, steps, Memory.read(SHIPPED).without(problem=name)


def curve(problem: Counted) -> tuple[np.ndarray, list[float]]:
    """Training so far, and the hypervolume, after every evaluation that reached its end."""
    costs, volumes, front = [], [], list[dict[str, float]]()
    for spent, row in zip(np.cumsum(problem.costs), problem.rows, strict=True):
        if row is None:
            continue
        front += feasible(problem, [row])
        costs.append(spent)
        volumes.append(hypervolume_share(front, problem.objectives))
    return np.array(costs), volumes


def main(
    landscapes: Annotated[
        str, typer.Option(help="simulated, kuairand_table, a task of lcbench, or a problem")
    ] = "feed",
    seeds: int = 5,
    first_seed: int = 0,
    out: Path = Path(__file__).parent / "results" / "bench_halving.json",
) -> None:
    """Search every landscape with every method and seed, print a line each, and write the figures."""
    results: dict[str, Any] = {}
    for name in landscapes.split(","):
        found: dict[str, list[list[float]]] = {method: [] for method in METHODS}
        for seed in range(first_seed, first_seed + seeds):
            budget = target = 0.0
            for method in METHODS:
                problem, steps, memory = landscape(name, seed, method != "no rungs")
                counted = Counted(problem, steps)
                SurrogateSearch.survivors = by_rank if method == "by rank" else predicted
                n = TRAININGS if method == "no rungs" else 2 * TRAININGS  # with half dropped, a third costs .67
                settings = SearchConfig(population=BATCH, generations=n // BATCH, seed=seed, surrogate="gp")
                search(counted, settings, memory=memory, chunk=BATCH // 2)
                costs, volumes = curve(counted)
                if method == "no rungs":
                    budget, target = float(costs[-1]), volumes[-1]
                at = [int(np.searchsorted(costs, share * budget * (1 + 1e-9), side="right")) for share in AT]
                line = [volumes[n - 1] if n else 0.0 for n in at]
                reached = next((c / budget for c, v in zip(costs, volumes, strict=True) if v >= target), np.inf)
                found[method].append([*line, float(reached)])
                print(f"{name:15s} {seed:2d}  {method:14s} {np.round(found[method][-1], 4)}", flush=True)
            results[name] = {
                method: {
                    "seeds": len(rows),
                    **{f"{share:g}": _quartiles([row[i] for row in rows]) for i, share in enumerate(AT)},
                    "reached": _quartiles([min(row[-1], 9.0) for row in rows]),
                    "better than no rungs": sum(
                        row[-2] > other[-2] for row, other in zip(rows, found["no rungs"], strict=False)
                    ),
                }
                for method, rows in found.items()
                if rows
            }
            write_results(out, results)


def _quartiles(values: Sequence[float]) -> list[float]:
    return [round(float(v), 4) for v in np.quantile(values, (0.25, 0.5, 0.75))]


if __name__ == "__main__":
    typer.run(main)
