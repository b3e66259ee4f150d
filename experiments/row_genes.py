"""Genes of the embedding rows, each against the same genome without it: optimiser of the rows, id dropout, smoothing.

A genome near the middle of the space is trained on the training part and measured on validation; all variants of a seed
train as one stack, on the same batches. Pairs share the seed, so a gain is a mean of paired differences. Test rows are
not read.

    python experiments/row_genes.py            # every gene on its data sets; kuairand needs $EVOREC_DATA
    python experiments/row_genes.py rowwise_adagrad --data feed --seeds 2

Prints the mean of every variant, its paired gain over the first with its standard error, and the seeds in which it is
above; writes experiments/results/row_genes.json.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results

from evorec.config import load_config, recommender_config
from evorec.recommender.problem import RecProblem, build_problem

HERE = Path(__file__).parent
OUT = HERE / "results" / "row_genes.json"
NEW_ITEMS = ["data.simulator.new_item_share=0.6"]
"""Six items in ten appear during the log, some of them after the training part."""
DATA: dict[str, tuple[str, list[str]]] = {
    "feed": ("feed", []),
    "ecommerce": ("ecommerce", []),
    "kuairand": ("kuairand", []),
    "feed, new items": ("feed", NEW_ITEMS),
    "ecommerce, new items": ("ecommerce", NEW_ITEMS),
}
"""Data set -> problem or configuration in this folder, and settings."""
BASE = {"embedding_dim": 32, "history_weight": 10.0, "ema": 0.0}
RATES = (0.0005, 0.001, 0.003, 0.01)
LAYERS = {
    f"{n} layers{', trained through' if trained else ''}": {"graph_layers": n, "graph_trained": trained}
    for trained in (False, True)
    for n in (1, 2, 3)
}
VARIANTS: dict[str, tuple[list[str], dict[str, dict[str, Any]]]] = {
    "rowwise_adagrad": (
        ["feed", "ecommerce", "kuairand"],
        {
            f"{optimizer}, rate {rate}": {"optimizer": optimizer, "embedding_learning_rate": rate}
            for optimizer in ("adamw", "rowwise_adagrad")
            for rate in RATES
        },
    ),
    "id_dropout": (
        ["feed, new items", "ecommerce, new items", "kuairand"],
        {f"{rate}": {"id_dropout": rate, "new_item_popularity": 0.5} for rate in (0.0, 0.1, 0.3, 0.5, 0.7)},
    ),
    "graph_layers": (["feed", "ecommerce", "kuairand"], {"none": {}} | LAYERS),
    "graph_layers without a past": (
        ["feed", "ecommerce"],
        {name: changes | {"history": False} for name, changes in ({"none": {}} | LAYERS).items()},
    ),
}
"""Gene -> its data sets and its variants; the first is the one that the others are compared with."""


@cache
def problem_of(data: str) -> RecProblem:
    """The problem of a data set, built once: its batches depend on the seed, its data and users do not."""
    name, settings = DATA[data]
    path = HERE / f"{name}.toml"
    overrides = [*settings, "constraints=[]"]
    is_file = path.exists()
    config = load_config(path if is_file else None, problem=None if is_file else name, overrides=overrides)
    return build_problem(recommender_config(config))


def run(data: str, gene: str, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Every metric of every variant, a value for each seed."""
    variants = VARIANTS[gene][1]
    found: dict[str, dict[str, list[float]]] = {variant: {} for variant in variants}
    for seed in range(seeds):
        problem = problem_of(data).with_seed(seed)
        base = problem.space.decode(problem.space.default()) | BASE
        outcomes = problem.evaluate([base | changes for changes in variants.values()], seed=seed)
        k = problem.config.evaluation.k
        for variant, outcome in zip(found, outcomes, strict=True):
            assert outcome.metrics is not None, outcome.failure
            for metric in ("accuracy", "recall", "cold_start_recall", "catalogue_coverage", "training_flops"):
                value = outcome.metrics.get(metric, outcome.metrics.get(f"{metric}@{k}"))
                if value is not None:
                    found[variant].setdefault(metric, []).append(value)
    return found


def show(data: str, gene: str, found: dict[str, dict[str, list[float]]]) -> None:
    """A line for each variant."""
    first = next(iter(found.values()))
    print(f"\n{data}: {gene}")
    for variant, values in found.items():
        cells = []
        for metric, own in values.items():
            if metric == "training_flops":
                cells.append(f"cost x{np.mean(own) / np.mean(first[metric]):.3f}")
                continue
            gain = np.subtract(own, first[metric])
            error = np.std(gain, ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan
            cells.append(f"{metric} {np.mean(own):.4f} ({np.mean(gain):+.4f} ± {error:.4f}, {(gain > 0).sum()})")
        print(f"  {variant:30s} {'  '.join(cells)}", flush=True)


def main() -> None:
    """Run the wanted pairs and write the figures beside those of earlier runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genes", nargs="*", default=list(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--data", action="append", choices=list(DATA), help="data set; repeat it for several")
    parser.add_argument("--seeds", type=int, default=5, help="run seeds")
    arguments = parser.parse_args()
    results = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    for gene in arguments.genes:
        for data in arguments.data or VARIANTS[gene][0]:
            found = run(data, gene, arguments.seeds)
            show(data, gene, found)
            results.setdefault(gene, {})[data] = found
            write_results(OUT, results)


if __name__ == "__main__":
    main()
