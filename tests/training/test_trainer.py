"""A member of a stack against a plain model trained by itself, and members of different stacks against each other."""

from dataclasses import replace
from functools import cache
from threading import Thread

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from plain_training import batches_of, plain_train
from sklearn.metrics import roc_auc_score
from tiny import (
    BALANCINGS,
    BASE_LOGITS,
    EVALUATION,
    MECHANISMS,
    OPTIMIZERS,
    RETRIEVAL_LOSSES,
    SEED,
    UNIFORM,
    dataset,
    device_data,
    plan_of,
    random_specs,
    row_dataset,
    spec,
    trained,
    with_missing_labels,
)

from evorec.data.held_out import HeldOut, ranking_users
from evorec.models.choice import MECHANISMS as REGISTRY
from evorec.models.population import fresh_population
from evorec.models.spec import NEGATIVE_SOURCES
from evorec.training import trainer
from evorec.training.evaluate import measure, task_logits

FLOAT64 = 1e-10  # rounding errors of 200 steps in float64 came to 1e-14; the rest is room for other processors
ONE_STEP_FLOAT32 = 1e-5  # Adam turns a gradient near its epsilon into a step of the size of the learning rate
METRIC_FLOAT32 = 2e-3  # a pair of held-out rows or of items changes places where float32 rounds differently
LAYERS, STEPS, BATCH, POSITIVES = 3, 24, 12, 7

MEMBERS = [
    spec(mechanism="single_task", dropout=0.3, task_weights=(0.5, 2.0, 0.5)),
    spec(mechanism="single_task", embedding_dim=2, optimizer="adafactor", balancing="pcgrad", negatives=3),
    spec(sharing_depth=1, history_weight=0.0, learning_rate=1e-2, embedding_decay=5.0, balancing="uncertainty"),
    spec(sharing_depth=3, embedding_dim=8, width=8, balancing="pcgrad", dense_decay=8.0, negative_source="uniform"),
    spec(sharing_depth=2, dropout=0.15, optimizer="adafactor", learning_rate=1e-2, retrieval_loss="bpr"),
    spec(sharing_depth=0, task_embeddings=True, balancing="gradnorm", retrieval_loss="gbce", negatives=4),
    spec(mechanism="esmm", sharing_depth=1, balancing="pcgrad", dropout=0.1),
    spec(mechanism="esmm", sharing_depth=0, task_embeddings=True, balancing="dwa", optimizer="adafactor"),
    spec(mechanism="aitm", sharing_depth=1, balancing="gradnorm", retrieval_loss="bpr", negative_source="uniform"),
    spec(mechanism="aitm", sharing_depth=3, balancing="random", dropout=0.2, calibrator_weight=2.0),
    spec(mechanism="aitm", sharing_depth=0, task_embeddings=True, balancing="pcgrad", optimizer="adafactor"),
    spec(mechanism="cross_stitch", sharing_depth=2, balancing="fixed", optimizer="adafactor", dropout=0.25),
    spec(mechanism="cross_stitch", sharing_depth=1, task_embeddings=True, balancing="nash", width=8),
    spec(mechanism="mmoe", sharing_depth=1, balancing="dwa", retrieval_loss="gbce", dropout=0.4),
    spec(
        mechanism="mmoe",
        sharing_depth=3,
        task_embeddings=True,
        balancing="nash",
        optimizer="adafactor",
        temperature=0.7,
    ),
    spec(mechanism="cgc", sharing_depth=2, balancing="gradnorm", optimizer="adafactor", embedding_decay=1.0),
    spec(mechanism="cgc", sharing_depth=1, task_embeddings=True, balancing="uncertainty", negatives=2),
    spec(mechanism="ple", sharing_depth=2, balancing="pcgrad", embedding_dim=8, dropout=0.1),
    spec(mechanism="ple", sharing_depth=3, task_embeddings=True, balancing="random", optimizer="adafactor"),
    spec(mechanism="stem", sharing_depth=1, balancing="gradnorm", retrieval_loss="gbce", negative_source="uniform"),
    spec(mechanism="stem", sharing_depth=2, balancing="fixed", dropout=0.3, gbce_calibration=0.2),
    spec(sharing_depth=2, task_embeddings=True, optimizer="rowwise_adagrad", embedding_decay=3.0, balancing="pcgrad"),
    spec(sharing_depth=1, dropout=0.1, ema=0.9, embedding_decay=8.0),
    spec(mechanism="single_task", task_embeddings=True, optimizer="adafactor", ema=0.995),
    spec(sharing_depth=2, dropout=0.2, ensemble_heads=3),
    spec(mechanism="aitm", sharing_depth=1, ensemble_heads=2, balancing="pcgrad", optimizer="adafactor"),
    spec(mechanism="esmm", sharing_depth=0, task_embeddings=True, ensemble_heads=2, balancing="gradnorm", dropout=0.1),
    spec(mechanism="cross_stitch", sharing_depth=2, ensemble_heads=2, balancing="nash", ema=0.9),
    spec(mechanism="ple", sharing_depth=2, task_embeddings=True, ensemble_heads=3, balancing="pcgrad", dropout=0.2),
    spec(mechanism="stem", sharing_depth=1, ensemble_heads=2, optimizer="adafactor", balancing="uncertainty"),
    spec(mechanism="stem", sharing_depth=1, id_dropout=0.5, balancing="gradnorm", negative_source="uniform"),
    spec(mechanism="mmoe", sharing_depth=1, id_dropout=0.2, balancing="pcgrad", optimizer="adafactor"),
]


