"""What holds for every simulated world, found in the registry."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from evorec.config import DataConfig, SimulatorConfig, SplitConfig
from evorec.data.encode import encode
from evorec.data.readers import read
from evorec.data.simulators import SCENARIOS, simulate
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.errors import ConfigError

FEED_SHA256 = "2de95c65d3733a91229d2ffc904da0502dc8a36a5eae53ad5951116b13661285"
"""The feed with default settings; published figures were computed on these very rows."""

every_world = pytest.mark.parametrize("scenario", SCENARIOS)


def small(scenario: str, **changes: float) -> SimulatorConfig:
    settings = {"n_users": 60, "n_items": 50, "n_interactions": 1500, "n_categories": 5, **changes}
    return SimulatorConfig.model_validate({"scenario": scenario, **settings})


def test_the_feed_is_the_one_of_published_figures() -> None:
    assert simulate(SimulatorConfig()).sha256() == FEED_SHA256


def test_the_same_seed_gives_the_same_worlds_in_another_process() -> None:
    program = f"""
from evorec.config import SimulatorConfig
from evorec.data.simulators import simulate
for text in {[small(scenario).model_dump_json() for scenario in SCENARIOS]!r}:
    print(simulate(SimulatorConfig.model_validate_json(text)).sha256())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert found == [simulate(small(scenario)).sha256() for scenario in SCENARIOS]
    others = [simulate(small(scenario, seed=1)).sha256() for scenario in SCENARIOS]
    assert len({*found, *others}) == 2 * len(SCENARIOS)


@every_world
def test_sizes_order_and_span_are_as_asked(scenario: str) -> None:
    config = small(scenario)
    tables = read(DataConfig(simulator=config))
    time = tables.interactions[Columns.TIME].to_numpy()
    assert scenario == "rating_matrix" or tables.n_rows == config.n_interactions
    assert tables.users is not None
    assert tables.items is not None
    assert (tables.users.height, tables.items.height) == (config.n_users, config.n_items)
    assert (np.diff(time) >= 0).all()
    assert len(np.unique(time // 86_400)) >= config.n_days  # a session may end after midnight of the last day
    assert scenario == "feed" or tables.name == f"simulated {scenario}"


@every_world
@pytest.mark.parametrize(
    "change",
    [
        {"n_users": 1},
        {"n_items": 2},
        {"n_categories": 1},
        {"n_categories": 50},
        {"n_factors": 3},
        {"zipf_exponent": 0.0},
        {"drift": 1.0},
        {"new_item_share": 0.5},
        {"n_interactions": 10, "n_days": 3},
    ],
    ids=str,
)
def test_unusual_sizes_work(scenario: str, change: dict[str, float]) -> None:
    assert simulate(small(scenario, **change)).n_rows > 0


@every_world
def test_every_label_can_be_learned(scenario: str) -> None:
    tables = simulate(small(scenario))
    kinds = {task: "regression" for task in tables.tasks if tables.interactions[task].drop_nulls().n_unique() > 2}
    target = next(task for task in tables.tasks if task not in kinds)
    data = encode(tables, split(tables, SplitConfig()), tasks=tables.tasks, target=target, kinds=kinds, fit="train")
    assert (np.nanstd(data.train.labels, axis=0) > 0).all()


def test_an_unknown_scenario_is_refused_with_the_names() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.simulator\.scenario must be one of \['feed', .*'funnel'\], got 'zoo'"
    ):
        simulate(SimulatorConfig(scenario="zoo"))


def test_the_help_of_the_setting_names_every_scenario() -> None:
    text = SimulatorConfig.model_fields["scenario"].description or ""
    assert [name for name in SCENARIOS if name not in text] == []
