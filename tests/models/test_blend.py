"""Blended retrieval scores against a slow loop over users, and the order of item-item scores alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models.test_item_item import plain_cut, plain_knn
from models.test_recommend import best_first, hidden_items, ranking, slow_scores, stack
from plain_model import PlainModel
from tiny import dataset, spec

from evorec.config import EvaluationConfig
from evorec.models.blend import blended
from evorec.models.recommend import NO_ITEM
from evorec.training.evaluate import member_lists

FLOAT32 = 1e-5  # matrices and item-item scores are float32
KNN = {
    "item_item": "knn", "shrinkage": 3.0, "asymmetry": 0.4, "user_norm": 0.5, "next_item": 0.5, "neighbours": 6,
    "past_decay": 0.7, "past_half_life": 5.0,
}  # fmt: skip


def slow_past(data, user):
    """Items and weights of a user's positives, latest first, from the rows of the log."""
    rows = [row for row in range(data.train.n_rows) if data.train.users[row] == user and data.train.target[row] > 0]
    past = []
    for row in sorted(rows, key=lambda row: (data.train.time[row], row)):
        item = data.train.items[row]
        past = [(item, data.train.time[row]), *(pair for pair in past if pair[0] != item)]
    return [(item, 0.7**step * 0.5 ** ((past[0][1] - time) / 86_400 / 5.0)) for step, (item, time) in enumerate(past)]


def slow_matrix(data):
    x = np.zeros((data.n_users, data.n_items))
    following = np.zeros((data.n_items, data.n_items))
    for user in range(data.n_users):
        past = [item for item, _ in slow_past(data, user)]
        x[user, past] = 1
        for before, after in zip(past[1:], past, strict=False):
            following[before, after] += 1
    scale = np.sqrt(np.outer(x.sum(0), x.sum(0))) + 3.0
    return plain_cut(plain_knn(x, 3.0, 0.4, 0.5) + 0.5 * following / scale, 6)


def slow_blend(scores, own, share):
    softmax = np.exp(scores - scores.max())
    softmax /= softmax.sum()
    positive = np.maximum(own, 0)
    return np.log(softmax if positive.sum() == 0 else (1 - share) * softmax + share * positive / positive.sum())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_blended_lists_are_those_of_a_slow_loop(share):
    data = dataset()
    member = spec(rank_blend=0.0, item_item_share=share, **KNN)
    population, on_device = stack([spec(), member, replace(member, item_item_share=0.0)], data)
    users, hidden, every = [0, 1, 2, 3, 11, 40, data.n_users], hidden_items(data), np.arange(data.n_items)
    config = EvaluationConfig(k=5, candidates=12)
    lists = member_lists(population, data, on_device, ranking(data, users, hidden), config)
    plain, matrix = PlainModel(member, data, 2).load(population.member_arrays(1)), slow_matrix(data)
    nothing = {user: [] for user in users}
    n_with_past = 0
    for index, (user, scores) in enumerate(zip(users, slow_scores(plain, data, users, nothing), strict=True)):
        past = slow_past(data, user)
        n_with_past += len(past) > 0
        own = sum((weight * matrix[item] for item, weight in past), np.zeros(data.n_items))
        mixed = slow_blend(scores, own, share)
        mixed[hidden[user]] = -np.inf
        items, values = best_first(mixed, every, 5)
        assert lists.final[1, index].tolist() == items
        found = lists.scores[1, index][lists.final[1, index] != NO_ITEM]
        np.testing.assert_allclose(found, values, atol=FLOAT32)
    assert n_with_past > 3
    single, device = stack([spec(), spec(rank_blend=0.0)], data)
    vectors = member_lists(single, data, device, ranking(data, users, hidden), config)
    population.load(2, single.member_arrays(1))
    lists = member_lists(population, data, on_device, ranking(data, users, hidden), config)
    np.testing.assert_array_equal(lists.scores[2], vectors.scores[1])  # a share of 0 changes no bit


def test_item_item_scores_alone_keep_their_order():
    prior = torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0, 5.0])
    own = torch.tensor([[0.1, 1e-30, 0.0, 0.0, -0.5, -0.1], [0.0] * 6, [-1.0, -2.0, 0.0, -3.0, 0.0, 0.0]])
    order = blended(prior, own, 1.0).argsort(dim=1, descending=True, stable=True)
    assert order.tolist() == [[0, 1, 3, 2, 5, 4], [5, 1, 3, 2, 0, 4], [5, 2, 4, 0, 1, 3]]
    mixed = blended(prior.expand(3, -1), own, 0.5)
    assert bool(mixed.isfinite().all())
    np.testing.assert_allclose(mixed.exp().sum(1), 1.0, atol=FLOAT32)
    np.testing.assert_allclose(mixed[1], torch.log_softmax(prior, 0), atol=FLOAT32)


def test_a_single_user_has_the_same_list():
    data = dataset()
    members = [spec(rank_blend=0.0, item_item_share=share, **KNN) for share in (0.5, 1.0)]
    population, on_device = stack(members, data)
    users, hidden, config = [0, 3, 11], hidden_items(data), EvaluationConfig(k=5, candidates=12)
    together = member_lists(population, data, on_device, ranking(data, users, hidden), config)
    for index, user in enumerate(users):
        alone = member_lists(population, data, on_device, ranking(data, [user], hidden), config)
        np.testing.assert_array_equal(alone.final[:, 0], together.final[:, index])
