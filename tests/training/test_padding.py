"""Members that train padded to a greater width against the same members at their own."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import EXPERTS, MECHANISMS, PARENTS, SEED, dataset, device_data, plan_of, random_specs, spec, trained

from evorec.errors import ConfigError
from evorec.models.input_shape import InputShape
from evorec.models.population import Population, fresh_population, member_shapes
from evorec.training.padding import (
    LAUNCHES_PER_BLOCK,
    MergeRule,
    merge_rule,
    padded_population,
    padded_specs,
    pads_exactly,
    refit,
    refit_entries,
)

FLOAT64 = 1e-12  # of the largest number of an array: a product over more terms may round differently; 5e-15 was seen
STEPS = 24  # two windows of dynamic weight averaging and a rest
SHAPE = InputShape(n_rows=30, n_content=6, n_dense=5, n_tasks=3, n_layers=2, n_items=9, parents=PARENTS)
ALWAYS = MergeRule(launches_per_block=1, launch_s=1.0, bytes_per_s=float("inf"))
CPU = torch.device("cpu")
PADDED = [name for name in MECHANISMS if name != "aitm"]


@cache
def stage(steps=STEPS):
    on_device = device_data(dataset(), dtype=torch.float64)
    return plan_of(dataset(), on_device, steps=steps, batch=12, positives=7), on_device


def padded(specs, rule=ALWAYS, shape=SHAPE):
    return padded_specs(specs, shape, rule, batch=100, bytes_per_value=4)


def n_blocks(specs):
    return len(Population(specs, SHAPE, block_size=len(specs)).kernel_groups)


def mixed_widths(name):
    """Members of a mechanism in three widths, with and without dropout and balancing by gradients."""
    plain = [spec(mechanism=name, width=width, dropout=rate) for width, rate in ((16, 0.0), (8, 0.3), (32, 0.2))]
    plain += [spec(mechanism=name, width=4, balancing="uncertainty"), spec(mechanism=name, width=8, balancing="dwa")]
    by_gradient = [(8, "nash", 0.1), (32, "pcgrad", 0.0), (16, "gradnorm", 0.2)]
    plain += [spec(mechanism=name, width=width, balancing=how, dropout=rate) for width, how, rate in by_gradient]
    if name in EXPERTS or name == "single_task":
        return plain
    own = [spec(mechanism=name, width=width, sharing_depth=0, task_embeddings=True) for width in (8, 16)]
    return plain + own


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        largest = np.abs(array).max(initial=0)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=FLOAT64 * largest, err_msg=name)


@pytest.mark.parametrize("name", PADDED)
def test_a_member_trained_in_a_wider_block_has_the_parameters_moments_and_losses_of_its_own_width(name):
    specs = mixed_widths(name)
    assert n_blocks(padded(specs)) < n_blocks(specs)
    plan, on_device = stage()
    merged, alone = (trained(specs, plan, on_device, last=STEPS - 1, merge=rule) for rule in (ALWAYS, None))
    assert merged.population.specs == tuple(specs)
    for member, own in enumerate(alone.checkpoints):  # balancers keep sums of losses
        assert_near(merged.checkpoints[member], own)
        assert_near(merged.population.member_arrays(member), alone.population.member_arrays(member))


@pytest.mark.parametrize(
    ("before", "after"), [(ALWAYS, None), (None, ALWAYS), (ALWAYS, ALWAYS)], ids=["padded", "exact", "both padded"]
)
def test_a_checkpoint_continues_with_or_without_padding_and_among_other_members(before, after):
    specs = [one for name in PADDED for one in mixed_widths(name)[::2]]
    plan, on_device = stage(steps=12)
    expected = trained(specs, plan, on_device).population
    first = trained(specs, plan, on_device, last=5, merge=before).checkpoints
    kept = [member for member in range(len(specs)) if member % 3]
    part, checkpoints = [specs[i] for i in kept], [first[i] for i in kept]
    rest = trained(part, plan, on_device, checkpoints=checkpoints, merge=after).population
    for place, member in enumerate(kept):
        assert_near(rest.member_arrays(place), expected.member_arrays(member))


def test_members_that_are_not_padded_are_bitwise_independent_of_padded_members():
    specs = random_specs(np.random.default_rng(3), 30, width=(8, 16, 32), mechanisms=("shared_bottom", "aitm", "cgc"))
    specs = [replace(one, optimizer="adamw") if one.width == 8 else one for one in specs]
    plan, on_device = stage(steps=6)
    merged, alone = (trained(specs, plan, on_device, merge=rule).population for rule in (ALWAYS, None))
    wide = padded(specs, shape=on_device.shape)
    kept = [member for member, one in enumerate(specs) if wide[member] == one]
    assert 0 < len(kept) < len(specs)
    assert all(member in kept for member, one in enumerate(specs) if not pads_exactly(one))
    for member in kept:
        for name, array in alone.member_arrays(member).items():
            np.testing.assert_array_equal(merged.member_arrays(member)[name], array, err_msg=name)


@pytest.mark.parametrize("changes", [{"optimizer": "adafactor"}, {"mechanism": "aitm"}], ids=str)
def test_members_that_padding_would_change_keep_their_width_and_their_block(changes):
    stays = [spec(width=8, **changes), spec(width=16, **changes)]
    assert padded(stays) == tuple(stays)
    # no block is saved while one member stays behind; a wider block may take others in
    narrow, wide = replace(stays[0], optimizer="adamw"), replace(stays[1], optimizer="adamw")
    if pads_exactly(narrow):
        assert padded([stays[0], narrow, wide]) == (stays[0], narrow, wide)
        assert padded([narrow, stays[1]]) == (replace(narrow, width=16), stays[1])


def test_only_members_of_equal_kind_are_merged():
    narrow = spec(width=8)
    others = [
        spec(width=16, embedding_dim=8),
        spec(width=16, balancing="nash"),
        spec(width=16, sharing_depth=0, task_embeddings=True),
        spec(width=16, mechanism="mmoe"),
    ]
    assert padded([narrow, *others]) == (narrow, *others)
    experts = [spec(width=8, mechanism="mmoe"), spec(width=16, mechanism="mmoe", sharing_depth=2)]
    assert padded(experts) == tuple(experts)
    towers = [spec(width=8, sharing_depth=1), spec(width=16, sharing_depth=2)]
    assert padded(towers) == (replace(towers[0], width=16), towers[1])


def test_blocks_merge_where_the_launches_cost_more_than_the_bytes():
    # 16 -> 32 units: one shared layer and three towers keep 4 * 16 more values per row; 11 passes over 100 rows of
    # float32 move 11 * 100 * 4 * 64 = 281,600 bytes: 281.6 us at 1e9 bytes/s; 100 launches of 5 us take 500 us
    rule = MergeRule(launches_per_block=100, launch_s=5e-6, bytes_per_s=1e9)
    narrow, wide = spec(width=16), spec(width=32)
    assert padded([narrow, wide], rule) == (wide, wide)
    assert padded([narrow, narrow, wide], rule) == (narrow, narrow, wide)  # 563.2 us
    assert padded([narrow, narrow, wide], replace(rule, bytes_per_s=2e9)) == (wide,) * 3  # 281.6 us
    assert padded([narrow, wide], replace(rule, launches_per_block=56)) == (narrow, wide)  # 280 us
    assert padded([narrow, wide], None) == (narrow, wide)


def test_the_cheapest_merge_comes_first_and_its_members_may_move_on():
    # 8 -> 16 costs 11 * 100 * 4 * 4 * 8 = 140,800 bytes, 16 -> 32 281,600 bytes a member
    specs = [spec(width=width) for width in (32, 16, 8)]
    rule = MergeRule(launches_per_block=100, launch_s=5e-6, bytes_per_s=1e9)
    # after 8 -> 16 both would have to move on: 563.2 us
    assert [one.width for one in padded(specs, rule)] == [32, 16, 16]
    assert [one.width for one in padded(specs, replace(rule, launch_s=6e-6))] == [32, 32, 32]


def test_a_padded_population_starts_with_the_members_values_and_zeros():
    specs = [spec(width=8), spec(width=32), spec(width=16, sharing_depth=2)]
    exact = fresh_population(specs, SHAPE, seed=SEED, device=CPU, dtype=torch.float64)
    wide = padded_population(exact, padded(specs), block_size=8)
    assert [one.width for one in wide.specs] == [32, 32, 32]
    assert len(wide.kernel_groups) == 1
    for member, one in enumerate(specs):
        own, arrays = exact.member_arrays(member), wide.member_arrays(member)
        for name, array in refit(own, member_shapes(wide.specs[member], SHAPE)).items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)
        for name, array in refit(arrays, member_shapes(one, SHAPE)).items():
            np.testing.assert_array_equal(own[name], array, err_msg=name)
    assert padded_population(exact, specs, block_size=8) is exact


def test_arrays_and_entries_are_padded_at_the_end_of_every_axis():
    exact = {"table": (1, 2), "layer0.weight": (1, 2, 2), "head.weight": (2, 2, 1)}
    wide = {"table": (1, 2), "layer0.weight": (1, 2, 3), "head.weight": (2, 3, 1)}
    arrays = {"table": np.array([[9, 9]]), "layer0.weight": np.array([[[1, 2], [3, 4]]])}
    found = refit(arrays, wide)
    assert found["table"].tolist() == [[9, 9]]
    assert found["layer0.weight"].tolist() == [[[1, 2, 0], [3, 4, 0]]]
    assert refit(found, exact)["layer0.weight"].tolist() == [[[1, 2], [3, 4]]]
    entries = refit_entries(np.arange(1, 9), exact, wide)  # those of the layer, then two heads of two inputs
    assert entries.tolist() == [1, 2, 0, 3, 4, 0, 5, 6, 0, 7, 8, 0]
    assert refit_entries(entries, wide, exact).tolist() == list(range(1, 9))


@pytest.mark.parametrize("changes", [{"learning_rate": 1e300}, {"temperature": float("nan")}], ids=["rate", "nan"])
def test_a_member_that_diverges_does_so_at_the_same_step_and_changes_no_other_member(changes):
    specs = [spec(width=8), spec(width=8, **changes), spec(width=16)]
    plan, on_device = stage(steps=6)
    merged, alone = (trained(specs, plan, on_device, merge=rule) for rule in (ALWAYS, None))
    assert merged.diverged == alone.diverged
    assert [step is None for step in merged.diverged] == [True, False, True]
    for member in (0, 2):
        assert_near(merged.population.member_arrays(member), alone.population.member_arrays(member))
    assert {name: array.shape for name, array in merged.population.member_arrays(1).items()} == member_shapes(
        specs[1], on_device.shape
    )


def test_a_checkpoint_of_another_width_is_refused():
    plan, on_device = stage(steps=6)
    (wide,) = trained([spec(width=16)], plan, on_device, last=3).checkpoints
    with pytest.raises(ConfigError, match=r"of member 0: expected shape .*, found"):
        trained([spec(width=8)], plan, on_device, checkpoints=[wide], merge=ALWAYS)


def test_a_rule_is_for_a_gpu_and_knows_its_bandwidth(monkeypatch):
    assert merge_rule(CPU) is None
    # 2 transfers per cycle of 3.2 GHz over 6144 bits = 768 bytes: 4.9152e12 bytes/s, of which 0.8 are reached
    known = SimpleNamespace(memory_clock_rate=3_200_000, memory_bus_width=6144)
    for properties, expected in ((known, 3.93216e12), (SimpleNamespace(), 0.8e12)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=properties: found)
        rule = merge_rule(torch.device("cuda"))
        assert rule == MergeRule(LAUNCHES_PER_BLOCK, 5e-6, pytest.approx(expected))
