"""Simulated worlds, one module each: what is generated in which order stands in each ``simulate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from evorec.config import SimulatorConfig
from evorec.data.simulators import (
    ads,
    courses,
    ecommerce,
    feed,
    funnel,
    media,
    rating_matrix,
    sentiment_news,
    support,
    treatment,
)
from evorec.data.tables import Tables
from evorec.errors import ConfigError

SCENARIOS: Final[Mapping[str, Callable[[SimulatorConfig], Tables]]] = {
    "feed": feed.simulate,
    "ecommerce": ecommerce.simulate,
    "ads": ads.simulate,
    "media": media.simulate,
    "support": support.simulate,
    "treatment": treatment.simulate,
    "sentiment_news": sentiment_news.simulate,
    "courses": courses.simulate,
    "rating_matrix": rating_matrix.simulate,
    "funnel": funnel.simulate,
}
"""Name in ``data.simulator.scenario`` -> the world it makes."""


def simulate(config: SimulatorConfig) -> Tables:
    """The world that a configuration names.

    Args:
        config: scenario, sizes and seed.
    Raises:
        ConfigError: there is no such scenario; lists those that there are.
    """
    if config.scenario not in SCENARIOS:
        raise ConfigError(f"data.simulator.scenario must be one of {list(SCENARIOS)}, got {config.scenario!r}.")
    return SCENARIOS[config.scenario](config)
