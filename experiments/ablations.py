"""Contribution of single choices: a fixed genome, trained on the training part and measured on validation.

For each data set a specification near the middle of the search space is trained with a single choice removed, over four
run seeds (batches, initial values, sample of users). Test rows are not read.

    python experiments/ablations.py            # about 5 minutes on one core; needs $EVOREC_DATA

Prints mean and standard deviation over the seeds and writes experiments/results/ablations.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from results_file import write_results

from evorec.config import load_config, recommender_config
from evorec.recommender.problem import build_problem

HERE = Path(__file__).parent
SEEDS = (0, 1, 2, 3)
CASES = {
    "kuairand": (
        {"embedding_dim": 32, "history_weight": 10.0, "popularity_smoothing": 10.0, "popularity_half_life": 2.0},
        {
            "as configured": [],
            "without out-of-time statistics": ["data.statistics=[]"],
            "statistics of user and item only": ['data.statistics=["user", "item"]'],
        },
    ),
    "movielens": (
        {"embedding_dim": 64, "embedding_learning_rate": 0.01, "embedding_decay": 0.03, "history_weight": 30.0,
         "temperature": 0.1},
        {
            "as configured": [],
            "whole past instead of earlier positives": ["training.next_item=false"],
            "equal weights for the whole past": ["data.history_recency=0.0"],
        },
    ),
}  # fmt: skip


def main() -> None:
    """Run every case and write the figures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, (genes, choices) in CASES.items():
        for choice, overrides in choices.items():
            found: dict[str, list[float]] = {}
            for seed in SEEDS:
                settings = [*overrides, f"search.seed={seed}", "constraints=[]"]
                config = load_config(HERE / f"{name}.toml", overrides=settings)
                problem = build_problem(recommender_config(config))
                spec = problem.space.decode(problem.space.default()) | genes
                (outcome,) = problem.evaluate([spec], seed=seed)
                assert outcome.metrics is not None, outcome.failure
                k = problem.config.evaluation.k
                for metric in ("accuracy", f"recall@{k}", f"catalogue_coverage@{k}"):
                    found.setdefault(metric, []).append(outcome.metrics[metric])
            results.setdefault(name, {})[choice] = found
            figures = "  ".join(f"{m} {np.mean(v):.4f} ± {np.std(v, ddof=1):.4f}" for m, v in found.items())
            print(f"{name:10s} {choice:45s} {figures}", flush=True)
    out = HERE / "results" / "ablations.json"
    write_results(out, {"seeds": SEEDS, "results": results})


if __name__ == "__main__":
    main()
