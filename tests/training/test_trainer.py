"""A member of a stack against a plain model trained by itself, and members in different company against each other."""

from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
import torch
from plain_model import PlainModel, plain_train
from tiny import (
    BASE_LOGITS,
    EVALUATION,
    SEED,
    dataset,
    device_data,
    plan_of,
    random_specs,
    spec,
    trained,
    with_missing_labels,
)

from evorec.models.population import fresh_population
from evorec.training import trainer
from evorec.training.evaluate import measure, ranking_users

FLOAT64 = 1e-10  # 200 steps of float64 training, whose rounding errors grow to some 1e-13
ONE_STEP_FLOAT32 = 1e-5  # Adam turns a gradient near its epsilon into a step of the size of the learning rate


def start(one, data, on_device):
    """The member's initial parameters, as the trainer sets them."""
    population = fresh_population(
        [one, one], on_device.shape, seed=SEED, device=on_device.device, dtype=on_device.dtype
    )
    population.dense["head.bias"] += torch.tensor(BASE_LOGITS, dtype=on_device.dtype)
    return PlainModel(one, data, on_device.shape.n_layers).load(population.member_arrays(0))


def test_each_member_of_a_mixed_stack_equals_a_plain_model_trained_alone():
    data = with_missing_labels(dataset())
    on_device = device_data(data, layers=2, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=200, batch=12, positives=7)
    specs = [
        spec(sharing_depth=0, dropout=0.3, task_weights=(0.5, 2.0, 0.5)),
        spec(sharing_depth=1, history_weight=0.0, learning_rate=1e-2, embedding_decay=5.0),
        spec(sharing_depth=2, dropout=0.15, embedding_learning_rate=1e-3, dense_decay=8.0, temperature=0.7),
    ]
    stack = trained(specs, plan, on_device)
    assert stack.diverged == (None, None, None)
    for member, one in enumerate(specs):
        plain = plain_train(start(one, data, on_device), steps=200, batch=12, positives=7, seed=SEED)
        for parameter, array in plain.pairs(stack.population.member_arrays(member)):
            np.testing.assert_allclose(parameter.detach().numpy(), array, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("options", [{"content": False}, {"statistics": ()}, {"context": False}], ids=str)
def test_data_without_content_statistics_or_context_train_the_same_plain_model(options):
    data = dataset(**options)
    on_device = device_data(data, layers=1, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=5, batch=12, positives=7)
    specs = [spec(sharing_depth=depth, dropout=0.2) for depth in (0, 1)]
    stack = trained(specs, plan, on_device)
    for member, one in enumerate(specs):
        plain = plain_train(start(one, data, on_device), steps=5, batch=12, positives=7, seed=SEED)
        for parameter, array in plain.pairs(stack.population.member_arrays(member)):
            np.testing.assert_allclose(parameter.detach().numpy(), array, rtol=0, atol=FLOAT64)


def results(specs, plan, data, on_device, users):
    """Parameters and metrics of each member."""
    stack = trained(specs, plan, on_device)
    measured = measure(stack.population, data, on_device, EVALUATION, users)
    return [(stack.population.member_arrays(i), measured[i].metrics) for i in range(len(specs))]


def assert_bitwise_equal(found, expected):
    arrays, metrics = found
    assert arrays.keys() == expected[0].keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[0][name], err_msg=name)
    assert metrics == expected[1]


COMPANIES = [(3,), (1, 0), (2, 5, 6), (6, 5, 4, 3, 2, 1, 0), (3, 1, 4, 0), (4, 2, 0, 6, 1)]


@pytest.mark.parametrize("dropout", [True, False], ids=["dropout", "no dropout"])
@pytest.mark.parametrize("content", [True, False], ids=["content", "no content"])
@pytest.mark.parametrize(
    ("embedding_dim", "width", "layers"), [(4, 16, 3), (8, 64, 1), (16, 32, 2), (32, 16, 2), (32, 64, 1)]
)
def test_a_member_is_bitwise_the_same_alone_permuted_and_in_any_company(embedding_dim, width, layers, content, dropout):
    data = dataset(content=content)
    on_device = device_data(data, layers=layers)
    plan = plan_of(data, on_device, steps=6)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng([embedding_dim, width, layers])
    specs = random_specs(rng, 7, embedding_dim=embedding_dim, width=width, layers=layers, dropout=dropout)
    together = results(specs, plan, data, on_device, users)
    for company in COMPANIES:
        found = results([specs[i] for i in company], plan, data, on_device, users)
        for one, member in zip(found, company, strict=True):
            assert_bitwise_equal(one, together[member])


