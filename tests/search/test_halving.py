"""Search with rungs: who is dropped is in the ledger and nowhere else, and the others do not notice."""

from contextlib import suppress
from dataclasses import replace

import pytest
from staged import STEPS, Staged

from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption, RunError, SearchError
from evorec.objectives import Constraint
from evorec.report.record import read_record
from evorec.run.directory import RunDirectory, run_path
from evorec.run.ledger import Ledger
from evorec.search.algorithm import PymooAlgorithm
from evorec.search.engine import search
from evorec.search.executors import SerialExecutor, ThreadExecutor
from evorec.search.surrogate import search as surrogate_search

SMALL = SearchConfig(surrogate="none", population=8, generations=5, seed=1)
RUNGS = (10, 30)
CONFIG = RunConfig(problem="analytic", search=SMALL)
FINGERPRINT = CONFIG.fingerprint("data")


def start(root):
    """A new run directory, or the one that is there."""
    path = run_path(root, CONFIG, FINGERPRINT)
    if RunDirectory.exists(path):
        return RunDirectory.open(path)
    return RunDirectory.create(root, config=CONFIG, fingerprint=FINGERPRINT, environment={})


@pytest.fixture
def run(tmp_path):
    with start(tmp_path) as run:
        yield run


def timeless(evaluations):
    return [replace(evaluation, seconds=0.0, spec={}) for evaluation in evaluations]


def content(root):
    """All that a run leaves behind, without times."""
    path = run_path(root, CONFIG, FINGERPRINT)
    with RunDirectory.open(path, read_only=True) as run:
        rows = timeless(run.ledger.evaluations())
        events = [event for event in run.ledger.events() if event[1] not in ("spent", "in_flight", "energy")]
    files = {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("lock", "log.jsonl") and not file.name.startswith("ledger.sqlite")
    }
    return files, rows, events


def test_half_of_those_compared_go_on(run):
    result = search(Staged(RUNGS), SMALL, run=run)
    rows = run.ledger.evaluations()
    assert result.n_evaluated == len(rows) == 40
    assert result.dropped == {10: 5 * 4, 30: 5 * 2}  # of 8 stay 4, of 4 stay 2
    assert result.n_dropped == sum(row.dropped for row in rows) == 30
    assert run.read_summary()["dropped"] == {"10": 20, "30": 10}


def test_survivors_are_worth_what_they_are_without_rungs(run):
    search(Staged(RUNGS), SMALL, run=run)
    whole = [row for row in run.ledger.evaluations() if row.rung is None]
    assert len(whole) == 10
    for row in whole:
        (outcome,) = Staged().evaluate([row.spec], seed=SMALL.seed)
        assert row.metrics == outcome.metrics


def test_dropped_ones_have_the_metrics_of_their_rung(run):
    search(Staged(RUNGS), SMALL, run=run)
    dropped = [row for row in run.ledger.evaluations() if row.dropped]
    for row in dropped:
        (outcome,) = Staged(RUNGS).evaluate([row.spec], seed=SMALL.seed, rung=RUNGS.index(row.rung))
        assert row.metrics == outcome.metrics


def test_what_survivors_measured_at_the_rungs_is_kept_beside_their_metrics(run):
    search(Staged(RUNGS), SMALL, run=run)
    for row in run.ledger.evaluations():
        passed = [rung for rung in RUNGS if row.rung is None or rung < row.rung]
        assert [entry["rung"] for entry in row.extra.get("rungs", [])] == passed
        for entry in row.extra.get("rungs", []):
            (outcome,) = Staged(RUNGS).evaluate([row.spec], seed=SMALL.seed, rung=RUNGS.index(entry["rung"]))
            assert entry["metrics"] == outcome.metrics
        assert row.extra["n"] == 1


def test_dropped_ones_are_never_told_nor_archived(run, monkeypatch):
    told, tell = [], PymooAlgorithm.tell

    def listen(self, X, F, G):
        told.extend(F.tolist())
        tell(self, X, F, G)

    monkeypatch.setattr(PymooAlgorithm, "tell", listen)
    result = search(Staged(RUNGS), SMALL, run=run)
    whole = [row.metrics for row in run.ledger.evaluations() if row.rung is None]
    assert told == [[-metrics["quality"], metrics["cost"]] for metrics in whole]
    assert result.archive
    assert not any(member.dropped for member in result.archive)
    assert [member.key for member in run.members()] == [member.key for member in result.archive]


