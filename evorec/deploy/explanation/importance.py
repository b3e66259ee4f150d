"""Permutation importance: the loss of metrics when a block of a member's input is permuted.

The values of a block are kept, only their assignment changes, so the model sees no value that it never saw (Breiman
2001). Correlated blocks replace each other: each then looks less important than both are together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.data.dataset import Dataset, Field
from evorec.deploy.final.training import run_all
from evorec.metrics.accuracy import ordering_key
from evorec.metrics.lists import hits, n_relevant
from evorec.metrics.metric import METRICS
from evorec.metrics.ranking import recall_at_k
from evorec.metrics.task_rows import TaskPredictions
from evorec.models.population import Bag, Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.seeds import generator
from evorec.training.evaluate import member_lists, task_logits
from evorec.training.plan import DeviceData

Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1; 0 for a single value)."""

    mean: float
    sd: float


@final
@dataclass(frozen=True)
class Importance:
    """The loss of metrics when a block of the input is permuted.

    Attributes:
        side: ``user``, ``item``, ``context``, ``content``, ``statistics`` or ``lists`` (inputs of lists only).
        block: its name, that of the gene ``use_<block>`` if such a gene exists.
        used: whether the member uses it; all drops of an unused block are 0.
        drops: by metric, value minus value with the block permuted, over the repeats; without the metrics that do not
            depend on the block.
    """

    side: str
    block: str
    used: bool
    drops: Mapping[str, Spread]


@final
@dataclass(frozen=True)
class _Inputs:
    """The data on which tasks and lists are measured."""

    dataset: Dataset
    data: DeviceData


Shuffle = Callable[[_Inputs, np.random.Generator], _Inputs]


