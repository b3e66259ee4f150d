"""Settings of the simulated worlds; each world has its own section, in the module of its problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, final

from pydantic import BeforeValidator, Field, SerializeAsAny

from evorec.config.section import Section
from evorec.errors import ConfigError
from evorec.registry import Registry

Scenario = Annotated[str, Field(description="simulated world; `evorec problems NAME` describes the world of a problem")]


class SimulatorConfig(Section):
    """Settings that all simulated worlds have."""

    scenario: Scenario = ""
    n_users: int = Field(1500, ge=1)
    """users"""
    n_items: int = Field(800, ge=2)
    """items of the catalogue"""
    n_factors: int = Field(8, ge=2)
    """latent taste dimensions"""
    n_days: int = Field(14, ge=3)
    """length of the log in days"""
    seed: int = Field(0, ge=0)
    """seed of the simulated world; the run's seed does not change the data"""


@final
@dataclass(frozen=True)
class Simulator:
    """A simulated world.

    Args:
        settings: its section of the configuration.
        simulate: from its settings to its `evorec.data.tables.Tables`.
    """

    settings: type[SimulatorConfig]
    simulate: Callable[[Any], Any]


SIMULATORS: Final[Registry[Simulator]] = Registry("simulated world", group="evorec.problems")
"""Simulated worlds by name (``data.simulator.scenario``); the modules of the problems register them."""

FORMER_SETTINGS: Final[Mapping[str, Any]] = {
    "n_interactions": 60_000,
    "n_categories": 12,
    "zipf_exponent": 0.9,
    "new_item_share": 0.0,
    "drift": 0.3,
    "conflict_angle_deg": 45.0,
    "missing_share": 0.8,
    "signal_share": 0.7,
}
"""Settings that all worlds had when they shared a section, with their defaults.

A run's fingerprint still covers them, so runs keep their names, and stored configurations may still have them.
"""


def simulator_config(settings: Mapping[str, Any] | SimulatorConfig) -> SimulatorConfig:
    """Settings of the world that ``scenario`` names, by default the feed.

    Raises:
        ValueError: no world has this name.
        pydantic.ValidationError: the world does not have a setting, or a value is out of range.
    """
    if not isinstance(settings, Mapping):
        return settings
    try:
        section = SIMULATORS[str(settings.get("scenario", "feed"))].settings
    except ConfigError as error:
        raise ValueError(str(error).removesuffix(".")) from None
    unused = FORMER_SETTINGS.keys() - section.model_fields
    return section.model_validate(
        {name: value for name, value in settings.items() if name not in unused or value != FORMER_SETTINGS[name]}
    )


AnySimulatorConfig = Annotated[SerializeAsAny[SimulatorConfig], BeforeValidator(simulator_config)]
"""Type of a field that holds the settings of any world."""
