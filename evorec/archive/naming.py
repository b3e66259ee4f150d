"""Short names of the members of a front: their roles, then letters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from evorec.archive.decide import KNEE, cost_of, scaled
from evorec.objectives import Metrics, Objective


@final
@dataclass(frozen=True)
class MemberName:
    """The name of a member, unique on its front.

    Attributes:
        rank: from 1, the best compromise first; None outside of the front.
        name: its first role, or a letter.
        roles: all of its roles; empty for a member that is called by a letter.
    """

    rank: int | None
    name: str
    roles: tuple[str, ...] = ()


def member_names(
    members: Mapping[str, Metrics],
    objectives: Sequence[Objective],
    baselines: Mapping[str, Metrics],
    *,
    others: Collection[str] = (),
) -> dict[str, MemberName]:
    """Names for people, in the place of keys of 16 digits.

    Roles are ``knee``, ``best OBJECTIVE``, ``cheapest``, and ``cheapest above BASELINE``: the member with the lowest
    cost among those that beat the strongest baseline in the objective that most baselines have, the first of equal
    objectives. All other members are A, B, C and so on, by rank.

    Args:
        members: measured metrics by key, with all objectives.
        objectives: M objectives.
        baselines: measured metrics by name.
        others: keys of further members, without a rank, which get the next letters.
    Returns:
        Names by key, by rank, then `others`.
    Example:
        >>> axes = [Objective("recall", "r", "max", "", 1.0, 0.0), Objective("cost", "c", "min", "", 0.0, 9.0)]
        >>> members = {"a": {"r": 0.9, "c": 4.0}, "b": {"r": 0.8, "c": 1.0}, "d": {"r": 0.85, "c": 3.9}}
        >>> members["e"] = {"r": 0.1, "c": 0.5}
        >>> [(key, own.name) for key, own in member_names(members, axes, {"ease": {"r": 0.82}}, others=["f"]).items()]
        [('b', 'knee'), ('a', 'best recall'), ('e', 'cheapest'), ('d', 'cheapest above ease'), ('f', 'A')]
    """
    keys = sorted(members)
    rows = [members[key] for key in keys]
    sums = scaled(rows, objectives).sum(axis=1)
    order = [keys[int(index)] for index in np.argsort(sums, kind="stable")]
    roles: dict[str, list[str]] = {key: [] for key in order}
    cost = cost_of(objectives)

    def best(axis: Objective, among: Sequence[str]) -> str:
        return among[int(axis.minimised([members[key][axis.metric] for key in among]).argmin())]

    if keys:
        roles[order[0]].append(KNEE)
        for axis in objectives:
            roles[best(axis, keys)].append("cheapest" if axis is cost else f"best {axis.name}")
    measured = {axis: [name for name, own in baselines.items() if axis.metric in own] for axis in objectives}
    axis = max(objectives, key=lambda axis: len(measured[axis]))
    if cost is not None and axis is not cost and measured[axis]:
        strongest = min(measured[axis], key=lambda name: float(axis.minimised([baselines[name][axis.metric]])[0]))
        bound = axis.minimised([baselines[strongest][axis.metric]])[0]
        if above := [key for key in keys if axis.minimised([members[key][axis.metric]])[0] < bound]:
            roles[best(cost, above)].append(f"cheapest above {strongest}")
    n_letters = 0
    found: dict[str, MemberName] = {}
    for key in (*order, *others):
        own = tuple(dict.fromkeys(roles.get(key, ())))
        name = next((role for role in own if role not in {n.name for n in found.values()}), None)
        if name is None:
            name, n_letters = _letters(n_letters), n_letters + 1
        found[key] = MemberName(order.index(key) + 1 if key in roles else None, name, own)
    return found


def _letters(index: int) -> str:
    """A to Z, then AA, AB and so on."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(65 + rest) + text
    return text
