"""The adapter for Optuna: an objective with typed, conditional suggestions, and studies that know its directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, final

import numpy as np

from evorec.errors import ConfigError
from evorec.objectives import FloatArray
from evorec.problem import Problem, Spec
from evorec.search.executors import Executor, SerialExecutor
from evorec.search.values import GenomeValues
from evorec.space.genes import Boolean, Categorical, DiscreteGene, Fixed, Gene, Integer, Real, Simplex, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

CONSTRAINTS: Final = "constraints"
FAILURE: Final = "failure"
"""User attributes of a trial: the violation of each constraint, and the cause of a failed evaluation."""


def as_optuna(problem: Problem, *, executor: Executor | None = None, chunk: int = 8) -> OptunaObjective:
    """An objective for ``study.optimize``, with a suggestion per gene that counts and a value per objective.

    A gene is suggested only while its condition holds. Real and whole numbers are suggested on their own scale, a
    ``log2`` gene by its exponent, options as categories, the weights of a `Simplex` one by one, and the columns of
    other genes as numbers. Every suggestion is snapped, so trials with equal specs are evaluated once.

    Values are in the unit of their metric, in the direction of the study. A failed evaluation is a pruned trial that
    violates every constraint, with its cause in ``trial.user_attrs["failure"]``.

    Args:
        problem: space, objectives, constraints and evaluation; trainings use its own seed.
        executor: evaluates the stacks of `OptunaObjective.run`; serial by default.
        chunk: most genomes in a stack.
    Raises:
        ConfigError: optuna is not installed.
    Example:
        >>> from problems import analytic
        >>> objective = as_optuna(analytic.build())
        >>> study = objective.study(seed=0)
        >>> study.optimize(objective, n_trials=4)
        >>> len(study.trials)
        4
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("as_optuna needs optuna, which is not installed: pip install 'evorec[bench]'") from None
    return OptunaObjective(problem, executor=executor or SerialExecutor(), chunk=chunk)


@final
class OptunaObjective:
    """The objective that `as_optuna` returns.

    Attributes:
        problem: the problem.
        directions: of the values, ``maximize`` or ``minimize``, as ``optuna.create_study`` takes them.
    """

    def __init__(self, problem: Problem, *, executor: Executor, chunk: int) -> None:
        self.problem = problem
        self.directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if o.direction == "max" else "minimize" for o in problem.objectives
        ]
        self._values = GenomeValues(problem, executor=executor, chunk=chunk)

    def __repr__(self) -> str:
        return f"OptunaObjective({self.problem!r})"

    def __call__(self, trial: Trial) -> tuple[float, ...]:
        """The values of a trial's suggestions, one per objective.

        Raises:
            optuna.TrialPruned: the evaluation failed.
        """
        import optuna

        values = self._evaluated([trial])[0]
        if values is None:
            raise optuna.TrialPruned(trial.user_attrs[FAILURE])
        return values

    def study(self, *, seed: int, sampler: BaseSampler | None = None, **options: Any) -> Study:
        """A new study whose first trial is the default genome.

        Args:
            seed: of the default sampler, NSGA-II.
            sampler: instead of it.
            options: further arguments of ``optuna.create_study``, e.g. ``storage``.
        """
        import optuna

        sampler = sampler or optuna.samplers.NSGAIISampler(seed=seed)
        study = optuna.create_study(directions=self.directions, sampler=sampler, **options)
        study.enqueue_trial(self.params(self.problem.space.decode(self.problem.space.default())))
        return study

    def run(self, study: Study, n_trials: int, *, batch: int = 24) -> None:
        """Evaluate trials in batches, each trained in stacks; ``study.optimize`` trains one at a time."""
        import optuna

        for start in range(0, n_trials, batch):
            trials = [study.ask() for _ in range(min(batch, n_trials - start))]
            for trial, values in zip(trials, self._evaluated(trials), strict=True):
                if values is None:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, values)

    @staticmethod
    def constraints(trial: FrozenTrial) -> Sequence[float]:
        """The violation of each constraint of an evaluated trial, at most 0 is feasible.

        Samplers find them in the trial; those of other libraries take this function as ``constraints_func``.
        """
        found: Sequence[float] = trial.user_attrs[CONSTRAINTS]
        return found

    def genome(self, params: Mapping[str, Any]) -> FloatArray:
        """The snapped row ``(V,)`` of the parameters of a trial; also of parameters that were given by hand.

        Raises:
            ConfigError: a parameter is missing or out of range.
        """
        spec: dict[str, Any] = {}
        for gene in self.problem.space.genes:
            if gene.is_active(spec):
                try:
                    spec[gene.name] = _value(gene, {name: params[name] for name in _distributions(gene)})
                except KeyError as error:
                    raise ConfigError(
                        f"the parameters of a trial must have {error}, got {', '.join(params)}."
                    ) from None
        return self.problem.space.encode(spec)

    def params(self, spec: Spec) -> dict[str, Any]:
        """The parameters of a spec, e.g. for ``study.enqueue_trial``; `genome` maps them to its row."""
        found: dict[str, Any] = {}
        for gene in self.problem.space.genes:
            if gene.name in spec:
                found |= dict(zip(_distributions(gene), _parameters(gene, spec[gene.name]), strict=True))
        return found

    def _evaluated(self, trials: Sequence[Trial]) -> list[tuple[float, ...] | None]:
        """Values of each trial, ``None`` = failed; constraints and causes become attributes of the trials."""
        X = np.array([self.genome(self._suggested(trial)) for trial in trials])
        F, G = self._values.matrices(X)
        natural = [o.minimised(F[:, column]) for column, o in enumerate(self.problem.objectives)]
        out: list[tuple[float, ...] | None] = []
        for row, trial in enumerate(trials):
            violations = dict(zip([c.text for c in self.problem.constraints], G[row].tolist(), strict=False))
            trial.set_user_attr(CONSTRAINTS, list(violations.values()))
            for text, violation in violations.items():
                trial.set_constraint(text, violation)
            failure = self._values.failure(X[row])
            if failure is not None:
                trial.set_user_attr(FAILURE, failure)
            out.append(tuple(float(values[row]) for values in natural) if failure is None else None)
        return out

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        params: dict[str, Any] = {}
        for gene in self.problem.space.genes:
            if gene.is_active(spec):
                own = {name: _suggestion(trial, name, kind) for name, kind in _distributions(gene).items()}
                spec[gene.name] = _value(gene, own)
                params |= own
        return params


