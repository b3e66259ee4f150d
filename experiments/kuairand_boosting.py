"""Gradient boosting as the baseline that could win on KuaiRand's task AUC.

One `HistGradientBoostingClassifier` per task on what the evorec models see: the out-of-time statistics, every user,
video and context field as a number (codes of high cardinality are left out, their statistics stand for them). Depth,
learning rate and number of trees are chosen on validation (train <= 3 May, validation 4-5 May); the model is then
fitted again on train + validation and the test (6-8 May) is scored once.

    python experiments/kuairand_boosting.py            # about 3 minutes on 2 cores; needs $EVOREC_DATA

Writes experiments/results/kuairand_boosting.json.
"""

from __future__ import annotations

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
    """One boosted model with fixed settings."""
    model = HistGradientBoostingClassifier(
        max_leaf_nodes=leaves, learning_rate=rate, max_iter=trees, l2_regularization=1.0, early_stopping=False
    )
    return model.fit(x, y)


def main() -> None:
    """Selects on validation, refits, scores the test once."""
    config = recommender_config(load_config(HERE / "kuairand.toml"))
    tables = read(config.data)
    parts = split(tables, config.split)
    settings = {"tasks": config.tasks.ranked, "target": config.tasks.target, "statistics": config.data.statistics}
    search = encode(tables, parts, fit="train", **settings)
    final = encode(tables, parts, fit="train+validation", **settings)
    x, held = features(search, search.train), features(search, search.held_out)
    x_final, x_test = features(final, final.train), features(final, final.held_out)
    result = {}
    for place, task in enumerate(config.tasks.ranked):
        start = time.perf_counter()
        y, y_held = search.train.labels[:, place], search.held_out.labels[:, place]
        scored = []
        for leaves, rate in product(LEAVES, RATES):
            model = fit(x, y, leaves, rate, max(TREES))
            staged = list(model.staged_predict_proba(held))
            scored += [(roc_auc_score(y_held, staged[n - 1][:, 1]), leaves, rate, n) for n in TREES]
        best, leaves, rate, trees = max(scored)
        refitted = fit(x_final, final.train.labels[:, place], leaves, rate, trees)
        test = roc_auc_score(final.held_out.labels[:, place], refitted.predict_proba(x_test)[:, 1])
        seconds = time.perf_counter() - start
        chosen = {"max_leaf_nodes": leaves, "learning_rate": rate, "trees": trees}
        result[task] = {"validation_auc": best, "test_auc": test, "chosen": chosen, "seconds": seconds}
        print(f"{task:15s} validation {best:.4f}  test {test:.4f}  {chosen}  {seconds:.0f} s", flush=True)
    mean = float(np.mean([entry["test_auc"] for entry in result.values()]))
    print(f"mean test AUC {mean:.4f}")
    out = HERE / "results" / "kuairand_boosting.json"
    out.parent.mkdir(exist_ok=True)
    write_results(out, {"tasks": result, "mean_test_auc": mean})


if __name__ == "__main__":
    main()
