"""A recommender at a time in plain torch.nn: the baseline of the population trainer.

Model, batches per step, losses and metrics are those of `evorec.training`, in plain modules and loops, with the
optimisations of a careful user: tensors instead of per-row Python, `EmbeddingBag` with a single look-up for all users
and for all items of a step, fused AdamW, masks and labels prepared once, full-catalogue scores as a single product, AUC
from prepared ranks. Balancing by gradients computes a gradient of all parameters per task, as libraries of multi-task
learning do. Parts that cost evorec time and that users rarely write are left out: known positives as masked negatives
(only repeated items are masked), per-user AUC, log loss, and metrics of lists other than recall and coverage. Training
in the order of the positives (`training.next_item`) is not supported.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from reference_mechanisms import REFERENCES
from torch import Tensor, nn

from evorec.data.dataset import Csr, Dataset, Part
from evorec.data.held_out import RankingUsers
from evorec.data.histories import history_weights
from evorec.errors import DataError
from evorec.metrics.accuracy import auc
from evorec.metrics.task_rows import TaskRows
from evorec.models.balancer import Balancer
from evorec.models.balancing import BALANCINGS
from evorec.models.population import INIT_SCALE, NORM_FLOOR
from evorec.models.spec import ModelSpec
from evorec.training.evaluate import positive_ages

USERS_SCORED = 256
"""Users scored at a time: allocating memory for larger score matrices costs more than computing them."""
USERS_AT_ONCE = 64
"""Users whose candidates are re-ranked at a time."""
LIKELIEST = 0.99
"""Highest initial probability of a step of the funnel given the previous step."""


@dataclass(frozen=True)
class Loop:
    """How a recommender is trained and measured.

    Attributes:
        steps, batch, retrieval_batch, n_layers, seed: as in `evorec.config.TrainConfig`.
        k, candidates: number of listed and of re-ranked items.
        loader: rows come individually through a `DataLoader`.
        fused: fused kernel of the optimiser.
        autocast: bfloat16 where `torch.autocast` supports it.
        sparse: sparse gradients and `SparseAdam` for the embedding table, without its decay.
    """

    steps: int
    batch: int
    retrieval_batch: int
    n_layers: int
    seed: int = 0
    k: int = 20
    candidates: int = 200
    loader: bool = False
    fused: bool = True
    autocast: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Tensors:
    """The arrays of a data set as tensors on a device, with all values that candidates share."""

    dataset: Dataset
    users: RankingUsers
    device: torch.device
    user_rows: Tensor
    user_weights: Tensor
    item_rows: Tensor
    item_weights: Tensor
    content: Tensor | None
    history_rows: Tensor
    history_weights: Tensor
    item_history_row: Tensor
    user_statistics: Tensor
    item_statistics: Tensor
    mode: Tensor
    train: Rows
    held_out: Rows
    positives: Tensor
    masked: tuple[tuple[Tensor, Tensor], ...]
    truth: tuple[TaskRows, ...]
    base_logits: tuple[float, ...]

    @classmethod
    def of(cls, dataset: Dataset, users: RankingUsers, device: str = "cpu") -> Tensors:
        """Copies a data set to a device."""
        part = dataset.held_out
        rates = np.nanmean(dataset.train.labels, axis=0, dtype=np.float64)

        def tensor(array: np.ndarray) -> Tensor:
            narrow = array.astype(np.float32) if array.dtype == np.float64 else array
            return torch.tensor(narrow, device=device)

        return cls(
            dataset=dataset,
            users=users,
            device=torch.device(device),
            user_rows=tensor(dataset.user_rows),
            user_weights=tensor(dataset.user_weights),
            item_rows=tensor(dataset.item_rows),
            item_weights=tensor(dataset.item_weights),
            content=tensor(dataset.item_content) if dataset.item_content.shape[1] else None,
            history_rows=tensor(dataset.history_rows),
            history_weights=tensor(history_weights(dataset.history_rows, dataset.history_recency)),
            item_history_row=tensor(dataset.item_history_row),
            user_statistics=tensor(dataset.user_statistics),
            item_statistics=tensor(dataset.item_statistics),
            mode=tensor(dataset.context_mode),
            train=Rows.of(dataset.train, tensor),
            held_out=Rows.of(part, tensor),
            positives=tensor(np.flatnonzero(dataset.train.target > 0)),
            masked=tuple(_cells(users.masked.select(some), tensor) for some in _parts(len(users.ids))),
            truth=tuple(TaskRows.of(part.labels[:, t], part.users) for t in range(dataset.n_tasks)),
            base_logits=tuple(np.log(rates / (1 - rates)).tolist()),
        )


def _parts(n_users: int) -> Iterator[np.ndarray]:
    for start in range(0, n_users, USERS_SCORED):
        yield np.arange(start, min(start + USERS_SCORED, n_users))


def _cells(matrix: Csr, tensor: Callable[[np.ndarray], Tensor]) -> tuple[Tensor, Tensor]:
    return tensor(np.repeat(np.arange(matrix.n_rows), matrix.counts())), tensor(matrix.indices)


@dataclass(frozen=True)
class Rows:
    """Impressions; unknown labels are 0, `known` marks the known labels."""

    user: Tensor
    item: Tensor
    context: Tensor
    statistics: Tensor
    labels: Tensor
    known: Tensor

    @classmethod
    def of(cls, part: Part, tensor: Callable[[np.ndarray], Tensor]) -> Rows:
        """Rows of a part of a data set."""
        known = ~np.isnan(part.labels)
        arrays = (part.users, part.items, part.context, part.statistics, np.where(known, part.labels, np.float32(0)))
        return cls(*(tensor(array) for array in arrays), tensor(known.astype(np.float32)))

    def columns(self) -> tuple[Tensor, ...]:
        """All columns, in order."""
        return self.user, self.item, self.context, self.statistics, self.labels, self.known

    def take(self, rows: Tensor) -> Rows:
        """Some of the impressions."""
        return Rows(*(column[rows] for column in self.columns()))


class Recommender(nn.Module):
    """Embeddings, a sharing mechanism, heads."""

    def __init__(self, spec: ModelSpec, data: Tensors, n_layers: int, *, sparse: bool = False) -> None:
        super().__init__()
        dataset = data.dataset
        dim, tasks = spec.embedding_dim, dataset.n_tasks
        self.spec, self.n_tasks, self.groups = spec, tasks, 1 + tasks * spec.task_embeddings
        self.table = nn.EmbeddingBag(dataset.n_rows, dim * self.groups, mode="sum", padding_idx=0, sparse=sparse)
        nn.init.normal_(self.table.weight, std=INIT_SCALE)
        if data.content is not None:
            self.content = nn.Linear(data.content.shape[1], dim * self.groups, bias=False)
        self.has_content = data.content is not None
        n_in = 4 * dim + dataset.train.statistics.shape[1]
        self.body = REFERENCES[spec.mechanism](spec, n_in, n_layers, dataset.parents)
        for head, base in zip(self.body.heads, self._first_bias(data), strict=True):
            nn.init.constant_(head.bias, base)
        self.drop = nn.Dropout(spec.dropout)

    def _first_bias(self, data: Tensors) -> Sequence[float]:
        """Biases with which an untrained model predicts the base rates."""
        if self.spec.mechanism != "esmm":
            return data.base_logits
        rates = 1 / (1 + np.exp(-np.array(data.base_logits)))
        given = [r / rates[p] if p >= 0 else r for r, p in zip(rates, data.dataset.parents, strict=True)]
        return np.log(np.minimum(given, LIKELIEST) / (1 - np.minimum(given, LIKELIEST))).tolist()

    def users(self, data: Tensors, ids: Tensor) -> Tensor:
        """Vectors ``(m, G * E)``."""
        return self.table(data.user_rows[ids], per_sample_weights=data.user_weights[ids])

    def items(self, data: Tensors, ids: Tensor) -> Tensor:
        """Vectors ``(m, G * E)``."""
        out = self.table(data.item_rows[ids], per_sample_weights=data.item_weights[ids])
        return out + self.content(data.content[ids]) if self.has_content else out

    def logits(self, u: Tensor, v: Tensor, context: Tensor, statistics: Tensor) -> Tensor:
        """Task logits ``(B, T)``."""
        c = self.table(context) if context.shape[1] else torch.zeros_like(u)
        dim = self.spec.embedding_dim
        groups = []
        for g in range(self.groups):
            own = slice(g * dim, (g + 1) * dim)
            x = torch.cat([u[:, own], v[:, own], u[:, own] * v[:, own], c[:, own], statistics], 1)
            groups.append(self.drop(x))
        return torch.stack(self.body(groups, lambda _, hidden: self.drop(hidden)), 1).float()

    def asking(self, data: Tensors, ids: Tensor, own: Tensor | None, u: Tensor) -> Tensor:
        """Unit query vectors ``(m, E)`` of users; the items `own` are left out of the history."""
        dim = self.spec.embedding_dim
        if self.spec.history_weight == 0:
            return F.normalize(u[:, :dim], dim=1, eps=NORM_FLOOR)
        rows, weights = data.history_rows[ids], data.history_weights[ids]
        if own is not None:
            weights = weights.masked_fill(rows == data.item_history_row[own][:, None], 0.0)
        history = self.table(rows, per_sample_weights=weights)[:, :dim]
        return F.normalize(u[:, :dim] + self.spec.history_weight * history, dim=1, eps=NORM_FLOOR)

    def retrieved(self, v: Tensor) -> Tensor:
        """Unit vectors ``(m, E)`` of items, divided by the temperature."""
        return F.normalize(v[:, : self.spec.embedding_dim], dim=1, eps=NORM_FLOOR) / self.spec.temperature


def batches(n: int, size: int, steps: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Shuffled epochs."""
    order, at = torch.randperm(n, generator=rng), 0
    for _ in range(steps):
        if at + size > n:
            order, at = torch.randperm(n, generator=rng), 0
        yield order[at : at + size]
        at += size


