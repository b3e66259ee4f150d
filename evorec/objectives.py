"""Objectives and constraints of a search, made from registered metrics.

Metrics are measured in their own unit and direction. Only `Objective.minimised` flips a sign, and only `to_matrices`
turns measured metrics into the ``F`` and ``G`` of a sorter: finite, also for failed evaluations.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evorec.config import Box, RecommenderConfig, TaskKind, kind_name
from evorec.errors import ConfigError, DataError, guess
from evorec.metrics.accuracy import NO_TASK
from evorec.metrics.cost import Timing
from evorec.metrics.metric import METRICS, Direction, Metric, all_metrics

FloatArray = NDArray[np.float64]
Metrics = Mapping[str, float]

FAILED_VIOLATION = 1.0
"""``G`` of a failed evaluation; a measured violation is always smaller (`Constraint.violation`)."""
SMALLEST_COST = 1e-300
"""Smaller costs are raised to this before a logarithm is taken."""


@final
@dataclass(frozen=True)
class Objective:
    """An axis of the search.

    Args:
        name: of the objective in tables, e.g. ``"cost"``.
        metric: key of the measured metric, e.g. ``"training_flops"``.
        direction: ``"max"`` or ``"min"``.
        unit: for tables.
        ideal: best corner of the hypervolume box, in the metric's own unit and direction.
        worst: worst corner; also the value of a failed evaluation.
        log10: divide the box on a logarithmic scale; needs positive corners.
    Example:
        >>> recall = Objective("recall", "recall@20", "max", "", ideal=1.0, worst=0.0)
        >>> recall.minimised([0.25]), recall.normalised([0.25])
        (array([-0.25]), array([0.75]))
    """

    name: str
    metric: str
    direction: Direction
    unit: str
    ideal: float
    worst: float
    log10: bool = False

    def __post_init__(self) -> None:
        corners = f"ideal {self.ideal:g} and worst {self.worst:g}"
        if self.direction not in ("max", "min"):
            raise ConfigError(f"direction of {self.name} must be 'max' or 'min', got {self.direction!r}.")
        if not (math.isfinite(self.ideal) and math.isfinite(self.worst)):
            raise ConfigError(f"box.{self.name} must have finite corners, got {corners}.")
        better = operator.gt if self.direction == "max" else operator.lt
        if not better(self.ideal, self.worst):
            word = "above" if self.direction == "max" else "below"
            raise ConfigError(f"box.{self.name} must have its ideal {word} its worst, got {corners}.")
        if self.log10 and min(self.ideal, self.worst) <= 0:
            raise ConfigError(f"box.{self.name} is divided on a log scale and must be above 0, got {corners}.")

    def minimised(self, values: ArrayLike) -> FloatArray:
        """Values ``(N,)`` with the sign that makes smaller better; the only sign flip in evorec."""
        numbers = np.asarray(values, dtype=np.float64)
        return -numbers if self.direction == "max" else numbers

    def normalised(self, values: ArrayLike) -> FloatArray:
        """Values ``(N,)`` relative to the box: 0 = ideal, 1 = worst; below 0 or above 1 outside the box."""
        numbers = np.asarray(values, dtype=np.float64)
        ideal, worst = self.ideal, self.worst
        if self.log10:
            numbers = np.log10(np.maximum(numbers, SMALLEST_COST))
            ideal, worst = math.log10(ideal), math.log10(worst)
        position: FloatArray = (numbers - ideal) / (worst - ideal)
        return position

    def natural(self, points: ArrayLike) -> FloatArray:
        """The values at box coordinates ``points``; the inverse of `normalised`."""
        ideal, worst = self.ideal, self.worst
        if self.log10:
            ideal, worst = math.log10(ideal), math.log10(worst)
        values: FloatArray = ideal + np.asarray(points, dtype=np.float64) * (worst - ideal)
        return 10.0**values if self.log10 else values


@final
@dataclass(frozen=True)
class Constraint:
    """A bound on a metric that a member of the archive must keep.

    Args:
        metric: key of the measured metric.
        op: ``">="`` or ``"<="``.
        bound: the bound, in the metric's unit.
        text: the constraint as it was written.
    Example:
        >>> Constraint("parameters", "<=", 100.0, "parameters <= 100").violation([50, 100, 200]).tolist()
        [-0.5, 0.0, 0.5]
    """

    metric: str
    op: Literal[">=", "<="]
    bound: float
    text: str

    def __post_init__(self) -> None:
        if self.op not in (">=", "<=") or not math.isfinite(self.bound):
            raise ConfigError(f"constraint {self.text!r} must be >= or <= a finite number, got {self.op} {self.bound}.")

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which values ``(N,)`` keep the bound; exactly those with a violation of at most 0."""
        return self.violation(values) <= 0

    def violation(self, values: ArrayLike) -> FloatArray:
        """How far values ``(N,)`` are beyond the bound; at most 0 when they keep it.

        The excess r is relative to the bound and, when positive, returned as r / (1 + r): below 1, so violations of
        different metrics add up on the same scale and a failed genome looks worse than any measured genome.
        """
        numbers = np.asarray(values, dtype=np.float64)
        excess = self.bound - numbers if self.op == ">=" else numbers - self.bound
        relative = excess / (abs(self.bound) or 1.0)
        beyond = np.maximum(relative, 0.0)
        return np.where(relative > 0, beyond / (1.0 + beyond), relative)


