"""Requests to a recommender: ids, users, items, and the lists that are wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from evorec.errors import DataError

Id = int | str
"""An external id; a number may be written as text."""
_INTEGER = re.compile(r"-?[0-9]{1,19}")


@final
class Ids:
    """External ids of users or items, and the index of each.

    Args:
        ids: ``(n,)``, all numbers or all texts, without duplicates.
    """

    def __init__(self, ids: Sequence[Id]) -> None:
        self.ids = list(ids)
        self._index = {id_: index for index, id_ in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, id_: Id | np.integer[Any] | None) -> int | None:
        """Index of an id, ``None`` for an unknown id; a number may be written as text.

        Raises:
            DataError: it is neither a number nor a text.
        """
        if id_ is None:
            return None
        if isinstance(id_, np.integer):
            id_ = int(id_)
        if isinstance(id_, bool) or not isinstance(id_, int | str):
            raise DataError(f"an id must be an integer or a text, got {id_!r}.")
        found = self._index.get(id_)
        if found is None and isinstance(id_, str) and _INTEGER.fullmatch(id_):
            found = self._index.get(int(id_))
        elif found is None and isinstance(id_, int):
            found = self._index.get(str(id_))
        return found


@final
@dataclass(frozen=True)
class User:
    """A user by id, by description, or both.

    Attributes:
        id: of the user; ``None`` or an id unknown to training = a new user.
        liked: recently liked items, latest first; they precede the stored history of a known user and are not listed.
        features: user features by name; they replace those of a known user.
        context: context features by name; a missing feature has its most frequent value of training.
        exclude: items that are never listed.
    """

    id: Id | None = None
    liked: Sequence[Id] = ()
    features: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    exclude: Sequence[Id] = ()


def as_user(user: User | Id) -> User:
    """A user, also from an id."""
    return user if isinstance(user, User) else User(user)


@final
@dataclass(frozen=True)
class Item:
    """A known item, or a new item with its description.

    Attributes:
        id: of the item.
        features: item features by name; they replace those of a known item.
        content: vectors by part of the content, such as of a title; a missing part is that of the mean item.
    """

    id: Id
    features: Mapping[str, Any] = field(default_factory=dict)
    content: Mapping[str, Sequence[float]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class ListOptions:
    """Which lists are wanted; see `evorec.serving.recommender.Recommender.recommend`."""

    k: int | None = None
    seen: bool = False
    where: Mapping[str, Sequence[Any]] | None = None
    only: Sequence[Id] | None = None
    mmr: float | None = None
