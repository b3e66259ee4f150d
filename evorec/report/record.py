"""The content of a run directory, read once into frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

import numpy as np

from evorec.archive.confirmed import ConfirmedFront, confirmed_front
from evorec.archive.ensemble import Ensemble
from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import RunConfig
from evorec.errors import ConfigError, RunError
from evorec.objectives import Constraint, Objective, find_metric, resolve, to_matrices
from evorec.report.table import Column
from evorec.run.directory import RunDirectory
from evorec.run.ledger import EXTENSION, HALVING, SPENT, SURROGATE, Evaluation

UNFINISHED = "not finished"
"""State of a run without an end."""
ALWAYS = ("recall@k", "catalogue_coverage@k")
"""Metrics shown for every run that measured them, objectives or not: an honest report needs both."""


@final
@dataclass(frozen=True)
class Member:
    """A successful evaluation, usually a member of the archive."""

    key: str
    spec: Mapping[str, Any]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """The fields of an evaluation that reports need."""
        return cls(evaluation.key, evaluation.spec, evaluation.metrics or {})


@final
@dataclass(frozen=True)
class RecordedEnsemble:
    """An ensemble of members.

    Attributes:
        key: of the ensemble.
        best: what it is the best of, in words.
        ensemble: members and weights.
        metrics: on validation, with summed costs.
        gains: by goal, what selections like it gain on users that did not select them.
    """

    key: str
    best: tuple[str, ...]
    ensemble: Ensemble
    metrics: Mapping[str, float]
    gains: Mapping[str, float]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """An ensemble as the run stores it."""
        return cls(stored["key"], tuple(stored["best"]), Ensemble.from_json(stored), stored["metrics"], stored["gains"])


@final
@dataclass(frozen=True)
class RunRecord:
    """A run, finished or not.

    Attributes:
        path: the run directory.
        config: its configuration.
        state: ``"finished"``, or why the run has not ended.
        environment: versions, device and the like, as stored at its start.
        objectives: the M optimised metrics.
        evaluations: all evaluations, including dropped and failed genomes, in the order of proposal.
        members: the front, in the order of proposal.
        least_infeasible: without members, the evaluations closest to feasible, best first.
        baselines: validation metrics of every baseline, by name.
        baseline_settings: chosen on validation, by name.
        skipped_baselines: why a baseline is missing, by name.
        hypervolume: share of the box after each complete generation.
        final: results of `finalize`; None before.
        name: given by a person.
        machines: differences of further machines that worked on the run, in words.
        constraints: on members of the front.
        memory: rows of earlier searches that the search started from, in words; empty without any.
        inherited: metrics with inherited weights of members that were trained again from scratch, by key; those in
            `members` are from scratch.
        ensembles: of members, as `evorec.deploy.ensemble` selected them; empty before.
        ensemble_goals: metrics that they were selected for; empty before.
        held: what selections gain on users that did not select them, a row per goal and size.
        confirmed: the front with fresh seeds (`evorec.search.confirm`); None before.
        energy: joules by source (`evorec.energy`) of each evaluation, by key; empty for runs of earlier versions.
        surrogate: what the surrogate chose and expected, by generation; see `evorec.run.ledger`.
        rungs: metrics at each rung of the genomes that passed it, by steps and key.
        seconds: since the start of the search, without pauses, after each complete generation.
        data: numbers that describe the data set, by name.
        data_sha256: of the data set.
        fingerprint: of settings and data.
        default: the default genome, decoded; empty in a run of an earlier version.
    """

    path: Path
    config: RunConfig
    state: str
    environment: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    evaluations: tuple[Evaluation, ...]
    members: tuple[Member, ...]
    least_infeasible: tuple[Member, ...] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline_settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    skipped_baselines: Mapping[str, str] = field(default_factory=dict)
    hypervolume: tuple[float, ...] = ()
    final: Mapping[str, Any] | None = None
    machines: tuple[str, ...] = ()
    name: str | None = None
    constraints: tuple[Constraint, ...] = ()
    memory: str = ""
    confirmed: ConfirmedFront | None = None
    surrogate: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    inherited: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ensembles: tuple[RecordedEnsemble, ...] = ()
    ensemble_goals: tuple[str, ...] = ()
    held: tuple[Mapping[str, Any], ...] = ()
    energy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rungs: Mapping[int, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    data: Mapping[str, float] = field(default_factory=dict)
    data_sha256: str = ""
    fingerprint: str = ""
    default: Mapping[str, Any] = field(default_factory=dict)

    def is_feasible(self, metrics: Mapping[str, float]) -> bool:
        """Whether measured metrics keep all constraints."""
        return all(bool(constraint.holds(metrics[constraint.metric])) for constraint in self.constraints)

    @property
    def eligible(self) -> dict[str, Mapping[str, float]]:
        """Metrics of the members that picks choose from, by key: the confirmed front where there is one."""
        if self.confirmed is not None:
            return self.confirmed.front
        return {member.key: member.metrics for member in self.members}

    @property
    def shown(self) -> Path:
        """The run directory, with the name of the run instead of the hash; commands accept both."""
        return self.path if self.name is None else self.path.with_name(self.name)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of metrics: the objectives, then those of `ALWAYS` that were measured."""
        columns = {o.metric: Column(o.metric, o.unit, o.direction, o.name) for o in self.objectives}
        measured = {key for member in (*self.members, *self.least_infeasible) for key in member.metrics}
        for name in ALWAYS:
            if (key := self.resolve(name)) in measured and key not in columns:
                metric = find_metric(name)
                columns[key] = Column(key, metric.unit, metric.direction, key)
        return tuple(columns.values())

    def resolve(self, name: str) -> str:
        """The key under which a metric is measured; a problem's own metric keeps its name."""
        try:
            return resolve(name, self.config.k)
        except ConfigError:
            return name

    @property
    def finished(self) -> tuple[Evaluation, ...]:
        """Evaluations that were trained to their end or failed: all but those dropped at a rung."""
        return tuple(evaluation for evaluation in self.evaluations if not evaluation.dropped)


