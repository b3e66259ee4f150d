"""Two-stage recommendation against a slow loop over users and items, on a plain model of each member."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from tiny import SEED, dataset, device_data, random_specs, spec

from evorec.config import EvaluationConfig
from evorec.data.encode import Csr
from evorec.data.held_out import RankingUsers, ranking_users
from evorec.models import recommend as module
from evorec.models.population import fresh_population
from evorec.models.recommend import NO_ITEM, popularity_prior, top_items
from evorec.training import evaluate
from evorec.training.evaluate import member_lists

FLOAT64 = 1e-10  # dot products and three layers of float64 on scores of size 10
DAY_S = 86_400
CPU = torch.device("cpu")


def best_first(scores, ids, k):
    """The k best of a user's scores; equal ones by id; left out where the score is -inf."""
    order = sorted(zip((-scores).tolist(), ids.tolist(), strict=True))[:k]
    found = [item for score, item in order if score < np.inf]
    return found + [NO_ITEM] * (k - len(found)), [-score for score, item in order if score < np.inf]


def slow_scores(plain, data, users, masked):
    """Scores of the first stage, user by user, ``-inf`` where an item is masked."""
    one, part = plain.spec, data.train
    every = np.arange(data.n_items)
    counts = np.full(data.n_items, one.popularity_smoothing)
    for item, target, time in zip(part.items, part.target, part.time, strict=True):
        if target > 0:
            counts[item] += 0.5 ** ((part.time.max() - time) / DAY_S / one.popularity_half_life)
    prior = one.popularity_weight * np.log(counts)
    for user in users:
        history = [row for row in data.history_rows[user] if row > 0]
        histories = plain.histories([np.array(history, dtype=int)])
        cosines = plain.retrieval(plain.users([user]), histories, plain.items(every))
        scores = cosines.detach().numpy()[0] + prior
        scores[masked[user]] = -np.inf
        yield scores


def slow_lists(mix, data, users, masked, k, n_candidates):
    """Lists of some plain models user by user: logarithm of their mixed preferences, and the mean of the rankers."""
    every, contexts = np.arange(data.n_items), np.tile(data.context_mode, (n_candidates, 1))
    nothing = {user: [] for user in users}
    finals, retrieved, values = [], [], []
    for place, scores in enumerate(zip(*(slow_scores(plain, data, users, nothing) for plain, _ in mix), strict=True)):
        total = scores[0].copy()
        if len(mix) > 1:
            preferences = [np.exp(own) / np.exp(own).sum() for own in scores]
            total = np.log(sum(weight * own for (_, weight), own in zip(mix, preferences, strict=True)))
        total[masked[users[place]]] = -np.inf
        first, _ = best_first(total, every, n_candidates)
        candidates = np.array([item for item in first if item != NO_ITEM], dtype=int)
        blended, n = total[candidates].copy(), len(candidates)
        for plain, weight in mix:
            one, user = plain.spec, users[place]
            if one.rank_blend and n:
                statistics = np.hstack([np.tile(data.user_statistics[user], (n, 1)), data.item_statistics[candidates]])
                vectors = (
                    plain.users([user]).expand(n, -1),
                    plain.items(every)[candidates],
                    plain.contexts(contexts[:n]),
                )
                logits = plain.logits(*vectors, statistics)
                blended += weight * one.rank_blend * (logits.detach().numpy() @ np.array(one.task_weights))
        final, score = best_first(blended, candidates, k)
        finals.append(final)
        retrieved.append(first)
        values.append(score + [-np.inf] * (k - len(score)))
    return np.array(finals), np.array(retrieved), np.array(values)


def stack(specs, data, *, layers=2, noise=0.5):
    on_device = device_data(data, layers=layers, dtype=torch.float64)
    population = fresh_population(specs, on_device.shape, seed=SEED, device=CPU, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*population.tables, population.flat):
        tensor += noise * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return population, on_device


