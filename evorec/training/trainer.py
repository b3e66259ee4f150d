"""Trains the members of a population on a shared stream of batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil, prod
from typing import final

import numpy as np
import torch
from torch import Tensor

from evorec.errors import ConfigError
from evorec.heartbeat import beat
from evorec.models.balancer import Balancer
from evorec.models.devices import runs_ahead, to_device
from evorec.models.inputs import INPUT
from evorec.models.layers import DROPOUT_LEVELS
from evorec.models.negative_scores import NegativeMask
from evorec.models.optimizer import OPTIMIZERS, Optimizer
from evorec.models.population import (
    KernelGroup,
    Population,
    check_members,
    fresh_population,
    member_shapes,
    off_entries,
    off_rows_of,
)
from evorec.models.spec import ModelSpec
from evorec.models.switches import PROJECTIONS, off_rows, untrained_content
from evorec.seeds import child_seed, generator
from evorec.training.adapters import adapters_of
from evorec.training.average import DenseAverage
from evorec.training.encoders import ENCODER
from evorec.training.id_dropout import IdDropout, with_dropped_ids
from evorec.training.inherit import HEAD_BIAS, inherit
from evorec.training.optim import DenseOptimizer, RowOptimizer
from evorec.training.padding import (
    MergeRule,
    Shapes,
    copy_members,
    padded_population,
    padded_specs,
    refit,
    refit_entries,
)
from evorec.training.plan import BatchPlan, DeviceData
from evorec.training.smoothing import Smoothing
from evorec.training.step import Vectors, group_steps

GROUP_BYTES = 6 * 2**20
"""Largest activations of a layer of a kernel group on a CPU: the next layer then reads them from the core's cache.

