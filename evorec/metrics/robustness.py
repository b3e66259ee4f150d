"""How far fake users move the recommendations of genuine users."""

from __future__ import annotations

import numpy as np

from evorec.errors import DataError
from evorec.metrics.lists import AttackedLists, Ints
from evorec.metrics.metric import GAP, metric


def target_hit_rate(lists: Ints, targets: Ints) -> float:
    """Share of the users whose list holds a target item, mean over the targets.

    Args:
        lists: item ids, integer ``(U, K)``, no repeats within a list, -1 = empty slot.
        targets: item ids, integer ``(n,)``, all different.
    Returns:
        A share in ``[0, min(1, K / n)]``, no unit.
    Raises:
        DataError: there is no user or no target.
    Source: hit ratio of the pushed items, Mobasher et al. 2007. Cost: O(U K log n).
    Example:
        >>> target_hit_rate(np.array([[3, 1], [1, 2], [0, -1]]), np.array([1, 3]))  # (2 / 3 + 1 / 3) / 2
        0.5
    """
    if lists.ndim != 2 or len(lists) == 0 or len(targets) == 0:
        raise DataError(f"expected lists (U >= 1, K) and a target, got {lists.shape} and {len(targets)} targets.")
    # No list repeats an item, so a user counts at most once for a target.
    return float(np.isin(lists, targets).sum() / (len(lists) * len(targets)))


SHIFT = "how far evaluation.attack moves the hit rate of its items; a second training that cost does not count"


@metric("attack_shift@k", of=AttackedLists, text=SHIFT, on_demand=True, **GAP)
def attack_shift(before: Ints, after: Ints, targets: Ints) -> float:
    """How far an attack moved the hit rate of its target items: after it less before it.

    Both lists are of the same genuine users and over the same catalogue; the model that made `after` was trained on
    the rows of fake users too. Two trainings also differ by noise, so a small value of either sign is no effect.

    Args:
        before: item ids, integer ``(U, K)``, -1 = empty slot.
        after: likewise.
        targets: item ids, integer ``(n,)``.
    Returns:
        A difference of shares in [-1, 1], no unit; lower is better, 0 = the attack moved nothing.
    Raises:
        DataError: shapes differ, or there is no user or no target.
    Source: Lam & Riedl 2004 (prediction shift and expected top-N occupancy); Mobasher et al. 2007 (hit ratio).
        Cost: O(U K log n).
    Example:
        >>> attack_shift(np.array([[3], [1]]), np.array([[1], [1]]), np.array([1]))  # 2 / 2 - 1 / 2
        0.5
    """
    if before.shape != after.shape:
        raise DataError(f"lists before and after must be of the same users, got {before.shape} and {after.shape}.")
    return target_hit_rate(after, targets) - target_hit_rate(before, targets)
