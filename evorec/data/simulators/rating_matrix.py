"""The classical rating matrix: n users x m items, ratings N(0, 1), most cells empty."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from evorec.config import SimulatorConfig
from evorec.data.simulators import world as worlds
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables
from evorec.seeds import generator

TASKS: Final = ("rating", "liked")
AXES: Final = 8
"""Length of an item's content vector."""


def simulate(config: SimulatorConfig) -> Tables:
    """The cells of a matrix of ``n_users`` x ``n_items``, generated as follows.

    1. *Signal.* A user is a vector of ``n_factors`` independent N(0, 1) numbers, an item a random unit vector; their
       dot product is N(0, 1) in every cell. The matrix of signals has rank ``n_factors``.
    2. *Ratings.* sqrt(s) x signal + sqrt(1 - s) x noise, the noise N(0, 1) and independent in every cell: N(0, 1)
       again, whatever s. s is ``signal_share``: at 0 the matrix is the pure noise of the textbook, and nothing can be
       learned; at 1 a factorisation of rank ``n_factors`` is exact. No rating can be predicted with a root mean squared
       error below sqrt(1 - s).
    3. *Zeros.* Each cell is empty (rated 0 in the textbook, no row here) with probability p, ``missing_share``,
       independently of its value.
    4. *Labels.* ``rating``, and ``liked``, which is 1 where it is above 0: half of all rows.
    5. *Time* means nothing: moments are uniform over ``n_days``.

    Candidates see user, item and the item's content, its vector in eight random coordinates, without noise; there are
    no other features. No setting but ``n_users``, ``n_items``, ``n_factors``, ``n_days``, ``missing_share``,
    ``signal_share`` and ``seed`` is used: the number of interactions follows from p.

    Args:
        config: sizes, p, share of signal and seed.
    """
    rng = generator(config.seed, "simulate-rating-matrix")
    users = rng.normal(size=(config.n_users, config.n_factors))
    items = worlds.unit(rng.normal(size=(config.n_items, config.n_factors)))
    axes = rng.normal(size=(config.n_factors, AXES)) / np.sqrt(config.n_factors)
    rated = np.argwhere(rng.random((config.n_users, config.n_items)) >= config.missing_share)
    rated = rated[rng.permutation(len(rated))]
    signal = worlds.agreement(users[rated[:, 0]], items[rated[:, 1]])
    noise = rng.normal(size=len(rated))
    rating = np.sqrt(config.signal_share) * signal + np.sqrt(1 - config.signal_share) * noise
    time = worlds.FIRST_SECOND + np.sort(rng.integers(0, config.n_days * SECONDS_PER_DAY, len(rated)))
    return Tables(
        name="simulated rating_matrix",
        interactions=pl.DataFrame(
            {
                Columns.USER: rated[:, 0],
                Columns.ITEM: rated[:, 1],
                Columns.TIME: time,
                "rating": rating.astype(np.float32),
                "liked": rating.astype(np.float32) > 0,
            }
        ),
        tasks=TASKS,
        users=pl.DataFrame({Columns.USER: np.arange(config.n_users)}),
        items=pl.DataFrame({Columns.ITEM: np.arange(config.n_items), "content": worlds.vectors(items @ axes)}),
        content=("content",),
    )
