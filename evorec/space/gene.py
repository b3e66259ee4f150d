"""Base class of genes: named columns on a grid, the value read from them, and their mutation and crossover."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from evorec.config import Bounds, GeneOverride
from evorec.errors import ConfigError

SEARCH = "search"
"""The override that adds an optional gene with its own bounds."""

FloatArray = NDArray[np.float64]
Scalar = bool | int | float | str
Value = Scalar | tuple[float, ...]


@final
@dataclass(frozen=True)
class When:
    """Condition of a gene: the gene counts only while another gene has certain values.

    Args:
        parent: name of the other gene, which is declared earlier and may itself have a condition.
        values: decoded values of the parent that activate the gene.
    Example:
        >>> str(When("sharing", ("mmoe", "ple")))
        'sharing is mmoe or ple'
    """

    parent: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def accepts(self, value: object) -> bool:
        """Whether a value of the parent activates the gene; ``True`` and ``1`` are different values."""
        return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in self.values)

    def __str__(self) -> str:
        return f"{self.parent} is {' or '.join(v if isinstance(v, str) else show(v) for v in self.values)}"


@dataclass(frozen=True)
class Gene(abc.ABC):
    """A named decision of the genome, on `n_columns` float64 columns.

    A gene of your own is a frozen dataclass that extends this class, with a field or property ``default``. It works in
    every search, operator and table. Mutation and crossover have defaults that suit values without an order.

    Args:
        name: key in the spec.
        text: short help text.
        condition: when the gene counts; ``None`` = always. The columns of an inactive gene hold its default, and the
            spec does not contain it.
        optional: whether a configuration must name the gene to have it (`SearchSpace.with_overrides`).
    """

    name: str
    _: KW_ONLY
    text: str = ""
    condition: When | None = None
    optional: bool = False

    if TYPE_CHECKING:  # a field here would come before the fields of the subclasses

        @property
        def default(self) -> Value:
            """Value of the default genome."""

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest column values, float64 ``(n_columns,)`` each."""

    @property
    @abc.abstractmethod
    def cardinality(self) -> float:
        """Number of different values; infinite for real genes."""

    @property
    @abc.abstractmethod
    def domain(self) -> str:
        """The possible values in words, for tables and messages."""

    @abc.abstractmethod
    def snap(self, x: FloatArray) -> FloatArray:
        """Nearest grid points of ``x (N, n_columns)``, same shape; finite input outside the bounds is clipped."""

    @abc.abstractmethod
    def decode(self, x: FloatArray) -> Value:
        """The value at ``x (n_columns,)``; a row off the grid decodes as its nearest grid point."""

    @abc.abstractmethod
    def encode(self, value: object) -> FloatArray:
        """The grid point ``(n_columns,)`` nearest to `value`.

        Raises:
            ConfigError: the value has the wrong type or is out of range.
        """

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Snapped random columns, float64 ``(n, n_columns)``, uniform over the values or the encoded range."""

    def mutate(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A mutation step of each row, not necessarily snapped; by default a new sample.

        The operators snap the result and draw again while a row is unchanged.

        Args:
            x: snapped rows ``(N, n_columns)``.
            rng: source of randomness.
        """
        return self.sample(rng, len(x))

    def recombine(self, a: FloatArray, b: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Two children of each pair of parents, not necessarily snapped; by default the parents exchange their values.

        Args:
            a: snapped rows ``(N, n_columns)`` of the first parents.
            b: snapped rows of the second parents.
            rng: source of randomness.
        """
        return b.copy(), a.copy()

    def features(self, x: FloatArray) -> FloatArray:
        """Coordinates in which near genomes behave alike, for models of the search, float64 ``(N, d)``.

        By default each column relative to its bounds. The distance between the most different values should be about 1.

        Args:
            x: snapped rows ``(N, n_columns)``.
        """
        low, high = self.bounds
        scaled: FloatArray = (x - low) / np.where(high > low, high - low, 1.0)
        return scaled

    def with_override(self, override: GeneOverride) -> Gene:
        """This gene fixed to a value or, if its values have an order, with moved bounds.

        Raises:
            ConfigError: the override does not suit this kind of gene.
        """
        return self.fixed(self.decode(self.encode(override)))

    def searched(self) -> Gene:
        """This gene in a space whose configuration does not name its values."""
        return self

    def fixed(self, value: Value) -> Fixed:
        """A gene of this name and condition that always has `value`."""
        return Fixed(self.name, value, text=self.text, condition=self.condition)

    @property
    def n_columns(self) -> int:
        """Number of genome columns."""
        return len(self.bounds[0])

    def can_be(self, value: Value) -> bool:
        """Whether the gene can have `value`."""
        try:
            return self.decode(self.encode(value)) == value
        except ConfigError:
            return False

    def is_active(self, spec: Mapping[str, Any]) -> bool:
        """Whether the gene counts in a spec that contains its parent."""
        when = self.condition
        return when is None or (when.parent in spec and when.accepts(spec[when.parent]))

    def refusal(self, expected: str, got: object) -> ConfigError:
        """The error that names the gene and the value that it expected."""
        return ConfigError(f"{self.name} must be {expected}, got {show(got)}.")


@final
@dataclass(frozen=True)
class Fixed(Gene):
    """A value that the search does not vary; it has no column but is part of every spec.

    Example:
        >>> Fixed("width", 64).decode(np.empty(0))
        64
    """

    value: Value

    @property
    def default(self) -> Value:
        """The value."""
        return self.value

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.empty(0), np.empty(0)

    @property
    def cardinality(self) -> float:
        return 1.0

    @property
    def domain(self) -> str:
        return show(self.value)

    def snap(self, x: FloatArray) -> FloatArray:
        return np.empty((len(x), 0))

    def decode(self, x: FloatArray) -> Value:
        return self.value

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        return np.empty((n, 0))

    def encode(self, value: object) -> FloatArray:
        if _like(self.value, value) != self.value:
            raise self.refusal(f"the fixed value {self.domain}", value)
        return np.empty(0)

    def with_override(self, override: GeneOverride) -> Gene:
        value = _like(self.value, override)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            raise self.refusal(f"a value of the same kind as {self.domain}, which the problem fixes", override)
        return replace(self, value=value)


def as_number(value: object) -> float | None:
    """A finite or infinite number as float; None for anything else, booleans and NaN included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)


def as_integer(value: object) -> int | None:
    """A whole number as int; None for anything else. Bounds arrive as floats, so 16.0 is whole."""
    number = as_number(value)
    return int(number) if number is not None and math.isfinite(number) and number == int(number) else None


def _like(pattern: Value, value: object) -> Value | None:
    """`value` as the kind that `pattern` is; None when it is of another kind. JSON brings tuples back as lists."""
    if isinstance(pattern, tuple):
        numbers = [as_number(number) for number in value] if isinstance(value, list | tuple) else []
        known = tuple(number for number in numbers if number is not None and math.isfinite(number))
        return known if len(known) == len(numbers) == len(pattern) else None
    if isinstance(pattern, bool | str):
        return value if type(value) is type(pattern) else None
    return as_integer(value) if isinstance(pattern, int) else as_number(value)


def show(value: object) -> str:
    """A value as a TOML reader writes it."""
    if isinstance(value, Bounds):
        return f"{{low = {value.low:g}, high = {value.high:g}}}"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
