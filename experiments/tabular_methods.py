"""Search methods on the tabular benchmark (`problems.tabular`): the share of the best front against training compute.

    python experiments/tabular_methods.py                               # both tables, 21 seeds: a few minutes
    python experiments/tabular_methods.py --tables simulated --seeds 2 --budget 60

The unit of compute is the mean training FLOPs of a whole training over all configurations of the table; a training that
stops at a rung counts what it used, and one that goes on is not paid twice. A method is worth what its archive is worth
without luck: the feasible front of what it trained to the end, chosen on the one replicate that it saw, is scored with
the means over all replicates, as a share of the reference front's hypervolume. What it believed is noted beside it, and
what the test says of the same archive. Seeds cycle through the replicates. Random and the weighted sum (equal weights,
the genetic algorithm of ``search.algorithm``) keep the front of all they met, as the others do.

Prints medians and quartiles, writes experiments/results/tabular_methods.json and a picture per table beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import typer
from pymoo.algorithms.moo.nsga2 import NSGA2

from evorec import as_pymoo
from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import SearchConfig, merge, parse_config
from evorec.errors import Interrupted
from evorec.objectives import FloatArray, Metrics, to_matrices
from evorec.problem import Outcome, Problem, Spec
from evorec.search.engine import search
from evorec.space.operators import TypedCrossover, TypedMutation, TypedSampling
from problems import tabular

HERE = Path(__file__).parent
POPULATION: Final = 24
MARKS: Final = (50, 100, 200, 400)
"""Compute at which figures are noted, in whole trainings."""
MOST_GENERATIONS: Final = 1000
"""None gets so far: the budget ends a run before."""
MOST_OF_A_TABLE: Final = 0.3
"""Of its configurations; who trains them all compares no methods."""
BASE: Final = "evorec, no rungs"
"""Method that the others are compared with."""


@final
class Metered(Problem):
    """A table that counts what its look-ups would have cost to train.

    Attributes:
        spent: compute so far, in whole trainings of mean cost.
        trace: after every stack, the compute so far and the share that the archive is worth.
    """

    mixes_shapes = True

    def __init__(self, problem: tabular.Tabular) -> None:
        self._problem = problem
        self.name, self.space, self.seed = problem.name, problem.space, problem.seed
        self.objectives, self.constraints = problem.objectives, problem.constraints
        self.rungs, self.rung_keep, self.data_sha256 = problem.rungs, problem.rung_keep, problem.data_sha256
        means = problem.table.means(problem.steps)
        self._unit = float(np.mean([metrics["training_flops"] for metrics in means.values()]))
        self._means, self._reference = means, problem.reference_hypervolume()
        self._paid: dict[int, float] = {}
        self.found: dict[int, Metrics] = {}
        self.spent = 0.0
        self.trace: list[tuple[float, float]] = []

    def shape_key(self, spec: Spec) -> Any:
        """As the table's."""
        return self._problem.shape_key(spec)

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """As the table's."""
        return self._problem.baselines()

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """The table's outcomes, paid for; from rung to rung only what is added."""
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
        """Numbers of the feasible front of what was trained to the end, as the search saw it."""
        numbers = np.array(list(self.found), dtype=np.int64)
        F, G = to_matrices(list(self.found.values()), self.objectives, self.constraints)
        numbers, F = numbers[(G <= 0).all(axis=1)], F[(G <= 0).all(axis=1)]
        return [int(number) for number in numbers[non_dominated(F)]]

    def worth(self) -> float:
        """Share of the reference hypervolume that the archive has in means over the replicates."""
        members = [self._means[number] for number in self.archive() if number in self._means]
        return hypervolume_share(members, self.objectives) / self._reference

    def claimed(self) -> float:
        """The same in the values that the search saw."""
        return hypervolume_share([self.found[number] for number in self.archive()], self.objectives) / self._reference

    def at(self, compute: float) -> float:
        """Worth of the archive when so much was spent."""
        return next((worth for spent, worth in reversed(self.trace) if spent <= compute), 0.0)


Done = Callable[[], bool]


def evorec(problem: Metered, config: SearchConfig, done: Done) -> None:
    """A search of evorec, with the rungs of the problem."""
    with suppress(Interrupted):
        search(problem, config, stop=done, chunk=POPULATION)


