"""Typed genes: the mapping between columns of the genome and the plain values of a spec.

A gene owns a few float64 columns and a grid on them. `Gene.snap` moves a row to the nearest grid point, so equal values
are equal rows; `Gene.decode` reads a JSON value from a row and `Gene.encode` writes it back exactly:
``encode(decode(x)) == snap(x)``. Each kind of gene brings its own mutation and crossover, because pymoo's round reals
to integers, which freezes short ranges. An override from a configuration moves the bounds of a gene or makes it
`Fixed`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal, final

import numpy as np

from evorec.config import Bounds, GeneOverride
from evorec.space.gene import Fixed, FloatArray, Gene, Scalar, Value, When, as_integer, as_number, show

__all__ = [
    "Boolean", "Categorical", "DiscreteGene", "Fixed", "Gene", "Integer", "OrderedGene", "Real", "Scalar", "Simplex",
    "Value", "When",
]  # fmt: skip

LINEAR_STEPS = 1000
"""A linear real gene has at least this many steps; the step is a power of ten, so values read well."""
LOG_DIGITS = 3
"""Significant digits of a real gene on a log scale: steps of 0.1 % to 1 %."""
COLUMN_DECIMALS = 9
"""A log column is rounded to this, because the last bit of ``log10`` differs between machines."""
SBX_ETA = 15.0
"""Distribution index of simulated binary crossover; larger keeps children closer to their parents."""
SMALLEST_GAP = 1e-9
"""Equal parents count as this far apart, as a share of the range: far below a grid step, and nothing overflows."""
POLYNOMIAL_ETA = 20.0
"""Distribution index of polynomial mutation; larger means smaller steps."""
INTEGER_STEP = 0.2
"""A mean integer step is longer than 1 by this share of the range."""
SIMPLEX_UNITS = 64
"""Steps per unit of task weight; a power of two, so the sum of the weights is exact in floating point."""
ROUNDING_NOISE = 1e-9
"""A weight this close to a step lies on it: far above the rounding of a division, far below a step."""
SIMPLEX_SPREAD = 0.5
"""Standard deviation of the logarithm of each weight's factor."""
SIMPLEX_FLOOR = 1 / 32
"""Added to each weight before it is multiplied, so that a weight of 0 can grow again."""
SIMPLEX_RESET = 0.1
"""Probability of new uniform weights, and again of all weight on a single part."""


@dataclass(frozen=True)
class OrderedGene(Gene):
    """A number between two bounds, both included; base of `Real` and `Integer`."""

    low: float
    high: float
    _: KW_ONLY
    default: float
    scale: str = "linear"
    unit: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise self.refusal("finite bounds with low < high", (self.low, self.high))
        if not (self.limits[0] <= self.low and self.high <= self.limits[1]):
            raise self.refusal("given bounds" + self._within(), (self.low, self.high))
        if not self.low <= self.default <= self.high:
            raise self.refusal(f"given a default in {self.domain}", self.default)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([self._to_column(self.low)]), np.array([self._to_column(self.high)])

    def with_override(self, override: GeneOverride) -> Gene:
        """Fixed to a number within the limits, which may be outside the bounds; or with moved bounds."""
        if isinstance(override, Bounds):
            low, high = self._number(override.low), self._number(override.high)
            if low is None or high is None:
                raise self.refusal("given whole bounds", (override.low, override.high))
            return replace(self, low=low, high=high, default=min(max(self.default, low), high))
        number = self._number(override)
        if number is None or not self.limits[0] <= number <= self.limits[1] or not math.isfinite(number):
            kind = "whole" if isinstance(self, Integer) else "finite"
            raise self.refusal(f"a {kind} number{self._within()}", override)
        return self.fixed(number)

    @abc.abstractmethod
    def _number(self, value: object) -> float | None:
        """The value as a number of this kind of gene; None for any other value."""

    def _to_column(self, value: float) -> float:
        if self.scale == "log":
            return round(math.log10(value), COLUMN_DECIMALS)
        return float(int(value).bit_length() - 1) if self.scale == "log2" else float(value)

    def _within(self) -> str:
        low, high = self.limits
        return "" if self.limits == (-math.inf, math.inf) else f" within {low:g}..{high:g}"


