"""Rows of a table with several labels: insurance contracts that are renewed, claimed on and paid for.

There are no users, no items and no lists: a row has features and labels, and a model predicts every label of a row.
Tasks: renew and claim (0 or 1) and spend (a number, unknown for half of the rows). The front runs between the accuracy
of each task and the cost of training; how far tasks should share layers depends on how much their functions agree
(``data.simulator.conflict_angle_deg``).

With a table of your own: ``data.reader = "table"``, ``data.path``, and in ``[data.log]`` the files, the features
(``context``) and the labels (``tasks``), without ``user`` and ``item``. Labels may be missing in some rows; labels that
are numbers are named in ``tasks.kinds``. `evorec init FILE` writes such a configuration where no column identifies
items. `simulate` describes the simulated rows, whose best attainable accuracy is known (`true_scores`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

import numpy as np
import polars as pl
from pydantic import Field

from evorec.config import RowsConfig, SimulatedConfig, TaskKind
from evorec.config.simulator import Scenario
from evorec.data import simulator as sim
from evorec.data.simulator import Float64, Int64
from evorec.data.tables import Tables, categorical, numeric
from evorec.seeds import generator
from problems import QUICK_SPACE, recommender

CONFIG = RowsConfig
DEFAULTS: Mapping[str, Any] = {
    "problem": "rows",
    "data": {"reader": "simulator", "simulator": {"scenario": "rows"}},
    "training": {"steps": 300, "batch_size": 512},
    "space": QUICK_SPACE,
    "box": {
        "auc/renew": {"ideal": 0.9, "worst": 0.5},
        "auc/claim": {"ideal": 0.9, "worst": 0.5},
        "concordance/spend": {"ideal": 0.9, "worst": 0.5},
    },
}
"""Settings of this problem; a configuration file overrides them."""

build = recommender(DEFAULTS)

RATES: Final = {"renew": 0.6, "claim": 0.15}
"""Share of rows with each label 0 or 1."""
LABELS: Final[Mapping[str, TaskKind]] = {**dict.fromkeys(RATES, "binary"), "spend": "regression"}
REGIONS, PRODUCTS, CHANNELS = 24, 8, 5
SCALE: Final = 2.0
"""Standard deviation of the true logits, and of spend relative to its noise."""
OBSERVED: Final = 0.5
"""Share of the rows whose spend is known."""


@final
class RowsWorld(SimulatedConfig):
    """Settings of the simulated rows."""

    labels: ClassVar[Mapping[str, TaskKind]] = LABELS

    scenario: Scenario = "rows"
    n_rows: int = Field(20_000, ge=200, le=10_000_000, description="rows of the table")
    conflict_angle_deg: sim.ConflictAngle = 75.0

    def array_sizes(self) -> dict[str, int]:
        """See `SimulatedConfig.array_sizes`."""
        return {"n_rows x features": 8 * self.n_rows}


def simulate(config: RowsWorld) -> Tables:
    """Rows with six features and three labels, generated as follows.

    1. *Features.* Region, product and channel are drawn with Zipf frequencies; age and tenure are uniform, income is
       log-normal. All are independent.
    2. *Functions.* Each of three functions of the features adds four terms: an effect of the region; an effect of the
       pair of product and channel; a sine of the age whose phase depends on the channel; and a slope of the logarithm
       of the income that depends on the product. Tenure has no effect. The functions have mean 0 and variance 1, and
       the second and third do not correlate with the first.
    3. *Tasks.* The score of renew is the first function; those of claim and spend are the first function turned by
       ``conflict_angle_deg`` towards the second and the third: at 0 all tasks have the same score, at 90 they are
       independent, at 180 opposite.
    4. *Labels.* Renew and claim are drawn with log-odds of twice the score, and biases that give 60 % and 15 % of
       positives. Spend is ``100 + 40 * score + noise`` with a standard deviation of the noise of 20, and unknown in
       half of the rows.

    Returns:
        A table of rows without times, in random order.
    """
    features, scores = _drawn(config)
    rng = generator(config.seed, "simulate-labels")
    labels: dict[str, Any] = {
        task: sim.draw_label(SCALE * scores[task], rate, rng).astype(np.float32) for task, rate in RATES.items()
    }
    spend = 100 + 20 * (SCALE * scores["spend"] + rng.normal(size=config.n_rows))
    labels["spend"] = pl.Series(spend.round(2), dtype=pl.Float32).scatter(
        np.flatnonzero(rng.random(config.n_rows) >= OBSERVED), None
    )
    return Tables(
        name="simulated rows",
        interactions=pl.DataFrame({**features, **labels}),
        tasks=tuple(LABELS),
        context=(*categorical("region", "product", "channel"), *numeric("age", "income", "tenure_days")),
        times="none",
        has_items=False,
    )


def true_scores(config: RowsWorld) -> dict[str, Float64]:
    """The noise-free score of every row for each task, ``(N,)``: no model orders the labels better on average."""
    return _drawn(config)[1]


def _drawn(config: RowsWorld) -> tuple[dict[str, Any], dict[str, Float64]]:
    """Features and true scores of the rows."""
    rng, n = generator(config.seed, "simulate-rows"), config.n_rows
    region, product, channel = (_zipf(size, n, rng) for size in (REGIONS, PRODUCTS, CHANNELS))
    age, income = rng.uniform(18, 90, n).round(1), rng.lognormal(10.0, 0.5, n).round(0)
    world = generator(config.seed, "simulate-world")
    functions = []
    for _ in LABELS:
        of_region, of_pair = world.normal(size=REGIONS), world.normal(size=(PRODUCTS, CHANNELS))
        phase, slope = world.uniform(0, 2 * np.pi, CHANNELS), world.normal(size=PRODUCTS)
        terms = (
            of_region[region],
            of_pair[product, channel],
            np.sin(2 * np.pi * age / 36 + phase[channel]),
            slope[product] * (np.log(income) - 10.0),
        )
        functions.append(_standard(sum(map(_standard, terms), np.zeros(n))))
    angle = np.deg2rad(config.conflict_angle_deg)
    first = functions[0]
    others = [_standard(own - (own * first).mean() * first) for own in functions[1:]]
    turned = [np.cos(angle) * first + np.sin(angle) * own for own in others]
    features = {
        "region": region, "product": product, "channel": channel, "age": age, "income": income,
        "tenure_days": rng.integers(1, 4000, n),
    }  # fmt: skip
    return features, dict(zip(LABELS, [first, *turned], strict=True))


def _zipf(size: int, n: int, rng: np.random.Generator) -> Int64:
    """Codes below `size` whose frequency falls with their number."""
    share = 1.0 / np.arange(1, size + 1) ** 0.7
    return rng.choice(size, n, p=share / share.sum())


def _standard(values: Float64) -> Float64:
    return np.asarray((values - values.mean()) / values.std())


sim.register(RowsWorld, simulate)
