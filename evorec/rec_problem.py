"""The recommender problem: data, tasks, space, objectives, constraints and budget, evaluated by training.

A genome decodes to a multi-task recommender; a stack of them is trained along one shared plan and measured on
validation. The test part is not read here.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import product
from typing import final

import numpy as np
import torch

from evorec.archive.decide import check_pick
from evorec.config import RunConfig
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit, encode
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.data.tables import SECONDS_PER_DAY, Tables
from evorec.errors import TrainingError
from evorec.metrics.cost import latency_ms
from evorec.models.baselines import Baselines, baselines
from evorec.models.population import Population, stack_members
from evorec.models.spec import SWITCHES, ModelSpec, default_space
from evorec.objectives import build_objectives, parse_constraint
from evorec.problem import Outcome, Problem, Spec
from evorec.training.cost import CatalogueWork, member_cost
from evorec.training.evaluate import (
    Measured,
    RankingUsers,
    check_measurable,
    masked_items,
    measure,
    member_lists,
    ranking_users,
)
from evorec.training.plan import BatchPlan, DeviceData
from evorec.training.trainer import Trained, resolve_device, train

DTYPES = {"float32": torch.float32, "float64": torch.float64}
BYTES = {"float32": 4, "float64": 8}
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
            statistics=config.data.statistics,
            history_length=config.data.history_length,
            history_recency=config.data.history_recency,
        )
        device = resolve_device(config.run.device)
        if device.type == "cpu":
            torch.set_num_threads(1)  # parallelism is over stacks; a result must not depend on the number of cores
        dtype = DTYPES[config.training.precision]
        self.data = DeviceData.of(self.dataset, n_layers=config.training.layers, device=device, dtype=dtype)
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

    def train(self, specs: Sequence[ModelSpec]) -> Trained:
        """Trains one stack (see `evorec.training.trainer.train`)."""
        labels = self.dataset.train.labels
        rates = np.array([np.nanmean(labels[:, task]) for task in range(labels.shape[1])])
        return train(specs, self.plan, self.data, seed=self.seed, base_logits=np.log(rates / (1 - rates)).tolist())

    def measure(self, population: Population) -> list[Measured | TrainingError]:
        """Held-out metrics of each member of a trained stack."""
        return measure(population, self.dataset, self.data, self.config.evaluation, self.users)

    def stack(self, specs: Sequence[ModelSpec], members: Sequence[Mapping[str, np.ndarray]]) -> Population:
        """A stack of stored members of one shape; a lone one is followed by its twin (`Population`)."""
        twice = 2 if len(specs) == 1 else 1
        return stack_members([*specs] * twice, self.data.shape, [*members] * twice, device=self.data.device)

    def cost(self, spec: ModelSpec) -> dict[str, float]:
        """Counted cost of one member."""
        dataset, precision = self.dataset, self.config.training.precision
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
            self.plan.work(),
            catalogue,
            steps=self.config.training.steps,
            bytes_per_parameter=BYTES[precision],
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

    def __init__(self, config: RunConfig, tables: Tables) -> None:
        self.config = config
        self.tables = tables
        self.name = config.problem
        self.data_sha256 = tables.sha256()
        self.seed = config.search.seed
        self.environment = {
            "device": resolve_device(config.run.device).type,
            "precision": config.training.precision,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        self.fitted = Fitted(tables, config, fit="train", seed=config.search.seed, at_most=config.evaluation.max_users)
        k, tasks = config.evaluation.k, config.tasks.ranked
        time = self.fitted.dataset.train.time
        days = max(float(time.max() - time.min()) / SECONDS_PER_DAY, 1.0)
        space = default_space(tasks, n_layers=config.training.layers, days=round(days, 1))
        self.space = space.with_overrides(config.space, "space")
        self.objectives = build_objectives(
            config.objectives, k=k, box=config.box, cost_bounds=self._cost_bounds(), tasks=tasks
        )
        for text in config.finalize.picks:
            check_pick(text, self.objectives, k)
        known = self.baselines()
        self.constraints = tuple(
            parse_constraint(text, k=k, baselines=known, tasks=tasks) for text in config.constraints
        )
        wanted = {objective.metric for objective in self.objectives} | {c.metric for c in self.constraints}
        check_measurable(self.fitted.dataset, wanted)
        self._wants_latency = "latency_ms" in wanted

    def shape_key(self, spec: Spec) -> Hashable:
        """Embedding dimension and width."""
        return ModelSpec.from_genes(spec).shape

    def evaluate(self, specs: Sequence[Spec], *, seed: int) -> list[Outcome]:
        """Trains one stack on the training part and measures it on validation.

        Args:
            specs: decoded genomes of one `shape_key`.
            seed: must be the seed of the run's configuration: the shared plan was made with it.
        """
        if seed != self.fitted.seed:
            raise TrainingError(f"this problem was built for search.seed = {self.fitted.seed}, got seed {seed}")
        models = [ModelSpec.from_genes(spec) for spec in specs]
        start = time.perf_counter()
        trained = self.fitted.train(models)
        measured = self.fitted.measure(trained.population)
        seconds = (time.perf_counter() - start) / len(specs)
        outcomes = []
        for member, (model, diverged) in enumerate(zip(models, trained.diverged, strict=True)):
            found = measured[member]
            if diverged is not None:
                cause = f"diverged: the loss was not finite at step {diverged} of {len(self.fitted.plan)}"
                outcomes.append(Outcome(None, cause, seconds=seconds))
            elif isinstance(found, TrainingError):
                outcomes.append(Outcome(None, str(found), seconds=seconds))
            else:
                metrics = found.metrics | self.fitted.cost(model) | {"train_seconds": seconds}
                if self._wants_latency:
                    metrics["latency_ms"] = self.fitted.latency_ms(trained, member)
                weights = trained.population.member_arrays(member)
                outcomes.append(Outcome(metrics, weights=weights, seconds=seconds))
        return outcomes

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of popularity, ItemKNN and EASE."""
        return {name: measured.values for name, measured in self.fitted.baselines.measured.items()}

    def _cost_bounds(self) -> dict[str, tuple[float, float]]:
        """(cheapest, dearest) of every counted cost over the corners of the space."""
        default = self.space.decode(self.space.default())
        corners = [self._at_bound(name) for name in ("sharing_depth", "embedding_dim", "width")]
        costs = []
        for depth, dim, width, on in product(*corners, (0.0, 1.0)):
            shape = {"sharing_depth": depth, "embedding_dim": dim, "width": width}
            genes = {**default, **shape, **dict.fromkeys(SWITCHES, True), **dict.fromkeys(SWITCHES.values(), on)}
            costs.append(self.fitted.cost(ModelSpec.from_genes(genes)))
        return {name: (min(c[name] for c in costs), max(c[name] for c in costs)) for name in costs[0]}

    def _at_bound(self, name: str) -> tuple[int, int]:
        """Smallest and largest value of an integer gene."""
        gene = self.space.gene(name)
        low, high = (gene.decode(bound) for bound in gene.bounds)
        return int(str(low)), int(str(high))


def build_problem(config: RunConfig, *, tables: Tables | None = None) -> RecProblem:
    """The recommender problem that a configuration describes.

    Args:
        config: of the run.
        tables: the interactions; ``None`` reads them as ``config.data`` says.
    """
    return RecProblem(config, read(config.data) if tables is None else tables)
