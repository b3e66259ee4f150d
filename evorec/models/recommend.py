"""Two-stage recommendation with a stack of members: search, final training and exported bundles all use this.

Retrieval scores the whole catalogue: ``cos(user, item) / temperature + popularity_weight * log(popularity)``, or a
blend with item-item scores (`evorec.models.blend`). The
ranker then re-orders the best candidates by retrieval score plus ``rank_blend * sum_t ±w_t logit_t`` in the usual
context of training, with minus for a task whose high values are bad. Equal scores are ordered by item id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evorec.data.dataset import Csr
from evorec.errors import ConfigError
from evorec.metrics.lists import NO_ITEM
from evorec.metrics.top_items import best_items
from evorec.models.blend import blended
from evorec.models.item_item import ItemItemModel, Positives, latest_item_item
from evorec.models.population import Bag, KernelGroup, Population
from evorec.models.rerank import RankerInputs, ranker_scores
from evorec.models.spec import ModelSpec

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Sparse = csr_array[Any, tuple[int, int]]

SCORES_AT_ONCE = 1 << 18
"""Scores over the whole catalogue that are held at a time: they fit in the cache of a core."""
FEWEST_USERS, MOST_USERS = 8, 64
"""Users whose scores are held at a time, for catalogues of any size."""


@final
@dataclass(frozen=True)
class ItemSide:
    """The items as retrieval and ranking read them, the same for all members.

    Attributes:
        bag: of the I catalogue items.
        statistics: ``[I, si]``.
        context: bag of the usual context.
        positives: from which item-item matrices are computed; ``None`` = no member has any.
    """

    bag: Bag
    statistics: Tensor
    context: Bag
    positives: Positives | None = None


@final
@dataclass(frozen=True)
class UserSide:
    """The users to recommend to.

    Attributes:
        bag: of the users.
        history: bag of their past positives.
        statistics: ``[U, su]``.
        masked: items never listed, a row per user.
        ids: indices of the users in the data set, int64 ``(U,)``; ``None`` = no member has item-item scores.
    """

    bag: Bag
    history: Bag
    statistics: Tensor
    masked: Csr
    ids: npt.NDArray[np.int64] | None = None


@final
@dataclass(frozen=True)
class Lists:
    """Item ids, best first, `NO_ITEM` where no item is left; lists of a single member have no axis P.

    Attributes:
        final: int64 ``(P, U, K)``, also when the catalogue has fewer than K items.
        retrieved: int64 ``(P, U, C)``, in retrieval order.
        scores: float ``(P, U, K)`` of `final`, ``-inf`` where no item is left; NaN where the model's are not finite.
        n_improbable: `improbable` of each user of a single member, int64 ``(U,)``; ``None`` without a threshold.
    """

    final: npt.NDArray[np.int64]
    retrieved: npt.NDArray[np.int64]
    scores: npt.NDArray[np.floating]
    n_improbable: npt.NDArray[np.int64] | None = None


def popularity_prior(
    items: npt.NDArray[np.int64],
    ages_days: npt.NDArray[np.float64],
    shown: npt.NDArray[np.bool_],
    specs: Sequence[ModelSpec],
) -> npt.NDArray[np.float64]:
    """Each member's log-popularity term, ``weight * log(smoothing + sum of 2 ** (-age / half_life))``.

    An item that was never shown has no positives, which says nothing of it: it gets the sum of a quantile of the shown
    items, the member's `new_item_popularity`; 0 = none.

    Args:
        items: int64 ``(N,)``, items of the training positives.
        ages_days: float ``(N,)``, their age at the end of training.
        shown: bool ``(I,)``, items of the catalogue with a training row.
        specs: P members.
    Returns:
        float64 ``(P, I)``.
    Example:
        >>> from types import SimpleNamespace
        >>> genes = {"popularity_weight": 1.0, "popularity_smoothing": 1.0, "popularity_half_life": 2.0}
        >>> spec = SimpleNamespace(**genes, new_item_popularity=1.0)  # a new item counts as the best one
        >>> shown = np.array([True, True, False])
        >>> popularity_prior(np.array([1, 1]), np.array([0.0, 2.0]), shown, [spec])  # log 1, log (1 + 1 + 1/2)
        array([[0.        , 0.91629073, 0.91629073]])
    """
    rows = []
    for spec in specs:
        weights = np.exp2(ages_days * (-1 / spec.popularity_half_life))
        counts = np.bincount(items, weights=weights, minlength=len(shown))
        if spec.new_item_popularity > 0:
            # Of the shown items only: the zeros of the new items would pull every quantile down.
            counts[~shown] = np.quantile(counts[shown], spec.new_item_popularity)
        rows.append(spec.popularity_weight * np.log(spec.popularity_smoothing + counts))
    return np.stack(rows)


def recommend(
    population: Population, items: ItemSide, users: UserSide, prior: npt.NDArray[np.float64], *, k: int, candidates: int
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
    of_member = dict(stream_lists(population, items, users, prior, k=k, candidates=candidates))
    lists = [of_member[member] for member in range(population.size)]
    return Lists(*(np.stack([getattr(own, name) for own in lists]) for name in ("final", "retrieved", "scores")))


@torch.no_grad()
def stream_lists(
    population: Population,
    items: ItemSide,
    users: UserSide,
    prior: npt.NDArray[np.float64],
    *,
    k: int,
    candidates: int,
    threshold: float | None = None,
) -> Iterator[tuple[int, Lists]]:
    """Each member with its lists, block by block; see `recommend`.

    Args:
        population, items, users, prior, k, candidates: see `recommend`.
        threshold: see `improbable`; ``None`` = nothing is counted.
    """
    for own in member_scores(population, items, users, prior):
        yield own.member, mixed_lists([(own, 1.0)], users.masked, k=k, candidates=candidates, threshold=threshold)


@final
@dataclass(frozen=True)
class MemberScores:
    """The scores of both stages of a member, for some users and all items.

    Attributes:
        member: index in the population.
        block: of the member, and `index`, its index there.
        queries: of the users, ``[U, E]``, U >= 2: a single user is there twice.
        keys: of the items, ``[I, E]``.
        prior: ``[I]``.
        inputs: of the ranker.
        n_users: users that were asked for.
        item_item: of the member, or ``None``.
    """

    member: int
    block: KernelGroup
    index: int
    queries: Tensor
    keys: Tensor
    prior: Tensor
    inputs: RankerInputs
    n_users: int
    item_item: ItemItemScores | None = None

    @property
    def spec(self) -> ModelSpec:
        """Of the member."""
        return self.block.specs[self.index]

    @cached_property
    def is_finite(self) -> bool:
        """Whether all retrieval scores are finite; asked before the products, because NaN has no rank."""
        return all(bool(part.isfinite().all()) for part in (self.queries, self.keys, self.prior))

    @cached_property
    def _columns(self) -> Tensor:
        return self.keys.T.contiguous()

    def retrieval(self, rows: slice, out: Tensor) -> Tensor:
        """Write the retrieval scores of some users over the whole catalogue, ``[n, I]``, and return them."""
        if self.item_item is None:
            return torch.mm(self.queries[rows], self._columns, out=out).add_(self.prior)
        share, scores = self.spec.item_item_share, self.prior
        if share < 1:
            scores = torch.mm(self.queries[rows], self._columns, out=out).add_(self.prior)
        return out.copy_(blended(scores, torch.from_numpy(self.item_item.of_rows(rows)).to(out), share))

    def ranker(self, ids: Tensor) -> Tensor:
        """What the ranker adds to the retrieval scores of candidates ``[U, C]``, of the same shape."""
        return ranker_scores(self.block, self.index, self.inputs, ids)


@final
@dataclass(frozen=True)
class ItemItemScores:
    """Item-item scores of a member for some users.

    Attributes:
        model: the matrix.
        past: of the users, faded.
    """

    model: ItemItemModel
    past: Sparse

    @classmethod
    def of(cls, spec: ModelSpec, items: ItemSide, users: UserSide) -> ItemItemScores:
        """Those of a spec with item-item scores, whose matrix is computed unless it was the last that was computed."""
        positives = items.positives
        if positives is None or users.ids is None:
            raise ConfigError(f"item_item = {spec.item_item!r} needs the training positives and the users' indices")
        past = positives.past.faded(positives.n_items, decay=spec.past_decay, half_life=spec.past_half_life)
        return cls(latest_item_item(spec.item_item, positives, spec.item_item_settings), past[users.ids])

    def of_rows(self, rows: slice) -> npt.NDArray[np.float32]:
        """Scores of some users over the whole catalogue, float32 ``(n, I)``."""
        return self.model.scores(self.past[rows])


@torch.no_grad()
def member_scores(
    population: Population, items: ItemSide, users: UserSide, prior: npt.NDArray[np.float64]
) -> Iterator[MemberScores]:
    """The scores of each member, block by block; see `recommend`."""
    n_users = len(users.statistics)
    if n_users == 1:  # products with one row round differently from those with more: the user is computed twice
        row = torch.zeros(2, dtype=torch.long, device=users.statistics.device)
        ids = None if users.ids is None else np.repeat(users.ids, 2)
        users = UserSide(users.bag.select(row), users.history.select(row), users.statistics[row], users.masked, ids)
    for block in population.kernel_groups:
        user_vectors, item_vectors = block.vectors(users.bag), block.vectors(items.bag)  # [P_b, G, ., E]
        context = block.vectors(items.context)[:, :, 0]
        queries = block.retrieval_users(user_vectors[:, 0], block.past(users.history, item_vectors[:, 0]))
        keys = block.retrieval_items(item_vectors[:, 0])
        for index, member in enumerate(block.members):
            shift = torch.tensor(prior[member], dtype=keys.dtype, device=keys.device)
            inputs = RankerInputs(
                user_vectors[index],
                item_vectors[index],
                context[index],
                users.statistics,
                items.statistics,
                users.history,
            )
            scores = MemberScores(member, block, index, queries[index], keys[index], shift, inputs, n_users)
            if block.specs[index].uses_item_item:
                scores = replace(scores, item_item=ItemItemScores.of(block.specs[index], items, users))
            yield scores


@torch.no_grad()
def mixed_lists(
    mix: Sequence[tuple[MemberScores, float]],
    masked: Csr,
    *,
    k: int,
    candidates: int,
    threshold: float | None = None,
) -> Lists:
    """Lists of some members together; of a single member its own.

    The retrieval score is the logarithm of the mixture of the members' preferences, ``log sum_m w_m softmax(s_m)`` over
    the whole catalogue: temperatures differ, and a member whose scores exclude an item does not exclude it for the
    others, as it would in a mean of the scores. What the rankers add is averaged.

    Args:
        mix: members, for the same users and items, each with its weight, above 0; they add up to 1.
        masked: items never listed, a row per user.
        k, candidates: see `recommend`.
        threshold: see `improbable`; ``None`` = nothing is counted.
    """
    first = mix[0][0]
    n_users, n_items = first.n_users, len(first.prior)
    if n_users == 1:
        masked = masked.select(np.zeros(2, dtype=np.int64))
    count = min(candidates, n_items)
    spare = ((0, 0), (0, max(0, k - count)))  # empty slots of lists that are longer than the catalogue
    values, ids, n_improbable = _retrieve(mix, _chunks(masked, n_items, first.queries.device), count, threshold)
    # Masked items come last in a user's candidates, where fewer than `count` others are left.
    retrieved = torch.where(values.isneginf(), NO_ITEM, ids)[:n_users]
    top, final = values[:, :k], ids[:, :k]
    if ranked := [(own, weight) for own, weight in mix if own.spec.rank_blend]:
        total = values
        for own, weight in ranked:
            added = own.ranker(ids)
            total = total + (added if weight == 1 else weight * added)
        top, final = _by_score_then_id(total, ids, k)
    final = torch.where(top.isneginf(), NO_ITEM, final)
    return Lists(
        np.pad(final[:n_users].cpu().numpy(), spare, constant_values=NO_ITEM),
        retrieved.cpu().numpy(),
        np.pad(top[:n_users].cpu().numpy(), spare, constant_values=-np.inf),
        None if threshold is None else n_improbable[:n_users].cpu().numpy(),
    )


def _retrieve(
    mix: Sequence[tuple[MemberScores, float]],
    chunks: Sequence[tuple[slice, Tensor]],
    k: int,
    threshold: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The first stage; scores are NaN and ids 0 if a score is not finite.

    Args:
        mix: see `mixed_lists`.
        chunks: see `_chunks`.
        k: items to find.
        threshold: see `improbable`; ``None`` = nothing is counted.
    Returns:
        Scores and ids of each user's best `k` items, ``[U, k]``, and how many items are improbable, ``[U]``.
    """
    queries, n_items = mix[0][0].queries, len(mix[0][0].prior)
    values = queries.new_full((len(queries), k), torch.nan)
    ids = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    n_improbable = torch.zeros_like(ids[:, 0])
    if all(own.is_finite for own, _ in mix):
        # All chunks have the same size and use the same memory.
        scores = queries.new_empty(chunks[0][0].stop, n_items)
        spare = torch.empty_like(scores) if len(mix) > 1 else scores
        for rows, masked in chunks:
            if len(mix) == 1:
                mix[0][0].retrieval(rows, scores)
            else:
                scores.fill_(-torch.inf)
                for own, weight in mix:
                    log_share = torch.log_softmax(own.retrieval(rows, spare), 1).add_(math.log(weight))
                    torch.logaddexp(scores, log_share, out=scores)
            # The few masked cells by index; a dense mask would be as large as the scores.
            scores.view(-1)[masked] = -torch.inf
            # Users of the last chunk may be written twice, with the same numbers.
            values[rows], ids[rows] = top_items(scores, k)
            if threshold is not None:
                n_improbable[rows] = improbable(scores, threshold)
    return values, ids, n_improbable


