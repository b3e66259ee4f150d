"""A media app: texts read, images viewed and videos watched to the end.

A single list of texts, images and videos for the same users. Each kind of item has a task of its own, known only on
items of that kind: the label ``read`` of a video is missing, not 0. Retrieval ranks opened items. Each kind also has
content vectors of its own, and the genome decides which of them a member uses (``use_*`` and ``rank_*`` genes).

With a log of your own (``data.reader = "table"``): a row per impression, with user, item, time, ``opened`` (0 or 1) and
``read``, ``viewed``, ``watched`` (0 or 1, empty on items of another kind). The item table should contain the kind, and
may have, for each kind, a column with a list of numbers per item, or parts in [data.content]. `simulate` describes the
simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Tables, categorical
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "media",
    {
        "tasks": {"ranked": ("read", "viewed", "watched"), "target": "opened"},
        "inputs": "search",
        "objectives": ("accuracy", "recall@k", "diversity", "cost"),
        "box": {"accuracy": {"ideal": 0.8, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

KINDS: Final = ("text", "image", "video")
"""Kinds of items, in the order of their labels read, viewed and watched."""
RATES: Final = {"opened": 0.35, "read": 0.20, "viewed": 0.25, "watched": 0.15}
"""Share of the impressions (of the kind) with each label."""
WIDTHS: Final = {"text": 24, "image": 16, "video": 12}
"""Length of the content vectors of each kind."""
HABIT_SCALE: Final = 1.0
"""Effect of a user's habit for a kind on the logit of opening, per standard deviation."""


@final
class MediaConfig(sim.ExposureConfig):
    """Settings of the simulated media app."""

    scenario: Scenario = "media"
    conflict_angle_deg: sim.ConflictAngle = 45.0


def simulate(config: MediaConfig) -> Tables:
    """Impressions of a media app, generated as follows.

    1. *Tastes and exposure* as in the feed.
    2. *Kinds.* A third of the items each are texts, images and videos, independent of the category. A user has a habit
       for each kind (normal); videos are opened more in the evening, texts in the morning.
    3. *Opened.* Taste x item + habit for its kind, 35 % of impressions, known for every item.
    4. *Read, viewed, watched* to the end: labels of texts, images and videos in this order, only after opening. Each
       kind has a taste of its own, the user's taste turned by ``conflict_angle_deg``, in planes of its own. 20 %, 25 %
       and 15 % of the impressions of the kind. On items of another kind the label is missing, not 0.
    5. *Content.* Each item has a vector of its own kind only (``text`` of 24 numbers, ``image`` 16, ``video`` 12): its
       taste vector in random coordinates plus noise. The other two are missing.

    Candidates see the item's kind, category and vectors, the user's segment (noisy favourite category), favourite kind
    (noisy) and tenure, and the hour.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-media-kinds")
    kind_of = rng.permutation(np.arange(config.n_items) % len(KINDS))
    habit = rng.normal(size=(config.n_users, len(KINDS)))
    favourite = sim.noisy(np.argmax(habit, axis=1), len(KINDS), sim.SEGMENT_SHARE, rng)
    return sim.tables(
        config,
        log,
        _labels(config, world, log, kind_of, habit),
        users=sim.user_table(world, rng).with_columns(favourite_kind=sim.names(KINDS, favourite)),
        items=_items(world, kind_of, rng),
        user_features=sim.USER_FEATURES + categorical("favourite_kind"),
        item_features=categorical("kind", "category"),
        content=(*(kind for number, kind in enumerate(KINDS) if (kind_of == number).any()), "category"),
    )


def _labels(config: MediaConfig, world: World, log: Exposure, kind_of: Int64, habit: Float64) -> dict[str, pl.Series]:
    rng = generator(config.seed, "simulate-media-labels")
    kind = kind_of[log.items]
    hour = sim.HOUR_SCALE * (log.evening() * np.array([-1.0, 0.0, 1.0])[kind])
    logit = sim.TASTE_SCALE * log.match(world) + HABIT_SCALE * habit[log.users, kind] + hour
    opened = sim.draw_label(logit, RATES["opened"], rng)
    labels = {"opened": pl.Series(opened)}
    for number, task in enumerate(list(RATES)[1:]):
        turn = sim.rotation(config.n_factors, config.conflict_angle_deg, rng)
        own = kind == number
        rate = RATES[task] * float(own.mean())
        done = sim.draw_label(sim.TASTE_SCALE * log.match(world, turn) + hour, rate, rng, among=opened & own)
        labels[task] = pl.Series(done).set(pl.Series(~own), None)
    return labels


def _items(world: World, kind_of: Int64, rng: np.random.Generator) -> pl.DataFrame:
    seen = sim.mixed(world.items, sim.CONTENT_SHARE, rng)
    table = {
        Columns.ITEM: pl.Series(np.arange(len(seen))),
        "kind": sim.names(KINDS, kind_of),
        "category": pl.Series(world.category_of),
    }
    for number, name in enumerate(KINDS):
        axes = rng.normal(size=(seen.shape[1], WIDTHS[name])) / np.sqrt(seen.shape[1])
        table[name] = sim.vectors(seen @ axes).set(pl.Series(kind_of != number), None)
    return pl.DataFrame(table)


sim.register(MediaConfig, simulate)
