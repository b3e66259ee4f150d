"""Measures a trained stack on the held-out part: task metrics on all rows, list metrics on a fixed sample of users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.config import EvaluationConfig
from evorec.data.dataset import Dataset, Part
from evorec.data.held_out import HeldOut, RankingUsers
from evorec.data.tables import SECONDS_PER_DAY
from evorec.errors import TrainingError
from evorec.models.item_item import Positives
from evorec.models.population import Bag, Population
from evorec.models.recommend import (
    ItemSide,
    Lists,
    MemberScores,
    UserSide,
    member_scores,
    mixed_lists,
    popularity_prior,
    recommend,
    stream_lists,
)
from evorec.models.spec import ModelSpec
from evorec.training.plan import DeviceData

ROWS_AT_ONCE = 512
"""Rows of the ranker at a time; the same for blocks of every size."""


@final
@dataclass(frozen=True)
class MemberMetrics:
    """Metrics of a member on the held-out part.

    Attributes:
        metrics: by key, such as ``recall@20``.
        per_user: float64 ``(U,)`` in the order of the evaluated users, for paired comparisons.
        lists: int64 ``(U, K)``, kept where they are compared with those under attack; else ``None``.
    """

    metrics: dict[str, float]
    per_user: dict[str, npt.NDArray[np.float64]]
    lists: npt.NDArray[np.int64] | None = None


def task_logits(population: Population, data: DeviceData, part: Part) -> npt.NDArray[np.floating]:
    """Logits of every row of a part, ``(P, T, N)``."""
    found = {member: logits for member, _, logits in _logits(population, data, part)}
    return np.stack([found[member] for member in range(population.size)])


def _logits(
    population: Population, data: DeviceData, part: Part
) -> Iterator[tuple[int, ModelSpec, npt.NDArray[np.floating]]]:
    """Each member with its logits of every row of a part, ``(T, N)``, block by block.

    Users, items and contexts are turned into vectors once each, not once per row.
    """

    def ints(array: npt.NDArray[np.int64]) -> Tensor:
        return torch.tensor(array.reshape(-1), device=data.device)

    users, user_of = map(ints, np.unique(part.users, return_inverse=True))
    items, item_of = map(ints, np.unique(part.items, return_inverse=True))
    is_of_rows = part.context_weights is not None  # hardly any two contexts are alike
    contexts, context_rows = unique_rows(part.context[:1] if is_of_rows else part.context)
    context_of, context_bag = ints(context_rows), data.context_bag(torch.tensor(contexts, device=data.device))
    bags = data.users.select(users), data.items.select(items), context_bag
    statistics = torch.tensor(part.statistics, dtype=data.dtype, device=data.device)
    pasts = data.history.select(users)
    for block in population.kernel_groups:
        with torch.no_grad():
            of_users, of_items, of_contexts = map(block.vectors, bags)
            out = of_users.new_empty(block.size, block.shape.n_tasks, len(user_of))
            for start in range(0, len(user_of), ROWS_AT_ONCE):
                some = slice(start, start + ROWS_AT_ONCE)
                own = (
                    block.vectors(data.row_contexts(part, some))
                    if is_of_rows
                    else of_contexts.index_select(2, context_of[some])
                )
                out[:, :, some] = block.rank_logits(
                    of_users.index_select(2, user_of[some]), of_items.index_select(2, item_of[some]), own,
                    statistics[some], pasts.select(user_of[some]) if block.attends else None,
                )  # fmt: skip
        # Outside of `no_grad`, which would hold in the caller between two results.
        yield from zip(block.members, block.specs, out.cpu().numpy(), strict=True)


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
        # Numbered anew after every column, so the code stays below N and the product does not overflow.
        code = np.unique(code * (int(level.max(initial=0)) + 1) + level, return_inverse=True)[1]
    first = np.unique(code, return_index=True)[1]
    return array[first], code


def member_lists(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers, config: EvaluationConfig
) -> Lists:
    """Recommendation lists of every member for the given users."""
    return recommend(population, **_request(population, dataset, data, users, config))


def stream_member_lists(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers, config: EvaluationConfig
) -> Iterator[tuple[int, Lists]]:
    """Recommendation lists of the members for the given users, member by member."""
    return stream_lists(population, **_request(population, dataset, data, users, config))


def stream_member_scores(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers
) -> Iterator[MemberScores]:
    """The scores of both stages of the members for the given users, member by member."""
    return member_scores(population, **_sides(population, dataset, data, users))


def _request(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers, config: EvaluationConfig
) -> dict[str, Any]:
    """Arguments of `recommend` and `stream_lists`: items, users, the popularity prior and the lengths."""
    lengths = {"k": config.k, "candidates": config.n_candidates(dataset.n_items)}
    return _sides(population, dataset, data, users) | lengths


def _sides(population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers) -> dict[str, Any]:
    """Items, users and the popularity prior."""
    prior = popularity_prior(*positive_ages(dataset), dataset.item_counts > 0, population.specs)
    ids = torch.tensor(users.ids, device=data.device)
    mode = torch.tensor(dataset.context_mode[None, :], device=data.device)
    content = None if data.items.content is None else data.items.content[:-1]
    # Without the last item, the unknown item, which no list can hold.
    bag = Bag(data.items.rows[:-1], data.items.weights[:-1], content)
    return {
        "items": ItemSide(bag, data.item_statistics[:-1], data.context_bag(mode), Positives.of(dataset)),
        "users": UserSide(
            data.users.select(ids), data.history.select(ids), data.user_statistics[ids], users.masked, users.ids
        ),
        "prior": prior,
    }


def positive_ages(dataset: Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Items of the training target positives, and their age in days at the end of training, both ``(N,)``.

    Without times all are of age 0.
    """
    part = dataset.train
    positives = part.target > 0
    ages = (part.time.max() - part.time[positives]) / SECONDS_PER_DAY
    return part.items[positives], ages if dataset.times == "seconds" else np.zeros(len(ages))


