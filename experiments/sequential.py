"""One recommender at a time, as one writes it today with torch.nn: what the population trainer is measured against.

The same model, batches per step, losses and metrics as `evorec.training`, in plain modules and plain loops, with what a
careful user would do: tensors on hand instead of per-row Python, `EmbeddingBag`, fused AdamW, full-catalogue scores as
one product. It leaves out what costs evorec time and users rarely write: known positives as masked negatives (only
repeated items are masked) and per-user AUC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from evorec.data.dataset import Dataset
from evorec.models.balancing import Balancer
from evorec.models.spec import GRADIENT_BALANCINGS, ModelSpec
from evorec.training.evaluate import RankingUsers, positive_ages
from evorec.training.plan import history_weights

LISTED = 20


@dataclass(frozen=True)
class Tensors:
    """The arrays of a data set as tensors."""

    dataset: Dataset
    users: RankingUsers
    user_rows: Tensor
    user_weights: Tensor
    item_rows: Tensor
    item_weights: Tensor
    content: Tensor | None
    history_rows: Tensor
    history_weights: Tensor
    item_history_row: Tensor
    positives: Tensor
    user: Tensor
    item: Tensor
    context: Tensor
    statistics: Tensor
    labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, users: RankingUsers) -> Tensors:
        part = dataset.train
        rows = history_weights(dataset.history_rows, dataset.history_recency).astype(np.float32)
        arrays = [
            dataset.user_rows, dataset.user_weights, dataset.item_rows, dataset.item_weights, dataset.item_content,
            dataset.history_rows, rows, dataset.item_history_row, np.flatnonzero(part.target > 0), part.users,
            part.items, part.context, part.statistics.astype(np.float32), part.labels.astype(np.float32),
        ]  # fmt: skip
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        if not dataset.item_content.shape[1]:
            tensors[4] = None
        return cls(dataset, users, *tensors)


class Recommender(nn.Module):
    """Embeddings, one of the sharing mechanisms, heads."""

    def __init__(self, spec: ModelSpec, data: Tensors, n_layers: int, *, sparse: bool = False) -> None:
        super().__init__()
        dataset = data.dataset
        dim, tasks = spec.embedding_dim, len(dataset.tasks)
        self.spec, self.n_tasks, self.groups = spec, tasks, 1 + tasks * spec.task_embeddings
        self.table = nn.EmbeddingBag(dataset.n_rows, dim * self.groups, mode="sum", padding_idx=0, sparse=sparse)
        nn.init.normal_(self.table.weight, std=0.05)
        if data.content is not None:
            self.content = nn.Linear(data.content.shape[1], dim * self.groups, bias=False)
        self.has_content = data.content is not None
        n_in = 4 * dim + dataset.train.statistics.shape[1]
        self.body = Body(spec, n_in, tasks, n_layers, dataset.parents)
        self.drop = nn.Dropout(spec.dropout)

    def users(self, data: Tensors, ids: Tensor) -> Tensor:
        return self.table(data.user_rows[ids], per_sample_weights=data.user_weights[ids])

    def items(self, data: Tensors, ids: Tensor) -> Tensor:
        out = self.table(data.item_rows[ids], per_sample_weights=data.item_weights[ids])
        return out + self.content(data.content[ids]) if self.has_content else out

    def logits(self, u: Tensor, v: Tensor, context: Tensor, statistics: Tensor) -> Tensor:
        c = (
            self.table(context, per_sample_weights=torch.ones(context.shape))
            if context.shape[1]
            else torch.zeros_like(u)
        )
        dim = self.spec.embedding_dim
        groups = []
        for g in range(self.groups):
            own = slice(g * dim, (g + 1) * dim)
            x = torch.cat([u[:, own], v[:, own], u[:, own] * v[:, own], c[:, own], statistics], 1)
            groups.append(self.drop(x))
        return self.body(groups)

    def asking(self, data: Tensors, ids: Tensor, own: Tensor | None, u: Tensor) -> Tensor:
        dim = self.spec.embedding_dim
        if self.spec.history_weight == 0:
            return F.normalize(u[:, :dim], dim=1)
        rows, weights = data.history_rows[ids], data.history_weights[ids]
        if own is not None:
            weights = weights.masked_fill(rows == data.item_history_row[own][:, None], 0.0)
        history = self.table(rows, per_sample_weights=weights)[:, :dim]
        return F.normalize(u[:, :dim] + self.spec.history_weight * history, dim=1)

    def retrieved(self, v: Tensor) -> Tensor:
        return F.normalize(v[:, : self.spec.embedding_dim], dim=1) / self.spec.temperature


class Body(nn.Module):
    """A sharing mechanism from the inputs of each embedding group to logits ``(B, T)``."""

    def __init__(self, spec: ModelSpec, n_in: int, tasks: int, n_layers: int, parents: tuple[int, ...]) -> None:
        super().__init__()
        self.spec, self.tasks, self.parents, width = spec, tasks, parents, spec.width
        depth, self.width = spec.sharing_depth, width
        kind = spec.mechanism
        self.grouped = spec.task_embeddings

        def mlp(first: int, n: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for i in range(n):
                layers += [nn.Linear(first if i == 0 else width, width), nn.ReLU(), nn.Dropout(spec.dropout)]
            return nn.Sequential(*layers)

        if kind in ("single_task", "shared_bottom", "esmm", "aitm"):
            self.shared = mlp(n_in, depth)
        elif kind == "cross_stitch":
            self.units = nn.ModuleList(
                nn.ModuleList(mlp(n_in if i == 0 else width, 1) for _ in range(tasks)) for i in range(depth)
            )
            eye = torch.eye(tasks) * 0.9 + (1 - torch.eye(tasks)) * 0.1 / max(tasks - 1, 1)
            self.stitch = nn.ParameterList(nn.Parameter(eye.clone()) for _ in range(depth))
        else:
            own, shared = spec.n_task_experts, spec.n_shared_experts
            levels = depth if kind == "ple" else 1
            sizes = [(n_in if i == 0 else width, 1 if kind == "ple" else depth) for i in range(levels)]
            self.experts = nn.ModuleList(nn.ModuleList(mlp(*s) for _ in range(tasks * own + shared)) for s in sizes)
            seen = tasks * own + shared if kind == "stem" else own + shared
            self.gates = nn.ModuleList(
                nn.ModuleList(nn.Linear(s[0], seen, bias=False) for _ in range(tasks)) for s in sizes
            )
            self.shared_gates = nn.ModuleList(nn.Linear(s[0], tasks * own + shared, bias=False) for s in sizes[:-1])
        first = n_in if depth == 0 else width
        self.towers = nn.ModuleList(mlp(first, n_layers - depth) for _ in range(tasks))
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))
        if kind == "aitm":
            self.info = nn.ModuleList(nn.Linear(width, width) for _ in range(tasks))
            self.qkv = nn.ModuleList(
                nn.ModuleList(nn.Linear(width, width, bias=False) for _ in "qkv") for _ in range(tasks)
            )

    def forward(self, groups: list[Tensor]) -> Tensor:
        kind, tasks = self.spec.mechanism, range(self.tasks)
        mine = [groups[t + 1] if self.grouped else groups[0] for t in tasks]
        if kind in ("single_task", "shared_bottom", "esmm", "aitm"):
            if len(self.shared):
                hidden = self.shared(groups[0])
                streams = [hidden] * self.tasks
            else:
                streams = mine
        elif kind == "cross_stitch":
            streams = mine
            for units, stitch in zip(self.units, self.stitch, strict=True):
                stacked = torch.stack([unit(x) for unit, x in zip(units, streams, strict=True)])
                streams = list(torch.einsum("ts,sbw->tbw", stitch, stacked))
        else:
            streams = self._expert_streams(mine, groups[0])
        tops = [tower(x) for tower, x in zip(self.towers, streams, strict=True)]
        if kind == "aitm":
            tops = self._transferred(tops)
        logits = torch.cat([head(x) for head, x in zip(self.heads, tops, strict=True)], 1).float()
        return self._funnel(logits) if kind == "esmm" else logits

    def _expert_streams(self, streams: list[Tensor], shared: Tensor) -> list[Tensor]:
        own, kind = self.spec.n_task_experts, self.spec.mechanism
        for level, experts in enumerate(self.experts):
            out = [expert(streams[i // own] if i < self.tasks * own else shared) for i, expert in enumerate(experts)]
            new = []
            for t in range(self.tasks):
                chosen = out if kind == "stem" else out[t * own : (t + 1) * own] + out[self.tasks * own :]
                if kind == "stem":
                    chosen = [x if i >= self.tasks * own or i // own == t else x.detach() for i, x in enumerate(chosen)]
                new.append(self._mixed(self.gates[level][t](streams[t]), chosen))
            if level < len(self.shared_gates):
                shared = self._mixed(self.shared_gates[level](shared), out)
            streams = new
        return streams

    @staticmethod
    def _mixed(scores: Tensor, experts: list[Tensor]) -> Tensor:
        return torch.einsum("bk,kbw->bw", scores.softmax(1), torch.stack(experts))

    def _transferred(self, tops: list[Tensor]) -> list[Tensor]:
        out = list(tops)
        for t in sorted(range(self.tasks), key=self._rank):
            if self.parents[t] >= 0:
                both = torch.stack([tops[t], F.relu(self.info[t](out[self.parents[t]]))], 1)
                q, k, v = (layer(both) for layer in self.qkv[t])
                share = ((q * k).sum(2) / self.width**0.5).softmax(1)
                out[t] = (share[:, :, None] * v).sum(1)
        return out

    def _rank(self, task: int) -> int:
        return 0 if self.parents[task] < 0 else 1 + self._rank(self.parents[task])

    def _funnel(self, logits: Tensor) -> Tensor:
        logs = F.logsigmoid(logits).unbind(1)
        out = []
        for t in range(self.tasks):
            total, at = logs[t], self.parents[t]
            while at >= 0:
                total, at = total + logs[at], self.parents[at]
            out.append(total - torch.log(-torch.expm1(total.clamp_max(-1e-7))))
        return torch.stack(out, 1)


def batches(n: int, size: int, steps: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Shuffled epochs."""
    order, at = torch.randperm(n, generator=rng), 0
    for _ in range(steps):
        if at + size > n:
            order, at = torch.randperm(n, generator=rng), 0
        yield order[at : at + size]
        at += size


