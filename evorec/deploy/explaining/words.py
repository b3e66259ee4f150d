"""A member in words, for a person who has never seen the code: its genome, and how it differs from its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, final

import numpy as np

from evorec.archive.indicators import normalised
from evorec.models.balancing import BALANCINGS
from evorec.models.choice import MECHANISMS
from evorec.models.mechanism import mechanism_of
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.retrieval_loss import RETRIEVAL_LOSSES
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, Objective

SHORT: Final = 8
"""Digits of a key in a sentence; commands take it as it is."""
MOST_TOLD: Final = 5
"""Differences that a sentence names."""
LEAST_TRADED: Final = 1e-3
"""Difference in the box of the objectives from which on a sentence names it, if there is a larger one."""
LEAST_TOLD: Final = 0.1
"""Relative difference of two numbers from which on a sentence names it."""
ALIKE: Final = 0.05
"""Largest relative difference of counts that are said to be the same."""


def genome_in_words(genes: Mapping[str, Any], tasks: Sequence[str], *, target: str) -> list[str]:
    """What a genome means, one or more sentences per subject.

    Args:
        genes: decoded, as an evaluation of the ledger holds them.
        tasks: names of the T ranked tasks.
        target: the task or label whose positives are retrieved.
    Raises:
        ConfigError: the genes make no model spec.
    """
    spec = ModelSpec.from_genes(genes)
    return [
        mechanism_of(spec).describe(spec),
        _weights(spec, tasks),
        _size(spec),
        _regularisation(spec),
        _retrieval(spec, target),
        _lists(spec, target),
        _features(spec),
    ]


def _weights(spec: ModelSpec, tasks: Sequence[str]) -> str:
    if len(tasks) == 1:
        return f"{tasks[0]} is the only task of the ranker."
    if len(set(spec.task_weights)) == 1:
        shares = f"{_and(tasks)} count alike, {_percent(1 / len(tasks))} each"
    else:
        parts = [
            f"{task} counts {_percent(weight / sum(spec.task_weights))}"
            for task, weight in zip(tasks, spec.task_weights, strict=True)
        ]
        shares = _and(parts)
    return f"In the loss of the ranker {shares}; {BALANCINGS[spec.balancing].text}."


def _size(spec: ModelSpec) -> str:
    return f"An embedding has {spec.embedding_dim} numbers, a layer {spec.width} units."


def _regularisation(spec: ModelSpec) -> str:
    dropout = (
        f"dropout of {_percent(spec.dropout)} after the embeddings and each layer" if spec.dropout else "no dropout"
    )
    return (
        f"Against overfitting there is {dropout}, and weight decay of {_number(spec.embedding_decay)} on the embeddings"
        f" and {_number(spec.dense_decay)} on the layers. Training is by {OPTIMIZERS[spec.optimizer].text} with"
        f" step sizes of {_number(spec.embedding_learning_rate)} and {_number(spec.learning_rate)}."
    )


def _retrieval(spec: ModelSpec, target: str) -> str:
    source = "other positives of the batch" if spec.negative_source == "batch" else "items drawn uniformly"
    loss = RETRIEVAL_LOSSES[spec.retrieval_loss].describe(dict(spec.settings))
    past = (
        f"The user's past enters the user's vector with weight {_number(spec.history_weight)}."
        if spec.history_weight
        else "The user's past does not enter the user's vector."
    )
    return (
        f"Candidates are the items whose vectors are most like the user's. Each {target} of the training is compared"
        f" with up to {_count(spec.negatives, 'negative')}, {source}: {loss}. The loss of this weighs"
        f" {_number(spec.retrieval_weight)}, all tasks of the ranker together {_number(sum(spec.task_weights))};"
        f" likeness is divided by a temperature of {_number(spec.temperature)}. {past}"
    )


def _lists(spec: ModelSpec, target: str) -> str:
    if spec.popularity_weight:
        half_life = _number(spec.popularity_half_life)
        text = (
            f"In the lists the logarithm of an item's popularity counts {_number(spec.popularity_weight)} times beside"
            f" the likeness; a {target} that is {half_life} days old counts half in it, and"
            f" {_number(spec.popularity_smoothing)} are added to every item."
        )
        if spec.new_item_popularity:
            quantile = _percent(spec.new_item_popularity)
            text += f" A new item counts as popular as one that {quantile} of the others do not surpass."
    else:
        text = "In the lists the popularity of an item does not count."
    if spec.rank_blend:
        blend = _number(spec.rank_blend)
        return f"{text} The ranker re-orders the candidates: the weighted sum of its tasks is added {blend} times."
    return f"{text} The ranker does not re-order the lists."


def _features(spec: ModelSpec) -> str:
    text = f"It does without {_and(spec.off)}." if spec.off else "All features are in use."
    if spec.ranks:
        thin = _and([f"{name} ({rank})" for name, rank in spec.ranks])
        text += f" Content that passes through a few numbers only: {thin}."
    if spec.pretrained:
        text += " The items' embeddings start from who met them together, not from noise."
    return text


Better = Literal["own", "its", "neither"]


@final
class Trade(NamedTuple):
    """One objective of a member and of its neighbour; `better` says whose value is."""

    own: float
    its: float
    better: Better


@final
@dataclass(frozen=True)
class Neighbour:
    """Another member of the front.

    Attributes:
        key: its key.
        distance: in the box of the objectives, each axis from 0 (ideal) to 1 (worst).
        trades: by name of the objective.
    """

    key: str
    distance: float
    trades: Mapping[str, Trade]


@final
class Difference(NamedTuple):
    """A gene that two members do not share; ``None`` = it does not count for that one."""

    gene: str
    own: Any
    its: Any


def neighbours(
    key: str, members: Mapping[str, Metrics], objectives: Sequence[Objective], *, n: int = 3
) -> list[Neighbour]:
    """The nearest other members of the front, nearest first; of equally near ones the smallest key.

    Args:
        key: of the member, one of `members`.
        members: measured metrics by key.
        objectives: M objectives, with their box.
        n: how many, at most.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> front = {"x": {"a": 0.5, "b": 0.5}, "y": {"a": 0.8, "b": 0.1}, "z": {"a": 0.5, "b": 0.6}}
        >>> [(one.key, round(one.distance, 3)) for one in neighbours("x", front, axes)]
        [('z', 0.1), ('y', 0.5)]
        >>> neighbours("x", front, axes)[1].trades["b"]
        Trade(own=0.5, its=0.1, better='own')
    """
    others = sorted(other for other in members if other != key)
    points = normalised([members[one] for one in (key, *others)], objectives)
    distances = np.linalg.norm(points[1:] - points[0], axis=1)
    nearest = np.argsort(distances, kind="stable")[:n]
    return [
        Neighbour(others[i], float(distances[i]), _trades(members[key], members[others[i]], objectives))
        for i in nearest
    ]


def _trades(own: Metrics, its: Metrics, objectives: Sequence[Objective]) -> dict[str, Trade]:
    out = {}
    for objective in objectives:
        pair = own[objective.metric], its[objective.metric]
        smaller = objective.minimised(pair)
        better: Better = "neither" if smaller[0] == smaller[1] else "own" if smaller[0] < smaller[1] else "its"
        out[objective.name] = Trade(*pair, better)
    return out


def differences(genes_a: Mapping[str, Any], genes_b: Mapping[str, Any]) -> list[Difference]:
    """Genes of two decoded genomes that differ, in the order of the first; those that count for neither are left out.

    Example:
        >>> differences({"width": 16, "dropout": 0.1}, {"width": 32, "dropout": 0.1, "experts": 4})
        [Difference(gene='width', own=16, its=32), Difference(gene='experts', own=None, its=4)]
    """
    a, b = _counting(genes_a), _counting(genes_b)
    names = dict.fromkeys((*a, *b))
    return [Difference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _counting(genes: Mapping[str, Any]) -> dict[str, Any]:
    """The genes without those that have no effect beside the others."""
    idle = set(MECHANISMS[genes["mechanism"]].idle_genes(genes)) if "mechanism" in genes else set()
    if genes.get("popularity_weight") == 0:
        idle |= {"popularity_smoothing", "popularity_half_life", "new_item_popularity"}
    return {name: value for name, value in genes.items() if name not in idle}


def neighbour_in_words(neighbour: Neighbour, objectives: Sequence[Objective], found: Sequence[Difference] = ()) -> str:
    """What the neighbour gives for what, and how it is made otherwise.

    Args:
        neighbour: from `neighbours`.
        objectives: the same.
        found: `differences` of the member's genes and the neighbour's.
    Example:
        >>> axes = [Objective("recall", "r", "max", "", 1.0, 0.0), Objective("cost", "c", "min", "", 1.0, 100.0, True)]
        >>> near = Neighbour("9f3a0b", 0.1, {"recall": Trade(0.2, 0.188, "own"), "cost": Trade(10.0, 5.0, "its")})
        >>> neighbour_in_words(near, axes, [Difference("mechanism", "cgc", "mmoe")])
        '9f3a0b gives up 0.012 recall for 50 % of the cost; it differs in mechanism (mmoe instead of cgc).'
    """
    losses = _sizable([one for one in objectives if neighbour.trades[one.name].better == "own"], neighbour.trades)
    gains = _sizable([one for one in objectives if neighbour.trades[one.name].better == "its"], neighbour.trades)
    worse = [_loss(objective, neighbour.trades[objective.name]) for objective in losses]
    better = [_gain(objective, neighbour.trades[objective.name]) for objective in gains]
    if not worse and not better:
        traded = "measures the same"
    elif not worse:
        traded = f"gives {_and(better)} for nothing"
    else:
        traded = f"{_joined_losses(worse)} for {_and(better) if better else 'nothing'}"
    return f"{neighbour.key[:SHORT]} {traded}; {_told(found)}."


def _sizable(objectives: Sequence[Objective], trades: Mapping[str, Trade]) -> list[Objective]:
    """Those in which two members differ by more than a hair, or all if there is no such one."""
    places = [objective.normalised(trades[objective.name][:2]) for objective in objectives]
    large = [one for one, (own, its) in zip(objectives, places, strict=True) if abs(own - its) >= LEAST_TRADED]
    return large or list(objectives)


def _loss(objective: Objective, trade: Trade) -> tuple[str, str]:
    """Verb and object of what the neighbour is worse in."""
    if objective.log10:
        return "takes", f"{_ratio(trade)} the {objective.name}"
    verb = "gives up" if objective.direction == "max" else "adds"
    return verb, f"{abs(trade.its - trade.own):.2g} {objective.name}"


def _gain(objective: Objective, trade: Trade) -> str:
    if objective.log10:
        return f"{_ratio(trade)} the {objective.name}"
    more = "more" if objective.direction == "max" else "less"
    return f"{abs(trade.its - trade.own):.2g} {more} {objective.name}"


def _ratio(trade: Trade) -> str:
    """How the neighbour's value relates to the own one, e.g. ``48 % of`` or ``2.1 times``."""
    ratio = trade.its / trade.own if trade.own else float("inf")
    if 1 - ALIKE <= ratio <= 1 + ALIKE:
        return f"{_percent(ratio, digits=1)} of"
    return f"{_percent(ratio)} of" if ratio < 1 else f"{ratio:.3g} times"


