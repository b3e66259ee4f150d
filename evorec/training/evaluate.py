"""Measures a trained stack on the held-out part: task accuracy on all rows, ranking on a fixed sample of users."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.config import EvaluationConfig, QuantileKind, TaskKind
from evorec.data.dataset import Csr, Dataset, Part
from evorec.data.tables import SECONDS_PER_DAY
from evorec.errors import DataError, TrainingError
from evorec.metrics.accuracy import LabelledRows
from evorec.metrics.fairness import FEWEST_USERS, UserGroups
from evorec.metrics.lists import ListScorer
from evorec.metrics.ranking import hits_of_checked, n_relevant, recall_at_k
from evorec.metrics.regression import NumberRows
from evorec.metrics.robustness import target_hit_rate
from evorec.models.population import Bag, Block, Population
from evorec.models.recommend import ItemSide, Lists, MemberLists, UserSide, popularity_prior, recommend, stream_lists
from evorec.seeds import generator
from evorec.training.choices import ChoiceRows
from evorec.training.plan import DeviceData

ROWS_AT_ONCE = 512
"""Rows of the ranker at a time; the same for every block, whatever its size."""


@final
@dataclass(frozen=True)
class Measured:
    """One member on the held-out part.

    Attributes:
        metrics: by canonical key (`evorec.objectives.CATALOGUE`).
        per_user: float64 ``(U,)`` in the order of the evaluated users, for paired comparisons.
        target_hit_rate: of `Extras.targets`; ``None`` without.
    """

    metrics: dict[str, float]
    per_user: dict[str, npt.NDArray[np.float64]]
    target_hit_rate: float | None = None


@final
@dataclass(frozen=True)
class RankingUsers:
    """The users that ranking metrics are computed on.

    Attributes:
        ids: int64 ``(U,)``, ascending.
        masked: items never listed to them.
        relevant: their held-out positives.
        groups: their stated groups, int64 ``(U,)``, -1 = none is known; ``None`` = there are none.
    """

    ids: npt.NDArray[np.int64]
    masked: Csr
    relevant: Csr
    groups: npt.NDArray[np.int64] | None = None


def ranking_users(dataset: Dataset, config: EvaluationConfig, *, seed: int, at_most: int | None) -> RankingUsers:
    """Users with a held-out positive, or a fixed, seeded sample of them.

    Args:
        config: `users` and `mask`.
        seed: seed of the sample; the same for all candidates of a run.
        at_most: size of the sample; ``None`` = all.
    Raises:
        DataError: nobody has a held-out positive.
    """
    counts = dataset.relevant.counts()[: dataset.n_users]
    eligible = counts > 0
    if config.users == "warm":
        eligible &= dataset.history.counts()[: dataset.n_users] > 0
    ids = np.flatnonzero(eligible)
    if len(ids) == 0:
        raise DataError(
            f"ranking metrics of {dataset.name} need a known user with a positive of {dataset.target} in the held-out "
            f'rows, got none of {dataset.n_users} (evaluation.users = "{config.users}"); choose a longer held-out part.'
        )
    if at_most is not None and len(ids) > at_most:
        ids = np.sort(generator(seed, "ranking users").choice(ids, at_most, replace=False))
    groups = None if dataset.user_groups is None else dataset.user_groups[ids]
    return RankingUsers(ids, masked_items(dataset, config).select(ids), dataset.relevant.select(ids), groups)


def check_measurable(dataset: Dataset, wanted: Collection[str], users: RankingUsers | None = None) -> None:
    """Refuses metrics that this data set cannot give to any model.

    Args:
        wanted: metric keys of objectives and constraints.
        users: that lists are measured on; ``None`` = all.
    Raises:
        DataError: a distance of lists without item content, a `gauc` without a user who has both classes, a recall
            of items without a training row that none of the users wants, or a gap without two large groups of users.
    """
    relevant = dataset.relevant if users is None else users.relevant
    groups = dataset.user_groups if users is None else users.groups
    for metric in sorted(wanted):
        if metric.startswith("cold_start_recall") and dataset.item_counts[relevant.indices].all():
            raise DataError(
                f"{metric} needs a held-out positive on an item without a training row, {dataset.name} has none for "
                "the users that lists are measured on; choose recall@k, or hold out a later part."
            )
        if metric.startswith("intra_list_distance") and dataset.distance_content.shape[1] == 0:
            raise DataError(
                f"{metric} needs content of the items, {dataset.name} has none; choose catalogue_coverage@k."
            )
        if metric.startswith("group_gap"):
            _check_groups(metric, dataset.name, groups)
        base, _, task = metric.partition("/")
        if base == "gauc" and not _has_user_with_both_classes(dataset.held_out, dataset.tasks.index(task)):
            raise DataError(f"{metric} needs a user with both classes in the held-out rows; choose auc/{task}.")


def _check_groups(metric: str, name: str, groups: npt.NDArray[np.int64] | None) -> None:
    found = UserGroups(np.zeros(0, dtype=np.int64) if groups is None else groups)
    if not found.can_differ:
        raise DataError(
            f"{metric} needs two or more groups of {FEWEST_USERS} or more users whose lists are measured, {name} has "
            f"{len(found.sizes)}, and {found.n_left_out} users in smaller ones or in none; choose other "
            "evaluation.groups, or raise evaluation.max_users."
        )


def masked_items(dataset: Dataset, config: EvaluationConfig) -> Csr:
    """Per user id, the items that are never listed."""
    return dataset.seen if config.mask == "seen" else dataset.history


def task_logits(population: Population, data: DeviceData, part: Part) -> npt.NDArray[np.floating]:
    """Logits of every row of a part, ``(P, T, N)``."""
    rows = _PartRows.of(part, data)
    found: dict[int, npt.NDArray[np.floating]] = {}
    for block in population.blocks:
        found |= zip(block.members, _block_logits(block, rows), strict=True)
    return np.stack([found[member] for member in range(population.size)])


@final
@dataclass(frozen=True)
class _PartRows:
    """The rows of a part for the ranker: bags of the entities that occur, and which of them each row is about."""

    users: Bag
    items: Bag
    contexts: Bag
    user_of: Tensor
    item_of: Tensor
    context_of: Tensor
    statistics: Tensor

    @classmethod
    def of(cls, part: Part, data: DeviceData) -> _PartRows:
        def ints(array: npt.NDArray[np.int64]) -> Tensor:
            return torch.tensor(array.reshape(-1), device=data.device)

        users, user_of = np.unique(part.users, return_inverse=True)
        items, item_of = np.unique(part.items, return_inverse=True)
        contexts, context_of = unique_rows(part.context)
        return cls(
            data.users.select(ints(users)),
            data.items.select(ints(items)),
            data.context_bag(torch.tensor(contexts, device=data.device)),
            ints(user_of),
            ints(item_of),
            ints(context_of),
            torch.tensor(part.statistics, dtype=data.dtype, device=data.device),
        )


def _block_logits(block: Block, rows: _PartRows) -> npt.NDArray[np.floating]:
    """Logits of all rows, ``(P_b, T, N)``."""
    with torch.no_grad():
        users, items, contexts = (block.vectors(bag) for bag in (rows.users, rows.items, rows.contexts))
        n_rows = len(rows.user_of)
        out = users.new_empty(block.size, block.shape.n_tasks, n_rows)
        for start in range(0, n_rows, ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            out[:, :, some] = block.rank_logits(
                users.index_select(2, rows.user_of[some]),
                items.index_select(2, rows.item_of[some]),
                contexts.index_select(2, rows.context_of[some]),
                rows.statistics[some],
            )
    return out.cpu().numpy()


def unique_rows(array: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The different rows of a matrix ``(N, F)``, and which of them each row is, ``(N,)``.

    Column by column: `numpy.unique` with an axis sorts rows as if they were text, ten times slower.

    Example:
        >>> unique_rows(np.array([[1, 7], [1, 5], [1, 7]]))
        (array([[1, 5],
               [1, 7]]), array([1, 0, 1]))
    """
    code = np.zeros(len(array), dtype=np.int64)
    for column in array.T:
        level = np.unique(column, return_inverse=True)[1]
        code = np.unique(code * (int(level.max(initial=0)) + 1) + level, return_inverse=True)[1]
    first = np.unique(code, return_index=True)[1]
    return array[first], code


