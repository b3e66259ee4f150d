"""One multi-task recommender as anyone would write it with torch.nn.

It knows nothing of populations, blocks, slots, plans or shared rows. How tasks share is in
`experiments/reference_mechanisms.py`, the ordinary loop that trains it in `plain_training`.
"""

from contextlib import contextmanager

import numpy as np
import torch
from reference_mechanisms import REFERENCES
from torch import nn

from evorec.seeds import generator


class PlainModel(nn.Module):
    """One member: embedding tables, item content, and the mechanism with its towers and heads.

    Vectors of users, items and contexts are ``(m, E)``; with task embeddings ``(m, (1 + T) E)``, the shared ones first.
    """

    def __init__(self, spec, data, layers):
        super().__init__()
        self.spec, self.data = spec, data
        dim, n_tasks = spec.embedding_dim, data.n_tasks
        n_in = (
            (4 + spec.attends if data.has_items else 1) * dim
            + data.user_statistics.shape[1]
            + data.item_statistics.shape[1]
        )
        self.table = nn.Embedding(data.n_rows, dim)
        self.has_content = data.item_content.shape[1] > 0
        if self.has_content:
            self.content = nn.Linear(data.item_content.shape[1], dim, bias=False)
        tasks = range(n_tasks if spec.task_embeddings else 0)
        self.task_tables = nn.ModuleList(nn.Embedding(data.n_rows, dim) for _ in tasks)
        if self.has_content:
            self.task_contents = nn.ModuleList(nn.Linear(data.item_content.shape[1], dim, bias=False) for _ in tasks)
        self.mechanism = REFERENCES[spec.mechanism](spec, n_in, layers, data.parents)
        if spec.ensemble_heads > 1:
            count = range(spec.ensemble_heads)
            self.heads = nn.ModuleList(nn.ModuleList(nn.Linear(spec.width, 1) for _ in range(n_tasks)) for _ in count)
            del self.mechanism.heads
            groups = ["scales", *(f"task_scales{task}" for task in tasks)]
            self.scales = nn.ParameterDict({name: torch.ones(len(count), n_in) for name in groups})
        self.dropped, self.nodes, self.smooth = [], np.zeros(0, dtype=int), None
        if spec.trains_graph:
            self.nodes, self.smooth = layer_means(data, spec.graph_layers)
        self.double()

    @property
    def dtype(self):
        return self.table.weight.dtype

    def load(self, arrays):
        """Takes the parameters of a member of a population (`Population.member_arrays`)."""
        for parameter, array in self.pairs(arrays):
            assert parameter.shape == array.shape
            parameter.data = torch.tensor(array, dtype=self.dtype)
        return self

    def pairs(self, arrays):
        """Each parameter beside the array of the population that should equal it."""
        out = [(self.table.weight, arrays["table"])]
        if self.has_content:
            out.append((self.content.weight, arrays["content.weight"][0].T))
        dim = self.spec.embedding_dim
        for task, table in enumerate(self.task_tables):
            out.append((table.weight, arrays["task_table"][:, task * dim : (task + 1) * dim]))
            if self.has_content:
                out.append((self.task_contents[task].weight, arrays["task_content.weight"][task].T))
        if self.spec.ensemble_heads == 1:
            return out + self.mechanism.pairs(arrays)
        out += list(zip(self.scales.values(), arrays["ensemble.scale"], strict=True))
        for head in range(self.spec.ensemble_heads):
            own = {name: array[head :: self.spec.ensemble_heads] for name, array in arrays.items() if "head" in name}
            with self.head(head):
                out += self.mechanism.pairs({**arrays, **own})
        return out

    @contextmanager
    def head(self, number):
        """The mechanism with the output layers of a head."""
        object.__setattr__(self.mechanism, "heads", self.heads[number])
        yield
        object.__delattr__(self.mechanism, "heads")

    def tables(self):
        """The shared embedding table, and one per task where tasks have their own."""
        return [self.table, *self.task_tables]

    def bag(self, rows, weights):
        """``sum_f weight * table[row]`` of every entity; padding and dropped rows weigh 0."""
        weights = np.where(np.isin(rows, self.dropped), 0.0, weights)
        rows, weights = torch.tensor(rows), torch.tensor(weights, dtype=self.dtype)[:, :, None]
        shared, *tables = [table.weight for table in self.tables()]
        shared = shared if self.smooth is None else self.smooth @ shared
        return torch.cat([(table[rows] * weights).sum(1) for table in (shared, *tables)], 1)

    def users(self, ids):
        return self.bag(self.data.user_rows[ids], self.data.user_weights[ids])

    def items(self, ids):
        out = self.bag(self.data.item_rows[ids], self.data.item_weights[ids])
        if self.has_content:
            content = torch.tensor(self.data.item_content[ids], dtype=self.dtype)
            out = out + torch.cat([projection(content) for projection in [self.content, *self.task_contents]], 1)
        return out

    def contexts(self, rows, weights=None):
        return self.bag(rows, np.ones(rows.shape) if weights is None else weights)

    def histories(self, lists):
        longest = max((len(rows) for rows in lists), default=0)
        rows, weights = np.zeros((2, len(lists), longest))
        for place, history in enumerate(lists):
            rows[place, : len(history)] = history
            weights[place, : len(history)] = (len(history) + 1) ** -0.5
        return self.bag(rows.astype(int), weights)

    def logits(self, users, items, contexts, statistics, pasts=None):
        """``(B, T)``; of an ensemble the log-odds of the mean probability, or the mean of numbers."""
        heads = [
            torch.stack(self.task_logits(users, items, contexts, statistics, head=head, pasts=pasts), 1)
            for head in range(self.spec.ensemble_heads)
        ]
        if len(heads) == 1:
            return heads[0]
        p = torch.stack([torch.sigmoid(logits) for logits in heads]).mean(0)
        numbers = torch.tensor([kind != "binary" for kind in self.data.kinds or ["binary"] * self.data.n_tasks])
        return torch.where(numbers, torch.stack(heads).mean(0), torch.log(p / (1 - p)))

    def task_logits(self, users, items, contexts, statistics, dropped=lambda level, x: x, head=0, pasts=None):
        """``(B,)`` of each task, of one head; `pasts` are embedding rows of what each row's user liked before."""
        dim, statistics = self.spec.embedding_dim, torch.tensor(statistics, dtype=self.dtype)
        inputs = []
        vectors = zip(users.split(dim, 1), items.split(dim, 1), contexts.split(dim, 1), strict=True)
        for table, (u, v, c) in zip(self.tables(), vectors, strict=True):
            past = [self.attended(table, pasts, v)] if self.spec.attends else []
            pair = [u, v, u * v] if self.data.has_items else []
            inputs.append(dropped(-1, torch.cat([*pair, c, *past, statistics], 1)))
        if self.spec.ensemble_heads == 1:
            return self.mechanism(inputs, dropped)
        scaled = [x * scale[head] for x, scale in zip(inputs, self.scales.values(), strict=True)]
        with self.head(head):
            return self.mechanism(scaled, dropped)

    def attended(self, table, pasts, items):
        """Zhou et al., KDD 2018: the past of each row, weighed by its products with the item."""
        out = []
        for rows, item in zip(pasts, items, strict=True):
            past = table(torch.tensor(rows))
            scores = past @ item / len(item) ** 0.5
            if self.spec.target_attention == "softmax":
                weights = torch.softmax(scores, 0)
            else:
                weights = torch.sigmoid(scores) / (len(rows) + 1) ** 0.5
            out.append(weights @ past)
        return torch.stack(out)

    def retrieval(self, users, histories, items):
        """``(Bu, Bi)`` cosine divided by the temperature."""
        dim = self.spec.embedding_dim
        asking = users[:, :dim] + self.spec.history_weight * histories[:, :dim]
        asking = asking / asking.norm(dim=1, keepdim=True)
        items = items[:, :dim] / items[:, :dim].norm(dim=1, keepdim=True)
        return asking @ items.T / self.spec.temperature


