"""What a member would lose if one block of its input belonged to somebody else: permutation importance.

The values of a block stay what they are and change owners, so nothing is asked of the model that it never saw
(Breiman 2001). Blocks that say the same stand in for each other: each then looks less important than both are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.data.dataset import Dataset, Field
from evorec.metrics.accuracy import ordering_key
from evorec.metrics.lists import hits, n_relevant
from evorec.metrics.metric import METRICS
from evorec.metrics.ranking import recall_at_k
from evorec.metrics.task_rows import TaskPredictions, TaskRows
from evorec.models.population import Bag, Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.search.executors import WorkerDeath, executor_for
from evorec.seeds import generator
from evorec.training.evaluate import member_lists, task_logits
from evorec.training.plan import DeviceData

Ints = npt.NDArray[np.int64]


@final
class Spread(NamedTuple):
    """Mean and standard deviation (n - 1; 0 for one value)."""

    mean: float
    sd: float


@final
@dataclass(frozen=True)
class Importance:
    """What a member loses when one block of its input belongs to somebody else.

    Attributes:
        side: ``user``, ``item``, ``context``, ``content``, ``statistics`` or ``lists`` (what lists alone are made of).
        block: its name, that of the gene ``use_<block>`` where it has one.
        used: whether the member has it; all drops of one that it does without are 0.
        drops: by metric, value less value with the block permuted, over the repeats; a metric that does not look at
            the block is not there.
    """

    side: str
    block: str
    used: bool
    drops: Mapping[str, Spread]


@final
@dataclass(frozen=True)
class _Inputs:
    """What tasks and lists are measured on."""

    dataset: Dataset
    data: DeviceData


Shuffle = Callable[[_Inputs, np.random.Generator], _Inputs]


@final
@dataclass(frozen=True)
class _Shuffled:
    """A block of the input, and how it changes owners.

    Attributes:
        side, block, used: see `Importance`.
        shuffle: makes the inputs in which it has.
        tasks, lists: whether the logits of the held-out rows, and the lists, look at it.
    """

    side: str
    block: str
    used: bool
    shuffle: Shuffle
    tasks: bool = True
    lists: bool = True


def block_importance(
    population: Population,
    encoded: EncodedData,
    *,
    repeats: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, float], tuple[Importance, ...]]:
    """Permutation importance of every block of a member's input.

    Users trade among those who are measured, items among the whole catalogue, context and statistics among the
    held-out rows. Histories, and the statistics of lists, trade among the users who get a list.

    Args:
        population: a stack of one member.
        encoded: its data; the held-out rows and the ranking users are measured.
        repeats: permutations of each block.
        seed: of the permutations, each a stream of its own by block and repeat.
        progress: told what goes on.
    Returns:
        AUC (or concordance) of each task and recall of the lists as they are, and what each block is worth.
    """
    inputs = _Inputs(encoded.dataset, encoded.tensors)
    labels = encoded.held_out.tasks
    values = _task_values(population, inputs, labels) | _list_values(population, inputs, encoded)
    blocks = _blocks(population.specs[0], encoded)
    used = [block for block in blocks if block.used]
    progress(f"permuting {len(used)} blocks of the input, {repeats} times each")

    def once(block: _Shuffled, repeat: int) -> dict[str, float]:
        changed = block.shuffle(inputs, generator(seed, f"permute {block.side} {block.block}", repeat))
        found = _task_values(population, changed, labels) if block.tasks else {}
        found |= _list_values(population, changed, encoded) if block.lists else {}
        return {name: values[name] - value for name, value in found.items()}

    jobs = [partial(once, block, repeat) for block in used for repeat in range(repeats)]
    executor = executor_for(encoded.config.run, device=encoded.tensors.device.type, picklable=False)
    results: dict[int, dict[str, float]] = {}
    for place, found in executor.run(jobs):
        assert not isinstance(found, WorkerDeath)  # threads only
        results[place] = found
    recall, out = f"recall@{encoded.config.evaluation.k}", []
    for block in blocks:
        seen = [name for name in values if (block.lists if name == recall else block.tasks)]
        if block.used:
            first = used.index(block) * repeats
            own = [results[place] for place in range(first, first + repeats)]
        else:
            own = [dict.fromkeys(seen, 0.0)]
        drops = {name: _spread([one[name] for one in own]) for name in seen}
        out.append(Importance(block.side, block.block, block.used, drops))
    return values, tuple(out)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def _task_values(population: Population, inputs: _Inputs, labels: Sequence[TaskRows]) -> dict[str, float]:
    """AUC of each task, or concordance where its labels are numbers."""
    logits = task_logits(population, inputs.data, inputs.dataset.held_out)[0]
    out = {}
    for rows, own in zip(labels, logits, strict=True):
        metric = METRICS[ordering_key("<task>", rows.kind)]
        out[metric.key(task=rows.task)] = metric.value(TaskPredictions(own[rows.rows], rows))
    return out


def _list_values(population: Population, inputs: _Inputs, encoded: EncodedData) -> dict[str, float]:
    """Recall of the lists."""
    users, evaluation = encoded.users, encoded.config.evaluation
    lists = member_lists(population, inputs.dataset, inputs.data, users, evaluation)
    hit = hits(lists.final[0], users.relevant, inputs.dataset.n_items)
    return {f"recall@{evaluation.k}": float(recall_at_k(hit, n_relevant(users.relevant)).mean())}


def _blocks(spec: ModelSpec, encoded: EncodedData) -> list[_Shuffled]:
    """Every block that there is, and whether the member has it."""
    dataset, listed = encoded.dataset, encoded.users.ids
    known = dataset.held_out.users[dataset.held_out.users < dataset.n_users]
    measured = np.union1d(known, listed)
    names = {(block.side, block.field): block.name for block in encoded.tensors.shape.blocks}
    ways: list[tuple[str, Field, Shuffle]] = [
        *(("user", field, partial(_users, who=measured, columns=_columns(field))) for field in dataset.user_fields),
        *(("item", field, partial(_items, columns=_columns(field))) for field in dataset.item_fields),
        *(("context", field, partial(_context, column=field.first_column)) for field in dataset.context_columns),
        *(("content", field, partial(_content, columns=_columns(field))) for field in dataset.content_parts),
    ]
    out = []
    for side, field, shuffle in ways:
        name = names.get((side, field.name), f"{side} id")  # nobody does without the ids, so they are no blocks
        out.append(_Shuffled(side, name, name not in spec.off, shuffle, lists=side != "context"))
    for key in dict.fromkeys(_key(name) for name in dataset.statistics):
        shuffle = partial(_statistics, key=key, listed=listed)
        out.append(_Shuffled("statistics", key, True, shuffle, lists=spec.rank_blend > 0))
    past = partial(_past, who=listed)
    out.append(_Shuffled("lists", "past positives of the user", spec.history_weight > 0, past, tasks=False))
    out.append(_Shuffled("lists", "popularity of the item", spec.popularity_weight != 0, _popularity, tasks=False))
    return out


def _columns(field: Field) -> slice:
    return slice(field.first_column, field.first_column + field.n_columns)


def _key(statistic: str) -> str:
    """Key of a column of the statistics, which is called ``<key>:<what>``."""
    return statistic.rsplit(":", 1)[0]


def _traded(bag: Bag, who: Ints, columns: slice, rng: np.random.Generator) -> Bag:
    """The bag in which columns go to others of the entities `who`."""
    to, of = (torch.tensor(order, device=bag.rows.device) for order in (who, rng.permutation(who)))
    rows, weights = bag.rows.clone(), bag.weights.clone()
    rows[to, columns], weights[to, columns] = bag.rows[of, columns], bag.weights[of, columns]
    return Bag(rows, weights, bag.content)


def _users(inputs: _Inputs, rng: np.random.Generator, *, who: Ints, columns: slice) -> _Inputs:
    """A feature of the users, or their id, goes to others of them."""
    return replace(inputs, data=replace(inputs.data, users=_traded(inputs.data.users, who, columns, rng)))


def _items(inputs: _Inputs, rng: np.random.Generator, *, columns: slice) -> _Inputs:
    """A feature of the items, or their id, goes to others of the catalogue."""
    who = np.arange(inputs.dataset.n_items)
    return replace(inputs, data=replace(inputs.data, items=_traded(inputs.data.items, who, columns, rng)))


def _past(inputs: _Inputs, rng: np.random.Generator, *, who: Ints) -> _Inputs:
    """The past positives go to other users."""
    return replace(inputs, data=replace(inputs.data, history=_traded(inputs.data.history, who, slice(None), rng)))


def _content(inputs: _Inputs, rng: np.random.Generator, *, columns: slice) -> _Inputs:
    """A part of the content goes to other items of the catalogue."""
    bag = inputs.data.items
    assert bag.content is not None  # there is a part of it
    of = torch.tensor(rng.permutation(inputs.dataset.n_items), device=inputs.data.device)
    content = bag.content.clone()
    content[: len(of), columns] = bag.content[of, columns]
    return replace(inputs, data=replace(inputs.data, items=Bag(bag.rows, bag.weights, content)))


def _context(inputs: _Inputs, rng: np.random.Generator, *, column: int) -> _Inputs:
    """A feature of the moment goes to other held-out rows."""
    part = inputs.dataset.held_out
    context = part.context.copy()
    context[:, column] = rng.permutation(context[:, column])
    return replace(inputs, dataset=replace(inputs.dataset, held_out=replace(part, context=context)))


def _statistics(inputs: _Inputs, rng: np.random.Generator, *, key: str, listed: Ints) -> _Inputs:
    """The statistics of one key go to other held-out rows, and for the lists to other listed users, or items."""
    dataset, data, part = inputs.dataset, inputs.data, inputs.dataset.held_out
    own = np.array([place for place, name in enumerate(dataset.statistics) if _key(name) == key])
    statistics = part.statistics.copy()
    statistics[:, own] = statistics[rng.permutation(part.n_rows)][:, own]
    dataset = replace(dataset, held_out=replace(part, statistics=statistics))
    of_users = dataset.user_statistics.shape[1]
    if own[0] < of_users:
        served = _traded_columns(data.user_statistics, listed, own, rng)
        return _Inputs(dataset, replace(data, user_statistics=served))
    served = _traded_columns(data.item_statistics, np.arange(dataset.n_items), own - of_users, rng)
    return _Inputs(dataset, replace(data, item_statistics=served))


def _traded_columns(values: Tensor, who: Ints, columns: Ints, rng: np.random.Generator) -> Tensor:
    """The values ``[E, S]`` in which columns go to others of the entities `who`."""
    to, of = (torch.tensor(order, device=values.device)[:, None] for order in (who, rng.permutation(who)))
    at, out = torch.tensor(columns, device=values.device), values.clone()
    out[to, at] = values[of, at]
    return out


def _popularity(inputs: _Inputs, rng: np.random.Generator) -> _Inputs:
    """The training positives, which popularity is counted from, go to other items of the catalogue."""
    dataset = inputs.dataset
    to = np.append(rng.permutation(dataset.n_items), dataset.n_items)
    counts = np.empty_like(dataset.item_counts)
    counts[to[:-1]] = dataset.item_counts
    train = replace(dataset.train, items=to[dataset.train.items])
    return replace(inputs, dataset=replace(dataset, train=train, item_counts=counts))
