"""The search space: rows, specs, keys, overrides."""

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from space.examples import FINITE, TREE

from evorec.config import Bounds
from evorec.errors import ConfigError
from evorec.space.genes import Boolean, Categorical, Fixed, Integer, Real, When
from evorec.space.space import SearchSpace

SEED = 7
every_space = pytest.mark.parametrize("space", [TREE, FINITE, SearchSpace(())], ids=["tree", "finite", "empty"])


def wild(space, n=300):
    """Finite rows far inside and outside the bounds."""
    rng = np.random.default_rng(SEED)
    return rng.normal(size=(n, space.n_var)) * 10.0 ** rng.uniform(-3, 3, size=(n, 1))


@every_space
def test_snap_is_idempotent_and_stays_inside_the_bounds(space):
    snapped = space.snap(wild(space))
    np.testing.assert_array_equal(space.snap(snapped), snapped, err_msg=f"seed {SEED}")
    assert (snapped >= space.low).all()
    assert (snapped <= space.high).all()


@every_space
def test_specs_survive_the_round_trip(space):
    for x in np.vstack([space.sample(np.random.default_rng(SEED), 200), space.default()[None]]):
        spec = space.decode(x)
        np.testing.assert_array_equal(space.encode(spec), x, err_msg=f"{spec}, seed {SEED}")
        assert space.decode(space.encode(spec)) == spec
        np.testing.assert_array_equal(space.encode(json.loads(json.dumps(spec))), x)


@every_space
def test_equal_rows_equal_specs_and_equal_keys_are_the_same_thing(space):
    rows = space.snap(wild(space, 200))
    by_row = [row.tobytes() for row in rows]
    by_spec = [repr(space.decode(row)) for row in rows]
    by_key = [space.key(row) for row in rows]
    assert (
        len(set(by_row)) == len(set(by_spec)) == len(set(by_key)) == len(set(zip(by_row, by_spec, by_key, strict=True)))
    )
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in by_key)


def test_slices_cover_the_columns_in_order():
    assert TREE.slices == {
        "rate": slice(0, 1),
        "sharing": slice(1, 2),
        "experts": slice(2, 3),
        "gate_noise": slice(3, 4),
        "noise": slice(4, 5),
        "width": slice(5, 6),
        "weights": slice(6, 9),
        "layers": slice(9, 9),
    }
    assert TREE.n_var == 9


def test_inactive_genes_are_absent_and_hold_their_default():
    x = TREE.encode({"rate": 0.01, "sharing": "mmoe", "experts": 7, "width": 64, "weights": (1, 1, 1), "layers": 3})
    assert TREE.decode(x) == {
        "rate": 0.01, "sharing": "mmoe", "experts": 7, "width": 64, "weights": (1.0, 1.0, 1.0), "layers": 3,
    }  # fmt: skip
    off = x.copy()
    off[TREE.slices["sharing"]] = 0  # bottom
    np.testing.assert_array_equal(TREE.snap(off[None])[0, TREE.slices["experts"]], [4.0])
    assert "experts" not in TREE.decode(off)


def test_a_condition_needs_an_active_parent():
    x = TREE.default()
    x[TREE.slices["gate_noise"]] = 1.0  # true, but inactive, because sharing is bottom
    assert "noise" not in TREE.decode(x)
    assert TREE.active(x[None])[0].tolist() == [True, True, False, False, False, True, True, True]


def test_true_and_one_are_different_conditions():
    space = SearchSpace((Categorical("a", (1, True), 1), Integer("b", 1, 2, default=1, condition=When("a", (True,)))))
    assert space.decode(np.array([0.0, 2.0])) == {"a": 1}
    assert space.decode(np.array([1.0, 2.0])) == {"a": True, "b": 2}
    assert space.cardinality() == 3  # 1; True with b = 1 or 2