The activations of a member and step, 31 MB, take 0.4 ms from the cache and 1.1 ms from main memory."""

MOST_IN_GROUP = 16
"""Members of a kernel group from which on a larger batched product gains nothing on a CPU."""

Weights = Mapping[str, np.ndarray]
"""Parameters of a member (`evorec.models.population.Population.member_arrays`)."""
Checkpoint = Mapping[str, np.ndarray]
"""State of a member in the middle of its training: parameters, moments, balancing (`TrainingResult.checkpoints`)."""


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, or the CPU on a machine without CUDA."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    n_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ConfigError(f"run.device is {name}, and torch {torch.__version__} sees {n_gpus} CUDA devices; use auto.")
    return device


def train(
    specs: Sequence[ModelSpec],
    plan: BatchPlan,
    data: DeviceData,
    *,
    seed: int,
    base_logits: Sequence[float],
    activations: torch.dtype | None = None,
    block_size: int | None = None,
    last: int | None = None,
    checkpoints: Sequence[Checkpoint] | None = None,
    merge: MergeRule | None = None,
    parents: Sequence[Weights | None] | None = None,
) -> TrainingResult:
    """Trains members of any mechanism and shape.

    A member's parameters are independent of the other members of the stack: bitwise so on a CPU. Members that are
    item-item scores alone have nothing to train: their parameters are 0, and no step is run for them.

    Args:
        specs: of each member.
        plan: the shared batch stream.
        data: the data set on its device.
        seed: seed of initial values, dropout and balancing.
        base_logits: the best constant of each task, ``(T,)``, the heads' first bias (`evorec.data.labels`).
        activations: type of activations and of the operands of matrix products; ``None`` = that of the parameters.
        block_size: most members in a batched product; ``None`` = as many as fit the cache.
        last: steps to run to; ``None`` = all of them.
        checkpoints: of each member, all of the same step, from which training continues; ``None`` = from the start.
        merge: rule by which members are padded to a common width (`evorec.training.padding`); ``None`` = no padding.
            Results keep their own widths, and differ from those without padding by rounding at most.
        parents: of each member, the parameters that it inherits (`evorec.training.inherit`); ``None`` = fresh.
    """
    last = len(plan) if last is None else last
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for member, spec in enumerate(specs):
        if spec.is_trained:
            kinds.setdefault((spec.reads_order, spec.trains_graph), []).append(member)
    results = []
    for members in kinds.values():  # sequences have other steps than bags, and graphs update other rows
        own = [specs[member] for member in members]
        found = None if checkpoints is None else [checkpoints[member] for member in members]
        given = None if parents is None else [parents[member] for member in members]
        training = _Training(own, plan, data, seed, base_logits, activations, block_size, merge, given)
        first = 0 if found is None else training.restore(found)
        results.append((members, training.run(first, last)))
    if len(results) == 1 and len(results[0][0]) == len(specs):
        return results[0][1]
    return _joined(specs, data, results, at=last if last < len(plan) else None)


def _joined(
    specs: Sequence[ModelSpec],
    data: DeviceData,
    results: Sequence[tuple[Sequence[int], TrainingResult]],
    *,
    at: int | None,
) -> TrainingResult:
    """The results of members that trained apart, and of members that nothing is trained of.

    Args:
        specs: of all members.
        data: the data set on its device.
        results: indices of members in `specs`, and their result; parameters of all others are 0.
        at: step of the checkpoints; ``None`` = training is over, and there are none.
    """
    population = Population(specs, data.shape, dtype=data.dtype, device=data.device)
    diverged: list[int | None] = [None] * len(specs)
    checkpoints: list[Checkpoint] = [{"at": np.array(at)}] * len(specs) if at is not None else []
    for members, result in results:
        for own, member in enumerate(members):
            views = result.population.member_views(own)
            for name, view in population.member_views(member).items():
                view.copy_(views[name])
            diverged[member] = result.diverged[own]
            if checkpoints:
                checkpoints[member] = result.checkpoints[own]
    return TrainingResult(population, tuple(diverged), tuple(checkpoints))


@final
@dataclass(frozen=True)
class TrainingResult:
    """A trained population.

    Attributes:
        population: its parameters.
        diverged: per spec, the 1-based step at which its loss was first not finite, or ``None``.
        checkpoints: state of each member, from which training continues; empty after the last step.
    """

    population: Population
    diverged: tuple[int | None, ...]
    checkpoints: tuple[Checkpoint, ...] = ()


def with_untrained(
    specs: Sequence[ModelSpec],
    data: DeviceData,
    trained: Mapping[int, int],
    result: TrainingResult | None,
    *,
    at: int | None = None,
) -> TrainingResult:
    """A result that also has the members that nothing is trained of; all of their parameters are 0.

    Args:
        specs: of all members.
        data: the data set on its device.
        trained: index in `result` -> index in `specs`, of the members that were trained.
        result: of them; ``None`` = none was.
        at: step of the checkpoints; ``None`` = training is over, and there are none.
    """
    population = Population(specs, data.shape, dtype=data.dtype, device=data.device)
    diverged: list[int | None] = [None] * len(specs)
    checkpoints: list[Checkpoint] = [{"at": np.array(at)}] * len(specs) if at is not None else []
    for own, member in trained.items():
        assert result is not None
        population.load(member, result.population.member_arrays(own))
        diverged[member] = result.diverged[own]
        if checkpoints:
            checkpoints[member] = result.checkpoints[own]
    return TrainingResult(population, tuple(diverged), tuple(checkpoints))


@final
class _Training:
    """Parameters, optimisers and balancers of a population."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        plan: BatchPlan,
        data: DeviceData,
        seed: int,
        base_logits: Sequence[float],
        activations: torch.dtype | None,
        block_size: int | None,
        merge: MergeRule | None,
        parents: Sequence[Weights | None] | None,
    ) -> None:
        self._plan, self._data, self._seed = plan, data, seed
        self._dtype = activations or data.dtype
        itemsize = self._dtype.itemsize
        padded = padded_specs(specs, data.shape, merge, batch=plan.batch_size, bytes_per_value=itemsize)
        size = block_size or cache_block_size(padded, data, plan.batch_size, self._dtype)

        def fresh(seed: int) -> Population:
            population = fresh_population(
                specs,
                data.shape,
                seed=seed,
                block_size=size,
                device=data.device,
                dtype=data.dtype,
                pretrained=data.pretrained,
            )
            for group in population.kernel_groups if data.shape.n_tasks else ():
                # A view of the flat buffer, changed before padding copies the members.
                bias = group.trained[HEAD_BIAS]
                bias += torch.as_tensor(group.network.initial_bias(base_logits)).to(bias).view_as(bias)
            return population

        self._exact = fresh(seed)
        if parents is not None and any(parent is not None for parent in parents):
            inherit(self._exact, parents, fresh(child_seed(seed, "perturbation")))
        self._population = population = padded_population(self._exact, padded, block_size=size)
        self._rows = _row_optimizers(population, len(plan))
        self._off = off_rows_of(population)
        self._off_dense = off_entries(population)
        self._id_rates = sorted({spec.id_dropout for spec in specs if spec.id_dropout > 0})
        owned = list(zip(population.specs, population.columns, strict=True))
        self._ids = [
            IdDropout([(spec, own[i]) for spec, own in owned if len(own) > i], dtype=data.dtype, device=data.device)
            for i in range(len(population.tables))
        ]
        for ids, table in zip(self._ids, population.tables, strict=True):
            ids.clear_unknown_(table, [first for first, _ in data.shape.id_rows])
        self._smoothing, self._trains_graph = None, specs[0].trains_graph
        if any(spec.graph_layers for spec in specs):
            shared = [(spec, own[0]) for spec, own in owned]
            self._smoothing = Smoothing(shared, dtype=data.dtype, device=data.device)
        self._adapters = adapters_of(population)
        self._dense = _dense_optimizer(population)
        self._average = _dense_average(population)
        # The parameters keep their type; the layers read a copy, made anew in every step.
        low = self._dtype != data.dtype
        self._compute = population.flat.to(self._dtype) if low else population.flat
        self._balancers = [
            Balancer(group.specs, n_tasks=data.shape.n_tasks, seed=seed, device=data.device, dtype=data.dtype)
            for group in population.kernel_groups
        ]
        leaves = [_leaves(group, population.flat, self._compute) for group in population.kernel_groups]
        self._groups = list(group_steps(population, self._balancers, leaves, self._dtype, batch=plan.batch_size))
        self._first_bad = torch.zeros(population.size, dtype=torch.long, device=data.device)
        self._sequences = specs[0].reads_order
        members = zip(population.specs, population.columns, strict=True)
        self._decays = [(columns[0], spec.bag_decay) for spec, columns in members if spec.bag_decay != 1]

    def run(self, first: int, last: int) -> TrainingResult:
        """Steps ``first + 1 .. last``."""
        grad = torch.zeros_like(self._population.flat)
        for number in range(first + 1, last + 1):
            self._step(number, grad)
            beat()
        # The last step left 0 in the projections of adapted parts, and measuring reads the products.
        self._put_products()
        # Before the flush: training continues from rows whose decay is still missing.
        members = range(self._population.size) if last < len(self._plan) else ()
        checkpoints = tuple(self._checkpoint(member, last) for member in members)
        for rows in self._rows:
            rows.flush(last)
        if self._average is not None and last:
            self._average.put(last)
            self._put_products()  # of the averaged factors
        if self._smoothing is not None and last:
            self._smoothing.put(self._population.tables[0], self._plan.graph)
        if self._exact is not self._population:
            copy_members(self._population, self._exact)
        steps = [int(number) or self._broken(member, last) for member, number in enumerate(self._first_bad)]
        return TrainingResult(self._exact, tuple(steps), checkpoints)

    def _step(self, number: int, grad: Tensor) -> None:
        step = self._plan.step(number - 1, sequences=self._sequences)
        if self._id_rates:
            step = with_dropped_ids(step, self._id_rates, seed=self._seed, number=number)
        updated = [step.rows] * len(self._rows)
        if self._smoothing is not None and self._trains_graph:
            step = replace(step, graph=(graph := self._plan.graph.of_step(step.rows)))
            updated[0] = graph.rows
        with torch.no_grad():
            self._put_products()
            values = [rows.read(own, number) for rows, own in zip(self._rows, updated, strict=True)]
            seen = list(values)
            if self._smoothing is not None and self._trains_graph:
                seen[0] = self._smoothing.seen(values[0], graph)
            seen = [ids.without(value, step.dropped) for ids, value in zip(self._ids, seen, strict=True)]
            vectors = Vectors.of(step, seen, self._decays)
            into = vectors.empty_like()
            if self._compute is not self._population.flat:
                self._compute.copy_(self._population.flat)
            draws = _Draws(self._seed, number, self._population)
            mask = NegativeMask({"batch": step.no_negative, "uniform": step.no_uniform})
            for group in self._groups:
                loss = group.run(step, number, vectors, mask, draws, into, grad)
                # Counted on the device: reading the loss would make the host wait in every step.
                bad = (self._first_bad[group.at] == 0) & ~torch.isfinite(loss)
                self._first_bad[group.at] += number * bad
            to_rows = into.to_rows(step, self._decays)
            for part, off, ids in zip(to_rows, self._off, self._ids, strict=True):
                ids.clear_(off.clear_(part, step.spans), step.dropped)
            if self._smoothing is not None and self._trains_graph:
                to_rows[0] = self._smoothing.back(to_rows[0], graph)
            for rows, own, value, part in zip(self._rows, updated, values, to_rows, strict=True):
                rows.write(own, value, part, number, spans=step.spans)
            # Before the clearing below: the gradients of the factors are made of that of the product.
            for adapter in self._adapters:
                adapter.pass_back(self._population.flat, grad)
            if len(self._off_dense):
                grad.index_fill_(0, self._off_dense, 0.0)
                self._population.flat.index_fill_(0, self._off_dense, 0.0)  # a product is no parameter
            self._dense.step(grad, number)
            if self._average is not None:
                self._average.take()

    def _put_products(self) -> None:
        """Writes the products of the adapters into the projections, which training and measuring read."""
        for adapter in self._adapters:
            adapter.put_product(self._population.flat)

    def _broken(self, member: int, last: int) -> int | None:
        """The last step if it left a member with parameters that are not finite, which no loss has shown yet."""
        is_finite = all(bool(torch.isfinite(view).all()) for view in self._exact.member_views(member).values())
        return None if is_finite else last

    def _shapes(self, member: int) -> tuple[Shapes, Shapes]:
        """Shapes of a member's arrays: of its spec, and as it trains."""
        exact, padded = self._exact.specs[member], self._population.specs[member]
        shapes = member_shapes(exact, self._data.shape)
        return shapes, shapes if padded == exact else member_shapes(padded, self._data.shape)

    def _checkpoint(self, member: int, at: int) -> Checkpoint:
        exact, padded = self._shapes(member)
        out: dict[str, np.ndarray] = {"at": np.array(at), "first_bad": self._first_bad[member].cpu().numpy().copy()}
        arrays = refit(self._population.member_arrays(member), exact)
        out |= {f"parameter/{name}": a for name, a in arrays.items()}
        for i, columns in enumerate(self._population.columns[member]):
            out |= _named(f"rows{i}", self._rows[i].state(columns))
        dense = _named("dense", self._dense.state(self._spans(member)))
        if self._average is not None and self._population.specs[member].ema:
            dense["dense/average"] = self._average.state(self._entries(member)).cpu().numpy()
        out |= {name: refit_entries(entries, padded, exact) for name, entries in dense.items()}
        group, index = self._population.locate(member)
        balancer = self._balancers[self._population.kernel_groups.index(group)]
        out |= _named("balancer", {name: tensor[index] for name, tensor in balancer.state().items()})
        return out

    def restore(self, checkpoints: Sequence[Checkpoint]) -> int:
        """Takes the state of every member; returns the step it was saved at."""
        at = {int(checkpoint["at"]) for checkpoint in checkpoints}
        if len(checkpoints) != self._population.size or len(at) != 1:
            raise ConfigError(
                f"{self._population.size} members need as many checkpoints of the same step, got steps {at}"
            )
        parameters, states = [_under("parameter", checkpoint) for checkpoint in checkpoints], []
        check_members(self._exact.specs, self._data.shape, parameters)
        for member, checkpoint in enumerate(checkpoints):
            exact, padded = self._shapes(member)
            self._population.load(member, refit(parameters[member], padded))
            for i, columns in enumerate(self._population.columns[member]):
                self._rows[i].load_state(columns, _tensors(_under(f"rows{i}", checkpoint), self._data.device))
            dense = {
                name: refit_entries(entries, exact, padded) for name, entries in _under("dense", checkpoint).items()
            }
            of_dense = _tensors(dense, self._data.device)
            if self._average is not None and self._population.specs[member].ema:
                self._average.load_state(self._entries(member), of_dense.pop("average"))
            self._dense.load_state(self._spans(member), of_dense)
            self._first_bad[member] = int(checkpoint["first_bad"])
            # Loaded below, group by group: a balancer holds all members of its group.
            states.append(_tensors(_under("balancer", checkpoint), self._data.device))
        for group, balancer in zip(self._population.kernel_groups, self._balancers, strict=True):
            own = [states[member] for member in group.members]
            balancer.load_state({name: torch.stack([state[name] for state in own]) for name in own[0]})
        return at.pop()

    def _entries(self, member: int) -> Tensor:
        """Indices of the member's dense parameters in the flat buffer."""
        parts = [torch.arange(span.start, span.stop) for span in self._spans(member)]
        return torch.cat([torch.empty(0, dtype=torch.long), *parts]).to(self._data.device)

    def _spans(self, member: int) -> list[slice]:
        """Spans of the member's dense parameters in the flat buffer."""
        group, index = self._population.locate(member)
        sized = [(slot.start, slot.slots_of(index), prod(slot.tensor.shape)) for slot in group.tensor_slots]
        spans = [slice(start + own.start * size, start + own.stop * size) for start, own, size in sized]
        return [span for span in spans if span.stop > span.start]


