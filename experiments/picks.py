"""Three picks of every built-in problem with their exchange rates, and the simplest genome within the noise of a few.

Each problem is searched with a small budget. From the front come the knee, the cheapest member above the best baseline
in recall (or in the first objective that baselines have), and the best first objective at the median cost. Then the
knee of some problems is simplified: genes are set back to their defaults while no objective falls beyond the noise of 5
fresh seeds, and both genomes are compared with 5 others. All figures are on validation.

    python experiments/picks.py                                  # all problems, some minutes on two quiet cores
    python experiments/picks.py feed tabular --simplify feed     # problems, and those whose knee is simplified

Writes experiments/results/picks.json. Problems whose data are not under $EVOREC_DATA are left out and named.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results

from evorec.archive.decide import choices
from evorec.archive.exchange import exchanges, gaps
from evorec.config import installed_problems, load_config
from evorec.errors import ConfigError, DataError
from evorec.objectives import Metrics
from evorec.problem import Problem, Spec, load_problem
from evorec.search.engine import search
from evorec.search.simplify import simplify

HERE = Path(__file__).parent
POPULATION, GENERATIONS, N_SEEDS = 8, 2, 5
SIMPLIFIED = ("feed", "treatment", "tabular")


def main() -> None:
    """Search, pick, simplify, and print the tables of experiments/README.md."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("problems", nargs="*", default=list(installed_problems()))
    arguments.add_argument("--simplify", nargs="*", default=list(SIMPLIFIED))
    arguments.add_argument("--set", action="append", default=[], help="setting of every problem, e.g. run.device=cpu")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "picks.json")
    options = arguments.parse_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name in options.problems:
        start = time.monotonic()
        try:
            found, problem, knee = picked(name, options.set)
        except (ConfigError, DataError) as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}", flush=True)
            continue
        if name in options.simplify and knee is not None:
            found["simplified"] = simplified(problem, knee)
        results[name] = found
        write_results(options.out, results)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        for pick in found["picks"]:
            lines = [pick["pick"], str(pick.get("values") or pick["refused"]), *pick.get("rates", ())]
            print("   " + "\n     ".join(lines), flush=True)


def picked(name: str, settings: list[str]) -> tuple[dict[str, Any], Problem, Spec | None]:
    """Picks of a short search, the problem, and the genome of the knee."""
    budget = [f"search.population={POPULATION}", f"search.generations={GENERATIONS}"]
    config = load_config(None, problem=name, overrides=[*budget, *settings])
    problem = load_problem(config)
    result = search(problem, config.search, chunk=config.run.chunk)
    members = {member.key: member.metrics or {} for member in result.archive}
    found: dict[str, Any] = {"evaluated": result.n_evaluated, "members": len(members), "picks": []}
    if not members:
        return found, problem, None
    objectives, baselines = problem.objectives, problem.baselines()
    cost = next(axis for axis in objectives if axis.direction == "min")
    cost = next((axis for axis in objectives if axis.direction == "min" and axis.log10), cost)
    half = f"{float(np.median([row[cost.metric] for row in members.values()])):.3g}"
    texts = ["knee", f"{objectives[0].name} where {cost.name} <= {half}"]
    # recall, an objective or not, else the first objective that a baseline has
    recall = f"recall@{config.k}"
    shared = [axis.metric for axis in objectives if axis.direction == "max"]
    shared = [name for name in (recall, *shared) if any(name in row for row in baselines.values())]
    shared = [name for name in shared if all(name in row for row in members.values())]
    if shared:
        with_it = {baseline: row[shared[0]] for baseline, row in baselines.items() if shared[0] in row}
        texts.insert(1, f"cheapest where {shared[0]} >= {max(with_it, key=lambda baseline: with_it[baseline])}")
    for text in texts:
        found["picks"].append(one_pick(text, members, problem, config.k, baselines))
    found["gaps"] = [gap.text for gap in gaps(members, objectives)]
    shown = dict.fromkeys((*(axis.metric for axis in objectives), recall))
    found["baselines"] = {
        name: {metric: row[metric] for metric in shown if metric in row} for name, row in baselines.items()
    }
    knee = found["picks"][0]["member"]
    return found, problem, next(member.spec for member in result.archive if member.key == knee)


def one_pick(text: str, members: dict[str, Metrics], problem: Problem, k: int, baselines: Any) -> dict[str, Any]:
    """The member, its objectives and its rates; or what is reachable instead."""
    try:
        (choice,) = choices([text], members, problem.objectives, k, baselines=baselines)
    except ConfigError as error:
        return {"pick": text, "refused": str(error)}
    return {
        "pick": text,
        "member": choice.member,
        "candidates": len(choice.candidates),
        "values": {axis.name: members[choice.member][axis.metric] for axis in problem.objectives},
        "rates": [exchange.text for exchange in exchanges(choice.member, members, problem.objectives)],
    }


def simplified(problem: Problem, spec: Spec) -> dict[str, Any]:
    """The simplest genome within the noise of a member, and both with other seeds."""
    found = simplify(problem, spec, n_seeds=N_SEEDS, progress=lambda text: print(f"   {text}", flush=True))
    return {
        "trainings": found.n_trainings,
        "genes": len(spec),
        "resets": {reset.gene: [reset.was, reset.now] for reset in found.resets},
        "left": list(found.left),
        "objectives": {
            one.objective: {"noise": one.noise, "before": one.before, "after": one.after, "within": one.within}
            for one in found.comparisons
        },
    }


if __name__ == "__main__":
    main()
