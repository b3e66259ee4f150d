"""The recommender problem: data, tasks, space, objectives, constraints and budget, evaluated by training.

A genome decodes to a multi-task recommender; a stack of them is trained along one shared plan and measured on
validation. The test part is not read here.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from evorec.archive.decide import check_pick
from evorec.config import RecommenderConfig
from evorec.data.attack import attack
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit, encode
from evorec.data.groups import user_groups
from evorec.data.held_out import HeldOut, RankingUsers, item_columns, masked_items, ranking_users
from evorec.data.labels import best_constants
from evorec.data.readers import read, with_content
from evorec.data.splits import Split, split
from evorec.data.tables import SECONDS_PER_DAY, Tables
from evorec.errors import TrainingError
from evorec.metrics.cost import Timing
from evorec.metrics.lists import AttackedLists
from evorec.metrics.metric import measure as measure_inputs
from evorec.metrics.metric import metrics_of
from evorec.models.baselines import Baselines, all_baseline_lists, baselines
from evorec.models.mechanism import n_dense_parameters, n_groups, values_per_row
from evorec.models.population import Population, stack_members
from evorec.models.recommend import Lists
from evorec.models.spec import RANK, USE, ModelSpec, default_space
from evorec.objectives import build_objectives, check_metrics, parse_constraint, wanted_metrics
from evorec.problem import Outcome, Problem, Spec
from evorec.training.cost import CatalogueWork, cost_bounds, member_cost
from evorec.training.evaluate import MemberMetrics, finite_lists, measure, member_lists
from evorec.training.memory import member_bytes, memory_budget, stack_size
from evorec.training.padding import merge_rule
from evorec.training.plan import BatchPlan, DeviceData
from evorec.training.precision import resolve_precision
from evorec.training.trainer import Checkpoint, Trained, resolve_device, train


def encoded(tables: Tables, parts: Split, config: RecommenderConfig, *, fit: Fit) -> Dataset:
    """The tables as a configuration asks for them: its tasks, statistics, histories and groups of users.

    Args:
        tables: all interactions.
        parts: row numbers of the parts.
        config: of the run.
        fit: which parts are trained on, and which is held out.
    """
    found = encode(
        tables,
        parts,
        tasks=config.tasks.ranked,
        target=config.tasks.target,
        fit=fit,
        funnel=config.tasks.funnel,
        given=config.tasks.given,
        kinds=config.tasks.kinds,
        statistics=config.data.statistics,
        history_length=config.data.history_length,
        history_recency=config.data.history_recency,
        cooccurrence=config.data.cooccurrence,
    )
    column = config.evaluation.groups
    groups = user_groups(tables, found.user_ids, column) if column else None
    columns = item_columns(tables, found.item_ids)
    return replace(found, signs=config.tasks.signs(), user_groups=groups, item_columns=columns)


@final
class Fitted:
    """One encoding of the data with everything that training and measuring on it needs.

    Args:
        tables: all interactions.
        config: of the run.
        fit: ``train`` holds out validation; ``train+validation`` holds out test.
        seed: run seed: batches, initial values, dropout, sample of ranking users.
        at_most: users of the ranking sample; ``None`` = all.
        parts: row numbers of the parts; ``None`` = as `config` splits, and an attack that it asks for is fitted too.
    """

    def __init__(
        self,
        tables: Tables,
        config: RecommenderConfig,
        *,
        fit: Fit,
        seed: int,
        at_most: int | None,
        parts: Split | None = None,
    ) -> None:
        self.config, self.seed = config, seed
        own = split(tables, config.split) if parts is None else parts
        self.dataset: Dataset = encoded(tables, own, config, fit=fit)
        device = resolve_device(config.run.device)
        if device.type == "cpu":
            torch.set_num_threads(1)  # parallelism is over stacks; a result must not depend on the number of cores
        self.precision = resolve_precision(config.training.precision, device)
        self.data = DeviceData.of(
            self.dataset, n_layers=config.training.layers, device=device, dtype=self.precision.parameters
        )
        self.users: RankingUsers = ranking_users(self.dataset, config.evaluation, seed=seed, at_most=at_most)
        wanted = wanted_metrics(config)
        self.attacked: _AttackedFit | None = None
        self._wanted = wanted if parts is None else frozenset()
        if metrics_of(AttackedLists, wanted=self._wanted, k=config.evaluation.k):
            self.attacked = self._attacked(tables, own, fit)

    def _attacked(self, tables: Tables, parts: Split, fit: Fit) -> _AttackedFit:
        config, ids = self.config, self.dataset.user_ids
        found = attack(tables, parts, config.evaluation.attack, fit=fit, target=config.tasks.target)
        fitted = Fitted(found.tables, config, fit=fit, seed=self.seed, at_most=1, parts=found.split)
        return _AttackedFit(
            fitted,
            targets=np.searchsorted(self.dataset.item_ids, found.targets),
            users=np.searchsorted(fitted.dataset.user_ids, ids),
        )

    def with_seed(self, seed: int) -> Fitted:
        """The same fit with other batches, initial values and dropout; data and users are shared."""
        other = copy(self)
        other.seed = seed
        other.__dict__.pop("plan", None)
        if self.attacked is not None:
            other.attacked = replace(self.attacked, fitted=self.attacked.fitted.with_seed(seed))
        return other

    def with_steps(self, steps: int) -> Fitted:
        """The same fit with a longer or shorter batch stream; step i is the same one.

        The learning rate of a member is the same at every step, so the first steps of a longer training are a shorter
        one.
        """
        if len(self.plan) == steps:
            return self
        other = copy(self)
        training = self.config.training.model_copy(update={"steps": steps})
        other.config = self.config.model_copy(update={"training": training})
        other.__dict__.pop("plan", None)
        if self.attacked is not None:
            other.attacked = replace(self.attacked, fitted=self.attacked.fitted.with_steps(steps))
        return other

    def with_all_users(self) -> Fitted:
        """The same fit, measured on every user with a held-out positive instead of a sample."""
        other = copy(self)
        other.users = ranking_users(self.dataset, self.config.evaluation, seed=self.seed, at_most=None)
        for name in ("held_out", "baselines"):
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def plan(self) -> BatchPlan:
        """The batch stream of this fit and seed."""
        return BatchPlan(self.dataset, self.config.training, seed=self.seed, data=self.data)

    @cached_property
    def held_out(self) -> HeldOut:
        """The held-out rows and users, and the metrics that they have."""
        return HeldOut(self.dataset, self.config.evaluation, self.users, wanted=self._wanted)

    @cached_property
    def baselines(self) -> Baselines:
        """Popularity, ItemKNN and EASE on the same rows and users."""
        found = baselines(self.held_out)
        if self.attacked is None:
            return found
        evaluation, dataset = self.config.evaluation, self.attacked.fitted.dataset
        users, masked = self.attacked.users[self.users.ids], masked_items(dataset, evaluation)
        lists, _ = all_baseline_lists(dataset, users, evaluation.k, masked=masked)
        for name, after in lists.items():
            shifts = self.held_out.measure_attack(found.lists[name], after, self.attacked.targets)
            found.measured[name].values.update(shifts)
        return found

    def train(
        self,
        specs: Sequence[ModelSpec],
        *,
        last: int | None = None,
        checkpoints: Sequence[Checkpoint] | None = None,
    ) -> Trained:
        """Trains one population (see `evorec.training.trainer.train`)."""
        return train(
            specs,
            self.plan,
            self.data,
            seed=self.seed,
            base_logits=best_constants(self.dataset),
            activations=self.precision.activations,
            last=last,
            checkpoints=checkpoints,
            merge=merge_rule(self.data.device),
        )

    def parts(self, specs: Sequence[ModelSpec], *, workers: int) -> list[slice]:
        """Consecutive members that fit the memory of one of `workers` programs at once."""
        work, shape = self.plan.work, self.data.shape
        copies = 2 if self.attacked is None else 3  # the member stays while the one under attack is trained
        each = [
            member_bytes(
                n_rows=shape.n_rows,
                columns=spec.embedding_dim * n_groups(spec, shape),
                dense_parameters=n_dense_parameters(spec, shape),
                extra_copies=copies,
                rows_per_step=int(work.rows + work.history_rows + work.uniform_rows),
                batch=work.batch,
                values_per_row=values_per_row(spec, shape),
                bytes_per_value=self.precision.parameters.itemsize,
                bytes_per_activation=self.precision.activations.itemsize,
            )
            for spec in specs
        ]
        budget = memory_budget(self.config.run.memory_gib, workers=workers, device=str(self.data.device))
        size = stack_size(budget, max(each), at_most=len(specs))
        return [slice(start, start + size) for start in range(0, len(specs), size)]

    def measure(self, population: Population) -> list[MemberMetrics | TrainingError]:
        """Held-out metrics of each member of a trained stack."""
        return measure(population, self.data, self.held_out)

    def under_attack(
        self,
        specs: Sequence[ModelSpec],
        measured: Sequence[MemberMetrics | TrainingError],
        *,
        last: int | None = None,
        checkpoints: Sequence[Checkpoint] | None = None,
    ) -> tuple[list[MemberMetrics | TrainingError], tuple[Checkpoint, ...]]:
        """Adds the metrics of an attack where they are asked for: trains the same specs on the attacked rows too.

        Batches, initial values and dropout have the same seed as without the fake users, whose rows change them all
        the same. The lists that are compared are those of the same genuine users.

        Args:
            specs: P members.
            measured: `measure` of them after `last` steps, P.
            last, checkpoints: see `train`; the checkpoints are those that this returned.
        Returns:
            `measured` with the metric, or an error for a member that diverged; and where each member under attack can
            go on from.
        """
        if self.attacked is None:
            return list(measured), ()
        fitted, evaluation = self.attacked.fitted, self.config.evaluation
        trained = fitted.train(specs, last=last, checkpoints=checkpoints)
        users = RankingUsers(self.attacked.users[self.users.ids], self.users.masked, self.users.relevant)
        after = finite_lists(trained.population, fitted.dataset, fitted.data, evaluation, users)
        out: list[MemberMetrics | TrainingError] = []
        for found, diverged, lists in zip(measured, trained.diverged, after, strict=True):
            if isinstance(found, TrainingError) or found.lists is None:
                out.append(found)
            elif diverged is not None or lists is None:
                out.append(TrainingError(f"under attack: {_divergence(diverged, len(fitted.plan))}"))
            else:
                shifts = self.held_out.measure_attack(found.lists, lists, self.attacked.targets)
                out.append(replace(found, metrics=found.metrics | shifts, lists=None))
        return out, trained.checkpoints

    def stack(self, specs: Sequence[ModelSpec], members: Sequence[Mapping[str, np.ndarray]]) -> Population:
        """A population of stored members."""
        return stack_members(specs, self.data.shape, members, device=self.data.device)

    def cost(self, spec: ModelSpec, *, steps: int | None = None) -> dict[str, float]:
        """Counted cost of one member; `steps` = those of the whole training by default."""
        dataset = self.dataset
        catalogue = CatalogueWork(
            n_items=dataset.n_items,
            user_fields=dataset.user_rows.shape[1],
            history_rows=dataset.n_items,
            history_length=dataset.history_rows.shape[1],
            candidates=self.config.evaluation.n_candidates(dataset.n_items),
        )
        return member_cost(
            spec,
            self.data.shape,
            self.plan.work,
            catalogue,
            steps=len(self.plan) if steps is None else steps,
            bytes_per_parameter=self.precision.parameters.itemsize,
        )

    def timed(self, trained: Trained, member: int, train_seconds: float) -> dict[str, float]:
        """Metrics measured by a clock, of one member of a stack; a request is of one user."""
        user = RankingUsers(self.users.ids[:1], self.users.masked.select(np.arange(1)), self.users.relevant)

        @cache
        def single() -> Population:
            return self.stack([trained.population.specs[member]], [trained.population.member_arrays(member)])

        def request() -> Lists:
            return member_lists(single(), self.dataset, self.data, user, self.config.evaluation)

        metrics = metrics_of(Timing, wanted=self._wanted)
        return measure_inputs(Timing(train_seconds, request), metrics).values


@final
@dataclass(frozen=True)
class _AttackedFit:
    """The same data with the rows of fake users, and what is compared with the genuine ones.

    Args:
        fitted: of the attacked rows.
        targets: items that are pushed, int64 ``(n,)``.
        users: which user of `fitted` each genuine user is, int64 ``(U,)``.
    """

    fitted: Fitted
    targets: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]


UNDER_ATTACK = "attacked/"
"""Prefix, in the state of a member at a rung, of what its training under attack goes on from."""


def _state(trained: Sequence[Checkpoint], attacked: Sequence[Checkpoint], member: int) -> Checkpoint | None:
    """Where both trainings of a member go on from; ``None`` at the end."""
    if not trained:
        return None
    beside = attacked[member] if attacked else {}
    return {**trained[member], **{UNDER_ATTACK + name: array for name, array in beside.items()}}


def _attacked_states(states: Sequence[Checkpoint] | None) -> list[Checkpoint] | None:
    """The part of each state that is of the training under attack."""
    if states is None:
        return None
    return [
        {name.removeprefix(UNDER_ATTACK): array for name, array in state.items() if name.startswith(UNDER_ATTACK)}
        for state in states
    ]


def _divergence(diverged: int | None, n_steps: int) -> str:
    """What became of a member, in words; ``None`` = its training did not show it."""
    if diverged is None:
        return "the trained model gives scores that are not finite"
    return f"diverged: the loss was not finite at step {diverged} of {n_steps}"


@final
class RecProblem(Problem):
    """Multi-task recommenders on one data set.

    Args:
        config: of the run.
        tables: the interactions.
    Raises:
        DataError: the tables cannot be split or encoded.
        ConfigError: lists every wrong gene, objective or constraint.
    """

    mixes_shapes = True

    def __init__(self, config: RecommenderConfig, tables: Tables) -> None:
        check_metrics(config)
        self.config = config
        self.tables = tables
        self.name = config.problem_name
        self.data_sha256 = tables.sha256()
        self.seed = config.search.seed
        self.environment = {
            "device": resolve_device(config.run.device).type,
            "precision": resolve_precision(config.training.precision, resolve_device(config.run.device)).name,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        self.rungs, self.rung_keep = config.training.rungs, config.training.rung_keep
        self.fitted = Fitted(tables, config, fit="train", seed=config.search.seed, at_most=config.evaluation.max_users)
        k, tasks = config.evaluation.k, config.tasks.kind_of_each()
        time = self.fitted.dataset.train.time
        days = max(float(time.max() - time.min()) / SECONDS_PER_DAY, 1.0)
        space = default_space(
            tuple(tasks),
            n_layers=config.training.layers,
            days=round(days, 1),
            funnel=bool(config.tasks.funnel),
            retrieval_batch=config.training.retrieval_batch,
            uniform_negatives=config.training.uniform_negatives,
            blocks=self.fitted.data.shape.blocks,
            search_blocks=config.inputs == "search",
            new_items=bool((self.fitted.dataset.item_counts == 0).any()),
        )
        nothing_to_switch = {prefix + name for prefix in (USE, RANK) for name in self.fitted.data.shape.absent}
        overrides = {gene: value for gene, value in config.space.items() if gene not in nothing_to_switch}
        self.space = space.with_overrides(overrides, "space")
        corners = cost_bounds(self.space, self.fitted.cost)
        self.fitted.held_out.check()
        corners |= self.fitted.held_out.all_corners()
        self.objectives = build_objectives(config.objectives, k=k, box=config.box, cost_bounds=corners, tasks=tasks)
        for text in config.finalize.picks:
            check_pick(text, self.objectives, k, tasks=tasks)
        known = self.baselines()
        self.constraints = tuple(
            parse_constraint(text, k=k, baselines=known, tasks=tasks) for text in config.constraints
        )

    def __getstate__(self) -> dict[str, Any]:
        """What worker processes need: everything but the raw interactions."""
        return {name: value for name, value in self.__dict__.items() if name != "tables"}

    def shape_key(self, spec: Spec) -> Hashable:
        """Members of equal key share every batched product."""
        return ModelSpec.from_genes(spec).group_key

    def stack_key(self, spec: Spec) -> tuple[Any, ...]:
        """Members that share products stand together, and where not, those of the same dimensions."""
        model = ModelSpec.from_genes(spec)
        return model.task_embeddings, model.embedding_dim, model.width, repr(model.group_key), -model.sharing_depth

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """Trains a population on the training part and measures it on validation.

        Args:
            specs: decoded genomes, any mix.
            seed: must be the seed of the run's configuration: the shared plan was made with it.
            rung, states: see `Problem.evaluate`; a state is a `Checkpoint`.
        """
        if seed != self.fitted.seed:
            raise TrainingError(f"this problem was built for search.seed = {self.fitted.seed}, got seed {seed}")
        models = [ModelSpec.from_genes(spec) for spec in specs]
        outcomes: list[Outcome] = []
        for part in self.fitted.parts(models, workers=self.config.run.n_workers(self.fitted.data.device.type)):
            outcomes += self._evaluated(models[part], rung, None if states is None else states[part])
        return outcomes

    def _evaluated(
        self, models: Sequence[ModelSpec], rung: int | None, states: Sequence[Checkpoint] | None
    ) -> list[Outcome]:
        start = time.perf_counter()
        steps = None if rung is None else self.rungs[rung]
        trained = self.fitted.train(models, last=steps, checkpoints=states)
        measured = self.fitted.measure(trained.population)
        of_training = (time.perf_counter() - start) / len(models)
        measured, attacked = self.fitted.under_attack(
            models, measured, last=steps, checkpoints=_attacked_states(states)
        )
        seconds = (time.perf_counter() - start) / len(models)
        outcomes = []
        for member, (model, diverged) in enumerate(zip(models, trained.diverged, strict=True)):
            found = measured[member]
            if diverged is not None:
                cause = _divergence(diverged, len(self.fitted.plan))
                outcomes.append(Outcome(None, cause, seconds=seconds, rung=steps))
            elif isinstance(found, TrainingError):
                outcomes.append(Outcome(None, str(found), seconds=seconds, rung=steps))
            else:
                metrics = found.metrics | self.fitted.cost(model, steps=steps)
                metrics |= self.fitted.timed(trained, member, of_training)
                outcomes.append(
                    Outcome(
                        metrics,
                        weights=trained.population.member_arrays(member) if rung is None else None,
                        seconds=seconds,
                        rung=steps,
                        state=_state(trained.checkpoints, attacked, member),
                    )
                )
        return outcomes

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of popularity, ItemKNN and EASE."""
        return {name: measured.values for name, measured in self.fitted.baselines.measured.items()}


def build_problem(config: RecommenderConfig, *, tables: Tables | None = None) -> RecProblem:
    """The recommender problem that a configuration describes.

    Args:
        config: of the run.
        tables: the interactions; ``None`` reads them as ``config.data`` says. They get the vectors that it names.
    """
    return RecProblem(config, read(config.data) if tables is None else with_content(tables, config.data))
