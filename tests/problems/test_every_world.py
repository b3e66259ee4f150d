"""Properties of every simulated world in the registry."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from evorec.config import SIMULATORS, DataConfig, SimulatorConfig, SplitConfig, parse_config, simulator_config
from evorec.data.encode import encode
from evorec.data.readers import read
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError

SHA256 = {
    "ads": "929dbe12d4a18b558517e005db51dafdf9734a4a95254ec55c86453219e160ea",
    "courses": "ab6af654911fb3126182333addbbba07dedebc638fbb90e494318677bc9bb27e",
    "ecommerce": "6fddb3cce837275844c145cef461512659a84b2eb4bcd088f8723b879643a0cd",
    "feed": "62bd7f31b780624512feefd039c9606dca7d1c612ddd0c6c53d180255f48d6c3",
    "funnel": "a1edf52cfc9605809cac7ad819897f47281b39197aacb035e4009dbc3a0b6a50",
    "media": "b104d69f8eb5e1167cdee4a3b7e06cfbdcf9e30198b83d4904b496978b676966",
    "rating_matrix": "35f2dd12f95792c8ae7407c6d0541134c23ad5561e6a9bed5199a2dab9fd7756",
    "rows": "9ab367754bbea7fb3e739295790532ccb8f3d67e7562c0dd2c2c7436b7a48982",
    "sentiment_news": "5c37010abeb96528801c89841749c9f42f7d864c0ec6ea848f0c3fefe7181374",
    "support": "6a42ec2ea67dfaf3ffcb47f1bb57feeecce218da67c144e6451a885692b37304",
    "treatment": "5dea01575d0f39a3db0dde957d93947d78f25c6ff9d68c0392ef3e199de57ffe",
}
"""Each world with the settings of `small`; a change moves every published figure."""
FEED_SHA256 = "2de95c65d3733a91229d2ffc904da0502dc8a36a5eae53ad5951116b13661285"
"""The feed with default settings; published figures were computed on these rows."""

every_world = pytest.mark.parametrize("scenario", SIMULATORS)
every_world_of_items = pytest.mark.parametrize(
    "scenario", [name for name, world in SIMULATORS.items() if "n_items" in world.settings.model_fields]
)


def small(scenario: str, **changes: float) -> SimulatorConfig:
    """Settings of a small world; changes of settings that the world does not have are left out."""
    known = SIMULATORS[scenario].settings.model_fields
    settings = {"n_users": 60, "n_items": 50, "n_interactions": 1500, "n_categories": 5, "n_rows": 500, **changes}
    return simulator_config({"scenario": scenario, **{name: settings[name] for name in settings if name in known}})


def test_the_feed_is_the_feed_of_published_figures() -> None:
    assert simulate(simulator_config({})).sha256() == FEED_SHA256


@pytest.fixture(scope="module")
def worlds() -> dict[str, Tables]:
    return {scenario: simulate(small(scenario)) for scenario in SIMULATORS}


def test_worlds_are_the_same_in_every_version_and_in_another_process(worlds: dict[str, Tables]) -> None:
    program = f"""
from evorec.config import simulator_config
from evorec.data.simulator import simulate
for settings in {[small(scenario).model_dump() for scenario in SIMULATORS]!r}:
    print(simulate(simulator_config(settings)).sha256())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert dict(zip(SIMULATORS, found, strict=True)) == SHA256
    assert {scenario: tables.sha256() for scenario, tables in worlds.items()} == SHA256
    others = {simulate(small(scenario, seed=1)).sha256() for scenario in SIMULATORS}
    assert len(others - set(found)) == len(SIMULATORS)


