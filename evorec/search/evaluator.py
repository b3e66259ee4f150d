"""From specs to outcomes: the division into stacks, and the only code that catches failures.

Any error of a problem becomes a failed outcome of the guilty spec only. A stack that raises is halved until the guilty
member is left. The members of a stack that ends its worker process, or hangs there, are started again, each as a stack
of its own; those that end their process again start a third and last time while nothing else runs, because another
stack may have taken the memory. An outcome is independent of the other members of its stack, so the innocent only lose
time.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, Final, final

import numpy as np

from evorec.energy import process_meter
from evorec.errors import Interruption, TrainingError, disk_is_full
from evorec.problem import Outcome, Problem, Spec, Weights
from evorec.search.executors import Executor
from evorec.search.workers import WorkerDeath

MOST_STARTS = 3
"""Starts of a spec that ends its process each time, before it is a failure."""
CAUSE_LENGTH = 500  # characters kept of a cause of failure: enough to recognise it, small in the ledger

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
"""Signals that people and batch systems send, and that Python code may handle."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A genome that is to be evaluated.

    Attributes:
        spec: the decoded genome.
        state: of its training, from its outcome at an earlier rung; None starts anew.
        parent: weights that it inherits; None starts from scratch.
        n_starts: starts that ended the process of an earlier search.
    """

    spec: Spec
    state: Any = None
    parent: Weights | None = None
    n_starts: int = 0


Stack = Mapping[int, Candidate]
"""Candidates that are evaluated together, by a number that their outcome will have."""


def evaluate(
    problem: Problem,
    specs: Sequence[Spec],
    *,
    seed: int,
    executor: Executor,
    chunk: int,
    rung: int | None = None,
    states: Sequence[Any] | None = None,
    parents: Sequence[Weights | None] | None = None,
    n_starts: Sequence[int] | None = None,
) -> Generator[list[tuple[int, Outcome]], None, None]:
    """Evaluate specs stack by stack.

    Args:
        problem: evaluates each stack.
        specs: decoded genomes, all different.
        seed: seed of the run.
        executor: runs the stacks.
        chunk: most specs in a stack.
        rung: index of the problem's rung to train to; None trains to the end.
        states: state of each spec's training, from its outcome at an earlier rung; None for a spec that starts anew.
        parents: weights that each spec inherits; None for a spec that starts from scratch.
        n_starts: starts of each spec that ended this process; None = there were none.
    Yields:
        A finished stack at a time, in any order: pairs of an index in `specs` and its outcome. The metrics of an
        outcome are plain finite floats and contain every metric of the objectives and constraints, or it failed.
    """
    nothing = [None] * len(specs)
    columns = zip(specs, states or nothing, parents or nothing, n_starts or [0] * len(specs), strict=True)
    stacks = stacked(problem, [Candidate(*row) for row in columns], chunk=chunk, workers=executor.workers)
    yield from evaluate_stacks(problem, stacks, seed=seed, executor=executor, rung=rung)


def evaluate_stacks(
    problem: Problem,
    stacks: Iterable[Stack | None],
    *,
    seed: int,
    executor: Executor,
    rung: int | None = None,
) -> Generator[list[tuple[int, Outcome]], None, None]:
    """Evaluate stacks, the next when a worker is free and the outcomes so far were handled.

    The members of a stack that ends its worker start again, each as a stack of its own, and those that end it again a
    third time while nothing else runs: whatever the other stacks do, they cannot be blamed for a guilty genome.

    Args:
        problem: evaluates each stack.
        stacks: no number twice. None in place of a stack: there is none before the next outcome.
        seed: seed of the run.
        executor: runs the stacks.
        rung: index of the problem's rung to train to; None trains to the end.
    Yields:
        As `evaluate`, with the numbers of the candidates.
    """
    source, is_over = iter(stacks), False
    known: dict[int, Candidate] = {}
    starts: dict[int, int] = {}
    again: deque[int] = deque()  # suspects that start as a stack of their own
    alone: deque[int] = deque()  # and those that start while nothing else runs
    running: list[list[int]] = []

    def task(numbers: Sequence[int]) -> StackTask:
        running.append(list(numbers))
        starts.update((number, starts[number] + 1) for number in numbers)
        candidates = [known[number] for number in numbers]
        return StackTask(
            problem, [c.spec for c in candidates], [(c.state, c.parent) for c in candidates], seed=seed, rung=rung
        )

    def tasks() -> Iterator[StackTask | None]:
        nonlocal is_over
        while again or not alone:
            if again:
                yield task([again.popleft()])
                continue
            try:
                stack = next(source)
            except StopIteration:
                is_over = True
                return
            if stack is None:
                yield None
                continue
            known.update(stack)
            starts.update((number, candidate.n_starts) for number, candidate in stack.items())
            alone.extend(number for number in stack if starts[number] >= MOST_STARTS - 1)
            if others := [number for number in stack if starts[number] < MOST_STARTS - 1]:
                yield task(others)

    def handled(results: Iterator[tuple[int, Any]]) -> Iterator[list[tuple[int, Outcome]]]:
        for index, outcomes in results:
            numbers = running[index]
            if isinstance(outcomes, WorkerDeath):
                pairs = []
                for number in numbers:
                    if starts[number] >= MOST_STARTS:
                        cause = f"{outcomes.cause} ({starts[number]} starts)"
                        pairs.append((number, _failed(problem, rung, cause)))
                    else:
                        (alone if starts[number] == MOST_STARTS - 1 else again).append(number)
            else:
                pairs = list(zip(numbers, outcomes, strict=True))
            for number, _ in pairs:
                del known[number], starts[number]
            if pairs:
                yield pairs

    while again or alone or not is_over:
        running.clear()
        if alone and not again:
            number = alone.popleft()
            if starts[number] >= MOST_STARTS:
                yield [(number, _failed(problem, rung, f"its process died each time ({starts[number]} starts)"))]
            else:
                yield from handled(executor.run([task([number])], at_once=1))
        else:
            yield from handled(executor.run(tasks()))


def stacked(
    problem: Problem, candidates: Sequence[Candidate], *, chunk: int, workers: int, first: int = 0
) -> list[Stack]:
    """Candidates in stacks that keep all workers busy, numbered from `first` in their order."""
    stacks = _stacks(problem, [candidate.spec for candidate in candidates], chunk, workers)
    return [{first + index: candidates[index] for index in stack} for stack in stacks]


def _stacks(problem: Problem, specs: Sequence[Spec], chunk: int, workers: int) -> list[list[int]]:
    """Indices in stacks of nearly equal size, at least enough to keep all workers busy, largest groups divided first.

    The members of a group are dealt in turn to its stacks: neighbours have a similar cost, so the stacks do too, and no
    worker waits for an expensive stack.
    """
    order: Sequence[int] = range(len(specs))
    by_shape: dict[Hashable, list[int]] = {}
    if problem.mixes_shapes:
        order = sorted(order, key=[problem.stack_key(spec) for spec in specs].__getitem__)
    for index in order:
        by_shape.setdefault(None if problem.mixes_shapes else problem.shape_key(specs[index]), []).append(index)
    groups = list(by_shape.values())
    counts = [math.ceil(len(group) / chunk) for group in groups]
    n_stacks = min(math.ceil(sum(counts) / workers) * workers, len(specs))
    while sum(counts) < n_stacks:
        sizes = [len(group) / count for group, count in zip(groups, counts, strict=True)]
        counts[sizes.index(max(sizes))] += 1
    return [group[i::count] for group, count in zip(groups, counts, strict=True) for i in range(count)]


def _measured(
    problem: Problem, specs: Sequence[Spec], known: Sequence[tuple[Any, Weights | None]], **how: Any
) -> list[Outcome]:
    """`_outcomes` with their shares of the energy of the stack: as their shares of its seconds, if they say those."""
    with process_meter().measure() as joules:
        outcomes = _outcomes(problem, specs, known, **how)
    seconds = sum(outcome.seconds for outcome in outcomes)
    shares = [outcome.seconds / seconds if seconds else 1 / len(outcomes) for outcome in outcomes]
    return [
        replace(outcome, energy={source: value * share for source, value in joules.items()})
        for outcome, share in zip(outcomes, shares, strict=True)
    ]


@final
@dataclass(frozen=True)
class StackTask:
    """The evaluation of a stack, as a task of an executor; see `evaluate` for the fields.

    Attributes:
        known: state and inherited weights of each spec.
    """

    problem: Problem
    specs: list[Spec]
    known: list[tuple[Any, Weights | None]]
    seed: int
    rung: int | None

    @property
    def cost(self) -> float:
        """FLOPs of training where they are known, else the number of specs."""
        return sum(self.problem.known_metrics(spec).get("training_flops", 1.0) for spec in self.specs)

    def __call__(self) -> list[Outcome]:
        """The outcomes of the stack, in order, with their energy."""
        return _measured(self.problem, self.specs, self.known, seed=self.seed, rung=self.rung)


def _outcomes(
    problem: Problem,
    specs: Sequence[Spec],
    known: Sequence[tuple[Any, Weights | None]],
    *,
    seed: int,
    rung: int | None,
    is_retry: bool = False,
) -> list[Outcome]:
    """Outcomes of a stack, or of its halves if it raises.

    Args:
        known: state and inherited weights of each spec; see `evaluate` for the other arguments.
    """
    start = time.perf_counter()
    with _handler_errors() as interruptions:
        try:
            given = [dict(spec) for spec in specs]  # a problem may change them
            how: dict[str, Any] = {}
            if problem.rungs:
                states = [state for state, _ in known]
                how |= {"rung": rung, "states": None if any(state is None for state in states) else states}
            if problem.inherits:
                how |= {"parents": [parent for _, parent in known]}
            outcomes = problem.evaluate(given, seed=seed, **how)
            if len(outcomes) != len(specs):
                raise TrainingError(f"{problem.name} gave {len(outcomes)} outcomes for {len(specs)} specs")
            found = [_checked(problem, rung, outcome) for outcome in outcomes]
            if not interruptions:
                return found
            raise interruptions[0]  # a candidate has caught it
        except BaseException as error:  # code of a candidate may also call sys.exit
            if interruptions or isinstance(error, Interruption):
                raise (interruptions or [error])[0] from None
            text = _text_of(error)
            if disk_is_full(error):  # no fault of a candidate
                raise Interruption(f"{text}; make room and repeat the command, finished work is kept") from error
            _logger.debug("a stack of %d raised", len(specs), exc_info=True)
            kind = "" if isinstance(error, TrainingError) else f"{type(error).__name__}: "
            cause, out_of_memory = kind + " ".join(text.split()), _is_out_of_memory(error, text)
    # The error is gone here, with the traceback that kept its tensors alive.
    if out_of_memory:
        gc.collect()
        torch = sys.modules.get("torch")  # search itself must not import it
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if len(specs) == 1 and not is_retry:  # another stack may have held the memory
            return _outcomes(problem, specs, known, seed=seed, rung=rung, is_retry=True)
    if len(specs) == 1:
        return [_failed(problem, rung, cause, seconds=time.perf_counter() - start)]
    middle = len(specs) // 2
    halves = (slice(None, middle), slice(middle, None))
    return [x for half in halves for x in _outcomes(problem, specs[half], known[half], seed=seed, rung=rung)]


def _checked(problem: Problem, rung: int | None, outcome: Outcome) -> Outcome:
    """The outcome with plain floats, or as a failure."""
    metrics = {_valid_text(str(name)): float(value) for name, value in (outcome.metrics or {}).items()}
    missing = sorted(
        ({o.metric for o in problem.objectives} | {c.metric for c in problem.constraints}) - metrics.keys()
    )
    infinite = [name for name, value in metrics.items() if not math.isfinite(value)]
    seconds = float(outcome.seconds) if math.isfinite(outcome.seconds) else 0.0
    extra = _plain(outcome.extra or {})
    ends = (outcome.rung, _steps(problem, rung))
    reached, wanted = ("the end of training" if n is None else f"step {n}" for n in ends)
    if outcome.metrics is None:
        cause = str(outcome.failure or "no metrics and no cause were given")
    elif reached != wanted:
        cause = f"measured at {reached} instead of {wanted}"
    elif missing:
        cause = f"metric {missing[0]} is missing"
    elif infinite:
        cause = f"metric {infinite[0]} is {metrics[infinite[0]]}"
    elif unsuitable := _unsuitable(outcome.weights or {}):
        cause = unsuitable
    else:
        return replace(outcome, metrics=metrics, failure=None, seconds=seconds, extra=extra)
    return _failed(problem, rung, cause, seconds=seconds, extra=extra)


def _failed(problem: Problem, rung: int | None, cause: str, **fields: Any) -> Outcome:
    return Outcome(None, failure=_valid_text(cause[:CAUSE_LENGTH]), rung=_steps(problem, rung), **fields)


def _plain(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as plain JSON, which the ledger can store: other values and infinite numbers become texts."""
    try:
        stored = json.dumps(dict(extra), default=repr, skipkeys=True, ensure_ascii=False)
        found: dict[str, Any] = json.loads(_valid_text(stored), parse_constant=str)
    except Exception as error:  # a cycle, or a value whose repr raises
        return {"unreadable": _valid_text(f"{type(error).__name__}: {_text_of(error)}"[:CAUSE_LENGTH])}
    return found


