"""The search space: the columns of all genes in a float64 row, and the spec of a row."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from evorec.config import GeneOverride
from evorec.errors import ConfigError, guess
from evorec.space.gene import SEARCH, FloatArray, Gene, Value

SAMPLE_ROUNDS = 100
"""Draws per wanted row before a repeat is accepted: enough to see nearly all of a space as small as the sample."""


@final
@dataclass(frozen=True)
class SearchSpace:
    """A tuple of genes; a genome is a float64 row ``(V,)`` with the genes' columns in order.

    Args:
        genes: genes with different names; a gene with a condition comes after its parent.
    Raises:
        ConfigError: a name is repeated, a parent is missing or comes later, or a condition can never hold.
    Example:
        >>> from evorec.space.genes import Categorical, Integer, When
        >>> space = SearchSpace((
        ...     Categorical("sharing", ("bottom", "mmoe"), "bottom"),
        ...     Integer("n_experts", 2, 8, default=4, condition=When("sharing", ("mmoe",))),
        ... ))
        >>> space.decode(np.array([1.0, 6.0]))
        {'sharing': 'mmoe', 'n_experts': 6}
        >>> space.decode(np.array([0.0, 6.0])), space.snap(np.array([[0.0, 6.0]]))
        ({'sharing': 'bottom'}, array([[0., 4.]]))
    """

    genes: tuple[Gene, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", tuple(self.genes))
        seen: dict[str, Gene] = {}
        for gene in self.genes:
            if gene.name in seen:
                raise ConfigError(f"gene names must differ, got {gene.name!r} twice.")
            if (when := gene.condition) is not None:
                if when.parent not in seen:
                    raise ConfigError(f"gene {gene.name} depends on {when.parent!r}, which must be declared before it.")
                if not when.values:
                    raise ConfigError(f"gene {gene.name} must name the values of {when.parent} that activate it.")
                for value in when.values:
                    if not (parent := seen[when.parent]).can_be(value):
                        raise ConfigError(
                            f"gene {gene.name}: {parent.name} is one of {parent.domain}, never {value!r}."
                        )
            seen[gene.name] = gene

    def __repr__(self) -> str:
        return f"SearchSpace({len(self.genes)} genes, {self.n_var} columns)"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all genes, in order."""
        return tuple(gene.name for gene in self.genes)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Columns of each gene."""
        ends = np.cumsum([gene.n_columns for gene in self.genes], dtype=int)
        return {
            gene.name: slice(int(end) - gene.n_columns, int(end)) for gene, end in zip(self.genes, ends, strict=True)
        }

    @cached_property
    def n_var(self) -> int:
        """Number of columns V."""
        return sum(gene.n_columns for gene in self.genes)

    @cached_property
    def low(self) -> FloatArray:
        """Lowest column values, float64 ``(V,)``."""
        return np.concatenate([np.empty(0), *(gene.bounds[0] for gene in self.genes)])

    @cached_property
    def high(self) -> FloatArray:
        """Highest column values, float64 ``(V,)``."""
        return np.concatenate([np.empty(0), *(gene.bounds[1] for gene in self.genes)])

    def gene(self, name: str) -> Gene:
        """The gene called `name`.

        Raises:
            ConfigError: there is no such gene.
        """
        for gene in self.genes:
            if gene.name == name:
                return gene
        raise ConfigError(f"{name!r} is not a gene of this space{guess(name, self.names)}")

    def active(self, X: FloatArray) -> NDArray[np.bool_]:
        """Which genes count, bool ``(P, n_genes)`` for ``X (P, V)``, in the order of `names`."""
        out = np.ones((len(X), len(self.genes)), dtype=bool)
        for index, gene in enumerate(self.genes):
            if (when := gene.condition) is not None:
                parent, columns = self.gene(when.parent), X[:, self.slices[when.parent]]
                rows, index_of = np.unique(columns, axis=0, return_inverse=True)  # equal rows are decoded once
                holds = np.array([when.accepts(parent.decode(row)) for row in rows], dtype=bool)
                out[:, index] = out[:, self.names.index(when.parent)] & holds[index_of.reshape(-1)]
        return out

    def snap(self, X: FloatArray) -> FloatArray:
        """Rows moved to the grid, inactive genes to their default; a second snap changes nothing.

        Args:
            X: genomes, float64 ``(P, V)``; values outside the bounds are clipped.
        Returns:
            float64 ``(P, V)``, a new array.
        Raises:
            ConfigError: wrong shape, or a value that is not finite.
        """
        rows = self._checked(X)
        out = np.empty_like(rows)
        for gene in self.genes:
            columns = self.slices[gene.name]
            out[:, columns] = gene.snap(rows[:, columns])
        inactive = ~self.active(out)
        for index, gene in enumerate(self.genes):
            if inactive[:, index].any():
                out[inactive[:, index], self.slices[gene.name]] = gene.encode(gene.default)
        return out

    def decode(self, x: FloatArray) -> dict[str, Any]:
        """The spec of a genome ``x (V,)``: plain JSON values of the active genes, parents before children."""
        row = self._checked(np.asarray(x)[None, :])[0]
        return self._active_values(lambda gene: gene.decode(row[self.slices[gene.name]]))

    def spec_of(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """The spec of a value for each gene, without the genes that are inactive.

        Args:
            values: a value for every gene of the space, active or not.
        """
        return self._active_values(lambda gene: values[gene.name])

    def encode(self, spec: Mapping[str, Any]) -> FloatArray:
        """The snapped genome ``(V,)`` of a spec; real values move to their grid.

        Args:
            spec: a value for each active gene and for no other.
        Raises:
            ConfigError: lists every gene that is missing, unknown, inactive or out of range.
        """
        x, errors = self.default(), []
        for gene in self.genes:
            if not gene.is_active(spec):
                if gene.name in spec:
                    errors.append(f"{gene.name} must be absent unless {gene.condition}, got {spec[gene.name]!r}.")
            elif gene.name not in spec:
                errors.append(f"{gene.name} is missing; expected {gene.domain}.")
            else:
                try:
                    x[self.slices[gene.name]] = gene.encode(spec[gene.name])
                except ConfigError as error:
                    errors.append(str(error))
        errors += [f"{name} is not a gene{guess(name, self.names)}" for name in spec if name not in self.names]
        if errors:
            raise ConfigError("\n".join(errors))
        row: FloatArray = self.snap(x[None, :])[0]
        return row

    def genome(self, values: Mapping[str, Any]) -> FloatArray:
        """The snapped genome ``(V,)`` of values of some genes; all other genes have their defaults.

        Raises:
            ConfigError: lists every gene that is unknown, inactive or out of range.
        """
        defaults = {gene.name: gene.default for gene in self.genes}
        return self.encode({**self.spec_of({**defaults, **values}), **values})

    def key(self, x: FloatArray) -> str:
        """Name of a genome ``x (V,)``: 16 hexadecimal digits of its spec, so equal specs have equal keys."""
        text = json.dumps(self.decode(x), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def default(self) -> FloatArray:
        """The default genome, float64 ``(V,)``, snapped."""
        parts = [gene.encode(gene.default) for gene in self.genes]
        x: FloatArray = np.concatenate([np.empty(0), *parts])
        return x

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Random genomes, snapped; each gene uniform on its own scale.

        Args:
            rng: source of randomness.
            n: number of rows.
        Returns:
            float64 ``(n, V)``; rows differ as long as the space has enough of them, then they repeat.
        """
        found: dict[bytes, FloatArray] = {}
        for _ in range(SAMPLE_ROUNDS):
            drawn = [gene.sample(rng, n) for gene in self.genes]
            for row in self.snap(np.hstack([np.empty((n, 0)), *drawn])):
                found.setdefault(row.tobytes(), row)
            if len(found) >= min(n, self.cardinality()):
                break
        distinct = list(found.values())[:n]
        rows: FloatArray = np.array(distinct, dtype=np.float64).reshape(len(distinct), self.n_var)
        out: FloatArray = rows[np.arange(n) % max(len(rows), 1)]
        return out

    def cardinality(self) -> float:
        """Number of different specs; infinite with a real gene that can be active."""
        return math.prod(self._n_specs(gene) for gene in self.genes if gene.condition is None)

    def with_overrides(self, overrides: Mapping[str, GeneOverride], source: str = "") -> SearchSpace:
        """The space with genes fixed, their bounds moved or their options restricted.

        Args:
            overrides: per gene a value, which fixes it, `Bounds`, options to choose from, or ``"search"``, which leaves
                it as declared.
            source: named in the message, e.g. the configuration file; empty = not named.
        Returns:
            The new space, without the optional genes that have no override, which count as at their default, and
            without the genes that no value of their parent activates any more.
        Raises:
            ConfigError: lists every unknown gene and every unsuitable override.
        """
        where = f" ({source})" if source else ""
        errors = [
            f"space.{name}{where} is not a gene{guess(name, self.names)}"
            for name in overrides
            if name not in self.names
        ]
        genes: dict[str, Gene] = {}
        left_out = set[str]()
        for gene in self.genes:
            if gene.optional and gene.name not in overrides:
                left_out.add(gene.name)
                continue
            override = overrides.get(gene.name, SEARCH)
            try:
                changed = gene.searched() if override == SEARCH else gene.with_override(override)
            except ConfigError as error:
                errors.append(f"space.{gene.name}{where}{str(error).removeprefix(gene.name)}")
                continue
            when = gene.condition
            while when is not None and when.values and when.parent in left_out:
                absent = self.gene(when.parent)
                when = absent.condition if when.accepts(absent.default) else replace(when, values=())
            if when is not None:  # without the values that the parent can no longer have
                parent = genes.get(when.parent)
                when = replace(when, values=() if parent is None else tuple(filter(parent.can_be, when.values)))
            if when is None or when.values:
                genes[gene.name] = replace(changed, condition=when, optional=False)
        if errors:
            raise ConfigError("\n".join(errors))
        return SearchSpace(tuple(genes.values()))

    def describe(self) -> list[dict[str, Any]]:
        """For each gene its name, kind, domain, default, condition and text, for tables."""
        return [
            {"name": g.name, "kind": type(g).__name__.lower(), "domain": g.domain, "default": g.default}
            | {"condition": str(g.condition or ""), "text": g.text}
            for g in self.genes
        ]

    def _active_values(self, value_of: Callable[[Gene], Value]) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        for gene in self.genes:
            if gene.is_active(spec):
                spec[gene.name] = value_of(gene)
        return spec

    def _checked(self, X: FloatArray) -> FloatArray:
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_var:
            raise ConfigError(f"genomes must have shape (P, {self.n_var}), got {np.shape(X)}.")
        if not np.isfinite(rows).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
            name = next(name for name, columns in self.slices.items() if columns.start <= column < columns.stop)
            raise ConfigError(f"genomes must be finite, got {rows[row, column]} in row {row}, gene {name}.")
        return rows

    def _n_specs(self, gene: Gene) -> float:
        """Specs of a gene and all that depends on it: the sum over its values of the product over its children."""
        children = [(child, child.condition) for child in self.genes if child.condition is not None]
        children = [(child, when) for child, when in children if when.parent == gene.name]
        named = {json.dumps(value): value for _, when in children for value in when.values if gene.can_be(value)}
        total = gene.cardinality - len(named)
        for value in named.values():
            total += math.prod(self._n_specs(child) for child, when in children if when.accepts(value))
        return total
