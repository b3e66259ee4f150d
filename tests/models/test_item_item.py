"""Item-item matrices against textbook formulas on dense matrices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from evorec.data.dataset import Csr
from evorec.data.pasts import Past
from evorec.errors import DataError
from evorec.models import item_item as module
from evorec.models.item_item import DEFAULTS, ITEM_ITEMS, Positives, fit_item_item
from evorec.models.item_items import ease as ease_module

FLOAT32 = 2e-6  # matrices are float64 until they are stored
LOW_RANK = 1e-4  # a randomised decomposition of a matrix of full rank


def positives_of(x, seed=0):
    """A matrix of zeros and ones as positives in a random order of time."""
    users, items = np.nonzero(x)
    order = np.random.default_rng(seed).permutation(len(users))
    users, items = users[order], items[order]
    past = Past.of(users, items, np.arange(len(users)), n_users=len(x))
    return Positives(Csr.from_pairs(users, items, n_rows=len(x)), past, x.shape[1])


def random_matrix(n_users, n_items, seed=0):
    """Users 0 and the last are without items, and no user has item 3."""
    x = (np.random.default_rng(seed).random((n_users, n_items)) < 0.3).astype(float)
    x[0] = x[-1] = 0
    x[:, 3] = 0
    return x


def plain_next(x, positives, weight, shrinkage, window=1):
    counts, out = x.sum(0), np.zeros((x.shape[1],) * 2)
    for start, stop in zip(positives.past.indptr, positives.past.indptr[1:], strict=False):
        own = positives.past.items[start:stop]
        for distance in range(1, window + 1):
            for before, after in zip(own[distance:], own, strict=False):
                out[before, after] += 0.7 ** (distance - 1)
    return weight * out / (np.sqrt(np.outer(counts, counts)) + shrinkage + (out == 0))


def plain_knn(x, shrinkage, asymmetry, user_norm):
    counts, together = x.sum(0), np.zeros((x.shape[1],) * 2)
    for row in x:
        together += np.outer(row, row) / max(row.sum(), 1) ** user_norm
    np.fill_diagonal(together, 0)
    scale = np.outer(counts**asymmetry, counts ** (1 - asymmetry)) + shrinkage
    return np.divide(together, scale, out=np.zeros_like(scale), where=together > 0)


def plain_ease(x, l2):
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return b


def plain_low_rank(x, rank, l2, asymmetry, user_norm):
    counts = x.sum(0)
    roots = np.divide(1.0, np.sqrt(counts), out=np.zeros_like(counts), where=counts > 0)
    _, s, v = np.linalg.svd(np.maximum(x.sum(1), 1)[:, None] ** (-user_norm / 2) * x * roots, full_matrices=False)
    s = s[:rank] / s[0]
    v = v[:rank]
    left = np.where(counts > 0, np.maximum(counts, 1) ** -asymmetry, 0)
    right = np.where(counts > 0, np.maximum(counts, 1) ** (1 - asymmetry), 0)
    return left[:, None] * ((v.T * (s**2 / (s**2 + l2))) @ v) * right


def plain_cut(w, neighbours):
    out = np.zeros_like(w)
    for row, own in enumerate(w):
        for column in sorted(range(len(own)), key=lambda column: (-abs(np.float32(own[column])), column))[:neighbours]:
            out[row, column] = own[column]
    return out


def matrix(positives, kind, **settings):
    """The whole matrix of a kind, by asking for the scores of each item as a past."""
    from scipy.sparse import eye_array

    model = fit_item_item(kind, positives, settings)
    return model.scores(eye_array(positives.n_items, dtype=np.float32, format="csr"))


@pytest.mark.parametrize("shape", [(60, 12), (9, 25)], ids=["more users", "more items"])
def test_matrices_are_those_of_the_formulas(shape, monkeypatch):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 50)
    x = random_matrix(*shape)
    positives = positives_of(x)
    following = plain_next(x, positives, 0.7, 2.0)
    assert following.sum() > 1
    own = {"next_item": 0.7, "shrinkage": 2.0}
    knn = plain_knn(x, 2.0, 0.3, 0.8)
    found = matrix(positives, "knn", **own, asymmetry=0.3, user_norm=0.8)
    np.testing.assert_allclose(found, knn + following, atol=FLOAT32)
    np.testing.assert_allclose(
        matrix(positives, "knn", **own, asymmetry=0.3, user_norm=0.8, neighbours=3),
        plain_cut(knn + following, 3),
        atol=FLOAT32,
    )
    ease = plain_ease(x, 5.0) + following
    np.testing.assert_allclose(matrix(positives, "ease", **own, item_item_l2=5.0), ease, atol=FLOAT32)
    np.testing.assert_allclose(
        matrix(positives, "ease", **own, item_item_l2=5.0, neighbours=4), plain_cut(ease, 4), atol=FLOAT32
    )
    low = {"item_item_rank": 4, "low_rank_l2": 0.1, "asymmetry": 0.3, "user_norm": 0.8}
    plain = plain_low_rank(x, 4, 0.1, 0.3, 0.8)
    np.testing.assert_allclose(matrix(positives, "low_rank", **low), plain, atol=LOW_RANK)
    np.testing.assert_allclose(
        matrix(positives, "low_rank", **low, **own, neighbour_weight=0.5), plain + 0.5 * knn + following, atol=LOW_RANK
    )


def plain_content(x, described, weight, power):
    out = weight * described @ described.T * np.maximum(x.sum(0), 0.5) ** power
    np.fill_diagonal(out, 0)
    return out


def test_likeness_of_descriptions_and_a_wider_window_are_added(monkeypatch):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 50)
    x, rng = random_matrix(60, 12), np.random.default_rng(1)
    described = rng.random((12, 5)) * (rng.random((12, 5)) < 0.6)
    positives = replace(positives_of(x), describe=lambda: csr_array(described))
    own = {"next_item": 0.7, "next_window": 3, "shrinkage": 2.0, "content_weight": 0.2, "content_popularity": 0.5}
    more = plain_next(x, positives, 0.7, 2.0, window=3) + plain_content(x, described, 0.2, 0.5)
    assert (more[:, 3] > 0).any()  # nobody has item 3
    knn = plain_knn(x, 2.0, 0.5, 0.0) + more
    np.testing.assert_allclose(matrix(positives, "knn", **own), knn, atol=FLOAT32)
    np.testing.assert_allclose(matrix(positives, "knn", **own, neighbours=3), plain_cut(knn, 3), atol=FLOAT32)
    active = np.flatnonzero(x.sum(0))  # no past has the others
    ease = plain_ease(x, 5.0) + more
    np.testing.assert_allclose(matrix(positives, "ease", **own, item_item_l2=5.0)[active], ease[active], atol=FLOAT32)
    for kind in ("knn", "ease"):
        settings = {**DEFAULTS, **own}
        assert ITEM_ITEMS[kind].fit_flops(positives, settings) > ITEM_ITEMS[kind].fit_flops(positives, DEFAULTS)


def test_large_catalogues_are_inverted_in_float32(monkeypatch):
    x = random_matrix(60, 12)
    expected = plain_ease(x, 5.0)
    monkeypatch.setattr(ease_module, "LARGEST_IN_FLOAT64", 5)
    np.testing.assert_allclose(matrix(positives_of(x), "ease", item_item_l2=5.0), expected, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(set(ITEM_ITEMS) - {"none"}))
def test_odd_data_score_nothing(kind):
    lonely = positives_of(np.ones((3, 1)))
    assert matrix(lonely, kind, neighbours=4).tolist()[0][0] == pytest.approx(0 if kind != "low_rank" else 1 / 1.03)
    nothing = positives_of(np.zeros((3, 4)))
    assert not matrix(nothing, kind, next_item=1.0).any()
    none = fit_item_item(kind, positives_of(random_matrix(9, 6)), {}).scores(nothing.past.faded(6))
    assert none.shape == (3, 6)
    assert not none.any()


def test_a_matrix_that_does_not_fit_is_refused():
    positives = positives_of(random_matrix(40, 30))
    with pytest.raises(DataError, match=r"ease takes .* GiB for 29 items and 38 users, .* raise run.memory_gib"):
        fit_item_item("ease", positives, {}, budget_bytes=1000)
    with pytest.raises(DataError, match="item_item_l2 must be > 0, got 0"):
        fit_item_item("ease", positives, {"item_item_l2": 0.0})


@pytest.mark.parametrize("kind", sorted(set(ITEM_ITEMS) - {"none"}))
def test_costs_grow_with_the_data(kind):
    """Each counted size is positive and larger for more items."""
    choice = ITEM_ITEMS[kind]
    small, large = (positives_of(random_matrix(50, n)) for n in (10, 40))
    for count in (choice.fit_flops, choice.fit_bytes):
        assert 0 < count(small, DEFAULTS) < count(large, DEFAULTS)
    assert (0, 0) < choice.stored_values(small, DEFAULTS) < choice.stored_values(large, DEFAULTS)
    assert 0 < choice.request_macs(small, DEFAULTS, 5.0) < choice.request_macs(large, DEFAULTS, 5.0)
