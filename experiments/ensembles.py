"""What ensembles of an archive gain over its best members, on validation and on the test, and at which cost.

Per seed: a search, the ensembles of its archive as `evorec ensemble` selects them, and `finalize` with the best member
of each goal and all ensembles, trained again with fresh seeds. Ways to combine members are compared on validation, each
selected on one half of the users and measured on the other: logits or probabilities of the tasks; preferences or plain
scores of the lists. Averages of weights ("soups", Wortsman et al. 2022) are measured for the pairs of members whose
arrays have the same shapes, beside the ensemble of the same pair.

    python experiments/ensembles.py feed --seeds 3                         # problem seeds 0..2, default search
    EVOREC_DATA=data python experiments/ensembles.py experiments/kuairand.toml --seeds 1 \\
        --set training.steps=150 --set search.population=16 --set search.evaluations=64

Searches are kept in runs/ensembles. Writes experiments/results/ensembles.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from results_file import write_results

from evorec.archive.ensemble import Ensemble, greedy
from evorec.config import load_config, recommender_config
from evorec.deploy.ensemble.measure import measure_ensemble
from evorec.deploy.ensemble.outputs import Counts, ListScores, StoredMembers, list_scores, member_logits
from evorec.deploy.ensemble.select import Halves, select_ensembles
from evorec.deploy.final.finalize import finalize
from evorec.metrics.accuracy import ordering
from evorec.metrics.lists import hits, n_relevant
from evorec.metrics.top_items import best_items
from evorec.models.spec import ModelSpec
from evorec.problem import load_problem
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory, run_path
from evorec.search.engine import search
from evorec.search.executor_choice import executor_for

HERE = Path(__file__).parent
MOST, STEPS, LIBRARY = 4, 12, 20
PAIRS = 40
"""Most pairs whose weights are averaged, those with the best goals first."""


def main() -> None:
    """Search, select, finalize and summarise each seed."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("problem", help="name of a problem, or a TOML file")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--runs", type=Path, default=Path("runs/ensembles"))
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "ensembles.json")
    options = arguments.parse_args()
    name, found = Path(options.problem).stem, []
    for seed in range(options.seeds):
        found.append(of_seed(options.problem, seed, options.set, options.runs / f"{name}-{seed}"))
        results = json.loads(options.out.read_text()) if options.out.is_file() else {}
        results[name] = {"settings": options.set, "seeds": found}
        write_results(options.out, results)
        print(json.dumps(found[-1]), flush=True)


def of_seed(problem_name: str, seed: int, overrides: Sequence[str], root: Path) -> dict[str, Any]:
    """Figures of a search, its best members and its ensembles."""
    is_file = problem_name.endswith(".toml")
    own = [
        *overrides,
        f"search.seed={seed}",
        "search.memory=none",
        *([] if is_file else [f"data.simulator.seed={seed}"]),
    ]
    config = load_config(
        Path(problem_name) if is_file else None, problem=None if is_file else problem_name, overrides=own
    )
    problem = load_problem(config)
    assert isinstance(problem, RecProblem)
    config = recommender_config(problem.config.sized(problem.device_type))
    path = run_path(root, config, config.fingerprint(problem.data_sha256))
    if not RunDirectory.exists(path):
        fingerprint = config.fingerprint(problem.data_sha256)
        RunDirectory.create(root, config=config, fingerprint=fingerprint, environment=problem.environment).close()
    with RunDirectory.open(path) as run:
        if not run.finished:
            executor = executor_for(config.run, device=problem.device_type)
            search(problem, config.search, run=run, executor=executor, chunk=config.run.chunk)
        selected = run.read_ensembles() or select_ensembles(run, problem, config.ensemble)
        goals = selected["goals"]
        settings = config.finalize.model_copy(update={"picks": tuple(goals), "ensembles": True})
        report = run.read_final() or finalize(run, problem, settings)
        members = {member.key: member for member in run.members()}
        specs = {key: ModelSpec.from_genes(member.spec) for key, member in members.items()}
        stored = StoredMembers(problem, run, specs)
        metrics = {key: dict(member.metrics or {}) for key, member in members.items()}
        combined = combinations_of_outputs(stored, metrics, goals)
        averaged = soups(stored, metrics, goals)
    measured = [*goals, "training_flops", "inference_flops"]

    def figures(entry: Mapping[str, Any]) -> dict[str, Any]:
        test = {name: [entry["test"][name]["mean"], entry["test"][name]["sd"]] for name in measured}
        return {"validation": {name: entry["validation"][name] for name in measured}, "test": test}

    boosted = report["baselines"].get("gradient_boosting", {}).get("accuracy")
    return {
        "seed": seed,
        "archive": len(members),
        "held": selected["held"],
        "best_members": {entry["pick"]: figures(entry) for entry in report["picks"]},
        "ensembles": [
            {"best": entry["best"], "members": len(entry["members"]), **figures(entry)} for entry in report["ensembles"]
        ],
        "gradient_boosting": boosted,
        "combined": combined,
        "soups": averaged,
    }