def without_clock(metrics: Metrics) -> dict[str, float]:
    """The metrics that are the same when the same genome is trained again: all but those measured by a clock.

    Example:
        >>> without_clock({"accuracy": 0.7, "train_seconds": 3.2})
        {'accuracy': 0.7}
    """
    clocks = {found.name for found in all_metrics() if found.of is Timing}
    return {name: value for name, value in metrics.items() if name not in clocks}


def find_metric(name: str) -> Metric:
    """The metric of an alias, base name or measured key.

    Raises:
        ConfigError: there is no such metric; says which was probably meant.
    Example:
        >>> find_metric("recall@20").name, find_metric("auc/click").name, find_metric("cost").name
        ('recall@k', 'auc/<task>', 'training_flops')
    """
    aliases = {alias: metric.name for metric in all_metrics() for alias in metric.aliases}
    base = re.sub(r"@\d+$", "@k", name)
    base = re.sub(r"^([^/]+)/.+$", r"\1/<task>", aliases.get(base, base))
    if base not in METRICS or name.endswith("<task>"):
        raise ConfigError(f"{name!r} is not a metric{guess(name, [*sorted(METRICS), *aliases])}")
    return METRICS[base]


def resolve(name: str, k: int, *, tasks: Mapping[str, TaskKind] | None = None) -> str:
    """The key under which a metric is measured.

    Args:
        name: as a person writes it: an alias, ``recall@k``, ``recall@20`` or ``auc/click``.
        k: length of the measured lists.
        tasks: the ranked tasks with the kind of their labels, to check metrics of tasks; None skips the check.
    Raises:
        ConfigError: the metric, the task or the list length is not measured.
    Example:
        >>> resolve("recall@k", 20), resolve("diversity", 20), resolve("cost", 20)
        ('recall@20', 'intra_list_distance@20', 'training_flops')
    """
    info = find_metric(name)
    if info.name.endswith("/<task>"):
        task = name.partition("/")[2]
        if tasks is not None and not tasks:
            raise ConfigError(f"{name} {NO_TASK}")
        if tasks is not None and task not in tasks:
            raise ConfigError(f"{name}: {task!r} is not a ranked task{guess(task, tasks)}")
        if tasks is not None and (kind := kind_name(tasks[task])) not in info.kinds:
            measured = [other.name.replace("<task>", task) for other in all_metrics() if kind in other.kinds]
            raise ConfigError(f"{name} is not measured: {task} is {kind} (tasks.kinds); it has {', '.join(measured)}.")
        return name
    length = re.search(r"@(\d+)$", name)
    if length and int(length[1]) != k:
        raise ConfigError(f"{name} is not measured: lists have {k} items (evaluation.k); write {info.name}.")
    return info.name.replace("@k", f"@{k}")


