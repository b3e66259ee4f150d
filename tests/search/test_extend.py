"""A run that is extended is the run that was longer from the start; nothing is trained again."""

import pytest
from analytic import Analytic
from staged import Staged

from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption, RunError
from evorec.run.directory import RunDirectory
from evorec.search import engine
from evorec.search.engine import search

SHORT = SearchConfig(surrogate="none", population=6, generations=2, seed=3)
LONG = SHORT.model_copy(update={"generations": 5})


def start(root, config=SHORT):
    whole = RunConfig(problem="analytic", search=config)
    return RunDirectory.create(root, config=whole, fingerprint=whole.fingerprint("data"), environment={})


def left_by(run):
    """The archive byte by byte, the rows of the ledger without times, and the comparisons at the rungs."""
    files = {str(f.relative_to(run.path)): f.read_bytes() for f in run.path.rglob("archive/*/*")}
    rows = [{**vars(row), "seconds": 0.0} for row in run.ledger.evaluations()]
    summary = {name: value for name, value in run.read_summary().items() if name not in ("n_extensions", "reason")}
    return files, rows, [event for event in run.ledger.events() if event[1] == "halving"], summary


@pytest.mark.parametrize("algorithm", ["nsga2", "weighted_sum", "random"])
def test_an_extended_run_is_the_run_that_was_longer_from_the_start(algorithm, tmp_path):
    for name, problem in (("plain", Analytic), ("rungs", lambda: Staged((10,)))):
        short, long = (config.model_copy(update={"algorithm": algorithm}) for config in (SHORT, LONG))
        with start(tmp_path / name / "long", long) as whole:
            search(problem(), long, run=whole)
            expected = left_by(whole)
        with start(tmp_path / name / "short", short) as run:
            search(problem(), short, run=run)
            second = problem()
            search(second, long, run=run)
            assert left_by(run) == expected
            assert run.finished
            if name == "plain":
                assert len(second.evaluated) == len(expected[1]) - 12
            ((generation, extension),) = [(g, facts) for g, kind, facts in run.ledger.events() if kind == "extension"]
            assert (generation, extension["generations"], extension["before"]["generations"]) == (3, 5, 2)
        with RunDirectory.open(run.path) as again:
            assert again.config.search.generations == 5
            assert again.finished
            assert again.fingerprint == whole.fingerprint


def test_an_extension_that_is_interrupted_goes_on(tmp_path):
    with start(tmp_path) as run:
        search(Analytic(), SHORT, run=run)
        stops = iter([False] * 3)
        with pytest.raises(Interruption):
            search(Analytic(), LONG, run=run, chunk=2, stop=lambda: next(stops, True))
        assert not run.finished
    with RunDirectory.open(run.path) as run:
        assert not run.finished
        assert run.read_summary() is None
        result = search(Analytic(), run.config.search, run=run)
    assert [m.key for m in result.archive] == [m.key for m in search(Analytic(), LONG).archive]
    assert sum(kind == "extension" for _, kind, _ in events(run.path)) == 1


def events(path):
    with RunDirectory.open(path, read_only=True) as run:
        return run.ledger.events()


def test_a_limit_of_evaluations_is_never_exceeded(tmp_path):
    limited = SHORT.model_copy(update={"generations": 100, "evaluations": 20})
    with start(tmp_path, limited) as run:
        result = search(Analytic(), limited, run=run)
        assert (result.n_evaluated, result.reason) == (18, "3 generations done, within 20 evaluations")
        assert run.is_within(limited)
        more = limited.model_copy(update={"evaluations": 30})
        assert not run.is_within(more)
        assert search(Analytic(), more, run=run).n_evaluated == 30
        with pytest.raises(RunError, match="has 30 evaluations already, and the limits allow 12"):
            search(Analytic(), SHORT, run=run)


def test_a_limit_of_time_ends_a_start_and_is_repeated_by_a_replay(tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 50))  # seconds
    monkeypatch.setattr(engine.time, "monotonic", lambda: next(clock))
    timed = SHORT.model_copy(update={"generations": 100, "minutes": 2.0})
    with start(tmp_path, timed) as run:
        first = search(Analytic(), timed, run=run)
        n = len(first.hypervolume)
        assert 1 < n < 10
        assert first.reason == f"{n} generations done in 2 minutes"
        again = search(Analytic(), timed.model_copy(update={"minutes": 0.0}), run=run)  # e.g. to restore a lost file
        assert again.hypervolume == first.hypervolume
        more = search(Analytic(), timed, run=run)
        assert more.hypervolume[:n] == first.hypervolume
        assert len(more.hypervolume) > n
    kinds = [kind for _, kind, _ in events(run.path) if kind not in ("spent", "in_flight", "energy")]
    assert kinds == ["time", "extension", "time"]


def test_a_limit_of_time_counts_all_starts_but_not_the_time_between_them(tmp_path, monkeypatch):
    now, stack_s = [0.0], 10.0
    evaluate = Analytic.evaluate

    def slow(self, specs, **how):
        now[0] += stack_s
        return evaluate(self, specs, **how)

    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Analytic, "evaluate", slow)
    timed = SHORT.model_copy(update={"generations": 100, "minutes": 2.0})
    stops, first, second, third = iter([False] * 5), Analytic(), Analytic(), Analytic()
    with start(tmp_path, timed) as run, pytest.raises(Interruption):
        search(first, timed, run=run, stop=lambda: next(stops, True))
    now[0] += 1e6
    with RunDirectory.open(run.path) as run:
        result = search(second, timed, run=run)
        again = search(third, timed.model_copy(update={"minutes": 0.0}), run=run)
        assert again.archive == result.archive
    assert first.stacks
    assert second.stacks
    assert 120 <= stack_s * len(first.stacks + second.stacks) < 120 + stack_s * 6  # a stack per genome at most
    assert third.stacks == []


def test_the_population_is_chosen_at_the_first_start_and_stays(tmp_path):
    few = SearchConfig(surrogate="none", evaluations=36)
    with start(tmp_path, few.sized("cpu")) as run:
        assert len(search(Analytic(), few, run=run).hypervolume) == 4
        assert run.config.search.population == 9
        more = search(Analytic(), few.model_copy(update={"evaluations": 54, "generations": 6}), run=run)
        assert len(more.hypervolume) == 6  # of 9 genomes as before; a new search of 54 would have 13
    assert [few.sized(device).population for device in ("cpu", "cuda")] == [9, 9]
    assert [SearchConfig().sized(device).population for device in ("cpu", "cuda")] == [16, 64]


def test_an_algorithm_that_reads_its_budget_is_not_extended_and_the_run_stays_as_it_was(tmp_path):
    named = SHORT.model_copy(update={"algorithm": "rvea"})
    with start(tmp_path, named) as run:
        search(Analytic(), named, run=run)
        before = left_by(run)
        with pytest.raises(RunError, match="cannot be extended: rvea reads the number of generations in advance"):
            search(Analytic(), named.model_copy(update={"generations": 5}), run=run)
        assert run.finished
        assert left_by(run) == before


def test_a_run_whose_test_was_opened_is_not_extended(tmp_path):
    with start(tmp_path) as run:
        search(Analytic(), SHORT, run=run)
        run.write_final({"opened_at": "", "seeds": [1], "picks": [], "baselines": {}})
        with pytest.raises(RunError, match="cannot be extended: its test was opened"):
            search(Analytic(), LONG, run=run)
        assert run.finished
