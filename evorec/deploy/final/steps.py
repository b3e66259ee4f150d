"""How many steps the final training of a member takes: it is trained again on train and watched on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from evorec.config import FinalizeConfig
from evorec.data.held_out import HeldOut
from evorec.deploy.final.training import run_all, stacks
from evorec.errors import TrainingError
from evorec.metrics.accuracy import ordering_key
from evorec.models.spec import ModelSpec
from evorec.rec_problem import Fitted
from evorec.training.evaluate import Measured, measure
from evorec.training.trainer import Checkpoint

TENTHS = 10
"""Checkpoints per training of the search."""
FIRST = 5
"""The first checkpoint, in tenths of a training of the search."""


@final
@dataclass(frozen=True)
class ChosenSteps:
    """The steps of a member's final training, and why.

    Attributes:
        steps: of the final training.
        at: steps of the checkpoints, C of them.
        curve: by metric, one value per checkpoint: the order of every task, and recall.
        ended: why there are no more checkpoints: every metric had run out of patience, the longest training was
            reached, or the member diverged after the last one.
    """

    steps: int
    at: tuple[int, ...]
    curve: Mapping[str, tuple[float, ...]]
    ended: Literal["patience", "longest", "diverged"]

    @property
    def best_step(self) -> dict[str, int]:
        """The checkpoint that each metric alone would have chosen; of equals the earliest."""
        return {name: self.at[int(np.argmax(values))] for name, values in self.curve.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values for the report."""
        curve = {name: list(values) for name, values in self.curve.items()}
        return {"curve": {"steps": list(self.at), **curve}, "best_step": self.best_step, "ended": self.ended}