def name_of(one):
    tables = " own tables" if one.task_embeddings else ""
    average = f" ema {one.ema}" if one.ema else ""
    average += f" {one.ensemble_heads} heads" if one.ensemble_heads > 1 else ""
    return f"{one.mechanism}{one.sharing_depth}{tables}{average} {one.balancing} {one.optimizer} {one.retrieval_loss}"


def test_the_compared_members_have_every_mechanism_balancing_optimiser_and_loss():
    wanted = {
        "mechanism": MECHANISMS,
        "balancing": BALANCINGS,
        "optimizer": OPTIMIZERS,
        "retrieval_loss": RETRIEVAL_LOSSES,
        "negative_source": NEGATIVE_SOURCES,
    }
    for setting, values in wanted.items():
        assert {getattr(one, setting) for one in MEMBERS} == set(values)


def start(one, data, on_device):
    """The member as the trainer starts it."""
    plan = plan_of(data, on_device, steps=1)
    arrays = trained([one], plan, on_device, last=0).checkpoints[0]
    prefix = "parameter/"
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return PlainModel(one, data, on_device.shape.n_layers).to(on_device.dtype).load(own)


@cache
def batches(data, steps, batch, positives):
    return batches_of(data, steps=steps, batch=batch, positives=positives, uniform=UNIFORM, seed=SEED)


def trained_plain(one, data, on_device, steps, batch=BATCH, positives=POSITIVES):
    return plain_train(start(one, data, on_device), batches(data, steps, batch, positives))


def assert_equal(plain, arrays, tolerance=FLOAT64):
    for number, (parameter, array) in enumerate(plain.pairs(arrays)):
        found = parameter.detach().numpy()
        np.testing.assert_allclose(array, found, rtol=0, atol=tolerance, err_msg=f"parameter {number}")


@cache
def mixed():
    """All members in one call, and the data that they were trained on."""
    data = with_missing_labels(dataset())
    on_device = device_data(data, layers=LAYERS, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=STEPS, batch=BATCH, positives=POSITIVES)
    return data, on_device, trained(MEMBERS, plan, on_device)


@pytest.mark.parametrize("member", range(len(MEMBERS)), ids=lambda member: name_of(MEMBERS[member]))
def test_a_member_of_a_mixed_population_equals_a_plain_model(member):
    data, on_device, population = mixed()
    assert population.diverged[member] is None
    plain = trained_plain(MEMBERS[member], data, on_device, STEPS)
    assert_equal(plain, population.population.member_arrays(member))


@pytest.mark.parametrize(
    "options",
    [{"content": False}, {"statistics": ()}, {"context": False}, {"parents": (2, -1, 1)}, {"parents": (-1, 0, 0)}],
    ids=str,
)
def test_other_inputs_and_funnels_train_the_same_plain_models(options):
    data = dataset(**options)
    on_device = device_data(data, layers=1, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=5, batch=BATCH, positives=POSITIVES)
    specs = [spec(sharing_depth=depth, dropout=0.2) for depth in (0, 1)]
    specs += [spec(mechanism=name) for name in ("single_task", "esmm", "aitm", "ple", "stem")]
    found = trained(specs, plan, on_device).population
    for member, one in enumerate(specs):
        assert_equal(trained_plain(one, data, on_device, 5), found.member_arrays(member))


