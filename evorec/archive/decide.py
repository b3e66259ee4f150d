"""Members of a front chosen by a short sentence, which every command understands.

| pick | member |
|---|---|
| ``recall@20`` or ``best:recall@20`` | best value of a metric, up or down as the metric says |
| ``cheapest`` | lowest cost |
| ``knee`` | best compromise: smallest sum of the objectives, each scaled to the range of the members |
| ``ideal`` | nearest to the best value of every objective, in the same scale |
| ``weights accuracy=2 cost=1`` | its shares of what is reachable in the named metrics are nearest to the weights |
| ``bands:3``, ``bands:1e8/1e9`` | a pick in each band of the cost: equal widths, or between limits |
| ``bands:3 GOAL`` | the same with another pick in each band than the best value of the first objective |

Limits follow after ``where`` or a comma and are joined by ``and`` or commas: ``recall where cost <= 5e9, diversity >=
0.7``. A limit is a number in the metric's own unit, a baseline, or a multiple of it: ``cheapest where recall >= 1.05 *
ease``. `choose` also accepts names of members: ``all`` of them, or the beginning of a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np

from evorec.archive.indicators import normalised
from evorec.archive.pareto import non_dominated
from evorec.config import TaskKind
from evorec.errors import ConfigError, guess
from evorec.metrics.metric import METRICS
from evorec.objectives import (
    Constraint,
    FloatArray,
    Metrics,
    Objective,
    find_metric,
    in_full,
    parse_constraint,
    resolve,
)

KNEE: Final = "knee"
ALL: Final = "all"
"""Every member of the archive."""
SHORT: Final = 8
"""Digits of a key in a sentence; commands accept such a prefix."""
COST: Final = "cost"
"""The metric that `cheapest` and bands mean if no objective is a cost."""
_BEST, _IDEAL, _CHEAPEST, _WEIGHTS, _BANDS = "best:", "ideal", "cheapest", "weights", "bands:"
_FORMS: Final = (
    "METRIC or best:METRIC, cheapest, knee, ideal, 'weights METRIC=NUMBER METRIC=NUMBER', or bands:3, then optionally "
    "'where METRIC >= NUMBER, METRIC <= NUMBER'"
)
_MOST_BANDS: Final = 20
_SENTENCE = re.compile(r"\s*(?P<goal>[^,]*?)(?:(?:\s+where\s+|\s*,\s*)(?P<conditions>\S.*?))?\s*", re.DOTALL)
_BETWEEN = re.compile(r"\s+and\s+|\s*,\s*")
_CONDITION = re.compile(r"\s*(?P<metric>[^\s<>=*]+)(?P<rest>.*)", re.DOTALL)
_NOT_FINITE = re.compile(r"[<>]=\s*[-+]?(nan|inf|infinity)\s*$", re.IGNORECASE)
_KEY = re.compile(r"[0-9a-f]+")


@final
@dataclass(frozen=True)
class Pick:
    """A parsed sentence.

    Attributes:
        rule: how a member is chosen among those that keep the limits.
        axes: the metric to be best in, those with weights, or all objectives.
        weights: of the axes; empty without weights.
        limits: that the member must keep.
        text: the sentence.
    """

    rule: Literal["best", "knee", "ideal", "weights"]
    axes: tuple[Objective, ...]
    weights: tuple[float, ...]
    limits: tuple[Constraint, ...]
    text: str


@final
@dataclass(frozen=True)
class Choice:
    """A pick and its member.

    Attributes:
        pick: the sentence, or the key of a member that was named by it.
        member: key of the member.
        candidates: keys of all members that keep the limits of the pick, sorted.
    """

    pick: str
    member: str
    candidates: tuple[str, ...]


def pick(
    text: str,
    members: Mapping[str, Metrics],
    objectives: Sequence[Objective],
    k: int,
    *,
    baselines: Mapping[str, Metrics] | None = None,
    more: Sequence[Objective] = (),
) -> str:
    """The member that a sentence asks for; of equal members that with the smallest key.

    Args:
        text: a sentence of the module's table, without bands. A metric of lists may be written without its length,
            ``recall`` for ``recall@k``; objectives go by their name or metric.
        members: measured metrics by key. A member without a metric of the sentence is not chosen.
        objectives: M objectives.
        k: length of the recommendation lists.
        baselines: measured metrics by baseline, for limits.
        more: further metrics with a name and a direction, beside those of the catalogue.
    Returns:
        A key of `members`.
    Raises:
        ConfigError: the sentence does not parse, a metric was not measured, or no member keeps the limits; the message
            says what is reachable.
    Example:
        >>> members = {"a": {"accuracy": 0.8, "recall@20": 0.1}, "b": {"accuracy": 0.7, "recall@20": 0.2}}
        >>> pick("accuracy", members, (), 20), pick("accuracy where recall >= 0.15", members, (), 20)
        ('a', 'b')
        >>> pick("weights accuracy=1 recall=3", members, (), 20)
        'b'
    """
    found = choices([text], members, objectives, k, baselines=baselines, more=more)
    if len(found) > 1:
        raise ConfigError(f"pick {text!r} is {len(found)} picks; a single pick is needed here.")
    return found[0].member


def choose(
    texts: Sequence[str],
    members: Mapping[str, Metrics],
    objectives: Sequence[Objective],
    k: int,
    *,
    baselines: Mapping[str, Metrics] | None = None,
    also: Collection[str] = (),
) -> dict[str, str]:
    """The members that several texts ask for: member by pick, see `choices`.

    Example:
        >>> members = {"0a": {"accuracy": 0.8}, "1b": {"accuracy": 0.7}}
        >>> choose(["best:accuracy", "1"], members, (), 20)
        {'best:accuracy': '0a', '1b': '1b'}
    """
    found = choices(texts, members, objectives, k, baselines=baselines, keys=True, also=also)
    return {choice.pick: choice.member for choice in found}


def choices(
    texts: Sequence[str],
    members: Mapping[str, Metrics],
    objectives: Sequence[Objective],
    k: int,
    *,
    baselines: Mapping[str, Metrics] | None = None,
    more: Sequence[Objective] = (),
    keys: bool = False,
    also: Collection[str] = (),
) -> list[Choice]:
    """The choices that several texts ask for.

    Args:
        texts: sentences of `pick`, also with bands.
        members, objectives, k, baselines, more: see `pick`.
        keys: whether a text may also be ``all``, a key, or a beginning that only a single key has.
        also: keys of further members, which only a text that names them chooses.
    Returns:
        In the order of `texts`. A sentence is called as it was written; bands are a sentence each, and bands without a
        member are left out; a member named by ``all`` or by its key is called by its key.
    Raises:
        ConfigError: see `pick`; or a beginning fits several members.
    Example:
        >>> members = {
        ...     "a": {"recall@20": 0.1, "training_flops": 1e6}, "b": {"recall@20": 0.2, "training_flops": 1e9},
        ... }
        >>> [choice.pick for choice in choices(["bands:2 recall"], members, (), 20)]
        ['recall where cost<=3.16e+07', 'recall where cost>=3.16e+07']
    """
    out: dict[str, Choice] = {}
    for text in texts:
        named = _named(text, list(dict.fromkeys([*members, *also])), objectives) if keys else None
        everything = tuple(sorted(members))
        if named is not None:
            out[named] = Choice(named, named, everything)
        elif not members:
            raise ConfigError(f"pick {text!r} needs a member to choose from, got an empty archive.")
        elif keys and text.strip() == ALL:
            out |= {key: Choice(key, key, everything) for key in members}
        else:
            measured = {name for row in members.values() for name in row}
            words = _Words(objectives, k, baselines or {}, more=more, known=measured)
            for sentence in _sentences(text, members, words):
                parsed = words.parsed(sentence)
                candidates = _candidates(parsed, members)
                out[sentence] = Choice(sentence, _chosen(parsed, candidates, members), candidates)
    return list(out.values())


def check_pick(
    text: str,
    objectives: Sequence[Objective],
    k: int,
    *,
    tasks: Mapping[str, TaskKind] | None = None,
    keys: Collection[str] = (),
    baselines: Collection[str] = (),
) -> None:
    """Refuse a text that `choose` could never follow, before anything is searched or measured.

    Args:
        text, objectives, k: see `choose`.
        tasks: the ranked tasks and the kinds of their labels; None skips the check of task names.
        keys: of the members; before a search there are none, and a key is not a pick.
        baselines: names that a limit may contain.
    Raises:
        ConfigError: it does not parse, or names a metric that does not exist or several members.
    """
    try:
        if text.strip() != ALL and _named(text, keys, objectives) is None:
            words = _Words(objectives, k, dict.fromkeys(baselines), tasks=tasks)
            goal = words.banded(text)
            words.parsed(text if goal is None else goal.sentence)
    except ConfigError as error:
        is_key = _KEY.fullmatch(text.strip()) and keys
        why = f"no member begins with {text!r}; there are {', '.join(sorted(keys))}; all means every member."
        matches = any(key.startswith(text.strip()) for key in keys)
        raise ConfigError(f"finalize.picks: {why if is_key and not matches else error}") from None


def scaled(members: Sequence[Metrics], axes: Sequence[Objective]) -> FloatArray:
    """Objectives relative to the range of the members, float64 ``(N, M)``: 0 = the best of them, 1 = the worst.

    A cost is on its log scale. An objective in which all members are equal is 0.
    """
    points = normalised(members, axes)
    span = np.ptp(points, axis=0) if len(points) else np.ones(len(axes))
    out: FloatArray = (points - points.min(axis=0, initial=np.inf)) / np.where(span > 0, span, 1.0)
    return out


def cost_of(objectives: Sequence[Objective]) -> Objective | None:
    """The objective that is a cost: to be minimised on a log scale, else the only one to be minimised; None = none."""
    low = [axis for axis in objectives if axis.direction == "min"]
    return next((axis for axis in low if axis.log10), low[0] if len(low) == 1 else None)


def _candidates(parsed: Pick, members: Mapping[str, Metrics]) -> tuple[str, ...]:
    """Keys of the members that have all metrics of a sentence and keep its limits, sorted.

    Raises:
        ConfigError: there are none; says what is reachable.
    """
    for metric in (*(limit.metric for limit in parsed.limits), *(axis.metric for axis in parsed.axes)):
        if not any(metric in row for row in members.values()):
            key, row = next(iter(members.items()))
            raise ConfigError(f"pick {parsed.text!r}: {metric} was not measured for {key}; known: {', '.join(row)}.")

    def kept(limits: Sequence[Constraint], *more: str) -> list[str]:
        needed = {*(limit.metric for limit in limits), *more}
        return [
            key
            for key in sorted(members)
            if all(math.isfinite(members[key].get(metric, math.nan)) for metric in needed)
            and all(limit.holds(members[key][limit.metric]).all() for limit in limits)
        ]

    if keys := kept(parsed.limits, *(axis.metric for axis in parsed.axes)):
        return tuple(keys)

    def reached(limit: Constraint, keys: Sequence[str]) -> str:
        sign = -1 if limit.op == ">=" else 1
        key = min(keys, key=lambda key: sign * members[key][limit.metric])
        word = "highest" if sign < 0 else "lowest"
        return f"the {word} {limit.metric} is {members[key][limit.metric]:.4g} (member {key[:SHORT]})"

    reasons = [
        f"{limit.text} is reached by no member; {reached(limit, kept((), limit.metric))}"
        for limit in parsed.limits
        if not kept([limit])
    ]
    if not reasons:
        reasons.append(f"no member of {len(members)} keeps all limits, though each can be kept by itself")
        for limit in parsed.limits:
            others = [other for other in parsed.limits if other is not limit]
            if keys := kept(others, limit.metric):
                reasons.append(f"with {' and '.join(other.text for other in others)} {reached(limit, keys)}")
    raise ConfigError(f"pick {parsed.text!r}: {'; '.join(reasons)}.")


def _chosen(parsed: Pick, keys: Sequence[str], members: Mapping[str, Metrics]) -> str:
    """The member of a rule among sorted keys; the first of equal members."""
    rows = [members[key] for key in keys]
    if parsed.rule == "best":
        return keys[int(parsed.axes[0].minimised([row[parsed.axes[0].metric] for row in rows]).argmin())]
    points = scaled(rows, parsed.axes)
    if parsed.rule == "knee":
        # Farthest below the plane through the corners of the scaled front. Source: Das 1999, axis-parallel extremes.
        return keys[int(points.sum(axis=1).argmin())]
    if parsed.rule == "ideal":
        return keys[int(np.linalg.norm(points, axis=1).argmin())]
    # Pseudo-weights, Deb 2001, section 4.2.3: each member's shares of what is reachable. pymoo's PseudoWeights is the
    # same for weights that sum to 1 and objectives that differ, but a weight of 0 there asks for the worst value, equal
    # values become NaN, and of members on both sides of the front one may win that another beats in every named metric.
    best = np.flatnonzero(non_dominated(points))
    shares = 1.0 - scaled([rows[index] for index in best], parsed.axes)
    wanted = np.array(parsed.weights) / sum(parsed.weights)
    distance = np.abs(shares / shares.sum(axis=1, keepdims=True) - wanted).sum(axis=1)
    return keys[int(best[distance.argmin()])]


@final
@dataclass(frozen=True)
class _CostBands:
    """A pick per band: the goal and the limits of all bands as a sentence, the axis, and the number or the edges."""

    sentence: str
    axis: Objective
    n: int
    edges: tuple[str, ...]


def _sentences(text: str, members: Mapping[str, Metrics], words: _Words) -> list[str]:
    """The text, or a sentence for each of its bands that has a member."""
    if (banded := words.banded(text)) is None:
        return [text]
    parsed, axis = words.parsed(banded.sentence), banded.axis
    inside = _candidates(Pick(parsed.rule, (*parsed.axes, axis), (), parsed.limits, text), members)
    values = [members[key][axis.metric] for key in inside]
    edges = banded.edges
    if banded.n:
        first, last = axis.normalised([min(values), max(values)])
        inner = axis.natural(np.linspace(first, last, banded.n + 1)[1:-1])
        edges = tuple(f"{edge:.3g}" for edge in inner)
    out, joint = [], ", " if parsed.limits else " where "
    for low, high in zip(("-inf", *edges), (*edges, "inf"), strict=True):
        if any(float(low) <= value <= float(high) for value in values):
            limits = [f"{axis.name}>={low}"] * (low != "-inf") + [f"{axis.name}<={high}"] * (high != "inf")
            out.append(banded.sentence + joint + ", ".join(limits))
    return out


@final
@dataclass(frozen=True)
class _Words:
    """Everything that the words of a sentence may mean.

    Attributes:
        objectives, k, baselines, more: see `pick`; baselines without metrics only have names yet.
        tasks: see `check_pick`.
        known: keys of measured metrics.
    """

    objectives: Sequence[Objective]
    k: int
    baselines: Mapping[str, Metrics | None]
    tasks: Mapping[str, TaskKind] | None = None
    more: Sequence[Objective] = ()
    known: Collection[str] = ()

    def parsed(self, text: str) -> Pick:
        """A sentence without bands.

        Raises:
            ConfigError: see `pick`.
        """
        goal, _, limits = self._split(text)
        name, *rest = goal.split()
        if name == _WEIGHTS and rest:
            return Pick("weights", *self._weighted(rest, text), limits, text)
        if rest:
            raise ConfigError(f"pick must read {_FORMS}, got {text!r}.")
        if name in (KNEE, _IDEAL):
            return Pick("knee" if name == KNEE else "ideal", tuple(self.objectives), (), limits, text)
        axis = self._cost(text) if name == _CHEAPEST else self._axis(name.removeprefix(_BEST))
        return Pick("best", (axis,), (), limits, text)

    def banded(self, text: str) -> _CostBands | None:
        """The bands of a sentence; None if it has none.

        Raises:
            ConfigError: the bands do not parse, or the problem has no cost.
        """
        goal, after, _ = self._split(text)
        name, *rest = goal.split()
        if not name.startswith(_BANDS):
            return None
        axis, given = self._cost(text), name.removeprefix(_BANDS)
        own = next((objective.name for objective in self.objectives if objective.metric != axis.metric), KNEE)
        sentence = " ".join(rest or [own]) + after
        if given.isdecimal() and 2 <= int(given) <= _MOST_BANDS:
            return _CostBands(sentence, axis, int(given), ())
        try:
            edges = [float(edge) for edge in given.split("/")]
        except ValueError:
            edges = []
        if not edges or not all(map(math.isfinite, edges)) or edges != sorted(set(edges)) or given.isdecimal():
            raise ConfigError(
                f"pick {text!r}: bands must be a number in 2..{_MOST_BANDS} or rising limits of {axis.name}, e.g. "
                f"bands:3 or bands:1e8/1e9, got {given!r}."
            )
        return _CostBands(sentence, axis, 0, tuple(given.split("/")))

    def _split(self, text: str) -> tuple[str, str, tuple[Constraint, ...]]:
        """The goal, the text after it, and the limits in that."""
        found = _SENTENCE.fullmatch(text)
        goal = re.sub(rf"^{_BEST}\s+", _BEST, found["goal"]) if found else ""
        if not found or goal in ("", _BEST):
            raise ConfigError(f"pick must read {_FORMS}, got {text!r}.")
        parts = _BETWEEN.split(found["conditions"]) if found["conditions"] else []
        return goal, text[found.end("goal") :].rstrip(), tuple(self._limit(part, text) for part in parts)

    def _limit(self, part: str, text: str) -> Constraint:
        if _NOT_FINITE.search(part):
            raise ConfigError(f"pick {text!r}: a limit must be a finite number, got {part.strip()!r}.")
        found = _CONDITION.fullmatch(part)
        metric = self._metric(found["metric"]) if found else ""
        values = {name: {metric: 1.0} if row is None else row for name, row in self.baselines.items()}
        full = metric + found["rest"] if found else part
        limit = parse_constraint(full, k=self.k, baselines=values, tasks=self.tasks, known=(metric,))
        return Constraint(limit.metric, limit.op, limit.bound, part.strip())

    def _weighted(self, words: Sequence[str], text: str) -> tuple[tuple[Objective, ...], tuple[float, ...]]:
        weights: dict[Objective, float] = {}
        for word in words:
            name, _, number = word.partition("=")
            try:
                weight = float(number)
            except ValueError:
                weight = math.nan
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"pick {text!r}: weights must read METRIC=NUMBER with a number above 0, got {word!r}."
                )
            axis = self._axis(name)
            if axis in weights:
                raise ConfigError(f"pick {text!r} gives {axis.metric} two weights.")
            weights[axis] = weight
        return tuple(weights), tuple(weights.values())

    def _axis(self, name: str) -> Objective:
        """An objective by its name or metric, else any metric of the catalogue."""
        metric = self._metric(name)
        for objective in (*self.objectives, *self.more):
            if metric == objective.metric:
                return objective
        try:
            info = find_metric(metric)
        except ConfigError:
            raise ConfigError(
                f"{name} is measured, but the problem does not say whether high or low values are better; it can only "
                f"be limited, e.g. '... where {name} <= NUMBER'."
            ) from None
        # the corners of the box have no effect here: axes are scaled to the range of the members
        ideal, worst = (2.0, 1.0) if info.direction == "max" else (1.0, 2.0)
        return Objective(name, metric, info.direction, info.unit, ideal, worst, info.log10)

    def _cost(self, text: str) -> Objective:
        """The objective that is a cost, else the only one to be minimised, else the training FLOPs."""
        if (axis := cost_of(self.objectives)) is not None:
            return axis
        if self.known and find_metric(COST).name not in self.known:
            raise ConfigError(f"pick {text!r}: no objective is a cost; name the metric, e.g. best:METRIC.")
        return self._axis(COST)

    def _metric(self, name: str) -> str:
        """The key of a metric by its name: of an objective, of the catalogue, or any that was measured."""
        named = (*self.objectives, *self.more)
        for objective in named:
            if name in (objective.name, objective.metric):
                return objective.metric
        full = in_full(name)
        try:
            find_metric(full)
        except ConfigError:
            if name in self.known:
                return name
            own = [name for axis in named for name in (axis.name, axis.metric)]
            own = [word for word in {*own, *self.known} if word not in METRICS]
            if (hint := guess(name, sorted(own))).startswith("; did you mean"):
                raise ConfigError(f"{name!r} is not a metric{hint}") from None
            raise
        return resolve(full, self.k, tasks=self.tasks)


def _named(text: str, keys: Collection[str], objectives: Sequence[Objective]) -> str | None:
    """The member whose key is `text` or begins with it; None if `text` is not a key.

    Raises:
        ConfigError: several keys begin with it.
    """
    start = text.strip()
    reserved = (KNEE, _IDEAL, _CHEAPEST)
    if not start or start in reserved or any(start in (axis.name, axis.metric) for axis in objectives):
        return None
    matches = [start] if start in keys else [key for key in keys if key.startswith(start)]
    if len(matches) > 1:
        raise ConfigError(f"pick {text!r} begins {len(matches)} members: {', '.join(matches)}; write more of it.")
    return matches[0] if matches else None
