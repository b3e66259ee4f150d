"""Encoders of a user's past (`evorec.models.encoder`), at equal steps and at equal FLOPs, measured on validation.

On each data set the retrieval head is trained without a ranker with a bag, a fading bag, a GRU and self-attention, the
last also with the user's own vector in the query, over several run seeds (batches, initial values, dropout). All other
genes are the same, near the middle of the search space. A member is measured after half of the steps and after all
of them, and each time a second time after as many steps as the FLOPs of the self-attention allow. Test rows are not
read.

    python experiments/encoders.py                    # about 40 minutes on one core; needs $EVOREC_DATA
    python experiments/encoders.py --only feed        # the simulated feed alone, 3 minutes
    python experiments/encoders.py --test beauty      # three seeds, 12 minutes

Prints mean and standard deviation over the seeds, and the difference from the bag with equal seeds, and writes
experiments/results/encoders.json. ``--test beauty`` (or ``toys``) trains the self-attention on train and validation for
as many epochs as were best on the validation of beauty, and measures it on the test, alone and blended with item
neighbourhoods. The settings for toys are those of beauty.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results

from evorec.config import load_config, recommender_config
from evorec.data.encode import Fit
from evorec.models.spec import ModelSpec
from evorec.recommender.checks import check_problem
from evorec.recommender.trainers import StackTrainer
from evorec.space.space import SearchSpace
from evorec.training.evaluate import MemberMetrics
from evorec.training.reproducible import reproducible_cpu

HERE = Path(__file__).parent
OUT = HERE / "results" / "encoders.json"
RETRIEVAL = ["tasks.ranked=[]", 'objectives=["recall@k", "catalogue_coverage@k", "cost"]', "constraints=[]", "box={}"]
UNIFORM = {"negative_source": "uniform", "popularity_weight": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "feed": {
        "problem": "feed", "seeds": 5, "settings": [*RETRIEVAL, "tasks.target=click", "training.steps=200"],
        "genes": {"embedding_dim": 16},
    },
    "ecommerce": {
        "problem": "ecommerce", "seeds": 5, "settings": [*RETRIEVAL, "training.steps=200"],
        "genes": {"embedding_dim": 16},
    },
    "movielens": {
        "problem": "movielens", "seeds": 5, "settings": [*RETRIEVAL, "training.steps=600"],
        "genes": {"embedding_dim": 32, "embedding_learning_rate": 0.01, "history_weight": 10.0, "temperature": 0.1},
    },
    "beauty": {
        "problem": "public", "seeds": 2,
        "settings": ["dataset=beauty", "constraints=[]", "training.retrieval_batch=1024",
                     "training.uniform_negatives=1024", "training.steps=2250", "data.history_length=50"],
        "genes": {"embedding_dim": 64, "embedding_learning_rate": 3e-3, "learning_rate": 1e-3, "history_weight": 10.0,
                  "temperature": 0.07, "negatives": 1024, **UNIFORM},
        "dropout": 0.5, "budgets": (2250,),
    },
}  # fmt: skip
"""Data set -> problem, run seeds, settings, genes, dropout of the encoders, and the steps where other than above."""
NEIGHBOURS: dict[str, Any] = {
    "item_item": "knn", "past_decay": 0.6, "shrinkage": 20.0, "asymmetry": 0.5, "user_norm": 0.0, "next_item": 1.0,
    "neighbours": 0,
}  # fmt: skip
"""The fading ItemKNN of the blend."""
LIKENESS: dict[str, Any] = {"content_weight": 0.03, "content_popularity": 0.25, "next_window": 5, "neighbours": 2048}
"""Likeness of the items' attributes, and a window of the directed term, chosen on the validation of beauty."""
SHARE, EPOCHS = 0.7, 25
"""Share of the neighbourhoods in the blend and epochs, chosen on validation."""


def encoders(dropout: float) -> dict[str, dict[str, Any]]:
    """Name in the table -> genes."""
    attention = {
        "encoder": "attention", "attention_layers": 2, "attention_heads": 1, "encoder_dropout": dropout,
        "user_vector": False,
    }  # fmt: skip
    return {
        "bag": {"encoder": "bag"},
        "fading bag": {"encoder": "bag", "bag_decay": 0.8},
        "gru": {"encoder": "gru", "encoder_dropout": dropout, "user_vector": False},
        "attention": attention,
        "attention and user": {**attention, "user_vector": True},
    }


def trainer_of(case: dict[str, Any], seed: int, *, fit: Fit = "train") -> tuple[SearchSpace, StackTrainer]:
    """The search space of a case, with the encoders, and the trainer of a fit; without any baseline."""
    genes = {"encoder": "search", "bag_decay": "search", "ema": 0.0, **case["genes"]}
    space = [f"space.{name}={json.dumps(value)}" for name, value in genes.items()]
    settings = [*case["settings"], *space, f"search.seed={seed}", "run.workers=1"]
    checked = check_problem(recommender_config(load_config(problem=case["problem"], overrides=settings)))
    reproducible_cpu(required=False)
    at_most = checked.config.evaluation.max_users if fit == "train" else None
    return checked.space, StackTrainer.of(checked.tables, checked.config, fit=fit, seed=seed, at_most=at_most)


