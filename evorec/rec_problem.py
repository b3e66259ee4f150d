"""The recommender problem: data, tasks, space, objectives, constraints and budget, evaluated by training.

A genome decodes to a multi-task recommender; a stack of them is trained along one shared plan and measured on
validation. The test part is not read here.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, final

import numpy as np
import torch

from evorec.archive.decide import check_pick
from evorec.config import RunConfig
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit, encode
from evorec.data.labels import best_constants, constant_errors
from evorec.data.readers import read, with_content
from evorec.data.splits import split
from evorec.data.tables import SECONDS_PER_DAY, Tables
from evorec.errors import TrainingError
from evorec.metrics.cost import latency_ms
from evorec.models.baselines import Baselines, baselines
from evorec.models.mechanism import n_groups
from evorec.models.population import Population, stack_members
from evorec.models.sharing import n_dense_parameters, values_per_row
from evorec.models.spec import ModelSpec, default_space
from evorec.objectives import build_objectives, parse_constraint
from evorec.problem import Outcome, Problem, Spec
from evorec.training.cost import CatalogueWork, cost_bounds, member_cost
from evorec.training.evaluate import (
    Measured,
    RankingUsers,
    check_measurable,
    masked_items,
    measure,
    member_lists,
    ranking_users,
)
from evorec.training.memory import member_bytes, memory_budget, stack_size
from evorec.training.padding import merge_rule
from evorec.training.plan import BatchPlan, DeviceData
from evorec.training.precision import resolve_precision
from evorec.training.trainer import Checkpoint, Trained, resolve_device, train

LATENCY_REPEATS = 20


@final
class Fitted:
    """One encoding of the data with everything that training and measuring on it needs.

    Args:
        tables: all interactions.
        config: of the run.
        fit: ``train`` holds out validation; ``train+validation`` holds out test.
        seed: run seed: batches, initial values, dropout, sample of ranking users.
        at_most: users of the ranking sample; ``None`` = all.
    """

    def __init__(self, tables: Tables, config: RunConfig, *, fit: Fit, seed: int, at_most: int | None) -> None:
        self.config, self.seed = config, seed
        self.dataset: Dataset = encode(
            tables,
            split(tables, config.split),
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
        device = resolve_device(config.run.device)
        if device.type == "cpu":
            torch.set_num_threads(1)  # parallelism is over stacks; a result must not depend on the number of cores
        self.precision = resolve_precision(config.training.precision, device)
        self.data = DeviceData.of(
            self.dataset, n_layers=config.training.layers, device=device, dtype=self.precision.parameters
        )
        self.users: RankingUsers = ranking_users(self.dataset, config.evaluation, seed=seed, at_most=at_most)

    def with_seed(self, seed: int) -> Fitted:
        """The same fit with other batches, initial values and dropout; data and users are shared."""
        other = copy(self)
        other.seed = seed
        other.__dict__.pop("plan", None)
        return other

    def with_all_users(self) -> Fitted:
        """The same fit, measured on every user with a held-out positive instead of a sample."""
        other = copy(self)
        other.users = ranking_users(self.dataset, self.config.evaluation, seed=self.seed, at_most=None)
        other.__dict__.pop("baselines", None)
        return other

    @cached_property
    def plan(self) -> BatchPlan:
        """The batch stream of this fit and seed."""
        return BatchPlan(self.dataset, self.config.training, seed=self.seed, data=self.data)

    @cached_property
    def baselines(self) -> Baselines:
        """Popularity, ItemKNN and EASE on the same rows and users."""
        evaluation = self.config.evaluation
        masked = masked_items(self.dataset, evaluation)
        return baselines(self.dataset, self.users.ids, evaluation.k, masked=masked)

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
        each = [
            member_bytes(
                n_rows=shape.n_rows,
                columns=spec.embedding_dim * n_groups(spec, shape),
                dense_parameters=n_dense_parameters(spec, shape),
                optimizer_states=2,
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

    def measure(self, population: Population) -> list[Measured | TrainingError]:
        """Held-out metrics of each member of a trained stack."""
        return measure(population, self.dataset, self.data, self.config.evaluation, self.users)

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

    def latency_ms(self, trained: Trained, member: int) -> float:
        """Median time of one request of one user to one member of a stack, in milliseconds."""
        spec, arrays = trained.population.specs[member], trained.population.member_arrays(member)
        alone = self.stack([spec], [arrays])
        one = RankingUsers(self.users.ids[:1], self.users.masked.select(np.arange(1)), self.users.relevant)
        request = lambda: member_lists(alone, self.dataset, self.data, one, self.config.evaluation)  # noqa: E731
        return latency_ms(request, repeats=LATENCY_REPEATS)


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

    def __init__(self, config: RunConfig, tables: Tables) -> None:
        self.config = config
        self.tables = tables
        self.name = config.problem
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
        )
        self.space = space.with_overrides(config.space, "space")
        corners = cost_bounds(self.space, self.fitted.cost)
        corners |= {name: (0.0, error) for name, error in constant_errors(self.fitted.dataset).items()}
        self.objectives = build_objectives(config.objectives, k=k, box=config.box, cost_bounds=corners, tasks=tasks)
        for text in config.finalize.picks:
            check_pick(text, self.objectives, k, tasks=tasks)
        known = self.baselines()
        self.constraints = tuple(
            parse_constraint(text, k=k, baselines=known, tasks=tasks) for text in config.constraints
        )
        wanted = {objective.metric for objective in self.objectives} | {c.metric for c in self.constraints}
        check_measurable(self.fitted.dataset, wanted, self.fitted.users)
        self._wants_latency = "latency_ms" in wanted

    def __getstate__(self) -> dict[str, Any]:
        """What worker processes need: everything but the raw interactions."""
        return {name: value for name, value in self.__dict__.items() if name != "tables"}

    def shape_key(self, spec: Spec) -> Hashable:
        """Members of equal key share every batched product."""
        return ModelSpec.from_genes(spec).block_key

    def stack_key(self, spec: Spec) -> tuple[Any, ...]:
        """Members that share products stand together, and where not, those of the same dimensions."""
        model = ModelSpec.from_genes(spec)
        return model.task_embeddings, model.embedding_dim, model.width, repr(model.block_key), -model.sharing_depth

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
        seconds = (time.perf_counter() - start) / len(models)
        outcomes = []
        for member, (model, diverged) in enumerate(zip(models, trained.diverged, strict=True)):
            found = measured[member]
            if diverged is not None:
                cause = f"diverged: the loss was not finite at step {diverged} of {len(self.fitted.plan)}"
                outcomes.append(Outcome(None, cause, seconds=seconds, rung=steps))
            elif isinstance(found, TrainingError):
                outcomes.append(Outcome(None, str(found), seconds=seconds, rung=steps))
            else:
                metrics = found.metrics | self.fitted.cost(model, steps=steps) | {"train_seconds": seconds}
                if self._wants_latency:
                    metrics["latency_ms"] = self.fitted.latency_ms(trained, member)
                outcomes.append(
                    Outcome(
                        metrics,
                        weights=trained.population.member_arrays(member) if rung is None else None,
                        seconds=seconds,
                        rung=steps,
                        state=trained.checkpoints[member] if trained.checkpoints else None,
                    )
                )
        return outcomes

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of popularity, ItemKNN and EASE."""
        return {name: measured.values for name, measured in self.fitted.baselines.measured.items()}


def build_problem(config: RunConfig, *, tables: Tables | None = None) -> RecProblem:
    """The recommender problem that a configuration describes.

    Args:
        config: of the run.
        tables: the interactions; ``None`` reads them as ``config.data`` says. They get the vectors that it names.
    """
    return RecProblem(config, read(config.data) if tables is None else with_content(tables, config.data))
