"""Specs in, outcomes out: stacks of equal shape, and the one place where a failure is caught.

Whatever a problem raises becomes a failed outcome of the guilty spec alone. A stack that raises is halved until its
guilty member stands by itself; as no outcome depends on the company, the others lose time only.
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

import numpy as np

from evorec.errors import Interrupted, TrainingError
from evorec.problem import Outcome, Problem, Spec
from evorec.search.executors import Executor

CAUSE_LENGTH = 500  # characters kept of a cause of failure: enough to recognise it, small in the ledger

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Raised:
    """What a stack raised, without the traceback that would keep its tensors alive."""

    cause: str
    out_of_memory: bool


def evaluate(
    problem: Problem, specs: Sequence[Spec], *, seed: int, executor: Executor, chunk: int
) -> Generator[list[tuple[int, Outcome]], None, None]:
    """Evaluate specs stack by stack.

    Args:
        problem: evaluates each stack.
        specs: decoded genomes, all different.
        seed: seed of the run.
        executor: runs the stacks.
        chunk: most specs in one stack.
    Yields:
        One finished stack at a time, in any order: pairs of a position in `specs` and its outcome. The metrics of an
        outcome are plain finite floats and hold every metric that an objective or constraint reads; else it failed.
    """
    stacks = _stacks(problem, specs, chunk)
    tasks = [partial(_evaluate_stack, problem, [specs[i] for i in stack], seed) for stack in stacks]
    for number, outcomes in executor.run(tasks):
        yield list(zip(stacks[number], outcomes, strict=True))


def _stacks(problem: Problem, specs: Sequence[Spec], chunk: int) -> list[list[int]]:
    """Positions by shape, in stacks of nearly equal size."""
    groups: dict[Hashable, list[int]] = {}
    for position, spec in enumerate(specs):
        groups.setdefault(problem.shape_key(spec), []).append(position)
    parts = [part for group in groups.values() for part in np.array_split(group, math.ceil(len(group) / chunk))]
    return [part.tolist() for part in parts]


def _evaluate_stack(problem: Problem, specs: Sequence[Spec], seed: int) -> list[Outcome]:
    start = time.perf_counter()
    result = _attempt(problem, specs, seed)
    if isinstance(result, _Raised) and result.out_of_memory:
        _free_memory()
        if len(specs) == 1:  # a neighbouring stack may have held the memory
            result = _attempt(problem, specs, seed)
    if not isinstance(result, _Raised):
        return result
    if len(specs) == 1:
        return [Outcome(metrics=None, failure=result.cause, seconds=time.perf_counter() - start)]
    middle = len(specs) // 2
    return [*_evaluate_stack(problem, specs[:middle], seed), *_evaluate_stack(problem, specs[middle:], seed)]


def _attempt(problem: Problem, specs: Sequence[Spec], seed: int) -> list[Outcome] | _Raised:
    try:
        outcomes = problem.evaluate(specs, seed=seed)
        if len(outcomes) != len(specs):
            raise TrainingError(f"{problem.name} gave {len(outcomes)} outcomes for {len(specs)} specs")
        required = {o.metric for o in problem.objectives} | {c.metric for c in problem.constraints}
        return [_checked(outcome, required) for outcome in outcomes]
    except Interrupted:
        raise
    except Exception as error:
        _logger.debug("a stack of %d raised", len(specs), exc_info=True)
        return _Raised(_cause(error), _is_out_of_memory(error))


def _checked(outcome: Outcome, required: Collection[str]) -> Outcome:
    if outcome.metrics is None:
        return _failed(outcome, outcome.failure or "no metrics and no cause were given")
    missing = sorted(set(required) - outcome.metrics.keys())
    if missing:
        return _failed(outcome, f"metric {missing[0]} is missing")
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            return _failed(outcome, f"metric {name} is {value}")
    return replace(outcome, metrics=metrics, failure=None)


def _failed(outcome: Outcome, cause: str) -> Outcome:
    return replace(outcome, metrics=None, failure=cause[:CAUSE_LENGTH], weights=None)


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
