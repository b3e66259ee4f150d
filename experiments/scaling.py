"""Stacks per second over workers, and a simulation of up to 512: ``python experiments/scaling.py``.

Measured: a search in steady state whose stacks wait for 0.25 s, on 1, 2 and 4 worker processes, and on Ray where the
extra ``cluster`` is installed. Stacks that wait need no core, so the figures show what workers and coordinator add.

Measured: the cost of the coordinator per stack, i.e. proposing, ledger, archive and files, as the time of a serial
search whose evaluations take no time, divided by its stacks; with and without the surrogate.

Simulated: W workers whose stacks take the times of a log-normal distribution (median 10 s, one in ten takes more than
20 s), and a coordinator that handles one result at a time at the measured cost.
"""

from __future__ import annotations

import heapq
import importlib.util
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from results_file import write_results

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory
from evorec.search.cluster import RayExecutor
from evorec.search.engine import search
from evorec.search.executors import Executor, ProcessExecutor, SerialExecutor
from problems.analytic import build

RESULTS = Path(__file__).parent / "results" / "scaling.json"
WAIT_S = 0.25
WORKERS = (1, 2, 4)
SIMULATED = (8, 16, 32, 64, 128, 256, 512)
MEDIAN_S, SPREAD = 10.0, 0.54
N_STACKS = 20_000


def waiting(honest, specs, **how):
    """An evaluation that takes its time, but no core."""
    time.sleep(WAIT_S)
    return honest(specs, **how)


def rate(executor: Executor) -> float:
    """Stacks per second of a search without a surrogate; the workers have started before."""
    problem = build()
    problem.mixes_shapes = True
    problem.evaluate = partial(waiting, problem.evaluate)
    warm = SearchConfig(mode="steady", surrogate="none", population=16, generations=1)
    search(problem, warm, executor=executor, chunk=4)
    config = warm.model_copy(update={"generations": 10, "seed": 1})
    start = time.perf_counter()
    found = search(problem, config, executor=executor, chunk=4)
    return found.n_evaluated / 4 / (time.perf_counter() - start)


def coordinator_s(surrogate: str) -> float:
    """Seconds of the coordinator per stack of 4 genomes, with a run directory."""
    problem = build()
    problem.mixes_shapes = True
    config = SearchConfig(mode="steady", surrogate=surrogate, memory="none", population=16, generations=6)
    executor = SerialExecutor()
    executor.workers = 4  # a free worker gets 4 genomes
    with tempfile.TemporaryDirectory() as folder:
        settings = RunConfig(problem="analytic", search=config)
        with RunDirectory.create(Path(folder), config=settings, fingerprint="f" * 16, environment={}) as run:
            start = time.perf_counter()
            found = search(problem, config, run=run, executor=executor, chunk=4)
            return (time.perf_counter() - start) / (found.n_evaluated / 4)


def simulated(n_workers: int, cost_s: float) -> float:
    """Stacks per second of workers and a coordinator that handles one result at a time."""
    durations = np.random.default_rng(0).lognormal(np.log(MEDIAN_S), SPREAD, N_STACKS)
    ends = [float(duration) for duration in durations[:n_workers]]
    heapq.heapify(ends)
    free = 0.0
    for duration in durations[n_workers:]:
        free = max(free, heapq.heappop(ends)) + cost_s
        heapq.heappush(ends, free + float(duration))
    return (N_STACKS - n_workers) / free


def figures() -> dict:
    """All figures."""
    found: dict = {"waits_s": WAIT_S, "processes": {}, "ray": {}, "coordinator_s": {}, "simulation": {}}
    for n in WORKERS:
        executor = ProcessExecutor(n)
        found["processes"][n] = rate(executor)
        executor.close()
    if importlib.util.find_spec("ray"):
        import ray

        ray.init(address="local", num_cpus=max(WORKERS), include_dashboard=False, log_to_driver=False)
        for n in WORKERS:
            on_ray = RayExecutor(n)
            found["ray"][n] = rate(on_ray)
            on_ray.close()
        ray.shutdown()
    for surrogate in ("none", "gp"):
        cost_s = found["coordinator_s"][surrogate] = coordinator_s(surrogate)
        found["simulation"][surrogate] = {n: simulated(n, cost_s) for n in SIMULATED}
    found["simulation"]["without a coordinator"] = {n: simulated(n, 0.0) for n in SIMULATED}
    return found


if __name__ == "__main__":
    result = figures()
    print(json.dumps(result, indent=1))
    write_results(RESULTS, result)