def test_members_of_a_table_of_rows_equal_plain_models_of_the_context_alone():
    data = row_dataset()
    on_device = device_data(data, layers=2, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=12, batch=BATCH, positives=POSITIVES)
    funnel = [name for name in MECHANISMS if REGISTRY[name].needs_funnel]
    mechanisms = [name for name in MECHANISMS if name not in funnel]
    specs = [
        spec(mechanism=name, balancing=BALANCINGS[i % len(BALANCINGS)], optimizer=OPTIMIZERS[i % len(OPTIMIZERS)])
        for i, name in enumerate(mechanisms)
    ]
    specs += [spec(sharing_depth=0, task_embeddings=True, balancing="pcgrad", dropout=0.2), spec(embedding_dim=8)]
    found = trained(specs, plan, on_device).population
    for member, one in enumerate(specs):
        assert_equal(trained_plain(one, data, on_device, 12), found.member_arrays(member))


@pytest.mark.parametrize("balancing", BALANCINGS)
def test_batches_without_a_label_of_a_task_leave_every_parameter_finite(balancing):
    data = with_missing_labels(dataset(), share=0.97)
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=25, batch=8)
    assert any(not bool(plan.step(i).has_label.all()) for i in range(len(plan)))
    specs = [spec(mechanism=name, balancing=balancing) for name in ("shared_bottom", "ple", "single_task")]
    found = trained(specs, plan, on_device)
    assert found.diverged == (None,) * len(specs)
    for member in range(len(specs)):
        assert all(np.isfinite(array).all() for array in found.population.member_arrays(member).values())


def plain_recall(plain, data, users, k):
    """Mean recall of the k best items by cosine and popularity, user by user."""
    part, one = data.train, plain.spec
    positives = part.target > 0
    age_days = (part.time.max() - part.time[positives]) / 86_400
    popularity = np.bincount(part.items[positives], 0.5 ** (age_days / one.popularity_half_life), data.n_items)
    prior = one.popularity_weight * np.log(one.popularity_smoothing + popularity)
    lists = [rows[rows > 0] for rows in data.history_rows[users]]
    with torch.no_grad():
        scores = plain.retrieval(plain.users(users), plain.histories(lists), plain.items(np.arange(data.n_items)))
    out = []
    for user, score in zip(users, scores.numpy() + prior, strict=True):
        score[data.seen.row(user)] = -np.inf
        wanted = set(data.relevant.row(user).tolist())
        out.append(len(wanted & set(np.argsort(-score, kind="stable")[:k].tolist())) / len(wanted))
    return np.mean(out)


FLOAT32_MEMBERS = [
    spec(mechanism="mmoe", rank_blend=0.0, balancing="uncertainty", dropout=0.2),
    spec(mechanism="shared_bottom", rank_blend=0.0, balancing="nash", optimizer="adafactor"),
    spec(mechanism="single_task", rank_blend=0.0, retrieval_loss="gbce", negative_source="uniform"),
    spec(mechanism="aitm", rank_blend=0.0, balancing="dwa", retrieval_loss="bpr"),
]


@cache
def mixed_float32():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=60, batch=64, positives=32)
    return data, on_device, trained(FLOAT32_MEMBERS, plan, on_device).population


@pytest.mark.parametrize("member", range(len(FLOAT32_MEMBERS)), ids=lambda member: name_of(FLOAT32_MEMBERS[member]))
def test_auc_and_recall_in_float32_are_those_of_a_plain_model_in_float32(member):
    data, on_device, population = mixed_float32()
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    found = measure(population, on_device, HeldOut(data, EVALUATION, users))[member].metrics
    plain = trained_plain(FLOAT32_MEMBERS[member], data, on_device, 60, 64, 32)
    part = data.held_out
    with torch.no_grad():
        vectors = plain.users(part.users), plain.items(part.items), plain.contexts(part.context)
        logits = plain.logits(*vectors, part.statistics).numpy()
    for task, name in enumerate(data.tasks):
        expected = roc_auc_score(part.labels[:, task], logits[:, task])
        assert found[f"auc/{name}"] == pytest.approx(expected, abs=METRIC_FLOAT32)
    recall = plain_recall(plain, data, users.ids, EVALUATION.k)
    assert found[f"recall@{EVALUATION.k}"] == pytest.approx(recall, abs=METRIC_FLOAT32)


