"""A candidate that ends its process, or hangs: the search ends all the same, with a failure of this candidate only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from analytic import Analytic

from evorec.config import ExecutionConfig, RunConfig, SearchConfig
from evorec.errors import SearchError
from evorec.run.directory import RunDirectory
from evorec.run.ledger import IN_FLIGHT
from evorec.search.engine import search
from evorec.search.executor_choice import executor_for

CONFIG = RunConfig(problem="analytic", search=SearchConfig(surrogate="none", population=8, generations=3, seed=5))
MOST = 10
"""Starts until the search must have ended."""


def kills(spec):
    """Some of the genomes of the first generations, told by a gene."""
    return 0.55 < spec["effort"] < 0.75


def directory(root: Path) -> RunDirectory:
    path = root / "run"
    if path.exists():
        [path] = path.glob("analytic-*")
        return RunDirectory.open(path)
    return RunDirectory.create(path, config=CONFIG, fingerprint="f" * 16, environment={})


def search_in(root: Path, kind: str) -> None:
    """Begin the search or go on with it, in this process, which a candidate may end."""
    problem = Analytic(fault=lambda spec: os._exit(9) if kills(spec) else None)
    executor = executor_for(ExecutionConfig(executor=kind, workers=2), device="cpu")
    with directory(root) as run:
        search(problem, CONFIG.search, run=run, executor=executor, chunk=3)


@pytest.mark.parametrize("kind", ["serial", "threads", "auto"])
def test_a_candidate_that_ends_the_process_costs_one_start(kind, tmp_path):
    code = f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; from search import test_deaths as t; "
    command = [sys.executable, "-c", f"{code} t.search_in(Path({str(tmp_path)!r}), {kind!r})"]
    codes = []
    while not codes or codes[-1]:
        codes.append(subprocess.run(command, capture_output=True, check=False).returncode)
        assert len(codes) < MOST
    assert codes == [9, 0]  # the second start trains in worker processes
    expected = search(Analytic(fault=lambda spec: "nan" if kills(spec) else None), CONFIG.search, chunk=3)
    with directory(tmp_path) as run:
        rows = run.ledger.evaluations()
        assert {row.key for row in run.members()} == {row.key for row in expected.archive}
    dead = [row for row in rows if kills(row.spec)]
    assert dead
    for row in rows:
        died = "its worker process died of exit code 9 (3 starts)" if row in dead else None
        assert row.failure == died


def test_a_problem_that_cannot_be_sent_gives_up_a_genome_after_three_starts(tmp_path):
    """The starts are written by hand, because they would end this process."""
    problem = Analytic()
    problem.lock = threading.Lock()  # has no pickle
    with directory(tmp_path) as run:
        first = search(Analytic(), CONFIG.search.model_copy(update={"generations": 1}))
        keys = [row.key for row in first.archive]
        for start in ("a", "b", "c"):
            run.ledger.record_event(1, IN_FLIGHT, {"start": start, "keys": keys})
        search(problem, CONFIG.search, run=run)
        rows = run.ledger.evaluations()
    assert {row.key for row in rows if row.failure == "its process died each time (3 starts)"} == set(keys)


def test_failures_of_the_last_generation_are_evaluated_again_on_demand(tmp_path):
    faults = {"on": True}
    fault = lambda spec: "raise" if faults["on"] and spec["method"] == "net" else None  # noqa: E731
    with directory(tmp_path) as run:
        search(Analytic(fault=fault), CONFIG.search, run=run)
        before = run.ledger.evaluations()
        faults["on"] = False
        search(Analytic(fault=fault), CONFIG.search, run=run)
        assert run.ledger.evaluations() == before
        search(Analytic(fault=fault), CONFIG.search, run=run, retry_failed=True)
        after = run.ledger.evaluations()
    failed = [row for row in before if row.failure]
    assert {row.generation for row in failed} == {1, 2, 3}
    assert [row.key for row in after] == [row.key for row in before]
    assert {row.generation for row in after if row.failure} == {1, 2}


def test_a_first_generation_that_failed_as_a_whole_is_evaluated_again(tmp_path):
    with directory(tmp_path) as run:
        with pytest.raises(SearchError, match="Remove the cause and repeat the command"):
            search(Analytic(fault=lambda spec: "raise"), CONFIG.search, run=run)
        result = search(Analytic(), CONFIG.search, run=run)
    assert result.n_failed == 0
    assert result.archive == search(Analytic(), CONFIG.search).archive
