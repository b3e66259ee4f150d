"""Gain of a front at no training cost when the list score of a member is evolved instead of used as trained.

For a member, the head outputs of the validation users are cached. Weighted sums of the heads, weighted products of
their probabilities and typed trees (`evorec fuse`) then get the same number of evaluations, with and without the weight
of re-ranking (MMR) as a gene. Formulas are fitted on half of the users and measured on the other half. Seeds draw the
halves and the evolution, on the simulator also the world and a short search whose member is fused. Hypervolumes are
shares of a box from 0 to the best order of the fitting half's candidates, over all objectives except the formula size,
relative to the member's own list score.

    python experiments/fusion.py                                    # feed, simulated, about 8 minutes on one core
    EVOREC_DATA=... python experiments/fusion.py --run RUN          # members of a finished run, e.g. of KuaiRand

Writes experiments/results/fusion.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from results_file import write_results

from evorec.archive.decide import pick
from evorec.config import FuseConfig, parse_config
from evorec.deploy.fusion.fuse import MMR_WEIGHTS, UserHalves, evolved_fronts, hypervolumes, user_halves
from evorec.deploy.fusion.scorer import fusion_objectives
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.run.directory import RunDirectory
from evorec.search import engine

HERE = Path(__file__).parent
POPULATION, GENERATIONS = 12, 3
PICKS = ("knee", "recall@k")
METHODS = (
    "member + mmr",
    "weighted sum, no mmr",
    "weighted product, no mmr",
    "evolved, no mmr",
    "weighted sum",
    "weighted product",
    "evolved",
)


def main() -> None:
    """Run every case and write the figures."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--run", type=Path, help="run directory; default: short searches of problem feed")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--picks", nargs="+", default=PICKS)
    arguments.add_argument("--set", nargs="*", default=[], dest="overrides", help="settings of fuse, e.g. tuning=100")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "fusion.json")
    options = arguments.parse_args()
    out: Path = options.out
    results: dict[str, list[Any]] = json.loads(out.read_text()) if out.is_file() else {}
    name = options.run.name if options.run else "feed (simulated)"
    settings = parse_config({}, overrides=[f"fuse.{text}" for text in options.overrides]).fuse
    results[name] = []
    for found in of_run(options.run, options, settings) if options.run else of_simulator(options, settings):
        results[name].append(found)
        write_results(out, results)
        shares = "  ".join(f"{method} {share:.2f}" for method, share in found["times_member"].items())
        print(f"{name} {found['pick']} seed {found['seed']} ({found['seconds']:.0f} s): {shares}", flush=True)
    show(name, results[name])


def of_simulator(options: argparse.Namespace, settings: FuseConfig) -> Iterator[dict[str, Any]]:
    """Figures of the members of a short search in a new world per seed."""
    defaults = import_module("problems.feed").DEFAULTS
    for seed in range(options.seeds):
        overrides = [f"search.seed={seed}", f"data.simulator.seed={seed}", "run.workers=1"]
        overrides += [f"search.population={POPULATION}", f"search.generations={GENERATIONS}"]
        config = parse_config(defaults, overrides=overrides)
        problem = build_problem(config)
        with TemporaryDirectory() as folder:
            fingerprint = config.fingerprint(problem.data_sha256)
            created = RunDirectory.create(
                Path(folder), config=config, fingerprint=fingerprint, environment=problem.environment
            )
            with created as run:
                engine.search(problem, config.search, run=run, chunk=POPULATION)
                yield from of_members(run, problem, options.picks, settings.model_copy(update={"seed": seed}))


def of_run(path: Path, options: argparse.Namespace, settings: FuseConfig) -> Iterator[dict[str, Any]]:
    """Figures of the members of a finished run, for each seed of halves and evolution."""
    with RunDirectory.open(path, read_only=True) as run:
        problem = build_problem(run.config)
        for seed in range(options.seeds):
            yield from of_members(run, problem, options.picks, settings.model_copy(update={"seed": seed}))