def losses(model: Recommender, data: Tensors, batch: Rows, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Task losses ``(T,)``, and the weighted retrieval loss plus the mechanism's own loss."""
    spec, part, n = model.spec, data.train, len(batch.user)
    users = torch.cat([batch.user, part.user[positives]])
    items = torch.cat([batch.item, part.item[positives]])
    u, v = model.users(data, users), model.items(data, items)
    logits = model.logits(u[:n], v[:n], batch.context, batch.statistics)
    known = batch.known
    each = F.binary_cross_entropy_with_logits(logits, batch.labels, known, reduction="none")
    per_task = each.sum(0) / known.sum(0).clamp_min(1)
    asking, offered = model.asking(data, users[n:], items[n:], u[n:]), model.retrieved(v[n:])
    rest = spec.retrieval_weight * _retrieval(spec, asking, offered, items[n:], model, data)
    return per_task, rest + model.body.calibrator(logits.unbind(1))


def _retrieval(
    spec: ModelSpec, asking: Tensor, offered: Tensor, items: Tensor, model: Recommender, data: Tensors
) -> Tensor:
    own = (asking * offered).sum(1, keepdim=True)
    if spec.negative_source == "uniform":
        drawn = torch.randint(0, data.dataset.n_items, (spec.negatives,), device=items.device)
        scores = asking @ model.retrieved(model.items(data, drawn)).T
        hits = drawn[None, :] == items[:, None]
    else:
        scores = asking @ offered[: spec.negatives].T
        hits = items[None, : spec.negatives] == items[:, None]
    scores = scores.masked_fill(hits, float("-inf"))
    if spec.retrieval_loss == "softmax":
        return (torch.logsumexp(torch.cat([own, scores], 1), 1, keepdim=True) - own).mean()
    if spec.retrieval_loss == "bpr":
        return F.softplus(scores - own).mean()
    rate = min(1.0, spec.negatives / (data.dataset.n_items - 1))
    beta = spec.setting("gbce_calibration") * (rate - 1) + 1
    return ((beta * F.softplus(-own) + F.softplus(scores).sum(1, keepdim=True)) / (scores.shape[1] + 1)).mean()


def optimisers(model: Recommender, loop: Loop) -> list[torch.optim.Optimizer]:
    """Optimisers of the embedding table and of all other parameters."""
    spec = model.spec
    rest = [parameter for parameter in model.parameters() if parameter is not model.table.weight]
    dense = {"params": rest, "lr": spec.learning_rate, "weight_decay": spec.dense_decay}
    table = {"params": [model.table.weight], "lr": spec.embedding_learning_rate}
    decayed = {**table, "weight_decay": spec.embedding_decay}
    if spec.optimizer == "adafactor":
        return [torch.optim.Adafactor([dense, decayed])]
    if loop.sparse:
        return [torch.optim.AdamW([dense], fused=loop.fused), torch.optim.SparseAdam([table])]
    return [torch.optim.AdamW([dense, decayed], fused=loop.fused)]


def fit(spec: ModelSpec, data: Tensors, loop: Loop, *, at_step: Callable[[], None] | None = None) -> Recommender:
    """Train a recommender with an ordinary loop; `at_step` is called before each step."""
    torch.manual_seed(loop.seed)
    model = Recommender(spec, data, loop.n_layers, sparse=loop.sparse).to(data.device)
    balance, opts = _Balance(model, loop.seed), optimisers(model, loop)
    rng = torch.Generator().manual_seed(loop.seed)
    n_rows, n_positives = len(data.train.user), len(data.positives)
    chosen = batches(n_positives, min(loop.retrieval_batch, n_positives), loop.steps, rng)
    size = min(loop.batch, n_rows)
    if loop.loader:
        drawn = _loader(data.train, size, loop.steps, rng)
    else:
        drawn = (data.train.take(rows.to(data.device)) for rows in batches(n_rows, size, loop.steps, rng))
    for number, (batch, at) in enumerate(zip(drawn, chosen, strict=True), start=1):
        if at_step is not None:
            at_step()
        at = at.to(data.device)
        for opt in opts:
            opt.zero_grad()
        with torch.autocast(data.device.type, torch.bfloat16, enabled=loop.autocast):
            per_task, rest = losses(model, data, batch, data.positives[at])
        balance.backward(number, per_task, rest)
        for opt in opts:
            opt.step()
    return model.eval()


class _Balance:
    """Sets the gradients of a step."""

    def __init__(self, model: Recommender, seed: int) -> None:
        spec, device = model.spec, model.table.weight.device
        self._kind = spec.balancing
        self._fixed = torch.tensor(spec.task_weights, device=device)
        self._labelled = torch.ones(model.n_tasks, dtype=torch.bool, device=device)
        self._balancer = Balancer([spec], n_tasks=model.n_tasks, seed=seed, device=device, dtype=torch.float32)
        self._parameters = list(model.parameters())
        own = {id(p) for module in _task_specific(model) for p in module.parameters()}
        self._is_shared = [id(p) not in own for p in self._parameters]

    def backward(self, number: int, per_task: Tensor, rest: Tensor) -> None:
        """Set the gradients of step `number`, counted from 1."""
        detached = per_task.detach()[None]
        if BALANCINGS[self._kind].needs_gradients:
            self._by_gradients(number, detached, per_task, rest)
            return
        fixed = self._kind == "fixed"
        weights = self._fixed if fixed else self._balancer.coefficients(number, detached, self._labelled).shared[0]
        ((per_task * weights).sum() + rest).backward()

    def _by_gradients(self, number: int, detached: Tensor, per_task: Tensor, rest: Tensor) -> None:
        by_task, others = [self._gradients(loss) for loss in per_task], self._gradients(rest)
        shared = [[g.flatten() for g, yes in zip(grads, self._is_shared, strict=True) if yes] for grads in by_task]
        flat = torch.stack([torch.cat(grads) for grads in shared])
        coefs = self._balancer.coefficients(number, detached, self._labelled, (flat @ flat.T)[None])
        for i, parameter in enumerate(self._parameters):
            weights = (coefs.shared if self._is_shared[i] else coefs.specific)[0].tolist()
            parameter.grad = others[i]
            for weight, grads in zip(weights, by_task, strict=True):
                parameter.grad.add_(grads[i], alpha=weight)

    def _gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True)