def measured(trainer: StackTrainer, spec: ModelSpec, steps: int) -> dict[str, float]:
    """Metrics of a member after a number of steps."""
    trainer = trainer.with_steps(steps)
    start = time.process_time()
    (found,) = trainer.evaluate([spec]).measured
    if isinstance(found, Exception):
        raise found
    k = trainer.data.config.evaluation.k
    wanted = {name: found.metrics[name] for name in (f"recall@{k}", f"ndcg@{k}", f"catalogue_coverage@{k}")}
    return {
        **wanted,
        "steps": float(steps),
        "flops": trainer.cost(spec)["training_flops"],
        "cpu_s": time.process_time() - start,
    }


def run_case(case: dict[str, Any]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Budget -> encoder -> metric -> value for each seed."""
    out: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in range(case["seeds"]):
        space, trainer = trainer_of(case, seed)
        specs = {}
        for name, genes in encoders(case.get("dropout", 0.2)).items():
            specs[name] = ModelSpec.from_genes(space.decode(space.genome(genes)))
        steps = trainer.steps
        per_step = {name: trainer.cost(spec)["training_flops"] / steps for name, spec in specs.items()}
        for budget in case.get("budgets", (steps // 2, steps)):
            for name, spec in specs.items():
                equal = round(budget * per_step["attention"] / per_step[name])
                values = measured(trainer, spec, budget)
                more = values if equal == budget else measured(trainer, spec, equal)
                for key, found in ((f"{budget} steps", values), (f"FLOPs of {budget} steps of attention", more)):
                    for metric, value in found.items():
                        out.setdefault(key, {}).setdefault(name, {}).setdefault(metric, []).append(value)
    return out


def on_test(dataset: str, seed: int) -> dict[str, dict[str, float]]:
    """Test metrics of self-attention on a split of `public`, alone and in blends, by name."""
    case = {**CASES["beauty"], "settings": [f"dataset={dataset}", *CASES["beauty"]["settings"][1:]]}
    case["genes"] = {**case["genes"], **NEIGHBOURS}
    space, trainer = trainer_of(case, seed, fit="train+validation")
    genes = space.decode(space.genome({**encoders(case["dropout"])["attention"], **NEIGHBOURS}))
    blend = ModelSpec.from_genes({**genes, "item_item_share": SHARE})
    specs = {
        "attention": replace(blend, item_item="none"),
        "blend": blend,
        "blend with likeness": ModelSpec.from_genes({**genes, "item_item_share": SHARE, **LIKENESS}),
    }
    n_targets = trainer.data.dataset.train.n_rows - trainer.data.dataset.n_users
    trainer = trainer.with_steps(n_targets // trainer.data.config.training.retrieval_batch * EPOCHS)
    trained = trainer.train([specs["attention"]]).population.member_arrays(0)
    out: dict[str, dict[str, float]] = {}
    for name, spec in specs.items():
        (found,) = trainer.data.measure(trainer.data.stack([spec], [trained]))
        assert isinstance(found, MemberMetrics), found
        out[name] = {key: found.metrics[key] for key in ("recall@10", "ndcg@10", "catalogue_coverage@10")}
        figures = "  ".join(f"{key} {value:.4f}" for key, value in out[name].items())
        print(f"{dataset}, test, seed {seed}, {len(trainer.plan)} steps: {name} {figures}", flush=True)
    return out


def main() -> None:
    """Run the cases and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CASES), help="a single data set")
    parser.add_argument("--test", choices=("beauty", "toys"), help="test figures of a split instead")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of --test")
    args = parser.parse_args()
    if args.test:
        out = HERE / "results" / "public" / f"encoders-{args.test}.json"
        write_results(out, {"test": [on_test(args.test, seed) for seed in range(args.seeds)]})
        return
    results = json.loads(OUT.read_text(encoding="utf-8"))["results"] if OUT.exists() else {}
    for name in [args.only] if args.only else list(CASES):
        results[name] = run_case(CASES[name])
        for budget, by_encoder in results[name].items():
            bag = next(iter(by_encoder["bag"].values()))
            for encoder, values in by_encoder.items():
                figures = [f"{m} {np.mean(v):.4g} ± {np.std(v, ddof=1):.2g}" for m, v in values.items()]
                gain = np.subtract(next(iter(values.values())), bag)
                figures.append(f"against the bag {gain.mean():+.4f} ± {gain.std(ddof=1):.4f}")
                print(f"{name:10s} {budget:34s} {encoder:18s} {'  '.join(figures)}", flush=True)
        write_results(OUT, {"results": results})


if __name__ == "__main__":
    main()