def test_encode_lists_every_mistake_at_once():
    spec = {"rate": 5.0, "sharing": "bottom", "experts": 3, "weights": (1, 1, 1), "layers": 3, "widht": 32}
    with pytest.raises(ConfigError) as caught:
        TREE.encode(spec)
    assert str(caught.value).splitlines() == [
        "rate must be a number in 0.0001..0.1, got 5.0.",
        "experts must be absent unless sharing is mmoe or ple, got 3.",
        "width is missing; expected 16..128 (powers of two).",
        "widht is not a gene; did you mean 'width'?",
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_snap_refuses_numbers_that_are_not_finite(bad):
    X = TREE.sample(np.random.default_rng(SEED), 4)
    X[2, 7] = bad
    with pytest.raises(ConfigError, match=r"genomes must be finite, got .* in row 2, gene weights"):
        TREE.snap(X)


def test_snap_refuses_a_wrong_shape():
    with pytest.raises(ConfigError, match=r"genomes must have shape \(P, 9\), got \(2, 3\)"):
        TREE.snap(np.zeros((2, 3)))


def test_cardinality_is_that_of_brute_force():
    axes = [np.arange(low, high + 1) for low, high in zip(FINITE.low, FINITE.high, strict=True)]
    keys = {FINITE.key(np.array(row)) for row in itertools.product(*axes)}
    assert FINITE.cardinality() == len(keys) == 14
    assert TREE.cardinality() == math.inf


def test_a_fixed_parent_leaves_the_branch_it_chooses():
    assert FINITE.with_overrides({"sharing": "ple"}, "test").cardinality() == 6  # content 2 * noise (1 + kind 2)
    assert FINITE.with_overrides({"sharing": "bottom"}, "test").cardinality() == 2


def test_sample_gives_every_spec_of_a_small_space_then_repeats():
    rows = FINITE.sample(np.random.default_rng(SEED), 14)
    assert len({FINITE.key(row) for row in rows}) == 14
    more = FINITE.sample(np.random.default_rng(SEED), 30)
    assert more.shape == (30, FINITE.n_var)
    assert len({FINITE.key(row) for row in more}) == 14


def test_sample_is_snapped_and_distinct_and_may_be_empty():
    rows = TREE.sample(np.random.default_rng(SEED), 500)
    np.testing.assert_array_equal(TREE.snap(rows), rows)
    assert len(np.unique(rows, axis=0)) == 500
    assert TREE.sample(np.random.default_rng(SEED), 0).shape == (0, 9)


def test_same_seed_same_genomes_and_keys_in_another_process():
    code = (
        "import numpy as np; from space.examples import TREE; "
        f"print(*[TREE.key(x) for x in TREE.sample(np.random.default_rng({SEED}), 20)])"
    )
    here = [TREE.key(x) for x in TREE.sample(np.random.default_rng(SEED), 20)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert there.split() == here


def test_overrides_fix_genes_and_move_bounds():
    space = TREE.with_overrides({"width": 48, "rate": Bounds(low=0.01, high=0.5), "experts": 2}, "nightly.toml")
    assert space.n_var == TREE.n_var - 2
    spec = space.decode(space.default())
    assert (spec["width"], spec["rate"], "experts" in spec) == (48, 0.01, False)
    mmoe = space.encode({**spec, "sharing": "mmoe", "experts": 2})
    assert space.decode(mmoe)["experts"] == 2, "a fixed gene keeps its condition"
    assert TREE.gene("width").default == 32, "the original space is untouched"


def test_a_gene_that_nothing_activates_any_more_is_left_out():
    space = TREE.with_overrides({"sharing": ("bottom", "mmoe"), "gate_noise": True}, "test")
    assert space.names == ("rate", "sharing", "experts", "width", "weights", "layers")
    assert space.gene("sharing").options == ("bottom", "mmoe")
    assert {row["name"]: row["condition"] for row in space.describe()}["experts"] == "sharing is mmoe"
    fixed = TREE.with_overrides({"sharing": "ple"}, "test")
    assert fixed.names == TREE.names
    assert "experts" in fixed.decode(fixed.default())


def test_the_spec_of_values_has_the_active_genes_alone():
    values = {name: TREE.gene(name).default for name in TREE.names}
    for sharing, gate_noise in (("bottom", True), ("mmoe", True), ("ple", False), ("ple", True)):
        spec = TREE.spec_of({**values, "sharing": sharing, "gate_noise": gate_noise})
        assert TREE.decode(TREE.encode(spec)) == spec


def test_overrides_list_every_mistake_with_its_source():
    with pytest.raises(ConfigError) as caught:
        TREE.with_overrides({"widht": 32, "sharing": "plee", "rate": -1.0}, "nightly.toml")
    lines = str(caught.value).splitlines()
    assert lines == [
        "space.widht (nightly.toml) is not a gene; did you mean 'width'?",
        "space.rate (nightly.toml) must be above 0 on a log scale, got -1.0.",
        "space.sharing (nightly.toml) must be one of 'bottom', 'mmoe', 'ple', got 'plee'.",
    ]


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ((Fixed("a", 1), Boolean("a", True)), "gene names must differ, got 'a' twice"),
        ((Boolean("b", True, condition=When("a", (True,))), Boolean("a", True)), "must be declared before it"),
        ((Boolean("a", True), Boolean("b", True, condition=When("a", ()))), "must name the values of a"),
        ((Boolean("a", True), Boolean("b", True, condition=When("a", (1,)))), "a is one of true, false, never 1"),
    ],
)
def test_a_space_refuses_genes_that_do_not_fit_together(genes, message):
    with pytest.raises(ConfigError, match=message):
        SearchSpace(genes)


