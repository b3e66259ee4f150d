"""An ordinary loop that trains a plain model: the losses, the balancings and the optimisers as their papers write them.

The gradient of an embedding table is dense, and a lazy optimiser is a choice of the rows that a batch reads. Balancings
that look at gradients take one gradient per task, over the actual shared parameters, and project or solve literally.
"""

from functools import cached_property

import numpy as np
import torch
from plain_model import earlier_rows, epochs, history_lists, layer_means
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from evorec.seeds import generator

DROPOUT_LEVELS = 2**15
DWA_WINDOW = 10
NASH_RESIDUAL = 1e-11


class Batch:
    """What a step (from 1) reads: rows for the ranker, positives and uniformly drawn items for retrieval."""

    def __init__(self, data, step, rows, positives, *, uniform, seed, pasts=False):
        self.data, self.step, self.rows, self.positives, self.seed = data, step, rows, positives, seed
        self.users, self.items = data.train.users[positives], data.train.items[positives]
        self.uniform = np.zeros(0, dtype=int)
        if data.has_items:
            self.uniform = generator(seed, "uniform negatives", step).integers(0, data.n_items, size=uniform)
        self.histories = history_lists(data, self.users, self.items)
        self.pasts = [earlier_rows(data, row) for row in rows] if pasts else []
        self._draws = {}

    @cached_property
    def wanted(self):
        """The items that each positive's user is known to want."""
        part = self.data.train
        return [set(part.items[(part.users == user) & (part.target > 0)].tolist()) for user in self.users]

    @cached_property
    def embedding_rows(self):
        """The rows of the tables that are read; row 0 is padding."""
        data, part = self.data, self.data.train
        users = np.concatenate([part.users[self.rows], self.users])
        items = np.concatenate([part.items[self.rows], self.items, self.uniform])
        contexts = part.context[self.rows]
        if part.context_weights is not None:
            contexts = contexts[part.context_weights[self.rows] > 0]
        read = [data.user_rows[users], data.item_rows[items], contexts, *self.histories, *self.pasts]
        return np.setdiff1d(np.concatenate([rows.reshape(-1) for rows in read]), [0])

    def dropped_ids(self, rate):
        """Ids of the batch that the model does not see (Volkovs et al. 2017), the unknown ids among them."""
        if not rate:
            return []
        users, items = self.data.user_rows[:, 0], self.data.item_rows[:, 0]
        ids = self.embedding_rows[np.isin(self.embedding_rows, np.concatenate([users, items]))]
        draws = generator(self.seed, "id dropout", self.step).integers(0, DROPOUT_LEVELS, size=len(ids))
        return ids[(draws < round(rate * DROPOUT_LEVELS)) | np.isin(ids, [users[-1], items[-1]])]

    def draws(self, level, width, heads):
        """Dropout draws ``(heads * B, width)`` below `DROPOUT_LEVELS`, unit by unit, from step and level alone."""
        if (level, width, heads) not in self._draws:
            n = width * heads * len(self.rows)
            words = generator(self.seed, "dropout", self.step, level).bit_generator.random_raw((n + 3) // 4)
            self._draws[level, width, heads] = (words.view(np.uint16)[:n] % DROPOUT_LEVELS).reshape(width, -1).T
        return self._draws[level, width, heads]

    def dropper(self, rate, head=0, heads=1):
        def dropped(level, x):
            # The input is dropped before it is scaled, so its draws are the same for every head.
            one, n = (0, 1) if level < 0 else (head, heads)
            draws = self.draws(level, x.shape[1], n)[one * len(x) : (one + 1) * len(x)]
            kept = torch.tensor(draws >= round(rate * DROPOUT_LEVELS))
            return x * kept / (1 - rate)

        return dropped


def batches_of(data, *, steps, batch, positives, uniform, seed, pasts=False):
    """The batches of all steps."""
    part = data.train
    rows = epochs(np.arange(len(part.users)), batch, steps, seed, "batches")
    liked = [np.zeros(0, dtype=int)] * steps
    if data.has_items:
        liked = epochs(np.flatnonzero(part.target > 0), positives, steps, seed, "positives")
    pairs = enumerate(zip(rows, liked, strict=True), start=1)
    return [Batch(data, step, *pair, uniform=uniform, seed=seed, pasts=pasts) for step, pair in pairs]


def task_losses(model, batch):
    """Loss of each task, and the mechanism's own: means over the heads."""
    n = model.spec.ensemble_heads
    heads = [one_head_losses(model, batch, head) for head in range(n)]
    return [sum(losses) / n for losses in zip(*(of_head for of_head, _ in heads), strict=True)], sum(
        own for _, own in heads
    ) / n


def one_head_losses(model, batch, head):
    part, rows = model.data.train, batch.rows
    logits = model.task_logits(
        model.users(part.users[rows]),
        model.items(part.items[rows]),
        model.contexts(part.context[rows], None if part.context_weights is None else part.context_weights[rows]),
        part.statistics[rows],
        batch.dropper(model.spec.dropout, head, model.spec.ensemble_heads),
        head=head,
        pasts=batch.pasts,
    )
    losses = []
    for task, logit in enumerate(logits):
        labels = part.labels[rows, task]
        known = ~np.isnan(labels)
        target = torch.tensor(labels[known], dtype=model.dtype)
        kind = model.data.kinds[task]
        losses.append(task_loss(kind, logit[known], target) if known.any() else 0 * logit.sum())
    return losses, model.mechanism.calibrator(logits)


def task_loss(kind, logits, labels):
    """Cross-entropy, squared error / 2 or pinball loss (Koenker and Bassett 1978) of known labels."""
    if kind == "binary":
        return binary_cross_entropy_with_logits(logits, labels)
    errors = labels - logits
    if kind == "regression":
        return (errors**2).mean() / 2
    return torch.maximum(kind.quantile * errors, (kind.quantile - 1) * errors).mean()


def retrieval_loss(model, batch):
    """Softmax (Yi et al. 2019), BPR (Rendle et al. 2009) or gBCE (Petrov and Macdonald 2023), row by row."""
    spec = model.spec
    asking, histories = model.users(batch.users), model.histories(batch.histories)
    scores = model.retrieval(asking, histories, model.items(batch.items))
    positive, pool = scores.diagonal(), batch.items
    if spec.negative_source == "uniform":
        pool = batch.uniform
        scores = model.retrieval(asking, histories, model.items(pool))
    pool, out = pool[: spec.negatives].tolist(), []
    for row, wanted in enumerate(batch.wanted):
        allowed = [place for place, item in enumerate(pool) if item not in wanted]
        out.append(row_loss(spec, positive[row], scores[row, allowed], len(pool) / (model.data.n_items - 1)))
    return torch.stack(out).mean()


def row_loss(spec, positive, negative, sampled):
    """Loss of one positive against its negatives; `sampled` is their share of the catalogue."""
    if spec.retrieval_loss == "softmax":
        return cross_entropy(torch.cat([positive[None], negative])[None], torch.tensor([0]))
    if spec.retrieval_loss == "bpr":
        return softplus(negative - positive).mean() if len(negative) else 0 * positive
    beta = spec.setting("gbce_calibration") * (min(sampled, 1) - 1) + 1
    return (beta * softplus(-positive) + softplus(negative).sum()) / (len(negative) + 1)


class Balancing:
    """The coefficients of the task losses, step by step: the same for shared and for task-specific parameters."""

    def __init__(self, spec, seed):
        self.w, self.seed, self.rate = np.array(spec.task_weights), seed, spec.learning_rate
        self.kind, self.n_tasks = spec.balancing, len(spec.task_weights)
        self.windows, self.window = [], []
        self.lam, self.first = np.ones(self.n_tasks), None
        self.z = nn.Parameter(torch.zeros(self.n_tasks, dtype=torch.float64))
        self.adam = torch.optim.Adam([self.z], lr=spec.learning_rate)

    def coefficients(self, step, losses):
        """Where no gradient is needed; losses are numbers."""
        return self.w * getattr(self, self.kind)(step, losses)

    def fixed(self, step, losses):
        return np.ones(self.n_tasks)

    def uncertainty(self, step, losses):
        """Kendall et al., CVPR 2018."""
        self.adam.zero_grad()
        w, losses = torch.tensor(self.w), torch.tensor(losses)
        factor = torch.exp(-self.z)
        (w * (factor * losses + self.z / 2)).sum().backward()
        self.adam.step()
        return factor.detach().numpy()

    def dwa(self, step, losses):
        """Liu et al., CVPR 2019, windows of steps in the place of epochs."""
        if len(self.windows) < 2:
            lam = np.ones(self.n_tasks)
        else:
            ratio = torch.tensor(self.windows[-1] / self.windows[-2])
            lam = self.n_tasks * torch.softmax(ratio / 2, 0).numpy()
        self.window.append(losses)
        if len(self.window) == DWA_WINDOW:
            self.windows.append(np.mean(self.window, 0))
            self.window = []
        return lam

    def random(self, step, losses):
        """Lin et al. 2022."""
        z = generator(self.seed, "random weighting", step).standard_normal(self.n_tasks)
        return self.n_tasks * torch.softmax(torch.tensor(z), 0).numpy()

    def gradnorm(self, losses, gradients):
        """Chen et al., ICML 2018: coefficients of this step; those of the next one move towards equal norms."""
        used = self.lam
        self.first = losses if self.first is None else self.first
        norms = np.array([self.w[t] * gradients[t].norm().item() for t in range(self.n_tasks)])
        weighed, speed = used * norms, losses / self.first
        target = weighed.mean() * (speed / speed.mean()) ** 1.5
        moved = np.maximum(used - 0.025 * np.sign(weighed - target) * norms, 1e-3)
        self.lam = self.n_tasks * moved / moved.sum()
        return self.w * used

    def pcgrad(self, step, gradients):
        """Yu et al., NeurIPS 2020: the gradient of the shared parameters."""
        weighed = [w * g for w, g in zip(self.w, gradients, strict=True)]
        out = torch.zeros_like(weighed[0])
        for i in range(self.n_tasks):
            projected = weighed[i].clone()
            for j in generator(self.seed, "pcgrad", step, i).permutation(self.n_tasks):
                if j != i and (dot := projected @ weighed[j]) < 0:
                    projected -= dot / (weighed[j] @ weighed[j]) * weighed[j]
            out += projected
        return out

    def nash(self, gradients):
        """Navon et al., ICML 2022."""
        g = torch.stack([w * g for w, g in zip(self.w, gradients, strict=True)]).double()
        alpha = nash_weights((g @ g.T).numpy())
        return self.w * self.n_tasks * alpha / alpha.sum()


def nash_weights(gram):
    """The positive solution of ``gram @ alpha = 1 / alpha``."""
    if not np.isfinite(gram).all() or not gram.any():
        return np.ones(len(gram))
    norms = np.sqrt(np.diag(gram))
    cosines = gram / np.outer(norms, norms)  # with the gradients at length 1: beta = alpha * norms
    beta = np.ones(len(gram))
    for _ in range(100):  # Newton on beta' cosines beta / 2 - sum(log beta), self-concordant: Boyd and Vandenberghe 9.6
        slope, curvature = cosines @ beta - 1 / beta, cosines + np.diag(beta**-2)
        move = np.linalg.solve(curvature, slope)
        length = np.sqrt(slope @ move)
        beta = beta - move / (1 + length if length > 0.1 else 1)
    assert np.abs(beta * (cosines @ beta) - 1).max() < NASH_RESIDUAL
    return beta / norms


def gradients_of(loss, parameters):
    """One gradient per parameter, ``None`` where the loss does not reach it."""
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def filled(gradients, parameters):
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]


