"""Re-ranking for diversity: an item is penalised for its similarity to the items that are listed already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

NO_POSITION = -1
"""Padding of a list when no candidate is left."""

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


def mmr(scores: Floats, vectors: Floats, k: int, weight: float) -> Ints:
    """Greedy maximal marginal relevance.

    Each rank of a list goes to the candidate with the largest
    ``(1 - weight) * relevance - weight * (largest cosine to the chosen candidates)``; for the first it is 0.
    Relevance is the score scaled to [0, 1] over the user's candidates.

    Args:
        scores: float ``(U, C)``, no NaN; ``-inf`` = no item. The arithmetic is in their type.
        vectors: of the candidates, float ``(U, C, D)``, unit rows.
        k: length of the lists, >= 1; may be larger than C.
        weight: in [0, 1]; 0 = in the order of the scores.
    Returns:
        Positions in C, int64 ``(U, k)``, best first, equal values by position; padded with `NO_POSITION`.
    Raises:
        DataError: shapes do not fit, a score is NaN, or `k` or `weight` is out of its range.
    Source: Carbonell & Goldstein 1998. Cost: O(U C D k).
    Example:
        >>> vectors = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> mmr(np.array([[3.0, 2.9, 1.0]]), vectors, 2, 0.0), mmr(np.array([[3.0, 2.9, 1.0]]), vectors, 2, 0.6)
        (array([[0, 1]]), array([[0, 2]]))
    """
    if vectors.ndim != 3 or vectors.shape[:2] != scores.shape:
        raise DataError(f"vectors must be (users, candidates, D) of scores {scores.shape}, got {vectors.shape}.")
    users = np.arange(len(scores))
    return mmr_by(scores, lambda chosen: np.einsum("ucd,ud->uc", vectors, vectors[users, chosen]), k, weight)


def mmr_by(scores: Floats, similarity: Callable[[Ints], Floats], k: int, weight: float) -> Ints:
    """`mmr` with precomputed cosines, e.g. for several scores of the same candidates.

    Args:
        scores, k, weight: see `mmr`.
        similarity: cosines ``(U, C)`` of every candidate to the user's candidate at the given position, ``(U,)``.
    """
    if scores.ndim != 2:
        raise DataError(f"scores must be (users, candidates), got shape {scores.shape}.")
    if k < 1 or not 0 <= weight <= 1:
        raise DataError(f"mmr needs k >= 1 and a weight in [0, 1], got k = {k} and weight {weight}.")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise DataError("mmr cannot rank NaN or inf; the model or the formula gives scores that are not finite.")
    n_users, n_candidates = scores.shape
    positions = np.full((n_users, k), NO_POSITION, dtype=np.int64)
    found = min(k, n_candidates)
    users = np.arange(n_users)
    if weight == 0 or found == 0:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :found]
        positions[:, :found] = np.where(np.isneginf(scores[users[:, None], order]), NO_POSITION, order)
        return positions
    left = np.where(np.isneginf(scores), scores, (1 - weight) * _relevance(scores))
    closest, value = np.zeros_like(left), np.empty_like(left)
    for rank in range(found):
        np.multiply(closest, -weight, out=value)
        value += left
        chosen = value.argmax(axis=1)
        positions[:, rank] = np.where(np.isneginf(left[users, chosen]), NO_POSITION, chosen)
        left[users, chosen] = -np.inf
        if rank == 0:
            closest[...] = similarity(chosen)
        elif rank + 1 < found:
            np.maximum(closest, similarity(chosen), out=closest)
    return positions


def _relevance(scores: Floats) -> Floats:
    """Scores between 0 and 1 over each user's candidates, ``(U, C)``; 0 where all are equal or there is none."""
    one, infinite, none = scores.dtype.type(1), scores.dtype.type(np.inf), np.isneginf(scores)
    low = np.where(none, infinite, scores).min(axis=1, keepdims=True)
    low[np.isposinf(low)] = 0  # a user without a candidate
    above = np.where(none, low, scores) - low
    span = above.max(axis=1, keepdims=True)
    return np.asarray(above / np.where(span > 0, span, one))
