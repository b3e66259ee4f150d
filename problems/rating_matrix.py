"""The classical rating matrix: m items x n users, ratings N(0, 1), a cell empty with probability p.

Users rate random items, but the ratings themselves can be predicted: a given share of their variance is explained by
latent factors of users and items (``data.simulator.signal_share``; 0 = pure noise, as in the textbook, where no model
can learn anything). Tasks: the rating, a number, and liked (rating > 0); retrieval ranks liked items. Objectives:
accuracy (mean of the concordance of the ratings and the AUC of liked), recall, sparsity of the predicted preferences
and training cost. The penalty λ is in the genome (``embedding_decay``, ``dense_decay``); p is
``data.simulator.missing_share``. To vary them: ``--set data.simulator.missing_share=0.9 --set
space.embedding_decay=0.1``.

With a matrix of your own (``data.reader = "table"``): a row per rating, with user, item, a time (any order) and the
labels ``rating`` (a number) and ``liked`` (e.g. ``"rating > 0"``). `simulate` describes the simulated world.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import polars as pl
from pydantic import Field

from evorec.config import SimulatorConfig
from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables
from evorec.seeds import generator
from problems import recommender, short_run

DEFAULTS = short_run(
    "rating_matrix",
    {
        "tasks": {"ranked": ("rating", "liked"), "target": "liked", "kinds": {"rating": "regression"}},
        "objectives": ("accuracy", "recall@k", "sparsity", "cost"),
        "box": {"accuracy": {"ideal": 0.9, "worst": 0.5}, "recall@k": {"ideal": 0.5, "worst": 0.0}},
    },
    world={"n_users": 500, "n_items": 300, "n_factors": 4},
)
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

AXES: Final = 8
"""Length of an item's content vector."""


@final
class RatingMatrixConfig(SimulatorConfig):
    """Settings of the simulated rating matrix."""

    def array_sizes(self) -> dict[str, int]:
        """See `SimulatorConfig.array_sizes`."""
        return super().array_sizes() | {"n_users x n_items": self.n_users * self.n_items}

    scenario: Scenario = "rating_matrix"
    missing_share: float = Field(0.8, ge=0, lt=1, description="share of the cells without a rating")
    signal_share: float = Field(
        0.7, ge=0, le=1, description="share of the ratings' variance that users and items explain; 0 = noise"
    )


def simulate(config: RatingMatrixConfig) -> Tables:
    """The cells of a matrix of ``n_users`` x ``n_items``, generated as follows.

    1. *Signal.* A user is a vector of ``n_factors`` independent N(0, 1) numbers, an item a random unit vector; their
       dot product is N(0, 1) in every cell. The matrix of signals has rank ``n_factors``.
    2. *Ratings.* sqrt(s) x signal + sqrt(1 - s) x noise with s = ``signal_share``; the noise is N(0, 1) and independent
       in every cell, so ratings are N(0, 1) for any s. At s = 0 the matrix is pure noise; at 1 a factorisation of rank
       ``n_factors`` is exact. No prediction has a root mean squared error below sqrt(1 - s).
    3. *Zeros.* Each cell is empty (0 in the textbook, no row here) with probability p = ``missing_share``, independent
       of its value.
    4. *Labels.* ``rating``, and ``liked``, which is 1 where the rating is above 0: half of all rows.
    5. *Time* has no effect: moments are uniform over ``n_days``.

    Candidates see user, item and the item's content: its vector in eight random coordinates, without noise. There are
    no other features. The number of interactions follows from p.
    """
    rng = generator(config.seed, "simulate-rating-matrix")
    users = rng.normal(size=(config.n_users, config.n_factors))
    items = sim.unit(rng.normal(size=(config.n_items, config.n_factors)))
    axes = rng.normal(size=(config.n_factors, AXES)) / np.sqrt(config.n_factors)
    rated = np.argwhere(rng.random((config.n_users, config.n_items)) >= config.missing_share)
    user, item = rated[rng.permutation(len(rated))].T
    signal = sim.agreement(users[user], items[item])
    noise = rng.normal(size=len(rated))
    rating = np.sqrt(config.signal_share) * signal + np.sqrt(1 - config.signal_share) * noise
    time = sim.FIRST_SECOND + np.sort(rng.integers(0, config.n_days * SECONDS_PER_DAY, len(rated)))
    return Tables(
        name="simulated rating_matrix",
        interactions=pl.DataFrame(
            {
                Columns.USER: user,
                Columns.ITEM: item,
                Columns.TIME: time,
                "rating": rating.astype(np.float32),
                "liked": rating.astype(np.float32) > 0,
            }
        ),
        tasks=("rating", "liked"),
        users=pl.DataFrame({Columns.USER: np.arange(config.n_users)}),
        items=pl.DataFrame({Columns.ITEM: np.arange(config.n_items), "content": sim.vectors(items @ axes)}),
        content=("content",),
    )


sim.register(RatingMatrixConfig, simulate)
