"""Low-rank projections of parts of the content against a plain model with two linear layers in their place."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from plain_training import batches_of, plain_train
from tiny import EVALUATION, SEED, UNIFORM, dataset, device_data, plan_of, random_specs, spec, trained
from torch import nn

from evorec.data.held_out import HeldOut, ranking_users
from evorec.errors import ConfigError
from evorec.models.blocks import InputBlock
from evorec.models.population import INIT_SCALE, member_shapes, stack_members
from evorec.models.pretrained import PretrainedVectors
from evorec.training.cost import CatalogueWork, StepWork, member_cost
from evorec.training.evaluate import measure
from evorec.training.padding import MergeRule

FLOAT64 = 1e-10  # as for whole members (test_trainer): rounding errors of some steps in float64, and room
BATCH, POSITIVES, STEPS, LAYERS = 12, 7, 24, 2
FIRST = 5  # columns of the first of two parts of the content

MEMBERS = [
    spec(ranks=(("first", 2),), dropout=0.2),
    spec(ranks=(("first", 2), ("second", 4)), optimizer="adafactor", balancing="pcgrad"),
    spec(ranks=(("second", 8),), off=("first",), balancing="nash"),
    spec(ranks=(("second", 2),), balancing="gradnorm", negative_source="uniform", dense_decay=5.0),
    spec(),
    spec(ranks=(("first", 4),), mechanism="single_task", balancing="nash"),
    spec(ranks=(("first", 2), ("second", 2)), mechanism="stem", optimizer="adafactor", balancing="pcgrad"),
    spec(ranks=(("second", 4),), mechanism="mmoe", task_embeddings=True, embedding_dim=8, balancing="uncertainty"),
    spec(ranks=(("first", 2),), ema=0.9),
]


@cache
def world(dtype=torch.float64):
    on_device = device_data(dataset(), layers=LAYERS, dtype=dtype)
    width = on_device.shape.n_content
    parts = (
        InputBlock("first", "content", "first", 0, FIRST),
        InputBlock("second", "content", "second", FIRST, width - FIRST),
    )
    return replace(on_device, shape=replace(on_device.shape, blocks=(*on_device.shape.row_blocks, *parts)))


class AdaptedModel(PlainModel):
    """A plain model that projects each part of the content by itself, some through a narrow layer."""

    def __init__(self, one, data, layers, parts):
        super().__init__(one, data, layers)
        del self.content, self.task_contents
        self.has_content = False
        self.parts = [part for part in parts if part.name not in one.off]
        self.projections = self._projections()
        self.task_projections = nn.ModuleList(self._projections() for _ in self.task_tables)
        self.double()

    def _projections(self):
        ranks, dim = dict(self.spec.ranks), self.spec.embedding_dim
        return nn.ModuleList(
            nn.Sequential(
                nn.Linear(part.size, ranks[part.name], bias=False), nn.Linear(ranks[part.name], dim, bias=False)
            )
            if part.name in ranks
            else nn.Linear(part.size, dim, bias=False)
            for part in self.parts
        )

    def pairs(self, arrays):
        out = super().pairs(arrays)
        ranks = dict(self.spec.ranks)
        for group, maps in enumerate([self.projections, *self.task_projections]):
            for part, one in zip(self.parts, maps, strict=True):
                if part.name in ranks:
                    name = f"adapter.{part.name}.{ranks[part.name]}"
                    out += [
                        (one[0].weight, arrays[f"{name}.down"][group].T),
                        (one[1].weight, arrays[f"{name}.up"][group].T),
                    ]
                else:
                    whole = arrays["task_content.weight"][group - 1] if group else arrays["content.weight"][0]
                    out.append((one.weight, whole[part.first : part.first + part.size].T))
        return out

    def items(self, ids):
        content = torch.tensor(self.data.item_content[ids], dtype=self.dtype)
        groups = []
        for maps in [self.projections, *self.task_projections]:
            own = [
                one(content[:, part.first : part.first + part.size]) for part, one in zip(self.parts, maps, strict=True)
            ]
            groups.append(sum(own))
        return super().items(ids) + torch.cat(groups, 1)


def own(checkpoint):
    return {name.removeprefix("parameter/"): a for name, a in checkpoint.items() if name.startswith("parameter/")}


@cache
def population():
    plan = plan_of(dataset(), world(), steps=STEPS, batch=BATCH, positives=POSITIVES)
    start = trained(MEMBERS, plan, world(), last=0).checkpoints
    return [own(one) for one in start], trained(MEMBERS, plan, world()).population


@pytest.mark.parametrize("member", range(len(MEMBERS)), ids=lambda m: f"{MEMBERS[m].mechanism} {MEMBERS[m].ranks}")
def test_a_member_equals_a_plain_model_with_two_layers_instead_of_a_projection(member):
    one, (starts, found) = MEMBERS[member], population()
    plain = AdaptedModel(one, dataset(), LAYERS, world().shape.content_blocks).load(starts[member])
    batches = batches_of(dataset(), steps=STEPS, batch=BATCH, positives=POSITIVES, uniform=UNIFORM, seed=SEED)
    for parameter, array in plain_train(plain, batches).pairs(found.member_arrays(member)):
        np.testing.assert_allclose(array, parameter.detach().numpy(), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("member", range(len(MEMBERS)))
def test_the_stored_projection_is_the_product_of_the_factors(member):
    one, (starts, found) = MEMBERS[member], population()
    parts = {part.name: slice(part.first, part.first + part.size) for part in world().shape.content_blocks}
    for arrays, is_start in ((starts[member], True), (found.member_arrays(member), False)):
        for name, rank in one.ranks:
            down, up = arrays[f"adapter.{name}.{rank}.down"], arrays[f"adapter.{name}.{rank}.up"]
            whole = np.concatenate(
                [arrays["content.weight"], *([arrays["task_content.weight"]] if len(down) > 1 else [])]
            )
            np.testing.assert_allclose(whole[:, parts[name]], down @ up, rtol=0, atol=FLOAT64)
            assert is_start is not up.any()
            assert down.any()
    assert member_shapes(one, world().shape) == {name: a.shape for name, a in found.member_arrays(member).items()}


def random_ranks(specs, rng):
    """The same members, most of them with adapters."""
    out = []
    for one in specs:
        ranks = [(name, int(rng.choice([2, 4, 8]))) for name in ("first", "second") if rng.random() < 0.6]
        out.append(replace(one, ranks=tuple(ranks), off=("second",) if rng.random() < 0.2 else ()))
    return out


def results(specs, **options):
    data, on_device = dataset(), world(torch.float32)
    stack = trained(specs, plan_of(data, on_device, steps=5), on_device, **options)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    measured = measure(stack.population, on_device, HeldOut(data, EVALUATION, users))
    return [(stack.population.member_arrays(i), measured[i].metrics) for i in range(len(specs))]


def assert_bitwise_equal(found, expected):
    assert found[0].keys() == expected[0].keys()
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, expected[0][name], err_msg=name)
    assert found[1] == expected[1]


def test_the_adapters_of_others_change_no_bit_of_a_member():
    rng = np.random.default_rng(5)
    specs = random_ranks(random_specs(rng, 12, embedding_dim=(4, 8), width=(8, 16)), rng)
    specs += [replace(specs[0], ranks=(), off=()), replace(specs[0], ranks=(("first", 2),), off=())]
    together = results(specs)
    for subset in [(3,), (12,), (1, 0, 13), (13, 12), (2, 12, 6, 5), (11, 10, 9, 8, 7, 4, 13)]:
        for one, member in zip(results([specs[i] for i in subset]), subset, strict=True):
            assert_bitwise_equal(one, together[member])


def test_a_training_continues_from_a_checkpoint_among_other_members():
    data, on_device = dataset(), world(torch.float32)
    plan = plan_of(data, on_device, steps=9)
    rng = np.random.default_rng(8)
    specs = random_ranks([*random_specs(rng, 6), spec(optimizer="adafactor")], rng)
    unbroken = trained(specs, plan, on_device).population
    stopped = trained(specs, plan, on_device, last=4)
    chosen = (6, 2, 0, 5)
    resumed = trained([specs[i] for i in chosen], plan, on_device, checkpoints=[stopped.checkpoints[i] for i in chosen])
    for place, member in enumerate(chosen):
        for name, array in resumed.population.member_arrays(place).items():
            np.testing.assert_array_equal(array, unbroken.member_arrays(member)[name], err_msg=name)


def test_members_of_merged_widths_keep_their_adapters():
    always = MergeRule(launches_per_block=1, launch_s=1.0, bytes_per_s=1e30)
    specs = [spec(ranks=(("first", 2),), width=8), spec(ranks=(("second", 4),), width=16), spec(width=8)]
    data, on_device = dataset(), world()
    plan = plan_of(data, on_device, steps=5)
    apart, merged = (trained(specs, plan, on_device, merge=rule).population for rule in (None, always))
    for member in range(len(specs)):
        for name, array in merged.member_arrays(member).items():
            np.testing.assert_allclose(array, apart.member_arrays(member)[name], rtol=0, atol=FLOAT64, err_msg=name)


def test_stored_members_are_the_trained_ones():
    _, found = population()
    arrays = [found.member_arrays(member) for member in range(len(MEMBERS))]
    stored = stack_members(MEMBERS, world().shape, arrays, device=torch.device("cpu"))
    for member, own_arrays in enumerate(arrays):
        for name, array in stored.member_arrays(member).items():
            np.testing.assert_array_equal(array, own_arrays[name])


def test_only_content_has_a_rank():
    plan = plan_of(dataset(), world(), steps=1)
    for name in ("colour", "segment"):
        with pytest.raises(ConfigError, match=rf"no feature '{name}' to switch; known: first, second\."):
            trained([spec(ranks=((name, 2),))], plan, world())


def test_an_adapter_costs_its_two_factors():
    step = StepWork(
        batch=32, positives=8, rows=50.0, history_rows=20.0, bag_entries=90.0, history_entries=30.0, items=25.0
    )
    catalogue = CatalogueWork(n_items=40, user_fields=3, history_rows=40, history_length=10, candidates=15)
    shape = replace(world().shape, n_content=60, blocks=(InputBlock("text", "content", "text", 0, 50),))

    def cost(one):
        return member_cost(one, shape, step, catalogue, steps=1, bytes_per_parameter=4)

    full, thin = cost(spec(embedding_dim=16)), cost(spec(embedding_dim=16, ranks=(("text", 2),)))
    fewer = 50 * 16 - 2 * (50 + 16)
    assert full["parameters"] - thin["parameters"] == fewer
    assert full["training_flops"] - thin["training_flops"] == 6 * 25 * fewer + 12 * fewer
    assert full["inference_flops"] == thin["inference_flops"]


def cooccurrence_vectors(data):
    """Random vectors of the items, ``(I + 1, 6)``."""
    return np.random.default_rng(0).normal(size=(data.n_items + 1, 6)).astype(np.float32)


def test_pretrained_rows_start_from_the_vectors_of_their_items():
    data, on_device = dataset(), world()
    vectors = cooccurrence_vectors(data)
    known = np.flatnonzero(data.item_counts > 0)
    rows = np.concatenate([data.item_rows[known, 0], data.item_history_row[known]])
    given = replace(on_device, pretrained=PretrainedVectors(rows, np.tile(vectors[known], (2, 1)).astype(float)))
    specs = [spec(), spec(pretrained=True), spec(pretrained=True, embedding_dim=8, mechanism="single_task")]
    plan = plan_of(data, on_device, steps=1)
    plain, four, eight = (own(one) for one in trained(specs, plan, given, last=0).checkpoints)
    for found, columns in ((four, 4), (eight, 6)):
        start = found["table"][data.item_rows[known, 0], :columns]
        assert np.sqrt((start**2).mean()) == pytest.approx(INIT_SCALE)
        np.testing.assert_allclose(
            start * (vectors[known, 0] / start[:, 0])[:, None], vectors[known, :columns], rtol=1e-5
        )
        np.testing.assert_array_equal(found["table"][data.item_history_row[known], :columns], start)
    others = np.setdiff1d(np.arange(data.n_rows), rows)
    np.testing.assert_array_equal(four["table"][others], plain["table"][others])
    assert (eight["table"][rows, 6:] != 0).all(), "columns beyond the vectors are noise"
    with pytest.raises(ConfigError, match="pretrained rows need the content cooccurrence, which the data do not have"):
        trained(specs, plan, replace(on_device, pretrained=None))
