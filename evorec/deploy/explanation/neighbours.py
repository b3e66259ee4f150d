"""The nearest members on the front: differences in objectives and in settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np

from evorec.archive.indicators import normalised
from evorec.deploy.explanation.description import shown
from evorec.models.choice import MECHANISMS
from evorec.objectives import Metrics, Objective
from evorec.problem import Spec

SHORT: Final = 8
"""Digits of a key in a sentence; commands accept such a prefix."""
MOST_SHOWN: Final = 5
"""Differences of settings in a sentence."""
LEAST_SHOWN: Final = 0.1
"""Relative difference of two numbers below which a sentence does not name them."""


@final
@dataclass(frozen=True)
class Trade:
    """The values of an objective of a member and of its neighbour, and the member with the better value."""

    own: float
    its: float
    better: Literal["own", "its", "neither"]


@final
@dataclass(frozen=True)
class Difference:
    """A gene with different values; ``None`` = it has no effect in that member."""

    gene: str
    own: Any
    its: Any


@final
@dataclass(frozen=True)
class Neighbour:
    """Another member of the front.

    Attributes:
        key: its key.
        distance: in the box of the objectives, each axis from 0 (ideal) to 1 (worst).
        trades: by name of the objective.
        differences: of the settings.
        text: both in a sentence.
    """

    key: str
    distance: float
    trades: Mapping[str, Trade]
    differences: tuple[Difference, ...]
    text: str


def neighbours(
    key: str, members: Mapping[str, tuple[Spec, Metrics]], objectives: Sequence[Objective], *, n: int = 3
) -> tuple[Neighbour, ...]:
    """The nearest other members of the front, nearest first; of equal distances the smallest key.

    Args:
        key: of the member, in `members`.
        members: decoded genome and measured metrics by key.
        objectives: M objectives, with their box.
        n: largest number of neighbours.
    """
    others = sorted(other for other in members if other != key)
    points = normalised([members[other][1] for other in (key, *others)], objectives)
    distances = np.linalg.norm(points[1:] - points[0], axis=1)
    (own_genes, own), out = members[key], []
    for i in np.argsort(distances, kind="stable")[:n]:
        its_genes, its = members[others[i]]
        trades = {axis.name: _trade(axis, own[axis.metric], its[axis.metric]) for axis in objectives}
        found = tuple(differences(own_genes, its_genes))
        text = neighbour_text(others[i], trades, found, objectives)
        out.append(Neighbour(others[i], float(distances[i]), trades, found, text))
    return tuple(out)


def _trade(axis: Objective, own: float, its: float) -> Trade:
    first, second = axis.minimised((own, its))
    return Trade(own, its, "neither" if first == second else "own" if first < second else "its")


def differences(own: Spec, its: Spec) -> list[Difference]:
    """Genes of two decoded genomes that differ, in the order of the first; genes without effect are left out.

    Example:
        >>> differences({"width": 16, "dropout": 0.1}, {"width": 32, "dropout": 0.1, "experts": 4})
        [Difference(gene='width', own=16, its=32), Difference(gene='experts', own=None, its=4)]
    """

    def effective(genes: Spec) -> Spec:
        idle = set(MECHANISMS[genes["mechanism"]].idle_genes(genes)) if "mechanism" in genes else set()
        if genes.get("popularity_weight") == 0:
            idle |= {"popularity_smoothing", "popularity_half_life", "new_item_popularity"}
        return {name: value for name, value in genes.items() if name not in idle}

    a, b = effective(own), effective(its)
    names = dict.fromkeys((*a, *b))
    return [Difference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def neighbour_text(
    key: str, trades: Mapping[str, Trade], found: Sequence[Difference], objectives: Sequence[Objective]
) -> str:
    """The differences of a neighbour in a sentence: objectives first, then the largest differences of settings.

    Example:
        >>> axes = [Objective("recall", "r", "max", "", 1.0, 0.0), Objective("cost", "c", "min", "", 1.0, 100.0, True)]
        >>> trades = {"recall": Trade(0.2, 0.188, "own"), "cost": Trade(10.0, 5.0, "its")}
        >>> neighbour_text("9f3a0b", trades, [Difference("mechanism", "cgc", "mmoe")], axes)
        '9f3a0b: recall -0.012 (worse), cost x 0.5 (better); mechanism mmoe (here cgc).'
    """
    changes = [
        f"{axis.name} {_change(axis, trade)} ({'worse' if trade.better == 'own' else 'better'})"
        for axis in objectives
        if (trade := trades[axis.name]).better != "neither"
    ]
    order = sorted(found, key=lambda difference: -_size(difference))
    named = [difference for difference in order if _size(difference) >= LEAST_SHOWN][:MOST_SHOWN]
    settings = [f"{difference.gene} {shown(difference.its)} (here {shown(difference.own)})" for difference in named]
    if len(found) > len(named):
        settings.append(f"{len(found) - len(named)} {'more' if named else 'small differences'}")
    return f"{key[:SHORT]}: {', '.join(changes) or 'equal objectives'}; {', '.join(settings) or 'equal settings'}."


def _change(axis: Objective, trade: Trade) -> str:
    if axis.log10 and trade.own:
        return f"x {trade.its / trade.own:.3g}"
    return f"{trade.its - trade.own:+.2g}"


def _size(difference: Difference) -> float:
    """Rank of a difference: the mechanism first, then other options, then numbers by the logarithm of their ratio."""
    own, its = difference.own, difference.its
    if difference.gene == "mechanism":
        return math.inf
    if own is None or its is None:  # a consequence of another difference
        return 1.0
    if isinstance(own, list | tuple):
        return float(np.abs(np.subtract(own, its)).max())
    if isinstance(own, str | bool):
        return 1e6
    return abs(math.log(abs(its / own))) if own and its else 1.0
