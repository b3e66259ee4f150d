"""Exchange rates between neighbours on a front, in the units that people use, and the gaps of a front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from evorec.archive.decide import SHORT, scaled
from evorec.objectives import Metrics, Objective

LEAST: Final = 0.01
"""Share of the range by which a neighbour is better in an objective; rates of smaller steps are rounding."""
POINT: Final = 0.01
"""A point of a share."""
WHOLE: Final = 1 - 1e-9
"""A step of a unit, less the rounding of a difference."""


@final
@dataclass(frozen=True)
class Exchange:
    """The price of a step to the nearest member that is better in an objective.

    Attributes:
        objective: name of the objective that improves.
        member: key of the neighbour.
        own, its: values of the objective, of the member and of the neighbour.
        unit: the step that `costs` and `gains` are for, in words, e.g. ``"one more point of coverage"``.
        costs: for each objective that gets worse, by how much in its own unit; a factor for a cost.
        gains: for each other objective that gets better, likewise.
        text: all of it in a sentence.
    """

    objective: str
    member: str
    own: float
    its: float
    unit: str
    costs: Mapping[str, float]
    gains: Mapping[str, float]
    text: str


@final
@dataclass(frozen=True)
class Gap:
    """The largest jump between two members that are neighbours in an objective.

    Attributes:
        objective: its name.
        members: keys of both, that with the lower value first.
        values: of both.
        share: of the range of the objective on the front.
        text: in a sentence.
    """

    objective: str
    members: tuple[str, str]
    values: tuple[float, float]
    share: float
    text: str


def exchanges(key: str, members: Mapping[str, Metrics], objectives: Sequence[Objective]) -> tuple[Exchange, ...]:
    """What it costs to get more of each objective: for each, the step to the nearest member that is better in it.

    Distances are between objectives scaled to the range of the members. With two objectives, the neighbours are those
    along the front.

    Args:
        key: of the member, in `members`.
        members: measured metrics by key.
        objectives: M objectives.
    Returns:
        In the order of the objectives, without those in which no member is better.
    Source: the rate of substitution between neighbours; Miettinen 1999, section 2.8, for linear interpolation.
    Example:
        >>> axes = [
        ...     Objective("recall", "r", "max", "", 1.0, 0.0), Objective("coverage", "c", "max", "", 1.0, 0.0),
        ... ]
        >>> members = {"a": {"r": 0.20, "c": 0.40}, "b": {"r": 0.19, "c": 0.45}, "z": {"r": 0.1, "c": 0.9}}
        >>> exchanges("a", members, axes)[0].text
        'one more point of coverage costs 0.002 recall (b: coverage 0.45 instead of 0.4)'
    """
    others = sorted(other for other in members if other != key)
    points = scaled([members[other] for other in (key, *others)], objectives)
    distances = np.linalg.norm(points[1:] - points[0], axis=1)
    gains = points[0] - points[1:]
    out = []
    for index, axis in enumerate(objectives):
        better = np.flatnonzero(gains[:, index] > 0)
        if not len(better):
            continue
        near = better[gains[better, index] >= LEAST]
        chosen = near if len(near) else better[[int(gains[better, index].argmax())]]
        neighbour = others[int(chosen[distances[chosen].argmin()])]
        out.append(_exchange(axis, neighbour, members[key], members[neighbour], objectives))
    return tuple(out)


def gaps(members: Mapping[str, Metrics], objectives: Sequence[Objective]) -> tuple[Gap, ...]:
    """For each objective the largest jump between members that are neighbours in it, largest share of a range first.

    Args:
        members: measured metrics by key.
        objectives: M objectives.
    Returns:
        At most M gaps; none for an objective in which all members are equal.
    Example:
        >>> axis = Objective("cost", "c", "min", "FLOP", 1e5, 1e9, log10=True)
        >>> gaps({"a": {"c": 1e6}, "b": {"c": 4e6}, "z": {"c": 1e8}}, [axis])[0].text
        'cost: no member between 4e+06 (b) and 1e+08 (z): a factor of 25, 70 % of its range'
    """
    keys = sorted(members)
    points = scaled([members[key] for key in keys], objectives)
    found = []
    for index, axis in enumerate(objectives):
        order = points[:, index].argsort(kind="stable")
        jumps = np.diff(points[order, index])
        if not len(jumps) or jumps.max() <= 0:
            continue
        at = int(jumps.argmax())
        pair = sorted((keys[order[at]], keys[order[at + 1]]), key=lambda key: members[key][axis.metric])
        low, high = (members[key][axis.metric] for key in pair)
        size = f"a factor of {high / low:.3g}" if axis.log10 and low > 0 else f"{high - low:.2g} {axis.unit}".strip()
        text = (
            f"{axis.name}: no member between {low:.4g} ({pair[0][:SHORT]}) and {high:.4g} ({pair[1][:SHORT]}): {size}, "
            f"{100 * jumps.max():.0f} % of its range"
        )
        found.append(Gap(axis.name, (pair[0], pair[1]), (low, high), float(jumps.max()), text))
    return tuple(sorted(found, key=lambda gap: -gap.share))


def _exchange(axis: Objective, key: str, own: Metrics, its: Metrics, objectives: Sequence[Objective]) -> Exchange:
    """The exchange of a member for its neighbour `key`, which is better in `axis`."""
    here, there = own[axis.metric], its[axis.metric]
    unit, n = _unit(axis, here, there)
    costs: dict[str, float] = {}
    gains: dict[str, float] = {}
    words: dict[str, str] = {}
    for other in objectives:
        a, b = own[other.metric], its[other.metric]
        if other is axis or a == b:
            continue
        is_factor = other.log10 and min(a, b) > 0
        amount = float((b / a) ** (1 / n)) if is_factor else abs(b - a) / n
        worse = bool(other.minimised([b])[0] > other.minimised([a])[0])
        (costs if worse else gains)[other.name] = amount
        words[other.name] = f"{amount:.3g} times the {other.name}" if is_factor else _amount(other, amount)
    text = f"{unit} costs {_listed([words[name] for name in costs]) or 'nothing'}"
    if gains:
        text += f" and gives {_listed([words[name] for name in gains])}"
    text += f" ({key[:SHORT]}: {axis.name} {there:.4g} instead of {here:.4g})"
    return Exchange(axis.name, key, here, there, unit, costs, gains, text)


def _unit(axis: Objective, own: float, its: float) -> tuple[str, float]:
    """The step that a rate is for, in words, and how often it lies between two values.

    A rate is interpolated, never extrapolated: a smaller step than a unit is stated as it is.
    """
    if axis.log10 and min(own, its) > 0:
        n = abs(math.log2(its / own))
        if n < WHOLE:
            return f"{its / own:.3g} times the {axis.name}", 1.0
        return f"{'halving' if axis.direction == 'min' else 'doubling'} the {axis.name}", n
    word = "more" if axis.direction == "max" else "less"
    amount = abs(its - own)
    is_share = not axis.unit and min(axis.ideal, axis.worst) >= 0 and max(axis.ideal, axis.worst) <= 1
    n = amount / POINT if is_share else amount
    if n < WHOLE:
        return f"{amount:.2g}{f' {axis.unit}' * bool(axis.unit)} {word} {axis.name}", 1.0
    one = "point" if is_share else axis.unit or "unit"
    return f"one more {one} of {axis.name}" if word == "more" else f"one {one} less of {axis.name}", n


def _amount(axis: Objective, amount: float) -> str:
    return f"{amount:.2g}{f' {axis.unit}' * bool(axis.unit)} {axis.name}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
