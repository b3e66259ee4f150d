"""Ensembles of members: whose outputs are mixed, with which weights, and how their costs add up.

The raw outputs of a task are averaged: logits of a binary task (a geometric mean of the odds), standardised numbers of
the others. Of the retrieval scores the preferences over the catalogue are averaged, ``log sum_m w_m softmax(s_m)``, and
the weighted outputs of the rankers are added (`evorec.models.recommend.mixed_lists`). Tasks and lists have weights of
their own: a member may be there for its lists only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

from evorec.metrics.cost import ModelCounts, Timing
from evorec.objectives import Metrics, find_metric

PREFIX: Final = "e-"
"""Keys of ensembles begin with it, so they are no keys of members, which are hexadecimal digits."""
FEWEST: Final = 2


@final
@dataclass(frozen=True)
class Ensemble:
    """Members and their weights.

    Attributes:
        members: keys, sorted.
        tasks: weight of each member's outputs of the tasks, a share; 0 = not used.
        lists: weight of each member's list scores, a share; 0 = not used.
    """

    members: tuple[str, ...]
    tasks: tuple[float, ...]
    lists: tuple[float, ...]

    @classmethod
    def of(cls, tasks: Mapping[str, int], lists: Mapping[str, int]) -> Self:
        """An ensemble of counts, see `greedy`; a count of 0 is left out.

        Args:
            tasks: how often each member was chosen for the outputs of tasks; empty without ranked tasks.
            lists: how often for the list scores.
        Example:
            >>> Ensemble.of({"a": 1, "b": 3}, {"a": 2})
            Ensemble(members=('a', 'b'), tasks=(0.25, 0.75), lists=(1.0, 0.0))
        """
        keys = tuple(sorted({key for counts in (tasks, lists) for key, n in counts.items() if n}))

        def shares(counts: Mapping[str, int]) -> tuple[float, ...]:
            total = sum(counts.values()) or 1
            return tuple(counts.get(key, 0) / total for key in keys)

        return cls(keys, shares(tasks), shares(lists))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The ensemble that `as_json` wrote."""
        rows = stored["members"]
        return cls(
            tuple(str(row["key"]) for row in rows),
            tuple(float(row["tasks"]) for row in rows),
            tuple(float(row["lists"]) for row in rows),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = zip(self.members, self.tasks, self.lists, strict=True)
        return {"members": [{"key": key, "tasks": of_tasks, "lists": of_lists} for key, of_tasks, of_lists in rows]}

    @property
    def key(self) -> str:
        """`PREFIX` and 12 hexadecimal digits of a hash of members and weights."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]


def summed_costs(members: Sequence[Metrics]) -> dict[str, float]:
    """Counted and timed costs of members that are trained, stored and asked one after the other: their sums.

    A sum is an upper bound: what an ensemble does not use of a member, such as the ranker of a member that is there
    for its retrieval only, is included.

    Args:
        members: measured metrics of each member; a cost that a member lacks is left out.
    Example:
        >>> summed_costs([{"parameters": 10.0, "recall@20": 0.1}, {"parameters": 5.0, "recall@20": 0.2}])
        {'parameters': 15.0}
    """
    names = [name for name in members[0] if all(name in one for one in members) and is_cost(name)]
    return {name: float(sum(one[name] for one in members)) for name in names}


def is_cost(metric: str) -> bool:
    """Whether a measured key is a counted or timed cost."""
    return find_metric(metric).of in (ModelCounts, Timing)


def greedy(
    score: Callable[[Mapping[str, int]], float], library: Sequence[str], *, most: int, steps: int
) -> dict[int, dict[str, int]]:
    """Forward selection with replacement: each step adds the member with which the mean of the outputs scores best.

    A member that is chosen again gets more weight. Of all steps the best is taken, so the selection may end with a
    single member; with `steps` steps a weight is a multiple of 1 / steps or coarser.

    Args:
        score: of the mean of the outputs, from how often each member is in it; higher is better.
        library: keys to choose from; of equally good members the earlier.
        most: largest number of different members.
        steps: additions, at least 1.
    Returns:
        By largest number of members, 1..most, the counts that score best.
    Source: Caruana et al., "Ensemble selection from libraries of models", ICML 2004. Cost: most * steps * len(library)
        scores at most; the selections share their first steps.
    Example:
        >>> values = {"a": 1.0, "b": 2.0, "c": 6.0}  # the mean shall be 3
        >>> score = lambda counts: -abs(3 - sum(values[key] * n for key, n in counts.items()) / sum(counts.values()))
        >>> greedy(score, ["a", "b", "c"], most=2, steps=5)[2]
        {'b': 3, 'c': 1}
    """
    known: dict[tuple[tuple[str, int], ...], float] = {}

    def scored(counts: Mapping[str, int]) -> float:
        key = tuple(sorted(counts.items()))
        if key not in known:
            known[key] = score(counts)
        return known[key]

    out: dict[int, dict[str, int]] = {}
    for size in range(1, most + 1):
        counts: dict[str, int] = {}
        best: dict[str, int] = {}
        for _ in range(steps if size > 1 else 1):
            room = library if len(counts) < size else [key for key in library if key in counts]
            counts = max(({**counts, key: counts.get(key, 0) + 1} for key in room), key=scored)
            if not best or scored(counts) > scored(best):
                best = counts
        out[size] = best
    return out
