"""The search loop. A resumed search is a replay: it asks again, and the ledger answers until it ends.

The algorithm is deterministic given the seed, so the replay asks for the very genomes of the ledger, in the same order;
if it does not, the run is refused. Only what was told so far is known to the algorithm: a replay never sees its future.

Where the problem has rungs, a generation is trained to each of them, compared, and the worst are dropped: they are
never told, and never enter the archive. What was decided at a rung is in the ledger together with the rows of those
that were dropped, so a replay does not decide again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import ParetoArchive
from evorec.config import SearchConfig
from evorec.errors import Interrupted, RunError, SearchError
from evorec.objectives import FloatArray, to_matrices, without_clock
from evorec.problem import Outcome, Problem, Spec
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Evaluation
from evorec.search.choice import algorithm_for
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, SerialExecutor
from evorec.search.rungs import survivors

N_LEAST_INFEASIBLE = 5
"""Shown when no candidate is feasible: enough to see which constraint is out of reach."""
HALVING = "halving"
"""Kind of the event that a comparison at a rung leaves in the ledger."""


@final
@dataclass(frozen=True)
class Progress:
    """How far a search is, after every evaluated stack and every generation.

    Attributes:
        generation: the current one, from 1.
        n_generations: how many there will be, unless the space is exhausted.
        n_evaluated: evaluations so far, failed, dropped and replayed ones included.
        n_replayed: of these, answered by the ledger of an earlier start.
        n_planned: evaluations when no generation falls short.
        n_failed: evaluations that failed.
        n_members: members of the archive after the last complete generation.
        hypervolume_share: of the box, in [0, 1], after the last complete generation.
        n_dropped: evaluations that were dropped at a rung.
        rung: steps of the rung that the generation is being trained to; None on the way to the end.
    """

    generation: int
    n_generations: int
    n_evaluated: int
    n_replayed: int
    n_planned: int
    n_failed: int
    n_members: int
    hypervolume_share: float
    n_dropped: int = 0
    rung: int | None = None


@final
@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        archive: members in the order of asking: feasible, and no other feasible evaluation dominates them.
        least_infeasible: when the archive is empty, the evaluations closest to feasible, best first; else empty.
        hypervolume: share of the box after each generation, in [0, 1].
        n_evaluated: evaluations, failed and dropped ones included.
        n_infeasible: successful evaluations that violate a constraint; none of them was dropped.
        failures: number of failed evaluations by cause, most frequent first.
        dropped: number of evaluations dropped at a rung, by its steps, rising.
        exhausted: whether the search ended early because the space holds no further genome.
        reason: why the search ended, in words.
    """

    archive: tuple[Evaluation, ...]
    least_infeasible: tuple[Evaluation, ...]
    hypervolume: tuple[float, ...]
    n_evaluated: int
    n_infeasible: int
    failures: Mapping[str, int]
    dropped: Mapping[int, int]
    exhausted: bool
    reason: str

    @property
    def n_failed(self) -> int:
        """Number of failed evaluations."""
        return sum(self.failures.values())

    @property
    def n_dropped(self) -> int:
        """Number of evaluations dropped at a rung."""
        return sum(self.dropped.values())


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
    """A genome to be evaluated, its place in the order of asking, and how far its training has come.

    Attributes:
        measured: steps and metrics of every rung that it went on from, plain JSON.
        state: where its training stands, None = at its start.
        seconds: wall time of its training so far.
    """

    seq: int
    key: str
    generation: int
    genome: tuple[float, ...]
    spec: Spec
    measured: tuple[Mapping[str, Any], ...] = ()
    state: Any = None
    seconds: float = 0.0

    def beyond(self, rung: int, metrics: Mapping[str, float], *, state: Any = None, seconds: float = 0.0) -> _Asked:
        """The same genome after a rung; without a state, as it is when an earlier start got there."""
        measured = (*self.measured, {"rung": rung, "metrics": metrics})
        return replace(self, measured=measured, state=state, seconds=self.seconds + seconds)

    def evaluation(self, outcome: Outcome, *, rung: int | None = None) -> Evaluation:
        return Evaluation(
            seq=self.seq,
            key=self.key,
            generation=self.generation,
            genome=self.genome,
            spec=self.spec,
            metrics=outcome.metrics,
            failure=outcome.failure,
            seconds=self.seconds + outcome.seconds,
            extra={**outcome.extra, "rungs": list(self.measured)} if self.measured else outcome.extra,
            rung=rung,
        )


