"""Counted cost against PyTorch's own FLOP counter on the plain model, and against counts by hand."""

import itertools
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from tiny import BALANCINGS, EXPERTS, GRADIENT_BALANCINGS, MECHANISMS, dataset, device_data, of_mechanism, spec
from torch.utils.flop_counter import FlopCounterMode

from evorec.config import Bounds
from evorec.errors import ConfigError
from evorec.models.blocks import InputBlock
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import values_per_row
from evorec.models.spec import ModelSpec, default_space
from evorec.space.genes import Real, Simplex
from evorec.training.cost import CatalogueWork, StepWork, cost_bounds, mean_work, member_cost

ADAM_FLOPS, ADAFACTOR_FLOPS = 12, 13
STEP = StepWork(
    batch=32, positives=8, rows=50.0, history_rows=20.0, bag_entries=90.0, history_entries=30.0, items=25.0,
    uniform=8, uniform_rows=6.0, uniform_entries=20.0, uniform_items=7.0,
)  # fmt: skip
CATALOGUE = CatalogueWork(n_items=40, user_fields=3, history_rows=40, history_length=10, candidates=15)
SHAPE = InputShape(n_rows=200, n_content=6, n_dense=5, n_tasks=3, n_layers=3, n_items=40, parents=(-1, 0, -1))
BAGS, CONTENT = 90 * 4, 25 * 6 * 4
"""Products of a step of dimension 4 that sum embeddings and project content, for one embedding table."""

every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS)


def cost(one, shape=SHAPE, step=STEP, catalogue=CATALOGUE, steps=10):
    return member_cost(one, shape, step, catalogue, steps=steps, bytes_per_parameter=4)


def flops(one, **settings):
    """Training FLOPs of one step."""
    return cost(one, steps=1, **settings)["training_flops"]


