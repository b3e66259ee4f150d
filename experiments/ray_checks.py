"""What a search keeps on a Ray cluster of two nodes on this machine: ``python experiments/ray_checks.py``.

Needs the extra ``cluster``. Two ``ray start`` processes with one CPU each stand for two nodes; token authentication is
on, with a token of its own. They are ended by their process ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from results_file import write_results

from evorec.config import SearchConfig
from evorec.search.cluster import RayExecutor
from evorec.search.engine import search
from evorec.search.evaluator import evaluate
from problems.analytic import build

RESULTS = Path(__file__).parent / "results" / "ray_checks.json"
PORT = 6399
LONG_S = 240.0
CONFIG = SearchConfig(surrogate="none", population=8, generations=3, seed=5)


class Slow:
    """The analytic problem whose evaluations take a while, note their starts, and may end their process."""

    def __init__(self, folder: Path, seconds: float, guilty: float | None = None) -> None:
        self.folder, self.seconds, self.guilty = folder, seconds, guilty

    def __call__(self, honest, specs, **how):
        for spec in specs:
            name = hashlib.sha256(repr(sorted(spec.items())).encode()).hexdigest()
            with (self.folder / name).open("a") as file:
                file.write("x")
        time.sleep(self.seconds)
        if any(spec["effort"] == self.guilty for spec in specs):
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(specs, **how)


def problem(folder: Path, seconds: float, guilty: float | None = None):
    found = build()
    found.evaluate = partial(Slow(folder, seconds, guilty), found.evaluate)
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of a process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


class Node:
    """A ``ray start`` process."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """End everything that belongs to the node, by process id."""
        for pid in reversed(descendants(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def until(condition, what: str) -> float:
    """Seconds until a condition holds."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > LONG_S:
            raise SystemExit(f"{what} did not happen within {LONG_S:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - start


def n_nodes() -> int:
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def starts(folder: Path) -> list[int]:
    return sorted(len(file.read_text()) for file in folder.iterdir())


def rows(result) -> list:
    return [(member.key, dict(member.metrics)) for member in result.archive]


def checked(root: Path) -> dict:
    """The figures."""
    import ray  # reads the variables of the token when it is imported

    figures: dict = {}
    address = f"127.0.0.1:{PORT}"
    head = Node("--head", f"--port={PORT}", "--include-dashboard=false")
    nodes = [head]
    executor = RayExecutor(address=address)
    try:

        def connects() -> bool:
            with suppress(ConnectionError, RuntimeError, ValueError):
                executor.ray()
            return ray.is_initialized()

        figures["head_s"] = until(connects, "the head node")
        expected = search(build(), CONFIG, chunk=3)

        def run(name: str, seconds: float, guilty: float | None = None, **how):
            folder = root / name
            folder.mkdir()
            start = time.monotonic()
            found = search(problem(folder, seconds, guilty), CONFIG, executor=executor, chunk=2, **how)
            return found, folder, time.monotonic() - start

        # elastic: the second node joins while the search goes on
        seen: list[int] = []
        joined: list[Node] = []

        def joins(progress) -> None:
            seen.append(executor.workers)
            if not joined:
                joined.append(Node(f"--address={address}"))
                nodes.append(joined[0])

        found, folder, seconds = run("elastic", 2.0, progress=joins)
        figures["elastic"] = {
            "identical": rows(found) == rows(expected),
            "workers": [min(seen), max(seen)],
            "s": seconds,
        }
        until(lambda: n_nodes() == 2, "the second node")

        found, folder, seconds = run("plain", 0.0)
        figures["plain"] = {"identical": rows(found) == rows(expected), "s": seconds, "most_starts": starts(folder)[-1]}

        # a worker is killed in the middle of a stack
        def kill_worker() -> None:
            time.sleep(3.0)
            [pid] = [
                p for p in descendants(nodes[1]._process.pid) if b"Server" in Path(f"/proc/{p}/cmdline").read_bytes()
            ][:1]
            os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=kill_worker)
        thread.start()
        found, folder, seconds = run("worker", 2.0)
        thread.join()
        counts = starts(folder)
        figures["worker_killed"] = {
            "identical": rows(found) == rows(expected), "n_failed": found.n_failed, "s": seconds,
            "started_twice": sum(count == 2 for count in counts), "most_starts": counts[-1],
        }  # fmt: skip

        print(json.dumps(figures), flush=True)
        # a genome that kills its worker
        folder = root / "poison"
        folder.mkdir()
        space = build().space
        specs = [space.decode(x) for x in space.snap(space.sample(np.random.default_rng(0), 6))]
        guilty = specs[2]["effort"]
        poisoned = problem(folder, 0.0, guilty)
        start = time.monotonic()
        outcomes = dict(
            pair for stack in evaluate(poisoned, specs, seed=5, executor=executor, chunk=3) for pair in stack
        )
        failed = {index: outcome.failure for index, outcome in outcomes.items() if outcome.failure}
        figures["poison"] = {
            "failed": [specs[i]["effort"] == guilty for i in failed], "cause": next(iter(failed.values()), ""),
            "most_starts": starts(folder)[-1], "others_succeeded": len(outcomes) - len(failed), "s": time.monotonic() -
        start, }  # fmt: skip

        # a node is killed in the middle of a stack
        thread = threading.Thread(target=lambda: (time.sleep(3.0), nodes[1].kill()))
        thread.start()
        found, folder, seconds = run("node", 2.0)
        thread.join()
        counts = starts(folder)
        figures["node_killed"] = {
            "identical": rows(found) == rows(expected), "n_failed": found.n_failed, "s": seconds,
            "started_twice": sum(count == 2 for count in counts), "most_starts": counts[-1], "nodes_left": n_nodes(),
        }  # fmt: skip

        wrong = subprocess.run(
            [sys.executable, "-c", f"import ray; ray.init('{address}', configure_logging=False)"],
            env={**os.environ, "RAY_AUTH_TOKEN": "wrong", "RAY_AUTH_TOKEN_PATH": ""}, capture_output=True, text=True,
            timeout=LONG_S, check=False,
        )  # fmt: skip
        figures["refused_without_the_token"] = wrong.returncode != 0 and "uthentication" in wrong.stderr
        return figures
    finally:
        executor.close()
        ray.shutdown()
        for node in reversed(nodes):
            node.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        token = Path(name) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_DISABLE_IMPORT_WARNING": "1"}
        figures = checked(Path(name))
    print(json.dumps(figures, indent=1))
    write_results(RESULTS, figures)
