"""Training members to different numbers of steps: one stack, whose members leave it when they are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

import numpy as np

from evorec.errors import TrainingError
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.rec_problem import Fitted
from evorec.search.executors import WorkerDied, executor_for
from evorec.training.evaluate import Measured
from evorec.training.trainer import Checkpoint, Trained

T = TypeVar("T")
Weights = Mapping[str, np.ndarray]


@final
@dataclass(frozen=True)
class FinalModel:
    """A member that was trained to its end.

    Attributes:
        key: of the member.
        measured: on the held-out rows.
        population: it alone.
    """

    key: str
    measured: Measured
    population: Population

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Its parameters by name."""
        return self.population.member_arrays(0)


def stacks(fitted: Fitted, specs: Mapping[str, ModelSpec]) -> list[list[str]]:
    """Keys of members that train at once: what fits the memory, equal shapes together, something for every worker."""
    ordered = sorted(specs, key=lambda key: (repr(specs[key].group_key), key))
    run = fitted.config.run
    workers = run.n_workers(fitted.data.device.type)
    size = min(math.ceil(len(ordered) / workers), run.chunk)
    out = []
    for part in fitted.parts([specs[key] for key in ordered], workers=workers):
        keys = ordered[part]
        out += [keys[at : at + size] for at in range(0, len(keys), size)]
    return out


def run_all(fitted: Fitted, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
    """Runs tasks on as many threads as the configuration allows; yields place and result as they come."""
    executor = executor_for(fitted.config.run, device=fitted.data.device.type, picklable=False)
    for place, result in executor.run(tasks):
        assert not isinstance(result, WorkerDied)  # threads only
        yield place, result


def train_members(
    fitted: Fitted, specs: Mapping[str, ModelSpec], steps: Mapping[str, int], finish: Callable[[FinalModel], T]
) -> Iterator[tuple[str, T]]:
    """Trains every member to its own number of steps and measures it.

    The stack is trained to the smallest number of steps, the members that are done leave it, and the others go on. A
    member comes out as if it had been trained alone, on a CPU bitwise.

    Args:
        fitted: of any number of steps.
        specs: by member.
        steps: by member, >= 1.
        finish: what is kept of a trained member; called on the thread that trained it.
    Returns:
        Member and what `finish` gave, in any order.
    Raises:
        TrainingError: a member diverged or its scores are not finite.
    """
    fitted = fitted.with_steps(max(steps.values()))

    def work(keys: Sequence[str]) -> list[tuple[str, T]]:
        own = {key: specs[key] for key in keys}
        return [(model.key, finish(model)) for model in _train_stack(fitted, own, steps)]

    for _, found in run_all(fitted, [partial(work, keys) for keys in stacks(fitted, specs)]):
        yield from found


def _train_stack(fitted: Fitted, specs: Mapping[str, ModelSpec], steps: Mapping[str, int]) -> Iterator[FinalModel]:
    left = list(specs)
    states: list[Checkpoint] | None = None
    for stop in sorted({steps[key] for key in specs}):
        trained = fitted.train([specs[key] for key in left], last=stop, checkpoints=states)
        yield from _measured(fitted, specs, stop, _those(left, trained, steps, stop))
        going = [place for place, key in enumerate(left) if steps[key] > stop]
        states = [trained.checkpoints[place] for place in going] if going else None
        left = [left[place] for place in going]


def _those(left: Sequence[str], trained: Trained, steps: Mapping[str, int], stop: int) -> dict[str, Weights]:
    """Weights of the members that are done."""
    done: dict[str, Weights] = {}
    for place, key in enumerate(left):
        if steps[key] == stop:
            if trained.diverged[place] is not None:
                raise TrainingError(
                    f"member {key} diverged when trained on train + validation; leave it out of finalize.picks"
                )
            done[key] = trained.population.member_arrays(place)
    return done


def _measured(
    fitted: Fitted, specs: Mapping[str, ModelSpec], stop: int, weights: Mapping[str, Weights]
) -> Iterator[FinalModel]:
    own = [specs[key] for key in weights]
    measured = fitted.measure(fitted.stack(own, list(weights.values())))
    measured, _ = fitted.under_attack(own, measured, last=stop)
    for key, spec, found in zip(weights, own, measured, strict=True):
        if isinstance(found, TrainingError):
            raise TrainingError(f"member {key}, trained on train + validation: {found}; leave it out of finalize.picks")
        yield FinalModel(key, found, fitted.stack([spec], [weights[key]]))
