"""What a person watches while a search runs: the record of the run, what is trained now, and how long it will take.

Everything is read from the run directory, without its lock, so watching disturbs no search, and can begin at any time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from evorec.archive.pareto import non_dominated
from evorec.config.search import MOST_GENERATIONS
from evorec.errors import RunError
from evorec.objectives import Metrics, to_matrices
from evorec.report.record import UNFINISHED, RunRecord, read_record
from evorec.run.directory import RunDirectory
from evorec.run.ledger import EXTENSION, IN_FLIGHT, SPENT, Event

STARTING: Final = "starting"
"""State of a run that has evaluated nothing yet."""


@final
@dataclass(frozen=True)
class Training:
    """Genomes that are trained at the same time.

    Attributes:
        keys: of the genomes.
        rung: steps to which they are trained; None = to the end.
        workers: stacks that are trained at once; 0 = unknown.
        isolated: whether the workers are processes of their own.
        n_done: genomes that are in the ledger already.
    """

    keys: tuple[str, ...]
    rung: int | None
    workers: int
    isolated: bool
    n_done: int


@final
@dataclass(frozen=True)
class LiveView:
    """A run at one moment.

    Attributes:
        path: the run directory.
        record: the run; None before its first evaluation.
        running: whether a process works on it.
        training: what is trained now; None = nothing, as between two generations.
        spent_s: seconds of the search until the end of the last complete generation, without pauses.
        left_s: seconds until its end by its pace so far; None = unknown.
        n_planned: evaluations of the whole search; None = it ends by the clock.
        silent_s: seconds since the ledger was written.
    """

    path: Path
    record: RunRecord | None
    running: bool
    training: Training | None = None
    spent_s: float = 0.0
    left_s: float | None = None
    n_planned: int | None = None
    silent_s: float = 0.0

    @property
    def state(self) -> str:
        """In words: starting, running, interrupted, or why the search ended."""
        if self.record is None:
            return STARTING
        if self.record.state != UNFINISHED:
            return f"{'running, ' if self.running else ''}finished: {self.record.state}"
        return "running" if self.running else "interrupted"

    @cached_property
    def front(self) -> tuple[Metrics, ...]:
        """Metrics of the front so far: unlike the archive, it has evaluations of a generation that is going on."""
        if self.record is None:
            return ()
        if self.record.state != UNFINISHED:
            return tuple(member.metrics for member in self.record.members)
        rows = [row.metrics for row in self.record.finished if row.metrics is not None]
        F, G = to_matrices(rows, self.record.objectives, self.record.constraints)
        feasible = np.flatnonzero((G <= 0).all(axis=1))
        return tuple(rows[index] for index in feasible[non_dominated(F[feasible])])

    @property
    def others(self) -> list[Metrics]:
        """Metrics of the evaluations that are not on the front."""
        front = {id(row) for row in self.front}
        rows = self.record.finished if self.record else ()
        return [row.metrics for row in rows if row.metrics is not None and id(row.metrics) not in front]


def read_live(path: Path) -> LiveView:
    """Read a run at this moment.

    Args:
        path: the run directory.
    Raises:
        RunError: it is not a run directory, is damaged, or was stopped before its first evaluation.
    """
    running = RunDirectory.is_held(path)
    try:
        record = read_record(path)
    except RunError:
        if running and RunDirectory.exists(path) and not RunDirectory.has_begun(path):
            return LiveView(path, None, running)
        raise
    with RunDirectory.open(path, read_only=True) as run:
        events, changed = run.ledger.events(), run.ledger.changed
    ends = _ends(record, events)
    n_planned, spent_s = _planned(record), ends[-1][0] if ends else 0.0
    training = _training(record, events) if running else None
    left_s = _left_s(record, ends, training, n_planned) if record.state == UNFINISHED else None
    silent_s = max(time.time() - changed, 0.0)
    return LiveView(path, record, running, training, spent_s, left_s, n_planned, silent_s)


def _training(record: RunRecord, events: Sequence[Event]) -> Training | None:
    """The genomes that the present start trains: those of its last event, unless it has ended."""
    last = next((payload for _, kind, payload in reversed(events) if kind == IN_FLIGHT), None)
    if last is None or last.get("dropped"):
        return None
    keys, known = tuple(last["keys"]), {row.key for row in record.evaluations}
    n_done = sum(key in known for key in keys)
    if n_done == len(keys):
        return None
    return Training(keys, last.get("rung"), last.get("workers", 0), bool(last.get("isolated")), n_done)


def _ends(record: RunRecord, events: Sequence[Event]) -> list[tuple[float, int]]:
    """Seconds and number of evaluations at the end of every generation since the search was last extended."""
    until: dict[int, int] = {}
    for row in record.evaluations:
        until[row.generation] = until.get(row.generation, 0) + 1
    ends: list[tuple[float, int]] = []
    for generation, kind, payload in events:
        if kind == EXTENSION:
            ends.clear()
        elif kind == SPENT:
            ends.append((payload["seconds"], sum(n for g, n in until.items() if g <= generation)))
    return ends


def _planned(record: RunRecord) -> int | None:
    search = record.config.search
    if search.generations >= MOST_GENERATIONS:
        return search.evaluations or None
    most = search.generations * search.population
    return min(most, search.evaluations or most)


def _left_s(
    record: RunRecord, ends: Sequence[tuple[float, int]], training: Training | None, n_planned: int | None
) -> float | None:
    """Seconds until the end, by the pace of the generations after the first, whose start is slow; else of the first.

    Before the first generation has ended the trainings themselves are the pace, spread over the workers.
    """
    if n_planned is None:
        minutes = record.config.search.minutes
        return max(60 * minutes - (ends[-1][0] if ends else 0.0), 0.0) if minutes else None
    n_left = n_planned - len(record.evaluations)
    if len(ends) > 1:
        (first_s, first), (last_s, last) = ends[0], ends[-1]
        pace = (last_s - first_s) / (last - first) if last > first else 0.0
    elif ends:
        pace = ends[0][0] / max(ends[0][1], 1)
    elif record.evaluations:
        workers = max(training.workers, 1) if training else 1
        pace = sum(row.seconds for row in record.evaluations) / len(record.evaluations) / workers
    else:
        return None
    return pace * max(n_left, 0)


def live_json(view: LiveView) -> dict[str, Any]:
    """A view as plain values."""
    record = view.record
    value: dict[str, Any] = {"run": str(view.path), "state": view.state, "running": view.running}
    if record is None:
        return value
    failures: dict[str, int] = {}
    for row in record.evaluations:
        if row.failure is not None:
            failures[row.failure] = failures.get(row.failure, 0) + 1
    training = view.training
    value |= {
        "generation": max((row.generation for row in record.evaluations), default=0),
        "evaluations": len(record.evaluations),
        "planned": view.n_planned,
        "dropped": len(record.evaluations) - len(record.finished),
        "front": len(view.front),
        "hypervolume": list(record.hypervolume),
        "seconds": {"spent": view.spent_s, "left": view.left_s, "silent": view.silent_s},
        "training": None if training is None else {**vars(training), "keys": list(training.keys)},
        "failures": failures,
    }
    return value


def best_so_far(view: LiveView) -> list[tuple[str, float | None, str, float | None]]:
    """Of each objective: its name, the best value of the front, the best baseline, and that baseline's value."""
    if view.record is None:
        return []
    rows: list[tuple[str, float | None, str, float | None]] = []
    for axis in view.record.objectives:
        top: Any = max if axis.direction == "max" else min
        values = [own[axis.metric] for own in view.front if axis.metric in own]
        known = {name: own[axis.metric] for name, own in view.record.baselines.items() if axis.metric in own}
        name = top(known, key=known.__getitem__, default="")
        rows.append((axis.name, top(values, default=None), name, known.get(name)))
    return rows
