import errno
import math
import os
import signal
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
from analytic import Analytic
from staged import STEPS, Staged

from evorec.errors import Interruption
from evorec.problem import Outcome
from evorec.run.atomic import weight_bytes
from evorec.run.ledger import Evaluation, Ledger
from evorec.search.evaluator import CAUSE_LENGTH, evaluate
from evorec.search.executors import Executor, ProcessExecutor, SerialExecutor, ThreadExecutor
from evorec.search.workers import WorkerDeath

PROCESSES = ProcessExecutor(2)
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

    def run(self, tasks, *, at_once=0):
        for index, task in enumerate(tasks):
            stack = task.specs
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


def test_the_members_of_a_stack_whose_worker_died_start_again_alone():
    executor = Several(kills=lambda spec: spec["effort"] == 0.03)
    found = outcomes(Analytic(), specs(8), executor=executor)
    causes = [None] * 3 + ["died of SIGKILL (3 starts)"] + [None] * 4
    assert [outcome.failure for outcome in found] == causes
    assert executor.sizes == [8, *[1] * 8, 1]


def test_earlier_starts_count():
    executor = Several(kills=lambda spec: spec["effort"] in (0.0, 0.03))
    stacks = evaluate(Analytic(), specs(5), seed=0, executor=executor, chunk=8, n_starts=[2, 1, 0, 1, 3])
    found = dict(pair for stack in stacks for pair in stack)
    assert {i: outcome.failure for i, outcome in found.items() if outcome.failure} == {
        0: "died of SIGKILL (3 starts)",
        3: "died of SIGKILL (3 starts)",
        4: "its process died each time (3 starts)",  # not started again
    }
    assert executor.sizes == [3, 1, 1, 1, 1]  # the stack of the others, 2 again, then alone 0, 1 and 3


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


class Nasty(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def cyclic():
    value = {}
    value["itself"] = value
    return value


def raising(error):
    def fault(spec):
        raise error

    return fault


EXITS = {
    "SystemExit: 0": lambda spec: sys.exit(0),
    "KeyboardInterrupt: ": raising(KeyboardInterrupt()),
    "GeneratorExit: ": raising(GeneratorExit()),
    "Nasty: its message cannot be shown": raising(Nasty()),
    "ValueError: half a character ?": raising(ValueError("half a character \ud800")),
}
GOOD = {"quality": 1.0, "cost": 1.0}
ODD = [
    (Outcome(GOOD, extra={"a": math.nan, "b": math.inf, "c": [{1, 2}], "d": {(1, 2): 3, 4: "x"}}), None),
    (Outcome(GOOD, extra={"text": "\ud800", "array": np.arange(3), "lock": threading.Lock()}), None),
    (Outcome(GOOD, extra=cyclic()), None),
    (Outcome({**GOOD, "\ud800": 1.0, 7: 2.0}, seconds=math.nan), None),
    (Outcome(GOOD, weights={"w": np.array([{}])}), "weights 'w' have type object, not real numbers of at most 64 bits"),
    (Outcome(GOOD, weights={"\ud800": np.zeros(2)}), r"the name of weights '\ud800' is not a valid text"),
    (Outcome({"quality": "high", "cost": 1.0}), "ValueError: could not convert string to float: 'high'"),
    (Outcome(None, failure="\ud800\x1b"), "?\x1b"),
    (None, "AttributeError: 'NoneType' object has no attribute 'metrics'"),
]


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(2), PROCESSES], ids=lambda e: type(e).__name__)
def test_nothing_that_a_candidate_does_ends_the_search(executor, tmp_path):
    """Its evaluation is stored, as failed with the cause or with everything that JSON can hold."""
    kinds = [*EXITS.values(), *(outcome for outcome, _ in ODD)]
    expected = [*EXITS, *(cause for _, cause in ODD), None]

    class Hostile(Analytic):
        def evaluate(self, specs, *, seed):
            outcomes = [Outcome(GOOD, weights={"w": np.ones(2)}) for _ in specs]
            for index, spec in enumerate(specs):
                kind = round(100 * spec["effort"])
                spec.clear()
                if kind < len(EXITS):
                    kinds[kind](spec)
                elif kind < len(kinds):
                    outcomes[index] = kinds[kind]
            return outcomes

    if executor is PROCESSES:  # a lock has no pickle: replace it by another object that is no JSON
        kinds[len(EXITS) + 1] = Outcome(GOOD, extra={"text": "\ud800", "array": np.arange(3), "object": 1j})
    asked = specs(len(expected))
    found = outcomes(Hostile(), asked, executor=executor, chunk=4)
    assert [outcome.failure for outcome in found] == expected
    assert [outcome.metrics is None for outcome in found] == [cause is not None for cause in expected]
    assert asked == specs(len(expected)), "a candidate that changes its spec changes a copy"
    assert found[len(EXITS)].extra == {"a": "NaN", "b": "Infinity", "c": ["{1, 2}"], "d": {"4": "x"}}
    rows = [
        Evaluation(seq, f"{seq:016x}", 1, (0.0,), asked[seq], o.metrics, o.failure, o.seconds, o.extra)
        for seq, o in enumerate(found)
    ]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add(rows)
    assert [row.extra for row in ledger.evaluations()] == [outcome.extra for outcome in found]
    ledger.close()
    for outcome in found:
        weight_bytes(outcome.weights or {})


def test_an_outcome_that_cannot_be_sent_is_a_failure_of_its_candidate():
    class Locked(Analytic):
        def evaluate(self, specs, *, seed):
            states = [threading.Lock() if spec["effort"] == 0.01 else None for spec in specs]
            return [Outcome(GOOD, state=state) for state in states]

    found = outcomes(Locked(), specs(3), executor=PROCESSES)
    assert [outcome.metrics is None for outcome in found] == [False, True, False]
    assert "cannot be sent by its worker process" in found[1].failure


@pytest.mark.parametrize("swallows", [False, True])
def test_a_real_interrupt_of_the_process_ends_the_search(swallows):
    """Ctrl-C raises KeyboardInterrupt in the code that runs; a handler of SIGTERM often calls sys.exit."""

    def interrupted(number):
        def fault(spec):
            if not swallows:
                signal.raise_signal(number)
            with suppress(BaseException):
                signal.raise_signal(number)

        return Analytic(fault=fault)

    # a process in the background of a script may ignore SIGINT
    before_int = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(KeyboardInterrupt):
            outcomes(interrupted(signal.SIGINT), specs(2))
        with pytest.raises(SystemExit, match="3"):
            outcomes(interrupted(signal.SIGTERM), specs(2))
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGINT, before_int)
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_no_fault_of_a_candidate(number):
    with pytest.raises(Interruption, match="make room and repeat the command"):
        outcomes(Analytic(fault=raising(OSError(number, os.strerror(number), "/tmp/x"))), specs(2))