def combinations_of_outputs(
    members: StoredMembers, metrics: Mapping[str, Mapping[str, float]], goals: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Gain over the best member on the half of the users that did not select, mean of both halves, by combination."""
    halves = Halves(members.problem, 0)
    out: dict[str, dict[str, float]] = {}
    for goal in goals:
        keys = sorted(metrics, key=lambda key, goal=goal: -metrics[key][goal])[:LIBRARY]
        scores: dict[str, Callable[[int, Counts], float]] = {}
        if goal == "accuracy":
            logits = member_logits(members, keys)
            for name, link in (("logits", _same), ("probabilities", _sigmoid)):
                scores[name] = partial(_accuracy, members.problem, halves, logits, link)
        elif goal.startswith("recall"):
            lists = list_scores(members, keys)
            for name, is_plain in (("preferences", False), ("plain scores", True)):
                scores[name] = partial(_recall, members.problem, halves, lists, is_plain)
        for name, score in scores.items():
            gains = []
            for part, other in ((1, 2), (2, 1)):
                found = greedy(partial(score, part), keys, most=MOST, steps=STEPS)
                gains.append(score(other, found[MOST]) - score(other, found[1]))
            out.setdefault(goal, {})[name] = mean(gains)
    return out


def _accuracy(
    problem: RecProblem, halves: Halves, logits: Any, link: Callable[[Any], Any], part: int, counts: Counts
) -> float:
    """Mean AUC or concordance of a mean of outputs, on a part of the rows."""
    dataset, rows, total = problem.data.dataset, halves.parts[part][0], sum(counts.values())
    mixed = sum(n / total * link(logits[key][:, rows].astype(np.float64)) for key, n in counts.items())
    found = zip(dataset.kinds, dataset.held_out.labels[rows].T, mixed, strict=True)
    return float(np.mean([ordering(kind, own, scores) for kind, own, scores in found]))


def _recall(problem: RecProblem, halves: Halves, lists: ListScores, is_plain: bool, part: int, counts: Counts) -> float:
    """Recall of mixed preferences or of a mean of plain scores, on a part of the users."""
    users, total = problem.data.users, sum(counts.values())
    if is_plain:
        mixed = sum(n / total * (lists.retrieval[key] + lists.ranker.get(key, 0)) for key, n in counts.items())
        best = best_items(np.asarray(mixed, dtype=np.float32), lists.k)[1]
        found = np.take_along_axis(lists.items, best, axis=1)
    else:
        found = lists.lists(counts)
    hit = hits(found, users.relevant, problem.data.dataset.n_items).sum(1) / n_relevant(users.relevant)
    return float(hit[halves.parts[part][1]].mean())


def _same(z: Any) -> Any:
    return z


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def soups(members: StoredMembers, metrics: Mapping[str, Mapping[str, float]], goals: Sequence[str]) -> dict[str, Any]:
    """Averaged weights of pairs with equal shapes: mean difference to the better member, and that of the ensemble."""
    arrays = {key: members.run.read_weights(key) for key in members.specs}
    shapes = {key: {name: array.shape for name, array in own.items()} for key, own in arrays.items()}
    pairs = [pair for pair in combinations(sorted(arrays), 2) if shapes[pair[0]] == shapes[pair[1]]]
    pairs.sort(key=lambda pair: -sum(metrics[key][goal] for key in pair for goal in goals))
    data, rows = members.problem.data, []
    for pair in pairs[:PAIRS]:
        first = max(pair, key=lambda key: metrics[key][goals[0]])
        mixed = {name: (arrays[pair[0]][name] + arrays[pair[1]][name]) / 2 for name in arrays[first]}
        (soup,) = data.measure(data.stack([members.specs[first]], [mixed]))
        ensemble = Ensemble.of(dict.fromkeys(pair, 1), dict.fromkeys(pair, 1))
        both = measure_ensemble(ensemble, members.specs, arrays, data).metrics
        best = {goal: max(metrics[key][goal] for key in pair) for goal in goals}
        values = getattr(soup, "metrics", {})
        rows.append({g: (values.get(g, float("nan")) - best[g], both[g] - best[g]) for g in goals})
    return {
        "pairs": len(rows),
        "soup": {goal: mean(row[goal][0] for row in rows) if rows else None for goal in goals},
        "soup_better": {goal: sum(row[goal][0] > 0 for row in rows) for goal in goals},
        "ensemble": {goal: mean(row[goal][1] for row in rows) if rows else None for goal in goals},
    }


if __name__ == "__main__":
    main()
