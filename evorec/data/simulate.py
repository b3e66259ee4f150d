"""A simulated feed with three tasks whose agreement is known, for demonstrations and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, Tables
from evorec.seeds import generator

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TASKS: Final = ("click", "like", "purchase")
RATES: Final = {"click": 0.30, "like": 0.10, "purchase": 0.04}
"""Share of impressions with each label; every bias is set to meet it."""
FIRST_SECOND: Final = 1_704_067_200
"""2024-01-01 00:00 UTC."""

TASTE_SCALE: Final = 3.5
"""Logit of a click when taste and item agree perfectly; sets how far a personal list beats popularity."""
QUALITY_SCALE: Final = 0.5
HOUR_SCALE: Final = 0.3
PRICE_SCALE: Final = 0.4
LIKED_BONUS: Final = 0.5
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


def simulate(config: SimulatorConfig) -> Tables:
    """Impressions of a feed, generated as follows.

    1. *Taste.* Categories have random unit directions in ``n_factors`` dimensions. An item is its category's direction
       plus noise; a user is two categories' directions plus noise; both are unit vectors. A user moves in a straight
       line towards a second taste and has covered ``drift`` of the way on the last day.
    2. *Exposure.* Users differ in activity (log-normal), hours follow a daily rhythm. The feed draws a category by the
       user's taste, then an item of it by Zipf popularity; with probability growing to ``drift`` the popularity of the
       last day is used, a second order of the same items. A pair seldom repeats. ``new_item_share`` of the items come
       during the log, each at a random moment before which nobody is shown it; every category has items from the start.
    3. *Tasks.* The logit of a task is taste x item + item quality + hour of day. Click uses the taste as it is; for
       like and purchase taste and quality are turned by ``conflict_angle_deg``, in two different sets of planes. At 0
       one taste drives all tasks and sharing is free; at 90 a click says nothing about a like; at 180 people click
       what they do not like. Purchase also falls with the price and rises after a like.
    4. *Funnel.* Like and purchase happen only after a click and are 0 without one. Biases are set so that
       30 % of impressions are clicked, 10 % liked, 4 % purchased.

    Candidates see the item's category, price and a noisy view of its taste (``content``), the user's segment (a noisy
    favourite category) and tenure (related to nothing), and the hour.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    Returns:
        Tables in order of time with tasks click, like and purchase, from 2024-01-01 UTC on.
    """
    world = _World.draw(config)
    log = _Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-features")
    return Tables(
        name="simulator",
        interactions=_log_table(log, _labels(config, world, log)),
        tasks=TASKS,
        users=_user_table(world, rng),
        items=_item_table(world, rng),
        context=(Feature("hour", "categorical"),),
        user_features=(Feature("segment", "categorical"), Feature("tenure_days", "numeric")),
        item_features=(Feature("category", "categorical"), Feature("price", "numeric")),
        content=("content", "category"),
    )


@final
@dataclass(frozen=True, eq=False)
class _World:
    """Who and what there is: unit rows ``(C, D)``, ``(U, D)`` twice, ``(I, D)``; categories and prices ``(I,)``."""

    categories: Float64
    first_taste: Float64
    last_taste: Float64
    items: Float64
    category_of: Int64
    price: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig) -> _World:
        rng = generator(config.seed, "simulate-world")
        width = config.n_factors
        n_categories = min(config.n_categories, config.n_items)
        categories = _unit(rng.normal(size=(n_categories, width)))
        category_of = rng.permutation(np.arange(config.n_items) % n_categories)  # no category is empty
        items = _mixed(categories[category_of], CATEGORY_SHARE, rng)
        tastes = [_tastes(config.n_users, categories, rng) for _ in range(2)]
        return cls(categories, tastes[0], tastes[1], items, category_of, rng.lognormal(3.0, 0.6, config.n_items))

    def taste(self, users: Int64, progress: Float64) -> Float64:
        """Unit tastes ``(N, D)`` of users when ``progress (N,)`` of the way to the last taste is covered."""
        share = progress[:, None]
        return _unit((1 - share) * self.first_taste[users] + share * self.last_taste[users])


@final
@dataclass(frozen=True, eq=False)
class _Exposure:
    """What was shown, in order of time; all ``(N,)``. ``progress`` is how far the world has drifted."""

    users: Int64
    items: Int64
    time: Int64
    hours: Int64
    progress: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: _World) -> _Exposure:
        rng = generator(config.seed, "simulate-exposure")
        n = config.n_interactions
        activity = rng.lognormal(0.0, 0.7, config.n_users)
        users = rng.choice(config.n_users, n, p=activity / activity.sum())
        rhythm = 1.2 + np.cos(2 * np.pi * (np.arange(24) - 20) / 24)  # the evening is busiest, at 20 h
        seconds = rng.choice(24, n, p=rhythm / rhythm.sum()) * 3600 + rng.integers(0, 3600, n)
        offset = np.sort(rng.integers(0, config.n_days, n) * SECONDS_PER_DAY + seconds)
        arrival = _arrivals(config, world)
        progress = config.drift * offset / (config.n_days * SECONDS_PER_DAY)
        taste = world.taste(users, progress)
        popularity = [_Popularity.draw(config, world, rng) for _ in range(2)]

        items = np.full(n, -1)
        again = np.arange(n)
        for _ in range(1 + REDRAWS):
            chosen = _choose_categories(EXPOSURE_SCALE * taste[again] @ world.categories.T, rng)
            late = rng.random(len(again)) < progress[again]
            place = rng.random(len(again))
            items[again] = np.where(late, popularity[1].pick(chosen, place), popularity[0].pick(chosen, place))
            early = np.flatnonzero(arrival[items] > offset)
            again = np.union1d(_repeats(users * config.n_items + items), early)
            if len(again) == 0:
                break
        early = np.flatnonzero(arrival[items] > offset)
        items[early] = _first_of_each(np.where(arrival == 0, world.category_of, -1))[world.category_of[items[early]]]
        return cls(users, items, FIRST_SECOND + offset, offset % SECONDS_PER_DAY // 3600, progress)


@final
@dataclass(frozen=True, eq=False)
class _Popularity:
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
    def draw(cls, config: SimulatorConfig, world: _World, rng: np.random.Generator) -> _Popularity:
        items = rng.permutation(config.n_items)
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


def _labels(config: SimulatorConfig, world: _World, log: _Exposure) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-labels")
    taste = world.taste(log.users, log.progress)
    angle = np.deg2rad(config.conflict_angle_deg)
    quality = rng.normal(size=(config.n_items, config.n_factors)) / np.sqrt(config.n_factors)
    ones = np.ones(config.n_factors)
    evening = np.cos(2 * np.pi * (log.hours - 20) / 24)
    labels: dict[str, Mask] = {}
    shown = np.ones(len(log.users), dtype=np.bool_)
    for task in TASKS:
        turn = np.eye(config.n_factors) if task == "click" else _rotation(config.n_factors, angle, rng)
        logit = TASTE_SCALE * np.einsum("nd,nd->n", taste @ turn, world.items[log.items])
        logit += QUALITY_SCALE * (quality @ (ones @ turn))[log.items] + HOUR_SCALE * evening
        if task == "purchase":
            log_price = np.log(world.price)
            logit += LIKED_BONUS * labels["like"] - PRICE_SCALE * (log_price - log_price.mean())[log.items]
        applies = shown if task == "click" else labels["click"]
        chance = _sigmoid(logit + _bias(logit[applies], RATES[task] * len(shown)))
        labels[task] = applies & (rng.random(len(shown)) < chance)
    return labels


def _bias(logits: Float64, expected: float) -> float:
    """Number to add so that the chances of ``logits (N,)`` add up to ``expected``, by bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).sum() < expected else (low, middle)
    return (low + high) / 2