def read_record(path: Path, *, check: bool = False) -> RunRecord:
    """Read a run, finished or not, without disturbing a search that is going on.

    Args:
        path: the run directory.
        check: also check the files of members, final models and formulas against their hashes.
    Raises:
        RunError: it is not a run directory, is damaged, or was stopped before its first evaluation.
    """
    with RunDirectory.open(path, read_only=True) as run:
        try:
            if check:
                run.check()
            return _record(path, run)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"run {path} is damaged: a JSON file of it has another content than was written ({error!r}); restore "
                "it from a copy, or delete the run"
            ) from None


def _record(path: Path, run: RunDirectory) -> RunRecord:
    problem, summary = run.read_problem(), run.read_summary()
    evaluations, archived = run.ledger.evaluations(), run.members()
    if summary is not None:  # a member whose files were lost is a member all the same
        archived = run.with_scratch([found for found in evaluations if found.key in summary["members"]])
    objectives = tuple(Objective(**stored) for stored in problem["objectives"])
    constraints = [Constraint(**stored) for stored in problem["constraints"]]
    by_key = {evaluation.key: evaluation for evaluation in evaluations}
    least = (summary or {}).get("least_infeasible", [])
    ensembles = run.read_ensembles() or {"ensembles": (), "goals": (), "held": ()}
    claimed = {evaluation.key: evaluation.metrics or {} for evaluation in archived}
    events, rungs, seconds = run.ledger.events(), dict[int, dict[str, Mapping[str, float]]](), dict[int, float]()
    before = 0.0  # each extension counts from 0 again
    for generation, kind, payload in events:
        if kind == HALVING:
            rungs.setdefault(payload["rung"], {}).update(payload["kept"])
        elif kind == SPENT:
            seconds[generation] = before + payload["seconds"]
        elif kind == EXTENSION:
            before = max(seconds.values(), default=0.0)
    return RunRecord(
        path=path,
        config=run.config,
        state=summary["reason"] if summary else UNFINISHED,
        environment=run.environment,
        objectives=objectives,
        evaluations=tuple(evaluations),
        members=tuple(Member.of(evaluation) for evaluation in archived),
        least_infeasible=tuple(Member.of(by_key[key]) for key in least),
        baselines=problem["baselines"],
        baseline_settings=problem.get("baseline_settings", {}),
        skipped_baselines=problem.get("skipped_baselines", {}),
        hypervolume=tuple(
            summary["hypervolume_share"]
            if summary
            else hypervolume_by_generation(evaluations, objectives, constraints, complete=max(seconds, default=None))
        ),
        final=run.read_final(),
        machines=tuple(run.machines),
        name=run.name,
        constraints=tuple(constraints),
        memory=run.memory_text,
        inherited={found.key: found.extra["inherited"] for found in archived if "inherited" in found.extra},
        confirmed=confirmed_front(claimed, run.fresh(), objectives, constraints) if summary is not None else None,
        ensembles=tuple(RecordedEnsemble.of(stored) for stored in ensembles["ensembles"]),
        ensemble_goals=tuple(ensembles["goals"]),
        held=tuple(ensembles["held"]),
        energy=run.energy(),
        surrogate={generation: facts for generation, kind, facts in events if kind == SURROGATE},
        rungs=rungs,
        seconds=tuple(seconds[generation] for generation in sorted(seconds)),
        data=problem.get("facts", {}),
        data_sha256=str(problem.get("data_sha256", "")),
        fingerprint=run.fingerprint,
        default=problem.get("default", {}),
    )


def check_same_goals(records: Sequence[RunRecord]) -> None:
    """Check that runs can be compared.

    Raises:
        ConfigError: their objectives differ.
    """
    goals = [[(o.metric, o.direction) for o in record.objectives] for record in records]
    for record, own in zip(records, goals, strict=True):
        if own != goals[0]:
            listed = [", ".join(metric for metric, _ in goal) for goal in (goals[0], own)]
            raise ConfigError(
                f"runs to compare must have the same objectives; {records[0].shown} has {listed[0]}, and "
                f"{record.shown} has {listed[1]}."
            )


def hypervolume_by_generation(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    *,
    complete: int | None = None,
) -> list[float]:
    """Share of the box after each complete generation.

    Args:
        evaluations: of a run.
        objectives, constraints: that decide on the front and its box.
        complete: number of complete generations; None: a generation is complete if a later generation has begun.
    """
    shares: list[float] = []
    rows: list[Mapping[str, float]] = []
    last = max((evaluation.generation for evaluation in evaluations), default=1)
    for generation in range(1, last if complete is None else complete + 1):
        whole = [e for e in evaluations if e.generation == generation and not e.dropped]
        rows += [e.metrics for e in whole if e.metrics is not None]
        F, G = to_matrices(rows, objectives, constraints)
        feasible = np.flatnonzero((G <= 0).all(axis=1))
        rows = [rows[i] for i in feasible[non_dominated(F[feasible])]]
        shares.append(hypervolume_share(rows, objectives))
    return shares
