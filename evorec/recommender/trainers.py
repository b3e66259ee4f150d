"""Training and measuring stacks of members on encoded data, with a seed and a number of steps."""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self, final

from evorec.config import RecommenderConfig
from evorec.data.encode import Fit
from evorec.data.labels import best_constants
from evorec.data.splits import Split
from evorec.data.tables import Tables
from evorec.errors import TrainingError
from evorec.models.baselines import Baselines
from evorec.models.mechanism import n_dense_parameters, n_groups, values_per_row
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData, encode_data
from evorec.training.cost import CatalogueWork, member_cost
from evorec.training.evaluate import MemberMetrics
from evorec.training.memory import member_bytes, memory_budget, stack_size
from evorec.training.padding import merge_rule
from evorec.training.plan import BatchPlan
from evorec.training.trainer import Trained, train

States = Sequence[Any] | None
"""State of the training of each member of a stack at the same step; ``None`` = training starts anew."""


@final
@dataclass(frozen=True)
class StackResult:
    """A stack that was trained and measured.

    Attributes:
        population: P members.
        measured: of each member its held-out metrics, or the error that it diverged.
        states: of each member the state that `Trainer.evaluate` continues from; empty after the last step.
        seconds: wall time per member of training and measuring it, without the training under attack.
    """

    population: Population
    measured: Sequence[MemberMetrics | TrainingError]
    states: Sequence[Any]
    seconds: float


class Trainer(abc.ABC):
    """Trains stacks of members and measures them.

    Attributes:
        data: what members are trained and measured on.
        copies: trained states of a member that are in memory at the same time.
    """

    data: EncodedData
    copies: ClassVar[int]

    @property
    @abc.abstractmethod
    def plan(self) -> BatchPlan:
        """The batches of every step."""

    @property
    @abc.abstractmethod
    def baselines(self) -> Baselines:
        """Popularity, ItemKNN and EASE, with all metrics that members have and lists alone define."""

    @abc.abstractmethod
    def with_seed(self, seed: int) -> Trainer:
        """The same training with other batches, initial values and dropout."""

    @abc.abstractmethod
    def with_steps(self, steps: int) -> Trainer:
        """A longer or shorter training. Its step i is the same: the learning rate does not depend on the length."""

    @abc.abstractmethod
    def train(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> Trained:
        """Train a population (see `evorec.training.trainer.train`)."""

    @abc.abstractmethod
    def measure(self, population: Population, *, steps: int) -> list[MemberMetrics | TrainingError]:
        """Held-out metrics of each member of a population that was trained for a number of steps."""

    @abc.abstractmethod
    def evaluate(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> StackResult:
        """Train a population and measure it.

        Args:
            specs: P members.
            last: steps after which it is measured; ``None`` = all.
            states: of each member, from `StackResult.states` of an earlier call; ``None`` = start anew.
        """

    def cost(self, spec: ModelSpec, *, steps: int | None = None) -> dict[str, float]:
        """Counted cost of a member, trained for `steps` steps; ``None`` = the whole training."""
        data, dataset = self.data, self.data.dataset
        catalogue = CatalogueWork(
            n_items=dataset.n_items,
            user_fields=dataset.user_rows.shape[1],
            history_rows=dataset.n_items,
            history_length=dataset.history_rows.shape[1],
            candidates=data.config.evaluation.n_candidates(dataset.n_items),
        )
        return member_cost(
            spec,
            data.tensors.shape,
            self.plan.work,
            catalogue,
            steps=len(self.plan) if steps is None else steps,
            bytes_per_parameter=data.precision.parameters.itemsize,
        )

    def slices(self, specs: Sequence[ModelSpec], *, workers: int) -> list[slice]:
        """Consecutive members that fit the memory of one of `workers` programs that run at the same time."""
        work, shape, precision = self.plan.work, self.data.tensors.shape, self.data.precision
        largest = max(
            member_bytes(
                n_rows=shape.n_rows,
                columns=spec.embedding_dim * n_groups(spec, shape),
                dense_parameters=n_dense_parameters(spec, shape),
                extra_copies=self.copies,
                rows_per_step=int(work.rows + work.history_rows + work.uniform_rows),
                batch=work.batch,
                values_per_row=values_per_row(spec, shape),
                bytes_per_value=precision.parameters.itemsize,
                bytes_per_activation=precision.activations.itemsize,
            )
            for spec in specs
        )
        device = str(self.data.tensors.device)
        budget = memory_budget(self.data.config.run.memory_gib, workers=workers, device=device)
        size = stack_size(budget, largest, at_most=len(specs))
        return [slice(start, start + size) for start in range(0, len(specs), size)]


@final
@dataclass(frozen=True, eq=False)
class StackTrainer(Trainer):
    """Trains on the data as they are.

    Attributes:
        data: encoded data.
        seed: of batches, initial values and dropout.
        steps: of the whole training.
    """

    data: EncodedData
    seed: int
    steps: int
    copies: ClassVar[int] = 2

    @cached_property
    def plan(self) -> BatchPlan:
        training = self.data.config.training.model_copy(update={"steps": self.steps})
        return BatchPlan(self.data.dataset, training, seed=self.seed, data=self.data.tensors)

    @classmethod
    def of(
        cls,
        tables: Tables,
        config: RecommenderConfig,
        *,
        fit: Fit,
        seed: int,
        at_most: int | None,
        parts: Split | None = None,
    ) -> Self:
        """Encodes tables (see `encode_data`) for the steps that a configuration trains; `seed` also draws the users."""
        data = encode_data(tables, config, fit=fit, seed=seed, at_most=at_most, parts=parts)
        return cls(data, seed, config.training.steps)

    @property
    def baselines(self) -> Baselines:
        return self.data.baselines

    def with_seed(self, seed: int) -> StackTrainer:
        return replace(self, seed=seed)

    def with_steps(self, steps: int) -> StackTrainer:
        return self if steps == self.steps else replace(self, steps=steps)

    def train(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> Trained:
        return train(
            specs,
            self.plan,
            self.data.tensors,
            seed=self.seed,
            base_logits=best_constants(self.data.dataset),
            activations=self.data.precision.activations,
            last=last,
            checkpoints=states,
            merge=merge_rule(self.data.tensors.device),
        )

    def measure(self, population: Population, *, steps: int) -> list[MemberMetrics | TrainingError]:
        return self.data.measure(population)

    def evaluate(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> StackResult:
        start = time.perf_counter()
        trained = self.train(specs, last=last, states=states)
        measured = [
            found if step is None else self.divergence(step)
            for found, step in zip(self.data.measure(trained.population), trained.diverged, strict=True)
        ]
        return StackResult(
            trained.population, measured, trained.checkpoints, (time.perf_counter() - start) / len(specs)
        )

    def divergence(self, step: int) -> TrainingError:
        """The error of a member whose loss was first not finite at a step."""
        return TrainingError(f"diverged: the loss was not finite at step {step} of {self.steps}")
