"""Public splits beside their published figures: one command searches, chooses on validation and opens the test once.

The problem `public` holds split and protocol. Each search has a seed of its own; its picks are trained again with a
fresh seed and measured on the test by `evorec finalize`. The table gives mean and standard deviation over the searches,
the baselines on the same rows, and the published figures, with the columns they lack: coverage, share of the long tail
(APLT) and counted arithmetic. The metrics of the first pick are computed once more from its lists, in plain loops.

    python experiments/public.py beauty            # or toys, lastfm, gowalla, amazon-music: three searches
    python experiments/public.py lastfm --quick    # a small search: minutes
    python experiments/public.py toys --set search.generations=8 --searches 5

Writes experiments/results/public/DATASET.json; a quick run prints its table only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from results_file import write_results

from evorec.config import load_config, recommender_config
from evorec.data.paths import resolve_path
from evorec.deploy.final.finalize import shipped_model
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import build_problem
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import member_lists
from problems.public import SPLITS

HERE = Path(__file__).parent
RUNS = HERE.parent / "runs" / "public"
FRONT: Final = "published_front_ease.tsv"
"""Beside the parts of amazon-music: l2, nDCG, Recall and APLT of 48 EASE models on the test."""
QUICK: Final = ("search.population=8", "search.generations=2", "evaluation.max_users=2000")
COMMON: Final = (
    # A constraint that always holds: the share of the long tail is measured on demand only.
    'constraints=["recall@k >= 0.9 * popularity", "long_tail_share@k >= 0"]',
    "finalize.bootstrap=200",
    "evaluation.max_users=5000",
)
OF_DATASET: Final[Mapping[str, Sequence[str]]] = {"gowalla": ("run.memory_gib=5",)}
"""EASE of 40,981 items would take an hour as a baseline, and its published figures are in the table."""
PICKS: Final = ("best:recall@k", "best:ndcg@k", "knee")
ROUNDING: Final = 1e-9
"""Means of thousands of float64 values, summed in another order."""

LEADERBOARD: Final = "BARS, gowalla_m1"
S3_REC: Final = "Zhou et al. 2020"
PUBLISHED: Final[Mapping[str, Sequence[tuple[str, float, float, str]]]] = {
    "gowalla": (
        ("ItemCF", 0.1570, 0.1214, LEADERBOARD),
        ("MF-BPR", 0.1627, 0.1378, LEADERBOARD),
        ("MultVAE", 0.1641, 0.1335, LEADERBOARD),
        ("SLIM", 0.1699, 0.1382, LEADERBOARD),
        ("YoutubeDNN", 0.1754, 0.1473, LEADERBOARD),
        ("EASE (l2 = 80)", 0.1765, 0.1467, LEADERBOARD),
        ("DGCF", 0.1794, 0.1521, LEADERBOARD),
        ("LightGCN", 0.1820, 0.1547, LEADERBOARD),
        ("MF-CCL", 0.1837, 0.1493, LEADERBOARD),
        ("GF-CF", 0.1849, 0.1518, LEADERBOARD),
        ("UltraGCN", 0.1862, 0.1580, LEADERBOARD),
        ("SimpleX", 0.1872, 0.1557, LEADERBOARD),
    ),
    "beauty": (
        ("popularity, test items counted", 0.0152, 0.0068, S3_REC),
        ("GRU4Rec", 0.0283, 0.0137, S3_REC),
        ("Caser", 0.0347, 0.0176, S3_REC),
        ("BERT4Rec", 0.0347, 0.0170, S3_REC),
        ("HGN", 0.0512, 0.0266, S3_REC),
        ("SASRec", 0.0605, 0.0318, S3_REC),
        ("S3-Rec", 0.0647, 0.0327, S3_REC),
    ),
    "toys": (
        ("popularity, test items counted", 0.0113, 0.0061, S3_REC),
        ("GRU4Rec", 0.0176, 0.0084, S3_REC),
        ("BERT4Rec", 0.0203, 0.0099, S3_REC),
        ("Caser", 0.0270, 0.0141, S3_REC),
        ("HGN", 0.0497, 0.0277, S3_REC),
        ("SASRec", 0.0675, 0.0374, S3_REC),
        ("S3-Rec", 0.0700, 0.0376, S3_REC),
    ),
    "lastfm": (
        ("GRU4Rec", 0.0367, 0.0187, S3_REC),
        ("Caser", 0.0413, 0.0214, S3_REC),
        ("popularity, test items counted", 0.0440, 0.0203, S3_REC),
        ("HGN", 0.0505, 0.0233, S3_REC),
        ("BERT4Rec", 0.0633, 0.0337, S3_REC),
        ("SASRec", 0.0688, 0.0390, S3_REC),
        ("S3-Rec", 0.0743, 0.0427, S3_REC),
    ),
    "amazon-music": (),
}
"""Model, recall (of a single item the hit rate), NDCG and source, with the k and the protocol of the split."""


def main() -> None:
    """Search, finalize, check, and write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", choices=SPLITS)
    parser.add_argument("--quick", action="store_true", help="a single small search")
    parser.add_argument("--searches", type=int, default=3, help="number of searches, each with a seed of its own")
    parser.add_argument("--fresh", type=int, default=1, help="fresh seeds of each pick of a search")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="KEY=VALUE of the searches")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs; an interrupted one is continued")
    parser.add_argument("--out", type=Path, help="file of the figures")
    options = parser.parse_args()
    settings = [
        f"dataset={options.dataset}",
        *COMMON,
        *OF_DATASET.get(options.dataset, ()),
        *(QUICK if options.quick else ()),
        *options.settings,
    ]
    picks = ("all",) if options.dataset == "amazon-music" else PICKS
    found = [
        one_search(settings, seed, picks, options.fresh, options.runs)
        for seed in range(1 if options.quick else options.searches)
    ]
    folder = resolve_path(recommender_config(load_config(problem="public", overrides=settings)).data.path or "")
    results = summary(options.dataset, settings, found, folder)
    print(table(results))
    out = options.out or (None if options.quick else HERE / "results" / "public" / f"{options.dataset}.json")
    if out is not None:
        write_results(out, results)