def losses(model: Recommender, data: Tensors, rows: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Task losses ``(T,)`` and the loss of retrieval."""
    spec = model.spec
    u, v = model.users(data, data.user[rows]), model.items(data, data.item[rows])
    logits = model.logits(u, v, data.context[rows], data.statistics[rows])
    labels = data.labels[rows]
    known = ~labels.isnan()
    each = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    per_task = (each * known).sum(0) / known.sum(0).clamp_min(1)
    if spec.mechanism == "aitm":
        p = torch.sigmoid(logits)
        pairs = [(t, s) for t, s in enumerate(data.dataset.parents) if s >= 0]
        per_task = per_task + spec.calibrator_weight / len(per_task) * sum(
            F.relu(p[:, t] - p[:, s]).mean() for t, s in pairs
        )
    users, items = data.user[positives], data.item[positives]
    asking = model.asking(data, users, items, model.users(data, users))
    offered = model.retrieved(model.items(data, items))
    return per_task, _retrieval(spec, asking, offered, items, model, data)


def _retrieval(
    spec: ModelSpec, asking: Tensor, offered: Tensor, items: Tensor, model: Recommender, data: Tensors
) -> Tensor:
    own = (asking * offered).sum(1, keepdim=True)
    if spec.negative_source == "uniform":
        drawn = torch.randint(0, data.dataset.n_items, (spec.negatives,))
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
    beta = spec.gbce_calibration * (rate - 1) + 1
    return ((beta * F.softplus(-own) + F.softplus(scores).sum(1, keepdim=True)) / (scores.shape[1] + 1)).mean()


def optimiser(model: Recommender, *, fused: bool) -> torch.optim.Optimizer:
    spec = model.spec
    dense = [p for name, p in model.named_parameters() if not name.startswith("table")]
    groups = [
        {"params": dense, "lr": spec.learning_rate, "weight_decay": spec.dense_decay},
        {"params": [model.table.weight], "lr": spec.embedding_learning_rate, "weight_decay": spec.embedding_decay},
    ]
    if spec.optimizer == "adafactor":
        return torch.optim.Adafactor(groups)
    return torch.optim.AdamW(groups, fused=fused)


def fit(
    spec: ModelSpec, data: Tensors, *, steps: int, batch: int, retrieval_batch: int, n_layers: int, seed: int,
    fused: bool = True, autocast: bool = False, loader: bool = False,
) -> Recommender:  # fmt: skip
    """A trained recommender: the ordinary loop."""
    torch.manual_seed(seed)
    model = Recommender(spec, data, n_layers)
    opt = optimiser(model, fused=fused)
    rng = torch.Generator().manual_seed(seed)
    chosen = batches(len(data.positives), min(retrieval_batch, len(data.positives)), steps, rng)
    rows = _loader(len(data.user), batch, steps, rng) if loader else batches(len(data.user), batch, steps, rng)
    balancer = Balancer([spec], n_tasks=model.n_tasks, seed=seed, device=torch.device("cpu"), dtype=torch.float32)
    for number, (own, at) in enumerate(zip(rows, chosen, strict=True), start=1):
        opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            per_task, retrieval = losses(model, data, own, data.positives[at])
        _backward(model, per_task, spec.retrieval_weight * retrieval, balancer, number)
        opt.step()
    return model.eval()


def _backward(model: Recommender, per_task: Tensor, rest: Tensor, balancer: Balancer, number: int) -> None:
    has = torch.ones(len(per_task), dtype=torch.bool)
    detached = per_task.detach().float()[None]
    if model.spec.balancing not in GRADIENT_BALANCINGS:
        weights = balancer.weights(number, detached, has).shared[0]
        ((per_task * weights).sum() + rest).backward()
        return
    parameters = list(model.parameters())

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)

    by_task, others = [gradients(loss) for loss in per_task], gradients(rest)
    flat = torch.stack([torch.cat([g.flatten() for g in grads]) for grads in by_task])
    weights = balancer.from_gradients(number, detached, (flat @ flat.T)[None], has).shared[0]
    for i, parameter in enumerate(parameters):
        parameter.grad = others[i] + sum(w * grads[i] for w, grads in zip(weights, by_task, strict=True))


def _loader(n: int, batch: int, steps: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Row by row through a DataLoader, as most examples do."""
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(n)), batch_size=batch, shuffle=True, drop_last=True, generator=rng
    )
    done = 0
    while done < steps:
        for (rows,) in loader:
            yield rows
            done += 1
            if done == steps:
                return