def build_objectives(
    names: Sequence[str],
    *,
    k: int,
    box: Mapping[str, Box],
    cost_bounds: Mapping[str, tuple[float, float]],
    tasks: Mapping[str, TaskKind] | None = None,
) -> tuple[Objective, ...]:
    """The objectives of a search, each with its corners of the hypervolume box.

    Args:
        names: metrics as a person writes them.
        k: length of the recommendation lists.
        box: corners that replace the usual corners, by any name of the metric; a metric that is not an objective may
            have a box too.
        cost_bounds: (ideal, worst) by measured key, for metrics without usual corners.
        tasks: the ranked tasks with the kind of their labels; None skips the check of task names.
    Raises:
        ConfigError: lists every unknown or repeated metric, missing corner and impossible box.
    Example:
        >>> cost, = build_objectives(["cost"], k=20, box={}, cost_bounds={"training_flops": (1e6, 1e9)})
        >>> cost.metric, cost.normalised([1e6, 1e9]).tolist()
        ('training_flops', [0.0, 1.0])
    """
    out: dict[str, Objective] = {}
    errors: list[str] = []
    corners: dict[str, tuple[float | None, float | None]] = dict(cost_bounds)
    for name, own in box.items():
        try:
            corners[resolve(name, k, tasks=tasks)] = own.ideal, own.worst
        except ConfigError as error:
            errors.append(f"box: {error}")
    for name in names:
        try:
            metric = resolve(name, k, tasks=tasks)
            info = find_metric(metric)
            ideal, worst = corners.get(metric, (info.ideal, info.worst))
            if ideal is None or worst is None:
                raise ConfigError(f"{name} has no usual bounds; give box.{name} = {{ideal = ..., worst = ...}}.")
            shown = re.sub(r"@k$", f"@{k}", name)
            objective = Objective(shown, metric, info.direction, info.unit, ideal, worst, info.log10)
        except ConfigError as error:
            errors.append(f"objectives: {error}")
            continue
        if metric in out:
            errors.append(f"objectives: {name} and {out[metric].name} are the same metric; remove one of them.")
        out[metric] = objective
    if errors:
        raise ConfigError("\n".join(errors))
    return tuple(out.values())


_CONSTRAINT = re.compile(
    r"""\s* (?P<metric>[^\s<>=*]+) \s* (?P<op>>=|<=) \s*
    (?: (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?) (?:\s*\*\s*(?P<baseline>[A-Za-z_]\w*))?
      | (?P<bare>[A-Za-z_]\w*) ) \s*""",
    re.VERBOSE,
)


def parse_constraint(
    text: str,
    *,
    k: int,
    baselines: Mapping[str, Metrics],
    tasks: Mapping[str, TaskKind] | None = None,
    known: Collection[str] = (),
) -> Constraint:
    """A constraint from ``METRIC >= NUMBER``, ``METRIC <= NUMBER * BASELINE`` or ``METRIC >= BASELINE``.

    Args:
        text: the constraint as a person writes it.
        k: length of the recommendation lists.
        baselines: measured metrics of each baseline.
        tasks: the ranked tasks with the kind of their labels; None skips the check of task names.
        known: keys of measured metrics that need not be in the catalogue.
    Raises:
        ConfigError: the text does not parse, or names a metric or baseline that is not known.
    Example:
        >>> parse_constraint("recall@k >= 0.5 * popularity", k=20, baselines={"popularity": {"recall@20": 0.1}}).bound
        0.05
    """
    found = _CONSTRAINT.fullmatch(text)
    if not found:
        raise ConfigError(f"constraint must read METRIC >= NUMBER or METRIC >= NUMBER * BASELINE, got {text!r}.")
    try:
        metric = found["metric"] if found["metric"] in known else resolve(found["metric"], k, tasks=tasks)
    except ConfigError as error:
        raise ConfigError(f"constraint {text!r}: {error}") from None
    factor = float(found["number"] or 1.0)
    baseline = found["baseline"] or found["bare"]
    op: Literal[">=", "<="] = found["op"]  # type: ignore[assignment]
    if baseline is None:
        return Constraint(metric, op, factor, text.strip())
    if baseline not in baselines:
        raise ConfigError(f"constraint {text!r} names the baseline {baseline!r}{guess(baseline, baselines)}")
    if metric not in baselines[baseline]:
        raise ConfigError(f"constraint {text!r}: {baseline} has no {metric}; it has {', '.join(baselines[baseline])}.")
    return Constraint(metric, op, factor * baselines[baseline][metric], text.strip())


