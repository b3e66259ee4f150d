"""Genes and spaces that the tests of `evorec.space` share, among them a gene as a user writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evorec.space.genes import Boolean, Categorical, Fixed, Gene, Integer, Real, Simplex, When
from evorec.space.space import SearchSpace


@dataclass(frozen=True)
class HourRange(Gene):
    """Two hours of a day, the first not after the second: a gene whose columns are no weights."""

    default: tuple[float, float] = (8.0, 20.0)

    @property
    def bounds(self):
        return np.zeros(2), np.full(2, 23.0)

    @property
    def cardinality(self):
        return 24 * 25 / 2

    @property
    def domain(self):
        return "two hours in 0..23"

    def snap(self, x):
        return np.sort(np.clip(np.floor(x + 0.5), 0.0, 23.0) + 0.0, axis=1)

    def decode(self, x):
        first, last = self.snap(x[None])[0].tolist()
        return first, last

    def encode(self, value):
        hours = list(value) if isinstance(value, tuple | list) else []
        if len(hours) != 2 or not all(h in range(24) for h in hours if math.isfinite(h)) or hours != sorted(hours):
            raise self.refusal(f"{self.domain}, rising", value)
        return np.array(hours, dtype=np.float64)

    def sample(self, rng, n):
        return self.snap(rng.uniform(-0.5, 23.5, size=(n, 2)))

    def mutate(self, x, rng):
        """Both hours move together, which no built-in gene does."""
        step = rng.integers(1, 4, size=(len(x), 1)) * rng.choice([-1, 1], size=(len(x), 1))
        return np.clip(x + step, 0.0, 23.0)

    def recombine(self, a, b, rng):
        """The first hour from one parent, the second from the other."""
        return np.stack([a[:, 0], b[:, 1]], axis=1), np.stack([b[:, 0], a[:, 1]], axis=1)


GENES = (
    Real("rate", 1e-4, 1e-1, scale="log", default=1e-3),
    Real("odd_bounds", 0.001235, 0.98765, scale="log", default=0.1),  # bounds between two values of three digits
    Real("dropout", 0.0, 0.5, default=0.1, limits=(0.0, 1.0)),
    Real("around_zero", -1.0, 1.0, default=0.0),
    Real("huge", 1e9, 3e9, default=2e9),
    Real("tiny", -3e-7, 1.7e-7, default=0.0),
    Integer("layers", 1, 3, default=2),
    Integer("below_zero", -4, 40, default=0),
    Integer("width", 16, 128, scale="log2", default=32, limits=(1, 4096)),
    Categorical("sharing", ("bottom", "mmoe", "ple"), "mmoe"),
    Categorical("lookalikes", (1, 1.0, True, "1", "True"), 1.0),
    Categorical("single", ("only",), "only"),
    Boolean("content", True),
    Simplex("weights", ("click", "like", "purchase")),
    Simplex("uneven", ("a", "b"), (3.0, 1.0)),
    Simplex("one_part", ("a",)),
    Fixed("fixed_integer", 3),
    Fixed("fixed_weights", (1.5, 0.5)),
    HourRange("hours"),
)

TREE = SearchSpace(  # every kind, and conditions two levels deep
    (
        Real("rate", 1e-4, 1e-1, scale="log", default=1e-3),
        Categorical("sharing", ("bottom", "mmoe", "ple"), "bottom"),
        Integer("experts", 2, 8, default=4, condition=When("sharing", ("mmoe", "ple"))),
        Boolean("gate_noise", False, condition=When("sharing", ("ple",))),
        Real("noise", 0.0, 1.0, default=0.5, condition=When("gate_noise", (True,))),
        Integer("width", 16, 128, scale="log2", default=32),
        Simplex("weights", ("click", "like", "purchase")),
        Fixed("layers", 3),
    )
)

FINITE = SearchSpace(  # worked by hand: 2 * (1 + 3 + (1 + 2)) = 14 specs
    (
        Boolean("content", True),
        Categorical("sharing", ("bottom", "mmoe", "ple"), "bottom"),
        Integer("experts", 2, 4, default=3, condition=When("sharing", ("mmoe",))),
        Boolean("noise", False, condition=When("sharing", ("ple",))),
        Categorical("kind", ("x", "y"), "x", condition=When("noise", (True,))),
    )
)
