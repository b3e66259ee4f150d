"""Tasks whose labels are numbers, from batches to metrics, beside tasks of 0 and 1."""

from functools import cache

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, roc_auc_score, root_mean_squared_error
from tiny import (
    EVALUATION,
    FUNNEL_MECHANISMS,
    MECHANISMS,
    device_data,
    number_dataset,
    plan_of,
    random_specs,
    spec,
    trained,
    with_missing_labels,
)
from training.test_trainer import (
    BATCH,
    MEMBERS,
    POSITIVES,
    SUBSETS,
    assert_bitwise_equal,
    assert_equal,
    name_of,
    results,
    trained_plain,
)

from evorec.data.held_out import HeldOut, ranking_users
from evorec.data.labels import best_constants
from evorec.training.evaluate import measure, task_logits

FLOAT64 = 1e-10  # see `training.test_trainer`
SINGLE = 1e-5  # float32 labels, standardised and brought back
LAYERS, STEPS = 3, 24
BEATEN = 0.9  # share of the error of a constant


@cache
def of_both_kinds(funnel):
    """Members on one binary task, a mean and a quantile, or on a funnel and a mean; and the data they trained on."""
    data = number_dataset(("click", "like", "watch"), (-1, 0, -1)) if funnel else number_dataset()
    data = with_missing_labels(data)
    on_device = device_data(data, layers=LAYERS, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=STEPS, batch=BATCH, positives=POSITIVES)
    members = tuple(one for one in MEMBERS if (one.mechanism in FUNNEL_MECHANISMS) == funnel)
    return data, on_device, members, trained(members, plan, on_device)


@pytest.mark.parametrize("number", range(len(MEMBERS)), ids=lambda number: name_of(MEMBERS[number]))
def test_a_member_with_tasks_of_both_kinds_equals_a_plain_model(number):
    one = MEMBERS[number]
    data, on_device, members, population = of_both_kinds(one.mechanism in FUNNEL_MECHANISMS)
    member = members.index(one)
    assert population.diverged[member] is None
    plain = trained_plain(one, data, on_device, STEPS)
    assert_equal(plain, population.population.member_arrays(member), FLOAT64)


@pytest.mark.parametrize("activations", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_member_with_tasks_of_both_kinds_is_bitwise_independent_of_the_other_members(activations):
    data = with_missing_labels(number_dataset(given=True))
    on_device = device_data(data, layers=2)
    plan = plan_of(data, on_device, steps=4)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng(11)
    without_funnel = [name for name in MECHANISMS if name not in FUNNEL_MECHANISMS]
    specs = random_specs(rng, 12, embedding_dim=(4, 8), width=(8, 16), mechanisms=without_funnel)
    together = results(specs, plan, data, on_device, users, activations=activations)
    for subset in SUBSETS:
        found = results([specs[i] for i in subset], plan, data, on_device, users, activations=activations)
        for one, member in zip(found, subset, strict=True):
            assert_bitwise_equal(one, together[member])


def test_errors_are_those_of_scikit_learn_in_the_labels_own_unit():
    data = number_dataset(given=True)
    on_device = device_data(data, dtype=torch.float64)
    specs = [spec(sharing_depth=0), spec(sharing_depth=2, mechanism="mmoe")]
    population = trained(specs, plan_of(data, on_device, steps=30), on_device).population
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    own = data.label_shift + data.label_scale * data.held_out.labels.astype(np.float64)
    assert np.nanmin(own[:, 1:]) > 0  # seconds
    for member, found in enumerate(measure(population, on_device, HeldOut(data, EVALUATION, users))):
        logits = task_logits(population, on_device, data.held_out)[member].T
        predicted = data.label_shift + data.label_scale * logits
        watched = ~np.isnan(own[:, 1])
        assert 0 < watched.sum() < len(watched)  # clicks alone
        expected = {
            "auc/click": roc_auc_score(own[:, 0], logits[:, 0]),
            "mae/watch": mean_absolute_error(own[watched, 1], predicted[watched, 1]),
            "rmse/watch": root_mean_squared_error(own[watched, 1], predicted[watched, 1]),
            "pinball/late": mean_pinball_loss(own[:, 2], predicted[:, 2], alpha=0.9),
            "concordance/watch": slow_concordance(predicted[watched, 1], own[watched, 1]),
            "concordance/late": slow_concordance(predicted[:, 2], own[:, 2]),
        }
        for name, value in expected.items():
            assert found.metrics[name] == pytest.approx(value, rel=SINGLE), name
        ordered = (expected["auc/click"], expected["concordance/watch"], expected["concordance/late"])
        assert found.metrics["accuracy"] == pytest.approx(np.mean(ordered), rel=SINGLE)
        per_task = {name for name in found.metrics if "/" in name}
        gains = {f"gain/{task}" for task in data.tasks}
        assert per_task == {*expected, *gains, "gauc/click", "logloss/click"}


def slow_concordance(scores, labels):
    """All pairs at once."""
    right = np.sign(scores[:, None] - scores) * np.sign(labels[:, None] - labels)
    different = labels[:, None] != labels
    return (0.5 + 0.5 * right[different]).mean()


def test_a_fresh_model_predicts_the_best_constants_of_training():
    data = number_dataset()
    on_device = device_data(data, dtype=torch.float64)
    constants = best_constants(data)
    labels = data.train.labels.astype(np.float64)
    rate = labels[:, 0].mean()
    assert constants == pytest.approx([np.log(rate / (1 - rate)), 0.0, np.quantile(labels[:, 2], 0.9)], rel=1e-2)
    plan = plan_of(data, on_device, steps=1)
    found = trained([spec(mechanism="single_task")], plan, on_device, last=0, base_logits=constants)
    bias = found.population.member_arrays(0)["head.bias"]
    np.testing.assert_allclose(bias.flatten(), constants, rtol=0, atol=FLOAT64)


def test_a_mean_and_a_quantile_are_learned():
    data = number_dataset(given=True)
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=300, batch=256, positives=64)
    one = spec(mechanism="single_task", learning_rate=5e-3, width=16)
    found = trained([one], plan, on_device, base_logits=best_constants(data))
    _, watch, late = task_logits(found.population, on_device, data.train)[0]
    labels = data.train.labels
    known = ~np.isnan(labels[:, 1])
    assert abs(watch[known].mean() - labels[known, 1].mean()) < 0.1
    assert abs((labels[:, 2] < late).mean() - 0.9) < 0.04  # the share of rows below the prediction is the quantile
    errors = labels[:, 2] - late
    constant = labels[:, 2] - best_constants(data)[2]
    assert np.maximum(0.9 * errors, -0.1 * errors).mean() < BEATEN * np.maximum(0.9 * constant, -0.1 * constant).mean()


def test_logits_of_numbers_are_those_of_a_plain_model():
    data = number_dataset()
    on_device = device_data(data, dtype=torch.float64)
    members = [spec(mechanism="ple"), spec(mechanism="ple", ensemble_heads=3)]
    population = trained(members, plan_of(data, on_device, steps=5), on_device).population
    for member, one in enumerate(members):
        plain, part = PlainModel(one, data, 2).load(population.member_arrays(member)), data.held_out
        vectors = plain.users(part.users), plain.items(part.items), plain.contexts(part.context)
        expected = plain.logits(*vectors, part.statistics).detach().numpy()
        np.testing.assert_allclose(task_logits(population, on_device, part)[member].T, expected, rtol=0, atol=FLOAT64)
