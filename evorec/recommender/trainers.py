"""Training and measuring stacks of members on encoded data, with a seed and a number of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from evorec.config import RecommenderConfig
from evorec.data.attack import attack
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit
from evorec.data.held_out import RankingUsers, masked_items
from evorec.data.labels import best_constants
from evorec.data.splits import Split, split
from evorec.data.tables import Tables
from evorec.errors import ConfigError, TrainingError
from evorec.models.baselines import Baselines, SettingsOf
from evorec.models.encoder import ENCODERS
from evorec.models.item_item import ITEM_ITEMS, Positives, with_defaults
from evorec.models.mechanism import n_dense_parameters, n_groups, values_per_row
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData, encode_data
from evorec.space.space import SearchSpace
from evorec.training.cost import CatalogueWork, StepWork, cost_bounds, encoder_entries, member_cost, n_nodes
from evorec.training.evaluate import MemberMetrics, finite_lists
from evorec.training.memory import GIB, GRAPH_COPIES, KEPT_SHARE, STEP_COPIES, member_bytes, memory_budget, stack_size
from evorec.training.padding import merge_rule
from evorec.training.plan import KEPT_BYTES, BatchPlan
from evorec.training.trainer import Checkpoint, TrainingResult, Weights, train

States = Sequence[Any] | None
"""State of the training of each member of a stack at the same step; ``None`` = training starts anew."""


@final
@dataclass(frozen=True)
class StackResult:
    """A stack that was trained and measured.

    Attributes:
        population: P members.
        measured: of each member its held-out metrics, or the error that it diverged.
        states: of each member the state that `StackTrainer.evaluate` continues from; empty after the last step.
        seconds: wall time per member of training and measuring it, without the training under attack.
    """

    population: Population
    measured: Sequence[MemberMetrics | TrainingError]
    states: Sequence[Any]
    seconds: float


@final
@dataclass(frozen=True, eq=False)
class Attack:
    """The data of a second training, with the rows of fake users.

    Attributes:
        data: the genuine rows and those of the fake users.
        targets: items that the fake users push, int64 ``(n,)``.
        users: index of each genuine user in `data`, int64 ``(U,)``.
    """

    data: EncodedData
    targets: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class StackTrainer:
    """Trains stacks of members and measures them.

    With an attack every stack is trained a second time on the attacked data, and members also have metrics that compare
    both, such as ``attack_shift@k``. Both trainings have the same seed for batches, initial values and dropout, and the
    lists that are compared are those of the same genuine users. The state of a member is then the pair of both states.

    Attributes:
        data: encoded data.
        seed: of batches, initial values and dropout.
        steps: of the whole training.
        attack: ``None`` = no metric of an attack is wanted.
    """

    data: EncodedData
    seed: int
    steps: int
    attack: Attack | None = None

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
        dataset: Dataset | None = None,
    ) -> Self:
        """The trainer that measures all objectives and constraints of a configuration.

        Args:
            tables, config, fit, at_most, parts, dataset: see `encode_data`.
            seed: of batches, initial values, dropout and the sample of users.
        """
        data = encode_data(tables, config, fit=fit, seed=seed, at_most=at_most, parts=parts, dataset=dataset)
        if not data.held_out.needs_attack:
            return cls(data, seed, config.training.steps)
        genuine = split(tables, config.split)
        found = attack(tables, genuine, config.evaluation.attack, fit=fit, target=config.tasks.target)
        attacked = encode_data(found.tables, config, fit=fit, seed=seed, at_most=1, parts=found.split)
        targets = np.searchsorted(data.dataset.item_ids, found.targets)
        users = np.searchsorted(attacked.dataset.user_ids, data.dataset.user_ids)
        return cls(data, seed, config.training.steps, Attack(attacked, targets, users))

    @cached_property
    def plan(self) -> BatchPlan:
        """The batches of every step."""
        training = self.data.config.training.model_copy(update={"steps": self.steps})
        workers = self.data.config.run.n_workers(self.data.tensors.device.type)
        n_plans = 1 if self.attack is None else 2
        kept = min(KEPT_BYTES, int(self.worker_bytes(workers=workers) * KEPT_SHARE / n_plans))
        pasts = self.data.config.space.get("target_attention", "none") != "none"
        return BatchPlan(
            self.data.dataset, training, seed=self.seed, data=self.data.tensors, pasts=pasts, kept_bytes=kept
        )

    @cached_property
    def baselines(self) -> Baselines:
        """The baselines, with all metrics that members have and lists alone define."""
        own = self.data.baselines
        if self.attack is not None:
            dataset = self.attack.data.dataset
            users, masked = self.attack.users[self.data.users.ids], masked_items(dataset, self.data.config.evaluation)
            for name, measured in own.measured.items():
                after = own.lists_on(dataset, name, users, masked=masked)
                shifts = self.data.held_out.measure_attack(own.lists(name), after, self.attack.targets)
                measured.values.update(shifts)
        return own

    def with_settings(self, settings: SettingsOf) -> StackTrainer:
        """The same training, with these settings of the baselines."""
        return replace(self, data=self.data.with_settings(settings))

    @cached_property
    def attacked(self) -> StackTrainer:
        """The same training on the attacked data."""
        assert self.attack is not None
        return StackTrainer(self.attack.data, self.seed, self.steps)

    def with_seed(self, seed: int) -> StackTrainer:
        """The same training with other batches, initial values and dropout."""
        return replace(self, seed=seed)

    def with_steps(self, steps: int) -> StackTrainer:
        """A longer or shorter training. Its step i is the same: the learning rate does not depend on the length."""
        return self if steps == self.steps else replace(self, steps=steps)

    def train(
        self,
        specs: Sequence[ModelSpec],
        *,
        last: int | None = None,
        states: States = None,
        parents: Sequence[Weights | None] | None = None,
    ) -> TrainingResult:
        """Train a population on the genuine data (see `evorec.training.trainer.train`)."""
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
            parents=parents,
        )

    def measure(self, population: Population, *, steps: int) -> list[MemberMetrics | TrainingError]:
        """Held-out metrics of each member of a population that was trained for a number of steps."""
        measured = self.data.measure(population)
        return measured if self.attack is None else self._with_shift(population.specs, measured, steps, None)[0]

    def evaluate(
        self,
        specs: Sequence[ModelSpec],
        *,
        last: int | None = None,
        states: States = None,
        parents: Sequence[Weights | None] | None = None,
    ) -> StackResult:
        """Train a population and measure it.

        Args:
            specs: P members.
            last: steps after which it is measured; ``None`` = all.
            states: of each member, from `StackResult.states` of an earlier call; ``None`` = start anew.
            parents: of each member, the parameters that it inherits; without an attack only.
        """
        start, under_attack = time.perf_counter(), None
        if self.attack is not None and states is not None:
            states, under_attack = zip(*states, strict=True)
        trained = self.train(specs, last=last, states=states, parents=parents)
        measured = [
            found if step is None else self._divergence(step)
            for found, step in zip(self.data.measure(trained.population), trained.diverged, strict=True)
        ]
        checkpoints: Sequence[Any] = trained.checkpoints
        seconds = (time.perf_counter() - start) / len(specs)
        if self.attack is not None:
            measured, second = self._with_shift(specs, measured, last, under_attack)
            checkpoints = list(zip(checkpoints, second, strict=True))
        return StackResult(trained.population, measured, checkpoints, seconds)

    def _divergence(self, step: int) -> TrainingError:
        return TrainingError(f"diverged: the loss was not finite at step {step} of {self.steps}")

    def _with_shift(
        self,
        specs: Sequence[ModelSpec],
        measured: Sequence[MemberMetrics | TrainingError],
        last: int | None,
        states: States,
    ) -> tuple[list[MemberMetrics | TrainingError], Sequence[Checkpoint]]:
        """The metrics with the shift, or an error for a member that diverged under attack; and the checkpoints."""
        assert self.attack is not None
        data, own = self.attack.data, self.data.users
        trained = self.attacked.train(specs, last=last, states=states)
        users = RankingUsers(self.attack.users[own.ids], own.masked, own.relevant)
        after = finite_lists(trained.population, data.dataset, data.tensors, self.data.config.evaluation, users)
        out: list[MemberMetrics | TrainingError] = []
        for found, diverged, lists in zip(measured, trained.diverged, after, strict=True):
            if isinstance(found, TrainingError) or found.lists is None:
                out.append(found)
            elif diverged is not None:
                out.append(TrainingError(f"under attack: {self._divergence(diverged)}"))
            elif lists is None:
                out.append(TrainingError("under attack: the trained model gives scores that are not finite"))
            else:
                shifts = self.data.held_out.measure_attack(found.lists, lists, self.attack.targets)
                out.append(replace(found, metrics=found.metrics | shifts, lists=None))
        return out, trained.checkpoints

    def cost(self, spec: ModelSpec, *, steps: int | None = None) -> dict[str, float]:
        """Counted cost of a member, trained for `steps` steps; ``None`` = the whole training."""
        data, dataset = self.data, self.data.dataset
        catalogue = CatalogueWork(
            n_items=dataset.n_items,
            user_fields=(dataset.user_rows if dataset.has_items else dataset.train.context).shape[1],
            history_rows=dataset.n_items,
            history_length=dataset.history_rows.shape[1],
            candidates=data.config.evaluation.n_candidates(dataset.n_items) if dataset.has_items else 1,
            positives=Positives.of(dataset) if dataset.has_items else None,
        )
        return member_cost(
            spec,
            data.tensors.shape,
            self._work(spec),
            catalogue,
            steps=len(self.plan) if steps is None else steps,
            bytes_per_parameter=data.precision.parameters.itemsize,
        )

    def _work(self, spec: ModelSpec) -> StepWork:
        """Sizes of an average step of a member."""
        return self.plan.sequence_work if spec.reads_order else self.plan.work

    def slices(self, specs: Sequence[ModelSpec], *, workers: int) -> list[slice]:
        """Consecutive members that fit the memory of one of `workers` programs that run at the same time."""
        largest = max(map(self.member_bytes, specs))
        budget = self.stack_bytes(largest_state=max(map(self.state_bytes, specs)), workers=workers)
        budget = max(budget - max(map(self.matrix_bytes, specs)), 0)
        size = stack_size(budget, largest, at_most=len(specs))
        return [slice(start, start + size) for start in range(0, len(specs), size)]

    def worker_bytes(self, *, workers: int) -> int:
        """Memory that each of `workers` programs may fill."""
        return memory_budget(self.data.config.run.memory_gib, workers=workers, device=str(self.data.tensors.device))

    def stack_bytes(self, *, largest_state: int, workers: int) -> int:
        """Memory for the stack of a worker: without kept batches, and without the states of a generation at a rung."""
        own = int(self.worker_bytes(workers=workers) * (1 - KEPT_SHARE))
        return max(own - self._n_states * largest_state // workers, 0)

    @property
    def _n_states(self) -> int:
        """States that a search holds between two rungs; those of a GPU are in the memory of the machine."""
        training, is_cpu = self.data.config.training, self.data.tensors.device.type == "cpu"
        return math.ceil(training.rung_keep * self.data.config.search.population) if training.rungs and is_cpu else 0

    def member_bytes(self, spec: ModelSpec) -> int:
        """Memory that a further member of a stack takes while it is trained and measured."""
        work, shape, precision = self._work(spec), self.data.tensors.shape, self.data.precision
        columns = spec.embedding_dim * n_groups(spec, shape)
        n_vectors = self.data.dataset.n_items + len(self.data.users.ids)
        # The trained member, while the member under attack is trained, and the average of the weights.
        kept = 0 if self.attack is None else 1
        nodes = n_nodes(Positives.of(self.data.dataset)) if spec.trains_graph else 0
        return member_bytes(
            n_rows=shape.n_rows,
            columns=columns,
            dense_parameters=n_dense_parameters(spec, shape) + encoder_entries(spec, shape),
            extra_copies=2 + kept,
            table_copies=OPTIMIZERS[spec.optimizer].table_states(spec.embedding_dim) + kept,
            rows_per_step=int(work.rows + max(work.history_rows, work.joint_rows) + work.uniform_rows) + nodes,
            batch=work.batch,
            # With target attention, vectors of past items and of the item beside each, and their gradients.
            values_per_row=values_per_row(spec, shape)
            + spec.attends * 2 * columns * math.ceil(work.past_entries / max(work.batch, 1)),
            further_values=ENCODERS[spec.encoder].values(
                dict(spec.settings), spec.embedding_dim, positions=work.read, pairs=work.pairs
            ),
            # Vectors, and those of retrieval, which have unit length.
            measured_values=2 * columns * n_vectors + shape.n_tasks * self.data.dataset.held_out.n_rows,
            bytes_per_value=precision.parameters.itemsize,
            bytes_per_activation=precision.activations.itemsize,
            step_copies=STEP_COPIES + (spec.id_dropout > 0) + (GRAPH_COPIES if nodes else 0),
        )

    def matrix_bytes(self, spec: ModelSpec) -> int:
        """Memory of a member's item-item matrix while it is computed; a worker holds a single matrix at a time."""
        if not spec.uses_item_item:
            return 0
        kind, settings = ITEM_ITEMS[spec.item_item], with_defaults(spec.item_item_settings)
        return kind.fit_bytes(Positives.of(self.data.dataset), settings)

    def state_bytes(self, spec: ModelSpec) -> int:
        """Memory of the state of a member at a rung: its parameters, their two moments and their average."""
        shape = self.data.tensors.shape
        n_parameters = spec.embedding_dim * n_groups(spec, shape) * shape.n_rows + n_dense_parameters(spec, shape)
        n_parameters += encoder_entries(spec, shape)
        copies = 3 + (spec.ema > 0)
        return copies * n_parameters * self.data.precision.parameters.itemsize * (1 if self.attack is None else 2)

    def check_memory(self, space: SearchSpace) -> None:
        """Refuse an amount of memory that is too small for some member of a space.

        Raises:
            ConfigError: says how much would do.
        """
        gib, workers = (run := self.data.config.run).memory_gib, run.n_workers(self.data.tensors.device.type)
        if not gib:
            return
        bounds = cost_bounds(
            space,
            lambda spec: {
                "member": self.member_bytes(spec) + self.matrix_bytes(spec),
                "state": max(self.state_bytes(spec), 1),
            },
        )
        largest, state = (int(max(bounds[name])) for name in ("member", "state"))
        room = self.stack_bytes(largest_state=state, workers=workers)
        if largest <= room:
            return
        needed = (largest * workers + self._n_states * state) / (1 - KEPT_SHARE) / GIB
        rungs = ", or leave out training.rungs" if self._n_states else ""
        raise ConfigError(
            f"run.memory_gib = {gib:g} leaves {room / GIB:.2g} GiB for the stack of each of {workers} workers, and a "
            f"member of the search space takes up to {largest / GIB:.2g} GiB; set it to at least "
            f"{math.ceil(100 * needed) / 100:g}, lower run.workers, fix space.embedding_dim to a smaller value{rungs}."
        )
