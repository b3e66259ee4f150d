"""Gradient boosting as the strongest baseline for KuaiRand's task AUC.

A `HistGradientBoostingClassifier` per task on the inputs of the evorec models: the out-of-time statistics and every
user, video and context field as a number. Codes of high cardinality are left out; their statistics are included. Depth,
learning rate and number of trees are chosen on validation (train <= 3 May, validation 4-5 May). The model is then
fitted again on train + validation, and the test (6-8 May) is scored once.

    python experiments/kuairand_boosting.py            # about 3 minutes on 2 cores; needs $EVOREC_DATA

Writes experiments/results/kuairand_boosting.json.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
from results_file import write_results
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from evorec.config import load_config, recommender_config
from evorec.data.encode import encode
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.models.boosting import features

HERE = Path(__file__).parent
LEAVES, RATES, TREES = (15, 31), (0.05, 0.1), (50, 100, 200)


def fit(x: np.ndarray, y: np.ndarray, leaves: int, rate: float, trees: int) -> HistGradientBoostingClassifier:
    """A boosted model with the given settings."""
    model = HistGradientBoostingClassifier(
        max_leaf_nodes=leaves, learning_rate=rate, max_iter=trees, l2_regularization=1.0, early_stopping=False
    )
    return model.fit(x, y)


def main() -> None:
    """Select on validation, refit, score the test once."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    config = recommender_config(load_config(HERE / "kuairand.toml"))
    tables = read(config.data)
    parts = split(tables, config.split)
    settings = {"tasks": config.tasks.ranked, "target": config.tasks.target, "statistics": config.data.statistics}
    search = encode(tables, parts, fit="train", **settings)
    final = encode(tables, parts, fit="train+validation", **settings)
    x, held = features(search, search.train), features(search, search.held_out)
    x_final, x_test = features(final, final.train), features(final, final.held_out)
    result = {}
    for column, task in enumerate(config.tasks.ranked):
        start = time.perf_counter()
        y, y_held = search.train.labels[:, column], search.held_out.labels[:, column]
        scored = []
        for leaves, rate in product(LEAVES, RATES):
            model = fit(x, y, leaves, rate, max(TREES))
            staged = list(model.staged_predict_proba(held))
            scored += [(roc_auc_score(y_held, staged[n - 1][:, 1]), leaves, rate, n) for n in TREES]
        best, leaves, rate, trees = max(scored)
        refitted = fit(x_final, final.train.labels[:, column], leaves, rate, trees)
        test = roc_auc_score(final.held_out.labels[:, column], refitted.predict_proba(x_test)[:, 1])
        seconds = time.perf_counter() - start
        chosen = {"max_leaf_nodes": leaves, "learning_rate": rate, "trees": trees}
        result[task] = {"validation_auc": best, "test_auc": test, "chosen": chosen, "seconds": seconds}
        print(f"{task:15s} validation {best:.4f}  test {test:.4f}  {chosen}  {seconds:.0f} s", flush=True)
    mean = float(np.mean([entry["test_auc"] for entry in result.values()]))
    print(f"mean test AUC {mean:.4f}")
    out = HERE / "results" / "kuairand_boosting.json"
    write_results(out, {"tasks": result, "mean_test_auc": mean})


if __name__ == "__main__":
    main()
