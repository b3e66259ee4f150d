"""Requests to a recommender: ids, users, items, and the lists that are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from evorec.data.ids import Id, as_id, as_ids, listed, other_spelling
from evorec.errors import DataError


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

    def index(self, id_: Any) -> int | None:
        """Index of an id, ``None`` for an unknown or missing id; a number may be written as text (`evorec.data.ids`).

        Raises:
            DataError: it cannot be an id.
        """
        exact = as_id(id_)
        if exact is None:
            return None
        other = other_spelling(exact)
        return self._index.get(exact, None if other is None else self._index.get(other))


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


def as_users(users: Iterable[User | Id]) -> list[User]:
    """Users, also from ids; those of any list, array or column.

    Raises:
        DataError: there is none, or a single user instead of a list.
    """
    found = [as_user(user) for user in listed(users, "users")]
    if not found:
        raise DataError("recommend needs at least 1 user, got 0.")
    return found


def as_user(user: User | Id) -> User:
    """A user, also from an id.

    Raises:
        DataError: an id that cannot be used, or an id instead of a list of liked or excluded items.
    """
    if not isinstance(user, User):
        return User(as_id(user))
    liked, exclude = (() if ids is None else ids for ids in (user.liked, user.exclude))
    ids = as_id(user.id), tuple(as_ids(liked, "liked")), tuple(as_ids(exclude, "exclude"))
    return User(ids[0], ids[1], user.features, user.context, ids[2])


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


def as_items(items: Iterable[Item | Id]) -> list[Item]:
    """Items, also from ids.

    Raises:
        DataError: a single item instead of a list, or an id that cannot be used.
    """
    found = [item if isinstance(item, Item) else Item(item) for item in listed(items, "items")]
    out = []
    for item in found:
        if (id_ := as_id(item.id)) is None:
            raise DataError(f"an item needs an id, got {item.id!r}.")
        out.append(replace(item, id=id_))
    return out


@final
@dataclass(frozen=True)
class ListOptions:
    """Which lists are wanted; see `evorec.serving.recommender.Recommender.recommend`."""

    k: int | None = None
    seen: bool = False
    where: Mapping[str, Iterable[Any]] | None = None
    only: Iterable[Id] | None = None
    mmr: float | None = None
