"""The settings of a search for recommenders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from evorec.config.data import DataConfig
from evorec.config.ensemble import EnsembleConfig
from evorec.config.evaluation import EvaluationConfig
from evorec.config.finalize import FinalizeConfig
from evorec.config.fuse import FuseConfig
from evorec.config.nightly import NightlyConfig
from evorec.config.run import RunConfig
from evorec.config.simulator import FORMER_SETTINGS
from evorec.config.split import SplitConfig
from evorec.config.tables import ALWAYS
from evorec.config.tasks import TasksConfig
from evorec.config.training import TrainConfig
from evorec.errors import ConfigError

LATER_SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "split": {"validation": "random"},
    "tasks": {"sampled_negatives": 0},
    "training": {"inherit": "none"},
}
"""Settings that earlier versions did not have, with their defaults, which leave the name of a run as it was."""

OF_RETRIEVAL: Final = ("recall@k", "catalogue_coverage@k", "cost")
"""Objectives where no task is ranked, if none are named."""


def has_no_labels(data: Any) -> bool:
    """Whether the settings of ``[data]`` describe a log without labels, each row of which is a positive of `ALWAYS`."""
    if not isinstance(data, Mapping) or data.get("reader") != "table":
        return False
    log = data.get("log", {})
    tables = [log, *log.get("sources", ())] if isinstance(log, Mapping) else log
    return not any(table.get("tasks") or table.get("event") for table in tables if isinstance(table, Mapping))


class RecommenderConfig(RunConfig):
    """Settings of a problem that trains recommenders on a log of interactions."""

    NOT_RESULTS: ClassVar[Any] = {
        "run": True,
        "ensemble": True,
        "finalize": True,
        "fuse": True,
        "nightly": True,
        "data": {
            **dict.fromkeys(("path", "log", "users", "items"), True),
            "content": {"__all__": {"path", "ids", "links"}},
        },
    }
    """Data enter the fingerprint by their content, not by the files they were read from."""

    of_rows: ClassVar[bool] = False
    """Whether the data are rows without users and items (`evorec.config.rows.RowsConfig`)."""

    objectives: tuple[str, ...] = Field(("accuracy", "recall@k", "diversity", "cost"), min_length=1)
    """metrics to optimise; @k = evaluation.k"""
    constraints: tuple[str, ...] = ("recall@k >= 0.9 * popularity",)
    """"METRIC >= NUMBER" or "METRIC >= NUMBER * BASELINE", also <=; baselines are popularity,
    recent_popularity, item_knn, ease, fading_knn and gradient_boosting"""
    inputs: Literal["all", "search"] = "search"
    """features and content that a member sees: all, or search = each has a gene that switches it on or off, which
    [space] may fix"""
    data: DataConfig = Field(default_factory=DataConfig)
    split: SplitConfig = SplitConfig()
    tasks: TasksConfig = TasksConfig()
    training: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    finalize: FinalizeConfig = FinalizeConfig()
    fuse: FuseConfig = FuseConfig()
    nightly: NightlyConfig = NightlyConfig()

    @model_validator(mode="before")
    @classmethod
    def _only_what_the_labels_allow(cls, value: Any) -> Any:
        """Without labels in the log no task is ranked, and without ranked tasks no metric of tasks is an objective."""
        if not isinstance(value, Mapping) or not isinstance(tasks := value.get("tasks", {}), Mapping):
            return value
        if has_no_labels(value.get("data")):
            tasks = {"ranked": (), "target": ALWAYS, **tasks}
            value = {**value, "tasks": tasks}
        if "ranked" in tasks and not tasks["ranked"]:
            return {"objectives": OF_RETRIEVAL, **value}
        return value

    @model_validator(mode="after")
    def _items_are_described(self) -> Self:
        if self.data.has_items == self.of_rows:
            raise ValueError(
                'problem = "rows" is for tables without users and items: leave data.log.user and data.log.item out, or '
                "name another problem"
                if self.of_rows
                else "data.log needs user and item: without items there is nothing to list. A table of rows with "
                'features and labels alone is searched with problem = "rows"'
            )
        return self

    @model_validator(mode="after")
    def _parts_are_used(self) -> Self:
        if self.data.has_parts and self.split.kind != "given":
            raise ValueError(
                f'data.log names the parts of the rows, and split.kind = "{self.split.kind}" ignores them: set '
                'split.kind = "given", or leave data.log.part and data.log.parts out'
            )
        return self

    @property
    def k(self) -> int:
        """Length of the lists that metrics with ``@k`` measure."""
        return self.evaluation.k

    def facts(self) -> dict[str, str]:
        """The settings in words, as reports show them."""
        data, tasks, training = self.data, self.tasks, self.training
        source = f"simulator, {data.simulator.scenario}" if data.reader == "simulator" else data.reader
        n = tasks.sampled_negatives
        sampled = f"; AUC is against {n} sampled negatives per positive" if n else ""
        budget = f"{training.steps} steps of {training.batch_size} impressions"
        if training.rungs:
            steps = ", ".join(map(str, training.rungs))
            budget += f"; compared at step {steps}, where a share of {training.rung_keep:g} trains on"
        if training.inherit != "none":
            budget += "; begins with the weights of the nearest earlier candidate"
        return {
            "data": f"{source}{f', {data.path}' if data.path else ''}, {self.split.kind} split",
            "tasks": f"{', '.join(tasks.ranked) or 'retrieval only'}; recall counts {tasks.target}{sampled}",
            "lists": f"k = {self.evaluation.k} items out of {self.evaluation.candidates} candidates",
            "each candidate": budget,
            **super().facts(),
        }

    def result_settings(self) -> dict[str, Any]:
        """The settings that can change a result of the search, as plain JSON."""
        settings = super().result_settings()
        settings["data"]["simulator"] = {**FORMER_SETTINGS, **settings["data"]["simulator"]}
        for section, added in LATER_SETTINGS.items():
            for name, default in added.items():
                if settings[section][name] == default:
                    del settings[section][name]
        return settings


def recommender_config(config: RunConfig) -> RecommenderConfig:
    """The configuration of a problem that trains recommenders.

    Raises:
        ConfigError: its problem is of another kind.
    """
    if not isinstance(config, RecommenderConfig):
        raise ConfigError(f"problem {config.problem!r} trains no recommender; this command is for problems that do.")
    return config
