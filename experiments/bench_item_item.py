"""Time and memory of item-item matrices as the catalogue grows, on simulated positives with a power law.

As many users as items, 12 positives per user on average; popularity falls with the power 0.9 of the rank. Each matrix
is computed in a process of its own, with a single thread: seconds of the processor, the peak of memory above that of
the data, the bytes in a bundle, and the time of the scores of a user over the whole catalogue. A matrix whose counted
memory is above ``--gib`` is left out with the reason.

    python experiments/bench_item_item.py                  # about 20 minutes; up to 1,000,000 items
    python experiments/bench_item_item.py --items 1000 10000
    python experiments/bench_item_item.py --items 40981 --kinds ease --users 80000

Prints a table and writes experiments/results/bench_item_item.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_results

from evorec.data.dataset import Csr
from evorec.data.pasts import Past
from evorec.models.item_item import ITEM_ITEMS, Positives, fit_item_item, oversized, with_defaults

HERE = Path(__file__).parent
OUT = HERE / "results" / "bench_item_item.json"
SETTINGS: dict[str, dict[str, Any]] = {
    "knn": {"shrinkage": 20.0, "next_item": 1.0, "neighbours": 256},
    "ease": {"item_item_l2": 100.0, "neighbours": 256},
    "low_rank": {"item_item_rank": 64},
}
PER_USER, POWER, ASKED = 12, 0.9, 64


def positives_of(n_items: int, n_users: int) -> Positives:
    """Random positives; items by popularity, users with a geometric number of draws, times at random."""
    rng = np.random.default_rng(0)
    counts = rng.geometric(1 / PER_USER, n_users)
    users = np.repeat(np.arange(n_users), counts)
    shares = np.cumsum(np.arange(1, n_items + 1) ** -POWER)
    items = np.searchsorted(shares, rng.random(len(users)) * shares[-1])
    past = Past.of(users, items, rng.integers(0, 10**8, len(users)), n_users=n_users)
    return Positives(Csr.from_pairs(users, items, n_rows=n_users), past, n_items)


def measured(kind: str, n_items: int, n_users: int, gib: float) -> dict[str, Any]:
    """Figures of a matrix; only the reason where it does not fit."""
    positives, settings = positives_of(n_items, n_users), with_defaults(SETTINGS[kind])
    _ = positives.counts
    if reason := oversized(kind, positives, settings, int(gib * 2**30)):
        return {"reason": reason}
    before = _peak_gib()
    start = time.process_time()
    model = fit_item_item(kind, positives, settings)
    fitted = time.process_time()
    model.scores(positives.past.faded(n_items, decay=0.8)[:ASKED])
    ended = time.process_time()
    return {
        "fit_s": fitted - start,
        "peak_gib": _peak_gib() - before,
        "counted_gib": ITEM_ITEMS[kind].fit_bytes(positives, settings) / 2**30,
        "bundle_gib": ITEM_ITEMS[kind].stored_values(positives, settings)[1] / 2**30,
        "flops": ITEM_ITEMS[kind].fit_flops(positives, settings),
        "scores_ms": 1000 * (ended - fitted) / ASKED,
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--users", type=int, help="as many as items by default")
    parser.add_argument("--kinds", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        kind, n_items, n_users = asked.one.split(":")
        print(json.dumps(measured(kind, int(n_items), int(n_users), asked.gib)))
        return
    out = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    print(
        "| items | matrix | fit, s | peak, GiB | counted, GiB | bundle, GiB | scores of a user, ms |\n"
        + "|---" * 7
        + "|"
    )
    for n_items in asked.items:
        for kind in asked.kinds:
            n_users = asked.users or n_items
            call = [sys.executable, __file__, "--one", f"{kind}:{n_items}:{n_users}", "--gib", str(asked.gib)]
            done = subprocess.run(call, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout)
            out[f"{kind} {n_items} items {n_users} users"] = found
            write_results(asked.out, out)
            if "reason" in found:
                print(f"| {n_items:,} | {kind} | {found['reason']} |", flush=True)
                continue
            names = ("fit_s", "peak_gib", "counted_gib", "bundle_gib", "scores_ms")
            figures = " | ".join(f"{found[name]:.3g}" for name in names)
            print(f"| {n_items:,} | {kind} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
