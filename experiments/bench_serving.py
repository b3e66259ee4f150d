"""Speed of a bundle: over HTTP under load, in batches without HTTP, and as the catalogue grows.

    python experiments/bench_serving.py                      # all parts, makes its own bundle of 10,000 items
    python experiments/bench_serving.py --bundle bundles/x --parts http

Part `http` starts ``evorec serve`` with a worker per core and sends requests from another process over persistent
connections, a single pending request per connection. Server and client share the cores, so a client on another machine
would see at least the same rates. `cpu_ms` is the server's CPU time per request, which depends less on other jobs of
the machine. Part `batch` calls `Recommender.recommend` for all users at once. Part `growth` adds synthetic items to the
catalogue and times single requests with a single thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from results_file import write_results
from served_bundle import served

RESULT: Final = Path(__file__).parent / "results" / "serving.json"
PARTS: Final = ("http", "batch", "growth")
N_USERS: Final = 1_500
N_ITEMS: Final = 10_000
N_INTERACTIONS: Final = 60_000
CONNECTIONS: Final = (1, 4, 16, 64)
USERS: Final = (1, 32)
K: Final = 20
CATALOGUES: Final = (1_000, 10_000, 100_000, 1_000_000)
NEW_ID: Final = 10**9
"""First id of synthetic items."""
TICKS: Final = os.sysconf("SC_CLK_TCK")


def evorec(*words: str) -> str:
    """Standard output of a command of evorec."""
    done = subprocess.run([sys.executable, "-m", "evorec", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"evorec {' '.join(words)}\n{done.stderr}")
    return done.stdout


def make_bundle(n_items: int, folder: Path, *, reranks: bool) -> Path:
    """A bundle of a barely trained member of problem `feed`: speed depends on its shape, not on its quality.

    A shared bottom of width 64 with embeddings of 32; with re-ranking, the ranker scores the best 200 items.
    """
    settings = {
        "data.simulator.n_items": n_items, "data.simulator.n_users": N_USERS,
        "data.simulator.n_interactions": N_INTERACTIONS, "search.population": 4, "search.generations": 1,
        "training.steps": 20, "training.rungs": [], "constraints": [], "run.output": str(folder / "runs"),
        "space.rerank": str(reranks).lower(), "space.mechanism": '"shared_bottom"', "space.embedding_dim": 32,
        "space.width": 64,
    }  # fmt: skip
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    evorec("search", "--problem", "feed", *given, "-q")
    (run,) = (folder / "runs").iterdir()
    evorec("export", str(run), "knee", "--out", str(folder / "bundle"), "-q")
    return folder / "bundle"


def over_http(bundle: Path, seconds: float) -> list[dict[str, Any]]:
    """Latency and throughput for each number of connections and of users per request."""
    rows = []
    with served(bundle, OMP_NUM_THREADS="1") as (url, pid):
        port = url.rpartition(":")[2]
        for n_users, n_connections in product(USERS, CONNECTIONS):
            client = [sys.executable, __file__, "--client", port, str(n_connections), str(n_users), str(seconds)]
            before = _cpu_s(pid)
            found = json.loads(subprocess.run(client, capture_output=True, text=True, check=True).stdout)
            found["cpu_ms"] = round(1000 * (_cpu_s(pid) - before) / found["requests"], 3)
            rows.append({"users": n_users, "connections": n_connections, **found})
            print(json.dumps(rows[-1]))
    return rows


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def client(port: int, n_connections: int, n_users: int, seconds: float) -> dict[str, Any]:
    """Send requests over every connection for some seconds; the first fifth is not counted."""
    latencies: list[float] = []
    n_errors = 0
    rng = random.Random(0)
    bodies = [
        json.dumps({"users": [{"id": rng.randrange(N_USERS)} for _ in range(n_users)], "k": K}).encode()
        for _ in range(256)
    ]
    head = "POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(body)).encode() + body for body in bodies]

    async def send_on(begin: float, end: float) -> None:
        nonlocal n_errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        while (sent := time.perf_counter()) < end:
            writer.write(rng.choice(requests))
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            if sent >= begin:
                latencies.append(time.perf_counter() - sent)
                n_errors += b" 200 " not in answer[:16]
        writer.close()

    async def send() -> None:
        now = time.perf_counter()
        await asyncio.gather(*(send_on(now + seconds / 5, now + seconds) for _ in range(n_connections)))

    asyncio.run(send())
    p50, p90, p99 = (round(1000 * float(found), 2) for found in np.percentile(latencies, (50, 90, 99)))
    rate = len(latencies) / (0.8 * seconds)
    return {
        "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "requests_per_s": round(rate, 1),
        "lists_per_s": round(rate * n_users, 1), "requests": len(latencies), "errors": n_errors,
    }  # fmt: skip


def in_batches(bundle: Path, threads: int, seconds: float) -> dict[str, Any]:
    """Lists per second of `Recommender.recommend`, all users in a single call."""
    from evorec.serving.recommender import load_bundle

    recommender = load_bundle(bundle, threads=threads)
    users = list(range(recommender.n_users))
    recommender.recommend(users[:64], k=K)
    begun, cpu, n_calls = time.perf_counter(), time.process_time(), 0
    while (wall := time.perf_counter() - begun) < seconds:
        recommender.recommend(users, k=K)
        n_calls += 1
    n_lists = n_calls * len(users)
    return {
        "threads": threads, "items": recommender.n_items, "k": K, "users_per_call": len(users),
        "lists_per_s": round(n_lists / wall), "cpu_ms_per_list": round(1000 * (time.process_time() - cpu) / n_lists, 4),
    }  # fmt: skip


def as_it_grows(bundle: Path, sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Milliseconds of a request for 1 and for 32 users at each size of the catalogue, with a single thread."""
    from evorec.serving.queries import Item
    from evorec.serving.recommender import load_bundle

    recommender = load_bundle(bundle)
    rows = []
    for size in sizes:
        first, n_new = NEW_ID + recommender.n_items, size - recommender.n_items
        if n_new > 0:
            new = [Item(first + n, {"category": n % 12, "price": n % 50}) for n in range(n_new)]
            recommender = recommender.with_items(new)
        for n_users in USERS:
            times: list[float] = []
            users = list(range(n_users))
            recommender.recommend(users, k=K)
            while sum(times) < seconds or len(times) < 5:
                begun = time.perf_counter()
                recommender.recommend(users, k=K)
                times.append(time.perf_counter() - begun)
            p50, p99 = (round(1000 * float(found), 3) for found in np.percentile(times, (50, 99)))
            rows.append({"items": recommender.n_items, "users": n_users, "k": K, "p50_ms": p50, "p99_ms": p99})
            print(json.dumps(rows[-1]))
    return rows


