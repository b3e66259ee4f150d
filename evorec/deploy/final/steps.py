"""The number of steps of a member's final training: early stopping on validation, in a training on train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from evorec.config import FinalizeConfig
from evorec.data.held_out import HeldOut
from evorec.deploy.final.training import run_all, stacks, train_in_stages
from evorec.errors import TrainingError
from evorec.metrics.accuracy import ordering_key
from evorec.models.spec import ModelSpec
from evorec.recommender.trainers import StackTrainer
from evorec.training.evaluate import measure
from evorec.training.trainer import TrainingResult

TENTHS = 10
"""Checkpoints per training of the search."""
FIRST = 5
"""The first checkpoint, in tenths of a training of the search."""
Ending = Literal["patience", "longest", "diverged"]


@final
@dataclass(frozen=True)
class ChosenSteps:
    """The steps of a member's final training, with the curves that chose them.

    Attributes:
        steps: of the final training.
        at: steps of the C checkpoints.
        curve: by metric, a value per checkpoint: AUC or concordance of every task, and recall.
        ended: reason of the end of the curve: the patience of every metric ended, the longest training was reached,
            or the member diverged after the last checkpoint.
    """

    steps: int
    at: tuple[int, ...]
    curve: Mapping[str, tuple[float, ...]]
    ended: Ending

    def as_json(self) -> dict[str, Any]:
        """Plain values for the report; ``best_step`` is the best checkpoint of each metric, the earliest of equals."""
        curve = {name: list(values) for name, values in self.curve.items()}
        best_step = {name: self.at[int(np.argmax(values))] for name, values in self.curve.items()}
        return {"curve": {"steps": list(self.at), **curve}, "best_step": best_step, "ended": self.ended}


def checkpoint_steps(steps: int, longest: float) -> tuple[int, ...]:
    """Steps at which a member is measured: every tenth of the search's training, from its half to its `longest`-fold.

    Args:
        steps: of a training of the search, >= 1, which is itself a checkpoint.
        longest: >= 1.
    Returns:
        Ascending steps; equal steps count once.
    Example:
        >>> checkpoint_steps(200, 1.2), checkpoint_steps(5, 2.0)
        ((100, 120, 140, 160, 180, 200, 220, 240), (3, 4, 5, 6, 7, 8, 9, 10))
    """
    last = int(round(TENTHS * longest, 6))
    return tuple(dict.fromkeys(-(-steps * tenth // TENTHS) for tenth in range(FIRST, last + 1)))


def is_finished(values: Sequence[float], patience: int) -> bool:
    """Whether the best of a curve, the earliest of equals, is `patience` or more checkpoints ago.

    A finished curve may rise again while other metrics keep the training going; then it is not finished any more.

    Example:
        >>> is_finished([0.5, 0.7, 0.6, 0.7], 2), is_finished([0.5, 0.7, 0.6, 0.7, 0.8], 2)
        (True, False)
    """
    return len(values) - 1 - int(np.argmax(values)) >= patience


def least_regret(curve: Mapping[str, Sequence[float]], relative: str) -> int:
    """The checkpoint at which a member stops, as a compromise between its metrics.

    The regret of a metric at a checkpoint is ``best - value``, of recall ``(best - value) / best``, because recall is
    small where AUC is not; 0 where the best recall is 0. The checkpoint with the smallest mean regret is taken, of
    equals the earliest, which is the cheapest.

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


def choose_steps(
    trainer: StackTrainer, specs: Mapping[str, ModelSpec], config: FinalizeConfig
) -> dict[str, ChosenSteps]:
    """Train members on the training part, with the search's seed, and choose the steps of each on validation.

    Each metric of `curve` has its own early stopping: it is finished when its best is `FinalizeConfig.patience`
    checkpoints ago. A member trains until all are finished, or to `FinalizeConfig.longest`, and gets the checkpoint of
    `least_regret`. Members whose curves end leave the stack. The learning rate has no schedule, so training to a
    checkpoint equals training with that many steps; train + validation has more rows, of which the same number of
    steps passes over a smaller share.

    Args:
        trainer: of the training part; recall is measured on its users.
        specs: by member.
        config: patience and longest training.
    Returns:
        By member, in the order of `specs`.
    Raises:
        TrainingError: a member diverged before its first checkpoint.
    """
    at = checkpoint_steps(trainer.data.config.training.steps, config.longest)
    trainer, dataset = trainer.with_steps(at[-1]), trainer.data.dataset
    held_out = HeldOut(dataset, trainer.data.config.evaluation, trainer.data.users)  # without the expensive metrics
    recall = f"recall@{trainer.data.config.evaluation.k}"
    names = [ordering_key(task, kind) for task, kind in zip(dataset.tasks, dataset.kinds, strict=True)]
    names += [recall] if dataset.has_items else []

    def work(keys: Sequence[str]) -> dict[str, ChosenSteps]:
        points: dict[str, list[dict[str, float]]] = {key: [] for key in keys}
        out: dict[str, ChosenSteps] = {}

        def visit(stop: int, left: list[str], trained: TrainingResult) -> Mapping[str, ChosenSteps]:
            found = measure(trained.population, trainer.data.tensors, held_out)
            for i, key in enumerate(left):
                own, one = points[key], found[i]
                ended: Ending | None = "longest" if stop == at[-1] else None
                if trained.diverged[i] is not None or isinstance(one, TrainingError):
                    ended = "diverged"
                else:
                    own.append({name: one.metrics[name] for name in names})
                    if all(is_finished([point[name] for point in own], config.patience) for name in names):
                        ended = "patience"
                if ended == "diverged" and not own:
                    raise TrainingError(
                        f"member {key} diverged before step {at[0]} when trained again on train; leave it out of "
                        "finalize.picks, or set finalize.steps to search"
                    )
                if ended:
                    curve = {name: tuple(point[name] for point in own) for name in names}
                    out[key] = ChosenSteps(at[least_regret(curve, recall)], at[: len(own)], curve, ended)
            return out

        train_in_stages(trainer, {key: specs[key] for key in keys}, at, visit)
        return out

    chosen: dict[str, ChosenSteps] = {}
    for _, found in run_all(trainer.data, [partial(work, keys) for keys in stacks(trainer, specs)]):
        chosen |= found
    return {key: chosen[key] for key in specs}
