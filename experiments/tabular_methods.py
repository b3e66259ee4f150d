"""Search methods on the tabular benchmark (`problems.tabular`): share of the best front against training compute.

    python experiments/tabular_methods.py                               # both tables, 21 seeds: a few minutes
    python experiments/tabular_methods.py --tables simulated --seeds 2 --budget 60

The unit of compute is the mean training FLOPs of a full training over all configurations of the table. A training that
stops at a rung counts the FLOPs it used, and a resumed training is not counted twice. The worth of a method's archive
excludes luck: the feasible front of its full trainings, chosen on the single replicate that it saw, is scored with the
means over all replicates, as a share of the reference front's hypervolume. The claimed value of the same archive (in
the values that the method saw) and its value on test are recorded too. Seeds cycle through the replicates. Random
search and the weighted sum (equal weights, the genetic algorithm of ``search.algorithm``) keep the front of all
evaluations, like the other methods.

Prints medians and quartiles, writes experiments/results/tabular_methods.json and a picture per table next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import typer
from pictures import panels, save
from problem_wrapper import ProblemWrapper
from pymoo.algorithms.moo.nsga2 import NSGA2
from results_file import write_results

from evorec import as_pymoo
from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import SearchConfig, merge, parse_config
from evorec.errors import Interruption
from evorec.objectives import Metrics, to_matrices
from evorec.problem import Outcome, Spec
from evorec.search.engine import search
from problems import tabular

HERE = Path(__file__).parent
POPULATION: Final = 24
MARKS: Final = (50, 100, 200, 400)
"""Compute at which figures are recorded, in full trainings."""
MOST_GENERATIONS: Final = 1000
"""Never reached: the budget ends a run earlier."""
MOST_OF_A_TABLE: Final = 0.3
"""Share of its configurations: a method that may train all of them cannot be compared."""
BASE: Final = "evorec, no rungs"
"""Method that the others are compared with."""


@final
class ComputeMeter(ProblemWrapper):
    """A table that counts the training compute of its look-ups.

    Attributes:
        spent: compute so far, in full trainings of mean cost.
        trace: compute and worth of the archive after every stack.
    """

    def __init__(self, problem: tabular.Tabular) -> None:
        super().__init__(problem)
        self.mixes_shapes = True
        self.rungs, self.rung_keep = problem.rungs, problem.rung_keep
        means = problem.table.means(problem.steps)
        self._unit = float(np.mean([metrics["training_flops"] for metrics in means.values()]))
        self._means, self._reference = means, problem.reference_hypervolume()
        self._paid: dict[int, float] = {}
        self.found: dict[int, Metrics] = {}
        self.spent = 0.0
        self.trace: list[tuple[float, float]] = []

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """The table's outcomes; adds the compute that exceeds earlier rungs of the same configuration."""
        outcomes = self._problem.evaluate(specs, seed=seed, rung=rung)
        for outcome in outcomes:
            number = int(outcome.extra["config_id"])
            if outcome.metrics is not None:
                flops = outcome.metrics["training_flops"]
                self.spent += max(flops - self._paid.get(number, 0.0), 0.0) / self._unit
                self._paid[number] = max(flops, self._paid.get(number, 0.0))
                if rung is None:
                    self.found[number] = outcome.metrics
        if rung is None:
            self.trace.append((self.spent, self.worth()))
        return outcomes

    def archive(self) -> list[int]:
        """Numbers of the feasible front of the full trainings, in the values that the search saw."""
        numbers = np.array(list(self.found), dtype=np.int64)
        F, G = to_matrices(list(self.found.values()), self.objectives, self.constraints)
        numbers, F = numbers[(G <= 0).all(axis=1)], F[(G <= 0).all(axis=1)]
        return [int(number) for number in numbers[non_dominated(F)]]

    def worth(self) -> float:
        """Hypervolume of the archive in means over the replicates, as a share of the reference front's."""
        members = [self._means[number] for number in self.archive() if number in self._means]
        return hypervolume_share(members, self.objectives) / self._reference

    def claimed(self) -> float:
        """The same share in the values that the search saw."""
        return hypervolume_share([self.found[number] for number in self.archive()], self.objectives) / self._reference


Done = Callable[[], bool]


def evorec(problem: ComputeMeter, config: SearchConfig, done: Done) -> None:
    """A search of evorec, with the rungs of the problem."""
    with suppress(Interruption):
        search(problem, config, stop=done, chunk=POPULATION)


def pymoo(problem: ComputeMeter, config: SearchConfig, done: Done) -> None:
    """pymoo's NSGA-II with its own operators on real columns that are snapped."""
    algorithm = NSGA2(config.population)
    algorithm.setup(as_pymoo(problem, chunk=POPULATION), seed=config.seed, termination=("n_gen", MOST_GENERATIONS))
    while not done() and algorithm.has_next():
        algorithm.next()


Method = tuple[Callable[[ComputeMeter, SearchConfig, Done], None], Mapping[str, str], tuple[int, ...]]
METHODS: Final[Mapping[str, Method]] = {
    "random": (evorec, {"algorithm": "random"}, ()),
    "random, rungs 30, 60": (evorec, {"algorithm": "random"}, (30, 60)),
    "weighted sum": (evorec, {"algorithm": "weighted_sum"}, ()),
    "pymoo NSGA-II": (pymoo, {}, ()),
    "evorec, crowding": (evorec, {"selection": "crowding"}, ()),
    BASE: (evorec, {}, ()),
    "evorec, rung 60": (evorec, {}, (60,)),
    "evorec, rungs 30, 60": (evorec, {}, (30, 60)),
}
"""Name -> function, settings of ``[search]`` and rungs."""


