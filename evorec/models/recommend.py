"""Two-stage recommendation with a stack of members: search, final training and exported bundles all use this.

Retrieval scores the whole catalogue: ``cos(user, item) / temperature + popularity_weight * log(popularity)``. The
ranker then re-orders the best candidates by retrieval score plus ``rank_blend * sum_t w_t logit_t`` in the usual
context of training. Equal scores stand by item id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.data.dataset import Csr
from evorec.models.population import Bag, Population
from evorec.models.spec import ModelSpec

NO_ITEM = -1
USERS_AT_ONCE = 256
"""Users whose scores over the whole catalogue are held at a time."""
PAIRS_AT_ONCE = 4096
"""User-item pairs that enter the ranker at a time."""


@final
@dataclass(frozen=True)
class ItemSide:
    """What retrieval and ranking need to know about items, the same for all members.

    Attributes:
        bag: of the I catalogue items.
        statistics: ``[I, si]``.
        context: bag of the one usual context.
    """

    bag: Bag
    statistics: Tensor
    context: Bag


@final
@dataclass(frozen=True)
class UserSide:
    """The users to recommend to.

    Attributes:
        bag: of the users.
        history: bag of their past positives.
        statistics: ``[U, su]``.
        masked: items never listed, one row per user.
    """

    bag: Bag
    history: Bag
    statistics: Tensor
    masked: Csr


@final
@dataclass(frozen=True)
class Lists:
    """Item ids, best first, `NO_ITEM` where no item is left.

    Attributes:
        final: int64 ``(P, U, K)``; K is what was asked for, also when the catalogue is smaller.
        retrieved: int64 ``(P, U, C)``, in retrieval order.
        scores: float ``(P, U, K)`` of `final`, ``-inf`` where no item is left.
    """

    final: npt.NDArray[np.int64]
    retrieved: npt.NDArray[np.int64]
    scores: npt.NDArray[np.floating]


def popularity_prior(
    items: npt.NDArray[np.int64], ages_days: npt.NDArray[np.float64], n_items: int, specs: Sequence[ModelSpec]
) -> npt.NDArray[np.float64]:
    """Each member's log-popularity term, ``weight * log(smoothing + sum of 2 ** (-age / half_life))``.

    Args:
        items: int64 ``(N,)``, items of the training positives.
        ages_days: float ``(N,)``, their age at the end of training.
        n_items: size of the catalogue I.
        specs: P members.
    Returns:
        float64 ``(P, I)``.
    Example:
        >>> spec = ModelSpec((1.0,), 0, 4, 16, 0, 1, 1, 1, 1, 1, 1, 0, 1.0, 1.0, 2.0, 0)
        >>> popularity_prior(np.array([1, 1]), np.array([0.0, 2.0]), 2, [spec])  # log 1, log (1 + 1 + 1/2)
        array([[0.        , 0.91629073]])
    """
    rows = []
    for spec in specs:
        weights = np.exp2(-ages_days / spec.popularity_half_life)
        counts = np.bincount(items, weights=weights, minlength=n_items)
        rows.append(spec.popularity_weight * np.log(spec.popularity_smoothing + counts))
    return np.stack(rows)


def recommend(
    population: Population,
    items: ItemSide,
    users: UserSide,
    prior: npt.NDArray[np.float64],
    *,
    k: int,
    candidates: int,
) -> Lists:
    """Top-k lists of every member for every user.

    Args:
        population: P members.
        items: the catalogue, I items.
        users: U users.
        prior: `popularity_prior`, ``(P, I)``.
        k: length of a list.
        candidates: items that retrieval hands to the ranker, at least `k`; ``I`` for the whole catalogue.
    """
    n_items = items.statistics.shape[0]
    candidates = min(candidates, n_items)
    with torch.no_grad():
        item_vectors = population.entity_vectors(population.table, items.bag)
        keys = population.retrieval_items(item_vectors).transpose(1, 2)
        shift = torch.tensor(prior, dtype=keys.dtype, device=keys.device)[:, None, :]
        context = population.entity_vectors(population.table, items.context)
        finals, retrieved, values = [], [], []
        for start in range(0, users.statistics.shape[0], USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            vectors = population.entity_vectors(population.table, _rows(users.bag, part))
            history = population.entity_vectors(population.table, _rows(users.history, part))
            scores = torch.bmm(population.retrieval_users(vectors, history), keys) + shift
            _mask(scores, users.masked, part)
            best, ids = top_items(scores, candidates)
            if any(spec.rank_blend for spec in population.specs):
                statistics = users.statistics[part]
                best = best + _ranker_scores(population, items, item_vectors, context, vectors, statistics, ids)
            top, place = _by_score_then_id(best, ids, k)
            finals.append(torch.where(top.isneginf(), NO_ITEM, ids.gather(2, place)))
            retrieved.append(torch.where(scores.gather(2, ids).isneginf(), NO_ITEM, ids))
            values.append(top)
    spare = (0, max(0, k - candidates))  # empty places of lists that are longer than the catalogue
    return Lists(
        final=F.pad(torch.cat(finals, 1), spare, value=NO_ITEM).cpu().numpy(),
        retrieved=torch.cat(retrieved, 1).cpu().numpy(),
        scores=F.pad(torch.cat(values, 1), spare, value=float("-inf")).cpu().numpy(),
    )


def top_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Best `k` of the last axis with their ids, best first, equal scores by ascending id.

    Args:
        scores: ``[..., I]``.
    Returns:
        Values and int64 ids, both ``[..., k]``.
    Example:
        >>> top_items(torch.tensor([1.0, 2.0, 2.0, 1.0]), 3)[1].tolist()
        [1, 2, 0]
    """
    values, ids = torch.topk(scores, k, dim=-1)
    ids, order = ids.sort(-1)
    values, place = values.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, place)
    cut = values[..., -1:]
    tied = (scores >= cut).sum(-1) > k  # topk may have kept any of the items at the cut
    if bool(tied.any()):
        full, full_ids = scores[tied].sort(dim=-1, descending=True, stable=True)
        values[tied], ids[tied] = full[..., :k], full_ids[..., :k]
    return values, ids