def test_no_genome_is_asked_again_after_it_was_dropped(run):
    search(Staged(RUNGS), SMALL.model_copy(update={"generations": 12}), run=run)
    keys = [row.key for row in run.ledger.evaluations()]
    assert len(keys) == len(set(keys)) == 96


def test_training_goes_on_where_the_rung_left_it():
    problem = Staged(RUNGS)
    search(problem, SMALL)
    assert {(call.first, call.last) for call in problem.calls} == {(0, 10), (10, 30), (30, STEPS)}
    assert problem.n_steps == 5 * (8 * 10 + 4 * 20 + 2 * 30)


def test_seconds_are_those_of_the_whole_training(run):
    search(Staged(RUNGS), SMALL, run=run)
    assert all(row.seconds == (row.rung or STEPS) for row in run.ledger.evaluations())


def test_without_states_training_starts_anew_and_changes_no_result():
    problem = Staged(RUNGS, resumes=False)
    found = search(problem, SMALL)
    assert {call.first for call in problem.calls} == {0}
    assert timeless(found.archive) == timeless(search(Staged(RUNGS), SMALL).archive)


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(3)], ids=["serial", "threads"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_executor_and_chunk_change_no_result(executor, chunk):
    reference = search(Staged(RUNGS), SMALL)
    result = search(Staged(RUNGS), SMALL, executor=executor, chunk=chunk)
    assert timeless(result.archive) == timeless(reference.archive)
    assert (result.hypervolume, result.dropped) == (reference.hypervolume, reference.dropped)


def test_the_best_of_every_objective_at_a_rung_goes_on(run):
    search(Staged((10,), keep=0.5), SMALL, run=run)
    for generation, kind, halving in run.ledger.events():
        if kind != "halving":
            continue
        rows = [row for row in run.ledger.evaluations() if row.generation == generation]
        there = {row.key: row.metrics if row.dropped else row.extra["rungs"][0]["metrics"] for row in rows}
        kept = [there[key] for key in halving["kept"]]
        assert max(m["quality"] for m in kept) == max(m["quality"] for m in there.values())
        assert min(m["cost"] for m in kept) == min(m["cost"] for m in there.values())


@pytest.mark.parametrize("population", [4, 5, 7])
def test_small_populations_go_on_with_what_is_left(population):
    config = SearchConfig(surrogate="none", population=population, generations=6, seed=0)
    result = search(Staged((5, 10, 20)), config)
    assert result.archive
    assert result.n_evaluated == 6 * population


def test_a_failure_at_a_rung_is_a_failed_evaluation_of_that_rung(run):
    problem = Staged(RUNGS, fault=lambda spec, steps: "diverge" if spec["bias"] and steps >= 30 else None)
    result = search(problem, SMALL, run=run)
    failed = [row for row in run.ledger.evaluations() if row.failure is not None]
    assert {(row.failure, row.rung) for row in failed} == {("diverged before step 30", 30)}
    assert result.failures == {"diverged before step 30": len(failed)}
    assert result.n_dropped + result.n_failed + sum(r.rung is None for r in run.ledger.evaluations()) == 40


@pytest.mark.parametrize("kind", ["raise", "memory", "diverge"])
def test_failed_ones_are_the_first_to_leave(kind, run):
    problem = Staged((10,), fault=lambda spec, steps: kind if spec["bias"] else None)
    search(problem, SMALL, run=run)
    for generation in range(1, 6):
        rows = [row for row in run.ledger.evaluations() if row.generation == generation]
        n_failed, n_dropped = (sum(row.failure is not None for row in rows), sum(row.dropped for row in rows))
        assert n_dropped == max(4 - n_failed, 0)


def test_a_search_whose_first_candidates_all_fail_at_the_rung_stops():
    with pytest.raises(SearchError, match="all 8 candidates of the first generation failed: 8 x diverged"):
        search(Staged(RUNGS, fault=lambda spec, steps: "diverge"), SMALL)


def test_a_problem_that_trains_past_the_rung_is_told_so(monkeypatch):
    problem = Staged((10,))
    honest = problem.evaluate
    monkeypatch.setattr(problem, "evaluate", lambda specs, *, seed, rung, states: honest(specs, seed=seed))
    with pytest.raises(SearchError, match="measured at the end of training instead of step 10"):
        search(problem, SMALL)


def test_infeasible_ones_at_a_rung_are_dropped_first(run):
    bound = Constraint("cost", "<=", 1.05, "cost <= 1.05")
    search(Staged((30,), constraints=[bound]), SMALL, run=run)
    for row in run.ledger.evaluations():
        mates = [mate for mate in run.ledger.evaluations() if mate.generation == row.generation and not mate.dropped]
        if row.dropped and bound.holds(row.metrics["cost"]):
            assert all(bound.holds(mate.extra["rungs"][0]["metrics"]["cost"]) for mate in mates)


def test_a_finished_run_is_replayed_without_any_evaluation(run):
    first = search(Staged(RUNGS), SMALL, run=run)
    problem, steps = Staged(RUNGS), []
    again = search(problem, SMALL, run=run, progress=steps.append)
    assert problem.calls == []
    assert again == first
    assert (steps[-1].n_replayed, steps[-1].n_dropped) == (40, 30)


class Crash(BaseException):
    """Stands for the death of the process: nothing in evorec catches it."""


@pytest.mark.parametrize(("after", "surrogate"), [(False, "none"), (True, "none"), (False, "gp")])
def test_a_run_killed_at_any_commit_goes_on_to_the_identical_run(after, surrogate, tmp_path, monkeypatch):
    # with a surrogate the third generation is compared by what the first two taught
    three = SMALL.model_copy(update={"generations": 3, "surrogate": surrogate})
    monkeypatch.setattr(surrogate_search, "FIRST_ROWS", 4)

    def uninterrupted(root):
        with start(root) as run:
            search(faulty(), three, run=run, chunk=3)

    def faulty():
        return Staged(RUNGS, fault=lambda spec, steps: "diverge" if spec["bias"] and steps >= 30 else None)

    uninterrupted(tmp_path / "reference")
    reference = content(tmp_path / "reference")
    add, calls, n_commits = Ledger.add, [], 0

    def fragile(self, evaluations, **facts):
        calls.append(self)
        if len(calls) == n_commits and not after:
            raise Crash
        add(self, evaluations, **facts)
        if len(calls) == n_commits:
            raise Crash

    monkeypatch.setattr(Ledger, "add", fragile)
    while len(calls) >= n_commits:
        n_commits += 1
        calls.clear()
        root = tmp_path / f"crash{n_commits}"
        with suppress(Crash):
            uninterrupted(root)
        died = len(calls) >= n_commits
        if died:
            calls.extend([None] * n_commits)  # no second death
            uninterrupted(root)
        assert content(root) == reference
    assert n_commits > 3 * 3  # two rungs and a last stack in each of three generations


def test_a_run_killed_between_the_rungs_trains_survivors_from_the_start(run):
    first = Staged(RUNGS)
    with pytest.raises(Interruption, match="interrupted in generation 1 of 5"):
        search(first, SMALL, run=run, chunk=100, stop=lambda: len({c.last for c in first.calls}) == 2)
    assert [kind for _, kind, _ in run.ledger.events() if kind not in ("in_flight", "energy")] == [
        "halving",
        "interrupted",
    ]
    assert len(run.ledger.evaluations()) == 4
    second = Staged(RUNGS)
    result = search(second, SMALL, run=run)
    assert (second.calls[0].first, second.calls[0].last) == (0, 30)
    assert timeless(result.archive) == timeless(search(Staged(RUNGS), SMALL).archive)


@pytest.mark.parametrize("rungs", [(), (20,), (10,), (10, 20, 30)])
def test_a_run_with_other_rungs_is_refused(rungs, run):
    search(Staged(RUNGS), SMALL, run=run)
    with pytest.raises(RunError, match=r"does not belong to this search: .*start a new search"):
        search(Staged(rungs), SMALL, run=run)


def test_rungs_cannot_be_added_to_a_run_that_had_none(run):
    search(Staged(), SMALL, run=run)
    with pytest.raises(RunError, match="generation 1 was not compared at step 10 there"):
        search(Staged(RUNGS), SMALL, run=run)


def test_an_unfinished_run_has_the_hypervolume_of_whole_trainings(run):
    result = search(Staged(RUNGS), SMALL, run=run)
    (run.path / "summary.json").unlink()
    record = read_record(run.path)
    assert record.hypervolume == pytest.approx(result.hypervolume, rel=1e-12)
    assert len(record.finished) == 10


def test_progress_tells_the_rung_and_what_was_dropped():
    steps = []
    search(Staged((10,)), SMALL, chunk=100, progress=steps.append)
    first = [(step.rung, step.n_evaluated, step.n_dropped) for step in steps if step.generation == 1]
    at_rung = [fact for fact in first if fact[0] is not None]
    assert at_rung == [(10, 0, 0)] * len(at_rung) != []
    assert first[-1] == (None, 8, 4)