def one_run(table: str, method: str, seed: int, budget: float) -> dict[str, Any]:
    """Figures of a run."""
    run, settings, rungs = METHODS[method]
    sought = {"surrogate": "none", **settings, "seed": seed, "population": POPULATION, "generations": MOST_GENERATIONS}
    own = {"data": {"path": table}, "training": {"rungs": rungs}, "search": sought}
    config = parse_config(merge(tabular.DEFAULTS, own), kind=tabular.CONFIG)
    problem = tabular.build(config)
    metered = ComputeMeter(problem)
    run(metered, config.search, lambda: metered.spent >= budget)
    archive = metered.archive()
    test = _test_worth(problem, archive)
    return {
        "seed": seed,
        "at": {str(mark): worth_at(metered.trace, mark) for mark in MARKS if mark <= budget},
        "worth": metered.worth(),
        "claimed": metered.claimed(),
        "test": test,
        "members": len(archive),
        "trained_to_the_end": len(metered.found),
        "trace": [[round(spent, 2), round(worth, 5)] for spent, worth in metered.trace],
    }


def _test_worth(problem: tabular.Tabular, archive: Sequence[int]) -> float:
    """Share of the box that the archive dominates on test, in means over the replicates; cost has no test value."""
    specs = [problem.table.specs[number] for number in archive]
    costs = problem.table.means(problem.steps)
    rows = []
    for number, found in zip(archive, problem.open_test(specs), strict=True):
        if number in costs:
            rows.append({**costs[number], **{name: float(np.mean(values)) for name, values in found.items()}})
    return hypervolume_share(rows, problem.objectives)


def a12(x: Sequence[float], y: Sequence[float]) -> float:
    """Probability that a run of `x` is better than a run of `y`, ties count half (Vargha & Delaney 2000)."""
    difference = np.subtract.outer(np.asarray(x), np.asarray(y))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def picture(runs: Mapping[str, Sequence[Mapping[str, Any]]], budget: float, path: Path) -> None:
    """Median and quartiles of every method over compute."""
    figure, (axis,) = panels(1, width=8, height=4.6)
    grid = np.linspace(POPULATION, budget, 80)
    for name, found in runs.items():
        curves = [[worth_at(run["trace"], x) for x in grid] for run in found]
        first, middle, third = np.quantile(curves, (0.25, 0.5, 0.75), axis=0)
        (line,) = axis.plot(grid, middle, label=name)
        axis.fill_between(grid, first, third, color=line.get_color(), alpha=0.12, linewidth=0)
    axis.set(xlabel="compute, in full trainings", ylabel="share of the reference front", ylim=(None, 1.0))
    axis.legend(fontsize=8, loc="lower right")
    save(figure, path)


def worth_at(trace: Sequence[Sequence[float]], compute: float) -> float:
    """Worth of the archive after the given compute."""
    return next((worth for spent, worth in reversed(trace) if spent <= compute), 0.0)


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Median, quartiles and A12 against `BASE` at every mark; worth, claimed value and test value at the end."""
    out: dict[str, Any] = {}
    for name, found in runs.items():
        at = {}
        for mark in found[0]["at"]:
            own, base = ([run["at"][mark] for run in some] for some in (found, runs[BASE]))
            at[mark] = {"quartiles": np.quantile(own, (0.25, 0.5, 0.75)).tolist(), "a12": a12(own, base)}
        end = {key: float(np.median([run[key] for run in found])) for key in ("worth", "claimed", "test", "members")}
        out[name] = {"at": at, **end}
    return out


def main(
    tables: Annotated[str, typer.Option(help="names of tables")] = "simulated,kuairand",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each method")] = 21,
    budget: Annotated[float, typer.Option(min=POPULATION, help="compute of a run, in full trainings")] = 400.0,
    out: Annotated[Path, typer.Option(help="file of the figures")] = HERE / "results" / "tabular_methods.json",
) -> None:
    """Run every method on every table."""
    document: dict[str, Any] = {"seeds": seeds, "budget": budget, "population": POPULATION, "tables": {}}
    for table in tables.split(","):
        most = min(budget, MOST_OF_A_TABLE * len(tabular.Table.read(table).specs))
        runs = {name: [one_run(table, name, seed, most) for seed in range(seeds)] for name in METHODS}
        figures = summary(runs)
        for name, found in figures.items():
            text = "  ".join(
                f"{mark}: {at['quartiles'][1]:.3f} (a12 {at['a12']:.2f})" for mark, at in found["at"].items()
            )
            print(f"{table}, {name}: {text}  claimed {found['claimed']:.3f}  test {found['test']:.4f}", flush=True)
        document["tables"][table] = {"budget": most, "summary": figures}
        write_results(out, document)
        picture(runs, most, out.with_name(f"{out.stem}_{Path(table).stem}.svg"))


if __name__ == "__main__":
    typer.run(main)