def _task_specific(model: Recommender) -> Iterator[nn.Module]:
    """Modules of a single task; a table with task embeddings counts as shared."""
    for name in ("towers", "heads", "info", "query", "key", "value", "units", "gates", "own"):
        yield from getattr(model.body, name, [])


def _loader(rows: Rows, size: int, steps: int, rng: torch.Generator) -> Iterator[Rows]:
    """Batches of a DataLoader over a TensorDataset, as in most examples."""
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*rows.columns()), batch_size=size, shuffle=True, drop_last=True, generator=rng
    )
    done = 0
    while done < steps:
        for columns in loader:
            yield Rows(*columns)
            done += 1
            if done == steps:
                return


def candidate(spec: ModelSpec, data: Tensors, loop: Loop) -> dict[str, float]:
    """Held-out metrics of a trained recommender; the accuracy is NaN if it diverged."""
    model = fit(spec, data, loop)
    try:
        return validate(model, data, loop)
    except DataError:  # its scores are not finite
        return {"accuracy": float("nan")}


def stored_candidate(path: str, spec: ModelSpec, loop: Loop) -> dict[str, float]:
    """`candidate` for a worker process with a single thread; reads the pickled `Tensors` once per process."""
    torch.set_num_threads(1)
    return candidate(spec, _stored(path), loop)


