"""The outputs of members on the validation part, computed once so that many mixtures of them can be tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import torch

from evorec.errors import RunError
from evorec.metrics.lists import NO_ITEM
from evorec.metrics.top_items import best_items
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import stream_member_lists, stream_member_scores, task_logits

POOLED: Final = 5
"""Items per slot of a list that each member gives to the pool of a user: an item that no member has among its best 100
cannot get into a list of 20 of their mean, but for rare exceptions. Ensembles that are kept are measured exactly."""
USERS_AT_ONCE: Final = 64

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Counts = Mapping[str, int]


@final
@dataclass(frozen=True)
class StoredMembers:
    """Members of an archive with their weights, stacked as the memory allows.

    Attributes:
        problem: that the run searched.
        run: the run, may be open read-only.
        specs: by key.
    """

    problem: RecProblem
    run: RunDirectory
    specs: Mapping[str, ModelSpec]

    def stack(self, keys: Sequence[str]) -> Population:
        """A stack of some of the members."""
        return self.problem.data.stack([self.specs[key] for key in keys], [self.run.read_weights(key) for key in keys])

    def stacks(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """Keys of members that fit into the memory together."""
        return [keys[part] for part in self.problem.trainer.slices([self.specs[key] for key in keys], workers=1)]


def member_logits(members: StoredMembers, keys: Sequence[str]) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Logits of each member for every validation row, ``(T, N)``.

    Raises:
        RunError: a logit is not finite.
    """
    data, out = members.problem.data, {}
    for some in members.stacks(keys):
        for key, logits in zip(
            some, task_logits(members.stack(some), data.tensors, data.dataset.held_out), strict=True
        ):
            out[key] = _finite(logits, key)
    return out


def mean_logits(logits: Mapping[str, npt.NDArray[np.floating[Any]]], counts: Counts) -> npt.NDArray[np.floating[Any]]:
    """Mean logits ``(T, N)`` of members that are chosen `counts` times, in their number type."""
    total = sum(count * logits[key].astype(np.float64) for key, count in counts.items())
    mean = np.asarray(total) / sum(counts.values())
    return mean.astype(next(iter(logits.values())).dtype)


@final
@dataclass(frozen=True)
class ListScores:
    """Scores of members for a pool of items of each user.

    Attributes:
        items: ids by ascending id, so that ties by column are ties by item id; int64 ``(U, C)``, `NO_ITEM` at the end
            where there are fewer.
        retrieval: log-softmax of the retrieval scores over the catalogue by member, float32 ``(U, C)``, ``-inf``
            without an item.
        ranker: what the ranker adds by member, float32 ``(U, C)``; a member without ranker is left out.
        k, candidates: length of the lists, and items that the ranker re-orders.
    """

    items: Int64
    retrieval: Mapping[str, Float32]
    ranker: Mapping[str, Float32]
    k: int
    candidates: int

    def lists(self, counts: Counts) -> Int64:
        """Lists ``(U, k)`` of the mixture of members that are chosen `counts` times."""
        n = sum(counts.values())
        total: Float32 = np.full(self.items.shape, -np.inf, dtype=np.float32)
        for key, count in counts.items():
            np.logaddexp(total, self.retrieval[key] + np.float32(np.log(count / n)), out=total)
        if any(key in self.ranker for key in counts):
            if self.candidates < total.shape[1]:  # the ranker sees the best candidates of retrieval only
                cut = -np.partition(-total, self.candidates - 1, axis=1)[:, self.candidates - 1, None]
                total = np.where(total >= cut, total, -np.inf).astype(np.float32)
            for key in counts.keys() & self.ranker.keys():
                total += np.float32(counts[key] / n) * self.ranker[key]
        found = min(self.k, total.shape[1])
        values, columns = best_items(total, found)
        out = np.full((len(total), self.k), NO_ITEM, dtype=np.int64)
        out[:, :found] = np.where(np.isneginf(values), NO_ITEM, np.take_along_axis(self.items, columns, axis=1))
        return out


def list_scores(members: StoredMembers, keys: Sequence[str]) -> ListScores:
    """Scores of members for the items that any of them has among its best, for the users of the search.

    Raises:
        RunError: a score is not finite.
    """
    data: EncodedData = members.problem.data
    evaluation, n_items = data.config.evaluation, data.dataset.n_items
    candidates = evaluation.n_candidates(n_items)
    pooled = evaluation.model_copy(update={"candidates": max(evaluation.k, min(POOLED * evaluation.k, candidates))})
    pool = np.zeros((len(data.users.ids), 0), dtype=np.int64)
    for some in members.stacks(keys):
        for member, found in stream_member_lists(members.stack(some), data.dataset, data.tensors, data.users, pooled):
            if np.isnan(found.scores).any():
                raise RunError(f"member {some[member]} gives scores that are not finite; choose other members")
            pool = _united(pool, found.retrieved, n_items)
    items = np.where(pool == n_items, NO_ITEM, pool)
    retrieval: dict[str, Float32] = {}
    ranker: dict[str, Float32] = {}
    ids = np.maximum(items, 0)
    with torch.no_grad():
        for some in members.stacks(keys):
            for own in stream_member_scores(members.stack(some), data.dataset, data.tensors, data.users):
                key, n = some[own.member], len(own.queries)  # n = 2 for a single user
                chosen = torch.from_numpy(np.resize(ids, (n, ids.shape[1]))).to(own.queries.device)
                scores = torch.empty(chosen.shape, dtype=own.queries.dtype, device=own.queries.device)
                for start in range(0, n, USERS_AT_ONCE):
                    rows = slice(start, min(start + USERS_AT_ONCE, n))
                    whole = own.queries.new_empty(rows.stop - rows.start, n_items)
                    scores[rows] = torch.log_softmax(own.retrieval(rows, whole), 1).gather(1, chosen[rows])
                own_scores = _finite(scores[: len(items)].float().cpu().numpy(), key)
                retrieval[key] = np.where(items == NO_ITEM, -np.inf, own_scores).astype(np.float32)
                if own.spec.rank_blend:
                    ranker[key] = _finite(own.ranker(chosen)[: len(items)].float().cpu().numpy(), key)
    return ListScores(items, retrieval, ranker, evaluation.k, candidates)


def _united(pool: Int64, more: Int64, n_items: int) -> Int64:
    """The items of two pools, ascending, without repeats; `n_items` fills the end of shorter rows."""
    both = np.sort(np.concatenate([pool, np.where(more == NO_ITEM, n_items, more)], axis=1), axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = n_items
    both = np.sort(both, axis=1)
    return both[:, : max(1, int((both < n_items).sum(axis=1).max()))]


def _finite(scores: npt.NDArray[Any], key: str) -> npt.NDArray[Any]:
    if not np.isfinite(scores).all():
        raise RunError(f"member {key} gives scores that are not finite; choose other members")
    return scores
