"""What holds for every kind of gene, and for every gene of the recommender's own space."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from space.examples import GENES

from evorec.errors import ConfigError
from evorec.models.spec import default_space
from evorec.space.gene import Fixed, Gene

SEED = 5
SPACE = default_space(("click", "like"), n_layers=3, days=10.0, funnel=True, uniform_negatives=128, retrieval_batch=256)

every_gene = pytest.mark.parametrize(
    "gene", [*GENES, *(SPACE.gene(name) for name in SPACE.names)], ids=lambda gene: gene.name
)


def test_every_kind_of_gene_has_an_example() -> None:
    assert {type(gene) for gene in GENES} >= {kind for kind in Gene.__subclasses__() if not inspect.isabstract(kind)}


@every_gene
def test_a_value_survives_encoding_and_a_row_is_snapped_once(gene: Gene) -> None:
    rows = gene.sample(np.random.default_rng(SEED), 50)
    rows = np.vstack([rows, rows + 0.3, *gene.bounds])
    snapped = gene.snap(rows)
    np.testing.assert_array_equal(gene.snap(snapped), snapped, err_msg=f"seed {SEED}")
    for row, grid in zip(rows, snapped, strict=True):
        value = gene.decode(row)
        np.testing.assert_array_equal(gene.encode(value), grid, err_msg=f"seed {SEED}")
        again = gene.decode(grid)
        assert (again, type(again)) == (value, type(value)), f"seed {SEED}"


@every_gene
def test_an_override_with_one_value_fixes_a_gene(gene: Gene) -> None:
    value = gene.decode(gene.sample(np.random.default_rng(SEED), 1)[0])
    fixed = gene.with_override(value)
    assert isinstance(fixed, Fixed)
    assert fixed.n_columns == 0
    assert (fixed.name, fixed.value, type(fixed.value)) == (gene.name, value, type(value))


@every_gene
def test_an_override_of_a_foreign_kind_is_refused_with_the_name_of_the_gene(gene: Gene) -> None:
    foreign: Any = {"not": "a value"}
    with pytest.raises(ConfigError, match=re.escape(gene.name)):
        gene.with_override(foreign)