@final
@dataclass(frozen=True)
class Real(OrderedGene):
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
        limits: range that no override may leave, e.g. ``(0.0, 1.0)`` for a probability.
    Example:
        >>> rate = Real("learning_rate", 1e-4, 1e-1, scale="log", default=1e-3)
        >>> rate.encode(0.001)
        array([-3.])
        >>> rate.decode(np.array([-2.5001]))
        0.00316
    """

    _: KW_ONLY
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == "log" and not (self.low > 0 and self.high >= 2 * self.low):
            raise self.refusal("positive and span at least a factor of 2 on a log scale", (self.low, self.high))
        object.__setattr__(self, "default", self._round(self.default))

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
        if column <= self._to_column(self.low):  # compared as columns: 10 ** column may miss a bound by rounding
            return float(self.low)
        return float(self.high) if column >= self._to_column(self.high) else self._round(10.0**column)

    def encode(self, value: object) -> FloatArray:
        number = as_number(value)
        if number is None or not self.low <= number <= self.high:
            raise self.refusal(f"a number in {self.domain}", value)
        return np.array([self._to_column(self._round(number))])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        return self.snap(rng.uniform(*self.bounds, size=(n, 1)))

    def mutate(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Bounded polynomial mutation. Source: Deb & Goyal 1996, with the bounds of Deb's NSGA-II code."""
        low, high = self.bounds
        u = rng.random(x.shape)
        power = 1.0 / (POLYNOMIAL_ETA + 1.0)
        room_down, room_up = (x - low) / (high - low), (high - x) / (high - low)
        down = (2.0 * u + (1.0 - 2.0 * u) * (1.0 - room_down) ** (POLYNOMIAL_ETA + 1.0)) ** power - 1.0
        up = 1.0 - (2.0 * (1.0 - u) + (2.0 * u - 1.0) * (1.0 - room_up) ** (POLYNOMIAL_ETA + 1.0)) ** power
        moved: FloatArray = x + np.where(u < 0.5, down, up) * (high - low)
        return moved

    def recombine(self, a: FloatArray, b: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Bounded simulated binary crossover. Source: Deb & Agrawal 1995, with the bounds of Deb's NSGA-II code."""
        low, high = self.bounds
        left, right = np.minimum(a, b), np.maximum(a, b)
        gap = np.maximum(right - left, SMALLEST_GAP * (high - low))
        u = rng.random(a.shape)
        power = 1.0 / (SBX_ETA + 1.0)

        def spread(room: FloatArray) -> FloatArray:
            alpha = 2.0 - (1.0 + 2.0 * room / gap) ** -(SBX_ETA + 1.0)
            inside = (u * alpha) ** power
            outside = (1.0 / np.maximum(2.0 - u * alpha, np.finfo(np.float64).tiny)) ** power
            factor: FloatArray = np.where(u <= 1.0 / alpha, inside, outside)
            return factor

        middle = 0.5 * (left + right)
        near = middle - 0.5 * spread(left - low) * gap
        far = middle + 0.5 * spread(high - right) * gap
        swap = rng.random(a.shape) < 0.5
        return np.where(swap, far, near), np.where(swap, near, far)

    def _number(self, value: object) -> float | None:
        number = as_number(value)
        if self.scale == "log" and number is not None and number <= 0:
            raise self.refusal("above 0 on a log scale", value)
        return number

    def _round(self, value: float) -> float:
        if not self.low < value < self.high:  # the bounds themselves exist, however many digits they have
            return float(min(max(value, self.low), self.high)) + 0.0  # -0.0 becomes 0.0: equal value, equal key
        if self.scale == "log":
            rounded = float(f"{value:.{LOG_DIGITS}g}")
        else:
            rounded = round(float(value), -math.floor(math.log10((self.high - self.low) / LINEAR_STEPS)))
        return min(max(rounded, float(self.low)), float(self.high)) + 0.0


class DiscreteGene(Gene):
    """A gene with a single column that holds the whole numbers between its bounds.

    The values have no order unless a subclass overrides `mutate`: a mutation draws any other value.
    """

    @property
    def cardinality(self) -> float:
        low, high = self.bounds
        return float(high[0] - low[0] + 1)

    def snap(self, x: FloatArray) -> FloatArray:
        snapped: FloatArray = np.clip(np.floor(x + 0.5), *self.bounds) + 0.0  # -0.0 becomes 0.0
        return snapped

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        low, high = self.bounds
        return rng.integers(int(low[0]), int(high[0]), size=(n, 1), endpoint=True).astype(np.float64)

    def mutate(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        low, n_values = self.bounds[0], int(self.cardinality)
        changed: FloatArray = low + (x - low + rng.integers(1, n_values, size=x.shape)) % n_values
        return changed


@final
@dataclass(frozen=True)
class Integer(DiscreteGene, OrderedGene):
    """A whole number between two bounds, both included.

    The column is the value, or its exponent on a ``"log2"`` scale, where only powers of two exist.

    Args:
        name: key in the spec.
        low: lowest value.
        high: highest value.
        default: value of the default genome.
        scale: ``"linear"`` or ``"log2"``.
        unit: for tables.
        limits: range that no override may leave.
    Example:
        >>> width = Integer("width", 16, 128, scale="log2", default=32)
        >>> width.encode(64), width.decode(np.array([6.4]))
        (array([6.]), 64)
    """

    low: int
    high: int
    _: KW_ONLY
    default: int
    scale: Literal["linear", "log2"] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in (self.low, self.high, self.default):
            if not self._exists(number):
                raise self.refusal("whole numbers" + self._powers(), number)

    @property
    def domain(self) -> str:
        return f"{self.low}..{self.high}{self._powers()}" + (f" {self.unit}" if self.unit else "")

    def decode(self, x: FloatArray) -> int:
        column = int(self.snap(x)[0])
        return 2**column if self.scale == "log2" else column

    def encode(self, value: object) -> FloatArray:
        number = as_integer(value)
        if number is None or not self.low <= number <= self.high or not self._exists(number):
            raise self.refusal(f"a whole number in {self.domain}", value)
        return np.array([self._to_column(number)])

    def mutate(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A geometric step up or down, reflected at the bounds; never back to the same value."""
        low, high = self.bounds
        span = high - low
        size = rng.geometric(1.0 / (1.0 + INTEGER_STEP * span), size=x.shape)
        offset = (x - low + size * rng.choice([-1.0, 1.0], size=x.shape)) % (2.0 * span)
        moved = low + np.minimum(offset, 2.0 * span - offset)
        neighbour = np.where(x < high, x + 1.0, x - 1.0)
        stepped: FloatArray = np.where(moved == x, neighbour, moved)
        return stepped

    def _number(self, value: object) -> int | None:
        return as_integer(value)

    def _exists(self, value: int) -> bool:
        return self.scale == "linear" or (value > 0 and value & (value - 1) == 0)

    def _powers(self) -> str:
        return " (powers of two)" if self.scale == "log2" else ""


@final
@dataclass(frozen=True)
class Categorical(DiscreteGene):
    """A choice between options without an order; the column is the option's index.

    Args:
        name: key in the spec.
        options: JSON scalars, each with its own type: ``1``, ``1.0`` and ``True`` are three options.
        default: an option.
        optional_options: further options, which only an override that names them adds, after the others.
    Example:
        >>> sharing = Categorical("sharing", ("bottom", "mmoe", "ple"), "mmoe")
        >>> sharing.decode(np.array([2.0])), sharing.encode("bottom")
        ('ple', array([0.]))
    """

    options: tuple[Scalar, ...]
    default: Scalar
    _: KW_ONLY
    optional_options: tuple[Scalar, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        identities = {(type(option), option) for option in self.options}
        if not self.options or len(identities) != len(self.options):
            raise self.refusal("given different options", self.options)
        self.encode(self.default)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([0.0]), np.array([len(self.options) - 1.0])

    @property
    def domain(self) -> str:
        return ", ".join(show(option) for option in self.options)

    def decode(self, x: FloatArray) -> Scalar:
        return self.options[int(self.snap(x)[0])]

    def encode(self, value: object) -> FloatArray:
        for index, option in enumerate(self.options):
            if type(option) is type(value) and option == value:
                return np.array([float(index)])
        raise self.refusal(f"one of {self.domain}", value)

    def features(self, x: FloatArray) -> FloatArray:
        """A column per option, so that all options are equally far apart; a single column for two options."""
        if len(self.options) <= 2:
            return super().features(x)
        chosen: FloatArray = np.eye(len(self.options))[x[:, 0].astype(np.intp)] / math.sqrt(2.0)
        return chosen

    def can_be(self, value: Value) -> bool:
        """Whether the gene can have `value`, as an optional option too."""
        return super().can_be(value) or value in self.optional_options

    def searched(self) -> Gene:
        """Without the optional options."""
        return replace(self, optional_options=())

    def with_override(self, override: GeneOverride) -> Gene:
        """Fixed to an option, or restricted to the listed options, in the gene's own order."""
        if self.optional_options:
            every = (*self.options, *self.optional_options)
            return replace(self, options=every, optional_options=()).with_override(override)
        if not isinstance(override, tuple):
            return super().with_override(override)
        indices = [int(self.encode(option)[0]) for option in override]
        if not indices or len(set(indices)) != len(indices):
            raise self.refusal(f"given different options of {self.domain}", override)
        chosen = [self.options[index] for index in indices]
        if len(chosen) == 1:
            return self.fixed(chosen[0])
        default = self.default if int(self.encode(self.default)[0]) in indices else chosen[0]
        return replace(self, options=tuple(self.options[index] for index in sorted(indices)), default=default)


@final
@dataclass(frozen=True)
class Boolean(DiscreteGene):
    """On or off; the column is 0.0 or 1.0.

    Args:
        name: key in the spec.
        default: value of the default genome.
        chance: share of the random genomes in which it is on.
    Example:
        >>> Boolean("use_content", True).encode(False)
        array([0.])
    """

    default: bool
    _: KW_ONLY
    chance: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.chance < 1:
            raise self.refusal("given a chance above 0 and below 1", self.chance)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return np.array([0.0]), np.array([1.0])

    @property
    def domain(self) -> str:
        return "true, false"

    def decode(self, x: FloatArray) -> bool:
        return bool(self.snap(x)[0])

    def encode(self, value: object) -> FloatArray:
        if not isinstance(value, bool):
            raise self.refusal("true or false", value)
        return np.array([float(value)])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        if self.chance == 0.5:
            return super().sample(rng, n)
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
    Example:
        >>> weights = Simplex("task_weights", ("click", "like"))
        >>> weights.decode(np.array([3.0, 1.0])), weights.encode((1, 1))
        ((1.5, 0.5), array([1., 1.]))
    """

    parts: tuple[str, ...]
    default: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise self.refusal("given different parts", self.parts)
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

    def mutate(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A logistic-normal step, or a reset to uniform weights or to a single part."""
        n, n_parts = x.shape
        near = (x + SIMPLEX_FLOOR) * np.exp(SIMPLEX_SPREAD * rng.standard_normal(x.shape))
        uniform = rng.dirichlet(np.ones(n_parts), size=n)
        corner = np.eye(n_parts)[rng.integers(n_parts, size=n)]
        draw = rng.random((n, 1))
        weights: FloatArray = np.where(draw < SIMPLEX_RESET, uniform, np.where(draw < 2 * SIMPLEX_RESET, corner, near))
        return weights

    def recombine(self, a: FloatArray, b: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Blends of the parents, up to a quarter of their distance beyond them; pure averaging would only contract."""
        share = rng.uniform(-0.25, 1.25, size=(len(a), 1))
        return np.clip(share * a + (1 - share) * b, 0, None), np.clip(share * b + (1 - share) * a, 0, None)
