import pytest
from analytic import Analytic
from staged import STEPS, Staged

from evorec.errors import Interruption
from evorec.problem import Outcome
from evorec.search.evaluator import CAUSE_LENGTH, evaluate
from evorec.search.executors import Executor, SerialExecutor, ThreadExecutor, WorkerDeath

SPEC = {"effort": 0.5, "rate": 0.01, "method": "tree", "depth": 3, "bias": True, "weights": (1.5, 0.5)}


def specs(n, **changes):
    return [{**SPEC, "effort": i / 100, **changes} for i in range(n)]


def outcomes(problem, asked, *, chunk=8, executor=None, **facts):
    """Outcomes in the order of `asked`, each given exactly once."""
    pairs = [
        pair
        for stack in evaluate(problem, asked, seed=0, executor=executor or SerialExecutor(), chunk=chunk, **facts)
        for pair in stack
    ]
    assert sorted(position for position, _ in pairs) == list(range(len(asked)))
    return [outcome for _, outcome in sorted(pairs, key=lambda pair: pair[0])]


def cursed(kind, effort=0.03):
    return Analytic(fault=lambda spec: kind if spec["effort"] == effort else None)


def test_specs_of_one_shape_are_stacked_up_to_the_chunk_in_even_parts():
    problem = Analytic()
    outcomes(problem, [*specs(5), *specs(9, method="net")], chunk=4)
    assert [(stack[0]["method"], len(stack)) for stack in problem.stacks] == [
        ("tree", 3),
        ("tree", 2),
        ("net", 3),
        ("net", 3),
        ("net", 3),
    ]


class Several(Executor):
    """One task after another, for as many workers as it says; a task with a spec that `kills` ends its worker."""

    def __init__(self, workers=1, kills=lambda spec: False):
        self.workers, self._kills = workers, kills
        self.sizes = []

    def run(self, tasks):
        for index, task in enumerate(tasks):
            stack = task.args[1]
            self.sizes.append(len(stack))
            yield index, WorkerDeath("died of SIGKILL") if any(map(self._kills, stack)) else task()


def sizes(problem, asked, *, chunk, workers=1):
    executor = Several(workers)
    outcomes(problem, asked, chunk=chunk, executor=executor)
    return executor.sizes


@pytest.mark.parametrize(
    ("n", "chunk", "workers", "expected"),
    [
        (9, 8, 1, [5, 4]),
        (9, 16, 1, [9]),
        (9, 16, 2, [5, 4]),
        (9, 4, 2, [3, 2, 2, 2]),  # three stacks would leave a worker idle in the second round
        (3, 8, 4, [1, 1, 1]),
    ],
)
def test_stacks_come_in_rounds_of_all_workers(n, chunk, workers, expected):
    assert sizes(Analytic(), specs(n), chunk=chunk, workers=workers) == expected


def test_the_largest_groups_are_cut_for_idle_workers():
    asked = [*specs(2), *specs(9, method="net")]
    assert sizes(Analytic(), asked, chunk=16, workers=4) == [2, 3, 3, 3]


def test_neighbours_by_key_are_dealt_to_different_stacks(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "mixes_shapes", True)
    monkeypatch.setattr(problem, "stack_key", lambda spec: (spec["method"], -spec["effort"]))
    asked = [spec for pair in zip(specs(4), specs(4, method="net"), strict=True) for spec in pair]
    found = outcomes(problem, asked, chunk=5)
    assert [[(spec["method"], spec["effort"]) for spec in stack] for stack in problem.stacks] == [
        [("net", 0.03), ("net", 0.01), ("tree", 0.03), ("tree", 0.01)],
        [("net", 0.02), ("net", 0.0), ("tree", 0.02), ("tree", 0.0)],
    ]
    assert [outcome.metrics for outcome in found] == [outcome.metrics for outcome in outcomes(Analytic(), asked)]


def test_mixed_shapes_share_a_stack_when_it_has_room(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "mixes_shapes", True)
    assert sizes(problem, [*specs(3), *specs(4, method="net")], chunk=8) == [7]
    assert sizes(problem, [], chunk=8) == []


def test_a_stack_whose_worker_died_is_halved_until_the_guilty_spec_is_alone():
    executor = Several(kills=lambda spec: spec["effort"] == 0.03)
    found = outcomes(Analytic(), specs(8), executor=executor)
    assert [outcome.failure for outcome in found] == [None] * 3 + ["died of SIGKILL"] + [None] * 4
    assert executor.sizes == [8, 4, 4, 2, 2, 1, 1]