@cache
def _stored(path: str) -> Tensors:
    data: Tensors = pickle.loads(Path(path).read_bytes())
    return data


@torch.no_grad()
def validate(model: Recommender, data: Tensors, loop: Loop) -> dict[str, float]:
    """AUC of each task on all held-out rows; recall and coverage at k over the full catalogue."""
    dataset, part = data.dataset, data.held_out
    u = model.users(data, torch.arange(dataset.n_users + 1, device=data.device))
    v = model.items(data, torch.arange(dataset.n_items + 1, device=data.device))
    logits = model.logits(u[part.user], v[part.item], part.context, part.statistics).cpu().numpy()
    aucs = [auc(logits[known.rows, t], known.labels, pairs=known.pairs) for t, known in enumerate(data.truth)]
    out = {f"auc/{task}": auc for task, auc in zip(dataset.tasks, aucs, strict=True)}
    out["accuracy"] = float(np.mean(aucs))
    lists = _lists(model, data, loop, u, v).cpu().numpy()
    n_users, k = lists.shape
    relevant = data.users.relevant
    hits = relevant.contains(np.repeat(np.arange(n_users), k), lists.ravel()).reshape(n_users, k).sum(1)
    out[f"recall@{k}"] = float((hits / relevant.counts()).mean())
    out[f"catalogue_coverage@{k}"] = len(np.unique(lists[lists < dataset.n_items])) / dataset.n_items
    return out


