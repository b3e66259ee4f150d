"""Negatives for a log of positives: items that a user has not met, drawn at random, as further rows of the ranker."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from evorec.data.dataset import Csr, Int64, Part

ROUNDS: Final = 30
"""Draws until a negative is an item that the user has not met; a user who has met nearly all items gets fewer."""


def with_negatives(
    part: Part, met: Csr, sampled: Int64, *, per_positive: int, n_items: int, rng: np.random.Generator
) -> tuple[Part, Int64]:
    """The rows of a part, and after them, for each positive row, rows of the same user and moment with other items.

    A further row is 0 for the sampled tasks and missing for the others. It is no positive of the target, so that
    retrieval, histories, masked items and popularity do not see it.

    Args:
        part: impressions; its statistics are not used.
        met: ``(U + 1)`` rows, items that a user has met and that are never drawn.
        sampled: columns of `Part.labels` that get a 0, int64 ``(S,)``.
        per_positive: negatives of each row that has a positive of any of them.
        n_items: I; all items are equally likely.
        rng: of the draws.
    Returns:
        The part, and for each of its rows the row that it was made from, int64 ``(N + M,)``.
    """
    positive = np.flatnonzero((part.labels[:, sampled] > 0).any(1))
    rows = np.repeat(positive, per_positive)
    items = rng.integers(0, n_items, len(rows))
    for _ in range(ROUNDS):
        again = np.flatnonzero(met.contains(part.users[rows], items))
        if not len(again):
            break
        items[again] = rng.integers(0, n_items, len(again))
    new = ~met.contains(part.users[rows], items)
    rows, items = rows[new], items[new]
    labels = np.full((len(rows), part.labels.shape[1]), np.nan, dtype=part.labels.dtype)
    labels[:, sampled] = 0.0
    origin = np.concatenate([np.arange(part.n_rows), rows])
    longer = replace(
        part,
        users=part.users[origin],
        items=np.concatenate([part.items, items]),
        context=part.context[origin],
        labels=np.concatenate([part.labels, labels]),
        statistics=np.zeros((len(origin), 0), dtype=np.float32),
        target=np.concatenate([part.target, np.zeros(len(rows), dtype=part.target.dtype)]),
        time=part.time[origin],
    )
    return longer, origin
