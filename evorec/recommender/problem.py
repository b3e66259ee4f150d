"""The recommender problem: data, tasks, search space, objectives, constraints and budget, evaluated by training.

A genome decodes to a multi-task recommender. Stacks of them are trained on the same batches and measured on validation;
the test part is not read here.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self, final

import torch

from evorec.config import RecommenderConfig
from evorec.data.size import DataSize
from evorec.data.splits import split
from evorec.data.tables import Tables
from evorec.errors import TrainingError
from evorec.models.baselines import ITEM_ITEM
from evorec.models.boosting import GRADIENT_BOOSTING, NO_BOOSTING
from evorec.models.spec import ModelSpec
from evorec.objectives import build_objectives, parse_constraint
from evorec.problem import Outcome, Problem, Spec, Weights
from evorec.recommender.baseline_genes import item_item_genes
from evorec.recommender.checks import CheckedProblem, baseline_names, check_problem, check_test
from evorec.recommender.trainers import StackTrainer
from evorec.training.cost import cost_bounds
from evorec.training.precision import resolve_precision
from evorec.training.reproducible import reproducible_cpu
from evorec.training.trainer import resolve_device


@final
class RecProblem(Problem):
    """Multi-task recommenders on a data set.

    Args:
        config: of the run.
        tables: the interactions.
        checked: the same, if they were checked before.

    Attributes:
        config: without defaults of the problem that the data cannot have.
        trainer: trains on the training part and measures on validation.
        data: the encoded data of the trainer.
        size: rows, users, items and hash of the data.

    Raises:
        DataError: the tables cannot be split or encoded.
        ConfigError: lists every wrong setting (`check_problem`).
    """

    mixes_shapes = True

    def __init__(self, config: RecommenderConfig, tables: Tables, *, checked: CheckedProblem | None = None) -> None:
        checked = checked or check_problem(config, tables)
        self.config, self.tables, self.remarks = checked.config, checked.tables, checked.remarks
        config, tables = self.config, self.tables
        self.name, self.seed = config.problem_name, config.search.seed
        self.size = DataSize.of(tables)
        self.data_sha256 = self.size.sha256
        self.inherits = config.training.inherit != "none"
        self.rungs, self.rung_keep = config.training.rungs, config.training.rung_keep
        at_most = config.evaluation.max_users
        self.trainer = StackTrainer.of(
            tables, config, fit="train", seed=self.seed, at_most=at_most, dataset=checked.dataset
        )
        self.data = self.trainer.data
        self.environment = environment_of(config)
        k, tasks = config.k, config.tasks.kind_of_each()
        self.space = checked.space
        dataset = self.data.dataset
        self.facts = {
            **({"users": float(len(dataset.user_ids)), "items": float(dataset.n_items)} if dataset.has_items else {}),
            "interactions": float(tables.interactions.height),
            "tasks": float(len(config.tasks.ranked)),
        }
        corners = cost_bounds(self.space, self.trainer.cost) | self.data.held_out.all_corners()
        self.objectives = build_objectives(config.objectives, k=k, box=config.box, cost_bounds=corners, tasks=tasks)
        # Fitting all of them takes seconds, and most constraints name popularity.
        named = [name for name in baseline_names(config) if any(name in text for text in config.constraints)]
        known = {name: self._baseline(name) for name in named}
        self.constraints = tuple(
            parse_constraint(text, k=k, baselines=known, tasks=tasks) for text in config.constraints
        )

    def check_first_start(self) -> None:
        """Refuse a test part that `finalize` could not measure.

        Raises:
            ConfigError, DataError: lists every reason.
        """
        check_test(self.config, self.tables, split(self.tables, self.config.split), self.data.held_out)

    def with_seed(self, seed: int) -> Self:
        """The same problem with other batches, initial values and dropout."""
        other = super().with_seed(seed)
        other.trainer = self.trainer.with_seed(seed)
        other.tables = self.tables
        return other

    def __getstate__(self) -> dict[str, Any]:
        """The attributes that worker processes need: all but the raw interactions."""
        return {name: value for name, value in self.__dict__.items() if name != "tables"}

    def shape_key(self, spec: Spec) -> Hashable:
        """Members of equal key share every batched product."""
        return ModelSpec.from_genes(spec).group_key

    def stack_key(self, spec: Spec) -> tuple[Any, ...]:
        """Sorts members that share products side by side, then members of the same dimensions."""
        model = ModelSpec.from_genes(spec)
        return (
            model.is_trained,
            model.task_embeddings,
            model.embedding_dim,
            model.width,
            repr(model.group_key),
            -model.sharing_depth,
        )

    def inheritance_key(self, spec: Spec) -> Hashable:
        """Members inherit from trained members whose embeddings, most of the parameters, have the same length."""
        model = ModelSpec.from_genes(spec)
        return model.embedding_dim, model.is_trained

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        seed: int,
        rung: int | None = None,
        states: Sequence[Any] | None = None,
        parents: Sequence[Weights | None] | None = None,
    ) -> list[Outcome]:
        """Train a population on the training part and measure it on validation.

        Args:
            specs: decoded genomes, any mix.
            seed: must be that of the problem, which its batches are drawn with; see `with_seed`.
            rung, states, parents: see `Problem.evaluate`.
        """
        if seed != self.seed:
            raise TrainingError(f"this problem has seed {self.seed}, got {seed}; use problem.with_seed({seed})")
        models = [ModelSpec.from_genes(spec) for spec in specs]
        workers = self.config.run.n_workers(self.data.tensors.device.type)
        outcomes: list[Outcome] = []
        for part in self.trainer.slices(models, workers=workers):
            own = (None if given is None else given[part] for given in (states, parents))
            outcomes += self._evaluated(models[part], rung, *own)
        return outcomes

    def _evaluated(
        self,
        models: Sequence[ModelSpec],
        rung: int | None,
        states: Sequence[Any] | None,
        parents: Sequence[Weights | None] | None,
    ) -> list[Outcome]:
        start, steps = time.perf_counter(), None if rung is None else self.rungs[rung]
        result = self.trainer.evaluate(models, last=steps, states=states, parents=parents)
        seconds = (time.perf_counter() - start) / len(models)
        outcomes = []
        for member, (model, measured) in enumerate(zip(models, result.measured, strict=True)):
            if isinstance(measured, TrainingError):
                outcomes.append(Outcome(None, str(measured), seconds=seconds, rung=steps))
                continue
            metrics = measured.metrics | self.trainer.cost(model, steps=steps)
            metrics |= self.data.timed(result.population, member, result.seconds)
            outcomes.append(
                Outcome(
                    metrics,
                    weights=result.population.member_arrays(member) if rung is None else None,
                    seconds=seconds,
                    rung=steps,
                    state=result.states[member] if result.states else None,
                )
            )
        return outcomes

    def known_metrics(self, spec: Spec) -> Mapping[str, float]:
        """The counted costs."""
        return self.trainer.cost(ModelSpec.from_genes(spec), steps=None)

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of the baselines; gradient boosting has only those of the tasks' order."""
        found = {name: self._baseline(name) for name in (*self.trainer.baselines.names, GRADIENT_BOOSTING)}
        return {name: values for name, values in found.items() if values}

    def baseline_facts(self) -> Mapping[str, Any]:
        """The settings that were chosen on validation, and why a baseline is missing."""
        own, boosted = self.trainer.baselines, self.data.boosted
        settings, skipped = {**own.settings}, {**own.skipped}
        if boosted is None:
            skipped[GRADIENT_BOOSTING] = NO_BOOSTING if self.data.dataset.tasks else "no task is ranked"
        else:
            settings |= {f"{GRADIENT_BOOSTING} of {task}": found for task, found in boosted.settings.items()}
            skipped |= {f"{GRADIENT_BOOSTING} of {task}": why for task, why in boosted.skipped.items()}
        return {"baseline_settings": settings, "skipped_baselines": skipped}

    def first_specs(self) -> Sequence[Spec]:
        """The item-item baselines with their tuned settings, where the space has their kind of matrix."""
        if "item_item" not in self.space.names:
            return ()
        own = self.trainer.baselines
        found = [item_item_genes(name, own.settings_of(name), self.space) for name in ITEM_ITEM if name in own.names]
        return [spec for spec in found if spec]

    def _baseline(self, name: str) -> Mapping[str, float]:
        """Validation metrics of a baseline; empty where it cannot be computed."""
        if name == GRADIENT_BOOSTING:
            return self.data.boosted.values if self.data.boosted else {}
        own = self.trainer.baselines
        return own.measure(name).values if name in own.names else {}


def environment_of(config: RecommenderConfig) -> dict[str, str]:
    """Facts of this machine that the results of a configuration depend on."""
    device = resolve_device(config.run.device)
    precision = resolve_precision(config.training.precision, device)
    return {"device": device.type, "precision": precision.name, "cpu": torch.backends.cpu.get_cpu_capability()}


def build_problem(config: RecommenderConfig, *, tables: Tables | None = None) -> RecProblem:
    """The recommender problem of a configuration; on a CPU its results are reproducible (`reproducible_cpu`).

    Args:
        config: of the run.
        tables: the interactions; ``None`` reads them from ``config.data``. They get the vectors that it names.
    """
    checked = check_problem(config, tables)
    if resolve_device(config.run.device).type == "cpu":
        reproducible_cpu(required=False)
    return RecProblem(config, checked.tables, checked=checked)
