"""How a metric declares itself, and how declared metrics are computed.

A metric is a pure function of arrays, registered where it is defined. Its parameters name the inputs that it asks for::

    from evorec.metrics.lists import RecommendedLists
    from evorec.metrics.metric import metric

    @metric(
        "mean_price@k", of=RecommendedLists, direction="max", ideal=50.0, worst=0.0, unit="EUR",
        text="mean price of the listed items", item_columns=("price",),
    )
    def mean_price(lists, item_columns):
        return item_columns["price"][lists].mean(axis=1)

The classes of inputs, whose attributes are the names that a function can ask for:

| ``of`` | a value per | measured for |
|---|---|---|
| `evorec.metrics.lists.RecommendedLists` | user, or a single value for all lists | members and baselines |
| `evorec.metrics.lists.AttackedLists` | lists before and after an attack, on demand | members and baselines |
| `evorec.metrics.task_rows.TaskPredictions` | task | members |
| `evorec.metrics.logged_choices.ChosenRows` | task | members |
| `evorec.metrics.metric.MeasuredValues` | member, from its other metrics | members |
| `evorec.metrics.cost.ModelCounts` | member, counted before it is trained | members |
| `evorec.metrics.cost.Timing` | member, by the clock | members |

A class with a field ``data`` offers the attributes of ``data`` too: they are the same for all models.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any, Final, Literal, TypeVar, final, get_type_hints

import numpy as np
import numpy.typing as npt

from evorec.config import RecommenderConfig, TaskKind, kind_name
from evorec.errors import ConfigError, DataError, EvorecError
from evorec.metrics.lists import AttackedLists, RecommendedLists
from evorec.registry import Registry

Direction = Literal["max", "min"]
Function = TypeVar("Function", bound=Callable[..., Any])

SHARE: Final[dict[str, Any]] = {"direction": "max", "ideal": 1.0, "worst": 0.0, "unit": ""}
"""Declaration of a share that is better high."""
ORDER: Final[dict[str, Any]] = {"direction": "max", "ideal": 1.0, "worst": 0.5, "unit": ""}
"""Declaration of a share of pairs in the right order; chance is 0.5."""
GAP: Final[dict[str, Any]] = {"direction": "min", "ideal": 0.0, "worst": 1.0, "unit": ""}
"""Declaration of a difference of shares."""
EVERY_KIND = ("binary", "regression", "quantile")
MUST_DECLARE = ("of", "direction", "ideal", "worst", "unit", "text")
OF_RETRIEVAL = {"retrieved", "retrieved_hit", "n_improbable"}
"""Inputs that only a model with a retrieval stage has."""


@final
@dataclass(frozen=True)
class Metric:
    """A metric as the catalogue knows it.

    Attributes:
        name: base name; ``<task>`` is replaced by a task and ``@k`` by the list length.
        function: computes it from the inputs that its parameters name.
        of: class of the inputs.
        direction: ``"max"`` or ``"min"``.
        ideal: usual best corner of the hypervolume box; ``None`` when it depends on the data or the search space.
        worst: usual worst corner, likewise.
        unit: for tables; empty for a pure number.
        text: a line of help.
        log10: whether the box is divided on a logarithmic scale.
        kinds: of the tasks that have this metric; empty for a metric without ``<task>``.
        aliases: other names of the metric.
        on_demand: measured only for an objective or a constraint, because it is expensive.
        item_columns: columns of the item table that the function reads.
        requires: from the configuration and the metric's name as it is written there, such as ``gain/click``, to the
            reason why they contradict each other, or ``None``.
        unavailable: from ``data`` of the inputs to the reason why the data cannot have the metric, or ``None``.
        corners: for metrics whose corners depend on the data: from ``data`` (of `TaskPredictions`: of the training
            rows) to (ideal, worst), or ``None`` when the metric cannot tell models apart.
    """

    name: str
    function: Callable[..., Any]
    of: type
    direction: Direction
    ideal: float | None
    worst: float | None
    unit: str
    text: str
    log10: bool = False
    kinds: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    on_demand: bool = False
    item_columns: tuple[str, ...] = ()
    requires: Callable[[RecommenderConfig, str], str | None] | None = None
    unavailable: Callable[[Any], str | None] | None = None
    corners: Callable[[Any], tuple[float, float] | None] | None = None

    def __post_init__(self) -> None:
        wrong = []
        if self.direction not in ("max", "min"):
            wrong.append(f"direction must be 'max' or 'min', got {self.direction!r}")
        if not self.text:
            wrong.append("text must describe the metric in a line")
        if (self.ideal is None) != (self.worst is None):
            wrong.append("ideal and worst must be two numbers, or both None")
        elif self.ideal is not None and self.worst is not None:
            better = self.ideal > self.worst if self.direction == "max" else self.ideal < self.worst
            if not (math.isfinite(self.ideal) and math.isfinite(self.worst) and better):
                wrong.append(f"ideal must be better than worst, got {self.ideal} and {self.worst}")
        asked = inspect.signature(self.function).parameters.values()
        needed = [one.name for one in asked if one.default is inspect.Parameter.empty]
        if unknown := [name for name in needed if name not in _attributes(self.of)]:
            wrong.append(
                f"its function asks for {', '.join(unknown)}; {self.of.__name__} has "
                f"{', '.join(sorted(_attributes(self.of)))}"
            )
        if wrong:
            raise ConfigError(f"metric {self.name!r}: {'; '.join(wrong)}.")

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the function gets."""
        return tuple(name for name in inspect.signature(self.function).parameters if name in _attributes(self.of))

    @property
    def has_baselines(self) -> bool:
        """Whether baselines, which have lists but neither retrieval nor logits, have the metric."""
        return self.of in (RecommendedLists, AttackedLists) and not OF_RETRIEVAL & set(self.inputs)

    def key(self, *, k: int = 0, task: str = "") -> str:
        """The key of its values, e.g. ``recall@20`` or ``auc/click``."""
        return self.name.replace("@k", f"@{k}").replace("<task>", task)

    def value(self, inputs: object) -> Any:
        """The function's result for a model.

        Raises:
            DataError: the function raised an exception that is not an error of evorec.
        """
        try:
            return self.function(**{name: _input(inputs, name) for name in self.inputs})
        except EvorecError:
            raise
        except Exception as error:
            source = f"{self.function.__module__}.{self.function.__qualname__}"
            raise DataError(f"metric {self.name!r} ({source}) raised {type(error).__name__}: {error}.") from error


