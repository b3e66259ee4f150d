"""The held-out part of a data set as metrics read it, made once for all members and baselines of a fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import EvaluationConfig
from evorec.data.dataset import Csr, Dataset, Part
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError
from evorec.metrics.accuracy import NO_TASK
from evorec.metrics.lists import AttackedLists, ListData, RecommendedLists
from evorec.metrics.logged_choices import ChosenRows, LoggedChoices, LoggedRows, why_no_choice
from evorec.metrics.metric import (
    MeasuredValues,
    Measurements,
    Metric,
    all_metrics,
    measure,
    metrics_of,
    why_unavailable,
)
from evorec.metrics.task_rows import TaskPredictions, TaskRows
from evorec.seeds import generator


@final
@dataclass(frozen=True)
class RankingUsers:
    """The users that ranking metrics are computed on.

    Attributes:
        ids: int64 ``(U,)``, ascending.
        masked: items that are never listed to them.
        relevant: their held-out positives.
        groups: their stated groups, int64 ``(U,)``, -1 = unknown; ``None`` = no groups.
    """

    ids: npt.NDArray[np.int64]
    masked: Csr
    relevant: Csr
    groups: npt.NDArray[np.int64] | None = None


def ranking_users(dataset: Dataset, config: EvaluationConfig, *, seed: int, at_most: int | None) -> RankingUsers:
    """Users with a held-out positive, or a fixed, seeded sample of them.

    Args:
        config: `users` and `mask`.
        seed: seed of the sample; the same for all candidates of a run.
        at_most: size of the sample; ``None`` = all.
    Returns:
        Without items no users, who have no lists.
    Raises:
        DataError: no user has a held-out positive.
    """
    counts = dataset.relevant.counts()[: dataset.n_users]
    if not dataset.has_items:
        return RankingUsers(np.zeros(0, dtype=np.int64), dataset.seen.select(counts), dataset.relevant.select(counts))
    eligible = counts > 0
    if config.users == "warm":
        eligible &= dataset.history.counts()[: dataset.n_users] > 0
    ids = np.flatnonzero(eligible)
    if len(ids) == 0:
        raise DataError(
            f"ranking metrics of {dataset.name} need a known user with a positive of {dataset.target} in the held-out "
            f'rows, got none of {dataset.n_users} (evaluation.users = "{config.users}"); choose a longer held-out part.'
        )
    if at_most is not None and len(ids) > at_most:
        ids = np.sort(generator(seed, "ranking users").choice(ids, at_most, replace=False))
    groups = None if dataset.user_groups is None else dataset.user_groups[ids]
    return RankingUsers(ids, masked_items(dataset, config).select(ids), dataset.relevant.select(ids), groups)


def masked_items(dataset: Dataset, config: EvaluationConfig) -> Csr:
    """Per user id, the items that are never listed."""
    return dataset.seen if config.mask == "seen" else dataset.history


def item_columns(tables: Tables, item_ids: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The columns of the item table that registered metrics ask for, ``(I,)`` each, in the order of `item_ids`.

    A column that the table does not have is left out: the metric is then refused where it is wanted. An item that is
    not in the table has NaN, or None where the values are not numbers.
    """
    wanted = dict.fromkeys(name for metric in all_metrics() for name in metric.item_columns)
    if tables.items is None or not (known := [name for name in wanted if name in tables.items.columns]):
        return {}
    ids = pl.DataFrame({Columns.ITEM: item_ids}, schema={Columns.ITEM: tables.items.schema[Columns.ITEM]})
    found = ids.join(tables.items.select(Columns.ITEM, *known), on=Columns.ITEM, how="left", maintain_order="left")
    return {name: found[name].to_numpy() for name in known}


def task_rows(dataset: Dataset, part: Part) -> tuple[TaskRows, ...]:
    """The known labels of every task of a part."""
    return tuple(
        TaskRows.of(part.labels[:, i], part.users, task=task, kind=kind, unit=float(dataset.label_scale[i]))
        for i, (task, kind) in enumerate(zip(dataset.tasks, dataset.kinds, strict=True))
    )


