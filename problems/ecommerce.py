"""A marketplace: purchase of an item, visit of its shop, interest in its category.

The marketplace shows a visitor a list of offers and learns three recommendations at once: of the item, its shop and its
category. A purchase depends on both the item and the shop, so the tasks help each other, and they compete for the
capacity of the model. The front shows how much accuracy and diversity a cheaper model loses. No label implies another:
a visitor can enter a shop from an offer without a purchase.

With a log of your own (``data.reader = "table"``): a row per offer shown, with user, item, time and the labels ``item``
(bought), ``shop`` (entered or followed afterwards) and ``category`` (browsed afterwards), 0 or 1, empty where unknown.
The item table should contain shop and category (e.g. ``shop_id``, ``category_id``). `simulate` describes the simulated
world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Int64, Mask, World
from evorec.data.tables import Tables, categorical, numeric
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "ecommerce",
    {
        "tasks": {"ranked": ("item", "shop", "category"), "target": "item"},
        "objectives": ("accuracy", "recall@k", "diversity", "cost"),
        "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"item": 0.10, "shop": 0.12, "category": 0.25}
"""Share of impressions with each label."""
ITEMS_PER_SHOP: Final = 20
FURTHER_CATEGORIES: Final = 2
"""Categories that a shop may sell besides its own."""
SHOP_SCALE: Final = 1.5
"""Increase of the logit of a purchase in a shop of the style that the user looks for."""
STYLES: Final = ("bargain", "classic", "craft", "luxury", "green")
STYLE_SHARE: Final = 0.8
"""Cosine between the vector of a shop, or of a user's preference for shops, and its style."""


@final
class EcommerceConfig(sim.ExposureConfig):
    """Settings of the simulated marketplace."""

    scenario: Scenario = "ecommerce"


def simulate(config: EcommerceConfig) -> Tables:
    """Offers of a marketplace, generated as follows.

    1. *Tastes and exposure* as in the feed: categories, items, users who drift, Zipf popularity inside a category.
    2. *Shops.* There is a shop for every 20 items. A shop sells a category of its own and up to two more; an item
       belongs to one of the shops that sell its category. A shop has one of five styles (bargain, luxury, ...), with
       directions independent of the categories; a user looks for a single style.
    3. *Category.* Browsed after the offer: taste x the item's category, whichever shop sells it.
    4. *Shop.* Followed after the offer: the user's style x the shop, independent of its categories.
    5. *Item.* Bought: taste x item, style x shop as well, the item's quality, less at a high price.
    6. No label implies another; 25 %, 12 % and 10 % of the offers have them.

    Candidates see the item's category, shop, price and content (a noisy copy of its taste vector), the user's segment
    (noisy favourite category), style (noisy too) and tenure, and the hour.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    shop_of, style_of_user, shops, preferences = _shops(config, world)
    in_shop = sim.agreement(preferences[log.users], shops[shop_of[log.items]])
    rng = generator(config.seed, "simulate-ecommerce-features")
    style = sim.noisy(style_of_user, len(STYLES), sim.SEGMENT_SHARE, rng)
    users = sim.user_table(world, rng).with_columns(style=sim.names(STYLES, style))
    items = sim.item_table(world, rng).rename({"category": "category_id"})
    return sim.tables(
        config,
        log,
        _labels(config, world, log, in_shop),
        users=users,
        items=items.with_columns(shop_id=pl.Series(shop_of)),
        user_features=sim.USER_FEATURES + categorical("style"),
        item_features=categorical("category_id", "shop_id") + numeric("price"),
        content=("content", "category_id", "shop_id"),
    )


def _shops(config: EcommerceConfig, world: World) -> tuple[Int64, Int64, Float64, Float64]:
    """The shop of each item ``(I,)``, the style of each user ``(U,)``; unit rows of shops ``(S, D)`` and users."""
    rng = generator(config.seed, "simulate-ecommerce-shops")
    n_categories = len(world.categories)
    n_shops = max(2, config.n_items // ITEMS_PER_SHOP)
    sells = np.zeros((n_shops, n_categories), dtype=np.bool_)
    sells[np.arange(n_categories) % n_shops, np.arange(n_categories)] = True  # no category without a shop
    sells[np.arange(n_shops), np.arange(n_shops) % n_categories] = True
    for _ in range(FURTHER_CATEGORIES):
        sells[np.arange(n_shops), rng.integers(0, n_categories, n_shops)] = True
    priority = rng.random((config.n_items, n_shops)) * sells[:, world.category_of].T
    styles = sim.unit(rng.normal(size=(len(STYLES), config.n_factors)))
    style_of_shop = rng.permutation(np.arange(n_shops) % len(STYLES))
    style_of_user = rng.integers(0, len(STYLES), config.n_users)
    shops, users = (sim.mixed(styles[of], STYLE_SHARE, rng) for of in (style_of_shop, style_of_user))
    return np.asarray(np.argmax(priority, axis=1)), style_of_user, shops, users


def _labels(config: EcommerceConfig, world: World, log: Exposure, in_shop: Float64) -> dict[str, Mask]:
    rng = generator(config.seed, "simulate-ecommerce-labels")
    quality = rng.normal(size=config.n_items)
    logits = {
        "item": sim.TASTE_SCALE * log.match(world)
        + SHOP_SCALE * in_shop
        + sim.QUALITY_SCALE * quality[log.items]
        - sim.PRICE_SCALE * world.log_price()[log.items],
        "shop": sim.TASTE_SCALE * in_shop,
        "category": sim.TASTE_SCALE * sim.agreement(log.taste(world), world.categories[world.category_of[log.items]]),
    }
    hour = sim.HOUR_SCALE * log.evening()
    return {task: sim.draw_label(logits[task] + hour, rate, rng) for task, rate in RATES.items()}


sim.register(EcommerceConfig, simulate)
