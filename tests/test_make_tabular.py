"""The script that trains the tables: its shortcuts equal separate trainings, and finished stacks are reused."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.config import merge
from evorec.data.readers import read
from evorec.recommender.trainers import StackTrainer
from problems import tabular

sys.path.append(str(Path(__file__).parents[1] / "experiments"))

import make_tabular

SMALL = {
    "data": {"simulator": {"n_users": 80, "n_items": 60, "n_interactions": 4000}},
    "training": {"steps": 6, "rungs": (2, 4), "batch_size": 64, "retrieval_batch": 16},
    "evaluation": {"k": 10, "candidates": 20},
}
FLOAT32 = 1e-6
"""Relative; the table holds metrics as float32."""


def small_genes() -> tuple[dict[str, Any], ...]:
    """The grid with a single value for most genes: 2 mechanisms, 2 values of each list gene."""
    kept = {"mechanism": ["single_task", "mmoe"], "popularity_weight": [0.4, 1.2], "rank_blend": [0.0, 0.3]}
    out = []
    for gene in make_tabular.SIMULATED.genes:
        if gene["name"] == "sharing_depth":
            continue
        one = dict(gene)
        if one["kind"] == "categorical":
            one["options"] = kept.get(one["name"], one["options"][:1])
            one["default"] = one["options"][0]
        out.append({**one, "values": ["mmoe"]} if "values" in one else one)
    return tuple(out)


@pytest.fixture(scope="module")
def grid() -> make_tabular.Grid:
    """A grid of 12 configurations in 3 trainings on a small world, in the slot of the simulated grid."""
    simulated = make_tabular.SIMULATED
    small = replace(simulated, config=merge(simulated.config, SMALL), genes=small_genes(), seeds=(0, 1))
    make_tabular.world.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_tabular, "GRIDS", {"feed": small})
        yield small
    make_tabular.world.cache_clear()


@pytest.fixture(scope="module")
def made(grid: make_tabular.Grid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the grid."""
    folder = tmp_path_factory.mktemp("table")
    (stack,) = make_tabular.stacks_of(grid)
    parts = [make_tabular.rows_of_stack("feed", seed, stack) for seed in grid.seeds]
    table = make_tabular.table_of(grid, pl.concat(parts, how="diagonal"))
    about = make_tabular.description("feed", grid, table, command="a test", commit="none")
    make_tabular.write(folder, grid.name, table, about)
    return folder / f"{grid.name}.parquet"


def test_every_configuration_equals_a_separate_training(grid: make_tabular.Grid, made: Path) -> None:
    table = tabular.Table.read(str(made))
    assert len(table.specs) == 12
    config = grid.run_config
    trainer = StackTrainer.of(read(config.data), config, fit="train", seed=0, at_most=config.evaluation.max_users)
    for seed, number, steps in itertools.product(grid.seeds, (0, 5, 11), (2, 6)):
        model, of_seed = grid.model(table.specs[number]), trainer.with_seed(seed)
        trained = of_seed.train([model], last=steps)  # a single member, without a stop at the rungs
        (measured,) = of_seed.measure(trained.population, steps=steps)
        separate = measured.metrics | of_seed.cost(model, steps=steps)
        found = table.metrics(number, seed=seed, steps=steps)
        for name in set(found) - {"train_seconds"}:
            assert found[name] == pytest.approx(separate[name], rel=FLOAT32), (number, seed, steps, name)


def test_list_genes_change_lists_but_not_the_training(made: Path) -> None:
    table = tabular.Table.read(str(made))
    one = [n for n, spec in enumerate(table.specs) if spec["mechanism"] == "single_task"]
    found = [table.metrics(number, seed=0, steps=6) for number in one]
    assert len({metrics["accuracy"] for metrics in found}) == 1
    assert len({metrics["novelty@10"] for metrics in found}) > 1


def test_test_columns_are_filled_only_at_the_last_step_and_differ_from_validation(made: Path) -> None:
    rows = pl.read_parquet(made)
    assert rows.filter(pl.col("step") < 6)["test/accuracy"].null_count() == 12 * 2 * 2
    whole = rows.filter(pl.col("step") == 6)
    assert whole["test/accuracy"].null_count() == 0
    assert not np.allclose(whole["test/accuracy"].to_numpy(), whole["validation/accuracy"].to_numpy())


def test_a_stack_on_disk_is_not_trained_again(grid: make_tabular.Grid, tmp_path: Path) -> None:
    path = tmp_path / "stack.parquet"
    path.write_bytes(b"here already")
    make_tabular.trained("feed", 0, 0, path)
    assert path.read_bytes() == b"here already"


@pytest.mark.parametrize(
    ("whole", "at_least"), [(make_tabular.SIMULATED, 1000), (make_tabular.KUAIRAND, 288)], ids=["simulated", "kuairand"]
)
def test_the_grids_are_large_enough_and_every_configuration_is_a_distinct_model(
    whole: make_tabular.Grid, at_least: int
) -> None:
    specs = tabular.configurations(whole.space)
    assert len(specs) == whole.space.cardinality() >= at_least
    assert len({repr(whole.model(spec)) for spec in specs}) == len(specs)
    assert sum(len(member.numbers) for member in make_tabular.members(whole)) == len(specs)
