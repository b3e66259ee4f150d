"""From specs to outcomes: the division into stacks, and the only code that catches failures.

Any error of a problem becomes a failed outcome of the guilty spec only. A stack that raises, or that ends its process,
is halved until the guilty member is left; because an outcome is independent of the other members of its stack, the
others only lose time.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections.abc import Collection, Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evorec.errors import Interrupted, TrainingError
from evorec.problem import Outcome, Problem, Spec
from evorec.search.executors import Executor, WorkerDeath

CAUSE_LENGTH = 500  # characters kept of a cause of failure: enough to recognise it, small in the ledger

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Work:
    """Common arguments of all stacks of a call; `rung` as in `Problem.evaluate`."""

    problem: Problem
    seed: int
    rung: int | None

    @property
    def steps(self) -> int | None:
        """Steps to train; None = to the end."""
        return None if self.rung is None else self.problem.rungs[self.rung]


def evaluate(
    problem: Problem,
    specs: Sequence[Spec],
    *,
    seed: int,
    executor: Executor,
    chunk: int,
    rung: int | None = None,
    states: Sequence[Any] | None = None,
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
    Yields:
        A finished stack at a time, in any order: pairs of an index in `specs` and its outcome. The metrics of an
        outcome are plain finite floats and contain every metric of the objectives and constraints, or it failed.
    """
    work = _Work(problem, seed, rung)
    known = [None] * len(specs) if states is None else list(states)
    stacks = _stacks(problem, specs, chunk, workers=getattr(executor, "workers", 1))
    while stacks:
        tasks = [
            partial(_evaluate_stack, work, [specs[i] for i in stack], [known[i] for i in stack]) for stack in stacks
        ]
        halves: list[list[int]] = []
        for number, outcomes in executor.run(tasks):
            stack = stacks[number]
            if not isinstance(outcomes, WorkerDeath):
                yield list(zip(stack, outcomes, strict=True))
            elif len(stack) == 1:
                yield [(stack[0], Outcome(None, failure=outcomes.cause[:CAUSE_LENGTH], rung=work.steps))]
            else:
                halves += [stack[: len(stack) // 2], stack[len(stack) // 2 :]]
        stacks = halves


def _stacks(problem: Problem, specs: Sequence[Spec], chunk: int, workers: int) -> list[list[int]]:
    """Indices in stacks of nearly equal size, at least enough to keep all workers busy, largest groups divided first.

    The members of a group are dealt in turn to its stacks: neighbours have a similar cost, so the stacks do too, and no
    worker waits for an expensive stack.
    """
    groups: list[list[int]] = []
    if problem.mixes_shapes:
        keys = [problem.stack_key(spec) for spec in specs]
        groups = [sorted(range(len(specs)), key=keys.__getitem__)] if keys else []
    else:
        by_shape: dict[Hashable, list[int]] = {}
        for index, spec in enumerate(specs):
            by_shape.setdefault(problem.shape_key(spec), []).append(index)
        groups = list(by_shape.values())
    counts = [math.ceil(len(group) / chunk) for group in groups]
    n_stacks = min(math.ceil(sum(counts) / workers) * workers, len(specs))
    while sum(counts) < n_stacks:
        sizes = [len(group) / count for group, count in zip(groups, counts, strict=True)]
        counts[sizes.index(max(sizes))] += 1
    return [group[i::count] for group, count in zip(groups, counts, strict=True) for i in range(count)]


def _evaluate_stack(
    work: _Work, specs: Sequence[Spec], states: Sequence[Any], *, is_retry: bool = False
) -> list[Outcome]:
    problem, start = work.problem, time.perf_counter()
    try:
        if problem.rungs:
            known = None if any(state is None for state in states) else states
            outcomes = problem.evaluate(specs, seed=work.seed, rung=work.rung, states=known)
        else:
            outcomes = problem.evaluate(specs, seed=work.seed)
        if len(outcomes) != len(specs):
            raise TrainingError(f"{problem.name} gave {len(outcomes)} outcomes for {len(specs)} specs")
        required = {o.metric for o in problem.objectives} | {c.metric for c in problem.constraints}
        return [_checked(outcome, required, work.steps) for outcome in outcomes]
    except Interrupted:
        raise
    except Exception as error:
        _logger.debug("a stack of %d raised", len(specs), exc_info=True)
        kind = "" if isinstance(error, TrainingError) else f"{type(error).__name__}: "
        cause, out_of_memory = kind + " ".join(str(error).split()), _is_out_of_memory(error)
    # The error is gone here, with the traceback that kept its tensors alive.
    if out_of_memory:
        gc.collect()
        torch = sys.modules.get("torch")  # search itself must not import it
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if len(specs) == 1 and not is_retry:  # another stack may have held the memory
            return _evaluate_stack(work, specs, states, is_retry=True)
    if len(specs) == 1:
        seconds = time.perf_counter() - start
        return [Outcome(None, failure=cause[:CAUSE_LENGTH], seconds=seconds, rung=work.steps)]
    middle = len(specs) // 2
    return [
        *_evaluate_stack(work, specs[:middle], states[:middle]),
        *_evaluate_stack(work, specs[middle:], states[middle:]),
    ]


def _checked(outcome: Outcome, required: Collection[str], steps: int | None) -> Outcome:
    """The outcome with plain floats, or as a failure."""
    metrics = {name: float(value) for name, value in (outcome.metrics or {}).items()}
    missing = sorted(set(required) - metrics.keys())
    infinite = [name for name, value in metrics.items() if not math.isfinite(value)]
    reached, wanted = ("the end of training" if n is None else f"step {n}" for n in (outcome.rung, steps))
    if outcome.metrics is None:
        cause = outcome.failure or "no metrics and no cause were given"
    elif reached != wanted:
        cause = f"measured at {reached} instead of {wanted}"
    elif missing:
        cause = f"metric {missing[0]} is missing"
    elif infinite:
        cause = f"metric {infinite[0]} is {metrics[infinite[0]]}"
    else:
        return replace(outcome, metrics=metrics, failure=None)
    return replace(outcome, metrics=None, failure=cause[:CAUSE_LENGTH], weights=None, state=None, rung=steps)


def _is_out_of_memory(error: Exception) -> bool:
    """True for Python, CUDA and PyTorch's CPU allocator, whose error is a plain RuntimeError."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & names) or "can't allocate memory" in str(error)