@every_world_of_items
def test_sizes_order_and_span_are_as_set(scenario: str, worlds: dict[str, Tables]) -> None:
    config, tables = small(scenario), worlds[scenario]
    time = tables.interactions[Columns.TIME].to_numpy()
    assert tables.n_rows == getattr(config, "n_interactions", tables.n_rows)
    assert tables.users is not None
    assert tables.items is not None
    assert (tables.users.height, tables.items.height) == (config.n_users, config.n_items)
    assert (np.diff(time) >= 0).all()
    assert len(np.unique(time // 86_400)) >= config.n_days  # a session may end after midnight of the last day
    assert tables.name == ("simulator" if scenario == "feed" else f"simulated {scenario}")
    assert read(DataConfig(simulator=config)).sha256() == tables.sha256()


@every_world
def test_unusual_sizes_work(scenario: str) -> None:
    for change in (
        {"n_users": 1},
        {"n_items": 2},
        {"n_categories": 1, "n_factors": 3},
        {"n_categories": 50, "zipf_exponent": 0.0},
        {"drift": 1.0, "new_item_share": 0.5},
        {"n_interactions": 10, "n_days": 3},
    ):
        assert simulate(small(scenario, **{"n_interactions": 400, **change})).n_rows > 0


@every_world_of_items
def test_every_label_can_be_learned(scenario: str, worlds: dict[str, Tables]) -> None:
    tables = worlds[scenario]
    kinds = {task: "regression" for task in tables.tasks if tables.interactions[task].drop_nulls().n_unique() > 2}
    target = next(task for task in tables.tasks if task not in kinds)
    data = encode(tables, split(tables, SplitConfig()), tasks=tables.tasks, target=target, kinds=kinds, fit="train")
    assert (np.nanstd(data.train.labels, axis=0) > 0).all()


def test_settings_are_those_of_the_world() -> None:
    matrix = {"scenario": "rating_matrix", "missing_share": 0.5}
    assert parse_config({"data": {"simulator": matrix}}).data.simulator.model_dump()["missing_share"] == 0.5
    bad = {"scenario": "rating_matrix", "drift": 0.5, "n_users": 0, "missing_share": 2}
    with pytest.raises(ConfigError) as error:
        parse_config({"data": {"simulator": bad}, "training": {"steps": 0}}, source="my.toml")
    lines = sorted(str(error.value).split("\n"))
    assert [line.partition(" (my.toml)")[0] for line in lines] == [
        "data.simulator.drift", "data.simulator.missing_share", "data.simulator.n_users", "training.steps"
    ]  # fmt: skip
    assert "is not a known key" in lines[0]


def test_an_unknown_world_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"data\.simulator \(x\): unknown simulated world 'ad'; did you mean 'ads'\?"):
        parse_config({"data": {"simulator": {"scenario": "ad"}}}, source="x")


def test_a_stored_configuration_with_unused_settings_of_other_worlds_is_read() -> None:
    """Worlds shared a section of settings before; fingerprints still cover it, so runs keep their names."""
    old = {"scenario": "ads", "missing_share": 0.8, "signal_share": 0.7, "n_users": 30}
    new = {"scenario": "ads", "n_users": 30}
    config, config_of_now = (parse_config({"data": {"simulator": settings}}) for settings in (old, new))
    assert config == config_of_now
    stored = config.result_settings()["data"]["simulator"]
    assert (stored["missing_share"], stored["signal_share"], stored["drift"]) == (0.8, 0.7, 0.3)


def test_a_world_that_no_machine_can_hold_is_refused_at_once() -> None:
    for settings, words in {
        "n_users=10_000_000": "data.simulator.n_users (x) must be an integer in 1..1000000",
        "n_factors=100_000": "data.simulator.n_factors (x) must be an integer in 2..256",
        "n_interactions=20_000_000": "n_interactions x n_factors must be at most 100,000,000, got 160,000,000",
        "n_users=1_000_000, n_factors=200": "n_users x n_factors must be at most 100,000,000, got 200,000,000",
        'scenario="rating_matrix", n_users=50_000, n_items=50_000': "n_users x n_items must be at most 100,000,000",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(words)):
            parse_config(tomllib.loads(f"data = {{simulator = {{{settings}}}}}"), source="x")