def all_parts(parts: Sequence[str], given: Path | None, folder: Path, seconds: float) -> dict[str, Any]:
    """Figures of the given parts, for members with and without the ranker in the list score."""
    from bench_setup import n_cores

    out: dict[str, Any] = {"workers": n_cores(), "k": K}
    for kind, reranks in (("retrieval only", False), ("re-ranking", True)):
        found: dict[str, Any] = {}
        own = folder / kind.replace(" ", "_")
        bundle = given
        if bundle is None and {"http", "batch"} & set(parts):
            bundle = make_bundle(N_ITEMS, own / "large", reranks=reranks)
        if "http" in parts and bundle is not None:
            found["http"] = over_http(bundle, seconds)
        if "batch" in parts and bundle is not None:
            found["batch"] = [in_batches(bundle, threads, seconds) for threads in (1, n_cores())]
            print(json.dumps(found["batch"]))
        if "growth" in parts:
            found["growth"] = as_it_grows(
                make_bundle(CATALOGUES[0], own / "small", reranks=reranks), CATALOGUES, seconds / 3
            )
        out["bundle" if given else kind] = found
        if given:
            break
    return out


def main() -> None:
    """Run the given parts and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--bundle",
        type=Path,
        help="an existing bundle, whose users are the numbers from 0; default: made by this script",
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds of each measurement")
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        port, n_connections, n_users, seconds = arguments.client
        print(json.dumps(client(int(port), int(n_connections), int(n_users), float(seconds))))
        return

    from bench_setup import machine

    with tempfile.TemporaryDirectory() as folder:
        out = all_parts(arguments.parts.split(","), arguments.bundle, Path(folder), arguments.seconds)
    out["machine"] = machine()
    write_results(RESULT, out)


if __name__ == "__main__":
    main()
