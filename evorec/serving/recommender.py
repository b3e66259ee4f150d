"""Recommendations from a bundle, without torch: for known and new users, of known and new items.

Every list comes from the graph that `evorec export` has compared with the member of the archive. Ids are replaced by
indices before a session is called, so an unknown id cannot refer to a row of another user.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.data.ids import Id, as_ids
from evorec.errors import ConfigError, DataError, RunError
from evorec.serving.bundle import ITEM_VECTORS, RANKER, RECOMMEND, USER_VECTORS, Bundle, is_of_rows, read_bundle
from evorec.serving.consistency import check
from evorec.serving.encoders import ContentParts, Feature, Fields, Float32, SideStatistics, elements
from evorec.serving.graph import Graph
from evorec.serving.items import Catalogue, Feeds, ItemEncoders
from evorec.serving.mmr import mmr
from evorec.serving.queries import Ids, Item, ListOptions, User, as_items, as_user, as_users
from evorec.serving.users import NO_EXCLUSION, UserEncoders

SCORES_PER_CALL: Final = 1 << 21
"""Scores over the whole catalogue that a call of the graph holds."""
USERS_PER_CALL: Final = 64
NO_ITEM: Final = -1

Recommendations = list[list[tuple[Id, float]]]
"""Per user the items, best first, each with its score."""


@final
class IndexLists(NamedTuple):
    """Lists as indices of the catalogue, best first, padded with `NO_ITEM`, and their scores; both ``(n, k)``.

    There are never more than ``n_items`` columns.
    """

    items: npt.NDArray[np.int64]
    scores: Float32


@final
class Recommender:
    """A bundle in memory; safe to use from several threads.

    Attributes:
        manifest: of the bundle.
        version: SHA-256 of the manifest.
        tasks: the ranked tasks; none = retrieval only.
        k: default length of a list.
        user_features, context_features, item_features: names; those of items include the parts of the content.
        shown: values of the columns that ``evorec export --show`` stored, by name, in the order of the catalogue.

    Args:
        bundle: from `read_bundle`.
        threads: parallel calls of the graph.
        graph: file of the graph that makes lists, e.g. a variant for small devices.
    Raises:
        RunError: the parts of the bundle do not fit together.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, graph: str = RECOMMEND) -> None:
        if is_of_rows(bundle.manifest):
            raise ConfigError(
                f"bundle {bundle.path} is of a table of rows, which has no items to recommend; `evorec score`, or "
                "evorec.load_rows(PATH).score(rows), predicts the labels of rows."
            )
        if graph not in bundle.manifest["files"]:
            known = ", ".join(name for name in bundle.manifest["files"] if name.startswith("recommend"))
            raise ConfigError(f"bundle {bundle.path} has no graph {graph}; it has: {known}.")
        self.manifest, self.version, self.path = bundle.manifest, bundle.version, bundle.path
        self._threads, self._arrays = threads, bundle.arrays
        try:
            check(bundle)
            arrays, encoders = bundle.arrays, bundle.encoders
            self.tasks = tuple(self.manifest["tasks"])
            self.k, self._candidates = int(self.manifest["k"]), int(self.manifest["candidates"])
            self._mmr = float(self.manifest["mmr"])
            self._prior_rows: list[int] = self.manifest.get("ensemble", {"prior_rows": []})["prior_rows"]
            users, context, items = (
                Fields(side, [Feature(**stored) for stored in encoders[side]]) for side in ("user", "context", "item")
            )
            content = [Feature(**stored) for stored in encoders["content"]]
            nothing = np.split(arrays["statistics.nothing"], [arrays["user.statistics"].shape[1]])
            of_user, of_item = (
                SideStatistics(encoders[f"{side}_statistics"], own, arrays)
                for side, own in zip(("user", "item"), nothing, strict=True)
            )
            recency, prior = float(self.manifest["history_recency"]), float(self.manifest["new_item_prior"])
            fading = None
            if (past := self.manifest.get("past")) is not None:
                fading = float(past["decay"]), float(past["half_life_days"] or math.inf)
            self._users = UserEncoders(Ids(bundle.users), arrays, users, context, of_user, recency, fading)
            rows, weights, vectors = arrays["item.rows"], arrays["item.weights"], arrays["item.content"]
            parts = ContentParts(content, vectors[-1])
            self._items = ItemEncoders(items, parts, of_item, rows[-1], weights[-1], prior)
            self.catalogue = Catalogue(
                Ids(bundle.items),
                rows[:-1],
                weights[:-1],
                vectors[:-1],
                statistics=arrays["catalogue.statistics"],
                n_own=len(bundle.items),
                feeds={},
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise RunError(f"bundle {bundle.path} contradicts itself ({error!r}); export it again") from None
        fixed = [np.arange(part.columns.start, part.columns.stop) for part in content if not part.learned]
        self._similarity_columns = np.concatenate(fixed) if fixed else np.zeros(0, dtype=np.int64)
        self.user_features, self.context_features = users.names, context.names
        self.item_features = items.names | self._items.content.names
        self.shown = bundle.shown
        lists = ("items", "scores")
        self._recommend = Graph(bundle.path / graph, lists)
        # a variant contains its catalogue, so other items need the full graph
        self._with_catalogue = self._recommend if graph == RECOMMEND else Graph(bundle.path / RECOMMEND, lists)
        self._ranker = Graph(bundle.path / RANKER, ("predictions", "outputs")) if self.tasks else None
        self._item_vectors = Graph(bundle.path / ITEM_VECTORS, ("vectors", "keys"))
        self._user_vectors = Graph(bundle.path / USER_VECTORS, ("vectors",))

    def __repr__(self) -> str:
        return f"Recommender({self.n_users} users, {self.n_items} items, tasks {', '.join(self.tasks)})"

    @property
    def _users_per_call(self) -> int:
        """Users whose scores, and entries of the item-item matrix that their pasts read, fit a call."""
        read = self.n_items
        if self._users.fading is not None:
            matrix = (self._arrays.get(f"item_item.{name}") for name in ("values", "dense", "left"))
            width = sum(array.shape[1] for array in matrix if array is not None)
            read = max(read, width * int(np.diff(self._arrays["past.indptr"]).max(initial=1)))
        return min(USERS_PER_CALL, SCORES_PER_CALL // read)

    @property
    def n_users(self) -> int:
        """Users of the training data."""
        return len(self._users.ids)

    @property
    def user_ids(self) -> Sequence[Id]:
        """Ids of the users of the training data."""
        return self._users.ids.ids

    @property
    def n_items(self) -> int:
        """Items that can be listed."""
        return len(self.catalogue.ids)

    def trial(self) -> list[float]:
        """Scores and predictions of a first request, to load everything that requests need."""
        (best,) = self.recommend([User()])
        values = [score for _, score in best]
        for item, _ in best[:1]:
            values += self.score(User(), [item])[0].values()
        return values

    def knows(self, user: Id | None) -> bool:
        """Whether the user is in the training data; other users are described only by the request."""
        return self._users.ids.index(user) is not None

    def has_item(self, item: Id) -> bool:
        """Whether the item is in the catalogue."""
        return self.catalogue.ids.index(item) is not None

    def feature_kind(self, name: str) -> str:
        """Kind of a feature of users or of the context: categorical, multi_hot or numeric."""
        fields = self._users.fields if name in self.user_features else self._users.context
        return fields[name].kind

    def unknown(self, users: Iterable[User | Id], options: ListOptions) -> dict[str, list[Any]]:
        """Items and values of a request that the model does not know, which lists ignore.

        Returns:
            ``liked``, ``exclude`` and ``only`` -> ids; ``where.NAME`` -> values; only where there are any.
        """
        described = as_users(users)
        ids = {
            "liked": [id_ for user in described for id_ in user.liked],
            "exclude": [id_ for user in described for id_ in user.exclude],
            "only": [] if options.only is None else as_ids(options.only, "only"),
        }
        out = {what: [id_ for id_ in dict.fromkeys(own) if not self.has_item(id_)] for what, own in ids.items()}
        for name, values in (options.where or {}).items():
            out[f"where.{name}"] = [value for value in elements(values) if not self._items.fields[name].codes(value)]
        return {what: missing for what, missing in out.items() if missing}

    def show(self, items: Iterable[Id], names: Iterable[str]) -> list[dict[str, Any]]:
        """Columns of the items table for given items, such as titles; ``None`` for new items.

        Raises:
            DataError: the bundle does not hold a column.
        """
        columns = {name: self._stored(name) for name in names}
        indices = [self.catalogue.ids.index(item) for item in items]
        return [
            {name: None if i is None or i >= len(values) else values[i] for name, values in columns.items()}
            for i in indices
        ]

    def column(self, name: str) -> list[Any]:
        """A column of the items table in the order of the catalogue, see `show`."""
        stored = self._stored(name)
        return [*stored, *[None] * (self.n_items - len(stored))]

    def _stored(self, name: str) -> list[Any]:
        if name not in self.shown:
            raise DataError(
                f"bundle {self.path} holds no column {name!r} of the items to show; it holds: "
                f"{', '.join(self.shown) or 'none'}. Export it again with --show {name}."
            )
        return self.shown[name]

    def with_items(self, items: Iterable[Item]) -> Recommender:
        """The same recommender with new items in its catalogue, each described by its features or content.

        It uses the full graph: a variant for small devices contains its items.

        Raises:
            DataError: an item is in the catalogue already or repeated, or its description cannot be used.
        """
        other, new = copy(self), self._without_shown(as_items(items))
        other._recommend = self._with_catalogue
        if new:
            other.catalogue = self._items.extended(self.catalogue, new, self._item_vectors, self._arrays)
        return other

    def recommend(
        self,
        users: Iterable[User | Id],
        *,
        k: int | None = None,
        seen: bool = False,
        where: Mapping[str, Iterable[Any]] | None = None,
        only: Iterable[Id] | None = None,
        mmr: float | None = None,
    ) -> Recommendations:
        """The best items of each user.

        Args:
            users: ids or descriptions, in a list, an array, a column or any other iterable; a new user without
                description gets the list of an unknown user.
            k: length of a list; by default that of the member's evaluation. A list is shorter where fewer items are
                left.
            seen: whether items of a user's history may be listed.
            where: item feature -> values, of which a listed item must have at least 1.
            only: items that may be listed; unknown ids are ignored. ``None`` = all.
            mmr: weight of the diversity re-ranking in [0, 1]; by default that of the bundle.
        Raises:
            DataError: no user is given, or a single user instead of a list, or a number, a feature or a filter cannot
                be used.
        """
        found = self.index_lists(users, ListOptions(k, seen, where, only, mmr))
        ids = self.catalogue.ids.ids
        return [
            [(ids[item], score) for item, score in zip(*pair, strict=True) if item != NO_ITEM]
            for pair in zip(found.items.tolist(), found.scores.tolist(), strict=True)
        ]

    def index_lists(self, users: Iterable[User | Id], options: ListOptions) -> IndexLists:
        """`recommend` with indices of the catalogue instead of ids, for many users."""
        asked, k = as_users(users), self.k if options.k is None else options.k
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k must be a whole number of at least 1, got {k!r}.")
        k, weight = int(k), self._mmr if options.mmr is None else options.mmr
        if not isinstance(weight, float | int | np.number) or not 0 <= weight <= 1:
            raise DataError(f"mmr must be in 0..1, got {weight!r}.")
        allowed = {"allowed": self._allowed(options)}
        size = max(1, min(self._users_per_call, -(-len(asked) // self._threads)))
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]

        def lists(part: list[User]) -> IndexLists:
            feeds = self._users.feeds(part, self.catalogue, seen=options.seen) | self.catalogue.feeds | allowed
            return self._lists(feeds, k, weight)

        if self._threads == 1 or len(parts) == 1:
            found = [lists(part) for part in parts]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = list(pool.map(lists, parts))
        return IndexLists(np.concatenate([f.items for f in found]), np.concatenate([f.scores for f in found]))

    def score(self, user: User | Id, items: Iterable[Item | Id]) -> list[dict[str, float]]:
        """Predictions for given items and a user, in the context of the user or the usual context.

        Args:
            user: an id or a description.
            items: known items by id, or new items with features or content.
        Returns:
            Per item the prediction of every task, a probability or a number in the label's unit, and ``score``, by
            which lists are ordered before re-ranking for diversity.
        Raises:
            DataError: no item is given, or an unknown item without description.
        """
        asked = self._without_shown(as_items(items))
        if not asked:
            raise DataError("score needs at least 1 item, got none.")
        n, of_items = len(asked), self._items.feeds(asked, self.catalogue)
        of_user = self._users.feeds([as_user(user)], self.catalogue, seen=True)
        predictions: Float32 = np.zeros((n, 0), dtype=np.float32)
        if self._ranker is not None:
            repeated = {name: np.repeat(array, n, axis=0) for name, array in of_user.items()}
            predictions = self._ranker(repeated | of_items)[0]
        if predictions.shape[1] != len(self.tasks):
            raise RunError(f"bundle {self.path} names {len(self.tasks)} tasks and predicts {predictions.shape[1]}")
        scores = self._list_scores(of_user, asked, of_items)
        if not (np.isfinite(predictions).all() and np.isfinite(scores).all()):
            raise DataError("the model gives scores that are not finite for these items.")
        return [
            {**dict(zip(self.tasks, row, strict=True)), "score": score}
            for row, score in zip(predictions.tolist(), scores.tolist(), strict=True)
        ]

    def _without_shown(self, items: Sequence[Item]) -> list[Item]:
        """Items without the columns that are only shown, so that a row of the items table describes an item."""
        only_shown = self.shown.keys() - self._items.fields.names - self._items.content.names
        return [
            replace(item, features={name: value for name, value in item.features.items() if name not in only_shown})
            for item in items
        ]

    def user_vectors(self, users: Iterable[User | Id]) -> Float32:
        """Unit vectors ``(n, E)`` of retrieval, e.g. for an index: its score is ``users @ keys.T + prior``.

        Raises:
            DataError: the bundle is an ensemble, whose score is not a product.
        """
        self._refuse_mixture()
        feeds = self._users.feeds(as_users(users), self.catalogue, seen=True)
        return np.asarray(self._user_vectors(feeds)[0])

    def item_keys(self) -> tuple[Float32, Float32]:
        """Keys ``(I, E)`` and prior ``(I,)`` of the whole catalogue, see `user_vectors`."""
        self._refuse_mixture()
        return np.ascontiguousarray(self._of_catalogue("catalogue.keys").T), self._of_catalogue("catalogue.prior")

    def _refuse_mixture(self) -> None:
        if self._prior_rows:
            raise DataError(
                f"bundle {self.path} is an ensemble, which mixes the preferences of its members: no vectors have its "
                "score as their product. Export its members for an index."
            )

    def _of_catalogue(self, name: str) -> Float32:
        """An array of the catalogue, new items included."""
        return np.asarray(self.catalogue.feeds.get(name, self._arrays[name]))

    def _lists(self, feeds: Feeds, k: int, weight: float) -> IndexLists:
        """Lists of a single call of the graph."""
        size = min(k, self.n_items)  # k itself may be a billion
        candidates = min(max(self._candidates, size), self.n_items)
        n_listed = candidates if weight > 0 else size
        numbers = {"k": np.array(n_listed, dtype=np.int64), "candidates": np.array(candidates, dtype=np.int64)}
        items, scores = self._recommend(feeds | numbers)
        if np.isnan(scores).any():
            raise DataError("the model gives scores that are not finite for these users.")
        if weight > 0:
            positions = mmr(scores, self._similarity_vectors(items), size, weight)
            chosen = np.maximum(positions, 0)
            items = np.where(positions < 0, NO_ITEM, np.take_along_axis(items, chosen, 1))
            scores = np.where(positions < 0, -np.inf, np.take_along_axis(scores, chosen, 1))
        return IndexLists(items, scores.astype(np.float32))

    def _similarity_vectors(self, items: npt.NDArray[np.int64]) -> Float32:
        """Unit vectors ``(n, C, D)`` whose cosine is the similarity: content, or the keys of retrieval without it."""
        if len(self._similarity_columns):
            vectors = self.catalogue.content[items][..., self._similarity_columns]
        else:  # index before moving the axis: the catalogue may be large
            keys = np.delete(self._of_catalogue("catalogue.keys")[:, items], self._prior_rows, axis=0)
            vectors = np.moveaxis(keys, 0, -1)
        lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))

    def _list_scores(self, of_user: Feeds, asked: list[Item], of_items: Feeds) -> Float32:
        """List scores ``(n,)`` of the given items, by the graph that makes lists."""
        if self._users.fading is not None or self._prior_rows:
            return self._list_scores_of_catalogue(of_user, asked, of_items)
        n = len(asked)
        vectors, keys = self._item_vectors(of_items)
        known = self._of_catalogue("catalogue.prior")
        indices = [self.catalogue.ids.index(item.id) for item in asked]
        prior = [self._items.prior if index is None else known[index] for index in indices]
        feeds = of_user | {
            "catalogue.vectors": vectors,
            "catalogue.keys": keys.T,
            "catalogue.prior": np.array(prior, dtype=np.float32),
            "catalogue.statistics": of_items["item_statistics"],
            "allowed": np.ones(n, dtype=np.bool_),
            "excluded": np.full((1, 1), NO_EXCLUSION),
            "k": np.array(n),
            "candidates": np.array(n),
        }
        items, scores = self._with_catalogue(feeds)
        out = np.empty(n, dtype=np.float32)
        out[items[0]] = scores[0]
        return out

    def _list_scores_of_catalogue(self, of_user: Feeds, asked: list[Item], of_items: Feeds) -> Float32:
        """`_list_scores` where they depend on all items, as in a blend: given items replace theirs, or are added."""
        vectors, keys = self._item_vectors(of_items)
        found = [self.catalogue.ids.index(item.id) for item in asked]
        for row, index in enumerate(found):  # a known item keeps its popularity in the members of an ensemble
            if index is not None and self._prior_rows:
                keys[row, self._prior_rows] = self._of_catalogue("catalogue.keys")[self._prior_rows, index]
        n_new = sum(index is None for index in found)
        added = iter(range(self.n_items, self.n_items + n_new))
        at = np.array([next(added) if index is None else index for index in found])
        feeds: Feeds = {}
        for name, axis, own in (
            ("catalogue.vectors", 1, vectors),
            ("catalogue.keys", 1, keys.T),
            ("catalogue.statistics", 0, of_items["item_statistics"]),
        ):
            known = self._of_catalogue(name)
            widths = [(0, n_new if i == axis else 0) for i in range(known.ndim)]
            array = np.moveaxis(np.pad(known, widths), axis, 0)
            array[at] = np.moveaxis(own, axis, 0)
            feeds[name] = np.ascontiguousarray(np.moveaxis(array, 0, axis))
        prior = np.full(n_new, self._items.prior, dtype=np.float32)
        allowed = np.zeros(self.n_items + n_new, dtype=np.bool_)
        allowed[at] = True
        n_allowed = np.array(int(allowed.sum()))
        feeds |= {
            "catalogue.prior": np.concatenate([self._of_catalogue("catalogue.prior"), prior]),
            "allowed": allowed,
            "excluded": np.full((1, 1), NO_EXCLUSION),
            "k": n_allowed,
            "candidates": n_allowed,
        }
        items, scores = self._with_catalogue(of_user | feeds)
        out = np.full(len(allowed), -np.inf, dtype=np.float32)
        out[items[0]] = scores[0]
        return np.asarray(out[at])

    def _allowed(self, options: ListOptions) -> npt.NDArray[np.bool_]:
        """Which items may be listed, bool ``(I,)``."""
        out = np.ones(self.n_items, dtype=np.bool_)
        for name, values in (options.where or {}).items():
            out &= self._items.fields.rows_with(self.catalogue.rows, name, elements(values))
        if options.only is not None:
            chosen = np.zeros_like(out)
            chosen[self.catalogue.indices(as_ids(options.only, "only"))] = True
            out &= chosen
        return out


def load_bundle(path: str | Path, *, threads: int = 1, graph: str = RECOMMEND) -> Recommender:
    """A recommender from a bundle; every byte is checked before it is used.

    Args:
        path: folder that `evorec export` wrote.
        threads: parallel calls of the graph.
        graph: file of the graph that makes lists.
    Raises:
        RunError: a file is missing, added, damaged or of another format.
        ConfigError: onnxruntime is not installed, or the graph does not exist.
    """
    return Recommender(read_bundle(path), threads=threads, graph=graph)