def member_lists(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers, config: EvaluationConfig
) -> Lists:
    """Recommendation lists of every member for the given users."""
    candidates = config.n_candidates(dataset.n_items)
    return recommend(population, *_sides(population, dataset, data, users), k=config.k, candidates=candidates)


def _stream(
    population: Population,
    dataset: Dataset,
    data: DeviceData,
    users: RankingUsers,
    config: EvaluationConfig,
    *,
    threshold: float | None = None,
) -> Iterator[MemberLists]:
    sides = _sides(population, dataset, data, users)
    candidates = config.n_candidates(dataset.n_items)
    return stream_lists(population, *sides, k=config.k, candidates=candidates, threshold=threshold)


def _sides(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers
) -> tuple[ItemSide, UserSide, npt.NDArray[np.float64]]:
    """What `recommend` needs: items, users and the prior."""
    prior = popularity_prior(*positive_ages(dataset), dataset.item_counts > 0, population.specs)
    ids = torch.tensor(users.ids, device=data.device)
    mode = torch.tensor(dataset.context_mode[None, :], device=data.device)
    content = None if data.items.content is None else data.items.content[:-1]
    bag = Bag(data.items.rows[:-1], data.items.weights[:-1], content)
    return (
        ItemSide(bag, data.item_statistics[:-1], data.context_bag(mode)),
        UserSide(data.users.select(ids), data.history.select(ids), data.user_statistics[ids], users.masked),
        prior,
    )


