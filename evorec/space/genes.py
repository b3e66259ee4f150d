"""Typed genes: the mapping between columns of the genome and the plain values of a spec.

Every gene owns a few float64 columns and a grid on them. `Gene.snap` moves a row to the nearest grid point, so equal
values are equal rows; `Gene.decode` reads a JSON value from a row and `Gene.encode` writes it back, exactly:
``encode(decode(x)) == snap(x)``. An override from a configuration turns a gene into a moved or a `Fixed` one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal, final

import numpy as np

from evorec.config import Bounds, GeneOverride
from evorec.space.gene import Fixed, FloatArray, Gene, Scalar, Value, as_integer, as_number, show

__all__ = ["Boolean", "Categorical", "Conditional", "Fixed", "Gene", "Integer", "Real", "Scalar", "Simplex", "Value"]

LINEAR_STEPS = 1000
"""A linear real gene has at least this many steps; the step is a power of ten, so values read well."""
LOG_DIGITS = 3
"""Significant digits of a real gene on a log scale: steps of 0.1 % to 1 %."""
COLUMN_DECIMALS = 9
"""A log column is rounded to this, so that the last bit of ``log10``, which differs between machines, is not kept."""
SIMPLEX_UNITS = 64
"""Steps per unit of task weight; a power of two, so the sum of the weights is exact in floating point."""
ROUNDING_NOISE = 1e-9
"""A weight this close to a step lies on it: far above the rounding of one division, far below a step."""


@final
@dataclass(frozen=True)
class Real(Gene):
    """A real number between two bounds, both included.

    The column is the value, or its decimal logarithm on a log scale. Values are rounded to readable decimals:
    three significant digits on a log scale, else a power of ten that gives the range 1,000 to 10,000 steps.

    Args:
        name: key in the spec.
        low: lowest value.
        high: highest value; at least ``2 * low`` on a log scale.
        default: value of the default genome.
        scale: ``"linear"`` or ``"log"``.
        unit: for tables, e.g. ``"1/step"``.
        limits: values that no override may leave, e.g. ``(0.0, 1.0)`` for a probability.
        text: one line of help.
    Example:
        >>> rate = Real("learning_rate", 1e-4, 1e-1, scale="log", default=1e-3)
        >>> rate.encode(0.001)
        array([-3.])
        >>> rate.decode(np.array([-2.5001]))
        0.00316
    """

    name: str
    low: float
    high: float
    _: KW_ONLY
    default: float
    scale: Literal["linear", "log"] = "linear"
    unit: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)
    text: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise self.refusal("finite bounds with low < high", (self.low, self.high))
        if self.scale == "log" and not (self.low > 0 and self.high >= 2 * self.low):
            raise self.refusal("positive and span at least a factor of 2 on a log scale", (self.low, self.high))
        if not (self.limits[0] <= self.low and self.high <= self.limits[1]):
            raise self.refusal("given bounds" + _limits(self), (self.low, self.high))
        if not self.low <= self.default <= self.high:
            raise self.refusal(f"given a default in {self.domain}", self.default)
        object.__setattr__(self, "default", self._round(self.default))

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([self._to_column(self.low)]), np.array([self._to_column(self.high)])

    @property
    def cardinality(self) -> float:
        return math.inf

    @property
    def domain(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (f" {self.unit}" if self.unit else "")

    def snap(self, x: FloatArray) -> FloatArray:
        return np.array([[self._to_column(self.decode(row))] for row in x], dtype=np.float64).reshape(-1, 1)

    def decode(self, x: FloatArray) -> float:
        column = float(x[0])
        if self.scale == "linear":
            return self._round(column)
        if column <= self._to_column(self.low):  # compared as columns: 10 ** column may miss a bound by a hair
            return float(self.low)
        return float(self.high) if column >= self._to_column(self.high) else self._round(10.0**column)

    def encode(self, value: object) -> FloatArray:
        number = as_number(value)
        if number is None or not self.low <= number <= self.high:
            raise self.refusal(f"a number in {self.domain}", value)
        return np.array([self._to_column(self._round(number))])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        return self.snap(rng.uniform(*self.bounds, size=(n, 1)))

    def with_override(self, override: GeneOverride) -> Gene:
        if isinstance(override, Bounds):
            default = min(max(self.default, override.low), override.high)
            return replace(self, low=override.low, high=override.high, default=default)
        number = as_number(override)
        if number is None or not math.isfinite(number) or not self.limits[0] <= number <= self.limits[1]:
            raise self.refusal("a finite number" + _limits(self), override)
        if self.scale == "log" and number <= 0:
            raise self.refusal("above 0 on a log scale", override)
        return Fixed(self.name, number, text=self.text)

    def _to_column(self, value: float) -> float:
        return round(math.log10(value), COLUMN_DECIMALS) if self.scale == "log" else float(value)

    def _round(self, value: float) -> float:
        if not self.low < value < self.high:  # the bounds themselves exist, however many digits they have
            return float(min(max(value, self.low), self.high)) + 0.0  # -0.0 becomes 0.0: equal value, equal key
        if self.scale == "log":
            rounded = float(f"{value:.{LOG_DIGITS}g}")
        else:
            rounded = round(float(value), -math.floor(math.log10((self.high - self.low) / LINEAR_STEPS)))
        return min(max(rounded, float(self.low)), float(self.high)) + 0.0


@final
@dataclass(frozen=True)
class Integer(Gene):
    """A whole number between two bounds, both included.

    The column is the value, or its exponent on a ``"log2"`` scale, where only powers of two exist.

    Args:
        name: key in the spec.
        low: lowest value.
        high: highest value.
        default: value of the default genome.
        scale: ``"linear"`` or ``"log2"``.
        unit: for tables.
        limits: values that no override may leave.
        text: one line of help.
    Example:
        >>> width = Integer("width", 16, 128, scale="log2", default=32)
        >>> width.encode(64), width.decode(np.array([6.4]))
        (array([6.]), 64)
    """

    name: str
    low: int
    high: int
    _: KW_ONLY
    default: int
    scale: Literal["linear", "log2"] = "linear"
    unit: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)
    text: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise self.refusal("given bounds with low < high", (self.low, self.high))
        if not (self.limits[0] <= self.low and self.high <= self.limits[1]):
            raise self.refusal("given bounds" + _limits(self), (self.low, self.high))
        for number in (self.low, self.high, self.default):
            if not self._exists(number):
                raise self.refusal("whole numbers" + self._powers(), number)
        if not self.low <= self.default <= self.high:
            raise self.refusal(f"given a default in {self.domain}", self.default)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([self._to_column(self.low)]), np.array([self._to_column(self.high)])

    @property
    def cardinality(self) -> float:
        low, high = self.bounds
        return float(high[0] - low[0] + 1)

    @property
    def domain(self) -> str:
        return f"{self.low}..{self.high}{self._powers()}" + (f" {self.unit}" if self.unit else "")

    def snap(self, x: FloatArray) -> FloatArray:
        return _nearest_integer(x, *self.bounds)

    def decode(self, x: FloatArray) -> int:
        column = int(self.snap(x)[0])
        return 2**column if self.scale == "log2" else column

    def encode(self, value: object) -> FloatArray:
        number = as_integer(value)
        if number is None or not self.low <= number <= self.high or not self._exists(number):
            raise self.refusal(f"a whole number in {self.domain}", value)
        return np.array([self._to_column(number)])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        low, high = self.bounds
        return rng.integers(int(low[0]), int(high[0]), size=(n, 1), endpoint=True).astype(np.float64)

    def with_override(self, override: GeneOverride) -> Gene:
        if isinstance(override, Bounds):
            low, high = as_integer(override.low), as_integer(override.high)
            if low is None or high is None or not (self._exists(low) and self._exists(high)):
                raise self.refusal("given whole bounds" + self._powers(), (override.low, override.high))
            default = min(max(self.default, low), high)
            return replace(self, low=low, high=high, default=default)
        number = as_integer(override)
        if number is None or not self.limits[0] <= number <= self.limits[1]:
            raise self.refusal("a whole number" + _limits(self), override)
        return Fixed(self.name, number, text=self.text)

    def _to_column(self, value: int) -> float:
        return float(value.bit_length() - 1) if self.scale == "log2" else float(value)

    def _exists(self, value: int) -> bool:
        return self.scale == "linear" or (value > 0 and value & (value - 1) == 0)

    def _powers(self) -> str:
        return " (powers of two)" if self.scale == "log2" else ""


@final
@dataclass(frozen=True)
class Categorical(Gene):
    """One of several options without an order; the column is the option's index.

    Args:
        name: key in the spec.
        options: JSON scalars, each with its own type: ``1``, ``1.0`` and ``True`` are three options.
        default: one of the options.
        text: one line of help.
    Example:
        >>> sharing = Categorical("sharing", ("bottom", "mmoe", "ple"), "mmoe")
        >>> sharing.decode(np.array([2.0])), sharing.encode("bottom")
        ('ple', array([0.]))
    """

    name: str
    options: tuple[Scalar, ...]
    default: Scalar
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        identities = {(type(option), option) for option in self.options}
        if not self.options or len(identities) != len(self.options):
            raise self.refusal("given one or more different options", self.options)
        self.encode(self.default)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([0.0]), np.array([len(self.options) - 1.0])

    @property
    def cardinality(self) -> float:
        return float(len(self.options))

    @property
    def domain(self) -> str:
        return ", ".join(show(option) for option in self.options)

    def snap(self, x: FloatArray) -> FloatArray:
        return _nearest_integer(x, *self.bounds)

    def decode(self, x: FloatArray) -> Scalar:
        return self.options[int(self.snap(x)[0])]

    def encode(self, value: object) -> FloatArray:
        for index, option in enumerate(self.options):
            if type(option) is type(value) and option == value:
                return np.array([float(index)])
        raise self.refusal(f"one of {self.domain}", value)

    def with_override(self, override: GeneOverride) -> Gene:
        """Fixed to one option, or left with the listed ones, in their own order."""
        if not isinstance(override, tuple):
            return super().with_override(override)
        places = [int(self.encode(option)[0]) for option in override]
        if not places or len(set(places)) != len(places):
            raise self.refusal(f"given one or more different options of {self.domain}", override)
        chosen = [self.options[place] for place in places]
        if len(chosen) == 1:
            return Fixed(self.name, chosen[0], text=self.text)
        default = self.default if int(self.encode(self.default)[0]) in places else chosen[0]
        return replace(self, options=tuple(self.options[place] for place in sorted(places)), default=default)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        return rng.integers(len(self.options), size=(n, 1)).astype(np.float64)


@final
@dataclass(frozen=True)
class Boolean(Gene):
    """On or off; the column is 0.0 or 1.0.

    Args:
        name: key in the spec.
        default: value of the default genome.
        text: one line of help.
        chance: share of the random genomes in which it is on.
    Example:
        >>> Boolean("use_content", True).encode(False)
        array([0.])
    """

    name: str
    default: bool
    text: str = ""
    chance: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.chance < 1:
            raise self.refusal("given a chance above 0 and below 1", self.chance)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([0.0]), np.array([1.0])

    @property
    def cardinality(self) -> float:
        return 2.0

    @property
    def domain(self) -> str:
        return "true, false"

    def snap(self, x: FloatArray) -> FloatArray:
        return _nearest_integer(x, *self.bounds)

    def decode(self, x: FloatArray) -> bool:
        return bool(self.snap(x)[0])

    def encode(self, value: object) -> FloatArray:
        if not isinstance(value, bool):
            raise self.refusal("true or false", value)
        return np.array([float(value)])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        if self.chance == 0.5:
            return rng.integers(2, size=(n, 1)).astype(np.float64)
        return (rng.random((n, 1)) < self.chance).astype(np.float64)


@final
@dataclass(frozen=True)
class Simplex(Gene):
    """Weights of several parts: non-negative, with sum T, the number of parts.

    Sum T keeps a part's mean weight at 1 whatever the number of parts, so the learning rate means the same. Weights are
    multiples of 1/64 by largest remainders, ties to the earlier part; the sum is exact.

    Args:
        name: key in the spec; its value is a tuple in the order of `parts`.
        parts: names of the T parts, e.g. tasks.
        default: any non-negative weights, scaled to sum T; empty means equal weights.
        text: one line of help.
    Example:
        >>> weights = Simplex("task_weights", ("click", "like"))
        >>> weights.decode(np.array([3.0, 1.0])), weights.encode((1, 1))
        ((1.5, 0.5), array([1., 1.]))
    """

    name: str
    parts: tuple[str, ...]
    default: tuple[float, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise self.refusal("given one or more different parts", self.parts)
        default = self.default or (1.0,) * len(self.parts)
        object.__setattr__(self, "default", self.decode(self.encode(default)))

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        n_parts = len(self.parts)
        return np.zeros(n_parts), np.full(n_parts, float(n_parts))

    @property
    def cardinality(self) -> float:
        n_parts = len(self.parts)
        return float(math.comb(SIMPLEX_UNITS * n_parts + n_parts - 1, n_parts - 1))

    @property
    def domain(self) -> str:
        return f"weights of {', '.join(self.parts)} with sum {len(self.parts)}"

    def snap(self, x: FloatArray) -> FloatArray:
        n_parts = len(self.parts)
        positive = np.clip(x, 0.0, None)
        positive = np.where(positive.sum(axis=1, keepdims=True) > 0, positive, 1.0)  # no weight at all: equal weights
        positive = positive / positive.max(axis=1, keepdims=True)  # huge weights must not overflow in the sum
        units = positive * (SIMPLEX_UNITS * n_parts / positive.sum(axis=1, keepdims=True))
        units = np.where(np.abs(units - np.rint(units)) < ROUNDING_NOISE, np.rint(units), units)
        whole = np.floor(units)
        missing = SIMPLEX_UNITS * n_parts - whole.sum(axis=1, keepdims=True)
        rank = np.argsort(np.argsort(whole - units, axis=1, kind="stable"), axis=1, kind="stable")
        snapped: FloatArray = (whole + (rank < missing)) / SIMPLEX_UNITS
        return snapped

    def decode(self, x: FloatArray) -> tuple[float, ...]:
        return tuple(float(weight) for weight in self.snap(np.asarray(x)[None, :])[0])

    def encode(self, value: object) -> FloatArray:
        n_parts = len(self.parts)
        numbers = [as_number(weight) for weight in value] if isinstance(value, Sequence) else []
        weights = [number for number in numbers if number is not None and 0 <= number < math.inf]
        if isinstance(value, str) or len(numbers) != n_parts or len(weights) != n_parts or not any(weights):
            raise self.refusal(f"{n_parts} non-negative weights, not all 0, of {', '.join(self.parts)}", value)
        row: FloatArray = self.snap(np.array([weights]))[0]
        return row

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        return self.snap(rng.dirichlet(np.ones(len(self.parts)), size=n))


@final
@dataclass(frozen=True)
class Conditional:
    """A gene that counts only while another gene, declared before it, has one of the given values.

    An inactive gene is absent from the spec and its columns hold the default, so it can make no two rows differ.

    Args:
        gene: the conditional gene.
        parent: name of the gene it depends on, which may be conditional itself.
        values: decoded values of the parent that activate the gene.
    Example:
        >>> experts = Conditional(Integer("n_experts", 2, 8, default=4), parent="sharing", values=("mmoe", "ple"))
        >>> experts.name
        'n_experts'
    """

    gene: Gene
    parent: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """Name of the gene."""
        return self.gene.name


def _limits(gene: Real | Integer) -> str:
    low, high = gene.limits
    return "" if gene.limits == (-math.inf, math.inf) else f" within {low:g}..{high:g}"


def _nearest_integer(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    snapped: FloatArray = np.clip(np.floor(x + 0.5), low, high) + 0.0  # -0.0 becomes 0.0
    return snapped