def measure(population: Population, data: DeviceData, held_out: HeldOut) -> list[MemberMetrics | TrainingError]:
    """Every metric of rows, choices and lists of every member.

    Args:
        population: a trained stack of P members.
        data: the tensors of ``held_out.dataset``.
        held_out: rows and users, and the metrics that they have.
    Returns:
        P results in order; a `TrainingError` for a member whose scores are not finite.
    """
    of_rows: dict[int, dict[str, float]] = {}
    if not data.shape.n_tasks:  # retrieval only
        of_rows = {member: {} for member in range(population.size)}
    for member, spec, logits in () if of_rows else _logits(population, data, held_out.dataset.held_out):
        # A member without metrics of rows counts as failed below, whatever its lists are.
        if np.isfinite(logits).all():
            weights = data.shape.score_weights(spec.task_weights)
            of_rows[member] = held_out.measure_tasks(logits) | held_out.measure_choices(logits, weights)
    out: list[MemberMetrics | TrainingError] = [
        TrainingError("the trained model gives scores that are not finite") for _ in range(population.size)
    ]
    if not data.shape.has_items:  # rows alone: no lists
        for member, metrics in of_rows.items():
            out[member] = MemberMetrics(metrics | held_out.derived(metrics), {})
        return out
    threshold = held_out.config.sparsity_threshold if held_out.needs_threshold else None
    request = _request(population, held_out.dataset, data, held_out.users, held_out.config)
    for member, found in stream_lists(population, **request, threshold=threshold):
        if member in of_rows and not np.isnan(found.scores).any():
            of_lists = held_out.measure_lists(found.final, retrieved=found.retrieved, n_improbable=found.n_improbable)
            metrics = of_rows[member] | of_lists.values
            kept = found.final if held_out.needs_attack else None
            out[member] = MemberMetrics(metrics | held_out.derived(metrics), of_lists.per_user, kept)
    return out


