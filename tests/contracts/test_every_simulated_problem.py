"""Properties of every problem with a simulated world: the same rows in files are the same problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from contracts.test_every_problem import TINY_BUDGET, configured, world_settings

from evorec.config import SIMULATORS, installed_problems, load_config, problem_definition, recommender_config
from evorec.data.encode import encode
from evorec.data.readers import SIMULATOR, read
from evorec.data.splits import split
from evorec.data.tables import Columns, Feature, Tables
from evorec.recommender.dataset import encode_tables


def simulated() -> list[str]:
    """Problems of this package whose own settings name the simulator."""
    own = [
        name for name, entry in installed_problems().items() if entry.dist is not None and entry.dist.name == "evorec"
    ]
    defaults = {name: problem_definition(name).defaults.get("data", {}) for name in own}
    return [name for name, data in defaults.items() if data.get("reader") == SIMULATOR]


ROUNDING = 1e-5  # of cosines of float32 vectors
every_simulated_catalogue = pytest.mark.parametrize("name", [name for name in simulated() if name != "rows"])
"""Problems with users and items; `tests/test_rows.py` has the same for rows."""
ONE_PER_CONSTRAINTS = {load_config(problem=name).constraints: name for name in simulated()}.values()


def test_every_world_has_a_problem() -> None:
    assert {configured(name).data.simulator.scenario for name in simulated()} == set(SIMULATORS)


def in_files(tables: Tables, folder: Path) -> dict[str, Any]:
    """Writes a world as somebody's files, log and users as CSV, items as Parquet; how they are described."""
    assert tables.users is not None
    assert tables.items is not None

    def kinds(features: tuple[Feature, ...]) -> dict[str, str]:
        return {feature.name: feature.kind for feature in features}

    lists = [name for name, dtype in tables.users.schema.items() if dtype.is_nested()]
    users = tables.users.with_columns(pl.col(name).list.join("|") for name in lists)
    tables.interactions.write_csv(folder / "log.csv")
    users.write_csv(folder / "users.csv")
    tables.items.write_parquet(folder / "items.parquet")
    texts = [name for name, dtype in tables.items.schema.items() if dtype == pl.String and name == "headline"]
    user_features, item_features = kinds(tables.user_features), kinds(tables.item_features)
    sections: dict[str, Any] = {
        "log": {
            "files": ["log.csv"],
            "user": Columns.USER,
            "item": Columns.ITEM,
            "time": Columns.TIME,
            "time_unit": "s",
            "tasks": {task: task for task in tables.tasks},
            "context": kinds(tables.context),
        },
        "items": {
            "files": ["items.parquet"],
            "key": Columns.ITEM,
            "features": item_features,
            "content": list(tables.content),
            "texts": texts,
        },
    }
    if user_features:
        separators = dict.fromkeys(lists, "|")
        sections["users"] = {
            "files": ["users.csv"], "key": Columns.USER, "features": user_features, "separators": separators
        }  # fmt: skip
    return sections


def toml(sections: dict[str, Any], name: str, folder: Path) -> str:
    """A configuration file with the description of the files; JSON's texts, numbers and lists are TOML's too."""
    lines = [f'problem = "{name}"', "[data]", 'reader = "table"', f"path = {json.dumps(str(folder))}"]
    for section, settings in sections.items():
        lines.append(f"[data.{section}]")
        for key, value in settings.items():
            shown = (
                "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
                if isinstance(value, dict)
                else json.dumps(value)
            )
            lines.append(f"{key} = {shown}")
    return "\n".join([*lines, ""])


def assert_same_but_for_order(rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> None:
    """Rows ``(N, F)`` of features with equal values in the same places, numbered anew: as text, 10 comes before 2."""
    assert rows.shape == others.shape
    for column in range(rows.shape[1]):
        pairs = np.unique(np.column_stack([rows[:, column], others[:, column]]), axis=0)
        assert len(pairs) == len(np.unique(rows[:, column])) == len(np.unique(others[:, column]))


@every_simulated_catalogue
def test_the_same_rows_in_files_are_the_same_problem(name: str, tmp_path: Path) -> None:
    """Labels, users, items and moments are equal, and so is what a member may see of them."""
    own = configured(name)
    world = read(own.data)
    (tmp_path / "mine.toml").write_text(toml(in_files(world, tmp_path), name, tmp_path), encoding="utf-8")
    mine = recommender_config(
        load_config(tmp_path / "mine.toml", problem=name, overrides=[*world_settings(name), *TINY_BUDGET])
    )
    assert mine.data.reader == "table"
    assert mine.tasks == own.tasks
    tables = read(mine.data)
    data, read_back = (encode_tables(rows, split(rows, own.split), own, fit="train") for rows in (world, tables))
    for part, part_read in ((data.train, read_back.train), (data.held_out, read_back.held_out)):
        np.testing.assert_array_equal(part.labels, part_read.labels)
        np.testing.assert_array_equal(part.target, part_read.target)
        np.testing.assert_array_equal(part.users, part_read.users)
        np.testing.assert_array_equal(part.items, part_read.items)
        assert_same_but_for_order(part.context, part_read.context)
    assert_same_but_for_order(data.user_rows, read_back.user_rows)
    assert_same_but_for_order(data.item_rows, read_back.item_rows)
    np.testing.assert_allclose(
        data.item_content @ data.item_content.T, read_back.item_content @ read_back.item_content.T, atol=ROUNDING
    )
    for fields in ("user_fields", "item_fields"):
        assert [field.name for field in getattr(data, fields)] == [field.name for field in getattr(read_back, fields)]
    assert len(data.context_fields) == len(read_back.context_fields)


@pytest.mark.parametrize("name", ONE_PER_CONSTRAINTS)
def test_the_constraints_of_a_problem_can_be_measured(name: str) -> None:
    """Tiny runs omit the constraints; here they are used, on a world with enough users for groups."""
    small = {"n_users": 200, "n_items": 100, "n_interactions": 8000}
    config = recommender_config(load_config(problem=name, overrides=world_settings(name, small)))
    problem = problem_definition(name).build(config)
    assert [constraint.text for constraint in problem.constraints] == list(config.constraints)
    assert all(np.isfinite(constraint.bound) for constraint in problem.constraints)


@every_simulated_catalogue
def test_a_world_is_large_enough_to_be_measured(name: str) -> None:
    """Fewer held-out positives would make recall a lottery; a hundred have a standard error of 4 points at most."""
    config = recommender_config(load_config(problem=name))
    tables = read(config.data.model_copy(update={"content": {}}))
    data = encode(
        tables,
        split(tables, config.split),
        tasks=config.tasks.ranked,
        target=config.tasks.target,
        kinds=config.tasks.kinds,
        funnel=config.tasks.funnel,
        fit="train",
    )
    assert data.relevant.counts().sum() > 300
    for task, kind in enumerate(data.kinds):
        known = data.held_out.labels[:, task]
        assert kind != "binary" or np.nansum(known) > 100, data.tasks[task]
