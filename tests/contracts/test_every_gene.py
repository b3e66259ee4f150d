"""Properties of every gene: built-in kinds, a kind of the user's own, and the genes of the recommender's space."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from space.examples import GENES

from evorec.errors import ConfigError
from evorec.models.spec import default_space
from evorec.space.gene import Fixed, FloatArray, Gene
from evorec.space.genes import Simplex

SEED = 5
N_ROWS = 100
N_SAMPLES = 3000
FEW_VALUES = 50
RECOMMENDER = default_space(
    ("click", "like"), n_layers=3, days=10.0, funnel=True, uniform_negatives=128, retrieval_batch=256
)

every_gene = pytest.mark.parametrize("gene", [*GENES, *RECOMMENDER.genes], ids=lambda gene: gene.name)


def kinds(base: type[Gene] = Gene) -> Iterator[type[Gene]]:
    """All kinds of genes that can be made."""
    for kind in base.__subclasses__():
        if not inspect.isabstract(kind):
            yield kind
        yield from kinds(kind)


def rows_around(gene: Gene) -> FloatArray:
    """Rows inside, on and outside the bounds of a gene, ``(N, n_columns)``."""
    rng = np.random.default_rng(SEED)
    low, high = gene.bounds
    span = np.maximum(high - low, 1.0)
    wide = rng.uniform(low - span, high + span, size=(N_ROWS, gene.n_columns))
    return np.vstack([low[None], high[None], gene.sample(rng, N_ROWS), wide])


def test_every_kind_of_gene_has_an_example() -> None:
    assert {type(gene) for gene in GENES} >= {kind for kind in kinds() if kind.__module__.startswith("evorec.")}


@every_gene
def test_rows_values_and_json_convert_into_each_other_exactly(gene: Gene) -> None:
    rows = rows_around(gene)
    before = rows.copy()
    snapped = gene.snap(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(gene.snap(snapped), snapped)
    assert (snapped >= gene.bounds[0]).all()
    assert (snapped <= gene.bounds[1]).all()
    assert not np.signbit(snapped[snapped == 0]).any(), "-0.0 would make a second key for 0.0"
    for row, grid in zip(rows, snapped, strict=True):
        value = gene.decode(row)
        assert type(value) in (bool, int, float, str, tuple)
        for encoded in (gene.encode(value), gene.encode(json.loads(json.dumps(value)))):
            np.testing.assert_array_equal(encoded, grid, err_msg=f"{row}, seed {SEED}")
            again = gene.decode(encoded)
            assert (again, type(again)) == (value, type(value)), f"{row}, seed {SEED}"
    assert gene.decode(gene.encode(gene.default)) == gene.default


@every_gene
def test_samples_are_snapped_and_reach_every_value_or_the_whole_range(gene: Gene) -> None:
    sample = gene.sample(np.random.default_rng(SEED), N_SAMPLES)
    np.testing.assert_array_equal(gene.snap(sample), sample)
    counts = Counter((type(value), value) for value in map(gene.decode, sample))
    if gene.cardinality > FEW_VALUES:
        assert len(counts) > FEW_VALUES
    else:
        assert len(counts) == gene.cardinality
    if 1 < gene.cardinality <= FEW_VALUES and getattr(gene, "chance", 0.5) == 0.5:
        share = 1 / gene.cardinality
        five_sigma = 5 * math.sqrt(N_SAMPLES * share * (1 - share))
        np.testing.assert_allclose(list(counts.values()), N_SAMPLES * share, atol=five_sigma, err_msg=f"seed {SEED}")
    if gene.cardinality > 1:
        low, high = gene.bounds
        # 3,000 draws miss the outer tenth on one side of a uniform range with probability 0.9 ** 3000
        reach = 0.1 if not isinstance(gene, Simplex) else 0.2  # a Dirichlet of 3 parts is thin near its corners
        assert (sample.min(axis=0) <= low + reach * (high - low)).all()
        assert (sample.max(axis=0) >= high - reach * (high - low)).all()


@every_gene
def test_mutation_and_crossover_give_finite_rows_that_follow_from_the_seed(gene: Gene) -> None:
    def family() -> list[FloatArray]:
        rng = np.random.default_rng(SEED)
        a, b = gene.sample(rng, N_ROWS), gene.sample(rng, N_ROWS)
        mutants = [gene.mutate(a, rng)] if gene.cardinality > 1 else []
        return [*mutants, *gene.recombine(a, b, rng)]

    for rows, again in zip(family(), family(), strict=True):
        assert rows.shape == (N_ROWS, gene.n_columns)
        assert np.isfinite(rows).all()
        np.testing.assert_array_equal(rows, again)
    if gene.cardinality > 1:
        a = gene.sample(np.random.default_rng(SEED), N_ROWS)
        changed = (gene.snap(gene.mutate(a, np.random.default_rng(SEED))) != a).any(axis=1)
        assert changed.mean() > 0.5, "a mutation that seldom changes a value wastes draws"


@every_gene
def test_an_override_with_one_value_fixes_a_gene_under_the_same_condition(gene: Gene) -> None:
    value = gene.decode(gene.sample(np.random.default_rng(SEED), 1)[0])
    fixed = gene.with_override(value)
    assert isinstance(fixed, Fixed)
    assert (fixed.name, fixed.value, type(fixed.value)) == (gene.name, value, type(value))
    assert (fixed.n_columns, fixed.condition, fixed.text) == (0, gene.condition, gene.text)


@every_gene
def test_a_value_of_another_kind_is_refused_with_the_name_of_the_gene(gene: Gene) -> None:
    foreign: Any
    for foreign in (None, math.nan, math.inf, [], {}, {"not": "a value"}, "no such value", -1e300):
        with pytest.raises(ConfigError, match=rf"^{re.escape(gene.name)} must be .*, got "):
            gene.encode(foreign)
    with pytest.raises(ConfigError, match=rf"^{re.escape(gene.name)} must be .*, got "):
        gene.with_override({"not": "a value"})  # type: ignore[arg-type]