@pytest.mark.parametrize("kind", ["raise", "memory"])
def test_states_stay_with_their_specs_when_a_stack_is_halved(kind):
    rungs, asked = (20, 40), specs(7)
    there = outcomes(Staged(rungs), asked, rung=0)
    assert {outcome.rung for outcome in there} == {20}
    guilty = Staged(rungs, fault=lambda spec, steps: kind if spec["effort"] == 0.03 else None)
    found = outcomes(guilty, asked, rung=1, states=[outcome.state for outcome in there])
    whole = outcomes(Staged(rungs), asked, rung=1)
    assert {call.first for call in guilty.calls} == {20}
    assert [(outcome.failure is not None, outcome.rung) for outcome in found] == [(i == 3, 40) for i in range(7)]
    assert [o.metrics for i, o in enumerate(found) if i != 3] == [o.metrics for i, o in enumerate(whole) if i != 3]


def test_a_stack_in_which_one_has_no_state_starts_anew():
    problem = Staged((20,))
    states = [outcome.state for outcome in outcomes(problem, specs(3), rung=0)]
    outcomes(problem, specs(3), states=[states[0], None, states[2]])
    assert [(call.first, call.last) for call in problem.calls] == [(0, 20), (0, STEPS)]


def test_an_outcome_of_another_rung_is_a_failure(monkeypatch):
    problem = Staged((20, 40))
    honest = problem.evaluate
    monkeypatch.setattr(problem, "evaluate", lambda specs, *, seed, rung, states: honest(specs, seed=seed, rung=0))
    assert outcomes(problem, specs(1), rung=1)[0].failure == "measured at step 20 instead of step 40"


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(2)])
def test_outcomes_belong_to_their_specs_whatever_the_shapes(executor):
    asked = [spec for pair in zip(specs(5), specs(5, method="net"), strict=True) for spec in pair]
    # By hand: the best spec has penalty 0, method "net" costs 0.4; quality = effort - penalty.
    expected = [quality for i in range(5) for quality in (i / 100, i / 100 - 0.4)]
    found = outcomes(Analytic(), asked, chunk=2, executor=executor)
    assert [outcome.metrics["quality"] for outcome in found] == pytest.approx(expected, abs=1e-12)  # float64 rounding


def test_a_stack_that_raises_fails_only_the_guilty_member():
    found = outcomes(cursed("raise"), specs(8))
    assert [outcome.metrics is None for outcome in found] == [i == 3 for i in range(8)]
    assert found[3].failure == "ValueError: the spec is cursed"
    assert found[3].weights is None


def test_a_guilty_member_costs_two_halves_per_level():
    problem = cursed("raise")
    outcomes(problem, specs(8))
    assert [len(stack) for stack in problem.stacks] == [8, 4, 2, 2, 1, 1, 4]


def test_a_lone_spec_out_of_memory_is_tried_twice(collections):
    problem = cursed("memory")
    found = outcomes(problem, specs(4))
    assert [outcome.failure for outcome in found] == [None, None, None, "MemoryError: too large"]
    assert sum(spec["effort"] == 0.03 for spec in problem.evaluated) == 4  # in 4, in 2, alone, alone again
    assert collections, "memory is freed before the second attempt"


def test_memory_that_is_free_again_rescues_the_spec():
    calls = []

    def once(spec):
        calls.append(spec)
        return "memory" if len(calls) == 1 else None

    assert outcomes(Analytic(fault=once), specs(1))[0].failure is None


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("nan", "metric quality is nan"),
        ("inf", "metric quality is inf"),
        ("missing", "metric cost is missing"),
        ("diverge", "the loss is not finite"),
    ],
)
def test_an_unusable_outcome_is_a_failure_with_its_cause(kind, cause):
    found = outcomes(cursed(kind), specs(5))
    assert [outcome.failure for outcome in found] == [None, None, None, cause, None]
    assert found[3].metrics is None
    assert found[3].weights is None


def test_an_interruption_is_not_a_failed_candidate(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "_outcome", lambda spec, seed: (_ for _ in ()).throw(Interruption("signal")))
    with pytest.raises(Interruption, match="signal"):
        outcomes(problem, specs(2))


def test_a_problem_that_forgets_a_spec_is_told_so(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "evaluate", lambda specs, seed: [])
    assert outcomes(problem, specs(1))[0].failure == "analytic gave 0 outcomes for 1 specs"


def test_a_failure_without_a_cause_says_so(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "_outcome", lambda spec, seed: Outcome(metrics=None))
    assert outcomes(problem, specs(1))[0].failure == "no metrics and no cause were given"


def test_a_long_cause_is_one_short_line(monkeypatch):
    problem = Analytic()
    monkeypatch.setattr(problem, "_outcome", lambda spec, seed: (_ for _ in ()).throw(ValueError("a\n b" * 999)))
    cause = outcomes(problem, specs(1))[0].failure
    assert cause.startswith("ValueError: a ba b")
    assert len(cause) == CAUSE_LENGTH