def test_describe_says_what_a_table_needs():
    rows = SearchSpace(
        (Real("rate", 1e-4, 0.1, scale="log", default=1e-3, unit="1/step", text="learning rate"),)
    ).describe()
    assert [list(row.values()) for row in rows] == [["rate", "real", "0.0001..0.1 1/step", 1e-3, "", "learning rate"]]
    assert [g["condition"] for g in TREE.describe()][2:5] == [
        "sharing is mmoe or ple",
        "sharing is ple",
        "gate_noise is true",
    ]


def test_gene_by_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="'depth' is not a gene of this space; known: content, sharing"):
        FINITE.gene("depth")


def test_an_optional_gene_must_be_named():
    space = SearchSpace(
        (
            Real("decay", 0.5, 1.0, default=1.0, optional=True),
            Categorical("encoder", ("none", "gru"), "none", optional=True),
            Integer("layers", 1, 3, default=1, condition=When("encoder", ("gru",))),
        )
    )
    assert space.with_overrides({}).names == ()
    assert space.with_overrides({"decay": "search"}).gene("decay").bounds == space.gene("decay").bounds
    assert space.with_overrides({"decay": 0.9}).spec_of({"decay": 0.9}) == {"decay": 0.9}
    assert space.with_overrides({"encoder": "search"}).names == ("encoder", "layers")
    assert space.with_overrides({"encoder": "none"}).names == ("encoder",)
    with pytest.raises(ConfigError, match="decay"):
        space.with_overrides({"decay": "searched"})


def test_an_optional_option_must_be_named():
    rules = Categorical("rule", ("adam", "factor"), "adam", optional_options=("rows",))
    layers = Integer("layers", 1, 3, default=1, condition=When("rule", ("rows",)))
    space = SearchSpace((rules, layers))
    assert space.with_overrides({}).names == space.with_overrides({"rule": ("factor", "adam")}).names == ("rule",)
    named = space.with_overrides({"rule": ("rows", "adam")})
    assert (named.gene("rule").options, named.gene("rule").default, named.names) == (
        ("adam", "rows"), "adam", ("rule", "layers"),
    )  # fmt: skip
    assert space.with_overrides({"rule": "rows"}).spec_of({"rule": "rows", "layers": 2}) == {
        "rule": "rows",
        "layers": 2,
    }
    with pytest.raises(ConfigError, match=r"rule must be one of 'adam', 'factor', 'rows', got 'sgd'"):
        space.with_overrides({"rule": "sgd"})