@pytest.mark.parametrize("mechanism", ["shared_bottom", "single_task", "esmm"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_products_of_a_step_are_those_that_torch_counts(mechanism, depth):
    data = dataset(content=False)
    shape = device_data(data, layers=2).shape
    own = of_mechanism(mechanism)
    one = spec(**{"sharing_depth": depth, **own}, embedding_dim=8, width=32, history_weight=0.0)
    plain = PlainModel(one, data, 2)
    batch, positives, columns = 32, 8, 8 * len(plain.tables())
    rng = np.random.default_rng(0)
    users, items, contexts, asking, asked = (
        torch.tensor(rng.normal(size=(n, columns)), requires_grad=True) for n in (batch, batch, batch, positives, 8)
    )
    with FlopCounterMode(display=False) as counter:
        logits = plain.logits(users, items, contexts, np.zeros((batch, shape.n_dense)))
        scores = plain.retrieval(asking, torch.zeros_like(asking), asked)
        (logits.sum() + scores.sum()).backward()
    work = StepWork(batch, positives, rows=0, history_rows=0, bag_entries=0, history_entries=0, items=0)
    dense = sum(p.numel() for name, p in plain.named_parameters() if "table" not in name)
    assert cost(one, shape, work, steps=7)["training_flops"] == 7 * (counter.get_total_flops() + ADAM_FLOPS * dense)


@every_mechanism
@pytest.mark.parametrize("content", [True, False])
def test_parameters_are_those_of_the_plain_model(mechanism, content):
    data = dataset(content=content)
    shape = device_data(data, layers=2).shape
    one = spec(mechanism=mechanism, width=32)
    plain = PlainModel(one, data, 2)
    found = cost(one, shape, catalogue=replace(CATALOGUE, history_rows=data.n_items))
    unused = data.n_items * one.embedding_dim * len(plain.task_tables)  # task tables have no use for histories
    assert found["parameters"] == sum(p.numel() for p in plain.parameters()) - unused
    assert found["model_bytes"] == 4 * found["parameters"]
    without = cost(replace(one, history_weight=0.0), shape, catalogue=replace(CATALOGUE, history_rows=data.n_items))
    assert found["parameters"] - without["parameters"] == data.n_items * one.embedding_dim


def test_training_worked_by_hand():
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    # ranker: 21 * 16 + 16 * 16 + 16 * 16 + 16 * 3 = 896 products a row; weights and biases 896 + 48 + 3 = 947
    forward = 32 * 896 + 8 * 8 * 4 + BAGS + 30 * 4 + CONTENT
    updates = 947 + 6 * 4 + (50 + 20) * 4
    assert cost(one)["training_flops"] == 10 * (6 * forward + 12 * updates)
    without = replace(one, history_weight=0.0)
    assert cost(one)["training_flops"] - cost(without)["training_flops"] == 10 * (6 * 30 * 4 + 12 * 20 * 4)


def test_a_moving_average_worked_by_hand():
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    averaged = replace(one, ema=0.99)
    # two products and a sum for each of 947 + 6 * 4 dense parameters, and twice that for each entry of 70 rows
    assert cost(averaged)["training_flops"] - cost(one)["training_flops"] == 10 * 3 * (947 + 6 * 4 + 2 * 70 * 4)
    assert all(cost(averaged)[name] == cost(one)[name] for name in ("inference_flops", "parameters", "model_bytes"))
    low, high = cost_bounds(space(ema=Bounds(low=0.0, high=0.9), mechanism="shared_bottom"), cost)["training_flops"]
    assert low < high


def test_ensemble_heads_worked_by_hand():
    one = spec(mechanism="cgc", sharing_depth=1, embedding_dim=4, width=16, rank_blend=0.5)
    three = replace(one, ensemble_heads=3)
    # every head: 21 scaled inputs, experts, gates, mixtures and two levels of towers; its own output per task
    layers = 5 * 21 * 16 + 3 * 21 * 3 + 3 * 3 * 16 + 2 * 3 * 16 * 16
    more = 3 * (21 + layers + 3 * 16) - (layers + 3 * 16)
    assert cost(three)["inference_flops"] - cost(one)["inference_flops"] == 2 * 15 * more
    assert cost(three)["parameters"] - cost(one)["parameters"] == 3 * 21 + 2 * 3 * (16 + 1)
    assert values_per_row(three, SHAPE) == (1 + 3) * 21 + 3 * (values_per_row(one, SHAPE) - 21)


def test_encoders_of_the_past_worked_by_hand():
    bag, read = (
        spec(embedding_dim=4, width=16),
        replace(STEP, read=40.0, pairs=300.0, history_rows=0, history_entries=0),
    )
    # Per position: query, key, value and output, and two layers, of 4 x 4; scores and sums over pairs of length 4.
    settings = {"attention_layers": 2, "attention_heads": 2, "encoder_dropout": 0.1}
    attention = spec(embedding_dim=4, width=16, encoder="attention", **settings)
    shape = replace(SHAPE, n_past=10)
    # Ten positions; of each block 6 matrices, 2 biases and 2 normalisations of a gain and a bias; the last of them.
    parameters = 10 * 4 + 2 * (6 * 16 + 2 * 4 + 4 * 4) + 2 * 4
    products = 2 * (6 * 16 * 40 + 2 * 4 * 300)
    found, without = cost(attention, shape, read), cost(bag, shape, replace(read, read=0.0, pairs=0.0))
    assert found["training_flops"] - without["training_flops"] == 10 * (6 * products + 12 * parameters)
    # The bag has 40 rows of its own for the past.
    assert found["parameters"] - without["parameters"] == parameters - 40 * 4
    asked = 2 * (6 * 16 * 10 + 2 * 4 * 10 * 10)
    assert found["inference_flops"] - without["inference_flops"] == 2 * (asked - 10 * 4)
    both, alone = (cost(replace(attention, rank_blend=0.0, user_vector=own), shape, read) for own in (True, False))
    assert both["inference_flops"] - alone["inference_flops"] == 2 * 3 * 4  # a ranker would read the user's rows
    gru = cost(spec(embedding_dim=4, width=16, encoder="gru", encoder_dropout=0.1), shape, read)
    parameters = 2 * (4 * 12 + 12) + 2 * 4
    assert gru["training_flops"] - without["training_flops"] == 10 * (6 * 6 * 16 * 40 + 12 * parameters)


TOWERS_ABOVE_ONE_LAYER = 2 * 3 * 16 * 16 + 3 * 16
"""Two levels of three towers, and the heads."""


@pytest.mark.parametrize(
    ("mechanism", "products"),
    [
        ("shared_bottom", 21 * 16),
        ("esmm", 21 * 16),
        ("single_task", 3 * 21 * 16),
        ("cross_stitch", 3 * 21 * 16 + 3 * 3 * 16),
        ("mmoe", 3 * 21 * 16 + 3 * 21 * 3 + 3 * 3 * 16),  # 3 experts, 3 gates, 3 mixtures of 3
        ("cgc", 5 * 21 * 16 + 3 * 21 * 3 + 3 * 3 * 16),  # 3 own and 2 shared experts; a gate sees 1 + 2
        ("stem", 5 * 21 * 16 + 3 * 21 * 5 + 3 * 5 * 16),  # a gate sees all 5
        ("ple", 7 * 21 * 16 + 3 * 21 * 3 + 3 * 3 * 16),  # 6 own experts and 1 shared; a gate sees 2 + 1
        # one task has a parent: what it takes over, then query, key and value of two candidates, scores, a sum of two
        ("aitm", 21 * 16 + 16 * 16 + 2 * 3 * 16 * 16 + 2 * 16 + 2 * 16),
    ],
)
def test_the_ranker_of_each_mechanism_worked_by_hand(mechanism, products):
    one = spec(mechanism=mechanism, embedding_dim=4, width=16, rank_blend=0.5, history_weight=0.0)
    ranker = products + TOWERS_ABOVE_ONE_LAYER
    users = 4 if one.task_embeddings else 1
    assert cost(one)["inference_flops"] == 2 * (users * 3 * 4 + 40 * 4 + 15 * ranker)


def test_every_mechanism_has_a_count_by_hand():
    counted = test_the_ranker_of_each_mechanism_worked_by_hand.pytestmark[0].args[1]
    assert {mechanism for mechanism, _ in counted} == set(MECHANISMS)


def test_task_tables_multiply_rows_sums_and_content():
    with_tables = spec(mechanism="mmoe", task_embeddings=True, history_weight=0.0)
    without = replace(with_tables, task_embeddings=False)
    # three tables beside the shared one: sums and content of a step forward and backward, and updates of 50 rows
    more = 6 * 3 * (BAGS + CONTENT) + 12 * 3 * (50 * 4 + 6 * 4)
    assert flops(with_tables) - flops(without) == more
    stored = cost(with_tables)["parameters"] - cost(without)["parameters"]
    assert stored == 3 * (200 - 40) * 4 + 3 * 6 * 4  # no rows of histories


def test_a_request_worked_by_hand():
    one = spec(sharing_depth=3, embedding_dim=4, width=16, rank_blend=0.5)
    # user: 3 fields and 10 past items; catalogue: 40 dot products; ranker: 15 candidates
    assert cost(one)["inference_flops"] == 2 * (13 * 4 + 40 * 4 + 15 * 896)
    assert cost(replace(one, rank_blend=0.0))["inference_flops"] == 2 * (13 * 4 + 40 * 4)
    assert cost(replace(one, rank_blend=0.0, history_weight=0.0))["inference_flops"] == 2 * (3 * 4 + 40 * 4)
    separate = spec(mechanism="single_task", embedding_dim=4, rank_blend=0.0)
    assert cost(separate)["inference_flops"] == 2 * (13 * 4 + 40 * 4), "task vectors are the ranker's"


def test_fewer_negatives_cost_fewer_products():
    plain = flops(spec(negatives=512))
    assert plain == flops(spec(negatives=8))
    assert plain - flops(spec(negatives=4)) == 6 * (8 * 8 - 8 * (4 + 1)) * 4  # four columns and the own score


def test_uniform_negatives_bring_rows_sums_and_content_of_their_own():
    few = replace(spec(), negatives=4, negative_source="uniform")
    # half of the eight drawn items: 3 rows, 10 entries, 3.5 items; scores of four negatives and the own item
    expected = 6 * (8 * 5 * 4 - 8 * 8 * 4 + 10 * 4 + 3.5 * 6 * 4) + 12 * 3 * 4
    assert flops(few) - flops(spec()) == expected
    all_drawn = replace(few, negatives=512)
    assert flops(all_drawn) - flops(spec()) == 6 * (8 * 9 * 4 - 8 * 8 * 4 + 20 * 4 + 7 * 6 * 4) + 12 * 6 * 4
    with pytest.raises(ConfigError, match=r"needs training\.uniform_negatives >= 1, got 0"):
        flops(few, step=replace(STEP, uniform=0))


def test_the_kind_of_retrieval_loss_costs_nothing():
    assert len({flops(spec(retrieval_loss=kind)) for kind in ("softmax", "bpr", "gbce")}) == 1


def test_adafactor_counts_its_own_updates():
    updates = 947 + 6 * 4 + (50 + 20) * 4
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    assert flops(replace(one, optimizer="adafactor")) - flops(one) == (ADAFACTOR_FLOPS - ADAM_FLOPS) * updates


def test_row_wise_adagrad_costs_less_on_embedding_rows_only():
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    assert flops(one) - flops(replace(one, optimizer="rowwise_adagrad")) == (ADAM_FLOPS - 5) * (50 + 20) * 4


@pytest.mark.parametrize("balancing", BALANCINGS)
def test_balancing_by_gradients_costs_a_backward_pass_per_task_and_their_products(balancing):
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    added = flops(replace(one, balancing=balancing)) - flops(one)
    if balancing not in GRADIENT_BALANCINGS:
        assert added == 0
        return
    # shared: three layers 22 * 16 + 17 * 16 + 17 * 16, content 6 * 4, rows 50 * 4
    shared = 22 * 16 + 17 * 16 + 17 * 16 + 24 + 200
    assert added == 2 * (2 * 2 * (32 * 896 + BAGS + CONTENT) + (9 + 3) * shared)


@pytest.mark.parametrize(
    ("gene", "values"), [("width", (16, 32, 64)), ("embedding_dim", (4, 8, 16, 32)), ("sharing_depth", (3, 2, 1, 0))]
)
def test_every_cost_grows_with_width_dimension_and_number_of_towers(gene, values):
    costs = [cost(spec(rank_blend=0.5, **{gene: value})) for value in values]
    for cheaper, dearer in pairwise(costs):
        assert all(cheaper[name] < dearer[name] for name in cheaper)


@pytest.mark.parametrize("mechanism", EXPERTS)
def test_every_cost_grows_with_experts(mechanism):
    setting = "experts" if mechanism == "mmoe" else "shared_experts"
    costs = [cost(spec(mechanism=mechanism, rank_blend=0.5, **{setting: n})) for n in (1, 2, 4)]
    for cheaper, dearer in pairwise(costs):
        assert all(cheaper[name] < dearer[name] for name in cheaper)


def test_settings_that_change_no_shape_cost_nothing():
    other = spec(dropout=0.4, learning_rate=1e-3, temperature=1.0, retrieval_weight=5.0, task_weights=(3.0, 0.0, 0.0))
    assert cost(spec()) == cost(other)


BLOCKS = (
    InputBlock("city", "user", "city", 11, 10, 1),
    InputBlock("tags", "item", "tags", 21, 30, 4),
    InputBlock("text", "content", "text", 0, 4),
)
BLOCK_SHAPE = replace(SHAPE, blocks=BLOCKS)
BLOCK_STEP = replace(
    STEP, block_rows=(5.0, 9.5), block_entries=(8.0, 40.0), block_uniform_rows=(0.0, 3.0),
    block_uniform_entries=(0.0, 12.0),
)  # fmt: skip


def test_what_is_switched_off_costs_nothing():
    def of(off, **changes):
        return cost(spec(off=off, **changes), BLOCK_SHAPE, BLOCK_STEP, steps=1)

    full, city, text = of(()), of(("city",)), of(("text",))
    assert full == cost(spec(), steps=1)
    # ten rows of four numbers; eight entries in sums, five rows updated; one row of a user
    assert full["parameters"] - city["parameters"] == 10 * 4
    assert full["training_flops"] - city["training_flops"] == 6 * 8 * 4 + 12 * 5 * 4
    assert full["inference_flops"] - city["inference_flops"] == 2 * 1 * 4
    # four of six columns are projected to four numbers, for 25 items
    assert full["parameters"] - text["parameters"] == 4 * 4
    assert full["training_flops"] - text["training_flops"] == 6 * 25 * 4 * 4 + 12 * 4 * 4
    assert full["inference_flops"] == text["inference_flops"]
    half = {"negatives": 4, "negative_source": "uniform"}
    tags, without = of((), **half)["training_flops"], of(("tags",), **half)["training_flops"]
    assert tags - without == 6 * (40 + 12 / 2) * 4 + 12 * (9.5 + 3 / 2) * 4, "half of what is drawn is used"


def test_task_tables_leave_the_same_blocks_out():
    one = spec(mechanism="mmoe", task_embeddings=True)
    full, off = (cost(replace(one, off=off), BLOCK_SHAPE, BLOCK_STEP, steps=1) for off in ((), ("city", "text")))
    assert full["parameters"] - off["parameters"] == 4 * (10 * 4 + 4 * 4)
    assert full["training_flops"] - off["training_flops"] == 4 * (6 * (8 + 25 * 4) * 4 + 12 * (5 + 4) * 4)


def test_an_average_step_keeps_what_is_the_same_in_all():
    steps = [STEP, replace(STEP, rows=53.0, uniform_items=8.0)]
    assert mean_work(steps) == replace(STEP, rows=51.5, uniform_items=7.5)
    by_block = [BLOCK_STEP, replace(BLOCK_STEP, block_rows=(6.0, 9.5))]
    assert mean_work(by_block) == replace(BLOCK_STEP, block_rows=(5.5, 9.5))


def space(blocks=(), **overrides):
    whole = default_space(
        ("a", "b", "c"), n_layers=2, days=10.0, funnel=True, uniform_negatives=8, retrieval_batch=32, blocks=blocks
    )
    return whole.with_overrides(overrides, "test")


TWO_LAYERS = replace(SHAPE, n_layers=2)


def every_genome(of):
    """All genomes of a space whose real genes stand at their defaults."""
    axes = []
    for name in of.names:
        gene = of.gene(name)
        if isinstance(gene, Real | Simplex):
            axes.append([gene.encode(gene.default)])
        elif gene.n_columns:
            axes.append([np.array([float(c)]) for c in range(int(gene.bounds[0][0]), int(gene.bounds[1][0]) + 1)])
        else:
            axes.append([np.empty(0)])
    rows = np.array([np.concatenate(parts) for parts in itertools.product(*axes)])
    return np.unique(of.snap(rows), axis=0)


@pytest.mark.parametrize(
    "open_genes",
    [
        ("mechanism", "sharing_depth", "expert_depth", "experts", "shared_experts", "task_experts", "task_embeddings"),
        ("mechanism", "embedding_dim", "width", "balancing"),
        ("optimizer", "negatives", "negative_source", "history", "rerank", "embedding_dim"),
    ],
)
def test_cost_bounds_are_those_of_all_genomes(open_genes):
    whole = space()
    closed = [name for name in whole.names if name not in open_genes]
    some = space(**{name: whole.gene(name).default for name in closed})
    costs = [cost(ModelSpec.from_genes(some.decode(row)), TWO_LAYERS) for row in every_genome(some)]
    expected = {name: (min(c[name] for c in costs), max(c[name] for c in costs)) for name in costs[0]}
    assert cost_bounds(some, lambda one: cost(one, TWO_LAYERS)) == expected


@pytest.mark.parametrize("overrides", [{}, {"use_tags": True}, {"use_text": False}], ids=str)
def test_cost_bounds_switch_all_blocks_that_can_be(overrides):
    blocks, shape = BLOCKS, replace(BLOCK_SHAPE, n_layers=2)
    whole = space(blocks)
    open_genes = ("use_city", "use_tags", "use_text", "rank_text", "embedding_dim", "history")
    closed = {name: whole.gene(name).default for name in whole.names if name not in open_genes}
    some = space(blocks, **{**closed, **overrides})
    costs = [cost(ModelSpec.from_genes(some.decode(row)), shape, BLOCK_STEP) for row in every_genome(some)]
    expected = {name: (min(c[name] for c in costs), max(c[name] for c in costs)) for name in costs[0]}
    assert cost_bounds(some, lambda one: cost(one, shape, BLOCK_STEP)) == expected


def test_cost_bounds_hold_every_genome():
    whole = space()
    bounds = cost_bounds(whole, lambda one: cost(one, TWO_LAYERS))
    for row in whole.sample(np.random.default_rng(0), 300):
        for name, value in cost(ModelSpec.from_genes(whole.decode(row)), TWO_LAYERS).items():
            assert bounds[name][0] <= value <= bounds[name][1]


def test_cost_bounds_try_few_specs_of_a_large_space():
    tried = []
    cost_bounds(space(), lambda one: tried.append(one) or cost(one, TWO_LAYERS))
    assert len(tried) == len(set(tried)) < 3000
    many = [InputBlock(f"feature{i}", "item", f"feature{i}", 1 + i, 1, 1) for i in range(30)]
    without, tried = len(tried), []
    step = replace(
        STEP, **{f"block_{name}": (0.5,) * 30 for name in ("rows", "entries", "uniform_rows", "uniform_entries")}
    )
    shape = replace(TWO_LAYERS, blocks=tuple(many))
    cost_bounds(space(many), lambda one: tried.append(one) or cost(one, shape, step))
    assert len(tried) <= 2 * without, "all features on, and all off"
