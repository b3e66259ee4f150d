"""Trains a stack of members along one shared plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from evorec.errors import ConfigError
from evorec.models.losses import sampled_softmax_loss, task_losses
from evorec.models.population import Population, fresh_population
from evorec.models.spec import ModelSpec
from evorec.seeds import generator
from evorec.training.optim import DenseAdam, LazyRowAdam
from evorec.training.plan import BatchPlan, DeviceData, Step


@final
@dataclass(frozen=True)
class Trained:
    """A trained stack.

    Attributes:
        population: its parameters; a padded twin of a lone member stands last.
        diverged: per spec, the 1-based step at which its loss was first not finite, or ``None``.
    """

    population: Population
    diverged: tuple[int | None, ...]


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    n_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ConfigError(f"run.device is {name}, and torch {torch.__version__} sees {n_gpus} CUDA devices; use auto.")
    return device


def train(
    specs: Sequence[ModelSpec],
    plan: BatchPlan,
    data: DeviceData,
    *,
    seed: int,
    base_logits: Sequence[float],
) -> Trained:
    """Trains members of one shape.

    A member's parameters do not depend on who trains beside it: bitwise so on a CPU.

    Args:
        specs: one per member, equal `ModelSpec.shape`.
        plan: the shared batch stream; all of its steps are run.
        data: the data set on its device.
        seed: seed of initial values and dropout.
        base_logits: log-odds of each task in training, ``(T,)``, the heads' first bias.
    """
    padded = list(specs) if len(specs) > 1 else [specs[0], specs[0]]
    population = fresh_population(padded, data.shape, seed=seed, device=data.device, dtype=data.dtype)
    population.dense["head.bias"].add_(torch.tensor(base_logits, dtype=data.dtype, device=data.device))
    weights = _Weights.of(padded, data)
    rows = LazyRowAdam(population.table, weights.embedding_rate, weights.embedding_decay, steps=len(plan))
    dense = DenseAdam(population.dense, population.owners(), weights.rate, weights.dense_decay)
    first_bad = torch.zeros(len(padded), dtype=torch.long, device=data.device)
    names = list(population.dense)
    drops = any(spec.dropout > 0 for spec in padded)
    for number in range(1, len(plan) + 1):
        step = plan.step(number - 1)
        values = rows.read(step.rows, number).requires_grad_()
        leaves = [population.dense[name].requires_grad_() for name in names]
        uniforms = _Uniforms(seed, number, data) if drops else None
        loss = _losses(population, values, step, weights, uniforms)
        grads = torch.autograd.grad(loss.sum(), [values, *leaves])
        with torch.no_grad():
            first_bad += number * ((first_bad == 0) & ~torch.isfinite(loss))
            rows.write(step.rows, values, grads[0], number)
            for leaf in leaves:
                leaf.requires_grad_(False)
            dense.step(dict(zip(names, grads[1:], strict=True)), number)
    rows.flush(len(plan))
    steps = [int(number) or None for number in first_bad[: len(specs)]]
    return Trained(population, tuple(steps))


@final
@dataclass(frozen=True)
class _Weights:
    """Per-member scalars as tensors ``[P]`` (task: ``[P, T]``)."""

    task: Tensor
    retrieval: Tensor
    rate: Tensor
    embedding_rate: Tensor
    embedding_decay: Tensor
    dense_decay: Tensor

    @classmethod
    def of(cls, specs: Sequence[ModelSpec], data: DeviceData) -> _Weights:
        def column(values: Sequence[object]) -> Tensor:
            return torch.tensor(values, dtype=data.dtype, device=data.device)

        return cls(
            task=column([spec.task_weights for spec in specs]),
            retrieval=column([spec.retrieval_weight for spec in specs]),
            rate=column([spec.learning_rate for spec in specs]),
            embedding_rate=column([spec.embedding_learning_rate for spec in specs]),
            embedding_decay=column([spec.embedding_decay for spec in specs]),
            dense_decay=column([spec.dense_decay for spec in specs]),
        )


@final
class _Uniforms:
    """Dropout draws of one step: ``[B, W]`` per layer, shared by all members."""

    def __init__(self, seed: int, step: int, data: DeviceData) -> None:
        self._seed, self._step, self._data = seed, step, data

    def __call__(self, layer: int, batch: int, width: int) -> Tensor:
        rng = generator(self._seed, "dropout", self._step, layer)
        draw = rng.random((width, batch), dtype=np.float32)  # unit by unit: the width shifts no stream
        return torch.from_numpy(draw).to(self._data.device).T


def _losses(
    population: Population, values: Tensor, step: Step, weights: _Weights, uniforms: _Uniforms | None
) -> Tensor:
    """Loss of each member, ``[P]``, from the step's embedding rows ``[n, P, E]``."""
    users = population.entity_vectors(values, step.users).index_select(1, step.user_of)
    items = population.entity_vectors(values, step.items).index_select(1, step.item_of)
    contexts = population.entity_vectors(values, step.contexts).index_select(1, step.context_of)
    b = step.batch_size
    logits = population.rank_logits(users[:, :b], items[:, :b], contexts, step.statistics, uniforms)
    per_task = task_losses(logits, step.labels, step.labelled, step.n_labelled)
    asking = population.retrieval_users(users[:, b:], population.entity_vectors(values, step.history))
    retrieval = sampled_softmax_loss(asking, population.retrieval_items(items[:, b:]), step.no_negative)
    return (per_task * weights.task).sum(1) + weights.retrieval * retrieval