def hidden_items(data):
    """Seen items; user 1 has everything but two items hidden, user 2 everything."""
    hidden = {user: data.seen.row(user).tolist() for user in range(data.n_users + 1)}
    hidden[1] = [item for item in range(data.n_items) if item not in (7, 9)]
    hidden[2] = list(range(data.n_items))
    return hidden


def ranking(data, users, hidden):
    pairs = [(place, item) for place, user in enumerate(users) for item in hidden[user]]
    masked = Csr.from_pairs(*np.array(pairs).T, n_rows=len(users))
    return RankingUsers(np.array(users), masked, data.relevant.select(np.array(users)))


SPECS = [
    spec(sharing_depth=0, rank_blend=0.0),
    spec(sharing_depth=1, rank_blend=0.7, history_weight=0.0, task_weights=(0.2, 1.8, 1.0)),
    spec(sharing_depth=2, rank_blend=2.0, popularity_weight=0.3, popularity_half_life=1.5, temperature=0.5),
]


@pytest.mark.parametrize("options", [{}, {"content": False}, {"context": False}, {"statistics": ()}], ids=str)
@pytest.mark.parametrize("candidates", [12, "all"])
def test_lists_are_those_of_a_slow_loop(options, candidates, monkeypatch):
    data = dataset(**options)
    population, on_device = stack(SPECS, data)
    users, hidden = [0, 1, 2, 3, 11, 40, data.n_users], hidden_items(data)
    monkeypatch.setattr(module, "MOST_USERS", 3)  # several rounds over so few users
    monkeypatch.setattr(module, "FEWEST_USERS", 3)
    monkeypatch.setattr("evorec.models.rerank.PAIRS_AT_ONCE", 25)
    lists = member_lists(
        population, data, on_device, ranking(data, users, hidden), EvaluationConfig(k=5, candidates=candidates)
    )
    n_candidates = data.n_items if candidates == "all" else candidates
    for member, one in enumerate(SPECS):
        plain = PlainModel(one, data, 2).load(population.member_arrays(member))
        final, retrieved, scores = slow_lists([(plain, 1.0)], data, users, hidden, 5, n_candidates)
        np.testing.assert_array_equal(lists.final[member], final)
        np.testing.assert_array_equal(lists.retrieved[member], retrieved)
        np.testing.assert_allclose(lists.scores[member], scores, rtol=0, atol=FLOAT64)
    assert (lists.final[:, 1, 2:] == NO_ITEM).all()
    assert (lists.final[:, 2] == NO_ITEM).all()


@pytest.mark.parametrize("weights", [(0.25, 0.0, 0.75), (0.0, 1.0, 0.0)], ids=str)
def test_a_mixture_lists_by_the_mixed_preferences_and_the_mean_of_the_rankers(weights, monkeypatch):
    data = dataset()
    population, on_device = stack(SPECS, data)
    users, hidden = [0, 1, 2, 3, 11, 40, data.n_users], hidden_items(data)
    monkeypatch.setattr(module, "MOST_USERS", 3)  # the last users come twice
    monkeypatch.setattr(module, "FEWEST_USERS", 3)
    config, asked = EvaluationConfig(k=5, candidates=12), ranking(data, users, hidden)
    lists = evaluate.mixture_lists(population, weights, data, on_device, asked, config, threshold=1.0)
    plain = [PlainModel(one, data, 2).load(population.member_arrays(m)) for m, one in enumerate(SPECS)]
    mix = [(own, weight) for own, weight in zip(plain, weights, strict=True) if weight]
    final, retrieved, scores = slow_lists(mix, data, users, hidden, 5, 12)
    np.testing.assert_array_equal(lists.final, final)
    np.testing.assert_array_equal(lists.retrieved, retrieved)
    np.testing.assert_allclose(lists.scores, scores, rtol=0, atol=FLOAT64)
    assert lists.n_improbable[2] == data.n_items, "everything is masked"
    one_user = evaluate.mixture_lists(population, weights, data, on_device, ranking(data, [3], hidden), config)
    np.testing.assert_allclose(one_user.scores, scores[3:4], rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0, 0.0])
