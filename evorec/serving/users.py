"""Users as inputs of the graphs: bags of rows, weighted history, statistics, context and excluded items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from evorec.data.histories import history_weights
from evorec.serving.encoders import Fields, SideStatistics
from evorec.serving.items import Catalogue, Feeds, padded
from evorec.serving.queries import Ids, User

NO_EXCLUSION = -1
"""End and padding of the lists of excluded items; each list has at least this entry."""


@final
@dataclass(frozen=True, eq=False)
class UserEncoders:
    """The users of a bundle, and the encoding of new users.

    Attributes:
        ids: of the known users ``(U,)``; the last row of every array is the unknown user.
        arrays: ``user.rows``, ``user.weights``, ``user.statistics``, ``history.rows``, ``masked.indptr``,
            ``masked.indices``, ``item.history_row`` and ``context.rows`` of the bundle.
        fields, context: features of users and of the context.
        statistics: of the features.
        recency: decay of the weight of a positive with its position in the history.
    """

    ids: Ids
    arrays: Mapping[str, np.ndarray]
    fields: Fields
    context: Fields
    statistics: SideStatistics
    recency: float

    def feeds(self, users: Sequence[User], catalogue: Catalogue, *, seen: bool) -> Feeds:
        """Inputs of the graphs.

        Args:
            users: n of them.
            catalogue: the items that may be listed.
            seen: whether items of a user's history may be listed.
        Raises:
            DataError: a feature cannot be used.
        """
        found = [self.ids.index(user.id) for user in users]
        own = np.array([len(self.ids) if index is None else index for index in found], dtype=np.int64)
        rows, weights = self.arrays["user.rows"][own], self.arrays["user.weights"][own]
        statistics = self.arrays["user.statistics"][own]
        history, usual = self.arrays["history.rows"][own], self.arrays["context.rows"]
        contexts = np.repeat(usual[None], len(users), axis=0)
        if any(user.features for user in users):
            bags = [self.fields.replaced(r, w, user.features) for r, w, user in zip(rows, weights, users, strict=True)]
            rows, weights = padded([bag for bag, _ in bags]), padded([bag for _, bag in bags])
        for i, user in enumerate(users):
            if user.features:
                statistics[i] = self.statistics.updated(statistics[i], rows[i])
            if user.liked:
                liked = [index for index in catalogue.indices(user.liked) if index < catalogue.n_own]
                row_of = self.arrays["item.history_row"]
                past = [*(int(row_of[index]) for index in liked), *history[i][history[i] > 0].tolist()]
                past = list(dict.fromkeys(past))[: history.shape[1]]
                history[i] = 0
                history[i, : len(past)] = past
            if user.context:
                ones = np.ones(len(usual), dtype=np.float32)
                contexts[i] = self.context.replaced(usual, ones, user.context)[0][: len(usual)]
        masked, starts = self.arrays["masked.indices"], self.arrays["masked.indptr"]
        excluded = []
        for user, index in zip(users, own.tolist(), strict=True):
            known = masked[:0] if seen else masked[starts[index] : starts[index + 1]]
            more = [*catalogue.indices(user.exclude), *catalogue.indices(() if seen else user.liked)]
            excluded.append(np.concatenate([known, np.array([*more, NO_EXCLUSION], dtype=np.int64)]))
        return {
            "user_rows": rows,
            "user_weights": weights,
            "history_rows": history,
            "history_weights": history_weights(history, self.recency).astype(np.float32),
            "user_statistics": statistics,
            "context_rows": contexts,
            "excluded": padded(excluded, NO_EXCLUSION),
        }
