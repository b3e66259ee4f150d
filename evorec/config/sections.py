"""The sections of a run's configuration: a field is the default, the TOML key and the help at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from evorec.config.content import COOCCURRENCE, ContentTable, CooccurrenceContent
from evorec.config.evaluation import EvaluationConfig
from evorec.config.fuse import FuseConfig
from evorec.config.section import Section
from evorec.config.simulator import FORMER_SETTINGS, AnySimulatorConfig, simulator_config
from evorec.config.tables import ItemsConfig, LogConfig, UsersConfig

Overlay = Mapping[str, Any]
"""A nested, partial configuration, e.g. ``{"training": {"steps": 100}}``."""


class DataConfig(Section):
    """Where the interactions come from."""

    reader: str = Field(
        "simulator",
        description="simulator, table (any files, as log, users and items say), or the published files of kuairand, "
        "movielens, kuairec, kuairec_small, aliccp, aliexpress, amazon or retailrocket",
    )
    path: str | None = Field(
        None,
        description="folder to read; a relative path is looked up here, then under $EVOREC_DATA, then among the data "
        "sets of `evorec data get`",
    )
    statistics: tuple[str, ...] = Field(
        ("user", "item"),
        description="histories whose counts and rates on earlier days enter the ranker, e.g. user, item, author_id, "
        "user+tab",
    )
    history_length: int = Field(
        30, ge=1, le=1000, description="latest target positives of a user that enter the retrieval vector"
    )
    history_recency: float = Field(
        0.0, ge=0, le=4, description="the j-th latest positive (from 0) weighs (1 + j) ** -recency; 0 = all alike"
    )
    content: ContentTable = Field({}, description="fixed vectors of items beside those of the item table, by name")
    simulator: AnySimulatorConfig = Field(default_factory=lambda: simulator_config({}))
    log: LogConfig = Field(LogConfig(), description="the log of reader = table")
    users: UsersConfig = Field(UsersConfig(), description="the table of users of reader = table")
    items: ItemsConfig = Field(ItemsConfig(), description="the table of items of reader = table")

    @property
    def cooccurrence(self) -> CooccurrenceContent | None:
        """The source of content that each fit learns from its training rows, if there is one."""
        source = self.content.get(COOCCURRENCE)
        return source if isinstance(source, CooccurrenceContent) else None

    @model_validator(mode="after")
    def _tables_are_described(self) -> DataConfig:
        sections: dict[str, Section] = {"log": self.log, "users": self.users, "items": self.items}
        if self.reader != "table":
            if given := [name for name, section in sections.items() if section != type(section)()]:
                raise ValueError(f'only reader = "table" reads {" and ".join(given)}, got reader = "{self.reader}"')
            return self
        needed = ("files", "user", "item", "time", "tasks")
        if missing := [f"log.{name}" for name in needed if not getattr(self.log, name)]:
            raise ValueError(f'reader = "table" needs {", ".join(missing)}')
        return self


class SplitConfig(Section):
    """How rows are divided into train, validation and test."""

    kind: Literal["time", "leave_last_out", "random"] = Field(
        "time", description="time = global cut; leave_last_out = per user; random flatters every metric"
    )
    validation_from: date | None = Field(None, description="first day of validation, UTC (time split)")
    test_from: date | None = Field(None, description="first day of test, UTC (time split)")
    utc_offset_h: float = Field(0.0, ge=-14, le=14, description="hours to add to UTC before days are cut, in hours")
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="share of rows when no day is given")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="share of rows when no day is given")
    seed: int = Field(0, ge=0, description="seed of the random split")

    @model_validator(mode="after")
    def _days_in_order(self) -> SplitConfig:
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("validation_from and test_from must be given together")
        if self.validation_from and self.test_from and self.validation_from >= self.test_from:
            raise ValueError(f"validation_from ({self.validation_from}) must be before test_from ({self.test_from})")
        return self


class QuantileKind(Section):
    """A task whose labels are numbers, of which a quantile is learned, e.g. what 90 % of the rows stay below."""

    quantile: float = Field(gt=0, lt=1, description="share of rows whose label is to be below the prediction")


def _kind_tag(value: Any) -> str | None:
    if isinstance(value, QuantileKind | Mapping):
        return "quantile"
    return "name" if value in ("binary", "regression") else None


TaskKind = Annotated[
    Annotated[Literal["binary", "regression"], Tag("name")] | Annotated[QuantileKind, Tag("quantile")],
    Discriminator(_kind_tag, custom_error_type="kind", custom_error_message="no kind of task"),
]
"""What the labels of a task are: 0 and 1, numbers whose mean is learned, or numbers of which a quantile is."""


def kind_name(kind: TaskKind) -> Literal["binary", "regression", "quantile"]:
    """The kind without its number.

    Example:
        >>> kind_name("regression"), kind_name(QuantileKind(quantile=0.9))
        ('regression', 'quantile')
    """
    return "quantile" if isinstance(kind, QuantileKind) else kind


def task_in_words(task: str, kind: TaskKind) -> str:
    """A task with its kind, where it is not binary.

    Example:
        >>> [task_in_words("watch", kind) for kind in ("binary", "regression", QuantileKind(quantile=0.9))]
        ['watch', 'watch (regression)', 'watch (quantile 0.9)']
    """
    if isinstance(kind, QuantileKind):
        return f"{task} (quantile {kind.quantile:g})"
    return task if kind == "binary" else f"{task} ({kind})"


class TasksConfig(Section):
    """Which label columns are learned."""

    ranked: tuple[str, ...] = Field((), description="label columns that the ranker learns, one tower each")
    target: str = Field("", description="label column whose positives are retrieved and counted by recall")
    funnel: tuple[str, ...] = Field(
        (), description="ranked tasks in order, each later one implies the earlier ones, e.g. click, purchase"
    )
    given: dict[str, str] = Field(
        {}, description="ranked task -> label whose positives are the only rows it is learned and measured on"
    )
    kinds: dict[str, TaskKind] = Field(
        {},
        description="ranked task -> what its labels are: binary (0 and 1; the default), regression (numbers, squared "
        "error), {quantile = 0.9} (numbers, pinball loss)",
    )
    lower_is_better: tuple[str, ...] = Field(
        (),
        description="ranked tasks whose high values are bad, e.g. a side effect, a waiting time or what something "
        "costs: they count against an item in lists; losses and AUC do not change",
    )

    @model_validator(mode="after")
    def _names_fit_together(self) -> TasksConfig:
        lower = self.lower_is_better
        for name, tasks in (("ranked", self.ranked), ("funnel", self.funnel), ("lower_is_better", lower)):
            if len(set(tasks)) != len(tasks):
                raise ValueError(f"{name} lists a task twice: {list(tasks)}")
        named = {"funnel": self.funnel, "given": self.given, "kinds": self.kinds, "lower_is_better": lower}
        for name, some in named.items():
            if unknown := [task for task in some if task not in self.ranked]:
                raise ValueError(f"{name} names {unknown}, which must be among ranked, {list(self.ranked)}")
        if wanted := [task for task in lower if task in (*self.funnel, self.target)]:
            raise ValueError(
                f"lower_is_better names {wanted}, and the target and the steps of the funnel are what lists look for; "
                "take them out of it"
            )
        if len(self.funnel) == 1:
            raise ValueError(f"funnel must have two or more tasks, or none, got {list(self.funnel)}")
        counted = dict.fromkeys((*self.funnel, self.target))
        if numbers := [task for task in counted if self.kinds.get(task, "binary") != "binary"]:
            raise ValueError(
                f"the steps of the funnel and target must be binary, and kinds makes {numbers} numbers; make a label "
                "of 0 and 1 of it for that, e.g. rating >= 4"
            )
        for task in self.given:
            chain = self.conditions(task)
            if chain[-1] in chain[:-1]:
                raise ValueError(f"given goes in a circle: {' among '.join(chain)}")
        return self

    def kind_of_each(self) -> dict[str, TaskKind]:
        """Every ranked task, in order, and what its labels are.

        Example:
            >>> TasksConfig(ranked=("click", "watch"), kinds={"watch": "regression"}).kind_of_each()
            {'click': 'binary', 'watch': 'regression'}
        """
        return {task: self.kinds.get(task, "binary") for task in self.ranked}

    def signs(self) -> tuple[int, ...]:
        """1 or -1 for every ranked task, as its logit counts in lists, ``(T,)``; empty = all count as they are.

        Example:
            >>> TasksConfig(ranked=("click", "pain"), lower_is_better=("pain",)).signs()
            (1, -1)
        """
        if not self.lower_is_better:
            return ()
        return tuple(-1 if task in self.lower_is_better else 1 for task in self.ranked)

    def conditions(self, task: str) -> tuple[str, ...]:
        """The task, the label it is given, the label that one is given, and so on; a circle ends at its first repeat.

        Example:
            >>> TasksConfig(ranked=("click", "buy"), given={"buy": "click"}).conditions("buy")
            ('buy', 'click')
        """
        chain = [task]
        while chain[-1] in self.given and len(set(chain)) == len(chain):
            chain.append(self.given[chain[-1]])
        return tuple(chain)


class TrainConfig(Section):
    """The search budget: what every candidate gets, and what stays the same for all of them."""

    steps: int = Field(200, ge=1, le=1_000_000, description="optimiser steps")
    batch_size: int = Field(1024, ge=2, le=65_536, description="impressions per step")
    retrieval_batch: int = Field(256, ge=2, le=8192, description="target positives per step, in-batch softmax")
    next_item: bool = Field(
        False,
        description="retrieval learns a positive from the positives before it (for held-out rows that come next; a "
        "repeated item counts each time), not from the user's whole past without it",
    )
    uniform_negatives: int = Field(
        128,
        ge=0,
        le=8192,
        description="items drawn uniformly per step, for members that take their negatives from them; 0 = no such "
        "members",
    )
    layers: int = Field(3, ge=1, le=8, description="layers L between the embeddings and the task heads")
    precision: Literal["float32", "float64", "bfloat16", "auto"] = Field(
        "float32",
        description="floating point type of the training; bfloat16 = layers and their products only, parameters, "
        "losses and measuring stay float32; auto = bfloat16 where the processor computes it natively, else float32",
    )
    rungs: tuple[Annotated[int, Field(ge=1, strict=True)], ...] = Field(
        (),
        description="steps at which the members of a generation are compared and the worse ones stop, ascending and "
        "below steps; empty = all train to the end",
    )
    rung_keep: float = Field(0.5, ge=0.5, lt=1, description="share of the members that trains on after a rung")

    @model_validator(mode="after")
    def _rungs_in_order(self) -> TrainConfig:
        if any(low >= high for low, high in pairwise((0, *self.rungs, self.steps))):
            raise ValueError(f"rungs must ascend and stay below steps ({self.steps}), got {list(self.rungs)}")
        return self


class Bounds(Section):
    """New bounds of a gene, in the gene's own unit."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Bounds:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high}); give one value to fix the gene")
        return self