def pymoo(problem: Metered, config: SearchConfig, done: Done) -> None:
    """pymoo's NSGA-II with its own operators on real columns that are snapped."""
    _run(NSGA2(config.population), problem, config, done)


def typed_at_1_of_n(problem: Metered, config: SearchConfig, done: Done) -> None:
    """evorec's operators in pymoo's loop, changing one gene of a child on average instead of two."""
    space = problem.space
    mutation = TypedMutation(space, prob_var=1 / len(space.genes))
    sampling, crossover = TypedSampling(space), TypedCrossover(space)
    _run(NSGA2(config.population, sampling=sampling, crossover=crossover, mutation=mutation), problem, config, done)


def _run(algorithm: NSGA2, problem: Metered, config: SearchConfig, done: Done) -> None:
    algorithm.setup(as_pymoo(problem, chunk=POPULATION), seed=config.seed, termination=("n_gen", MOST_GENERATIONS))
    while not done() and algorithm.has_next():
        algorithm.next()


Method = tuple[Callable[[Metered, SearchConfig, Done], None], str, tuple[int, ...]]
METHODS: Final[Mapping[str, Method]] = {
    "random": (evorec, "random", ()),
    "random, rungs 30, 60": (evorec, "random", (30, 60)),
    "weighted sum": (evorec, "weighted_sum", ()),
    "pymoo NSGA-II": (pymoo, "nsga2", ()),
    "evorec's operators at 1/n": (typed_at_1_of_n, "nsga2", ()),
    BASE: (evorec, "nsga2", ()),
    "evorec, rung 60": (evorec, "nsga2", (60,)),
    "evorec, rungs 30, 60": (evorec, "nsga2", (30, 60)),
}
"""Name -> who runs it, ``search.algorithm`` and where it compares."""


def one_run(table: str, method: str, seed: int, budget: float) -> dict[str, Any]:
    """Figures of one run; `trace` is thinned to where the worth changes."""
    run, algorithm, rungs = METHODS[method]
    sought = {"algorithm": algorithm, "seed": seed, "population": POPULATION, "generations": MOST_GENERATIONS}
    own = {"data": {"path": table}, "training": {"rungs": rungs}, "search": sought}
    config = parse_config(merge(tabular.DEFAULTS, own))
    problem = tabular.build(config)
    metered = Metered(problem)
    run(metered, config.search, lambda: metered.spent >= budget)
    archive = metered.archive()
    test = _test_worth(problem, archive)
    return {
        "seed": seed,
        "at": {str(mark): metered.at(mark) for mark in MARKS if mark <= budget},
        "worth": metered.worth(),
        "claimed": metered.claimed(),
        "test": test,
        "members": len(archive),
        "trained_to_the_end": len(metered.found),
        "trace": [[round(spent, 2), round(worth, 5)] for spent, worth in metered.trace],
    }


def _test_worth(problem: tabular.Tabular, archive: Sequence[int]) -> float:
    """Share of the box that the archive has on test, in means over the replicates; cost is what it is."""
    specs = [problem.table.specs[number] for number in archive]
    costs = problem.table.means(problem.steps)
    rows = []
    for number, found in zip(archive, problem.open_test(specs), strict=True):
        if number in costs:
            rows.append({**costs[number], **{name: float(np.mean(values)) for name, values in found.items()}})
    return hypervolume_share(rows, problem.objectives)


def a12(one: Sequence[float], other: Sequence[float]) -> float:
    """Chance that a run of `one` is better than a run of `other`, ties half (Vargha & Delaney 2000)."""
    difference = np.subtract.outer(np.asarray(one), np.asarray(other))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


COLOURS: Final = ("#9aa0a6", "#5f6368", "#c9a227", "#d1495b", "#8e6c8a", "#2a6f97", "#52b788", "#1b7f4d")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 60, 190, 20, 50
LINE_OF_TEXT: Final = 15