def _lists(model: Recommender, data: Tensors, loop: Loop, u: Tensor, v: Tensor) -> Tensor:
    """Item ids ``(U, k)``, best first; padded with ``n_items``."""
    dataset, spec, ids = data.dataset, model.spec, torch.tensor(data.users.ids, device=data.device)
    items, ages = positive_ages(dataset)
    counts = np.bincount(items, weights=np.exp2(-ages / spec.popularity_half_life), minlength=dataset.n_items)
    if spec.new_item_popularity > 0:
        counts[dataset.item_counts == 0] = np.quantile(counts[dataset.item_counts > 0], spec.new_item_popularity)
    prior = spec.popularity_weight * np.log(spec.popularity_smoothing + counts)
    shift = torch.tensor(prior.astype(np.float32), device=data.device)
    asking, offered = model.asking(data, ids, None, u[ids]), model.retrieved(v[:-1]).T.contiguous()
    n_best, found = min(loop.candidates, dataset.n_items) if spec.rank_blend else loop.k, []
    for part, masked in zip(asking.split(USERS_SCORED), data.masked, strict=True):
        scores = (part @ offered).add_(shift)
        scores[masked] = float("-inf")
        found.append(scores.topk(n_best, 1))
    best, lists = (torch.cat(parts) for parts in zip(*found, strict=True))
    lists = lists.masked_fill(best.isneginf(), dataset.n_items)
    return _reranked(model, data, ids, u, v, best, lists)[:, : loop.k] if spec.rank_blend else lists


def _reranked(
    model: Recommender, data: Tensors, ids: Tensor, u: Tensor, v: Tensor, best: Tensor, lists: Tensor
) -> Tensor:
    spec = model.spec
    weights = torch.tensor(spec.task_weights, device=data.device)
    out = []
    for start in range(0, len(ids), USERS_AT_ONCE):
        chosen = lists[start : start + USERS_AT_ONCE]
        own = ids[start : start + USERS_AT_ONCE].repeat_interleave(chosen.shape[1])
        flat = chosen.reshape(-1)
        statistics = torch.cat([data.user_statistics[own], data.item_statistics[flat]], 1)
        logits = model.logits(u[own], v[flat], data.mode.expand(len(flat), -1), statistics)
        scores = best[start : start + USERS_AT_ONCE] + spec.rank_blend * (logits @ weights).view(chosen.shape)
        out.append(chosen.gather(1, scores.argsort(1, descending=True)))
    return torch.cat(out)