class Box(Section):
    """The two corners of an objective's axis in the hypervolume box."""

    ideal: float
    worst: float

    @model_validator(mode="after")
    def _not_flat(self) -> Box:
        if self.ideal == self.worst:
            raise ValueError(f"ideal and worst are both {self.ideal}")
        return self


def _override_kind(value: Any) -> str | None:
    if isinstance(value, Bounds | Mapping):
        return "bounds"
    if isinstance(value, list | tuple):
        return "options" if value and all(isinstance(option, str) for option in value) else "weights"
    return type(value).__name__ if isinstance(value, bool | int | float | str) else None


GeneOverride = Annotated[
    Annotated[Bounds, Tag("bounds")]
    | Annotated[tuple[float, ...], Tag("weights")]
    | Annotated[tuple[str, ...], Tag("options")]
    | Annotated[bool, Tag("bool")]
    | Annotated[int, Tag("int")]
    | Annotated[float, Tag("float")]
    | Annotated[str, Tag("str")],
    Discriminator(_override_kind, custom_error_type="override", custom_error_message="no kind of override"),
]
"""One value fixes a gene (a list of numbers fixes task weights), a list of texts restricts its options, ``{low, high}``
moves its bounds; a value's type is kept."""


class SearchConfig(Section):
    """The evolutionary search."""

    algorithm: Literal["nsga2", "weighted_sum", "random"] = Field(
        "nsga2",
        description="nsga2 = many objectives at once; as baselines at equal training: weighted_sum = a genetic "
        "algorithm on one sum of the objectives, random = random genomes; all keep the best trade-offs they met",
    )
    selection: Literal["hypervolume", "crowding"] = Field(
        "hypervolume",
        description="nsga2: what decides inside a front that not all survive: hypervolume = what a genome adds to the "
        "share of the box (beyond 5 objectives, or in fronts of more than 100 genomes with 5 objectives, 400 with 4 or "
        "5000 with 3, crowding decides); crowding = how far its neighbours are",
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="weighted_sum: weight of each objective's place in its box, in the order of objectives; empty = "
        "all alike",
    )
    penalty: float = Field(
        1.0, ge=0, description="weighted_sum: what is added per unit of violated constraints, λ of f + λ g"
    )
    population: int = Field(24, ge=4, le=10_000, description="genomes per generation")
    generations: int = Field(8, ge=1, le=100_000, description="generations, the first one included")
    seed: int = Field(0, ge=0, description="seed of the run: initial genomes, operators, training streams")

    @model_validator(mode="after")
    def _weights_are_of_a_sum(self) -> SearchConfig:
        if self.weights and self.algorithm != "weighted_sum":
            raise ValueError(f'only algorithm = "weighted_sum" has weights, got algorithm = "{self.algorithm}"')
        if self.weights and sum(self.weights) == 0:
            raise ValueError(f"weights must not all be 0, got {list(self.weights)}")
        return self


