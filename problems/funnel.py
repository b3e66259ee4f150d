"""The funnel of a shop: views, carts and purchases.

A shop shows offers in sessions. Tasks: view, cart and buy, each only after the previous task; ``tasks.funnel`` lists
them, and mechanisms that model a funnel (ESMM, AITM) are in the search space. Users view items that they like, put them
into the cart after comparing, and buy when price and device suit them: the front shows how much lists for views
(``recall@k``) lose of the purchases (``gain/buy``).

With a log of your own (``data.reader = "table"``): a row per offer, with user, item, time and the labels ``view``,
``cart`` and ``buy`` (0 or 1, a later label never without the earlier labels; ``log.pivot`` makes such rows from
events). Device and similar columns are ``log.context``. `simulate` describes the simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Int64, Mask, Popularity, World
from evorec.data.tables import SECONDS_PER_DAY, Tables
from evorec.seeds import generator
from problems import recommender, short_run

TASKS: Final = ("view", "cart", "buy")
DEFAULTS = short_run(
    "funnel",
    {
        "tasks": {"ranked": TASKS, "target": "view", "funnel": TASKS},
        "objectives": ("accuracy", "recall@k", "gain/buy", "cost"),
        "box": {"accuracy": {"ideal": 0.85, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"view": 0.35, "cart": 0.12, "buy": 0.05}
"""Share of impressions with each label."""
MOBILE_SHARE: Final = 0.6
MEAN_FURTHER_OFFERS: Final = 5.0
"""Mean number of offers of a session after the first."""
LAST_STEP: Final = 6
"""Later steps of a session count as this step."""
OTHER_CATEGORY: Final = 0.15
"""Share of offers of another category than the session's."""
CART_PER_STEP: Final = 0.25
"""Increase of the logit of a cart per step of the session: users compare first."""
MOBILE_LOSS: Final = 1.2
"""Decrease of the logit of a purchase on a mobile device."""
PRICE: Final = {"view": 0.0, "cart": 0.3, "buy": 0.9}
"""Decrease of the logit per unit of the logarithm of the price."""


@final
class FunnelConfig(sim.WorldConfig):
    """Settings of the simulated funnel."""

    scenario: Scenario = "funnel"
    conflict_angle_deg: sim.ConflictAngle = 45.0


def simulate(config: FunnelConfig) -> Tables:
    """Offers in sessions of a shop, generated as follows.

    1. *Tastes* as in the feed.
    2. *Sessions.* A user comes for a single category, chosen by taste, with a mobile device (60 %) or not, and sees an
       offer and Poisson(5) more, 20 to 90 seconds apart: of that category by Zipf popularity, 15 % of any category.
       User-item pairs seldom repeat.
    3. *View.* Taste x item and the hour, 35 % of offers.
    4. *Cart*, only after a view: taste turned by ``conflict_angle_deg`` x item, more at each step of the session, less
       at a high price. 12 % of offers.
    5. *Buy*, only from the cart: the price again, much less on a mobile device, and the user's readiness to buy
       (normal). Taste has no further effect. 5 % of offers.

    Candidates see the item's category, price and content (a noisy copy of its taste vector), the user's segment (noisy
    favourite category) and tenure, and at each offer hour, device and step.
    """
    world = World.draw(config)
    log, mobile, step = _sessions(config, world)
    labels = _labels(config, world, log, mobile, step)
    rng = generator(config.seed, "simulate-funnel-features")
    users, items = sim.user_table(world, rng), sim.item_table(world, rng)
    moment = {"device": sim.names(("desktop", "mobile"), mobile), "step": step}
    return sim.tables(config, log, labels, moment, users=users, items=items)


def _sessions(config: FunnelConfig, world: World) -> tuple[Exposure, Mask, Int64]:
    """Offers in order of time; whether the device is mobile and the step of the session, ``(N,)``."""
    rng = generator(config.seed, "simulate-funnel-sessions")
    n = config.n_interactions
    length = 1 + rng.poisson(MEAN_FURTHER_OFFERS, n)  # n sessions are always enough for n offers
    session = np.repeat(np.arange(n), length)[:n]
    first = np.searchsorted(session, session)
    n_sessions = int(session[-1]) + 1
    users = sim.active_users(config, n_sessions, rng)
    begins = sim.moments(config, n_sessions, rng)
    mobile = rng.random(n_sessions) < MOBILE_SHARE
    progress = config.drift * begins / (config.n_days * SECONDS_PER_DAY)
    wanted = sim.choose(sim.EXPOSURE_SCALE * world.taste(users, progress) @ world.categories.T, rng)
    waited = np.cumsum(rng.integers(20, 91, n))
    offset = begins[session] + waited - waited[first]
    category = sim.noisy(wanted[session], len(world.categories), 1 - OTHER_CATEGORY, rng)

    popularity = Popularity.draw(config, world, rng)
    items, again = np.full(n, -1), np.arange(n)
    for _ in range(1 + sim.REDRAWS):
        items[again] = popularity.pick(category[again], rng.random(len(again)))
        again = sim.repeats(users[session] * config.n_items + items)
        if len(again) == 0:
            break

    order = np.argsort(offset, kind="stable")
    step = np.minimum(np.arange(n) - first, LAST_STEP)[order]
    session, time = session[order], sim.FIRST_SECOND + offset[order]
    hours = time % SECONDS_PER_DAY // 3600
    log = Exposure(users[session], items[order], time, hours, progress[session])
    return log, mobile[session], step


def _labels(config: FunnelConfig, world: World, log: Exposure, mobile: Mask, step: Int64) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-funnel-labels")
    ready = rng.normal(size=config.n_users)
    quality = rng.normal(size=config.n_items)
    turn = sim.rotation(config.n_factors, config.conflict_angle_deg, rng)
    price = world.log_price()[log.items]
    view = sim.TASTE_SCALE * log.match(world) + sim.QUALITY_SCALE * quality[log.items]
    logits = {
        "view": view + sim.HOUR_SCALE * log.evening(),
        "cart": sim.TASTE_SCALE * log.match(world, turn) + CART_PER_STEP * step,
        "buy": ready[log.users] - MOBILE_LOSS * mobile,
    }
    labels: dict[str, Mask] = {}
    previous: Mask | None = None
    for task in TASKS:
        labels[task] = previous = sim.draw_label(logits[task] - PRICE[task] * price, RATES[task], rng, among=previous)
    return labels


sim.register(FunnelConfig, simulate)