def _valid_text(text: str) -> str:
    """A text that can be stored in UTF-8, which has no code for half a character (a lone surrogate)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _unsuitable(weights: Mapping[str, Any]) -> str:
    """Why weights cannot be stored in a safetensors file; empty if they can."""
    for name, array in weights.items():
        if not isinstance(name, str) or name != _valid_text(name):
            return f"the name of weights {name!r} is not a valid text"
        dtype = np.asarray(array).dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            return f"weights {name!r} have type {dtype}, not real numbers of at most 64 bits"
    return ""


def _steps(problem: Problem, rung: int | None) -> int | None:
    """Steps to train; None = to the end."""
    return None if rung is None else problem.rungs[rung]


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """True for Python, CUDA and PyTorch's CPU allocator, whose error is a plain RuntimeError."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & names) or "can't allocate memory" in text


@contextmanager
def _handler_errors() -> Iterator[list[BaseException]]:
    """The errors that handlers of signals raise meanwhile, as after Ctrl-C: they are no errors of a candidate.

    Only the main thread runs handlers, so other threads have none.
    """
    raised: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return

    def note(handler: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    noted = {number: partial(note, handler) for number, handler in before.items() if callable(handler)}
    for number, handler in noted.items():
        signal.signal(number, handler)
    try:
        yield raised
    finally:
        for number in noted:
            signal.signal(number, before[number])


def _text_of(error: BaseException) -> str:
    """The message of an error, which may be of any class."""
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown"