def mixture_logits(
    population: Population, weights: Sequence[float], data: DeviceData, part: Part
) -> npt.NDArray[np.floating]:
    """Weighted sum of the members' logits of every row of a part, ``(T, N)``, in their number type.

    Args:
        population: P members.
        weights: of each member.
    """
    total = np.zeros((data.shape.n_tasks, part.n_rows))
    if not data.shape.n_tasks:  # retrieval only
        return total
    for member, _, logits in _logits(population, data, part):
        total += weights[member] * logits
    return total.astype(logits.dtype)


def mixture_lists(
    population: Population,
    weights: Sequence[float],
    dataset: Dataset,
    data: DeviceData,
    users: RankingUsers,
    config: EvaluationConfig,
    *,
    threshold: float | None = None,
) -> Lists:
    """Lists of the mixture of the members' preferences, see `evorec.models.recommend.mixed_lists`.

    Args:
        population: P members.
        weights: of each member; a member without weight is left out.
        threshold: see `evorec.models.recommend.improbable`; ``None`` = nothing is counted.
    """
    scores = stream_member_scores(population, dataset, data, users)
    mix = [(own, weights[own.member]) for own in scores if weights[own.member]]
    candidates = config.n_candidates(dataset.n_items)
    return mixed_lists(mix, users.masked, k=config.k, candidates=candidates, threshold=threshold)


def measure_mixture(
    population: Population, tasks: Sequence[float], lists: Sequence[float], data: DeviceData, held_out: HeldOut
) -> MemberMetrics:
    """Every metric of an ensemble of the members of a population, as `measure` has them of a single member.

    Args:
        population: P trained members.
        tasks: weight of each member's logits, for the metrics of tasks.
        lists: weight of each member's list scores, for the metrics of lists and of choices.
        data: the tensors of ``held_out.dataset``.
        held_out: rows and users, and the metrics that they have.
    Raises:
        TrainingError: a score is not finite.
    """
    dataset, metrics = held_out.dataset, dict[str, float]()
    if not dataset.has_items:
        total = mixture_logits(population, tasks, data, dataset.held_out)
        if not np.isfinite(total).all():
            raise TrainingError("the mixture gives scores that are not finite")
        metrics = held_out.measure_tasks(total)
        return MemberMetrics(metrics | held_out.derived(metrics), {})
    threshold = held_out.config.sparsity_threshold if held_out.needs_threshold else None
    found = mixture_lists(population, lists, dataset, data, held_out.users, held_out.config, threshold=threshold)
    if data.shape.n_tasks:
        total = mixture_logits(population, tasks, data, dataset.held_out)
        choosing = np.zeros((1, dataset.held_out.n_rows))
        for member, spec, logits in _logits(population, data, dataset.held_out):
            choosing += lists[member] * (np.array(data.shape.score_weights(spec.task_weights)) @ logits)
        if not (np.isfinite(total).all() and np.isfinite(choosing).all()):
            raise TrainingError("the mixture gives scores that are not finite")
        metrics = held_out.measure_tasks(total) | held_out.measure_choices(choosing, [1.0])
    if np.isnan(found.scores).any():
        raise TrainingError("the mixture gives scores that are not finite")
    of_lists = held_out.measure_lists(found.final, retrieved=found.retrieved, n_improbable=found.n_improbable)
    metrics |= of_lists.values
    return MemberMetrics(metrics | held_out.derived(metrics), of_lists.per_user)


def finite_lists(
    population: Population, dataset: Dataset, data: DeviceData, config: EvaluationConfig, users: RankingUsers
) -> list[npt.NDArray[np.int64] | None]:
    """Lists of every member, int64 ``(U, K)``; ``None`` where its scores are not finite."""
    out: list[npt.NDArray[np.int64] | None] = [None] * population.size
    for member, found in stream_lists(population, **_request(population, dataset, data, users, config)):
        if not np.isnan(found.scores).any():
            out[member] = found.final
    return out
