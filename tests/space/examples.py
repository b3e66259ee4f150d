"""Genes and spaces that the tests of `evorec.space` share."""

from evorec.space.genes import Boolean, Categorical, Conditional, Fixed, Integer, Real, Simplex
from evorec.space.space import SearchSpace

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
)

TREE = SearchSpace(  # every kind, and conditions two levels deep
    (
        Real("rate", 1e-4, 1e-1, scale="log", default=1e-3),
        Categorical("sharing", ("bottom", "mmoe", "ple"), "bottom"),
        Conditional(Integer("experts", 2, 8, default=4), parent="sharing", values=("mmoe", "ple")),
        Conditional(Boolean("gate_noise", False), parent="sharing", values=("ple",)),
        Conditional(Real("noise", 0.0, 1.0, default=0.5), parent="gate_noise", values=(True,)),
        Integer("width", 16, 128, scale="log2", default=32),
        Simplex("weights", ("click", "like", "purchase")),
        Fixed("layers", 3),
    )
)

FINITE = SearchSpace(  # worked by hand: 2 * (1 + 3 + (1 + 2)) = 14 specs
    (
        Boolean("content", True),
        Categorical("sharing", ("bottom", "mmoe", "ple"), "bottom"),
        Conditional(Integer("experts", 2, 4, default=3), parent="sharing", values=("mmoe",)),
        Conditional(Boolean("noise", False), parent="sharing", values=("ple",)),
        Conditional(Categorical("kind", ("x", "y"), "x"), parent="noise", values=(True,)),
    )
)
