"""Held-out metrics against scikit-learn and slow loops on the same logits and lists."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from sklearn.metrics import log_loss, roc_auc_score
from tiny import EVALUATION, SEED, dataset, device_data, plan_of, random_specs, spec, trained

from evorec.config import EvaluationConfig
from evorec.data.encode import Csr
from evorec.data.held_out import HeldOut, ranking_users
from evorec.errors import DataError, TrainingError
from evorec.models.population import fresh_population
from evorec.training import evaluate
from evorec.training.evaluate import measure, member_lists, task_logits, unique_rows

FLOAT64 = 1e-10  # three layers of float64
ROUNDING = 1e-12
SPECS = [spec(sharing_depth=0, rank_blend=0.0), spec(sharing_depth=2, temperature=0.6)]


@pytest.fixture(scope="module")
def world():
    data = dataset()
    on_device = device_data(data, dtype=torch.float64)
    stack = trained(SPECS, plan_of(data, on_device, steps=30), on_device)
    return data, on_device, stack.population, ranking_users(data, EVALUATION, seed=0, at_most=None)


def test_logits_of_held_out_rows_are_those_of_a_plain_model(world, monkeypatch):
    data, on_device, population, _ = world
    monkeypatch.setattr(evaluate, "ROWS_AT_ONCE", 50)
    logits = task_logits(population, on_device, data.held_out)
    part = data.held_out
    for member, one in enumerate(SPECS):
        plain = PlainModel(one, data, 2).load(population.member_arrays(member))
        expected = plain.logits(
            plain.users(part.users), plain.items(part.items), plain.contexts(part.context), part.statistics
        )
        np.testing.assert_allclose(logits[member].T, expected.detach().numpy(), rtol=0, atol=FLOAT64)


def test_accuracy_is_that_of_scikit_learn(world):
    data, on_device, population, users = world
    logits = task_logits(population, on_device, data.held_out)
    labels = data.held_out.labels
    for member, measured in enumerate(measure(population, on_device, HeldOut(data, EVALUATION, users))):
        values = []
        for index, task in enumerate(data.tasks):
            scores, truth = logits[member, index], labels[:, index]
            values.append(roc_auc_score(truth, scores))
            assert measured.metrics[f"auc/{task}"] == pytest.approx(values[-1], abs=ROUNDING)
            expected = log_loss(truth, 1 / (1 + np.exp(-scores)))
            assert measured.metrics[f"logloss/{task}"] == pytest.approx(expected, abs=ROUNDING)
            per_user = [
                (rows.sum(), roc_auc_score(truth[rows], scores[rows]))
                for rows in (data.held_out.users == user for user in np.unique(data.held_out.users))
                if len(set(truth[rows])) == 2
            ]
            counts, aucs = np.array(per_user).T
            assert measured.metrics[f"gauc/{task}"] == pytest.approx((counts * aucs).sum() / counts.sum(), abs=ROUNDING)
        assert measured.metrics["accuracy"] == pytest.approx(np.mean(values), abs=ROUNDING)


def test_rows_without_a_label_do_not_count(world):
    data, on_device, population, users = world
    labels = data.held_out.labels.copy()
    labels[::3, 1] = np.nan
    missing = replace(data, held_out=replace(data.held_out, labels=labels))
    found = measure(population, on_device, HeldOut(missing, EVALUATION, users))[0].metrics
    logits = task_logits(population, on_device, data.held_out)[0, 1]
    known = ~np.isnan(labels[:, 1])
    assert found["auc/like"] == pytest.approx(roc_auc_score(labels[known, 1], logits[known]), abs=ROUNDING)


def test_recall_of_both_stages_is_that_of_a_slow_loop(world):
    data, on_device, population, users = world
    lists = member_lists(population, data, on_device, users, EVALUATION)
    k = EVALUATION.k
    for member, measured in enumerate(measure(population, on_device, HeldOut(data, EVALUATION, users))):
        final, first, candidates = [], [], []
        for place, user in enumerate(users.ids):
            wanted = set(data.relevant.row(user).tolist())
            for out, found in (
                (final, lists.final[member, place]),
                (first, lists.retrieved[member, place, :k]),
                (candidates, lists.retrieved[member, place]),
            ):
                out.append(len(wanted & set(found.tolist())) / len(wanted))
        assert measured.metrics[f"recall@{k}"] == pytest.approx(np.mean(final), abs=ROUNDING)
        assert measured.metrics[f"retrieval_recall@{k}"] == pytest.approx(np.mean(first), abs=ROUNDING)
        assert measured.metrics["candidate_recall"] == pytest.approx(np.mean(candidates), abs=ROUNDING)
        np.testing.assert_allclose(measured.per_user[f"recall@{k}"], final, atol=ROUNDING)


def test_keys_name_the_list_length_that_was_asked_for(world):
    data, on_device, population, users = world
    config = EvaluationConfig(k=data.n_items + 10, candidates="all")
    metrics = measure(population, on_device, HeldOut(data, config, users))[0].metrics
    assert {f"{name}@{config.k}" for name in ("recall", "ndcg", "intra_list_distance", "novelty")} <= metrics.keys()


def test_masked_items_are_never_listed(world):
    data, on_device, population, _ = world
    for mask, hidden in (("seen", data.seen), ("positives", data.history)):
        config = EvaluationConfig(k=5, candidates=12, mask=mask)
        users = ranking_users(data, config, seed=0, at_most=None)
        lists = member_lists(population, data, on_device, users, config)
        for place, user in enumerate(users.ids):
            assert not set(hidden.row(user).tolist()) & set(lists.retrieved[:, place].ravel().tolist())


@pytest.mark.parametrize("how", ["table", "head"])
def test_a_model_whose_scores_are_not_finite_is_refused_and_the_others_measured(world, how):
    data, on_device, population, users = world
    expected = measure(population, on_device, HeldOut(data, EVALUATION, users))
    broken = deepcopy(population)
    if how == "table":
        broken.tables[0][:, broken.columns[1][0]] = float("nan")
    else:
        block, place = broken.locate(1)
        block.trained["head.bias"][(place + 1) * data.n_tasks - 1] = float("inf")
    found = measure(broken, on_device, HeldOut(data, EVALUATION, users))
    assert found[0].metrics == expected[0].metrics
    assert isinstance(found[1], TrainingError)
    assert "not finite" in str(found[1])


def test_wild_but_finite_logits_are_measured_without_a_warning(world):
    data, on_device, population, users = world
    wild = deepcopy(population)
    for block in wild.kernel_groups:
        block.trained["head.weight"].mul_(1e5)
    metrics = measure(wild, on_device, HeldOut(data, EVALUATION, users))[0].metrics
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_sample_of_users_is_fixed_by_the_seed():
    data = dataset()
    every = ranking_users(data, EVALUATION, seed=0, at_most=None)
    assert every.ids.tolist() == [u for u in range(data.n_users) if len(data.relevant.row(u))]
    one, same, other = (ranking_users(data, EVALUATION, seed=seed, at_most=20) for seed in (1, 1, 2))
    assert one.ids.tolist() == same.ids.tolist() == sorted(one.ids.tolist())
    assert one.ids.tolist() != other.ids.tolist()
    assert len(one.ids) == 20
    for place, user in enumerate(one.ids):
        assert one.masked.row(place).tolist() == data.seen.row(user).tolist()
        assert one.relevant.row(place).tolist() == data.relevant.row(user).tolist()


def test_warm_users_have_a_training_positive():
    data = dataset()
    history = Csr.from_pairs(np.array([0, 3]), np.array([1, 1]), n_rows=data.n_users + 1)
    warm = ranking_users(replace(data, history=history), EvaluationConfig(users="warm"), seed=0, at_most=None)
    assert set(warm.ids.tolist()) <= {0, 3}


def nobody():
    data = dataset()
    return replace(data, relevant=Csr(np.zeros(data.n_users + 2, dtype=np.int64), np.empty(0, dtype=np.int64)))


def test_data_without_a_held_out_positive_are_refused():
    with pytest.raises(DataError, match=r"need a known user with a positive of click .* got none of"):
        ranking_users(nobody(), EVALUATION, seed=0, at_most=None)


def one_row_per_user():
    """The data set with only the first held-out row of each user, as in a leave-last-out split."""
    data = dataset()
    _, first = np.unique(data.held_out.users, return_index=True)
    names = ("users", "items", "context", "labels", "statistics", "target", "time")
    held_out = replace(data.held_out, **{name: getattr(data.held_out, name)[first] for name in names})
    return replace(data, held_out=held_out)


def test_gauc_is_left_out_where_no_user_has_both_classes(world):
    _, on_device, population, users = world
    metrics = measure(population, on_device, HeldOut(one_row_per_user(), EVALUATION, users))[0].metrics
    assert "gauc/click" not in metrics
    assert "auc/click" in metrics


def check(data, wanted, users=None):
    HeldOut(data, EVALUATION, users or ranking_users(data, EVALUATION, seed=0, at_most=None)).check(wanted)


def test_an_objective_that_the_data_cannot_give_is_refused_before_training():
    check(dataset(), {"gauc/click", "intra_list_distance@5", "accuracy"})
    with pytest.raises(DataError, match=r"gauc/click needs a user with both classes .* choose auc/click"):
        check(one_row_per_user(), {"gauc/click"})
    with pytest.raises(DataError, match=r"intra_list_distance@5 needs content of the items"):
        check(dataset(content=False), {"intra_list_distance@5"})


def test_measuring_leaves_the_model_as_it_is(world):
    data, on_device, population, users = world
    before = population.member_arrays(0)
    measure(population, on_device, HeldOut(data, EVALUATION, users))
    for name, array in population.member_arrays(0).items():
        np.testing.assert_array_equal(array, before[name])


def test_what_is_measured_does_not_depend_on_the_company():
    data = dataset()
    on_device, users = device_data(data), ranking_users(data, EVALUATION, seed=0, at_most=None)
    specs = random_specs(np.random.default_rng(5), 9, embedding_dim=[4, 8], width=[8, 16])

    def measured(chosen):
        stack = fresh_population(chosen, on_device.shape, seed=SEED, device=torch.device("cpu"), dtype=torch.float32)
        return [found.metrics for found in measure(stack, on_device, HeldOut(data, EVALUATION, users))]

    together = measured(specs)
    assert together == measured(specs[::-1])[::-1]
    assert together == [measured([one])[0] for one in specs]


def test_different_rows_are_found_column_by_column():
    rng = np.random.default_rng(0)
    for columns in (0, 1, 2, 5):
        array = rng.integers(3, 9, (200, columns))
        rows, place = unique_rows(array)
        np.testing.assert_array_equal(rows, np.unique(array, axis=0))
        np.testing.assert_array_equal(rows[place], array)


def with_cold_items(data):
    """The same data set as if the items of some held-out positives had no training row."""
    wanted = np.unique(data.relevant.indices)[::3]
    counts = data.item_counts.copy()
    counts[wanted] = 0
    return replace(data, item_counts=counts)


def test_the_recall_of_cold_items_is_that_of_a_slow_loop(world):
    data, on_device, population, users = world
    cold = with_cold_items(data)
    lists = member_lists(population, data, on_device, users, EVALUATION).final
    for member, measured in enumerate(measure(population, on_device, HeldOut(cold, EVALUATION, users))):
        shares = []
        for found, user in zip(lists[member], users.ids, strict=True):
            wanted = {item for item in data.relevant.row(user).tolist() if cold.item_counts[item] == 0}
            if wanted:
                shares.append(len(wanted & set(found.tolist())) / len(wanted))
        assert 0 < len(shares) < len(users.ids)
        assert measured.metrics[f"cold_start_recall@{EVALUATION.k}"] == pytest.approx(np.mean(shares), abs=ROUNDING)


def test_the_recall_of_cold_items_is_left_out_where_nobody_wants_one(world):
    data, on_device, population, users = world
    assert not (data.item_counts[data.relevant.indices] == 0).any()
    assert "cold_start_recall@5" not in measure(population, on_device, HeldOut(data, EVALUATION, users))[0].metrics
    with pytest.raises(DataError, match=r"cold_start_recall@5 needs a held-out positive on an item without a training"):
        check(data, {"cold_start_recall@5"})
    cold = with_cold_items(data)
    check(cold, {"cold_start_recall@5"})
    without = [place for place, row in enumerate(map(users.relevant.row, range(len(users.ids))))
               if cold.item_counts[row].all()]  # fmt: skip
    some = replace(users, relevant=users.relevant.select(np.array(without)))
    with pytest.raises(DataError, match="for the users that lists are measured on"):
        check(cold, {"cold_start_recall@5"}, some)


def grouped(data, n_groups):
    """The same data set with groups of users, each of whom wants two items."""
    users, rng = np.arange(data.n_users), np.random.default_rng(0)
    items = np.concatenate([rng.integers(0, 25, data.n_users), rng.integers(25, 50, data.n_users)])
    relevant = Csr.from_pairs(np.tile(users, 2), items, n_rows=data.n_users + 1)
    return replace(data, relevant=relevant, user_groups=np.append(users, 0) % n_groups)


def test_the_gap_between_groups_is_that_of_a_slow_loop(world):
    data, on_device, population, _ = world
    two = grouped(data, 2)
    users = ranking_users(two, EVALUATION, seed=0, at_most=None)
    lists = member_lists(population, two, on_device, users, EVALUATION).final
    for member, measured in enumerate(measure(population, on_device, HeldOut(two, EVALUATION, users))):
        shares = {0: [], 1: []}
        for found, user in zip(lists[member], users.ids, strict=True):
            wanted = set(two.relevant.row(user).tolist())
            shares[user % 2].append(len(wanted & set(found.tolist())) / len(wanted))
        assert all(len(own) >= 20 for own in shares.values())
        gap = abs(np.mean(shares[0]) - np.mean(shares[1]))
        assert measured.metrics["group_gap@5"] == pytest.approx(gap, abs=ROUNDING)


def test_a_gap_without_two_large_groups_is_refused_and_not_measured(world):
    data, on_device, population, _ = world
    many = grouped(data, 10)
    users = ranking_users(many, EVALUATION, seed=0, at_most=None)
    assert "group_gap@5" not in measure(population, on_device, HeldOut(many, EVALUATION, users))[0].metrics
    with pytest.raises(DataError, match=r"group_gap@5 needs two or more groups of 20 or more users .* has 0, and \d+"):
        check(many, {"group_gap@5"}, users)
    with pytest.raises(DataError, match="group_gap@5 needs two or more groups"):
        check(data, {"group_gap@5"})
    check(grouped(data, 2), {"group_gap@5"})


def test_sparsity_is_the_share_of_pairs_below_the_threshold(world):
    data, on_device, population, users = world
    assert "sparsity" not in measure(population, on_device, HeldOut(data, EVALUATION, users))[0].metrics
    shares = []
    for threshold in (0.0, 0.5, 1.0, 1e9):
        config = EVALUATION.model_copy(update={"sparsity_threshold": threshold})
        found = measure(population, on_device, HeldOut(data, config, users, wanted={"sparsity"}))
        shares.append([one.metrics["sparsity"] for one in found])
    masked = len(users.masked.indices) / (len(users.ids) * data.n_items)
    assert shares[0] == [masked] * 2, "only what is masked has no preference at all"
    assert masked < shares[1][0] < shares[2][0] < 1
    assert shares[3] == [1.0] * 2


def test_sparsity_does_not_depend_on_the_company(world):
    data, on_device, population, users = world
    together = measure(population, on_device, HeldOut(data, EVALUATION, users, wanted={"sparsity"}))
    alone = trained(SPECS[1:], plan_of(data, on_device, steps=30), on_device).population
    (found,) = measure(alone, on_device, HeldOut(data, EVALUATION, users, wanted={"sparsity"}))
    assert found.metrics == together[1].metrics