class FinalizeConfig(Section):
    """How members are chosen and trained again before the test is opened."""

    picks: tuple[str, ...] = Field(
        (),
        description="validation picks: METRIC or best:METRIC, knee; either narrowed by where METRIC >= NUMBER and ..., "
        "or ,METRIC>=NUMBER; all = every member; empty = best of each objective, and the knee",
    )
    seeds: int = Field(3, ge=1, le=100, description="fresh seeds per pick; the first one is shipped")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the bootstrap over users")
    steps: Literal["validation", "search"] = Field(
        "validation",
        description="steps of the final training: validation = as many as served the member best when it was trained "
        "on the training part again and watched on validation; search = training.steps",
    )
    patience: int = Field(
        3, ge=1, le=100, description="checkpoints, of training.steps / 10 each, without a new best that end a task"
    )
    longest: float = Field(3.0, ge=1, le=100, description="most steps of the final training, in training.steps")
    boosting: bool = Field(True, description="gradient boosting of each task as a baseline on the test")


class ExecutionConfig(Section):
    """Where and how the run executes; changes no result on a CPU and is not part of the fingerprint."""

    output: str = Field("runs", description="folder for run directories")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        examples=["auto", "cpu", "cuda", "cuda:1"],
        description="where the tensors live; auto = CUDA where there is one",
    )
    workers: int = Field(0, ge=0, le=1024, description="groups trained at once on a CPU; 0 = one per core")
    executor: Literal["auto", "processes", "threads", "serial"] = Field(
        "auto", description="how groups train at once; auto = what suits the device"
    )
    memory_gib: float = Field(
        0.0, ge=0, description="memory that programs trained at once may fill, in GiB; 0 = half of what is available"
    )
    chunk: int = Field(32, ge=1, le=4096, description="most members in one program")

    def n_workers(self, device: str) -> int:
        """Groups trained at once on ``cpu`` or ``cuda``: one fills a GPU."""
        if device != "cpu" or self.executor == "serial":
            return 1
        return self.workers or len(os.sched_getaffinity(0))