METRICS: Registry[Metric] = Registry("metric", package="evorec.metrics")
"""Every metric by base name."""


def all_metrics() -> list[Metric]:
    """Every metric, sorted by name: independent of the order of imports, so that equal runs write equal bytes."""
    return sorted(METRICS.values(), key=lambda found: found.name)


def metric(name: str, **declaration: Any) -> Callable[[Function], Function]:
    """Registers a function as a metric; it stays an ordinary function.

    Args:
        name: with ``@k`` for the list length, or ``/<task>`` for a metric of each task.
        declaration: fields of `Metric`; those of `MUST_DECLARE` have no default.
    Raises:
        ConfigError: a field is missing, unknown or contradicts another.
    """
    if missing := [field for field in MUST_DECLARE if field not in declaration]:
        raise ConfigError(f"metric {name!r} does not declare {', '.join(missing)}.")
    if unknown := sorted(declaration.keys() - {field.name for field in fields(Metric)}):
        raise ConfigError(f"metric {name!r} declares {', '.join(unknown)}, which no metric has.")
    if name.endswith("/<task>"):
        declaration = {"kinds": EVERY_KIND, **declaration}

    def register(function: Function) -> Function:
        METRICS.register(name, Metric(name, function, **declaration))
        return function

    return register


def metrics_of(
    of: type, *, data: Any = None, wanted: Collection[str] = (), kind: TaskKind | None = None, **key: Any
) -> tuple[Metric, ...]:
    """The metrics of a class of inputs that models on some data have.

    Args:
        of: class of the inputs.
        data: shared by all models; ``None`` = metrics are not refused for their data.
        wanted: keys of objectives and constraints; an expensive metric is left out unless it is among them.
        kind: of the task, for metrics of tasks.
        key: see `Metric.key`.
    """
    return tuple(
        found
        for found in all_metrics()
        if found.of is of
        and (kind is None or kind_name(kind) in found.kinds)
        and (not found.on_demand or found.key(**key) in wanted)
        and (data is None or why_unavailable(found, data) is None)
    )


def why_unavailable(metric: Metric, data: Any) -> str | None:
    """Why no model on this data can have a metric, or ``None``."""
    missing = [name for name in metric.item_columns if name not in data.item_columns]
    if missing:
        return f"needs the columns {', '.join(missing)} of the item table, which {data.name} does not have."
    return None if metric.unavailable is None else metric.unavailable(data)


@final
@dataclass(frozen=True, eq=False)
class MeasuredValues:
    """A member's metrics of rows, choices and lists, for metrics that are made of others.

    Attributes:
        values: by key; of each task in order.
    """

    values: Mapping[str, float]


@final
@dataclass(frozen=True)
class Measurements:
    """Values of a model by metric key, such as ``recall@20``.

    `per_user` holds float64 ``(U,)`` for the metrics that have a value per user; `values` their means, and all others.
    """

    values: dict[str, float]
    per_user: dict[str, npt.NDArray[np.float64]]


def measure(inputs: Any, metrics: Iterable[Metric], *, worst: Mapping[str, float] | None = None) -> Measurements:
    """Compute metrics of a model from the same inputs.

    Args:
        inputs: an instance of the metrics' class of inputs.
        metrics: from `metrics_of`.
        worst: by key, the value of a metric whose function returns ``None`` because the model gives it nothing.
    Raises:
        DataError: a function returns neither a number nor a value for each user.
    """
    out = Measurements({}, {})
    of: Any = type(inputs)
    known = _attributes(of)
    key = {name: _input(inputs, name) for name in ("k", "task") if name in known}
    n_users = _input(inputs, "n_users") if "n_users" in known else None
    for found in metrics:
        name, value = found.key(**key), found.value(inputs)
        # Nothing to measure, such as a choice without a known label, is as bad as the metric gets.
        if value is None and worst is not None:
            value = worst[name]
        if np.ndim(value) == 1 and len(value) == n_users:
            out.per_user[name] = np.asarray(value, dtype=np.float64)
            value = value.mean()
        if value is None or np.ndim(value) != 0:
            raise DataError(
                f"metric {found.name!r} must return a number or an array with a value per user, got {value!r}."
            )
        out.values[name] = float(value)
    return out


@cache
def _attributes(of: type) -> set[str]:
    """Public attributes of a class of inputs, and of its field ``data``."""
    own = {field.name for field in fields(of)} | {name for name in dir(of) if not name.startswith("_")}
    return own | _attributes(get_type_hints(of)["data"]) if "data" in own else own


def _input(inputs: Any, name: str) -> Any:
    return getattr(inputs if hasattr(type(inputs), name) or name in vars(inputs) else inputs.data, name)
