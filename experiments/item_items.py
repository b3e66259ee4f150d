"""Item-item scores alone: settings chosen on validation, measured on the test beside the baselines.

On each data set random settings of every kind of `evorec.models.item_item` are members of item-item scores alone
(without a ranker and without vectors, so nothing is trained). Of each kind the member of highest validation recall is
fitted again on training and validation, and its lists are measured on the test. Closed forms have no seed.

    python experiments/item_items.py                    # needs $EVOREC_DATA; about half an hour on one core
    python experiments/item_items.py --only movielens --tries 8
    python experiments/item_items.py --only gowalla --kind knn --tries 6      # one kind, without the baselines

Prints recall and NDCG of each kind and of the baselines, and writes experiments/results/item_items.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results

from evorec.config import load_config, recommender_config
from evorec.errors import TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.seeds import generator

HERE = Path(__file__).parent
OUT = HERE / "results" / "item_items.json"
RETRIEVAL = ["tasks.ranked=[]", 'objectives=["recall@k", "ndcg@k"]', "constraints=[]", "box={}", "finalize.picks=[]"]
CASES: dict[str, tuple[str, list[str]]] = {
    "movielens": ("movielens", RETRIEVAL),
    "kuairand": ("kuairand", RETRIEVAL),
    "lastfm": ("public", ["dataset=lastfm", 'objectives=["recall@k", "ndcg@k"]', "constraints=[]"]),
    "beauty": ("public", ["dataset=beauty", 'objectives=["recall@k", "ndcg@k"]', "constraints=[]"]),
    "gowalla": (
        "public",
        ["dataset=gowalla", 'objectives=["recall@k", "ndcg@k"]', "constraints=[]", "evaluation.max_users=2000"],
    ),
}
"""Data set -> problem and settings."""
KINDS = ("knn", "ease", "low_rank")
SLOW = {("beauty", "ease"): 6}
"""Tries where a fit takes a minute."""


def problem_of(case: str, kind: str) -> RecProblem:
    """The problem of a case, with a space of members of a kind alone."""
    name, settings = CASES[case]
    genes = {"item_item": kind, "item_item_blend": False}
    space = [f"space.{gene}={json.dumps(value)}" for gene, value in genes.items()]
    return build_problem(recommender_config(load_config(problem=name, overrides=[*settings, *space, "run.workers=1"])))


def best_of(problem: RecProblem, tries: int) -> tuple[dict[str, Any], dict[str, float], float]:
    """Genes of highest validation recall among random genomes, their metrics, and the seconds of a member."""
    recall, start = f"recall@{problem.config.k}", time.perf_counter()
    rows = problem.space.sample(generator(0, "item items"), tries)
    found = []
    for x in (problem.space.default(), *rows):
        genes = problem.space.decode(x)
        (outcome,) = problem.evaluate([genes], seed=problem.seed)
        if outcome.metrics is not None:
            found.append((outcome.metrics[recall], genes, outcome.metrics))
    seconds = (time.perf_counter() - start) / (tries + 1)
    _, genes, metrics = max(found, key=lambda one: one[0])
    return genes, dict(metrics), seconds


def row(values: dict[str, float], k: int) -> list[float]:
    """Recall and NDCG."""
    return [values.get(f"{name}@{k}", math.nan) for name in ("recall", "ndcg")]


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CASES, action="append", help="data sets; all by default")
    parser.add_argument("--kind", choices=KINDS, help="a single kind, without the baselines")
    parser.add_argument("--tries", type=int, default=40, help="random settings of each kind")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    out = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for case in asked.only or [name for name in CASES if name != "gowalla"]:
        found: dict[str, Any] = {}
        for kind in [asked.kind] if asked.kind else KINDS:
            problem = problem_of(case, kind)
            k = problem.config.k
            genes, validation, seconds = best_of(problem, SLOW.get((case, kind), asked.tries))
            trainer = StackTrainer.of(problem.tables, problem.config, fit="train+validation", seed=0, at_most=None)
            spec = ModelSpec.from_genes(genes)
            (test,) = trainer.evaluate([spec]).measured
            if isinstance(test, TrainingError):
                raise test
            settings = {**spec.item_item_settings, "past_decay": spec.past_decay}
            if math.isfinite(spec.past_half_life):
                settings["past_half_life"] = spec.past_half_life
            found[kind] = {
                "validation": row(validation, k), "test": row(test.metrics, k), "seconds": seconds,
                "training_flops": validation["training_flops"], "settings": settings,
            }  # fmt: skip
            print(case, kind, np.round(found[kind]["test"], 4), settings, f"{seconds:.1f} s a member", flush=True)
        for name, values in () if asked.kind else problem.baselines().items():
            test_values = trainer.baselines.measured[name].values
            found[f"baseline {name}"] = {"validation": row(dict(values), k), "test": row(dict(test_values), k)}
            print(case, "baseline", name, np.round(found[f"baseline {name}"]["test"], 4), flush=True)
        out[case] = found
        write_results(asked.out, out)


if __name__ == "__main__":
    main()
