"""The classical rating matrix: accuracy, recall, sparsity and cost for different p and penalties λ.

For each share p of empty cells and each λ (weight decay of both embeddings and dense weights) the default genome of
problem `rating_matrix` is trained over several worlds, all λ of a p in a single program. The number of steps follows
the number of ratings (eight epochs), so that cost falls with p. The lowest possible error is sqrt(1 - signal_share),
.548 here; predicting the mean gives 1. All figures are on validation; test rows are not read.

    python experiments/rating_matrix.py          # about 5 minutes on one core

Writes experiments/results/rating_matrix.json and the picture rating_matrix.svg next to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from pictures import panels, save
from results_file import write_results

from evorec.config import parse_config
from problems import rating_matrix

HERE = Path(__file__).parent
MISSING = (0.5, 0.7, 0.8, 0.9, 0.95)
PENALTIES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
SEEDS = (0, 1, 2, 3, 4)
BATCH, EPOCHS, TRAINED_SHARE = 512, 8, 0.8
METRICS = {
    "rmse/rating": "root mean squared error of the rating",
    "accuracy": "accuracy (concordance and AUC)",
    "recall@20": "recall@20",
    "sparsity": "sparsity of predicted preferences",
    "training_flops": "cost: training FLOP",
}

Figures = dict[str, dict[str, dict[str, list[float]]]]
"""p -> λ -> metric -> values by seed."""


def main() -> None:
    """Vary both and write figures and picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results: Figures = {}
    for missing in MISSING:
        found: dict[str, dict[str, list[float]]] = {f"{penalty:g}": {} for penalty in PENALTIES}
        for seed in SEEDS:
            for penalty, metrics in zip(found, swept(missing, seed), strict=True):
                for metric in METRICS:
                    found[penalty].setdefault(metric, []).append(metrics[metric])
        results[f"{missing:g}"] = found
        show(missing, found)
    out = HERE / "results" / "rating_matrix.json"
    write_results(out, {"seeds": SEEDS, "results": results})
    picture(results, out.with_suffix(".svg"))


def swept(missing: float, seed: int) -> list[Mapping[str, float]]:
    """Metrics at every λ."""
    sizes = rating_matrix.DEFAULTS["data"]["simulator"]
    n_ratings = sizes["n_users"] * sizes["n_items"] * (1 - missing)
    steps = max(40, round(EPOCHS * TRAINED_SHARE * n_ratings / BATCH))
    overrides = [f"data.simulator.missing_share={missing}", f"data.simulator.seed={seed}", f"search.seed={seed}"]
    overrides += [f"training.steps={steps}", "training.rungs=[]", f"training.batch_size={BATCH}", "constraints=[]"]
    problem = rating_matrix.build(parse_config(rating_matrix.DEFAULTS, overrides=overrides))
    genome = problem.space.decode(problem.space.default())
    specs = [genome | {"embedding_decay": penalty, "dense_decay": penalty} for penalty in PENALTIES]
    outcomes = problem.evaluate(specs, seed=seed)
    assert all(outcome.metrics is not None for outcome in outcomes), [outcome.failure for outcome in outcomes]
    return [outcome.metrics for outcome in outcomes if outcome.metrics is not None]


def show(missing: float, found: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Print mean and standard deviation over seeds."""
    print(f"p = {missing:g}")
    for penalty, metrics in found.items():
        values = "  ".join(f"{m} {np.mean(v):.4g} ± {np.std(v, ddof=1):.2g}" for m, v in metrics.items())
        print(f"  λ {penalty:6s} {values}", flush=True)


def picture(results: Figures, path: Path) -> None:
    """A panel per metric: a line over λ for each p, with the range over seeds."""
    figure, axes = panels(len(METRICS), width=4, height=3.6)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(results)))
    for axis, (metric, label) in zip(axes, METRICS.items(), strict=True):
        for colour, (missing, found) in zip(colours, results.items(), strict=True):
            values = np.array([found[penalty][metric] for penalty in found])
            penalties = [float(penalty) for penalty in found]
            axis.plot(penalties, np.median(values, axis=1), color=colour, marker=".", label=f"p = {missing}")
            axis.fill_between(penalties, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15, linewidth=0)
        axis.set(xscale="log", xlabel="penalty λ", title=label)
        if metric == "training_flops":
            axis.set_yscale("log")
    axes[0].axhline(np.sqrt(1 - 0.7), color="black", linestyle=":", linewidth=1)
    axes[0].legend(fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main()