def _joined_losses(losses: Sequence[tuple[str, str]]) -> str:
    """Objects of the same verb stand together."""
    by_verb: dict[str, list[str]] = {}
    for verb, what in losses:
        by_verb.setdefault(verb, []).append(what)
    return _and([f"{verb} {_and(whats)}" for verb, whats in by_verb.items()])


def _told(found: Sequence[Difference]) -> str:
    """The differences that matter most: choices before numbers, numbers by their ratio."""
    if not found:
        return "its settings are the same"
    order = sorted(found, key=lambda one: -_weight_of(one))
    told = [one for one in order if _weight_of(one) >= LEAST_TOLD][:MOST_TOLD]
    if not told:
        return "its settings differ by less than a tenth"
    named = _and([f"{one.gene} ({_value(one.its)} instead of {_value(one.own)})" for one in told])
    return f"it differs in {named}" + (f" and {len(found) - len(told)} more" if len(found) > len(told) else "")


def _weight_of(one: Difference) -> float:
    """How much a difference says: the mechanism most, then other choices, then numbers by the log of their ratio."""
    if one.gene == "mechanism":
        return 1e9
    if one.own is None or one.its is None:  # its parent differs, which says more
        return 1.0
    if isinstance(one.own, list | tuple):
        return float(np.abs(np.subtract(one.own, one.its)).max())
    if isinstance(one.own, str | bool):
        return 1e6
    own, its = abs(float(one.own)), abs(float(one.its))
    return float(np.abs(np.log(its / own))) if own and its else 1.0


def _value(value: Any) -> str:
    """A gene's value in a sentence; task weights as shares."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return " : ".join(f"{100 * part / sum(value):.0f}" for part in value) + " %"
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent(share: float, digits: int = 0) -> str:
    """A share in percent, with a digit more where it is small."""
    return f"{100 * share:.{digits if share >= 0.0995 else digits + 1}f} %"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _and(parts: Sequence[str]) -> str:
    """A list in a sentence.

    Example:
        >>> _and(["a"]), _and(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
