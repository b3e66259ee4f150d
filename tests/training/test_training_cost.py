"""Counted cost against PyTorch's own FLOP counter on the plain model, and against counts by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from tiny import dataset, device_data, spec
from torch.utils.flop_counter import FlopCounterMode

from evorec.models.population import InputShape
from evorec.training.cost import CatalogueWork, StepWork, member_cost

ADAM_FLOPS = 12
STEP = StepWork(batch=32, positives=8, rows=50.0, history_rows=20.0, bag_entries=90.0, history_entries=30.0, items=25.0)
CATALOGUE = CatalogueWork(n_items=40, user_fields=3, history_rows=40, history_length=10, candidates=15)
SHAPE = InputShape(n_rows=200, n_content=6, n_dense=5, n_tasks=3, n_layers=3)


def cost(one, shape=SHAPE, step=STEP, catalogue=CATALOGUE, steps=10):
    return member_cost(one, shape, step, catalogue, steps=steps, bytes_per_parameter=4)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_products_of_a_step_are_those_that_torch_counts(depth):
    data = dataset(content=False)
    shape = device_data(data, layers=2).shape
    one = spec(sharing_depth=depth, embedding_dim=8, width=32, history_weight=0.0)
    plain = PlainModel(one, data, 2)
    batch, positives = 32, 8
    rng = np.random.default_rng(0)
    users, items, contexts, asking, asked = (
        torch.tensor(rng.normal(size=(n, 8)), requires_grad=True) for n in (batch, batch, batch, positives, positives)
    )
    with FlopCounterMode(display=False) as counter:
        logits = plain.logits(users, items, contexts, np.zeros((batch, shape.n_dense)))
        scores = plain.retrieval(asking, torch.zeros_like(asking), asked)
        (logits.sum() + scores.sum()).backward()
    work = StepWork(batch, positives, rows=0, history_rows=0, bag_entries=0, history_entries=0, items=0)
    dense = sum(p.numel() for name, p in plain.named_parameters() if name != "table.weight")
    found = cost(one, shape, work, steps=7)
    assert found["training_flops"] == 7 * (counter.get_total_flops() + ADAM_FLOPS * dense)


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_parameters_are_those_of_the_plain_model(depth, content):
    data = dataset(content=content)
    shape = device_data(data, layers=2).shape
    one = spec(sharing_depth=depth, width=32)
    plain = PlainModel(one, data, 2)
    found = cost(one, shape)
    assert found["parameters"] == sum(p.numel() for p in plain.parameters())
    assert found["model_bytes"] == 4 * found["parameters"]
    without = cost(replace(one, history_weight=0.0), shape, catalogue=replace(CATALOGUE, history_rows=data.n_items))
    assert found["parameters"] - without["parameters"] == data.n_items * one.embedding_dim


def test_training_worked_by_hand():
    one = spec(sharing_depth=3, embedding_dim=4, width=16)
    # ranker: 21 * 16 + 16 * 16 + 16 * 16 + 16 * 3 = 896 products a row; weights and biases 896 + 48 + 3 = 947
    forward = 32 * 896 + 8 * 8 * 4 + (90 + 30) * 4 + 25 * 6 * 4
    updates = 947 + 6 * 4 + (50 + 20) * 4
    assert cost(one)["training_flops"] == 10 * (6 * forward + 12 * updates)
    without = replace(one, history_weight=0.0)
    assert cost(one)["training_flops"] - cost(without)["training_flops"] == 10 * (6 * 30 * 4 + 12 * 20 * 4)


def test_a_request_worked_by_hand():
    one = spec(sharing_depth=3, embedding_dim=4, width=16, rank_blend=0.5)
    # user: 3 fields and 10 past items; catalogue: 40 dot products; ranker: 15 candidates
    assert cost(one)["inference_flops"] == 2 * (13 * 4 + 40 * 4 + 15 * 896)
    assert cost(replace(one, rank_blend=0.0))["inference_flops"] == 2 * (13 * 4 + 40 * 4)
    assert cost(replace(one, rank_blend=0.0, history_weight=0.0))["inference_flops"] == 2 * (3 * 4 + 40 * 4)


@pytest.mark.parametrize(
    ("gene", "values"), [("width", (16, 32, 64)), ("embedding_dim", (4, 8, 16, 32)), ("sharing_depth", (3, 2, 1, 0))]
)
def test_every_cost_grows_with_width_dimension_and_number_of_towers(gene, values):
    costs = [cost(spec(rank_blend=0.5, **{gene: value})) for value in values]
    for cheaper, dearer in pairwise(costs):
        assert all(cheaper[name] < dearer[name] for name in cheaper)


def test_settings_that_change_no_shape_cost_nothing():
    other = spec(dropout=0.4, learning_rate=1e-3, temperature=1.0, retrieval_weight=5.0, task_weights=(3.0, 0.0, 0.0))
    assert cost(spec()) == cost(other)
