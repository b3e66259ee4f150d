"""What a search optimises: objectives, constraints, and the catalogue of metrics they are made from.

Metrics are measured in their own unit and direction. `Objective.minimised` is the only place where a sign is flipped,
and `to_matrices` the only way from measured metrics to the ``F`` and ``G`` of a sorter: finite, whatever failed.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evorec.config import Box, RecommenderConfig, TaskKind, kind_name
from evorec.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
Direction = Literal["max", "min"]
Metrics = Mapping[str, float]

FAILED_VIOLATION = 1.0
"""``G`` of a failed evaluation; a measured violation is always smaller (`Constraint.violation`)."""
SMALLEST_COST = 1e-300
"""Costs of zero or less are drawn here before a logarithm is taken."""


@final
@dataclass(frozen=True)
class MetricInfo:
    """A metric as the catalogue knows it.

    Args:
        name: base name; ``<task>`` and ``@k`` stand for a task and the list length.
        direction: ``"max"`` or ``"min"``.
        unit: for tables; empty for a pure number.
        ideal: the usual best corner of the hypervolume box; None when it depends on the problem.
        worst: the usual worst corner; None when it depends on the problem.
        log10: whether the box is divided on a logarithmic scale.
        text: one line of help.
        kinds: of a task that has this metric; empty for a metric that is of no task.
    """

    name: str
    direction: Direction
    unit: str
    ideal: float | None
    worst: float | None
    log10: bool
    text: str
    kinds: tuple[str, ...] = ()


def _share(name: str, text: str, worst: float = 0.0, kinds: tuple[str, ...] = ()) -> MetricInfo:
    return MetricInfo(name, "max", "", 1.0, worst, False, text, kinds)


def _error(name: str, text: str, kind: str) -> MetricInfo:
    """In the unit of the labels; its corners are 0 and what a constant prediction gets in training."""
    return MetricInfo(name, "min", "", None, None, False, text, (kind,))


_ANY_KIND = ("binary", "regression", "quantile")


def _choice(name: str, direction: Direction, text: str, kinds: tuple[str, ...] = _ANY_KIND) -> MetricInfo:
    """In the unit of the labels; its corners are what choosing by the labels themselves gives."""
    whole = f"{text} of the held-out rows that the model would choose, the better half of each user's"
    return MetricInfo(name, direction, "", None, None, False, whole, kinds)


def _gap(name: str, text: str) -> MetricInfo:
    """A difference of shares."""
    return MetricInfo(name, "min", "", 0.0, 1.0, False, text)


def _cost(name: str, unit: str, text: str) -> MetricInfo:
    return MetricInfo(name, "min", unit, None, None, True, text)


CATALOGUE: Mapping[str, MetricInfo] = {
    info.name: info
    for info in (
        _share("accuracy", "mean over the ranked tasks of AUC, or of concordance where labels are numbers", worst=0.5),
        _share("auc/<task>", "AUC of one task on held-out impressions", 0.5, ("binary",)),
        _share("gauc/<task>", "AUC inside each user, averaged by impressions", 0.5, ("binary",)),
        MetricInfo(
            "logloss/<task>", "min", "nat", 0.0, math.log(2), False, "mean negative log-likelihood", ("binary",)
        ),
        _share("concordance/<task>", "pairs of held-out numbers in the right order", 0.5, ("regression", "quantile")),
        _error("mae/<task>", "mean absolute error, in the unit of the labels", "regression"),
        _error("rmse/<task>", "root of the mean squared error, in the unit of the labels", "regression"),
        _error("pinball/<task>", "pinball loss of the task's quantile, in the unit of the labels", "quantile"),
        _choice("gain/<task>", "max", "mean label"),
        _choice("harm/<task>", "min", "mean label, of a task of tasks.lower_is_better,"),
        _choice("cost_per/<task>", "min", "evaluation.spend per positive", kinds=("binary",)),
        _share("recall@k", "held-out positives found in the list, over the whole catalogue"),
        _share("cold_start_recall@k", "recall of held-out positives on items without a training row"),
        _share("ndcg@k", "recall discounted by rank"),
        _share("precision@k", "share of the list that is relevant"),
        _share("hit_rate@k", "share of users with at least one hit"),
        _share("mrr@k", "reciprocal rank of the first hit"),
        _share("candidate_recall", "held-out positives among the candidates that retrieval hands to the ranker"),
        _share("retrieval_recall@k", "recall of the first stage alone, before the ranker re-orders"),
        _share("intra_list_distance@k", "mean cosine distance of the content inside each list"),
        _share("catalogue_coverage@k", "share of the catalogue that is in any list"),
        _share("gini_diversity@k", "1 - Gini of how often each item is recommended"),
        MetricInfo("novelty@k", "max", "bit", 20.0, 0.0, False, "mean self-information of the recommended items"),
        _gap("group_gap@k", "largest difference of recall between evaluation.groups of users"),
        _gap(
            "attack_shift@k",
            "how far evaluation.attack moves the hit rate of its items; a second training that cost does not count",
        ),
        _share("sparsity", "pairs of user and item whose predicted preference is below evaluation.sparsity_threshold"),
        _cost("training_flops", "FLOP", "arithmetic of the training run, counted"),
        _cost("inference_flops", "FLOP", "arithmetic of one request, counted"),
        _cost("parameters", "", "trained numbers"),
        _cost("model_bytes", "B", "size of the weights"),
        _cost("train_seconds", "s", "wall time of the training run, measured"),
        _cost("latency_ms", "ms", "wall time of one request, measured"),
    )
}
"""Every metric by base name. Costs and errors have no usual box: the search space and the data give its corners."""

ALIASES: Mapping[str, str] = {
    "diversity": "intra_list_distance@k",
    "diversity@k": "intra_list_distance@k",
    "cost": "training_flops",
}
"""Short names of catalogue entries."""


@final
@dataclass(frozen=True)
class Objective:
    """One axis of the search.

    Args:
        name: how the objective is called in tables, e.g. ``"cost"``.
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
        """Values ``(N,)`` as places in the box: 0 = ideal, 1 = worst, beyond on either side if they are."""
        numbers = np.asarray(values, dtype=np.float64)
        ideal, worst = self.ideal, self.worst
        if self.log10:
            numbers = np.log10(np.maximum(numbers, SMALLEST_COST))
            ideal, worst = math.log10(ideal), math.log10(worst)
        place: FloatArray = (numbers - ideal) / (worst - ideal)
        return place


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
        different metrics add up on one scale and no measured genome looks worse than a failed one.
        """
        numbers = np.asarray(values, dtype=np.float64)
        excess = self.bound - numbers if self.op == ">=" else numbers - self.bound
        relative = excess / (abs(self.bound) or 1.0)
        beyond = np.maximum(relative, 0.0)
        return np.where(relative > 0, beyond / (1.0 + beyond), relative)


def without_clock(metrics: Metrics) -> dict[str, float]:
    """The metrics that come out the same when the same genome is trained again: all but those in seconds.

    Example:
        >>> without_clock({"accuracy": 0.7, "train_seconds": 3.2})
        {'accuracy': 0.7}
    """
    clocks = {info.name for info in CATALOGUE.values() if info.unit in ("s", "ms")}
    return {name: value for name, value in metrics.items() if name not in clocks}


def metric_info(name: str) -> MetricInfo:
    """The catalogue entry of an alias, base name or measured key.

    Raises:
        ConfigError: lists the known metrics.
    Example:
        >>> metric_info("recall@20").name, metric_info("auc/click").name, metric_info("cost").name
        ('recall@k', 'auc/<task>', 'training_flops')
    """
    base = re.sub(r"@\d+$", "@k", name)
    base = re.sub(r"^([^/]+)/.+$", r"\1/<task>", ALIASES.get(base, base))
    if base not in CATALOGUE or name.endswith("<task>"):
        raise ConfigError(f"{name!r} is not a metric; known: {', '.join([*CATALOGUE, *ALIASES])}.")
    return CATALOGUE[base]


def resolve(name: str, k: int, *, tasks: Mapping[str, TaskKind] | None = None) -> str:
    """The key under which a metric is measured.

    Args:
        name: as a person writes it: an alias, ``recall@k``, ``recall@20`` or ``auc/click``.
        k: length of the measured lists.
        tasks: the ranked tasks and what their labels are, to check a metric of one task; None skips the check.
    Raises:
        ConfigError: the metric, the task or the list length is not measured.
    Example:
        >>> resolve("recall@k", 20), resolve("diversity", 20), resolve("cost", 20)
        ('recall@20', 'intra_list_distance@20', 'training_flops')
    """
    info = metric_info(name)
    if info.name.endswith("/<task>"):
        task = name.partition("/")[2]
        if tasks is not None and task not in tasks:
            raise ConfigError(f"{name}: {task!r} is not a ranked task; known: {', '.join(tasks)}.")
        if tasks is not None and (kind := kind_name(tasks[task])) not in info.kinds:
            measured = [other.name.replace("<task>", task) for other in CATALOGUE.values() if kind in other.kinds]
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
        box: corners that replace the usual ones, by any name of the metric; those of a metric that is no objective
            lie ready for a search that makes it one.
        cost_bounds: (ideal, worst) by measured key, for metrics without usual corners.
        tasks: the ranked tasks and what their labels are; None skips the check of task names.
    Raises:
        ConfigError: lists every unknown or repeated metric, missing corner and impossible box.
    Example:
        >>> cost, = build_objectives(["cost"], k=20, box={}, cost_bounds={"training_flops": (1e6, 1e9)})
        >>> cost.metric, cost.normalised([1e6, 1e9]).tolist()
        ('training_flops', [0.0, 1.0])
    """
    out: dict[str, Objective] = {}
    written, errors = _read_box(box, k, tasks)
    corners = {**cost_bounds, **written}
    for name in names:
        try:
            objective = _objective(name, resolve(name, k, tasks=tasks), corners)
        except ConfigError as error:
            errors.append(f"objectives: {error}")
            continue
        if objective.metric in out:
            errors.append(f"objectives: {name} and {out[objective.metric].name} are the same metric; keep one.")
        out[objective.metric] = objective
    if errors:
        raise ConfigError("\n".join(errors))
    return tuple(out.values())


