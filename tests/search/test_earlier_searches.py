"""Memories of earlier searches: the file, the translation of genomes, and the prior that they give."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

from evorec.config import SearchConfig, load_config
from evorec.data.readers import read
from evorec.data.size import DataSize
from evorec.errors import DataError
from evorec.search.engine import search
from evorec.search.memory.library import SHIPPED
from evorec.search.memory.prior import MemoryPrior, chosen_rows, nearness, translated
from evorec.search.memory.table import Memory
from evorec.search.surrogate.gaussian_process import rank_correlation
from evorec.space.genes import Categorical, Integer, Real, When
from evorec.space.space import SearchSpace
from problems import analytic

SPACE = SearchSpace(
    (
        Categorical("kind", ("a", "b"), "a"),
        Integer("depth", 1, 4, default=2, condition=When("kind", ("b",))),
        Real("rate", 0.001, 0.1, scale="log", default=0.01),
        Real("new", 0.0, 1.0, default=0.5),
    )
)


def world(name: str, n: int = 60, *, seed: int = 0, shift: float = 0.0) -> Memory:
    """Random genomes of the analytic problem; the figures of a world are shifted and stretched."""
    problem, rng = analytic.build(), np.random.default_rng(seed)
    specs = [problem.space.decode(x) for x in problem.space.sample(rng, n)]
    rows = []
    for spec, outcome in zip(specs, problem.evaluate(specs, seed=0), strict=True):
        quality, cost = outcome.metrics["quality"], outcome.metrics["cost"]
        rows.append((spec, {"quality": 0.5 * quality + shift, "cost": cost + shift}))
    return Memory.of(rows, world=name, problem="analytic", data_sha256=name, steps=0, facts={"users": 100.0})


def test_a_memory_is_read_back_and_joined_without_repeats(tmp_path):
    memory = Memory.joined([world("w1"), world("w2", seed=1), world("w1")])
    memory.frame.write_parquet(tmp_path / "memory [1].parquet")
    read = Memory.read(tmp_path / "memory [1].parquet")
    assert len(read) == 120
    assert read.frame.equals(memory.frame)
    assert read.worlds().rows() == [("w1", "analytic", 60, 0), ("w2", "analytic", 60, 0)]
    assert set(read.without(data_sha256="w1").frame["world"]) == {"w2"}
    assert len(read.without(problem="analytic")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("facts"), "must have the columns .* got facts: None"),
        (lambda frame: frame.with_columns(steps=pl.lit("many")), "steps: String"),
        (lambda frame: frame.with_columns(spec=pl.lit("[1]")), "row 0, column spec must be a JSON object"),
        (lambda frame: frame.with_columns(metrics=pl.lit("{")), "row 0, column metrics must be a JSON object"),
    ],
)
def test_a_file_that_is_not_a_memory_is_refused(change, message, tmp_path):
    change(world("w").frame).write_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match=message):
        Memory.read(tmp_path / "m.parquet")
    (tmp_path / "n.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        Memory.read(tmp_path / "n.parquet")


def test_genes_are_matched_by_name_and_clipped_and_unknown_genes_left_out():
    spec = {"kind": "b", "depth": 9, "rate": 7.0, "gone": "x"}
    assert SPACE.decode(translated(SPACE, spec)) == {"kind": "b", "depth": 4, "rate": 0.1, "new": 0.5}
    assert SPACE.decode(translated(SPACE, {"kind": "z", "depth": 3})) == {"kind": "a", "rate": 0.01, "new": 0.5}


def test_data_of_a_similar_size_are_nearer():
    facts = {"users": 1000, "items": 500}
    assert nearness(facts, facts) == 1.0
    assert nearness(facts, {"users": 1100, "items": 600}) > nearness(facts, {"users": 1e6, "items": 10})
    assert nearness({}, facts) == 0.5
    assert nearness(facts, {"users": "many", "items": math.inf}) == 0.5


def test_the_prior_orders_genomes_of_a_world_that_it_never_saw():
    problem = analytic.build()
    memory = Memory.joined([world(f"w{i}", seed=i, shift=0.1 * i) for i in range(3)])
    prior = MemoryPrior(memory, problem.space, problem.objectives)
    assert (len(prior.worlds), len(prior.X)) == (3, 180)
    X = problem.space.sample(np.random.default_rng(9), 100)
    outcomes = problem.evaluate([problem.space.decode(x) for x in X], seed=0)
    for column, objective in enumerate(problem.objectives):
        truth = objective.minimised([outcome.metrics[objective.metric] for outcome in outcomes])
        assert rank_correlation(prior.means(X)[:, column], truth) > 0.8


def test_worlds_that_share_no_objective_or_too_few_genes_or_have_few_rows_give_nothing():
    problem = analytic.build()
    foreign = world("foreign").frame.with_columns(metrics=pl.lit(json.dumps({"reach": 1.0})))
    strange = world("strange").frame.with_columns(spec=pl.lit(json.dumps({"x_0": 1.0, "y": 2.0})))
    memory = Memory.joined([Memory(foreign), Memory(strange), world("few", 5)])
    assert not len(chosen_rows(memory, problem.space, problem.objectives, {}))
    assert not MemoryPrior(Memory.empty(), problem.space, problem.objectives)


def test_an_objective_that_only_some_worlds_have_is_learnt_from_these():
    problem = analytic.build()
    lacking = world("lacking", seed=1).frame.with_columns(metrics=pl.lit(json.dumps({"cost": 1.0})))
    rows = chosen_rows(Memory.joined([world("w"), Memory(lacking)]), problem.space, problem.objectives, {})
    prior = MemoryPrior(rows, problem.space, problem.objectives)
    assert np.isfinite(prior.values).sum(axis=0).tolist() == [60, 120]
    assert np.isfinite(prior.means(prior.X)).all()


def test_large_memories_are_thinned_and_data_of_a_similar_size_keep_more_rows():
    problem = analytic.build()
    near, far = world("near", 500), world("far", 500, seed=1)
    far = Memory(far.frame.with_columns(facts=pl.lit(json.dumps({"users": 1e6}))))
    rows = chosen_rows(Memory.joined([near, far]), problem.space, problem.objectives, {"users": 100.0})
    counts = dict(rows.worlds().select("world", "rows").rows())
    assert sum(counts.values()) == 400
    assert counts["near"] > 2 * counts["far"]
    again = chosen_rows(rows, problem.space, problem.objectives, {"users": 100.0})
    assert again.frame.equals(rows.frame)


def test_a_search_with_a_memory_starts_ahead_and_the_default_genome_is_its_first():
    memory = Memory.joined([world(f"w{i}", seed=i) for i in range(3)])
    config = SearchConfig(population=8, generations=3, seed=1, surrogate="gp")
    with_memory, cold = (search(analytic.build(), config, memory=m) for m in (memory, None))
    assert with_memory.hypervolume[0] > 1.5 * cold.hypervolume[0]
    assert with_memory.hypervolume[-1] > cold.hypervolume[-1]


@pytest.mark.parametrize("name", ["feed", "ads"])
def test_the_shipped_memory_is_small_and_knows_no_world_of_a_small_seed(name):
    shipped = Memory.read(SHIPPED)
    assert SHIPPED.stat().st_size < 2e6
    worlds = shipped.worlds()
    assert worlds.height >= 12
    assert worlds["rows"].min() >= 64
    config = load_config(problem=name)
    world = DataSize.of(read(config.data)).sha256
    assert world not in set(shipped.frame["data_sha256"])
    assert name in set(shipped.frame["problem"])
    assert shipped.frame["evorec"].n_unique() == 1
    specs = [json.loads(text) for text in shipped.frame["spec"]]
    assert sum("learning_rate" in spec for spec in specs) == len(specs)
