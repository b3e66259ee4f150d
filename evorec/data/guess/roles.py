"""Roles of the columns of a file, by their names and values: user, item, time, kind of event, number of a rating."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

Role = Literal["user", "item", "time", "event", "rating"]
ROLES: Final[tuple[Role, ...]] = ("user", "item", "time", "event", "rating")

WORDS: Final[Mapping[Role, tuple[str, ...]]] = {
    "user": (
        "user", "visitor", "customer", "member", "reviewer", "listener", "reader", "viewer", "player", "buyer",
        "shopper", "account", "client", "person", "profile", "student", "learner", "patient", "subscriber", "guest",
        "household", "cookie", "device", "uid", "usr", "session", "basket",
    ),
    "item": (
        "item", "product", "asin", "sku", "article", "movie", "film", "video", "track", "song", "music", "artist",
        "album", "book", "isbn", "news", "story", "document", "doc", "post", "page", "content", "media", "show",
        "program", "episode", "podcast", "anime", "game", "app", "course", "lesson", "job", "offer", "listing", "hotel",
        "poi", "venue", "location", "place", "restaurant", "business", "recipe", "ad", "creative", "campaign", "goods",
        "stock", "material", "url", "iid", "mid", "pid",
    ),
    "time": (
        "timestamp", "time", "datetime", "ts", "at", "date", "day", "when", "created", "updated", "occurred", "epoch",
        "unix", "ms", "hour",
    ),
    "event": ("event", "action", "behavior", "behaviour", "interaction", "activity", "type", "kind", "feedback"),
    "rating": (
        "rating", "score", "stars", "star", "overall", "vote", "grade", "plays", "playcount", "listens", "count",
        "weight", "strength", "frequency", "times",
    ),
}  # fmt: skip
"""Words in names of columns, the most certain first."""
IDENTIFIES: Final = ("id", "ids", "key", "code", "no", "nr", "number", "hash", "uuid", "guid", "index", "idx", "onehot")
"""Words that mark a column as an identifier."""
DESCRIBES: Final = (
    "name", "title", "type", "kind", "category", "cat", "genre", "brand", "price", "count", "num", "age", "gender",
    "country", "city", "text", "description", "desc", "score", "rating", "duration", "length", "time", "date", "status",
    "level", "degree", "class", "group", "segment", "agent", "quantity", "amount",
)  # fmt: skip
"""Words that mark a column as a property of a user or item."""
LABELS: Final = (
    "click", "clicks", "clicked", "like", "liked", "likes", "buy", "bought", "purchase", "purchased", "order",
    "ordered", "cart", "carted", "basket", "share", "shared", "follow", "followed", "comment", "commented", "forward",
    "view", "viewed", "watch", "watched", "play", "played", "listen", "listened", "read", "finish", "finished",
    "complete", "completed", "label", "target", "favorite", "favourite", "fav", "save", "saved", "bookmark", "wish",
    "wishlist", "conversion", "convert", "converted", "install", "installed", "subscribe", "subscribed", "enter",
    "hate", "hated", "dislike", "disliked", "skip", "skipped", "open", "opened", "visit", "visited", "apply", "applied",
    "accept", "accepted", "rent", "rented", "download", "downloaded", "react", "reply", "retweet", "engaged",
)  # fmt: skip
"""Words in names of columns with 0 and 1 that are labels."""
UNWANTED: Final = (
    "hate", "hated", "dislike", "disliked", "skip", "skipped", "remove", "removed", "delete", "deleted", "return",
    "returned", "refund", "refunded", "cancel", "cancelled", "canceled", "unlike", "unfollow", "unsubscribe", "report",
    "complaint", "reject", "rejected", "bounce", "leave", "error", "block", "hide", "down",
)  # fmt: skip
"""Words of labels and kinds of events that say that an item was not wanted."""
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    ("click", "view", "pv", "open", "detail", "read", "play", "listen", "watch", "visit", "page", "clk", "stream"),
    ("favorite", "favourite", "fav", "like", "save", "wishlist", "wish", "bookmark", "star", "follow"),
    ("cart", "basket", "add", "checkout"),
    ("purchase", "buy", "order", "transaction", "pay", "conversion", "convert", "booking", "book", "sale", "rent"),
)
"""Steps from a first look to a purchase, in words of kinds of events."""
SHOWN: Final = ("impression", "impressions", "show", "shown", "expose", "exposure", "display", "serve", "served", "imp")
"""Words of kinds of events that the system causes."""
CONTEXT: Final = (
    "device", "platform", "os", "browser", "channel", "tab", "hour", "weekday", "dayofweek", "locale", "language",
    "lang", "app_version", "network", "medium", "position", "slot",
)  # fmt: skip
"""Words in names of columns that are known when a list is requested."""
TEXTS: Final = ("title", "name", "description", "desc", "headline", "summary", "abstract", "text", "plot", "overview")
"""Words in names of columns of items that hold text."""


def words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters; an ``id`` at the end of a word is a word.

    Example:
        >>> words("unixReviewTime"), words("visitorid"), words("User-ID")
        (('unix', 'review', 'time'), ('visitor', 'id'), ('user', 'id'))
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    found = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    parts: list[str] = []
    for word in found:
        stem = word.removesuffix("id")
        parts += [stem, "id"] if stem != word and stem in (*WORDS["user"], *WORDS["item"]) else [word]
    return tuple(parts)


def has_word(name: str, some: tuple[str, ...]) -> bool:
    """Whether a word of the name, or its singular, is among some words.

    Example:
        >>> has_word("train-users.dat", ("user",))
        True
    """
    return any(word in some or word.removesuffix("s") in some for word in words(name))


def is_code(name: str) -> bool:
    """Whether a number of that name identifies something, so that sums of it mean nothing.

    Example:
        >>> is_code("author_id"), is_code("artist"), is_code("follow_user_num")
        (True, True, False)
    """
    found = words(name)
    return any(word in IDENTIFIES for word in found) or not {*found[-1:]}.isdisjoint((*WORDS["user"], *WORDS["item"]))


def likeness(name: str, role: Role) -> float:
    """How much a name looks like that of a role; 0 = not at all.

    Example:
        >>> likeness("product_id", "item") > likeness("product_category", "item") > likeness("price", "item")
        True
    """
    found, wanted = words(name), WORDS[role]
    ranks = [wanted.index(one) for word in found for one in (word, word.removesuffix("s")) if one in wanted]
    if not ranks:
        return 0.0
    value = 10.0 - 5.0 * min(ranks) / len(wanted)
    if role in ("user", "item"):
        value += 2.0 * any(word in IDENTIFIES for word in found)
        value -= 8.0 * any(word in DESCRIBES for word in found)
        return max(value - 0.1 * len(found), 0.1)
    return value - 0.1 * len(found)