@pytest.mark.parametrize(("batch", "positives"), [(2, 2), (33, 17), (64, 32), (255, 97)])
def test_a_member_is_bitwise_the_same_in_any_company_for_any_batch_size(batch, positives):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=3, batch=batch, positives=positives)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    specs = random_specs(np.random.default_rng(batch), 5)
    together = results(specs, plan, data, on_device, users)
    for company in [(0,), (4, 2), (1, 3, 0)]:
        found = results([specs[i] for i in company], plan, data, on_device, users)
        for one, member in zip(found, company, strict=True):
            assert_bitwise_equal(one, together[member])


def test_a_member_without_dropout_does_not_notice_a_neighbour_with_dropout():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device)
    without = trained([spec(), spec(sharing_depth=2)], plan, on_device).population
    beside = trained([spec(), spec(dropout=0.5)], plan, on_device).population
    for name, array in without.member_arrays(0).items():
        np.testing.assert_array_equal(array, beside.member_arrays(0)[name], err_msg=name)


def test_two_threads_that_share_a_plan_train_the_same_members():
    data = dataset()
    on_device = device_data(data)
    specs = random_specs(np.random.default_rng(0), 2)
    expected = trained(specs, plan_of(data, on_device, steps=8), on_device).population.member_arrays(1)
    shared, found = plan_of(data, on_device, steps=8), {}

    def run(name):
        found[name] = trained(specs, shared, on_device).population.member_arrays(1)

    threads = [Thread(target=run, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for arrays in (found[0], found[1]):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


BAD_RATES = {"learning_rate": 1e30, "embedding_learning_rate": 1e30}


@pytest.mark.parametrize("changes", [BAD_RATES, {"temperature": float("nan")}], ids=["rate", "nan"])
def test_a_diverging_member_is_reported_and_leaves_the_others_bitwise_unchanged(changes):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=6)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    good = random_specs(np.random.default_rng(5), 2)
    expected = results(good, plan, data, on_device, users)
    stack = trained([good[0], spec(**changes), good[1]], plan, on_device)
    assert stack.diverged[0] is None
    assert stack.diverged[2] is None
    assert stack.diverged[1] in range(1, 7)
    measured = measure(stack.population, data, on_device, EVALUATION, users)
    for member, one in ((0, expected[0]), (2, expected[1])):
        assert_bitwise_equal((stack.population.member_arrays(member), measured[member].metrics), one)


def test_a_not_finite_number_is_found_at_the_step_where_it_appears(monkeypatch):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=3)

    def poisoned(*args, **kwargs):
        population = fresh_population(*args, **kwargs)
        population.dense["head.weight"][-1, 0, 0] = float("inf")  # the last slot, of the last member
        return population

    clean = trained([spec(), spec(sharing_depth=2)], plan, on_device).population.member_arrays(0)
    monkeypatch.setattr(trainer, "fresh_population", poisoned)
    stack = trained([spec(), spec(sharing_depth=2)], plan, on_device)
    assert stack.diverged == (None, 1)
    for name, array in stack.population.member_arrays(0).items():
        np.testing.assert_array_equal(array, clean[name], err_msg=name)


def test_the_heads_start_at_the_log_odds_of_the_tasks():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=1)
    still = spec(learning_rate=0.0, embedding_learning_rate=0.0)
    for bias in trained([still], plan, on_device).population.member_arrays(0)["head.bias"]:
        assert bias[0].tolist() == list(BASE_LOGITS)


def test_a_member_of_rate_zero_keeps_its_initial_parameters_but_for_rows_that_no_batch_read():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device)
    still = spec(learning_rate=0.0, embedding_learning_rate=0.0)
    stack = trained([spec(), still], plan, on_device).population
    plain = start(still, data, on_device)
    read = torch.cat([plan.step(i).rows for i in range(len(plan))]).unique()
    expected = torch.zeros_like(plain.table.weight)
    expected[read] = plain.table.weight.detach()[read]
    plain.table.weight.data = expected
    assert len(read) < data.n_rows
    for parameter, array in plain.pairs(stack.member_arrays(1)):
        np.testing.assert_array_equal(parameter.detach().numpy(), array)


def test_float32_follows_the_plain_model_for_a_step():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=1)
    one = replace(spec(), dropout=0.2)
    plain = plain_train(start(one, data, on_device), steps=1, batch=37, positives=29, seed=SEED)
    for parameter, array in plain.pairs(trained([one], plan, on_device).population.member_arrays(0)):
        np.testing.assert_allclose(parameter.detach().numpy(), array, rtol=0, atol=ONE_STEP_FLOAT32)
