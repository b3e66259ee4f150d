"""A search in steady state: workers never wait for each other, and a replay repeats the order in which stacks ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic import Analytic
from pymoo.algorithms.moo.nsga2 import NSGA2
from staged import Staged

from evorec.config import RunConfig, SearchConfig
from evorec.errors import ConfigError, Interruption, RunError, SearchError
from evorec.run.directory import RunDirectory
from evorec.run.ledger import ACKNOWLEDGED
from evorec.search.algorithm import ALGORITHMS
from evorec.search.engine import search
from evorec.search.executors import Executor, SerialExecutor, ThreadExecutor

CONFIG = SearchConfig(mode="steady", surrogate="none", population=8, generations=4, seed=5)


class Uneven(Executor):
    """Two workers in one thread; the second is three times as slow, and the order of results follows from that."""

    def __init__(self) -> None:
        super().__init__(2)

    def run(self, tasks: Any, *, at_once: int = 0) -> Any:
        source, running, clock, index = iter(tasks), dict[int, tuple[float, int, Any]](), 0.0, 0
        while True:
            for worker in sorted({0, 1} - running.keys()):
                task = next(source, None)
                if task is not None:
                    running[worker] = (clock + (1.0, 3.0)[worker], index, task)
                    index += 1
            if not running:
                return
            worker = min(running, key=running.__getitem__)
            clock, number, task = running.pop(worker)
            yield number, task()


def mixing() -> Analytic:
    """The problem, which takes any specs into a stack."""
    problem = Analytic()
    problem.mixes_shapes = True
    return problem


def directory(root: Path, config: SearchConfig = CONFIG) -> RunDirectory:
    root = root / "run"
    if root.exists():
        [path] = root.glob("analytic-*")
        return RunDirectory.open(path)
    settings = RunConfig(problem="analytic", search=config)
    return RunDirectory.create(root, config=settings, fingerprint="f" * 16, environment={})


def rows(run: RunDirectory) -> list[Any]:
    """The ledger without times, and the order in which it was told."""
    told = [payload for _, kind, payload in run.ledger.events() if kind == ACKNOWLEDGED]
    return [[replace(row, seconds=0.0) for row in run.ledger.evaluations()], told]


@pytest.mark.parametrize(
    ("kind", "surrogate", "after"),
    [(SerialExecutor, "none", 1), (Uneven, "none", 1), (Uneven, "gp", 6)],
)
def test_a_stopped_search_ends_as_if_it_had_not_been(kind, surrogate, after, tmp_path):
    config = CONFIG.model_copy(update={"surrogate": surrogate, "memory": "none"})
    with directory(tmp_path / "whole", config) as run:
        whole = search(Analytic(), config, run=run, executor=kind(), chunk=3)
        expected = rows(run)
    n_stops, stopped = 0, None
    while stopped is None:
        looks = iter(range(1000))
        with directory(tmp_path / "stopped", config) as run, suppress(Interruption):
            n_stops += 1
            stopped = search(Analytic(), config, run=run, executor=kind(), chunk=3, stop=lambda: next(looks) == after)  # noqa: B023
    assert n_stops > 8 / after
    assert stopped.n_evaluated == whole.n_evaluated == 32
    with directory(tmp_path / "stopped", config) as run:
        found = rows(run)
        if kind is SerialExecutor:  # a stop loses the stack of the slow worker, which changes the order
            assert found == expected
            assert stopped.archive == whole.archive
        again = search(Analytic(fault=lambda spec: "raise"), config, run=run)  # trains nothing
        assert (rows(run), again.archive, again.hypervolume) == (found, stopped.archive, stopped.hypervolume)


def test_a_slow_worker_delays_no_other(tmp_path):
    with directory(tmp_path) as run:
        result = search(mixing(), CONFIG, run=run, executor=Uneven(), chunk=8)
        [_, told] = rows(run)
    # stacks of 4, and three quarters of them end on the fast worker
    assert [len(event["keys"]) for event in told] == [4] * 8
    assert [event["asked"] for event in told] == [[8], [4], [4], [4], [4], [4], [4], []]
    assert (result.n_evaluated, len(result.hypervolume)) == (32, 4)


def test_threads_keep_every_evaluation_and_its_order(tmp_path):
    problem = Analytic(delay_s=0.01)
    with directory(tmp_path) as run:
        result = search(problem, CONFIG, run=run, executor=ThreadExecutor(3), chunk=2)
        stored, told = rows(run)
        assert [key for event in told for key in event["keys"]] != [row.key for row in stored] or len(told) < 3
        assert sorted(key for event in told for key in event["keys"]) == sorted(row.key for row in stored)
        again = search(Analytic(fault=lambda spec: "raise"), CONFIG, run=run, executor=ThreadExecutor(2))
    assert result.n_failed == 0
    assert again.archive == result.archive


def test_a_longer_search_goes_on_where_the_shorter_one_ended(tmp_path):
    short = CONFIG.model_copy(update={"generations": 2})
    with directory(tmp_path / "extended", short) as run:
        assert search(Analytic(), short, run=run, chunk=3).n_evaluated == 16
        extended = search(Analytic(), CONFIG, run=run, chunk=3)
    assert extended.archive == search(Analytic(), CONFIG, chunk=3).archive
    assert extended.n_evaluated == 32


def test_a_limit_of_time_is_kept_by_the_replay(tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"minutes": 0.5, "generations": 1000})
    with directory(tmp_path, config) as run:
        now = [0.0]
        monkeypatch.setattr("evorec.search.engine.time.monotonic", lambda: now.__setitem__(0, now[0] + 1.0) or now[0])
        first = search(Analytic(), config, run=run)
        assert 8 <= first.n_evaluated < 1000
        assert "in 0.5 minutes" in first.reason
        again = search(Analytic(), config.model_copy(update={"minutes": 0.0}), run=run)
    assert (again.archive, again.n_evaluated) == (first.archive, first.n_evaluated)


def ahead(name: str) -> bool:
    return ALGORITHMS[name].asks_ahead


@pytest.mark.parametrize("name", sorted(filter(ahead, ALGORITHMS)))
def test_an_algorithm_that_asks_ahead_does(name):
    config = CONFIG.model_copy(update={"algorithm": name})
    first, second = (search(Analytic(), config, executor=Uneven(), chunk=2) for _ in range(2))
    assert first.n_evaluated == 32
    assert first.archive == second.archive


def test_what_does_not_suit_a_steady_search_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="and mo_cma_es does not"):
        search(Analytic(), CONFIG.model_copy(update={"algorithm": "mo_cma_es"}))
    with pytest.raises(ConfigError, match="and this algorithm of pymoo does not"):
        search(Analytic(), CONFIG, algorithm=NSGA2(pop_size=8))
    with pytest.raises(ConfigError, match=r"generations at steps \[20\]. Set training.rungs = \[\]"):
        search(Staged((20,)), CONFIG)
    with pytest.raises(ValueError, match='gain compares generations, so it must be 0 with mode = "steady"'):
        SearchConfig(mode="steady", gain=0.01)
    with directory(tmp_path) as run:
        search(Analytic(fault=lambda spec: "raise" if spec["method"] == "net" else None), CONFIG, run=run)
        with pytest.raises(RunError, match="cannot evaluate failures again"):
            search(Analytic(), CONFIG, run=run, retry_failed=True)


def test_a_first_generation_that_failed_as_a_whole_is_evaluated_again(tmp_path):
    with directory(tmp_path) as run:
        with pytest.raises(SearchError, match=r"all \d+ candidates of the first generation failed"):
            search(Analytic(fault=lambda spec: "raise"), CONFIG, run=run, executor=Uneven(), chunk=2)
        result = search(Analytic(), CONFIG, run=run, executor=Uneven(), chunk=2)
    assert result.archive == search(Analytic(), CONFIG, executor=Uneven(), chunk=2).archive


def test_own_ask_and_tell_learns_in_the_order_of_ending():
    class Noting:
        """Proposes random genomes and notes what it is told."""

        def __init__(self) -> None:
            self.rng, self.told, self.space = np.random.default_rng(0), [], Analytic().space

        def ask(self):
            return self.space.sample(self.rng, 8)

        def tell(self, X, F, G):
            self.told.append(len(X))
            assert np.isfinite(F).all()

    algorithm = Noting()
    result = search(mixing(), CONFIG, algorithm=algorithm, executor=Uneven(), chunk=8)
    assert result.n_evaluated == 32
    assert sum(algorithm.told) == 32
    assert max(algorithm.told) == 4


def test_a_crash_loses_no_acknowledged_stack(tmp_path):
    class Crash(BaseException):
        """Stands for the death of the process."""

    expected = search(Analytic(), CONFIG, chunk=3)
    with directory(tmp_path) as run:
        add, n_added = run.ledger.add, [0]

        def fragile(*args, **kwargs):
            n_added[0] += 1
            if n_added[0] == 4:
                raise Crash
            add(*args, **kwargs)

        run.ledger.add = fragile
        with suppress(Crash):
            search(Analytic(), CONFIG, run=run, chunk=3)
        kept = rows(run)
        assert len(kept[1]) == 3
        run.ledger.add = add
        result = search(Analytic(), CONFIG, run=run, chunk=3)
        assert rows(run)[1][:3] == kept[1]
    assert result.archive == expected.archive
