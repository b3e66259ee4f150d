"""A bundle that recommends: known users and new ones, known items and new ones, without torch.

Every list comes from the one graph that `evorec export` has compared with the member of the archive. Ids become places
in the catalogue before a session sees them, so that an unknown id can never mean somebody else's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.errors import ConfigError, DataError, RunError
from evorec.serving.asking import NOBODY, Askers
from evorec.serving.bundle import ITEM_VECTORS, RANKER, RECOMMEND, USER_VECTORS, Bundle, read_bundle
from evorec.serving.catalogue import Catalogue, Feeds, ItemEncoders, describe, extended
from evorec.serving.consistency import check
from evorec.serving.encoders import ContentParts, Fields, SideStatistics
from evorec.serving.graph import Graph
from evorec.serving.ids import Ids
from evorec.serving.mmr import mmr
from evorec.serving.queries import Id, Item, User, as_user

SCORES_AT_ONCE: Final = 1 << 21
"""Scores over the whole catalogue that one call of the graph holds."""
MOST_USERS: Final = 64
"""Users of one call, whatever the catalogue."""
NO_ITEM: Final = -1

Recommendations = list[list[tuple[Id, float]]]
"""Per user the items, best first, each with its score."""


@final
class Places(NamedTuple):
    """Lists as places in the catalogue, best first, `NO_ITEM` where none is left, and their scores; both ``(n, k)``.

    There are never more than ``n_items`` columns.
    """

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@final
class Recommender:
    """A bundle in memory; safe to use from several threads.

    Attributes:
        manifest: what the bundle says of itself.
        version: SHA-256 of the manifest.
        tasks: the ranked tasks.
        k: default length of a list.

    Args:
        bundle: from `read_bundle`.
        threads: calls of the graph at once.
        graph: file of the graph that makes lists, e.g. a variant for small devices.
    Raises:
        RunError: the parts of the bundle do not fit together.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, graph: str = RECOMMEND) -> None:
        if graph not in bundle.manifest["files"]:
            known = ", ".join(name for name in bundle.manifest["files"] if name.startswith("recommend"))
            raise ConfigError(f"bundle {bundle.path} has no graph {graph}; it has: {known}.")
        self.manifest, self.version, self.path = bundle.manifest, bundle.version, bundle.path
        self._threads = threads
        try:
            check(bundle)
            arrays, encoders = bundle.arrays, bundle.encoders
            self.tasks = tuple(self.manifest["tasks"])
            self.k, self._candidates = int(self.manifest["k"]), int(self.manifest["candidates"])
            self._mmr = float(self.manifest["mmr"])
            self._arrays = arrays
            n_user = arrays["user.statistics"].shape[1]
            nothing = arrays["statistics.nothing"]
            self._askers = Askers(
                Ids(bundle.users),
                arrays,
                Fields.of("user", encoders["user"]),
                Fields.of("context", encoders["context"]),
                SideStatistics.of(encoders["user_statistics"], nothing[:n_user], arrays),
                float(self.manifest["history_recency"]),
            )
            self._item_encoders = ItemEncoders(
                Fields.of("item", encoders["item"]),
                ContentParts.of(encoders["content"], arrays["item.content"][-1]),
                SideStatistics.of(encoders["item_statistics"], nothing[n_user:], arrays),
                arrays["item.rows"][-1],
                arrays["item.weights"][-1],
                float(self.manifest["new_item_prior"]),
            )
            sides = {name: arrays[f"item.{name}"][:-1] for name in ("rows", "weights", "content")}
            self.catalogue = Catalogue(
                Ids(bundle.items), **sides, statistics=arrays["catalogue.statistics"], n_own=len(bundle.items), feeds={}
            )
            self._similarity = [
                column
                for part in encoders["content"]
                if not part["learned"]
                for column in range(part["first_column"], part["first_column"] + part["n_columns"])
            ]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise RunError(f"bundle {bundle.path} contradicts itself ({error!r}); export it again") from None
        lists = ("items", "scores")
        self._recommend = Graph(bundle.path / graph, lists)
        # a variant has its catalogue inside
        self._with_catalogue = self._recommend if graph == RECOMMEND else Graph(bundle.path / RECOMMEND, lists)
        self._ranker = Graph(bundle.path / RANKER, ("predictions", "outputs"))
        self._item_vectors = Graph(bundle.path / ITEM_VECTORS, ("vectors", "keys"))
        self._user_vectors = Graph(bundle.path / USER_VECTORS, ("vectors",))

    @property
    def n_users(self) -> int:
        """Users that training knew."""
        return len(self._askers.ids)

    @property
    def n_items(self) -> int:
        """Items that can be listed."""
        return self.catalogue.n_items

    @property
    def user_features(self) -> set[str]:
        """Features of users by name."""
        return set(self._askers.fields.fields)

    @property
    def context_features(self) -> set[str]:
        """Features of the moment by name."""
        return set(self._askers.context.fields)

    @property
    def item_features(self) -> set[str]:
        """Features of items by name, and parts of their content."""
        return set(self._item_encoders.fields.fields) | self._item_encoders.content.names

    def knows(self, user: Id) -> bool:
        """Whether the model was trained with this user; another one is answered from what is told of it."""
        return self._askers.ids.place(user) is not None

    def has_item(self, item: Id) -> bool:
        """Whether the item is in the catalogue."""
        return self.catalogue.ids.place(item) is not None

    def with_items(self, items: Sequence[Item]) -> Recommender:
        """The same recommender with new items in its catalogue, each described by its features or content.

        A variant for small devices has its own items inside; the full graph serves new ones.

        Raises:
            DataError: an item is in the catalogue already, stands twice, or its description cannot be used.
        """
        other = copy(self)
        other._recommend = self._with_catalogue
        if items:
            other.catalogue = extended(self.catalogue, items, self._item_encoders, self._item_vectors, self._arrays)
        return other

    def recommend(
        self,
        users: Sequence[User | Id],
        *,
        k: int | None = None,
        seen: bool = False,
        where: Mapping[str, Sequence[Any]] | None = None,
        only: Sequence[Id] | None = None,
        mmr: float | None = None,
    ) -> Recommendations:
        """The best items of each user.

        Args:
            users: ids, or what is known of them; somebody of whom nothing is known gets the list of an unknown user.
            k: length of a list; by default the one the member was measured with. A list is shorter where fewer items
                are left.
            seen: whether items of a user's past may be listed.
            where: item feature -> values, one of which a listed item must have.
            only: items that may be listed; unknown ones are ignored. ``None`` = all.
            mmr: weight of the diversity re-ranking in [0, 1]; by default the bundle's own.
        Raises:
            DataError: nobody asks, or a number, a feature or a filter cannot be used.
        """
        found = self.places(users, k=k, seen=seen, where=where, only=only, mmr=mmr)
        ids = self.catalogue.ids.ids
        return [
            [(ids[item], score) for item, score in zip(*pair, strict=True) if item != NO_ITEM]
            for pair in zip(found.items.tolist(), found.scores.tolist(), strict=True)
        ]

    def places(
        self,
        users: Sequence[User | Id],
        *,
        k: int | None = None,
        seen: bool = False,
        where: Mapping[str, Sequence[Any]] | None = None,
        only: Sequence[Id] | None = None,
        mmr: float | None = None,
    ) -> Places:
        """`recommend`, with places in the catalogue instead of ids, for very many users."""
        k = self.k if k is None else k
        if isinstance(k, bool) or not isinstance(k, int) or k < 1 or len(users) == 0:
            raise DataError(f"recommend needs one or more users and k >= 1, got {len(users)} users and k = {k!r}.")
        weight = self._mmr if mmr is None else mmr
        if not 0 <= weight <= 1:
            raise DataError(f"mmr must be in 0..1, got {weight!r}.")
        asked = [as_user(user) for user in users]
        allowed = self._allowed(where, only)
        size = max(1, min(MOST_USERS, SCORES_AT_ONCE // self.n_items, -(-len(asked) // self._threads)))
        parts = [asked[at : at + size] for at in range(0, len(asked), size)]

        def one(part: list[User]) -> Places:
            feeds = self._askers.feeds(part, self.catalogue, seen=seen) | self.catalogue.feeds | {"allowed": allowed}
            return self._lists(feeds, k, weight)

        if self._threads == 1 or len(parts) == 1:
            found = [one(part) for part in parts]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = list(pool.map(one, parts))
        return Places(np.concatenate([f.items for f in found]), np.concatenate([f.scores for f in found]))

    def score(self, user: User | Id, items: Sequence[Item | Id]) -> list[dict[str, float]]:
        """What the model predicts of given items for one user, in the usual context or the one that is told.

        Args:
            user: an id, or what is known of somebody.
            items: known ones by id, or new ones with features or content.
        Returns:
            Per item the prediction of every task, a probability or a number in the label's unit, and ``score``, by
            which lists are ordered before any re-ranking for diversity.
        Raises:
            DataError: there is no item, or one of which nothing is known.
        """
        if not items:
            raise DataError("score needs one or more items, got none.")
        asked = [item if isinstance(item, Item) else Item(item) for item in items]
        given = describe(asked, self.catalogue, self._item_encoders)
        of_user = self._askers.feeds([as_user(user)], self.catalogue, seen=True)
        n = len(asked)
        pairs = {name: np.repeat(array, n, axis=0) for name, array in of_user.items()}
        predictions = self._ranker(pairs | given)[0]
        if predictions.shape[1] != len(self.tasks):
            raise RunError(f"bundle {self.path} names {len(self.tasks)} tasks and predicts {predictions.shape[1]}")
        scores = self._list_scores(of_user, asked, given)
        if not (np.isfinite(predictions).all() and np.isfinite(scores).all()):
            raise DataError("the model gives scores that are not finite for these items.")
        return [
            {**dict(zip(self.tasks, row, strict=True)), "score": score}
            for row, score in zip(predictions.tolist(), scores.tolist(), strict=True)
        ]

    def user_vectors(self, users: Sequence[User | Id]) -> npt.NDArray[np.float32]:
        """Unit vectors ``(n, E)`` of the first stage, e.g. for an index: its score is ``users @ keys.T + prior``."""
        asked = [as_user(user) for user in users]
        return np.asarray(self._user_vectors(self._askers.feeds(asked, self.catalogue, seen=True))[0])

    def item_keys(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Keys ``(I, E)`` and prior ``(I,)`` of the whole catalogue, see `user_vectors`."""
        return np.ascontiguousarray(self._of_catalogue("catalogue.keys").T), self._of_catalogue("catalogue.prior")

    def _of_catalogue(self, name: str) -> npt.NDArray[np.float32]:
        """An array of the catalogue as it is now, with its new items."""
        return np.asarray(self.catalogue.feeds.get(name, self._arrays[name]))

    def _lists(self, feeds: Feeds, k: int, weight: float) -> Places:
        """Lists of one call of the graph."""
        size = min(k, self.n_items)  # not k: it may be a billion
        candidates = min(max(self._candidates, size), self.n_items)
        asked = candidates if weight > 0 else size
        numbers = {"k": np.array(asked, dtype=np.int64), "candidates": np.array(candidates, dtype=np.int64)}
        items, scores = self._recommend(feeds | numbers)
        if np.isnan(scores).any():
            raise DataError("the model gives scores that are not finite for these users.")
        if weight > 0:
            place = mmr(scores, self._alike(items), size, weight)
            items = np.where(place < 0, NO_ITEM, np.take_along_axis(items, np.maximum(place, 0), 1))
            scores = np.where(place < 0, -np.inf, np.take_along_axis(scores, np.maximum(place, 0), 1))
        return Places(items, scores.astype(np.float32))

    def _alike(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Unit vectors ``(n, C, D)`` whose cosine says how alike items are: of content, else of the first stage."""
        if self._similarity:
            vectors = self.catalogue.content[items][..., self._similarity]
        else:  # some columns: the catalogue may be large
            vectors = np.moveaxis(self._of_catalogue("catalogue.keys")[:, items], 0, -1)
        lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))

    def _list_scores(self, of_user: Feeds, asked: Sequence[Item], given: Feeds) -> npt.NDArray[np.float32]:
        """List scores ``(n,)`` of the given items, by the graph that makes lists."""
        n = len(asked)
        vectors, keys = self._item_vectors(given)
        known = self._of_catalogue("catalogue.prior")
        places = [self.catalogue.ids.place(item.id) for item in asked]
        prior = [self._item_encoders.prior if place is None else known[place] for place in places]
        feeds = of_user | {
            "catalogue.vectors": vectors,
            "catalogue.keys": keys.T,
            "catalogue.prior": np.array(prior, dtype=np.float32),
            "catalogue.statistics": given["item_statistics"],
            "allowed": np.ones(n, dtype=np.bool_),
            "excluded": np.full((1, 1), NOBODY),
            "k": np.array(n),
            "candidates": np.array(n),
        }
        items, scores = self._with_catalogue(feeds)
        out = np.empty(n, dtype=np.float32)
        out[items[0]] = scores[0]
        return out

    def _allowed(self, where: Mapping[str, Sequence[Any]] | None, only: Sequence[Id] | None) -> npt.NDArray[np.bool_]:
        """Which items may be listed, bool ``(I,)``."""
        out = self.catalogue.everything
        for name, values in (where or {}).items():
            several = [values] if isinstance(values, str | int | float) else list(values)
            out = out & self._item_encoders.fields.places_with(self.catalogue.rows, name, several)
        if only is not None:
            chosen = np.zeros_like(out)
            chosen[self.catalogue.places(only, "only", strict=False)] = True
            out = out & chosen
        return out


def load_bundle(path: str | Path, *, threads: int = 1, graph: str = RECOMMEND) -> Recommender:
    """A recommender from a bundle; every byte is checked before it is used.

    Args:
        path: folder that `evorec export` wrote.
        threads: calls of the graph at once.
        graph: file of the graph that makes lists.
    Raises:
        RunError: a file is missing, added, damaged or of another format.
        ConfigError: onnxruntime is not installed, or there is no such graph.
    """
    return Recommender(read_bundle(path), threads=threads, graph=graph)