def results(specs, plan, data, on_device, users, **options):
    """Parameters and metrics of each member."""
    population = trained(specs, plan, on_device, **options).population
    measured = measure(population, on_device, HeldOut(data, EVALUATION, users))
    return [(population.member_arrays(i), measured[i].metrics) for i in range(len(specs))]


def assert_bitwise_equal(found, expected):
    arrays, metrics = found
    assert arrays.keys() == expected[0].keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[0][name], err_msg=name)
    assert metrics == expected[1]


SUBSETS = [(3,), (1, 0), (6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7), (3, 1, 4, 0, 8, 7), (9, 11, 2)]


@pytest.mark.parametrize(
    ("embedding_dim", "width", "layers", "content", "dropout"),
    [
        (4, 16, 3, True, True),
        ((4, 8), (16, 32), 2, False, False),
        ((2, 4, 8, 16, 32), (8, 16, 32, 64), 1, True, True),
    ],
)
def test_a_member_is_bitwise_independent_of_the_other_members_and_their_order(
    embedding_dim, width, layers, content, dropout
):
    data = dataset(content=content)
    on_device = device_data(data, layers=layers)
    plan = plan_of(data, on_device, steps=3)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng([layers, content, dropout])
    specs = random_specs(rng, 12, embedding_dim=embedding_dim, width=width, layers=layers, dropout=dropout)
    together = results(specs, plan, data, on_device, users)
    for subset in SUBSETS:
        found = results([specs[i] for i in subset], plan, data, on_device, users)
        for one, member in zip(found, subset, strict=True):
            assert_bitwise_equal(one, together[member])


@pytest.mark.parametrize(
    ("family", "balancings"),
    [(("single_task", "shared_bottom", "esmm"), ("fixed", "dwa")), (("aitm",), ("nash",))],
    ids=["towers", "aitm"],
)
@pytest.mark.parametrize("activations", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_member_is_bitwise_independent_of_the_other_members_of_its_kernel_group(activations, family, balancings):
    data = with_missing_labels(dataset())
    on_device = device_data(data, layers=2)
    plan = plan_of(data, on_device, steps=4)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng(7)
    specs = [
        replace(one, balancing=str(rng.choice(balancings)), task_embeddings=one.mechanism == "single_task")
        for one in random_specs(rng, 12, mechanisms=family)
    ]
    together = results(specs, plan, data, on_device, users, activations=activations)
    for subset in SUBSETS:
        found = results([specs[i] for i in subset], plan, data, on_device, users, activations=activations)
        for one, member in zip(found, subset, strict=True):
            assert_bitwise_equal(one, together[member])


@pytest.mark.parametrize(("batch", "positives"), [(2, 2), (33, 17), (64, 32), (255, 97)])
def test_a_member_is_bitwise_independent_of_the_other_members_for_any_batch_size(batch, positives):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=3, batch=batch, positives=positives)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    specs = random_specs(np.random.default_rng(batch), 6, embedding_dim=(4, 8), width=(8, 16))
    together = results(specs, plan, data, on_device, users)
    for subset in [(0,), (4, 2), (1, 3, 0), (5,)]:
        found = results([specs[i] for i in subset], plan, data, on_device, users)
        for one, member in zip(found, subset, strict=True):
            assert_bitwise_equal(one, together[member])


@pytest.mark.parametrize("block_size", [1, 2, 3, 100])
def test_members_are_bitwise_the_same_in_blocks_of_any_size(block_size):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=4)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng(1)
    specs = [replace(one, balancing="random") for one in random_specs(rng, 5, mechanisms=["shared_bottom"])]
    specs += [spec(mechanism="ple", balancing="nash", dropout=rate) for rate in (0.0, 0.1, 0.2)]
    expected = results(specs, plan, data, on_device, users)
    for one, other in zip(results(specs, plan, data, on_device, users, block_size=block_size), expected, strict=True):
        assert_bitwise_equal(one, other)


