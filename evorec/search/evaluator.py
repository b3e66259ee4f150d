"""Specs in, outcomes out: the cut into stacks, and the one place where a failure is caught.

Whatever a problem raises becomes a failed outcome of the guilty spec alone. A stack that raises, or that ends the
process it runs in, is halved until its guilty member stands by itself; as no outcome depends on the company, the others
lose time only.
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
class _Raised:
    """What a stack raised, without the traceback that would keep its tensors alive."""

    cause: str
    out_of_memory: bool


@dataclass(frozen=True)
class _Work:
    """What all stacks of one call have in common; `rung` as in `Problem.evaluate`."""

    problem: Problem
    seed: int
    rung: int | None

    @property
    def steps(self) -> int | None:
        """Steps to train; None = to the end."""
        return None if self.rung is None else self.problem.rungs[self.rung]

    def evaluate(self, specs: Sequence[Spec], states: Sequence[Any]) -> list[Outcome]:
        """The problem's outcomes; it goes on from `states` if every spec has one."""
        if not self.problem.rungs:
            return self.problem.evaluate(specs, seed=self.seed)
        known = None if any(state is None for state in states) else states
        return self.problem.evaluate(specs, seed=self.seed, rung=self.rung, states=known)


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
        chunk: most specs in one stack.
        rung: which one of the problem's rungs to train to; None trains to the end.
        states: where each spec's training stands, from its outcome at an earlier rung; None for one that starts anew.
    Yields:
        One finished stack at a time, in any order: pairs of a position in `specs` and its outcome. The metrics of an
        outcome are plain finite floats and hold every metric that an objective or constraint reads; else it failed.
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
    """Positions in stacks of nearly equal size, as many of them as keep all workers busy, largest groups cut first.

    A group is dealt out like cards: neighbours cost alike, so its stacks do too, and no worker waits for a heavy one.
    """
    groups = _groups(problem, specs)
    counts = [math.ceil(len(group) / chunk) for group in groups]
    n_stacks = min(math.ceil(sum(counts) / workers) * workers, len(specs))
    while sum(counts) < n_stacks:
        sizes = [len(group) / count for group, count in zip(groups, counts, strict=True)]
        counts[sizes.index(max(sizes))] += 1
    return [group[i::count] for group, count in zip(groups, counts, strict=True) for i in range(count)]


def _groups(problem: Problem, specs: Sequence[Spec]) -> list[list[int]]:
    """Positions of specs that may share stacks, those of like shape side by side."""
    if problem.mixes_shapes:
        keys = [problem.stack_key(spec) for spec in specs]
        return [sorted(range(len(specs)), key=keys.__getitem__)] if keys else []
    groups: dict[Hashable, list[int]] = {}
    for position, spec in enumerate(specs):
        groups.setdefault(problem.shape_key(spec), []).append(position)
    return list(groups.values())


def _evaluate_stack(work: _Work, specs: Sequence[Spec], states: Sequence[Any]) -> list[Outcome]:
    start = time.perf_counter()
    result = _attempt(work, specs, states)
    if isinstance(result, _Raised) and result.out_of_memory:
        _free_memory()
        if len(specs) == 1:  # a neighbouring stack may have held the memory
            result = _attempt(work, specs, states)
    if not isinstance(result, _Raised):
        return result
    if len(specs) == 1:
        return [Outcome(None, failure=result.cause, seconds=time.perf_counter() - start, rung=work.steps)]
    middle = len(specs) // 2
    return [
        *_evaluate_stack(work, specs[:middle], states[:middle]),
        *_evaluate_stack(work, specs[middle:], states[middle:]),
    ]


def _attempt(work: _Work, specs: Sequence[Spec], states: Sequence[Any]) -> list[Outcome] | _Raised:
    problem = work.problem
    try:
        outcomes = work.evaluate(specs, states)
        if len(outcomes) != len(specs):
            raise TrainingError(f"{problem.name} gave {len(outcomes)} outcomes for {len(specs)} specs")
        required = {o.metric for o in problem.objectives} | {c.metric for c in problem.constraints}
        return [_checked(outcome, required, work.steps) for outcome in outcomes]
    except Interrupted:
        raise
    except Exception as error:
        _logger.debug("a stack of %d raised", len(specs), exc_info=True)
        return _Raised(_cause(error), _is_out_of_memory(error))


def _checked(outcome: Outcome, required: Collection[str], steps: int | None) -> Outcome:
    if outcome.metrics is None:
        return _failed(outcome, outcome.failure or "no metrics and no cause were given", steps)
    if outcome.rung != steps:
        return _failed(outcome, f"measured at {_place(outcome.rung)} instead of {_place(steps)}", steps)
    missing = sorted(set(required) - outcome.metrics.keys())
    if missing:
        return _failed(outcome, f"metric {missing[0]} is missing", steps)
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            return _failed(outcome, f"metric {name} is {value}", steps)
    return replace(outcome, metrics=metrics, failure=None)


def _failed(outcome: Outcome, cause: str, steps: int | None) -> Outcome:
    return replace(outcome, metrics=None, failure=cause[:CAUSE_LENGTH], weights=None, state=None, rung=steps)


def _place(steps: int | None) -> str:
    return "the end of training" if steps is None else f"step {steps}"


def _cause(error: Exception) -> str:
    kind = "" if isinstance(error, TrainingError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split()))[:CAUSE_LENGTH]


def _is_out_of_memory(error: Exception) -> bool:
    """True for Python, CUDA and PyTorch's CPU allocator, whose error is a plain RuntimeError."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & names) or "can't allocate memory" in str(error)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")  # search itself must not import it
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
