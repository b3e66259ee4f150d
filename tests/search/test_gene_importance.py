"""Importance of genes against total effects worked by hand, and what is refused."""

from itertools import product

import numpy as np
import pytest

from evorec.errors import DataError
from evorec.objectives import Objective
from evorec.search.gene_importance import LEAST_SKILL, gene_importance
from evorec.search.memory.genes import memory_genes
from evorec.search.memory.table import Memory
from evorec.space.genes import Boolean, Integer, Real
from evorec.space.space import SearchSpace

QUALITY = Objective("quality", "quality", "max", "", ideal=5.0, worst=0.0)
DRAWN = 0.04  # error of a share: it is measured on 512 drawn genomes, and on a model of the function


def importance(specs, function, **options):
    (found,) = gene_importance(specs, [{"quality": float(function(spec))} for spec in specs], [QUALITY], **options)
    return found


def test_shares_of_a_sum_are_the_shares_of_its_variance():
    specs = [{"a": a, "b": b, "unused": u} for a, b, u in product((False, True), (0, 1, 2, 3), range(8))]
    found = importance(specs, lambda spec: 3 * spec["a"] + spec["b"])
    # variances: 9 * 1/4 = 2.25 of a, (0 + 1 + 4 + 9) / 4 - 1.5**2 = 1.25 of b
    assert found.shares["a"] == pytest.approx(2.25 / 3.5, abs=DRAWN)
    assert found.shares["b"] == pytest.approx(1.25 / 3.5, abs=DRAWN)
    assert found.shares["unused"] == pytest.approx(0.0, abs=0.01)
    assert list(found.shares) == ["a", "b", "unused"], "the most important gene is first"
    assert (found.n_rows, found.reason, found.exact) == (64, "", False)
    assert found.skill > 0.95
    assert found.best == {"a": "yes", "b": "3", "unused": found.best["unused"]}


def test_the_best_values_are_a_quarter_of_those_of_a_gene_or_an_option():
    rows = product(("gate", "mean"), range(1, 41), (True,))
    specs = [{"mix": mix, "rate": n / 1000, "fixed": fixed, "weights": [1.0, 1.0]} for mix, n, fixed in rows]
    found = importance(specs, lambda spec: (spec["mix"] == "mean") + 40 * spec["rate"])
    assert found.best["mix"] == "mean"
    low, high = map(float, found.best["rate"].split(" to "))
    assert (low, high) == (pytest.approx(0.031, abs=0.0015), 0.04), "the last quarter of 40 values"
    assert set(found.best) == {"mix", "rate"}, "no gene that never varies"


def test_genes_that_act_together_count_for_each():
    specs = [{"a": a, "b": b, "unused": u} for a, b, u in product((False, True), (False, True), range(16))]
    found = importance(specs, lambda spec: spec["a"] != spec["b"])  # neither says anything by itself
    assert found.shares["a"] == pytest.approx(1.0, abs=DRAWN)
    assert found.shares["b"] == pytest.approx(1.0, abs=DRAWN)


def test_a_conditional_gene_counts_where_it_is_active_and_its_parent_for_all_that_it_activates():
    specs = [{"mix": "gate", "experts": e, "unused": u} for e, u in product((1, 2, 3), range(10))]
    specs += [{"mix": "mean", "unused": u} for u in range(30)]
    specs = [specs[index] for index in np.random.default_rng(0).permutation(60)]
    found = importance(specs, lambda spec: spec.get("experts", 0))
    # f = s e: E f = 1, E f**2 = 1/2 * 14/3, variance 4/3; of e where s = 1: 1/2 * 2/3; of s: E e**2 / 4 = 7/6
    assert found.shares["experts"] == pytest.approx((1 / 3) / (4 / 3), abs=DRAWN)
    assert found.shares["mix"] == pytest.approx((7 / 6) / (4 / 3), abs=DRAWN)
    assert found.shares["unused"] == pytest.approx(0.0, abs=0.01)


def test_noise_has_no_importance_but_a_reason():
    rng = np.random.default_rng(1)
    specs = [{"a": a, "b": b} for a, b in product(range(8), range(8))]
    found = importance(specs, lambda spec: rng.normal())
    assert found.skill < LEAST_SKILL
    assert not found.shares
    assert f"rank correlation of {found.skill:.2f}, and 0.30 is needed" in found.reason


def test_an_objective_that_never_varies_or_is_hardly_measured_has_a_reason():
    specs = [{"a": a} for a in range(30)]
    assert importance(specs, lambda spec: 1.0).reason == "it has the same value for every genome"
    rows = [{"quality": float(a)} if a < 5 else {} for a in range(30)]
    (found,) = gene_importance(specs, rows, [QUALITY])
    assert (found.n_rows, found.reason) == (5, "only 5 genomes have it, 20 are needed")


def test_too_few_genomes_are_refused():
    with pytest.raises(
        DataError, match=r"at least 20 genomes that were trained to the end, got 19; continue the search"
    ):
        importance([{"a": a} for a in range(19)], lambda spec: spec["a"])


def test_an_objective_that_is_known_needs_no_model():
    space = SearchSpace((Boolean("on", True), Integer("n", 0, 3, default=1), Real("idle", 0.0, 1.0, default=0.5)))
    specs = [space.decode(x) for x in space.sample(np.random.default_rng(0), 40)]

    def known(spec):
        return {"quality": 5.0 * spec["on"]}

    found = importance(specs, lambda spec: known(spec)["quality"], space=space, known_metrics=known)
    assert (found.exact, found.skill) == (True, 1.0)
    assert found.shares == {"on": pytest.approx(1.0, abs=0.1), "n": 0.0, "idle": 0.0}


def test_equal_rows_give_equal_shares_and_a_diverged_genome_moves_them_little():
    rng = np.random.default_rng(2)
    specs = [{"a": float(a), "b": float(b)} for a, b in rng.random((60, 2)).round(3)]
    first, second = (importance(specs, lambda spec: spec["a"]) for _ in range(2))
    assert first == second
    diverged = importance([*specs, {"a": 0.5, "b": 0.5}], lambda spec: -1e6 if spec["b"] == 0.5 else spec["a"])
    assert diverged.shares["a"] > 0.5


def world(name, shift, scale, n=24):
    rows = [({"a": a % 6, "b": a // 6}, {"accuracy": shift + scale * (a % 6)}) for a in range(n)]
    return Memory.of(rows, world=name, problem="p", data_sha256=name, steps=0, facts={})


def test_worlds_are_standardised_and_left_out_in_turn():
    memory = Memory.joined(
        [world("w1", 0.5, 0.01), world("w2", 0.1, 0.1), world("w3", 0.9, 0.001), world("few", 0, 1, 3)]
    )
    (found,), front = memory_genes(memory)
    assert (found.objective, found.n_rows) == ("accuracy", 72)
    assert found.skill > 0.95, "only the order inside a world counts"
    assert found.shares["a"] == pytest.approx(1.0, abs=DRAWN)
    assert front.n_front == 3, "the best of each world; of equal genomes the first"
    with pytest.raises(DataError, match="no world with at least 8 rows; search first"):
        memory_genes(world("few", 0, 1, 3))
