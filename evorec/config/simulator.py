"""Settings of the simulated worlds; each world has its own section, in the module of its problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self, final

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from evorec.config.section import Section
from evorec.config.tasks import TaskKind
from evorec.errors import ConfigError
from evorec.registry import Registry

Scenario = Annotated[str, Field(description="simulated world; `evorec problems NAME` describes the world of a problem")]


LARGEST_ARRAY: Final = 100_000_000
"""Most numbers in an array of a world, 0.8 GB; a few of them exist at the same time."""


class SimulatedConfig(Section):
    """Settings that all simulated data have."""

    labels: ClassVar[Mapping[str, TaskKind]] = {}
    """Of simulated rows without users and items, the kind of each label; empty = a log of users and items."""

    scenario: Scenario = ""
    seed: int = Field(0, ge=0)
    """seed of the simulated world; the run's seed does not change the data"""

    def array_sizes(self) -> dict[str, int]:
        """Numbers in the largest arrays of the world, by the settings that they are the product of."""
        return {}

    @model_validator(mode="after")
    def _fits_memory(self) -> Self:
        for product, size in self.array_sizes().items():
            if size > LARGEST_ARRAY:
                raise ValueError(f"{product} must be at most {LARGEST_ARRAY:,}, got {size:,}; make one of them smaller")
        return self


class SimulatorConfig(SimulatedConfig):
    """Settings that all simulated worlds of users and items have."""

    n_users: int = Field(1500, ge=1, le=1_000_000)
    """users"""
    n_items: int = Field(800, ge=2, le=1_000_000)
    """items of the catalogue"""
    n_factors: int = Field(8, ge=2, le=256)
    """latent taste dimensions"""
    n_days: int = Field(14, ge=3, le=3650)
    """length of the log in days"""

    def array_sizes(self) -> dict[str, int]:
        """See `SimulatedConfig.array_sizes`."""
        return {
            "n_users x n_factors": self.n_users * self.n_factors,
            "n_items x n_factors": self.n_items * self.n_factors,
        }


@final
@dataclass(frozen=True)
class Simulator:
    """A simulated world.

    Args:
        settings: its section of the configuration.
        simulate: from its settings to its `evorec.data.tables.Tables`.
    """

    settings: type[SimulatedConfig]
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


def simulator_config(settings: Mapping[str, Any] | SimulatedConfig) -> SimulatedConfig:
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


AnySimulatorConfig = Annotated[SerializeAsAny[SimulatedConfig], BeforeValidator(simulator_config)]
"""Type of a field that holds the settings of any world."""
