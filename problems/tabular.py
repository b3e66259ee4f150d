"""A table of trained recommenders: search methods compared in milliseconds instead of hours.

Every configuration of a finite grid was trained by evorec, with several seeds, and measured after a quarter, half and
all of its steps; an evaluation looks its row up. So a search method meets real noise and real trade-offs between
accuracy, recall, coverage and cost in a fraction of a second. ``data.path`` names the table: ``simulated`` (the feed
simulator, 2,016 configurations), ``kuairand`` (KuaiRand-Pure, 336 configurations), or the Parquet file of a table of
your own, made as ``experiments/make_tabular.py`` makes them. ``problems/tables/README.md`` describes them.

The seed of the search picks the replicate: seeds that are equal modulo the number of replicates meet the same
trainings. ``training.rungs`` may name steps of the table. Bounds of the hypervolume's box are the extremes of the table
and cannot be set, so figures of different methods are comparable; `Tabular.reference_front` is the best there is.

Test columns are not in any outcome. `Tabular.open_test` reads them once, for the configurations that were chosen.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import polars as pl
from pydantic import Field

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import Box, BudgetConfig, RunConfig, Section, TaskKind, merge, parse_config
from evorec.errors import ConfigError, DataError
from evorec.objectives import FloatArray, Metrics, build_objectives, find_metric, parse_constraint, to_matrices
from evorec.problem import Outcome, Problem, Spec
from evorec.space.gene import Gene
from evorec.space.genes import Categorical, Integer, When
from evorec.space.space import SearchSpace

DEFAULTS: Mapping[str, Any] = {
    "problem": "tabular",
    "training": {"steps": 120},
    "objectives": ("accuracy", "recall@k", "catalogue_coverage@k", "cost"),
    "constraints": ("recall@k >= 0.9 * popularity",),
    "run": {"executor": "serial"},
}
"""Settings of this problem, below a configuration file and above the field defaults."""


class TableConfig(Section):
    """Which table is looked up."""

    path: str = "simulated"
    """simulated, kuairand, or the Parquet file of a table of your own"""


class ListConfig(Section):
    """The lists that the table's metrics were measured on."""

    k: int = Field(10, ge=1)
    """length of a list, as in the table"""


class TabularConfig(RunConfig):
    """Settings of this problem; its box is that of the table."""

    objectives: tuple[str, ...] = Field(("accuracy", "recall@k"), min_length=1)
    """metrics of the table to optimise; @k = evaluation.k"""
    box: dict[str, Box] = Field({}, max_length=0)
    """this problem has that of the table"""
    data: TableConfig = TableConfig()
    training: BudgetConfig = BudgetConfig()
    evaluation: ListConfig = ListConfig()

    @property
    def k(self) -> int:
        """Length of the lists that metrics with ``@k`` measure."""
        return self.evaluation.k


CONFIG = TabularConfig
"""Class of the configuration of this problem."""
TABLES: Final = Path(__file__).parent / "tables"
"""The tables that come with this package."""
FORMAT: Final = 1
"""Format of the description of a table; other formats are refused."""
_KEYS: Final = ("config_id", "seed", "step")
_REQUIRED: Final = (
    "genes", "steps", "seeds", "k", "tasks", "metrics", "costs", "bounds", "baselines", "objectives", "constraints",
    "sha256",
)  # fmt: skip
"""Required keys of a description."""


