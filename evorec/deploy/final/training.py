"""Training members to different numbers of steps: a stack whose members leave it when they are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

from evorec.errors import TrainingError
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.trainers import StackTrainer
from evorec.search.executor_choice import executor_for
from evorec.search.workers import WorkerDeath
from evorec.training.evaluate import MemberMetrics
from evorec.training.trainer import Checkpoint, TrainingResult

T = TypeVar("T")


@final
@dataclass(frozen=True)
class FinalModel:
    """A member that was trained to its end.

    Attributes:
        key: of the member.
        measured: on the held-out rows.
        population: a stack of this member only.
    """

    key: str
    measured: MemberMetrics
    population: Population


def stacks(trainer: StackTrainer, specs: Mapping[str, ModelSpec]) -> list[list[str]]:
    """Keys of members that run as a stack: within the memory, equal shapes together, work for every worker."""
    ordered = sorted(specs, key=lambda key: (repr(specs[key].group_key), key))
    run = trainer.data.config.run
    workers = run.n_workers(trainer.data.tensors.device.type)
    size = min(math.ceil(len(ordered) / workers), run.chunk)
    out = []
    for part in trainer.slices([specs[key] for key in ordered], workers=workers):
        keys = ordered[part]
        out += [keys[start : start + size] for start in range(0, len(keys), size)]
    return out


def run_all(data: EncodedData, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
    """Run tasks on as many threads as the configuration allows; yields index and result in order of completion."""
    executor = executor_for(data.config.run, device=data.tensors.device.type, picklable=False)
    for index, result in executor.run(tasks):
        assert not isinstance(result, WorkerDeath)  # threads only
        yield index, result


def train_in_stages(
    trainer: StackTrainer,
    specs: Mapping[str, ModelSpec],
    stops: Iterable[int],
    visit: Callable[[int, list[str], TrainingResult], Collection[str]],
) -> None:
    """Train a stack from stop to stop; members leave it on the way.

    Args:
        trainer: of at least the last stop.
        specs: by member.
        stops: ascending steps.
        visit: called at each stop with the step, the keys of the stack and their models; returns the keys that leave.
    """
    left = list(specs)
    states: list[Checkpoint] | None = None
    for stop in stops:
        trained = trainer.train([specs[key] for key in left], last=stop, states=states)
        done = visit(stop, left, trained)
        going = [i for i, key in enumerate(left) if key not in done]
        if not going:
            return
        states = [trained.checkpoints[i] for i in going]
        left = [left[i] for i in going]


def train_members(
    trainer: StackTrainer, specs: Mapping[str, ModelSpec], steps: Mapping[str, int], finish: Callable[[FinalModel], T]
) -> Iterator[tuple[str, T]]:
    """Train every member to its own number of steps and measure it.

    The result of a member is that of training it without the others, on a CPU bitwise.

    Args:
        trainer: of any number of steps.
        specs: by member.
        steps: by member, >= 1.
        finish: maps a trained member to the part of it that is kept; called on the thread that trained it.
    Returns:
        Member and result of `finish`, in any order.
    Raises:
        TrainingError: a member diverged or its scores are not finite.
    """
    trainer = trainer.with_steps(max(steps.values()))

    def work(keys: Sequence[str]) -> list[tuple[str, T]]:
        out = []

        def visit(stop: int, left: list[str], trained: TrainingResult) -> list[str]:
            done = [key for key in left if steps[key] == stop]
            for key in done:
                if trained.diverged[left.index(key)] is not None:
                    raise TrainingError(f"member {key} diverged in the final training; leave it out of finalize.picks")
            weights = [trained.population.member_arrays(left.index(key)) for key in done]
            own = [specs[key] for key in done]
            measured = trainer.measure(trainer.data.stack(own, weights), steps=stop)
            for key, spec, arrays, found in zip(done, own, weights, measured, strict=True):
                if isinstance(found, TrainingError):
                    raise TrainingError(f"member {key}, in the final training: {found}; leave it out of finalize.picks")
                out.append((key, finish(FinalModel(key, found, trainer.data.stack([spec], [arrays])))))
            return done

        train_in_stages(trainer, {key: specs[key] for key in keys}, sorted({steps[key] for key in keys}), visit)
        return out

    for _, found in run_all(trainer.data, [partial(work, keys) for keys in stacks(trainer, specs)]):
        yield from found
