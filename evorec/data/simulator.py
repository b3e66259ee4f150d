"""Shared parts of the simulated worlds: categories, tastes, popularity, exposure, and how labels are drawn.

The module of a problem contains its world: a section of settings, and a function from these settings to tables, which
it passes to `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar, final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from evorec.config import SIMULATORS, SimulatedConfig, Simulator, SimulatorConfig
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables, categorical, numeric
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
"""How strongly the feed already prefers the categories that a user likes."""
CATEGORY_SHARE: Final = 0.7
"""Cosine between the taste vector of an item and the direction of its category."""
CONTENT_SHARE: Final = 0.8
"""Approximate cosine between an item's content vector and its taste vector."""
SEGMENT_SHARE: Final = 0.7
"""Share of users whose segment is their favourite category; other segments are random."""
REDRAWS: Final = 8
"""Times that an impression which repeats a user-item pair is drawn again before the repetition is kept."""


USER_FEATURES: Final = categorical("segment") + numeric("tenure_days")
ITEM_FEATURES: Final = categorical("category") + numeric("price")
"""Features of `user_table` and `item_table`."""

ConflictAngle = Annotated[
    float,
    Field(ge=0, le=180, description="angle between the tasks' preference directions, in degrees; 0 = tasks agree"),
]


class WorldConfig(SimulatorConfig):
    """Settings of worlds with categories, tastes and popularity."""

    n_interactions: int = Field(60_000, ge=10, le=20_000_000, description="impressions in the log")
    n_categories: int = Field(12, ge=1, le=1000, description="item categories")
    zipf_exponent: float = Field(0.9, ge=0, le=3, description="popularity exponent; 0 = uniform")
    drift: float = Field(0.3, ge=0, le=1, description="share of taste and popularity that moves from first to last day")

    def array_sizes(self) -> dict[str, int]:
        """See `SimulatedConfig.array_sizes`."""
        sizes = {"n_factors": self.n_factors, "n_categories": min(self.n_categories, self.n_items)}
        return super().array_sizes() | {
            f"n_interactions x {name}": self.n_interactions * n for name, n in sizes.items()
        }


class ExposureConfig(WorldConfig):
    """Settings of worlds whose items are shown as `Exposure` draws them."""

    new_item_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of items that are first shown at a random moment; 0 = all from the first day",
    )


C = TypeVar("C", bound=SimulatedConfig)


def register(settings: type[C], simulate: Callable[[C], Tables]) -> None:
    """Register a simulated world under the default of its setting ``scenario``."""
    SIMULATORS.register(settings.model_fields["scenario"].default, Simulator(settings, simulate))


def simulate(config: SimulatedConfig) -> Tables:
    """The tables of a simulated world; equal settings give equal tables."""
    tables: Tables = SIMULATORS[config.scenario].simulate(config)
    return tables


@final
@dataclass(frozen=True, eq=False)
class World:
    """Tastes, items and categories.

    Attributes:
        categories: unit rows ``(C, D)``.
        first_taste: of each user on the first day, unit rows ``(U, D)``.
        last_taste: of each user when the whole way is covered, unit rows ``(U, D)``.
        items: unit rows ``(I, D)``.
        category_of: each item's category, ``(I,)``.
        price: of each item, ``(I,)``.
    """

    categories: Float64
    first_taste: Float64
    last_taste: Float64
    items: Float64
    category_of: Int64
    price: Float64

    @classmethod
    def draw(cls, config: WorldConfig) -> World:
        """Categories have random directions; an item is its category plus noise, a user two categories plus noise."""
        rng = generator(config.seed, "simulate-world")
        categories = unit(rng.normal(size=(min(config.n_categories, config.n_items), config.n_factors)))
        category_of = rng.permutation(np.arange(config.n_items) % len(categories))  # no category is empty
        items = mixed(categories[category_of], CATEGORY_SHARE, rng)
        tastes = []
        for _ in range(2):
            first, second = rng.integers(0, len(categories), (config.n_users, 2)).T
            tastes.append(mixed(unit(categories[first] + 0.6 * categories[second]), CATEGORY_SHARE, rng))
        return cls(categories, tastes[0], tastes[1], items, category_of, rng.lognormal(3.0, 0.6, config.n_items))

    def taste(self, users: Int64, progress: Float64) -> Float64:
        """Unit tastes ``(N, D)`` of users that have covered ``progress (N,)`` of the way to their last taste."""
        share = progress[:, None]
        return unit((1 - share) * self.first_taste[users] + share * self.last_taste[users])

    def favourites(self) -> Int64:
        """Favourite category of each user on the first day, ``(U,)``."""
        return np.asarray(np.argmax(self.first_taste @ self.categories.T, axis=1))

    def log_price(self) -> Float64:
        """Logarithm of each price, minus the mean, ``(I,)``."""
        log_price = np.log(self.price)
        return np.asarray(log_price - log_price.mean())


