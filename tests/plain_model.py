"""One multi-task recommender as anyone would write it with torch.nn, and an ordinary loop that trains it.

It knows nothing of stacks, slots, plans or shared rows: ragged bags are Python lists, the gradient of the embedding
table is dense, and lazy AdamW is a mask of the rows that a batch reads.
"""

import numpy as np
import torch
from torch import nn

from evorec.seeds import generator


class PlainModel(nn.Module):
    """One member: embedding table, item content, shared layers, one tower per task, one head per task."""

    def __init__(self, spec, data, layers):
        super().__init__()
        self.spec, self.data = spec, data
        dim, width, n_tasks = spec.embedding_dim, spec.width, data.n_tasks
        n_in = 4 * dim + data.user_statistics.shape[1] + data.item_statistics.shape[1]
        sizes = [n_in] + [width] * (layers - 1)
        self.table = nn.Embedding(data.n_rows, dim)
        self.has_content = data.item_content.shape[1] > 0
        if self.has_content:
            self.content = nn.Linear(data.item_content.shape[1], dim, bias=False)
        depth = spec.sharing_depth
        self.shared = nn.ModuleList(nn.Linear(size, width) for size in sizes[:depth])
        self.towers = nn.ModuleList(
            nn.ModuleList(nn.Linear(size, width) for size in sizes[depth:]) for _ in range(n_tasks)
        )
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(n_tasks))
        self.double()

    def load(self, arrays):
        """Takes the parameters of a member of a stack (`Population.member_arrays`)."""
        for parameter, array in self.pairs(arrays):
            parameter.data = torch.tensor(array, dtype=torch.float64)
        return self

    def pairs(self, arrays):
        """Each parameter beside the array of the stack that should equal it."""
        depth = self.spec.sharing_depth
        out = [(self.table.weight, arrays["table"])]
        if self.has_content:
            out.append((self.content.weight, arrays["content.weight"][0].T))
        for level, layer in enumerate(self.shared):
            out += [
                (layer.weight, arrays[f"layer{level}.weight"][0].T),
                (layer.bias, arrays[f"layer{level}.bias"][0, 0]),
            ]
        for task, tower in enumerate(self.towers):
            for offset, layer in enumerate(tower):
                name = f"layer{depth + offset}"
                out += [
                    (layer.weight, arrays[f"{name}.weight"][task].T),
                    (layer.bias, arrays[f"{name}.bias"][task, 0]),
                ]
        for task, head in enumerate(self.heads):
            slot = task if len(self.towers[0]) else 0
            out += [
                (head.weight, arrays["head.weight"][slot][:, [task]].T),
                (head.bias, arrays["head.bias"][slot][0, [task]]),
            ]
        return out

    def bag(self, rows, weights):
        """``sum_f weight * table[row]`` of one entity after the other."""
        return torch.stack(
            [
                (self.table(torch.tensor(row)) * torch.tensor(weight, dtype=torch.float64)[:, None]).sum(0)
                for row, weight in zip(rows, weights, strict=True)
            ]
        )

    def users(self, ids):
        return self.bag(self.data.user_rows[ids], self.data.user_weights[ids].astype(float))

    def items(self, ids):
        out = self.bag(self.data.item_rows[ids], self.data.item_weights[ids].astype(float))
        if self.has_content:
            out = out + self.content(torch.tensor(self.data.item_content[ids], dtype=torch.float64))
        return out

    def contexts(self, rows):
        return self.bag(rows, np.ones(rows.shape))

    def histories(self, lists):
        weights = [np.full(len(rows), (len(rows) + 1) ** -0.5) for rows in lists]
        return self.bag(lists, weights)

    def logits(self, users, items, contexts, statistics, dropped=lambda layer, x: x):
        """``(B, T)``."""
        x = torch.cat([users, items, users * items, contexts, torch.tensor(statistics, dtype=torch.float64)], 1)
        x = dropped(-1, x)
        for level, layer in enumerate(self.shared):
            x = dropped(level, torch.relu(layer(x)))
        out = []
        for tower, head in zip(self.towers, self.heads, strict=True):
            h = x
            for level, layer in enumerate(tower, start=len(self.shared)):
                h = dropped(level, torch.relu(layer(h)))
            out.append(head(h))
        return torch.cat(out, 1)

    def retrieval(self, users, histories, items):
        """``(Bu, Bi)`` cosine divided by the temperature."""
        asking = users + self.spec.history_weight * histories
        asking = asking / asking.norm(dim=1, keepdim=True)
        items = items / items.norm(dim=1, keepdim=True)
        return asking @ items.T / self.spec.temperature


