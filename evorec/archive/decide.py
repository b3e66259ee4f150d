"""Picking one member of a front by a sentence, e.g. ``auc/click where catalogue_coverage@k >= 0.3``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from evorec.archive.indicators import normalised
from evorec.config import TaskKind
from evorec.errors import ConfigError
from evorec.objectives import Constraint, Direction, Metrics, Objective, metric_info, parse_constraint, resolve

KNEE = "knee"
_SENTENCE = re.compile(r"\s*(?P<goal>\S+)(?:\s+where\s+(?P<conditions>\S.*?))?\s*")


def pick(text: str, members: Mapping[str, Metrics], objectives: Sequence[Objective], k: int) -> str:
    """The member that a sentence asks for; of equals the one with the smallest key.

    Args:
        text: ``METRIC`` (its best value, up or down as the catalogue says) or ``knee``, then optionally
            ``where METRIC >= NUMBER``, more conditions joined by ``and``.
        members: measured metrics by key.
        objectives: M objectives; ``knee`` weighs them.
        k: length of the recommendation lists.
    Returns:
        A key of `members`.
    Raises:
        ConfigError: the sentence does not parse, a metric was not measured, or no member qualifies.
    Example:
        >>> members = {"a": {"accuracy": 0.8, "recall@20": 0.1}, "b": {"accuracy": 0.7, "recall@20": 0.2}}
        >>> pick("accuracy", members, (), 20), pick("accuracy where recall@k >= 0.15", members, (), 20)
        ('a', 'b')
    """
    if not members:
        raise ConfigError(f"pick {text!r} needs a member to choose from, got an empty archive.")
    goal, conditions = _parsed(text, objectives, k)
    left = _qualified(text, members, conditions)
    if goal is None:
        return _knee(left, objectives)
    metric, direction = goal
    _check_measured(text, members, metric)
    values = {key: metrics[metric] for key, metrics in left.items()}
    best = max(values.values()) if direction == "max" else min(values.values())
    return min(key for key, value in values.items() if value == best)


def check_pick(
    text: str, objectives: Sequence[Objective], k: int, *, tasks: Mapping[str, TaskKind] | None = None
) -> None:
    """Refuse a sentence that `pick` could never follow, before anything is searched.

    Args:
        text, objectives, k: see `pick`.
        tasks: the ranked tasks and what their labels are; None skips the check of task names.
    Raises:
        ConfigError: it does not parse, or names a metric that does not exist.
    """
    try:
        _parsed(text, objectives, k, tasks)
    except ConfigError as error:
        raise ConfigError(f"finalize.picks: {error}") from None


def _parsed(
    text: str, objectives: Sequence[Objective], k: int, tasks: Mapping[str, TaskKind] | None = None
) -> tuple[tuple[str, Direction] | None, list[Constraint]]:
    """Metric and direction that a sentence asks for, None for the knee, and its conditions."""
    found = _SENTENCE.fullmatch(text)
    if not found:
        raise ConfigError(f"pick must read METRIC or METRIC where METRIC >= NUMBER, got {text!r}.")
    parts = re.split(r"\s+and\s+", found["conditions"]) if found["conditions"] else []
    conditions = [parse_constraint(part, k=k, baselines={}, tasks=tasks) for part in parts]
    return None if found["goal"] == KNEE else _goal(found["goal"], objectives, k, tasks), conditions


def _goal(
    name: str, objectives: Sequence[Objective], k: int, tasks: Mapping[str, TaskKind] | None
) -> tuple[str, Direction]:
    """Metric and direction of an objective of the search, else of the catalogue."""
    for objective in objectives:
        if name in (objective.name, objective.metric):
            return objective.metric, objective.direction
    return resolve(name, k, tasks=tasks), metric_info(name).direction


def _knee(members: Mapping[str, Metrics], objectives: Sequence[Objective]) -> str:
    """The member that bulges farthest towards the ideal corner.

    Objectives are scaled to the range that the members span (cost on its log scale); the knee is farthest below the
    plane through the corners, i.e. has the smallest sum. Source: Das 1999, with axis-parallel extremes.
    """
    keys = sorted(members)
    points = normalised([members[key] for key in keys], objectives)
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    return keys[int(scaled.sum(axis=1).argmin())]


def _qualified(text: str, members: Mapping[str, Metrics], conditions: Sequence[Constraint]) -> Mapping[str, Metrics]:
    for condition in conditions:
        _check_measured(text, members, condition.metric)
    left = {
        key: metrics
        for key, metrics in members.items()
        if all(condition.holds(metrics[condition.metric]).all() for condition in conditions)
    }
    if not left:
        raise ConfigError(f"pick {text!r}: none of {len(members)} members qualifies; {_ranges(members, conditions)}.")
    return left


def _ranges(members: Mapping[str, Metrics], conditions: Sequence[Constraint]) -> str:
    """What the members offer for each condition, so that the reader can choose a bound that exists."""
    lines = []
    for metric in dict.fromkeys(condition.metric for condition in conditions):
        values = [metrics[metric] for metrics in members.values()]
        lines.append(f"their {metric} is {min(values):.4g}..{max(values):.4g}")
    return ", ".join(lines)


def _check_measured(text: str, members: Mapping[str, Metrics], metric: str) -> None:
    for key, metrics in members.items():
        if metric not in metrics:
            raise ConfigError(f"pick {text!r}: {metric} was not measured for {key}; known: {', '.join(metrics)}.")
