"""Details of each kind of gene; `contracts/test_every_gene.py` has the properties that all of them share."""

import math

import numpy as np
import pytest

from evorec.config import Bounds
from evorec.errors import ConfigError
from evorec.space.genes import Boolean, Categorical, Fixed, Integer, Real, Simplex

SEED = 20


# Real


def test_real_values_have_readable_decimals():
    rate, dropout = Real("rate", 1e-4, 1e-1, scale="log", default=1e-3), Real("dropout", 0.0, 0.5, default=0.1)
    assert rate.decode(np.array([-2.51])) == 0.00309  # 10 ** -2.51 = 0.0030903
    assert dropout.decode(np.array([0.12345])) == 0.1235  # step 0.0001: the range has 5,000 of them
    assert rate.decode(rate.encode(0.001)) == 0.001


def test_real_bounds_are_reached_even_between_two_rounded_values():
    gene = Real("odd", 0.001235, 0.98765, scale="log", default=0.1)
    low, high = gene.bounds
    assert (gene.decode(low), gene.decode(high)) == (0.001235, 0.98765)


def test_real_on_a_log_scale_samples_decades_evenly():
    gene = Real("rate", 1e-4, 1e-1, scale="log", default=1e-3)
    values = np.array([gene.decode(row) for row in gene.sample(np.random.default_rng(SEED), 3000)])
    counts = np.histogram(values, bins=[1e-4, 1e-3, 1e-2, 1.0])[0]
    five_sigma = 5 * math.sqrt(3000 * (1 / 3) * (2 / 3))
    np.testing.assert_allclose(counts, 1000, atol=five_sigma, err_msg=f"seed {SEED}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 1.0, "high": 1.0, "default": 1.0}, "finite bounds with low < high, got"),
        ({"low": 0.0, "high": math.inf, "default": 1.0}, "finite bounds"),
        ({"low": 0.0, "high": 1.0, "default": 0.5, "scale": "log"}, "positive and span at least a factor of 2"),
        ({"low": 1.0, "high": 1.5, "default": 1.2, "scale": "log"}, "positive and span at least a factor of 2"),
        ({"low": 0.0, "high": 1.0, "default": 2.0}, r"given a default in 0\.\.1, got 2"),
        ({"low": 0.0, "high": 2.0, "default": 1.0, "limits": (0.0, 1.0)}, r"given bounds within 0\.\.1"),
    ],
)
def test_real_refuses_an_impossible_declaration(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Real("x", **arguments)


def test_real_override_moves_bounds_and_pulls_the_default_inside():
    gene = Real("dropout", 0.0, 0.5, default=0.1, limits=(0.0, 1.0)).with_override(Bounds(low=0.2, high=0.9))
    assert isinstance(gene, Real)
    assert (gene.low, gene.high, gene.default) == (0.2, 0.9, 0.2)


def test_real_override_may_leave_the_bounds_but_not_the_limits():
    gene = Real("dropout", 0.0, 0.5, default=0.1, limits=(0.0, 1.0))
    assert gene.with_override(0.75).default == 0.75
    assert gene.with_override(0.12345678).default == 0.12345678, "a fixed value keeps all its digits"
    with pytest.raises(ConfigError, match=r"dropout must be a finite number within 0\.\.1, got 1\.5"):
        gene.with_override(1.5)
    with pytest.raises(ConfigError, match=r"dropout must be given bounds within 0\.\.1"):
        gene.with_override(Bounds(low=0.0, high=1.5))
    with pytest.raises(ConfigError, match="got true"):
        gene.with_override(True)


def test_a_log_scale_cannot_be_fixed_at_zero():
    with pytest.raises(ConfigError, match="rate must be above 0 on a log scale, got 0"):
        Real("rate", 1e-4, 1e-1, scale="log", default=1e-3).with_override(0)


# Integer


def test_log2_integer_holds_exponents_and_gives_powers_of_two():
    gene = Integer("width", 16, 128, scale="log2", default=32)
    assert [gene.decode(np.array([x])) for x in (3.0, 4.4, 5.6, 9.0)] == [16, 16, 64, 128]
    assert gene.cardinality == 4  # 16, 32, 64, 128


@pytest.mark.parametrize("bad", [17, 8, 256, 32.5, True, "32"])
def test_log2_integer_refuses_other_numbers(bad):
    with pytest.raises(ConfigError, match=r"width must be a whole number in 16\.\.128 \(powers of two\), got"):
        Integer("width", 16, 128, scale="log2", default=32).encode(bad)


def test_integer_bounds_arrive_as_floats_and_must_be_whole():
    gene = Integer("layers", 1, 3, default=2)
    moved = gene.with_override(Bounds(low=3.0, high=6.0))
    assert isinstance(moved, Integer)
    assert (moved.low, moved.high, moved.default) == (3, 6, 3)
    assert type(moved.low) is int
    with pytest.raises(ConfigError, match=r"layers must be given whole bounds, got \(1.5, 3.0\)"):
        gene.with_override(Bounds(low=1.5, high=3.0))


def test_log2_integer_refuses_bounds_that_are_no_powers_of_two():
    with pytest.raises(ConfigError, match="powers of two"):
        Integer("width", 16, 128, scale="log2", default=32).with_override(Bounds(low=16, high=48))
    with pytest.raises(ConfigError, match="powers of two"):
        Integer("width", 16, 100, scale="log2", default=32)


# Categorical, Boolean, Fixed


def test_categories_keep_their_type():
    gene = Categorical("lookalikes", (1, 1.0, True, "1"), 1)
    decoded = [gene.decode(np.array([float(i)])) for i in range(4)]
    assert [(type(value), value) for value in decoded] == [(int, 1), (float, 1.0), (bool, True), (str, "1")]
    assert [gene.encode(value)[0] for value in decoded] == [0.0, 1.0, 2.0, 3.0]


def test_categorical_names_its_options_when_it_refuses():
    with pytest.raises(ConfigError, match="sharing must be one of 'bottom', 'mmoe', got 'ple'"):
        Categorical("sharing", ("bottom", "mmoe"), "bottom").with_override("ple")
    with pytest.raises(ConfigError, match="different options"):
        Categorical("sharing", ("a", "a"), "a")


def test_a_list_of_options_leaves_those_in_their_own_order():
    gene = Categorical("sharing", ("bottom", "mmoe", "ple"), "mmoe")
    some = gene.with_override(("ple", "mmoe"))
    assert (some.options, some.default) == (("mmoe", "ple"), "mmoe")
    others = gene.with_override(("ple", "bottom"))
    assert (others.options, others.default) == (("bottom", "ple"), "ple"), "the first listed where the default is not"
    assert gene.with_override(("ple",)) == Fixed("sharing", "ple")


@pytest.mark.parametrize("wrong", [(), ("ple", "ple"), ("ple", "none"), (1.0, 2.0)])
def test_a_wrong_list_of_options_is_refused(wrong):
    gene = Categorical("sharing", ("bottom", "mmoe", "ple"), "mmoe")
    with pytest.raises(ConfigError, match=r"sharing must be (given different options|one) of"):
        gene.with_override(wrong)


@pytest.mark.parametrize("gene", [Categorical("c", ("a", "b"), "a"), Boolean("c", True), Simplex("c", ("a", "b"))])
def test_a_gene_without_order_has_no_bounds_to_move(gene):
    with pytest.raises(ConfigError, match=r"c must be .*, got \{low = 0, high = 1\}"):
        gene.with_override(Bounds(low=0, high=1))


def test_boolean_takes_no_numbers():
    with pytest.raises(ConfigError, match="content must be true or false, got 1"):
        Boolean("content", True).with_override(1)


@pytest.mark.parametrize(("value", "other"), [(3, 4), (0.5, 2.0), ("a", "b"), (True, False), ((1.0, 1.0), (2.0, 0.0))])
def test_a_fixed_gene_takes_another_value_of_its_kind_only(value, other):
    assert Fixed("x", value).with_override(other).default == other
    with pytest.raises(ConfigError, match="x must be a value of the same kind"):
        Fixed("x", value).with_override("text" if not isinstance(value, str) else 1)
    with pytest.raises(ConfigError, match="x must be a value of the same kind"):
        Fixed("x", value).with_override((1.0, 2.0, 3.0))
    with pytest.raises(ConfigError, match="x must be the fixed value"):
        Fixed("x", value).encode(other)


# Simplex


def largest_remainder(weights, units):
    """Whole units in proportion to the weights, by a slow loop."""
    shares = [weight / sum(weights) * units for weight in weights]
    whole = [math.floor(share) for share in shares]
    while sum(whole) < units:
        gaps = [share - count for share, count in zip(shares, whole, strict=True)]
        whole[gaps.index(max(gaps))] += 1
    return whole


def test_task_weights_sum_exactly_whatever_the_input():
    rng = np.random.default_rng(SEED)
    for n_parts in (1, 2, 3, 5, 8):
        gene = Simplex("w", tuple("abcdefgh"[:n_parts]))
        weights = gene.snap(rng.normal(size=(500, n_parts)) * 10.0 ** rng.uniform(-300, 300, size=(500, 1)))
        assert (weights >= 0).all(), f"seed {SEED}"
        assert (weights.sum(axis=1) == n_parts).all(), f"seed {SEED}"


def test_task_weights_are_rounded_by_largest_remainders():
    rng = np.random.default_rng(SEED)
    gene = Simplex("w", ("a", "b", "c"))
    rows = rng.dirichlet(np.ones(3), size=300)
    expected = np.array([largest_remainder(row.tolist(), 3 * 64) for row in rows]) / 64
    np.testing.assert_array_equal(gene.snap(rows), expected, err_msg=f"seed {SEED}")


def test_no_weight_at_all_means_equal_weights():
    assert Simplex("w", ("a", "b")).decode(np.array([0.0, -1.0])) == (1.0, 1.0)


@pytest.mark.parametrize(
    "bad", [(1.0,), (1.0, 2.0, 3.0), (0.0, 0.0), (-1.0, 2.0), (math.nan, 1.0), "ab", 1.0, (True, 1.0)]
)
def test_simplex_refuses_what_is_no_list_of_weights(bad):
    with pytest.raises(ConfigError, match="w must be 2 non-negative weights, not all 0, of a, b, got"):
        Simplex("w", ("a", "b")).encode(bad)
