"""The settings of a search on a table of rows: features and labels, without users and items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, Self, final

from pydantic import Field, model_validator

from evorec.config.data import DataConfig
from evorec.config.recommender import RecommenderConfig, has_no_labels
from evorec.config.simulator import SIMULATORS
from evorec.config.tasks import TaskKind
from evorec.config.training import TrainConfig

SCENARIO: Final = "rows"
"""Simulated rows that are the data by default."""


@final
class RowsConfig(RecommenderConfig):
    """Settings of a problem that trains multi-task models on rows of features and labels.

    The ranked tasks are the labels of the table, and the objectives the accuracy of each of them and the cost, unless
    the settings name others. Rows are split by time where the table has times or parts of its own, else at random.
    """

    of_rows: ClassVar[bool] = True

    data: DataConfig = Field(default_factory=lambda: DataConfig(statistics=(), simulator={"scenario": SCENARIO}))
    objectives: tuple[str, ...] = Field(("accuracy", "cost"), min_length=1)
    """metrics to optimise; by default auc/TASK, or concordance/TASK of numbers, of every task, and cost"""
    constraints: tuple[str, ...] = ()
    """"METRIC >= NUMBER" or "METRIC >= NUMBER * BASELINE", also <=; baselines are constant, logistic_regression and
    gradient_boosting"""

    @model_validator(mode="before")
    @classmethod
    def _as_the_table_says(cls, value: Any) -> Any:
        """Tasks, objectives and split by the labels and times of the table, where the settings leave them out."""
        if not isinstance(value, Mapping):
            return value
        data = value.get("data", {"simulator": {"scenario": SCENARIO}})
        tasks, split = (value.get(name, {}) for name in ("tasks", "split"))
        if not all(isinstance(section, Mapping) for section in (data, tasks, split)):
            return value
        if has_no_labels(data):
            raise ValueError('data.log.tasks is missing: it names the labels, e.g. tasks = { bought = "bought" }')
        data = {"statistics": (), **data}
        labels = _labels(data)
        if "ranked" not in tasks:
            known = {task: kind for task, kind in labels.items() if kind != "binary"}
            tasks = {"ranked": tuple(labels), "kinds": known, **tasks}
        kinds = tasks.get("kinds")
        numbers = kinds if isinstance(kinds, Mapping) else {}
        # The keys of `evorec.metrics.accuracy.ordering_key`.
        metrics = {
            task: "auc" if numbers.get(task, "binary") == "binary" else "concordance" for task in tasks["ranked"]
        }
        if "kind" not in split:
            split = {**split, "kind": _split_kind(data)}
        objectives = (*(f"{metric}/{task}" for task, metric in metrics.items()), "cost")
        return {"objectives": objectives, **value, "data": data, "tasks": tasks, "split": split}

    @model_validator(mode="after")
    def _nothing_needs_items(self) -> Self:
        data, log, first = self.data, self.data.log, TrainConfig()
        given = {
            "data.users": data.users != type(data.users)(),
            "data.items": data.items != type(data.items)(),
            "data.content": bool(data.content),
            "data.statistics": bool(data.statistics),
            "data.log.pivot": log.pivot.is_on,
            "data.log.duplicates": log.duplicates != "keep",
            "tasks.target": bool(self.tasks.target),
            "tasks.sampled_negatives": bool(self.tasks.sampled_negatives),
            "training.uniform_negatives": self.training.uniform_negatives != first.uniform_negatives,
            "evaluation.groups": bool(self.evaluation.groups),
            "evaluation.spend": bool(self.evaluation.spend),
        }
        if wrong := [key for key, is_given in given.items() if is_given]:
            raise ValueError(f"a table of rows has no users and items, which {', '.join(wrong)} would need; leave out")
        if self.split.kind not in ("time", "random", "given") or self.split.validation not in ("time", "random"):
            raise ValueError(
                "a table of rows has no users: split.kind must be time, random or given, and split.validation time or "
                f"random, got {self.split.kind} and {self.split.validation}"
            )
        if not self.tasks.ranked:
            raise ValueError(
                "tasks.ranked must name a label: without a ranked task and without items nothing is learned"
            )
        return self


def _tables(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The raw settings of the log and of its sources."""
    log = data.get("log", {})
    for table in (log, *log.get("sources", ())) if isinstance(log, Mapping) else log:
        if isinstance(table, Mapping):
            yield table


def _labels(data: Mapping[str, Any]) -> dict[str, TaskKind]:
    """The labels of the table, or of the simulated rows, with their kinds as far as the data say them."""
    if data.get("reader", "simulator") == "simulator":
        simulator = data.get("simulator", {})
        scenario = simulator.get("scenario", "") if isinstance(simulator, Mapping) else simulator.scenario
        return dict(SIMULATORS[scenario].settings.labels) if scenario in SIMULATORS else {}
    return {label: "binary" for table in _tables(data) for label in table.get("tasks", ())}


def _split_kind(data: Mapping[str, Any]) -> str:
    tables = list(_tables(data))
    if data.get("reader") == "table" and any(table.get("part") or table.get("parts") for table in tables):
        return "given"
    return "time" if data.get("reader") == "table" and any(table.get("time") for table in tables) else "random"