def checkpoint_steps(steps: int, longest: float) -> tuple[int, ...]:
    """Where a member is measured: every tenth of the search's training, from its half to its `longest`-fold.

    Args:
        steps: of a training of the search, >= 1; it is a checkpoint itself.
        longest: >= 1.
    Returns:
        Ascending steps; tenths that fall on one step count once.
    Example:
        >>> checkpoint_steps(200, 1.2), checkpoint_steps(5, 2.0)
        ((100, 120, 140, 160, 180, 200, 220, 240), (3, 4, 5, 6, 7, 8, 9, 10))
    """
    last = int(round(TENTHS * longest, 6))
    return tuple(dict.fromkeys(-(-steps * tenth // TENTHS) for tenth in range(FIRST, last + 1)))


def is_finished(values: Sequence[float], patience: int) -> bool:
    """Whether the best of a curve, of equals the earliest, is `patience` or more checkpoints back.

    A curve that rises again later is not finished any more: the other metrics may keep the training alive.

    Example:
        >>> is_finished([0.5, 0.7, 0.6, 0.7], 2), is_finished([0.5, 0.7, 0.6, 0.7, 0.8], 2)
        (True, False)
    """
    return len(values) - 1 - int(np.argmax(values)) >= patience


def least_regret(curve: Mapping[str, Sequence[float]], relative: str) -> int:
    """The checkpoint that a member stops at, when every metric would rather stop at its own.

    The regret of a metric at a checkpoint is ``best - value``, of recall ``(best - value) / best``, because recall is
    small where AUC is not; 0 where the best recall is 0. The checkpoint with the smallest mean regret is taken, of
    equals the earliest, which costs least.

    Args:
        curve: by metric, ``(C,)`` values; higher is better.
        relative: the metric whose regret is relative.
    Returns:
        Index of the checkpoint in ``0..C - 1``.
    Example:
        >>> curve = {"auc/click": (0.70, 0.74, 0.75), "recall@20": (0.10, 0.10, 0.08)}  # regret: .05/2, .01/2, .2/2
        >>> least_regret(curve, "recall@20")
        1
    """
    regrets: list[npt.NDArray[np.float64]] = []
    for name, values in curve.items():
        regret = max(values) - np.asarray(values, dtype=np.float64)
        regrets.append(regret / max(values) if name == relative and max(values) > 0 else regret)
    return int(np.mean(regrets, axis=0).round(12).argmin())  # equal up to rounding is equal


def choose_steps(fitted: Fitted, specs: Mapping[str, ModelSpec], config: FinalizeConfig) -> dict[str, ChosenSteps]:
    """Trains members on the training part, with the search's seed, and chooses the steps of each on validation.

    Every metric of `curve` is stopped early by itself: it is finished when its best is `FinalizeConfig.patience`
    checkpoints back. A member trains on until all are finished, or to `FinalizeConfig.longest`, and gets the
    checkpoint of `least_regret`. Members whose curves end leave the stack, the others go on in it. There is no
    schedule of the learning rate, so training to a checkpoint is the same as training with that many steps; train +
    validation has more rows, of which the same number of steps passes over a smaller share.

    Args:
        fitted: of the training part; recall is measured on its users.
        specs: by member.
        config: patience and longest training.
    Returns:
        By member, in the order of `specs`.
    Raises:
        TrainingError: a member diverged before its first checkpoint.
    """
    at = checkpoint_steps(fitted.config.training.steps, config.longest)
    fitted = fitted.with_steps(at[-1])
    groups = stacks(fitted, specs)
    tasks = [partial(_watched, fitted, {key: specs[key] for key in keys}, at, config.patience) for keys in groups]
    found: dict[str, ChosenSteps] = {}
    for _, chosen in run_all(fitted, tasks):
        found |= chosen
    return {key: found[key] for key in specs}


def _watched(
    fitted: Fitted, specs: Mapping[str, ModelSpec], at: Sequence[int], patience: int
) -> dict[str, ChosenSteps]:
    """The curves of one stack, each to its end."""
    names, recall = _watched_metrics(fitted)
    held_out = HeldOut(fitted.dataset, fitted.config.evaluation, fitted.users)  # without the expensive metrics
    points: dict[str, list[dict[str, float]]] = {key: [] for key in specs}
    out: dict[str, ChosenSteps] = {}
    left = list(specs)
    states: list[Checkpoint] | None = None
    for stop in at:
        trained = fitted.train([specs[key] for key in left], last=stop, checkpoints=states)
        measured = measure(trained.population, fitted.data, held_out)
        going = []
        for place, key in enumerate(left):
            one = measured[place] if trained.diverged[place] is None else TrainingError("the loss was not finite")
            ended = _ended(points[key], one, names, patience, is_last=stop == at[-1])
            if ended is None:
                going.append(place)
            else:
                out[key] = _chosen(key, points[key], at, ended, recall)
        if not going:
            break
        states, left = [trained.checkpoints[place] for place in going], [left[place] for place in going]
    return out


def _watched_metrics(fitted: Fitted) -> tuple[tuple[str, ...], str]:
    """The first metric of each task, then recall; and recall alone."""
    dataset, recall = fitted.dataset, f"recall@{fitted.config.evaluation.k}"
    names = (ordering_key(task, kind) for task, kind in zip(dataset.tasks, dataset.kinds, strict=True))
    return (*names, recall), recall


def _ended(
    points: list[dict[str, float]],
    measured: Measured | TrainingError,
    names: Sequence[str],
    patience: int,
    *,
    is_last: bool,
) -> Literal["patience", "longest", "diverged"] | None:
    """Adds a checkpoint to a curve, and says why it is the last one, or ``None``."""
    if isinstance(measured, TrainingError):
        return "diverged"
    points.append({name: measured.metrics[name] for name in names})
    if all(is_finished([point[name] for point in points], patience) for name in names):
        return "patience"
    return "longest" if is_last else None


def _chosen(
    key: str,
    points: Sequence[Mapping[str, float]],
    at: Sequence[int],
    ended: Literal["patience", "longest", "diverged"],
    recall: str,
) -> ChosenSteps:
    if not points:
        raise TrainingError(
            f"member {key} diverged before step {at[0]} when trained again on train; leave it out of finalize.picks, "
            "or set finalize.steps to search"
        )
    curve = {name: tuple(point[name] for point in points) for name in points[0]}
    own = tuple(at[: len(points)])
    return ChosenSteps(own[least_regret(curve, recall)], own, curve, ended)
