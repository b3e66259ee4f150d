"""The search space that decoded genomes show, where their own space is not at hand: in a run directory, in a memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evorec.space.gene import Fixed, FloatArray, Gene, When
from evorec.space.genes import Boolean, Categorical, Integer, Real, Simplex
from evorec.space.space import SearchSpace

LOG_FROM: Final = 10.0
"""Positive numbers whose largest is so many times their smallest are put on a log scale."""
MOST_PARENT_VALUES: Final = 12
"""A gene with more values is not looked at as the parent of a conditional gene."""


def observed_space(specs: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """The smallest space that contains all specs.

    Bounds are the extreme values, and the default is the middle value (the most frequent of values without an order). A
    gene that is missing in some specs is conditional if a gene that is present wherever it is decides by its value when
    it is missing. A gene with a single value is `Fixed`.

    Args:
        specs: decoded genomes, plain JSON values.
    Returns:
        The space; its genes have the order of the specs, those that are present more often first.
    Example:
        >>> specs = [{"mix": "mean"}, {"mix": "gate", "experts": 2}, {"mix": "gate", "experts": 5}, {"mix": "mean"}]
        >>> space = observed_space(specs)
        >>> [(gene.name, gene.domain, str(gene.condition or "")) for gene in space.genes]
        [('mix', "'gate', 'mean'", ''), ('experts', '2..5', 'mix is gate')]
    """
    present = {name: [name in spec for spec in specs] for name in dict.fromkeys(n for spec in specs for n in spec)}
    genes = []
    for name in sorted(present, key=lambda name: -sum(present[name])):
        values = [_plain(spec[name]) for spec in specs if name in spec]
        genes.append(_gene(name, values, _condition(name, specs, present)))
    return SearchSpace(tuple(genes))


def encoded(space: SearchSpace, specs: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Genomes of specs of which each may lack some genes.

    Args:
        space: that contains the values of the specs, e.g. their `observed_space`.
        specs: N decoded genomes.
    Returns:
        Snapped genomes ``(N, V)``, with the default where a gene is missing, and which genes each spec has, bool
        ``(N, n_genes)``.
    Raises:
        ConfigError: a value is not one of the space.
    """
    X = np.tile(space.default(), (len(specs), 1))
    has = np.array([[gene.name in spec for gene in space.genes] for spec in specs], dtype=bool)
    for index, gene in enumerate(space.genes):
        for row in np.flatnonzero(has[:, index]).tolist() if gene.n_columns else ():
            X[row, space.slices[gene.name]] = gene.encode(_value(gene, specs[row][gene.name]))
    return space.snap(X), has.reshape(len(specs), len(space.genes))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _value(gene: Gene, value: Any) -> Any:
    value = _plain(value)
    if isinstance(gene, Simplex):
        return (*value, *[0.0] * (len(gene.parts) - len(value)))
    return json.dumps(value) if isinstance(gene, Categorical) and value not in gene.options else value


def _gene(name: str, values: Sequence[Any], when: When | None) -> Gene:
    if all(value == values[0] and type(value) is type(values[0]) for value in values):
        return Fixed(name, values[0], condition=when)
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return Boolean(name, sum(values) * 2 > len(values), condition=when)
    if kinds <= {int, float}:
        low, high, middle = min(values), max(values), sorted(values)[len(values) // 2]
        if kinds == {int}:
            powers = low > 0 and high >= 4 * low and all(value & (value - 1) == 0 for value in values)
            return Integer(name, low, high, default=middle, scale="log2" if powers else "linear", condition=when)
        is_log = low > 0 and high >= LOG_FROM * low
        return Real(name, low, high, default=middle, scale="log" if is_log else "linear", condition=when)
    if kinds == {tuple} and all(_is_weights(value) for value in values):
        n_parts = max(map(len, values))
        return Simplex(name, tuple(f"{name}[{part}]" for part in range(n_parts)), condition=when)
    if not kinds <= {bool, int, float, str}:
        values = [json.dumps(value) for value in values]
    options = sorted(set(map(_typed, values)))
    by_identity = {_typed(value): value for value in values}
    common = max(options, key=lambda option: sum(_typed(value) == option for value in values))
    return Categorical(name, tuple(by_identity[option] for option in options), by_identity[common], condition=when)


def _typed(value: Any) -> tuple[str, str]:
    """``1``, ``1.0`` and ``True`` are different options."""
    return type(value).__name__, str(value)


def _is_weights(value: tuple[Any, ...]) -> bool:
    """Whether a value is that of a `Simplex`, whose weights add up to their number."""
    numbers = [part for part in value if isinstance(part, int | float) and not isinstance(part, bool) and part >= 0]
    return len(numbers) == len(value) > 0 and math.isclose(sum(numbers), len(value), rel_tol=1e-6)


def _condition(name: str, specs: Sequence[Mapping[str, Any]], present: Mapping[str, Sequence[bool]]) -> When | None:
    """The condition of a gene by the gene that is present most often of those that decide when it is missing."""
    own = present[name]
    if all(own):
        return None
    for parent in sorted(present, key=lambda other: -sum(present[other])):
        theirs = present[parent]
        if sum(theirs) <= sum(own) or any(has and not other for has, other in zip(own, theirs, strict=True)):
            continue
        values = [spec[parent] for spec, has in zip(specs, theirs, strict=True) if has]
        if not all(isinstance(value, bool | int | str) for value in values):
            continue
        active = _identities(spec[parent] for spec, has in zip(specs, own, strict=True) if has)
        idle = _identities(spec[parent] for spec, has, par in zip(specs, own, theirs, strict=True) if par and not has)
        if not active & idle and len(active | idle) <= MOST_PARENT_VALUES:
            by_identity = {_typed(value): value for value in values}
            return When(parent, tuple(by_identity[option] for option in sorted(active)))
    return None


def _identities(values: Iterable[Any]) -> set[tuple[str, str]]:
    return set(map(_typed, values))
