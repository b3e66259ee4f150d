"""Does it pay that genomes inherit weights? A search with `training.inherit`, and one without at equal FLOPs.

    python experiments/inheritance.py --problems feed,ecommerce --seeds 0,1,2

For each problem and seed (of world and run), with the default search and the shipped memory, which knows no world of
these seeds: a search whose genomes inherit weights, and whose front is trained from scratch at its end; and a search
without inheritance that gets the FLOPs of all these trainings, those of the end included. Its hypervolume is taken at
that point, linearly between two generations. Written down for the search that inherits: the hypervolume of its front
with inherited weights and from scratch, how many members inherited, the rank correlation of both figures over them, and
how many of them agree within the noise of the seed (two standard deviations of the difference of two trainings from
scratch, from members of the front that are trained with two more seeds). Cases that the file has are not run again.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import typer
from results_file import write_results

from evorec.archive.indicators import hypervolume_share
from evorec.config import RunConfig, load_config
from evorec.models.spec import ModelSpec
from evorec.problem import load_problem
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Evaluation
from evorec.search.engine import TRAINING_FLOPS, SearchResult, search
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.table import Memory
from evorec.search.surrogate.gaussian_process import rank_correlation

NOISE_MEMBERS, NOISE_SEEDS = 4, (1001, 1002)
"""Members of the front that are trained with further seeds, and these seeds."""


def searched(config: RunConfig, folder: Path) -> tuple[RecProblem, SearchResult, list[Evaluation]]:
    """A search in a folder, or the continuation of the search in it, and its evaluations."""
    problem = load_problem(config)
    assert isinstance(problem, RecProblem)
    config = problem.config.sized("cpu")
    fingerprint = config.fingerprint(problem.data_sha256)
    path = folder / f"{config.problem_name}-{fingerprint}"
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
    else:
        run = RunDirectory.create(folder, config=config, fingerprint=fingerprint, environment=problem.environment)
    with run:
        found = search(problem, config.search, run=run, memory=Memory.read(SHIPPED), chunk=8)
        return problem, found, run.ledger.evaluations()


def spent(evaluations: list[Evaluation]) -> float:
    """FLOPs of trainings."""
    return sum((row.metrics or {}).get(TRAINING_FLOPS, 0.0) for row in evaluations)


def compared(name: str, seed: int) -> dict[str, Any]:
    """The figures of a problem and a seed."""

    def config(*more: str) -> RunConfig:
        own = (f"search.seed={seed}", f"data.simulator.seed={seed}", "search.memory=none")
        return load_config(problem=name, overrides=[*own, *more])

    with tempfile.TemporaryDirectory() as folder:
        problem, found, rows = searched(config("training.inherit=nearest"), Path(folder))
        objectives = problem.objectives
        heirs = [member for member in found.archive if "inherited" in member.extra]
        per_search = spent(rows)
        flops = per_search + spent(heirs)
        feasible = [
            member.metrics or {}
            for member in found.archive
            if all(bool(c.holds((member.metrics or {})[c.metric])) for c in problem.constraints)
        ]
        generations = math.ceil(len(found.hypervolume) * flops / per_search)
        while True:
            plain_config = config(f"search.generations={generations}")
            _, plain, plain_rows = searched(plain_config, Path(folder))
            total = np.cumsum([
                spent([row for row in plain_rows if row.generation == number])
                for number in range(1, len(plain.hypervolume) + 1)
            ])  # fmt: skip
            if total[-1] >= flops:
                break
            generations += 1
    measured = [o for o in objectives if o.metric not in problem.known_metrics(found.archive[0].spec)]
    noise = noise_of(problem, found.archive, [o.metric for o in measured])
    pairs = {
        o.name: np.array([[m.extra["inherited"][o.metric], (m.metrics or {})[o.metric]] for m in heirs]).reshape(-1, 2)
        for o in measured
    }
    return {
        "hypervolume": {
            "without inheritance": float(np.interp(flops, total, plain.hypervolume)),
            "inherited": found.hypervolume[-1],
            "from scratch": hypervolume_share(feasible, objectives),
        },
        "hypervolume after each generation": {
            "without inheritance": list(plain.hypervolume), "inherited": list(found.hypervolume)
        },
        "trainings": {"without inheritance": len(plain_rows), "inherited": len(rows), "from scratch": len(heirs)},
        "flops": flops,
        "members": len(found.archive),
        "infeasible from scratch": len(found.archive) - len(feasible),
        "rank correlation": {key: rank_correlation(both[:, 0], both[:, 1]) for key, both in pairs.items()},
        "mean difference": {key: float((both[:, 1] - both[:, 0]).mean()) for key, both in pairs.items()},
        "noise": {o.name: noise[o.metric] for o in measured},
        "agree": {
            o.name: float((np.abs(np.diff(pairs[o.name])) <= 2 * math.sqrt(2) * noise[o.metric]).mean())
            for o in measured
        },
    }  # fmt: skip


def noise_of(problem: RecProblem, members: tuple[Evaluation, ...], metrics: list[str]) -> dict[str, float]:
    """Standard deviation of metrics between trainings from scratch with different seeds."""
    some = [members[i] for i in np.linspace(0, len(members) - 1, min(NOISE_MEMBERS, len(members))).round().astype(int)]
    models = [ModelSpec.from_genes(member.spec) for member in some]
    values = [[[(member.metrics or {})[name] for name in metrics] for member in some]]
    for seed in NOISE_SEEDS:
        result = problem.trainer.with_seed(seed).evaluate(models)
        found = [None if isinstance(one, Exception) else one.metrics for one in result.measured]
        values.append([[math.nan if one is None else one[name] for name in metrics] for one in found])
    variances = np.nanvar(np.array(values), axis=0, ddof=1).mean(axis=0)
    return dict(zip(metrics, np.sqrt(variances).tolist(), strict=True))


def main(
    problems: str = "feed,ecommerce",
    seeds: str = "0,1,2",
    out: Path = Path(__file__).parent / "results" / "inheritance.json",
) -> None:
    """Compare on every problem and seed, print a line each, and write the figures."""
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for seed in map(int, seeds.split(",")):
        for name in problems.split(","):
            key = f"{name} {seed}"
            if key not in results:
                results[key] = compared(name, seed)
                write_results(out, results)
            print(key, json.dumps(results[key]["hypervolume"]), json.dumps(results[key]["rank correlation"]))


if __name__ == "__main__":
    typer.run(main)
