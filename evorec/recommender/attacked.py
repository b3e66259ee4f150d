"""Training under attack: a trainer that trains each stack a second time, on rows to which fake users were added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from evorec.config import RecommenderConfig
from evorec.data.attack import attack
from evorec.data.encode import Fit
from evorec.data.held_out import RankingUsers, masked_items
from evorec.data.splits import split
from evorec.data.tables import Tables
from evorec.errors import TrainingError
from evorec.models.baselines import Baselines, all_baseline_lists
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.trainers import StackResult, StackTrainer, States, Trainer
from evorec.training.evaluate import MemberMetrics, finite_lists
from evorec.training.plan import BatchPlan
from evorec.training.trainer import Checkpoint, Trained


@final
@dataclass(frozen=True, eq=False)
class AttackedTrainer(Trainer):
    """Adds metrics of an attack, such as ``attack_shift@k``, to those of another trainer.

    Both trainings have the same seed for batches, initial values and dropout, and the lists that are compared are
    those of the same genuine users. A state is the pair of the states of both trainings.

    Attributes:
        clean: trains on the genuine rows.
        attacked: trains on these and the rows of the fake users.
        targets: items that the fake users push, int64 ``(n,)``.
        users: index of each genuine user in the attacked data, int64 ``(U,)``.
    """

    clean: StackTrainer
    attacked: StackTrainer
    targets: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]
    copies: ClassVar[int] = 3  # the trained member stays in memory while the member under attack is trained

    @property
    def data(self) -> EncodedData:  # type: ignore[override]
        """The genuine data."""
        return self.clean.data

    @property
    def plan(self) -> BatchPlan:
        return self.clean.plan

    @cached_property
    def baselines(self) -> Baselines:
        config, dataset = self.data.config.evaluation, self.attacked.data.dataset
        users, masked = self.users[self.data.users.ids], masked_items(dataset, config)
        lists, _ = all_baseline_lists(dataset, users, config.k, masked=masked)
        clean = self.clean.baselines
        for name, after in lists.items():
            shifts = self.data.held_out.measure_attack(clean.lists[name], after, self.targets)
            clean.measured[name].values.update(shifts)
        return clean

    def with_seed(self, seed: int) -> AttackedTrainer:
        return replace(self, clean=self.clean.with_seed(seed), attacked=self.attacked.with_seed(seed))

    def with_steps(self, steps: int) -> AttackedTrainer:
        return replace(self, clean=self.clean.with_steps(steps), attacked=self.attacked.with_steps(steps))

    def train(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> Trained:
        return self.clean.train(specs, last=last, states=states)

    def measure(self, population: Population, *, steps: int) -> list[MemberMetrics | TrainingError]:
        measured = self.data.measure(population)
        return self._with_shift(population.specs, measured, steps, None)[0]

    def evaluate(self, specs: Sequence[ModelSpec], *, last: int | None = None, states: States = None) -> StackResult:
        clean, attacked = (None, None) if states is None else zip(*states, strict=True)
        result = self.clean.evaluate(specs, last=last, states=clean)
        measured, checkpoints = self._with_shift(specs, result.measured, last, attacked)
        return replace(result, measured=measured, states=list(zip(result.states, checkpoints, strict=True)))

    def _with_shift(
        self,
        specs: Sequence[ModelSpec],
        measured: Sequence[MemberMetrics | TrainingError],
        last: int | None,
        states: States,
    ) -> tuple[list[MemberMetrics | TrainingError], Sequence[Checkpoint]]:
        """The metrics with the shift, or an error for a member that diverged under attack; and the checkpoints."""
        data, config = self.attacked.data, self.data.config.evaluation
        trained = self.attacked.train(specs, last=last, states=states)
        own = self.data.users
        users = RankingUsers(self.users[own.ids], own.masked, own.relevant)
        after = finite_lists(trained.population, data.dataset, data.tensors, config, users)
        out: list[MemberMetrics | TrainingError] = []
        for found, diverged, lists in zip(measured, trained.diverged, after, strict=True):
            if isinstance(found, TrainingError) or found.lists is None:
                out.append(found)
            elif diverged is not None:
                out.append(TrainingError(f"under attack: {self.attacked.divergence(diverged)}"))
            elif lists is None:
                out.append(TrainingError("under attack: the trained model gives scores that are not finite"))
            else:
                shifts = self.data.held_out.measure_attack(found.lists, lists, self.targets)
                out.append(replace(found, metrics=found.metrics | shifts, lists=None))
        return out, trained.checkpoints


def build_trainer(tables: Tables, config: RecommenderConfig, *, fit: Fit, seed: int, at_most: int | None) -> Trainer:
    """The trainer that measures all objectives and constraints of a configuration.

    Args:
        tables: all interactions.
        config: of the run.
        fit: ``train`` holds out validation; ``train+validation`` holds out test.
        seed: of batches, initial values, dropout and the sample of users.
        at_most: users whose lists are measured; ``None`` = all.
    """
    clean = StackTrainer.of(tables, config, fit=fit, seed=seed, at_most=at_most)
    if not clean.data.held_out.needs_attack:
        return clean
    found = attack(tables, split(tables, config.split), config.evaluation.attack, fit=fit, target=config.tasks.target)
    attacked = StackTrainer.of(found.tables, config, fit=fit, seed=seed, at_most=1, parts=found.split)
    targets = np.searchsorted(clean.data.dataset.item_ids, found.targets)
    users = np.searchsorted(attacked.data.dataset.user_ids, clean.data.dataset.user_ids)
    return AttackedTrainer(clean, attacked, targets, users)
