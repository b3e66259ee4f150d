"""Members that begin with the weights of another member: shrink and perturb, independent of the stack."""

from __future__ import annotations

import numpy as np
import torch
from tiny import BASE_LOGITS, SEED, dataset, device_data, plan_of, random_specs, spec

from evorec.models.population import fresh_population
from evorec.models.switches import off_rows
from evorec.training.inherit import PERTURB, SHRINK, inherit
from evorec.training.trainer import train

DATA = device_data(dataset())
PLAN = plan_of(dataset(), DATA, steps=3)


def trained(specs, parents=None, **options):
    return train(specs, PLAN, DATA, seed=SEED, base_logits=BASE_LOGITS, parents=parents, **options)


def fresh(specs, seed):
    return fresh_population(specs, DATA.shape, seed=seed, device=torch.device("cpu"), dtype=torch.float32)


def test_equal_tensors_are_shrunk_and_perturbed_and_others_stay_fresh():
    child, parent = spec(mechanism="mmoe", width=16), spec(mechanism="mmoe", width=8)
    given = fresh([parent], 7).member_arrays(0)
    given["head.bias"][:] = 2.0
    population, noise = fresh([child], 1), fresh([child], 2)
    before, drawn = population.member_arrays(0), noise.member_arrays(0)
    inherit(population, [given], noise)
    after = population.member_arrays(0)
    shared = {name for name in before if name in given and given[name].shape == before[name].shape}
    assert {"table", "head.bias"} <= shared < set(before)
    for name in before:
        if name not in shared:
            np.testing.assert_array_equal(after[name], before[name])
    wanted = np.float32(SHRINK) * given["table"] + np.float32(PERTURB) * drawn["table"]
    np.testing.assert_allclose(after["table"], np.where(given["table"] == 0, before["table"], wanted), rtol=1e-6)
    np.testing.assert_allclose(after["head.bias"], 0.4 * 2.0 + 0.6 * drawn["head.bias"], rtol=1e-6)


def test_what_the_parent_or_the_child_has_switched_off_is_not_inherited():
    on, off = spec(), spec(off=("segment",))
    (index,) = off_rows(off, DATA.shape)
    block = DATA.shape.row_blocks[index]
    rows = slice(block.first, block.first + block.size)
    population = fresh([on, off], 1)
    before = [population.member_arrays(member)["table"][rows] for member in (0, 1)]
    parents = [fresh([one], 7).member_arrays(0) for one in (off, on)]
    assert not parents[0]["table"][rows].any()
    assert parents[1]["table"][rows].any()
    inherit(population, parents, fresh([on, off], 2))
    np.testing.assert_array_equal(population.member_arrays(0)["table"][rows], before[0])
    assert not population.member_arrays(1)["table"][rows].any()


def test_an_heir_is_bitwise_independent_of_the_other_members_and_of_a_pause():
    specs = random_specs(np.random.default_rng(3), 7)
    given = trained([spec(mechanism="ple")]).population.member_arrays(0)
    parents = [given if member % 2 else None for member in range(7)]
    together = trained(specs, parents)
    paused = trained(specs, parents, last=1)
    resumed = trained(specs, parents, checkpoints=paused.checkpoints)
    plain = trained(specs)
    for member, one in enumerate(specs):
        expected = together.population.member_arrays(member)
        own = trained([one], [parents[member]]).population.member_arrays(0)
        for name, array in expected.items():
            np.testing.assert_array_equal(own[name], array)
            np.testing.assert_array_equal(resumed.population.member_arrays(member)[name], array)
        is_fresh = all(
            (plain.population.member_arrays(member)[name] == array).all() for name, array in expected.items()
        )
        assert is_fresh == (parents[member] is None)