def of_members(
    run: RunDirectory, problem: RecProblem, picks: Sequence[str], config: FuseConfig
) -> Iterator[dict[str, Any]]:
    """Figures of every method for the picked members."""
    members = {one.key: one for one in run.members()}
    measured = {key: one.metrics or {} for key, one in members.items()}
    for text in picks:
        key = pick(text, measured, problem.objectives, problem.config.evaluation.k)
        spec = ModelSpec.from_genes(members[key].spec)
        began = time.monotonic()
        found = user_halves(problem.data, spec, run.read_weights(key), config)
        cached = time.monotonic() - began
        yield {
            "pick": text,
            "member": key,
            "seed": config.seed,
            "rank_blend": spec.rank_blend,
            "users": found.n_users,
            "users_of_task": {task: found.validation.n_users_of(task) for task in found.validation.tasks},
            "seconds_of_head_outputs": cached,
            **compared(found, config),
            "seconds": time.monotonic() - began,
        }


def compared(found: UserHalves, config: FuseConfig) -> dict[str, Any]:
    """Hypervolume and best figures of the front of every method."""
    objectives = fusion_objectives(config.objectives, found.fitting, config.max_size)
    rows = {"member": [row(found, found.own, 0.0)], "member + mmr": [row(found, found.own, one) for one in MMR_WEIGHTS]}
    for mmr, label in ((False, ", no mmr"), (True, "")):
        fronts, n_evaluated = evolved_fronts(found, objectives, config.model_copy(update={"mmr": mmr}))
        for method, front in fronts.items():
            rows[method + label] = [row(found, one.formula, one.mmr) for one in front]
    shares = {method: hypervolumes(some, objectives) for method, some in rows.items()}
    own = shares["member"]
    gains = {method: shares[method]["validation"] / own["validation"] for method in METHODS}
    metrics = [one.metric for one in objectives if one.metric != "size"]
    return {
        "objectives": metrics,
        "evaluations": n_evaluated,
        "hypervolume": shares,
        "times_member": gains,
        "front_sizes": {method: len(some) for method, some in rows.items()},
        "member_metrics": rows["member"][0]["validation"],
        "best": {
            method: {metric: max(one["validation"][metric] for one in some) for metric in metrics}
            for method, some in rows.items()
        },
        "dominating": [one for one in rows["evolved"] if dominates(one, rows["member"][0], metrics)][:5],
    }


def row(found: UserHalves, formula: Any, mmr: float) -> dict[str, Any]:
    """A formula's metrics on both halves."""
    scorers = {"fitted": found.fitting, "validation": found.validation}
    measured = {half: scorer.metrics(scorer.positions(formula, mmr)) for half, scorer in scorers.items()}
    return {"text": formula.short, "mmr": mmr, "size": formula.size, **measured}


def dominates(row: Mapping[str, Any], other: Mapping[str, Any], metrics: Sequence[str]) -> bool:
    """Whether a row is better in every metric on both halves."""
    return all(row[half][metric] > other[half][metric] for half in ("fitted", "validation") for metric in metrics)


def show(name: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Print hypervolumes relative to the member's, and in how many cases evolved trees lead."""
    print(f"\n{name}: hypervolume relative to the member's, {len(found)} cases: median (range); evolved trees lead in")
    gains = {method: np.array([one["times_member"][method] for one in found]) for method in METHODS}
    for method in METHODS:
        values = gains[method]
        rival = "evolved, no mmr" if method.endswith("no mmr") else "evolved"
        ahead = "" if method == rival else f"  {int((gains[rival] > values).sum())} of {len(found)}"
        print(f"  {method:26s} {np.median(values):.3f} ({values.min():.3f}..{values.max():.3f}){ahead}")
    n_better = sum(bool(one["dominating"]) for one in found)
    print(f"  cases with a formula better than the member in every metric on both halves: {n_better} of {len(found)}")


if __name__ == "__main__":
    main()
