"""Re-ranking for diversity, against lists worked by hand and a slow loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evorec.errors import DataError
from evorec.serving.mmr import mmr


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def slow(scores: Any, vectors: Any, k: int, weight: float) -> list[int]:
    """One user's list, item by item, straight from the definition."""
    possible = [at for at, score in enumerate(scores) if score > -np.inf]
    low, high = min(scores[possible]), max(scores[possible])
    relevance = {at: (scores[at] - low) / (high - low) for at in possible}
    chosen: list[int] = []
    while possible and len(chosen) < k:
        closest = {at: max((vectors[at] @ vectors[other] for other in chosen), default=0.0) for at in possible}
        best = max(possible, key=lambda at: ((1 - weight) * relevance[at] - weight * closest[at], -at))
        chosen.append(best)
        possible.remove(best)
    return chosen + [-1] * (k - len(chosen))


def test_a_list_equals_a_hand_computed_list() -> None:
    # Relevance of 4, 3, 2, 0 is 1, 3/4, 1/2, 0. Weight 1/2. The first item stands first.
    # Then 3/8 - 1/2 * 1 = -1/8 for its twin, 1/4 - 1/2 * 0.6 = -0.05, 0 - 1/2 * 0 = 0 for the last: the last.
    # Then -1/8 for the twin; the third resembles the last by 0.8: 1/4 - 0.4 = -0.15: the twin.
    vectors = np.array([[[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]])
    assert mmr(np.array([[4.0, 3.0, 2.0, 0.0]]), vectors, 4, 0.5).tolist() == [[0, 3, 1, 2]]


@pytest.mark.parametrize("weight", [0.0, 0.15, 0.5, 0.9, 1.0])
def test_lists_are_those_of_a_slow_loop(weight: float) -> None:
    rng = np.random.default_rng(5)
    scores, vectors = rng.normal(size=(6, 15)), unit(rng.normal(size=(6, 15, 3)))
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    expected = [slow(own, vectors[user], 12, weight) for user, own in enumerate(scores)]
    assert mmr(scores, vectors, 12, weight).tolist() == expected


def test_without_weight_lists_are_sorted_by_score_then_position() -> None:
    vectors = np.ones((1, 5, 1))
    assert mmr(np.array([[1.0, 2.0, 2.0, -np.inf, 3.0]]), vectors, 6, 0.0).tolist() == [[4, 1, 2, 0, -1, -1]]


def test_equal_scores_and_cosines_are_sorted_by_position() -> None:
    assert mmr(np.zeros((1, 3)), np.ones((1, 3, 1)), 3, 0.4).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_padding_is_never_chosen(weight: float) -> None:
    scores = np.array([[-np.inf, 0.5, -np.inf], [-np.inf, -np.inf, -np.inf]])
    assert mmr(scores, np.ones((2, 3, 1)), 2, weight).tolist() == [[1, -1], [-1, -1]]


def test_more_weight_makes_lists_more_diverse() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(1, 60, 4)))
    scores = vectors[:, :, 0] * 3  # the best items all point one way
    spread = []
    for weight in (0.0, 0.3, 0.8):
        own = vectors[0][mmr(scores, vectors, 8, weight)[0]]
        spread.append((own @ own.T).sum())
    assert spread[0] > spread[1] > spread[2]


def test_single_precision_scores_give_the_same_lists() -> None:
    rng = np.random.default_rng(2)
    scores, vectors = rng.normal(size=(4, 30)), unit(rng.normal(size=(4, 30, 5)))
    single = mmr(scores.astype(np.float32), vectors.astype(np.float32), 10, 0.4)
    assert single.tolist() == mmr(scores, vectors, 10, 0.4).tolist()


@pytest.mark.parametrize(
    ("scores", "vectors", "k", "weight", "message"),
    [
        (np.zeros(3), np.zeros((1, 3, 2)), 1, 0.5, "vectors must be"),
        (np.zeros((1, 3)), np.zeros((1, 4, 2)), 1, 0.5, r"vectors must be .* got \(1, 4, 2\)"),
        (np.zeros((1, 3)), np.zeros((1, 3, 2)), 0, 0.5, "k = 0"),
        (np.zeros((1, 3)), np.zeros((1, 3, 2)), 1, 1.5, "weight 1.5"),
        (np.full((1, 3), np.nan), np.zeros((1, 3, 2)), 1, 0.5, "cannot rank NaN"),
        (np.full((1, 3), np.inf), np.zeros((1, 3, 2)), 1, 0.5, "cannot rank NaN or inf"),
    ],
)
def test_invalid_input_of_mmr_is_refused(scores: Any, vectors: Any, k: int, weight: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mmr(scores, vectors, k, weight)
