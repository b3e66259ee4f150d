"""Time and memory of reading and encoding a generated log, each format in a fresh process.

    python experiments/bench_reading.py --formats csv,csv.gz,jsonl,parquet

The log has text ids of users, integer ids of items, a time, three labels (a number among them) and two context
features; users and items have a table each. Statistics are those of the user and of the item. Peak memory is the
largest resident set of the process until the end of a stage, libraries included. CPU seconds are summed over threads.
On a busy machine (see `load`, the number of runnable processes before the stage) wall times depend on the other jobs.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from bench_setup import fresh, machine, n_cores, status_bytes
from results_file import write_results

from evorec.config import RecommenderConfig, parse_config
from evorec.data.encode import encode
from evorec.data.readers import read
from evorec.data.splits import split

RESULT: Final = Path(__file__).parent / "results" / "bench_reading.json"
CHUNK: Final = 1_000_000
STAGES: Final = ("read", "split", "encode")
SETTINGS: Final[dict[str, Any]] = {
    "data": {
        "reader": "table",
        "log": {
            "user": "user", "item": "item", "time": "time",
            "tasks": {"click": "click", "liked": "rating >= 4", "watch": "play_ms / 1000"},
            "context": {"tab": "categorical", "place": "categorical"},
        },
        "users": {"files": ["users.csv"], "key": "user", "features": {"age": "numeric", "city": "categorical"}},
        "items": {
            "files": ["items.csv"], "key": "item", "features": {"tags": "multi_hot"}, "separators": {"tags": "|"},
            "content": ["tags"],
        },
    },
}  # fmt: skip


def write_log(folder: Path, kind: str, n_rows: int, n_users: int, n_items: int) -> Path:
    """A log in the given format, sorted by time, items by a power law; written in chunks."""
    rng = np.random.default_rng(0)
    path = folder / f"log.{kind}"
    pieces = []
    with gzip.open(path, "wb", compresslevel=1) if kind.endswith("gz") else path.open("wb") as file:
        for start in range(0, n_rows, CHUNK):
            n = min(CHUNK, n_rows - start)
            rating = rng.integers(1, 6, n)
            frame = pl.DataFrame(
                {
                    "user": pl.Series("u" + pl.Series(rng.integers(n_users, size=n)).cast(pl.String)),
                    "item": (n_items * rng.random(n) ** 3).astype(np.int64),
                    "time": 1_650_000_000_000 + (start + np.arange(n)) * 100,
                    "click": rng.integers(0, 2, n),
                    "rating": pl.Series(rating).set(pl.Series(rng.random(n) < 0.3), None),
                    "play_ms": rng.integers(0, 300_000, n),
                    "tab": rng.integers(0, 12, n),
                    "place": pl.Series(["home", "search", "profile"]).gather(rng.integers(0, 3, n)),
                }
            )
            if kind == "parquet":
                pieces.append(frame)
            elif kind.startswith("jsonl"):
                frame.write_ndjson(file)
            else:
                frame.write_csv(file, include_header=start == 0)
        if pieces:
            pl.concat(pieces).write_parquet(file)
    return path


def write_entities(folder: Path, n_users: int, n_items: int) -> None:
    """The tables of users and items."""
    rng = np.random.default_rng(1)
    users = pl.DataFrame({"user": [f"u{n}" for n in range(n_users)], "age": rng.integers(10, 90, n_users)})
    users.with_columns(pl.Series("city", rng.integers(0, 500, n_users))).write_csv(folder / "users.csv")
    tags = ["|".join(map(str, row)) for row in rng.integers(0, 40, (n_items, 3))]
    pl.DataFrame({"item": range(n_items), "tags": tags}).write_csv(folder / "items.csv")


def measure(folder: str, kind: str) -> dict[str, Any]:
    """Seconds and peak memory of reading, splitting and encoding a log in this process."""
    log = {**SETTINGS["data"]["log"], "files": [f"log.{kind}"]}
    config: RecommenderConfig = parse_config({"data": {**SETTINGS["data"], "path": str(folder), "log": log}})
    found: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    with stage("read", found):
        tables = read(config.data)
    with stage("split", found):
        parts = split(tables, config.split)
    with stage("encode", found):
        data = encode(tables, parts, tasks=("click", "liked"), target="click", fit="train", statistics=("user", "item"))
    totals = {key: round(sum(found[name][key] for name in STAGES), 2) for key in ("wall_s", "cpu_s")}
    encoded = data.train.n_rows + data.held_out.n_rows
    return {"rows": tables.n_rows, "encoded_rows": encoded, **totals, "peak_gib": found["encode"]["peak_gib"], **found}


@contextmanager
def stage(name: str, found: dict[str, Any]) -> Iterator[None]:
    """Record time and memory of the statements in the block in ``found[name]``."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    found[name] = {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_gib": round(status_bytes("VmHWM") / 2**30, 2),
    }


def main() -> None:
    """Print and write a row per format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--formats", default="csv,csv.gz,parquet")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "cores": n_cores(), "formats": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_entities(folder, options.users, options.items)
        for kind in options.formats.split(","):
            path = write_log(folder, kind, options.rows, options.users, options.items)
            row = fresh("bench_reading", "measure", n_threads=None, folder=name, kind=kind)
            found["formats"][kind] = {"file_mib": round(path.stat().st_size / 2**20), **row}
            path.unlink()
            print(kind, found["formats"][kind], flush=True)
            write_results(options.out, found)


if __name__ == "__main__":
    main()
