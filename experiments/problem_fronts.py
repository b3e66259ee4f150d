"""Fronts of problems compared with random search and weighted sums at equal training, and with baselines.

For each problem and seed (of the world and the run) four searches train the same number of candidates from the same
first generation: NSGA-II, random genomes, a genetic algorithm on the equally weighted sum of the objectives, and a
genetic algorithm on a sum in which the first objective weighs as much as the others together. No candidate is stopped
early. Every search keeps the front of all its evaluations; for a weighted sum its single optimum is measured too.
Baselines (popularity, ItemKNN, EASE) are measured on the same users. All figures are on validation; test rows are not
read.

    python experiments/problem_fronts.py                  # ecommerce, ads and media, about 30 minutes on 2 cores
    python experiments/problem_fronts.py feed --seeds 3   # any problem with lists; --generations 12 for a longer search

Writes experiments/results/problem_fronts.json and a picture of the first seed's fronts, problem_fronts.svg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pictures import panels, save
from problem_wrapper import ProblemWrapper
from results_file import write_results

from evorec.archive.indicators import hypervolume_share
from evorec.config import parse_config
from evorec.objectives import to_matrices
from evorec.problem import Outcome, Spec
from evorec.recommender.problem import RecProblem
from evorec.search.algorithms.weighted_sum import weighted_sum
from evorec.search.engine import search

HERE = Path(__file__).parent
POPULATION, GENERATIONS = 16, 5
STACK = 16
PROBLEMS = ("ecommerce", "ads", "media")
SEARCHES = ("nsga2", "random", "equal sum", "first sum")


def main() -> None:
    """Run every search and write figures and picture."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("problems", nargs="*", default=PROBLEMS)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--generations", type=int, default=GENERATIONS)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "problem_fronts.json")
    options = arguments.parse_args()
    out: Path = options.out
    results: dict[str, list[Any]] = json.loads(out.read_text()) if out.is_file() else {}
    cases = list(product(options.problems, range(options.seeds), [options.generations]))
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for (name, seed, _), found in zip(cases, pool.map(fronts, *zip(*cases, strict=True)), strict=True):
            if seed:  # the fronts of the first seed are enough for the table and the picture
                for figures in found["searches"].values():
                    del figures["front"]
            results[name] = [*(results.get(name, []) if seed else []), found]
            write_results(out, results)
            shares = "  ".join(f"{kind} {one['hypervolume']:.4f}" for kind, one in found["searches"].items())
            print(f"{name} seed {seed}: {shares}", flush=True)
    for name in options.problems:
        show(name, results[name])
    picture(results, out.with_suffix(".svg"))


class OutcomeCache(ProblemWrapper):
    """A problem that evaluates each genome once, for all searches."""

    def __init__(self, problem: RecProblem) -> None:
        super().__init__(problem)
        self._known: dict[str, Outcome] = {}

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """See `Problem`; without rungs."""
        new = [spec for spec in specs if repr(spec) not in self._known]
        if new:
            outcomes = self._problem.evaluate(new, seed=seed)
            self._known |= {repr(spec): outcome for spec, outcome in zip(new, outcomes, strict=True)}
        return [self._known[repr(spec)] for spec in specs]


def fronts(name: str, seed: int, generations: int, population: int = POPULATION) -> dict[str, Any]:
    """All searches of a problem for a seed."""
    module = import_module(f"problems.{name}")
    overrides = [f"search.seed={seed}", f"data.simulator.seed={seed}", "training.rungs=[]"]
    overrides += [f"search.population={population}", f"search.generations={generations}"]
    config = parse_config(module.DEFAULTS, overrides=overrides)
    problem = OutcomeCache(module.build(config))
    wanted = [objective.metric for objective in problem.objectives]
    m = len(wanted)
    settings: dict[str, dict[str, Any]] = {
        "nsga2": {},
        "random": {"algorithm": "random"},
        "equal sum": {"algorithm": "weighted_sum", "weights": (1.0,) * m},
        "first sum": {"algorithm": "weighted_sum", "weights": (m - 1.0, *[1.0] * (m - 1))},
    }
    searches = {}
    for kind, changes in settings.items():
        config_of_one = config.search.model_copy(update=changes)
        result = search(problem, config_of_one, chunk=STACK)
        rows = [dict(one.metrics or {}) for one in result.archive]
        searches[kind] = {
            "hypervolume": result.hypervolume[-1],
            "after_each_generation": result.hypervolume,
            "evaluated": result.n_evaluated,
            "failed": result.n_failed,
            "front": [{metric: row[metric] for metric in wanted} for row in rows],
        }
        if config_of_one.weights and rows:
            F, G = to_matrices(rows, problem.objectives, problem.constraints)
            totals = weighted_sum(F, G, problem.objectives, config_of_one.weights, config_of_one.penalty)
            best = rows[int(np.argmin(totals))]
            searches[kind]["optimum"] = {metric: best[metric] for metric in wanted}
            searches[kind]["hypervolume_of_optimum"] = hypervolume_share([best], problem.objectives)
    known = problem.baselines()
    return {
        "seed": seed,
        "objectives": [[o.name, o.metric, o.direction] for o in problem.objectives],
        "constraints": [constraint.text for constraint in problem.constraints],
        "searches": searches,
        "baselines": {b: {metric: known[b][metric] for metric in wanted if metric in known[b]} for b in known},
    }


