"""Users as inputs of the graphs: bags of rows, weighted history, statistics, context and excluded items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from evorec.data.histories import history_weights
from evorec.serving.encoders import Fields, SideStatistics
from evorec.serving.items import Catalogue, Feeds, padded
from evorec.serving.queries import Ids, User

NO_EXCLUSION = -1
"""Padding of the lists of excluded items."""


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
                liked = [index for index in catalogue.indices(user.liked, "liked") if index < catalogue.n_own]
                row_of = self.arrays["item.history_row"]
                past = [*(int(row_of[index]) for index in liked), *history[i][history[i] > 0].tolist()]
                past = list(dict.fromkeys(past))[: history.shape[1]]
                history[i] = 0
                history[i, : len(past)] = past
            if user.context:
                ones = np.ones(len(usual), dtype=np.float32)
                contexts[i] = self.context.replaced(usual, ones, user.context)[0][: len(usual)]
        return {
            "user_rows": rows,
            "user_weights": weights,
            "history_rows": history,
            "history_weights": history_weights(history, self.recency).astype(np.float32),
            "user_statistics": statistics,
            "context_rows": contexts,
            "excluded": self._excluded(users, own, catalogue, seen=seen),
        }

    def _excluded(
        self, users: Sequence[User], own: npt.NDArray[np.int64], catalogue: Catalogue, *, seen: bool
    ) -> npt.NDArray[np.int64]:
        """Indices of items ``(n, M)``, M >= 1, padded with `NO_EXCLUSION`."""
        starts, stops = self.arrays["masked.indptr"][own], self.arrays["masked.indptr"][own + 1]
        sizes = np.zeros_like(starts) if seen else stops - starts
        more = [
            [*catalogue.indices(user.exclude, "exclude"), *catalogue.indices(() if seen else user.liked, "liked")]
            for user in users
        ]
        width = max(1, *(int(size) + len(items) for size, items in zip(sizes, more, strict=True)))
        out = np.full((len(users), width), NO_EXCLUSION, dtype=np.int64)
        for row, start, size, items in zip(out, starts, sizes, more, strict=True):
            row[:size] = self.arrays["masked.indices"][start : start + size]
            row[size : size + len(items)] = items
        return out