def history_lists(data, users, items):
    """Embedding rows of each user's past positives without the given item."""
    own = data.item_history_row
    return [
        np.array([row for row in data.history_rows[user] if row not in (0, own[item])], dtype=int)
        for user, item in zip(users, items, strict=True)
    ]


def epochs(pool, size, steps, seed, purpose):
    """Shuffled epochs cut into batches of equal size; what is left over at an epoch's end is not used."""
    out, epoch = [], 0
    while len(out) < steps:
        order = generator(seed, purpose, epoch).permutation(pool)
        out += [order[i * size : (i + 1) * size] for i in range(len(order) // size)]
        epoch += 1
    return out[:steps]


def loss_of(model, batch, positives, seed, step):
    """The training loss of one step and the embedding rows that it reads."""
    data, spec, part = model.data, model.spec, model.data.train

    def dropped(layer, x):
        draw = generator(seed, "dropout", step, layer).random((x.shape[1], x.shape[0]), dtype=np.float32).T
        kept = torch.tensor(draw.astype(np.float64) >= spec.dropout)
        return x * kept / (1 - spec.dropout)

    logits = model.logits(
        model.users(part.users[batch]),
        model.items(part.items[batch]),
        model.contexts(part.context[batch]),
        part.statistics[batch],
        dropped,
    )
    loss = torch.zeros((), dtype=torch.float64)
    for task, weight in enumerate(spec.task_weights):
        labels = part.labels[batch, task]
        known = ~np.isnan(labels)
        if known.any():
            target = torch.tensor(labels[known], dtype=torch.float64)
            loss = loss + weight * nn.functional.binary_cross_entropy_with_logits(logits[known, task], target)
    users, items = part.users[positives], part.items[positives]
    lists = history_lists(data, users, items)
    scores = model.retrieval(model.users(users), model.histories(lists), model.items(items))
    liked = part.target > 0
    wanted = set(zip(part.users[liked].tolist(), part.items[liked].tolist(), strict=True))
    known = [[a != b and (users[a], items[b]) in wanted for b in range(len(items))] for a in range(len(items))]
    scores = scores.masked_fill(torch.tensor(known), -np.inf)
    loss = loss + spec.retrieval_weight * nn.functional.cross_entropy(scores, torch.arange(len(items)))
    read = [data.user_rows[part.users[batch]], data.user_rows[users], data.item_rows[part.items[batch]]]
    read += [data.item_rows[items], part.context[batch], *lists]
    return loss, np.unique(np.concatenate([rows.reshape(-1) for rows in read]))


def plain_train(model, *, steps, batch, positives, seed):
    """torch.optim.AdamW for the dense parameters; for the table AdamW that moves the rows of the batch only.

    A row that is in no batch ends as 0.
    """
    part, spec = model.data.train, model.spec
    batches = epochs(np.arange(len(part.users)), batch, steps, seed, "batches")
    chosen = epochs(np.flatnonzero(part.target > 0), positives, steps, seed, "positives")
    dense = [(name, p) for name, p in model.named_parameters() if name != "table.weight"]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for name, p in dense if not name.endswith("bias")], "weight_decay": spec.dense_decay},
            {"params": [p for name, p in dense if name.endswith("bias")], "weight_decay": 0.0},
        ],
        lr=spec.learning_rate,
    )
    table, rate = model.table.weight, spec.embedding_learning_rate
    m, v = torch.zeros_like(table), torch.zeros_like(table)
    never = torch.ones(len(table), dtype=torch.bool)
    for step in range(1, steps + 1):
        model.zero_grad()
        loss, rows = loss_of(model, batches[step - 1], chosen[step - 1], seed, step)
        loss.backward()
        optimiser.step()
        never[rows] = False
        with torch.no_grad():
            m[rows] = 0.9 * m[rows] + 0.1 * table.grad[rows]
            v[rows] = 0.999 * v[rows] + 0.001 * table.grad[rows] ** 2
            table *= 1 - rate * spec.embedding_decay
            unbiased_m, unbiased_v = m[rows] / (1 - 0.9**step), v[rows] / (1 - 0.999**step)
            table[rows] -= rate * unbiased_m / (unbiased_v.sqrt() + 1e-8)
    with torch.no_grad():
        table[never] = 0.0
    return model