def show(name: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Print hypervolumes over seeds, and the extremes of the first seed's front."""
    print(f"\n{name}: share of the box, median (range) over {len(found)} seeds; NSGA-II better in")
    shares = {kind: np.array([one["searches"][kind]["hypervolume"] for one in found]) for kind in SEARCHES}
    for kind in SEARCHES:
        values, ahead = shares[kind], int((shares["nsga2"] > shares[kind]).sum())
        optima = [one["searches"][kind].get("hypervolume_of_optimum") for one in found]
        known = [share for share in optima if share is not None]
        single = f"; its optimum {np.median(known):.4f}" if known else ""
        against = "" if kind == "nsga2" else f"  {ahead} of {len(found)}"
        print(f"  {kind:10s} {np.median(values):.4f} ({values.min():.4f}..{values.max():.4f}){against}{single}")
    first = found[0]
    names = [metric for _, metric, _ in first["objectives"]]
    print("  " + " | ".join(["seed 0", *names]))
    for label, row in ends(first):
        print("  " + " | ".join([label, *(f"{row[metric]:.4g}" if metric in row else "" for metric in names)]))


def ends(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """The best member of NSGA-II's front in every objective, the optima of the sums, and the baselines."""
    front = found["searches"]["nsga2"]["front"]
    rows = []
    for name, metric, direction in found["objectives"]:
        best = (max if direction == "max" else min)(front, key=lambda row: row[metric])
        rows.append((f"best {name}", best))
    rows += [(kind, one["optimum"]) for kind, one in found["searches"].items() if "optimum" in one]
    return [*rows, *found["baselines"].items()]


def picture(results: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Two objectives of each problem: the fronts of the first seed and the baselines."""
    figure, axes = panels(len(results), width=5, height=4.2)
    marks = {"nsga2": ("o", 26, "tab:blue"), "random": (".", 30, "tab:gray")}
    marks |= {"equal sum": ("^", 24, "tab:orange"), "first sum": ("v", 24, "tab:red")}
    for axis, (name, found) in zip(axes, results.items(), strict=True):
        objectives = found[0]["objectives"]
        (x_name, x, _), (y_name, y, y_direction) = objectives[1], objectives[2]
        for kind, (mark, size, colour) in marks.items():
            one = found[0]["searches"][kind]
            points = np.array([[row[x], row[y]] for row in one["front"]])
            axis.scatter(*points.T, marker=mark, s=size, c=colour, alpha=0.6, label=kind, linewidths=0)
            if "optimum" in one:
                best = one["optimum"]
                axis.scatter(best[x], best[y], marker=mark, s=90, facecolors="none", edgecolors=colour)
        for baseline, row in found[0]["baselines"].items():
            if x in row and y in row:
                axis.scatter(row[x], row[y], marker="x", c="black")
                axis.annotate(baseline, (row[x], row[y]), fontsize=8, xytext=(4, 3), textcoords="offset points")
            elif x in row:  # lists only, without the other figure
                axis.axvline(row[x], color="black", linestyle=":", linewidth=1)
                axis.text(row[x], 0.02, baseline, fontsize=8, rotation=90, transform=axis.get_xaxis_transform())
        axis.set(title=name, xlabel=x_name, ylabel=y_name + (" (less is better)" if y_direction == "min" else ""))
    axes[0].legend(fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main()
