"""The items that can be listed: those of the bundle, and new items that are described by their features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from evorec.data.ids import Id
from evorec.errors import DataError
from evorec.serving.encoders import ContentParts, Fields, Float32, Int64, SideStatistics
from evorec.serving.queries import Ids, Item

Feeds = dict[str, np.ndarray]
"""Inputs of a graph by name."""
Run = Callable[[Feeds], list[np.ndarray]]
"""Runs a graph."""


@final
@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items and the arrays that lists are made of.

    Attributes:
        ids: external ids ``(I,)``.
        rows, weights: bags ``(I, F)``.
        content: float32 ``(I, D)``.
        statistics: float32 ``(I, s)``.
        n_own: items of the bundle; the others are new.
        feeds: arrays of the catalogue that replace those inside a graph; empty = none.
    """

    ids: Ids
    rows: Int64
    weights: Float32
    content: Float32
    statistics: Float32
    n_own: int
    feeds: Feeds

    def indices(self, ids: Sequence[Id]) -> list[int]:
        """Indices of the known items among some ids."""
        return [index for id_ in ids if (index := self.ids.index(id_)) is not None]


@final
@dataclass(frozen=True, eq=False)
class ItemEncoders:
    """The encoding of items that training never saw.

    Attributes:
        fields: features.
        content: parts of the content.
        statistics: of the features.
        unknown_rows, unknown_weights: bag ``(F,)`` of an item without description.
        prior: popularity term of the score of a new item.
    """

    fields: Fields
    content: ContentParts
    statistics: SideStatistics
    unknown_rows: Int64
    unknown_weights: Float32
    prior: float

    def feeds(self, items: Sequence[Item], own: Catalogue) -> Feeds:
        """Inputs of the graphs for given items: their bags ``(n, F)``, content and statistics.

        Args:
            items: n known items, or new items with a description.
            own: the catalogue of the known items.
        Raises:
            DataError: a feature or a vector cannot be used, or an unknown item has no description.
        """
        rows, weights, content, statistics = [], [], [], []
        names = self.fields.names | self.content.names
        for item in items:
            index = own.ids.index(item.id)
            if index is None and not (item.features or item.content):
                raise DataError(
                    f"the model does not know item {item.id!r}; give its features or content, it has "
                    f"{', '.join(sorted(names)) or 'none'}."
                )
            if unknown := sorted(set(item.features) - names):
                raise DataError(
                    f"the model has no item feature {unknown[0]!r}; it has: {', '.join(sorted(names)) or 'none'}."
                )
            features = {name: value for name, value in item.features.items() if name in self.fields.names}
            if index is None:
                old_rows, old_weights = self.unknown_rows, self.unknown_weights
                known, figures = None, self.statistics.nothing
            else:
                old_rows, old_weights = own.rows[index], own.weights[index]
                known, figures = own.content[index], own.statistics[index]
            bag_rows, bag_weights = self.fields.replaced(old_rows, old_weights, features)
            rows.append(bag_rows)
            weights.append(bag_weights)
            content.append(self.content.vector(item.features, item.content, known))
            is_described = index is None or features
            statistics.append(self.statistics.updated(figures, bag_rows) if is_described else figures)
        return {
            "item_rows": padded(rows),
            "item_weights": padded(weights),
            "item_content": np.stack(content).astype(np.float32),
            "item_statistics": np.stack(statistics).astype(np.float32),
        }

    def extended(
        self, own: Catalogue, new: Sequence[Item], vectors: Run, arrays: Mapping[str, np.ndarray]
    ) -> Catalogue:
        """The catalogue with new items appended.

        Args:
            own: the catalogue.
            new: described items that it does not have.
            vectors: the graph of their vectors and keys.
            arrays: of the bundle, for the parts of the catalogue that `own` does not feed.
        Raises:
            DataError: an id is known or repeated, or a description cannot be used.
        """
        ids = [item.id for item in new]
        if known := [id_ for id_ in ids if own.ids.index(id_) is not None]:
            raise DataError(f"item {known[0]!r} is in the catalogue already; only new items can be added.")
        if len(set(map(str, ids))) != len(ids):
            raise DataError("an item is to be added twice; give each new item once.")
        given = self.feeds(new, own)
        of_items, keys = vectors(given)
        more = {
            "catalogue.vectors": (of_items, 1),
            "catalogue.keys": (keys.T, 1),
            "catalogue.prior": (np.full(len(new), self.prior, dtype=np.float32), 0),
            "catalogue.statistics": (given["item_statistics"], 0),
        }
        feeds = {
            name: np.concatenate([own.feeds.get(name, arrays[name]), array], axis=axis)
            for name, (array, axis) in more.items()
        }
        n = own.rows.shape[1]  # rows of longer bags are used only for vectors: filters look at the usual columns
        return replace(
            own,
            ids=Ids([*own.ids.ids, *ids]),
            rows=np.concatenate([own.rows, given["item_rows"][:, :n]]),
            weights=np.concatenate([own.weights, given["item_weights"][:, :n]]),
            content=np.concatenate([own.content, given["item_content"]]),
            statistics=feeds["catalogue.statistics"],
            feeds=feeds,
        )


def padded(bags: Sequence[np.ndarray], padding: int = 0) -> np.ndarray:
    """Bags ``(F_i,)`` of different lengths as a single array.

    Example:
        >>> padded([np.array([1, 2]), np.array([3])])
        array([[1, 2],
               [3, 0]])
    """
    out = np.full((len(bags), max(map(len, bags))), padding, dtype=bags[0].dtype)
    for row, bag in zip(out, bags, strict=True):
        row[: len(bag)] = bag
    return out