@final
@dataclass(frozen=True)
class Axes:
    """Where a point of compute and share stands in the picture.

    Args:
        budget: right end of the axis of compute; the left one is the first generation.
        low: lower end of the axis of the share; the upper one is 1.
    """

    budget: float
    low: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates in the picture."""
        across = LEFT + (x - POPULATION) / (self.budget - POPULATION) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - self.low) / (1.0 - self.low) * (HEIGHT - TOP - BOTTOM)

    def line(self, x: FloatArray, y: FloatArray) -> str:
        """Points of a polyline."""
        places = [self.place(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
        return " ".join(f"{across:.1f},{up:.1f}" for across, up in places)

    def frame(self) -> list[str]:
        """Lines, numbers and titles."""
        parts = []
        for share in np.arange(np.ceil(self.low * 10) / 10, 1.001, 0.1):
            ends = self.line(np.array([POPULATION, self.budget]), np.array([share, share]))
            parts.append(f'<polyline points="{ends}" stroke="#e0e0e0" fill="none"/>')
            parts.append(_text(LEFT - 8, self.place(0, share)[1] + 4, f"{share:.1f}", anchor="end"))
        marks = [mark for mark in MARKS if mark <= self.budget]
        parts += [_text(self.place(mark, 1)[0], HEIGHT - BOTTOM + 18, str(mark)) for mark in marks]
        middle = f"translate(16 {HEIGHT / 2}) rotate(-90)"
        parts.append(f'<text transform="{middle}" text-anchor="middle">share of the reference front</text>')
        return [*parts, _text((WIDTH - RIGHT + LEFT) / 2, HEIGHT - 10, "compute, in whole trainings")]


def _text(x: float, y: float, text: str, *, anchor: str = "middle", fill: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'


def picture(runs: Mapping[str, Sequence[Mapping[str, Any]]], budget: float) -> str:
    """Median and quartiles of every method against compute, as SVG."""
    grid = np.linspace(POPULATION, budget, 80)
    curves = {
        name: np.quantile([[_at(run["trace"], x) for x in grid] for run in found], (0.25, 0.5, 0.75), axis=0)
        for name, found in runs.items()
    }
    axes = Axes(budget, max(0.0, min(float(curve[0].min()) for curve in curves.values()) - 0.02))
    parts, ends = axes.frame(), []
    for colour, (name, (first, middle, third)) in zip(COLOURS, curves.items(), strict=True):
        band = f"{axes.line(grid, third)} {axes.line(grid[::-1], first[::-1])}"
        parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.15"/>')
        parts.append(f'<polyline points="{axes.line(grid, middle)}" stroke="{colour}" stroke-width="2" fill="none"/>')
        ends.append((axes.place(budget, middle[-1])[1], name, colour))
    height = -np.inf
    for y, name, colour in sorted(ends):
        height = max(y, height + LINE_OF_TEXT)  # names do not lie on each other
        parts.append(_text(WIDTH - RIGHT + 8, height + 4, name, anchor="start", fill=colour))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _at(trace: Sequence[Sequence[float]], compute: float) -> float:
    return next((worth for spent, worth in reversed(trace) if spent <= compute), 0.0)


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Median and quartiles at every mark, the chance to beat `BASE` there, and over-claim and test at the end."""
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
    budget: Annotated[float, typer.Option(min=POPULATION, help="compute of a run, in whole trainings")] = 400.0,
    out: Annotated[Path, typer.Option(help="where the figures go")] = HERE / "results" / "tabular_methods.json",
) -> None:
    """Runs every method on every table."""
    document: dict[str, Any] = {"seeds": seeds, "budget": budget, "population": POPULATION, "tables": {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    for table in tables.split(","):
        most = min(budget, MOST_OF_A_TABLE * len(tabular.Table.read(table).specs))
        runs = {name: [one_run(table, name, seed, most) for seed in range(seeds)] for name in METHODS}
        figures = summary(runs)
        for name, found in figures.items():
            text = "  ".join(
                f"{mark}: {at['quartiles'][1]:.3f} (a12 {at['a12']:.2f})" for mark, at in found["at"].items()
            )
            print(f"{table}, {name}: {text}  claimed {found['claimed']:.3f}  test {found['test']:.4f}", flush=True)
        kept = {name: [{k: v for k, v in run.items() if k != "trace"} for run in found] for name, found in runs.items()}
        document["tables"][table] = {"budget": most, "summary": figures, "runs": kept}
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        out.with_name(f"{out.stem}_{Path(table).stem}.svg").write_text(picture(runs, most), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
