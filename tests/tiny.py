"""Tiny simulated data sets, random specs and short plans for the tests of models and training."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from evorec.config import EvaluationConfig, SimulatorConfig, SplitConfig, TrainConfig
from evorec.data.encode import encode
from evorec.data.simulate import simulate
from evorec.data.splits import split
from evorec.models.spec import ModelSpec
from evorec.training.plan import BatchPlan, DeviceData
from evorec.training.trainer import train

BASE_LOGITS = (-1.0, -2.0, -3.0)
SEED = 3


@cache
def tables():
    return simulate(SimulatorConfig(n_users=60, n_items=50, n_interactions=2400, seed=1))


@cache
def dataset(content=True, statistics=("user", "item", "category"), context=True):
    data = tables()
    if not content:
        data = replace(data, content=())
    if not context:
        data = replace(data, context=())
    return encode(
        data, split(data, SplitConfig()), tasks=data.tasks, target="click", fit="train", statistics=statistics
    )


def with_missing_labels(data, share=0.3):
    """The same data set with a random share of the training labels of the later tasks missing."""
    labels = data.train.labels.copy()
    missing = np.random.default_rng(0).random(labels.shape) < share
    missing[:, 0] = False
    labels[missing] = np.nan
    return replace(data, train=replace(data.train, labels=labels))


def device_data(data, *, layers=2, dtype=torch.float32):
    return DeviceData.of(data, n_layers=layers, device=torch.device("cpu"), dtype=dtype)


def plan_of(data, on_device, *, steps=4, batch=37, positives=29, next_item=False):
    """Odd batch sizes by default: the remainders of vectorised kernels are then in use."""
    config = TrainConfig(
        steps=steps,
        batch_size=batch,
        retrieval_batch=positives,
        layers=on_device.shape.n_layers,
        next_item=next_item,
    )
    return BatchPlan(data, config, seed=SEED, data=on_device)


def spec(**changes):
    plain = ModelSpec(
        task_weights=(1.0, 1.25, 0.75),
        sharing_depth=1,
        embedding_dim=4,
        width=16,
        dropout=0.0,
        learning_rate=3e-3,
        embedding_learning_rate=1e-2,
        embedding_decay=0.1,
        dense_decay=0.2,
        retrieval_weight=1.0,
        temperature=0.2,
        history_weight=1.0,
        popularity_weight=1.0,
        popularity_smoothing=1.0,
        popularity_half_life=7.0,
        rank_blend=0.3,
    )
    return replace(plain, **changes)


def random_specs(rng, n, *, embedding_dim=4, width=16, layers=2, dropout=True):
    """Members that differ in everything but their shape."""
    return [
        ModelSpec(
            task_weights=tuple((3 * rng.dirichlet([1, 1, 1])).tolist()),
            sharing_depth=int(rng.integers(0, layers + 1)),
            embedding_dim=embedding_dim,
            width=width,
            dropout=float(rng.choice([0.0, rng.uniform(0.05, 0.5)])) if dropout else 0.0,
            learning_rate=float(10 ** rng.uniform(-3.3, -1.6)),
            embedding_learning_rate=float(10 ** rng.uniform(-3.3, -1.6)),
            embedding_decay=float(10 ** rng.uniform(-3, 1)),
            dense_decay=float(10 ** rng.uniform(-3, 1)),
            retrieval_weight=float(10 ** rng.uniform(-2, 1)),
            temperature=float(rng.uniform(0.05, 1)),
            history_weight=float(rng.choice([0.0, 1.3])),
            popularity_weight=float(rng.uniform(0, 1.5)),
            popularity_smoothing=1.0,
            popularity_half_life=5.0,
            rank_blend=float(rng.choice([0.0, 0.4])),
        )
        for _ in range(n)
    ]


def trained(specs, plan, on_device):
    return train(specs, plan, on_device, seed=SEED, base_logits=BASE_LOGITS)


EVALUATION = EvaluationConfig(k=5, candidates=12)
