import numpy as np
import pytest

from evorec.errors import ConfigError
from evorec.search.rungs import survivors

SEEDS = range(20)


def feasible(F):
    return np.zeros((len(F), 1))


def ranks(F):
    """Non-dominated rank of every row, by a slow loop."""
    rank = np.full(len(F), -1)
    for level in range(len(F)):
        left = np.flatnonzero(rank < 0)
        for i in left:
            if not any((F[j] <= F[i]).all() and (F[j] < F[i]).any() for j in left):
                rank[i] = level
        if (rank >= 0).all():
            break
    return rank


def sampled(seed):
    """Random objectives of random size, on a coarse grid in half of the cases, so that there are ties."""
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(int(rng.integers(2, 40)), int(rng.integers(1, 5))))
    return np.round(F) if seed % 2 else F


def test_ranks_come_first_and_the_divided_front_keeps_its_ends():
    # (0, 4), (4, 0) and between them (1, 2), (1.5, 1.75): the front; (2, 3) and (5, 5) are behind it.
    F = np.array([[5.0, 5.0], [1.5, 1.75], [0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [2.0, 3.0]])
    assert survivors(F, feasible(F), 0.5).tolist() == [False, True, True, False, True, False]
    # Crowding by hand, both ranges 4: (1, 2) has 1.5 + 2.25, (1.5, 1.75) has 3 + 2: the latter is less crowded.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("keep", [0.5, 0.7, 0.99])
def test_the_share_stays_and_nobody_goes_before_a_worse_rank(seed, keep):
    F = sampled(seed)
    kept, rank = survivors(F, feasible(F), keep), ranks(F)
    assert kept.sum() >= max(keep * len(F), len(F) / 2)
    assert rank[kept].max() <= rank[~kept].min(initial=len(F))
    assert kept.sum() <= max(np.ceil(keep * len(F)), F.shape[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_of_every_objective_stays(seed):
    F = sampled(seed)
    kept = survivors(F, feasible(F), 0.5)
    np.testing.assert_array_equal(F[kept].min(axis=0), F.min(axis=0))


def test_more_objectives_than_places_keep_every_best():
    F = 1.0 - np.eye(4)  # each row alone is best in one objective
    assert survivors(F, feasible(F), 0.5).all()


def test_feasible_ones_stay_before_infeasible_ones_and_these_by_their_violation():
    F = np.array([[9.0, 9.0], [0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    G = np.array([[0.0, -1.0], [0.3, 0.3], [0.5, -9.0], [0.4, 0.3], [1.0, 1.0], [0.0, 0.9]])
    # Sums of the positive parts: 0, 0.6, 0.5, 0.7, 2, 0.9.
    assert survivors(F, G, 0.5).tolist() == [True, True, True, False, False, False]


def test_failed_ones_go_first():
    F = np.array([[0.0, 1.0], [3.0, 5.0], [1.0, 0.0], [3.0, 5.0]])  # a failed one has the worst corner
    G = np.array([[0.0], [1.0], [0.9], [1.0]])
    assert survivors(F, G, 0.5).tolist() == [True, False, True, False]


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4])
def test_equal_members_stay_by_position(n_objectives):
    F = np.ones((6, n_objectives))
    assert survivors(F, feasible(F), 0.5).tolist() == [True] * 3 + [False] * 3
    assert survivors(F, feasible(F) + 0.5, 0.5).tolist() == [True] * 3 + [False] * 3


def test_a_constant_objective_says_nothing():
    two = np.array([[0.0, 4.0], [1.0, 2.0], [1.5, 1.75], [4.0, 0.0]])
    three = np.column_stack([two, np.full(4, 7.0)])
    np.testing.assert_array_equal(survivors(three, feasible(three), 0.5), survivors(two, feasible(two), 0.5))


def test_the_global_random_state_does_not_matter():
    F = np.round(np.random.default_rng(1).normal(size=(30, 3)), 1)
    np.random.seed(1)  # noqa: NPY002  # the global stream is what must not matter
    first = survivors(F, feasible(F), 0.5)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(survivors(F, feasible(F), 0.5), first)


@pytest.mark.parametrize(("n", "keep", "expected"), [(0, 0.5, 0), (1, 0.5, 1), (3, 0.5, 2), (20, 0.55, 11), (4, 1, 4)])
def test_the_share_is_rounded_up_to_whole_members(n, keep, expected):
    F = np.arange(n, dtype=float)[:, None]
    assert survivors(F, feasible(F), keep).sum() == expected


@pytest.mark.parametrize("keep", [0.49, 1.01, float("nan")])
def test_a_share_below_a_half_is_refused(keep):
    with pytest.raises(ConfigError, match=r"the share kept at a rung must be in 0\.5\.\.1"):
        survivors(np.zeros((2, 2)), np.zeros((2, 1)), keep)