def places_of_shared(model, tasks):
    """Where the parameters stand that more than one task's loss reaches; by definition the shared table and projection.

    Args:
        tasks: gradients of each task, from `gradients_of`.
    """
    out = []
    for place, (name, _) in enumerate(model.named_parameters()):
        n_tasks = sum(gradients[place] is not None for gradients in tasks)
        own = name.startswith(("task_", "scales.task_"))
        if name in ("table.weight", "content.weight") or (n_tasks > 1 and not own):
            out.append(place)
    return out


def set_gradients(model, balancing, batch):
    """Leaves the gradient of the step's loss in every parameter."""
    losses, rest = task_losses(model, batch)
    if model.data.has_items:
        rest = rest + model.spec.retrieval_weight * retrieval_loss(model, batch)
    values = np.array([loss.item() for loss in losses])
    parameters = list(model.parameters())
    if balancing.kind not in ("gradnorm", "pcgrad", "nash"):
        coefficients = balancing.coefficients(batch.step, values)
        loss = sum((c * loss for c, loss in zip(coefficients, losses, strict=True)), rest)
        for parameter, gradient in zip(parameters, filled(gradients_of(loss, parameters), parameters), strict=True):
            parameter.grad = gradient
        return
    tasks = [gradients_of(loss, parameters) for loss in losses]
    shared = places_of_shared(model, tasks)
    tasks = [filled(gradients, parameters) for gradients in tasks]
    of_shared = [torch.cat([gradients[i].reshape(-1) for i in shared]) for gradients in tasks]
    if balancing.kind == "pcgrad":
        specific, together = balancing.w, balancing.pcgrad(batch.step, of_shared)
    else:
        specific = balancing.gradnorm(values, of_shared) if balancing.kind == "gradnorm" else balancing.nash(of_shared)
        together = sum(c * g for c, g in zip(specific, of_shared, strict=True))
    has_rest = getattr(rest, "requires_grad", False)  # rows without items have no loss besides those of the tasks
    others = filled(gradients_of(rest, parameters) if has_rest else [None] * len(parameters), parameters)
    for i, parameter in enumerate(parameters):
        parameter.grad = others[i] + sum(c * gradients[i] for c, gradients in zip(specific, tasks, strict=True))
    for i, part in zip(shared, together.split([parameters[i].numel() for i in shared]), strict=True):
        parameters[i].grad = others[i] + part.view_as(parameters[i])