def positive_ages(dataset: Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Items of the training target positives, and their age in days at the end of training, both ``(N,)``."""
    part = dataset.train
    positives = part.target > 0
    return part.items[positives], (part.time.max() - part.time[positives]) / SECONDS_PER_DAY


@final
@dataclass(frozen=True)
class Extras:
    """What is measured only where it is asked for, because it costs so much, and what is made once for many stacks.

    Attributes:
        sparsity: `evorec.models.recommend.improbable`, as a share of the pairs of user and item.
        targets: items of an attack, int64 ``(n,)``, whose hit rate is needed as it is without one.
        choices: of the held-out part; ``None`` = made anew.
    """

    sparsity: bool = False
    targets: npt.NDArray[np.int64] | None = None
    choices: ChoiceRows | None = None


NO_EXTRAS = Extras()


def measure(
    population: Population,
    dataset: Dataset,
    data: DeviceData,
    config: EvaluationConfig,
    users: RankingUsers,
    *,
    extras: Extras = NO_EXTRAS,
) -> list[Measured | TrainingError]:
    """Every accuracy, choice, ranking and diversity metric of every member.

    Args:
        population: a trained stack of P members.
        dataset: its ``held_out`` part is measured.
        users: from `ranking_users`.
        extras: what is measured besides.
    Returns:
        One per member, in order; a `TrainingError` for one whose scores are not finite.
    """
    part = dataset.held_out
    labels, choices = labelled_rows(dataset, part), extras.choices or ChoiceRows(dataset, spend=config.spend)
    rows = _PartRows.of(part, data)
    of_rows: list[Mapping[str, float] | None] = [None] * population.size
    for block in population.blocks:
        for member, spec, logits in zip(block.members, block.specs, _block_logits(block, rows), strict=True):
            if np.isfinite(logits).all():
                chosen = choices.metrics(logits, data.shape.score_weights(spec.task_weights))
                of_rows[member] = {**_accuracy(logits, labels), **chosen}
    scorer = ListScorer(
        users.relevant, item_counts=dataset.item_counts, item_content=dataset.distance_content, groups=users.groups
    )
    out: list[Measured | TrainingError] = [
        TrainingError("the trained model gives scores that are not finite") for _ in range(population.size)
    ]
    threshold = config.sparsity_threshold if extras.sparsity else None
    for lists in _stream(population, dataset, data, users, config, threshold=threshold):
        found = of_rows[lists.member]
        if found is not None and not np.isnan(lists.scores).any():
            ranked = scorer.measure(lists.final)
            metrics = {**found, **ranked.values}
            metrics |= _stage_one(lists.retrieved, users.relevant, dataset.n_items, config.k)
            if lists.n_improbable is not None:
                metrics["sparsity"] = float(lists.n_improbable.sum() / (len(users.ids) * dataset.n_items))
            rate = None if extras.targets is None else target_hit_rate(lists.final, extras.targets)
            out[lists.member] = Measured(metrics, ranked.per_user, rate)
    return out


def target_hit_rates(
    population: Population,
    dataset: Dataset,
    data: DeviceData,
    config: EvaluationConfig,
    users: RankingUsers,
    targets: npt.NDArray[np.int64],
) -> list[float | None]:
    """`evorec.metrics.robustness.target_hit_rate` of every member, one each; ``None`` where scores are not finite.

    Args:
        population, dataset, data, config, users: see `measure`.
        targets: items, int64 ``(n,)``.
    """
    out: list[float | None] = [None] * population.size
    for lists in _stream(population, dataset, data, users, config):
        if not np.isnan(lists.scores).any():
            out[lists.member] = target_hit_rate(lists.final, targets)
    return out


@final
@dataclass(frozen=True)
class TaskRows:
    """The held-out labels of one task.

    Attributes:
        task: its name.
        kind: what its labels are.
        rows: 0 and 1, or numbers.
    """

    task: str
    kind: TaskKind
    rows: LabelledRows | NumberRows


def labelled_rows(dataset: Dataset, part: Part) -> tuple[TaskRows, ...]:
    """The labels of every task of a part, for many models on the same rows."""
    out = []
    for i, (task, kind) in enumerate(zip(dataset.tasks, dataset.kinds, strict=True)):
        labels = part.labels[:, i]
        is_number, unit = kind != "binary", float(dataset.label_scale[i])
        rows = NumberRows(labels, unit=unit) if is_number else LabelledRows(labels, part.users)
        out.append(TaskRows(task, kind, rows))
    return tuple(out)


def task_metrics(task: TaskRows, logits: npt.NDArray[np.floating]) -> dict[str, float]:
    """Every metric of a task by base name, first the one that counts in the accuracy; logits ``(N,)``."""
    rows = task.rows
    if isinstance(rows, LabelledRows):
        out = {"auc": rows.auc(logits)}
        if rows.has_gauc:
            out["gauc"] = rows.gauc(logits).value
        return out | {"logloss": rows.logloss(logits)}
    out = {"concordance": rows.concordance(logits)}
    if isinstance(task.kind, QuantileKind):
        return out | {"pinball": rows.pinball(logits, task.kind.quantile)}
    return out | {"mae": rows.mae(logits), "rmse": rows.rmse(logits)}


def _accuracy(logits: npt.NDArray[np.floating], tasks: Sequence[TaskRows]) -> Mapping[str, float]:
    out: dict[str, float] = {}
    ordered = []
    for scores, one in zip(logits, tasks, strict=True):
        found = task_metrics(one, scores)
        ordered.append(next(iter(found.values())))
        out |= {f"{name}/{one.task}": value for name, value in found.items()}
    return out | {"accuracy": float(np.mean(ordered))}


def _has_user_with_both_classes(part: Part, task: int) -> bool:
    """False e.g. where each user has one held-out row: `gauc` is then not defined."""
    labels = part.labels[:, task]
    return len(np.intersect1d(part.users[labels == 1], part.users[labels == 0])) > 0


def _stage_one(retrieved: npt.NDArray[np.int64], relevant: Csr, n_items: int, k: int) -> Mapping[str, float]:
    """Recall of retrieval alone: of its first k items and of all candidates."""
    found, positives = hits_of_checked(retrieved, relevant, n_items), n_relevant(relevant)
    return {
        f"retrieval_recall@{k}": float(recall_at_k(found[:, :k], positives).mean()),
        "candidate_recall": float(recall_at_k(found, positives).mean()),
    }