@final
@dataclass(frozen=True)
class _Block:
    """A block of the input and its permutation.

    Attributes:
        side, name, used: see `Importance`.
        shuffle: returns inputs with the block permuted.
        tasks, lists: whether the logits of the held-out rows, and the lists, depend on it.
    """

    side: str
    name: str
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

    Users are permuted among the measured users, items among the whole catalogue, context and statistics among the
    held-out rows. Histories, and the statistics of lists, are permuted among the users with a list.

    Args:
        population: a stack of this member only.
        encoded: its data; the held-out rows and the ranking users are measured.
        repeats: permutations of each block.
        seed: of the permutations; each block and repeat has its own stream.
        progress: called with a line of text per step.
    Returns:
        AUC (or concordance) of each task and recall of the lists without permutation, and the importance of each block.
    """
    inputs = _Inputs(encoded.dataset, encoded.tensors)
    values = _task_values(population, inputs, encoded) | _list_values(population, inputs, encoded)
    blocks = _blocks(population.specs[0], encoded)
    used = [block for block in blocks if block.used]
    progress(f"permuting {len(used)} blocks of the input, {repeats} times each")

    def once(block: _Block, repeat: int) -> dict[str, float]:
        changed = block.shuffle(inputs, generator(seed, f"permute {block.side} {block.name}", repeat))
        found = _task_values(population, changed, encoded) if block.tasks else {}
        found |= _list_values(population, changed, encoded) if block.lists else {}
        return {name: values[name] - value for name, value in found.items()}

    jobs = [(block, repeat) for block in used for repeat in range(repeats)]
    results = dict(run_all(encoded, [partial(once, *job) for job in jobs]))
    recall, out = f"recall@{encoded.config.evaluation.k}", []
    for block in blocks:
        seen = [name for name in values if (block.lists if name == recall else block.tasks)]
        drops = [results[i] for i, (own, _) in enumerate(jobs) if own is block] or [dict.fromkeys(seen, 0.0)]
        spreads = {name: _spread([drop[name] for drop in drops]) for name in seen}
        out.append(Importance(block.side, block.name, block.used, spreads))
    return values, tuple(out)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def _task_values(population: Population, inputs: _Inputs, encoded: EncodedData) -> dict[str, float]:
    """AUC of each task, or concordance of a regression task; nothing without ranked tasks."""
    if not encoded.dataset.tasks:
        return {}
    logits = task_logits(population, inputs.data, inputs.dataset.held_out)[0]
    out = {}
    for rows, own in zip(encoded.held_out.tasks, logits, strict=True):
        metric = METRICS[ordering_key("<task>", rows.kind)]
        out[metric.key(task=rows.task)] = metric.value(TaskPredictions(own[rows.rows], rows))
    return out


def _list_values(population: Population, inputs: _Inputs, encoded: EncodedData) -> dict[str, float]:
    """Recall of the lists; nothing without items."""
    if not inputs.dataset.has_items:
        return {}
    users, evaluation = encoded.users, encoded.config.evaluation
    lists = member_lists(population, inputs.dataset, inputs.data, users, evaluation)
    hit = hits(lists.final[0], users.relevant, inputs.dataset.n_items)
    return {f"recall@{evaluation.k}": float(recall_at_k(hit, n_relevant(users.relevant)).mean())}


def _blocks(spec: ModelSpec, encoded: EncodedData) -> list[_Block]:
    """Every block of the data, used by the member or not."""
    dataset, listed = encoded.dataset, encoded.users.ids
    known = dataset.held_out.users[dataset.held_out.users < dataset.n_users]
    measured, catalogue = np.union1d(known, listed), np.arange(dataset.n_items)
    names = {(block.side, block.field): block.name for block in encoded.tensors.shape.blocks}
    ways: list[tuple[str, Field, Shuffle]] = [
        *(("user", field, _bags("users", measured, _columns(field))) for field in dataset.user_fields),
        *(("item", field, _bags("items", catalogue, _columns(field))) for field in dataset.item_fields),
        *(("context", field, partial(_context, columns=_columns(field))) for field in dataset.context_columns),
        *(("content", field, partial(_content, columns=_columns(field))) for field in dataset.content_parts),
    ]
    out = []
    for side, field, shuffle in ways:
        name = names.get((side, field.name), f"{side} id")  # every member uses the ids, so they have no gene
        out.append(_Block(side, name, name not in spec.off, shuffle, lists=side != "context"))
    for key in dict.fromkeys(_key(name) for name in dataset.statistics):
        shuffle = partial(_statistics, key=key, listed=listed)
        out.append(_Block("statistics", key, True, shuffle, lists=spec.rank_blend > 0))
    if not dataset.has_items:
        return out
    past = _bags("history", listed, slice(None))
    is_read = spec.history_weight > 0 or spec.attends
    out.append(_Block("lists", "past positives of the user", is_read, past, tasks=spec.attends))
    out.append(_Block("lists", "popularity of the item", spec.popularity_weight != 0, _popularity, tasks=False))
    return out


def _columns(field: Field) -> slice:
    return slice(field.first_column, field.first_column + field.n_columns)


def _key(statistic: str) -> str:
    """Key of a column of the statistics, which is named ``<key>:<statistic>``."""
    return statistic.rsplit(":", 1)[0]


def _permuted(values: Tensor, to: Ints, of: Ints, columns: slice | Ints) -> Tensor:
    """A copy in which the entities `to` have the columns of the entities `of`."""
    out = values.clone()
    out[torch.tensor(to), columns] = values[torch.tensor(of), columns]
    return out


def _bags(name: Literal["users", "items", "history"], who: Ints, columns: slice) -> Shuffle:
    """Permutes columns of the bags of the entities `who`: a feature, their id, or their whole history."""

    def shuffle(inputs: _Inputs, rng: np.random.Generator) -> _Inputs:
        bag: Bag = getattr(inputs.data, name)
        of = rng.permutation(who)
        rows, weights = (_permuted(values, who, of, columns) for values in (bag.rows, bag.weights))
        changed: dict[str, Any] = {name: Bag(rows, weights, bag.content)}
        return replace(inputs, data=replace(inputs.data, **changed))

    return shuffle


def _content(inputs: _Inputs, rng: np.random.Generator, *, columns: slice) -> _Inputs:
    """A part of the content permuted in the catalogue."""
    bag = inputs.data.items
    assert bag.content is not None  # the part exists
    of = rng.permutation(inputs.dataset.n_items)
    content = _permuted(bag.content, np.arange(len(of)), of, columns)
    return replace(inputs, data=replace(inputs.data, items=Bag(bag.rows, bag.weights, content)))


def _context(inputs: _Inputs, rng: np.random.Generator, *, columns: slice) -> _Inputs:
    """A context feature permuted among the held-out rows."""
    part = inputs.dataset.held_out
    of = rng.permutation(part.n_rows)

    def permuted(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = array.copy()
        out[:, columns] = array[of, columns]
        return out

    weights = None if part.context_weights is None else permuted(part.context_weights)
    held_out = replace(part, context=permuted(part.context), context_weights=weights)
    return replace(inputs, dataset=replace(inputs.dataset, held_out=held_out))


def _statistics(inputs: _Inputs, rng: np.random.Generator, *, key: str, listed: Ints) -> _Inputs:
    """The statistics of a key permuted among the held-out rows, and for lists among the listed users or the items."""
    dataset, data, part = inputs.dataset, inputs.data, inputs.dataset.held_out
    own = np.array([column for column, name in enumerate(dataset.statistics) if _key(name) == key])
    statistics = part.statistics.copy()
    statistics[:, own] = statistics[rng.permutation(part.n_rows)][:, own]
    dataset = replace(dataset, held_out=replace(part, statistics=statistics))
    of_users = dataset.user_statistics.shape[1]
    is_user = own[0] < of_users
    who = listed if is_user else np.arange(dataset.n_items)
    name, columns = ("user_statistics", own) if is_user else ("item_statistics", own - of_users)
    changed: dict[str, Any] = {
        name: _permuted(getattr(data, name), who[:, None], rng.permutation(who)[:, None], columns)
    }
    return _Inputs(dataset, replace(data, **changed))


def _popularity(inputs: _Inputs, rng: np.random.Generator) -> _Inputs:
    """The training positives, from which popularity is counted, permuted in the catalogue."""
    dataset = inputs.dataset
    to = np.append(rng.permutation(dataset.n_items), dataset.n_items)
    counts = np.empty_like(dataset.item_counts)
    counts[to[:-1]] = dataset.item_counts
    train = replace(dataset.train, items=to[dataset.train.items])
    return replace(inputs, dataset=replace(dataset, train=train, item_counts=counts))
