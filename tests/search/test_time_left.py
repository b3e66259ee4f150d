"""A search that has to end in time ends with its last complete generation, and a replay ends there too."""

import pytest
from analytic import Analytic
from staged import Staged

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory
from evorec.search.engine import search

CONFIG = SearchConfig(surrogate="none", population=6, generations=5, seed=3)


def start(root, config=CONFIG):
    whole = RunConfig(problem="analytic", search=config)
    return RunDirectory.create(root, config=whole, fingerprint=whole.fingerprint("data"), environment={})


def ends_after(n):
    """Enough time for n calls, then none."""
    calls = iter(range(n))
    return lambda: float(next(calls, -1) >= 0)


@pytest.mark.parametrize("make", [Analytic, lambda: Staged((10,))], ids=["plain", "rungs"])
def test_a_generation_without_time_is_dropped_and_the_archive_is_that_of_the_one_before(make, tmp_path):
    shorter = CONFIG.model_copy(update={"generations": 2})
    with start(tmp_path / "short", shorter) as run:
        expected = search(make(), shorter, run=run, chunk=2)
    with start(tmp_path / "cut") as run:
        # Read before generations 2 and 3, before the stages of generation 2 (one, with a rung two), after its stacks of
        # at most 2 (three, with a rung five), before generation 3 and after its first stack.
        n_reads = 2 + 1 + 3 + 2 if make is Analytic else 2 + 2 + 5 + 2
        found = search(make(), CONFIG, run=run, chunk=2, time_left=ends_after(n_reads))
        assert "in the time that was left" in found.reason
        assert found.hypervolume == expected.hypervolume
        assert [one.key for one in found.archive] == [one.key for one in expected.archive]
        rows = len(run.ledger.evaluations())
        assert rows > 12 or make is not Analytic  # with a rung, rows come at its end
        assert run.finished
    # The same call again, without its summary, as after a kill: nothing is trained, and the result is the same.
    (run.path / "summary.json").unlink()
    with RunDirectory.open(run.path) as run:
        problem = make()
        again = search(problem, CONFIG, run=run, chunk=2, time_left=lambda: 0.0)
        assert (again.hypervolume, again.archive) == (found.hypervolume, found.archive)
        assert len(run.ledger.evaluations()) == rows


def test_the_first_generation_is_always_complete(tmp_path):
    with start(tmp_path) as run:
        found = search(Analytic(), CONFIG, run=run, chunk=2, time_left=lambda: -1.0)
        assert len(found.hypervolume) == 1
        assert len(run.ledger.evaluations()) == 6


def test_a_generation_that_would_take_too_long_is_not_begun(tmp_path, monkeypatch):
    seconds = iter(range(0, 100_000, 10))
    monkeypatch.setattr("evorec.search.engine.time.monotonic", lambda: float(next(seconds)))
    with start(tmp_path) as run:
        found = search(Analytic(), CONFIG, run=run, time_left=lambda: 5.0)
        assert len(found.hypervolume) == 1
        assert len(run.ledger.evaluations()) == 6