@final
class _Search:
    """One call of `search`. `known` is all that the algorithm may know; `recorded` is what an earlier start left."""

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
        self._halvings = _halvings(run) if run else {}
        self._known: dict[str, Evaluation] = {}
        self._archive = ParetoArchive()
        self._hypervolume: list[float] = []
        self._n_failed = self._n_dropped = self._n_replayed = 0

    def run(self) -> SearchResult:
        if self._run:
            self._run.pin_problem(_description(self._problem))
        algorithm = algorithm_for(
            self._problem.space,
            self._config,
            self._problem.objectives,
            n_constraints=max(1, len(self._problem.constraints)),
            told=self._known,
        )
        for generation in range(1, self._config.generations + 1):
            if len(self._known) >= self._problem.space.cardinality():
                break
            X = algorithm.ask()
            if len(X) == 0:
                break
            F, G, told = self._generation(generation, X)
            algorithm.tell(F, G, told=told)
        result = self._result()
        if self._run:
            self._store_members(self._run)
            self._run.write_summary(_summary(result))
        return result

    def _generation(self, generation: int, X: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Evaluate one generation ``X (P, V)`` and take it into the archive.

        Returns:
            ``F (N, M)`` and ``G (N, C)`` of those that were not dropped, and which these are, bool ``(P,)``.
        """
        asked = [self._asked(len(self._known) + slot, generation, x) for slot, x in enumerate(X)]
        done = {one.seq: recorded for one in asked if (recorded := self._replayed(one))}
        n_replayed = len(done)
        self._evaluate(self._halved(asked, done), done)
        evaluations = [done[one.seq] for one in asked]
        if generation == 1 and all(evaluation.metrics is None for evaluation in evaluations):
            raise SearchError(self._nothing_works(evaluations))
        told = np.array([not evaluation.dropped for evaluation in evaluations])
        whole = [evaluation for evaluation in evaluations if not evaluation.dropped]
        F, G = self._matrices(whole)
        self._archive.add([one.key for one in whole], F, G, sequence=[one.seq for one in whole])
        self._known.update((evaluation.key, evaluation) for evaluation in evaluations)
        self._n_failed += _n_failed(evaluations)
        self._n_dropped += _n_dropped(evaluations)
        self._n_replayed += n_replayed
        members = [self._known[key].metrics or {} for key in self._archive.members]
        self._hypervolume.append(hypervolume_share(members, self._problem.objectives))
        if self._run and n_replayed < len(asked):
            self._store_members(self._run)
            self._run.log("generation", generation=generation, hypervolume_share=self._hypervolume[-1])
        self._report(generation, {})
        return F, G, told

    def _asked(self, seq: int, generation: int, x: FloatArray) -> _Asked:
        space = self._problem.space
        return _Asked(seq, space.key(x), generation, tuple(x.tolist()), space.decode(x))

    def _replayed(self, asked: _Asked) -> Evaluation | None:
        """The ledger's answer, if it has one."""
        recorded = self._recorded.get(asked.seq)
        if recorded is None:
            return None
        if recorded.key != asked.key:
            raise _foreign(
                f"evaluation {asked.seq} of generation {asked.generation} is {recorded.key} there, and the search asks "
                f"for {asked.key}"
            )
        return replace(recorded, spec=asked.spec)  # JSON made lists of its tuples

    def _halved(self, asked: Sequence[_Asked], done: dict[int, Evaluation]) -> list[_Asked]:
        """Train a generation to every rung; those that go on. The others are added to `done` and to the ledger."""
        generation, alive = asked[0].generation, list(asked)
        for rung, steps in enumerate(self._problem.rungs):
            if not alive:
                break
            kept = self._halvings.get((generation, steps))
            if kept is not None:
                alive = _replayed_rung(alive, steps, kept, done)
            elif any(one.seq in done for one in alive):
                raise _foreign(f"generation {generation} was not compared at step {steps} there")
            else:
                alive = self._rung(alive, rung, done)
        if any(one.seq in done and done[one.seq].rung is not None for one in alive):
            raise _foreign(f"generation {generation} was compared at other steps there")
        return alive

    def _rung(self, alive: Sequence[_Asked], rung: int, done: dict[int, Evaluation]) -> list[_Asked]:
        """Train to one rung, compare, and commit who is dropped and who failed before anything else happens."""
        problem, steps = self._problem, self._problem.rungs[rung]
        reached: dict[int, Outcome] = {}
        with closing(self._stacks(alive, rung=rung)) as stacks:
            for stack in stacks:
                reached.update(stack)
                self._report(alive[0].generation, done, rung=steps)
        outcomes = [reached[position] for position in range(len(alive))]
        rows = [outcome.metrics for outcome in outcomes]
        F, G = to_matrices(rows, problem.objectives, problem.constraints)
        stay: list[_Asked] = []
        gone: list[Evaluation] = []
        for one, outcome, survives in zip(alive, outcomes, survivors(F, G, problem.rung_keep), strict=True):
            if survives and outcome.metrics is not None:
                metrics = without_clock(outcome.metrics)
                stay.append(one.beyond(steps, metrics, state=outcome.state, seconds=outcome.seconds))
            else:
                gone.append(one.evaluation(outcome, rung=steps))
        kept = {one.key: one.measured[-1]["metrics"] for one in stay}
        if self._run:
            event = (alive[0].generation, HALVING, {"rung": steps, "kept": kept})
            self._run.ledger.add(gone, event=event)
        done.update((evaluation.seq, evaluation) for evaluation in gone)
        return stay

    def _evaluate(self, alive: Sequence[_Asked], done: dict[int, Evaluation]) -> None:
        """Train genomes to the end and add them to `done`; each stack is on disk before anything else happens."""
        asked = [one for one in alive if one.seq not in done]
        with closing(self._stacks(asked)) as stacks:
            for stack in stacks:
                evaluations = [asked[position].evaluation(outcome) for position, outcome in stack]
                if self._run:
                    self._stage(self._run, evaluations, [outcome for _, outcome in stack])
                    self._run.ledger.add(evaluations)
                done.update((evaluation.seq, evaluation) for evaluation in evaluations)
                self._report(asked[0].generation, done)

    def _stacks(
        self, asked: Sequence[_Asked], *, rung: int | None = None
    ) -> Generator[list[tuple[int, Outcome]], None, None]:
        """Outcomes stack by stack, as `evaluate` yields them; the wish to stop is heard before and after each."""
        if not asked:
            return
        self._check_stop(asked[0].generation)
        stacks = evaluate(
            self._problem,
            [one.spec for one in asked],
            seed=self._config.seed,
            executor=self._executor,
            chunk=self._chunk,
            rung=rung,
            states=[one.state for one in asked],
        )
        with closing(stacks):
            for stack in stacks:
                yield stack
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
            run.stage(self._known[key], self._retrained(self._known[key]).weights)
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

    def _report(self, generation: int, in_flight: Mapping[int, Evaluation], *, rung: int | None = None) -> None:
        if self._progress is None:
            return
        n_replayed = sum(seq in self._recorded for seq in in_flight)
        self._progress(
            Progress(
                generation=generation,
                n_generations=self._config.generations,
                n_evaluated=len(self._known) + len(in_flight),
                n_replayed=self._n_replayed + n_replayed,
                n_planned=self._config.generations * self._config.population,
                n_failed=self._n_failed + _n_failed(in_flight.values()),
                n_members=len(self._archive),
                hypervolume_share=self._hypervolume[-1] if self._hypervolume else 0.0,
                n_dropped=self._n_dropped + _n_dropped(in_flight.values()),
                rung=rung,
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
        evaluations = [evaluation for evaluation in self._known.values() if not evaluation.dropped]
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
            n_evaluated=len(self._known),
            n_infeasible=int(infeasible.sum()),
            failures=_failures(evaluations),
            dropped=_dropped(self._known.values()),
            exhausted=exhausted,
            reason=f"no new genome was found after generation {found}" if exhausted else f"{planned} generations done",
        )


def _n_failed(evaluations: Iterable[Evaluation]) -> int:
    return sum(evaluation.metrics is None for evaluation in evaluations)


def _n_dropped(evaluations: Iterable[Evaluation]) -> int:
    return sum(evaluation.dropped for evaluation in evaluations)


def _dropped(evaluations: Iterable[Evaluation]) -> dict[int, int]:
    return dict(sorted(Counter(e.rung for e in evaluations if e.dropped and e.rung is not None).items()))


def _halvings(run: RunDirectory) -> dict[tuple[int, int], Mapping[str, Any]]:
    """What was decided at rungs: metrics of those that went on, by key, by generation and steps of the rung."""
    events = [(generation, payload) for generation, kind, payload in run.ledger.events() if kind == HALVING]
    return {(generation, payload["rung"]): payload["kept"] for generation, payload in events}


def _replayed_rung(
    alive: Sequence[_Asked], steps: int, kept: Mapping[str, Mapping[str, float]], done: Mapping[int, Evaluation]
) -> list[_Asked]:
    """Those that went on from a rung in an earlier start; what has no row yet is trained again from its start."""
    stay = [one.beyond(steps, kept[one.key]) for one in alive if one.key in kept]
    gone = [done.get(one.seq) for one in alive if one.key not in kept]
    if len(stay) != len(kept) or any(row is None or row.rung != steps for row in gone):
        raise _foreign(f"generation {alive[0].generation} went on with others at step {steps} there")
    return stay


def _foreign(difference: str) -> RunError:
    return RunError(f"the ledger does not belong to this search: {difference}; start a new search")


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
        "dropped": {str(steps): count for steps, count in result.dropped.items()},
        "failures": dict(result.failures),
        "hypervolume_share": list(result.hypervolume),
        "members": [member.key for member in result.archive],
        "least_infeasible": [evaluation.key for evaluation in result.least_infeasible],
    }
