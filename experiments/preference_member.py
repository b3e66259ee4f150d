"""One member for all preferences: a model that takes a preference over its losses as input, trained once.

A preference ``r`` is a point of the simplex over the T tasks and the retrieval loss, K = T + 1 entries. Every step
draws one from a Dirichlet distribution (COSMOS: Ruchte and Grabocka, "Scalable Pareto front approximation for deep
multi-objective learning", ICDM 2021), and its loss is, with ``l`` the losses times the member's own weights,

    K * sum_i r_i l_i - penalty * cos(r, l)

The member reads ``r`` in two ways:

* as a further feature of every user: K rows of the embedding tables, weighted by ``r``. Where the embedding is at least
  K wide, the first layer can make of it whatever it could make of ``r`` concatenated to its input; and the retrieval
  vector of the user depends on it too.
* in the heads, whose weights get a term of low rank for each entry of ``r`` (LoRA-PSL: Chen and Kwok, "Efficient Pareto
  manifold learning with low-rank structure", ICML 2024).

Members are trained in evorec's own stacks: same batches, initial values, dropout, optimisers and count of FLOPs. The
draws depend on the run seed and the step, so a member's result is independent of the other members of the stack. Under
a fixed preference a trained member equals an ordinary one (`at_preference`), which evorec measures, exports and serves
like any other; the conditioned arrays themselves cannot be exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor

from evorec.data.dataset import Dataset
from evorec.data.labels import best_constants
from evorec.errors import ConfigError
from evorec.models.balancing import BALANCINGS, Balancing, State, StepLosses, total
from evorec.models.choice import MECHANISMS
from evorec.models.devices import to_device
from evorec.models.forward import ForwardPass
from evorec.models.input_shape import InputShape
from evorec.models.layers import slot_linear
from evorec.models.mechanism import Mechanism, Network
from evorec.models.slots import SHARED, DenseTensor, Level, role
from evorec.models.spec import ModelSpec
from evorec.recommender.trainers import StackTrainer
from evorec.seeds import generator
from evorec.space.gene import Gene
from evorec.training.cost import CatalogueWork, StepWork, mean_work, member_cost
from evorec.training.plan import SAMPLED_STEPS, BatchPlan, DeviceData, Step, Sums
from evorec.training.trainer import TrainingResult, train

DOWN, UP = "preference.down", "preference.up"
"""Factors of the heads' low-rank terms: ``[1, K * rank, W]`` and ``[1, T, K * rank]`` of a member."""
Arrays = Mapping[str, np.ndarray]


