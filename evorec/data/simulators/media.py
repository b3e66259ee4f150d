"""A media app with texts, images and videos: three kinds of items, each with a label of its own, for the same users."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.simulators.world import Exposure, Float64, Int64, World
from evorec.data.tables import Columns, Feature, Tables
from evorec.seeds import generator

TASKS: Final = ("opened", "read", "viewed", "watched")
KINDS: Final = ("text", "image", "video")
"""Kinds of items, in the order of their labels read, viewed and watched."""
RATES: Final = {"opened": 0.35, "read": 0.20, "viewed": 0.25, "watched": 0.15}
"""Share of the impressions (of the kind) with each label."""
WIDTHS: Final = {"text": 24, "image": 16, "video": 12}
"""Length of the content vectors of each kind."""
HABIT_SCALE: Final = 1.0
"""Logit by which a user's favourite kind is opened more than the one liked least, per standard deviation."""


def simulate(config: SimulatorConfig) -> Tables:
    """Impressions of a media app, generated as follows.

    1. *Tastes and exposure* as in the feed.
    2. *Kinds.* A third of the items are texts, a third images, a third videos, whatever their category. A user has a
       habit for each kind (normal), and the hour has its say: videos in the evening, texts in the morning.
    3. *Opened.* Taste x item + habit for its kind, 35 % of impressions, known for every item.
    4. *Read, viewed, watched* to the end: of texts, images and videos in turn, after opening alone. Each kind has a
       taste of its own, the user's turned by ``conflict_angle_deg``, in planes of its own. 20 %, 25 % and 15 % of the
       impressions of the kind. On items of another kind the label is missing, not 0.
    5. *Content.* Each item has a vector of its own kind alone (``text`` of 24 numbers, ``image`` 16, ``video`` 12): its
       taste in random coordinates and noise. The other two are missing.

    Candidates see the item's kind, category and vectors, the user's segment (noisy favourite category), favourite kind
    (noisy) and tenure, and the hour.

    Args:
        config: sizes, popularity, drift, conflict and seed.
    """
    world = World.draw(config)
    log = Exposure.draw(config, world)
    rng = generator(config.seed, "simulate-media-kinds")
    kind_of = rng.permutation(np.arange(config.n_items) % len(KINDS))
    habit = rng.normal(size=(config.n_users, len(KINDS)))
    favourite = worlds.noisy(np.argmax(habit, axis=1), len(KINDS), worlds.SEGMENT_SHARE, rng)
    users = worlds.user_table(world, rng).with_columns(favourite_kind=pl.Series([KINDS[kind] for kind in favourite]))
    return Tables(
        name="simulated media",
        interactions=worlds.log_table(log, _labels(config, world, log, kind_of, habit)),
        tasks=TASKS,
        users=users,
        items=_items(world, kind_of, rng),
        context=worlds.HOUR,
        user_features=(*worlds.USER_FEATURES, Feature("favourite_kind", "categorical")),
        item_features=(Feature("kind", "categorical"), Feature("category", "categorical")),
        content=(*(kind for number, kind in enumerate(KINDS) if (kind_of == number).any()), "category"),
    )


def _labels(
    config: SimulatorConfig, world: World, log: Exposure, kind_of: Int64, habit: Float64
) -> dict[str, pl.Series]:
    rng = generator(config.seed, "simulate-media-labels")
    kind = kind_of[log.items]
    when = worlds.evening(log.hours) * np.array([-1.0, 0.0, 1.0])[kind]
    shown = np.ones(len(kind), dtype=np.bool_)
    logit = worlds.TASTE_SCALE * log.match(world) + HABIT_SCALE * habit[log.users, kind] + worlds.HOUR_SCALE * when
    opened = worlds.happens(logit, shown, RATES["opened"], rng)
    labels = {"opened": pl.Series(opened)}
    for number, task in enumerate(TASKS[1:]):
        turn = worlds.turned(config.n_factors, np.deg2rad(config.conflict_angle_deg), rng)
        own = kind == number
        logit = worlds.TASTE_SCALE * log.match(world, turn) + worlds.HOUR_SCALE * when
        done = worlds.happens(logit, opened & own, RATES[task] * float(own.mean()), rng)
        labels[task] = pl.Series(done).set(pl.Series(~own), None)
    return labels


def _items(world: World, kind_of: Int64, rng: np.random.Generator) -> pl.DataFrame:
    seen = worlds.mixed(world.items, worlds.CONTENT_SHARE, rng)
    table = {
        Columns.ITEM: pl.Series(np.arange(len(seen))),
        "kind": pl.Series([KINDS[kind] for kind in kind_of]),
        "category": pl.Series(world.category_of),
    }
    for number, name in enumerate(KINDS):
        axes = rng.normal(size=(seen.shape[1], WIDTHS[name])) / np.sqrt(seen.shape[1])
        table[name] = worlds.vectors(seen @ axes).set(pl.Series(kind_of != number), None)
    return pl.DataFrame(table)