@final
class _Draws:
    """Dropout draws of a step, shared by all members: ``(level, batch, width) -> int16 [batch, width]``.

    Each member compares the draws with its own rate. That costs 0.13 ms per member and layer of 1,024 rows and 64
    units; a generator per member takes 0.33 ms and `torch.nn.functional.dropout` 0.60 ms. The stream is cut unit by
    unit, so the draws of a narrow layer are the first columns of those of a wide layer.
    """

    def __init__(self, seed: int, step: int, population: Population) -> None:
        self._seed, self._step, self._device = seed, step, population.flat.device
        self._n_inputs = max(
            population.shape.n_inputs(spec.embedding_dim, attends=spec.attends) for spec in population.specs
        )
        self._width = max(spec.width for spec in population.specs)
        self._length = max(spec.embedding_dim for spec in population.specs)
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def __call__(self, level: int, batch: int, width: int) -> Tensor:
        if (level, batch) not in self._drawn:  # members with several heads have more rows
            widest = self._n_inputs if level == INPUT else self._length if level >= ENCODER else self._width
            raw = generator(self._seed, "dropout", self._step, level).bit_generator.random_raw(ceil(widest * batch / 4))
            # Four draws of 15 bits from each number of 64; the sign bits are cleared.
            units = (raw.view(np.int16)[: widest * batch] & (DROPOUT_LEVELS - 1)).reshape(widest, batch)
            self._drawn[level, batch] = to_device(np.ascontiguousarray(units.T), self._device)
        return self._drawn[level, batch][:, :width]