def _rotation(width: int, angle: float, rng: np.random.Generator) -> Float64:
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
    return _mixed(_unit(categories[favourites[:, 0]] + 0.6 * categories[favourites[:, 1]]), CATEGORY_SHARE, rng)


def _mixed(directions: Float64, share: float, rng: np.random.Generator) -> Float64:
    """Unit rows ``(N, D)`` with a cosine of about ``share`` to ``directions``."""
    noise = _unit(rng.normal(size=directions.shape))
    return _unit(share * directions + np.sqrt(1 - share**2) * noise)


def _choose_categories(logits: Float64, rng: np.random.Generator) -> Int64:
    """One category per row of ``logits (N, C)``, by softmax (the Gumbel maximum)."""
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=1))


def _arrivals(config: SimulatorConfig, world: _World) -> Int64:
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


def _repeats(keys: Int64) -> Int64:
    """Places ``(R,)`` whose key occurred before."""
    first = np.unique(keys, return_index=True)[1]
    return np.setdiff1d(np.arange(len(keys)), first, assume_unique=True)


def _log_table(log: _Exposure, labels: dict[str, Mask]) -> pl.DataFrame:
    moments = {Columns.USER: log.users, Columns.ITEM: log.items, Columns.TIME: log.time, "hour": log.hours}
    return pl.DataFrame({**moments, **labels})


def _user_table(world: _World, rng: np.random.Generator) -> pl.DataFrame:
    favourite = np.argmax(world.first_taste @ world.categories.T, axis=1)
    any_category = rng.integers(0, len(world.categories), len(favourite))
    segment = np.where(rng.random(len(favourite)) < SEGMENT_SHARE, favourite, any_category)
    tenure = rng.integers(1, 2000, len(favourite))
    return pl.DataFrame({Columns.USER: np.arange(len(favourite)), "segment": segment, "tenure_days": tenure})


def _item_table(world: _World, rng: np.random.Generator) -> pl.DataFrame:
    content = _mixed(world.items, CONTENT_SHARE, rng)
    return pl.DataFrame(
        {
            Columns.ITEM: np.arange(len(world.items)),
            "category": world.category_of,
            "price": world.price.round(2),
            "content": pl.Series(content.round(4).tolist(), dtype=pl.List(pl.Float64)),
        }
    )


def _unit(rows: Float64) -> Float64:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _sigmoid(logits: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-logits)))