def _read_box(
    box: Mapping[str, Box], k: int, tasks: Mapping[str, TaskKind] | None
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Corners by measured key, and what is wrong with the names."""
    corners: dict[str, tuple[float, float]] = {}
    errors: list[str] = []
    for name, box_of_one in box.items():
        try:
            corners[resolve(name, k, tasks=tasks)] = (box_of_one.ideal, box_of_one.worst)
        except ConfigError as error:
            errors.append(f"box: {error}")
    return corners, errors


def _objective(name: str, metric: str, corners: Mapping[str, tuple[float, float]]) -> Objective:
    info = metric_info(metric)
    ideal, worst = corners.get(metric, (info.ideal, info.worst))
    if ideal is None or worst is None:
        raise ConfigError(f"{name} has no usual bounds; give box.{name} = {{ideal = ..., worst = ...}}.")
    shown = re.sub(r"@k$", metric[metric.rfind("@") :], name) if "@" in metric else name
    return Objective(shown, metric, info.direction, info.unit, ideal, worst, info.log10)


_CONSTRAINT = re.compile(
    r"""\s* (?P<metric>[^\s<>=*]+) \s* (?P<op>>=|<=) \s*
    (?: (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?) (?:\s*\*\s*(?P<baseline>[A-Za-z_]\w*))?
      | (?P<bare>[A-Za-z_]\w*) ) \s*""",
    re.VERBOSE,
)


def parse_constraint(
    text: str, *, k: int, baselines: Mapping[str, Metrics], tasks: Mapping[str, TaskKind] | None = None
) -> Constraint:
    """A constraint from ``METRIC >= NUMBER``, ``METRIC <= NUMBER * BASELINE`` or ``METRIC >= BASELINE``.

    Args:
        text: the constraint as a person writes it.
        k: length of the recommendation lists.
        baselines: measured metrics of each baseline.
        tasks: the ranked tasks and what their labels are; None skips the check of task names.
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
        metric = resolve(found["metric"], k, tasks=tasks)
    except ConfigError as error:
        raise ConfigError(f"constraint {text!r}: {error}") from None
    factor = float(found["number"] or 1.0)
    baseline = found["baseline"] or found["bare"]
    op: Literal[">=", "<="] = ">=" if found["op"] == ">=" else "<="
    if baseline is None:
        return Constraint(metric, op, factor, text.strip())
    if baseline not in baselines:
        known = ", ".join(baselines) or "none"
        raise ConfigError(f"constraint {text!r} names the baseline {baseline!r}; known: {known}.")
    if metric not in baselines[baseline]:
        known = ", ".join(baselines[baseline])
        raise ConfigError(f"constraint {text!r}: {baseline} has no {metric}; it has {known}.")
    return Constraint(metric, op, factor * baselines[baseline][metric], text.strip())


def to_matrices(
    rows: Sequence[Metrics | None], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> tuple[FloatArray, FloatArray]:
    """Measured metrics as the matrices of a minimiser.

    A failed evaluation gets the worst corner of every objective and `FAILED_VIOLATION` of every constraint.

    Args:
        rows: N metric dictionaries; None = failed.
        objectives: M objectives.
        constraints: C constraints; without any, one column says whether the evaluation failed.
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
    """Keys of the metrics of objectives and constraints: those that must be measured, whatever they cost.

    A name that is no metric is left out; `build_objectives` and `parse_constraint` refuse it.

    Example:
        >>> config = RecommenderConfig(objectives=("cost",), constraints=("recall@k >= 0.9 * popularity",))
        >>> sorted(wanted_metrics(config))
        ['recall@20', 'training_flops']
    """
    parsed = [_CONSTRAINT.fullmatch(text) for text in config.constraints]
    keys = set()
    for name in (*config.objectives, *(found["metric"] for found in parsed if found)):
        with suppress(ConfigError):
            keys.add(resolve(name, config.evaluation.k))
    return frozenset(keys)


def check_weights(weights: Sequence[float], names: Sequence[str]) -> None:
    """Whether a weighted sum has a weight for each objective.

    Args:
        weights: ``search.weights``; none = all alike.
        names: of the objectives.
    Raises:
        ConfigError: it has more or fewer.
    """
    if weights and len(weights) != len(names):
        raise ConfigError(f"search.weights must have one number for each of {', '.join(names)}, got {list(weights)}.")


def check_metrics(config: RecommenderConfig) -> None:
    """Whether the metrics that a configuration names agree with what it says of its tasks, evaluation and search.

    Raises:
        ConfigError: lists each gain of a task that is better low, each harm of one that is not, each metric whose
            setting is missing, and weights that are not one per objective.
    """
    kinds, lower, spend = config.tasks.kind_of_each(), config.tasks.lower_is_better, config.evaluation.spend
    errors = []
    try:
        check_weights(config.search.weights, config.objectives)
    except ConfigError as error:
        errors.append(str(error))
    if spend and kinds.get(spend, "binary") == "binary":
        known = [task for task, kind in kinds.items() if kind != "binary"]
        errors.append(f"evaluation.spend must be a ranked task whose labels are numbers, {known}; got {spend!r}.")
    texts = (*config.objectives, *config.box, *config.constraints, *config.finalize.picks)
    if not config.evaluation.groups and any("group_gap@" in text for text in texts):
        errors.append("group_gap@k needs evaluation.groups, the column of the user table that states the groups.")
    measured = {metric.partition("@")[0] for metric in wanted_metrics(config)}
    errors += [
        f"finalize.picks: {name} is measured only where it is an objective or a constraint."
        for name in ON_DEMAND
        if name not in measured and any(re.search(rf"\b{name}\b", text) for text in config.finalize.picks)
    ]
    for base, task in dict.fromkeys(found for text in texts for found in _OF_TASK.findall(text)):
        if base == "cost_per" and not spend:
            errors.append(f"cost_per/{task} needs evaluation.spend, the ranked task whose label is what a row costs.")
        if task in kinds and base != "harm" and task in lower:
            errors.append(f"{base}/{task}: {task} is in tasks.lower_is_better; write harm/{task}.")
        if task in kinds and base == "harm" and task not in lower:
            errors.append(f"harm/{task}: {task} is not in tasks.lower_is_better; write gain/{task}, or name it there.")
    if errors:
        raise ConfigError("\n".join(errors))


ON_DEMAND = ("sparsity", "attack_shift")
"""Metrics that are measured only for an objective or a constraint, because they cost so much."""
_OF_TASK = re.compile(r"\b(gain|harm|cost_per)/([^\s<>=*]+)")


def _column(rows: Iterable[Metrics | None], metric: str, failed: float) -> FloatArray:
    values = [failed if row is None else row.get(metric, math.nan) for row in rows]
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise DataError(f"{metric} of evaluation {index} must be a finite number, got {value} (nan: missing).")
    return np.array(values, dtype=np.float64)
