"""The search loop. A resumed search is a replay: it asks again, and the ledger answers until it ends.

The algorithm is deterministic given the seed, so the replay asks for the very genomes of the ledger, in the same order;
if it does not, the run is refused. Only what was told so far is known to the algorithm: a replay never sees its future.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import ParetoArchive
from evorec.config import SearchConfig
from evorec.errors import Interrupted, RunError, SearchError
from evorec.ledger import Evaluation
from evorec.objectives import FloatArray, to_matrices, without_clock
from evorec.problem import Outcome, Problem, Spec
from evorec.search.algorithms import AskTell, nsga2
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, SerialExecutor
from evorec.store import RunDirectory

N_LEAST_INFEASIBLE = 5
"""Shown when no candidate is feasible: enough to see which constraint is out of reach."""


@final
@dataclass(frozen=True)
class Progress:
    """How far a search is, after every evaluated stack and every generation.

    Attributes:
        generation: the current one, from 1.
        n_generations: how many there will be, unless the space is exhausted.
        n_evaluated: evaluations so far, failed and replayed ones included.
        n_replayed: of these, answered by the ledger of an earlier start.
        n_planned: evaluations when no generation falls short.
        n_failed: evaluations that failed.
        n_members: members of the archive after the last complete generation.
        hypervolume_share: of the box, in [0, 1], after the last complete generation.
    """

    generation: int
    n_generations: int
    n_evaluated: int
    n_replayed: int
    n_planned: int
    n_failed: int
    n_members: int
    hypervolume_share: float


@final
@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        archive: members in the order of asking: feasible, and no other feasible evaluation dominates them.
        least_infeasible: when the archive is empty, the evaluations closest to feasible, best first; else empty.
        hypervolume: share of the box after each generation, in [0, 1].
        n_evaluated: evaluations, failed ones included.
        n_infeasible: successful evaluations that violate a constraint.
        failures: number of failed evaluations by cause, most frequent first.
        exhausted: whether the search ended early because the space holds no further genome.
        reason: why the search ended, in words.
    """

    archive: tuple[Evaluation, ...]
    least_infeasible: tuple[Evaluation, ...]
    hypervolume: tuple[float, ...]
    n_evaluated: int
    n_infeasible: int
    failures: Mapping[str, int]
    exhausted: bool
    reason: str

    @property
    def n_failed(self) -> int:
        """Number of failed evaluations."""
        return sum(self.failures.values())


