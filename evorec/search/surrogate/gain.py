"""Expected gain of hypervolume by a batch of genomes, from joint draws of their objectives.

The hypervolume is written as a mean over random directions from the worst corner of the box, so the gain of a genome
that joins a batch is a maximum of one number per direction. S draws, C candidates, L directions, M objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def unit_directions(rng: np.random.Generator, n_draws: int, n: int, n_objectives: int) -> FloatArray:
    """Random directions of the positive orthant for each draw, float64 ``(S, L, M)``, unit rows."""
    directions = np.abs(rng.standard_normal((n_draws, n, n_objectives))) + 1e-9
    unit: FloatArray = directions / np.linalg.norm(directions, axis=2, keepdims=True)
    return unit


def reach(points: FloatArray, directions: FloatArray) -> FloatArray:
    """How far points dominate the box along each direction from its worst corner, to the power M.

    The mean over directions of the maximum over a set of points is, up to a constant, the hypervolume of the set.

    Args:
        points: box coordinates ``(S, C, M)``; 0 = ideal, 1 = worst.
        directions: unit rows ``(S, L, M)``.
    Returns:
        float64 ``(S, C, L)``; 0 for a point outside of the box.
    Source: Deng & Zhang 2019; Golovin & Zhang 2020.
    Example:
        >>> diagonal = np.full((1, 1, 2), 0.5**0.5)
        >>> reach(np.array([[[0.5, 0.75]]]), diagonal).round(6)  # (min(.5, .25) * sqrt(2)) ** 2
        array([[[0.125]]])
    """
    room = 1.0 - np.clip(points, 0.0, 1.0)
    lengths = room[:, :, None, 0] / directions[:, None, :, 0]
    for axis in range(1, points.shape[2]):
        np.minimum(lengths, room[:, :, None, axis] / directions[:, None, :, axis], out=lengths)
    powered = lengths.copy()
    for _ in range(points.shape[2] - 1):
        powered *= lengths
    return powered


def expected_gain(reached: FloatArray, base: FloatArray) -> FloatArray:
    """Mean gain of each candidate by itself, float64 ``(C,)``.

    Args:
        reached: `reach` of the candidates ``(S, C, L)``, 0 in infeasible draws.
        base: reach of the known front ``(S, L)``.
    """
    gain: FloatArray = np.maximum(reached - base[:, None], 0.0).mean(axis=(0, 2))
    return gain


def greedy_batch(reached: FloatArray, base: FloatArray, n: int) -> list[int]:
    """Candidates that together gain most, chosen one after the other; arguments as in `expected_gain`."""
    chosen: list[int] = []
    base = base.copy()
    for _ in range(min(n, reached.shape[1])):
        gain = expected_gain(reached, base)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        np.maximum(base, reached[:, chosen[-1]], out=base)
    return chosen