def test_members_that_train_on_after_others_were_dropped_equal_an_unbroken_training():
    data = with_missing_labels(dataset())
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=27, batch=BATCH, positives=POSITIVES)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    rng = np.random.default_rng(4)
    named = [spec(mechanism=name, balancing=balancing) for name, balancing in zip(MECHANISMS, BALANCINGS, strict=False)]
    specs = [*named, *random_specs(rng, 6, embedding_dim=(4, 8), width=(8, 16))]
    expected = results(specs, plan, data, on_device, users)
    members, checkpoints = list(range(len(specs))), None
    for last, kept in ((9, (12, 3, 0, 5, 8, 1, 6)), (23, (5, 2, 0, 6)), (27, None)):
        found = trained([specs[i] for i in members], plan, on_device, checkpoints=checkpoints, last=last)
        if kept is not None:
            checkpoints, members = [found.checkpoints[i] for i in kept], [members[i] for i in kept]
    assert found.checkpoints == ()
    measured = measure(found.population, on_device, HeldOut(data, EVALUATION, users))
    for place, member in enumerate(members):
        assert_bitwise_equal((found.population.member_arrays(place), measured[place].metrics), expected[member])


def test_a_training_that_stops_at_a_rung_is_that_of_a_shorter_plan():
    data = dataset()
    on_device = device_data(data)
    specs = random_specs(np.random.default_rng(2), 4)
    stopped = trained(specs, plan_of(data, on_device, steps=9), on_device, last=5).population
    short = trained(specs, plan_of(data, on_device, steps=5), on_device).population
    for member in range(len(specs)):
        for name, array in short.member_arrays(member).items():
            np.testing.assert_array_equal(stopped.member_arrays(member)[name], array, err_msg=name)


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
    measured = measure(stack.population, on_device, HeldOut(data, EVALUATION, users))
    for member, one in ((0, expected[0]), (2, expected[1])):
        assert_bitwise_equal((stack.population.member_arrays(member), measured[member].metrics), one)


def test_a_not_finite_number_is_found_at_the_step_where_it_appears(monkeypatch):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=3)

    def poisoned(*args, **kwargs):
        population = fresh_population(*args, **kwargs)
        arrays = population.member_arrays(1)
        arrays["head.weight"][-1, 0, 0] = float("inf")
        population.load(1, arrays)
        return population

    clean = trained([spec(), spec(sharing_depth=2)], plan, on_device).population.member_arrays(0)
    monkeypatch.setattr(trainer, "fresh_population", poisoned)
    stack = trained([spec(), spec(sharing_depth=2)], plan, on_device)
    assert stack.diverged == (None, 1)
    for name, array in stack.population.member_arrays(0).items():
        np.testing.assert_array_equal(array, clean[name], err_msg=name)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_untrained_ranker_predicts_about_the_rates_of_the_tasks(mechanism):
    data = dataset(parents=(-1, 0, 0))
    on_device = device_data(data, dtype=torch.float64)
    still = spec(mechanism=mechanism, learning_rate=0.0, embedding_learning_rate=0.0)
    population = trained([still], plan_of(data, on_device, steps=1), on_device).population
    population.load(0, {**population.member_arrays(0), "head.weight": 0 * population.member_arrays(0)["head.weight"]})
    logits = task_logits(population, on_device, data.held_out)
    np.testing.assert_allclose(
        logits[0], np.broadcast_to(np.array(BASE_LOGITS)[:, None], logits[0].shape), atol=FLOAT64
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_member_of_rate_zero_keeps_its_initial_parameters_but_for_rows_that_no_batch_read(optimizer):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device)
    still = spec(mechanism="cgc", task_embeddings=True, optimizer=optimizer, learning_rate=0.0,
                 embedding_learning_rate=0.0)  # fmt: skip
    stack = trained([spec(), still], plan, on_device).population
    plain = start(still, data, on_device)
    read = torch.cat([plan.step(i).rows for i in range(len(plan))]).unique()
    assert len(read) < data.n_rows
    for table in plain.tables():
        expected = torch.zeros_like(table.weight)
        expected[read] = table.weight.detach()[read]
        table.weight.data = expected
    for parameter, array in plain.pairs(stack.member_arrays(1)):
        np.testing.assert_array_equal(parameter.detach().numpy(), array)


def test_float32_follows_the_plain_model_for_a_step():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=1)
    one = spec(dropout=0.2)
    plain = trained_plain(one, data, device_data(data, dtype=torch.float64), 1, batch=37, positives=29)
    assert_equal(plain, trained([one], plan, on_device).population.member_arrays(0), ONE_STEP_FLOAT32)
