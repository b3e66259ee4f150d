"""The search loop. A resumed search is a replay: it asks again, and the ledger answers until it ends.

The algorithm is deterministic given the seed, so the replay asks for the genomes of the ledger in the same order; if it
does not, the run is refused. The algorithm only knows evaluations of earlier generations: a replay never sees its own
future.

If the problem inherits, the training of a genome begins with the weights of the nearest genome of earlier generations,
which its row names. When the search ends, members of the archive that inherited are trained again from fresh weights,
and those are the figures and weights of the run.

If the problem has rungs, a generation is trained to each of them, compared, and the worst members are dropped: the
algorithm never learns their values, and they never enter the archive. The decision at a rung is in the ledger together
with the rows of the dropped members, so a replay does not decide again.

A search in steady state (``search.mode``) proposes a stack whenever a worker is free, and the algorithm learns each
stack as it ends. When that is depends on clocks, so the ledger keeps the order, in the same transaction as the rows: a
replay asks and tells in that order. A "generation" of such a search is as many evaluations as the population.

Before genomes are trained in this process, the ledger names them: a candidate that ends the process, or hangs in it, is
found by the next start, which trains in worker processes (`evorec.search.evaluator`).

The limits of a search (generations, evaluations, minutes) only end it between two generations, so a search that is
extended is the search that had the larger limit from the start. The extension is recorded before its first evaluation.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import ParetoArchive
from evorec.config import SearchConfig
from evorec.config.search import LIMITS
from evorec.energy import total
from evorec.errors import ConfigError, Interruption, RunError, SearchError, command
from evorec.objectives import FloatArray, Objective, to_matrices, without_clock
from evorec.problem import Outcome, Problem, Spec, Weights
from evorec.run.atomic import weight_bytes
from evorec.run.directory import RunDirectory
from evorec.run.ledger import (
    ACKNOWLEDGED,
    ENERGY,
    FROM_SCRATCH,
    HALVING,
    IN_FLIGHT,
    INTERRUPTED,
    SPENT,
    SURROGATE,
    Evaluation,
    Event,
)
from evorec.search.algorithm import (
    ALGORITHMS,
    AlgorithmContext,
    AlgorithmLike,
    AskTell,
    FirstRows,
    Options,
    PymooAlgorithm,
    check_algorithm,
    create_algorithm,
    has_surrogate,
)
from evorec.search.evaluator import Candidate, Stack, evaluate, evaluate_stacks, stacked
from evorec.search.executors import Executor, SerialExecutor
from evorec.search.memory.library import gathered, remember
from evorec.search.memory.prior import chosen_rows, prior_of
from evorec.search.memory.table import Memory
from evorec.search.rungs import survivors
from evorec.search.start import start_genomes
from evorec.search.surrogate.model import gene_features
from evorec.search.surrogate.search import SurrogateSearch

if TYPE_CHECKING:
    import polars as pl

TRAINING_FLOPS = "training_flops"
LEAST_AT_ONCE = 4
"""Genomes of a steady-state search that are proposed for a free worker; a surrogate chooses three of them."""
STALE_PROPOSALS = 10
"""Proposals in a row without a new genome that end a steady-state search in which nothing runs."""
N_LEAST_INFEASIBLE = 5
"""Shown when no candidate is feasible: enough to see which constraint is out of reach."""


@final
@dataclass(frozen=True)
class Progress:
    """State of a search before and after every evaluated stack, and after every generation.

    Attributes:
        generation: the current generation, from 1.
        n_generations: planned number, unless the space is exhausted.
        n_evaluated: evaluations so far; failed, dropped and replayed evaluations count.
        n_replayed: evaluations that were taken from the ledger of an earlier start.
        n_planned: evaluations when no generation falls short.
        n_failed: evaluations that failed.
        n_members: members of the archive after the last complete generation.
        hypervolume_share: share of the box, in [0, 1], after the last complete generation.
        n_dropped: evaluations that were dropped at a rung.
        rung: steps of the rung that the generation is being trained to; None = it is trained to the end.
        n_trained: members of the generation that this start has trained to the rung, or to the end.
        n_stage: members that it trains so far; 0 after a complete generation.
        busy_s: seconds in which the workers of this start trained; their own start is not part of it. 0 = unknown.
        best: best value of each objective on the front after the last complete generation, by name.
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
    n_trained: int = 0
    n_stage: int = 0
    busy_s: float = 0.0
    best: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        path: of the run directory; None for a search without one.
        objectives: of the problem.
        archive: members in the order of asking: feasible, and no other feasible evaluation dominates them. Members that
            inherited weights have their metrics from scratch here, and the others in `Evaluation.extra`.
        least_infeasible: when the archive is empty, the evaluations closest to feasible, best first; else empty.
        hypervolume: share of the box after each generation, in [0, 1]; with inherited weights, as the search saw it.
        n_evaluated: evaluations; failed and dropped evaluations count.
        n_infeasible: successful evaluations that violate a constraint and were not dropped.
        failures: number of failed evaluations by cause, most frequent first.
        dropped: number of evaluations dropped at a rung, by its steps, rising.
        exhausted: whether the search ended early because no new genome was found.
        reason: why the search ended, in words.
    """

    path: Path | None
    objectives: tuple[Objective, ...]
    archive: tuple[Evaluation, ...]
    least_infeasible: tuple[Evaluation, ...]
    hypervolume: tuple[float, ...]
    n_evaluated: int
    n_infeasible: int
    failures: Mapping[str, int]
    dropped: Mapping[int, int]
    exhausted: bool
    reason: str

    def __repr__(self) -> str:
        volume = self.hypervolume[-1] if self.hypervolume else 0.0
        where = "no run directory" if self.path is None else repr(str(self.path))
        return f"SearchResult({len(self.archive)} members, hypervolume {volume:.4f}, {where})"

    @property
    def members(self) -> tuple[Evaluation, ...]:
        """The archive."""
        return self.archive

    def front(self) -> pl.DataFrame:
        """The archive as a table, best value of the first objective first: ``member`` and a column per objective.

        Example:
            >>> run_search(problem, SearchConfig()).front().head(3)  # doctest: +SKIP
        """
        import polars as pl

        rows = [{o.name: (member.metrics or {})[o.metric] for o in self.objectives} for member in self.archive]
        schema = {"member": pl.String, **{o.name: pl.Float64 for o in self.objectives}}
        table = pl.DataFrame(
            [{"member": member.key, **row} for member, row in zip(self.archive, rows, strict=True)], schema=schema
        )
        first = self.objectives[0]
        return table.sort(first.name, "member", descending=[first.direction == "max", False])

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
    algorithm: AlgorithmLike | None = None,
    run: RunDirectory | None = None,
    executor: Executor | None = None,
    chunk: int = 8,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool | str] | None = None,
    memory: Memory | None = None,
    retry_failed: bool = False,
    time_left: Callable[[], float] | None = None,
) -> SearchResult:
    """Evolve genomes of `problem` and keep the best trade-offs.

    Args:
        problem: space, objectives, constraints and evaluation.
        config: algorithm, population, limits and seed. Larger limits than those of the run extend it.
        algorithm: instead of ``config.algorithm``: a registered name, an `evorec.search.algorithm.AskTell`, any
            algorithm of pymoo, or a function that builds an algorithm from an `AlgorithmContext`. Proposals of an
            object are evaluated as they are; a surrogate chooses for registered algorithms that say they `takes_any`
            row. An algorithm of pymoo keeps its own population size and proposes ``population * generations`` genomes
            in all; known genomes are not trained again. To resume a run, pass an equal, unused object.
        run: directory that keeps everything; a run that was begun is continued, and a run that is finished is extended
            if the limits allow it. None keeps no weights.
        executor: evaluates the stacks; serial by default.
        chunk: most genomes in a stack. Like the executor, it changes no result.
        progress: called before the first stack of a stage, after every stack and after every generation.
        stop: called before and after every stack; True, or the reason in words, ends the search.
        memory: rows of earlier searches, from which the surrogate starts; by default those that ``config.memory``
            names. The rows that a run uses are copied into its directory, and a run that is continued reads them there.
        retry_failed: whether failed genomes of the last generation of `run` are evaluated again. The search has not
            seen the values of that generation yet; genomes of earlier generations stay as it saw them. A first
            generation that failed as a whole is always evaluated again.
        time_left: seconds that the search may still take. A generation is not begun if less is left than the longest
            of this start took, and none but the first goes on when nothing is left: what it has trained stays in the
            ledger, and the search ends with the generation before. Like ``config.minutes`` it is read once per search.
    Raises:
        ConfigError: the algorithm is unknown or does not suit the problem or ``config.mode``, or a genome of
            ``config.start`` does not.
        SearchError: every candidate of the first generation failed.
        RunError: the ledger does not belong to this search, the run cannot be extended, or a member could not be
            trained again to the same values.
        Interruption: `stop` said so; the same call continues.
    Example:
        >>> from pymoo.algorithms.moo.sms import SMSEMOA
        >>> search(problem, SearchConfig(), algorithm=SMSEMOA(pop_size=24))  # doctest: +SKIP
    """
    found = _Search(
        problem, config, run, executor or SerialExecutor(), chunk, progress, stop, memory, retry_failed, time_left
    )
    return found.result_of(config.algorithm if algorithm is None else algorithm)


@final
@dataclass
class _Search:
    """One call of `search`, whose arguments are the first fields.

    Attributes:
        recorded: evaluations of an earlier start, by number.
        halvings: metrics of the members that passed a rung in an earlier start, by key, by generation and steps.
        generation: the current generation, from 1.
        evaluated: all evaluations that the algorithm knows, by key.
        proposed: evaluations of a steady-state search by key, whether they have ended or not.
        asked: how many genomes the algorithm was asked for since it was told the last stack, each time.
        states: state of the training, by number of the evaluation; only of the current generation.
        spent_s: seconds of earlier starts of this search, since its last extension.
        began: clock at the first new evaluation of this start.
        extends: whether the limits are other than those of the run; the ledger is told at the first new evaluation.
        busy_s: see `Progress`.
        parents: weights that genomes may inherit, by their hash, of a search without a run directory.
        start: name of this start.
        deaths: starts that died while they trained a genome, by key.
        stopped: whether `stop` has ended this start.
        best: see `Progress`.
        joules: energy by source of evaluations that are not in the ledger yet, by key.
        scratch: metrics from fresh weights of members that had inherited theirs, by key; None = that training failed.
        longest_s: seconds of the longest generation that this start has trained.
        before_s: seconds of the search before the current generation.
    """

    problem: Problem
    config: SearchConfig
    run: RunDirectory | None
    executor: Executor
    chunk: int
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool | str] | None
    memory: Memory | None
    retry_failed: bool
    time_left: Callable[[], float] | None
    recorded: dict[int, Evaluation] = field(default_factory=dict)
    halvings: dict[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)
    evaluated: dict[str, Evaluation] = field(default_factory=dict)
    proposed: dict[str, Evaluation] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    archive: ParetoArchive = field(default_factory=ParetoArchive)
    hypervolume: list[float] = field(default_factory=list)
    generation: int = 0
    n_generations: int = 0
    surrogate: SurrogateSearch | None = None
    n_planned: int = 0
    extends: bool = False
    busy_s: float = 0.0
    spent_s: float = 0.0
    began: float | None = None
    parents: dict[str, Weights] = field(default_factory=dict)
    start: str = field(default_factory=lambda: uuid.uuid4().hex)
    deaths: Mapping[str, int] = field(default_factory=dict)
    stopped: bool = False
    scratch: dict[str, Mapping[str, float] | None] = field(default_factory=dict)
    joules: dict[str, dict[str, float]] = field(default_factory=dict)
    longest_s: float = 0.0
    before_s: float = 0.0
    best: dict[str, float] = field(default_factory=dict)

    def result_of(self, algorithm: AlgorithmLike) -> SearchResult:
        """Run the search."""
        problem, run = self.problem, self.run
        config = self.config
        if run and not config.population:  # fixed at the first start
            config = config.model_copy(update={"population": run.config.search.population})
        config = self.config = config.sized(problem.device_type)
        if run:
            self.recorded = {evaluation.seq: evaluation for evaluation in self._remembered(run)}
            self.scratch = run.from_scratch()
            for generation, kind, payload in run.ledger.events():
                if kind == HALVING:
                    self.halvings[generation, payload["rung"]] = payload["kept"]
            self.deaths, isolate = _deaths(run.ledger.events(), {found.key for found in self.recorded.values()})
            if isolate:
                self.executor = self.executor.isolating(partial(problem.evaluate, [], seed=config.seed))
            self._prepare_extension(run, algorithm)
        is_steady = config.mode == "steady"
        options = check_algorithm(algorithm, config.options) if isinstance(algorithm, str) else Options()
        context = AlgorithmContext(
            problem.space,
            tuple(problem.objectives),
            tuple(problem.constraints),
            config,
            options,
            self.proposed if is_steady else self.evaluated,
            problem.known_metrics,
            tuple(run.read_problem().get("start", ()) if run and run.has_problem else problem.first_specs()),
        )
        chosen = create_algorithm(algorithm, context)
        if is_steady:
            self._check_steady(algorithm, chosen)
            chosen = first_rows = FirstRows(chosen)
        rows = Memory.empty()
        if has_surrogate(algorithm, config):
            rows = self._memory_rows(context)
            chosen = self.surrogate = SurrogateSearch(chosen, context, prior_of(rows, context), asks_ahead=is_steady)
        if run:
            is_new = not run.has_problem
            run.pin_problem(
                {
                    "name": problem.name,
                    "data_sha256": problem.data_sha256,
                    "facts": dict(problem.facts),
                    "default": problem.space.decode(problem.space.default()),
                    "memory": {"rows": len(rows), "worlds": rows.worlds().height} if len(rows) else None,
                    "objectives": [asdict(objective) for objective in problem.objectives],
                    "constraints": [asdict(constraint) for constraint in problem.constraints],
                    "baselines": {name: dict(own) for name, own in problem.baselines().items()} if is_new else {},
                    **(problem.baseline_facts() if is_new else {}),
                    **({"start": [dict(spec) for spec in context.first]} if context.first else {}),
                }
            )
        # pymoo's own algorithms choose their batches, MOEA/D single genomes: they get the same number of proposals.
        counts_proposals = isinstance(chosen, PymooAlgorithm) and not chosen.fills
        ended = run.ended if run and not self.extends else None
        self.n_generations, left = ended or config.generations, config.population * config.generations
        self.n_planned = min(self.n_generations * config.population, config.evaluations or left)
        reason, exhausted = "", False
        self.spent_s = run.spent_s if run and not self.extends else 0.0
        self.before_s = self.spent_s
        if is_steady:
            reason, exhausted = self._steady(chosen, first_rows)
        while (
            not is_steady
            and (left > 0 if counts_proposals else self.generation < config.generations)
            and self.generation != ended
        ):
            is_replayed = self.generation > 0 and len(self.evaluated) >= len(self.recorded)
            if is_replayed and 0 < config.minutes * 60 <= self._seconds():
                reason = f"{self.generation} generations done in {config.minutes:g} minutes"
                if run:
                    run.end(generation=self.generation, minutes=config.minutes)
                break
            if is_replayed and self.time_left is not None and self.time_left() < self.longest_s:
                reason = self._out_of_time()
                break
            X = chosen.ask() if len(self.evaluated) < problem.space.cardinality() else ()
            if exhausted := len(X) == 0:
                reason = f"no new genome was found after generation {self.generation}"
                break
            X = problem.space.snap(np.asarray(X))
            if self.generation == 0:
                self._check_first(X, start_genomes(problem.space, config.start))
            if limit := self._limit_before(X):
                reason = f"{self.generation} generations done, {limit}"
                break
            self.generation += 1
            left -= len(X)
            if counts_proposals:
                self.n_generations = self.generation + math.ceil(max(left, 0) / len(X))
            try:
                told = self._generation(X)
            except _OutOfTimeError:
                self.generation -= 1
                reason = self._out_of_time()
                break
            chosen.tell(*told)
        if run:
            self._record_extension(run)
            self._store_members(run)
        self._train_from_scratch()
        result = self._result(reason or f"{self.generation} generations done", exhausted)
        if run:
            if config.memory == "auto":
                remember(run)
            facts = ("reason", "exhausted", "n_evaluated", "n_failed", "n_infeasible")
            run.write_summary(
                {
                    **{name: getattr(result, name) for name in facts},
                    "dropped": {str(steps): count for steps, count in result.dropped.items()},
                    "failures": dict(result.failures),
                    "hypervolume_share": list(result.hypervolume),
                    "members": [member.key for member in result.archive],
                    "least_infeasible": [evaluation.key for evaluation in result.least_infeasible],
                }
            )
            run.remove_parents()
        return result

    def _out_of_time(self) -> str:
        """End the search after its last complete generation; why, in words."""
        if self.run:
            self.run.end(generation=self.generation, minutes=self._seconds() / 60)
        return f"{self.generation} generations done in the time that was left"

    def _remembered(self, run: RunDirectory) -> list[Evaluation]:
        """The rows of the ledger, from which failures that are to be evaluated again are deleted first."""
        rows = run.ledger.evaluations()
        is_steady = self.config.mode == "steady"  # then the algorithm has learned from every row
        last = [row for row in rows if is_steady or row.generation == rows[-1].generation]
        failed = [row for row in last if row.metrics is None]
        whole = len(failed) == len(last)
        if is_steady and failed and not whole:
            if self.retry_failed:
                raise RunError(
                    f'run {run.path} cannot evaluate failures again: with search.mode = "steady" the search has '
                    "learned from them. Search into another folder"
                )
            return rows
        if self.retry_failed and not whole:
            failed = [row for row in failed if row.rung is None]  # the others were compared at their rung
        if failed and (self.retry_failed or (whole and (is_steady or rows[-1].generation == 1))):
            run.ledger.forget(failed, whole=whole)
            rows = [row for row in rows if row not in failed]
        return rows

    def _check_first(self, X: FloatArray, start: FloatArray) -> None:
        """Check that the first generation ``X (P, V)`` has the genomes ``start (N, V)``, or the first of them.

        Raises:
            ConfigError: the algorithm does not read them.
        """
        space = self.problem.space
        asked = {space.key(x) for x in X}
        left_out = sum(space.key(x) not in asked for x in start[: len(X)])
        if left_out:
            raise ConfigError(
                f"search.start: the algorithm leaves {left_out} of its genomes out of the first generation. Use a "
                "registered algorithm, or take the rows of AlgorithmContext.first_generation() in your own."
            )

    def _memory_rows(self, context: AlgorithmContext) -> Memory:
        """The rows of earlier searches that the surrogate starts from; those of a run lie in its directory."""
        problem, run = self.problem, self.run
        if run is not None and (stored := run.read_memory()) is not None:
            return Memory.from_bytes(stored, source=f"of run {run.path}")
        if run is not None and self.recorded:
            return Memory.empty()
        memory = self.memory
        if memory is None:
            memory = gathered(self.config.memory, None if run is None else run.path.parent)
        rows = chosen_rows(memory, problem.space, context.objectives, problem.facts)
        if run is not None and len(rows):
            run.write_memory(rows.to_bytes())
        return rows

    def _limit_before(self, X: FloatArray) -> str:
        """The limit that keeps a generation ``(P, V)`` from beginning, in words; empty if there is none."""
        problem, config = self.problem, self.config
        new = {key: x for x in X if (key := problem.space.key(x)) not in self.evaluated}
        if 0 < config.evaluations < len(self.evaluated) + len(new):
            return f"within {config.evaluations} evaluations"
        if config.flops:
            spent = [(e.metrics or {}).get(TRAINING_FLOPS, 0.0) for e in self.evaluated.values()]
            planned = [problem.known_metrics(problem.space.decode(x)).get(TRAINING_FLOPS, 0.0) for x in new.values()]
            if sum(spent) + sum(planned) > config.flops:
                return f"within {config.flops:.3g} FLOPs of training"
        expected = self.surrogate.notes.get("hypervolume") if self.surrogate and self.hypervolume else None
        if expected and len(self.evaluated) >= len(self.recorded):
            gain = expected[-1] / max(self.hypervolume[-1], 1e-12) - 1
            if gain < config.gain:
                return (
                    f"another would hardly gain {100 * config.gain:g} % (at most {100 * max(gain, 0):.2g} % expected)"
                )
        return ""

    def _prepare_extension(self, run: RunDirectory, algorithm: AlgorithmLike) -> None:
        """Compare the limits with those of the run.

        Raises:
            RunError: the run has passed the limits already, or cannot be extended.
        """
        own, other = run.config.search, self.config
        differ = any(getattr(other, name) != getattr(own, name) for name in LIMITS)
        self.extends = differ or (other.minutes > 0 and run.ended is not None)
        if not self.extends:
            return
        run.check_extensible()
        if self.problem.inherits and run.finished:
            raise RunError(
                f"run {run.path} cannot be extended: its genomes inherit weights (training.inherit), and those were "
                "removed when it ended. Search into another folder with larger limits"
            )
        if isinstance(algorithm, str) and ALGORITHMS[algorithm].reads_budget and self.recorded:
            raise RunError(
                f"run {run.path} cannot be extended: {algorithm} reads the number of generations in advance, and with "
                "another number it would have proposed other genomes. Search into another folder"
            )
        most = min(other.generations * other.population, other.evaluations or math.inf)
        if most < len(self.recorded):
            raise RunError(
                f"run {run.path} has {len(self.recorded)} evaluations already, and the limits allow {most}; raise "
                "search.generations or search.evaluations, or search into another folder"
            )

    def _seconds(self) -> float:
        """Seconds of the search in all of its starts, without replays."""
        return self.spent_s + (0.0 if self.began is None else time.monotonic() - self.began)

    def _record_extension(self, run: RunDirectory) -> None:
        if self.extends:
            run.extend(self.config, generation=self.generation)
            self.extends = False

    def _generation(self, X: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Evaluate the new genomes of a generation ``X (P, V)`` and add them to the archive.

        Returns:
            Rows of ``X`` that were not dropped at a rung, their ``F (N, M)`` and ``G (N, C)``.
        """
        space, finished = self.problem.space, dict[int, Evaluation]()
        keys = [space.key(x) for x in X]
        new = {key: x for key, x in zip(keys, X, strict=True) if key not in self.evaluated}
        parents = self._parents_of(list(new.values()))
        candidates = [
            Evaluation(seq, key, self.generation, tuple(x.tolist()), space.decode(x), None, None, extra=extra)
            for seq, ((key, x), extra) in enumerate(zip(new.items(), parents, strict=True), start=len(self.evaluated))
        ]
        for candidate in candidates:
            if (recorded := self.recorded.get(candidate.seq)) is not None:
                if recorded.key != candidate.key:
                    raise _foreign(
                        f"evaluation {candidate.seq} of generation {self.generation} is {recorded.key} there, and the "
                        f"search asks for {candidate.key}"
                        + ", perhaps because the algorithm reads the number of generations in advance"
                        * self.extends
                    )
                if recorded.extra.get("parent") != candidate.extra.get("parent"):
                    raise _foreign(f"evaluation {candidate.key} inherits the weights of another genome there")
                finished[candidate.seq] = replace(recorded, spec=candidate.spec)  # JSON made lists of its tuples
        n_replayed = len(finished)
        if n_replayed < len(candidates):
            if self.began is None:
                self.began = time.monotonic()
            if self.run:
                self._record_extension(self.run)
        self.states = {}
        self._evaluate(self._halved(candidates, finished), finished)
        evaluations = [finished[candidate.seq] for candidate in candidates]
        self._check_some_succeeded(evaluations)
        whole = [evaluation for evaluation in evaluations if not evaluation.dropped]
        self.archive.add([e.key for e in whole], *self._matrices(whole), sequence=[e.seq for e in whole])
        self.evaluated.update((evaluation.key, evaluation) for evaluation in evaluations)
        self._measure_archive()
        if self.run and n_replayed < len(candidates):
            self._record_generation(self.run)
        self._report({})
        kept = [i for i, key in enumerate(keys) if not self.evaluated[key].dropped]
        F, G = self._matrices([self.evaluated[keys[i]] for i in kept])
        done = [e for e in whole if e.metrics is not None]
        if self.surrogate and self.problem.rungs and done:
            genomes = np.array([e.genome for e in done])
            self.surrogate.tell_rungs(genomes, self._at_rungs(done), self._matrices(done)[0])
        return X[kept], F, G

    def _check_some_succeeded(self, evaluations: Sequence[Evaluation]) -> None:
        if self.generation > 1 or any(evaluation.metrics is not None for evaluation in evaluations):
            return
        causes = "; ".join(f"{count} x {cause}" for cause, count in _failures(evaluations).items())
        raise SearchError(
            f"all {len(evaluations)} candidates of the first generation failed: {causes}. "
            "Remove the cause and repeat the command."
        )

    def _measure_archive(self) -> None:
        """Hypervolume and best values after a generation."""
        members = [self.evaluated[key].metrics or {} for key in self.archive.members]
        self.hypervolume.append(hypervolume_share(members, self.problem.objectives))
        for objective in self.problem.objectives if members else ():
            values = [metrics[objective.metric] for metrics in members]
            self.best[objective.name] = max(values) if objective.direction == "max" else min(values)

    def _record_generation(self, run: RunDirectory) -> None:
        """Bring the files of a run up to date after a generation."""
        self._store_members(run)
        seconds = self._seconds()
        self.longest_s = max(self.longest_s, seconds - self.before_s)
        self.before_s = seconds
        run.ledger.record_event(self.generation, SPENT, {"seconds": seconds})
        facts = self.surrogate.notes if self.surrogate else {}
        if facts:
            run.ledger.record_event(self.generation, SURROGATE, facts)
        run.log("generation", generation=self.generation, hypervolume_share=self.hypervolume[-1], **facts)

    def _check_steady(self, algorithm: AlgorithmLike, chosen: AskTell) -> None:
        """Check that problem and algorithm suit ``search.mode = "steady"``.

        Raises:
            ConfigError: they do not.
        """
        suits = not isinstance(chosen, PymooAlgorithm) or chosen.fills
        name = algorithm if isinstance(algorithm, str) else "this algorithm of pymoo"
        if isinstance(algorithm, str):
            suits = ALGORITHMS[algorithm].asks_ahead
        if not suits:
            known = ", ".join(other for other in ALGORITHMS if ALGORITHMS[other].asks_ahead)
            raise ConfigError(
                f'search.mode = "steady" needs an algorithm that proposes before it was told everything, and {name} '
                f'does not. Use one of {known}, your own ask and tell, or mode = "generations".'
            )
        if self.problem.rungs:
            raise ConfigError(
                'search.mode = "steady" trains every genome to its end, and the problem compares generations at steps '
                f"{list(self.problem.rungs)}. Set training.rungs = []."
            )

    def _steady(self, chosen: AskTell, first_rows: FirstRows) -> tuple[str, bool]:
        """Keep all workers busy, and tell the algorithm of each stack that ends.

        Args:
            chosen: the algorithm.
            first_rows: how many genomes it proposes.
        Returns:
            Why the search ended, and whether no new genome was found.
        """
        problem, config, run, space = self.problem, self.config, self.run, self.problem.space
        waiting: deque[list[Evaluation]] = deque()  # stacks that have not started
        running: dict[str, Evaluation] = {}
        limit, exhausted, n_stale = "", False, 0
        is_live, has_new, longest_s = False, False, 0.0

        def propose(n: int) -> None:
            """Ask for genomes, which may be none; at a limit they are left out, and `limit` names it."""
            nonlocal limit, exhausted, n_stale
            first_rows.n = n
            X = space.snap(np.asarray(chosen.ask())) if len(self.proposed) < space.cardinality() else np.empty((0, 0))
            if not self.proposed:
                self._check_first(X, start_genomes(space, config.start))
            rows = {space.key(x): x for x in X}
            new = {key: x for key, x in rows.items() if key not in self.proposed}
            if is_live and (limit := self._limit_in_steady(new.values())):
                return
            self.asked.append(n)
            if again := [key for key in rows if key in self.evaluated]:
                chosen.tell(np.array([rows[key] for key in again]), *self._matrices([self.evaluated[k] for k in again]))
            n_stale = 0 if new else n_stale + 1
            exhausted = len(X) == 0 or n_stale >= STALE_PROPOSALS
            parents, first = self._parents_of(list(new.values())), len(self.proposed)
            candidates = [
                Evaluation(
                    seq, key, 1 + seq // config.population, tuple(x.tolist()), space.decode(x), None, None, extra=extra
                )
                for seq, ((key, x), extra) in enumerate(zip(new.items(), parents, strict=True), start=first)
            ]
            self.proposed.update((candidate.key, candidate) for candidate in candidates)
            stacks = stacked(
                problem,
                [Candidate(candidate.spec) for candidate in candidates],
                chunk=self.chunk,
                workers=1 if first else self.executor.workers,
            )
            waiting.extend([candidates[index] for index in stack] for stack in stacks)

        def end_generation() -> None:
            self._check_some_succeeded(list(self.evaluated.values()))
            self._measure_archive()
            if run and has_new:
                self._record_generation(run)
            self._report({})
            self.generation += 1

        def acknowledge(evaluations: Sequence[Evaluation]) -> None:
            """Tell the algorithm of evaluations."""
            F, G = self._matrices(evaluations)
            self.archive.add([e.key for e in evaluations], F, G, sequence=[e.seq for e in evaluations])
            self.evaluated.update((evaluation.key, evaluation) for evaluation in evaluations)
            chosen.tell(np.array([evaluation.genome for evaluation in evaluations]), F, G)
            self.asked.clear()
            if len(self.evaluated) >= config.population * self.generation:
                end_generation()

        def end_in_time() -> None:
            nonlocal limit
            if not limit:
                self._out_of_time()
                limit = "in the time that was left"

        def source(note_in_flight: Callable[[], None]) -> Iterator[Stack | None]:
            if self.began is None:
                self.began = time.monotonic()
            if run:
                self._record_extension(run)
            while True:
                if not limit and self.evaluated and self.time_left is not None and self.time_left() < longest_s:
                    end_in_time()
                    return
                if not waiting and not limit and not exhausted:
                    propose(config.population if not self.proposed else self._at_once())
                if waiting:
                    stack = waiting.popleft()
                    running.update((candidate.key, candidate) for candidate in stack)
                    note_in_flight()
                    deaths = [self.deaths.get(candidate.key, 0) for candidate in stack]
                    columns = zip(stack, self._inherited(stack), deaths, strict=True)
                    yield {c.seq: Candidate(c.spec, parent=parent, n_starts=n) for c, parent, n in columns}
                elif limit or exhausted:
                    return
                elif running:
                    yield None

        self.generation = 1
        for payload in [] if run is None else [p for _, kind, p in run.ledger.events() if kind == ACKNOWLEDGED]:
            for n in payload["asked"]:
                propose(n)
            keys = payload["keys"]
            for key in keys:
                candidate = self.proposed.get(key)
                recorded = None if candidate is None else self.recorded.get(candidate.seq)
                if candidate is None or recorded is None or recorded.key != key:
                    raise _foreign(f"genome {key} was evaluated there, and the search does not ask for it then")
                if recorded.extra.get("parent") != candidate.extra.get("parent"):
                    raise _foreign(f"evaluation {key} inherits the weights of another genome there")
            done = set(keys)
            kept = [[candidate for candidate in stack if candidate.key not in done] for stack in waiting]
            waiting.clear()
            waiting.extend(filter(None, kept))
            acknowledge([replace(self.recorded[self.proposed[k].seq], spec=self.proposed[k].spec) for k in keys])
        is_live = True
        if run and not self.extends and run.ended is not None:
            limit = f"in {config.minutes:g} minutes"
        if waiting or not (limit or exhausted):
            self._check_stop()
        with (
            self._in_flight(running, None) as note,
            closing(evaluate_stacks(problem, source(note), seed=config.seed, executor=self.executor)) as stacks,
        ):
            for stack in stacks:
                by_seq = {candidate.seq: candidate for candidate in running.values()}
                has_new = True
                for seq, outcome in stack:
                    self.joules[by_seq[seq].key] = dict(outcome.energy)
                evaluations = self._kept([(by_seq[seq], outcome) for seq, outcome in stack])
                keys = [evaluation.key for evaluation in evaluations]
                if run:
                    acknowledged = (self.generation, ACKNOWLEDGED, {"keys": keys, "asked": self.asked})
                    run.ledger.add(evaluations, events=[acknowledged, *self._energy_of(evaluations)])
                for key in keys:
                    del running[key]
                acknowledge(evaluations)
                seconds = sum(outcome.seconds for _, outcome in stack)
                longest_s = max(longest_s, seconds)
                self.busy_s += seconds / self.executor.workers
                self._report({}, n_trained=len(self.evaluated) % config.population, n_stage=config.population)
                self._check_stop()
                if self.time_left is not None and self.time_left() <= 0:
                    end_in_time()
                    break
        if len(self.evaluated) > config.population * len(self.hypervolume):
            end_generation()
        self.generation = len(self.hypervolume)
        reason = f"{len(self.evaluated)} genomes evaluated" + f", {limit}" * bool(limit)
        return f"no new genome was found after {reason}" if exhausted else reason, exhausted

    def _at_once(self) -> int:
        """Genomes that a steady-state search proposes for a free worker: its share of a population."""
        size = self.config.population
        return min(size, max(LEAST_AT_ONCE, math.ceil(size / self.executor.workers)))

    def _limit_in_steady(self, new: Iterable[FloatArray]) -> str:
        """The limit that keeps genomes ``(V,)`` of a steady-state search from being evaluated; empty = none."""
        problem, config, new = self.problem, self.config, list(new)
        if self.evaluated and 0 < config.minutes * 60 <= self._seconds():
            if self.run:
                self.run.end(generation=self.generation, minutes=config.minutes)
            return f"in {config.minutes:g} minutes"
        if len(self.proposed) + len(new) > config.most_evaluations:
            return f"of at most {config.most_evaluations}"
        if config.flops:
            known = [e.metrics or {} for e in self.evaluated.values()]
            unknown = [e.spec for key, e in self.proposed.items() if key not in self.evaluated]
            known += [problem.known_metrics(spec) for spec in (*unknown, *map(problem.space.decode, new))]
            if sum(metrics.get(TRAINING_FLOPS, 0.0) for metrics in known) > config.flops:
                return f"within {config.flops:.3g} FLOPs of training"
        return ""

    def _halved(self, candidates: Sequence[Evaluation], finished: dict[int, Evaluation]) -> list[Evaluation]:
        """Train a generation to every rung and return those that continue; the others are added to `finished`."""
        alive, where = list(candidates), f"generation {self.generation}"
        for rung, steps in enumerate(self.problem.rungs):
            if not alive:
                break
            kept = self.halvings.get((self.generation, steps))
            if kept is not None:
                gone = [finished.get(member.seq) for member in alive if member.key not in kept]
                alive = [_past_rung(member, steps, kept[member.key]) for member in alive if member.key in kept]
                if len(alive) != len(kept) or any(row is None or row.rung != steps for row in gone):
                    raise _foreign(f"other members of {where} passed step {steps} there")
            elif any(member.seq in finished for member in alive):
                raise _foreign(f"{where} was not compared at step {steps} there")
            else:
                alive = self._compared(alive, rung, finished)
        if any(member.seq in finished and finished[member.seq].rung is not None for member in alive):
            raise _foreign(f"{where} was compared at other steps there")
        return alive

    def _compared(self, alive: Sequence[Evaluation], rung: int, finished: dict[int, Evaluation]) -> list[Evaluation]:
        """Train to a rung, compare, and commit the dropped and failed members before anything else happens."""
        problem, steps = self.problem, self.problem.rungs[rung]
        reached: dict[int, Outcome] = {}
        self._train(alive, finished, reached.update, rung=rung)
        outcomes = [reached[index] for index in range(len(alive))]
        F, G = to_matrices([outcome.metrics for outcome in outcomes], problem.objectives, problem.constraints)
        if self.surrogate is None:
            go_on = survivors(F, G, problem.rung_keep)
        else:
            rungs = np.concatenate([self._at_rungs(alive), F[:, None]], axis=1)
            go_on = self.surrogate.survivors(np.array([m.genome for m in alive]), rungs, G, problem.rung_keep)
        stay: list[Evaluation] = []
        gone: list[Evaluation] = []
        for member, outcome, survives in zip(alive, outcomes, go_on, strict=True):
            if survives and outcome.metrics is not None:
                self.states[member.seq] = outcome.state
                stay.append(_past_rung(member, steps, without_clock(outcome.metrics), seconds=outcome.seconds))
            else:
                gone.append(_evaluation(member, outcome, rung=steps))
        if self.run:
            kept = {member.key: member.extra["rungs"][-1]["metrics"] for member in stay}
            halving = (self.generation, HALVING, {"rung": steps, "kept": kept})
            self.run.ledger.add(gone, events=[halving, *self._energy_of(gone)])
        finished.update((evaluation.seq, evaluation) for evaluation in gone)
        return stay

    def _at_rungs(self, members: Sequence[Evaluation]) -> FloatArray:
        """Objectives at the rungs that the members have passed ``(N, R, M)``, minimised."""
        passed = [[rung["metrics"] for rung in member.extra.get("rungs", ())] for member in members]
        matrices = [to_matrices(rows, self.problem.objectives, ())[0] for rows in zip(*passed, strict=True)]
        return np.stack(matrices, axis=1) if matrices else np.empty((len(members), 0, len(self.problem.objectives)))

    def _evaluate(self, alive: Sequence[Evaluation], finished: dict[int, Evaluation]) -> None:
        """Train genomes to the end and add them to `finished`; each stack is on disk before anything else happens."""
        candidates = [candidate for candidate in alive if candidate.seq not in finished]

        def commit(stack: Sequence[tuple[int, Outcome]]) -> None:
            evaluations = self._kept([(candidates[i], outcome) for i, outcome in stack])
            if self.run:
                self.run.ledger.add(evaluations, events=self._energy_of(evaluations))
            finished.update((evaluation.seq, evaluation) for evaluation in evaluations)

        self._train(candidates, finished, commit)

    def _kept(self, stack: Sequence[tuple[Evaluation, Outcome]]) -> list[Evaluation]:
        """The evaluations of a stack; the files of possible members are written before they enter the ledger."""
        evaluations = [self._keep_weights(_evaluation(candidate, outcome), outcome) for candidate, outcome in stack]
        if self.run:
            # Keep the files of possible members: feasible, and not dominated by the archive so far.
            for evaluation, (_, outcome), f, g in zip(evaluations, stack, *self._matrices(evaluations), strict=True):
                if (g <= 0).all() and not any((member <= f).all() for member in self.archive.F):
                    self.run.stage(evaluation, outcome.weights)
        return evaluations

    def _train(
        self,
        candidates: Sequence[Evaluation],
        finished: Mapping[int, Evaluation],
        keep: Callable[[Sequence[tuple[int, Outcome]]], None],
        *,
        rung: int | None = None,
    ) -> None:
        """Pass outcomes to `keep`, stack by stack; `stop` is checked before and after each stack."""
        if not candidates:
            return
        self._check_time()
        specs = [candidate.spec for candidate in candidates]
        states = [self.states.get(candidate.seq) for candidate in candidates]
        stage = {"rung": None if rung is None else self.problem.rungs[rung], "n_stage": len(candidates)}
        n_trained = 0
        self._report(finished, **stage)
        parents, n_starts = self._inherited(candidates), [self.deaths.get(found.key, 0) for found in candidates]
        outcomes = self._outcomes(specs, rung=rung, states=states, parents=parents, n_starts=n_starts)
        in_flight = self._in_flight({candidate.key: candidate for candidate in candidates}, stage["rung"])
        with in_flight, closing(outcomes) as stacks:
            for stack in stacks:
                for index, outcome in stack:
                    key = candidates[index].key
                    self.joules[key] = total((self.joules.get(key, {}), outcome.energy))
                keep(stack)
                n_trained += len(stack)
                self.busy_s += sum(outcome.seconds for _, outcome in stack) / self.executor.workers
                self._report(finished, n_trained=n_trained, **stage)
                self._check_time()

    def _energy_of(self, evaluations: Sequence[Evaluation]) -> list[Event]:
        """The event with the energy of evaluations that enter the ledger."""
        joules = {found.key: self.joules.pop(found.key, {}) for found in evaluations}
        return [(self.generation, ENERGY, {"joules": joules})] if any(joules.values()) else []

    @contextmanager
    def _in_flight(self, candidates: Mapping[str, Evaluation], rung: int | None) -> Iterator[Callable[[], None]]:
        """Name genomes in the ledger while they are trained to a rung, or the end; call it when they have changed."""

        def note(**facts: Any) -> None:
            if self.run is None or not (candidates or facts):
                return
            event: dict[str, Any] = {"start": self.start, "keys": list(candidates), "rung": rung}
            event |= {"workers": self.executor.workers} | ({"isolated": True} if self.executor.isolates else {})
            self.run.ledger.record_event(self.generation, IN_FLIGHT, event | facts)

        note()
        try:
            yield note
        except BaseException as error:
            if not self.stopped and not self.executor.isolates:
                is_dropped = isinstance(error, Interruption | KeyboardInterrupt)
                note(**({"dropped": True} if is_dropped else {"keys": list[str]()}))
            raise

    def _outcomes(self, specs: Sequence[Spec], **how: Any) -> Generator[list[tuple[int, Outcome]], None, None]:
        return evaluate(self.problem, specs, seed=self.config.seed, executor=self.executor, chunk=self.chunk, **how)

    def _parents_of(self, X: Sequence[FloatArray]) -> list[dict[str, Any]]:
        """The parent of each new genome as `Evaluation.extra`: the nearest of earlier generations, by its genes.

        Distances are those of the features in which a surrogate compares genomes. Of equally near genomes the first
        evaluated is taken.
        """
        space, problem = self.problem.space, self.problem
        pool = [found for found in self.evaluated.values() if "weights_sha256" in found.extra and not found.dropped]
        if not problem.inherits or not pool:
            return [{} for _ in X]
        keys = [problem.inheritance_key(found.spec) for found in pool]
        points = gene_features(space, np.array([*(found.genome for found in pool), *X])).points
        out: list[dict[str, Any]] = []
        for x, point in zip(X, points[len(pool) :], strict=True):
            key = problem.inheritance_key(space.decode(x))
            distances = np.square(points[: len(pool)] - point).sum(axis=1)
            distances[[other != key for other in keys]] = np.inf
            nearest = int(distances.argmin())
            found = pool[nearest]
            parent = {"key": found.key, "weights_sha256": found.extra["weights_sha256"]}
            out.append({"parent": parent} if np.isfinite(distances[nearest]) else {})
        return out

    def _keep_weights(self, evaluation: Evaluation, outcome: Outcome) -> Evaluation:
        """The evaluation with the hash of its weights, which later genomes may inherit and which are stored first."""
        if not self.problem.inherits or outcome.metrics is None or outcome.weights is None:
            return evaluation
        if self.run:
            sha256 = self.run.write_parent(outcome.weights)
        else:
            _, sha256 = weight_bytes(outcome.weights)
            self.parents[sha256] = outcome.weights
        return replace(evaluation, extra={**evaluation.extra, "weights_sha256": sha256})

    def _inherited(self, candidates: Sequence[Evaluation]) -> list[Weights | None]:
        """The weights that the training of each genome begins with; None = fresh weights."""
        found: dict[str, Weights] = {}
        hashes = [candidate.extra.get("parent", {}).get("weights_sha256") for candidate in candidates]
        for sha256 in filter(None, hashes):
            if sha256 not in found:
                found[sha256] = self.run.read_parent(sha256) if self.run else self.parents[sha256]
        return [found[sha256] if sha256 else None for sha256 in hashes]

    def _train_from_scratch(self) -> None:
        """Train the members with inherited weights from fresh weights, and replace their files.

        Members for which that fails leave the archive of the run.
        """
        members = [self.evaluated[key] for key in self.archive.members if key not in self.scratch]
        members = [member for member in members if member.inherits]
        if members:
            self._check_stop()
            with closing(self._outcomes([member.spec for member in members])) as stacks:
                for stack in stacks:
                    rows = [(members[index], outcome) for index, outcome in stack]
                    metrics = {member.key: outcome.metrics for member, outcome in rows}
                    if self.run:
                        for member, outcome in rows:
                            if outcome.metrics is not None:
                                self.run.stage(member.from_scratch(outcome.metrics), outcome.weights)
                        joules = {member.key: dict(outcome.energy) for member, outcome in rows}
                        events = [(self.generation, FROM_SCRATCH, {"metrics": metrics})]
                        self.run.ledger.add([], events=[*events, (self.generation, ENERGY, {"joules": joules})])
                    self.scratch |= metrics
                    self._check_stop()
        if self.run and self.scratch:
            self.run.set_members(self._member_keys)

    @property
    def _member_keys(self) -> list[str]:
        """Keys of the archive without members whose training from scratch failed."""
        return [key for key in self.archive.members if self.scratch.get(key, ()) is not None]

    def _as_reported(self, evaluation: Evaluation) -> Evaluation:
        """A member with its metrics from fresh weights."""
        metrics = self.scratch.get(evaluation.key)
        return evaluation if metrics is None else evaluation.from_scratch(metrics)

    def _store_members(self, run: RunDirectory) -> None:
        """Bring the archive on disk up to date; a member whose files were lost is trained again."""
        for key in run.without_files(self._member_keys):
            member = self._as_reported(self.evaluated[key])
            parents = self._inherited([member]) if member.inherits else None
            [[(_, outcome)]] = self._outcomes([member.spec], parents=parents)
            old, new = without_clock(member.metrics or {}), without_clock(outcome.metrics or {})
            if old != new:
                names = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
                different = [f"{name}: ledger {old.get(name)}, now {new.get(name, outcome.failure)}" for name in names]
                raise RunError(
                    f"the files of member {member.key} were lost, and training it again gave other values, so the "
                    f"archive would mix two machines: {'; '.join(different)}; start a new search"
                )
            run.stage(member, outcome.weights)
        run.set_members(self._member_keys)

    def _matrices(self, evaluations: Sequence[Evaluation]) -> tuple[FloatArray, FloatArray]:
        rows = [evaluation.metrics for evaluation in evaluations]
        return to_matrices(rows, self.problem.objectives, self.problem.constraints)

    def _check_time(self) -> None:
        self._check_stop()
        if self.generation > 1 and self.time_left is not None and self.time_left() <= 0:
            raise _OutOfTimeError

    def _check_stop(self) -> None:
        if self.stop is None or not (why := self.stop()):
            return
        where = f": {why}" if isinstance(why, str) else ""
        self.stopped = True
        if self.run:
            self.run.ledger.record_event(self.generation, INTERRUPTED, {"seconds": self._seconds()})
            where += f"; {command('resume', self.run.path)} goes on"
        raise Interruption(f"interrupted in generation {self.generation} of {self.n_generations}{where}")

    def _report(self, in_flight: Mapping[int, Evaluation], **stage: Any) -> None:
        if self.progress is None:
            return
        evaluations = [*self.evaluated.values(), *in_flight.values()]
        self.progress(
            Progress(
                generation=self.generation,
                n_generations=self.n_generations,
                n_evaluated=len(evaluations),
                n_replayed=sum(evaluation.seq in self.recorded for evaluation in evaluations),
                n_planned=self.n_planned,
                n_failed=sum(evaluation.metrics is None for evaluation in evaluations),
                n_members=len(self.archive),
                hypervolume_share=self.hypervolume[-1] if self.hypervolume else 0.0,
                n_dropped=sum(evaluation.dropped for evaluation in evaluations),
                busy_s=self.busy_s,
                best=dict(self.best),
                **stage,
            )
        )

    def _result(self, reason: str, exhausted: bool) -> SearchResult:
        evaluations = sorted((e for e in self.evaluated.values() if not e.dropped), key=lambda e: e.seq)
        _, G = self._matrices(evaluations)
        infeasible = np.array([evaluation.metrics is not None for evaluation in evaluations]) & (G > 0).any(axis=1)
        nearest = np.argsort(np.where(infeasible, np.maximum(G, 0).sum(axis=1), np.inf), kind="stable")
        members = set(self._member_keys)
        n_least = 0 if len(self.archive) else min(N_LEAST_INFEASIBLE, int(infeasible.sum()))
        dropped = Counter(e.rung for e in self.evaluated.values() if e.dropped and e.rung is not None)
        return SearchResult(
            path=self.run.path if self.run else None,
            objectives=tuple(self.problem.objectives),
            archive=tuple(self._as_reported(found) for found in evaluations if found.key in members),
            least_infeasible=tuple(evaluations[i] for i in nearest[:n_least]),
            hypervolume=tuple(self.hypervolume),
            n_evaluated=len(self.evaluated),
            n_infeasible=int(infeasible.sum()),
            failures=_failures(evaluations),
            dropped=dict(sorted(dropped.items())),
            exhausted=exhausted,
            reason=reason,
        )


