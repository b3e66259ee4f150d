"""Does the search find the sharing depth that the simulator planted?

The simulator sets the angle between the tasks' tastes. At 0 degrees the same taste drives every task and a shared
network pays; with a larger angle the tasks should separate in earlier layers. So the members that a search keeps for
their accuracy should share fewer layers as the angle grows. For every angle and seed (of the world and of the search)
this script runs a whole NSGA-II search with the same settings, takes the most accurate quarter of its archive (accuracy
= mean task AUC on validation) and averages the sharing depth, 0..3 layers.

    python experiments/sharing_depth.py

Figures: the mean depth of that quarter per angle, with its standard deviation over the seeds; Spearman's rho between
angle and depth over all (angle, seed) pairs, and within each seed. p = share of random orders of the angles within the
seeds whose rho is as low or lower (one-sided: depth falls), so that differences between the worlds do not count.

The settings make sharing matter: 8 units per layer, so that three tasks compete for a shared layer, and vectors of 32,
so that the embeddings, which are shared at every depth, do not limit accuracy. Retrieval, which has no depth, is fixed.
The objectives are the three task AUCs, which conflict, and cost, which falls with the depth. Settings were chosen on
seeds 0 to 5 and measured on others. Writes experiments/results/sharing_depth.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import numpy.typing as npt
import typer
from joblib import Parallel, delayed
from results_file import write_results
from scipy.stats import rankdata, spearmanr

from evorec.config import RecommenderConfig, merge, parse_config
from evorec.run.ledger import Evaluation
from evorec.search.engine import search
from evorec.seeds import generator
from problems import feed

HERE = Path(__file__).parent
ANGLES: Final = (0.0, 45.0, 90.0, 135.0, 180.0)
FIRST_SEED: Final = 100
SHARE: Final = 0.25
"""Share of the archive that is averaged, most accurate first."""
N_ORDERS: Final = 200_000
"""Random orders for p; its standard error is at most 0.0011."""

SETTINGS: Final[Mapping[str, Any]] = {
    "data": {"simulator": {"n_users": 600, "n_items": 300, "n_interactions": 40_000}},
    "split": {"validation_share": 0.3, "test_share": 0.05},
    "training": {"steps": 150, "batch_size": 512, "retrieval_batch": 32, "uniform_negatives": 0, "layers": 3},
    "evaluation": {"max_users": 50},
    "space": {
        "mechanism": "shared_bottom",
        "balancing": "fixed",
        "optimizer": "adamw",
        "retrieval_loss": "softmax",
        "negatives": 32,
        "embedding_dim": 32,
        "width": 8,
        "learning_rate": {"low": 2e-3, "high": 2e-2},
        "embedding_learning_rate": {"low": 2e-3, "high": 2e-2},
        "retrieval_weight": 0.1,
        "temperature": 0.2,
        "history": False,
        "popularity_weight": 1.0,
        "popularity_smoothing": 3.0,
        "popularity_half_life": 14.0,
        "rerank": False,
    },
    "objectives": ("auc/click", "auc/like", "auc/purchase", "cost"),
    "constraints": (),
    "search": {"population": 16, "generations": 6},
    "run": {"device": "cpu"},
}
"""On top of `problems.feed.DEFAULTS`; the same for every angle."""

Floats = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class SearchSummary:
    """Sharing depths in the archive of a search.

    Attributes:
        angle: between the tasks' tastes, in degrees.
        seed: of the world and of the search.
        depth: mean sharing depth of the most accurate quarter of the archive.
        accuracy: mean accuracy of that quarter.
        best_depth: sharing depth of the most accurate member.
        archive_depth: mean sharing depth of the whole archive.
        n_members: size of the archive.
        n_evaluated: evaluations of the search.
        n_failed: failed evaluations.
    """

    angle: float
    seed: int
    depth: float
    accuracy: float
    best_depth: int
    archive_depth: float
    n_members: int
    n_evaluated: int
    n_failed: int


def configured(angle: float, seed: int) -> RecommenderConfig:
    """The configuration of a search; configurations differ only in the angle and the seeds."""
    own = {"data": {"simulator": {"conflict_angle_deg": angle, "seed": seed}}, "search": {"seed": seed}}
    return parse_config(merge(merge(feed.DEFAULTS, SETTINGS), own), source="experiments/sharing_depth.py")


def found(angle: float, seed: int) -> SearchSummary:
    """Run a search and summarise its archive."""
    config = configured(angle, seed)
    result = search(feed.build(config), config.search, chunk=config.run.chunk)
    by_accuracy = sorted(result.archive, key=lambda member: (-_accuracy(member), member.key))
    quarter = by_accuracy[: math.ceil(SHARE * len(by_accuracy))]
    return SearchSummary(
        angle=angle,
        seed=seed,
        depth=float(np.mean([_depth(member) for member in quarter])),
        accuracy=float(np.mean([_accuracy(member) for member in quarter])),
        best_depth=_depth(by_accuracy[0]),
        archive_depth=float(np.mean([_depth(member) for member in by_accuracy])),
        n_members=len(by_accuracy),
        n_evaluated=result.n_evaluated,
        n_failed=result.n_failed,
    )


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties by mean rank; 0.0 when x or y is constant, which shows no trend."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y).statistic)


def chance_of_rho(depth: Floats, *, seed: int) -> float:
    """One-sided p of a falling trend.

    Args:
        depth: float64 ``(A, S)``, angles in ascending order by seeds.
        seed: of the random orders.
    Returns:
        Share, in (0, 1], of orders of the angles, drawn within each seed, whose pooled rho is at most the observed rho;
        the observed order is included.
    """
    rng = generator(seed, "sharing depth: orders")
    angle = np.arange(len(depth), dtype=np.float64)[:, None] - (len(depth) - 1) / 2
    rank = rankdata(depth).reshape(depth.shape)
    moments = [(angle * rng.permuted(rank, axis=0)).sum() for _ in range(N_ORDERS)]  # rho up to a constant factor
    as_low = np.array(moments) <= (angle * rank).sum() + 1e-9  # equal sums may differ in the last bit
    return float((1 + as_low.sum()) / (1 + N_ORDERS))


def summary(cells: Sequence[SearchSummary]) -> dict[str, Any]:
    """Trend over all cells, every angle with every seed."""
    angles, seeds = sorted({cell.angle for cell in cells}), sorted({cell.seed for cell in cells})
    of = {(cell.angle, cell.seed): cell for cell in cells}
    depth = np.array([[of[angle, seed].depth for seed in seeds] for angle in angles])
    by_angle = [
        {
            "angle_deg": angle,
            "depth_mean": float(row.mean()),
            "depth_sd": float(row.std(ddof=1)) if len(row) > 1 else None,
            "best_depth_mean": float(np.mean([of[angle, seed].best_depth for seed in seeds])),
            "archive_depth_mean": float(np.mean([of[angle, seed].archive_depth for seed in seeds])),
            "accuracy_mean": float(np.mean([of[angle, seed].accuracy for seed in seeds])),
            "members_mean": float(np.mean([of[angle, seed].n_members for seed in seeds])),
        }
        for angle, row in zip(angles, depth, strict=True)
    ]
    return {
        "by_angle": by_angle,
        "rho": spearman(np.repeat(angles, len(seeds)), depth.ravel()),
        "rho_by_seed": {
            str(seed): spearman(np.array(angles), column) for seed, column in zip(seeds, depth.T, strict=True)
        },
        "p_one_sided": chance_of_rho(depth, seed=0),
    }


def main(
    seeds: Annotated[int, typer.Option(min=2, help="worlds and searches per angle")] = 6,
    workers: Annotated[int, typer.Option(min=1, help="searches at a time, each in its own process")] = 2,
    out: Annotated[Path, typer.Option(help="file of the figures")] = HERE / "results" / "sharing_depth.json",
) -> None:
    """Run every search, print the table and write the figures."""
    start = time.perf_counter()
    jobs = [delayed(found)(angle, seed) for seed in range(FIRST_SEED, FIRST_SEED + seeds) for angle in ANGLES]
    cells: list[SearchSummary] = []
    for cell in Parallel(n_jobs=workers, return_as="generator")(jobs):
        cells.append(cell)
        print(
            f"angle {cell.angle:3.0f}  seed {cell.seed}  depth {cell.depth:.2f}  accuracy {cell.accuracy:.4f}  "
            f"{cell.n_members} members of {cell.n_evaluated}",
            flush=True,
        )
    figures = summary(cells)
    seconds = time.perf_counter() - start
    _print_table(figures, n_seeds=seeds)
    print(f"{len(cells)} searches in {seconds:.0f} s with {workers} worker(s)")
    document = {"settings": SETTINGS, **figures, "searches": [asdict(cell) for cell in cells]}
    write_results(out, document)


def _print_table(figures: Mapping[str, Any], *, n_seeds: int) -> None:
    print(f"\nangle  depth of the most accurate quarter (sd of {n_seeds} seeds)  of the best  of the archive  accuracy")
    for row in figures["by_angle"]:
        print(
            f"{row['angle_deg']:5.0f}  {row['depth_mean']:.2f} ({row['depth_sd']:.2f}){'':39}"
            f"{row['best_depth_mean']:11.2f}  {row['archive_depth_mean']:14.2f}  {row['accuracy_mean']:8.4f}"
        )
    inside = list(figures["rho_by_seed"].values())
    print(f"Spearman's rho {figures['rho']:.2f}, one-sided p = {figures['p_one_sided']:.5f}")
    print(f"within the seeds: {' '.join(f'{rho:.2f}' for rho in inside)}")


def _accuracy(member: Evaluation) -> float:
    assert member.metrics is not None
    return member.metrics["accuracy"]


def _depth(member: Evaluation) -> int:
    return int(member.spec["sharing_depth"])


if __name__ == "__main__":
    typer.run(main)
