"""The data of a configuration, encoded once: arrays, tensors on the device, and the users whose lists are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import final

import numpy as np

from evorec.config import RecommenderConfig
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit
from evorec.data.held_out import HeldOut, RankingUsers, ranking_users
from evorec.data.splits import Split, split
from evorec.data.tables import Tables
from evorec.errors import TrainingError
from evorec.metrics.cost import Timing
from evorec.metrics.metric import measure as measure_inputs
from evorec.metrics.metric import metrics_of
from evorec.models.baselines import Baselines, SettingsOf
from evorec.models.boosting import FEW_ROWS, SEARCH_GRID, SEARCH_ROWS, BoostingResult, boosting
from evorec.models.population import Population, stack_members
from evorec.models.row_baselines import RowBaselines
from evorec.models.spec import ModelSpec
from evorec.objectives import wanted_metrics
from evorec.recommender.dataset import encode_tables
from evorec.training.evaluate import MemberMetrics, measure, member_lists, task_logits
from evorec.training.memory import memory_budget
from evorec.training.plan import DeviceData
from evorec.training.precision import Precision, resolve_precision
from evorec.training.trainer import resolve_device


@final
@dataclass(frozen=True, eq=False)
class EncodedData:
    """An encoding of the data; `encode_data` makes it.

    Attributes:
        config: of the run.
        dataset: NumPy arrays of the training and held-out rows.
        tensors: the same data on the device.
        users: the users whose lists are measured.
        precision: number types of parameters and activations.
        wanted: keys of the metrics of objectives and constraints.
        fit: rows that are held out.
        settings: of the baselines; ``None`` = chosen on validation, and where validation is not held out, the defaults.
    """

    config: RecommenderConfig
    dataset: Dataset
    tensors: DeviceData
    users: RankingUsers
    precision: Precision
    wanted: frozenset[str] = frozenset()
    fit: Fit = "train"
    settings: SettingsOf | None = None

    @cached_property
    def held_out(self) -> HeldOut:
        """The held-out rows and users, and the metrics that they have."""
        return HeldOut(self.dataset, self.config.evaluation, self.users, wanted=self.wanted)

    @cached_property
    def baselines(self) -> Baselines:
        """Baselines on the same rows and users; their settings are never chosen on test."""
        if not self.dataset.has_items:
            return RowBaselines(self.held_out)
        settings = {} if self.settings is None and self.fit != "train" else self.settings
        return Baselines(self.held_out, settings=settings, budget_bytes=memory_budget(self.config.run.memory_gib))

    @cached_property
    def boosted(self) -> BoostingResult | None:
        """Gradient boosting on the same rows of validation; ``None`` = not wanted, or no task is ranked."""
        if not self.config.finalize.boosting or not self.dataset.tasks:
            return None
        grid = None if self.dataset.train.n_rows < FEW_ROWS else SEARCH_GRID
        return boosting(self.dataset, None, seed=self.config.search.seed, grid=grid, most_rows=SEARCH_ROWS)

    def with_settings(self, settings: SettingsOf) -> EncodedData:
        """The same data, with these settings of the baselines."""
        return replace(self, settings=settings)

    def with_all_users(self) -> EncodedData:
        """The same data; lists are measured for every user with a held-out positive instead of a sample."""
        return replace(self, users=ranking_users(self.dataset, self.config.evaluation, seed=0, at_most=None))

    def stack(self, specs: Sequence[ModelSpec], members: Sequence[Mapping[str, np.ndarray]]) -> Population:
        """A population with stored weights, P specs and P dictionaries of arrays."""
        return stack_members(specs, self.tensors.shape, members, device=self.tensors.device)

    def measure(self, population: Population) -> list[MemberMetrics | TrainingError]:
        """Held-out metrics of each member of a trained population."""
        return measure(population, self.tensors, self.held_out)

    def timed(self, population: Population, member: int, train_seconds: float) -> dict[str, float]:
        """Metrics of a member that are measured by a clock; a request is for a single user, or a single row."""

        @cache
        def single() -> Population:
            return self.stack([population.specs[member]], [population.member_arrays(member)])

        def request() -> object:
            if not self.dataset.has_items:
                return task_logits(single(), self.tensors, self.dataset.held_out.rows(slice(1)))
            user = RankingUsers(self.users.ids[:1], self.users.masked.select(np.arange(1)), self.users.relevant)
            return member_lists(single(), self.dataset, self.tensors, user, self.config.evaluation)

        metrics = metrics_of(Timing, wanted=self.wanted)
        return measure_inputs(Timing(train_seconds, request), metrics).values


def encode_data(
    tables: Tables,
    config: RecommenderConfig,
    *,
    fit: Fit,
    seed: int,
    at_most: int | None,
    parts: Split | None = None,
    dataset: Dataset | None = None,
) -> EncodedData:
    """Encode the data of a configuration and copy them to its device.

    Args:
        tables: all interactions.
        config: of the run.
        fit: see `evorec.data.encode.Fit`.
        seed: of the sample of users whose lists are measured.
        at_most: size of the sample; ``None`` = all users with a held-out positive.
        parts: row numbers of the parts, with which expensive metrics are not measured; ``None`` = as the configuration
            splits.
        dataset: if the tables were encoded before, with the parts of the configuration.
    """
    wanted = frozenset(wanted_metrics(config)) if parts is None else frozenset[str]()
    parts = split(tables, config.split) if parts is None else parts
    dataset = encode_tables(tables, parts, config, fit=fit) if dataset is None else dataset
    device = resolve_device(config.run.device)
    precision = resolve_precision(config.training.precision, device)
    tensors = DeviceData.of(dataset, n_layers=config.training.layers, device=device, dtype=precision.parameters)
    users = ranking_users(dataset, config.evaluation, seed=seed, at_most=at_most)
    return EncodedData(config, dataset, tensors, users, precision, wanted, fit)