NO_ITEMS: Final = "needs users and items, and a table of rows has none; leave it out."
"""Why rows without items have no metric of lists, of choices or of users."""


@final
class HeldOut:
    """The held-out part, and the metrics that models have on it.

    Args:
        dataset: its ``held_out`` part is measured.
        config: length of lists, spend and threshold.
        users: that lists are measured on, from `ranking_users`.
        wanted: keys of the metrics of objectives and constraints; an expensive metric is measured only if it is among
            them.

    Attributes:
        corners: (ideal, worst) by key, of metrics of choices: from these labels alone.
        unavailable: by key, why no model can have a metric on this data.
        needs_threshold: whether a metric asks for the improbable items of each user.
        needs_attack: whether a metric compares lists before and after an attack.
    """

    def __init__(
        self, dataset: Dataset, config: EvaluationConfig, users: RankingUsers, *, wanted: Collection[str] = ()
    ) -> None:
        self.dataset, self.config, self.users, self.wanted = dataset, config, users, frozenset(wanted)
        self.tasks = task_rows(dataset, dataset.held_out)
        self.logged = LoggedRows(dataset.held_out.users, n_users=dataset.n_users)
        self.choices = tuple(self._choices())
        self.lists = ListData(
            relevant=users.relevant,
            item_counts=dataset.item_counts,
            item_content=dataset.distance_content,
            groups=users.groups,
            user_ids=dataset.user_ids[users.ids],
            item_ids=dataset.item_ids,
            item_columns=dataset.item_columns,
            name=dataset.name,
        )
        self.corners: dict[str, tuple[float, float]] = {}
        self.unavailable: dict[str, str] = {}
        self._of_lists = self._available(RecommendedLists, self.lists, k=config.k)
        self._of_tasks = [self._available(TaskPredictions, rows, task=rows.task, kind=rows.kind) for rows in self.tasks]
        self._of_choices = [
            self._available(ChosenRows, choices, task=choices.task, kind=choices.kind) for choices in self.choices
        ]
        self._of_attacks = self._available(AttackedLists, self.lists, k=config.k)
        self._of_values = metrics_of(MeasuredValues, wanted=self.wanted)
        if not dataset.tasks:
            self._of_values = tuple(metric for metric in self._of_values if metric.name != "accuracy")
            self.unavailable["accuracy"] = NO_TASK
        self.needs_threshold = any("n_improbable" in metric.inputs for metric in self._of_lists)
        self.needs_attack = bool(self._of_attacks)

    def __reduce__(self) -> Any:
        """Made anew in another process: that is faster than to send the sorted rows."""
        return partial(HeldOut, wanted=self.wanted), (self.dataset, self.config, self.users)

    def all_corners(self) -> dict[str, tuple[float, float]]:
        """(ideal, worst) by key of all metrics whose corners depend on the data; those of errors on training rows."""
        errors = {
            metric.key(task=rows.task): metric.corners(rows)
            for rows in task_rows(self.dataset, self.dataset.train)
            for metric in metrics_of(TaskPredictions, wanted=self.wanted, kind=rows.kind, task=rows.task)
            if metric.corners is not None
        }
        return self.corners | {key: corners for key, corners in errors.items() if corners is not None}

    def baseline_keys(self) -> frozenset[str]:
        """Keys of the metrics that baselines have, too."""
        if not self.dataset.has_items:
            of_tasks = zip(self.tasks, self._of_tasks, strict=True)
            own = [metric.key(task=rows.task) for rows, metrics in of_tasks for metric in metrics]
            return frozenset([*own, *(metric.key() for metric in self._of_values)])
        metrics = (*self._of_lists, *self._of_attacks)
        return frozenset(metric.key(k=self.config.k) for metric in metrics if metric.has_baselines)

    def check(self, wanted: Collection[str] | None = None) -> None:
        """Refuses wanted metrics that this data cannot give to any model.

        Args:
            wanted: keys of metrics; ``None`` = those of objectives and constraints.
        Raises:
            DataError: a metric is unavailable; says why, and how to change it.
        """
        for key in sorted(self.wanted if wanted is None else wanted):
            if key in self.unavailable:
                raise DataError(f"{key} {self.unavailable[key]}")

    def measure_tasks(self, logits: npt.NDArray[np.floating]) -> dict[str, float]:
        """Metrics of each task, from a model's finite logits of the held-out rows ``(T, N)``."""
        out: dict[str, float] = {}
        for rows, metrics, own in zip(self.tasks, self._of_tasks, logits, strict=True):
            out |= measure(TaskPredictions(own[rows.rows], rows), metrics).values
        return out

    def measure_choices(self, logits: npt.NDArray[np.floating], weights: Sequence[float]) -> dict[str, float]:
        """Metrics of the rows that a model would choose; the worst corner where no chosen row has a label.

        Args:
            logits: of the held-out rows, ``(T, N)``, finite.
            weights: of the tasks' logits in the model's score, ``(T,)``, as in its lists.
        """
        if not any(self._of_choices):
            return {}
        scores = np.zeros(logits.shape[1])
        for weight, own in zip(weights, logits, strict=True):
            scores += weight * own.astype(np.float64)
        chosen = self.logged.better_half(scores)
        worst = {key: corners[1] for key, corners in self.corners.items()}
        out: dict[str, float] = {}
        for choices, metrics in zip(self.choices, self._of_choices, strict=True):
            out |= measure(ChosenRows(chosen, choices), metrics, worst=worst).values
        return out

    def measure_lists(
        self,
        lists: npt.NDArray[np.int64],
        *,
        retrieved: npt.NDArray[np.int64] | None = None,
        n_improbable: npt.NDArray[np.int64] | None = None,
    ) -> Measurements:
        """Metrics of a model's lists; of a baseline, which retrieves nothing, those that lists alone have.

        Args:
            lists, retrieved, n_improbable: see `RecommendedLists`.
        """
        metrics = [metric for metric in self._of_lists if retrieved is not None or metric.has_baselines]
        return measure(RecommendedLists(lists, self.lists, retrieved, n_improbable), metrics)

    def measure_attack(
        self, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]
    ) -> dict[str, float]:
        """Metrics of a model's lists before and after an attack; see `AttackedLists`."""
        return measure(AttackedLists(before, after, targets, self.lists), self._of_attacks).values

    def derived(self, values: dict[str, float]) -> dict[str, float]:
        """Metrics that are made of a member's other metrics."""
        return measure(MeasuredValues(values), self._of_values).values

    def _choices(self) -> Iterator[LoggedChoices]:
        dataset, spend = self.dataset, self.config.spend
        scale, shift = dataset.label_scale[:, None], dataset.label_shift[:, None]
        labels = shift + scale * dataset.held_out.labels.T.astype(np.float64)
        paid = np.nan_to_num(labels[dataset.tasks.index(spend)]) if spend else None
        signs = dataset.signs or (1,) * dataset.n_tasks
        for task, kind, sign, own in zip(dataset.tasks, dataset.kinds, signs, labels, strict=True):
            yield LoggedChoices(task, kind, sign, own, paid, self.logged, dataset.name)

    def _available(self, of: type, data: Any, *, kind: Any = None, **key: Any) -> tuple[Metric, ...]:
        """The metrics on this data, with their corners; the reasons against the others are kept."""
        out, has_items = [], self.dataset.has_items
        for metric in metrics_of(of, wanted=self.wanted, kind=kind, **key):
            is_of_rows = of is TaskPredictions and "users" not in metric.inputs
            name, reason = metric.key(**key), why_unavailable(metric, data) if is_of_rows or has_items else NO_ITEMS
            if reason is None and of is ChosenRows:
                corners = metric.corners(data) if metric.corners and self.logged.n_users else None
                if corners is not None:
                    self.corners[name] = corners
                elif metric.corners or not self.logged.n_users:
                    reason = why_no_choice(data)
            if reason is None:
                out.append(metric)
            else:
                self.unavailable[name] = reason
        return tuple(out)