def layer_means(data, n_layers):
    """Id rows with a positive, and the matrix that gives every row the mean of its LightGCN layers (He et al. 2020)."""
    joined = np.zeros((data.n_rows, data.n_rows))
    part = data.train
    for user, item in zip(part.users[part.target > 0], part.items[part.target > 0], strict=True):
        u, i = data.user_rows[user, 0], data.item_rows[item, 0]
        joined[u, i] = joined[i, u] = 1
    degree = joined.sum(1)
    nodes = np.flatnonzero(degree)
    root = np.where(degree > 0, degree, 1) ** -0.5
    step = root[:, None] * joined * root
    mean = sum(np.linalg.matrix_power(step, layer) for layer in range(n_layers + 1)) / (n_layers + 1)
    others = np.flatnonzero(degree == 0)
    mean[others, others] = 1
    return nodes, torch.tensor(mean)


def history_lists(data, users, items):
    """Embedding rows of each user's past positives without the given item."""
    own = data.item_history_row
    return [
        np.array([row for row in data.history_rows[user] if row not in (0, own[item])], dtype=int)
        for user, item in zip(users, items, strict=True)
    ]


def earlier_rows(data, row):
    """Embedding rows of the positives of a training row's user at earlier times, latest first."""
    part, length = data.train, data.history_rows.shape[1]
    own = (part.users == part.users[row]) & (part.target > 0) & (part.time < part.time[row])
    found = np.flatnonzero(own)
    found = found[np.argsort(part.time[found], kind="stable")][::-1][:length]
    return data.item_history_row[part.items[found]]


def epochs(pool, size, steps, seed, purpose):
    """Shuffled epochs cut into batches of equal size; what is left over at an epoch's end is not used."""
    out, epoch = [], 0
    while len(out) < steps:
        order = generator(seed, purpose, epoch).permutation(pool)
        out += [order[i * size : (i + 1) * size] for i in range(len(order) // size)]
        epoch += 1
    return out[:steps]
