"""The Pareto archive against a brute-force front."""

import numpy as np
import pytest

from evorec.archive.pareto import ParetoArchive, bounded, non_dominated
from evorec.errors import DataError

SEED = 5


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def brute_force(keys, F, G):
    """Sorted keys of the feasible, non-dominated rows; of equal rows the first."""
    rows = [(key, tuple(f)) for key, f, g in zip(keys, F, G, strict=True) if max(g) <= 0]
    front, seen = [], set()
    for key, f in rows:
        if f not in seen and not any(dominates(other, f) for _, other in rows):
            front.append(key)
        seen.add(f)
    return tuple(sorted(front))


def random_evaluations(rng, n, n_objectives):
    """Keys, F on a coarse grid so that ties and equal rows happen, and G."""
    F = rng.integers(0, 5, size=(n, n_objectives)).astype(float)
    G = rng.choice([-1.0, 0.0, 0.5], size=(n, 2), p=[0.6, 0.3, 0.1])
    return [f"k{i:03d}" for i in range(n)], F, G


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4, 5])
def test_archive_is_the_brute_force_front_in_any_order_and_any_batches(n_objectives):
    rng = np.random.default_rng(SEED)
    for trial in range(20):
        keys, F, G = random_evaluations(rng, 60, n_objectives)
        order = rng.permutation(60)
        cuts = np.sort(rng.integers(0, 61, size=4))
        archive = ParetoArchive()
        for rows in np.split(order, cuts):
            archive.add([keys[i] for i in rows], F[rows], G[rows], sequence=rows)
        assert archive.members == brute_force(keys, F, G), f"seed {SEED}, trial {trial}"
        if len(archive):
            index = [int(key[1:]) for key in archive.members]
            np.testing.assert_array_equal(archive.F, F[index])


def test_non_dominated_agrees_with_brute_force():
    rng = np.random.default_rng(SEED)
    for trial in range(50):
        F = rng.integers(0, 4, size=(30, 3)).astype(float)
        expected = [
            not any(dominates(g, f) for g in F) and not any((g == f).all() for g in F[:i]) for i, f in enumerate(F)
        ]
        assert non_dominated(F).tolist() == expected, f"seed {SEED}, trial {trial}"


def test_non_dominated_of_nothing_is_nothing():
    assert non_dominated(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_archive_refuses_nan_and_infinity(bad):
    archive = ParetoArchive()
    archive.add(["a"], np.zeros((1, 2)), np.zeros((1, 1)))
    with pytest.raises(DataError, match=r"F must be finite, got .* at \(0, 1\)"):
        archive.add(["b"], np.array([[0.0, bad]]), np.zeros((1, 1)))
    with pytest.raises(DataError, match=r"G must be finite"):
        archive.add(["b"], np.zeros((1, 2)), np.array([[bad]]))
    with pytest.raises(DataError, match=r"F must be finite"):
        non_dominated(np.array([[0.0, bad]]))
    assert archive.members == ("a",), "a refused call changes nothing"


def test_status_says_what_became_of_each_row():
    archive = ParetoArchive()
    keys = ["best", "same", "worse", "bad", "best"]
    F = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 1.0]])
    G = np.array([[0.0], [-1.0], [0.0], [0.1], [0.0]])
    assert archive.add(keys, F, G) == ["member", "repeat", "dominated", "infeasible", "repeat"]
    assert archive.add(["best"], F[:1], G[:1]) == ["repeat"]
    assert archive.add(["better"], np.array([[0.0, 0.0]]), np.zeros((1, 1))) == ["member"]
    assert archive.members == ("better",)
    assert "better" in archive
    assert "best" not in archive


def test_of_equal_rows_the_smallest_sequence_number_stays_even_when_it_comes_later():
    archive = ParetoArchive()
    archive.add(["late"], np.zeros((1, 2)), np.zeros((1, 1)), sequence=[9])
    assert archive.add(["early"], np.zeros((1, 2)), np.zeros((1, 1)), sequence=[3]) == ["member"]
    assert archive.members == ("early",)


def test_adding_copies_what_it_keeps():
    archive, F = ParetoArchive(), np.zeros((1, 2))
    archive.add(["a"], F, np.zeros((1, 1)))
    F[0, 0] = 5.0
    archive.F[0, 0] = 7.0
    assert archive.F.tolist() == [[0.0, 0.0]]


def test_a_key_with_another_result_is_an_error():
    archive = ParetoArchive()
    archive.add(["a"], np.zeros((1, 2)), np.zeros((1, 1)))
    with pytest.raises(DataError, match="a was evaluated twice with different results"):
        archive.add(["a"], np.ones((1, 2)), np.zeros((1, 1)))


def test_wrong_shapes_are_refused():
    archive = ParetoArchive()
    with pytest.raises(DataError, match=r"1 keys need F \(1, M\), G \(1, C\) and 1 numbers, got \(2, 2\)"):
        archive.add(["a"], np.zeros((2, 2)), np.zeros((1, 1)))
    archive.add(["a"], np.zeros((1, 2)), np.zeros((1, 1)))
    with pytest.raises(DataError, match="F must have 2 objectives like the members, got 3"):
        archive.add(["b"], np.zeros((1, 3)), np.zeros((1, 1)))


def test_an_empty_archive_has_no_rows():
    archive = ParetoArchive()
    assert archive.add([], np.empty((0, 2)), np.empty((0, 1))) == []
    assert archive.members == ()
    assert archive.F.shape == (0, 0)


def covered_within(kept, rows):
    """Smallest ε with which kept rows cover all rows, in ranges of the rows; by plain loops."""
    span = [max(max(column) - min(column), 1e-300) for column in zip(*rows, strict=True)]
    return max(min(max((a - b) / s for a, b, s in zip(one, row, span, strict=True)) for one in kept) for row in rows)


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4, 5])
def test_a_bounded_archive_keeps_every_extreme_and_covers_the_rest(n_objectives):
    rng = np.random.default_rng(SEED)
    for trial in range(10):
        F = rng.random((50, n_objectives)) if trial % 2 else rng.integers(0, 6, size=(50, n_objectives)).astype(float)
        F = F[non_dominated(F)]
        last, before = 1.0, set()
        for most in sorted({n_objectives, n_objectives + 1, 8, 15, 50} - set(range(n_objectives))):
            rows, epsilon = bounded(F, most)
            kept = {tuple(F[row]) for row in rows}
            assert len(rows) == len(set(rows)) <= most
            assert all(F[rows, axis].min() == F[:, axis].min() for axis in range(n_objectives)), "no extreme is lost"
            assert max(covered_within(F[rows].tolist(), F.tolist()), 0.0) == pytest.approx(epsilon, abs=1e-12)
            assert before <= kept, "a smaller set is part of a larger set"
            assert epsilon <= last
            shuffled = rng.permutation(len(F))
            assert {tuple(F[shuffled][row]) for row in bounded(F[shuffled], most)[0]} == kept, "whatever the order"
            last, before = epsilon, kept
        assert bounded(F, 50)[1] == 0.0
        assert len(bounded(F, 50)[0]) == len(F)


def test_a_bounded_archive_refuses_what_it_cannot_do():
    assert bounded(np.empty((0, 3)), 3)[0].tolist() == []
    with pytest.raises(DataError, match="most must be at least 3, the best of each objective, got 2"):
        bounded(np.zeros((4, 3)), 2)
    with pytest.raises(DataError, match="must be finite"):
        bounded(np.array([[np.nan, 1.0]]), 2)
