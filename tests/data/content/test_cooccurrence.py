from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evorec.config import CooccurrenceContent
from evorec.data.content import cooccurrence, spectral
from evorec.data.content.cooccurrence import cooccurrence_vectors
from evorec.errors import DataError

ROUNDING = 1e-6  # float32
N_USERS, N_ITEMS = 40, 15


def source(**changes: Any) -> CooccurrenceContent:
    return CooccurrenceContent(kind="cooccurrence", **{"dims": 4, **changes})


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    users = rng.integers(0, N_USERS, 300)
    items = 3 * rng.integers(0, 5, 300) + users % 3  # three groups of users and items
    return users, np.where(rng.random(300) < 0.2, rng.integers(0, N_ITEMS, 300), items)


def vectors(users: np.ndarray, items: np.ndarray, *, n_items: int = N_ITEMS, **changes: Any) -> np.ndarray:
    return cooccurrence_vectors(users, items, n_users=N_USERS, n_items=n_items, source=source(**changes), where="here")


def met(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    X = np.zeros((N_USERS, N_ITEMS))
    X[users, items] = 1
    return X


@pytest.mark.parametrize("dense_up_to", [400, 5])
def test_normalised_vectors_are_a_correspondence_analysis(dense_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "DENSE_UP_TO", dense_up_to)
    X = met(*rows(dense_up_to))
    share = X / X.sum()
    by_user, by_item = share.sum(axis=1), share.sum(axis=0)
    expected = (share - np.outer(by_user, by_item)) / np.sqrt(np.outer(by_user, by_item))
    _, values, Vt = np.linalg.svd(expected)
    found = vectors(*rows(dense_up_to))
    np.testing.assert_allclose(np.abs(found), np.abs(Vt[:4].T * values[:4]), atol=ROUNDING)


@pytest.mark.parametrize("shift", [1.0, 1.5])
def test_ppmi_vectors_are_those_of_the_pairwise_information(shift: float) -> None:
    X = met(*rows())
    together = X.T @ X
    np.fill_diagonal(together, 0)
    counts, total = together.sum(axis=1), together.sum()
    matrix = np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        for j in range(N_ITEMS):
            if together[i, j]:
                matrix[i, j] = max(0.0, np.log(together[i, j] * total / (counts[i] * counts[j]) / shift))
    values, eigenvectors = np.linalg.eigh(matrix)  # ascending
    found = vectors(*rows(), weighting="ppmi", shift=shift)
    np.testing.assert_allclose(np.abs(found), np.abs(eigenvectors[:, :-5:-1] * np.sqrt(values[:-5:-1])), atol=ROUNDING)


@pytest.mark.parametrize("weighting", ["normalised", "ppmi"])
def test_planted_groups_stand_apart(weighting: str) -> None:
    found = vectors(*rows(), weighting=weighting)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    same = np.arange(N_ITEMS)[:, None] % 3 == np.arange(N_ITEMS) % 3
    other = ~np.eye(N_ITEMS, dtype=bool)
    cosines = unit @ unit.T
    assert cosines[same & other].mean() > 0.5 + cosines[~same].mean()


@pytest.mark.parametrize("weighting", ["normalised", "ppmi"])
def test_an_item_that_nobody_met_has_no_vector(weighting: str) -> None:
    found = vectors(*rows(), n_items=N_ITEMS + 1, weighting=weighting)
    assert not found[N_ITEMS].any()
    assert found[:N_ITEMS].any(axis=1).all()


@pytest.mark.parametrize("weighting", ["normalised", "ppmi"])
def test_order_and_repeats_of_rows_do_not_matter(weighting: str) -> None:
    users, items = rows()
    order = np.random.default_rng(1).permutation(np.append(np.arange(len(users)), [0, 0]))
    np.testing.assert_array_equal(
        vectors(users[order], items[order], weighting=weighting), vectors(users, items, weighting=weighting)
    )


def test_users_with_one_item_each_say_nothing() -> None:
    with pytest.raises(DataError, match="here needs a user with two items in the training rows"):
        vectors(np.array([0, 1, 1]), np.array([0, 1, 1]))


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "MAX_PAIRS", 100)
    with pytest.raises(DataError, match='use weighting = "normalised"'):
        vectors(*rows(), weighting="ppmi")
    vectors(*rows())
