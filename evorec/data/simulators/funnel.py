"""A shop seen as a funnel: what is viewed, what goes into the cart, what is bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Float64, Int64, Mask, Popularity, World
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("view", "cart", "buy")
RATES: Final = {"view": 0.35, "cart": 0.12, "buy": 0.05}
"""Share of impressions with each label."""
DEVICES: Final = ("mobile", "desktop")
MOBILE_SHARE: Final = 0.6
MEAN_FURTHER_OFFERS: Final = 5.0
"""Offers of a session after its first, on average."""
LAST_STEP: Final = 6
"""Steps from here on count alike."""
STRAYS: Final = 0.15
"""Share of offers of another category than the session's."""
CART_PER_STEP: Final = 0.25
"""Logit of a cart that each further step of a session adds: people compare first."""
MOBILE_LOSS: Final = 1.2
"""Logit of buying what is in the cart that a mobile device costs."""
PRICE: Final = {"view": 0.0, "cart": 0.3, "buy": 0.9}
"""Logit that a price twice the usual one costs, divided by log 2."""


def simulate(config: SimulatorConfig) -> Tables:
    """Offers in sessions of a shop, generated as follows.

    1. *Tastes* as in the feed.
    2. *Sessions.* A user comes for one category, chosen by taste, with a mobile device (60 %) or not, and sees one
       offer and Poisson(5) more, 20 to 90 seconds apart: of that category by Zipf popularity, 15 % of any. A pair
       seldom repeats.
    3. *View.* Taste x item and the hour, 35 % of offers.
    4. *Cart*, after a view alone: taste turned by ``conflict_angle_deg`` x item, more at each step of the session, less
       at a high price. 12 % of offers.
    5. *Buy*, out of the cart alone: the price again, much less on a mobile device, and the user's readiness to buy
       (normal). Taste has had its say. 5 % of offers.

    Candidates see the item's category, price and content (a noisy view of its taste), the user's segment (noisy
    favourite category) and tenure, and at each offer hour, device and step. ``new_item_share`` is not used.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    """
    world = World.draw(config)
    log = _Sessions.draw(config, world)
    rng = generator(config.seed, "simulate-funnel-features")
    return Tables(
        name="simulated funnel",
        interactions=log.table(_labels(config, world, log)),
        tasks=TASKS,
        users=worlds.user_table(world, rng),
        items=worlds.item_table(world, rng),
        context=tuple(Feature(name, "categorical") for name in ("hour", "device", "step")),
        user_features=worlds.USER_FEATURES,
        item_features=worlds.ITEM_FEATURES,
        content=("content", "category"),
    )


@final
@dataclass(frozen=True, eq=False)
class _Sessions:
    """Offers in order of time, all ``(N,)``; ``taste (N, D)`` of the user then."""

    users: Int64
    items: Int64
    time: Int64
    mobile: Mask
    step: Int64
    taste: Float64

    @classmethod
    def draw(cls, config: SimulatorConfig, world: World) -> _Sessions:
        rng = generator(config.seed, "simulate-funnel-sessions")
        n = config.n_interactions
        length = 1 + rng.poisson(MEAN_FURTHER_OFFERS, n)  # enough sessions, whatever their lengths
        session = np.repeat(np.arange(n), length)[:n]
        n_sessions = int(session[-1]) + 1
        users = worlds.active_users(config, n_sessions, rng)
        begins = worlds.moments(config, n_sessions, rng)
        mobile = rng.random(n_sessions) < MOBILE_SHARE
        taste = world.taste(users, config.drift * begins / (config.n_days * SECONDS_PER_DAY))
        wanted = worlds.choose(worlds.EXPOSURE_SCALE * taste @ world.categories.T, rng)
        step = np.arange(n) - np.searchsorted(session, session)
        waited = np.cumsum(rng.integers(20, 91, n))
        offset = begins[session] + waited - waited[np.searchsorted(session, session)]
        category = worlds.noisy(wanted[session], len(world.categories), 1 - STRAYS, rng)
        items = _offers(config, world, users[session], category, rng)
        order = np.argsort(offset, kind="stable")
        session, time = session[order], worlds.FIRST_SECOND + offset[order]
        return cls(users[session], items[order], time, mobile[session], step[order], taste[session])

    @property
    def hours(self) -> Int64:
        """Hour of the day, ``(N,)``."""
        return self.time % SECONDS_PER_DAY // 3600

    def table(self, labels: dict[str, Mask]) -> pl.DataFrame:
        """The interactions with their labels."""
        shown = {Columns.USER: self.users, Columns.ITEM: self.items, Columns.TIME: self.time, "hour": self.hours}
        device = pl.Series([DEVICES[0] if is_mobile else DEVICES[1] for is_mobile in self.mobile.tolist()])
        moment = {"device": device, "step": np.minimum(self.step, LAST_STEP)}
        return pl.DataFrame({**shown, **moment, **labels})


def _offers(config: SimulatorConfig, world: World, users: Int64, category: Int64, rng: np.random.Generator) -> Int64:
    """Items ``(N,)`` of the categories, by popularity; drawn again where the user has had one."""
    popularity = Popularity.draw(config, world, rng)
    items = np.full(len(users), -1)
    again = np.arange(len(users))
    for _ in range(1 + worlds.REDRAWS):
        items[again] = popularity.pick(category[again], rng.random(len(again)))
        again = worlds.repeats(users * config.n_items + items)
        if len(again) == 0:
            break
    return items


def _labels(config: SimulatorConfig, world: World, log: _Sessions) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-funnel-labels")
    ready = rng.normal(size=config.n_users)
    quality = rng.normal(size=config.n_items)
    turn = worlds.turned(config.n_factors, np.deg2rad(config.conflict_angle_deg), rng)
    log_price = np.log(world.price)
    dear = (log_price - log_price.mean())[log.items]
    shown = world.items[log.items]
    logits = {
        "view": worlds.TASTE_SCALE * worlds.agreement(log.taste, shown)
        + worlds.QUALITY_SCALE * quality[log.items]
        + worlds.HOUR_SCALE * worlds.evening(log.hours),
        "cart": worlds.TASTE_SCALE * worlds.agreement(log.taste @ turn, shown)
        + CART_PER_STEP * np.minimum(log.step, LAST_STEP),
        "buy": ready[log.users] - MOBILE_LOSS * log.mobile,
    }
    labels: dict[str, Mask] = {}
    so_far = np.ones(len(dear), dtype=np.bool_)
    for task in TASKS:
        so_far = worlds.happens(logits[task] - PRICE[task] * dear, so_far, RATES[task], rng)
        labels[task] = so_far
    return labels