def _by_score_then_id(scores: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Best `k` scores and their places on the last axis; equal scores by ascending id."""
    order = ids.argsort(-1)
    values, place = scores.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    return values[..., :k], order.gather(-1, place[..., :k])


def _rows(bag: Bag, part: slice) -> Bag:
    return Bag(bag.rows[part], bag.weights[part])


def _mask(scores: Tensor, masked: Csr, part: slice) -> None:
    rows = np.arange(masked.n_rows)[part]
    own = masked.select(rows)
    at = torch.tensor(np.repeat(np.arange(len(rows)), own.counts()), device=scores.device)
    scores[:, at, torch.tensor(own.indices, device=scores.device)] = float("-inf")


def _ranker_scores(
    population: Population,
    items: ItemSide,
    item_vectors: Tensor,
    context: Tensor,
    users: Tensor,
    statistics: Tensor,
    ids: Tensor,
) -> Tensor:
    """``rank_blend * sum_t w_t logit_t`` of the candidates, ``[P, U, C]``."""
    members, n_users, n_candidates = ids.shape
    weights = torch.tensor([spec.task_weights for spec in population.specs], dtype=users.dtype, device=users.device)
    blend = torch.tensor([spec.rank_blend for spec in population.specs], dtype=users.dtype, device=users.device)
    weights = (weights * blend[:, None])[:, :, None]
    owner = torch.arange(members, device=ids.device)[:, None]
    at_once = max(1, PAIRS_AT_ONCE // n_candidates)
    out = []
    for start in range(0, n_users, at_once):
        chosen = ids[:, start : start + at_once].reshape(members, -1)
        u = torch.arange(start, min(start + at_once, n_users), device=ids.device).repeat_interleave(n_candidates)
        rows = torch.cat([statistics[u].expand(members, -1, -1), items.statistics[chosen]], 2)
        logits = population.rank_logits(users[:, u], item_vectors[owner, chosen], context.expand(-1, len(u), -1), rows)
        out.append((logits * weights).sum(1).view(members, -1, n_candidates))
    return torch.cat(out, 1)
