"""What is asked of a recommender: for whom, and about which items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

Id = int | str
"""An id of the caller's own; a number may be written as text."""


@final
@dataclass(frozen=True)
class User:
    """Who asks: a known id, or what is known of somebody new.

    Attributes:
        id: of the user; ``None`` or one that training never saw = somebody new.
        liked: items liked lately, latest first; they come before the stored past of a known user and are not listed.
        features: user features by name; of a known user they replace what training knew.
        context: features of the moment by name; what is not given is as most often in training.
        exclude: items never listed.
    """

    id: Id | None = None
    liked: Sequence[Id] = ()
    features: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    exclude: Sequence[Id] = ()


def as_user(one: User | Id) -> User:
    """The user, or the one of an id."""
    return one if isinstance(one, User) else User(one)


@final
@dataclass(frozen=True)
class Item:
    """A known item, or a new one with what is known of it.

    Attributes:
        id: of the item.
        features: item features by name; of a known item they replace what training knew.
        content: vectors by part of the content, such as of a title; a part that is not given is as in the mean item.
    """

    id: Id
    features: Mapping[str, Any] = field(default_factory=dict)
    content: Mapping[str, Sequence[float]] = field(default_factory=dict)
