"""A nightly job over many simulated nights: what it leaves behind, and what its gate lets through.

`soak` runs whole nights in this process, with a calendar of their own: each checks its data, searches, trains the best
member again, exports it, judges it and perhaps promotes it. The data are the last two weeks of a feed whose tastes and
popularity drift; every night a day is added and a day is dropped. After each night the script notes resident memory,
open files, threads, and the bytes and files of the folder.

`gate` judges challengers without the export, by the code of the gate: per night the champion's genome is trained on the
data of that night with the champion's seed and with three fresh seeds, the first of which is the challenger; and a
challenger of the same lists without 3 % of their hits, drawn at random.

    nice -n 19 python experiments/nightly_nights.py soak --nights 500
    nice -n 19 python experiments/nightly_nights.py gate --nights 100

Nights are kept in runs/nightly_nights, and a second call goes on after the last. Writes
experiments/results/nightly_nights.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from results_file import write_results

from evorec.config import RecommenderConfig, parse_config
from evorec.data.simulator import simulate
from evorec.data.tables import SECONDS_PER_DAY, Columns
from evorec.deploy.gate import Figure, SeedNoise, Verdict, decide
from evorec.models.spec import ModelSpec
from evorec.nightly.job import Hooks, run_night
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.training.reproducible import reproducible_cpu
from problems.feed import FeedConfig

HERE = Path(__file__).parent
DAYS = 14
"""Of the log of a night."""
FIRST = datetime(2030, 1, 1, 3, tzinfo=UTC)
LOSS = 0.03
KEPT_NIGHTS = 14
"""Nights whose noise between seeds is pooled, as ``nightly.keep`` has it by default."""
SEEDS = 3
K = 10


def main() -> None:
    """Run the nights that are missing and summarise all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("soak", "gate"))
    parser.add_argument("--nights", type=int)
    parser.add_argument("--runs", type=Path, default=Path("runs/nightly_nights"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "nightly_nights.json")
    options = parser.parse_args()
    reproducible_cpu(required=False)
    options.runs.mkdir(parents=True, exist_ok=True)
    found = (soak if options.part == "soak" else gate)(
        options.runs, options.nights or {"soak": 500, "gate": 100}[options.part]
    )
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    write_results(options.out, {**known, options.part: found})
    print(json.dumps(found, indent=1))


def log_of(n_nights: int, *, n_users: int, n_items: int, per_day: int) -> pl.DataFrame:
    """The log of all nights, in order of time."""
    n_days = n_nights + DAYS
    world = FeedConfig(
        n_users=n_users, n_items=n_items, n_days=n_days, n_interactions=per_day * n_days, drift=1.0, seed=5
    )
    return simulate(world).interactions.select(Columns.USER, Columns.ITEM, Columns.TIME, "click", "hour")


def window(log: pl.DataFrame, night: int) -> pl.DataFrame:
    """The rows of the days before a night."""
    day = (pl.col(Columns.TIME) - log[Columns.TIME][0]) // SECONDS_PER_DAY
    return log.filter((day >= night) & (day < night + DAYS))


def settings(folder: Path, data: Path, **search: Any) -> RecommenderConfig:
    """The configuration of all nights."""
    return parse_config(
        {
            "problem": "feed",
            "constraints": [],
            "objectives": ["recall@k", "catalogue_coverage@k", "cost"],
            "inputs": "all",
            "data": {
                "reader": "table", "path": str(data.resolve()), "statistics": [],
                "log": {
                    "files": ["log.parquet"], "user": Columns.USER, "item": Columns.ITEM, "time": Columns.TIME,
                    "tasks": {"click": "click"},
                },
            },
            "tasks": {"ranked": [], "target": "click"},
            "training": {"steps": 20, "batch_size": 64, "retrieval_batch": 64, "layers": 1},
            "evaluation": {"k": K, "candidates": 20, "max_users": 100},
            "search": {"population": 4, "generations": 2, "surrogate": "none", **search},
            "finalize": {"seeds": 2, "steps": "search", "bootstrap": 200, "boosting": False},
            "nightly": {
                "folder": str(folder), "pick": "recall", "keep": 7, "keep_promoted": 5, "latency_ms": 0,
                # A figure in which even a tiny model beats the baselines, so that there is a champion.
                "target": "novelty@k", "guards": [],
            },
            "run": {"device": "cpu", "workers": 1, "executor": "serial"},
        }
    )  # fmt: skip


def soak(runs: Path, n_nights: int) -> dict[str, Any]:
    """Whole nights, and what they leave behind."""
    folder, data, rows_file = runs / "nights", runs / "data", runs / "soak.jsonl"
    data.mkdir(exist_ok=True)
    log = log_of(500, n_users=80, n_items=60, per_day=170)  # the same world for any number of nights
    config = settings(folder, data)
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []
    if not rows:
        shutil.rmtree(folder, ignore_errors=True)
    start = len(rows)
    for night in range(start, n_nights):
        window(log, night).write_parquet(data / "log.parquet")
        moment = FIRST + timedelta(days=night)
        began = time.perf_counter()
        summary = run_night(config, hooks=Hooks(clock=lambda moment=moment: moment))
        row = {
            "night": night, "start": start, "seconds": round(time.perf_counter() - began, 2),
            "verdict": summary["decision"]["verdict"], "steps": {n: round(s, 2) for n, s in summary["seconds"].items()},
            "warnings": sum(check["outcome"] == "warn" for check in summary["checks"]), **left_behind(folder),
        }  # fmt: skip
        rows.append(row)
        with rows_file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if night % 10 == 0:
            print(json.dumps(row), flush=True)
    return soak_summary(rows)


def left_behind(folder: Path) -> dict[str, int]:
    """Memory, handles and threads of this process, and the size of a folder."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "kernel_threads": int(status["Threads"]),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "nights_kept": len(list((folder / "runs").glob("*"))),
        "bundles_kept": len(list((folder / "models" / "bundles").glob("[!.]*"))),
    }


def soak_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Levels at some nights, and the slope over the second half."""
    names = (
        "rss_kib",
        "open_files",
        "threads",
        "kernel_threads",
        "children",
        "bytes",
        "files",
        "nights_kept",
        "bundles_kept",
    )
    at = sorted({min(n, len(rows) - 1) for n in (0, 25, 50, 100, 200, 300, 400, len(rows) - 1)})
    half = [row for row in rows if row["start"] == rows[-1]["start"]]
    half = half[len(half) // 2 :]
    x = np.array([row["night"] for row in half], dtype=float)
    slopes = {name: float(np.polyfit(x, [row[name] for row in half], 1)[0]) if len(x) > 1 else 0.0 for name in names}
    return {
        "nights": len(rows),
        "processes": len({row["start"] for row in rows}),
        "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "nights_with_warnings": sum(row["warnings"] > 0 for row in rows),
        "seconds_median": float(np.median([row["seconds"] for row in rows])),
        "at": {str(rows[n]["night"]): {name: rows[n][name] for name in names} for n in at},
        "per_night_in_the_last_half": slopes,
    }


def gate(runs: Path, n_nights: int) -> dict[str, Any]:
    """Verdicts on the champion's genome with another seed, and on a challenger with a planted loss."""
    log = log_of(n_nights, n_users=300, n_items=150, per_day=1000)
    data = runs / "gate_data"
    data.mkdir(exist_ok=True)
    rows_file = runs / "gate.jsonl"
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []
    for night in range(len(rows), n_nights):
        window(log, night).write_parquet(data / "log.parquet")
        config = settings(runs, data)
        config = config.model_copy(update={"training": config.training.model_copy(update={"steps": 100})})
        earlier = [{name: SeedNoise(**one) for name, one in row["noise"].items()} for row in rows[-(KEPT_NIGHTS - 1) :]]
        row = judged(build_problem(config), night, earlier)
        rows.append(row)
        with rows_file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if night % 10 == 0:
            print(json.dumps(row), flush=True)
    kinds = ("retrained", "retrained_one_night", "planted_loss")
    return {
        "nights": len(rows),
        "verdicts": {kind: dict(Counter(row[kind] for row in rows)) for kind in kinds},
        "recall": float(np.mean([row["recall"] for row in rows])),
        "seed_std": float(np.sqrt(np.mean([row["noise"][f"recall@{K}"]["std"] ** 2 for row in rows]))),
        "half_width": float(np.mean([row["half_width"] for row in rows])),
        "users": float(np.mean([row["users"] for row in rows])),
        "relative_loss": float(np.mean([row["relative_loss"] for row in rows])),
    }


def judged(problem: RecProblem, night: int, earlier: Sequence[dict[str, SeedNoise]]) -> dict[str, Any]:
    """Verdicts of a night."""
    trainer = StackTrainer.of(problem.tables, problem.config, fit="train+validation", seed=0, at_most=None)
    spec = ModelSpec.from_genes(problem.space.decode(problem.space.default()))
    seeds = [100_000 + night, *(SEEDS * night + number for number in range(SEEDS))]
    measured = []
    for seed in seeds:
        data = trainer.data
        (found,) = data.measure(trainer.with_seed(seed).train([spec]).population)
        measured.append(found)
    champion, *fresh = measured
    names = (f"recall@{K}", f"ndcg@{K}")
    own = {name: SeedNoise(float(np.std([one.metrics[name] for one in fresh], ddof=1)), SEEDS - 1) for name in names}
    pooled = {name: SeedNoise.pooled([own[name], *(one[name] for one in earlier)]) for name in names}
    challenger = {name: fresh[0].per_user[name] for name in names}
    # Every hit is lost with probability `LOSS`.
    hits = np.rint(challenger[names[0]] * trainer.data.users.relevant.counts()).astype(np.int64)
    left = np.random.default_rng(night).binomial(hits, 1 - LOSS) / np.maximum(hits, 1)
    worse = {name: values * left for name, values in challenger.items()}

    def verdict(own: dict[str, Any], noise: dict[str, SeedNoise]) -> Verdict:
        figures = [Figure(name, champion.per_user[name], own[name], noise[name]) for name in names]
        return decide(figures[:1], figures[1:], seed=night).verdict

    return {
        "night": night,
        "retrained": verdict(challenger, pooled),
        "retrained_one_night": verdict(challenger, own),
        "planted_loss": verdict(worse, pooled),
        "noise": {name: vars(one) for name, one in own.items()},
        "half_width": pooled[names[0]].half_width,
        "recall": float(champion.per_user[names[0]].mean()),
        "users": len(hits),
        "relative_loss": 1 - float(worse[names[0]].mean() / challenger[names[0]].mean()),
    }


if __name__ == "__main__":
    main()