class _OutOfTimeError(Exception):
    """No time is left for the current generation."""


def _past_rung(candidate: Evaluation, steps: int, metrics: Mapping[str, float], *, seconds: float = 0.0) -> Evaluation:
    """A candidate that has passed a rung; `extra` holds the metrics of all rungs."""
    rungs = [*candidate.extra.get("rungs", ()), {"rung": steps, "metrics": metrics}]
    return replace(candidate, seconds=candidate.seconds + seconds, extra={**candidate.extra, "rungs": rungs})


def _evaluation(candidate: Evaluation, outcome: Outcome, *, rung: int | None = None) -> Evaluation:
    """A candidate with its outcome, at a rung or at the end."""
    return replace(
        candidate,
        metrics=outcome.metrics,
        failure=outcome.failure,
        seconds=candidate.seconds + outcome.seconds,
        extra={**outcome.extra, **candidate.extra},
        rung=rung,
    )


def _deaths(events: Iterable[Event], recorded: Set[str]) -> tuple[dict[str, int], bool]:
    """Starts that died while they trained a genome in their own process, by its key, and whether to isolate this one.

    A start that a signal ended has not died, but one of its trainings may hang.

    Args:
        events: of the ledger.
        recorded: keys of all evaluations, which did not die.
    """
    last: dict[str, Mapping[str, Any]] = {}
    for _, kind, payload in events:
        if kind == IN_FLIGHT and not payload.get("isolated"):
            last[payload["start"]] = payload
        elif kind == INTERRUPTED:
            last.pop(next(reversed(last), ""), None)  # the latest start
    lost = [event for event in last.values() if not set(event["keys"]) <= recorded]
    deaths = Counter(key for event in lost if not event.get("dropped") for key in event["keys"])
    return dict(deaths), bool(lost)


def _foreign(difference: str) -> RunError:
    return RunError(f"the ledger does not belong to this search: {difference}; start a new search")


def _failures(evaluations: Sequence[Evaluation]) -> dict[str, int]:
    return dict(Counter(e.failure for e in evaluations if e.failure is not None).most_common())
