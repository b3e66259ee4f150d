"""What the command line says of a problem that trains nothing: all of it comes from the built problem."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evorec.report.table import Column, Row, Table

if TYPE_CHECKING:
    from evorec.config import RunConfig
    from evorec.problem import Problem


def facts(problem: Problem, config: RunConfig) -> dict[str, Any]:
    """What a person checks first: how large the space is, what is optimised in which box, and the budget."""
    size = problem.space.cardinality()
    search = config.search
    return {
        "problem": problem.name,
        "data": f"sha256 {problem.data_sha256[:12]}",
        "configurations": f"{size:,.0f}" if size < float("inf") else "infinitely many",
        "objectives": [
            f"{one.name} ({one.direction}), box {one.worst:.4g} to {one.ideal:.4g}" for one in problem.objectives
        ],
        "constraints": [f"{one.metric} {one.op} {one.bound:.4g}" for one in problem.constraints] or "none",
        "rungs": list(problem.rungs) or "none",
        "evaluations": search.population * search.generations,
    }


def facts_table(problem: Problem, config: RunConfig) -> Table:
    """The facts for a terminal."""
    rows = tuple(Row(name, (value,)) for name, value in facts(problem, config).items())
    return Table("\nSettings", "", (Column(""),), rows)


def description(problem: Problem, config: RunConfig, scenario: str) -> dict[str, Any]:
    """Everything as plain JSON."""
    return {
        "name": problem.name,
        "scenario": scenario,
        "genes": [asdict(info) for info in problem.space.describe()],
        "objectives": [asdict(objective) for objective in problem.objectives],
        "constraints": [asdict(constraint) for constraint in problem.constraints],
        "config": config.model_dump(mode="json"),
    }
