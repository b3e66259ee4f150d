"""The search space: genes side by side in one float64 row, and the spec that a row means."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from evorec.config import GeneOverride
from evorec.errors import ConfigError
from evorec.space.gene import FloatArray, Gene, Value, show
from evorec.space.genes import Boolean, Categorical, Conditional

SAMPLE_ROUNDS = 100
"""Draws per wanted row before a repeat is accepted: enough to see nearly all of a space as small as the sample."""


@final
@dataclass(frozen=True)
class GeneInfo:
    """One line of `SearchSpace.describe`."""

    name: str
    kind: str
    domain: str
    default: Value
    condition: str
    text: str


@final
@dataclass(frozen=True)
class SearchSpace:
    """A tuple of genes; a genome is a float64 row ``(V,)`` with the genes' columns in order.

    Args:
        genes: genes with different names; a `Conditional` comes after its parent.
    Raises:
        ConfigError: a name stands twice, a parent is missing or comes later, or a condition can never hold.
    Example:
        >>> from evorec.space.genes import Categorical, Conditional, Integer
        >>> space = SearchSpace((
        ...     Categorical("sharing", ("bottom", "mmoe"), "bottom"),
        ...     Conditional(Integer("n_experts", 2, 8, default=4), parent="sharing", values=("mmoe",)),
        ... ))
        >>> space.decode(np.array([1.0, 6.0]))
        {'sharing': 'mmoe', 'n_experts': 6}
        >>> space.decode(np.array([0.0, 6.0])), space.snap(np.array([[0.0, 6.0]]))
        ({'sharing': 'bottom'}, array([[0., 4.]]))
    """

    genes: tuple[Gene | Conditional, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", tuple(self.genes))
        seen: dict[str, Gene] = {}
        for item in self.genes:
            if item.name in seen:
                raise ConfigError(f"gene names must differ, got {item.name!r} twice.")
            if isinstance(item, Conditional):
                _check_condition(item, seen)
            seen[item.name] = _bare(item)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all genes, in order."""
        return tuple(item.name for item in self.genes)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Columns of each gene."""
        ends = np.cumsum([_bare(item).n_columns for item in self.genes], dtype=int)
        return {
            item.name: slice(int(end) - _bare(item).n_columns, int(end))
            for item, end in zip(self.genes, ends, strict=True)
        }

    @cached_property
    def n_var(self) -> int:
        """Number of columns V."""
        return sum(_bare(item).n_columns for item in self.genes)

    @cached_property
    def low(self) -> FloatArray:
        """Lowest column values, float64 ``(V,)``."""
        return np.concatenate([np.empty(0), *(_bare(item).bounds[0] for item in self.genes)])

    @cached_property
    def high(self) -> FloatArray:
        """Highest column values, float64 ``(V,)``."""
        return np.concatenate([np.empty(0), *(_bare(item).bounds[1] for item in self.genes)])

    def gene(self, name: str) -> Gene:
        """The gene called `name`, without its condition.

        Raises:
            ConfigError: there is no such gene.
        """
        for item in self.genes:
            if item.name == name:
                return _bare(item)
        raise ConfigError(f"{name!r} is not a gene of this space; known: {', '.join(self.names)}.")

    def active(self, X: FloatArray) -> NDArray[np.bool_]:
        """Which genes count, bool ``(P, n_genes)`` for ``X (P, V)``, in the order of `names`."""
        out = np.ones((len(X), len(self.genes)), dtype=bool)
        position = {name: index for index, name in enumerate(self.names)}
        for index, item in enumerate(self.genes):
            if isinstance(item, Conditional):
                holds = _parent_holds(item, self.gene(item.parent), X[:, self.slices[item.parent]])
                out[:, index] = out[:, position[item.parent]] & holds
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
        for item in self.genes:
            columns = self.slices[item.name]
            out[:, columns] = _bare(item).snap(rows[:, columns])
        inactive = ~self.active(out)
        for index, item in enumerate(self.genes):
            gene = _bare(item)
            if inactive[:, index].any():
                out[inactive[:, index], self.slices[item.name]] = gene.encode(gene.default)
        return out

    def decode(self, x: FloatArray) -> dict[str, Any]:
        """The spec of one genome ``x (V,)``: plain JSON values of the active genes, parents before children."""
        row = self._checked(np.asarray(x)[None, :])[0]
        spec: dict[str, Any] = {}
        for item in self.genes:
            if not isinstance(item, Conditional) or _holds(item, spec):
                spec[item.name] = _bare(item).decode(row[self.slices[item.name]])
        return spec

    def spec_of(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """The spec of a value for each gene, without the genes that are inactive.

        Args:
            values: a value that exists for every gene of the space, active or not.
        """
        spec: dict[str, Any] = {}
        for item in self.genes:
            if not isinstance(item, Conditional) or _holds(item, spec):
                spec[item.name] = values[item.name]
        return spec

    def encode(self, spec: Mapping[str, Any]) -> FloatArray:
        """The snapped genome ``(V,)`` of a spec; real values move to their grid.

        Args:
            spec: a value for each active gene and for no other.
        Raises:
            ConfigError: lists every gene that is missing, unknown, inactive or out of range.
        """
        x, errors = self.default(), []
        for item in self.genes:
            gene = _bare(item)
            if isinstance(item, Conditional) and not _holds(item, spec):
                if item.name in spec:
                    errors.append(f"{item.name} must be absent unless {_condition(item)}, got {spec[item.name]!r}.")
            elif item.name not in spec:
                errors.append(f"{item.name} is missing; expected {gene.domain}.")
            else:
                try:
                    x[self.slices[item.name]] = gene.encode(spec[item.name])
                except ConfigError as error:
                    errors.append(str(error))
        errors += [f"{name} is not a gene; known: {', '.join(self.names)}." for name in spec if name not in self.names]
        if errors:
            raise ConfigError("\n".join(errors))
        row: FloatArray = self.snap(x[None, :])[0]
        return row

    def key(self, x: FloatArray) -> str:
        """Name of a genome ``x (V,)``: 16 hexadecimal digits of its spec, so equal specs have equal keys."""
        text = json.dumps(self.decode(x), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def default(self) -> FloatArray:
        """The default genome, float64 ``(V,)``, snapped."""
        parts = [_bare(item).encode(_bare(item).default) for item in self.genes]
        x: FloatArray = np.concatenate([np.empty(0), *parts])
        return x

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Random genomes, snapped; each gene uniform on its own scale.

        Args:
            rng: source of randomness.
            n: number of rows.
        Returns:
            float64 ``(n, V)``; rows differ as long as the space has enough of them, then the last ones repeat.
        """
        found: dict[bytes, FloatArray] = {}
        for _ in range(SAMPLE_ROUNDS):
            drawn = [_bare(item).sample(rng, n) for item in self.genes]
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
        roots = [item for item in self.genes if not isinstance(item, Conditional)]
        return math.prod(self._n_specs(gene) for gene in roots)

    def with_overrides(self, overrides: Mapping[str, GeneOverride], source: str) -> SearchSpace:
        """The space with genes fixed, their bounds moved or their options restricted.

        Args:
            overrides: per gene one value, which fixes it, `Bounds`, or options to choose from.
            source: named in the message, e.g. the configuration file.
        Returns:
            The space without the genes that no value of their parent activates any more.
        Raises:
            ConfigError: lists every unknown gene and every unsuitable override.
        """
        errors = [
            f"{source}: space.{name} is not a gene; known: {', '.join(self.names)}."
            for name in overrides
            if name not in self.names
        ]
        genes: list[Gene | Conditional] = []
        for item in self.genes:
            try:
                gene = _bare(item).with_override(overrides[item.name]) if item.name in overrides else _bare(item)
            except ConfigError as error:
                errors.append(f"{source}: space.{error}")
                continue
            genes.append(replace(item, gene=gene) if isinstance(item, Conditional) else gene)
        if errors:
            raise ConfigError("\n".join(errors))
        return SearchSpace(_reachable(genes))

    def describe(self) -> list[GeneInfo]:
        """One line per gene, for tables."""
        return [
            GeneInfo(
                name=item.name,
                kind=type(_bare(item)).__name__.lower(),
                domain=_bare(item).domain,
                default=_bare(item).default,
                condition=_condition(item) if isinstance(item, Conditional) else "",
                text=_bare(item).text,
            )
            for item in self.genes
        ]

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
        children = [item for item in self.genes if isinstance(item, Conditional) and item.parent == gene.name]
        named = {json.dumps(value): value for child in children for value in child.values if _can_be(gene, value)}
        total = gene.cardinality - len(named)
        for value in named.values():
            total += math.prod(self._n_specs(child.gene) for child in children if _is_among(value, child.values))
        return total