def one_search(settings: Sequence[str], seed: int, picks: Sequence[str], fresh: int, runs: Path) -> dict[str, Any]:
    """The report of `evorec finalize` on a search, with the seconds of both and the run's fingerprint."""
    start = time.perf_counter()
    words = [word for text in (*settings, f"search.seed={seed}", f"run.output={runs}") for word in ("--set", text)]
    path = evorec("search", "--problem", "public", *words)["run"]
    searched = time.perf_counter()
    chosen = [word for text in picks for word in ("--pick", text)]
    report = evorec("finalize", path, *chosen, "--set", f"finalize.seeds={fresh}")
    if seed == 0:
        check(Path(path), report)
    seconds = {"search": round(searched - start), "finalize": round(time.perf_counter() - searched)}
    return {**report, "run": Path(path).name, "seed": seed, "seconds": seconds}


def evorec(*words: str) -> dict[str, Any]:
    """The result of a command, as JSON; its progress goes to the terminal."""
    print(f"evorec {' '.join(words)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "evorec", *words, "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"evorec {words[0]} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(path: Path, report: Mapping[str, Any]) -> None:
    """Compute the test metrics of the first pick again from its lists, and compare them with the report.

    Raises:
        AssertionError: they differ.
    """
    with RunDirectory.open(path, read_only=True) as run:
        problem = build_problem(recommender_config(run.config))
        first = report["picks"][0]
        data, weights, _ = shipped_model(run, problem, first["member"])
    population = data.stack([ModelSpec.from_genes(first["spec"])], [weights])
    evaluation, dataset = data.config.evaluation, data.dataset
    lists = member_lists(population, dataset, data.tensors, data.users, evaluation).final[0]
    found = plain_metrics(lists, data.users.ids, dataset.held_out.users, dataset.held_out.items, dataset.item_counts)
    for name, value in found.items():
        stated = first["shipped"][f"{name}@{evaluation.k}"]
        assert abs(value - stated) <= ROUNDING, f"{name}: {stated} in the report, {value} from the lists"
    print(f"metrics of {first['pick']} from its lists: {found}", file=sys.stderr)


def plain_metrics(
    lists: np.ndarray, users: np.ndarray, held_users: np.ndarray, held_items: np.ndarray, counts: np.ndarray
) -> dict[str, float]:
    """Recall, NDCG, coverage and share of the long tail, in plain loops that share no code with `evorec.metrics`.

    Args:
        lists: item indices, int64 ``(U, K)``, best first, -1 = empty.
        users: user index of each list ``(U,)``.
        held_users, held_items: the rows of the test ``(N,)``.
        counts: training rows of each item ``(I,)``.
    Example:
        >>> one = np.array([[1, 2]]), np.array([5]), np.array([5, 5, 6]), np.array([2, 0, 1]), np.array([8, 1, 1, 0])
        >>> {name: round(value, 4) for name, value in plain_metrics(*one).items()}  # a hit at rank 2 of two positives
        {'recall': 0.5, 'ndcg': 0.3869, 'catalogue_coverage': 0.5, 'long_tail_share': 1.0}
    """
    relevant: dict[int, set[int]] = {}
    for user, item in zip(held_users.tolist(), held_items.tolist(), strict=True):
        relevant.setdefault(user, set()).add(item)
    tail, running = set(range(len(counts))), 0
    for item in sorted(range(len(counts)), key=lambda item: (-counts[item], item)):
        running += counts[item]
        if running > 0.8 * counts.sum():
            break
        tail.discard(item)
    k = lists.shape[1]
    gains = [1 / np.log2(rank + 2) for rank in range(k)]
    recall, ndcg, long_tail = [], [], []
    for user, own in zip(users.tolist(), lists.tolist(), strict=True):
        hit = [item in relevant[user] for item in own]
        recall.append(sum(hit) / len(relevant[user]))
        ndcg.append(sum(g for g, h in zip(gains, hit, strict=True) if h) / sum(gains[: min(k, len(relevant[user]))]))
        long_tail.append(sum(item in tail for item in own) / k)
    return {
        "recall": float(np.mean(recall)),
        "ndcg": float(np.mean(ndcg)),
        "catalogue_coverage": len({item for own in lists.tolist() for item in own if item >= 0}) / len(counts),
        "long_tail_share": float(np.mean(long_tail)),
    }


def summary(dataset: str, settings: Sequence[str], found: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Means and standard deviations over searches and fresh seeds, baselines, and the published front."""
    names = ("recall", "ndcg", "catalogue_coverage", "long_tail_share")
    k = next(int(key.partition("@")[2]) for key in found[0]["baselines"]["popularity"] if key.startswith("recall@"))

    def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {name: metrics[f"{name}@{k}"] for name in names} | {
            name: metrics[name] for name in ("training_flops", "inference_flops") if name in metrics
        }

    searches = []
    for one in found:
        picks = {pick["pick"]: pick for pick in one["picks"]}
        rows = {
            text: {name: value["mean"] for name, value in figures(pick["test"]).items()}
            | {"member": pick["member"], "steps": pick["steps"], "validation": figures(pick["validation"])}
            for text, pick in picks.items()
        }
        searches.append({key: one[key] for key in ("run", "seed", "seconds", "fit")} | {"picks": rows})
    results: dict[str, Any] = {
        "dataset": dataset,
        "settings": list(settings),
        "k": k,
        "test_users": found[0]["rows"].get("users"),
        "baselines": {name: figures(values) for name, values in found[0]["baselines"].items()},
        "searches": searches,
    }
    if (folder / FRONT).is_file():
        results["dominated"] = [dominated(folder / FRONT, list(one["picks"].values())) for one in searches]
        for one in searches:  # of dozens of members the front of accuracy and long tail is enough
            one["picks"] = best_of_front(one["picks"])
    return results


def best_of_front(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The members that no other exceeds in both NDCG and share of the long tail, by descending NDCG."""
    out, best = {}, -1.0
    for text, row in sorted(rows.items(), key=lambda item: (-item[1]["ndcg"], -item[1]["long_tail_share"])):
        if row["long_tail_share"] > best:
            out[text], best = row, row["long_tail_share"]
    return out


def dominated(front: Path, members: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """How many published points a member is at least as good as in NDCG and APLT, and better in one; also in recall."""
    lines = [line.split("\t") for line in front.read_text().splitlines()]
    points = [dict(zip(lines[0], map(float, line), strict=True)) for line in lines[1:]]
    own = {"nDCG": "ndcg", "Recall": "recall", "APLT": "long_tail_share"}

    def beaten(point: Mapping[str, float], names: Sequence[str]) -> bool:
        gains = ([member[own[name]] - point[name] for name in names] for member in members)
        return any(min(gain) >= 0 and max(gain) > 0 for gain in gains)

    return {
        "points": len(points),
        "ndcg_aplt": sum(beaten(point, ("nDCG", "APLT")) for point in points),
        "ndcg_recall_aplt": sum(beaten(point, ("nDCG", "Recall", "APLT")) for point in points),
    }


def table(results: Mapping[str, Any]) -> str:
    """The published rows, the baselines and evorec's picks, as a table in Markdown."""
    k, single = results["k"], results["dataset"] not in ("gowalla", "amazon-music")
    head = (
        "",
        f"{'HR' if single else 'recall'}@{k}",
        f"NDCG@{k}",
        "coverage",
        "long tail",
        "training FLOP",
        "request FLOP",
    )
    rows = [
        (f"{name} ({source})", f"{recall:.4f}", f"{ndcg:.4f}", "", "", "", "")
        for name, recall, ndcg, source in PUBLISHED[results["dataset"]]
    ]
    rows += [(f"{name}, here", *shown([values])) for name, values in results["baselines"].items()]
    searches = results["searches"]
    if "dominated" in results:
        for one in searches:
            front = list(one["picks"].items())
            for index in np.unique(np.linspace(0, len(front) - 1, 8).round().astype(int)):
                rows.append((f"search {one['seed']}: {front[index][1]['member'][:8]}", *shown([front[index][1]])))
    else:
        rows += [(f"**{text}**", *shown([one["picks"][text] for one in searches])) for text in searches[0]["picks"]]
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    for one, count in zip(searches, results.get("dominated", ()), strict=False):
        lines.append(
            f"search {one['seed']} dominates {count['ndcg_aplt']} of {count['points']} published points in NDCG and "
            f"APLT, {count['ndcg_recall_aplt']} in recall as well"
        )
    return "\n".join(lines)


def shown(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Mean and, of several, standard deviation of each column; empty where a model does not have it."""
    out = []
    for name, digits in (("recall", 4), ("ndcg", 4), ("catalogue_coverage", 3), ("long_tail_share", 3)):
        values = [row[name] for row in rows]
        spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
        out.append(f"{np.mean(values):.{digits}f}{spread}")
    for name in ("training_flops", "inference_flops"):
        values = [row[name] for row in rows if name in row]
        out.append(f"{np.mean(values):.2g}" if values else "")
    return tuple(out)


if __name__ == "__main__":
    main()
