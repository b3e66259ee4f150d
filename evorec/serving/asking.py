"""Users as inputs of the graphs: bags of rows, the weighted past, statistics, the moment and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from evorec.data.histories import history_weights
from evorec.serving.catalogue import Catalogue, Feeds, padded
from evorec.serving.encoders import Fields, SideStatistics
from evorec.serving.ids import Ids
from evorec.serving.queries import User

NOBODY = -1
"""Fills the lists of what is not to be listed."""


@final
@dataclass(frozen=True, eq=False)
class Askers:
    """The users of a bundle, and how somebody new is described.

    Attributes:
        ids: of the known users ``(U,)``; the last line of every array is the unknown user's.
        arrays: ``user.rows``, ``user.weights``, ``user.statistics``, ``history.rows``, ``masked.indptr``,
            ``masked.indices``, ``item.history_row`` and ``context.rows`` of the bundle.
        fields, context: features of users and of the moment.
        statistics: those of features.
        recency: how the weight of a positive falls with its place in the past.
    """

    ids: Ids
    arrays: Mapping[str, np.ndarray]
    fields: Fields
    context: Fields
    statistics: SideStatistics
    recency: float

    def places(self, users: Sequence[User]) -> npt.NDArray[np.int64]:
        """Lines of the arrays ``(n,)``."""
        unknown = len(self.ids)
        found = (self.ids.place(user.id) for user in users)
        return np.array([unknown if place is None else place for place in found], dtype=np.int64)

    def feeds(self, users: Sequence[User], catalogue: Catalogue, *, seen: bool) -> Feeds:
        """Inputs of the graphs.

        Args:
            users: n of them.
            catalogue: the items that may be listed.
            seen: whether items of a user's past may be.
        Raises:
            DataError: a feature cannot be used.
        """
        places = self.places(users)
        rows, weights = self._bags(users, places)
        history = self._histories(users, places, catalogue)
        return {
            "user_rows": rows,
            "user_weights": weights,
            "history_rows": history,
            "history_weights": history_weights(history, self.recency).astype(np.float32),
            "user_statistics": self._statistics(users, places, rows),
            "context_rows": self._moments(users),
            "excluded": self._excluded(users, places, catalogue, seen=seen),
        }

    def _bags(
        self, users: Sequence[User], places: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        rows, weights = self.arrays["user.rows"][places], self.arrays["user.weights"][places]
        if not any(user.features for user in users):
            return rows, weights
        bags = [self.fields.replaced(r, w, user.features) for r, w, user in zip(rows, weights, users, strict=True)]
        return padded([bag for bag, _ in bags]), padded([bag for _, bag in bags])

    def _statistics(
        self, users: Sequence[User], places: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        out: npt.NDArray[np.float32] = self.arrays["user.statistics"][places]
        for line, user in enumerate(users):
            if user.features:
                out[line] = self.statistics.updated(out[line], rows[line])
        return out

    def _histories(
        self, users: Sequence[User], places: npt.NDArray[np.int64], catalogue: Catalogue
    ) -> npt.NDArray[np.int64]:
        out: npt.NDArray[np.int64] = self.arrays["history.rows"][places]
        longest = out.shape[1]
        row_of = self.arrays["item.history_row"]
        for line, user in enumerate(users):
            if user.liked:
                known = [p for p in catalogue.places(user.liked, "liked", strict=False) if p < catalogue.n_own]
                past = [*(int(row_of[place]) for place in known), *out[line][out[line] > 0].tolist()]
                past = list(dict.fromkeys(past))[:longest]
                out[line] = 0
                out[line, : len(past)] = past
        return out

    def _moments(self, users: Sequence[User]) -> npt.NDArray[np.int64]:
        usual = self.arrays["context.rows"]
        out = np.repeat(usual[None], len(users), axis=0)
        ones = np.ones(len(usual), dtype=np.float32)
        for line, user in enumerate(users):
            if user.context:
                out[line] = self.context.replaced(usual, ones, user.context)[0][: len(usual)]
        return out

    def _excluded(
        self, users: Sequence[User], places: npt.NDArray[np.int64], catalogue: Catalogue, *, seen: bool
    ) -> npt.NDArray[np.int64]:
        """Places of items ``(n, M)``, M >= 1, filled up with `NOBODY`."""
        starts, stops = self.arrays["masked.indptr"][places], self.arrays["masked.indptr"][places + 1]
        own = stops - starts if not seen else np.zeros_like(starts)
        more = [self._told(user, catalogue, seen=seen) for user in users]
        width = max(1, int(own.max(initial=0)) + max(map(len, more), default=0))
        out = np.full((len(users), width), NOBODY, dtype=np.int64)
        column = np.arange(int(own.max(initial=0)))
        filled = column < own[:, None]
        out[:, : len(column)][filled] = self.arrays["masked.indices"][(starts[:, None] + column)[filled]]
        for line, told in enumerate(more):
            out[line, own[line] : own[line] + len(told)] = told
        return out

    @staticmethod
    def _told(user: User, catalogue: Catalogue, *, seen: bool) -> list[int]:
        """Places that the user's own words exclude."""
        liked = () if seen else user.liked
        return [
            *catalogue.places(user.exclude, "exclude", strict=False), *catalogue.places(liked, "liked", strict=False)
        ]  # fmt: skip