def test_improbable_items_are_those_of_a_slow_softmax(threshold, monkeypatch):
    data = dataset()
    population, on_device = stack(SPECS, data)
    users, hidden = [0, 1, 2, 3, 11, 40, data.n_users], hidden_items(data)
    monkeypatch.setattr(module, "MOST_USERS", 3)  # the last users come twice
    monkeypatch.setattr(module, "FEWEST_USERS", 3)
    config = EvaluationConfig(k=5, candidates=12)
    request = evaluate._request(population, data, on_device, ranking(data, users, hidden), config)
    for member, lists in module.stream_lists(population, **request, threshold=threshold):
        plain = PlainModel(SPECS[member], data, 2).load(population.member_arrays(member))
        expected = []
        for scores in slow_scores(plain, data, users, hidden):
            weights = [math.exp(score - 8) for score in scores]  # the scores are about 8
            total = sum(weights) or 1.0
            expected.append(sum(weight / total <= threshold / data.n_items for weight in weights))
        assert lists.n_improbable.tolist() == expected
        assert expected[2] == data.n_items, "everything is masked"
        assert threshold == 0 or 0 < expected[0] < data.n_items


def test_nothing_is_counted_unless_it_is_asked_for():
    data = dataset()
    population, on_device = stack(SPECS, data)
    config = EvaluationConfig(k=5, candidates=12)
    request = evaluate._request(population, data, on_device, ranking(data, [3], {3: [0]}), config)
    assert {lists.n_improbable for _, lists in module.stream_lists(population, **request)} == {None}
    for _, lists in module.stream_lists(population, **request, threshold=1.0):
        assert lists.n_improbable.shape == (1,)


def test_a_blend_of_zero_is_the_order_of_retrieval():
    data = dataset()
    population, on_device = stack([replace(one, rank_blend=0.0) for one in SPECS], data)
    users = ranking_users(data, EvaluationConfig(), seed=0, at_most=None)
    lists = member_lists(population, data, on_device, users, EvaluationConfig(k=5, candidates=20))
    np.testing.assert_array_equal(lists.final, lists.retrieved[:, :, :5])
    beside, _ = stack(SPECS, data)  # a neighbour that re-ranks changes nothing for member 0
    found = member_lists(beside, data, on_device, users, EvaluationConfig(k=5, candidates=20))
    np.testing.assert_array_equal(found.final[0], lists.final[0])
    np.testing.assert_array_equal(found.scores[0], lists.scores[0])
    assert (found.final[2] != lists.final[2]).any()


def test_equal_scores_stand_by_item_id():
    data = dataset()
    flat = [replace(one, popularity_weight=0.0, rank_blend=0.0) for one in SPECS]
    population, on_device = stack(flat, data)
    for tensor in (*population.tables, population.flat):
        tensor.zero_()  # every score is 0
    users, hidden = [0, 5], {0: [0, 2], 5: [1]}
    lists = member_lists(population, data, on_device, ranking(data, users, hidden), EvaluationConfig(k=4, candidates=9))
    assert lists.final.tolist() == [[[1, 3, 4, 5], [0, 2, 3, 4]]] * 3
    assert lists.retrieved[0, 0].tolist() == [1, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("candidates", [200, "all"])
def test_lists_longer_than_the_catalogue_are_padded(candidates):
    data = dataset()
    population, on_device = stack(SPECS, data)
    k = data.n_items + 10
    lists = member_lists(
        population,
        data,
        on_device,
        ranking(data, [3, 5], {3: [], 5: [0]}),
        EvaluationConfig(k=k, candidates=candidates),
    )
    assert lists.final.shape == lists.scores.shape == (3, 2, k)
    for member in range(3):
        assert sorted(lists.final[member, 0].tolist()) == [NO_ITEM] * 10 + list(range(data.n_items))
        assert sorted(lists.final[member, 1].tolist()) == [NO_ITEM] * 11 + list(range(1, data.n_items))
    assert (lists.final[:, :, -10:] == NO_ITEM).all()
    assert (lists.scores[:, :, -10:] == -np.inf).all()


def test_top_items_agrees_with_a_full_sort_whatever_the_ties():
    rng = np.random.default_rng(0)
    for k in (1, 3, 10, 40):
        scores = rng.integers(0, 6, (3, 25, 40)).astype(float)
        scores[rng.random(scores.shape) < 0.2] = -np.inf
        values, ids = top_items(torch.tensor(scores), k)
        expected = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, -1))