def to_matrices(
    rows: Sequence[Metrics | None], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> tuple[FloatArray, FloatArray]:
    """Measured metrics as the matrices of a minimiser.

    A failed evaluation gets the worst corner of every objective and `FAILED_VIOLATION` of every constraint.

    Args:
        rows: N metric dictionaries; None = failed.
        objectives: M objectives.
        constraints: C constraints; without constraints, a single column says whether the evaluation failed.
    Returns:
        ``F (N, M)``, smaller is better, and ``G (N, max(C, 1))``, at most 0 is feasible; float64 and finite.
    Raises:
        DataError: a metric is missing or not finite; NaN must be turned into a failure before.
    """
    failed = np.array([row is None for row in rows], dtype=bool)
    F = np.array([o.minimised(_column(rows, o.metric, o.worst)) for o in objectives]).reshape(len(objectives), -1).T
    columns = [np.where(failed, FAILED_VIOLATION, c.violation(_column(rows, c.metric, c.bound))) for c in constraints]
    G = np.array(columns or [np.where(failed, FAILED_VIOLATION, 0.0)]).T
    return F, G


def wanted_metrics(config: RecommenderConfig) -> frozenset[str]:
    """Keys of the metrics of objectives and constraints: those that must be measured, however expensive they are.

    An unknown name is left out; `build_objectives` and `parse_constraint` refuse it.

    Example:
        >>> config = RecommenderConfig(objectives=("cost",), constraints=("recall@k >= 0.9 * popularity",))
        >>> sorted(wanted_metrics(config))
        ['recall@20', 'training_flops']
    """
    keys = set()
    for name in named_metrics((*config.objectives, *config.constraints)):
        with suppress(ConfigError):
            keys.add(resolve(name, config.evaluation.k))
    return frozenset(keys)


def check_weights(weights: Sequence[float], names: Sequence[str]) -> None:
    """Whether a weighted sum has a weight for each objective.

    Args:
        weights: ``search.weights``; none = equal weights.
        names: of the objectives.
    Raises:
        ConfigError: it has more or fewer.
    """
    if weights and len(weights) != len(names):
        raise ConfigError(f"search.weights must have a number for each of {', '.join(names)}, got {list(weights)}.")


def check_metrics(config: RecommenderConfig) -> None:
    """Whether the metrics that a configuration names agree with its tasks, evaluation and search.

    Raises:
        ConfigError: lists each metric that the configuration contradicts (`Metric.requires`), each pick by a metric
            that is not measured, and weights whose number is not that of the objectives.
    """
    kinds, spend = config.tasks.kind_of_each(), config.evaluation.spend
    errors = []
    try:
        check_weights(config.search.weights, config.objectives)
    except ConfigError as error:
        errors.append(str(error))
    if spend and kinds.get(spend, "binary") == "binary":
        known = [task for task, kind in kinds.items() if kind != "binary"]
        errors.append(f"evaluation.spend must be a ranked task whose labels are numbers, {known}; got {spend!r}.")
    sources = {
        "objectives": config.objectives,
        "constraints": config.constraints,
        "finalize.picks": config.finalize.picks,
    }
    for key, texts in sources.items():
        of_tasks = [name for name in named_metrics(texts) if name == "accuracy" or "/" in name]
        if of_tasks and not kinds:
            errors.append(f"{key}: {', '.join(of_tasks)} {NO_TASK}")
    if errors:
        raise ConfigError("\n".join(errors))
    wanted, picks = wanted_metrics(config), named_metrics(config.finalize.picks)
    named = named_metrics((*config.objectives, *config.box, *config.constraints))
    for name, found in (named | picks).items():
        if found.requires is not None and (contradiction := found.requires(config, name)):
            errors.append(contradiction)
        if found.on_demand and found.key(k=config.evaluation.k) not in wanted and name in picks:
            errors.append(f"finalize.picks: {name} is measured only where it is an objective or a constraint.")
    if errors:
        raise ConfigError("\n".join(errors))


def named_metrics(texts: Iterable[str]) -> dict[str, Metric]:
    """Every metric that objectives, constraints or picks name, by its name there.

    Example:
        >>> list(named_metrics(["best:accuracy,recall>=0.1", "auc/click <= 0.5 * ease", "knee"]))
        ['accuracy', 'recall', 'auc/click']
    """
    out: dict[str, Metric] = {}
    for word in re.findall(r"[^\s<>=*,]+", " ".join(texts)):
        name = word.removeprefix("best:")
        with suppress(ConfigError):
            out[name] = find_metric(in_full(name))
    return out


def in_full(name: str) -> str:
    """A name with its ``@k`` where only that was left out.

    Example:
        >>> in_full("recall"), in_full("cost")
        ('recall@k', 'cost')
    """
    return f"{name}@k" if name not in METRICS and f"{name}@k" in METRICS else name


def _column(rows: Iterable[Metrics | None], metric: str, failed: float) -> FloatArray:
    values = [failed if row is None else row.get(metric, math.nan) for row in rows]
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise DataError(f"{metric} of evaluation {index} must be a finite number, got {value} (nan: missing).")
    return np.array(values, dtype=np.float64)
