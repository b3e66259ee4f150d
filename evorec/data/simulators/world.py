"""What the simulated worlds share: categories, tastes, popularity, what is shown when, and how labels are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature
from evorec.seeds import generator

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

FIRST_SECOND: Final = 1_704_067_200
"""2024-01-01 00:00 UTC."""

TASTE_SCALE: Final = 3.5
"""Logit of a click when taste and item agree perfectly; sets how far a personal list beats popularity."""
QUALITY_SCALE: Final = 0.5
HOUR_SCALE: Final = 0.3
PRICE_SCALE: Final = 0.4
EXPOSURE_SCALE: Final = 2.5
"""How strongly the feed already favours the categories a user likes."""
CATEGORY_SHARE: Final = 0.7
"""Part of an item's taste that its category explains, as the cosine between the two."""
CONTENT_SHARE: Final = 0.8
"""Cosine between an item's content vector and its taste, about."""
SEGMENT_SHARE: Final = 0.7
"""Share of users whose segment is the category they like best; the others' is drawn at random."""
REDRAWS: Final = 8
"""How often an impression that repeats a pair is drawn again before the repeat is kept."""

HOUR: Final = (Feature("hour", "categorical"),)
USER_FEATURES: Final = (Feature("segment", "categorical"), Feature("tenure_days", "numeric"))
ITEM_FEATURES: Final = (Feature("category", "categorical"), Feature("price", "numeric"))
"""Features of `log_table`, `user_table` and `item_table`."""


@final
@dataclass(frozen=True, eq=False)
class World:
    """Who and what there is: unit rows ``(C, D)``, ``(U, D)`` twice, ``(I, D)``; categories and prices ``(I,)``."""

    categories: Float64
    first_taste: Float64
    last_taste: Float64
    items: Float64
    category_of: Int64
    price: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig) -> World:
        """Categories have random unit directions; an item is its category's plus noise, a user two of them."""
        rng = generator(config.seed, "simulate-world")
        width = config.n_factors
        n_categories = min(config.n_categories, config.n_items)
        categories = unit(rng.normal(size=(n_categories, width)))
        category_of = rng.permutation(np.arange(config.n_items) % n_categories)  # no category is empty
        items = mixed(categories[category_of], CATEGORY_SHARE, rng)
        tastes = [_tastes(config.n_users, categories, rng) for _ in range(2)]
        return cls(categories, tastes[0], tastes[1], items, category_of, rng.lognormal(3.0, 0.6, config.n_items))

    def taste(self, users: Int64, progress: Float64) -> Float64:
        """Unit tastes ``(N, D)`` of users when ``progress (N,)`` of the way to the last taste is covered."""
        share = progress[:, None]
        return unit((1 - share) * self.first_taste[users] + share * self.last_taste[users])

    def favourites(self) -> Int64:
        """The category that each user likes best on the first day, ``(U,)``."""
        return np.asarray(np.argmax(self.first_taste @ self.categories.T, axis=1))