def search(
    problem: Problem,
    config: SearchConfig,
    *,
    run: RunDirectory | None = None,
    executor: Executor | None = None,
    chunk: int = 8,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> SearchResult:
    """Evolve genomes of `problem` and keep the best trade-offs.

    Args:
        problem: space, objectives, constraints and evaluation.
        config: algorithm, population, generations and seed.
        run: where everything is kept; a run that was begun goes on where it ended. None keeps no weights.
        executor: where stacks are evaluated; one after another by default.
        chunk: most genomes in one stack. Like the executor, it changes no result.
        progress: called after every stack and generation.
        stop: asked before and after every stack; True ends the search.
    Raises:
        SearchError: every candidate of the first generation failed.
        RunError: the ledger does not belong to this search, or a member could not be trained again to the same values.
        Interrupted: `stop` said so; the same call goes on.
    """
    return _Search(problem, config, run, executor or SerialExecutor(), chunk, progress, stop).run()


@final
@dataclass(frozen=True)
class _Asked:
    """A genome to be evaluated, with its place in the order of asking."""

    seq: int
    key: str
    generation: int
    genome: tuple[float, ...]
    spec: Spec

    def evaluation(self, outcome: Outcome) -> Evaluation:
        return Evaluation(
            seq=self.seq,
            key=self.key,
            generation=self.generation,
            genome=self.genome,
            spec=self.spec,
            metrics=outcome.metrics,
            failure=outcome.failure,
            seconds=outcome.seconds,
            extra=outcome.extra,
        )


@final
class _Search:
    """One call of `search`. `told` is all that the algorithm may know; `recorded` is what an earlier start left."""

    def __init__(
        self,
        problem: Problem,
        config: SearchConfig,
        run: RunDirectory | None,
        executor: Executor,
        chunk: int,
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._problem, self._config, self._run = problem, config, run
        self._executor, self._chunk = executor, chunk
        self._progress, self._stop = progress, stop
        self._recorded = {evaluation.seq: evaluation for evaluation in run.ledger.evaluations()} if run else {}
        self._told: dict[str, Evaluation] = {}
        self._archive = ParetoArchive()
        self._hypervolume: list[float] = []
        self._n_failed = self._n_replayed = 0

    def run(self) -> SearchResult:
        if self._run:
            self._run.pin_problem(_description(self._problem))
        algorithm = AskTell(
            nsga2(self._problem.space, self._config, n_objectives=len(self._problem.objectives), told=self._told),
            self._problem.space,
            n_objectives=len(self._problem.objectives),
            n_constraints=max(1, len(self._problem.constraints)),
        )
        for generation in range(1, self._config.generations + 1):
            if len(self._told) >= self._problem.space.cardinality():
                break
            X = algorithm.ask()
            if len(X) == 0:
                break
            algorithm.tell(*self._generation(generation, X))
        result = self._result()
        if self._run:
            self._store_members(self._run)
            self._run.write_summary(_summary(result))
        return result

    def _generation(self, generation: int, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Evaluate one generation ``X (P, V)`` and take it into the archive; its ``F (P, M)`` and ``G (P, C)``."""
        asked = [self._asked(len(self._told) + slot, generation, x) for slot, x in enumerate(X)]
        done = {one.seq: recorded for one in asked if (recorded := self._replayed(one))}
        n_replayed = len(done)
        if n_replayed < len(asked):
            self._evaluate([one for one in asked if one.seq not in done], done)
        evaluations = [done[one.seq] for one in asked]
        if generation == 1 and all(evaluation.metrics is None for evaluation in evaluations):
            raise SearchError(self._nothing_works(evaluations))
        F, G = self._matrices(evaluations)
        self._archive.add([one.key for one in asked], F, G, sequence=[one.seq for one in asked])
        self._told.update((evaluation.key, evaluation) for evaluation in evaluations)
        self._n_failed += _n_failed(evaluations)
        self._n_replayed += n_replayed
        members = [self._told[key].metrics or {} for key in self._archive.members]
        self._hypervolume.append(hypervolume_share(members, self._problem.objectives))
        if self._run and n_replayed < len(asked):
            self._store_members(self._run)
            self._run.log("generation", generation=generation, hypervolume_share=self._hypervolume[-1])
        self._report(generation, {})
        return F, G

    def _asked(self, seq: int, generation: int, x: FloatArray) -> _Asked:
        space = self._problem.space
        return _Asked(seq, space.key(x), generation, tuple(x.tolist()), space.decode(x))

    def _replayed(self, asked: _Asked) -> Evaluation | None:
        """The ledger's answer, if it has one."""
        recorded = self._recorded.get(asked.seq)
        if recorded is None:
            return None
        if recorded.key != asked.key:
            raise RunError(
                f"the ledger does not belong to this search: evaluation {asked.seq} of generation {asked.generation} "
                f"is {recorded.key} there, and the search asks for {asked.key}; start a new search"
            )
        return replace(recorded, spec=asked.spec)  # JSON made lists of its tuples

    def _evaluate(self, asked: Sequence[_Asked], done: dict[int, Evaluation]) -> None:
        """Evaluate genomes and add them to `done`; each stack is on disk before anything else happens."""
        self._check_stop(asked[0].generation)
        specs = [one.spec for one in asked]
        stacks = evaluate(self._problem, specs, seed=self._config.seed, executor=self._executor, chunk=self._chunk)
        with closing(stacks):
            for stack in stacks:
                evaluations = [asked[position].evaluation(outcome) for position, outcome in stack]
                if self._run:
                    self._stage(self._run, evaluations, [outcome for _, outcome in stack])
                    self._run.ledger.add(evaluations)
                done.update((evaluation.seq, evaluation) for evaluation in evaluations)
                self._report(asked[0].generation, done)
                self._check_stop(asked[0].generation)

    def _stage(self, run: RunDirectory, evaluations: Sequence[Evaluation], outcomes: Sequence[Outcome]) -> None:
        """Keep the files of those that may become members: feasible, and not dominated by the archive so far."""
        F, G = self._matrices(evaluations)
        for evaluation, outcome, f, g in zip(evaluations, outcomes, F, G, strict=True):
            if (g <= 0).all() and not any((member <= f).all() for member in self._archive.F):
                run.stage(evaluation, outcome.weights)

    def _store_members(self, run: RunDirectory) -> None:
        """Bring the archive on disk up to date; a member whose files were lost is trained again."""
        for key in run.without_files(self._archive.members):
            run.stage(self._told[key], self._retrained(self._told[key]).weights)
        run.set_members(self._archive.members)

    def _retrained(self, member: Evaluation) -> Outcome:
        [[(_, outcome)]] = evaluate(
            self._problem, [member.spec], seed=self._config.seed, executor=self._executor, chunk=self._chunk
        )
        old, new = _timeless(member.metrics), _timeless(outcome.metrics)
        if old != new:
            names = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
            differing = [f"{name}: ledger {old.get(name)}, now {new.get(name, outcome.failure)}" for name in names]
            raise RunError(
                f"the files of member {member.key} were lost, and training it again gave other values, so the archive "
                f"would mix two machines: {'; '.join(differing)}; start a new search"
            )
        return outcome

    def _matrices(self, evaluations: Sequence[Evaluation]) -> tuple[FloatArray, FloatArray]:
        rows = [evaluation.metrics for evaluation in evaluations]
        return to_matrices(rows, self._problem.objectives, self._problem.constraints)

    def _check_stop(self, generation: int) -> None:
        if self._stop is None or not self._stop():
            return
        where = ""
        if self._run:
            self._run.ledger.record_event(generation, "interrupted", {})
            where = f"; `evorec resume {self._run.path}` goes on"
        raise Interrupted(f"interrupted in generation {generation} of {self._config.generations}{where}")

    def _report(self, generation: int, in_flight: Mapping[int, Evaluation]) -> None:
        if self._progress is None:
            return
        n_replayed = sum(seq in self._recorded for seq in in_flight)
        self._progress(
            Progress(
                generation=generation,
                n_generations=self._config.generations,
                n_evaluated=len(self._told) + len(in_flight),
                n_replayed=self._n_replayed + n_replayed,
                n_planned=self._config.generations * self._config.population,
                n_failed=self._n_failed + _n_failed(in_flight.values()),
                n_members=len(self._archive),
                hypervolume_share=self._hypervolume[-1] if self._hypervolume else 0.0,
            )
        )

    def _nothing_works(self, evaluations: Sequence[Evaluation]) -> str:
        causes = "; ".join(f"{count} x {cause}" for cause, count in _failures(evaluations).items())
        again = f", delete {self._run.path}" if self._run else ""
        return (
            f"all {len(evaluations)} candidates of the first generation failed: {causes}. "
            f"Remove the cause{again} and search again."
        )

    def _result(self) -> SearchResult:
        evaluations = list(self._told.values())
        _, G = self._matrices(evaluations)
        infeasible = np.array([evaluation.metrics is not None for evaluation in evaluations]) & (G > 0).any(axis=1)
        nearest = np.argsort(np.where(infeasible, np.maximum(G, 0).sum(axis=1), np.inf), kind="stable")
        n_least = 0 if len(self._archive) else min(N_LEAST_INFEASIBLE, int(infeasible.sum()))
        planned, found = self._config.generations, len(self._hypervolume)
        exhausted = found < planned
        return SearchResult(
            archive=tuple(evaluation for evaluation in evaluations if evaluation.key in self._archive),
            least_infeasible=tuple(evaluations[i] for i in nearest[:n_least]),
            hypervolume=tuple(self._hypervolume),
            n_evaluated=len(evaluations),
            n_infeasible=int(infeasible.sum()),
            failures=_failures(evaluations),
            exhausted=exhausted,
            reason=f"no new genome was found after generation {found}" if exhausted else f"{planned} generations done",
        )


def _n_failed(evaluations: Iterable[Evaluation]) -> int:
    return sum(evaluation.metrics is None for evaluation in evaluations)


def _failures(evaluations: Sequence[Evaluation]) -> dict[str, int]:
    return dict(Counter(e.failure for e in evaluations if e.failure is not None).most_common())


def _timeless(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics that a second training must reproduce: all but those read from a clock."""
    return without_clock(metrics or {})


def _description(problem: Problem) -> dict[str, Any]:
    return {
        "name": problem.name,
        "objectives": [asdict(objective) for objective in problem.objectives],
        "constraints": [asdict(constraint) for constraint in problem.constraints],
        "baselines": {name: dict(metrics) for name, metrics in problem.baselines().items()},
    }


def _summary(result: SearchResult) -> dict[str, Any]:
    return {
        "reason": result.reason,
        "exhausted": result.exhausted,
        "n_evaluated": result.n_evaluated,
        "n_failed": result.n_failed,
        "n_infeasible": result.n_infeasible,
        "failures": dict(result.failures),
        "hypervolume_share": list(result.hypervolume),
        "members": [member.key for member in result.archive],
        "least_infeasible": [evaluation.key for evaluation in result.least_infeasible],
    }
