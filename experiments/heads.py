"""Moving averages, ensemble heads and target attention: is a ranker better with them, all else equal?

On each data set a genome is trained as it is and with one of the three genes, over five run seeds (batches, initial
values, dropout), and measured on validation. Differences are paired by seed. Test rows are not read.

    python experiments/heads.py                # feed and KuaiRand; the second needs $EVOREC_DATA

Prints mean differences with 95 % intervals (t over the seeds) and writes experiments/results/heads.json after every
seed; cases of other data sets and genomes in that file are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results
from scipy.stats import t

from evorec.config import load_config, recommender_config
from evorec.recommender.problem import RecProblem, build_problem

HERE = Path(__file__).parent
SETTINGS = ('space.target_attention="search"', "constraints=[]")
"""The gene is named, so that batches have the pasts of their rows."""
GENOMES: dict[str, dict[str, Any]] = {"default": {}, "wide": {"embedding_dim": 32, "width": 64, "dropout": 0.2}}
CHANGES: dict[str, dict[str, Any]] = {
    "ema 0.95": {"ema": 0.95},
    "ema 0.99": {"ema": 0.99},
    "4 heads": {"ensemble_heads": 4},
    "attention, softmax": {"target_attention": "softmax"},
    "attention, sigmoid": {"target_attention": "sigmoid"},
    "4 heads, ema 0.95": {"ensemble_heads": 4, "ema": 0.95},
    "4 heads, softmax": {"ensemble_heads": 4, "target_attention": "softmax"},
}


def problem_of(data: str) -> RecProblem:
    """The problem of a data set."""
    if data == "feed":
        config = load_config(problem="feed", overrides=(*SETTINGS, "training.steps=300"))
    else:
        config = load_config(HERE / "kuairand.toml", overrides=SETTINGS)
    return build_problem(recommender_config(config))


def main() -> None:
    """Train every case and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=("feed", "kuairand"), default=("feed", "kuairand"))
    parser.add_argument("--genomes", nargs="+", choices=tuple(GENOMES), default=tuple(GENOMES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "heads.json")
    chosen = parser.parse_args()
    for data in chosen.data:
        problem = problem_of(data)
        for genome in chosen.genomes:
            start = problem.space.decode(problem.space.default()) | {"ema": 0.0} | GENOMES[genome]
            found: list[list[dict[str, float]]] = []  # by seed and case
            for seed in range(chosen.seeds):
                cases = [start | change for change in ({}, *CHANGES.values())]
                outcomes = problem.with_seed(seed).evaluate(cases, seed=seed)
                found.append([outcome.metrics for outcome in outcomes if outcome.metrics is not None])
                assert len(found[-1]) == len(cases), [outcome.failure for outcome in outcomes]
                results = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {}
                results.setdefault(data, {})[genome] = summary(found)
                write_results(chosen.out, results)
                print(f"{data}, {genome}, seed {seed}", flush=True)
            for change, figures in results[data][genome]["difference"].items():
                text = "  ".join(f"{key} {mean:+.4f} ± {half:.4f}" for key, (mean, half) in figures.items())
                print(f"{data:9s} {genome:8s} {change:19s} {text}", flush=True)


def summary(found: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Mean and standard deviation without a change, and of every change the mean difference and half of its interval.

    Of counted costs, the ratio instead of the difference.
    """
    n, names = len(found), ("accuracy", "training_flops", "inference_flops")
    keys = [key for key in found[0][0] if key.startswith(("auc/", "recall@")) or key in names]
    plain = {key: _spread([seed[0][key] for seed in found]) for key in keys}
    difference: dict[str, Any] = {}
    for case, change in enumerate(CHANGES, 1):
        difference[change] = {}
        for key in keys:
            before, after = np.array([[seed[0][key], seed[case][key]] for seed in found]).T
            mean, sd = _spread(after / before if key.endswith("flops") else after - before)
            half = float(t.ppf(0.975, n - 1) * sd / n**0.5) if n > 1 else 0.0
            difference[change][key] = [mean, half]
    return {"seeds": n, "plain": plain, "difference": difference}


def _spread(values: Any) -> list[float]:
    """Mean and standard deviation (n - 1)."""
    return [float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0]


if __name__ == "__main__":
    main()
