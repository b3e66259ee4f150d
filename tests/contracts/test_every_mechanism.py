"""What holds for every sharing mechanism and every way of balancing, found in their registries."""

from __future__ import annotations

import numpy as np
import pytest

from evorec.models.balancing import BALANCINGS
from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import build_network, forward_macs, n_dense_parameters
from evorec.models.spec import ModelSpec, default_space
from evorec.space.space import SearchSpace

SEED = 11
TASKS = ("click", "like", "purchase")
SHAPE = InputShape(n_rows=30, n_content=4, n_dense=3, n_tasks=3, n_layers=3, n_items=9, parents=(-1, 0, -1))
SPACE = default_space(TASKS, n_layers=3, days=10.0, funnel=True, uniform_negatives=16, retrieval_batch=64)
SPACE = SPACE.with_overrides({gene.name: "search" for gene in SPACE.genes if gene.optional}, "test")

every_mechanism = pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
every_balancing = pytest.mark.parametrize("balancing", sorted(BALANCINGS))


def rows(space: SearchSpace) -> np.ndarray:
    """The default genome and a few random ones."""
    return np.vstack([space.default(), space.sample(np.random.default_rng(SEED), 20)])


def test_the_search_knows_every_mechanism_that_runs() -> None:
    options = SPACE.gene("mechanism").domain
    assert all(repr(name) in options for name in MECHANISMS)


@every_mechanism
def test_a_genome_of_a_mechanism_survives_decoding_and_encoding(mechanism: str) -> None:
    of = SPACE.with_overrides({"mechanism": mechanism}, "test")
    for row in rows(of):
        spec = of.decode(row)
        np.testing.assert_array_equal(of.encode(spec), row, err_msg=f"seed {SEED}")
        assert of.decode(of.encode(spec)) == spec
        whole = SPACE.encode(spec)  # and where the mechanism is one of many
        assert SPACE.decode(whole) == spec
        np.testing.assert_array_equal(SPACE.snap(whole[None])[0], whole, err_msg=f"seed {SEED}")


@every_mechanism
def test_every_genome_of_a_mechanism_can_be_built_and_counted(mechanism: str) -> None:
    of = SPACE.with_overrides({"mechanism": mechanism}, "test")
    for row in rows(of):
        spec = ModelSpec.from_genes(of.decode(row))
        built = build_network([spec], SHAPE)
        assert n_dense_parameters(spec, SHAPE) == sum(tensor.n_entries for tensor in built.tensors) > 0
        assert forward_macs(spec, SHAPE) > 0


@every_balancing
def test_a_genome_of_a_balancing_survives_decoding_and_encoding(balancing: str) -> None:
    of = SPACE.with_overrides({"balancing": balancing}, "test")
    for row in rows(of):
        spec = of.decode(row)
        assert spec["balancing"] == ModelSpec.from_genes(spec).balancing == balancing
        assert SPACE.decode(SPACE.encode(spec)) == spec
