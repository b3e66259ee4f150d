"""The items that can be listed: those of the bundle, and new ones that are described by their features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.serving.encoders import ContentParts, Fields, SideStatistics
from evorec.serving.ids import Ids
from evorec.serving.queries import Id, Item

Feeds = dict[str, np.ndarray]
"""Inputs of a graph by name."""
Run = Callable[[Feeds], list[np.ndarray]]
"""Runs a graph."""


@final
@dataclass(frozen=True, eq=False)
class ItemEncoders:
    """How an item that training never saw is described.

    Attributes:
        fields: its features.
        content: its content.
        statistics: those of its features.
        unknown_rows, unknown_weights: bag ``(F,)`` of an item of which nothing is known.
        prior: what popularity adds to its score.
    """

    fields: Fields
    content: ContentParts
    statistics: SideStatistics
    unknown_rows: npt.NDArray[np.int64]
    unknown_weights: npt.NDArray[np.float32]
    prior: float


@final
@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items and what a list needs of them.

    Attributes:
        ids: external ids ``(I,)``.
        rows, weights: bags ``(I, F)``.
        content: float32 ``(I, D)``.
        statistics: float32 ``(I, s)``.
        n_own: items that the bundle has; the others are new.
        feeds: arrays of the catalogue that a graph is to read; none = its own.
    """

    ids: Ids
    rows: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    content: npt.NDArray[np.float32]
    statistics: npt.NDArray[np.float32]
    n_own: int
    feeds: Feeds

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.ids)

    @cached_property
    def everything(self) -> npt.NDArray[np.bool_]:
        """That every item may be listed, bool ``(I,)``."""
        return np.ones(self.n_items, dtype=np.bool_)

    def places(self, ids: Sequence[Id], what: str, *, strict: bool) -> list[int]:
        """Places of known items.

        Args:
            ids: external ids.
            what: they are, for the message.
            strict: whether an unknown id is an error; else it is left out.
        """
        if isinstance(ids, str | int):
            raise DataError(f"{what} must be a list of ids, got {ids!r}.")
        found = [(one, self.ids.place(one)) for one in ids]
        unknown = [one for one, place in found if place is None]
        if unknown and strict:
            raise DataError(
                f"{what}: the model does not know item {unknown[0]!r}"
                + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
                + "; describe a new item by its features."
            )
        return [place for _, place in found if place is not None]


def describe(items: Sequence[Item], own: Catalogue, encoders: ItemEncoders) -> Feeds:
    """Inputs of the graphs for items that are given: their bags ``(n, F)``, content and statistics.

    Args:
        items: known ones, whose given features replace what training knew, or new ones.
        own: the catalogue that knows them.
        encoders: for the others.
    Raises:
        DataError: a feature or a vector cannot be used, or nothing is said of an item that is not known.
    """
    rows, weights, content, statistics = [], [], [], []
    for item in items:
        place = own.ids.place(item.id)
        if place is None and not (item.features or item.content):
            raise DataError(
                f"the model does not know item {item.id!r}; give its features or content, it has "
                f"{', '.join([*encoders.fields.fields, *sorted(encoders.content.names)]) or 'none'}."
            )
        _check_features(item, encoders)
        if place is None:
            own_rows, own_weights = encoders.unknown_rows, encoders.unknown_weights
        else:
            own_rows, own_weights = own.rows[place], own.weights[place]
        features = {name: value for name, value in item.features.items() if name in encoders.fields.fields}
        bag = encoders.fields.replaced(own_rows, own_weights, features)
        rows.append(bag[0])
        weights.append(bag[1])
        content.append(
            encoders.content.vector(item.features, item.content, None if place is None else own.content[place])
        )
        known = None if place is None else own.statistics[place]
        of_new = encoders.statistics.of_new
        statistics.append(
            of_new(bag[0]) if known is None else encoders.statistics.updated(known, bag[0]) if features else known
        )
    return {
        "item_rows": padded(rows),
        "item_weights": padded(weights),
        "item_content": np.stack(content).astype(np.float32),
        "item_statistics": np.stack(statistics).astype(np.float32),
    }


def extended(
    own: Catalogue, new: Sequence[Item], encoders: ItemEncoders, vectors: Run, arrays: Mapping[str, np.ndarray]
) -> Catalogue:
    """The catalogue with new items behind its own.

    Args:
        own: without them.
        new: items, each of which must be new and described.
        encoders: for them.
        vectors: the graph that gives their vectors and keys.
        arrays: of the bundle, for what `own` does not feed.
    Raises:
        DataError: an id is known already or stands twice, or a description cannot be used.
    """
    ids = [item.id for item in new]
    if known := [one for one in ids if own.ids.place(one) is not None]:
        raise DataError(f"item {known[0]!r} is in the catalogue already; only new items can be added.")
    if len(set(map(str, ids))) != len(ids):
        raise DataError("an item is to be added twice; give each new item once.")
    given = describe(new, own, encoders)
    of_items, keys = vectors(given)

    def grown(name: str, more: np.ndarray, axis: int) -> np.ndarray:
        return np.concatenate([own.feeds.get(name, arrays[name]), more], axis=axis)

    prior = np.full(len(new), encoders.prior, dtype=np.float32)
    feeds = {
        "catalogue.vectors": grown("catalogue.vectors", of_items, 1),
        "catalogue.keys": grown("catalogue.keys", keys.T, 1),
        "catalogue.prior": grown("catalogue.prior", prior, 0),
        "catalogue.statistics": grown("catalogue.statistics", given["item_statistics"], 0),
    }
    n = own.rows.shape[1]
    return Catalogue(
        ids=Ids([*own.ids.ids, *ids]),
        rows=np.concatenate([own.rows, given["item_rows"][:, :n]]),
        weights=np.concatenate([own.weights, given["item_weights"][:, :n]]),
        content=np.concatenate([own.content, given["item_content"]]),
        statistics=feeds["catalogue.statistics"],
        n_own=own.n_own,
        feeds=feeds,
    )


def padded(bags: Sequence[np.ndarray]) -> np.ndarray:
    """Bags ``(F_i,)`` of different lengths as one array, 0 where a bag is shorter.

    Example:
        >>> padded([np.array([1, 2]), np.array([3])])
        array([[1, 2],
               [3, 0]])
    """
    out = np.zeros((len(bags), max(map(len, bags), default=0)), dtype=bags[0].dtype if bags else np.int64)
    for line, bag in zip(out, bags, strict=True):
        line[: len(bag)] = bag
    return out


def _check_features(item: Item, encoders: ItemEncoders) -> None:
    known = set(encoders.fields.fields) | encoders.content.names
    if unknown := sorted(set(item.features) - known):
        raise DataError(f"the model has no item feature {unknown[0]!r}; it has: {', '.join(sorted(known)) or 'none'}.")