def space_of(genes: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """The finite space that a table describes.

    Args:
        genes: each with ``name``, ``default``, ``text``, ``kind`` (``categorical`` with ``options`` or ``integer`` with
            ``low`` and ``high``), and where it is conditional ``parent`` and ``values``.
    Raises:
        DataError: a description is incomplete or contradicts itself.
    Example:
        >>> space_of([{"name": "width", "kind": "categorical", "options": [16, 64], "default": 16}]).cardinality()
        2.0
    """
    try:
        return SearchSpace(tuple(_gene(described) for described in genes))
    except (KeyError, TypeError, ConfigError) as error:
        raise DataError(f"genes of a table must describe a finite space; {error!r}.") from None


def _gene(described: Mapping[str, Any]) -> Gene:
    name, kind, default = str(described["name"]), described["kind"], described["default"]
    condition = When(str(described["parent"]), tuple(described["values"])) if "parent" in described else None
    text = str(described.get("text", ""))
    if kind == "categorical":
        return Categorical(name, tuple(described["options"]), default, text=text, condition=condition)
    if kind == "integer":
        low, high = described["low"], described["high"]
        return Integer(name, low, high, default=default, limits=(low, high), text=text, condition=condition)
    raise ConfigError(f"kind of gene {name} must be categorical or integer, got {kind!r}.")


def configurations(space: SearchSpace) -> list[dict[str, Any]]:
    """Every spec of a finite space once; the number of a configuration is its index.

    Args:
        space: of genes with a single column each.
    Example:
        >>> configurations(space_of([{"name": "depth", "kind": "integer", "low": 1, "high": 2, "default": 1}]))
        [{'depth': 1}, {'depth': 2}]
    """
    columns = (range(int(low), int(high) + 1) for low, high in zip(space.low, space.high, strict=True))
    specs = (space.decode(np.array(genome, dtype=np.float64)) for genome in itertools.product(*columns))
    return list({json.dumps(spec): spec for spec in specs}.values())


@final
@dataclass(frozen=True, eq=False)
class Table:
    """A checked table: C configurations, each with S seeds and R numbers of steps, in this order.

    Attributes:
        name: file without its ending.
        about: the description, from the JSON file of the same name.
        space: of its configurations.
        specs: the configurations, C of them.
        rows: C * S * R of them, with the columns of validation and cost; test columns are not in it.
        path: of the Parquet file.
    """

    name: str
    about: Mapping[str, Any]
    space: SearchSpace
    specs: tuple[Mapping[str, Any], ...]
    rows: pl.DataFrame
    path: Path

    @classmethod
    def read(cls, name: str) -> Table:
        """A table that comes with the package, by its name, or any other by the path of its Parquet file.

        Raises:
            DataError: there is none, or it is damaged, incomplete, has a row twice or a number that is not finite.
        """
        path = Path(name) if name.endswith(".parquet") else TABLES / f"{name}.parquet"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in TABLES.glob("*.parquet"))) or "none"
            raise DataError(
                f"data.path must name a table ({known}) or the .parquet file of a table, got {name!r}; "
                "experiments/make_tabular.py makes tables."
            )
        about = _description(path.with_suffix(".json"))
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != about["sha256"]:
            raise DataError(
                f"{path} is not the file that {path.stem}.json describes: expected sha256 {about['sha256'][:12]}, got "
                f"{found[:12]}; restore both from the same copy."
            )
        space = space_of(about["genes"])
        table = cls(path.stem, about, space, tuple(configurations(space)), _rows(path, about, space), path)
        table._check()
        return table

    def sha256(self) -> str:
        """Hash of everything that a look-up can depend on: the description, which holds that of the rows."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of steps after which everything was measured, R, rising."""
        return tuple(self.about["steps"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings, S of them."""
        return tuple(self.about["seeds"])

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """Metric -> column of `rows`: all that an outcome may hold."""
        costs = {name: name for name in (*self.about["costs"], "train_seconds")}
        return {**{name: f"validation/{name}" for name in self.about["metrics"]}, **costs}

    @cached_property
    def values(self) -> FloatArray:
        """Metrics of every row, float64 ``(C * S * R, n)`` in the order of `columns`; NaN in a failed row."""
        found: FloatArray = self.rows.select(self.columns.values()).to_numpy().astype(np.float64)
        return found

    @cached_property
    def _numbers(self) -> Mapping[tuple[Any, ...], int]:
        """Number of each configuration by its values, None for a gene that it does not have."""
        return {self._key(spec): number for number, spec in enumerate(self.specs)}

    def number(self, spec: Spec) -> int:
        """Number of a configuration.

        Raises:
            DataError: it is not in the table.
        """
        try:
            return self._numbers[self._key(spec)]
        except (KeyError, TypeError):
            raise DataError(f"table {self.name} has no configuration {dict(spec)}.") from None

    def metrics(self, number: int, *, seed: int, steps: int) -> Metrics | None:
        """Validation metrics and cost of a configuration after `steps` of the replicate of a seed; None = failed."""
        seeds, every = self.seeds, self.steps
        row = (number * len(seeds) + seed % len(seeds)) * len(every) + every.index(steps)
        found = self.values[row].tolist()
        return None if math.isnan(found[0]) else dict(zip(self.columns, found, strict=True))

    def means(self, steps: int) -> dict[int, Metrics]:
        """Mean over the seeds of every configuration that failed with none of them, by its number."""
        by_seed = self.values.reshape(len(self.specs), len(self.seeds), len(self.steps), -1)
        mean = by_seed[:, :, self.steps.index(steps)].mean(axis=1)
        return {
            number: dict(zip(self.columns, found, strict=True))
            for number, found in enumerate(mean.tolist())
            if not math.isnan(found[0])
        }

    def read_test(self, numbers: Sequence[int]) -> list[dict[str, list[float | None]]]:
        """Test metrics of fully trained configurations: a value per seed, None where the training failed."""
        names = [f"test/{name}" for name in self.about["metrics"]]
        wanted = pl.col("config_id").is_in(list(set(numbers))) & (pl.col("step") == self.steps[-1])
        rows = pl.read_parquet(self.path, columns=["config_id", "seed", "step", *names], glob=False).filter(wanted)
        by_number = {key[0]: part.sort("seed") for key, part in rows.partition_by("config_id", as_dict=True).items()}
        return [{name.removeprefix("test/"): by_number[number][name].to_list() for name in names} for number in numbers]

    def _key(self, spec: Spec) -> tuple[Any, ...]:
        return tuple(spec.get(name) for name in self.space.names)

    def _check(self) -> None:
        """Check that there is a row for each configuration, seed and number of steps, and that no number is missing.

        Raises:
            DataError: names the first row or column that is wrong.
        """
        columns = [*_KEYS, *self.space.names]
        expected = [
            (number, seed, step, *self._key(spec))
            for (number, spec), seed, step in itertools.product(enumerate(self.specs), self.seeds, self.steps)
        ]
        for wanted, found in itertools.zip_longest(expected, self.rows.select(columns).rows()):
            if found != wanted:
                raise DataError(
                    f"{self.path} must have each configuration, seed and step once; expected {', '.join(columns)} = "
                    f"{wanted}, got {found}."
                )
        failed = self.rows["failed"].to_numpy()[:, None]
        is_metric = np.arange(self.values.shape[1]) < len(self.about["metrics"])
        for row, column in np.argwhere(np.isfinite(self.values) == (failed & is_metric))[:1].tolist():
            raise DataError(
                f"{self.path}: {list(self.columns.values())[column]} of configuration, seed, step "
                f"{self.rows.select(_KEYS).row(row)} must be a number, or empty if it is a "
                f"metric of a failed training; got {self.values[row, column]}."
            )


def _description(path: Path) -> Mapping[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; a table needs a description in the same folder.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        got = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise DataError(f"{path} must be a description of format {FORMAT}, got {got}; make the table again.")
    if missing := [name for name in _REQUIRED if name not in about]:
        raise DataError(f"{path} must say {', '.join(_REQUIRED)}; {', '.join(missing)} is missing.")
    return about


def _rows(path: Path, about: Mapping[str, Any], space: SearchSpace) -> pl.DataFrame:
    """The columns that are looked up, sorted."""
    numbers = [f"validation/{name}" for name in about["metrics"]] + [*about["costs"], "train_seconds"]
    wanted = [*_KEYS, "failed", *space.names, *numbers]
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {error}.") from None
    tests = [f"test/{name}" for name in about["metrics"]]
    if missing := [name for name in (*wanted, *tests) if name not in schema]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}.")
    if wrong := [name for name in (*numbers, *tests) if not schema[name].is_numeric()]:
        raise DataError(f"{path}: {wrong[0]} must be numbers, got {schema[wrong[0]]}.")
    if schema["failed"] != pl.Boolean or not all(schema[name].is_integer() for name in _KEYS):
        raise DataError(f"{path}: config_id, seed and step must be whole numbers and failed true or false.")
    return pl.read_parquet(path, columns=wanted, glob=False).sort(_KEYS)


@final
class Tabular(Problem):
    """A table as a problem.

    Args:
        config: of the run; it may name another table, other objectives, steps and rungs of the table.
    Attributes:
        table: of the metrics.
        steps: the search budget, among the steps of the table.
    Raises:
        DataError: the table cannot be used.
        ConfigError: lists settings and metrics that the table does not have.
    """

    def __init__(self, config: TabularConfig) -> None:
        self.table = table = Table.read(config.data.path)
        k = int(table.about["k"])
        tasks: dict[str, TaskKind] = dict.fromkeys(table.about["tasks"], "binary")
        errors = []
        if config.evaluation.k != k:
            errors.append(f"evaluation.k must be {k}, the length of the lists in table {table.name}.")
        for key, steps in (("steps", (config.training.steps,)), ("rungs", config.training.rungs)):
            if not set(steps) <= set(table.steps):
                known = f"the steps of table {table.name}, {list(table.steps)}"
                errors.append(f"training.{key} must be among {known}; got {list(steps)}.")
        if errors:
            raise ConfigError("\n".join(errors))
        self.name = config.problem_name
        self.data_sha256 = table.sha256()
        self.seed, self.steps = config.search.seed, config.training.steps
        self.rungs, self.rung_keep = config.training.rungs, config.training.rung_keep
        self.space = table.space.with_overrides(config.space)
        corners = {  # ideal and worst
            name: (high, low) if find_metric(name).direction == "max" else (low, high)
            for name, (low, high) in table.about["bounds"].items()
        }
        self.objectives = build_objectives(config.objectives, k=k, box={}, cost_bounds=corners, tasks=tasks)
        self.constraints = tuple(
            parse_constraint(text, k=k, baselines=self.baselines(), tasks=tasks) for text in config.constraints
        )
        wanted = [*(o.metric for o in self.objectives), *(c.metric for c in self.constraints)]
        if missing := [name for name in wanted if name not in table.columns]:
            raise ConfigError(f"table {table.name} has no {', '.join(missing)}; it has {', '.join(table.columns)}.")
        self._opened: tuple[int, ...] | None = None

    def shape_key(self, spec: Spec) -> Hashable:
        """All specs may be looked up at once."""
        return ()

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        seed: int,
        rung: int | None = None,
        states: Sequence[Any] | None = None,
        **_: Any,
    ) -> list[Outcome]:
        """Looks up validation metrics; the replicate is `seed` modulo the number of the table's seeds."""
        steps = None if rung is None else self.rungs[rung]
        outcomes = []
        for spec in specs:
            number = self.table.number(spec)
            found = self.table.metrics(number, seed=seed, steps=steps or self.steps)
            cause = None if found else f"the training of configuration {number} failed"
            outcomes.append(Outcome(found, cause, rung=steps, extra={"config_id": number}))
        return outcomes

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of popularity, ItemKNN and EASE on the same rows."""
        return dict(self.table.about["baselines"]["validation"])

    def expected(self, specs: Sequence[Spec]) -> list[Metrics]:
        """Metrics of configurations, averaged over all seeds. To evaluate a search, not for use inside it.

        Raises:
            DataError: a configuration failed with a seed.
        """
        means = self.table.means(self.steps)
        numbers = [self.table.number(spec) for spec in specs]
        if failed := [number for number in numbers if number not in means]:
            raise DataError(f"configuration {failed[0]} of table {self.table.name} failed with a seed and has no mean.")
        return [means[number] for number in numbers]

    def reference_front(self) -> list[Spec]:
        """The configurations with feasible, non-dominated means over the seeds."""
        means = {
            number: metrics
            for number, metrics in self.table.means(self.steps).items()
            if self._key_in_space(self.table.specs[number])
        }
        F, G = to_matrices(list(means.values()), self.objectives, self.constraints)
        feasible = np.flatnonzero((G <= 0).all(axis=1))
        numbers = np.array(list(means), dtype=np.int64)[feasible]
        return [self.table.specs[number] for number in numbers[non_dominated(F[feasible])]]

    def reference_hypervolume(self) -> float:
        """Share of the box that the reference front dominates, in `expected` values: the upper bound of a search."""
        return hypervolume_share(self.expected(self.reference_front()), self.objectives)

    def open_test(self, specs: Sequence[Spec]) -> list[dict[str, list[float | None]]]:
        """Test metrics of chosen configurations, per seed; the test is opened once.

        Args:
            specs: all that were chosen; the same call may be repeated, other specs are refused.
        Raises:
            ConfigError: it was opened for others before, which would make it a second validation; or the search budget
                is not the whole training, and only that was measured on the test.
        """
        if self.steps != self.table.steps[-1]:
            raise ConfigError(f"test metrics are of {self.table.steps[-1]} steps; training.steps is {self.steps}.")
        numbers = tuple(self.table.number(spec) for spec in specs)
        if self._opened not in (None, numbers):
            raise ConfigError(
                f"the test of table {self.table.name} was opened for {len(self._opened or ())} other configurations; "
                "choosing again after the test would make it a second validation."
            )
        self._opened = numbers
        return self.table.read_test(numbers)

    def _key_in_space(self, spec: Spec) -> bool:
        """Whether overrides have left a configuration in the space."""
        try:
            self.space.encode(spec)
        except ConfigError:
            return False
        return True


def build(config: TabularConfig | None = None) -> Tabular:
    """The problem on the table that `config` names in ``data.path``; the simulated table by default."""
    return Tabular(config or parse_config(DEFAULTS, source="problems.tabular", kind=TabularConfig))


def of_table(name: str) -> Tabular:
    """The problem on any table, with that table's own objectives, constraints, steps and length of lists.

    Args:
        name: ``simulated``, ``kuairand`` or the Parquet file of a table.
    Raises:
        DataError: the table cannot be used.
    """
    table = Table.read(name)
    own = {
        "data": {"path": name},
        "training": {"steps": table.steps[-1]},
        "evaluation": {"k": table.about["k"]},
        "objectives": table.about["objectives"],
        "constraints": table.about["constraints"],
    }
    return build(parse_config(merge(DEFAULTS, own), source="problems.tabular", kind=TabularConfig))
