"""Tiny simulated data sets, random specs and short plans for the tests of models and training."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import torch

from evorec.config import EvaluationConfig, QuantileKind, SplitConfig, TrainConfig
from evorec.data.encode import encode
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.models.choice import MECHANISMS as CHOICE_OF
from evorec.models.choice import ordered
from evorec.models.spec import CHOICES, NEGATIVE_SOURCES, ModelSpec
from evorec.training.plan import KEPT_BYTES, BatchPlan, DeviceData
from evorec.training.trainer import train
from problems.feed import FeedConfig
from problems.rows import RowsWorld

BASE_LOGITS = (-1.0, -2.0, -3.0)
PARENTS = (-1, 0, 1)
UNIFORM = 8
SEED = 3


@cache
def tables():
    return simulate(FeedConfig(n_users=60, n_items=50, n_interactions=2400, seed=1))


@cache
def dataset(content=True, statistics=("user", "item", "category"), context=True, parents=PARENTS):
    data = tables()
    if not content:
        data = replace(data, content=())
    if not context:
        data = replace(data, context=())
    encoded = encode(
        data, split(data, SplitConfig()), tasks=data.tasks, target="click", fit="train", statistics=statistics
    )
    return replace(encoded, parents=parents)


@cache
def number_dataset(ranked=("click", "watch", "late"), parents=(-1, -1, -1), *, given=False):
    """Seconds watched as a number, with `given` among clicks alone, and a high quantile of them over all rows."""
    data, rng = tables(), np.random.default_rng(8)
    click = data.interactions["click"].to_numpy()
    watch = 30 * np.exp(rng.normal(size=len(click)) + click) + data.interactions["item_id"].to_numpy() % 7
    log = data.interactions.with_columns(watch=watch, late=watch)
    data = replace(data, interactions=log, tasks=(*data.tasks, "watch", "late"))
    encoded = encode(
        data,
        split(data, SplitConfig()),
        tasks=ranked,
        target="click",
        fit="train",
        statistics=("user", "item"),
        given={"watch": "click"} if given else {},
        kinds={task: kind for task, kind in KINDS.items() if task in ranked},
    )
    return replace(encoded, parents=parents)


@cache
def row_dataset(n_rows=600):
    """Rows without users and items: two binary labels and a number, which half of the rows have."""
    data = simulate(RowsWorld(n_rows=n_rows, seed=2))
    kinds, parts = {"spend": "regression"}, split(data, SplitConfig(kind="random"))
    return encode(data, parts, tasks=data.tasks, target="", fit="train", kinds=kinds)


KINDS = {"watch": "regression", "late": QuantileKind(quantile=0.9)}


def with_missing_labels(data, share=0.3):
    """The same data set with a random share of the training labels of the later tasks missing."""
    labels = data.train.labels.copy()
    missing = np.random.default_rng(0).random(labels.shape) < share
    missing[:, 0] = False
    labels[missing] = np.nan
    return replace(data, train=replace(data.train, labels=labels))


def device_data(data, *, layers=2, dtype=torch.float32):
    return DeviceData.of(data, n_layers=layers, device=torch.device("cpu"), dtype=dtype)


def plan_of(
    data,
    on_device,
    *,
    steps=4,
    batch=37,
    positives=29,
    uniform=UNIFORM,
    next_item=False,
    pasts=False,
    kept_bytes=KEPT_BYTES,
):
    """Odd batch sizes by default: the remainders of vectorised kernels are then in use."""
    config = TrainConfig(
        steps=steps,
        batch_size=batch,
        retrieval_batch=positives,
        uniform_negatives=uniform,
        layers=on_device.shape.n_layers,
        next_item=next_item,
    )
    return BatchPlan(data, config, seed=SEED, data=on_device, pasts=pasts, kept_bytes=kept_bytes)


SETTINGS = {
    "mmoe": {"experts": 3},
    "cgc": {"shared_experts": 2, "task_experts": 1},
    "ple": {"shared_experts": 1, "task_experts": 2},
    "stem": {"shared_experts": 2, "task_experts": 1},
    "aitm": {"calibrator_weight": 0.3},
}
"""Mechanism -> values of its own genes; a mechanism that is not here has the defaults."""
MECHANISMS, BALANCINGS, OPTIMIZERS, RETRIEVAL_LOSSES, ENCODERS, ITEM_ITEMS = (
    tuple(choice.name for choice in ordered(choices)) for choices in CHOICES.values()
)
FUNNEL_MECHANISMS = tuple(name for name in MECHANISMS if CHOICE_OF[name].needs_funnel)
GRADIENT_BALANCINGS = tuple(name for name in BALANCINGS if CHOICES["balancing"][name].needs_gradients)
EXPERTS = tuple(name for name in MECHANISMS if "expert_depth" in CHOICE_OF[name].gene_names)


def of_mechanism(name):
    """The settings that a mechanism fixes or needs, as fields of a spec."""
    choice = CHOICE_OF[name]
    own = {gene.name: gene.default for gene in choice.genes(2)} | SETTINGS.get(name, {})
    depth = {} if {"sharing_depth", "expert_depth"} & own.keys() else {"sharing_depth": 0}
    for general in ("sharing_depth", "expert_depth", "task_embeddings"):
        own.pop(general, None)
    return {"mechanism": name, "settings": own, "task_embeddings": choice.has_task_tables, **depth}


def spec(**changes):
    plain = ModelSpec(
        task_weights=(1.0, 1.25, 0.75),
        mechanism="shared_bottom",
        sharing_depth=1,
        task_embeddings=False,
        balancing="fixed",
        embedding_dim=4,
        width=16,
        dropout=0.0,
        optimizer="adamw",
        learning_rate=3e-3,
        embedding_learning_rate=1e-2,
        embedding_decay=0.1,
        dense_decay=0.2,
        retrieval_weight=1.0,
        retrieval_loss="softmax",
        negatives=512,
        negative_source="batch",
        temperature=0.2,
        history_weight=1.0,
        popularity_weight=1.0,
        popularity_smoothing=1.0,
        popularity_half_life=7.0,
        rank_blend=0.3,
    )
    known = {field.name for field in fields(ModelSpec)}
    values = {**of_mechanism(changes.get("mechanism", "shared_bottom")), **changes}
    loss = {"gbce_calibration": 0.75} if values.get("retrieval_loss") == "gbce" else {}
    own = {**dict(values.pop("settings")), **loss, **{name: values.pop(name) for name in changes if name not in known}}
    return replace(plain, **values, settings=tuple(sorted(own.items())))


def random_specs(rng, n, *, embedding_dim=4, width=16, layers=2, dropout=True, mechanisms=MECHANISMS):
    """Members that differ in everything; in E and W where these are lists to choose from."""
    return [
        spec(
            **random_sharing(rng, layers, mechanisms),
            task_weights=tuple((3 * rng.dirichlet([1, 1, 1])).tolist()),
            balancing=str(rng.choice(BALANCINGS)),
            embedding_dim=int(rng.choice(embedding_dim)) if np.ndim(embedding_dim) else embedding_dim,
            width=int(rng.choice(width)) if np.ndim(width) else width,
            dropout=float(rng.choice([0.0, rng.uniform(0.05, 0.5)])) if dropout else 0.0,
            optimizer=str(rng.choice(OPTIMIZERS)),
            learning_rate=float(10 ** rng.uniform(-3.3, -1.6)),
            embedding_learning_rate=float(10 ** rng.uniform(-3.3, -1.6)),
            embedding_decay=float(10 ** rng.uniform(-3, 1)),
            dense_decay=float(10 ** rng.uniform(-3, 1)),
            retrieval_weight=float(10 ** rng.uniform(-2, 1)),
            retrieval_loss=str(rng.choice(RETRIEVAL_LOSSES)),
            negatives=int(rng.choice([3, 8, 512])),
            negative_source=str(rng.choice(NEGATIVE_SOURCES)),
            gbce_calibration=float(rng.uniform(0, 1)),
            temperature=float(rng.uniform(0.05, 1)),
            history_weight=float(rng.choice([0.0, 1.3])),
            popularity_weight=float(rng.uniform(0, 1.5)),
            popularity_half_life=5.0,
            rank_blend=float(rng.choice([0.0, 0.4])),
            ema=float(rng.choice([0.0, 0.9])),
            ensemble_heads=int(rng.choice([1, 1, 2, 3])),
        )
        for _ in range(n)
    ]


def random_sharing(rng, layers, mechanisms):
    """A mechanism with a depth, expert counts and tables that it can have."""
    name = str(rng.choice(mechanisms))
    out = of_mechanism(name)
    out["sharing_depth"] = int(rng.integers(1 if name in EXPERTS else 0, layers + 1)) if name != "single_task" else 0
    for setting, low, high in (("experts", 1, 4), ("shared_experts", 1, 4), ("task_experts", 1, 3)):
        if setting in out["settings"]:
            out["settings"][setting] = int(rng.integers(low, high))
    reads_own = name in ("cross_stitch", "mmoe", "cgc", "ple") or out["sharing_depth"] == 0
    if not out["task_embeddings"] and reads_own:
        out["task_embeddings"] = bool(rng.random() < 0.5)
    if name == "aitm":
        out["settings"]["calibrator_weight"] = float(rng.choice([0.0, 0.6]))
    return out


def trained(specs, plan, on_device, **options):
    return train(specs, plan, on_device, **{"seed": SEED, "base_logits": BASE_LOGITS, **options})


EVALUATION = EvaluationConfig(k=5, candidates=12)