def cache_block_size(specs: Sequence[ModelSpec], data: DeviceData, batch: int, dtype: torch.dtype) -> int:
    """Members of a kernel group whose activations of a layer fit `GROUP_BYTES`; on a GPU all members."""
    if runs_ahead(data.device):
        return len(specs)
    width = max(spec.width for spec in specs)
    rows = batch * max(spec.ensemble_heads for spec in specs)
    layer = rows * width * data.shape.n_tasks * dtype.itemsize
    return max(1, min(MOST_IN_GROUP, GROUP_BYTES // max(layer, 1)))


def _leaves(group: KernelGroup, flat: Tensor, compute: Tensor) -> dict[str, Tensor]:
    """Parameters that the layers read: the projections of content stay in the type of the parameters."""
    exact, low = group.dense(flat), group.dense(compute)
    return {name: exact[name] if "content" in name else low[name] for name in exact}


def _row_optimizers(population: Population, steps: int) -> list[RowOptimizer]:
    out = []
    for i, table in enumerate(population.tables):
        rate, decay = torch.zeros(table.shape[1]).to(table), torch.zeros(table.shape[1]).to(table)
        averages = torch.zeros_like(rate, dtype=torch.float64)
        kinds: list[tuple[slice, Optimizer]] = []
        off: dict[int, list[int]] = {}
        for spec, columns in zip(population.specs, population.columns, strict=True):
            if len(columns) > i:
                rate[columns[i]], decay[columns[i]] = spec.embedding_learning_rate, spec.embedding_decay
                averages[columns[i]] = spec.ema
                starts = range(columns[i].start, columns[i].stop, spec.embedding_dim)
                kinds += [(slice(start, start + spec.embedding_dim), OPTIMIZERS[spec.optimizer]) for start in starts]
                if blocks := off_rows(spec, population.shape):
                    off |= dict.fromkeys(starts, blocks)
        # Members are in the order of the specs, columns in that of the kernel groups.
        kinds.sort(key=lambda kind: kind[0].start)
        out.append(RowOptimizer(table, rate, decay, kinds, steps=steps, off=off, averages=averages))
    return out


def _dense_optimizer(population: Population) -> DenseOptimizer:
    flat = population.flat
    rate, keep = torch.empty_like(flat), torch.ones_like(flat)
    parts: list[tuple[slice, tuple[int, ...], Optimizer]] = []
    for group in population.kernel_groups:
        rates = flat.new_tensor([spec.learning_rate for spec in group.specs])
        kept = 1 - rates * flat.new_tensor([spec.dense_decay for spec in group.specs])
        for slot in group.tensor_slots:
            tensor = slot.tensor
            owner = torch.tensor(tensor.member, device=flat.device)
            slot.view(rate).copy_(rates[owner, None, None])
            if tensor.decayed:
                slot.view(keep).copy_(kept[owner, None, None])
            start = slot.start  # members of the same optimiser are neighbours in a kernel group
            rules = (OPTIMIZERS[group.specs[member].optimizer] for member in tensor.member)
            for rule, same in groupby(OPTIMIZERS[rule.of_dense or rule.name] for rule in rules):
                shape = (len(list(same)), *tensor.shape)
                parts.append((slice(start, start + prod(shape)), shape, rule))
                start += prod(shape)
    return DenseOptimizer(flat, rate, keep, parts, more=_more_rows(population))


def _dense_average(population: Population) -> DenseAverage | None:
    """Moving averages of the dense parameters; ``None`` without a member that has one."""
    if not any(spec.ema for spec in population.specs):
        return None
    decays = torch.zeros_like(population.flat, dtype=torch.float64)
    for group in population.kernel_groups:
        of_members = decays.new_tensor([spec.ema for spec in group.specs])
        for slot in group.tensor_slots:
            slot.view(decays).copy_(of_members[list(slot.tensor.member), None, None])
    return DenseAverage(population.flat, decays)


def _more_rows(population: Population) -> Tensor | None:
    """Ratio of all rows to trained rows of the content projection of each entry; 1 for other parameters."""
    if not any(untrained_content(spec, population.shape) for spec in population.specs):
        return None
    more = torch.ones_like(population.flat)
    n_content = population.shape.n_content
    for group in population.kernel_groups:
        left_out = [sum(part.size for part in untrained_content(spec, group.shape)) for spec in group.specs]
        ratios = more.new_tensor([n_content / max(n_content - rows, 1) for rows in left_out])
        for slot in group.tensor_slots:
            if slot.tensor.name in PROJECTIONS:
                slot.view(more).copy_(ratios[list(slot.tensor.member), None, None])
    return more


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {f"{prefix}/{name}": tensor.cpu().numpy().copy() for name, tensor in tensors.items()}


def _under(prefix: str, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name[len(prefix) + 1 :]: a for name, a in checkpoint.items() if name.startswith(f"{prefix}/")}


def _tensors(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in arrays.items()}
