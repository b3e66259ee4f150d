"""The past of users against a slow loop, and figures worked out by hand."""

import numpy as np

from evorec.data.pasts import Past


def slow_past(users, items, times, n_users):
    """Latest first, from the rows in the order of time; a later row moves its item to the front."""
    out = [[] for _ in range(n_users)]
    for row in sorted(range(len(users)), key=lambda row: (times[row], row)):
        past = out[users[row]]
        past[:] = [(items[row], times[row]), *(pair for pair in past if pair[0] != items[row])]
    return out


def test_the_past_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    users, items, times = rng.integers(0, 6, 80), rng.integers(0, 9, 80), rng.integers(0, 40, 80) * 3600
    past, expected = Past.of(users, items, times, n_users=7), slow_past(users, items, times, 7)
    assert [past.items[a:b].tolist() for a, b in zip(past.indptr, past.indptr[1:], strict=False)] == [
        [item for item, _ in own] for own in expected
    ]
    ages = [[(own[0][1] - time) / 86_400 for _, time in own] for own in expected]
    np.testing.assert_allclose(past.ages_days, np.concatenate(ages))
    followers = np.zeros((9, 9))
    for own in expected:
        for (item, _), (next_item, _) in zip(own[1:], own, strict=False):
            followers[item, next_item] += 1
    np.testing.assert_array_equal(past.followers(9).toarray(), followers)


def test_weights_fade_by_step_and_by_age():
    past = Past.of(np.array([0, 0, 0]), np.array([2, 0, 1]), np.array([0, 86_400, 3 * 86_400]), n_users=2)
    # latest first 1, 0, 2, of ages 0, 2 and 3 days
    np.testing.assert_allclose(past.faded(3).toarray(), [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_allclose(past.faded(3, decay=0.5).toarray()[0], [0.5, 1, 0.25])
    np.testing.assert_allclose(past.faded(3, half_life=1.0).toarray()[0], [0.25, 1, 0.125])
    assert Past.of(*(np.zeros(0, dtype=np.int64),) * 3, n_users=2).faded(3).nnz == 0