def dense_optimizer(model):
    """PyTorch's own optimiser of everything but the tables; biases and stitches are not decayed."""
    spec, decayed, kept = model.spec, [], []
    for name, parameter in model.named_parameters():
        if "table" not in name:
            undecayed = any(part in name for part in ("bias", "stitches", "scales", "norm", "positions"))
            (kept if undecayed else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": spec.dense_decay}, {"params": kept, "weight_decay": 0.0}]
    kind = torch.optim.Adafactor if spec.optimizer == "adafactor" else torch.optim.AdamW
    return kind(groups, lr=spec.learning_rate)


class LazyAdamW:
    """AdamW that moves the given rows of a table; decay is for all rows."""

    def __init__(self, table, spec):
        self.table, self.rate, self.decay = table, spec.embedding_learning_rate, spec.embedding_decay
        self.m, self.v = torch.zeros_like(table), torch.zeros_like(table)

    def step(self, rows, grad, step):
        m, v, table = self.m, self.v, self.table
        m[rows] = 0.9 * m[rows] + 0.1 * grad
        v[rows] = 0.999 * v[rows] + 0.001 * grad**2
        table *= 1 - self.rate * self.decay
        unbiased_m, unbiased_v = m[rows] / (1 - 0.9**step), v[rows] / (1 - 0.999**step)
        table[rows] -= self.rate * unbiased_m / (unbiased_v.sqrt() + 1e-8)


class LazyAdafactor:
    """Adafactor (Shazeer and Stern 2018, as in torch.optim) on the rows of a step as if they were the whole matrix."""

    def __init__(self, table, spec):
        self.table, self.rate, self.decay = table, spec.embedding_learning_rate, spec.embedding_decay
        self.row, self.column = table.new_zeros(len(table), 1), table.new_zeros(1, table.shape[1])

    def step(self, rows, grad, step):
        table, epsilon = self.table, torch.finfo(self.table.dtype).eps
        fresh = step**-0.8
        rate = min(self.rate, step**-0.5) * max(1e-3, (table[rows] ** 2).mean().sqrt().item())
        self.row[rows] = (1 - fresh) * self.row[rows] + fresh * (grad**2).mean(1, keepdim=True)
        self.column = (1 - fresh) * self.column + fresh * (grad**2).mean(0, keepdim=True)
        estimate = self.row[rows] @ self.column / self.row[rows].mean().clamp(min=epsilon)
        update = grad / estimate.clamp(min=epsilon**2).sqrt()
        clip = max(1.0, (update**2).mean().sqrt().item())
        table *= 1 - self.rate * self.decay
        table[rows] -= rate / clip * update


class LazyRowwiseAdagrad:
    """Adagrad (Duchi et al. 2011) with a sum of mean squares for each row, at ten times the learning rate."""

    def __init__(self, table, spec):
        self.table, self.rate, self.decay = table, spec.embedding_learning_rate, spec.embedding_decay
        self.sums = [0.0] * len(table)

    def step(self, rows, grad, step):
        self.table *= 1 - self.rate * self.decay
        for row, g in zip(rows.tolist(), grad, strict=True):
            self.sums[row] += (g @ g).item() / len(g)
            self.table[row] -= 10 * self.rate * g / (self.sums[row] ** 0.5 + 1e-8)


def plain_train(model, batches):
    """Trains a plain model; a row that is in no batch ends as 0.

    With `ema` every parameter ends as the weighted mean of its values after each step.
    """
    balancing, dense = Balancing(model.spec, batches[0].seed), dense_optimizer(model)
    lazy = {"adamw": LazyAdamW, "adafactor": LazyAdafactor, "rowwise_adagrad": LazyRowwiseAdagrad}[model.spec.optimizer]
    tables = [table.weight for table in model.tables()]
    optimisers = [lazy(table.data, model.spec) for table in tables]
    never = [torch.ones(model.data.n_rows, dtype=torch.bool) for _ in tables]
    kept = []
    for batch in batches:
        model.dropped = batch.dropped_ids(model.spec.id_dropout)
        set_gradients(model, balancing, batch)
        dense.step()
        for optimiser, table, own in zip(optimisers, tables, never, strict=True):
            # A gradient reaches every node of the graph that smooths the first table.
            nodes = model.nodes if table is tables[0] else []
            rows = np.union1d(batch.embedding_rows, nodes).astype(int)
            own[rows] = False
            optimiser.step(rows, table.grad[rows], batch.step)
        if model.spec.ema:
            kept.append([parameter.detach().clone() for parameter in model.parameters()])
    with torch.no_grad():
        if model.spec.ema:
            weights = model.spec.ema ** np.arange(len(kept))[::-1]
            for parameter, *values in zip(model.parameters(), *kept, strict=True):
                parameter.copy_(sum(w * value for w, value in zip(weights / weights.sum(), values, strict=True)))
        for table, own in zip(tables, never, strict=True):
            table[own] = 0.0
        if model.spec.graph_layers:
            tables[0].copy_(layer_means(model.data, model.spec.graph_layers)[1] @ tables[0])
        model.smooth = None
    return model
