from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from evorec.data.content import spectral
from evorec.data.content.spectral import leading_eigenvectors, singular_vectors

EXACT = 1e-10  # float64, matrices of size 60
ITERATIONS = (400, 5)  # DENSE_UP_TO: the whole matrix, or an iteration


def sparse(shape: tuple[int, int]) -> csr_array:
    rng = np.random.default_rng(0)
    return csr_array(rng.standard_normal(shape) * (rng.random(shape) < 0.3))


@pytest.mark.parametrize("dense_up_to", ITERATIONS)
@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_singular_vectors_are_those_of_the_dense_matrix(
    shape: tuple[int, int], dense_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectral, "DENSE_UP_TO", dense_up_to)
    matrix = sparse(shape)
    U, values, _ = np.linalg.svd(matrix.toarray())
    found, sizes = singular_vectors(matrix, 6)
    np.testing.assert_allclose(sizes, values[:6], atol=EXACT)
    np.testing.assert_allclose(np.abs(np.sum(found * U[:, :6], axis=0)), 1, atol=EXACT)
    assert (found[np.argmax(np.abs(found), axis=0), np.arange(6)] > 0).all()


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_a_direction_that_is_left_out_does_not_come_back(shape: tuple[int, int]) -> None:
    matrix = sparse(shape)
    U, values, Vt = np.linalg.svd(matrix.toarray())
    found, sizes = singular_vectors(matrix, 4, without=(U[:, 0] * values[0], Vt[0]))
    np.testing.assert_allclose(sizes, values[1:5], atol=EXACT)
    np.testing.assert_allclose(found.T @ U[:, 0], 0, atol=EXACT)


def test_directions_that_are_rounding_are_left_out() -> None:
    column = np.arange(1.0, 6.0)
    vectors, values = singular_vectors(csr_array(np.outer(column, [1.0, 2.0, 2.0])), 3)
    # one direction: |(1..5)| * |(1, 2, 2)| = sqrt(55) * 3
    np.testing.assert_allclose(values, [3 * np.sqrt(55)])
    np.testing.assert_allclose(vectors[:, 0], column / np.sqrt(55), atol=EXACT)


def test_only_positive_eigenvalues_count() -> None:
    vectors, values = leading_eigenvectors(lambda x: np.array([2.0, -3.0, 1.0]) * x, 3, 3)
    assert values.tolist() == [2, 1]
    np.testing.assert_allclose(vectors, [[1, 0], [0, 0], [0, 1]], atol=EXACT)


def test_a_matrix_of_nothing_has_no_direction() -> None:
    vectors, values = singular_vectors(csr_array((5, 3)), 2)
    assert vectors.shape == (5, 0)
    assert len(values) == 0


def test_what_has_converged_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(operator: object, **options: object) -> None:
        raise spectral.ArpackNoConvergence("no", np.array([2.0]), np.eye(9)[:, :1])

    monkeypatch.setattr(spectral, "DENSE_UP_TO", 2)
    monkeypatch.setattr(spectral, "eigsh", never)
    vectors, values = leading_eigenvectors(lambda x: x, 9, 3)
    assert (vectors.shape, values.tolist()) == ((9, 1), [2.0])
