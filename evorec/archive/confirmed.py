"""The front as claimed by the search, and as trainings with fresh seeds confirm it.

A search measures each genome with a single seed and keeps the best, so a part of the front is luck: the values are
optimistic, and some members are dominated when the noise is drawn again. Means over fresh seeds have no such bias,
because these seeds chose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.objectives import Constraint, Metrics, Objective, to_matrices

Standing = Literal["member", "dominated", "infeasible", "failed"]


@final
@dataclass(frozen=True)
class ConfirmedMember:
    """A member of the claimed front.

    Attributes:
        claimed: metrics of the search.
        means: of each metric over the fresh seeds; empty if a training failed.
        sds: standard deviation of each metric (n - 1; 0 for a single seed).
        failure: cause of the first training that failed; None if none did.
        standing: in the front of the means.
    """

    claimed: Metrics
    means: Metrics
    sds: Metrics
    failure: str | None
    standing: Standing


@final
@dataclass(frozen=True)
class ConfirmedFront:
    """The members of a front, trained again with fresh seeds.

    Attributes:
        n_seeds: fresh seeds of every member, at least 1.
        members: by key, in the order given.
        objectives: that decide on dominance.
        depends_on_seed: False: every value of an objective or a constraint is that of the search, so there was nothing
            to confirm.
    """

    n_seeds: int
    members: Mapping[str, ConfirmedMember]
    objectives: tuple[Objective, ...]
    depends_on_seed: bool

    @property
    def front(self) -> dict[str, Metrics]:
        """Means of the members that are still feasible and non-dominated, by key."""
        return {key: member.means for key, member in self.members.items() if member.standing == "member"}

    @property
    def share(self) -> float:
        """Share of the claimed members that are still feasible and non-dominated."""
        return len(self.front) / len(self.members)

    @property
    def hypervolumes(self) -> tuple[float, float]:
        """Shares of the box that the front claims, and that its means have without the infeasible members."""
        claimed = [member.claimed for member in self.members.values()]
        confirmed = [*self.front.values()]  # dominated means add nothing
        return hypervolume_share(claimed, self.objectives), hypervolume_share(confirmed, self.objectives)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        claimed, confirmed = self.hypervolumes
        return {
            "seeds": self.n_seeds,
            "depends_on_seed": self.depends_on_seed,
            "share": self.share,
            "hypervolume": {"claimed": claimed, "confirmed": confirmed},
            "members": {
                key: {
                    "standing": member.standing,
                    "claimed": dict(member.claimed),
                    "mean": dict(member.means),
                    "sd": dict(member.sds),
                    **({"failure": member.failure} if member.failure is not None else {}),
                }
                for key, member in self.members.items()
            },
        }


def confirmed_front(
    claimed: Mapping[str, Metrics],
    fresh: Mapping[str, Sequence[Metrics | str]],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> ConfirmedFront | None:
    """Compare a front with its fresh trainings.

    Members are compared by their means over the same number of seeds, with each other: evaluations outside of the
    claimed front are not trained again.

    Args:
        claimed: metrics of the search, by key of the member.
        fresh: by key the metrics of each fresh training, or the cause of its failure, in the same order of seeds for
            all members. Seeds that a member lacks count for no member.
        objectives, constraints: of the search.
    Returns:
        The comparison; None without members, or if a member has no fresh training.
    Example:
        >>> axis = Objective("a", "a", "max", "", ideal=1.0, worst=0.0)
        >>> found = confirmed_front({"x": {"a": 0.75}}, {"x": [{"a": 0.5}, {"a": 0.25}]}, [axis], [])
        >>> found.members["x"].means, found.hypervolumes
        ({'a': 0.375}, (0.75, 0.375))
    """
    n_seeds = min((len(fresh.get(key, ())) for key in claimed), default=0)
    if not n_seeds:
        return None
    runs = {key: fresh[key][:n_seeds] for key in claimed}
    failures = {key: next((run for run in runs[key] if isinstance(run, str)), None) for key in claimed}
    tables = {
        key: {
            name: np.array([run[name] for run in runs[key] if not isinstance(run, str)])
            for name in claimed[key] if all(name in run for run in runs[key]) and failures[key] is None
        }
        for key in claimed
    }  # fmt: skip
    means = {key: {name: float(column.mean()) for name, column in tables[key].items()} for key in claimed}
    sds = {
        key: {name: float(column.std(ddof=1)) if n_seeds > 1 else 0.0 for name, column in tables[key].items()}
        for key in claimed
    }
    F, G = to_matrices([means[key] if failures[key] is None else None for key in claimed], objectives, constraints)
    feasible: NDArray[np.bool_] = np.all(G <= 0, axis=1)
    best = np.zeros(len(F), dtype=bool)
    best[feasible] = non_dominated(F[feasible], keep_equal=True)
    standing: dict[str, Standing] = {}
    for row, key in enumerate(claimed):
        standing[key] = "member" if best[row] else "dominated" if feasible[row] else "infeasible"
        if failures[key] is not None:
            standing[key] = "failed"
    decisive = {axis.metric for axis in objectives} | {bound.metric for bound in constraints}
    differs = (
        isinstance(run, str) or any(run[name] != claimed[key][name] for name in decisive)
        for key in claimed
        for run in runs[key]
    )
    members = {
        key: ConfirmedMember(claimed[key], means[key], sds[key], failures[key], standing[key]) for key in claimed
    }
    return ConfirmedFront(n_seeds, members, tuple(objectives), depends_on_seed=any(differs))