def _distributions(gene: Gene) -> dict[str, BaseDistribution]:
    """The parameters of a gene and their ranges; a fixed gene has none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match gene:
        case Fixed():
            return {}
        case Real():
            return {gene.name: FloatDistribution(gene.low, gene.high, log=gene.scale == "log")}
        case Integer(scale="log2"):
            low, high = gene.bounds
            return {f"log2({gene.name})": IntDistribution(int(low[0]), int(high[0]))}
        case Integer():
            return {gene.name: IntDistribution(gene.low, gene.high)}
        case Categorical() if len(set(gene.options)) == len(gene.options):
            return {gene.name: CategoricalDistribution(gene.options)}
        case Boolean():
            return {gene.name: CategoricalDistribution((False, True))}
        case DiscreteGene():
            low, high = gene.bounds
            return {f"index({gene.name})": IntDistribution(int(low[0]), int(high[0]))}
        case Simplex():
            return {f"{gene.name}/{part}": FloatDistribution(0.0, 1.0) for part in gene.parts}
    bounds = enumerate(zip(*gene.bounds, strict=True))
    return {f"{gene.name}[{i}]": FloatDistribution(float(low), float(high)) for i, (low, high) in bounds}


def _suggestion(trial: Trial, name: str, kind: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match kind:
        case FloatDistribution():
            return trial.suggest_float(name, kind.low, kind.high, log=kind.log)
        case IntDistribution():
            return trial.suggest_int(name, kind.low, kind.high)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, kind.choices)
    raise AssertionError(kind)


def _is_plain(gene: Gene) -> bool:
    """Whether the parameter of a gene is its value; the parameters of other genes are numbers for its columns."""
    return [*_distributions(gene)] == [gene.name]


def _value(gene: Gene, params: Mapping[str, Any]) -> Value:
    if isinstance(gene, Fixed):
        return gene.value
    return gene.decode(gene.encode(params[gene.name]) if _is_plain(gene) else np.array([*params.values()], float))


def _parameters(gene: Gene, value: Any) -> list[Any]:
    if isinstance(gene, Fixed):
        return []
    if _is_plain(gene):
        return [value]
    columns = gene.encode(value)
    found: list[float] = (columns / len(gene.parts) if isinstance(gene, Simplex) else columns).tolist()
    return found