@final
class PreferencePlan:
    """The steps of a batch plan, each with a preference, and the data that have rows for it.

    Args:
        plan: the batches; at least `steps` of them.
        data: the same data set on the device.
        steps: of the training.
        concentration: of the Dirichlet distribution; 1 = uniform on the simplex.
        seed: of the run; the draws are keyed by the step.
    """

    def __init__(self, plan: BatchPlan, data: DeviceData, *, steps: int, concentration: float, seed: int) -> None:
        self._plan, self._steps, self._concentration, self._seed = plan, steps, concentration, seed
        self.n = data.shape.n_tasks + 1
        shape = replace(data.shape, n_rows=data.shape.n_rows + self.n)
        self.data = replace(data, shape=shape)

    @property
    def batch_size(self) -> int:
        """See `BatchPlan`."""
        return self._plan.batch_size

    def __len__(self) -> int:
        return self._steps

    def preference(self, index: int) -> np.ndarray:
        """The preference of a step, float64 ``(K,)``."""
        draws = generator(self._seed, "preference", index + 1)
        return draws.dirichlet(np.full(self.n, self._concentration))

    def step(self, index: int, *, sequences: bool = False) -> Step:
        """The step with K more rows in the bag of every user."""
        step = self._plan.step(index, sequences=sequences)
        r = to_device(self.preference(index), step.rows.device, step.statistics.dtype)
        n_users, n = len(step.users.offset) - 1, self.n
        entry, user = torch.arange(n, device=r.device), torch.arange(n_users, device=r.device)
        return replace(
            step,
            rows=torch.cat([step.rows, self.data.shape.n_rows - n + entry]),
            users=_appended(step.users, len(step.rows) + entry, r),
            back=Sums(
                torch.cat([step.back.index, user.repeat(n)]),
                torch.cat([step.back.offset, step.back.offset[-1] + n_users * (1 + entry)]),
                torch.cat([step.back.weight, r.repeat_interleave(n_users)]),
            ),
            history_back=replace(
                step.history_back,
                offset=torch.cat([step.history_back.offset, step.history_back.offset[-1:].expand(n)]),
            ),
            work=replace(step.work, rows=step.work.rows + n, bag_entries=step.work.bag_entries + n * n_users),
            condition=r,
        )

    @cached_property
    def work(self) -> StepWork:
        """See `BatchPlan`."""
        n_sampled = min(len(self), SAMPLED_STEPS)
        return mean_work([self.step(i * len(self) // n_sampled).work for i in range(n_sampled)])


def _appended(sums: Sums, rows: Tensor, weights: Tensor) -> Sums:
    """The same sums with further entries, equal for all of them, at the end of each."""
    counts, n = sums.offset.diff(), len(rows)
    number = torch.arange(len(counts) + 1, device=rows.device)
    at = torch.arange(len(sums.index), device=rows.device) + n * number[:-1].repeat_interleave(counts)
    is_own = torch.zeros(len(sums.index) + n * len(counts), dtype=torch.bool, device=rows.device)
    is_own[at] = True
    index, weight = rows.repeat(len(counts)), weights.repeat(len(counts))
    return Sums(
        index.new_empty(len(is_own)).masked_scatter_(is_own, sums.index).masked_scatter_(~is_own, index),
        sums.offset + n * number,
        weight.new_empty(len(is_own)).masked_scatter_(is_own, sums.weight).masked_scatter_(~is_own, weight),
    )


@final
class PreferenceBalancing(Balancing):
    """Weights all losses by the preference of the step, with the cosine penalty of COSMOS.

    Args:
        penalty: λ of ``- λ cos(preference, losses)``, at least 0.
    """

    text = "each step weighs all losses by the preference that it draws"

    def __init__(self, penalty: float) -> None:
        self.name, self.penalty = f"preference_{penalty!r}", penalty

    def coefficients(self, now: StepLosses, state: State) -> tuple[Tensor, Tensor]:
        return (out := now.weights * self._factors(now)[:, :-1]), out

    def retrieval_factor(self, now: StepLosses) -> Tensor:
        return self._factors(now)[:, -1:]

    def _factors(self, now: StepLosses) -> Tensor:
        """Derivative of the objective by each weighted loss, ``[n, K]``."""
        assert now.condition is not None
        assert now.retrieval is not None
        r = now.condition.to(torch.float64)[None]
        losses = torch.cat([now.weights * now.losses, now.retrieval], 1)
        squares, along = total(losses.square()), total(r * losses)
        lengths = (squares * total(r.square())).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
        return r.shape[1] * r - self.penalty * (r - along * losses / squares.clamp_min(1e-300)) / lengths


@final
class PreferenceMechanism(Mechanism):
    """A mechanism whose heads have a low-rank term for each entry of the preference.

    Args:
        base: a mechanism without logits of its own (`can_be_conditioned`).
        rank: of the term of an entry, at least 1.
    """

    def __init__(self, base: Mechanism, rank: int) -> None:
        self.name, self.base, self.rank = f"{base.name}_preference_{rank}", base, rank
        self.is_ragged, self.has_task_tables = base.is_ragged, base.has_task_tables
        self.trunk_reads_input, self.pads_exactly = base.trunk_reads_input, False

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return self.base.genes(n_layers)

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return self.base.levels(spec, shape)

    def describe(self, spec: ModelSpec) -> str:
        return f"{self.base.describe(spec)} The heads depend on a preference over the losses."

    def network(self, specs: Sequence[ModelSpec], shape: InputShape) -> Network:
        return PreferenceNetwork(specs, shape, self.rank)


def can_be_conditioned(mechanism: Mechanism) -> bool:
    """Whether the logits of a mechanism are those of its heads on its layers, without a network of its own."""
    return type(mechanism).network is Mechanism.network and not mechanism.combines


@final
class PreferenceNetwork(Network):
    """Adds the low-rank terms to the heads' weights, once a step.

    The two factors together are smaller than a layer and are multiplied once a step, not once a row, so they do not
    count as arithmetic of a row.
    """

    def __init__(self, specs: Sequence[ModelSpec], shape: InputShape, rank: int) -> None:
        self._rank = rank
        super().__init__(specs, shape)

    def further_tensors(self) -> Sequence[DenseTensor]:
        n, n_tasks = len(self.specs), self.shape.n_tasks
        width, columns = self.specs[0].width, (n_tasks + 1) * self._rank
        owners = tuple(range(n)), (SHARED,) * n, (role(0, SHARED),) * n
        return (
            DenseTensor(DOWN, *owners, (columns, width), width**-0.5, decayed=True, uses=0),
            DenseTensor(UP, *owners, (n_tasks, columns), 0.0, decayed=True, uses=0),
        )

    def logits(self, run: ForwardPass, x: Tensor) -> Tensor:
        if run.condition is None:
            raise ValueError("a conditioned member has no logits without a preference; see at_preference")
        head, up = run.tensor("head.weight", x), run.tensor(UP, x)
        scaled = up * run.condition.to(up).repeat_interleave(self._rank)
        terms = slot_linear(scaled, tuple(range(len(up))), run.tensor(DOWN, x), None)  # [P, T, W]
        dense = {**run.dense, "head.weight": head + terms.flatten(0, 1)[..., None]}
        return super().logits(replace(run, dense=dense), x)


@dataclass(frozen=True)
class Conditioning:
    """Settings of a conditioned member besides those of an ordinary one.

    Attributes:
        penalty: weight of the cosine, at least 0.
        rank: of the heads' terms, at least 1.
        concentration: of the Dirichlet distribution, above 0.
        steps: of the training.
    """

    penalty: float
    rank: int
    concentration: float
    steps: int


@contextmanager
def conditioned(spec: ModelSpec, conditioning: Conditioning) -> Iterator[ModelSpec]:
    """The spec of the conditioned member of an ordinary one, which can be trained inside the block.

    Raises:
        ConfigError: the mechanism has logits of its own.
    """
    base = MECHANISMS[spec.mechanism]
    assert isinstance(base, Mechanism)
    if not can_be_conditioned(base):
        raise ConfigError(f"a conditioned member needs a mechanism without logits of its own, got {base.name}")
    mechanism = PreferenceMechanism(base, conditioning.rank)
    balancing = PreferenceBalancing(conditioning.penalty)
    with ExitStack() as stack:
        for registry, choice in ((MECHANISMS, mechanism), (BALANCINGS, balancing)):
            if choice.name not in registry:
                stack.enter_context(cast(Any, registry).borrowed(choice.name, choice))
        yield replace(spec, mechanism=mechanism.name, balancing=balancing.name)


def train_conditioned(trainer: StackTrainer, specs: Sequence[ModelSpec], plan: PreferencePlan) -> TrainingResult:
    """Train a stack of conditioned members on the data of a trainer.

    Args:
        trainer: of the ordinary members; its seed and precision.
        specs: of `conditioned` members.
        plan: steps and preferences, of the same data.
    """
    return train(
        specs,
        cast(BatchPlan, plan),
        plan.data,
        seed=trainer.seed,
        base_logits=best_constants(trainer.data.dataset),
        activations=trainer.data.precision.activations,
    )


def training_flops(trainer: StackTrainer, spec: ModelSpec, plan: PreferencePlan) -> float:
    """FLOPs of training a conditioned member, counted as those of any other."""
    nothing_served = CatalogueWork(n_items=0, user_fields=0, history_rows=0, history_length=0, candidates=0)
    counted = member_cost(
        spec,
        plan.data.shape,
        plan.work,
        nothing_served,
        steps=len(plan),
        bytes_per_parameter=trainer.data.precision.parameters.itemsize,
    )
    return counted["training_flops"]


def at_preference(
    base: ModelSpec, arrays: Arrays, preference: Sequence[float], dataset: Dataset, **serving: Any
) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """The ordinary member that a trained conditioned member is under a fixed preference.

    The rows of the preference are added to the id row of every user, of which each user has one of weight 1.

    Args:
        base: spec of the ordinary member from which the conditioned one was made.
        arrays: of the conditioned member (`Population.member_arrays`).
        preference: ``(K,)`` in the order of the tasks, then retrieval; scaled to sum 1.
        dataset: that it was trained on.
        serving: settings of the spec that need no training, e.g. ``popularity_weight``.
    Returns:
        Spec and arrays of the member. Its list score weighs the tasks by the preference.
    """
    r = np.asarray(preference, dtype=np.float64)
    r = r / r.sum()
    out = {name: array.copy() for name, array in arrays.items() if name not in (DOWN, UP)}
    ids = np.unique(dataset.user_rows[:, 0])
    for name in ("table", "task_table"):
        if name in out:
            table, rows = out[name][: -len(r)], out[name][-len(r) :]
            table[ids] += (r @ rows).astype(table.dtype)
            out[name] = table
    down, up = arrays[DOWN][0], arrays[UP][0]
    terms = (up * np.repeat(r, up.shape[1] // len(r))) @ down
    out["head.weight"] += terms[..., None].astype(out["head.weight"].dtype)
    of_tasks = r[:-1] if r[:-1].any() else np.ones(len(r) - 1)
    weights = tuple((of_tasks * len(of_tasks) / of_tasks.sum()).tolist())
    return replace(base, balancing="fixed", task_weights=weights, **serving), out
