"""Genomes that a search begins with (``search.start``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evorec.config import Faults
from evorec.objectives import FloatArray
from evorec.space.space import SearchSpace


def start_genomes(space: SearchSpace, tables: Sequence[Mapping[str, Any]]) -> FloatArray:
    """The different genomes of the tables, in their order, snapped ``(N, V)``.

    Args:
        space: of the search.
        tables: ``search.start``: values of genes by name; all other genes have their defaults.
    Raises:
        ConfigError: lists every gene that is unknown, inactive or out of range, with its table.
    """
    faults, found = Faults(), dict[str, FloatArray]()
    for number, values in enumerate(tables, start=1):
        with faults.collect(f"search.start, table {number} of {len(tables)}: "):
            x = space.genome(values)
            found.setdefault(space.key(x), x)
    faults.refuse()
    return np.array(list(found.values())).reshape(len(found), space.n_var)


def start_remark(space: SearchSpace, tables: Sequence[Mapping[str, Any]], population: int) -> str:
    """A sentence if a generation has no room for all genomes of the tables; else empty."""
    n = len(start_genomes(space, tables))
    if n <= population:
        return ""
    return f"search.start has {n} genomes, and a generation has {population}: the last {n - population} are left out."