@final
@dataclass(frozen=True, eq=False)
class Exposure:
    """Impressions in order of time; all ``(N,)``. ``progress`` is how far the tastes have drifted."""

    users: Int64
    items: Int64
    time: Int64
    hours: Int64
    progress: Float64

    @classmethod
    def draw(cls, config: ExposureConfig, world: World, *, order: Int64 | None = None) -> Exposure:
        """Active users get popular items of the categories that they like; see the docstring of the feed.

        Args:
            config: sizes, popularity, drift and seed.
            world: tastes and items.
            order: items ``(I,)`` by popularity, the most popular first; ``None`` = at random, anew for the last day.
        """
        rng = generator(config.seed, "simulate-exposure")
        n = config.n_interactions
        users = active_users(config, n, rng)
        offset = np.sort(moments(config, n, rng))
        progress = config.drift * offset / (config.n_days * SECONDS_PER_DAY)
        taste = world.taste(users, progress)
        popularity = [Popularity.draw(config, world, rng, order=order) for _ in range(2)]

        arrivals = generator(config.seed, "simulate-arrivals")
        arrival = arrivals.integers(1, config.n_days * SECONDS_PER_DAY, config.n_items)
        is_new = arrivals.random(config.n_items) < config.new_item_share
        is_new[np.unique(world.category_of, return_index=True)[1]] = False  # every category has an item from the start
        arrival = np.where(is_new, arrival, 0)

        items = np.full(n, -1)
        again = np.arange(n)
        for _ in range(1 + REDRAWS):
            chosen = choose(EXPOSURE_SCALE * taste[again] @ world.categories.T, rng)
            late = rng.random(len(again)) < progress[again]
            share = rng.random(len(again))
            items[again] = np.where(late, popularity[1].pick(chosen, share), popularity[0].pick(chosen, share))
            early = np.flatnonzero(arrival[items] > offset)
            again = np.union1d(repeats(users * config.n_items + items), early)
            if len(again) == 0:
                break
        old = np.flatnonzero(arrival == 0)
        first = old[np.unique(world.category_of[old], return_index=True)[1]]
        early = np.flatnonzero(arrival[items] > offset)
        items[early] = first[world.category_of[items[early]]]
        return cls(users, items, FIRST_SECOND + offset, offset % SECONDS_PER_DAY // 3600, progress)

    @property
    def days(self) -> Int64:
        """Day of the log, from 0 on, ``(N,)``."""
        return (self.time - FIRST_SECOND) // SECONDS_PER_DAY

    def evening(self) -> Float64:
        """Closeness of each moment to 20 h, ``(N,)``, from -1 to 1."""
        return np.asarray(np.cos(2 * np.pi * (self.hours - 20) / 24))

    def taste(self, world: World) -> Float64:
        """Taste of the user at each impression, unit rows ``(N, D)``."""
        return world.taste(self.users, self.progress)

    def match(self, world: World, turn: Float64 | None = None) -> Float64:
        """Cosine of taste and item at each impression ``(N,)``; `turn` ``(D, D)`` turns the taste first."""
        taste = self.taste(world)
        return agreement(taste if turn is None else taste @ turn, world.items[self.items])


@final
@dataclass(frozen=True, eq=False)
class Popularity:
    """Zipf popularity inside each category.

    Attributes:
        items: ``(I,)``, grouped by category, the most popular first in each.
        cumulative: ``(I,)``, ascending: number of the category plus the share of it up to and including this item.
        first: ``(C + 1,)``, index of the first item of each category.
    """

    items: Int64
    cumulative: Float64
    first: Int64

    @classmethod
    def draw(
        cls, config: WorldConfig, world: World, rng: np.random.Generator, *, order: Int64 | None = None
    ) -> Popularity:
        """A popularity of the items in `order`, or in a random order."""
        items = rng.permutation(config.n_items) if order is None else order
        items = items[np.argsort(world.category_of[items], kind="stable")]
        category = world.category_of[items]
        first = np.searchsorted(category, np.arange(len(world.categories) + 1))
        weight = (1.0 + np.arange(config.n_items) - first[category]) ** -config.zipf_exponent
        return cls(items, np.cumsum(weight / np.bincount(category, weight)[category]), first)

    def pick(self, categories: Int64, share: Float64) -> Int64:
        """Items ``(N,)`` at ``share (N,)`` in [0, 1) of the cumulative popularity of their category."""
        found = np.searchsorted(self.cumulative, categories + share, side="right")
        return self.items[np.clip(found, self.first[categories], self.first[categories + 1] - 1)]


def active_users(config: SimulatorConfig, n: int, rng: np.random.Generator) -> Int64:
    """User of each of n visits; users differ in activity (log-normal)."""
    activity = rng.lognormal(0.0, 0.7, config.n_users)
    return rng.choice(config.n_users, n, p=activity / activity.sum())


def moments(config: SimulatorConfig, n: int, rng: np.random.Generator) -> Int64:
    """Seconds since the start of the log ``(n,)``; most around 20 h."""
    rhythm = 1.2 + np.cos(2 * np.pi * (np.arange(24) - 20) / 24)
    seconds = rng.choice(24, n, p=rhythm / rhythm.sum()) * 3600 + rng.integers(0, 3600, n)
    return np.asarray(rng.integers(0, config.n_days, n) * SECONDS_PER_DAY + seconds)


def draw_label(logit: Float64, share: float, rng: np.random.Generator, *, among: Mask | None = None) -> Mask:
    """Draw a binary label with a given expected share of positives.

    Args:
        logit: ``(N,)``; a bias is added so that `share` holds.
        share: expected share of positives among all N rows.
        rng: of the label.
        among: ``(N,)``, rows that can be positive, e.g. those with a click; ``None`` = all.
    """
    can = np.ones(len(logit), dtype=np.bool_) if among is None else among
    return can & (rng.random(len(logit)) < sigmoid(logit + bias(logit[can], share * len(logit))))


def bias(logits: Float64, expected: float) -> float:
    """Number to add to ``logits (N,)`` so that the probabilities add up to ``expected``, by bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logits + middle).sum() < expected else (low, middle)
    return (low + high) / 2


def rotation(width: int, angle_deg: float, rng: np.random.Generator) -> Float64:
    """Rotation by an angle in width // 2 random planes, ``(D, D)``: every vector in them turns by exactly that angle.

    With an odd width a single direction does not move.
    """
    angle = np.deg2rad(angle_deg)
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
    turn = np.eye(width)
    for first in range(0, width - 1, 2):
        plane = slice(first, first + 2)
        turn[plane, plane] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(basis @ turn @ basis.T)


def mixed(directions: Float64, share: float, rng: np.random.Generator) -> Float64:
    """Unit rows ``(N, D)`` with a cosine of about ``share`` to ``directions``."""
    noise = unit(rng.normal(size=directions.shape))
    return unit(share * directions + np.sqrt(1 - share**2) * noise)


def noisy(values: Int64, n_values: int, share: float, rng: np.random.Generator) -> Int64:
    """The values ``(N,)``, each kept with probability `share`, else replaced by a random value below `n_values`."""
    anything = rng.integers(0, n_values, len(values))
    return np.where(rng.random(len(values)) < share, values, anything)


def choose(logits: Float64, rng: np.random.Generator) -> Int64:
    """A category for each row of ``logits (N, C)``, drawn by softmax (Gumbel-max trick)."""
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=1))


def repeats(keys: Int64) -> Int64:
    """Indices ``(R,)`` of keys that occurred before."""
    first = np.unique(keys, return_index=True)[1]
    return np.setdiff1d(np.arange(len(keys)), first, assume_unique=True)


def tables(
    config: SimulatorConfig, log: Exposure, labels: Mapping[str, Any], moment: Mapping[str, Any] = {}, **fields: Any
) -> Tables:
    """The tables of a world.

    Args:
        config: its name.
        log: users, items and times of the interactions; their hour is context.
        labels: by task, ``(N,)``, in the order of the tasks.
        moment: further context, ``(N,)``.
        fields: other fields of `Tables`; they override the common features and content.
    """
    shown = {Columns.USER: log.users, Columns.ITEM: log.items, Columns.TIME: log.time, "hour": log.hours}
    common = {
        "name": f"simulated {config.scenario}",
        "interactions": pl.DataFrame({**shown, **moment, **labels}),
        "context": categorical("hour", *moment),
        "user_features": USER_FEATURES,
        "item_features": ITEM_FEATURES,
        "content": ("content", "category"),
    }
    return Tables(tasks=tuple(labels), **{**common, **fields})


def user_table(world: World, rng: np.random.Generator) -> pl.DataFrame:
    """Users with a segment, their noisy favourite category, and a tenure that nothing depends on."""
    segment = noisy(world.favourites(), len(world.categories), SEGMENT_SHARE, rng)
    tenure = rng.integers(1, 2000, len(segment))
    return pl.DataFrame({Columns.USER: np.arange(len(segment)), "segment": segment, "tenure_days": tenure})


def item_table(world: World, rng: np.random.Generator) -> pl.DataFrame:
    """Items with category, price and ``content``, a noisy copy of their taste vector."""
    return pl.DataFrame(
        {
            Columns.ITEM: np.arange(len(world.items)),
            "category": world.category_of,
            "price": world.price.round(2),
            "content": vectors(mixed(world.items, CONTENT_SHARE, rng)),
        }
    )


def names(known: tuple[str, ...], codes: npt.NDArray[Any]) -> pl.Series:
    """Names of integer or Boolean codes ``(N,)`` as a column."""
    return pl.Series(np.array(known, dtype=object)[codes.astype(np.int64)], dtype=pl.String)


def vectors(rows: Float64) -> pl.Series:
    """Rows ``(N, D)`` as a column of lists, with four digits."""
    return pl.Series(rows.round(4).tolist(), dtype=pl.List(pl.Float64))


def agreement(left: Float64, right: Float64) -> Float64:
    """Dot product of each row of ``left (N, D)`` with its row of ``right (N, D)``, ``(N,)``."""
    return np.asarray(np.einsum("nd,nd->n", left, right))


def unit(rows: Float64) -> Float64:
    """Rows ``(N, D)`` scaled to length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def sigmoid(logits: Float64) -> Float64:
    """The logistic function of ``logits (N,)``."""
    return np.asarray(1 / (1 + np.exp(-logits)))