def test_top_items_of_other_devices_agrees():
    scores = torch.tensor(np.random.default_rng(1).integers(0, 6, (3, 25, 40)).astype(np.float32))
    for found, expected in zip(module._top_items_by_torch(scores, 7), top_items(scores, 7), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("n_users", [1, 2, 7, 8])
def test_a_user_gets_the_same_list_among_any_others(n_users, monkeypatch):
    data = dataset()
    population, on_device = stack(SPECS, data)
    monkeypatch.setattr(module, "FEWEST_USERS", 4)
    monkeypatch.setattr(module, "MOST_USERS", 4)
    everyone, config = list(range(11)), EvaluationConfig(k=5, candidates=12)
    hidden = {user: data.seen.row(user).tolist() for user in everyone}
    expected = member_lists(population, data, on_device, ranking(data, everyone, hidden), config)
    found = member_lists(population, data, on_device, ranking(data, everyone[3 : 3 + n_users], hidden), config)
    np.testing.assert_array_equal(found.final, expected.final[:, 3 : 3 + n_users])
    np.testing.assert_array_equal(found.retrieved, expected.retrieved[:, 3 : 3 + n_users])
    np.testing.assert_allclose(found.scores, expected.scores[:, 3 : 3 + n_users], rtol=0, atol=FLOAT64)


def test_the_popularity_prior_worked_by_hand():
    items, ages = np.array([0, 2, 2]), np.array([7.0, 0.0, 3.5])
    one = spec(popularity_weight=0.5, popularity_smoothing=2.0, popularity_half_life=3.5)
    none = spec(popularity_weight=0.0)
    prior = popularity_prior(items, ages, np.ones(4, dtype=bool), [one, none])
    # positives count 1/4; 0; 1 + 1/2; 0
    expected = [0.5 * np.log([2.25, 2.0, 3.5, 2.0]), [0.0] * 4]
    np.testing.assert_allclose(prior, expected, rtol=1e-15)


@pytest.mark.parametrize(("quantile", "sum_of_a_new_item"), [(0.0, 0.0), (0.5, 0.25), (1.0, 1.5)])
def test_an_item_that_nobody_was_shown_counts_as_a_quantile_of_those_that_were(quantile, sum_of_a_new_item):
    items, ages = np.array([0, 2, 2]), np.array([7.0, 0.0, 3.5])
    one = spec(popularity_smoothing=2.0, popularity_half_life=3.5, new_item_popularity=quantile)
    shown = np.array([True, True, True, False])  # with sums 1/4, 0 and 1 + 1/2
    prior = popularity_prior(items, ages, shown, [one])
    np.testing.assert_allclose(prior, [np.log([2.25, 2.0, 3.5, 2.0 + sum_of_a_new_item])], rtol=1e-15)


def test_lists_of_a_member_do_not_depend_on_its_company():
    data = dataset()
    specs = random_specs(np.random.default_rng(3), 5)
    on_device = device_data(data)
    users = ranking_users(data, EvaluationConfig(), seed=0, at_most=None)
    config = EvaluationConfig(k=5, candidates=20)

    def lists(members):
        chosen = [specs[i] for i in members]
        population = fresh_population(chosen, on_device.shape, seed=SEED, device=CPU, dtype=torch.float32)
        return member_lists(population, data, on_device, users, config)

    together = lists(range(5))
    for company in ([0], [3], [0, 1], [4, 2], [3, 0, 1], [2, 4, 3, 1]):
        found = lists(company)
        for slot, member in enumerate(company):
            np.testing.assert_array_equal(found.final[slot], together.final[member])
            np.testing.assert_array_equal(found.scores[slot], together.scores[member])