@final
@dataclass(frozen=True, eq=False)
class Exposure:
    """What was shown, in order of time; all ``(N,)``. ``progress`` is how far the world has drifted."""

    users: Int64
    items: Int64
    time: Int64
    hours: Int64
    progress: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World, *, order: Int64 | None = None) -> Exposure:
        """Active users get items of the categories they like, popular ones more often; see the feed's docstring.

        Args:
            config: sizes, popularity, drift and seed.
            world: who and what there is.
            order: items ``(I,)``, the most shown first; ``None`` = at random, anew for the last day.
        """
        rng = generator(config.seed, "simulate-exposure")
        n = config.n_interactions
        users = active_users(config, n, rng)
        offset = np.sort(moments(config, n, rng))
        arrival = _arrivals(config, world)
        progress = config.drift * offset / (config.n_days * SECONDS_PER_DAY)
        taste = world.taste(users, progress)
        popularity = [Popularity.draw(config, world, rng, order=order) for _ in range(2)]

        items = np.full(n, -1)
        again = np.arange(n)
        for _ in range(1 + REDRAWS):
            chosen = choose(EXPOSURE_SCALE * taste[again] @ world.categories.T, rng)
            late = rng.random(len(again)) < progress[again]
            place = rng.random(len(again))
            items[again] = np.where(late, popularity[1].pick(chosen, place), popularity[0].pick(chosen, place))
            early = np.flatnonzero(arrival[items] > offset)
            again = np.union1d(repeats(users * config.n_items + items), early)
            if len(again) == 0:
                break
        early = np.flatnonzero(arrival[items] > offset)
        items[early] = _first_of_each(np.where(arrival == 0, world.category_of, -1))[world.category_of[items[early]]]
        return cls(users, items, FIRST_SECOND + offset, offset % SECONDS_PER_DAY // 3600, progress)

    @property
    def days(self) -> Int64:
        """Day of the log, from 0 on, ``(N,)``."""
        return (self.time - FIRST_SECOND) // SECONDS_PER_DAY

    def match(self, world: World, turn: Float64 | None = None) -> Float64:
        """Cosine of taste and item in each row ``(N,)``; `turn` ``(D, D)`` turns the taste first."""
        taste = world.taste(self.users, self.progress)
        return agreement(taste if turn is None else taste @ turn, world.items[self.items])


@final
@dataclass(frozen=True, eq=False)
class Popularity:
    """Zipf popularity inside each category.

    Args:
        items: ``(I,)``, grouped by category, the most popular of each first.
        running: ``(I,)``, ascending: number of the category plus the share up to and with this item.
        first: ``(C + 1,)``, where each category begins.
    """

    items: Int64
    running: Float64
    first: Int64

    @classmethod
    def draw(
        cls, config: SimulatorConfig, world: World, rng: np.random.Generator, *, order: Int64 | None = None
    ) -> Popularity:
        """A popularity of the items in `order`, or in a random order."""
        items = rng.permutation(config.n_items) if order is None else order
        items = items[np.argsort(world.category_of[items], kind="stable")]
        category = world.category_of[items]
        first = np.searchsorted(category, np.arange(len(world.categories) + 1))
        weight = (1.0 + np.arange(config.n_items) - first[category]) ** -config.zipf_exponent
        running: Float64 = np.cumsum(weight / np.bincount(category, weight)[category])
        return cls(items, running, first)

    def pick(self, categories: Int64, place: Float64) -> Int64:
        """Items ``(N,)`` at ``place (N,)`` in [0, 1) of the running share inside their category."""
        found = np.searchsorted(self.running, categories + place, side="right")
        return self.items[np.clip(found, self.first[categories], self.first[categories + 1] - 1)]


def active_users(config: SimulatorConfig, n: int, rng: np.random.Generator) -> Int64:
    """Who comes, ``(n,)``; users differ in activity (log-normal)."""
    activity = rng.lognormal(0.0, 0.7, config.n_users)
    return rng.choice(config.n_users, n, p=activity / activity.sum())


def moments(config: SimulatorConfig, n: int, rng: np.random.Generator) -> Int64:
    """Seconds since the beginning of the log ``(n,)``; the evening is busiest, at 20 h."""
    rhythm = 1.2 + np.cos(2 * np.pi * (np.arange(24) - 20) / 24)
    seconds = rng.choice(24, n, p=rhythm / rhythm.sum()) * 3600 + rng.integers(0, 3600, n)
    return np.asarray(rng.integers(0, config.n_days, n) * SECONDS_PER_DAY + seconds)


def evening(hours: Int64) -> Float64:
    """How near to 20 h ``(N,)``, from -1 to 1."""
    return np.asarray(np.cos(2 * np.pi * (hours - 20) / 24))


def happens(logit: Float64, among: Mask, share: float, rng: np.random.Generator) -> Mask:
    """Draws a label.

    Args:
        logit: ``(N,)``; a number is added to all of them so that `share` holds.
        among: ``(N,)``, rows that can have the label.
        share: of all N rows that have it, expected.
        rng: of the label.
    """
    chance = sigmoid(logit + bias(logit[among], share * len(logit)))
    return among & (rng.random(len(logit)) < chance)


def bias(logits: Float64, expected: float) -> float:
    """Number to add so that the chances of ``logits (N,)`` add up to ``expected``, by bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logits + middle).sum() < expected else (low, middle)
    return (low + high) / 2


def turned(width: int, angle: float, rng: np.random.Generator) -> Float64:
    """Turn by ``angle`` in width // 2 random planes, ``(D, D)``: every vector in them moves by exactly that angle.

    With an odd width one direction stays in place.
    """
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
    turn = np.eye(width)
    for first in range(0, width - 1, 2):
        plane = slice(first, first + 2)
        turn[plane, plane] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(basis @ turn @ basis.T)


def _tastes(n_users: int, categories: Float64, rng: np.random.Generator) -> Float64:
    favourites = rng.integers(0, len(categories), (n_users, 2))
    return mixed(unit(categories[favourites[:, 0]] + 0.6 * categories[favourites[:, 1]]), CATEGORY_SHARE, rng)


def mixed(directions: Float64, share: float, rng: np.random.Generator) -> Float64:
    """Unit rows ``(N, D)`` with a cosine of about ``share`` to ``directions``."""
    noise = unit(rng.normal(size=directions.shape))
    return unit(share * directions + np.sqrt(1 - share**2) * noise)


def noisy(values: Int64, n_values: int, share: float, rng: np.random.Generator) -> Int64:
    """The values ``(N,)`` where a coin of `share` says so, elsewhere any of ``0 .. n_values - 1``."""
    anything = rng.integers(0, n_values, len(values))
    return np.where(rng.random(len(values)) < share, values, anything)


def choose(logits: Float64, rng: np.random.Generator) -> Int64:
    """One category per row of ``logits (N, C)``, by softmax (the Gumbel maximum)."""
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=1))


def _arrivals(config: SimulatorConfig, world: World) -> Int64:
    """Second of the log from which an item may be shown, ``(I,)``; 0 for at least one item of each category."""
    rng = generator(config.seed, "simulate-arrivals")
    moments = rng.integers(1, config.n_days * SECONDS_PER_DAY, config.n_items)
    is_new = rng.random(config.n_items) < config.new_item_share
    is_new[_first_of_each(world.category_of)] = False
    return np.where(is_new, moments, 0)


def _first_of_each(categories: Int64) -> Int64:
    """The first item of each category, ``(C,)``; items of category -1 do not count."""
    found, first = np.unique(categories, return_index=True)
    return first[found >= 0]


def repeats(keys: Int64) -> Int64:
    """Places ``(R,)`` whose key occurred before."""
    first = np.unique(keys, return_index=True)[1]
    return np.setdiff1d(np.arange(len(keys)), first, assume_unique=True)


def log_table(log: Exposure, labels: Mapping[str, npt.NDArray[np.generic] | pl.Series]) -> pl.DataFrame:
    """The interactions, with the hour and the labels ``(N,)``."""
    shown = {Columns.USER: log.users, Columns.ITEM: log.items, Columns.TIME: log.time, "hour": log.hours}
    return pl.DataFrame({**shown, **labels})


def user_table(world: World, rng: np.random.Generator) -> pl.DataFrame:
    """Users with a segment, which is their noisy favourite category, and a tenure that is related to nothing."""
    segment = noisy(world.favourites(), len(world.categories), SEGMENT_SHARE, rng)
    tenure = rng.integers(1, 2000, len(segment))
    return pl.DataFrame({Columns.USER: np.arange(len(segment)), "segment": segment, "tenure_days": tenure})


def item_table(world: World, rng: np.random.Generator) -> pl.DataFrame:
    """Items with category, price and ``content``, a noisy view of their taste."""
    return pl.DataFrame(
        {
            Columns.ITEM: np.arange(len(world.items)),
            "category": world.category_of,
            "price": world.price.round(2),
            "content": vectors(mixed(world.items, CONTENT_SHARE, rng)),
        }
    )


def vectors(rows: Float64) -> pl.Series:
    """Rows ``(N, D)`` as a column of lists, with four digits."""
    return pl.Series(rows.round(4).tolist(), dtype=pl.List(pl.Float64))


def agreement(left: Float64, right: Float64) -> Float64:
    """Dot product of each row of ``left (N, D)`` with its row of ``right (N, D)``, ``(N,)``."""
    return np.asarray(np.einsum("nd,nd->n", left, right))


def unit(rows: Float64) -> Float64:
    """Rows ``(N, D)`` of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def sigmoid(logits: Float64) -> Float64:
    """The logistic function of ``logits (N,)``."""
    return np.asarray(1 / (1 + np.exp(-logits)))