@torch.no_grad()
def validate(model: Recommender, data: Tensors, *, candidates: int = 200, k: int = LISTED) -> dict[str, float]:
    """AUC of each task on all held-out rows; recall and coverage at k over the full catalogue."""
    dataset, part, spec = data.dataset, data.dataset.held_out, model.spec
    u = model.users(data, torch.arange(dataset.n_users + 1))
    v = model.items(data, torch.arange(dataset.n_items + 1))
    logits = model.logits(
        u[torch.from_numpy(part.users)], v[torch.from_numpy(part.items)], torch.from_numpy(part.context),
        torch.from_numpy(part.statistics.astype(np.float32)),
    ).numpy()  # fmt: skip
    out = {}
    for t, task in enumerate(dataset.tasks):
        known = ~np.isnan(part.labels[:, t])
        out[f"auc/{task}"] = float(roc_auc_score(part.labels[known, t], logits[known, t]))
    ids = torch.from_numpy(data.users.ids)
    items, ages = positive_ages(dataset)
    weights = np.exp2(-ages / spec.popularity_half_life)
    prior = spec.popularity_weight * np.log(
        spec.popularity_smoothing + np.bincount(items, weights=weights, minlength=dataset.n_items)
    )
    scores = model.asking(data, ids, None, u[ids]) @ model.retrieved(v[:-1]).T + torch.from_numpy(
        prior.astype(np.float32)
    )
    masked = data.users.masked
    scores[np.repeat(np.arange(len(ids)), masked.counts()), masked.indices] = float("-inf")
    top = scores.topk(candidates if spec.rank_blend else k, 1)
    lists = top.indices
    if spec.rank_blend:
        lists = _reranked(model, data, ids, u, v, top.values, lists)[:, :k]
    relevant = data.users.relevant
    hits = relevant.contains(np.repeat(np.arange(len(ids)), k), lists.numpy().ravel()).reshape(len(ids), k).sum(1)
    out["recall"] = float((hits / relevant.counts()).mean())
    out["coverage"] = len(np.unique(lists.numpy())) / dataset.n_items
    return out


def _reranked(
    model: Recommender, data: Tensors, ids: Tensor, u: Tensor, v: Tensor, best: Tensor, lists: Tensor
) -> Tensor:
    dataset, spec = data.dataset, model.spec
    weights = torch.tensor(spec.task_weights)
    user_statistics = torch.from_numpy(dataset.user_statistics.astype(np.float32))
    item_statistics = torch.from_numpy(dataset.item_statistics.astype(np.float32))
    mode = torch.from_numpy(dataset.context_mode)
    out = []
    for start in range(0, len(ids), 64):
        chosen = lists[start : start + 64]
        own = ids[start : start + 64].repeat_interleave(chosen.shape[1])
        flat = chosen.reshape(-1)
        statistics = torch.cat([user_statistics[own], item_statistics[flat]], 1)
        logits = model.logits(u[own], v[flat], mode.expand(len(flat), -1), statistics)
        scores = best[start : start + 64] + spec.rank_blend * (logits @ weights).view(chosen.shape)
        out.append(chosen.gather(1, scores.argsort(1, descending=True)))
    return torch.cat(out)