_NOT_RESULTS: Any = {
    "run": True,
    "finalize": True,
    "fuse": True,
    "data": {
        **dict.fromkeys(("path", "log", "users", "items"), True),
        "content": {"__all__": {"path", "ids", "links"}},
    },
}
"""Settings that change no result of the search: what stands in a place enters by its content."""


class RunConfig(Section):
    """Everything a run needs."""

    problem: str = Field("feed", description="name of the problem definition (`evorec problems`)")
    data: DataConfig = Field(default_factory=DataConfig)
    split: SplitConfig = SplitConfig()
    tasks: TasksConfig = TasksConfig()
    training: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    inputs: Literal["all", "search"] = Field(
        "search",
        description="features and parts of the content that a member sees: all, or search = each has a gene that "
        "switches it; [space] may fix either",
    )
    space: dict[str, GeneOverride] = Field(
        {},
        description="per gene: one value fixes it, {low, high} moves its bounds, a list of texts restricts its options",
    )
    objectives: tuple[str, ...] = Field(
        ("accuracy", "recall@k", "diversity", "cost"),
        min_length=1,
        description="metrics to optimise; @k = evaluation.k",
    )
    constraints: tuple[str, ...] = Field(
        ("recall@k >= 0.9 * popularity",), description='"METRIC >= NUMBER" or "METRIC >= NUMBER * BASELINE"'
    )
    box: dict[str, Box] = Field({}, description="per objective: corners of the hypervolume box")
    search: SearchConfig = SearchConfig()
    finalize: FinalizeConfig = FinalizeConfig()
    fuse: FuseConfig = FuseConfig()
    run: ExecutionConfig = ExecutionConfig()

    def result_settings(self) -> dict[str, Any]:
        """The settings that can change a result of the search, as plain JSON."""
        settings = self.model_dump(mode="json", exclude=_NOT_RESULTS)
        settings["data"]["simulator"] = {**FORMER_SETTINGS, **settings["data"]["simulator"]}
        return settings

    def fingerprint(self, data_sha256: str) -> str:
        """Name of the run: a hash of all settings that can change a result, and of the data.

        The data enter by their content: the same tables in another folder are the same run.

        Args:
            data_sha256: hash of the tables (`Tables.sha256`).
        Returns:
            12 hexadecimal digits.
        """
        settings = self.result_settings()
        text = json.dumps({"config": settings, "data": data_sha256}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
