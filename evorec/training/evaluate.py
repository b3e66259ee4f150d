"""Measures a trained stack on the held-out part: task accuracy on all rows, ranking on a fixed sample of users."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from evorec.config import EvaluationConfig
from evorec.data.dataset import Csr, Dataset, Part
from evorec.data.tables import SECONDS_PER_DAY
from evorec.errors import DataError, TrainingError
from evorec.metrics.accuracy import auc, gauc, logloss
from evorec.metrics.lists import list_metrics
from evorec.metrics.ranking import hits, n_relevant, recall_at_k
from evorec.models.population import Bag, Population
from evorec.models.recommend import ItemSide, Lists, UserSide, popularity_prior, recommend
from evorec.seeds import generator
from evorec.training.plan import DeviceData

ROWS_AT_ONCE = 8192


@final
@dataclass(frozen=True)
class Measured:
    """One member on the held-out part.

    Attributes:
        metrics: by canonical key (`evorec.objectives.CATALOGUE`).
        per_user: float64 ``(U,)`` in the order of the evaluated users, for paired comparisons.
    """

    metrics: dict[str, float]
    per_user: dict[str, npt.NDArray[np.float64]]


@final
@dataclass(frozen=True)
class RankingUsers:
    """The users that ranking metrics are computed on.

    Attributes:
        ids: int64 ``(U,)``, ascending.
        masked: items never listed to them.
        relevant: their held-out positives.
    """

    ids: npt.NDArray[np.int64]
    masked: Csr
    relevant: Csr


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
    return RankingUsers(ids, masked_items(dataset, config).select(ids), dataset.relevant.select(ids))


def check_measurable(dataset: Dataset, wanted: Collection[str]) -> None:
    """Refuses metrics that this data set cannot give to any model.

    Args:
        wanted: metric keys of objectives and constraints.
    Raises:
        DataError: a distance of lists without item content, or a `gauc` without a user who has both classes.
    """
    for metric in sorted(wanted):
        if metric.startswith("intra_list_distance") and dataset.item_content.shape[1] == 0:
            raise DataError(
                f"{metric} needs content of the items, {dataset.name} has none; choose catalogue_coverage@k."
            )
        base, _, task = metric.partition("/")
        if base == "gauc" and not _has_user_with_both_classes(dataset.held_out, dataset.tasks.index(task)):
            raise DataError(f"{metric} needs a user with both classes in the held-out rows; choose auc/{task}.")


def masked_items(dataset: Dataset, config: EvaluationConfig) -> Csr:
    """Per user id, the items that are never listed."""
    return dataset.seen if config.mask == "seen" else dataset.history


def task_logits(population: Population, data: DeviceData, part: Part) -> npt.NDArray[np.floating]:
    """Logits of every row of a part, ``(P, T, N)``."""
    contexts, context_of = np.unique(part.context, axis=0, return_inverse=True)
    out = []
    with torch.no_grad():
        users = population.entity_vectors(population.table, data.users)
        items = population.entity_vectors(population.table, data.items)
        context = population.entity_vectors(
            population.table, data.context_bag(torch.tensor(contexts, device=data.device))
        )
        for start in range(0, len(part.users), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            u, i, c = (
                torch.tensor(ids[rows], device=data.device) for ids in (part.users, part.items, context_of.reshape(-1))
            )
            statistics = torch.tensor(part.statistics[rows], dtype=data.dtype, device=data.device)
            logits = population.rank_logits(
                users.index_select(1, u), items.index_select(1, i), context.index_select(1, c), statistics
            )
            out.append(logits.cpu().numpy())
    return np.concatenate(out, 2)


def member_lists(
    population: Population, dataset: Dataset, data: DeviceData, users: RankingUsers, config: EvaluationConfig
) -> Lists:
    """Recommendation lists of every member for the given users."""
    prior = popularity_prior(*positive_ages(dataset), dataset.n_items, population.specs)
    ids = torch.tensor(users.ids, device=data.device)
    mode = torch.tensor(dataset.context_mode[None, :], device=data.device)
    content = None if data.items.content is None else data.items.content[:-1]
    return recommend(
        population,
        ItemSide(
            Bag(data.items.rows[:-1], data.items.weights[:-1], content),
            data.item_statistics[:-1],
            data.context_bag(mode),
        ),
        UserSide(
            Bag(data.users.rows[ids], data.users.weights[ids]),
            Bag(data.history.rows[ids], data.history.weights[ids]),
            data.user_statistics[ids],
            users.masked,
        ),
        prior,
        k=config.k,
        candidates=config.n_candidates(dataset.n_items),
    )


def positive_ages(dataset: Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Items of the training target positives, and their age in days at the end of training, both ``(N,)``."""
    part = dataset.train
    positives = part.target > 0
    return part.items[positives], (part.time.max() - part.time[positives]) / SECONDS_PER_DAY


def measure(
    population: Population,
    dataset: Dataset,
    data: DeviceData,
    config: EvaluationConfig,
    users: RankingUsers,
) -> list[Measured | TrainingError]:
    """Every accuracy, ranking and diversity metric of every member.

    Args:
        population: a trained stack of P members.
        dataset: its ``held_out`` part is measured.
        users: from `ranking_users`.
    Returns:
        One per member, in order; a `TrainingError` for one whose scores are not finite.
    """
    logits = task_logits(population, data, dataset.held_out)
    lists = member_lists(population, dataset, data, users, config)
    finite = np.isfinite(logits).all((1, 2))
    finite &= ~np.isnan(lists.scores).any((1, 2))
    out: list[Measured | TrainingError] = []
    for member in range(population.size):
        if not finite[member]:
            out.append(TrainingError("the trained model gives scores that are not finite"))
            continue
        metrics = dict(_accuracy(logits[member], dataset))
        ranked = list_metrics(
            lists.final[member], users.relevant, item_counts=dataset.item_counts, item_content=dataset.item_content
        )
        metrics |= ranked.values
        metrics |= _stage_one(lists.retrieved[member], users.relevant, dataset.n_items, config.k)
        out.append(Measured(metrics, ranked.per_user))
    return out


def _accuracy(logits: npt.NDArray[np.floating], dataset: Dataset) -> Mapping[str, float]:
    part, out = dataset.held_out, {}
    for index, task in enumerate(dataset.tasks):
        labelled = ~np.isnan(part.labels[:, index])
        scores, labels = logits[index][labelled].astype(np.float64), part.labels[labelled, index]
        out[f"auc/{task}"] = auc(scores, labels)
        if _has_user_with_both_classes(part, index):
            out[f"gauc/{task}"] = gauc(scores, labels, part.users[labelled]).value
        out[f"logloss/{task}"] = logloss(expit(scores), labels)
    out["accuracy"] = float(np.mean([out[f"auc/{task}"] for task in dataset.tasks]))
    return out


def _has_user_with_both_classes(part: Part, task: int) -> bool:
    """False e.g. where each user has one held-out row: `gauc` is then not defined."""
    labels = part.labels[:, task]
    return len(np.intersect1d(part.users[labels == 1], part.users[labels == 0])) > 0


def _stage_one(retrieved: npt.NDArray[np.int64], relevant: Csr, n_items: int, k: int) -> Mapping[str, float]:
    """Recall of retrieval alone: of its first k items and of all candidates."""
    found, positives = hits(retrieved, relevant, n_items), n_relevant(relevant)
    return {
        f"retrieval_recall@{k}": float(recall_at_k(found[:, :k], positives).mean()),
        "candidate_recall": float(recall_at_k(found, positives).mean()),
    }