def _bare(item: Gene | Conditional) -> Gene:
    return item.gene if isinstance(item, Conditional) else item


def _check_condition(item: Conditional, seen: Mapping[str, Gene]) -> None:
    if item.parent not in seen:
        raise ConfigError(f"gene {item.name} depends on {item.parent!r}, which must be declared before it.")
    if not item.values:
        raise ConfigError(f"gene {item.name} must name the values of {item.parent} that activate it, got none.")
    parent = seen[item.parent]
    if isinstance(parent, Categorical | Boolean):  # other kinds may have had their bounds moved by an override
        for value in item.values:
            if not _can_be(parent, value):
                raise ConfigError(f"gene {item.name}: {item.parent} is one of {parent.domain}, never {value!r}.")


def _reachable(genes: Sequence[Gene | Conditional]) -> tuple[Gene | Conditional, ...]:
    """The genes that can be active, each with the values of its parent that still exist."""
    kept: dict[str, Gene | Conditional] = {}
    for item in genes:
        if isinstance(item, Conditional):
            parent = kept.get(item.parent)
            values = () if parent is None else tuple(v for v in item.values if _can_be(_bare(parent), v))
            if not values:
                continue
            item = replace(item, values=values)
        kept[item.name] = item
    return tuple(kept.values())


def _can_be(gene: Gene, value: Value) -> bool:
    try:
        return gene.decode(gene.encode(value)) == value
    except ConfigError:
        return False


def _parent_holds(item: Conditional, parent: Gene, columns: FloatArray) -> NDArray[np.bool_]:
    """Whether the parent's value activates the gene, bool ``(P,)``; equal columns are decoded once."""
    answers: dict[bytes, bool] = {}
    for row in columns:
        if (place := row.tobytes()) not in answers:
            answers[place] = _is_among(parent.decode(row), item.values)
    return np.array([answers[row.tobytes()] for row in columns], dtype=bool)


def _is_among(value: object, values: tuple[Value, ...]) -> bool:
    """Membership that keeps ``True`` and ``1`` apart."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def _holds(item: Conditional, spec: Mapping[str, Any]) -> bool:
    return item.parent in spec and _is_among(spec[item.parent], item.values)


def _condition(item: Conditional) -> str:
    return f"{item.parent} is {' or '.join(v if isinstance(v, str) else show(v) for v in item.values)}"