def improbable(scores: Tensor, threshold: float) -> Tensor:
    """How many items each user is predicted not to prefer: ``softmax(scores) <= threshold / I``.

    The mean over users, divided by I, is the member's sparsity: the share of the pairs of user and item that hardly
    count in the predicted preferences. With a threshold of 1 these are the items below uniform chance.

    Args:
        scores: of the first stage, ``[U, I]``; ``-inf`` = masked, a preference of 0, which every threshold takes in.
        threshold: in units of the uniform chance 1 / I, at least 0.
    Returns:
        int64 ``[U]``, items of the catalogue, of I; higher is sparser.
    Source: Hurley & Rickard 2009, the measure l0 with a threshold. Cost: O(U I), an exponential per pair.
    Example:
        >>> scores = torch.tensor([[0.7, 0.2, 0.1, 0.0]]).log()  # one quarter is the chance of each
        >>> improbable(scores, 1.0).tolist(), improbable(scores, 0.5).tolist()
        ([3], [2])
    """
    cut = math.log(threshold / scores.shape[1]) if threshold > 0 else -math.inf
    return (scores <= scores.logsumexp(1, keepdim=True) + cut).sum(1)


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
    if scores.device.type == "cpu":
        found = best_items(scores.reshape(-1, scores.shape[-1]).numpy(), k)
        values, ids = (torch.from_numpy(array).view(*scores.shape[:-1], k) for array in found)
        return values, ids
    return _top_items_by_torch(scores, k)


