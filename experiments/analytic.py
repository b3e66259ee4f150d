"""Number of evaluations that a search needs on a landscape whose front is known (`problems.analytic`).

Each method runs, seed by seed, until the genomes that it evaluated dominate 99 % of the region that the known front
dominates, or until its budget is spent. An evaluation is a genome that was not evaluated before. Methods:

* evorec's search with its default population;
* evorec's search with ``selection = "crowding"``, the rule of NSGA-II, instead of the hypervolume contribution;
* random: genomes drawn like the first generation of evorec;
* pymoo's NSGA-II with its defaults, population 100, on the same problem through `evorec.as_pymoo`, where every gene is
  a real column that is snapped.

    python experiments/analytic.py                                    # about 15 minutes on one core
    python experiments/analytic.py --seeds 1 --budget 200             # a quick trial

Prints medians and ranges over the seeds and writes experiments/results/analytic.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import typer
from problem_wrapper import ProblemWrapper
from pymoo.algorithms.moo.nsga2 import NSGA2
from results_file import write_results

from evorec import as_pymoo
from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import merge, parse_config
from evorec.errors import Interruption
from evorec.objectives import Metrics, to_matrices
from evorec.problem import Outcome, Spec
from evorec.search.engine import search
from evorec.seeds import generator
from problems import analytic

HERE = Path(__file__).parent
TARGET: Final = 0.99
"""Share of the known front's hypervolume."""
CASES: Final = {"two objectives": ("quality", "cost"), "three objectives": ("click", "like", "cost")}
MARKS: Final = (200, 500, 1000, 2000, 4000, 8000, 12_000)
"""Evaluations after which the share is recorded."""
BATCH: Final = 100
"""Random genomes drawn at once."""


@final
class EvaluationRecorder(ProblemWrapper):
    """A problem that keeps the front of all evaluations and its hypervolume after each stack.

    Attributes:
        n: evaluations so far.
        share: hypervolume after the last stack, as a share of the known front's.
        trace: evaluations and share after every stack.
    """

    def __init__(self, problem: analytic.Analytic) -> None:
        super().__init__(problem)
        self._known = analytic.known_hypervolume([objective.name for objective in problem.objectives])
        self._front: list[Metrics] = []
        self.n, self.share = 0, 0.0
        self.trace: list[tuple[int, float]] = []

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """The problem's outcomes, counted."""
        outcomes = self._problem.evaluate(specs, seed=seed)
        rows = [*self._front, *(outcome.metrics for outcome in outcomes if outcome.metrics is not None)]
        keep = non_dominated(to_matrices(rows, self.objectives, ())[0])
        self._front = [row for row, stays in zip(rows, keep, strict=True) if stays]
        self.n += len(specs)
        self.share = hypervolume_share(self._front, self.objectives) / self._known
        self.trace.append((self.n, self.share))
        return outcomes


Done = Callable[[], bool]


def evorec_nsga2(problem: EvaluationRecorder, seed: int, done: Done, selection: str = "hypervolume") -> None:
    """evorec's search with the settings of the problem."""
    settings = {"seed": seed, "generations": 100_000, "selection": selection}
    config = parse_config(merge(analytic.DEFAULTS, {"search": settings}), kind=analytic.CONFIG)
    with suppress(Interruption):
        search(problem, config.search, stop=done)


def random_search(problem: EvaluationRecorder, seed: int, done: Done) -> None:
    """Genomes drawn like the first generation of evorec, without repetition."""
    rng, known = generator(seed, "random search"), set[str]()
    while not done():
        new = {problem.space.key(x): problem.space.decode(x) for x in problem.space.sample(rng, BATCH)}
        problem.evaluate([spec for key, spec in new.items() if key not in known], seed=seed)
        known |= new.keys()


def pymoo_nsga2(problem: EvaluationRecorder, seed: int, done: Done) -> None:
    """pymoo's NSGA-II with its defaults."""
    algorithm = NSGA2(pop_size=100)
    algorithm.setup(as_pymoo(problem, chunk=100), seed=seed, termination=("n_gen", 100_000))
    while not done():
        algorithm.next()


METHODS: Final[Mapping[str, Callable[[EvaluationRecorder, int, Done], None]]] = {
    "evorec": evorec_nsga2,
    "pymoo NSGA-II": pymoo_nsga2,
    "evorec, crowding": partial(evorec_nsga2, selection="crowding"),
    "random": random_search,
}


def one_run(method: str, objectives: Sequence[str], seed: int, budget: int) -> dict[str, Any]:
    """Evaluations until the target (None: not within the budget) and the share at the marks, for a single run."""
    problem = EvaluationRecorder(
        analytic.build(parse_config(merge(analytic.DEFAULTS, {"objectives": objectives}), kind=analytic.CONFIG))
    )
    METHODS[method](problem, seed, lambda: problem.share >= TARGET or problem.n >= budget)
    reached = next((n for n, share in problem.trace if share >= TARGET and n <= budget), None)
    at = {str(mark): max((share for n, share in problem.trace if n <= mark), default=0.0) for mark in MARKS}
    spent = [mark for mark in MARKS if mark <= problem.n]
    return {"seed": seed, "needed": reached, "share_at": {str(mark): at[str(mark)] for mark in spent}}


def spread(values: Sequence[float | None]) -> str:
    """Median and range; a run that did not reach the target counts as the slowest."""
    numbers = sorted(np.inf if value is None else value for value in values)
    middle = numbers[len(numbers) // 2] if len(numbers) % 2 else float(np.mean(numbers[len(numbers) // 2 - 1 :][:2]))
    text = [f"{number:,.0f}" if np.isfinite(number) else "not reached" for number in (middle, numbers[0], numbers[-1])]
    return f"{text[0]} ({text[1]}..{text[2]})"


def main(
    seeds: Annotated[int, typer.Option(min=1, help="runs of each method")] = 11,
    budget: Annotated[int, typer.Option(min=1, help="most evaluations of a run with two objectives")] = 12_000,
    methods: Annotated[str, typer.Option(help="comma-separated; figures of the other methods are kept")] = "",
    out: Annotated[Path, typer.Option(help="file of the figures")] = HERE / "results" / "analytic.json",
) -> None:
    """Run every method on both sets of objectives; three objectives get a third of the budget."""
    found: dict[str, Any] = json.loads(out.read_text())["results"] if methods else {}
    for case, objectives in CASES.items():
        most = budget if len(objectives) == 2 else budget // 3
        for method in methods.split(",") if methods else METHODS:
            runs = [one_run(method, objectives, seed, most) for seed in range(seeds)]
            found.setdefault(case, {})[method] = {"budget": most, "runs": runs}
            marks = [mark for mark in MARKS if all(str(mark) in run["share_at"] for run in runs)]
            shares = {mark: np.median([run["share_at"][str(mark)] for run in runs]) for mark in marks}
            text = "  ".join(f"{mark}: {share:.3f}" for mark, share in shares.items())
            print(f"{case}, {method}: {spread([run['needed'] for run in runs])} evaluations; {text}", flush=True)
            document = {"target": TARGET, "hypervolume": {c: analytic.known_hypervolume(o) for c, o in CASES.items()}}
            write_results(out, {**document, "results": found})


if __name__ == "__main__":
    typer.run(main)
