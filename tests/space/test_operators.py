"""Typed sampling, crossover and mutation: what they change, how often, and that a seed decides it."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.optimize import minimize
from space.examples import FINITE, TREE

from evorec.space.genes import Boolean, Categorical, Fixed, Integer, Real, Simplex, When
from evorec.space.operators import TypedCrossover, TypedMutation, TypedSampling
from evorec.space.space import SearchSpace

SEED = 11
N_ROWS = 4000

TEN = SearchSpace(  # ten genes of every kind, the short integer range that rounding freezes among them
    (
        Real("r1", 0.0, 1.0, default=0.5),
        Real("r2", 1e-4, 1e-1, scale="log", default=1e-3),
        Real("r3", -5.0, 5.0, default=0.0),
        Integer("i1", 1, 3, default=2),
        Integer("i2", 0, 1, default=0),
        Integer("i3", 16, 256, scale="log2", default=32),
        Categorical("c1", ("a", "b"), "a"),
        Categorical("c2", ("a", "b", "c", "d"), "a"),
        Boolean("b1", True),
        Simplex("s1", ("x", "y", "z")),
        Fixed("f1", 1),
        Categorical("f2", ("only",), "only"),
    )
)


def problem_of(space):
    return Problem(n_var=space.n_var, n_obj=2, xl=space.low, xu=space.high)


def mutate(space, X, seed=SEED, **arguments):
    population = Population.new("X", X.copy())
    operator = TypedMutation(space, **arguments)
    return operator(problem_of(space), population, random_state=np.random.default_rng(seed), to_numpy=True)


def cross(space, a, b, seed=SEED, prob=1.0):
    parents = [[Individual(X=x), Individual(X=y)] for x, y in zip(a, b, strict=True)]
    operator = TypedCrossover(space, prob)
    children = operator(problem_of(space), parents, random_state=np.random.default_rng(seed), to_numpy=True)
    return children[: len(a)], children[len(a) :]


def changed_genes(space, before, after):
    """bool (P, n_genes)."""
    return np.stack([(before[:, s] != after[:, s]).any(axis=1) for s in space.slices.values()], axis=1)


def test_every_gene_changes_at_the_same_rate_whatever_its_kind():
    X = TEN.sample(np.random.default_rng(SEED), N_ROWS)
    rates = changed_genes(TEN, X, mutate(TEN, X)).mean(axis=0)
    # n = 10 genes have a choice: 1/n = 0.1, and a row where nothing was chosen (0.9 ** 10) changes one of the ten
    expected = 0.1 + 0.9**10 / 10
    five_sigma = 5 * math.sqrt(expected * (1 - expected) / N_ROWS)
    np.testing.assert_allclose(rates[:10], expected, atol=five_sigma, err_msg=f"seed {SEED}")
    assert rates[10:].tolist() == [0.0, 0.0], "a fixed gene and a single option never change"


def test_a_given_rate_is_kept():
    X = TEN.sample(np.random.default_rng(SEED), N_ROWS)
    rates = changed_genes(TEN, X, mutate(TEN, X, prob_var=0.4)).mean(axis=0)
    expected = 0.4 + 0.6**10 / 10
    five_sigma = 5 * math.sqrt(expected * (1 - expected) / N_ROWS)
    np.testing.assert_allclose(rates[:10], expected, atol=five_sigma, err_msg=f"seed {SEED}")


@pytest.mark.parametrize("space", [TEN, TREE, FINITE], ids=["ten", "tree", "finite"])
def test_every_mutant_differs_and_is_snapped(space):
    X = space.sample(np.random.default_rng(SEED), 500)
    mutants = mutate(space, X)
    assert (mutants != X).any(axis=1).all(), f"seed {SEED}"
    np.testing.assert_array_equal(space.snap(mutants), mutants)


@pytest.mark.parametrize("genes", [(), (Fixed("a", 1), Categorical("b", ("only",), "only"))], ids=["empty", "fixed"])
def test_a_space_without_a_choice_mutates_to_itself(genes):
    space = SearchSpace(genes)
    X = np.tile(space.default(), (3, 1))
    mutation = TypedMutation(space)
    np.testing.assert_array_equal(mutation._do(None, X, random_state=np.random.default_rng(SEED)), X)


def test_rate_follows_the_active_genes_of_the_row():
    children = tuple(Real(f"child{i}", 0.0, 1.0, default=0.5, condition=When("switch", (True,))) for i in range(16))
    space = SearchSpace((Boolean("switch", False), Real("r1", 0.0, 1.0, default=0.5), *children))
    off = np.tile(space.encode({"switch": False, "r1": 0.5}), (N_ROWS, 1))
    on = np.tile(space.encode({"switch": True, "r1": 0.5} | {f"child{i}": 0.5 for i in range(16)}), (N_ROWS, 1))
    few, many = (changed_genes(space, X, mutate(space, X))[:, 1].mean() for X in (off, on))
    # 2 active genes: rate 1/2, and 1/4 of the rows choose none, which then change one of the two; 18 genes: 1/18
    for rate, expected in ((few, 0.5 + 0.25 / 2), (many, 1 / 18 + (17 / 18) ** 18 / 18)):
        assert rate == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / N_ROWS)), f"seed {SEED}"


def test_a_gene_that_a_mutation_activates_is_drawn_at_random():
    x = TREE.encode({"rate": 0.001, "sharing": "bottom", "width": 32, "weights": (1, 1, 1), "layers": 3})
    mutants = mutate(TREE, np.tile(x, (2000, 1)))
    experts = [spec["experts"] for spec in map(TREE.decode, mutants) if "experts" in spec]
    assert set(experts) == {2, 3, 4, 5, 6, 7, 8}, f"seed {SEED}"


def test_integer_steps_are_short_mostly_and_stay_inside():
    space = SearchSpace((Integer("n", 0, 100, default=50),))
    X = np.full((N_ROWS, 1), 50.0)
    steps = np.abs(mutate(space, X) - X)
    # geometric with mean 1 + 0.2 * 100 = 21, reflected at 0 and 100; P(step <= 21) = 1 - (20/21) ** 21 = 0.641
    expected = 1 - (20 / 21) ** 21
    # a few longer steps are reflected twice and come back near: (20/21) ** 79 = 0.021 of all pass 79
    assert np.mean(steps <= 21) == pytest.approx(expected, abs=0.021 + 5 * math.sqrt(0.641 * 0.359 / N_ROWS))
    edge = mutate(space, np.zeros((N_ROWS, 1)))
    assert edge.min() >= 1
    assert edge.max() <= 100


def test_categories_move_to_every_other_option_alike():
    space = SearchSpace((Categorical("c", ("a", "b", "c", "d"), "a"),))
    counts = np.bincount(mutate(space, np.full((N_ROWS, 1), 2.0))[:, 0].astype(int), minlength=4)
    assert counts[2] == 0
    five_sigma = 5 * math.sqrt(N_ROWS * (1 / 3) * (2 / 3))
    np.testing.assert_allclose(counts[[0, 1, 3]], N_ROWS / 3, atol=five_sigma, err_msg=f"seed {SEED}")


def test_a_weight_of_zero_can_come_back_and_a_corner_can_be_reached():
    space = SearchSpace((Simplex("w", ("a", "b", "c")),))
    corner = np.tile(space.encode({"w": (3.0, 0.0, 0.0)}), (500, 1))
    assert (mutate(space, corner)[:, 1] > 0).mean() > 0.5
    inside = np.tile(space.default(), (500, 1))
    assert (mutate(space, inside).max(axis=1) == 3.0).any()


def test_crossover_of_equal_parents_changes_nothing():
    X = TREE.sample(np.random.default_rng(SEED), 300)
    for children in cross(TREE, X, X):
        np.testing.assert_array_equal(children, X, err_msg=f"seed {SEED}")


def test_children_take_each_unordered_value_from_a_parent():
    space = SearchSpace((Integer("i", 1, 9, default=1), Categorical("c", ("a", "b", "c"), "a"), Boolean("b", True)))
    rng = np.random.default_rng(SEED)
    a, b = rng.permuted(np.tile(space.sample(rng, 50), (20, 1)), axis=0), np.tile(space.sample(rng, 50), (20, 1))
    a = space.snap(a)
    first, second = cross(space, a, b)
    assert ((first == a) & (second == b) | (first == b) & (second == a)).all()
    differ = a != b
    swapped = ((first == b) & differ).sum() / differ.sum()
    assert swapped == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(differ.sum())), f"seed {SEED}"


def test_real_children_are_spread_like_their_parents_and_centred_on_them():
    space = SearchSpace((Real("r", -100.0, 100.0, default=0.0),))
    a, b = np.full((N_ROWS, 1), -1.0), np.full((N_ROWS, 1), 1.0)
    first, second = cross(space, a, b)
    step = 0.1  # decimals of a range of 200
    np.testing.assert_allclose(first + second, 0.0, atol=2 * step, err_msg="bounds are far: SBX is symmetric")
    assert np.abs(first).max() < 10, "an index of 15 keeps children near"
    assert (np.abs(first - a) > step).any()


def test_children_stay_on_the_simplex_and_between_or_just_beyond_their_parents():
    space = SearchSpace((Simplex("w", ("a", "b")),))
    first, second = cross(space, np.tile([[0.5, 1.5]], (500, 1)), np.tile([[1.5, 0.5]], (500, 1)))
    for children in (first, second):
        assert (children.sum(axis=1) == 2.0).all()
        assert children.min() >= 0.25 - 1 / 64, "blending reaches a quarter of the distance beyond"
        assert len(np.unique(children[:, 0])) > 20


def test_a_gene_active_in_one_parent_only_is_inherited_with_its_branch():
    plain = {"rate": 0.001, "width": 32, "weights": (1, 1, 1), "layers": 3}
    bottom = np.tile(TREE.encode({**plain, "sharing": "bottom"}), (300, 1))
    mmoe = np.tile(TREE.encode({**plain, "sharing": "mmoe", "experts": 7}), (300, 1))
    specs = [TREE.decode(x) for children in cross(TREE, bottom, mmoe) for x in children]
    assert {spec.get("experts") for spec in specs} == {None, 7}
    assert all(("experts" in spec) == (spec["sharing"] == "mmoe") for spec in specs)


def test_without_crossover_children_are_their_parents():
    X = TREE.sample(np.random.default_rng(SEED), 200)
    first, second = cross(TREE, X[:100], X[100:], prob=0.0)
    np.testing.assert_array_equal(np.vstack([first, second]), X)


def test_sampling_gives_the_space_s_own_sample():
    population = TypedSampling(TREE)(problem_of(TREE), 30, random_state=np.random.default_rng(SEED))
    np.testing.assert_array_equal(population.get("X"), TREE.sample(np.random.default_rng(SEED), 30))


class Distance(Problem):
    """Two objectives on `TEN`: near all-low, near all-high."""

    def __init__(self):
        super().__init__(n_var=TEN.n_var, n_obj=2, xl=TEN.low, xu=TEN.high)

    def _evaluate(self, X, out, *args, **kwargs):
        unit = (X - self.xl) / np.maximum(self.xu - self.xl, 1e-12)
        out["F"] = np.stack([unit.mean(axis=1), (1 - unit).mean(axis=1)], axis=1)


def run_nsga2(seed):
    algorithm = NSGA2(
        pop_size=20, sampling=TypedSampling(TEN), crossover=TypedCrossover(TEN), mutation=TypedMutation(TEN)
    )
    return minimize(Distance(), algorithm, ("n_gen", 8), seed=seed).pop.get("X")


def test_pymoo_runs_on_snapped_rows_and_a_seed_decides_the_run():
    first, second, other = run_nsga2(1), run_nsga2(1), run_nsga2(2)
    np.testing.assert_array_equal(TEN.snap(first), first)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_same_seed_same_children_in_another_process():
    code = "from space.test_operators import family; print(*family())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "2"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert there.split() == family()


def family():
    """Keys of some children of `TREE`."""
    X = TREE.sample(np.random.default_rng(SEED), 20)
    return [TREE.key(x) for x in mutate(TREE, np.vstack(cross(TREE, X[:10], X[10:])))]