def _top_items_by_torch(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`top_items` on a GPU, whose `topk` is fast."""
    values, ids = torch.topk(scores, k, dim=-1)
    # By id, then stably by score: equal scores end up by ascending id.
    ids, order = ids.sort(-1)
    values, rank = values.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, rank)
    cut = values[..., -1:]
    tied = (scores >= cut).sum(-1) > k  # topk may have kept any of the items at the cut
    # The host waits here, but only rows with a tie at the cut are sorted in full.
    if bool(tied.any()):
        full, full_ids = scores[tied].sort(dim=-1, descending=True, stable=True)
        values[tied], ids[tied] = full[..., :k], full_ids[..., :k]
    return values, ids


def _by_score_then_id(scores: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Best `k` scores ``[U, C]`` and their ids; equal scores by ascending id; NaN if any score is."""
    if bool(scores.isnan().any()):
        return scores.new_full((len(scores), k), torch.nan), ids[:, :k]
    # `top_items` orders ties by column, so the candidates are put in the order of their ids first.
    order = torch.from_numpy(ids.numpy().argsort(1)) if ids.device.type == "cpu" else ids.argsort(1)
    values, best = top_items(scores.gather(1, order), min(k, ids.shape[1]))
    return values, ids.gather(1, order.gather(1, best))


def _chunks(masked: Csr, n_items: int, device: torch.device) -> list[tuple[slice, Tensor]]:
    """Users that are scored together, and the positions of their masked items in their flat scores.

    All chunks have the same size, so the last users may be scored twice: a smaller product would round differently.
    """
    at_once = min(masked.n_rows, max(FEWEST_USERS, min(MOST_USERS, SCORES_AT_ONCE // n_items)))
    out = []
    for start in range(0, masked.n_rows, at_once):
        first = min(start, masked.n_rows - at_once)
        bounds = masked.indptr[first : first + at_once + 1]
        row = np.repeat(np.arange(at_once) * n_items, np.diff(bounds))
        cells = torch.from_numpy(row + masked.indices[bounds[0] : bounds[-1]]).to(device)
        out.append((slice(first, first + at_once), cells))
    return out
