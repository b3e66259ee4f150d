"""What every executor keeps: the contract of `evorec.search.executors`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from analytic import Analytic

from evorec.config import SearchConfig
from evorec.problem import Spec
from evorec.search.engine import search
from evorec.search.evaluator import MOST_STARTS, evaluate
from evorec.search.executors import AdaptiveExecutor, Executor, ProcessExecutor, SerialExecutor, ThreadExecutor
from evorec.search.workers import WorkerDeath

CONFIG = SearchConfig(surrogate="none", population=8, generations=2, seed=5)
KINDS = {
    "serial": SerialExecutor,
    "threads": partial(ThreadExecutor, 3),
    "processes": partial(ProcessExecutor, 2),
    "auto": partial(AdaptiveExecutor, 2, long_run_s=0.0),
}


@pytest.fixture(scope="module", params=[*KINDS, "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose workers start once."""
    if request.param == "ray":
        if importlib.util.find_spec("ray") is None:
            pytest.skip("needs the extra cluster: pip install evorec[cluster]")
        pytest.skip("Ray is checked by experiments/ray_checks.py: a test should not start a cluster")
    found = KINDS[request.param]()
    yield found
    if isinstance(found, ProcessExecutor):
        found.close()


def test_every_task_is_answered_once_with_its_index(executor: Executor) -> None:
    tasks = [lambda i=i: i * i for i in range(20)]
    assert sorted(executor.run(tasks)) == [(i, i * i) for i in range(20)]
    assert list(executor.run([])) == []


def test_an_exception_of_a_task_is_raised(executor: Executor) -> None:
    def fail() -> None:
        raise ValueError("broken task")

    with pytest.raises(ValueError, match="broken task"):
        list(executor.run([fail]))
    assert list(executor.run([lambda: 1])) == [(0, 1)]  # and the executor goes on


def test_a_task_is_taken_when_a_worker_is_free_and_the_results_are_handled(executor: Executor) -> None:
    taken, handled = [0], [0]

    def tasks() -> Iterator[Any]:
        while taken[0] < 8:
            assert taken[0] - handled[0] < executor.workers
            taken[0] += 1
            yield partial(int, taken[0])
            yield None  # none before the next result

    for _, _ in executor.run(tasks()):
        handled[0] += 1
    assert handled == taken


def test_nothing_to_wait_for_ends_a_run(executor: Executor) -> None:
    assert list(executor.run([None, partial(int, 1)])) == []


@pytest.mark.parametrize("mode", ["generations", "steady"])
def test_a_search_is_that_of_the_serial_executor(executor: Executor, mode: Any) -> None:
    """In steady state the order of ending counts, so only the number of evaluations is the same."""
    config = CONFIG.model_copy(update={"mode": mode})
    found, expected = search(Analytic(), config, executor=executor, chunk=3), search(Analytic(), config, chunk=3)
    assert (found.n_evaluated, found.n_failed) == (16, 0)
    if mode == "generations":
        assert found.archive == expected.archive


def counted(folder: Path, spec: Spec) -> str | None:
    """Notes a start of a spec, and ends the process of one of them."""
    with (folder / f"{spec['effort']}").open("a") as file:
        file.write("x")
    if spec["effort"] == 0.03:
        os._exit(9)
    return None


def test_a_genome_that_kills_its_worker_is_found_within_three_starts(executor: Executor, tmp_path: Path) -> None:
    if not executor.isolates:
        pytest.skip("tasks run in this process: its next start isolates them (tests/search/test_deaths.py)")
    spec = {"effort": 0.5, "rate": 0.01, "method": "tree", "depth": 3, "bias": True, "weights": (1.5, 0.5)}
    asked = [{**spec, "effort": i / 100} for i in range(6)]
    stacks = evaluate(Analytic(fault=partial(counted, tmp_path)), asked, seed=0, executor=executor, chunk=3)
    found = dict(pair for stack in stacks for pair in stack)
    assert [i for i, outcome in sorted(found.items()) if outcome.failure] == [3]
    assert str(found[3].failure).endswith(f"({MOST_STARTS} starts)")
    # a stack asks twice for a fault, when it begins and for the outcome
    starts = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(starts["0.03"]) == MOST_STARTS
    assert max(len(starts[f"{effort}"]) for effort in (0.0, 0.02, 0.04)) <= 2  # never started again


def test_a_lost_task_has_a_death_as_its_result(executor: Executor) -> None:
    if executor.isolates:
        results = dict(executor.run([partial(os._exit, 7), partial(int, 1)]))
        assert isinstance(results[0], WorkerDeath)
        assert "exit code 7" in results[0].cause
        assert results[1] == 1
