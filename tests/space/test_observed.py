"""The space that decoded genomes show."""

import json

import numpy as np
import pytest
from space.examples import FINITE, GENES, TREE

from evorec.space.genes import Boolean, Categorical, Fixed, Integer, Real, Simplex
from evorec.space.observed import encoded, observed_space
from evorec.space.space import SearchSpace

ROUNDING = 0.01  # a linear gene may look logarithmic, and then keeps three digits


def specs_of(space, n=60, seed=3):
    """Random specs as a ledger or a memory returns them: lists for tuples, keys in any order."""
    rows = space.sample(np.random.default_rng(seed), n)
    return [json.loads(json.dumps(space.decode(x), sort_keys=True)) for x in rows]


@pytest.mark.parametrize("space", [TREE, FINITE, SearchSpace(GENES)], ids=["tree", "finite", "all kinds"])
def test_every_spec_is_in_the_space_that_the_specs_show(space):
    specs = specs_of(space)
    shown = observed_space(specs)
    X, has = encoded(shown, specs)
    for spec, x, own in zip(specs, X, has, strict=True):
        decoded = shown.decode(x)
        assert set(decoded) == set(spec) == {gene.name for gene, is_own in zip(shown.genes, own, strict=True) if is_own}
        for name, value in spec.items():
            if isinstance(value, float):
                assert decoded[name] == pytest.approx(value, rel=ROUNDING, abs=1e-10)
            elif isinstance(shown.gene(name), Simplex):
                assert list(decoded[name]) == value
            elif not isinstance(value, list):
                assert decoded[name] == value
                assert type(decoded[name]) is type(value)


def test_conditions_are_found_two_levels_deep():
    found = {gene.name: str(gene.condition or "") for gene in observed_space(specs_of(TREE)).genes}
    assert found == {gene.name: str(gene.condition or "") for gene in TREE.genes}


def test_the_kind_of_a_gene_follows_from_its_values():
    specs = [
        {"on": True, "n": 3, "width": 16, "rate": 0.001, "share": 0.5, "mix": 1, "weights": [1.0, 1.0], "one": "a"},
        {"on": False, "n": 7, "width": 64, "rate": 0.1, "share": 0.9, "mix": "x", "weights": [0.5, 1.5], "one": "a"},
        {"on": True, "n": 5, "width": 32, "rate": 0.02, "share": 0.7, "mix": 1.0, "weights": [2.0, 0.0], "one": "a"},
    ]
    genes = {gene.name: gene for gene in observed_space(specs).genes}
    kinds = {name: type(gene) for name, gene in genes.items()}
    assert kinds == {
        "on": Boolean, "n": Integer, "width": Integer, "rate": Real, "share": Real, "mix": Categorical,
        "weights": Simplex, "one": Fixed,
    }  # fmt: skip
    assert [genes[name].scale for name in ("n", "width", "rate", "share")] == ["linear", "log2", "log", "linear"]
    assert [genes[name].default for name in ("on", "n", "width", "rate", "share")] == [True, 5, 32, 0.02, 0.7]
    assert genes["mix"].options == (1.0, 1, "x"), "1 and 1.0 are two options"


def test_a_missing_gene_without_a_parent_has_its_default():
    specs = [{"a": 1, "b": 4}, {"a": 1}, {"a": 2, "b": 6}, {"a": 2}]
    space = observed_space(specs)
    X, has = encoded(space, specs)
    assert space.gene("b").condition is None
    assert X[:, space.slices["b"]].ravel().tolist() == [4.0, 6.0, 6.0, 6.0]
    assert has.tolist() == [[True, True], [True, False], [True, True], [True, False]]
