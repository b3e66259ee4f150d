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
        fading: decay per step and half-life in days of the whole past, of members with item-item scores; else ``None``.
    """

    ids: Ids
    arrays: Mapping[str, np.ndarray]
    fields: Fields
    context: Fields
    statistics: SideStatistics
    recency: float
    fading: tuple[float, float] | None = None

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
            **self._past(users, own, catalogue),
            "user_rows": rows,
            "user_weights": weights,
            "history_rows": history,
            "history_weights": history_weights(history, self.recency).astype(np.float32),
            "user_statistics": statistics,
            "context_rows": contexts,
            "excluded": padded(excluded, NO_EXCLUSION),
        }

    def _past(self, users: Sequence[User], own: np.ndarray, catalogue: Catalogue) -> Feeds:
        """Items of the whole past ``(n, L)``, latest first, and their weights, 0 for padding."""
        if self.fading is None:
            return {}
        starts, items, ages = (self.arrays.get(f"past.{name}") for name in ("indptr", "items", "ages"))
        assert starts is not None
        assert items is not None
        decay, half_life = self.fading
        all_items, all_weights = [], []
        for user, index in zip(users, own.tolist(), strict=True):
            known = slice(starts[index], starts[index + 1])
            past, age = items[known], np.zeros(0) if ages is None else ages[known].astype(np.float64)
            liked = [item for item in dict.fromkeys(catalogue.indices(user.liked)) if item < catalogue.n_own]
            if liked:
                kept = ~np.isin(past, liked)
                past, age = (
                    np.concatenate([liked, past[kept]]),
                    np.concatenate([np.zeros(len(liked)), age[kept[: len(age)]]]),
                )
            weights = decay ** np.arange(len(past), dtype=np.float64)
            if ages is not None:
                weights *= np.exp2(age * (-1 / half_life))
            all_items.append(np.append(past, 0).astype(np.int64))  # a user without a past has a row, too
            all_weights.append(np.append(weights, 0.0).astype(np.float32))
        return {"past_items": padded(all_items), "past_weights": padded(all_weights)}
