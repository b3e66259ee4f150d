"""Levels of experts under towers, as MMoE, CGC, PLE and STEM arrange them."""

from __future__ import annotations

from evorec.models.input_shape import InputShape
from evorec.models.mechanism import input_of, towers
from evorec.models.slots import EXPERT, SHARED, Gate, Level, Unit
from evorec.models.spec import ModelSpec

OWN_TABLES = " A task's own experts, and its decision, read an embedding table of its own."
"""Sentence on the tasks' tables of members whose tasks have experts."""


def expert_levels(
    spec: ModelSpec, shape: InputShape, *, n_shared: int, n_own: int, by_level: bool = False, sees_all: bool = False
) -> list[Level]:
    """Experts of `sharing_depth` layers, a gate per task, and towers.

    Args:
        spec: of the member.
        shape: sizes fixed by the data.
        n_shared: experts for all tasks.
        n_own: experts of each task.
        by_level: whether gates mix after every layer instead of after the last; all but the last level then also mix
            every expert into a vector that the next level's shared experts read.
        sees_all: whether a task's gate reads the experts of other tasks too; they do not learn from it.
    """
    tasks, depth = range(shape.n_tasks), spec.sharing_depth
    # Experts of the tasks come first: `Unit.source` of deeper levels counts in this order.
    experts = [*((task, e) for task in tasks for e in range(n_own)), *((SHARED, e) for e in range(n_shared))]
    every = tuple(range(len(experts)))
    levels = []
    for level in range(depth):
        mixes_after = by_level or level == depth - 1
        to_last = depth - 1 - level if by_level else 0  # levels that mix above this one

        def source(task: int, level: int = level) -> int:
            """Vector that a task's experts and gate read at the bottom of a stage."""
            return input_of(spec, task) if level == 0 or not by_level else (shape.n_tasks if task == SHARED else task)

        # Below a further mixing level an expert reaches the losses of all tasks through the shared gate.
        units = tuple(
            Unit(task, source(task) if level == 0 or by_level else i, task if to_last == 0 else SHARED, (EXPERT, e))
            for i, (task, e) in enumerate(experts)
        )
        gates: list[Gate] = []
        if mixes_after:
            for task in tasks:
                seen = tuple(i for i, (owner, _) in enumerate(experts) if owner in (task, SHARED))
                # A mixture that the next shared gate does not read reaches the loss of its own task only.
                loss = task if to_last <= 1 else SHARED
                gates.append(Gate(task, source(task), every if sees_all else seen, seen, loss))
            if to_last:
                gates.append(Gate(SHARED, source(SHARED), every, every, SHARED))
        levels.append(Level(units, tuple(gates)))
    return [*levels, *towers(spec, shape, depth)]
